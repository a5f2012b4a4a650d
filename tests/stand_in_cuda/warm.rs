//! A warm stream: from the first iteration on, an engine's loop locks no memory, creates no event,
//! loads no code and instantiates no graph.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Buffer, Permutation, Result, State, View,
    cuda::{CudaBackend, Device},
    driver::Backend,
    location::Pinned,
    stream::StreamOptions,
};
use tidelock_test_support::stand_in;

/// Calls that may wait for a busy device in a driver.
const FORBIDDEN: [&str; 14] = [
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuModuleLoadDataEx",
    "cuModuleGetFunction",
    "cuGraphCreate",
    "cuGraphInstantiateWithFlags",
    "cuStreamCreateWithPriority",
    "cuMemPoolCreate",
];

/// Runs sixty iterations: uploads of all sizes, batches of all kinds, staged buffers, fences,
/// waits. Returns the forbidden calls.
fn run(device: &Device, control: &stand_in::Control, options: &StreamOptions, reserved: usize) -> Result<Vec<String>> {
    CudaBackend::PINNED.trim(0)?;
    device.stream_with(options, |mut stream, _env| {
        const ROWS: usize = 3000;
        CudaBackend::PINNED.reserve(reserved)?;
        let (width, pool) = (NonZero::new(16).unwrap_or(NonZero::<usize>::MIN), stream.ctx().with_pool());
        let mut state = State::<u32, _>::zeros(&pool, ROWS * 16)?;
        let order: Vec<u32> = (0..ROWS as u32).rev().collect();
        let order = Permutation::new(&order, ROWS, 0)?;
        let mut x = pool.zeros::<u32>(ROWS * 16)?;
        let large = vec![7_u32; 600_000];
        let mut place = pool.zeros::<u32>(large.len())?;
        let mut batch = BatchCopy::new();
        let mut down: Option<Buffer<u32, Pinned<CudaBackend>>> = Some(Buffer::zeros(64)?);
        let (calls, answer) = control.calls_of(|| {
            for round in 0..60_u32 {
                let ctx = stream.ctx().with_pool();
                ctx.upload(&[round; 100], x.view_mut().slice(..100)?)?;
                ctx.upload(&large, place.view_mut())?;
                let up = ctx.alloc_pinned::<u32>(300 + round as usize)?.write_with(|_| round).stage(&ctx);
                // Rows, described by a table or by the parameters; copies from plain host memory;
                // copies of all lengths.
                state.step(|front, back| {
                    let (from, to) = (front.rows(width)?, back.rows(width)?);
                    batch.scope(&ctx, |b| b.group(|g| g.warp(from, order, to)))
                })?;
                let host: Vec<u32> = (0..4000).collect();
                batch.scope(&ctx, |b| {
                    let mut pieces = x.view_mut().chunks_exact(width);
                    for i in 0..40 {
                        let Some(piece) = pieces.next() else { break };
                        b.copy(View::from(&host[i * 16..i * 16 + 16]), piece)?;
                    }
                    b.copy(up.view().slice(..100)?, place.view_mut().slice(..100)?)
                })?;
                batch.scope(&ctx, |b| {
                    for (i, piece) in x.view_mut().chunks_exact(width).enumerate() {
                        let len = 1 + i % 15;
                        b.copy(place.view().slice(i..i + len)?, piece.slice(..len)?)?;
                    }
                    Ok(())
                })?;
                let mut out = down.take().map(|down| down.stage(&ctx)).ok_or(tidelock::Error::SameStream)?;
                ctx.copy(x.view().slice(..64)?, out.view_mut())?;
                let (first, second) = (ctx.fence(out)?, ctx.fence(up)?);
                down = Some(first.wait()?);
                drop(second.wait()?);
                if round % 3 == 0 {
                    // A small batch on an idle stream is a graph.
                    stream.synchronize()?;
                    let ctx = stream.ctx();
                    batch.scope(&ctx, |b| {
                        for (i, piece) in x.view_mut().chunks_exact(width).take(2).enumerate() {
                            b.copy(place.view().slice(i * 16..i * 16 + 16)?, piece)?;
                        }
                        Ok(())
                    })?;
                }
            }
            Ok::<_, tidelock::Error>(())
        });
        answer?;
        Ok(calls.into_iter().filter(|call| FORBIDDEN.contains(&&call[..])).collect())
    })?
}

#[test]
fn a_warm_stream_locks_creates_and_loads_nothing_from_the_first_iteration_on() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let warm = StreamOptions::default().warm(true);
    assert_eq!(run(&device, &control, &warm, 4 << 20), Ok(vec![]));
    // The loop does need what the options reserve.
    let cold = run(&device, &control, &StreamOptions::default(), 0).unwrap();
    for call in ["cuMemHostAlloc", "cuEventCreate", "cuGraphInstantiateWithFlags"] {
        assert!(cold.iter().any(|made| made == call), "{call} in {cold:?}");
    }
    control.report().assert_clean();
}

#[test]
fn a_stream_that_cannot_be_warmed_does_not_open_and_leaves_nothing() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let warm = StreamOptions::default().warm(true);
    // The kernels stay loaded, so that the runs make the same calls.
    device.stream_with(&warm, |_, _| ()).unwrap();
    let mut used = CudaBackend::PINNED.usage().used;
    let (calls, opened) = control.calls_of(|| device.stream_with(&warm, |_, _| ()));
    opened.unwrap();
    for nth in 1..=calls.len() as u64 {
        CudaBackend::PINNED.trim(0).unwrap();
        control.fail(stand_in::Fault { name: "", nth, onwards: false, releases: true, code: 999 });
        let (made, answer) = control.calls_of(|| device.stream_with(&warm, |_, _| ()));
        control.disarm();
        let failed = made.get(nth as usize - 1).map_or("", |call| &call[..]);
        let now = CudaBackend::PINNED.usage().used;
        // The rings of the copy kernels are queried at the end. What is not certainly free is kept
        // (rule R12).
        if failed == "cuStreamQuery" {
            used = now;
        }
        assert_eq!(now, used, "pinned memory that leaks when {failed}, call {nth}, fails: {answer:?}");
    }
    control.report().assert_clean();
}
