//! Initialising buffers by whatever writes them.

use core::mem::MaybeUninit;

use super::{
    Ctx,
    location::{DeviceLocation, OnStream},
};
use crate::{
    Element,
    alloc::Allocator,
    buffer::{Buffer, Counter, Dst, Output, ViewMut},
    error::{Error, Rejected, Result},
    tensor::{OutputTensor, Tensor, TensorMut},
};

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Initialises buffers by what `f` enqueues. `fresh` is a `Buffer<MaybeUninit<T>, ..>`, a
    /// `Tensor<MaybeUninit<T>, ..>`, or a tuple of up to eight of them. `f` gets an [`Output`] or an
    /// [`OutputTensor`] for each, and writes all of them, by kernels, copies, uploads, fills, batches
    /// and Warps, in any mixture. The result is the initialised memory, and the value of `f`.
    ///
    /// Every write of an output counts its elements once the write was enqueued, and a batch counts
    /// them once it was submitted. The parts of an output are disjoint, and each is written once:
    /// if the sum is the length of the buffer, all of it is written.
    ///
    /// Cost: an addition for each write. No driver call.
    ///
    /// ```
    /// use tidelock::{BatchCopy, sim};
    /// use std::num::NonZero;
    ///
    /// let (sums, rows) = sim::Device::default().stream(|mut stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let x = ctx.upload_new(&[1_u32, 2, 3, 4, 5, 6])?;
    ///     // A kernel writes one output; the first two elements of every row of `x` are the other.
    ///     let fresh = (ctx.alloc::<u32>(2)?, ctx.alloc_pinned::<u32>(4)?.stage(&ctx));
    ///     let ((sums, rows), ()) = ctx.init_with(fresh, |(sums, rows)| {
    ///         ctx.launch((x.view(), sums), |(x, mut sums)| sums.write_iter(x.chunks(3).map(|row| row.iter().sum())))?;
    ///         BatchCopy::new().scope(&ctx, |batch| {
    ///             let (two, three) = (NonZero::new(2).unwrap(), NonZero::new(3).unwrap());
    ///             for (from, to) in x.view().chunks_exact(three).zip(rows.rows(two)?) {
    ///                 batch.copy(from.slice(..2)?, to)?;
    ///             }
    ///             Ok(())
    ///         })
    ///     })?;
    ///     let sums = ctx.init_from(ctx.alloc_pinned(2)?.stage(&ctx), sums.view())?;
    ///     let done = stream.synchronize()?;
    ///     Ok::<_, tidelock::Error>((sums.reclaim(&done).to_vec(), rows.reclaim(&done).to_vec()))
    /// })??;
    /// assert_eq!((sums, rows), (vec![6, 15], vec![1, 2, 4, 5]));
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// A closure gets an output as a [`WriteOnly`](crate::driver::WriteOnly) slice, and breaks the
    /// device if it leaves elements unwritten. A kernel of a module writes every element, as
    /// [`launch_kernel`](Ctx::launch_kernel) requires.
    ///
    /// # Errors
    /// The error of `f`, or [`Error::Unwritten`] with how many elements of which buffer were not
    /// written. `fresh` is handed back. What was enqueued is enqueued.
    #[inline]
    pub fn init_with<G: Fresh<L>, R, E: From<Error>>(
        &self,
        mut fresh: G,
        f: impl for<'o> FnOnce(G::Outputs<'o>) -> Result<R, E>,
    ) -> Result<(G::Init, R), Rejected<G, E>> {
        let counters = G::Counters::default();
        // SAFETY:
        // - No value that `f` returns or keeps has the lifetime of the outputs, which is any
        //   lifetime. So they end with the call, during which `fresh` is not used.
        let outputs = unsafe { fresh.outputs(&counters) };
        let answer = f(outputs);
        let answer = answer.and_then(|value| fresh.expect_written(&counters, 0).map(|_| value).map_err(E::from));
        match answer {
            // SAFETY:
            // - Each element has been counted, because the outputs of a buffer are disjoint and are
            //   counted once. What is counted is written once the stream has passed what is
            //   enqueued now.
            Ok(value) => Ok((unsafe { fresh.assume_init() }, value)),
            Err(error) => Err(Rejected { error, value: fresh }),
        }
    }
}

/// What [`Ctx::init_with`] initialises on stream `L`: a buffer or a tensor of `MaybeUninit<T>`, or a
/// tuple of up to eight of them. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not memory that stream `{L}` can initialise",
    label = "expected a `Buffer` or a `Tensor` of `MaybeUninit<T>` of this stream, or a tuple of them",
    note = "fresh memory is `ctx.alloc::<T>(len)?`, or `ctx.alloc_pinned::<T>(len)?.stage(&ctx)` for the host to read; an initialised buffer is written through `buffer.view_mut()`"
)]
pub trait Fresh<L: DeviceLocation>: Sized + sealed::SealedFresh<L> {
    /// The same buffers, initialised.
    type Init;
    /// An [`Output`] for each buffer, an [`OutputTensor`] for each tensor.
    type Outputs<'o>;
    /// A counter for each buffer.
    #[doc(hidden)]
    type Counters: Default;
    /// All elements, to write.
    ///
    /// # Safety
    /// - During `'o`, `self` is neither used nor dropped. The counters are new.
    #[doc(hidden)]
    unsafe fn outputs<'o>(&mut self, counters: &'o Self::Counters) -> Self::Outputs<'o>;
    /// Checks that all elements of the buffers were counted. The first of them has position `at`.
    /// Returns the position behind the last.
    #[doc(hidden)]
    fn expect_written(&self, counters: &Self::Counters, at: usize) -> Result<usize>;
    /// The same memory.
    ///
    /// # Safety
    /// - As for [`Buffer::assume_init`].
    #[doc(hidden)]
    unsafe fn assume_init(self) -> Self::Init;
}

impl<L: DeviceLocation, T: Element, D: OnStream<L>, X: Allocator<D>> Fresh<L> for Buffer<MaybeUninit<T>, D, X> {
    type Init = Buffer<T, D, X>;
    type Outputs<'o> = Output<'o, T, D>;
    type Counters = Counter;

    #[inline]
    unsafe fn outputs<'o>(&mut self, counters: &'o Counter) -> Output<'o, T, D> {
        let (ptr, len) = Dst::<T, D>::into_parts(self.view_mut());
        // SAFETY:
        // - The elements are those of the buffer, which the caller neither uses nor drops during
        //   'o. If it is dropped behind that, its allocator frees it in stream order (rule R23).
        Output::new(unsafe { ViewMut::from_raw_parts(ptr.cast(), len) }, counters)
    }

    #[inline]
    fn expect_written(&self, counters: &Counter, at: usize) -> Result<usize> {
        all_written(self.len(), counters, at)
    }

    #[inline]
    unsafe fn assume_init(self) -> Buffer<T, D, X> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { Buffer::assume_init(self) }
    }
}

impl<L: DeviceLocation, T: Element, D: OnStream<L>, X: Allocator<D>, const R: usize> Fresh<L>
    for Tensor<MaybeUninit<T>, D, R, X>
{
    type Init = Tensor<T, D, R, X>;
    type Outputs<'o> = OutputTensor<'o, T, D, R>;
    type Counters = Counter;

    #[inline]
    unsafe fn outputs<'o>(&mut self, counters: &'o Counter) -> OutputTensor<'o, T, D, R> {
        let tensor = self.view_mut();
        // SAFETY:
        // - The elements are those of the tensor, each once, which the caller neither uses nor drops
        //   during 'o. If it is dropped behind that, as for a buffer.
        OutputTensor::new(unsafe { TensorMut::new(tensor.as_nonnull(), tensor.layout()) }, counters)
    }

    #[inline]
    fn expect_written(&self, counters: &Counter, at: usize) -> Result<usize> {
        all_written(self.size(), counters, at)
    }

    #[inline]
    unsafe fn assume_init(self) -> Tensor<T, D, R, X> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { Tensor::assume_init(self) }
    }
}

/// Checks that all of the `len` elements of output `at` were counted, and returns the position of
/// the next output.
#[inline]
fn all_written(len: usize, counter: &Counter, at: usize) -> Result<usize> {
    match len.wrapping_sub(counter.get()) {
        0 => Ok(at.wrapping_add(1)),
        missing => Err(Error::Unwritten { output: at, missing, len }),
    }
}

macro_rules! tuples {
    ($(($($name:ident $i:tt)+))+) => {$(
        impl<L: DeviceLocation, $($name: Fresh<L>),+> Fresh<L> for ($($name,)+) {
            type Init = ($($name::Init,)+);
            type Outputs<'o> = ($($name::Outputs<'o>,)+);
            type Counters = ($($name::Counters,)+);

            #[inline]
            unsafe fn outputs<'o>(&mut self, counters: &'o Self::Counters) -> Self::Outputs<'o> {
                // SAFETY:
                // - The caller keeps the same contract for each.
                ($(unsafe { self.$i.outputs(&counters.$i) },)+)
            }

            #[inline]
            fn expect_written(&self, counters: &Self::Counters, at: usize) -> Result<usize> {
                $(let at = self.$i.expect_written(&counters.$i, at)?;)+
                Ok(at)
            }

            #[inline]
            unsafe fn assume_init(self) -> Self::Init {
                // SAFETY:
                // - The caller keeps the same contract for each.
                ($(unsafe { self.$i.assume_init() },)+)
            }
        }
        impl<L: DeviceLocation, $($name: Fresh<L>),+> sealed::SealedFresh<L> for ($($name,)+) {}
    )+};
}
tuples! {
    (B 0) (B 0 C 1) (B 0 C 1 D 2) (B 0 C 1 D 2 E 3) (B 0 C 1 D 2 E 3 F 4) (B 0 C 1 D 2 E 3 F 4 G 5)
    (B 0 C 1 D 2 E 3 F 4 G 5 H 6) (B 0 C 1 D 2 E 3 F 4 G 5 H 6 I 7)
}

/// The seal of `Fresh`, with its parameter.
mod sealed {
    use super::{Allocator, Buffer, DeviceLocation, Element, MaybeUninit, OnStream, Tensor};

    /// Implemented for fresh buffers and tensors, and tuples of them.
    #[diagnostic::on_unimplemented(
        message = "`Fresh` is sealed, and `{Self}` is not memory that stream `{L}` can initialise",
        label = "neither a `Buffer` nor a `Tensor` of `MaybeUninit<T>` of this stream, and not a tuple of them",
        note = "memory of your own is initialised as a buffer: `Buffer::from_raw_owner` makes one of it"
    )]
    pub trait SealedFresh<L> {}
    impl<L: DeviceLocation, T: Element, D: OnStream<L>, X: Allocator<D>> SealedFresh<L> for Buffer<MaybeUninit<T>, D, X> {}
    impl<L: DeviceLocation, T: Element, D: OnStream<L>, X: Allocator<D>, const R: usize> SealedFresh<L>
        for Tensor<MaybeUninit<T>, D, R, X>
    {
    }
}
