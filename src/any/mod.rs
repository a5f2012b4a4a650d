//! Tensors whose element, rank or name is a value: what comes out of files, maps and other
//! programs.
//!
//! An [`AnyView`] borrows and an [`AnyTensor`] owns elements of a type that is known when the
//! program runs. `downcast` makes typed tensors of them again. It compares types: a
//! [`DType`](crate::DType) is a name, which no proof relies on. An [`AnyState`] is the state of a
//! continuous batch of such elements. A [`TensorMap`] holds tensors by name, and
//! [`dispatch!`](crate::dispatch) chooses the type of a function by a `DType`.
//!
//! ```
//! use tidelock::{DType, Result, any::AnyTensor, half::{bf16, f16}, sim};
//!
//! sim::Device::default().stream(|stream, _env| -> Result<()> {
//!     let ctx = stream.ctx().with_pool();
//!     let dtype: DType = "bf16".parse().expect("a name");
//!     let logits: AnyTensor<_> = ctx.zeros_any(dtype, &[2, 8])?;
//!     let size = tidelock::dispatch!(dtype, T in [bf16, f16] => {
//!         logits.view().downcast::<T, 2>()?.size() * size_of::<T>()
//!     })?;
//!     assert_eq!((size, logits.view().to_string()), (32, "bf16 (2,8):(8,1)".into()));
//!     Ok(())
//! })??;
//! # Ok::<(), tidelock::Error>(())
//! ```

#![allow(clippy::result_large_err, reason = "at the edges of a program, a refused tensor comes back")]

mod dispatch;
mod element_type;
mod map;
#[cfg(feature = "serde")]
mod serde;
mod shared;
mod state;
mod tensor;
mod value;
mod view;

#[cfg(feature = "safetensors")]
pub(crate) use self::map::Names;
pub use self::{
    map::{MapError, TensorMap},
    shared::AnyShared,
    state::AnyState,
    tensor::AnyTensor,
    value::{MapPlace, ToValue, Value},
    view::AnyView,
};
