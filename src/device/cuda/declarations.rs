//! Compares this crate's declarations of the driver with cudarc's, which are generated from
//! NVIDIA's headers.
//!
//! All comparisons run at compile time: with the version of CUDA that the tests select in cudarc,
//! and by `.ci/unify.sh` with later versions, which have more of what this crate declares. Each
//! comparison stands beside the declaration.

#![forbid(unsafe_code)]

use core::mem::align_of;

/// The size and the alignment of each parameter of a function, and of its result.
pub(super) trait Function {
    const SHAPE: &'static [(usize, usize)];
}

/// The shape of a function of cudarc's.
pub(super) const fn shape<F: Function + Copy>(_: F) -> &'static [(usize, usize)] {
    F::SHAPE
}

pub(super) const fn same(ours: &[(usize, usize)], theirs: &[(usize, usize)]) -> bool {
    let (mut ours, mut theirs) = (ours, theirs);
    while let ([(size, align), next @ ..], [(their_size, their_align), their_next @ ..]) = (ours, theirs) {
        if *size != *their_size || *align != *their_align {
            return false;
        }
        (ours, theirs) = (next, their_next);
    }
    ours.is_empty() && theirs.is_empty()
}

macro_rules! functions {
    ($(($($arg:ident)*))*) => {$(
        impl<$($arg,)* R> Function for unsafe extern "C" fn($($arg),*) -> R {
            const SHAPE: &'static [(usize, usize)] = &[$(layout::<$arg>(),)* layout::<R>()];
        }
        impl<$($arg,)* R> Function for unsafe fn($($arg),*) -> R {
            const SHAPE: &'static [(usize, usize)] = &[$(layout::<$arg>(),)* layout::<R>()];
        }
    )*};
}
functions! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K)
}

const fn layout<T>() -> (usize, usize) {
    (size_of::<T>(), align_of::<T>())
}

/// Checks that a function type has the shape of cudarc's function of that name, which has one
/// parameter for each type at the end.
macro_rules! same_function {
    ($ours:ty, $name:ident, $($arg:ty),*) => {
        const _: () = {
            use $crate::device::cuda::declarations::{Function, any, same, shape};
            let theirs = shape(cudarc::driver::sys::$name as unsafe fn($(any!($arg)),*) -> _);
            assert!(same(<$ours as Function>::SHAPE, theirs), concat!("the type of ", stringify!($name)));
        };
    };
}

/// Checks that a structure has the size of cudarc's, and its fields at the same places.
macro_rules! same_structure {
    ($ours:ty, $theirs:ident, $($field:ident = $their_field:ident),*) => {
        const _: () = {
            use cudarc::driver::sys::$theirs as Theirs;
            assert!(size_of::<$ours>() == size_of::<Theirs>(), concat!("the size of ", stringify!($theirs)));
            assert!(align_of::<$ours>() == align_of::<Theirs>(), concat!("the alignment of ", stringify!($theirs)));
            $(assert!(
                core::mem::offset_of!($ours, $field) == core::mem::offset_of!(Theirs, $their_field),
                concat!("where ", stringify!($their_field), " is in ", stringify!($theirs)),
            );)*
        };
    };
}

/// Checks that a number is cudarc's constant.
macro_rules! same_number {
    ($ours:expr, $enum:ident::$theirs:ident) => {
        #[allow(clippy::as_conversions, clippy::cast_sign_loss, reason = "the number of an enumeration's variant")]
        const _: () = assert!($ours as i64 == cudarc::driver::sys::$enum::$theirs as i64, stringify!($theirs));
    };
}

/// An inferred type in place of any type.
macro_rules! any {
    ($type:ty) => {
        _
    };
}

pub(super) use {any, same_function, same_number, same_structure};
