//! The arguments of kernels, without lifetimes. The typed layer makes them from views, and a
//! backend passes them to its kernels.
//!
//! [`RawArgs`] is sealed, because it is data of the contract and may get further methods.

use core::{ffi::c_void, fmt, ptr, slice};

use crate::{
    code::Code,
    write_only::{Recorded, WriteOnly},
};

/// Elements that a kernel reads: the address of the first, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct In<T>(pub *const T, pub usize);

/// Elements that a kernel reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Out<T>(pub *mut T, pub usize);

/// Elements that a kernel writes, each of them, and does not read. They may be uninitialised before.
#[derive(Clone, Copy, Debug)]
pub struct Uninit<T>(pub *mut T, pub usize);

/// A scalar.
#[derive(Clone, Copy, Debug)]
pub struct Value<T>(pub T);

// SAFETY:
// - An address by itself gives no access to memory. `hold` does, and is unsafe.
unsafe impl<T: Send + Sync> Send for In<T> {}
// SAFETY:
// - As above.
unsafe impl<T: Send + Sync> Send for Out<T> {}
// SAFETY:
// - As above.
unsafe impl<T: Send + Sync> Send for Uninit<T> {}

/// Memory that a kernel uses.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KernelUse {
    /// Where it starts.
    pub ptr: *const u8,
    /// How many bytes it has.
    pub bytes: usize,
    /// Whether the kernel writes it.
    pub writes: bool,
}

/// Finds the memory behind a device address, on the thread that runs a host function. Unsafe to
/// implement.
///
/// # Safety
/// The implementation keeps clause L5:
/// - The memory that [`resolve`](Resolve::resolve) returns is valid for reads and writes of `bytes`
///   bytes while `self` is borrowed, and is the same memory for the same address.
/// - It is aligned to `align` if `ptr` is and [`keeps_alignment`](Resolve::keeps_alignment) returns
///   `true`.
pub unsafe trait Resolve {
    /// The host address of the `bytes` bytes at device address `ptr`.
    ///
    /// # Errors
    /// If there is no such memory, the code of a kernel that accesses memory out of bounds.
    fn resolve(&self, ptr: *mut u8, bytes: usize) -> Result<*mut u8, Code>;

    /// Whether memory whose device address `ptr` is aligned to `align` has a host address that is
    /// too.
    fn keeps_alignment(ptr: *const u8, align: usize) -> bool;

    /// Notes why the host function is about to fail, for the messages of the device. Provided: does
    /// nothing.
    #[inline]
    fn note(&self, why: fmt::Arguments<'_>) {
        let _ = why;
    }
}

/// The resolver of backends whose device addresses are host addresses.
#[derive(Clone, Copy, Debug)]
pub struct SameAddress(());

impl SameAddress {
    /// The resolver.
    ///
    /// # Safety
    /// - Device addresses of the backend may be dereferenced by the calling thread.
    #[inline]
    #[must_use]
    pub const unsafe fn new() -> Self {
        SameAddress(())
    }
}

// SAFETY:
// - The caller of `new` promised that device addresses are host addresses, and the caller of `hold`
//   promises that the memory is live (K1).
unsafe impl Resolve for SameAddress {
    #[inline]
    fn resolve(&self, ptr: *mut u8, _: usize) -> Result<*mut u8, Code> {
        Ok(ptr)
    }

    #[inline]
    fn keeps_alignment(_: *const u8, _: usize) -> bool {
        true
    }
}

/// One argument of a kernel. Sealed.
pub trait RawArg: sealed::Sealed {
    /// The size, in bytes, of the parameter of a kernel of a module: an address, or the value.
    const SIZE: usize;
    /// What a host function gets for the argument.
    type Seen<'k>;
    /// What the launch holds of the argument while the host function runs.
    type Held<'m>;

    /// The address of that parameter, which is in the argument itself.
    fn param(&self) -> *mut c_void;

    /// The memory that the argument names, if it names some.
    fn named(&self) -> Option<KernelUse>;

    /// Whether the memory is aligned for its elements at its host address.
    fn is_aligned<R: Resolve>(&self) -> bool;

    /// Finds the memory of the argument.
    ///
    /// # Errors
    /// The error of [`Resolve::resolve`].
    ///
    /// # Safety
    /// - As for [`RawArgs::run`]. The result lives until the host function has returned.
    unsafe fn hold<R: Resolve>(self, memory: &R) -> Result<Self::Held<'_>, Code>;

    /// What the host function gets.
    fn see<'k>(held: &'k mut Self::Held<'_>) -> Self::Seen<'k>;

    /// Checks what the host function has left. Provided: it may leave anything.
    ///
    /// # Errors
    /// The code with which the device breaks.
    #[inline]
    fn finish<R: Resolve>(held: Self::Held<'_>, memory: &R) -> Result<(), Code> {
        let _ = (held, memory);
        Ok(())
    }
}

impl<T: 'static> RawArg for In<T> {
    const SIZE: usize = size_of::<*const T>();
    type Seen<'k> = &'k [T];
    type Held<'m> = &'m [T];

    #[inline]
    fn param(&self) -> *mut c_void {
        ptr::from_ref(&self.0).cast_mut().cast()
    }

    #[inline]
    fn named(&self) -> Option<KernelUse> {
        Some(KernelUse { ptr: self.0.cast(), bytes: bytes_of::<T>(self.1), writes: false })
    }

    #[inline]
    fn is_aligned<R: Resolve>(&self) -> bool {
        self.1 == 0 || R::keeps_alignment(self.0.cast(), align_of::<T>())
    }

    #[inline]
    unsafe fn hold<R: Resolve>(self, memory: &R) -> Result<&[T], Code> {
        let ptr = memory.resolve(self.0.cast_mut().cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - `resolve` found `len` elements in one live allocation (L5). They are aligned, because
        //   `is_aligned` returned `true`.
        // - They are initialised as `T` in stream order, and are not written until the host function
        //   has returned: the caller promises it (K1).
        Ok(unsafe { slice::from_raw_parts(ptr.cast(), self.1) })
    }

    #[inline]
    fn see<'k>(held: &'k mut &[T]) -> &'k [T] {
        held
    }
}

impl<T: 'static> RawArg for Out<T> {
    const SIZE: usize = size_of::<*mut T>();
    type Seen<'k> = &'k mut [T];
    type Held<'m> = &'m mut [T];

    #[inline]
    fn param(&self) -> *mut c_void {
        ptr::from_ref(&self.0).cast_mut().cast()
    }

    #[inline]
    fn named(&self) -> Option<KernelUse> {
        Some(KernelUse { ptr: self.0.cast(), bytes: bytes_of::<T>(self.1), writes: true })
    }

    #[inline]
    fn is_aligned<R: Resolve>(&self) -> bool {
        self.1 == 0 || R::keeps_alignment(self.0.cast(), align_of::<T>())
    }

    #[inline]
    unsafe fn hold<R: Resolve>(self, memory: &R) -> Result<&mut [T], Code> {
        let ptr = memory.resolve(self.0.cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - As for `In`. Nothing else uses the elements meanwhile: the caller promises it (K1).
        Ok(unsafe { slice::from_raw_parts_mut(ptr.cast(), self.1) })
    }

    #[inline]
    fn see<'k>(held: &'k mut &mut [T]) -> &'k mut [T] {
        held
    }
}

impl<T: Copy + 'static> RawArg for Uninit<T> {
    const SIZE: usize = size_of::<*mut T>();
    type Seen<'k> = WriteOnly<'k, T>;
    type Held<'m> = Recorded<T>;

    #[inline]
    fn param(&self) -> *mut c_void {
        ptr::from_ref(&self.0).cast_mut().cast()
    }

    #[inline]
    fn named(&self) -> Option<KernelUse> {
        Some(KernelUse { ptr: self.0.cast(), bytes: bytes_of::<T>(self.1), writes: true })
    }

    #[inline]
    fn is_aligned<R: Resolve>(&self) -> bool {
        self.1 == 0 || R::keeps_alignment(self.0.cast(), align_of::<T>())
    }

    #[inline]
    unsafe fn hold<R: Resolve>(self, memory: &R) -> Result<Recorded<T>, Code> {
        let ptr = memory.resolve(self.0.cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - As for `Out`, except that the elements need not be initialised. The result is dropped
        //   before the memory is let go of: the caller promises it.
        // - Zeroed memory is a `T`: the caller promises it (K1).
        Ok(unsafe { Recorded::new(ptr.cast(), self.1) })
    }

    #[inline]
    fn see<'k>(held: &'k mut Recorded<T>) -> WriteOnly<'k, T> {
        held.as_write_only()
    }

    #[inline]
    fn finish<R: Resolve>(held: Recorded<T>, memory: &R) -> Result<(), Code> {
        held.finish(|why| memory.note(why))
    }
}

impl<T: Copy> RawArg for Value<T> {
    const SIZE: usize = size_of::<T>();
    type Seen<'k> = T;
    type Held<'m> = T;

    #[inline]
    fn param(&self) -> *mut c_void {
        ptr::from_ref(&self.0).cast_mut().cast()
    }

    #[inline]
    fn named(&self) -> Option<KernelUse> {
        None
    }

    #[inline]
    fn is_aligned<R: Resolve>(&self) -> bool {
        true
    }

    #[inline]
    unsafe fn hold<R: Resolve>(self, _: &R) -> Result<T, Code> {
        Ok(self.0)
    }

    #[inline]
    fn see(held: &mut T) -> T {
        *held
    }
}

/// The size of `len` elements in bytes. The layout of `[T; len]` exists, so that the product does
/// not wrap.
#[inline]
const fn bytes_of<T>(len: usize) -> usize {
    len.wrapping_mul(size_of::<T>())
}

/// The arguments of one launch: a tuple of up to twelve [`RawArg`]s. Sealed.
pub trait RawArgs: sealed::Sealed {
    /// The size of each argument as a parameter, in bytes.
    const SIZES: &'static [usize];
    /// What a host function gets for the arguments.
    type Seen<'k>;

    /// Calls `f` with the memory of each argument that names some.
    fn uses(&self, f: impl FnMut(KernelUse));

    /// Whether all memory is aligned for its elements at its host address.
    fn are_aligned<R: Resolve>(&self) -> bool;

    /// Calls `f` with the addresses of the parameters, which are valid during the call.
    fn with_params<T>(&self, f: impl FnOnce(&mut [*mut c_void]) -> T) -> T;

    /// Calls `kernel`, a host function, with what it gets for the arguments.
    ///
    /// # Errors
    /// The error of [`Resolve::resolve`]: `kernel` is not called then. `ASSERT` if `kernel` leaves
    /// elements of an [`Uninit`] unwritten, and `ILLEGAL_ADDRESS` if it writes others. The caller
    /// breaks the device (L4).
    ///
    /// # Safety
    /// - [`are_aligned`](RawArgs::are_aligned) returned `true`.
    /// - It is called once, when the stream has come to the launch (L2). Until it returns, the
    ///   memory is used as the arguments say, and nothing else uses it (K1).
    unsafe fn run<R: Resolve>(self, memory: &R, kernel: impl for<'k> FnOnce(Self::Seen<'k>)) -> Result<(), Code>;
}

macro_rules! tuples {
    ($(($($name:ident)*))+) => {$(
        #[allow(non_snake_case, unused_variables, unused_mut, reason = "the variables are named like their types")]
        impl<$($name: RawArg),*> RawArgs for ($($name,)*) {
            const SIZES: &'static [usize] = &[$($name::SIZE),*];
            type Seen<'k> = ($($name::Seen<'k>,)*);

            #[inline]
            fn uses(&self, mut f: impl FnMut(KernelUse)) {
                let ($($name,)*) = self;
                $(if let Some(named) = $name.named() { f(named) })*
            }

            #[inline]
            fn are_aligned<R: Resolve>(&self) -> bool {
                let ($($name,)*) = self;
                true $(&& $name.is_aligned::<R>())*
            }

            #[inline]
            fn with_params<T>(&self, f: impl FnOnce(&mut [*mut c_void]) -> T) -> T {
                let ($($name,)*) = self;
                f(&mut [$($name.param()),*])
            }

            #[inline]
            #[allow(clippy::unused_unit, reason = "no arguments")]
            unsafe fn run<R: Resolve>(
                self,
                memory: &R,
                kernel: impl for<'k> FnOnce(Self::Seen<'k>),
            ) -> Result<(), Code> {
                let ($($name,)*) = self;
                // SAFETY:
                // - The caller keeps the same contract for each argument. What is held is dropped at
                //   the end of this function.
                $(let mut $name = unsafe { $name.hold(memory) }?;)*
                kernel(($($name::see(&mut $name),)*));
                $($name::finish($name, memory)?;)*
                Ok(())
            }
        }
        impl<$($name: sealed::Sealed),*> sealed::Sealed for ($($name,)*) {}
    )+};
}
tuples! {
    () (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K) (A B C D E F G H I J K M)
}

mod sealed {
    /// Implemented for the arguments of this module and tuples of them.
    pub trait Sealed: Sized {}
    impl<T> Sealed for super::In<T> {}
    impl<T> Sealed for super::Out<T> {}
    impl<T> Sealed for super::Uninit<T> {}
    impl<T> Sealed for super::Value<T> {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_passed_by_value_and_in_order() {
        assert_eq!(<(Value<u8>, Value<u32>, Value<f64>) as RawArgs>::SIZES, [1, 4, 8]);
        (Value(7_u8), Value(0x0102_0304_u32), Value(-1.5_f64)).with_params(|params| {
            assert_eq!(params.len(), 3);
            // SAFETY:
            // - The first parameter is a `u8`.
            assert_eq!(unsafe { params[0].cast::<u8>().read() }, 7);
            // SAFETY:
            // - The second parameter is a `u32`.
            assert_eq!(unsafe { params[1].cast::<u32>().read() }, 0x0102_0304);
            // SAFETY:
            // - The third parameter is an `f64`.
            assert_eq!(unsafe { params[2].cast::<f64>().read() }, -1.5);
        });
    }
}
