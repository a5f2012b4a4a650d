//! Whether a device works, is broken, or is at its end.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tidelock_driver::code::Code;

#[derive(Debug)]
pub(super) struct Health {
    /// The code the device is broken with, 0 while it is not.
    sticky: AtomicU32,
    stopping: AtomicBool,
}

impl Health {
    pub(super) const fn new() -> Self {
        Health { sticky: AtomicU32::new(0), stopping: AtomicBool::new(false) }
    }

    /// The code the device is broken with.
    pub(super) fn sticky(&self) -> Option<Code> {
        Some(self.sticky.load(Ordering::SeqCst)).filter(|code| *code != 0).map(Code)
    }

    /// Ok while the device is neither broken nor at its end.
    pub(super) fn running(&self) -> Result<(), Code> {
        if let Some(code) = self.sticky() {
            return Err(code);
        }
        if self.stopping.load(Ordering::SeqCst) { Err(Code::DEINITIALIZED) } else { Ok(()) }
    }

    /// Breaks the device, with a sticky code; `false` if it was broken before, and then the first
    /// code stays.
    pub(super) fn break_with(&self, code: Code) -> bool {
        // A task may answer with any code, 0 too. One that says that the device is usable would be
        // wrong.
        let code = if code.is_sticky() { code } else { Code::LAUNCH_FAILED };
        self.sticky.compare_exchange(0, code.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The device is being dropped.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}
