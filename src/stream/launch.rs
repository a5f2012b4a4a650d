//! Launching kernels with typed arguments, on any backend.

use tidelock_driver::{
    HostFn, HostFns, In, InList, Launch, Out, OutList, RawArg, RawArgs, StreamOf, Uninit, Value, each_tuple,
};

use super::{
    Ctx,
    location::{DeviceLocation, KernelAccessible},
};
use crate::{
    Element,
    buffer::{Counter, Dst, Output, View, ViewMut},
    error::Result,
};

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Runs a closure on the stream, in stream order, over `args`: a tuple of up to 32 views, arrays
    /// of views, tensors, [tables](super::Table) and scalars. For these the closure gets slices,
    /// arrays of slices, [`Strided`](tidelock_driver::Strided) elements that are indexed as
    /// `x[[i, j]]`, slices of slices, and values.
    ///
    /// For streams that run functions of the host, such as those of the simulated device. A panic
    /// in the closure is caught and breaks the device, as a faulting kernel does: every later call
    /// fails. Cost: one driver call. The simulated device allocates only if arguments and captures
    /// are more than 256 bytes. For a table, the stream's thread finds each target once, and keeps
    /// the memory of the slices for the next launch.
    ///
    /// # Errors
    /// [`Error::ByValue`](crate::Error::ByValue) if arguments and captures are more than 4096
    /// bytes, of which each view takes 16, a tensor 8 and 16 for each axis, and a table 40. Every
    /// CUDA driver takes that many bytes as the parameters of a kernel. `MISALIGNED_ADDRESS` for
    /// device memory that was reinterpreted as elements with a larger alignment than that of the
    /// memory behind the device's addresses (L5), which is 512 on the simulated device. Otherwise the
    /// driver's error. Nothing is enqueued then.
    #[inline]
    pub fn launch<P: Args<L>, F>(&self, args: P, kernel: F) -> Result<()>
    where
        F: for<'k> FnOnce(<P::Raw as RawArgs>::Seen<'k>) + Send + 'static,
        StreamOf<L::Backend>: HostFns,
    {
        if const { HostFn::<F>::refusal::<P::Raw>().is_some() } {
            return HostFn::<F>::refusal::<P::Raw>().map_or(Ok(()), Err);
        }
        let receipts = args.receipts();
        // SAFETY:
        // - K1: the memory of the views belongs to this stream, and lives and is borrowed as the
        //   views say until the stream has passed the launch, as for a copy. Zeroed memory is an
        //   element.
        // - K2: a closure touches the slices that it gets and what it owns, and leaves values of
        //   their types. Of an output, what it does not write is zeroed.
        // - K3: its parameters are the arguments. A closure that does not end blocks its own stream
        //   only.
        let answer = unsafe { self.handle().usable_raw()?.launch(HostFn(kernel), args.into_raw()) };
        if answer.is_ok() {
            P::settle(receipts);
        }
        self.handle().keep_poison(answer)
    }

    /// Launches a kernel of the backend's own kind on the stream, in stream order, with `args`: a
    /// tuple of up to 32 views, arrays of views, tensors, [tables](super::Table) and scalars. On CUDA
    /// `kernel` is `(&function, grid)`. Each argument is one parameter of the kernel. For a view it is
    /// the address of the first element. For an array of `N` views it is a struct of `N` addresses,
    /// such as `struct { float *x[N]; }`; a kernel has no parameter for an array of no views. For a
    /// tensor of `R` axes it is `struct { float *ptr; size_t shape[R], stride[R]; }`, with strides in
    /// elements. For a tensor of no axes it is the address. For a table it is the address of the first
    /// entry, in C `float *const *` without payloads.
    ///
    /// ```c
    /// struct matrix { float *ptr; size_t shape[2], stride[2]; };
    /// extern "C" __global__ void scale(matrix x, float by) {
    ///     size_t i = blockIdx.x, j = threadIdx.x;
    ///     if (j < x.shape[1]) x.ptr[i * x.stride[0] + j * x.stride[1]] *= by;
    /// }
    /// ```
    ///
    /// Lengths of views are not passed: a kernel of a module that needs a length takes it as a
    /// scalar. Cost: one driver call; none for a grid without blocks.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if the kernel has another number of parameters, or
    /// one of another size, and `INVALID_CONTEXT` if it is loaded on another device: both are found
    /// before the driver is called (L3). Otherwise the driver's error. Nothing is enqueued then.
    ///
    /// # Safety
    /// It must be the case that
    /// - the kernel reads and writes only what its arguments say: the elements of a [`View`] to
    ///   read, those of a [`ViewMut`] to read and write, those of an [`Output`] to write, memory it
    ///   owns itself, and nothing beyond their ends; the elements that a tensor names, and nothing
    ///   between them; the views of an array and the targets of a table likewise, and no table is
    ///   written (K2);
    /// - each parameter has the type of the argument: a pointer to elements of that layout for a
    ///   view, a struct of such pointers for an array, the struct above for a tensor, a pointer to
    ///   the entries for a table, the same representation for a scalar (K3);
    /// - what it leaves in a [`ViewMut`] or a tensor of `T` are values of `T`, in every element (K2);
    /// - it writes every element of each [`Output`], with a value of `T`, and reads none of them
    ///   before it has written it (K2);
    /// - its threads do not race with each other on the elements of a [`ViewMut`] (K2);
    /// - it ends (K3).
    #[inline]
    pub unsafe fn launch_kernel<K, P: Args<L>>(&self, kernel: K, args: P) -> Result<()>
    where
        StreamOf<L::Backend>: Launch<K, P::Raw>,
    {
        let receipts = args.receipts();
        // An empty grid writes nothing.
        let runs = <StreamOf<L::Backend> as Launch<K, P::Raw>>::runs(&kernel);
        // SAFETY:
        // - K1: the memory of the views belongs to this stream, and lives and is borrowed as the
        //   views say until the stream has passed the launch, as for a copy. Zeroed memory is an
        //   element.
        // - The caller promises K2 and K3.
        let answer = unsafe { self.handle().usable_raw()?.launch(kernel, args.into_raw()) };
        if answer.is_ok() && runs {
            P::settle(receipts);
        }
        self.handle().keep_poison(answer)
    }
}

/// An argument of a kernel of stream `L`: a view of memory its kernels may use, an array of such
/// views, a tensor of such memory, a view of a table, or an element by value. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a kernel of stream `{L}`",
    label = "expected a view of this stream's memory, or an element by value",
    note = "memory is passed as `buffer.view()` or `buffer.view_mut()`; pinned memory is staged first"
)]
pub trait Arg<L: DeviceLocation>: sealed::SealedArg<L> {
    /// The argument as the backend takes it.
    #[doc(hidden)]
    type Raw: RawArg + Copy + Send + 'static;
    /// What counts the argument as written, if it is an output.
    #[doc(hidden)]
    type Receipt;
    /// Converts the argument.
    #[doc(hidden)]
    fn into_raw(self) -> Self::Raw;
    /// What [`settle`](Arg::settle) takes.
    #[doc(hidden)]
    fn receipt(&self) -> Self::Receipt;
    /// Counts the argument as written: the launch was enqueued.
    #[doc(hidden)]
    fn settle(receipt: Self::Receipt);
}

/// The arguments of a kernel of stream `L`: a tuple of up to 32 [`Arg`]s. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a kernel of stream `{L}`",
    label = "expected a tuple of views and elements",
    note = "memory is passed as `buffer.view()` or `buffer.view_mut()`; a single argument is a tuple too: `(x.view(),)`"
)]
pub trait Args<L: DeviceLocation>: sealed::SealedArgs<L> {
    /// The arguments as the backend takes them.
    #[doc(hidden)]
    type Raw: RawArgs + Copy + Send + 'static;
    /// What counts the outputs among the arguments as written.
    #[doc(hidden)]
    type Receipts;
    /// Converts the arguments.
    #[doc(hidden)]
    fn into_raw(self) -> Self::Raw;
    /// What [`settle`](Args::settle) takes.
    #[doc(hidden)]
    fn receipts(&self) -> Self::Receipts;
    /// Counts the outputs as written: the launch was enqueued.
    #[doc(hidden)]
    fn settle(receipts: Self::Receipts);
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> Arg<L> for View<'_, T, D> {
    type Raw = In<T>;
    type Receipt = ();
    #[inline]
    fn into_raw(self) -> In<T> {
        In(self.as_ptr(), self.len())
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> Arg<L> for ViewMut<'_, T, D> {
    type Raw = Out<T>;
    type Receipt = ();
    #[inline]
    fn into_raw(mut self) -> Out<T> {
        Out(self.as_mut_ptr(), self.len())
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const N: usize> Arg<L> for [View<'_, T, D>; N] {
    type Raw = InList<T, N>;
    type Receipt = ();
    #[inline]
    fn into_raw(self) -> InList<T, N> {
        InList { ptr: self.map(View::as_ptr), len: self.map(View::len) }
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const N: usize> Arg<L> for [ViewMut<'_, T, D>; N] {
    type Raw = OutList<T, N>;
    type Receipt = ();
    #[inline]
    fn into_raw(mut self) -> OutList<T, N> {
        OutList { ptr: self.each_mut().map(ViewMut::as_mut_ptr), len: self.each_ref().map(|view| view.len()) }
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}

impl<'o, L: DeviceLocation, T: Element, D: KernelAccessible<L>> Arg<L> for Output<'o, T, D> {
    type Raw = Uninit<T>;
    type Receipt = (&'o Counter, usize);
    #[inline]
    fn into_raw(self) -> Uninit<T> {
        let (ptr, len) = Dst::<T, D>::into_parts(self);
        Uninit(ptr.as_ptr(), len)
    }

    #[inline]
    fn receipt(&self) -> (&'o Counter, usize) {
        (Output::counter(self), self.len())
    }

    #[inline]
    fn settle((counter, len): (&'o Counter, usize)) {
        counter.add(len);
    }
}

#[diagnostic::do_not_recommend]
impl<L: DeviceLocation, T: Element> Arg<L> for T {
    type Raw = Value<T>;
    type Receipt = ();
    #[inline]
    fn into_raw(self) -> Value<T> {
        Value(self)
    }

    #[inline]
    fn receipt(&self) {}

    #[inline]
    fn settle((): ()) {}
}

macro_rules! tuple {
    ($($name:ident $arg:ident)*) => {
        impl<L: DeviceLocation, $($name: Arg<L>),*> sealed::SealedArgs<L> for ($($name,)*) {}
        impl<L: DeviceLocation, $($name: Arg<L>),*> Args<L> for ($($name,)*) {
            type Raw = ($($name::Raw,)*);
            type Receipts = ($($name::Receipt,)*);
            #[inline]
            #[allow(clippy::unused_unit, reason = "no arguments")]
            fn into_raw(self) -> Self::Raw {
                let ($($arg,)*) = self;
                ($($arg.into_raw(),)*)
            }

            #[inline]
            #[allow(clippy::unused_unit, reason = "no arguments")]
            fn receipts(&self) -> Self::Receipts {
                let ($($arg,)*) = self;
                ($($arg.receipt(),)*)
            }

            #[inline]
            fn settle(receipts: Self::Receipts) {
                let ($($arg,)*) = receipts;
                $(<$name as Arg<L>>::settle($arg);)*
            }
        }
    };
}
each_tuple!(tuple);

/// The seals of `Arg` and `Args`, each with the parameter of its trait.
pub(super) mod sealed {
    use super::{DeviceLocation, Element, KernelAccessible, Output, View, ViewMut};

    /// Implemented for views and tensors of memory that the stream's kernels may use, for arrays of
    /// views, for views of tables, and for elements.
    #[diagnostic::on_unimplemented(
        message = "`Arg` is sealed, and `{Self}` is neither a view of this stream's memory nor an element",
        label = "not a view, and not an `Element`",
        note = "a struct of your own is passed by value once it is an element: `impl tidelock::Element for {Self} {{}}`"
    )]
    pub trait SealedArg<L> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> SealedArg<L> for View<'_, T, D> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> SealedArg<L> for ViewMut<'_, T, D> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> SealedArg<L> for Output<'_, T, D> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const N: usize> SealedArg<L> for [View<'_, T, D>; N] {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, const N: usize> SealedArg<L> for [ViewMut<'_, T, D>; N] {}
    #[diagnostic::do_not_recommend]
    impl<L: DeviceLocation, T: Element> SealedArg<L> for T {}

    /// Implemented for tuples of arguments.
    #[diagnostic::on_unimplemented(
        message = "`Args` is sealed, and `{Self}` is not a tuple of kernel arguments",
        label = "not a tuple of views and elements",
        note = "the arguments of a kernel are passed as a tuple of views and elements: `(x.view(), y.view_mut(), 3_u32)`"
    )]
    pub trait SealedArgs<L> {}
}
