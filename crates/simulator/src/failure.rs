//! Why an operation failed.

#![forbid(unsafe_code)]

use tidelock_driver::code::Code;

/// Why an operation failed; the device is broken from then on.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) words: String,
}
