//! The driver contract of `tidelock`: what its typed layer asks of a device, and what its proofs
//! may rely on.
//!
//! A backend implements [`Backend`], [`RawDevice`] and [`RawStream`], and [`HostFns`] or [`Launch`]
//! for its kernels. The clauses that it promises, and those that the typed layer promises it, are
//! numbered in `doc/driver-contract.md`: a SAFETY comment above this crate cites a clause (`M3`), a
//! SAFETY comment of a backend says why its driver keeps it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`backend`] | families of devices, devices, and what the typed layer keeps for each |
//! | [`stream`] | one stream: memory, copies, events, waits |
//! | [`batch`], [`row_gather`] | the operands of one batch |
//! | [`kernel`], [`args`] | kernels and their arguments |
//! | [`pinned`] | the pool of page-locked memory of a family |
//! | [`code`], [`error`] | what a call answers |

pub mod alloc_error;
pub mod args;
pub mod backend;
pub mod batch;
mod blocks;
pub mod code;
pub mod error;
mod gather_scratch;
pub mod kernel;
pub mod options;
pub mod pinned;
mod pool_list;
pub mod row_gather;
mod row_shape;
mod spare_events;
pub mod stream;
#[doc(hidden)]
pub mod sync;

pub use self::{
    alloc_error::AllocError,
    args::{In, KernelUse, Out, RawArg, RawArgs, Resolve, SameAddress, Value},
    backend::{Backend, DeviceOf, DeviceState, EventOf, HostAccess, RawDevice, StreamOf},
    batch::CopyBatch,
    code::{Code, DriverError, RefusedCopy},
    error::{Error, OutOfRange, Rejected, Result, Shortage},
    gather_scratch::GatherScratch,
    kernel::{HostFn, HostFns, Launch, MAX_LAUNCH_BYTES},
    options::{OpenOptions, Pool},
    pinned::{PinnedPool, PinnedUsage},
    pool_list::PoolList,
    row_gather::{RowGather, RowGathers},
    row_shape::RowShape,
    spare_events::SpareEvents,
    stream::{Allocation, Operands, RawStream},
};

/// Device memory and page-locked memory is aligned to this many bytes at least (P2, M2).
pub const ALIGN: usize = 256;

/// A row number as an index.
#[doc(hidden)]
#[inline]
#[must_use]
pub fn widen(row: u32) -> usize {
    const { assert!(usize::BITS >= u32::BITS) };
    usize::try_from(row).unwrap_or(usize::MAX)
}
