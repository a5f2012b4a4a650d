//! The arguments of kernels, without lifetimes. The typed layer makes them from views, and a
//! backend passes them to its kernels.
//!
//! [`RawArgs`] is sealed, because it is data of the contract and may get further methods.

use core::{ffi::c_void, fmt, ptr, slice};

use crate::code::Code;
pub use crate::write_only::Uninit;

/// Elements that a kernel reads: the address of the first, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct In<T>(pub *const T, pub usize);

/// Elements that a kernel reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Out<T>(pub *mut T, pub usize);

/// A scalar.
#[derive(Clone, Copy, Debug)]
pub struct Value<T>(pub T);

// SAFETY:
// - An address by itself gives no access to memory. `see` does, and is unsafe.
unsafe impl<T: Send + Sync> Send for In<T> {}
// SAFETY:
// - As above.
unsafe impl<T: Send + Sync> Send for Out<T> {}

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
// - The caller of `new` promised that device addresses are host addresses, and the caller of `see`
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
    /// The memory that holds it while the function runs: the record of an [`Uninit`], `()` for the
    /// others.
    type Room: Default;

    /// The address of that parameter, which is in the argument itself.
    fn param(&self) -> *mut c_void;

    /// The memory that the argument names, if it names some.
    fn named(&self) -> Option<KernelUse>;

    /// Whether the memory is aligned for its elements at its host address.
    fn is_aligned<R: Resolve>(&self) -> bool;

    /// What a host function gets for the argument.
    ///
    /// # Errors
    /// The error of [`Resolve::resolve`].
    ///
    /// # Safety
    /// - As for [`RawArgs::see`].
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, room: &'k mut Self::Room) -> Result<Self::Seen<'k>, Code>;

    /// Checks what the host function has left. Provided: it may leave anything.
    ///
    /// # Errors
    /// The code with which the device breaks (L4).
    #[inline]
    fn finish<R: Resolve>(room: Self::Room, memory: &R) -> Result<(), Code> {
        let _ = (room, memory);
        Ok(())
    }
}

impl<T: 'static> RawArg for In<T> {
    const SIZE: usize = size_of::<*const T>();
    type Seen<'k> = &'k [T];
    type Room = ();

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
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, (): &'k mut ()) -> Result<&'k [T], Code> {
        let ptr = memory.resolve(self.0.cast_mut().cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - `resolve` found `len` elements in one live allocation (L5). They are aligned, because
        //   `is_aligned` returned `true`.
        // - They are initialised as `T` in stream order, and are not written during 'k: the caller
        //   promises it (K1).
        Ok(unsafe { slice::from_raw_parts(ptr.cast(), self.1) })
    }
}

impl<T: 'static> RawArg for Out<T> {
    const SIZE: usize = size_of::<*mut T>();
    type Seen<'k> = &'k mut [T];
    type Room = ();

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
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, (): &'k mut ()) -> Result<&'k mut [T], Code> {
        let ptr = memory.resolve(self.0.cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - As for `In`. Nothing else uses the elements during 'k: the caller promises it (K1).
        Ok(unsafe { slice::from_raw_parts_mut(ptr.cast(), self.1) })
    }
}

impl<T> RawArg for Value<T> {
    const SIZE: usize = size_of::<T>();
    type Seen<'k> = T;
    type Room = ();

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
    unsafe fn see<'k, R: Resolve>(self, _: &'k R, (): &'k mut ()) -> Result<T, Code> {
        Ok(self.0)
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
    /// The memory that holds it while the function runs.
    type Rooms;

    /// That memory, without contents. It is made on the thread that runs the function.
    fn rooms() -> Self::Rooms;

    /// Calls `f` with the memory of each argument that names some.
    fn uses(&self, f: impl FnMut(KernelUse));

    /// Whether all memory is aligned for its elements at its host address.
    fn are_aligned<R: Resolve>(&self) -> bool;

    /// Calls `f` with the addresses of the parameters, which are valid during the call.
    fn with_params<T>(&self, f: impl FnOnce(&mut [*mut c_void]) -> T) -> T;

    /// What a host function gets for the arguments.
    ///
    /// # Errors
    /// The error of [`Resolve::resolve`].
    ///
    /// # Safety
    /// - [`are_aligned`](RawArgs::are_aligned) returned `true`.
    /// - It is called once, when the stream has come to the launch (L2). The memory is used as the
    ///   arguments say, and during `'k` only (K1).
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, rooms: &'k mut Self::Rooms) -> Result<Self::Seen<'k>, Code>;

    /// Checks what the host function has left.
    ///
    /// # Errors
    /// `ASSERT` if it has left elements of an [`Uninit`] unwritten, and `ILLEGAL_ADDRESS` if it has
    /// written others. The device breaks (L4).
    fn finish<R: Resolve>(rooms: Self::Rooms, memory: &R) -> Result<(), Code>;
}

macro_rules! tuples {
    ($(($($name:ident $arg:ident)*))+) => {$(
        #[allow(non_snake_case, unused_variables, unused_mut, reason = "the variables are named like their types")]
        impl<$($name: RawArg),*> RawArgs for ($($name,)*) {
            const SIZES: &'static [usize] = &[$($name::SIZE),*];
            type Seen<'k> = ($($name::Seen<'k>,)*);
            type Rooms = ($($name::Room,)*);

            #[inline]
            #[allow(clippy::unused_unit, reason = "no arguments")]
            fn rooms() -> Self::Rooms {
                ($($name::Room::default(),)*)
            }

            #[inline]
            fn uses(&self, mut f: impl FnMut(KernelUse)) {
                let ($($arg,)*) = self;
                $(if let Some(named) = $arg.named() { f(named) })*
            }

            #[inline]
            fn are_aligned<R: Resolve>(&self) -> bool {
                let ($($arg,)*) = self;
                true $(&& $arg.is_aligned::<R>())*
            }

            #[inline]
            fn with_params<T>(&self, f: impl FnOnce(&mut [*mut c_void]) -> T) -> T {
                let ($($arg,)*) = self;
                f(&mut [$($arg.param()),*])
            }

            #[inline]
            #[allow(clippy::unused_unit, reason = "no arguments")]
            unsafe fn see<'k, R: Resolve>(
                self,
                memory: &'k R,
                rooms: &'k mut Self::Rooms,
            ) -> Result<Self::Seen<'k>, Code> {
                let ($($arg,)*) = self;
                let ($($name,)*) = rooms;
                // SAFETY:
                // - The caller keeps the same contract for each argument.
                Ok(($(unsafe { $arg.see(memory, $name) }?,)*))
            }

            #[inline]
            fn finish<R: Resolve>(rooms: Self::Rooms, memory: &R) -> Result<(), Code> {
                let ($($name,)*) = rooms;
                $(<$name as RawArg>::finish($name, memory)?;)*
                Ok(())
            }
        }
        impl<$($name: sealed::Sealed),*> sealed::Sealed for ($($name,)*) {}
    )+};
}
tuples! {
    () (A a) (A a B b) (A a B b C c) (A a B b C c D d) (A a B b C c D d E e) (A a B b C c D d E e F f_)
    (A a B b C c D d E e F f_ G g) (A a B b C c D d E e F f_ G g H h) (A a B b C c D d E e F f_ G g H h I i)
    (A a B b C c D d E e F f_ G g H h I i J j) (A a B b C c D d E e F f_ G g H h I i J j K k)
    (A a B b C c D d E e F f_ G g H h I i J j K k M m)
}

mod sealed {
    /// Implemented for the arguments of the contract and tuples of them.
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
