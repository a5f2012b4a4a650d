//! Memory seen as other elements: empty views, elements of no bytes, and the bytes of elements.

use std::{alloc::Layout, fmt::Debug, ptr::NonNull, thread};

use bytemuck::{NoUninit, Pod, Zeroable};
use tidelock::{
    BatchCopy, Buffer, Element, Error, Result, View, ViewMut,
    alloc::{AllocError, ClosureAlloc},
    location::Host,
    sim,
};

use super::{assert_clean, get, put, slow, width};

/// Compares both kinds of view with the same cast of `bytemuck`, which checks alignment also for
/// empty slices.
fn compare<T: Pod, U: Pod + PartialEq + Debug>(slice: &mut [T]) {
    let expected = bytemuck::try_cast_slice::<T, U>(slice).map(<[U]>::to_vec);
    let bytes = size_of_val(slice);
    let error = Error::Reinterpret { operand: "view", size: size_of::<U>() };
    let expected = match expected {
        Ok(elements) => Ok(elements),
        Err(_) if bytes == 0 && size_of::<T>() == size_of::<U>() => Ok(vec![U::zeroed(); slice.len()]),
        Err(_) if bytes == 0 => Ok(vec![]),
        Err(_) => Err(error),
    };
    let place = slice.as_ptr().addr();
    let what = format!("{} elements of {} bytes as {}", slice.len(), size_of::<T>(), size_of::<U>());
    let shared = View::from(&*slice).try_cast::<U>().map(View::as_slice);
    assert!(shared.is_err() || shared.as_ref().unwrap().as_ptr().is_aligned(), "{what}");
    assert!(bytes == 0 || shared.is_err() || shared.unwrap().as_ptr().addr() == place, "{what}");
    assert_eq!(shared.map(<[U]>::to_vec), expected, "{what}");
    let exclusive = ViewMut::from(slice).try_cast::<U>().map(ViewMut::into_slice);
    assert!(exclusive.is_err() || exclusive.as_ref().unwrap().as_ptr().is_aligned(), "{what}");
    assert_eq!(exclusive.map(|slice| slice.to_vec()), expected, "{what}");
}

fn compare_all<T: Pod>(slice: &mut [T]) {
    compare::<T, u8>(slice);
    compare::<T, u16>(slice);
    compare::<T, u32>(slice);
    compare::<T, u128>(slice);
    compare::<T, [u8; 3]>(slice);
    compare::<T, [u32; 3]>(slice);
    compare::<T, [u8; 0]>(slice);
    compare::<T, [u128; 0]>(slice);
}

#[test]
fn no_bytes_are_no_elements_of_anything_wherever_they_are() {
    let mut memory = [0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100_u128; 3];
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
    for start in 0..=17 {
        for len in 0..=30 {
            compare_all(&mut bytes[start..start + len]);
        }
    }
    let words: &mut [u32] = bytemuck::cast_slice_mut(&mut memory);
    for start in 0..=5 {
        for len in 0..=7 {
            compare_all(&mut words[start..start + len]);
        }
    }
    for len in 0..4 {
        compare_all(&mut vec![[0_u8; 0]; len]);
        compare_all(&mut vec![[0_u32; 0]; len]);
    }
    compare_all(&mut Vec::<[u8; 5]>::new());
}

#[test]
fn empty_device_memory_is_rows_of_any_element() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            for blocks in [0, 1, 2] {
                let kv = ctx.zeros::<u8>(blocks * 16).unwrap();
                let rows = kv.view().try_cast::<f32>().unwrap().rows(width(4)).unwrap();
                assert_eq!(rows.row_count(), blocks);
            }
            // An empty part that starts where no `u64` may start: kernels, copies, fills and
            // batches accept it.
            let mut x = put(&ctx, &[7_u8; 9]);
            let mut y = ctx.zeros::<u64>(1).unwrap();
            let mut empty = x.view_mut().slice(5..5).unwrap().try_cast::<u64>().unwrap();
            ctx.launch((empty.reborrow(),), |(x,)| assert!(x.is_empty() && x.as_ptr().is_aligned())).unwrap();
            ctx.copy(y.view().slice(1..).unwrap(), empty.reborrow()).unwrap();
            ctx.upload(&[], empty.reborrow()).unwrap();
            ctx.clear(empty.reborrow()).unwrap();
            BatchCopy::new().scope(&ctx, |b| b.copy(empty.as_view(), y.view_mut().slice(..0)?)).unwrap();
            assert_eq!(get(&mut stream, x.view()), [7; 9]);
        })
        .unwrap();
    assert_clean(&device);
}

/// How an engine uses its finished flags.
const fn flags(view: View<'_, bool, Host>) -> View<'_, u8, Host> {
    view.bytes()
}

#[derive(Clone, Copy, NoUninit, Zeroable)]
#[repr(C)]
struct Slot {
    token: u32,
    rank: u16,
    last: bool,
    first: bool,
}
impl Element for Slot {}

#[test]
fn elements_without_padding_are_read_as_bytes() {
    let finished = Buffer::<bool, Host>::from_slice(&[true, false, true, true]).unwrap();
    assert_eq!(flags(finished.view()).as_slice(), [1, 0, 1, 1]);
    assert_eq!(flags(finished.view().slice(4..).unwrap()).as_slice(), [0_u8; 0]);
    let slots = [Slot { token: 0x0403_0201, rank: 0x0605, last: true, first: false }; 2];
    assert_eq!(View::from(&slots[..]).bytes().as_slice(), [1, 2, 3, 4, 5, 6, 1, 0, 1, 2, 3, 4, 5, 6, 1, 0]);
    assert_eq!(View::from(&[[0_u64; 0]; 3][..]).bytes().len(), 0);

    let device = sim::Device::default();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut finished = put(&ctx, &[true, false, true]);
            assert_eq!(get(&mut stream, finished.view().bytes()), [1, 0, 1]);
            let ctx = stream.ctx().with_pool();
            let mut bytes = ctx.zeros::<u8>(3).unwrap();
            // An exclusive view lends its bytes for reading.
            let finished = finished.view_mut();
            BatchCopy::new().scope(&ctx, |b| b.copy(finished.as_view().bytes(), bytes.view_mut())).unwrap();
            assert_eq!(get(&mut stream, bytes.view()), [1, 0, 1]);
        })
        .unwrap();
    assert_clean(&device);
}

/// The stack of a thread, far too small for one of the elements below.
const STACK: usize = 64 << 10;

fn on_a_small_stack(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(STACK).spawn(f).unwrap().join().unwrap();
}

#[test]
fn zeroes_do_not_pass_through_the_stack() {
    type Large = [f32; 1 << 20];
    on_a_small_stack(|| {
        let weights = Buffer::<Large, Host>::zeros(2).unwrap();
        assert_eq!(weights.byte_len(), 8 << 20);
        assert!(weights.iter().flatten().all(|x| x.to_bits() == 0));
        let copy = Buffer::<Large, Host>::from_slice(&weights).unwrap();
        assert!(copy.iter().flatten().all(|x| x.to_bits() == 0));
    });
}

#[test]
fn zeroes_are_written_whatever_was_there() {
    let alloc = |layout: Layout| {
        // SAFETY:
        // - The size is not 0.
        let memory = NonNull::new(unsafe { std::alloc::alloc(layout) }).ok_or(AllocError::OutOfMemory)?;
        // SAFETY:
        // - This many bytes were just allocated.
        unsafe { memory.write_bytes(0xA5, layout.size()) };
        Ok(memory)
    };
    // SAFETY:
    // - `ptr` comes from `alloc` above, with this layout.
    let dealloc = |ptr: NonNull<u8>, layout| unsafe { std::alloc::dealloc(ptr.as_ptr(), layout) };
    // SAFETY:
    // - It is heap memory, aligned as the layout says, and only the caller has it. Host memory is
    //   never merged.
    let dirty = unsafe { ClosureAlloc::<Host, _, _>::new(alloc, dealloc) };
    assert_eq!(&Buffer::<u128, Host, _>::zeros_in(3, &dirty).unwrap()[..], [0_u128; 3]);
    assert_eq!(&Buffer::<[bool; 3], Host, _>::zeros_in(5, &dirty).unwrap()[..], [[false; 3]; 5]);
}

#[test]
fn zeroes_of_no_bytes_end_at_once() -> Result<()> {
    for len in [0, 1, usize::MAX] {
        assert_eq!(Buffer::<[u64; 0], Host>::zeros(len)?.len(), len);
    }
    assert_eq!(Buffer::<u16, Host>::zeros(usize::MAX).map(|_| ()), Err(Error::TooLarge { operand: "host" }));
    Ok(())
}
