//! Tensors: memory, and a [`Layout`](crate::Layout) that says where its elements lie.
//!
//! A [`Tensor`] owns a row-major buffer. A [`TensorView`] borrows elements of any layout, and a
//! [`TensorMut`] borrows them exclusively: it owns the elements that it names, not what lies
//! between them, so that two halves of the columns of one matrix are used at once.
//!
//! ```
//! use tidelock::{Buffer, location::Host};
//!
//! let qkv = Buffer::<u32, Host>::from_fn(2 * 6, |i| i as u32)?;
//! let mut qkv = qkv.tensor([2, 6])?;
//! let (q, kv) = qkv.view_mut().split_at(1, 2)?;
//! let (k, mut v) = kv.split_at(1, 2)?;
//! assert!(q.as_view().iter().eq(&[0, 1, 6, 7]));
//! v.set([1, 0], 100)?;
//! assert_eq!((k.layout().to_string(), qkv.view().get([1, 4])), ("(2,2):(6,1)".into(), Ok(&100)));
//! # Ok::<(), tidelock::Error>(())
//! ```

mod dst;
mod host;
mod output;
mod owned;
mod parts;
mod view;

pub use self::{
    dst::{Parts, TensorDst},
    host::TensorIter,
    output::OutputTensor,
    owned::Tensor,
    view::{TensorMut, TensorView},
};
