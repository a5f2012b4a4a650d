//! One run of one scenario with one injected failure, and what must hold afterwards.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tidelock::{
    BatchCopy, Buffer, Ctx, Error, Result, Stream, View,
    driver::{Backend, Code},
    error::Rejected,
    location::Pinned,
    sim::{self, Call, Fault, Sim, SimBackend},
    stream::{Env, Staged, StreamOptions},
};

/// How long one run may take before the process is aborted as hanging.
const LIMIT: Duration = Duration::from_secs(20);

/// Calls that only release something. When one is refused, the error is ignored, and what it would
/// have released stays.
const RELEASES: [Call; 6] = [
    Call::MemFreeAsync,
    Call::MemFree,
    Call::EventDestroy,
    Call::StreamDestroy,
    Call::MemPoolDestroy,
    Call::MemFreeHost,
];

/// Calls that wait for the device.
const WAITS: [Call; 2] = [Call::StreamSynchronize, Call::EventSynchronize];

/// Calls whose failure no stream records: a sticky error of one of them poisons no stream.
const BESIDE_STREAMS: [Call; 8] = [
    Call::EventDestroy,
    Call::StreamCreate,
    Call::StreamDestroy,
    Call::MemPoolCreate,
    Call::MemPoolDestroy,
    Call::DeviceGetDefaultMemPool,
    Call::MemHostAlloc,
    Call::MemFreeHost,
];

/// A program that makes driver calls, some of which fail on request.
pub struct Scenario {
    pub name: &'static str,
    pub program: fn(&Trial) -> Result<()>,
    /// The calls that fail.
    pub armed: Armed,
    /// Calls whose failure the operation recovers from, by another wait.
    pub recovers: &'static [Call],
    /// Whether the operation is on memory of no stream. A sticky error then poisons none.
    pub is_remote: bool,
}

/// The calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Armed {
    First,
    Second,
    /// The calls that page-lock memory for the process-wide pool.
    Pinned,
}

/// Which calls of a run are counted and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the operation under test.
    Operation,
    /// All, from the opening of the streams to the end of the last value.
    Whole,
}

/// One run.
pub struct Trial<'a> {
    pub device: sim::Device,
    /// Another device, on another simulated GPU.
    pub other: sim::Device,
    scenario: &'a Scenario,
    reach: Reach,
    fault: Option<Fault>,
    /// The kind of call that fails next after the fault.
    then: Option<Call>,
    /// The calls made while armed.
    log: RefCell<Vec<Call>>,
    /// Device allocations that were live when the fault was armed.
    live: Cell<usize>,
    /// The number of streams that were poisoned.
    poisoned: Cell<usize>,
    struck: Cell<bool>,
}

/// The result of a run: how many calls could have failed.
pub struct Counted {
    pub calls: u64,
}

/// Runs `scenario` once with `fault`, or without one to count calls.
///
/// # Errors
/// A description of what went wrong.
pub fn run(scenario: &Scenario, reach: Reach, fault: Option<Fault>) -> Result<Counted, String> {
    run_with(scenario, reach, fault, None)
}

/// As [`run`], and after the call that `fault` fails, the next call of a kind fails too.
///
/// # Errors
/// As for [`run`].
pub fn run_with(
    scenario: &Scenario,
    reach: Reach,
    fault: Option<Fault>,
    then: Option<Call>,
) -> Result<Counted, String> {
    let _serial = serial();
    let what = format!("{} ({reach:?}, {fault:?}, then {then:?})", scenario.name);
    let _watch = Watch::over(what.clone());
    let used = SimBackend::PINNED.usage().used;
    let trial = Trial {
        device: sim::Device::new(sim::Options::quick().race_detector(true)),
        other: sim::Device::new(sim::Options::quick().race_detector(true).ordinal(1).memory_limit(MEMORY)),
        scenario,
        reach,
        fault,
        then,
        log: RefCell::default(),
        live: Cell::new(0),
        poisoned: Cell::new(0),
        struck: Cell::new(false),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let answer = match reach {
            Reach::Operation => (scenario.program)(&trial),
            Reach::Whole => trial.armed(|| (scenario.program)(&trial)),
        };
        trial.finish(answer, used);
    }));
    trial.gpu().into_iter().for_each(sim::Gpu::disarm);
    match outcome {
        Ok(()) => Ok(Counted { calls: u64::try_from(trial.log.borrow().len()).unwrap() }),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Err(format!("{what}: {words}"))
        }
    }
}

impl Trial<'_> {
    /// The GPU whose calls fail; `None` for calls that belong to the process.
    fn gpu(&self) -> Option<&sim::Gpu> {
        match self.scenario.armed {
            Armed::First => Some(self.device.gpu()),
            Armed::Second => Some(self.other.gpu()),
            Armed::Pinned => None,
        }
    }

    /// Opens a stream. What the library reports at the stream's end must fit what happened to it.
    pub fn open<'env>(
        &'env self,
        f: impl for<'s> FnOnce(Stream<Sim<'s>>, Env<'s, 'env, Sim<'s>>) -> Result<()>,
    ) -> Result<()> {
        self.open_on(&self.device, &StreamOptions::default(), f)
    }

    /// As [`open`](Trial::open), on `device` with `options`.
    pub fn open_on<'env>(
        &'env self,
        device: &'env sim::Device,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Sim<'s>>, Env<'s, 'env, Sim<'s>>) -> Result<()>,
    ) -> Result<()> {
        let poisoned = self.poisoned.get();
        let mut inside = Ok(());
        let end = device.stream_with(options, |stream, env| inside = f(stream, env));
        if self.reach == Reach::Whole {
            return inside.and(end);
        }
        if let Err(error) = inside {
            panic!("a step besides the operation failed: {error}");
        }
        if let Err(error) = end {
            assert!(matches!(error, Error::Poisoned(_)), "the end of a stream: {error}");
            assert!(self.poisoned.get() > poisoned, "a stream that was usable ends with {error}");
        }
        Ok(())
    }

    /// Runs the operation under test, during which calls fail.
    pub fn strike<R>(&self, operation: impl FnOnce() -> R) -> R {
        match self.reach {
            Reach::Operation => {
                assert!(!self.struck.replace(true), "a scenario has one operation");
                self.armed(operation)
            }
            Reach::Whole => operation(),
        }
    }

    fn armed<R>(&self, f: impl FnOnce() -> R) -> R {
        self.live.set(self.device.gpu().report().allocations + self.other.gpu().report().allocations);
        let nothing = Fault { nth: u64::MAX, onwards: false, call: None, code: Code::UNKNOWN };
        let fault = self.fault.unwrap_or(nothing);
        let (value, log) = match self.gpu() {
            Some(gpu) => {
                gpu.log(true);
                match self.then {
                    None => gpu.fail(fault),
                    call => gpu.fail_in_turn(fault, Fault { nth: 1, onwards: false, call, code: fault.code }),
                }
                let value = f();
                gpu.disarm();
                gpu.log(false);
                (value, gpu.take_log())
            }
            None => sim::with_pinned_faults(Some(fault), f),
        };
        *self.log.borrow_mut() = log;
        value
    }

    /// The calls that failed; while armed, those that would fail next.
    fn failed(&self) -> Vec<Call> {
        let Some(fault) = self.fault else { return Vec::new() };
        let first = usize::try_from(fault.nth).unwrap() - 1;
        let log = self.log.borrow();
        let failed = log.iter().skip(first).take(if fault.onwards { usize::MAX } else { 1 });
        let next = log.iter().skip(first + 1).find(|call| self.then == Some(**call));
        failed.chain(next).copied().collect()
    }

    /// Whether the failure makes a stream unusable: the device is broken, or a wait failed and was
    /// not repeated.
    fn is_lost(&self) -> bool {
        let is_sticky = self.fault.is_some_and(|fault| fault.code.is_sticky());
        self.failed().iter().any(|call| is_sticky || WAITS.contains(call)) && (is_sticky || !self.is_repeated())
    }

    /// Whether one wait failed, and the same call was made again at once. A wait in place of
    /// another one, as in a drop, does not count.
    fn is_repeated(&self) -> bool {
        let Some(Fault { nth, onwards: false, .. }) = self.fault else { return false };
        let (log, at) = (self.log.borrow(), usize::try_from(nth).unwrap());
        let (Some(first), Some(second)) = (log.get(at - 1), log.get(at)) else { return false };
        let is_refused = self.then == Some(*second);
        first == second && WAITS.contains(first) && !self.scenario.recovers.contains(first) && !is_refused
    }

    /// Checks the answer of the operation: an error must be the injected one, and success must fit
    /// what failed.
    ///
    /// # Errors
    /// The error itself, if all calls of the run may fail: there is nothing more to check.
    pub fn settle(&self, error: Option<Error>) -> Result<()> {
        if self.reach == Reach::Whole {
            return error.map_or(Ok(()), Err);
        }
        self.explain(error);
        Ok(())
    }

    fn explain(&self, error: Option<Error>) {
        let failed = self.failed();
        let Some(error) = error else {
            let is_asked_again = |call: &Call| {
                ALLOCATIONS.contains(call) && self.fault.is_some_and(|fault| fault.code == Code::OUT_OF_MEMORY)
            };
            let is_tolerated =
                |call: &Call| RELEASES.contains(call) || self.scenario.recovers.contains(call) || is_asked_again(call);
            // The frame of a stream repeats a wait that failed.
            let is_made_good = (self.reach == Reach::Whole || self.scenario.is_remote) && self.is_repeated();
            assert!(is_made_good || failed.first().is_none_or(is_tolerated), "Ok although {failed:?} failed");
            return;
        };
        let (Some(fault), Some(first)) = (self.fault, failed.first()) else {
            panic!("{error}, although nothing failed");
        };
        let names: BTreeSet<&str> = failed.iter().map(|call| call.name()).collect();
        match error {
            Error::OutOfMemory { .. } => assert_eq!(fault.code, Code::OUT_OF_MEMORY),
            Error::Driver(why) | Error::Poisoned(why) => {
                assert_eq!(why.code, fault.code, "{error}");
                let is_named = names.contains(why.call) || why.call == "an allocation";
                assert!(is_named, "{error}, although {failed:?} failed");
                // The call that caused the error returns it, unless a later failure hides it.
                let is_first =
                    fault.onwards || self.then.is_some() || why.call == first.name() || why.call == "an allocation";
                assert!(is_first || self.scenario.recovers.contains(first), "{error}, although {first:?} failed first");
            }
            other => panic!("{other} is not what was injected"),
        }
        let is_poisoned = matches!(error, Error::Poisoned(_));
        assert!(is_poisoned || !fault.code.is_sticky(), "{error} does not say that the device is lost");
        assert!(!is_poisoned || self.is_lost(), "{error}, although the device is not lost");
    }

    /// As [`settle`](Trial::settle) for an operation that takes something by value. What is handed
    /// back is passed in again, and is accepted then, unless the stream is lost.
    ///
    /// # Errors
    /// As for [`settle`](Trial::settle).
    pub fn retry<R, V>(
        &self,
        answer: Result<R, Rejected<V>>,
        again: impl FnOnce(V) -> Result<R, Rejected<V>>,
    ) -> Result<Option<R>> {
        match answer {
            Ok(value) => {
                self.settle(None)?;
                Ok(Some(value))
            }
            Err(Rejected { error, value, .. }) => {
                self.settle(Some(error))?;
                match again(value) {
                    Ok(value) => Ok(Some(value)),
                    Err(rejected) => {
                        assert!(self.is_lost(), "refused again: {}", rejected.error);
                        assert!(matches!(rejected.error, Error::Poisoned(_)), "{}", rejected.error);
                        Ok(None)
                    }
                }
            }
        }
    }

    /// Asserts that the stream is usable, by a round trip, or poisoned: then every call returns the
    /// error without a driver call.
    ///
    /// # Errors
    /// The error of the round trip, if all calls of the run may fail.
    pub fn probe(&self, stream: &mut Stream<Sim<'_>>) -> Result<()> {
        if self.reach == Reach::Whole {
            return round_trip(stream);
        }
        match stream.is_idle() {
            Ok(_) => round_trip(stream).unwrap_or_else(|error| panic!("a usable stream answers {error}")),
            Err(error) => {
                assert!(matches!(error, Error::Poisoned(_)) && self.is_lost(), "the stream answers {error}");
                self.poisoned.set(self.poisoned.get() + 1);
                let counts = || [self.device.gpu(), self.other.gpu()].map(sim::Gpu::counts);
                let before = counts();
                all_say(stream, error);
                let [calls, others] = counts();
                let calls = [calls - before[0], others - before[1]];
                assert!(calls.iter().all(|calls| calls.total() == 0), "a poisoned stream asks the device: {calls:?}");
            }
        }
        Ok(())
    }

    /// Asserts that device memory holds `expected`. A poisoned stream is not checked.
    ///
    /// # Errors
    /// As for [`probe`](Trial::probe).
    pub fn holds<'s>(
        &self,
        stream: &mut Stream<Sim<'s>>,
        view: View<'_, u32, Sim<'s>>,
        expected: &[u32],
    ) -> Result<()> {
        if self.reach == Reach::Operation && stream.is_idle().is_err() {
            return Ok(());
        }
        assert_eq!(get(stream, view)?, expected);
        Ok(())
    }

    /// As [`holds`](Trial::holds), with one of two contents.
    ///
    /// # Errors
    /// As for [`probe`](Trial::probe).
    pub fn holds_either<'s>(
        &self,
        stream: &mut Stream<Sim<'s>>,
        view: View<'_, u32, Sim<'s>>,
        expected: [&[u32]; 2],
    ) -> Result<()> {
        if self.reach == Reach::Operation && stream.is_idle().is_err() {
            return Ok(());
        }
        let values = get(stream, view)?;
        assert!(expected.contains(&&values[..]), "{values:?}");
        Ok(())
    }

    /// As [`settle`](Trial::settle) for a request that finds no memory at first. The error is out
    /// of memory, whatever fails while the library reclaims. `is_met` is whether there is memory if
    /// nothing fails.
    ///
    /// # Errors
    /// As for [`settle`](Trial::settle).
    pub fn settle_request(&self, answer: Result<()>, is_met: bool) -> Result<()> {
        let is_injected = self.fault.is_some_and(|fault| fault.code == Code::OUT_OF_MEMORY);
        match answer {
            Err(Error::OutOfMemory { shortage, .. }) if !is_injected || self.reach == Reach::Operation => {
                let is_faulty = self.fault.is_some() || self.then.is_some();
                assert!(!is_met || is_faulty, "refused, although nothing failed");
                assert!(shortage.is_some(), "it does not say what there is");
                Ok(())
            }
            Ok(()) => {
                assert!(is_met, "there is no memory");
                Ok(())
            }
            answer => self.settle(answer.err()),
        }
    }

    /// Whether the run is over for the streams, so that nothing more can be expected of them.
    pub fn is_over(&self) -> bool {
        self.reach == Reach::Operation && self.is_lost()
    }

    /// Checks what must hold when everything has ended.
    fn finish(&self, answer: Result<()>, used: usize) {
        let failed = self.failed();
        match self.reach {
            Reach::Operation => {
                if let Err(error) = answer {
                    panic!("a step besides the operation failed: {error}");
                }
                assert!(self.struck.get(), "the operation was not run");
                let is_sticky = self.fault.is_some_and(|fault| fault.code.is_sticky());
                let noted = failed.iter().any(|call| !BESIDE_STREAMS.contains(call));
                if is_sticky && noted && !self.scenario.is_remote {
                    assert!(self.poisoned.get() > 0, "no stream is poisoned by {failed:?}");
                }
            }
            Reach::Whole => self.explain(answer.err()),
        }
        let lost = self.is_lost();
        let of = |call| failed.iter().filter(|other| **other == call).count();
        let (mut allocations, mut events, mut streams, mut pools) = (0, 0, 0, 0);
        for gpu in [self.device.gpu(), self.other.gpu()] {
            let report = gpu.report();
            assert_eq!((report.sticky, &report.findings[..]), (None, &[][..]));
            assert_eq!(report.pinned_allocations, 0);
            allocations += report.allocations;
            events += report.events;
            streams += report.streams;
            pools += report.pools;
        }
        // A refused release keeps what it would have released, and nothing else stays.
        assert_eq!(
            (events, streams, pools),
            (of(Call::EventDestroy), of(Call::StreamDestroy), of(Call::MemPoolDestroy)),
            "events, streams and pools that stay, although {failed:?} failed"
        );
        let refused = of(Call::MemFreeAsync) + of(Call::MemFree);
        let now = SimBackend::PINNED.usage().used;
        if lost {
            // Rule R12: what a stream held when it was lost is not freed, which is at most
            // everything that was live.
            let is_alloc = |call: &&Call| matches!(call, Call::MemAlloc | Call::MemAllocFromPoolAsync);
            let most = self.live.get() + self.log.borrow().iter().filter(is_alloc).count() + PROBED;
            assert!(allocations <= most, "{allocations} allocations leak, there were but {most}");
        } else {
            assert_eq!(allocations, refused, "allocations that leak, although {failed:?} failed");
            if of(Call::MemFreeHost) == 0 {
                assert_eq!(now, used, "pinned memory that leaks, although {failed:?} failed");
            }
        }
    }
}

/// The memory of the other device.
pub const MEMORY: usize = 16 << 10;

/// If there is no memory, these calls are made again after idle memory was freed.
const ALLOCATIONS: [Call; 3] = [Call::MemAlloc, Call::MemAllocFromPoolAsync, Call::MemHostAlloc];

/// The most allocations that one scenario makes after its operation.
const PROBED: usize = 4;

pub const N: usize = 96;

/// `from, from + 1, ..`, with the length of the scenarios' buffers.
pub fn ramp(from: u32) -> Vec<u32> {
    (from..).take(N).collect()
}

pub fn staged<'s, A>(ctx: &Ctx<'_, Sim<'s>, A>, values: &[u32]) -> Result<Buffer<u32, Staged<Sim<'s>>>> {
    Ok(Buffer::<u32, Pinned<SimBackend>>::from_slice(values)?.stage(ctx))
}

/// Device memory of the pool with `values`.
pub fn put<'s, A: Copy>(ctx: &Ctx<'_, Sim<'s>, A>, values: &[u32]) -> Result<Buffer<u32, Sim<'s>>> {
    let empty = ctx.with_pool().alloc::<u32>(values.len())?;
    Ok(ctx.init_from(empty, staged(ctx, values)?.view())?)
}

/// What device memory holds.
pub fn get<'s>(stream: &mut Stream<Sim<'s>>, view: View<'_, u32, Sim<'s>>) -> Result<Vec<u32>> {
    stream.read(view)
}

/// To the device, from buffer to buffer, and back.
pub fn round_trip(stream: &mut Stream<Sim<'_>>) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let x = put(&ctx, &ramp(77))?;
    let mut y = ctx.zeros::<u32>(N)?;
    ctx.copy(x.view(), y.view_mut())?;
    assert_eq!(get(stream, y.view())?, ramp(77));
    Ok(())
}

/// Asserts that every call of the stream returns `error`.
fn all_say(stream: &mut Stream<Sim<'_>>, error: Error) {
    let code = |error: Error| match error {
        Error::Poisoned(why) => why.code,
        other => panic!("a poisoned stream answers {other}"),
    };
    let says = |answer: Result<()>| assert_eq!(code(answer.expect_err("Ok on a poisoned stream")), code(error));
    let ctx = stream.ctx().with_pool();
    let mut nothing = ctx.alloc::<u32>(0).unwrap();
    says(ctx.clear::<u32, _>(nothing.view_mut()));
    says(ctx.upload::<u32, _>(&[], nothing.view_mut()));
    says(ctx.alloc::<u32>(4).map(drop));
    says(ctx.with_device_alloc(ctx.sync_alloc()).alloc::<u32>(4).map(drop));
    says(ctx.zeros::<u32>(4).map(drop));
    says(ctx.launch((1_u32,), |_| ()));
    says(ctx.memory_info().map(drop));
    says(BatchCopy::new().scope(&ctx, |_| Ok(())));
    let rejected = ctx.fence(staged(&ctx, &[1]).unwrap()).unwrap_err();
    says(Err(rejected.error));
    drop(rejected);
    says(ctx.copy(staged(&ctx, &[]).unwrap().view(), nothing.view_mut()));
    says(stream.is_idle().map(drop));
    says(stream.host_scope(|_| ()));
    says(stream.trim(0).map(drop));
    says(stream.synchronize().map(drop));
}

/// The runs share the pinned pool, so they take turns.
pub fn serial() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Aborts the process with a message if it is not dropped in time.
pub struct Watch {
    _ends: mpsc::Sender<()>,
}

impl Watch {
    pub fn over(what: String) -> Watch {
        let (ends, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("hangs: {what}");
                std::process::abort();
            }
        });
        Watch { _ends: ends }
    }
}
