//! A trait and a macro that make rustc report a missing allocator as a missing `HasAlloc`, with the
//! notes of that trait.

#![forbid(unsafe_code)]

/// Location `L`, for memory of elements `Self`.
///
/// A bound that has only parameters of the `impl`, such as `A: HasAlloc<L>`, is checked when rustc
/// looks up the method, and the error is that the method does not exist. A bound that goes through
/// the element, which is a parameter of the method, is checked later, and the error has the notes
/// of the trait. Sealed: every type has it.
#[doc(hidden)]
pub trait InLocation<L> {
    /// `L`.
    type Location;
}

impl<T: ?Sized, L> InLocation<L> for T {
    type Location = L;
}

/// Location `L`, through element `T`. It is the same type as `L`, and rustdoc shows `L`.
#[cfg(not(doc))]
macro_rules! at {
    ($T:ty, $L:ty) => {
        <$T as $crate::stream::in_location::InLocation<$L>>::Location
    };
}
#[cfg(doc)]
macro_rules! at {
    ($T:ty, $L:ty) => {
        $L
    };
}
pub(crate) use at;
