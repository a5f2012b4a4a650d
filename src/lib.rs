//! The memory core of an LLM inference engine: stream-ordered memory whose misuse does not compile.
//!
//! GPU copies and frees take effect after the call returns. Memory must stay allocated and unshared
//! until then. In this crate types enforce that, at no cost in instructions or events:
//!
//! - A [`Buffer<T, D, A>`](Buffer) owns memory of element `T` in location `D` from allocator `A`.
//!   Locations are [`Host`](location::Host), [`Pinned`](location::Pinned),
//!   [`Staged`](stream::Staged), [`Lent`](stream::Lent), and the memory of one stream,
//!   [`Sim<'s>`](sim::Sim).
//! - A [`Stream`] is the unique capability to wait. A [`Ctx`] is the shared capability to enqueue
//!   and allocate, and is passed explicitly. A wait returns a [`Synced`], which proves that the
//!   host may access the stream's memory.
//! - A [`Stack`] is an arena for one iteration of the engine. [`BatchCopy`] submits many copies at
//!   once. [`State`], [`Permutation`], and `warp` and `append` of [`Group`](batch::Group) re-pack a
//!   continuous batch.
//! - [`sim`] is a simulated device, for tests and for machines without a GPU. [`driver`] is the
//!   contract that a backend implements.
//!
//! # A program
//!
//! ```
//! use tidelock::{DeviceLocation, Result, sim};
//!
//! /// Engine code names no device: `L` is the memory of whichever stream it is called with.
//! fn roundtrip<L: DeviceLocation>(stream: &mut tidelock::Stream<L>) -> Result<Vec<f32>> {
//!     let ctx = stream.ctx().with_pool();
//!     let mut x = ctx.zeros::<f32>(4)?;
//!     ctx.upload(&[1.0, 2.0, 3.0, 4.0], x.view_mut())?;
//!     stream.read(x.view()) // the only wait
//! }
//!
//! let values = sim::Device::default().stream(|mut stream, _env| roundtrip(&mut stream))??;
//! assert_eq!(values, [1.0, 2.0, 3.0, 4.0]);
//! # Ok::<(), tidelock::Error>(())
//! ```
//!
//! # Three routes of host memory into asynchronous copies
//!
//! 1. By value: [`pinned.stage(&ctx)`](Buffer::stage) moves a pinned buffer to the stream.
//!    [`reclaim`](Buffer::reclaim) or [`Ctx::fence`] return it, and [`peek`](Buffer::peek) reads it
//!    in place.
//!    What `fence` returns can be waited for, awaited, and taken off the stream
//!    ([`Arriving`](stream::Arriving)).
//! 2. For a scope: [`Stream::host_scope`] lends slices, and waits for the stream at its end.
//! 3. During the call: [`Ctx::upload`] reads a plain slice before it returns.
//!
//! # When it does not compile
//!
//! Most messages say what to do next. Those about lifetimes cannot, and have a page:
//! [`lifetime_errors`].
//!
//! # What can fail
//!
//! Every call that can fail returns an [`Error`], which is small and `Copy`, and formats without a
//! driver call. A failed call that took a value returns it in [`Rejected`](error::Rejected). The
//! library does not panic. It aborts the process where the device may use borrowed host memory and
//! cannot be waited for, in three places:
//!
//! - at the end of [`Stream::host_scope`], if slices were lent in it;
//! - at the end of a stream ([`sim::Device::stream`], `cuda::Device::stream`), if slices were lent
//!   through [`Env`](stream::Env);
//! - in [`BatchCopy::scope`] on a CUDA stream, if the copies are enqueued one by one and one out of
//!   plain host memory is enqueued already.
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
    not(any(feature = "sim", feature = "cuda-core")),
    allow(dead_code, unused_imports, reason = "without a device nothing opens a stream")
)]
#![cfg_attr(
    not(feature = "sim"),
    allow(rustdoc::broken_intra_doc_links, reason = "the documentation explains many things by the simulated device")
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

pub mod alloc;
pub mod any;
pub mod batch;
pub mod buffer;
mod device;
#[cfg(feature = "dlpack")]
pub mod dlpack;
pub mod element;
#[cfg(feature = "safetensors")]
pub mod file;
pub mod layout;
#[doc = include_str!("../doc/lifetime-errors.md")]
pub mod lifetime_errors {}
pub mod location;
pub mod state;
pub mod stream;
pub mod tensor;

/// The driver contract: what the library requires of a device, for the author of a backend.
pub use tidelock_driver as driver;
#[doc(inline)]
pub use tidelock_driver::error;
use tidelock_driver::sync;

#[cfg(feature = "cuda-core")]
pub use crate::device::cuda;
#[cfg(feature = "sim")]
pub use crate::device::sim;
#[doc(inline)]
pub use crate::{
    alloc::Stack,
    batch::BatchCopy,
    buffer::{Buffer, View, ViewMut},
    device::Device,
    element::{DType, Element, PlainBytes, Scalar},
    error::{Error, Result},
    layout::{AnyLayout, Layout},
    state::{Permutation, State},
    stream::{Ctx, DeviceLocation, Stream, Synced},
    tensor::{Tensor, TensorMut, TensorView},
};
/// The traits of plain data and the half-precision floats, in the versions whose types are
/// [`Element`]s.
pub use {bytemuck, half};

/// The examples of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
