//! Lists of operands as one argument. A kernel of a module gets a struct of their addresses.

use core::{array, ffi::c_void, ptr};

use super::{In, KernelUse, Out, RawArg, Resolve};
use crate::code::Code;

/// `N` operands that a kernel reads.
#[derive(Clone, Copy, Debug)]
pub struct InList<T, const N: usize> {
    /// The address of the first element of each.
    pub ptr: [*const T; N],
    /// How many elements each has.
    pub len: [usize; N],
}

/// `N` operands that a kernel reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct OutList<T, const N: usize> {
    /// The address of the first element of each.
    pub ptr: [*mut T; N],
    /// How many elements each has.
    pub len: [usize; N],
}

// SAFETY:
// - As for `In`.
unsafe impl<T: Send + Sync, const N: usize> Send for InList<T, N> {}
// SAFETY:
// - As for `Out`.
unsafe impl<T: Send + Sync, const N: usize> Send for OutList<T, N> {}

impl<T: 'static, const N: usize> InList<T, N> {
    fn each(&self) -> impl Iterator<Item = In<T>> {
        self.ptr.into_iter().zip(self.len).map(|(ptr, len)| In(ptr, len))
    }
}

impl<T: 'static, const N: usize> OutList<T, N> {
    fn each(&self) -> impl Iterator<Item = Out<T>> {
        self.ptr.into_iter().zip(self.len).map(|(ptr, len)| Out(ptr, len))
    }
}

macro_rules! list {
    ($name:ident, $seen:ty) => {
        impl<T: 'static, const N: usize> RawArg for $name<T, N> {
            const SIZE: usize = size_of::<[*const T; N]>();
            type Seen<'k> = [$seen; N];
            type Room = ();

            #[inline]
            fn param(&self) -> *mut c_void {
                ptr::from_ref(&self.ptr).cast_mut().cast()
            }

            #[inline]
            unsafe fn uses(&self, f: &mut impl FnMut(KernelUse)) {
                self.each().for_each(|operand| f(operand.named()));
            }

            #[inline]
            unsafe fn is_aligned<R: Resolve>(&self) -> bool {
                self.each().all(|operand| operand.keeps::<R>())
            }

            #[inline]
            unsafe fn see<'k, R: Resolve>(self, memory: &'k R, (): &'k mut ()) -> Result<[$seen; N], Code> {
                let mut all: [$seen; N] = array::from_fn(|_| Default::default());
                for (seen, operand) in all.iter_mut().zip(self.each()) {
                    // SAFETY:
                    // - The caller keeps the same contract for each operand.
                    *seen = unsafe { operand.slice(memory) }?;
                }
                Ok(all)
            }
        }
    };
}
list!(InList, &'k [T]);
list!(OutList, &'k mut [T]);
