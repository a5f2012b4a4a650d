//! Host time of the most common operations on a GPU: the raw driver, this crate and cudarc's safe
//! layer, in interleaved rounds.
//!
//! It needs a GPU, and says so without one. It prints medians in nanoseconds of one operation, and
//! ratios to the raw driver.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use cudarc::driver::{CudaContext, CudaSlice, sys};
use tidelock::{cuda, stream::StreamOptions};

/// How often an operation is made: rounds, and operations timed together in each. The wait for the
/// stream between the rounds is not timed.
type Effort = (usize, u32);
const MANY: Effort = (2000, 32);
const FEW: Effort = (30, 1);

fn main() {
    let device = match cuda::Device::open(0) {
        Ok(device) => device,
        Err(reason) => return println!("no GPU here: {reason}"),
    };
    let theirs = CudaContext::new(0).unwrap();
    let their_stream = theirs.new_stream().unwrap();
    keep_default_pool();
    let (rounds, operations) = MANY;
    println!("host time of one operation, ns (median of {rounds} rounds of {operations}); ratio to the raw driver");
    println!("{:<34}{:>9}{:>17}{:>17}", "operation", "raw", "tidelock", "cudarc");

    let options = StreamOptions::default();
    device
        .stream_with(&options, |stream, _env| {
            let ctx = stream.ctx().with_pool();
            let raw = ctx.raw_stream().unwrap().cast();
            let pool = raw_pool();
            let (src, mut dst) = (ctx.zeros::<u32>(1024).unwrap(), ctx.zeros::<u32>(1024).unwrap());
            let their_src: CudaSlice<u32> = their_stream.alloc_zeros(1024).unwrap();
            let mut their_dst: CudaSlice<u32> = their_stream.alloc_zeros(1024).unwrap();
            let (from, to) = (src.as_ptr().addr() as u64, dst.as_mut_ptr().addr() as u64);
            let settle = || {
                // SAFETY: the stream is alive.
                unsafe { sys::cuStreamSynchronize(raw) }.result().unwrap();
                their_stream.synchronize().unwrap();
            };

            row(
                "allocate and drop 4 KiB",
                MANY,
                &settle,
                || {
                    let mut ptr = 0;
                    // SAFETY: pool and stream are alive; `ptr` is valid for a write.
                    unsafe { sys::cuMemAllocFromPoolAsync(&mut ptr, 4097, pool, raw) }.result().unwrap();
                    // SAFETY: the memory was just allocated, and is not used after this.
                    unsafe { sys::cuMemFreeAsync(black_box(ptr), raw) }.result().unwrap();
                },
                || drop(black_box(ctx.alloc::<u32>(1024).unwrap())),
                // SAFETY: the memory is not read.
                || drop(black_box(unsafe { their_stream.alloc::<u32>(1024) }.unwrap())),
            );
            row(
                "copy 4 KiB on the device",
                MANY,
                &settle,
                // SAFETY: both ranges are 4 KiB of live memory of this stream, and do not overlap.
                || unsafe { sys::cuMemcpyAsync(to, from, 4096, raw) }.result().unwrap(),
                || ctx.copy(src.view(), dst.view_mut()).unwrap(),
                || their_stream.memcpy_dtod(&their_src, &mut their_dst).unwrap(),
            );
            // Detached memory that is dropped is freed by a kept stream of the library. The raw
            // driver frees on the stream that allocated, which needs that stream.
            let event = raw_event();
            let raw_detach = || {
                let mut ptr = 0;
                // SAFETY: pool and stream are alive; `ptr` is valid for a write.
                unsafe { sys::cuMemAllocFromPoolAsync(&mut ptr, 4097, pool, raw) }.result().unwrap();
                // SAFETY: event and stream are alive.
                unsafe { sys::cuEventRecord(event, raw) }.result().unwrap();
                // SAFETY: the memory was just allocated, and is not used after this.
                unsafe { sys::cuMemFreeAsync(black_box(ptr), raw) }.result().unwrap();
            };
            row(
                "allocate, detach, attach, drop",
                MANY,
                &settle,
                raw_detach,
                || drop(ctx.attach(ctx.detach(ctx.alloc::<u32>(1024).unwrap()).unwrap()).unwrap()),
                // SAFETY: the memory is not read.
                || drop(black_box(unsafe { their_stream.alloc::<u32>(1024) }.unwrap())),
            );
            row(
                "allocate, detach, drop detached",
                MANY,
                &settle,
                raw_detach,
                || drop(ctx.detach(ctx.alloc::<u32>(1024).unwrap()).unwrap()),
                // SAFETY: the memory is not read.
                || drop(black_box(unsafe { their_stream.alloc::<u32>(1024) }.unwrap())),
            );
            let data = black_box([1_u32, 2, 3, 4]);
            let mut head = dst.view_mut().slice(..4).unwrap();
            let mut their_head = their_stream.alloc_zeros::<u32>(4).unwrap();
            row(
                "upload 16 bytes; raw: pageable",
                MANY,
                &settle,
                // SAFETY: 16 bytes of pageable memory that stays until the stream is waited for.
                || unsafe { sys::cuMemcpyAsync(to, data.as_ptr() as u64, 16, raw) }.result().unwrap(),
                || ctx.upload(&data, head.reborrow()).unwrap(),
                || their_stream.memcpy_htod(&data, &mut their_head).unwrap(),
            );
            let mut page = ctx.alloc_pinned::<u32>(4 * 4096).unwrap().write_with(|_| 0);
            let mut slots = (0..4096).cycle();
            row(
                "upload 16 bytes; raw: pinned",
                MANY,
                &settle,
                || {
                    let slot = slots.next().map_or(0, |slot| 4 * slot);
                    page[slot..slot + 4].copy_from_slice(&data);
                    // SAFETY: 16 bytes of pinned memory that is not written again before the stream
                    // is waited for.
                    unsafe { sys::cuMemcpyAsync(to, page[slot..].as_ptr() as u64, 16, raw) }.result().unwrap();
                },
                || ctx.upload(&data, head.reborrow()).unwrap(),
                || their_stream.memcpy_htod(&data, &mut their_head).unwrap(),
            );
            // Each copy is complete when the call returns: the measured time is that of the
            // transfer.
            let large = vec![7_u8; 256 << 20];
            let mut target = ctx.zeros::<u8>(large.len()).unwrap();
            let mut their_target = their_stream.alloc_zeros::<u8>(large.len()).unwrap();
            let to = target.as_mut_ptr().addr() as u64;
            row(
                "upload 256 MiB; raw: pageable",
                FEW,
                &settle,
                || {
                    // SAFETY: the memory stays until the stream is waited for.
                    unsafe { sys::cuMemcpyAsync(to, large.as_ptr() as u64, large.len(), raw) }.result().unwrap();
                    settle();
                },
                || {
                    ctx.upload(&large, target.view_mut()).unwrap();
                    settle();
                },
                || {
                    their_stream.memcpy_htod(&large, &mut their_target).unwrap();
                    settle();
                },
            );
        })
        .unwrap();
}

/// Times the three in turn, round after round, and prints a line.
fn row(
    name: &str,
    (rounds, operations): Effort,
    settle: &dyn Fn(),
    mut raw: impl FnMut(),
    mut ours: impl FnMut(),
    mut theirs: impl FnMut(),
) {
    let mut times = [const { Vec::<Duration>::new() }; 3];
    let warming = rounds / 10;
    for round in 0..rounds + warming {
        let round_times = [
            round_of(operations, settle, &mut raw),
            round_of(operations, settle, &mut ours),
            round_of(operations, settle, &mut theirs),
        ];
        if round >= warming {
            times.iter_mut().zip(round_times).for_each(|(times, time)| times.push(time));
        }
    }
    let [raw, ours, theirs] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64 / f64::from(operations)
    });
    println!("{name:<34}{raw:>10.0}{ours:>10.0} ({:>4.2}x){theirs:>10.0} ({:>4.2}x)", ours / raw, theirs / raw);
}

fn round_of(operations: u32, settle: &dyn Fn(), operation: &mut impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..operations {
        operation();
    }
    let time = start.elapsed();
    settle();
    time
}

/// Lets the default pool, which cudarc allocates from, keep its memory, so that the comparison is
/// fair.
fn keep_default_pool() {
    let (mut pool, mut all) = (std::ptr::null_mut(), u64::MAX);
    // SAFETY: `pool` is valid for a write, and there is a device 0.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, 0) }.result().unwrap();
    let threshold = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the pool is alive, and the attribute is read as a 64-bit number.
    unsafe { sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut all).cast()) }.result().unwrap();
}

fn raw_event() -> sys::CUevent {
    let mut event = std::ptr::null_mut();
    let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING;
    // SAFETY: `event` is valid for a write, and a context is current.
    unsafe { sys::cuEventCreate(&mut event, flags as u32) }.result().unwrap();
    event
}

fn raw_pool() -> sys::CUmemoryPool {
    let mut pool = std::ptr::null_mut();
    // SAFETY: `pool` is valid for a write, and there is a device 0.
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, 0) }.result().unwrap();
    pool
}
