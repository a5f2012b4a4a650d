//! The driver contract of `tidelock`: what its typed layer requires of a device, and what its
//! safety proofs rely on.
//!
//! A backend implements [`Backend`], [`RawDevice`] and [`RawStream`], and [`HostFns`] or [`Launch`]
//! for its kernels. The clauses of the contract are numbered in `doc/driver-contract.md`; some bind
//! the backend, and some bind the typed layer as its caller. A SAFETY comment of the typed layer
//! cites a clause, such as `M3`. A SAFETY comment of a backend says why its driver keeps the
//! clause.
//!
//! | module | what it holds |
//! |---|---|
//! | [`backend`] | families of devices, devices, and what the typed layer keeps for each |
//! | [`stream`] | one stream: memory, copies, events, waits |
//! | [`options`] | the options of a stream |
//! | [`batch`], [`row_gather`] | the operands of one batch |
//! | [`kernel`], [`args`] | kernels and their arguments |
//! | [`pinned`] | the pool of page-locked memory of a family |
//! | [`code`], [`error`], [`alloc_error`] | result codes and errors |

pub mod alloc_error;
pub mod args;
pub mod backend;
pub mod batch;
mod blocks;
pub mod code;
pub mod error;
mod gather_scratch;
pub mod kernel;
pub mod loops;
pub mod options;
pub mod pinned;
mod pool_list;
pub mod row_gather;
mod row_shape;
pub mod stream;
mod strided_copy;
#[doc(hidden)]
pub mod sync;
mod write_only;

pub use self::{
    alloc_error::AllocError,
    args::{
        In, InList, InTable, InTensor, KernelUse, Out, OutList, OutTable, OutTensor, Payload, RawArg, RawArgs, Resolve,
        Room, SameAddress, Slot, Strided, StridedMut, Uninit, Value,
    },
    backend::{Backend, DeviceOf, DeviceState, EventOf, HostAccess, RawDevice, StreamOf},
    batch::CopyBatch,
    code::{Code, DriverError, RefusedCopy},
    error::{Error, OutOfRange, Rejected, Result, Shortage},
    gather_scratch::GatherScratch,
    kernel::{HostFn, HostFns, Launch, MAX_LAUNCH_BYTES},
    loops::{Loop, Loops},
    options::{OpenOptions, Pool},
    pinned::{PinnedPool, PinnedUsage},
    pool_list::PoolList,
    row_gather::{RowGather, RowGathers},
    row_shape::RowShape,
    stream::{Allocation, Operands, RawStream},
    strided_copy::{BlockNumbers, Blocks, StridedCopies, StridedCopy},
    write_only::WriteOnly,
};

/// The alignment of device memory and page-locked memory, in bytes (P2, M2).
pub const ALIGN: usize = 256;

/// A row number as an index.
#[doc(hidden)]
#[inline]
#[must_use]
pub fn widen(row: u32) -> usize {
    const { assert!(usize::BITS >= u32::BITS) };
    usize::try_from(row).unwrap_or(usize::MAX)
}
