//! Elements by the codes of DLPack.

#![forbid(unsafe_code)]

use super::abi::DlDataType;
use crate::element::DType;

/// The code, the bits and the values of an element. Values of less than a byte are packed, and
/// those of a group are one element.
pub(super) fn code_of(dtype: DType) -> DlDataType {
    let of = |code, bits| DlDataType { code, bits, lanes: 1 };
    let group = |code, bits, lanes| DlDataType { code, bits, lanes };
    match dtype {
        DType::I8 => of(INT, 8),
        DType::I16 => of(INT, 16),
        DType::I32 => of(INT, 32),
        DType::I64 => of(INT, 64),
        DType::U8 => of(UINT, 8),
        DType::U16 => of(UINT, 16),
        DType::U32 => of(UINT, 32),
        DType::U64 => of(UINT, 64),
        DType::F16 => of(FLOAT, 16),
        DType::F32 => of(FLOAT, 32),
        DType::F64 => of(FLOAT, 64),
        DType::Bf16 => of(BFLOAT, 16),
        DType::Bool => of(BOOL, 8),
        DType::F8E4M3 => of(FLOAT8_E4M3FN, 8),
        DType::F8E5M2 => of(FLOAT8_E5M2, 8),
        DType::F8E8M0 => of(FLOAT8_E8M0FNU, 8),
        DType::F6E2M3 => group(FLOAT6_E2M3FN, 6, 4),
        DType::F6E3M2 => group(FLOAT6_E3M2FN, 6, 4),
        DType::F4E2M1 => group(FLOAT4_E2M1FN, 4, 2),
        DType::U2 => group(UINT, 2, 4),
        DType::U4 => group(UINT, 4, 2),
        DType::U6 => group(UINT, 6, 4),
    }
}

/// The element of a code, if the library has one.
pub(super) fn dtype_of(code: DlDataType) -> Option<DType> {
    DType::ALL.iter().copied().find(|dtype| code_of(*dtype) == code)
}

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;
const BOOL: u8 = 6;
const FLOAT8_E4M3FN: u8 = 10;
const FLOAT8_E5M2: u8 = 12;
const FLOAT8_E8M0FNU: u8 = 14;
const FLOAT6_E2M3FN: u8 = 15;
const FLOAT6_E3M2FN: u8 = 16;
const FLOAT4_E2M1FN: u8 = 17;
