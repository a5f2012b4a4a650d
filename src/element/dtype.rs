//! The names of scalars, as values.

#![forbid(unsafe_code)]

use core::{fmt, str::FromStr};

macro_rules! dtypes {
    ($($name:ident $bits:literal $text:literal $(= $alias:literal)*, $docs:literal;)+) => {
        /// What an element is called in files, in other programs and in messages.
        ///
        /// It displays as `bf16` or `f8e4m3`, and parses from that, from the names of safetensors
        /// (`BF16`, `F8_E4M3`), and from those of NumPy and PyTorch (`bfloat16`, `float8_e4m3fn`),
        /// which are what `dtype.name` is in NumPy. A number behind a letter counts bits, unlike in
        /// NumPy's codes: `i8` has one byte here and eight in `np.dtype("i8")`, and `f4` is no
        /// name.
        ///
        /// ```
        /// use tidelock::element::DType;
        ///
        /// assert_eq!("bfloat16".parse(), Ok(DType::Bf16));
        /// assert_eq!((DType::U4.bits(), DType::U4.bytes(6), DType::U4.bytes(3)), (4, Some(3), None));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum DType {
            $(#[doc = $docs] $name,)+
        }

        impl DType {
            /// All of them.
            pub const ALL: &'static [DType] = &[$(DType::$name),+];

            /// The bits of one value.
            #[inline]
            #[must_use]
            pub const fn bits(self) -> usize {
                match self {
                    $(DType::$name => $bits,)+
                }
            }

            /// The name that it displays as.
            #[inline]
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(DType::$name => $text,)+
                }
            }
        }

        impl FromStr for DType {
            type Err = UnknownDType;

            #[inline]
            fn from_str(name: &str) -> Result<Self, UnknownDType> {
                match name {
                    $($text $(| $alias)* => Ok(DType::$name),)+
                    _ => Err(UnknownDType),
                }
            }
        }
    };
}

dtypes! {
    Bool 8 "bool" = "BOOL", "`false` or `true`, one byte.";
    U8 8 "u8" = "U8" = "uint8", "An unsigned integer.";
    U16 16 "u16" = "U16" = "uint16", "An unsigned integer.";
    U32 32 "u32" = "U32" = "uint32", "An unsigned integer.";
    U64 64 "u64" = "U64" = "uint64", "An unsigned integer.";
    I8 8 "i8" = "I8" = "int8", "A signed integer.";
    I16 16 "i16" = "I16" = "int16", "A signed integer.";
    I32 32 "i32" = "I32" = "int32", "A signed integer.";
    I64 64 "i64" = "I64" = "int64", "A signed integer.";
    F16 16 "f16" = "F16" = "float16", "IEEE binary16.";
    Bf16 16 "bf16" = "BF16" = "bfloat16", "The upper half of an `f32`.";
    F32 32 "f32" = "F32" = "float32", "IEEE binary32.";
    F64 64 "f64" = "F64" = "float64", "IEEE binary64.";
    F8E4M3 8 "f8e4m3" = "F8_E4M3" = "float8_e4m3fn", "Four exponent bits and three of mantissa; NaN, no infinity.";
    F8E5M2 8 "f8e5m2" = "F8_E5M2" = "float8_e5m2", "Five exponent bits and two of mantissa; NaN and infinity.";
    F8E8M0 8 "f8e8m0" = "F8_E8M0" = "float8_e8m0fnu", "A power of two: eight exponent bits, no sign; NaN.";
    U2 2 "u2" = "U2" = "uint2", "An unsigned integer; four in a byte.";
    U4 4 "u4" = "U4" = "uint4", "An unsigned integer; two in a byte.";
    U6 6 "u6" = "U6" = "uint6", "An unsigned integer; four in three bytes.";
    F4E2M1 4 "f4e2m1" = "F4" = "float4_e2m1fn", "Two exponent bits and one of mantissa; two in a byte.";
    F6E2M3 6 "f6e2m3" = "F6_E2M3" = "float6_e2m3fn", "Two exponent bits and three of mantissa; four in three bytes.";
    F6E3M2 6 "f6e3m2" = "F6_E3M2" = "float6_e3m2fn", "Three exponent bits and two of mantissa; four in three bytes.";
}

impl DType {
    /// How many values the smallest group of whole bytes has: 1, unless a value has less than a
    /// byte.
    #[inline]
    #[must_use]
    pub const fn group(self) -> usize {
        match self.bits() {
            2 | 6 => 4,
            4 => 2,
            _ => 1,
        }
    }

    /// The bytes of the smallest group.
    #[inline]
    #[must_use]
    pub const fn group_bytes(self) -> usize {
        match self.bits() {
            2 | 4 => 1,
            6 => 3,
            16 => 2,
            32 => 4,
            64 => 8,
            _ => 1,
        }
    }

    /// The bytes of `values` values. `None` if they do not fill whole groups, or if the bytes do
    /// not fit into a `usize`.
    #[inline]
    #[must_use]
    pub const fn bytes(self, values: usize) -> Option<usize> {
        if !values.is_multiple_of(self.group()) {
            return None;
        }
        match values.checked_div(self.group()) {
            Some(groups) => groups.checked_mul(self.group_bytes()),
            None => None,
        }
    }
}

impl fmt::Display for DType {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name is that of no [`DType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no dtype of this name: names are such as `bf16`, `BF16` and `bfloat16`")]
pub struct UnknownDType;

const _: () = assert!(size_of::<DType>() == 1);
