//! What happened when: the host's phases, and where a device can tell, those of its streams.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelock::{Ctx, DeviceLocation, Result, Sim};

/// What the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Forms the next batch.
    Plan,
    /// Writes down what goes up.
    Fill,
    /// Calls the driver.
    Submit,
    /// Waits for the device.
    Wait,
    /// Compares what came down with the oracle.
    Verify,
}

/// A moment in an iteration, as one of its streams passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The stream begins to bring new rows up, and has done so.
    Up,
    AfterUp,
    /// The stream begins to re-pack the states, has done so, has run the model, and has brought everything down.
    Repack,
    Model,
    Down,
    AfterDown,
}

/// The marks of one iteration.
const MARKS: usize = Mark::AfterDown as usize + 1;

/// Measures a run, and keeps what it is asked to keep.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    waited: Cell<Duration>,
    /// The iteration that the host's phases belong to.
    iteration: Cell<u32>,
    kept: Option<Kept>,
}

/// What is kept for a report.
#[derive(Debug)]
struct Kept {
    spans: RefCell<Vec<Span>>,
    stamps: Arc<[AtomicU64]>,
}

/// A phase of the host, in nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub phase: Phase,
    pub iteration: u32,
    pub begin: u64,
    pub end: u64,
}

/// The devices whose streams can be asked when they pass a point.
pub trait Timed: DeviceLocation {
    /// Calls `note` when the stream gets there, if the device can.
    ///
    /// # Errors
    ///
    /// What the device answered.
    fn when_passed(_ctx: &Ctx<'_, Self>, _note: impl FnOnce() + Send + 'static) -> Result<()>
    where
        Self: Sized,
    {
        Ok(())
    }
}

impl Timed for Sim<'_> {
    fn when_passed(ctx: &Ctx<'_, Self>, note: impl FnOnce() + Send + 'static) -> Result<()> {
        ctx.launch((0_u32,), |_| note())
    }
}

#[cfg(feature = "cuda-core")]
impl Timed for tidelock::Cuda<'_> {}

impl Recorder {
    /// A recorder that measures how long the host waits, and keeps nothing.
    pub fn new() -> Self {
        Self { start: Instant::now(), waited: Cell::default(), iteration: Cell::default(), kept: None }
    }

    /// A recorder that keeps everything there is to know of `iterations`.
    pub fn keeping(iterations: u64) -> Self {
        // At most this many phases of the host in one iteration.
        const PHASES: usize = 10;
        let iterations = usize::try_from(iterations).unwrap_or(usize::MAX);
        let kept = Kept {
            spans: RefCell::new(Vec::with_capacity(iterations.saturating_mul(PHASES))),
            stamps: (0..iterations.saturating_mul(MARKS)).map(|_| AtomicU64::new(0)).collect(),
        };
        Self { kept: Some(kept), ..Self::new() }
    }

    /// Begins the time that is measured.
    pub fn begin(&mut self) {
        self.start = Instant::now();
        self.waited.set(Duration::ZERO);
    }

    /// Says to which iteration the host's phases belong from now on.
    pub fn iteration(&self, number: u32) {
        self.iteration.set(number);
    }

    /// Does what is a phase of the host.
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

    /// Notes when the stream of `ctx` passes `mark` of iteration `number`, if that is to be kept.
    pub fn stream<L: Timed>(&self, ctx: &Ctx<'_, L>, number: u32, mark: Mark) {
        let Some(kept) = &self.kept else { return };
        let (start, stamps) = (self.start, Arc::clone(&kept.stamps));
        let place = number as usize * MARKS + mark as usize;
        // A moment that the device does not tell is missing from the report, and from nothing else.
        let _ = L::when_passed(ctx, move || {
            if let Some(stamp) = stamps.get(place) {
                stamp.store(nanos(start.elapsed()).max(1), Ordering::Relaxed);
            }
        });
    }

    /// How long the host has waited for the device.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
