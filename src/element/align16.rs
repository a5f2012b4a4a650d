//! Values that lie at multiples of 16 bytes.

use bytemuck::{Pod, Zeroable};
use typenum::U16;

use super::{Element, scalar::Fills, scalar::Width};

/// A value of whole 16 bytes that lies at a multiple of 16, such as `Align16<[f16; 8]>`: what a
/// kernel loads at once.
///
/// It is an element if it has no padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C, align(16))]
pub struct Align16<T>(pub T);

// SAFETY:
// - Zeroes are a `T`, and all bits of padding are permitted.
unsafe impl<T: Zeroable> Zeroable for Align16<T> {}

// SAFETY:
// - All bit patterns are a `T`, and it is `repr(C)` over it.
// - There is no padding: the size of `T` is a multiple of 16, and the alignment is 16, because that
//   of `T` is not larger: `Fills`.
unsafe impl<T: Width + Fills<16>> Pod for Align16<T> {}

impl<T: Width + Fills<16>> Element for Align16<T> {}

// SAFETY:
// - Without padding the size is that of `T`, and the alignment is 16.
unsafe impl<T: Width + Fills<16>> Width for Align16<T> {
    type Bytes = T::Bytes;
    type Align = U16;
}
