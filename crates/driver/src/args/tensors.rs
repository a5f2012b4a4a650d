//! Tensors as arguments. A kernel of a module gets a struct of the address, the extents and the
//! strides.

use core::{
    ffi::c_void,
    fmt,
    marker::PhantomData,
    ops::{Index, IndexMut},
    ptr,
};

use super::{KernelUse, RawArg, Resolve};
use crate::{
    code::Code,
    loops::{Loop, Loops},
};

/// Elements of any layout that a kernel reads. For a kernel of a module it is
/// `struct { const T *ptr; size_t shape[R], stride[R]; }`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct InTensor<T, const R: usize> {
    /// The address of the first element.
    pub ptr: *const T,
    /// The extent of each axis.
    pub shape: [usize; R],
    /// The stride of each axis, in elements.
    pub stride: [usize; R],
}

/// Elements of any layout that a kernel reads and writes. The same struct as [`InTensor`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct OutTensor<T, const R: usize> {
    /// The address of the first element.
    pub ptr: *mut T,
    /// The extent of each axis.
    pub shape: [usize; R],
    /// The stride of each axis, in elements. No two indices name one element.
    pub stride: [usize; R],
}

// SAFETY:
// - As for `In`.
unsafe impl<T: Send + Sync, const R: usize> Send for InTensor<T, R> {}
// SAFETY:
// - As for `Out`.
unsafe impl<T: Send + Sync, const R: usize> Send for OutTensor<T, R> {}

/// The elements of a tensor, in a host function: indexed by one number for each axis.
pub struct Strided<'k, T, const R: usize> {
    /// Invariant: for each index below `shape`, the element `stride` times the index behind it is
    /// initialised and valid for reads during `'k`, and nothing writes it.
    ptr: *const T,
    shape: [usize; R],
    stride: [usize; R],
    borrow: PhantomData<&'k T>,
}

/// The elements of a tensor, in a host function that may write them.
pub struct StridedMut<'k, T, const R: usize> {
    /// Invariant: as for [`Strided`], for reads and writes, and only this value accesses the
    /// elements. No two indices name one.
    ptr: *mut T,
    shape: [usize; R],
    stride: [usize; R],
    borrow: PhantomData<&'k mut T>,
}

// SAFETY:
// - It is a shared borrow of its elements.
unsafe impl<T: Sync, const R: usize> Send for Strided<'_, T, R> {}
// SAFETY:
// - As above.
unsafe impl<T: Sync, const R: usize> Sync for Strided<'_, T, R> {}
// SAFETY:
// - It is an exclusive borrow of its elements.
unsafe impl<T: Send, const R: usize> Send for StridedMut<'_, T, R> {}
// SAFETY:
// - A shared reference to it gives shared access only.
unsafe impl<T: Sync, const R: usize> Sync for StridedMut<'_, T, R> {}

/// How many elements behind the first one `index` is. `None` if an axis has no such place.
fn offset<const R: usize>(shape: &[usize; R], stride: &[usize; R], index: [usize; R]) -> Option<usize> {
    index.iter().zip(shape).zip(stride).try_fold(0_usize, |sum, ((at, extent), stride)| {
        // Offsets of the elements of a tensor do not overflow.
        (at < extent).then(|| sum.wrapping_add(at.wrapping_mul(*stride)))
    })
}

macro_rules! strided {
    ($name:ident) => {
        impl<T, const R: usize> $name<'_, T, R> {
            /// The extent of each axis.
            #[inline]
            #[must_use]
            pub const fn shape(&self) -> [usize; R] {
                self.shape
            }

            /// The element of `index`. `None` if an axis has no such place.
            #[inline]
            #[must_use]
            pub fn get(&self, index: [usize; R]) -> Option<&T> {
                let at = offset(&self.shape, &self.stride, index)?;
                // SAFETY:
                // - The index is below the shape: the invariant of the type.
                Some(unsafe { &*self.ptr.wrapping_add(at) })
            }
        }

        /// Panics if an axis has no such place, which breaks the device as a fault of a kernel does.
        impl<T, const R: usize> Index<[usize; R]> for $name<'_, T, R> {
            type Output = T;

            #[inline]
            #[track_caller]
            fn index(&self, index: [usize; R]) -> &T {
                match self.get(index) {
                    Some(element) => element,
                    None => out_of_range(index, self.shape),
                }
            }
        }

        impl<T, const R: usize> fmt::Debug for $name<'_, T, R> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("shape", &self.shape).finish_non_exhaustive()
            }
        }
    };
}
strided!(Strided);
strided!(StridedMut);

impl<T, const R: usize> StridedMut<'_, T, R> {
    /// The element of `index`, to write. `None` if an axis has no such place.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self, index: [usize; R]) -> Option<&mut T> {
        let at = offset(&self.shape, &self.stride, index)?;
        // SAFETY:
        // - The index is below the shape: the invariant of the type, which is borrowed exclusively.
        Some(unsafe { &mut *self.ptr.wrapping_add(at) })
    }
}

impl<T, const R: usize> IndexMut<[usize; R]> for StridedMut<'_, T, R> {
    #[inline]
    #[track_caller]
    fn index_mut(&mut self, index: [usize; R]) -> &mut T {
        let shape = self.shape;
        match self.get_mut(index) {
            Some(element) => element,
            None => out_of_range(index, shape),
        }
    }
}

#[cold]
#[track_caller]
#[allow(clippy::panic, reason = "indexing panics, as that of slices does")]
fn out_of_range<const R: usize>(index: [usize; R], shape: [usize; R]) -> ! {
    panic!("{index:?} is no index of a tensor of shape {shape:?}")
}

/// Where the elements of a layout lie, in bytes: runs in loops. `None` if the sizes overflow, as
/// those of a tensor do not.
fn loops<T, const R: usize>(shape: &[usize; R], stride: &[usize; R]) -> Option<Loops> {
    let mut axes = [Loop::default(); R];
    for ((axis, &times), &stride) in axes.iter_mut().zip(shape).zip(stride) {
        let stride = if times == 1 { 0 } else { stride.checked_mul(size_of::<T>())? };
        // A stride of 0 names the same elements again.
        let times = if stride == 0 { times.min(1) } else { times };
        *axis = Loop { times, src: stride, dst: stride };
    }
    axes.sort_unstable_by_key(|axis| core::cmp::Reverse(axis.src));
    // The innermost axes that are adjacent are one run.
    let mut run = size_of::<T>();
    let mut depth = R;
    while let Some(axis) = depth.checked_sub(1).and_then(|last| axes.get(last))
        && (axis.times == 1 || axis.src == run && axis.times != 0)
    {
        run = run.checked_mul(axis.times)?;
        depth = depth.wrapping_sub(1);
    }
    Loops::new(run, axes.get(..depth)?)
}

macro_rules! tensor {
    ($name:ident, $seen:ident, $writes:literal) => {
        impl<T: 'static, const R: usize> RawArg for $name<T, R> {
            const SIZE: usize = size_of::<Self>();
            type Seen<'k> = $seen<'k, T, R>;
            type Room = ();

            #[inline]
            fn param(&self) -> *mut c_void {
                ptr::from_ref(self).cast_mut().cast()
            }

            #[inline]
            unsafe fn uses(&self, f: &mut impl FnMut(KernelUse)) {
                let Some(loops) = loops::<T, R>(&self.shape, &self.stride) else { return };
                let first: *const u8 = self.ptr.cast();
                for (at, _) in &loops {
                    f(KernelUse { ptr: first.wrapping_add(at), bytes: loops.run(), writes: $writes });
                }
            }

            #[inline]
            unsafe fn is_aligned<A: Resolve>(&self) -> bool {
                self.shape.contains(&0) || A::keeps_alignment(self.ptr.cast(), align_of::<T>())
            }

            #[inline]
            unsafe fn see<'k, A: Resolve>(self, memory: &'k A, (): &'k mut ()) -> Result<$seen<'k, T, R>, Code> {
                let bytes = loops::<T, R>(&self.shape, &self.stride).map_or(0, |loops| loops.src_span());
                let first: *const T = self.ptr;
                let ptr = memory.resolve(first.cast_mut().cast(), bytes)?.cast();
                // The invariant of the result: `resolve` found all from the first element to the end of the
                // last one in one live allocation (L5), aligned, because `is_aligned` returned `true`. The
                // elements are initialised as `T` in stream order, and are used as the argument says during
                // 'k: the caller promises it (K1).
                Ok($seen { ptr, shape: self.shape, stride: self.stride, borrow: PhantomData })
            }
        }
    };
}
tensor!(InTensor, Strided, false);
tensor!(OutTensor, StridedMut, true);

const _: () = assert!(size_of::<InTensor<u8, 3>>() == 7 * size_of::<usize>());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_one_parameter_and_names_its_elements() {
        let x = [1_u16; 64];
        let named = |shape, stride| {
            let tensor = InTensor { ptr: x.as_ptr(), shape, stride };
            let mut named = Vec::new();
            // SAFETY:
            // - There is no table.
            unsafe {
                tensor.uses(&mut |each| named.push((each.ptr.addr() - x.as_ptr().addr(), each.bytes, each.writes)))
            };
            named
        };
        assert_eq!(<InTensor<u16, 2> as RawArg>::SIZE, 40);
        let whole = [(0, 48, false)];
        assert_eq!((named([4, 6], [6, 1]), named([6, 4], [1, 6])), (whole.to_vec(), whole.to_vec()));
        assert_eq!(named([3, 2], [8, 1]), [(0, 4, false), (16, 4, false), (32, 4, false)]);
        assert_eq!(named([2, 3], [1, 8]), [(0, 4, false), (16, 4, false), (32, 4, false)]);
        assert_eq!((named([5, 4], [0, 1]), named([1, 4], [99, 2]).len()), (vec![(0, 8, false)], 4));
        assert_eq!(named([0, 4], [4, 1]), []);
        let tensor = OutTensor { ptr: x.as_ptr().cast_mut(), shape: [3], stride: [2] };
        // SAFETY:
        // - The parameter is the struct.
        assert_eq!(unsafe { tensor.param().cast::<[usize; 3]>().read() }, [x.as_ptr().addr(), 3, 2]);
    }
}
