//! Host memory of the program that is page-locked for a scope.

use core::ptr::NonNull;

/// The start of host memory that is page-locked until the scope ends.
#[derive(Debug)]
pub(super) struct Registered(pub(super) NonNull<u8>);

// SAFETY:
// - It is an address, which only `unregister` uses. That call takes it on any thread (S1, P7).
unsafe impl Send for Registered {}
