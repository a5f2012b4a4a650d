//! When each thing happened: the host's phases, and those of the streams where a device can report
//! them.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelock::{Ctx, DeviceLocation, Result, driver::Backend};

/// The phases of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Forms the next batch.
    Plan,
    /// Writes the upload.
    Fill,
    /// Calls the driver.
    Submit,
    /// Waits for the device.
    Wait,
    /// Compares the results with the oracle.
    Verify,
}

/// A point in an iteration that one of its streams passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The stream begins the upload of new rows, and ends it.
    Up,
    AfterUp,
    /// The stream begins to re-pack the states, ends it, has run the model, and has copied the
    /// results to the host.
    Repack,
    Model,
    Down,
    AfterDown,
}

/// The marks of one iteration.
const MARKS: usize = Mark::AfterDown as usize + 1;

/// Measures a run, and keeps a recording if one is wanted.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    waited: Cell<Duration>,
    /// The iteration that the host's phases belong to.
    iteration: Cell<u32>,
    /// Driver calls that the recording itself made.
    marks: Cell<u64>,
    kept: Option<Kept>,
}

/// The records for a report.
#[derive(Debug)]
struct Kept {
    spans: RefCell<Vec<Span>>,
    samples: RefCell<Vec<Sample>>,
    stamps: Arc<[AtomicU64]>,
}

/// A recording of a run.
#[derive(Debug)]
pub struct Recording {
    pub streams: u64,
    /// The host's phases, in order.
    pub host: Vec<Span>,
    /// The work of the streams, one list per stream, each in order and without overlap. It is empty
    /// where a device cannot report it.
    pub upload: Vec<Work>,
    pub compute: Vec<Work>,
    /// One for each iteration.
    pub samples: Vec<Sample>,
}

/// What a stream did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub kind: Kind,
    pub iteration: u32,
    pub begin: u64,
    pub end: u64,
}

/// The kinds of work of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Up,
    Repack,
    Model,
    Down,
}

/// The state at the end of an iteration, in bytes and rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken, in nanoseconds since the start of the run.
    pub at: u64,
    pub rows: u64,
    /// Device memory that is not free.
    pub reserved: u64,
    /// Memory that was allocated and not freed, if the device reports it.
    pub used: u64,
    pub states: u64,
    pub pinned: u64,
    /// The most bytes of the arena that the iteration used.
    pub arena: u64,
    pub up: u64,
    pub down: u64,
}

/// The statistics that a device has of itself.
pub trait Meter {
    /// The number of driver calls so far.
    fn driver_calls(&self) -> u64;

    /// Bytes of device memory that were allocated and not freed.
    fn used_bytes(&self) -> u64 {
        0
    }

    /// Whether a recording is wanted.
    fn records(&self) -> bool {
        false
    }
}

impl<F: Fn() -> u64> Meter for F {
    fn driver_calls(&self) -> u64 {
        self()
    }
}

/// A meter made of two closures.
#[derive(Clone, Copy, Debug)]
pub struct Gauges<C, U> {
    pub driver_calls: C,
    pub used_bytes: U,
    pub records: bool,
}

impl<C: Fn() -> u64, U: Fn() -> u64> Meter for Gauges<C, U> {
    fn driver_calls(&self) -> u64 {
        (self.driver_calls)()
    }

    fn used_bytes(&self) -> u64 {
        (self.used_bytes)()
    }

    fn records(&self) -> bool {
        self.records
    }
}

/// A phase of the host, in nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub phase: Phase,
    pub iteration: u32,
    pub begin: u64,
    pub end: u64,
}

/// Backends whose streams can report when they pass a point. By default they cannot.
pub trait Timed: Backend {
    /// The driver calls that [`when_passed`](Self::when_passed) makes.
    const CALLS: u64 = 0;

    /// Calls `note` when the stream passes this point, if the device can.
    ///
    /// # Errors
    ///
    /// The device's error.
    fn when_passed<L: DeviceLocation<Backend = Self>>(
        _ctx: &Ctx<'_, L>,
        _note: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        Ok(())
    }
}

#[cfg(feature = "sim")]
impl Timed for tidelock::sim::SimBackend {
    const CALLS: u64 = 1;

    fn when_passed<L: DeviceLocation<Backend = Self>>(
        ctx: &Ctx<'_, L>,
        note: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        ctx.launch((0_u32,), |_| note())
    }
}

// The driver can time events, but the library has no interface for it.
#[cfg(feature = "cuda")]
impl Timed for tidelock::cuda::CudaBackend {}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder that measures how long the host waits, and keeps nothing.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            waited: Cell::default(),
            iteration: Cell::default(),
            marks: Cell::default(),
            kept: None,
        }
    }

    /// A recorder that keeps everything of `iterations` iterations.
    pub fn keeping(iterations: u64) -> Self {
        // At most this many phases of the host in one iteration.
        const PHASES: usize = 10;
        let iterations = usize::try_from(iterations).unwrap_or(usize::MAX);
        let kept = Kept {
            spans: RefCell::new(Vec::with_capacity(iterations.saturating_mul(PHASES))),
            samples: RefCell::new(Vec::with_capacity(iterations)),
            stamps: (0..iterations.saturating_mul(MARKS)).map(|_| AtomicU64::new(0)).collect(),
        };
        Self { kept: Some(kept), ..Self::new() }
    }

    /// Starts the clock.
    pub fn begin(&mut self) {
        self.start = Instant::now();
        self.waited.set(Duration::ZERO);
    }

    /// Sets the iteration that the host's phases belong to from now on.
    pub fn iteration(&self, number: u32) {
        self.iteration.set(number);
    }

    /// Runs `work` as a phase of the host.
    pub fn host<R>(&self, phase: Phase, work: impl FnOnce() -> R) -> R {
        if phase != Phase::Wait && self.kept.is_none() {
            return work();
        }
        let begin = self.start.elapsed();
        let value = work();
        let end = self.start.elapsed();
        if phase == Phase::Wait {
            self.waited.set(self.waited.get() + (end - begin));
        }
        if let Some(kept) = &self.kept {
            let iteration = self.iteration.get();
            kept.spans.borrow_mut().push(Span { phase, iteration, begin: nanos(begin), end: nanos(end) });
        }
        value
    }

    /// Records when the stream of `ctx` passes `mark` of iteration `number`, if a recording is
    /// wanted.
    pub fn stream<L: DeviceLocation<Backend: Timed>>(&self, ctx: &Ctx<'_, L>, number: u32, mark: Mark) {
        let Some(kept) = &self.kept else { return };
        let (start, stamps) = (self.start, Arc::clone(&kept.stamps));
        self.marks.set(self.marks.get() + <L::Backend as Timed>::CALLS);
        let place = number as usize * MARKS + mark as usize;
        // A point that the device does not report is missing from the report only.
        let _ = L::Backend::when_passed(ctx, move || {
            if let Some(stamp) = stamps.get(place) {
                stamp.store(nanos(start.elapsed()).max(1), Ordering::Relaxed);
            }
        });
    }

    /// Keeps what `sample` returns, if a recording is wanted.
    pub fn sample(&self, sample: impl FnOnce() -> Sample) {
        if let Some(kept) = &self.kept {
            let at = nanos(self.start.elapsed());
            kept.samples.borrow_mut().push(Sample { at, ..sample() });
        }
    }

    /// The recording, once the streams have passed every mark.
    pub fn finish(self, streams: u64) -> Option<Recording> {
        let Kept { spans, samples, stamps } = self.kept?;
        let (mut upload, mut compute) = (Vec::new(), Vec::new());
        for (marks, iteration) in stamps.chunks_exact(MARKS).zip(0..) {
            let at = |mark: Mark| marks[mark as usize].load(Ordering::Relaxed);
            // On one stream, re-packing begins where the upload ends.
            let (after_up, up) = if streams == 1 { (Mark::Repack, &mut compute) } else { (Mark::AfterUp, &mut upload) };
            push(up, Work { kind: Kind::Up, iteration, begin: at(Mark::Up), end: at(after_up) });
            for (kind, begin, end) in [
                (Kind::Repack, Mark::Repack, Mark::Model),
                (Kind::Model, Mark::Model, Mark::Down),
                (Kind::Down, Mark::Down, Mark::AfterDown),
            ] {
                push(&mut compute, Work { kind, iteration, begin: at(begin), end: at(end) });
            }
        }
        let (host, samples) = (spans.into_inner(), samples.into_inner());
        Some(Recording { streams, host, upload, compute, samples })
    }

    /// Driver calls that the recording itself made.
    pub fn marks(&self) -> u64 {
        self.marks.get()
    }

    /// How long the host has waited for the device.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }
}

/// Adds a piece of work if both its ends were recorded.
fn push(works: &mut Vec<Work>, work: Work) {
    if work.begin > 0 && work.end >= work.begin {
        works.push(work);
    }
}

impl Recording {
    /// How much of the host's work and of the uploads overlapped the device's steps.
    pub fn overlap(&self) -> Overlap {
        let steps: Vec<(u64, u64)> = self.compute.iter().map(|work| (work.begin, work.end)).collect();
        let host = || self.host.iter().filter(|span| span.phase != Phase::Wait).map(|span| (span.begin, span.end));
        let upload = self.upload.iter().map(|work| (work.begin, work.end));
        let busy = |works: &[Work]| Duration::from_nanos(works.iter().map(|work| work.end - work.begin).sum());
        Overlap {
            is_known: !steps.is_empty(),
            compute: busy(&self.compute),
            upload: busy(&self.upload),
            host: Duration::from_nanos(host().map(|(begin, end)| end - begin).sum()),
            host_hidden: common(host(), &steps),
            upload_hidden: common(upload, &steps),
        }
    }
}

/// What ran at the same time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Overlap {
    /// Whether the device reports its work.
    pub is_known: bool,
    /// How long the host worked, without its waits.
    pub host: Duration,
    /// How long the compute stream was busy, and the upload stream if there are two.
    pub compute: Duration,
    pub upload: Duration,
    /// The time of the host's work, and of uploads, during which the compute stream was busy too.
    pub host_hidden: Duration,
    pub upload_hidden: Duration,
}

/// How long some of `spans` and one of `others` overlap in total. Both are in order, and `others`
/// do not overlap.
fn common(spans: impl Iterator<Item = (u64, u64)>, others: &[(u64, u64)]) -> Duration {
    let shared = |(begin, end): (u64, u64)| {
        let first = others.partition_point(|other| other.1 <= begin);
        let meeting = others[first..].iter().take_while(|other| other.0 < end);
        meeting.map(|other| other.1.min(end) - other.0.max(begin)).sum::<u64>()
    };
    Duration::from_nanos(spans.map(shared).sum())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_time_is_that_of_both() {
        let others = [(10, 20), (20, 25), (30, 40)];
        let cases = [((0, 10), 0), ((0, 11), 1), ((12, 14), 2), ((19, 31), 7), ((0, 100), 25), ((25, 30), 0)];
        for (span, expected) in cases {
            assert_eq!(common([span].into_iter(), &others), Duration::from_nanos(expected), "{span:?}");
        }
        assert_eq!(common([(5, 15), (35, 50)].into_iter(), &others), Duration::from_nanos(10));
    }

    #[test]
    fn nothing_is_kept_unless_it_is_asked_for() {
        let recorder = Recorder::new();
        recorder.host(Phase::Plan, || ());
        recorder.sample(|| unreachable!("nobody wants it"));
        recorder.host(Phase::Wait, || std::thread::sleep(Duration::from_millis(2)));
        assert!(recorder.waited() >= Duration::from_millis(2));
        assert!(recorder.finish(1).is_none());
    }
}
