//! Floats of 8 bits, and the conversions of all that have at most 8.

#![forbid(unsafe_code)]

use core::{cmp::Ordering, fmt};

use bytemuck::{Pod, Zeroable};

/// A format: a sign, exponent bits, and `mantissa` bits below them.
pub(super) struct Format {
    mantissa: u32,
    bias: i32,
    /// The largest finite pattern without its sign.
    largest: u32,
    /// The pattern that a NaN becomes.
    nan: u8,
    /// The bit of the sign.
    sign: u8,
    /// The patterns above `largest`, in the order of their values: whether the first is infinity.
    has_infinity: bool,
}

pub(super) const E4M3: Format =
    Format { mantissa: 3, bias: 7, largest: 0x7E, nan: 0x7F, sign: 0x80, has_infinity: false };
pub(super) const E5M2: Format =
    Format { mantissa: 2, bias: 15, largest: 0x7B, nan: 0x7F, sign: 0x80, has_infinity: true };
/// The formats of less than a byte have no NaN: it becomes the largest value, as on the device.
pub(super) const E2M3: Format =
    Format { mantissa: 3, bias: 1, largest: 0x1F, nan: 0x1F, sign: 0x20, has_infinity: false };
pub(super) const E3M2: Format =
    Format { mantissa: 2, bias: 3, largest: 0x1F, nan: 0x1F, sign: 0x20, has_infinity: false };
pub(super) const E2M1: Format = Format { mantissa: 1, bias: 1, largest: 0x7, nan: 0x7, sign: 0x8, has_infinity: false };

/// The bits of an `f32` without its sign.
const MAGNITUDE: u32 = 0x7FFF_FFFF;
const INFINITY: u32 = 0x7F80_0000;
/// The mantissa bits of an `f32`.
const FRACTION: u32 = 23;

/// `value` rounded to the nearest, ties to the even pattern, and saturated: `cvt.rn.satfinite`.
#[inline]
pub(super) const fn encode(value: f32, format: &Format) -> u8 {
    let bits = value.to_bits();
    let magnitude = bits & MAGNITUDE;
    if magnitude > INFINITY {
        return format.nan;
    }
    let exponent = (magnitude >> FRACTION).cast_signed().wrapping_sub(127);
    // Every float below the normal ones of an `f32` is far below the smallest value: 0.
    let significand = magnitude & 0x7F_FFFF | 0x80_0000;
    let least = 1_i32.wrapping_sub(format.bias);
    let scale = if exponent > least { exponent } else { least };
    // The bits that do not fit, at least those of the longer mantissa.
    let dropped = scale.wrapping_sub(exponent).cast_unsigned().wrapping_add(FRACTION.wrapping_sub(format.mantissa));
    let rounded = if dropped > 25 { 0 } else { round(significand, dropped) };
    // With the implicit bit in `rounded`, a carry goes into the exponent.
    let above = scale.wrapping_sub(least).cast_unsigned() << format.mantissa;
    let pattern = above.wrapping_add(rounded);
    let pattern = if pattern > format.largest { format.largest } else { pattern };
    let [low, ..] = pattern.to_le_bytes();
    if bits == magnitude { low } else { low | format.sign }
}

/// `significand >> dropped`, rounded to the nearest, ties to even. `dropped` is 1 to 25.
#[inline]
const fn round(significand: u32, dropped: u32) -> u32 {
    let kept = significand >> dropped;
    let rest = significand & (1_u32 << dropped).wrapping_sub(1);
    let half = 1_u32 << dropped.wrapping_sub(1);
    if rest > half || rest == half && kept & 1 == 1 { kept.wrapping_add(1) } else { kept }
}

/// The value of a pattern.
#[inline]
pub(super) const fn decode(pattern: u8, format: &Format) -> f32 {
    let sign = if pattern & format.sign == 0 { 0 } else { !MAGNITUDE };
    // Widening.
    let magnitude = u32::from_le_bytes([pattern & format.sign.wrapping_sub(1), 0, 0, 0]);
    if magnitude > format.largest {
        let is_infinity = format.has_infinity && magnitude == format.largest.wrapping_add(1);
        return f32::from_bits(if is_infinity { sign | INFINITY } else { sign | 0x7FC0_0000 });
    }
    let exponent = magnitude >> format.mantissa;
    let fraction = magnitude & (1_u32 << format.mantissa).wrapping_sub(1);
    let of = FRACTION.wrapping_sub(format.mantissa);
    if exponent != 0 {
        let exponent = exponent.wrapping_add(127_i32.wrapping_sub(format.bias).cast_unsigned());
        return f32::from_bits(sign | exponent << FRACTION | fraction << of);
    }
    if fraction == 0 {
        return f32::from_bits(sign);
    }
    // A fraction without an implicit bit: its highest bit becomes the implicit one.
    let shift = fraction.leading_zeros().wrapping_sub(31_u32.wrapping_sub(format.mantissa));
    let exponent = 128_i32.wrapping_sub(format.bias).cast_unsigned().wrapping_sub(shift);
    let fraction = fraction << shift & (1_u32 << format.mantissa).wrapping_sub(1);
    f32::from_bits(sign | exponent << FRACTION | fraction << of)
}

macro_rules! small_floats {
    ($($(#[$docs:meta])+ $name:ident: $encode:expr, $decode:expr;)+) => {$(
        $(#[$docs])+
        ///
        /// Comparisons are those of the values: a NaN equals nothing.
        #[expect(non_camel_case_types, reason = "as `f32` and `bf16`")]
        #[derive(Clone, Copy, Default, Zeroable, Pod)]
        #[repr(transparent)]
        pub struct $name(u8);

        impl $name {
            /// The value of a pattern of bits. Every pattern is one.
            #[inline]
            #[must_use]
            pub const fn from_bits(bits: u8) -> Self {
                $name(bits)
            }

            /// The pattern of bits.
            #[inline]
            #[must_use]
            pub const fn to_bits(self) -> u8 {
                self.0
            }

            /// The nearest value.
            #[inline]
            #[must_use]
            pub const fn from_f32(value: f32) -> Self {
                $name($encode(value))
            }

            /// The value. Exact.
            #[inline]
            #[must_use]
            pub const fn to_f32(self) -> f32 {
                $decode(self.0)
            }
        }

        impl From<$name> for f32 {
            #[inline]
            fn from(value: $name) -> f32 {
                value.to_f32()
            }
        }

        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                self.to_f32() == other.to_f32()
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                self.to_f32().partial_cmp(&other.to_f32())
            }
        }

        impl fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.to_f32(), f)
            }
        }

        impl fmt::Debug for $name {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.to_f32(), f)
            }
        }
    )+};
}

small_floats! {
    /// A float of four exponent bits and three of mantissa, OCP's E4M3: the largest value is 448,
    /// the smallest 2^-9; there is a NaN and no infinity.
    ///
    /// From an `f32`: to the nearest, ties to even, and what is larger than 448 becomes 448, also
    /// an infinity (`cvt.rn.satfinite.e4m3x2`).
    f8e4m3: to_e4m3, from_e4m3;
    /// A float of five exponent bits and two of mantissa, OCP's E5M2: the largest finite value is
    /// 57344, the smallest 2^-16; there are NaNs and infinities.
    ///
    /// From an `f32`: to the nearest, ties to even, and what is larger than 57344 becomes 57344,
    /// also an infinity (`cvt.rn.satfinite.e5m2x2`).
    f8e5m2: to_e5m2, from_e5m2;
    /// A power of two, OCP's E8M0, which scales blocks of smaller floats: 2^-127 to 2^127, and a
    /// NaN. It has no sign and no zero: zeroed memory is 2^-127.
    ///
    /// From an `f32`: the sign is dropped, and the next power of two that is not smaller is taken,
    /// so that a block that is divided by its scale does not overflow. What is larger than 2^127
    /// becomes 2^127, also an infinity (`cvt.rp.satfinite.ue8m0x2`).
    f8e8m0: to_e8m0, from_e8m0;
}

const fn to_e4m3(value: f32) -> u8 {
    encode(value, &E4M3)
}

const fn from_e4m3(pattern: u8) -> f32 {
    decode(pattern, &E4M3)
}

const fn to_e5m2(value: f32) -> u8 {
    encode(value, &E5M2)
}

const fn from_e5m2(pattern: u8) -> f32 {
    decode(pattern, &E5M2)
}

const fn to_e8m0(value: f32) -> u8 {
    let magnitude = value.to_bits() & MAGNITUDE;
    if magnitude > INFINITY {
        return 0xFF;
    }
    let exponent = magnitude >> FRACTION;
    let fraction = magnitude & 0x7F_FFFF;
    // The exponent field is the pattern. Below the normal floats, 2^-127 is half of the smallest.
    let is_above = if exponent == 0 { fraction > 0x40_0000 } else { fraction != 0 };
    let pattern = if is_above { exponent.wrapping_add(1) } else { exponent };
    let [low, ..] = if pattern > 0xFE { 0xFE_u32.to_le_bytes() } else { pattern.to_le_bytes() };
    low
}

const fn from_e8m0(pattern: u8) -> f32 {
    let exponent = u32::from_le_bytes([pattern, 0, 0, 0]);
    f32::from_bits(match pattern {
        0xFF => 0x7FC0_0000,
        0 => 0x40_0000,
        _ => exponent << FRACTION,
    })
}
