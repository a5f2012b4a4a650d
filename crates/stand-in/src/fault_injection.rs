//! The gate that every call passes: logged, counted, failed on request; no panic gets out.

use core::cell::Cell;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidelock_driver::code::Code;

use crate::{abi::Answer, context, driver};

/// The calls that the log keeps; later ones are counted only.
const LOGGED: usize = 1 << 20;

thread_local! {
    /// Whether the thread is inside a call: what a call calls is no call of the program's.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Which calls fail, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The calls of this name only, or all.
    pub(crate) name: Option<&'static str>,
    /// The first that fails, from 1.
    pub(crate) nth: u64,
    /// Whether the later ones fail too.
    pub(crate) onwards: bool,
    /// Whether failing calls that release something release it before they fail. All others do
    /// nothing but fail.
    pub(crate) releases: bool,
    pub(crate) code: u32,
}

#[derive(Debug)]
struct FaultInjection {
    log: Vec<&'static str>,
    calls: u64,
    fault: Option<Fault>,
    /// What fails behind the first call that failed.
    then: Option<Fault>,
    /// Calls of the fault's name since it was armed.
    seen: u64,
}

static FAULTS: Mutex<FaultInjection> =
    Mutex::new(FaultInjection { log: Vec::new(), calls: 0, fault: None, then: None, seen: 0 });

/// The copy kernels that were enqueued. The gate is locked while a call runs.
static KERNELS: Mutex<Vec<Arc<str>>> = Mutex::new(Vec::new());

/// The way of every call.
pub(crate) fn call(name: &'static str, body: impl FnOnce() -> Result<(), Code>) -> Answer {
    if INSIDE.replace(true) {
        return run(name, body);
    }
    // Not in the match, to the end of which the lock would be held: calls of several threads run at
    // once.
    let fault = faults().judge(name);
    let answer = match fault {
        None => run(name, body),
        Some(fault) => {
            let refused = if fault.releases && is_release(name) { run(name, body) } else { 0 };
            // What would have been refused in any case is refused for that reason.
            if refused == 0 { fault.code } else { refused }
        }
    };
    INSIDE.set(false);
    answer
}

fn run(name: &'static str, body: impl FnOnce() -> Result<(), Code>) -> Answer {
    let ready = || if name == "cuInit" || is_always_ready(name) { Ok(()) } else { context::initialized() };
    match catch_unwind(AssertUnwindSafe(|| ready().and_then(|()| body()))) {
        Ok(Ok(())) => 0,
        Ok(Err(code)) => code.0,
        Err(payload) => {
            core::mem::forget(payload);
            driver::note(format!("{name} panicked"));
            Code::UNKNOWN.0
        }
    }
}

/// What the driver answers before `cuInit` too.
fn is_always_ready(name: &str) -> bool {
    ["cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString"].contains(&name) || name.starts_with("cuGetProcAddress")
}

fn is_release(name: &str) -> bool {
    ["Free", "Destroy", "Unload", "Release", "Unregister"].iter().any(|part| name.contains(part))
}

pub(crate) fn arm(fault: Option<Fault>) -> u64 {
    let mut faults = faults();
    (faults.fault, faults.then) = (fault, None);
    core::mem::take(&mut faults.seen)
}

/// What fails, counted from the first call that fails as it was armed.
pub(crate) fn arm_behind(fault: Fault) {
    faults().then = Some(fault);
}

/// Forgets the log and the fault.
pub(crate) fn reset() {
    let mut faults = faults();
    *faults = FaultInjection { log: core::mem::take(&mut faults.log), calls: 0, fault: None, then: None, seen: 0 };
    faults.log.clear();
    driver::lock(&KERNELS).clear();
}

pub(crate) fn calls() -> u64 {
    faults().calls
}

/// A copy kernel was enqueued.
pub(crate) fn launched(kernel: &Arc<str>) {
    let mut kernels = driver::lock(&KERNELS);
    if kernels.len() < LOGGED {
        kernels.push(Arc::clone(kernel));
    }
}

/// The copy kernels so far, by name; `clear` empties the list.
pub(crate) fn kernels(clear: bool) -> Vec<Arc<str>> {
    let mut kernels = driver::lock(&KERNELS);
    if clear { core::mem::take(&mut kernels) } else { kernels.clone() }
}

/// The log so far; `clear` empties it.
pub(crate) fn log(clear: bool) -> Vec<&'static str> {
    let mut faults = faults();
    if clear { core::mem::take(&mut faults.log) } else { faults.log.clone() }
}

impl FaultInjection {
    fn judge(&mut self, name: &'static str) -> Option<Fault> {
        self.calls = self.calls.saturating_add(1);
        if self.log.len() < LOGGED {
            self.log.push(name);
        }
        let fault = self.fault.filter(|fault| fault.name.is_none_or(|only| only == name))?;
        self.seen = self.seen.saturating_add(1);
        if self.seen != fault.nth && !(fault.onwards && self.seen > fault.nth) {
            return None;
        }
        if let Some(then) = self.then.take() {
            (self.fault, self.seen) = (Some(then), 0);
        }
        Some(fault)
    }
}

fn faults() -> MutexGuard<'static, FaultInjection> {
    FAULTS.lock().unwrap_or_else(PoisonError::into_inner)
}
