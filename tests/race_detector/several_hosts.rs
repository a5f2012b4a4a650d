//! The race detector against a reference, with programs of several host threads.
//!
//! The reference keeps for each thread the accesses that happened before. Two threads become
//! ordered where they touch the same bytes and one of them writes. It keeps every access, and
//! searches all of them.

use std::{collections::BTreeSet, sync::mpsc, thread};

use tidelock::sim::{
    Device, Options,
    gpu::{EventId, StreamId, Task},
};

use crate::comparison::{CELL, Rng, Tally, use_of};

const HOSTS: usize = 3;
const STREAMS: usize = 3;
const EVENTS: usize = 3;
const CELLS: usize = 5;

/// A set of accesses, by number.
type Known = BTreeSet<usize>;

#[derive(Default)]
struct Reference {
    accesses: Vec<Access>,
    hosts: [Known; HOSTS],
    streams: [Known; STREAMS],
    /// `None` while an event was never recorded: waiting for it has no effect.
    events: [Option<Known>; EVENTS],
}

struct Access {
    cells: (usize, usize),
    writes: bool,
    /// What happened before for the thread, if the thread itself makes the access.
    by_host: Option<Known>,
}

impl Reference {
    /// Whether an access by `host`, itself or through a stream, races with an earlier one.
    fn races(&self, host: usize, stream: Option<usize>, cells: (usize, usize), writes: bool) -> bool {
        let known = |at: &usize| {
            self.hosts[host].contains(at) || stream.is_some_and(|stream| self.streams[stream].contains(at))
        };
        (cells.0..cells.1).any(|cell| {
            // The threads that this access is ordered after, by their accesses to the cell.
            let mut before: Vec<&Known> = Vec::new();
            for (at, access) in self.accesses.iter().enumerate().rev() {
                if cell < access.cells.0 || access.cells.1 <= cell || !(writes || access.writes) {
                    continue;
                }
                if let Some(knew) = &access.by_host {
                    before.push(knew);
                } else if !known(&at) && !before.iter().any(|knew| knew.contains(&at)) {
                    return true;
                }
                if access.writes {
                    // It is ordered after all accesses that it conflicts with, and so after all
                    // that came before those.
                    return false;
                }
            }
            false
        })
    }

    fn access(&mut self, host: usize, stream: Option<usize>, cells: (usize, usize), writes: bool) {
        let at = self.accesses.len();
        let by_host = match stream {
            Some(stream) => {
                self.hear(host, stream);
                self.streams[stream].insert(at);
                None
            }
            None => Some(self.hosts[host].clone()),
        };
        self.accesses.push(Access { cells, writes, by_host });
    }

    /// Submits work of `host` to `stream`.
    fn hear(&mut self, host: usize, stream: usize) {
        self.streams[stream].extend(self.hosts[host].iter());
    }
}

type Job<'j> = Box<dyn FnOnce() -> bool + Send + 'j>;

/// Runs jobs on threads of its own, one at a time.
struct Hosts<'j> {
    jobs: Vec<mpsc::Sender<Job<'j>>>,
    answers: mpsc::Receiver<bool>,
}

impl<'j> Hosts<'j> {
    fn new<'s>(scope: &'s thread::Scope<'s, 'j>) -> Hosts<'j> {
        let (answer, answers) = mpsc::channel();
        let start = || {
            let (job, jobs) = mpsc::channel::<Job<'j>>();
            let answer = answer.clone();
            scope.spawn(move || jobs.iter().for_each(|job| answer.send(job()).unwrap()));
            job
        };
        Hosts { jobs: (0..HOSTS).map(|_| start()).collect(), answers }
    }

    fn run(&self, host: usize, job: impl FnOnce() -> bool + Send + 'j) -> bool {
        self.jobs[host].send(Box::new(job)).unwrap();
        self.answers.recv().unwrap()
    }
}

#[test]
fn the_race_detector_agrees_with_a_reference_about_several_hosts() {
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let hosts = Hosts::new(scope);
        for seed in 0..600 {
            let mut rng = Rng(seed);
            let device = Device::new(Options::quick().race_detector(true));
            let gpu = device.gpu();
            let streams: [StreamId; STREAMS] = core::array::from_fn(|_| gpu.stream_create(0).unwrap());
            let events: [EventId; EVENTS] = core::array::from_fn(|_| gpu.event_create().unwrap());
            let memory = gpu.mem_host_alloc(CELLS * CELL).unwrap().addr().get();
            let mut reference = Reference::default();
            // Some programs wait often and some rarely. Every second one leaves out the accesses
            // that would race.
            let (waits, avoids) = (1 + rng.below(12), seed % 2 == 0);
            let mut history = Vec::new();
            let mut races = false;
            for _ in 0..if avoids { 150 } else { 50 } {
                let (host, stream, event) = (rng.below(HOSTS), rng.below(STREAMS), rng.below(EVENTS));
                let step = rng.below(4 + waits);
                let (gpu, on, event_id) = (gpu.clone(), streams[stream], events[event]);
                if step < 4 {
                    let (cells, writes) = (rng.cells(CELLS), rng.below(3) == 0);
                    let by = (step < 3).then_some(stream);
                    races = reference.races(host, by, cells, writes);
                    if races && avoids {
                        races = false;
                        continue;
                    }
                    history.push(format!("host {host}, stream {by:?}: {cells:?}, writes {writes}"));
                    reference.access(host, by, cells, writes);
                    tally.accesses += 1;
                    let is_reported = hosts.run(host, move || {
                        let used = use_of(memory, cells, writes);
                        match by {
                            Some(_) => gpu.launch_using(on, Task::new(|_| Ok(())), &[used]).unwrap(),
                            None => unsafe { gpu.host_touches(used) },
                        }
                        gpu.check().is_err()
                    });
                    assert_eq!(is_reported, races, "seed {seed}: {history:#?}\n{:?}", device.gpu().check());
                    if races {
                        break;
                    }
                    continue;
                }
                history.push(format!("host {host}: {} of stream {stream}, event {event}", step % 4));
                let sees = hosts.run(host, move || {
                    match step % 4 {
                        0 => gpu.event_record(event_id, on).unwrap(),
                        1 => gpu.stream_wait_event(on, event_id).unwrap(),
                        2 => gpu.event_synchronize(event_id).unwrap(),
                        _ => return gpu.stream_query(on).unwrap(),
                    }
                    true
                });
                match step % 4 {
                    0 => {
                        reference.hear(host, stream);
                        reference.events[event] = Some(reference.streams[stream].clone());
                    }
                    1 if reference.events[event].is_some() => {
                        reference.hear(host, stream);
                        reference.streams[stream].extend(reference.events[event].iter().flatten());
                    }
                    2 => reference.hosts[host].extend(reference.events[event].iter().flatten()),
                    3 if sees => reference.hosts[host].extend(reference.streams[stream].iter()),
                    _ => {}
                }
            }
            tally.program(races);
        }
    });
    tally.assert_more_than(200, 10_000);
}
