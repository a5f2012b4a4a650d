//! The handle of a device: faults, counts, reports, and what every call goes through.

#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};
use std::sync::Arc;

use tidelock_driver::code::Code;

use super::{
    call::{Call, Counts},
    fault_injection::{Fault, Verdict},
    options::Options,
    pinned,
    report::{Report, Traffic},
    shared::Shared,
    stream::Stream,
    sync::lock,
};

/// A simulated device and its driver.
///
/// A handle: clones are the same device. When the last one is dropped, work that has not begun is
/// discarded, the threads of the streams are joined, and all memory of the device and all pinned
/// memory it allocated is released.
///
/// Calls from inside a [`Task`](super::Task) of the same device are answered with code 800
/// (`NOT_PERMITTED`), as by the driver.
#[derive(Clone)]
pub struct Gpu {
    owner: Arc<Owner>,
}

/// What the handles share and the threads of the streams do not: its Drop is the end of the device.
struct Owner {
    shared: Arc<Shared>,
}

impl Gpu {
    /// A device with `options`, idle and empty.
    ///
    /// It has 4 TiB of addresses to itself until the last handle is dropped. There are 8192 such
    /// ranges: while as many devices live, another one answers each allocation of device memory
    /// with `OUT_OF_MEMORY`.
    #[inline]
    #[must_use]
    pub fn new(options: Options) -> Gpu {
        // From 1 on: 0 is the process itself.
        static GPUS: AtomicU64 = AtomicU64::new(1);
        let id = GPUS.fetch_add(1, Ordering::Relaxed);
        let shared = Shared::new(id, options);
        shared.watch();
        Gpu { owner: Arc::new(Owner { shared: Arc::new(shared) }) }
    }

    /// The ordinal the device goes by in messages.
    #[inline]
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.shared().options.ordinal
    }

    /// An address that no other live device of the process has.
    #[inline]
    #[must_use]
    pub fn address(&self) -> usize {
        self.shared().address()
    }

    /// Makes calls fail as `fault` says, instead of what was said before.
    #[inline]
    pub fn fail(&self, fault: Fault) {
        self.shared().faults.fail(fault);
    }

    /// Makes the nth call fail that `first` names, and calls behind it as `second` says, counted
    /// from there: a failure that meets the way out of another one.
    #[inline]
    pub fn fail_in_turn(&self, first: Fault, second: Fault) {
        self.shared().faults.fail_in_turn(first, second);
    }

    /// The calls of the kind that [`fail`](Gpu::fail) named last, made since then and until
    /// [`disarm`](Gpu::disarm).
    #[inline]
    #[must_use]
    pub fn calls_since_arming(&self) -> u64 {
        self.shared().faults.calls_since_arming()
    }

    /// How often each call was made so far, failed ones included.
    #[inline]
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared().faults.counts()
    }

    /// Starts or stops logging the calls. The log grows by a byte per call, on the calling thread.
    #[inline]
    pub fn log(&self, on: bool) {
        self.shared().faults.log(on);
    }

    /// The calls logged since the last taking, in order; empties the log.
    #[inline]
    #[must_use]
    pub fn take_log(&self) -> Vec<Call> {
        self.shared().faults.take_log()
    }

    /// The copies executed so far.
    #[inline]
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.shared().traffic.read()
    }

    /// What the device holds, and what went wrong on it. Not a driver call: works on a broken
    /// device, and is not counted.
    #[inline]
    #[must_use]
    pub fn report(&self) -> Report {
        let shared = self.shared();
        let (allocations, allocated_bytes) = lock(&shared.heap).live();
        let (pinned_allocations, pinned_bytes) = pinned::held_by(shared.id);
        let mut findings = lock(&shared.findings).clone();
        findings.extend(shared.races());
        Report {
            allocations,
            allocated_bytes,
            pinned_allocations,
            pinned_bytes,
            registered: pinned::registered_by(shared.id),
            streams: lock(&shared.streams).values().count(),
            events: lock(&shared.events).values().count(),
            pools: lock(&shared.heap).pools(),
            sticky: shared.health.sticky(),
            findings,
        }
    }

    /// Ok as long as the race detector has found no race; otherwise all of them in words, a line
    /// each.
    ///
    /// Always ok with [`Options::race_detector`] off. Like [`report`](Gpu::report) it is no driver
    /// call. For the end of a test: `device.device().check().unwrap()`.
    ///
    /// # Errors
    /// The races: which two operations conflict, where, and what order is missing.
    #[inline]
    pub fn check(&self) -> Result<(), String> {
        let races = self.shared().races();
        if races.is_empty() { Ok(()) } else { Err(races.join("\n")) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// What every driver call goes through: fault injection, the checks, the body. Bodies make no
    /// calls themselves.
    pub(super) fn call<R>(&self, call: Call, body: impl FnOnce(&Arc<Shared>) -> Result<R, Code>) -> Result<R, Code> {
        self.call_or(call, None, body)
    }

    /// As [`call`](Gpu::call), for a call that can pretend to have been made: then it answers
    /// `pretended`.
    pub(super) fn call_or<R>(
        &self,
        call: Call,
        pretended: Option<R>,
        body: impl FnOnce(&Arc<Shared>) -> Result<R, Code>,
    ) -> Result<R, Code> {
        let shared = self.shared();
        let verdict = shared.faults.pass(call)?;
        if shared.is_mine() {
            return Err(Code::NOT_PERMITTED);
        }
        shared.running()?;
        match pretended {
            Some(answer) if verdict == Verdict::Pretended => Ok(answer),
            _ => body(shared),
        }
    }
}

impl fmt::Debug for Gpu {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { id, options, .. } = &**self.shared();
        f.debug_struct("Gpu").field("id", id).field("options", options).finish_non_exhaustive()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.health.stop();
        let streams: Vec<Arc<Stream>> = lock(&shared.streams).values().map(Arc::clone).collect();
        streams.iter().for_each(|stream| stream.close());
        shared.wake_all();
        streams.iter().for_each(|stream| stream.join());
        shared.unwatch();
        pinned::release(shared.id);
    }
}
