//! Runs a program on the library, and compares everything with the model.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use tidelock::{
    Error,
    driver::Backend,
    sim::{self, SimBackend},
    stream::StreamOptions,
};

use super::{
    memory::{N, Values, filled},
    program::{Kind, Op, Program, Side},
    world::{Forgotten, Place, Trouble, World},
};

/// The statistics of a program, or a description of what went wrong.
pub type Verdict = core::result::Result<Tally, String>;

/// The statistics of programs, in sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    /// Waits of one stream for another.
    pub waits: u64,
    pub batches: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Programs in which a stream was lost.
    pub lost: u64,
    /// Values that were forgotten.
    pub forgotten: u64,
}

impl core::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.calls += other.calls;
        self.waits += other.waits;
        self.batches += other.batches;
        self.failures += other.failures;
        self.lost += other.lost;
        self.forgotten += other.forgotten;
    }
}

/// Runs `program`, and returns the first difference from the model.
pub fn run(program: &Program) -> Verdict {
    let delay = if program.delays { sim::Delay::Upto(Duration::from_micros(100)) } else { sim::Delay::None };
    let options = sim::Options::quick().delay(delay).race_detector(true);
    let devices = [sim::Device::new(options), sim::Device::new(options.ordinal(1))];
    let used = SimBackend::PINNED.usage().used;
    let mut world = World {
        devices: &devices,
        host: Vec::new(),
        detached: Vec::new(),
        armed: None,
        hits: 0,
        forgotten: Forgotten::default(),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| streams(program, &mut world)));
    world.settle();
    let World { host, detached, hits, forgotten, .. } = world;
    drop((host, detached));
    let is_over = match outcome {
        Ok(is_over) => is_over?,
        Err(_) => return Err("a panic".into()),
    };
    let reports = devices.each_ref().map(|device| device.gpu().report());
    for (device, report) in devices.iter().zip(&reports) {
        device.gpu().check()?;
        if report.sticky.is_some() || report.streams + report.pools > 0 {
            return Err(format!("{report:?}"));
        }
    }
    let counts = devices.each_ref().map(|device| device.gpu().counts());
    let made = |call| counts.iter().map(|counts| counts.of(call)).sum();
    let tally = Tally {
        calls: counts.iter().map(sim::Counts::total).sum(),
        waits: made(sim::Call::StreamWaitEvent),
        batches: made(sim::Call::MemcpyBatchAsync),
        failures: u64::try_from(hits).unwrap(),
        lost: u64::from(is_over),
        forgotten: u64::try_from(forgotten.allocations + forgotten.pieces).unwrap(),
    };
    if is_over {
        return Ok(tally);
    }
    // A failure leaks one thing at most. What was forgotten leaks, and nothing else.
    let sum = |count: fn(&sim::Report) -> usize| reports.iter().map(count).sum::<usize>();
    let (allocations, events) = (sum(|report| report.allocations), sum(|report| report.events));
    let now = SimBackend::PINNED.usage().used;
    let pieces = now.saturating_sub(used) / (N * size_of::<u32>());
    for (what, found, expected) in [
        ("allocations", allocations, forgotten.allocations),
        ("events", events, forgotten.events),
        ("pieces of pinned memory", pieces, forgotten.pieces),
    ] {
        let room = if what == "pieces of pinned memory" { hits * 4 } else { hits };
        if found < expected || found > expected + room {
            return Err(format!("{found} {what} leak, {expected} were forgotten, {hits} calls failed"));
        }
    }
    Ok(tally)
}

/// Opens the streams and runs the operations. Returns whether a stream was lost.
fn streams(program: &Program, world: &mut World<'_>) -> core::result::Result<bool, String> {
    let [first, second] = world.devices;
    let inner_device = if program.two_devices { second } else { first };
    let mut options = StreamOptions::default();
    if program.is_tight {
        options = options.ring_bytes(1024).max_deferred_frees(1);
    }
    let mut verdict = Ok(false);
    let end = first.stream_with(&options, |outer, _env| {
        // The inner stream gets the memory before the outer one has written it.
        let values: Values = (7000..).take(N).collect();
        let shared = program.ops.iter().any(|(_, op)| matches!(op, Op::ReadShared { .. })).then(|| {
            let buffer = filled(&outer.ctx(), &values).unwrap();
            outer.ctx().detach(buffer).unwrap().share()
        });
        let shared = shared.filter(|_| !program.two_devices);
        let end = inner_device.stream_with(&options, |inner, _env| {
            let shared = shared.map(|shared| inner.ctx().attach(shared).unwrap());
            let mut outer = Place::new(outer, 0, None);
            let mut inner = Place::new(inner, usize::from(program.two_devices), shared);
            if program.is_stocked {
                for kind in [Kind::Pool, Kind::Pool, Kind::Staged] {
                    world.allocate(&mut outer, kind, 1).unwrap();
                    world.allocate(&mut inner, kind, 1001).unwrap();
                }
            }
            for (index, (side, op)) in program.ops.iter().enumerate() {
                let done = match side {
                    Side::Outer => world.step(op, &mut outer, &mut inner),
                    Side::Inner => world.step(op, &mut inner, &mut outer),
                };
                world.settle_if_hit();
                match done {
                    Ok(()) => {}
                    Err(Trouble::Refused(error)) if world.explains(error) => {
                        if matches!(error, Error::Poisoned(_)) {
                            verdict = Ok(true);
                            // A pending failure must not hit the end of the stream.
                            world.settle();
                            return;
                        }
                    }
                    Err(Trouble::Refused(error)) => {
                        verdict = Err(format!("operation {index} answers {error}"));
                        world.settle();
                        return;
                    }
                    Err(Trouble::Wrong(words)) => {
                        verdict = Err(format!("operation {index}: {words}"));
                        return;
                    }
                }
            }
            world.settle();
            verdict = match world.check(&mut outer).and_then(|()| world.check(&mut inner)) {
                Ok(()) => Ok(false),
                // A drop may have stored a sticky error.
                Err(Trouble::Refused(Error::Poisoned(_))) if world.hits > 0 => Ok(true),
                Err(Trouble::Refused(error)) => Err(format!("at the end: {error}")),
                Err(Trouble::Wrong(words)) => Err(format!("at the end: {words}")),
            };
        });
        world.settle();
        end
    });
    match end.and_then(|end| end) {
        Err(error) if verdict == Ok(false) => Err(format!("the end of a stream answers {error}")),
        _ => verdict,
    }
}
