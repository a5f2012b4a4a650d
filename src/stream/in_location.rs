//! How a missing allocator is reported as a missing `HasAlloc`, with its advice.

#![forbid(unsafe_code)]

/// Location `L`, for memory of elements `Self`.
///
/// A bound that has only parameters of the `impl`, such as `A: HasAlloc<L>`, is checked when a
/// method is looked up: rustc then says that the method does not exist. By way of the element,
/// which is a parameter of the method, it is checked later, and rustc prints the notes of the
/// trait. Sealed: every type has it.
#[doc(hidden)]
pub trait InLocation<L> {
    /// `L`.
    type Location;
}

impl<T: ?Sized, L> InLocation<L> for T {
    type Location = L;
}

/// Location `L`, by way of element `T`: the same type as `L`, which is what rustdoc shows.
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
