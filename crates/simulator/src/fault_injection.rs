//! Fault injection: every call is counted, logged, and fails on request.

#![forbid(unsafe_code)]

use core::{
    cell::RefCell,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    call::{Call, Counts},
    lock,
};
use tidelock_driver::code::Code;

use crate::sync::Mutex;

/// Which calls shall fail, and how. A call that fails this way does nothing else.
///
/// A sticky code injected here is answered by the chosen calls only and does not break the device:
/// use `onwards` for the answers of a broken one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The first call that fails, counted from 1 from the moment of arming.
    pub nth: u64,
    /// Whether all later calls fail too.
    pub onwards: bool,
    /// Counts and fails only calls of this kind; all kinds if `None`.
    pub call: Option<Call>,
    /// What the failing calls answer.
    pub code: Code,
}

/// What a call does that was not made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Made,
    /// It answers that it was made, and does nothing.
    Pretended,
}

/// What the chosen calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fails,
    Pretends,
}

#[derive(Debug)]
pub(super) struct FaultInjection {
    counts: [AtomicU64; Call::ALL.len()],
    logging: AtomicBool,
    log: Mutex<Vec<Call>>,
    /// Mirrors `armed.fault.is_some()`, so that unarmed calls take no lock.
    is_armed: AtomicBool,
    armed: Mutex<Armed>,
}

#[derive(Debug)]
struct Armed {
    fault: Option<(Fault, Outcome)>,
    /// What fails behind the first call that failed.
    then: Option<Fault>,
    seen: u64,
}

impl FaultInjection {
    pub(super) const fn new() -> Self {
        FaultInjection {
            counts: [const { AtomicU64::new(0) }; Call::ALL.len()],
            logging: AtomicBool::new(false),
            log: Mutex::new(Vec::new()),
            is_armed: AtomicBool::new(false),
            armed: Mutex::new(Armed { fault: None, then: None, seen: 0 }),
        }
    }

    /// As [`pass`](FaultInjection::pass), where what fails is the calling thread's affair.
    pub(super) fn pass_locally(&self, call: Call) -> Result<(), Code> {
        self.count(call);
        // Err: the thread is ending, and nothing is armed on it any more.
        let judged = LOCAL.try_with(|local| local.borrow_mut().as_mut().map_or(Ok(()), |local| local.pass(call)));
        judged.unwrap_or(Ok(()))
    }

    pub(super) fn pass(&self, call: Call) -> Result<Verdict, Code> {
        self.count(call);
        if self.logging.load(Ordering::Relaxed) {
            lock(&self.log).push(call);
        }
        if self.is_armed.load(Ordering::Acquire) { lock(&self.armed).judge(call) } else { Ok(Verdict::Made) }
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.arm(fault, Outcome::Fails, None);
    }

    pub(super) fn fail_in_turn(&self, first: Fault, second: Fault) {
        self.arm(first, Outcome::Fails, Some(second));
    }

    pub(super) fn pretend(&self, nth: u64, onwards: bool, call: Call) {
        self.arm(Fault { nth, onwards, call: Some(call), code: Code(0) }, Outcome::Pretends, None);
    }

    fn arm(&self, fault: Fault, outcome: Outcome, then: Option<Fault>) {
        let mut armed = lock(&self.armed);
        *armed = Armed { fault: Some((fault, outcome)), then, seen: 0 };
        self.is_armed.store(true, Ordering::Release);
    }

    pub(super) fn disarm(&self) {
        let mut armed = lock(&self.armed);
        armed.fault = None;
        self.is_armed.store(false, Ordering::Release);
    }

    pub(super) fn calls_since_arming(&self) -> u64 {
        lock(&self.armed).seen
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::read(|call| self.counts.get(call.index()).map_or(0, |count| count.load(Ordering::Relaxed)))
    }

    fn count(&self, call: Call) {
        if let Some(count) = self.counts.get(call.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn log(&self, on: bool) {
        self.logging.store(on, Ordering::Relaxed);
    }

    pub(super) fn take_log(&self) -> Vec<Call> {
        core::mem::take(&mut *lock(&self.log))
    }
}

thread_local! {
    /// What the calling thread has armed for itself.
    static LOCAL: RefCell<Option<Watched>> = const { RefCell::new(None) };
}

/// The calls that a thread has made since it armed itself, and which of them fail.
#[derive(Debug)]
struct Watched {
    armed: Armed,
    log: Vec<Call>,
}

/// Faults of one thread, from [`begin`](Local::begin) until this ends or is dropped; then what was
/// armed before is again.
#[derive(Debug)]
pub(super) struct Local {
    before: Option<Watched>,
}

impl Local {
    pub(super) fn begin(fault: Option<Fault>) -> Local {
        let armed = Armed { fault: fault.map(|fault| (fault, Outcome::Fails)), then: None, seen: 0 };
        Local { before: Local::arm(Some(Watched { armed, log: Vec::new() })) }
    }

    /// The calls that were made since the beginning.
    pub(super) fn end(self) -> Vec<Call> {
        Local::arm(None).map(|watched| watched.log).unwrap_or_default()
    }

    /// Arms the thread with `watched`, and answers what it was armed with. A thread that is ending
    /// is armed with nothing.
    fn arm(watched: Option<Watched>) -> Option<Watched> {
        LOCAL.try_with(|local| local.replace(watched)).ok().flatten()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        Local::arm(self.before.take());
    }
}

impl Watched {
    fn pass(&mut self, call: Call) -> Result<(), Code> {
        self.log.push(call);
        self.armed.judge(call).map(drop)
    }
}

impl Armed {
    fn judge(&mut self, call: Call) -> Result<Verdict, Code> {
        let Some((fault, outcome)) = self.fault else { return Ok(Verdict::Made) };
        if fault.call.is_some_and(|only| only != call) {
            return Ok(Verdict::Made);
        }
        self.seen = self.seen.saturating_add(1);
        let is_chosen = self.seen == fault.nth || (fault.onwards && self.seen > fault.nth);
        if is_chosen && let Some(then) = self.then.take() {
            (self.fault, self.seen) = (Some((then, Outcome::Fails)), 0);
        }
        match outcome {
            Outcome::Fails if is_chosen => Err(fault.code),
            Outcome::Pretends if is_chosen => Ok(Verdict::Pretended),
            _ => Ok(Verdict::Made),
        }
    }
}
