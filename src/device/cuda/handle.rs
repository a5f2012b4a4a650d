//! A handle of the driver that is not null.

use core::{ffi::c_void, ptr::NonNull};

/// A `CUcontext`, `CUstream`, `CUevent`, `CUmemoryPool`, `CUmodule` or `CUfunction`: an opaque
/// pointer, which says nothing about whether the object is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DriverObject(pub(super) NonNull<c_void>);

// SAFETY:
// - The driver's objects belong to the process or to a context, not to a thread: a call takes the
//   handle on any thread.
unsafe impl Send for DriverObject {}
// SAFETY:
// - As for `Send`; nothing is read or written through the handle itself, which is never changed.
unsafe impl Sync for DriverObject {}

impl DriverObject {
    /// The handle as the driver's functions take it.
    #[inline]
    pub(super) const fn raw(self) -> *mut c_void {
        self.0.as_ptr()
    }
}
