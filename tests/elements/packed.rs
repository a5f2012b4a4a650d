//! Values of less than a byte.

use tidelock::{
    Buffer, DType, Scalar,
    element::{f4e2m1x2, f6e2m3x4, f6e3m2x4, u2x4, u4x2, u6x4},
    location::Host,
};

#[test]
fn the_first_value_is_in_the_lowest_bits() {
    assert_eq!(u4x2::new([0x1, 0xA]).unwrap().to_bytes(), [0xA1]);
    assert_eq!(u2x4::new([3, 0, 1, 2]).unwrap().to_bytes(), [0b10_01_00_11]);
    // 24 bits, the fourth value on top.
    let bits = 1_u32 | 2 << 6 | 33 << 12 | 63 << 18;
    assert_eq!(u6x4::new([1, 2, 33, 63]).unwrap().to_bytes(), bits.to_le_bytes()[..3]);
    // As PyTorch packs `float4_e2m1fn_x2`: 0.5 is pattern 1, and -6 is pattern 15.
    assert_eq!(f4e2m1x2::from_f32([0.5, -6.0]).to_bytes(), [0xF1]);
}

#[test]
fn every_group_of_values_comes_back() {
    for byte in 0..=255_u8 {
        assert_eq!(u4x2::new(u4x2::from_bytes([byte]).values()).unwrap().to_bytes(), [byte]);
        assert_eq!(u2x4::new(u2x4::from_bytes([byte]).values()).unwrap().to_bytes(), [byte]);
        assert_eq!(f4e2m1x2::from_f32(f4e2m1x2::from_bytes([byte]).values()).to_bytes(), [byte]);
        for bytes in [[byte, 0x5A, 0xC3], [0x96, byte, 0x3C], [0x69, 0xA5, byte]] {
            assert_eq!(u6x4::new(u6x4::from_bytes(bytes).values()).unwrap().to_bytes(), bytes);
            assert_eq!(f6e2m3x4::from_f32(f6e2m3x4::from_bytes(bytes).values()).to_bytes(), bytes);
            assert_eq!(f6e3m2x4::from_f32(f6e3m2x4::from_bytes(bytes).values()).to_bytes(), bytes);
        }
    }
}

#[test]
fn what_has_more_bits_is_refused_or_saturated() {
    assert_eq!((u4x2::new([16, 0]), u2x4::new([0, 0, 0, 4]), u6x4::new([0, 64, 0, 0])), (None, None, None));
    assert_eq!(f4e2m1x2::from_f32([1e9, f32::NAN]).values(), [6.0, 6.0]);
    assert_eq!(f6e2m3x4::from_f32([f32::INFINITY, -8.0, 0.0, 0.1]).values(), [7.5, -7.5, 0.0, 0.125]);
}

#[test]
fn they_are_elements_of_whole_bytes() {
    fn check<T: Scalar>(dtype: DType) {
        assert_eq!((T::DTYPE, size_of::<T>()), (dtype, dtype.group_bytes()));
        assert_eq!(Buffer::<T, Host>::zeros(3).unwrap().view().bytes().len(), 3 * size_of::<T>());
    }
    check::<u2x4>(DType::U2);
    check::<u4x2>(DType::U4);
    check::<u6x4>(DType::U6);
    check::<f4e2m1x2>(DType::F4E2M1);
    check::<f6e2m3x4>(DType::F6E2M3);
    check::<f6e3m2x4>(DType::F6E3M2);
}
