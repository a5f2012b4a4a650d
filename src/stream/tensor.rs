//! Copies of tensors in stream order, and tensors as arguments of kernels.

use core::mem::MaybeUninit;

use tidelock_driver::{CopyBatch, InTensor, OutTensor, StridedCopies, StridedCopy};

use super::{
    Ctx, DeviceLocation, KernelAccessible, OnStream,
    ctx::counted,
    launch::{Arg, sealed::SealedArg},
    lent_tensor::LentCopy,
};
use crate::{
    Element,
    alloc::Allocator,
    error::{Rejected, Result},
    layout::plan,
    tensor::{Parts, Tensor, TensorDst, TensorMut, TensorView},
};

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Copies the elements of `src` to those of `dst` at the same indices, in stream order. Both
    /// may have any layout.
    ///
    /// ```
    /// use tidelock::{Result, sim};
    ///
    /// sim::Device::default().stream(|mut stream, _env| -> Result<()> {
    ///     let ctx = stream.ctx().with_pool();
    ///     let tokens = ctx.upload_new(&[1, 2, 3, 4, 5, 6])?.tensor([3, 2])?;
    ///     let mut heads = ctx.zeros::<i32>(6)?.tensor([2, 3])?;
    ///     ctx.copy_tensor(tokens.view().transpose(0, 1)?, heads.view_mut())?;
    ///     assert_eq!(stream.read(heads.buffer().view())?, [1, 3, 5, 2, 4, 6]);
    ///     Ok(())
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// Cost: one driver call if the elements are one run at both sides, else a batch of the runs.
    /// Lent memory takes part in no batch: a lent source is copied to device memory first, with what
    /// lies between its elements, and a lent destination from device memory, a call for each of its
    /// own runs. Where a call for each run of both is less work, the runs are copied.
    ///
    /// # Errors
    /// [`Error::Extent`](crate::Error::Extent) if the shapes differ, or
    /// [`Error::Length`](crate::Error::Length) if an output has another number of elements. Or the
    /// driver's error: nothing is enqueued then, except that of a lent operand the runs before a
    /// refused one are copied.
    #[inline]
    pub fn copy_tensor<'d, T: Element, S: OnStream<L>, D: OnStream<L>, const R: usize>(
        &self,
        src: TensorView<'_, T, S, R>,
        dst: impl TensorDst<'d, T, D, R>,
    ) -> Result<()> {
        let Parts { ptr, layout, counter } = dst.into_parts(src.shape())?;
        let loops = plan(&src.layout(), &layout, size_of::<T>())?;
        let copy = StridedCopy::new(ptr.cast(), src.as_ptr().cast(), loops);
        let answer = if loops.runs() <= 1 {
            // SAFETY:
            // - C1, C2: the run is elements of `src` and of `dst`, which are valid until the stream
            //   has passed the copy, in one allocation each: the tensors' invariant 1, and that of
            //   an output.
            // - C1 to C3: the elements of `dst` are borrowed exclusively.
            // - C4: conflicting accesses by the host or by other streams are ordered before. The
            //   types of the locations prove it.
            unsafe { self.handle().copy(copy.dst, copy.src, loops.run()) }
        } else if S::IN_BATCHES && D::IN_BATCHES {
            let strided = [copy];
            // SAFETY:
            // - It has no block numbers.
            let strided = unsafe { StridedCopies::new(&strided) };
            // SAFETY:
            // - O12, C1 to C4 for each run, as above. No two runs of `dst` overlap: its layout is
            //   injective.
            unsafe { self.handle().batch(CopyBatch::default().with_strided(strided)) }
        } else {
            let to_lent = if D::IN_BATCHES { None } else { Some(plan(&layout, &layout, size_of::<T>())?) };
            let lent = LentCopy { copy, from_lent: !S::IN_BATCHES, to_lent };
            // SAFETY:
            // - C1 to C4 for each run, as above.
            // - Between the elements of a lent source are others of the slice that was lent, which is
            //   initialised. Whatever writes them is enqueued on this stream.
            unsafe { lent.enqueue::<L>(self.handle()) }
        };
        counted(answer, counter, layout.size())
    }

    /// Initialises a tensor with the elements of `src`, which may have any layout.
    ///
    /// # Errors
    /// As for [`copy_tensor`](Ctx::copy_tensor), with the tensor.
    #[inline]
    pub fn init_tensor<T: Element, S: OnStream<L>, D: OnStream<L>, X: Allocator<D>, const R: usize>(
        &self,
        mut tensor: Tensor<MaybeUninit<T>, D, R, X>,
        src: TensorView<'_, T, S, R>,
    ) -> Result<Tensor<T, D, R, X>, Rejected<Tensor<MaybeUninit<T>, D, R, X>>> {
        match self.copy_tensor(src, tensor.view_mut()) {
            // SAFETY:
            // - Every element is written by the copy that was just enqueued: the shapes are equal,
            //   and the tensor has all elements of its buffer.
            Ok(()) => Ok(unsafe { tensor.assume_init() }),
            Err(error) => Err(Rejected::new(error, tensor)),
        }
    }
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const R: usize> SealedArg<L> for TensorView<'_, T, D, R> {}
impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const R: usize> Arg<L> for TensorView<'_, T, D, R> {
    type Raw = InTensor<T, R>;
    type Receipt = ();
    #[inline]
    fn into_raw(self) -> InTensor<T, R> {
        let layout = self.layout();
        InTensor { ptr: self.as_ptr(), shape: layout.shape(), stride: layout.stride() }
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const R: usize> SealedArg<L> for TensorMut<'_, T, D, R> {}
impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const R: usize> Arg<L> for TensorMut<'_, T, D, R> {
    type Raw = OutTensor<T, R>;
    type Receipt = ();
    #[inline]
    fn into_raw(mut self) -> OutTensor<T, R> {
        let layout = self.layout();
        OutTensor { ptr: self.as_mut_ptr(), shape: layout.shape(), stride: layout.stride() }
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}
