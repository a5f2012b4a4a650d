//! The fast paths whose instructions are counted, each beside a counterpart with raw pointers.
//!
//! Every function is called `CALLS` times on its fast path; `benches/instructions.sh` runs this
//! under callgrind and divides. A count includes the return. Building a batch is one call for
//! `CALLS` copies, and `--copies`, `--warp`, `--ragged` and `--table` encode one for the copy
//! kernels. `--steady` fails if a batch allocates on the heap after the first.

#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
use tidelock_test_support::stand_in;

use core::{
    alloc::Layout,
    cell::Cell,
    hint::black_box,
    ptr::{self, NonNull},
};

use tidelock::{
    BatchCopy, Ctx, Layout as TensorLayout, Permutation, Result, Stack, TensorView, View, ViewMut,
    alloc::Allocator,
    batch::{Batch, Group},
    buffer::{Rows, RowsMut},
    sim::{self, Sim},
};
use tidelock_test_support::heap;

const CALLS: usize = 1000;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

type D<'s> = Sim<'s>;

#[unsafe(no_mangle)]
#[inline(never)]
fn slice_view<'a, 's>(view: View<'a, u32, D<'s>>, start: usize, end: usize) -> Option<View<'a, u32, D<'s>>> {
    view.slice(start..end).ok()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn slice_raw(slice: &[u32], start: usize, end: usize) -> Option<&[u32]> {
    slice.get(start..end)
}

type Part3 = (TensorLayout<3>, usize);

#[unsafe(no_mangle)]
#[inline(never)]
fn slice_layout(layout: &TensorLayout<3>, axis: usize, start: usize, end: usize) -> Option<Part3> {
    layout.slice(axis, start..end).ok()
}

/// Shape and strides, and the offset of the first element.
struct RawLayout {
    shape: [usize; 3],
    stride: [usize; 3],
    offset: usize,
}

#[unsafe(no_mangle)]
#[inline(never)]
fn slice_layout_raw(layout: &RawLayout, axis: usize, start: usize, end: usize) -> Option<RawLayout> {
    if axis >= 3 || start > end || end > layout.shape[axis] {
        return None;
    }
    let mut part = RawLayout { ..*layout };
    part.shape[axis] = end - start;
    part.offset = if part.shape.contains(&0) { 0 } else { start * layout.stride[axis] };
    Some(part)
}

type Halves<'a, 's> = (TensorView<'a, u32, D<'s>, 2>, TensorView<'a, u32, D<'s>, 2>);

#[unsafe(no_mangle)]
#[inline(never)]
fn split_columns<'a, 's>(tensor: TensorView<'a, u32, D<'s>, 2>, mid: usize) -> Option<Halves<'a, 's>> {
    tensor.split_at(1, mid).ok()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn tensor_of_view<'a, 's>(view: View<'a, u32, D<'s>>, rows: usize) -> Option<TensorView<'a, u32, D<'s>, 2>> {
    view.tensor([rows, 8]).ok()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn cast_view<'a, 's>(view: View<'a, [u32; 4], D<'s>>) -> View<'a, u8, D<'s>> {
    view.cast()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn cast_raw(slice: &[[u32; 4]]) -> &[u8] {
    bytemuck::cast_slice(slice)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn merge_group<'e, 's>(
    group: &mut Group<'_, 'e, D<'s>>,
    src: View<'e, u32, D<'s>>,
    dst: ViewMut<'e, u32, D<'s>>,
) -> Result<()> {
    group.copy(src, dst)
}

#[derive(Default)]
struct RawGroup {
    runs: Vec<(usize, usize, usize)>,
    src: usize,
    dst: usize,
    bytes: usize,
}

#[unsafe(no_mangle)]
#[inline(never)]
fn merge_raw(group: &mut RawGroup, src: *const u32, len: usize, dst: *mut u32) {
    let bytes = len * 4;
    if src.addr() == group.src && dst.addr() == group.dst {
        group.src += bytes;
        group.dst += bytes;
        group.bytes += bytes;
    } else {
        start_raw(group, src.addr(), dst.addr(), bytes);
    }
}

#[cold]
#[inline(never)]
fn start_raw(group: &mut RawGroup, src: usize, dst: usize, bytes: usize) {
    if group.bytes != 0 {
        group.runs.push((group.src - group.bytes, group.dst - group.bytes, group.bytes));
    }
    (group.src, group.dst, group.bytes) = (src + bytes, dst + bytes, bytes);
}

#[unsafe(no_mangle)]
#[inline(never)]
fn alloc_stack(stack: &Stack<D<'_>>, bytes: usize) -> Option<NonNull<u8>> {
    stack.alloc(Layout::from_size_align(bytes, 4).ok()?).ok()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn free_stack(stack: &Stack<D<'_>>, ptr: NonNull<u8>, layout: Layout) {
    // SAFETY:
    // - The caller passes what `alloc_stack` returned, once.
    unsafe { stack.dealloc(ptr, layout) }
}

/// The allocation that leaves a hole, and the one that fills it.
const PIECE: Layout = Layout::new::<[u32; 16]>();

/// The first of many allocations.
const MANY: Layout = Layout::new::<[u32; 250]>();

/// There are some thousand holes, and it fits into each of them.
#[unsafe(no_mangle)]
#[inline(never)]
fn alloc_hole(stack: &Stack<D<'_>>) -> Option<NonNull<u8>> {
    stack.alloc(PIECE).ok()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn free_hole(stack: &Stack<D<'_>>, ptr: NonNull<u8>) {
    // SAFETY:
    // - The caller passes what `alloc_hole` returned, once.
    unsafe { stack.dealloc(ptr, PIECE) }
}

/// The first of many is freed first.
#[unsafe(no_mangle)]
#[inline(never)]
fn free_first(stack: &Stack<D<'_>>, ptr: NonNull<u8>) {
    // SAFETY:
    // - The caller passes what the stack returned for `MANY`, once.
    unsafe { stack.dealloc(ptr, MANY) }
}

struct RawStack {
    base: *mut u8,
    top: Cell<*mut u8>,
    end: *mut u8,
    size: Cell<usize>,
    peak: Cell<usize>,
}

#[unsafe(no_mangle)]
#[inline(never)]
fn alloc_raw(stack: &RawStack, bytes: usize) -> *mut u8 {
    let bytes = (bytes + 255) & !255;
    let (ptr, top) = (stack.top.get(), stack.top.get().wrapping_add(bytes));
    if top > stack.end {
        return ptr::null_mut();
    }
    stack.top.set(top);
    stack.size.set(stack.size.get() + bytes);
    stack.peak.set(stack.peak.get().max(stack.size.get()));
    ptr
}

#[unsafe(no_mangle)]
#[inline(never)]
fn free_raw(stack: &RawStack, ptr: *mut u8, bytes: usize) {
    let bytes = (bytes + 255) & !255;
    if ptr.wrapping_add(bytes) == stack.top.get() {
        stack.top.set(ptr);
        stack.size.set(stack.size.get() - bytes);
    } else {
        black_box(stack.base);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn derive_ctx<'c, 's>(ctx: Ctx<'c, D<'s>>, stack: &'c Stack<D<'s>>) -> Ctx<'c, D<'s>, &'c Stack<D<'s>>> {
    ctx.with_device_alloc(stack)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn derive_raw(ctx: usize, stack: usize) -> (usize, usize) {
    (ctx, stack)
}

/// Rows out of every second place, each copied on its own.
#[unsafe(no_mangle)]
#[inline(never)]
fn build_copies<'e, 's>(
    batch: &mut Batch<'_, 'e, D<'s>>,
    src: Rows<'e, u32, D<'s>>,
    numbers: &[u32],
    dst: RowsMut<'e, u32, D<'s>>,
) -> Result<()> {
    for (&number, dst) in numbers.iter().zip(dst) {
        batch.copy(src.row(number as usize)?, dst)?;
    }
    Ok(())
}

struct RawBatch {
    dst: Vec<*mut u32>,
    src: Vec<*const u32>,
    len: Vec<usize>,
}

#[unsafe(no_mangle)]
#[inline(never)]
fn build_copies_raw(batch: &mut RawBatch, src: *const u32, width: usize, numbers: &[u32], dst: *mut u32) {
    for (i, &number) in numbers.iter().enumerate() {
        batch.dst.push(dst.wrapping_add(i * width));
        batch.src.push(src.wrapping_add(number as usize * width));
        batch.len.push(width * 4);
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn build_warp<'e, 's>(
    group: &mut Group<'_, 'e, D<'s>>,
    src: Rows<'e, u32, D<'s>>,
    numbers: &'e [u32],
    dst: RowsMut<'e, u32, D<'s>>,
) -> Result<()> {
    group.warp(src, Permutation::new(numbers, src.row_count(), 0)?, dst)
}

/// Checks the numbers and stores them.
#[unsafe(no_mangle)]
#[inline(never)]
fn build_warp_raw(kept: &mut Vec<u32>, numbers: &[u32], rows: u32) -> bool {
    let valid = numbers.iter().fold(true, |valid, &number| valid & (number < rows));
    kept.clear();
    kept.extend_from_slice(numbers);
    valid
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("--copies") => on_stand_in(Kind::Copies, 0),
        Some("--warp") => on_stand_in(Kind::Warp, 0),
        Some("--ragged") => on_stand_in(Kind::Ragged, 0),
        Some("--table") => on_stand_in(Kind::Table, 0),
        Some("--steady") => {
            [Kind::Copies, Kind::Warp, Kind::Ragged, Kind::Table].into_iter().for_each(|kind| on_stand_in(kind, 100));
        }
        _ => sim::Device::new(sim::Options::quick()).stream(|stream, _env| run(&stream)).unwrap().unwrap(),
    }
}

/// The copies of a batch by the copy kernels, for `CALLS` rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Copies of one length.
    Copies,
    Warp,
    /// Copies of different lengths.
    Ragged,
    /// Eight times as many, which do not fit into the launch parameters.
    Table,
}

/// Batches by the copy kernels, on the stand-in driver: one, whose encoding in the library is
/// counted, and `more`, which allocate nothing on the heap.
#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
fn on_stand_in(kind: Kind, more: usize) {
    let _driver = stand_in::load();
    let device = tidelock::cuda::Device::open(0).unwrap();
    assert_eq!(device.copy_kernels(), tidelock::cuda::CopyKernels::Loaded);
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let rows = if kind == Kind::Table { 8 * CALLS } else { CALLS };
        let (src, mut dst) = (ctx.zeros::<u32>(16 * rows)?, ctx.zeros::<u32>(8 * rows)?);
        let (numbers, eight) = (even(rows), core::num::NonZero::new(8).unwrap());
        let mut storage = BatchCopy::new();
        let mut submit = |stream: &mut tidelock::Stream<_>| {
            storage.scope(&stream.ctx(), |batch| {
                let (src, dst) = (src.view().rows(eight)?, dst.view_mut().rows(eight)?);
                if kind == Kind::Warp {
                    let permutation = Permutation::new(&numbers, 2 * rows, 0)?;
                    return batch.group(|group| group.warp(src, permutation, dst));
                }
                numbers.iter().zip(dst).try_for_each(|(&number, dst)| {
                    let src = src.row(number as usize)?;
                    if kind == Kind::Copies {
                        return batch.copy(src, dst);
                    }
                    // 1 to 8 words, in random order.
                    let len = 1 + (number.wrapping_mul(0x9e37_79b1) >> 29) as usize;
                    batch.copy(src.slice(..len)?, dst.slice(..len)?)
                })
            })?;
            stream.synchronize().map(|_| ())
        };
        submit(&mut stream)?;
        for _ in 0..more {
            submit(&mut stream)?;
        }
        let before = heap::allocations();
        for _ in 0..more {
            submit(&mut stream)?;
        }
        assert_eq!(heap::allocations(), before, "heap allocations in {more} batches of {rows} rows ({kind:?})");
        Ok::<_, tidelock::Error>(())
    });
    answer.unwrap().unwrap();
}

#[cfg(not(all(feature = "cuda-core", target_os = "linux", target_env = "gnu")))]
fn on_stand_in(_: Kind, _: usize) {}

/// Rows of even number, backwards, so that none continues the one before.
fn even(rows: usize) -> Vec<u32> {
    (0..rows as u32).rev().map(|row| 2 * row).collect()
}

fn run<'s>(stream: &tidelock::Stream<D<'s>>) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let a = ctx.zeros::<u32>(8 * CALLS)?;
    let mut b = ctx.zeros::<u32>(8 * CALLS)?;
    let host = vec![0_u32; 8 * CALLS];
    let layout = TensorLayout::new([8, 8, 8])?;
    let raw_layout = RawLayout { shape: [8, 8, 8], stride: [64, 8, 1], offset: 0 };
    let matrix = a.view().slice(..64)?.tensor([8, 8])?;
    let vectors = stream.ctx().with_pool().zeros::<[u32; 4]>(16)?;
    let host_vectors = [[0_u32; 4]; 16];
    for i in 0..CALLS {
        black_box(slice_view(black_box(a.view()), i, i + 8));
        black_box(slice_raw(black_box(&host), i, i + 8));
        black_box(slice_layout(black_box(&layout), i % 3, 1, 5));
        black_box(slice_layout_raw(black_box(&raw_layout), i % 3, 1, 5));
        black_box(split_columns(black_box(matrix), 1 + i % 7));
        black_box(tensor_of_view(black_box(a.view().slice(..64)?), 8));
        black_box(cast_view(black_box(vectors.view())));
        black_box(cast_raw(black_box(&host_vectors)));
    }

    let eight = core::num::NonZero::new(8).unwrap();
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| {
            let mut rows = a.view().chunks_exact(eight).zip(b.view_mut().chunks_exact(eight));
            // The first row starts the run; all others continue it.
            rows.next().map_or(Ok(()), |(src, dst)| group.copy(src, dst))?;
            rows.try_for_each(|(src, dst)| merge_group(group, src, dst))
        })
    })?;
    let mut raw = RawGroup::default();
    start_raw(&mut raw, host.as_ptr().addr(), 64, 32);
    for i in 1..CALLS {
        merge_raw(&mut raw, host[8 * i..].as_ptr(), 8, ptr::without_provenance_mut(64 + 32 * i));
    }
    black_box(&raw.runs);

    let wide = ctx.zeros::<u32>(16 * CALLS)?;
    let numbers = even(CALLS);
    let mut storage = BatchCopy::new();
    // The storage grows here, and not afterwards.
    storage.scope(&ctx, |batch| {
        let (mut src, mut dst) = (wide.view().chunks_exact(eight), b.view_mut().chunks_exact(eight));
        src.by_ref().take(CALLS).zip(&mut dst).try_for_each(|(src, dst)| batch.copy(src, dst))
    })?;
    storage.scope(&ctx, |batch| {
        build_copies(batch, wide.view().rows(eight)?, black_box(&numbers), b.view_mut().rows(eight)?)
    })?;
    storage.scope(&ctx, |batch| {
        batch.group(|group| {
            let permutation = Permutation::new(&numbers, 2 * CALLS, 0)?;
            group.warp(wide.view().rows(eight)?, permutation, b.view_mut().rows(eight)?)
        })
    })?;
    storage.scope(&ctx, |batch| {
        batch.group(|group| build_warp(group, wide.view().rows(eight)?, black_box(&numbers), b.view_mut().rows(eight)?))
    })?;
    let mut raw =
        RawBatch { dst: Vec::with_capacity(CALLS), src: Vec::with_capacity(CALLS), len: Vec::with_capacity(CALLS) };
    build_copies_raw(&mut raw, black_box(host.as_ptr()), black_box(8), black_box(&numbers), ptr::null_mut());
    let mut kept = Vec::with_capacity(CALLS);
    black_box(build_warp_raw(&mut kept, black_box(&numbers), black_box(2000)));
    black_box((&raw.dst, &raw.src, &raw.len, &kept));

    let mut stack = Stack::new(ctx.pool());
    drop(ctx.with_device_alloc(&stack).alloc::<u32>(1 << 20)?);
    stack.reset()?;
    let mut region = vec![0_u8; 1 << 20];
    let base = region.as_mut_ptr();
    let raw = RawStack {
        base,
        top: Cell::new(base),
        end: base.wrapping_add(1 << 20),
        size: Cell::new(0),
        peak: Cell::new(0),
    };
    let layout = Layout::from_size_align(1000, 4).unwrap();
    for _ in 0..CALLS {
        let ptr = alloc_stack(&stack, black_box(1000)).unwrap();
        free_stack(&stack, ptr, black_box(layout));
        let ptr = alloc_raw(&raw, black_box(1000));
        free_raw(&raw, ptr, black_box(1000));
        black_box(derive_ctx(stream.ctx(), black_box(&stack)));
        black_box(derive_raw(black_box(1), black_box(2)));
    }
    any_order(&stack);
    Ok(())
}

/// Drops that leave holes: every second of some thousand, and then the first of many first.
fn any_order(stack: &Stack<D<'_>>) {
    let all: Vec<_> = (0..4 * CALLS).map(|_| stack.alloc(PIECE).unwrap()).collect();
    for pair in all.chunks_exact(2) {
        // SAFETY:
        // - Each comes from the stack with this layout, and is freed once.
        unsafe { stack.dealloc(pair[0], PIECE) }
    }
    for _ in 0..CALLS {
        let ptr = alloc_hole(stack).unwrap();
        free_hole(stack, ptr);
    }
    for pair in all.chunks_exact(2) {
        // SAFETY:
        // - As above: these are the others.
        unsafe { stack.dealloc(pair[1], PIECE) }
    }
    let all: Vec<_> = (0..CALLS).map(|_| stack.alloc(MANY).unwrap()).collect();
    all.into_iter().for_each(|ptr| free_first(stack, ptr));
}
