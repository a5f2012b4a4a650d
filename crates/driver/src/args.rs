//! The arguments of kernels, without lifetimes. The typed layer makes them from views, and a
//! backend passes them to its kernels.
//!
//! [`RawArgs`] is sealed, because it is data of the contract and may get further methods.

mod lists;
mod room;
mod tables;
mod tensors;

use core::{ffi::c_void, fmt, ptr, slice};

pub use self::{
    lists::{InList, OutList},
    room::Room,
    tables::{InTable, OutTable, Payload, Slot},
    tensors::{InTensor, OutTensor, Strided, StridedMut},
};
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
#[repr(transparent)]
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
    /// The size, in bytes, of the parameter of a kernel of a module: an address, several of them,
    /// or the value.
    const SIZE: usize;
    /// What a host function gets for the argument.
    type Seen<'k>;
    /// The memory that holds it while the function runs: [`Room`] for a table, the record of an
    /// [`Uninit`], `()` for the others.
    type Room: Default;

    /// The address of that parameter, which is in the argument itself.
    fn param(&self) -> *mut c_void;

    /// Calls `f` with the memory that the argument names, if it names some.
    ///
    /// # Safety
    /// - As for [`RawArgs::uses`].
    unsafe fn uses(&self, f: &mut impl FnMut(KernelUse));

    /// Whether the memory is aligned for its elements at its host address.
    ///
    /// # Safety
    /// - As for [`RawArgs::uses`].
    unsafe fn is_aligned<R: Resolve>(&self) -> bool;

    /// What a host function gets for the argument.
    ///
    /// # Errors
    /// The error of [`Resolve::resolve`], or `OUT_OF_MEMORY` if the host has no room for the slices
    /// of a table.
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

impl<T: 'static> In<T> {
    const fn named(&self) -> KernelUse {
        KernelUse { ptr: self.0.cast(), bytes: bytes_of::<T>(self.1), writes: false }
    }

    /// Whether the elements are aligned at their host address.
    fn keeps<R: Resolve>(&self) -> bool {
        self.1 == 0 || R::keeps_alignment(self.0.cast(), align_of::<T>())
    }

    /// The elements, as [`see`](RawArg::see) returns them.
    ///
    /// # Safety
    /// - As for `see`.
    unsafe fn slice<R: Resolve>(self, memory: &R) -> Result<&[T], Code> {
        let ptr = memory.resolve(self.0.cast_mut().cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - `resolve` found `len` elements in one live allocation (L5). They are aligned, because
        //   `is_aligned` returned `true`.
        // - They are initialised as `T` in stream order, and are not written during 'k: the caller
        //   promises it (K1).
        Ok(unsafe { slice::from_raw_parts(ptr.cast(), self.1) })
    }
}

impl<T: 'static> Out<T> {
    const fn named(&self) -> KernelUse {
        KernelUse { ptr: self.0.cast(), bytes: bytes_of::<T>(self.1), writes: true }
    }

    /// Whether the elements are aligned at their host address.
    fn keeps<R: Resolve>(&self) -> bool {
        self.1 == 0 || R::keeps_alignment(self.0.cast(), align_of::<T>())
    }

    /// The elements, as [`see`](RawArg::see) returns them.
    ///
    /// # Safety
    /// - As for `see`.
    #[allow(clippy::mut_from_ref, reason = "the elements are not the resolver's")]
    unsafe fn slice<R: Resolve>(self, memory: &R) -> Result<&mut [T], Code> {
        let ptr = memory.resolve(self.0.cast(), bytes_of::<T>(self.1))?;
        // SAFETY:
        // - As for `In`. Nothing else uses the elements during 'k: the caller promises it (K1).
        Ok(unsafe { slice::from_raw_parts_mut(ptr.cast(), self.1) })
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
    unsafe fn uses(&self, f: &mut impl FnMut(KernelUse)) {
        f(self.named());
    }

    #[inline]
    unsafe fn is_aligned<R: Resolve>(&self) -> bool {
        self.keeps::<R>()
    }

    #[inline]
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, (): &'k mut ()) -> Result<&'k [T], Code> {
        // SAFETY:
        // - The caller keeps the contract.
        unsafe { self.slice(memory) }
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
    unsafe fn uses(&self, f: &mut impl FnMut(KernelUse)) {
        f(self.named());
    }

    #[inline]
    unsafe fn is_aligned<R: Resolve>(&self) -> bool {
        self.keeps::<R>()
    }

    #[inline]
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, (): &'k mut ()) -> Result<&'k mut [T], Code> {
        // SAFETY:
        // - The caller keeps the contract.
        unsafe { self.slice(memory) }
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
    unsafe fn uses(&self, _: &mut impl FnMut(KernelUse)) {}

    #[inline]
    unsafe fn is_aligned<R: Resolve>(&self) -> bool {
        true
    }

    #[inline]
    unsafe fn see<'k, R: Resolve>(self, _: &'k R, (): &'k mut ()) -> Result<T, Code> {
        Ok(self.0)
    }
}

/// Calls a macro with the names of the types and variables of each tuple of arguments: of none, of
/// the first, of the first two, up to all 32.
#[doc(hidden)]
#[macro_export]
macro_rules! each_tuple {
    ($call:ident) => {
        $crate::each_tuple! { $call: []
            A arg_a B arg_b C arg_c D arg_d
            E arg_e F arg_f G arg_g H arg_h
            I arg_i J arg_j K arg_k M arg_m
            N arg_n O arg_o P arg_p Q arg_q
            S arg_s U arg_u V arg_v W arg_w
            X arg_x Y arg_y Z arg_z AA arg_aa
            BB arg_bb CC arg_cc DD arg_dd EE arg_ee
            FF arg_ff GG arg_gg HH arg_hh II arg_ii
        }
    };
    ($call:ident: [$($done:ident)*]) => {
        $call! { $($done)* }
    };
    ($call:ident: [$($done:ident)*] $type:ident $arg:ident $($rest:ident)*) => {
        $call! { $($done)* }
        $crate::each_tuple! { $call: [$($done)* $type $arg] $($rest)* }
    };
}

/// The size of `len` elements in bytes. The layout of `[T; len]` exists, so that the product does
/// not wrap.
#[inline]
const fn bytes_of<T>(len: usize) -> usize {
    len.wrapping_mul(size_of::<T>())
}

/// The arguments of one launch: a tuple of up to 32 [`RawArg`]s. Sealed.
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
    ///
    /// # Safety
    /// - What the arguments were made from is still borrowed, as it is during the call that
    ///   launches them.
    unsafe fn uses(&self, f: impl FnMut(KernelUse));

    /// Whether all memory is aligned for its elements at its host address.
    ///
    /// # Safety
    /// - As for [`uses`](RawArgs::uses).
    unsafe fn are_aligned<R: Resolve>(&self) -> bool;

    /// Calls `f` with the addresses of the parameters, which are valid during the call.
    fn with_params<T>(&self, f: impl FnOnce(&mut [*mut c_void]) -> T) -> T;

    /// What a host function gets for the arguments.
    ///
    /// # Errors
    /// The error of [`Resolve::resolve`], or `OUT_OF_MEMORY` if the host has no room for the slices
    /// of a table.
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

macro_rules! tuple {
    ($($name:ident $arg:ident)*) => {
        #[allow(unused_variables, unused_mut, reason = "no arguments")]
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
            unsafe fn uses(&self, mut f: impl FnMut(KernelUse)) {
                let ($($arg,)*) = self;
                // SAFETY:
                // - The caller keeps the same contract for each argument.
                $(unsafe { $arg.uses(&mut f) };)*
            }

            #[inline]
            unsafe fn are_aligned<R: Resolve>(&self) -> bool {
                let ($($arg,)*) = self;
                // SAFETY:
                // - The caller keeps the same contract for each argument.
                true $(&& unsafe { $arg.is_aligned::<R>() })*
            }

            #[inline]
            fn with_params<T>(&self, f: impl FnOnce(&mut [*mut c_void]) -> T) -> T {
                let ($($arg,)*) = self;
                f(&mut [$($arg.param()),*])
            }

            #[inline]
            #[allow(non_snake_case, reason = "each room is named like the type of its argument")]
            #[allow(clippy::unused_unit, reason = "no arguments")]
            unsafe fn see<'k, R: Resolve>(self, memory: &'k R, rooms: &'k mut Self::Rooms) -> Result<Self::Seen<'k>, Code> {
                let ($($arg,)*) = self;
                let ($($name,)*) = rooms;
                // SAFETY:
                // - The caller keeps the same contract for each argument.
                Ok(($(unsafe { $arg.see(memory, $name) }?,)*))
            }

            #[inline]
            fn finish<R: Resolve>(rooms: Self::Rooms, memory: &R) -> Result<(), Code> {
                let ($($arg,)*) = rooms;
                $($name::finish($arg, memory)?;)*
                Ok(())
            }
        }
        impl<$($name: sealed::Sealed),*> sealed::Sealed for ($($name,)*) {}
    };
}
each_tuple!(tuple);

mod sealed {
    /// Implemented for the arguments of the contract and tuples of them.
    pub trait Sealed: Sized {}
    impl<T> Sealed for super::In<T> {}
    impl<T> Sealed for super::Out<T> {}
    impl<T> Sealed for super::Uninit<T> {}
    impl<T> Sealed for super::Value<T> {}
    impl<T, const N: usize> Sealed for super::InList<T, N> {}
    impl<T, const N: usize> Sealed for super::OutList<T, N> {}
    impl<T, const R: usize> Sealed for super::InTensor<T, R> {}
    impl<T, const R: usize> Sealed for super::OutTensor<T, R> {}
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

    #[test]
    fn a_list_is_one_parameter_of_addresses_and_names_each_operand() {
        let x = [1_u16, 2, 3];
        let at = |i: usize| x.as_ptr().wrapping_add(i);
        let list = InList { ptr: [at(2), at(0)], len: [1, 2] };
        assert_eq!(<(Value<u8>, InList<u16, 2>) as RawArgs>::SIZES, [1, 16]);
        // SAFETY:
        // - The parameter is a struct of two addresses.
        assert_eq!(unsafe { list.param().cast::<[*const u16; 2]>().read() }, [at(2), at(0)]);
        let mut named = Vec::new();
        let both = (list, OutList { ptr: [at(1).cast_mut()], len: [1] });
        // SAFETY:
        // - There is no table.
        unsafe { both.uses(|each| named.push((each.ptr, each.bytes, each.writes))) };
        assert_eq!(named, [(at(2).cast(), 2, false), (at(0).cast(), 4, false), (at(1).cast(), 2, true)]);
    }

    #[test]
    fn a_launch_has_up_to_32_arguments() {
        let v = Value(1_u8);
        let args =
            (v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, v, Value(9_u64));
        fn sizes<P: RawArgs>(_: P) -> &'static [usize] {
            P::SIZES
        }
        assert_eq!(args.with_params(|params| params.len()), 32);
        assert_eq!(sizes(args), [[1; 31].as_slice(), &[8]].concat());
    }
}
