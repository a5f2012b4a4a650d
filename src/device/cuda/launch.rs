//! Launching kernels with typed arguments.

use core::{
    ffi::{c_uint, c_void},
    ptr,
};

use super::{Cuda, module::Function};
use crate::{
    Element,
    buffer::{View, ViewMut},
    error::Result,
    location::KernelAccessible,
    stream::Ctx,
};

/// How many threads a kernel is launched with, and how much shared memory they get beside what the kernel declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Blocks in each direction.
    pub blocks: [u32; 3],
    /// Threads of a block in each direction.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory for each block.
    pub shared_bytes: u32,
}

impl Grid {
    /// `blocks` of `threads` each, without dynamic shared memory.
    #[inline]
    #[must_use]
    pub const fn new(blocks: [u32; 3], threads: [u32; 3]) -> Self {
        Grid { blocks, threads, shared_bytes: 0 }
    }

    /// At least one thread for each of `elements`, in blocks of 256; no block for no elements.
    ///
    /// Beyond the largest grid (2^31 - 1 blocks) it is cut off there, so that kernels step by the size of the grid.
    #[inline]
    #[must_use]
    pub const fn over(elements: usize) -> Self {
        const THREADS: u32 = 256;
        const MOST: usize = 0x7fff_ffff;
        let blocks = elements.div_ceil(256);
        let blocks = if blocks > MOST { MOST } else { blocks };
        // The four low bytes: `blocks` has no others.
        let [a, b, c, d, ..] = blocks.to_le_bytes();
        Grid::new([u32::from_le_bytes([a, b, c, d]), 1, 1], [THREADS, 1, 1])
    }

    /// The same with `bytes` of dynamic shared memory for each block.
    #[inline]
    #[must_use]
    pub const fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }
}

/// On a CUDA stream.
impl<'s, A> Ctx<'_, Cuda<'s>, A> {
    /// Launches `function` on the stream, in stream order, with `args`: a tuple of up to twelve views and scalars, each of
    /// which becomes one parameter of the kernel, a view the address of its first element.
    ///
    /// Lengths are not passed along: a kernel that needs one takes it as a scalar. Cost: one driver call; none for a grid
    /// without blocks.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if the kernel has another number of parameters, or one of another size, and
    /// `INVALID_CONTEXT` if it is loaded on another device: both before the driver is asked. Else what the driver
    /// answered. Nothing is enqueued then.
    ///
    /// # Safety
    /// It must be the case that
    /// - the kernel reads and writes only what its arguments say: the elements of a [`View`] to read, those of a
    ///   [`ViewMut`] to read and write, memory it owns itself, and nothing beyond their ends;
    /// - each parameter has the type of the argument: a pointer to elements of that layout for a view, the same
    ///   representation for a scalar;
    /// - what it leaves in a [`ViewMut`] of `T` are values of `T`, in every element;
    /// - its threads do not race with each other on the elements of a [`ViewMut`];
    /// - it ends.
    #[inline]
    pub unsafe fn launch<P: Args<'s>>(&self, function: &Function, grid: Grid, args: P) -> Result<()> {
        self.handle().with_queue(|queue| Ok(function.takes(queue.device(), P::SIZES)))??;
        if grid.is_empty() {
            return Ok(());
        }
        let Grid { blocks: [x, y, z], threads: [i, j, k], shared_bytes } = grid;
        args.with_params(|params| {
            self.handle().with_queue(|queue| {
                let launch = queue.device().context.driver.table.launch_kernel;
                let (f, stream) = (function.raw(), queue.raw());
                // SAFETY:
                // - Function and stream are alive and of one context.
                // - `params` has as many entries as the kernel has parameters, each pointing to a value of the
                //   parameter's size; they are read during the call.
                // - The memory of the views belongs to this stream, and lives and is borrowed as the views say until the
                //   stream has passed the launch, as for a copy; the caller promises the rest.
                queue.on_stream("cuLaunchKernel", || unsafe {
                    launch(f, x, y, z, i, j, k, shared_bytes, stream, params.as_ptr(), ptr::null())
                })
            })
        })
    }

    /// The `CUstream`, for libraries that enqueue on it. It is valid as long as the stream's closure runs.
    ///
    /// Whoever enqueues on it keeps the promises that [`launch`](Ctx::launch) asks for, does not synchronise less than the
    /// types believe, does not destroy it, and leaves no capture of it behind.
    ///
    /// # Errors
    /// If the stream is poisoned.
    #[inline]
    pub fn raw_stream(&self) -> Result<*mut c_void> {
        self.handle().with_queue(|queue| Ok(queue.raw()))
    }
}

/// An argument of a kernel of stream `'s`: a view of memory the stream's kernels may use, or an element by value. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a CUDA kernel",
    label = "expected a view of this stream's memory, or an element by value",
    note = "memory is passed as `buffer.view()` or `buffer.view_mut()`; pinned memory is staged first"
)]
pub trait Arg<'s>: sealed::SealedArg<'s> {
    /// What the kernel gets.
    #[doc(hidden)]
    type Param: Copy;
    /// Makes what the kernel gets.
    #[doc(hidden)]
    fn param(self) -> Self::Param;
}

/// The arguments of a kernel: a tuple of up to twelve [`Arg`]s. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the arguments of a CUDA kernel",
    label = "expected a tuple of views and elements",
    note = "memory is passed as `buffer.view()` or `buffer.view_mut()`; a single argument is a tuple too: `(x.view(),)`"
)]
pub trait Args<'s>: sealed::SealedArgs<'s> + Sized {
    /// The sizes of the parameters, in bytes.
    #[doc(hidden)]
    const SIZES: &'static [usize];
    /// Calls `f` with the addresses of the parameters.
    #[doc(hidden)]
    fn with_params<R>(self, f: impl FnOnce(&[*mut c_void]) -> R) -> R;
}

impl<'s, T: Element, D: KernelAccessible<Cuda<'s>>> Arg<'s> for View<'_, T, D> {
    type Param = *const T;
    #[inline]
    fn param(self) -> *const T {
        self.as_ptr()
    }
}

impl<'s, T: Element, D: KernelAccessible<Cuda<'s>>> Arg<'s> for ViewMut<'_, T, D> {
    type Param = *mut T;
    #[inline]
    fn param(mut self) -> *mut T {
        self.as_mut_ptr()
    }
}

impl<T: Element> Arg<'_> for T {
    type Param = T;
    #[inline]
    fn param(self) -> T {
        self
    }
}

impl sealed::SealedArgs<'_> for () {}
impl Args<'_> for () {
    const SIZES: &'static [usize] = &[];
    #[inline]
    fn with_params<R>(self, f: impl FnOnce(&[*mut c_void]) -> R) -> R {
        f(&[])
    }
}

macro_rules! tuples {
    ($(($($name:ident)+))+) => {$(
        impl<'s, $($name: Arg<'s>),+> sealed::SealedArgs<'s> for ($($name,)+) {}
        impl<'s, $($name: Arg<'s>),+> Args<'s> for ($($name,)+) {
            const SIZES: &'static [usize] = &[$(size_of::<$name::Param>()),+];
            #[inline]
            #[expect(non_snake_case, reason = "the variables are named like their types")]
            fn with_params<R>(self, f: impl FnOnce(&[*mut c_void]) -> R) -> R {
                let ($($name,)+) = self;
                let ($(mut $name,)+) = ($($name.param(),)+);
                f(&[$(ptr::from_mut(&mut $name).cast()),+])
            }
        }
    )+};
}
tuples! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K M)
}

/// Each is implemented for what the public trait of its name is implemented for, and has its parameter.
mod sealed {
    use super::{Cuda, Element, KernelAccessible, View, ViewMut};

    /// Implemented for views of memory that the stream's kernels may use, and for elements.
    #[diagnostic::on_unimplemented(
        message = "`cuda::Arg` is sealed, and `{Self}` is neither a view of this stream's memory nor an element",
        label = "not a view, and not an `Element`",
        note = "a struct of your own is passed by value once it is an element: `impl tidelock::Element for {Self} {{}}`"
    )]
    pub trait SealedArg<'s> {}
    impl<'s, T: Element, D: KernelAccessible<Cuda<'s>>> SealedArg<'s> for View<'_, T, D> {}
    impl<'s, T: Element, D: KernelAccessible<Cuda<'s>>> SealedArg<'s> for ViewMut<'_, T, D> {}
    #[diagnostic::do_not_recommend]
    impl<T: Element> SealedArg<'_> for T {}

    /// Implemented for tuples of arguments.
    #[diagnostic::on_unimplemented(
        message = "`cuda::Args` is sealed, and `{Self}` is not a tuple of kernel arguments",
        label = "not a tuple of views and elements",
        note = "the arguments of a kernel are passed as a tuple of views and elements: `(x.view(), y.view_mut(), 3_u32)`"
    )]
    pub trait SealedArgs<'s> {}
}

// A grid is what the driver takes.
static_assertions::assert_type_eq_all!(u32, c_uint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_its_elements() {
        assert_eq!(Grid::over(0).blocks, [0, 1, 1]);
        assert!(Grid::over(0).is_empty());
        assert_eq!(Grid::over(1).blocks, [1, 1, 1]);
        assert_eq!(Grid::over(256).blocks, [1, 1, 1]);
        assert_eq!(Grid::over(257).blocks, [2, 1, 1]);
        assert_eq!(Grid::over(256 * 65_537).blocks, [65_537, 1, 1]);
        assert_eq!(Grid::over(usize::MAX).blocks, [0x7fff_ffff, 1, 1]);
        assert_eq!(
            Grid::over(257).shared_bytes(64),
            Grid { blocks: [2, 1, 1], threads: [256, 1, 1], shared_bytes: 64 }
        );
    }

    #[test]
    fn scalars_are_passed_by_value_and_in_order() {
        assert_eq!(<(u8, u32, f64) as Args<'_>>::SIZES, [1, 4, 8]);
        (7_u8, 0x0102_0304_u32, -1.5_f64).with_params(|params| {
            assert_eq!(params.len(), 3);
            // SAFETY: the first parameter is a `u8`.
            assert_eq!(unsafe { params[0].cast::<u8>().read() }, 7);
            // SAFETY: the second parameter is a `u32`.
            assert_eq!(unsafe { params[1].cast::<u32>().read() }, 0x0102_0304);
            // SAFETY: the third parameter is an `f64`.
            assert_eq!(unsafe { params[2].cast::<f64>().read() }, -1.5);
        });
    }
}
