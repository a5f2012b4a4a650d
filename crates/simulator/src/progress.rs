//! How far a stream has come, and waiting for it.

#![forbid(unsafe_code)]

use core::{
    hint,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{health::Health, lock};
use tidelock_driver::code::Code;

use crate::sync::{self, Condvar, Mutex};

/// Spins before a waiter parks: two to four microseconds, about what parking and waking cost.
pub(super) const SPINS: u32 = 64;

/// How many operations of a stream are done. Operations carry tickets 1, 2, 3 and so on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    done: AtomicU64,
    /// The lowest ticket that a parked waiter waits for, `u64::MAX` if there is none. Written under
    /// `parked`.
    ///
    /// A waiter writes it and then reads `done`, the stream writes `done` and then reads it, all
    /// sequentially consistent: at least one of the two sees the other.
    wake_at: AtomicU64,
    parked: Mutex<()>,
    changed: Condvar,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress { wake_at: AtomicU64::new(u64::MAX), ..Progress::default() }
    }

    pub(super) fn has_reached(&self, ticket: u64) -> bool {
        self.done.load(Ordering::SeqCst) >= ticket
    }

    /// Marks the operation `ticket` done.
    pub(super) fn reach(&self, ticket: u64) {
        self.done.store(ticket, Ordering::SeqCst);
        if self.wake_at.load(Ordering::SeqCst) <= ticket {
            self.wake();
        }
    }

    /// Makes every waiter look again.
    pub(super) fn wake(&self) {
        let _parked = lock(&self.parked);
        self.wake_at.store(u64::MAX, Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Holds the calling thread until operation `ticket` is done.
    ///
    /// # Errors
    /// At once if the device is or becomes broken, or the device is being dropped.
    pub(super) fn wait(&self, ticket: u64, health: &Health) -> Result<(), Code> {
        for _ in 0..SPINS {
            if self.has_reached(ticket) {
                return Ok(());
            }
            hint::spin_loop();
        }
        let mut parked = lock(&self.parked);
        loop {
            self.wake_at.store(ticket.min(self.wake_at.load(Ordering::SeqCst)), Ordering::SeqCst);
            if self.has_reached(ticket) {
                return Ok(());
            }
            health.running()?;
            parked = sync::wait(&self.changed, parked);
        }
    }
}
