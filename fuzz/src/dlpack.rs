//! Structures of DLPack. What the library says is compared with a computation in `i128`.

use std::{
    cell::Cell,
    ffi::c_void,
    ptr::{self, NonNull},
};

use tidelock::dlpack::{
    DlError, Imported,
    abi::{DlDataType, DlDevice, DlManagedTensor, DlManagedTensorVersioned, DlTensor, DlVersion},
};

use super::Input;

/// The memory of all tensors.
static MEMORY: [u64; 64] = [0x0001_0100_0101_0001; 64];
const BYTES: i128 = 64 * 8;

thread_local! {
    static DELETED: Cell<u32> = const { Cell::new(0) };
}

unsafe extern "C" fn delete(_: *mut DlManagedTensor) {
    DELETED.set(DELETED.get() + 1);
}

unsafe extern "C" fn delete_versioned(_: *mut DlManagedTensorVersioned) {
    DELETED.set(DELETED.get() + 1);
}

/// The codes that there are, by `dlpack.h`: code, bits, lanes and bytes.
const ELEMENTS: [(u8, u8, u16, i128); 22] = [
    (0, 8, 1, 1),
    (0, 16, 1, 2),
    (0, 32, 1, 4),
    (0, 64, 1, 8),
    (1, 8, 1, 1),
    (1, 16, 1, 2),
    (1, 32, 1, 4),
    (1, 64, 1, 8),
    (2, 16, 1, 2),
    (2, 32, 1, 4),
    (2, 64, 1, 8),
    (4, 16, 1, 2),
    (6, 8, 1, 1),
    (10, 8, 1, 1),
    (12, 8, 1, 1),
    (14, 8, 1, 1),
    (15, 6, 4, 3),
    (16, 6, 4, 3),
    (17, 4, 2, 1),
    (1, 2, 4, 1),
    (1, 4, 2, 1),
    (1, 6, 4, 3),
];

/// One structure, read from the bytes.
pub fn run(input: &[u8]) -> String {
    let mut input = Input(input);
    let kind = input.byte();
    let (major, device_type) =
        (u32::from(kind >= 128 || kind % 8 != 7), [1, 1, 1, 3, 2, -1, 13, 1][usize::from(kind / 8 % 8)]);
    let dtype = match input.byte() {
        known @ 0..220 => {
            let (code, bits, lanes, _) = ELEMENTS[usize::from(known % 22)];
            DlDataType { code, bits, lanes }
        }
        _ => DlDataType { code: input.byte() % 20, bits: input.byte(), lanes: u16::from(input.byte() % 5) },
    };
    let ndim = match input.byte() {
        few @ 0..240 => i32::from(few % 5),
        most @ 240..250 => i32::from(most) - 240,
        _ => -i32::from(input.byte()),
    };
    let axes = usize::try_from(ndim).unwrap_or(0);
    let mut shape: Vec<i64> = (0..axes).map(|_| input.number() as i64).collect();
    let mut strides: Option<Vec<i64>> =
        (input.byte() % 4 != 0).then(|| (0..axes).map(|_| input.number() as i64).collect());
    let (data, byte_offset) = match input.byte() {
        0..200 => (MEMORY.as_ptr().cast::<u8>().wrapping_add(usize::from(input.byte() % 16)), input.number()),
        200..220 => (ptr::null(), input.number()),
        _ => (ptr::without_provenance(input.number() as usize), input.number()),
    };
    let tensor = DlTensor {
        data: data.cast_mut().cast::<c_void>(),
        device: DlDevice { device_type, device_id: 0 },
        ndim,
        dtype,
        shape: if shape.is_empty() { ptr::null_mut() } else { shape.as_mut_ptr() },
        strides: strides.as_mut().map_or(ptr::null_mut(), |strides| strides.as_mut_ptr()),
        byte_offset,
    };
    // The contract of an import: the memory that is described is there.
    let expected = expected(&tensor, &shape, strides.as_deref(), major);
    let begin = data.addr() as i128 + i128::from(byte_offset) - MEMORY.as_ptr().addr() as i128;
    let there = |bytes: i128| bytes == 0 || (0..=BYTES - bytes.min(BYTES + 1)).contains(&begin);
    if let Some((bytes, _)) = expected
        && dtype.code == 6
        && !there(bytes)
    {
        return "a bool elsewhere".into();
    }
    DELETED.set(0);
    let reached = if kind < 128 {
        let version = DlVersion { major, minor: 7 };
        let deleter = Some(delete_versioned as unsafe extern "C" fn(_));
        let mut managed =
            DlManagedTensorVersioned { version, manager_ctx: ptr::null_mut(), deleter, flags: 0, dl_tensor: tensor };
        // SAFETY: the structure is valid, and flags are in memory that is there; other elements are
        // read only if they are.
        let answer = unsafe { Imported::new(NonNull::from(&mut managed)) };
        compare(answer.map_err(|rejected| rejected.error), expected, dtype.code == 6, there)
    } else {
        let deleter = Some(delete as unsafe extern "C" fn(_));
        let mut managed = DlManagedTensor { dl_tensor: tensor, manager_ctx: ptr::null_mut(), deleter };
        // SAFETY: as above.
        let answer = unsafe { Imported::unversioned(NonNull::from(&mut managed)) };
        compare(answer.map_err(|rejected| rejected.error), expected, dtype.code == 6, there)
    };
    assert_eq!(DELETED.get(), u32::from(reached.starts_with("ok")), "{reached}");
    reached
}

/// The bytes that an import reaches and the size of an element, or `None` if it has to be refused.
fn expected(tensor: &DlTensor, shape: &[i64], strides: Option<&[i64]>, major: u32) -> Option<(i128, i128)> {
    let code = tensor.dtype;
    let &(.., size) = ELEMENTS.iter().find(|(c, b, l, _)| (*c, *b, *l) == (code.code, code.bits, code.lanes))?;
    let host = matches!(tensor.device.device_type, 1 | 3);
    if !host || !(0..=8).contains(&tensor.ndim) || major != 1 || shape.iter().any(|extent| *extent < 0) {
        return None;
    }
    let most = i128::from(i64::MAX);
    let mut elements = 1_i128;
    for extent in shape.iter().map(|extent| i128::from(*extent).max(1)) {
        elements = elements.checked_mul(extent).filter(|elements| *elements <= most)?;
    }
    let mut last = elements - 1;
    if let Some(strides) = strides {
        // The stride of an axis of one place is anything.
        let both = || shape.iter().zip(strides).filter(|(extent, _)| **extent != 1);
        if both().any(|(_, stride)| *stride < 0) {
            return None;
        }
        last = 0;
        for (extent, stride) in both() {
            last += (i128::from(*extent).max(1) - 1).checked_mul(i128::from(*stride))?;
        }
        if last >= most {
            return None;
        }
    }
    if shape.contains(&0) {
        return Some((0, size));
    }
    let bytes = (last + 1) * size;
    let first = tensor.data.addr() as i128 + i128::from(tensor.byte_offset);
    let aligned = size == 3 || first % size == 0;
    // An address behind the end of a range is no more than the largest one.
    let fits = bytes <= most && first + bytes <= i128::from(u64::MAX) && !tensor.data.is_null();
    (aligned && fits).then_some((bytes, size))
}

fn compare(
    answer: Result<Imported, DlError>,
    expected: Option<(i128, i128)>,
    flags: bool,
    there: impl Fn(i128) -> bool,
) -> String {
    let ours = match answer {
        // What needs the elements, of `bool` only.
        Err(DlError::Other(tidelock::Error::NotAValue { .. } | tidelock::Error::Aliases { .. }))
            if expected.is_some() && flags =>
        {
            return "no bool".into();
        }
        Err(error) => {
            assert_eq!(expected, None, "{error}");
            return error.to_string().chars().filter(|c| !c.is_ascii_digit()).take(40).collect();
        }
        Ok(ours) => ours,
    };
    let view = ours.view();
    let Some((bytes, size)) = expected else { panic!("{view} at {:?} is accepted", view.as_ptr()) };
    assert_eq!((view.layout().cosize() as i128 * size, view.dtype().group_bytes() as i128), (bytes, size));
    if size != 3 {
        assert_eq!(view.as_ptr().addr() as i128 % size, 0);
    }
    let read = there(bytes) && view.layout().size() <= 4096;
    if read && view.layout().axes() == 2 && size == 4 {
        for element in view.downcast::<f32, 2>().into_iter().flat_map(|tensor| tensor.iter()) {
            assert_ne!(element.to_bits(), 0);
        }
    }
    format!("ok {view} {read}").chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}
