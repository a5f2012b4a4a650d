//! Names of scalars.

use std::collections::BTreeSet;

use tidelock::{DType, element::UnknownDType};

#[test]
fn every_name_parses_to_the_dtype_that_it_displays() {
    let mut names = BTreeSet::new();
    for dtype in DType::ALL {
        assert_eq!(dtype.to_string().parse(), Ok(*dtype));
        assert!(names.insert(dtype.to_string()));
    }
    assert_eq!(names.len(), 22);
    assert_eq!(format!("{:>6}|", DType::Bf16), "  bf16|");
}

/// The names of safetensors 0.8, and of `str(torch.dtype)` without `torch.`
#[test]
fn names_of_others() {
    let pairs = [
        ("BOOL", "bool"),
        ("F4", "f4e2m1"),
        ("F6_E2M3", "f6e2m3"),
        ("F6_E3M2", "f6e3m2"),
        ("U8", "u8"),
        ("I8", "i8"),
        ("F8_E5M2", "f8e5m2"),
        ("F8_E4M3", "f8e4m3"),
        ("F8_E8M0", "f8e8m0"),
        ("I16", "i16"),
        ("U16", "u16"),
        ("F16", "f16"),
        ("BF16", "bf16"),
        ("I32", "i32"),
        ("U32", "u32"),
        ("F32", "f32"),
        ("F64", "f64"),
        ("I64", "i64"),
        ("U64", "u64"),
        ("float8_e4m3fn", "f8e4m3"),
        ("float8_e5m2", "f8e5m2"),
        ("float8_e8m0fnu", "f8e8m0"),
        ("bfloat16", "bf16"),
        ("float32", "f32"),
        ("int64", "i64"),
        ("uint8", "u8"),
    ];
    for (theirs, ours) in pairs {
        assert_eq!(theirs.parse::<DType>().map(|dtype| dtype.to_string()), Ok(ours.into()), "{theirs}");
    }
    // Codes of NumPy, where numbers count bytes, and the name of a pair of PyTorch, are not taken
    // for something else.
    let codes = ["f4", "f2", "<f4", "|u1", "i1", "float4_e2m1fn_x2"];
    for unknown in ["", "f8", "Bf16", "C64", "float8_e4m3fnuz", "bf16 "].into_iter().chain(codes) {
        assert_eq!(unknown.parse::<DType>(), Err(UnknownDType), "{unknown}");
    }
}

#[test]
fn bytes_of_values() {
    for dtype in DType::ALL {
        assert_eq!(dtype.group() * dtype.bits(), 8 * dtype.group_bytes(), "{dtype}");
        assert_eq!(dtype.bytes(0), Some(0));
        assert_eq!(dtype.bytes(12), Some(12 * dtype.bits() / 8), "{dtype}");
        assert_eq!(dtype.bytes(1).is_some(), dtype.bits() >= 8, "{dtype}");
    }
    // Where the original floors: three values of four bits in one byte, six bits in none.
    assert_eq!((DType::U4.bytes(3), DType::F6E2M3.bytes(1), DType::U6.bytes(6)), (None, None, None));
    assert_eq!((DType::F64.bytes(usize::MAX / 8), DType::F64.bytes(usize::MAX / 8 + 1)), (Some(usize::MAX - 7), None));
}
