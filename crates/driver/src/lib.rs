//! What the memory core of `tidelock` asks of a device: the status codes, and the contract of a backend.

#![forbid(unsafe_code)]

pub mod code;
#[doc(hidden)]
pub mod sync;
