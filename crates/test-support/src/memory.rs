//! Test values, and copies of them to a device and back.

#![forbid(unsafe_code)]

use std::num::NonZero;

use tidelock::{Buffer, Ctx, DeviceLocation, Element, Stream, View, stream::Staged};

/// `n` as the width of a row.
///
/// # Panics
/// If `n` is 0.
pub const fn width(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// `len` numbers that depend on `seed`; neighbours differ in every byte.
pub fn noise(seed: u32, len: usize) -> Vec<u32> {
    (seed..).map(|i| i.wrapping_mul(0x9e37_79b9).rotate_left(13) ^ 0x5bd1_e995).take(len).collect()
}

/// Staged memory with `values`.
///
/// # Panics
/// If the memory cannot be allocated.
pub fn staged<L: DeviceLocation, T: Element, A>(ctx: &Ctx<'_, L, A>, values: &[T]) -> Buffer<T, Staged<L>> {
    Buffer::<T, L::Pinned>::from_slice(values).unwrap().stage(ctx)
}

/// A staged byte that the stream clears, so that the next fence needs a record of its own.
///
/// # Panics
/// If memory cannot be pinned, or the fill is refused.
#[must_use]
pub fn cleared<L: DeviceLocation, A>(ctx: &Ctx<'_, L, A>) -> Buffer<u8, Staged<L>> {
    let mut byte = staged(ctx, &[1_u8]);
    ctx.clear(byte.view_mut()).unwrap();
    byte
}

/// Device memory from the stream's pool, with `values`.
///
/// # Panics
/// If the device refuses an operation.
pub fn put<L: DeviceLocation, T: Element, A: Copy>(ctx: &Ctx<'_, L, A>, values: &[T]) -> Buffer<T, L> {
    let empty = ctx.with_pool().alloc::<T>(values.len()).unwrap();
    ctx.init_from(empty, staged(ctx, values).view()).unwrap()
}

/// What device memory holds once the stream has passed everything enqueued. It waits for an event,
/// and leaves the stream as it is.
///
/// # Panics
/// If the device refuses an operation.
pub fn get<L: DeviceLocation, T: Element, A: Copy>(ctx: &Ctx<'_, L, A>, view: View<'_, T, L>) -> Vec<T> {
    let out = ctx.init_from(ctx.plain().alloc_pinned::<T>(view.len()).unwrap().stage(ctx), view).unwrap();
    ctx.fence(out).unwrap().wait().unwrap().to_vec()
}

/// What device memory holds, copied to ordinary memory. It waits for the whole stream, and needs no
/// page-locked memory.
///
/// # Panics
/// If the device refuses an operation.
pub fn read_back<L: DeviceLocation, T: Element>(stream: &mut Stream<L>, view: View<'_, T, L>) -> Vec<T> {
    let mut values = vec![T::zeroed(); view.len()];
    stream.host_scope(|scope| scope.ctx().copy(view, scope.target(&mut values))).unwrap().unwrap();
    values
}
