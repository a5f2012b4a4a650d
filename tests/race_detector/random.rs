//! The race detector against a reference that keeps the whole order, and against ordered programs
//! of several threads.

use std::{collections::BTreeSet, sync::Mutex, thread};

use tidelock::sim::{
    Gpu, Options,
    gpu::{EventId, StreamId, Task},
};

use crate::comparison::{CELL, Rng, Tally, use_of};

const STREAMS: usize = 4;
const EVENTS: usize = 4;
/// Few cells of memory, so that accesses of a program conflict.
const CELLS: usize = 6;

/// A reference: for each event, the set of all accesses that happened before. It summarises
/// nothing.
struct Reference {
    accesses: Vec<Access>,
    host: BTreeSet<usize>,
    streams: [BTreeSet<usize>; STREAMS],
    events: [BTreeSet<usize>; EVENTS],
}

struct Access {
    cells: (usize, usize),
    writes: bool,
}

impl Reference {
    fn new() -> Reference {
        Reference {
            accesses: Vec::new(),
            host: BTreeSet::new(),
            streams: [const { BTreeSet::new() }; STREAMS],
            events: [const { BTreeSet::new() }; EVENTS],
        }
    }

    /// Whether an access by a stream, or by the host if that is `None`, races with an earlier one.
    fn races(&self, stream: Option<usize>, cells: (usize, usize), writes: bool) -> bool {
        let known = |index: &usize| {
            self.host.contains(index) || stream.is_some_and(|stream| self.streams[stream].contains(index))
        };
        self.accesses.iter().enumerate().any(|(index, earlier)| {
            let meets = earlier.cells.0 < cells.1 && cells.0 < earlier.cells.1;
            meets && (writes || earlier.writes) && !known(&index)
        })
    }

    fn access(&mut self, stream: Option<usize>, cells: (usize, usize), writes: bool) {
        let host = self.host.clone();
        let known = match stream {
            Some(stream) => &mut self.streams[stream],
            None => &mut self.host,
        };
        known.extend(host);
        known.insert(self.accesses.len());
        self.accesses.push(Access { cells, writes });
    }
}

/// The race detector reports at the same access as the reference, and not before.
#[test]
fn the_race_detector_agrees_with_a_reference_about_random_programs() {
    let mut tally = Tally::default();
    for seed in 0..1500 {
        let mut rng = Rng(seed);
        let gpu = Gpu::new(Options::quick().race_detector(true));
        let streams: [StreamId; STREAMS] = core::array::from_fn(|_| gpu.stream_create(0).unwrap());
        let events: [EventId; EVENTS] = core::array::from_fn(|_| gpu.event_create().unwrap());
        let memory = gpu.mem_host_alloc(CELLS * CELL).unwrap().addr().get();
        let mut reference = Reference::new();
        // Some programs wait often and some rarely.
        let waits = 1 + rng.below(12);
        // Every second program leaves out the accesses that would race.
        let avoids = seed % 2 == 0;
        let mut history = Vec::new();
        let mut races = false;
        for _ in 0..if avoids { 300 } else { 60 } {
            let (stream, event) = (rng.below(STREAMS), rng.below(EVENTS));
            let step = rng.below(4 + waits);
            if step < 4 {
                let (cells, writes) = (rng.cells(CELLS), rng.below(3) == 0);
                let used = use_of(memory, cells, writes);
                let by_host = step == 3;
                history.push(format!(
                    "{} {cells:?} writes {writes}",
                    if by_host { "host".into() } else { format!("stream {stream}") }
                ));
                let by = (!by_host).then_some(stream);
                races = reference.races(by, cells, writes);
                if races && avoids {
                    races = false;
                    continue;
                }
                reference.access(by, cells, writes);
                if by_host {
                    unsafe { gpu.host_touches(used) };
                } else {
                    gpu.launch_using(streams[stream], Task::new(|_| Ok(())), &[used]).unwrap();
                }
                tally.accesses += 1;
                assert_eq!(gpu.check().is_err(), races, "seed {seed}: {history:#?}\n{:?}", gpu.check());
                if races {
                    break;
                }
            } else {
                let Reference { host, streams: known, events: recorded, .. } = &mut reference;
                match step % 4 {
                    0 => {
                        history.push(format!("record {event} on {stream}"));
                        gpu.event_record(events[event], streams[stream]).unwrap();
                        known[stream].extend(host.iter());
                        recorded[event].clone_from(&known[stream]);
                    }
                    1 => {
                        history.push(format!("stream {stream} waits for event {event}"));
                        gpu.stream_wait_event(streams[stream], events[event]).unwrap();
                        known[stream].extend(host.iter());
                        known[stream].extend(recorded[event].iter());
                    }
                    2 => {
                        history.push(format!("host waits for event {event}"));
                        gpu.event_synchronize(events[event]).unwrap();
                        host.extend(recorded[event].iter());
                    }
                    _ if rng.below(3) == 0 => {
                        history.push(format!("host waits for stream {stream}"));
                        gpu.stream_synchronize(streams[stream]).unwrap();
                        host.extend(known[stream].iter());
                    }
                    _ if gpu.event_query(events[event]).unwrap() => {
                        history.push(format!("host sees event {event}"));
                        host.extend(recorded[event].iter());
                    }
                    _ => {}
                }
            }
        }
        tally.program(races);
    }
    tally.assert_more_than(500, 20_000);
}

/// The events of one cell that a program keeps: after the last write, and after the reads since.
#[derive(Clone, Default)]
struct Cell {
    write: Option<(usize, EventId)>,
    reads: Vec<(usize, EventId)>,
}

/// One device or pinned buffer, which is allocated anew from time to time.
struct Buffer {
    start: usize,
    is_pinned: bool,
    cells: Vec<Cell>,
}

/// Several threads at once run programs that make all necessary waits. There is no report, however
/// the threads interleave.
#[test]
fn ordered_programs_of_several_threads_are_clean() {
    for seed in 0..12 {
        let gpu = Gpu::new(
            Options::default().seed(seed).delay(tidelock::sim::Delay::Upto(core::time::Duration::from_micros(20))),
        );
        let pool = gpu.pool_create(u64::MAX).unwrap();
        let streams: [StreamId; STREAMS] = core::array::from_fn(|_| gpu.stream_create(0).unwrap());
        let buffers: Vec<Mutex<Buffer>> = (0..6)
            .map(|index| {
                let is_pinned = index % 3 == 0;
                let bytes = CELLS * CELL;
                let start = if is_pinned { gpu.mem_host_alloc(bytes) } else { gpu.mem_alloc(bytes) };
                let start = start.unwrap().addr().get();
                Mutex::new(Buffer { start, is_pinned, cells: vec![Cell::default(); CELLS] })
            })
            .collect();
        thread::scope(|scope| {
            for thread in 0..3 {
                let (gpu, streams, buffers) = (&gpu, &streams, &buffers);
                scope.spawn(move || {
                    let mut rng = Rng(seed * 1000 + thread);
                    for _ in 0..400 {
                        let mut buffer = buffers[rng.below(buffers.len())].lock().unwrap();
                        step(gpu, streams, pool, &mut buffer, &mut rng);
                    }
                });
            }
        });
        assert_eq!(gpu.check(), Ok(()), "seed {seed}");
    }
}

fn step(
    gpu: &Gpu,
    streams: &[StreamId; STREAMS],
    pool: tidelock::sim::gpu::PoolId,
    buffer: &mut Buffer,
    rng: &mut Rng,
) {
    let (on, (first, end), writes) = (rng.below(STREAMS), rng.cells(CELLS), rng.below(2) == 0);
    let place = |at: usize| core::ptr::with_exposed_provenance_mut::<u8>(at);
    let used = use_of(buffer.start, (first, end), writes);
    let (what, is_pinned) = (rng.below(8), buffer.is_pinned);
    // No second wait for what stream order already gives.
    let wait = |cells: &[Cell], writes: bool, on: Option<usize>| {
        for cell in cells {
            let reads = if writes { cell.reads.as_slice() } else { &[] };
            for (stream, event) in cell.write.iter().chain(reads) {
                match on {
                    Some(on) if on == *stream => {}
                    Some(on) => gpu.stream_wait_event(streams[on], *event).unwrap(),
                    None => gpu.event_synchronize(*event).unwrap(),
                }
            }
        }
    };
    let record = |on: usize| {
        let event = gpu.event_create().unwrap();
        gpu.event_record(event, streams[on]).unwrap();
        (on, event)
    };
    if what == 0 && !is_pinned {
        // Freed on one stream and allocated on another.
        let other = rng.below(STREAMS);
        wait(&buffer.cells, true, Some(on));
        unsafe { gpu.mem_free_async(place(buffer.start), streams[on]) }.unwrap();
        buffer.start = gpu.mem_alloc_async(CELLS * CELL, pool, streams[other]).unwrap().addr().get();
        buffer.cells = vec![Cell { write: Some(record(other)), reads: Vec::new() }; CELLS];
        return;
    }
    if what == 1 && is_pinned {
        wait(&buffer.cells[first..end], writes, None);
        unsafe { gpu.host_touches(used) };
        return;
    }
    wait(&buffer.cells[first..end], writes, Some(on));
    match (what, writes) {
        (2, true) => {
            let (at, bytes) = (place(buffer.start + first * CELL), (end - first) * CELL);
            unsafe { gpu.memset_d8_async(at, 3, bytes, streams[on]) }.unwrap();
        }
        _ => gpu.launch_using(streams[on], Task::new(|_| Ok(())), &[used]).unwrap(),
    }
    let mark = record(on);
    for cell in &mut buffer.cells[first..end] {
        if writes {
            *cell = Cell { write: Some(mark), reads: Vec::new() };
        } else {
            cell.reads.push(mark);
        }
    }
}
