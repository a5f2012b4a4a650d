//! What generic and hostile programs can write in safe code.

use tidelock::{
    Buffer, DType, Element, Error, Scalar, View, ViewMut,
    element::{Align16, CastFrom, f6e2m3x4, u6x4},
    half::f16,
    location::{Host, Location},
    sim,
};

/// As wide as an `f32`, but no `f32`.
#[derive(Clone, Copy, PartialEq, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Liar(u32);
impl Element for Liar {}
tidelock::scalar!(Liar => DType::F32,);

/// One value of six bits is no whole bytes: the group is what has the `DType`.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Sixes([u8; 3]);
impl Element for Sixes {}
tidelock::scalar!(Sixes => DType::U6);

#[derive(Clone, Copy, PartialEq, Debug, bytemuck::NoUninit, bytemuck::CheckedBitPattern, bytemuck::Zeroable)]
#[repr(u8)]
enum Phase {
    Prefill,
    Decode,
}
impl Element for Phase {}
tidelock::scalar!(Phase => DType::U8);

/// It has no padding, and not all bytes are one.
#[derive(Clone, Copy, PartialEq, Debug, bytemuck::NoUninit, bytemuck::CheckedBitPattern, bytemuck::Zeroable)]
#[repr(C)]
struct Slot {
    id: u32,
    is_finished: bool,
    phase: Phase,
    length: u16,
}
impl Element for Slot {}

/// A row of any length, in code that leaves the length to its caller.
fn vectors<const N: usize>(rows: View<'_, [f16; N], Host>) -> View<'_, [u16; 4], Host>
where
    [u16; 4]: CastFrom<[f16; N]>,
{
    rows.cast()
}

#[test]
fn generic_code_passes_the_bound_on() {
    assert_eq!(vectors(View::from(&[[f16::ONE; 128]; 2][..])).len(), 64);
    assert_eq!(vectors(View::from(&[[f16::ONE; 0]; 2][..])).len(), 0);
}

#[test]
fn rows_of_no_elements_become_none() {
    let rows = [[0_u64; 0]; 5];
    assert_eq!(View::from(&rows[..]).cast::<u8>().as_slice(), [0_u8; 0]);
    let nested = [[[0_f32; 0]; 3]; 4];
    assert_eq!(View::from(&nested[..]).cast::<[u16; 2]>().as_slice(), [[0_u16; 2]; 0]);
    let many = [[0_u64; 0]; usize::MAX];
    assert_eq!(View::from(&many[..]).cast::<u64>().as_slice(), [0_u64; 0]);
    assert_eq!(View::from(&many[..]).bytes().as_slice(), [0_u8; 0]);
    // No size, and yet aligned.
    let none = Buffer::<Align16<[f16; 0]>, Host>::zeros(3).unwrap();
    assert_eq!((size_of::<Align16<[f16; 0]>>(), none.view().cast::<f16>().len()), (0, 0));
}

#[test]
fn a_dtype_that_lies_changes_no_type() {
    let liars = [Liar(f32::NAN.to_bits()), Liar(1)];
    assert_eq!(Liar::DTYPE, f32::DTYPE);
    assert!(View::from(&liars[..]).cast::<f32>().as_slice()[0].is_nan());
    assert_eq!(View::from(&[f6e2m3x4::from_bytes([1, 2, 3])][..]).cast::<Sixes>().as_slice()[0].0, [1, 2, 3]);
    assert_eq!(View::from(&[Sixes([1, 2, 3])][..]).cast::<u6x4>().as_slice()[0].to_bytes(), [1, 2, 3]);
}

#[test]
fn what_is_written_through_a_cast_is_read_as_the_first() {
    let mut rows = [Align16([1.0_f32; 4]), Align16([2.0; 4])];
    let words = ViewMut::from(&mut rows[..]).cast::<[u8; 8]>().into_slice();
    words[3] = [0; 8];
    assert_eq!(rows, [Align16([1.0; 4]), Align16([2.0, 2.0, 0.0, 0.0])]);
    let mut aligned = [Align16(Align16([7_u64; 2]))];
    ViewMut::from(&mut aligned[..]).cast::<Align16<[u32; 4]>>().into_slice().fill(Align16([0; 4]));
    assert_eq!(aligned, [Align16(Align16([0; 2]))]);
}

#[test]
fn structs_and_enums_are_made_from_bytes_that_are_values() {
    let slots = [
        Slot { id: 7, is_finished: true, phase: Phase::Decode, length: 9 },
        Slot { id: 8, is_finished: false, phase: Phase::Prefill, length: 0 },
    ];
    let copy = Buffer::<Slot, Host>::from_slice(&slots).unwrap();
    assert_eq!(copy.view().bytes().checked::<Slot>().unwrap().as_slice(), slots);
    for (byte, value, is_valid) in [(4, 2, false), (5, 2, false), (4, 0, true), (6, 255, true)] {
        let mut words = [[0_u32; 2]; 2];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        bytes.copy_from_slice(View::from(&slots[..]).bytes().as_slice());
        bytes[8 + byte] = value;
        let checked = View::from(&*bytes).checked::<Slot>();
        assert_eq!(checked.is_ok(), is_valid, "{byte}");
        if let Err(error) = checked {
            assert_eq!(error, Error::NotAValue { operand: "view", position: 1 });
        }
        // Not aligned, and not whole.
        let error = Error::Reinterpret { operand: "view", size: 8 };
        assert_eq!(View::from(&bytes[1..9]).checked::<Slot>().unwrap_err(), error);
        assert_eq!(View::from(&bytes[..15]).checked::<Slot>().unwrap_err(), error);
    }
    assert_eq!(View::from(&[1_u8, 0][..]).checked::<Phase>().unwrap().as_slice(), [Phase::Decode, Phase::Prefill]);
    let error = View::from(&[1_u8, 0, 2][..]).checked::<Phase>().unwrap_err();
    assert_eq!(error, Error::NotAValue { operand: "view", position: 2 });
}

#[test]
fn an_empty_view_is_checked_wherever_it_is() {
    let bytes = [3_u8; 9];
    for start in 0..9 {
        assert_eq!(View::from(&bytes[start..start]).checked::<Slot>().unwrap().as_slice(), []);
        assert!(View::from(&bytes[start..]).checked::<[u8; 0]>().is_err());
    }
}

/// The flags of finished sequences are one mask that the engine reads as bytes, on any device.
fn flags<'a, D: Location>(finished: View<'a, bool, D>) -> View<'a, u8, D> {
    finished.bytes()
}

#[test]
fn flags_are_read_as_bytes_on_a_device() {
    let device = sim::Device::new(sim::Options::quick().race_detector(true));
    let read = device.stream(|mut stream, _| {
        let flags = stream.ctx().with_pool().upload_new(&[true, false, true])?;
        let bytes = stream.read(self::flags(flags.view()))?;
        assert_eq!(View::from(&bytes[..]).checked::<bool>()?.as_slice(), [true, false, true]);
        Ok::<_, Error>(bytes)
    });
    assert_eq!(read.unwrap().unwrap(), [1, 0, 1]);
}
