//! Contexts, and the one in which a call without a stream runs (rule R13).

use core::{ffi::c_void, ptr::NonNull};

use tidelock_driver::{Code, DriverError};

use super::{
    driver::{Answer, Driver, check},
    handle::DriverObject,
};

/// A context of the driver, and the driver.
///
/// Invariant: the context lives as long as this value is used. It is a primary context that was
/// retained and is never released (rule R19), or its owner is kept alive beside this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) driver: &'static Driver,
    raw: DriverObject,
}

impl Context {
    /// # Safety
    /// - `raw` is a context, and the invariant of the type holds for it.
    pub(super) unsafe fn new(driver: &'static Driver, raw: NonNull<c_void>) -> Self {
        Context { driver, raw: DriverObject(raw) }
    }

    /// The identity of the device: no other live context has this address.
    pub(super) fn address(self) -> usize {
        self.raw.raw().addr()
    }

    /// Makes this context current on the calling thread if none is; returns whether it did.
    ///
    /// A call on a stream names its context by the stream, except as [`copying`](Context::copying)
    /// says: a batch needs any current context. A stream therefore makes one current for as long as
    /// a thread has entered it, if there is none. If the driver refuses, a batch costs more calls.
    pub(super) fn settle_on_thread(self) -> bool {
        if self.current() != Ok(core::ptr::null_mut()) {
            return false;
        }
        // SAFETY:
        // - The context is alive by the invariant of the type.
        let answer = unsafe { (self.driver.table.ctx_set_current)(self.raw.raw()) };
        check("cuCtxSetCurrent", answer).is_ok()
    }

    /// Leaves the calling thread without a current context, as it was before `settle_on_thread`,
    /// unless another context has been made current meanwhile.
    pub(super) fn leave_thread(self) {
        if self.current() != Ok(self.raw.raw()) {
            return;
        }
        // SAFETY:
        // - "If ctx is NULL then the CUDA context previously bound to the calling CPU thread is
        //   unbound" (CUDA driver manual 13.0, cuCtxSetCurrent).
        // Errors are ignored: one leaves a context current, which does no harm.
        let _ = unsafe { (self.driver.table.ctx_set_current)(core::ptr::null_mut()) };
    }

    /// Makes a call that works in the current context, with this one current, and leaves the thread
    /// as it was.
    ///
    /// Cost beside the call: one driver call if the context is current already, three otherwise (12
    /// ns and 70 ns on an H200, 2026-11-21). The thread's context is restored for other users of
    /// the driver on this thread, nested streams included.
    pub(super) fn enter(self, name: &'static str, call: impl FnOnce() -> Answer) -> Result<(), DriverError> {
        let before = self.current()?;
        if before == self.raw.raw() { check(name, call()) } else { self.visit(before, name, call) }
    }

    /// The context that is current on the calling thread, or null.
    fn current(self) -> Result<*mut c_void, DriverError> {
        let mut current = core::ptr::null_mut();
        // SAFETY:
        // - `current` is valid for a write.
        check("cuCtxGetCurrent", unsafe { (self.driver.table.ctx_get_current)(&mut current) })?;
        Ok(current)
    }

    /// Makes a call with this context current, and then `before` again.
    fn visit(self, before: *mut c_void, name: &'static str, call: impl FnOnce() -> Answer) -> Result<(), DriverError> {
        let table = &self.driver.table;
        // SAFETY:
        // - The context is alive by the invariant of the type.
        check("cuCtxSetCurrent", unsafe { (table.ctx_set_current)(self.raw.raw()) })?;
        let answer = call();
        // SAFETY:
        // - `before` was current a moment ago, or is null: "If ctx is NULL then the CUDA context
        //   previously bound to the calling CPU thread is unbound" (CUDA driver manual 13.0).
        //   Errors are ignored: one leaves this context current, and every call here enters its
        //   own.
        let _ = unsafe { (table.ctx_set_current)(before) };
        check(name, answer)
    }

    /// Makes a call on a stream or an event of this context, whatever context is current.
    ///
    /// The stream names the context, and the call needs no current one (measured with driver 580
    /// for every call on a stream except the batch). If a driver refuses the call for lack of one,
    /// nothing has been enqueued, and the call is repeated inside the context.
    #[inline]
    pub(super) fn on_stream(self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        match call() {
            0 => Ok(()),
            answer => self.refused(name, Code(answer), call),
        }
    }

    /// Makes a call that copies on a stream of this context, one copy or many.
    ///
    /// Beside the case of [`on_stream`](Context::on_stream), the call is repeated inside this
    /// context after `INVALID_VALUE` while another context is current. `cuMemcpyAsync` gives this
    /// answer for memory of a pool while the context of another device is current, but not while
    /// none is; `cuMemcpyBatchAsync` gives it while none is current, but not while any is (two
    /// H200, driver 580.159.04, 2026-11-21). Making the same copies twice does no harm.
    #[inline]
    pub(super) fn copying(self, name: &'static str, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        match call() {
            0 => Ok(()),
            answer => self.copy_refused(name, Code(answer), call),
        }
    }

    #[cold]
    #[inline(never)]
    fn copy_refused(self, name: &'static str, code: Code, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        match self.current() {
            Ok(current) if code == Code::INVALID_VALUE && current != self.raw.raw() => self.visit(current, name, call),
            _ => self.refused(name, code, call),
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(self, name: &'static str, code: Code, call: impl Fn() -> Answer) -> Result<(), DriverError> {
        if code == Code::INVALID_CONTEXT { self.enter(name, call) } else { Err(DriverError::new(name, code)) }
    }
}

/// A handle or address that the driver wrote. Null after a success is an error.
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
