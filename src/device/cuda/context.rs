//! Contexts: which one a call without a stream runs in (rule R13).

use core::{ffi::c_void, num::NonZero, ptr::NonNull};

use super::driver::{Answer, Driver, check};
use crate::device::code::{Code, DriverError};

/// A context of the driver, and the driver.
///
/// Invariant: the context lives as long as whoever has this uses it: it is a primary context that was retained and is
/// never released (rule R19), or its owner is kept alive beside this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) driver: &'static Driver,
    raw: NonNull<c_void>,
}

// SAFETY:
// - "Most of the driver's functions may be called from any thread": a context is a handle that belongs to the process, and
//   which one is current is the only state of a thread.
unsafe impl Send for Context {}
// SAFETY:
// - As for `Send`; the handle is never changed.
unsafe impl Sync for Context {}

impl Context {
    /// # Safety
    /// - `raw` is a context, and the invariant of the type holds for it.
    pub(super) unsafe fn new(driver: &'static Driver, raw: NonNull<c_void>) -> Self {
        Context { driver, raw }
    }

    /// The identity of the device: no other live context has this address.
    pub(super) fn address(self) -> usize {
        self.raw.addr().get()
    }

    /// Makes a call that works in the current context, with this one current, and leaves the thread as it was.
    ///
    /// Cost beside the call: one driver call if the context is current already, three otherwise (12 ns and 70 ns on an
    /// H200, 2026-11-21). Restoring is for everybody else who uses the driver on this thread, nested streams included.
    pub(super) fn enter(self, name: &'static str, call: impl FnOnce() -> Answer) -> Result<(), DriverError> {
        let table = &self.driver.table;
        let mut before = core::ptr::null_mut();
        // SAFETY:
        // - `before` is valid for a write.
        check("cuCtxGetCurrent", unsafe { (table.ctx_get_current)(&mut before) })?;
        if before == self.raw.as_ptr() {
            return check(name, call());
        }
        // SAFETY:
        // - The context is alive by the invariant of the type.
        check("cuCtxSetCurrent", unsafe { (table.ctx_set_current)(self.raw.as_ptr()) })?;
        let answer = call();
        // SAFETY:
        // - `before` was current a moment ago, or is null: "If ctx is NULL, this unbinds" (CUDA driver manual 13.0). A
        //   failure would leave this context current, which harms nobody here: every call enters its own.
        let _ = unsafe { (table.ctx_set_current)(before) };
        check(name, answer)
    }

    /// Makes a call on a stream or an event of this context, whatever context is current.
    ///
    /// The stream names the context, and the call needs no current one (seen with driver 580 for every call on a stream);
    /// if a driver asks for it nevertheless, nothing has been enqueued, and the call is made again inside the context.
    #[inline]
    pub(super) fn on_stream(self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        match call() {
            0 => Ok(()),
            answer => self.refused(name, Code(answer), call),
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(self, name: &'static str, code: Code, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        if code == Code::INVALID_CONTEXT { self.enter(name, call) } else { Err(DriverError::new(name, code)) }
    }
}

/// A handle or address that the driver wrote; it never succeeds with null.
#[inline]
pub(super) fn given<T>(name: &'static str, ptr: *mut T) -> Result<NonNull<T>, DriverError> {
    NonNull::new(ptr).ok_or(DriverError::new(name, Code::UNKNOWN))
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
impl Eq for Context {}

static_assertions::assert_eq_size!(Context, [NonZero<usize>; 2]);
