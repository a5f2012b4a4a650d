//! The memory core of an LLM inference engine: stream-ordered memory whose misuse does not compile.
#![warn(
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    rust_2018_idioms,
    variant_size_differences,
    rustdoc::all
)]
#![warn(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::missing_safety_doc,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::get_unwrap,
    clippy::missing_inline_in_public_items,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::std_instead_of_core,
    clippy::todo,
    clippy::dbg_macro,
    clippy::print_stdout,
    clippy::print_stderr
)]
#![allow(
    clippy::type_complexity,
    reason = "a pair of views, or a rejected pair of buffers, is best read as what it is"
)]
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

mod alloc;
mod batch;
mod buffer;
mod device;
mod element;
mod error;
mod location;
mod state;
mod stream;

pub use crate::{
    alloc::{
        Alignment, AllocError, AllocOf, Allocator, ClosureAlloc, HasAlloc, HostAlloc, NoDeviceAlloc, PinnedAlloc,
        PinnedPool, PoolUsage, Stack, StackUsage, StagedAlloc, StreamAlloc, SyncAlloc,
    },
    batch::{Batch, BatchCopy, BatchStats, Group},
    buffer::{Buffer, ChunksExact, ChunksExactMut, Dst, Indices, Offsets, Owner, Ragged, Rows, RowsMut, View, ViewMut},
    device::{
        Backend,
        code::{Code, DriverError},
        sim::{self, Sim},
    },
    element::Element,
    error::{Error, OutOfRange, Rejected, Result},
    location::{
        BatchSource, DeviceLocation, Host, HostAccessible, KernelAccessible, Lent, Location, OnBackend, OnStream,
        Pinned, Staged,
    },
    state::{Permutation, State},
    stream::{Ctx, Detached, Env, Fenceable, Frozen, HostScope, Pending, Pool, Stream, StreamOptions, Synced},
};
