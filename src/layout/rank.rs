//! Ranks that differ by one.

#![forbid(unsafe_code)]

/// A rank as a type. There is no value of it.
#[derive(Clone, Copy, Debug)]
pub enum Rank<const R: usize> {}

/// The rank has one axis more than rank `Q`. Sealed: implemented for the ranks 1 to 8.
///
/// Each rank is above one other, so that the compiler infers the rank of
/// [`select`](super::Layout::select) and [`squeeze`](super::Layout::squeeze).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not one axis more than rank {Q}",
    label = "one axis more or less gives another rank",
    note = "`select` and `squeeze` return a rank that is one less, and `unsqueeze` one that is one more; ranks are 0 to 8"
)]
pub trait Above<const Q: usize>: sealed::SealedAbove<Q> {}

macro_rules! above {
    ($($rank:literal above $below:literal),* $(,)?) => {$(
        impl Above<$below> for Rank<$rank> {}
        impl sealed::SealedAbove<$below> for Rank<$rank> {}
    )*};
}
above!(1 above 0, 2 above 1, 3 above 2, 4 above 3, 5 above 4, 6 above 5, 7 above 6, 8 above 7);

/// It has the parameter of the trait that it seals.
mod sealed {
    pub trait SealedAbove<const Q: usize> {}
}
