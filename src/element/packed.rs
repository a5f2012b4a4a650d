//! Values of less than a byte, in groups that fill whole bytes.

#![forbid(unsafe_code)]

use core::fmt;

use bytemuck::{Pod, Zeroable};

use super::small_float::{E2M1, E2M3, E3M2, decode, encode};

/// A group as one number: the first value is in its lowest bits.
#[inline]
const fn word(bytes: &[u8]) -> u32 {
    match *bytes {
        [one] => u32::from_le_bytes([one, 0, 0, 0]),
        [one, two, three] => u32::from_le_bytes([one, two, three, 0]),
        _ => 0,
    }
}

macro_rules! packed {
    ($($(#[$docs:meta])+ $name:ident: [$value:tt; $count:literal] of $bits:literal bits in $bytes:literal bytes, $encode:expr, $decode:expr;)+) => {$(
        $(#[$docs])+
        ///
        /// The first value is in the lowest bits of the first byte. The group fills its bytes, so
        /// that an odd number of values cannot be written. Groups are equal if their bytes are.
        #[expect(non_camel_case_types, reason = "as `f32` and `bf16`")]
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Zeroable, Pod)]
        #[repr(transparent)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The group with these bytes. All bytes are one.
            #[inline]
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                $name(bytes)
            }

            /// The bytes.
            #[inline]
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }

            /// The values.
            #[inline]
            #[must_use]
            pub fn values(self) -> [$value; $count] {
                let mut rest = word(&self.0);
                [(); $count].map(|()| {
                    let [low, ..] = rest.to_le_bytes();
                    rest >>= $bits;
                    $decode(low & MASK[$bits])
                })
            }

            /// The group whose values have these patterns, of which only the lowest bits count.
            #[inline]
            fn of_patterns(patterns: [u8; $count]) -> Self {
                let word = patterns.iter().rev().fold(0_u32, |word, pattern| {
                    word << $bits | u32::from(pattern & MASK[$bits])
                });
                let mut bytes = [0; $bytes];
                bytes.iter_mut().zip(word.to_le_bytes()).for_each(|(to, from)| *to = from);
                $name(bytes)
            }
        }

        packed!(@new $name: $value, $count, $bits, $encode);

        impl fmt::Debug for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.values()).finish()
            }
        }
    )+};
    (@new $name:ident: u8, $count:literal, $bits:literal, $encode:expr) => {
        impl $name {
            /// The group of these values. `None` if one has more bits than the group has for it.
            #[inline]
            #[must_use]
            pub fn new(values: [u8; $count]) -> Option<Self> {
                values.iter().all(|value| *value <= MASK[$bits]).then(|| $name::of_patterns(values))
            }
        }
    };
    (@new $name:ident: f32, $count:literal, $bits:literal, $encode:expr) => {
        impl $name {
            /// The group of the values that are nearest to these, ties to even, saturated; a NaN
            /// becomes the largest value (`cvt.rn.satfinite`).
            #[inline]
            #[must_use]
            pub fn from_f32(values: [f32; $count]) -> Self {
                $name::of_patterns(values.map($encode))
            }
        }
    };
}

/// The lowest bits, of each number of bits.
const MASK: [u8; 7] = [0, 1, 3, 7, 15, 31, 63];

packed! {
    /// Four unsigned integers of two bits.
    u2x4: [u8; 4] of 2 bits in 1 bytes, (), core::convert::identity;
    /// Two unsigned integers of four bits.
    u4x2: [u8; 2] of 4 bits in 1 bytes, (), core::convert::identity;
    /// Four unsigned integers of six bits.
    u6x4: [u8; 4] of 6 bits in 3 bytes, (), core::convert::identity;
    /// Two floats of two exponent bits and one of mantissa, OCP's E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
    ///
    /// It is PyTorch's `float4_e2m1fn_x2`.
    f4e2m1x2: [f32; 2] of 4 bits in 1 bytes, |value| encode(value, &E2M1), |bits| decode(bits, &E2M1);
    /// Four floats of two exponent bits and three of mantissa, OCP's E2M3: the largest is 7.5.
    ///
    /// CUDA's `__nv_fp6x4_e2m3` has a byte for each; here they are dense.
    f6e2m3x4: [f32; 4] of 6 bits in 3 bytes, |value| encode(value, &E2M3), |bits| decode(bits, &E2M3);
    /// Four floats of three exponent bits and two of mantissa, OCP's E3M2: the largest is 28.
    ///
    /// CUDA's `__nv_fp6x4_e3m2` has a byte for each; here they are dense.
    f6e3m2x4: [f32; 4] of 6 bits in 3 bytes, |value| encode(value, &E3M2), |bits| decode(bits, &E3M2);
}
