//! What can be read as what, without looking and by looking.

use tidelock::{
    Buffer, DType, Element, Error, Scalar, View, ViewMut,
    element::{Align16, f8e4m3, u4x2},
    half::{bf16, f16},
    location::Host,
};

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Logit(f32);
impl Element for Logit {}
tidelock::scalar!(Logit => DType::F32);

#[test]
fn rows_become_their_elements_and_rows_of_others() {
    let rows = [[1.0_f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]];
    let view = View::from(&rows[..]);
    assert_eq!(view.cast::<f32>().as_slice(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    assert_eq!(view.cast::<[u32; 2]>().as_slice()[3], [7.0_f32.to_bits(), 8.0_f32.to_bits()]);
    assert_eq!(view.cast::<Logit>().len(), 8);
    assert_eq!(view.cast::<[u8; 16]>().as_slice()[1][12..], 8.0_f32.to_ne_bytes());
    assert_eq!(view.slice(2..).unwrap().cast::<u16>().len(), 0);
    let mut rows = [[bf16::ZERO; 128]; 2];
    ViewMut::from(&mut rows[..]).cast::<[u16; 64]>().into_slice()[3][63] = 0x3F80;
    assert_eq!((rows[1][127], rows[1][126]), (bf16::ONE, bf16::ZERO));
    assert_eq!(View::from(&[f8e4m3::from_bits(7)][..]).cast::<u4x2>().as_slice()[0].values(), [7, 0]);
    // A row of 7168, as an array of arrays.
    assert_eq!(View::from(&vec![[[f16::ONE; 1024]; 7]; 2][..]).cast::<[f16; 8]>().len(), 1792);
}

#[test]
fn aligned_rows_lie_at_multiples_of_16() {
    let buffer = Buffer::<Align16<[f16; 8]>, Host>::zeros(3).unwrap();
    assert_eq!((size_of::<Align16<[f16; 8]>>(), buffer.as_ptr().addr() % 16), (16, 0));
    assert_eq!(buffer.view().cast::<[u8; 16]>().len(), 3);
    assert_eq!(buffer.view().cast::<f16>().len(), 24);
    assert_eq!(Buffer::<Align16<[f32; 8]>, Host>::zeros(2).unwrap().view().bytes().len(), 64);
}

#[test]
fn bytes_become_bools_that_are_looked_at() {
    let flags = Buffer::<bool, Host>::from_slice(&[true, false, true]).unwrap();
    let bytes = flags.view().bytes();
    assert_eq!(bytes.checked::<bool>().unwrap().as_slice(), [true, false, true]);
    for (bytes, position) in [([2, 1, 0], 0), ([0, 1, 255], 2)] {
        let error = View::from(&bytes[..]).checked::<bool>().unwrap_err();
        assert_eq!(error, Error::NotAValue { operand: "view", position });
    }
    assert_eq!(View::from(&[0_u8; 0][..]).checked::<bool>().unwrap().len(), 0);
    let error = View::from(&[0_u8; 7][..]).checked::<u32>().unwrap_err();
    assert_eq!(error, Error::Reinterpret { operand: "view", size: 4 });
}

#[test]
fn scalars_have_names() {
    fn names<T: Scalar>() -> (String, usize) {
        (T::DTYPE.to_string(), T::DTYPE.bits())
    }
    assert_eq!(names::<Logit>(), ("f32".into(), 32));
    assert_eq!(names::<bool>(), ("bool".into(), 8));
    assert_eq!(names::<bf16>(), ("bf16".into(), 16));
}
