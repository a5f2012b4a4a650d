//! The simulated GPU: a CUDA driver in miniature, called through handles and answering with its
//! codes.
//!
//! It accepts and refuses what the driver does. Where the driver may do one of two things, it does
//! the worse one: operations run late, pageable memory included; synchronous frees do not wait;
//! freed memory is reused at once by the stream that freed it, and poisoned. It stays memory-safe
//! in whatever order calls are made: an operation holds the memory it works on, and work on memory
//! that is not there breaks the device instead.
//!
//! Each call is counted, logged if the log is on, fails if a fault is injected or the device is
//! broken, and only then does anything. With [`Options::race_detector`] on, the call then reports
//! its accesses to the race detector, which finds conflicting accesses that nothing orders.
//!
//! The crate has no types that say who may touch which memory when. `tidelock` adds those, and
//! re-exports what a program needs of this crate as `tidelock::sim`.
#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test may fail loudly"
    )
)]

mod block;
mod call;
mod calls_memory;
mod calls_pointer;
mod calls_stream;
mod event;
mod failure;
mod fault_injection;
mod gpu;
mod health;
mod heap;
mod host_reports;
mod op;
mod options;
mod orphans;
mod pinned;
mod pool;
mod progress;
mod race_detector;
mod reclaim;
mod report;
mod rng;
mod sabotage;
mod shared;
mod slots;
mod stream;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod transfer;
mod uses;
mod window;

use tidelock_driver::sync::{self, lock};

use self::shared::Shared;
pub use self::{
    call::{Call, Counts},
    fault_injection::Fault,
    gpu::Gpu,
    host_reports::host_touches,
    options::{Delay, Options},
    pinned::{pin, pinned_counts, unpin, with_pinned_faults},
    pool::PoolUsage,
    race_detector::is_watching,
    report::{Report, Traffic},
    sabotage::Sabotage,
    slots::{EventId, PoolId, StreamId},
    task::{Memory, Task},
    uses::Use,
};
