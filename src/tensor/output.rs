//! Outputs with a layout.

use core::{fmt, mem::MaybeUninit};

use super::TensorMut;
use crate::{
    buffer::{Counter, Output, OutputRows, output::ChangesThreads},
    error::Result,
    layout::Layout,
    location::Location,
};

/// Elements to write of memory that [`Ctx::init_with`](crate::Ctx::init_with) initialises, of any
/// layout of rank `R` that names none twice.
///
/// [`Output::tensor`] makes one, and `init_with` passes one for a fresh tensor. It is a destination
/// of `copy_tensor`, in a context and in a batch, which writes all of it; an [`Output`] is one for
/// all of its elements, row by row. Like an `Output` it is written once, and cannot be read, copied
/// or reborrowed. Its parts are written each on their own.
///
/// ```
/// use tidelock::{Result, sim};
///
/// sim::Device::default().stream(|mut stream, _env| -> Result<()> {
///     let ctx = stream.ctx().with_pool();
///     let q = ctx.upload_new(&[1, 2, 3, 4])?.tensor([2, 2])?;
///     let kv = ctx.upload_new(&[5, 6])?.tensor([1, 2])?;
///     let (qkv, ()) = ctx.init_with(ctx.alloc::<i32>(6)?.tensor([2, 3])?, |out| {
///         let (left, right) = out.split_at(1, 2)?;
///         ctx.copy_tensor(q.view(), left)?;
///         ctx.copy_tensor(kv.view().transpose(0, 1)?, right)
///     })?;
///     assert_eq!(stream.read(qkv.buffer().view())?, [1, 2, 5, 3, 4, 6]);
///     Ok(())
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
#[must_use = "the memory is initialised once all of it is written"]
pub struct OutputTensor<'o, T, D, const R: usize> {
    /// Invariant: part of the memory that `counter` counts, disjoint from all other outputs.
    tensor: TensorMut<'o, MaybeUninit<T>, D, R>,
    counter: &'o Counter,
}

impl<'o, T, D> Output<'o, T, D> {
    /// The output as a row-major tensor. One extent may be [`REST`](crate::layout::REST).
    ///
    /// # Errors
    /// As for [`ViewMut::tensor`](crate::ViewMut::tensor). The elements count as not written then.
    #[inline]
    pub fn tensor<const R: usize>(self, shape: [usize; R]) -> Result<OutputTensor<'o, T, D, R>> {
        let (view, counter) = self.into_raw();
        Ok(OutputTensor { tensor: view.tensor(shape)?, counter })
    }
}

impl<'o, T, D, const R: usize> OutputTensor<'o, T, D, R> {
    /// The elements of `tensor`, which `counter` counts.
    ///
    /// The caller makes one for the memory of a counter.
    #[inline]
    pub(crate) const fn new(tensor: TensorMut<'o, MaybeUninit<T>, D, R>, counter: &'o Counter) -> Self {
        OutputTensor { tensor, counter }
    }

    /// The elements, and what counts them.
    #[inline]
    pub(super) fn into_raw(self) -> (TensorMut<'o, MaybeUninit<T>, D, R>, &'o Counter) {
        (self.tensor, self.counter)
    }

    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub const fn shape(&self) -> [usize; R] {
        self.tensor.shape()
    }

    /// The layout.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> Layout<R> {
        self.tensor.layout()
    }

    /// How many elements there are.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.tensor.size()
    }

    /// As [`TensorMut::split_at`].
    ///
    /// # Errors
    /// As for [`TensorMut::split_at`]. The elements count as not written then.
    #[inline]
    pub fn split_at(self, axis: usize, mid: usize) -> Result<(Self, Self)> {
        let OutputTensor { tensor, counter } = self;
        let (low, high) = tensor.split_at(axis, mid)?;
        Ok((OutputTensor { tensor: low, counter }, OutputTensor { tensor: high, counter }))
    }

    /// As [`TensorMut::permute`].
    ///
    /// # Errors
    /// As for [`TensorMut::permute`]. The elements count as not written then.
    #[inline]
    pub fn permute(self, axes: [usize; R]) -> Result<Self> {
        Ok(OutputTensor { tensor: self.tensor.permute(axes)?, counter: self.counter })
    }

    /// As [`TensorMut::transpose`].
    ///
    /// # Errors
    /// As for [`TensorMut::transpose`]. The elements count as not written then.
    #[inline]
    pub fn transpose(self, one: usize, other: usize) -> Result<Self> {
        Ok(OutputTensor { tensor: self.tensor.transpose(one, other)?, counter: self.counter })
    }

    /// As [`TensorMut::view`].
    ///
    /// # Errors
    /// As for [`TensorMut::view`]. The elements count as not written then.
    #[inline]
    pub fn view<const Q: usize>(self, shape: [usize; Q]) -> Result<OutputTensor<'o, T, D, Q>> {
        Ok(OutputTensor { tensor: self.tensor.view(shape)?, counter: self.counter })
    }

    /// As [`TensorMut::contiguous`], for kernels, uploads and fills.
    ///
    /// # Errors
    /// As for [`TensorMut::contiguous`]. The elements count as not written then.
    #[inline]
    pub fn contiguous(self) -> Result<Output<'o, T, D>> {
        Ok(Output::new(self.tensor.contiguous()?, self.counter))
    }
}

impl<'o, T, D: Location, const R: usize> OutputTensor<'o, T, D, R> {
    /// As [`TensorMut::rows`], for Warps.
    ///
    /// # Errors
    /// As for [`TensorMut::rows`]. The elements count as not written then.
    #[inline]
    pub fn rows(self) -> Result<OutputRows<'o, T, D>> {
        Ok(OutputRows::new(self.tensor.rows()?, self.counter))
    }
}

// SAFETY:
// - No output is in memory of any thread, so that this applies to no type.
unsafe impl<T, D: ChangesThreads, const R: usize> Send for OutputTensor<'_, T, D, R> {}
// SAFETY:
// - As above.
unsafe impl<T, D: ChangesThreads, const R: usize> Sync for OutputTensor<'_, T, D, R> {}

impl<T, D: Location, const R: usize> fmt::Debug for OutputTensor<'_, T, D, R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputTensor").field("tensor", &self.tensor).finish()
    }
}

static_assertions::assert_eq_size!(OutputTensor<'static, u32, crate::location::Host, 2>, [usize; 6]);
static_assertions::assert_not_impl_any!(OutputTensor<'static, u32, crate::location::Host, 2>: Clone);
