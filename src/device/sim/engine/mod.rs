//! The engine of the simulated device: a CUDA driver in miniature, called through handles and answering with its codes.
//!
//! It accepts and refuses what the driver does, and where the driver may do one of two things it does the worse:
//! operations run late, pageable memory included; synchronous frees do not wait; freed memory is reused at once by the
//! stream that freed it, and poisoned. It stays memory-safe whatever order it is driven in: an operation holds the memory
//! it works on, and work on memory that is not there breaks the device instead.
//!
//! Each call is counted, logged if asked for, then passes the fault gate, then the check for a broken device, and only
//! then does anything. With [`Options::oracle`](super::Options::oracle) on, what it did is then told to the oracle, which
//! reports conflicting accesses that nothing orders.

mod block;
mod call;
mod calls_memory;
mod calls_pointer;
mod calls_stream;
mod clock;
mod driver;
mod gate;
mod heap;
mod op;
mod oracle;
mod orphans;
mod pinned;
mod pool;
mod progress;
mod race;
mod report;
mod rng;
mod sabotage;
mod shadow;
mod slots;
mod stream;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod threads;
mod transfer;
mod window;
mod world;

use self::driver::Shared;
pub(in crate::device::sim) use self::{
    block::PLACED,
    oracle::{host_touches, is_watching},
    pinned::{pin, unpin},
    window::is_device,
};
pub use self::{
    call::{Call, Counts},
    driver::Engine,
    gate::Fault,
    oracle::Use,
    pinned::{pinned_counts, with_pinned_faults},
    pool::PoolUsage,
    report::{Report, Traffic},
    sabotage::Sabotage,
    slots::{EventId, PoolId, StreamId},
    task::{Memory, Task},
};
use crate::sync::lock;
