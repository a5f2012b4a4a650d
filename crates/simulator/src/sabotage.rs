//! Breaking the rules on purpose: what a test of the race detector takes away.

use core::sync::atomic::Ordering;

use super::{call::Call, gpu::Gpu, lock};

/// A rule of the device's own that it can be made to break, for tests of the race detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sabotage {
    /// Pools hand out memory to any stream as soon as its free was enqueued on another.
    ReuseUnordered,
    /// Batches read the sources that they shall read during the call in stream order.
    ReadLate,
}

impl Gpu {
    /// Makes the nth `call` from now on, and all later ones if `onwards`, answer success and do
    /// nothing, instead of what was said before: a test removes a wait from a program, and looks
    /// whether the race detector misses it.
    ///
    /// Queries answer yes. Calls that have something to return, allocations among them, are made
    /// all the same.
    ///
    /// # Safety
    /// - Whatever relies on the call, memory safety included, is the caller's to answer for: this
    ///   is for programs whose races the race detector is to find.
    #[inline]
    pub unsafe fn pretend(&self, nth: u64, onwards: bool, call: Call) {
        self.shared().faults.pretend(nth, onwards, call);
    }

    /// Makes the device break one of its own rules from now on, for tests of the race detector.
    ///
    /// # Safety
    /// - As for [`pretend`](Gpu::pretend).
    #[inline]
    pub unsafe fn sabotage(&self, sabotage: Sabotage) {
        let shared = self.shared();
        match sabotage {
            Sabotage::ReuseUnordered => lock(&shared.heap).reuse_unordered(),
            Sabotage::ReadLate => shared.reads_late.store(true, Ordering::Release),
        }
    }

    /// Makes no more calls fail.
    #[inline]
    pub fn disarm(&self) {
        self.shared().faults.disarm();
    }
}
