//! Heap allocations: no operation makes one once it is warm.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use tidelock::{BatchCopy, Device as _, Error, Permutation, buffer::Scatter, sim, stream::StreamOptions};
use tidelock_test_support::heap;

use super::{pinned, turn};

#[test]
fn no_operation_allocates_on_the_heap_once_warm() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream_with(&StreamOptions::default().ring_bytes(1024).max_deferred_frees(8), |mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(1024).unwrap();
            let (mut batch, mut scatter) = (BatchCopy::new(), Scatter::new());
            let counted = [
                (
                    "pool",
                    once_warm(|| {
                        let ctx = stream.ctx().with_pool();
                        drop((ctx.zeros::<u32>(300).unwrap(), ctx.alloc::<u8>(5000).unwrap()));
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "sync",
                    once_warm(|| {
                        let ctx = stream.ctx().with_device_alloc(stream.ctx().sync_alloc());
                        // The simulated device allocates for each block of memory. That is not the
                        // library's.
                        let y = heap::uncounted(|| ctx.alloc::<u32>(300).unwrap());
                        drop(y);
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "pinned",
                    once_warm(|| {
                        let ctx = stream.ctx();
                        let a = ctx.alloc_pinned::<u32>(77).unwrap().stage(&ctx);
                        let b = pinned(1000).stage(&ctx);
                        let (a, b) = (ctx.fence(a).unwrap(), ctx.fence(b).unwrap());
                        drop((a.wait().unwrap(), b.wait().unwrap()));
                        for _ in 0..12 {
                            drop(pinned(300).stage(&ctx));
                        }
                    }),
                ),
                (
                    "arriving memory",
                    once_warm(|| {
                        let ctx = stream.ctx();
                        let fenced = || ctx.fence(ctx.alloc_pinned::<u32>(77).unwrap().stage(&ctx)).unwrap();
                        let (mut polled, mut pending) = (fenced().detach(), fenced());
                        let cx = &mut Context::from_waker(Waker::noop());
                        while Pin::new(&mut polled).poll(cx).is_pending()
                            || Pin::new(&mut pending).poll(cx).is_pending()
                        {
                            std::thread::yield_now();
                        }
                        ctx.launch((x.view_mut(),), |(x,)| x[0] = 1).unwrap();
                        drop(fenced().detach());
                        drop(fenced().detach().wait().unwrap());
                        // So that no more records are in flight than before.
                        while device.deferred_bytes() != 0 {
                            std::thread::yield_now();
                        }
                    }),
                ),
                (
                    "ring",
                    once_warm(|| {
                        for _ in 0..12 {
                            stream.ctx().upload(&[1; 50], x.view_mut().slice(..50).unwrap()).unwrap();
                        }
                        stream.ctx().upload(&[1; 1000], x.view_mut().slice(..1000).unwrap()).unwrap();
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "host scope",
                    once_warm(|| {
                        let mut data = [0_u32; 16];
                        let part = x.view().slice(..16).unwrap();
                        stream.host_scope(|scope| scope.ctx().copy(part, scope.target(&mut data))).unwrap().unwrap();
                    }),
                ),
                (
                    "kernel",
                    once_warm(|| {
                        let ctx = stream.ctx();
                        for n in 0..10_u32 {
                            let captured = [n; 16];
                            ctx.launch((x.view_mut(), n), move |(x, n)| x[0] = n + captured[3]).unwrap();
                        }
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "tables",
                    once_warm(|| {
                        let ctx = stream.ctx().with_pool();
                        let (wide, narrow) = (std::num::NonZero::new(64).unwrap(), std::num::NonZero::new(4).unwrap());
                        let (head, tail) = x.view_mut().split_at(512).unwrap();
                        let mut written = ctx.table(head.chunks_exact(narrow).zip(0_u8..)).unwrap();
                        let read = ctx.table(tail.as_view().chunks_exact(wide)).unwrap();
                        ctx.launch((written.view_mut(), read.view()), |(written, read)| written[0].0[0] = read[1][2])
                            .unwrap();
                        drop((written, read));
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "failed scope",
                    once_warm(|| {
                        let ctx = stream.ctx();
                        let (head, tail) = x.view_mut().split_at(512).unwrap();
                        let failed = batch.scope(&ctx, |b| {
                            b.group(|g| g.copy(tail.as_view(), head))?;
                            Err::<(), _>(Error::OutOfRange { operand: "mine" })
                        });
                        assert!(failed.is_err());
                    }),
                ),
                (
                    "scatter",
                    once_warm(|| {
                        let ctx = stream.ctx();
                        scatter.set((0..40).map(|i| (2 * i, 2 * i + 1)), 128, 128).unwrap();
                        assert!(scatter.set([(0, 1), (0, 1)], 2, 2).is_err());
                        scatter.set((0..50).rev().map(|i| (2 * i, 2 * i + 1)), 128, 128).unwrap();
                        let rows = x.view_mut().rows(core::num::NonZero::new(8).unwrap()).unwrap();
                        batch.scope(&ctx, |b| b.group(|g| g.scatter_within(rows, &scatter))).unwrap();
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "blocks",
                    once_warm(|| {
                        let ctx = stream.ctx();
                        scatter.set((0..16).map(|i| (2 * i, 2 * i + 1)), 32, 32).unwrap();
                        let blocks = x.view_mut().tensor([32, 4, 8]).unwrap();
                        let (left, right) = blocks.split_at(1, 2).unwrap();
                        batch.scope(&ctx, |b| b.group(|g| g.copy_blocks(left.as_view(), &scatter, right))).unwrap();
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "errors",
                    once_warm(|| {
                        let (head, tail) = x.view_mut().split_at(500).unwrap();
                        assert!(stream.ctx().copy(tail.as_view(), head).is_err());
                        assert!(Permutation::new(&[7], 3, 0).is_err());
                    }),
                ),
            ];
            for (what, allocations) in counted {
                assert_eq!(allocations, 0, "{what}");
            }
        })
        .unwrap();
}

/// One for each call: the closure.
#[test]
fn notify_allocates_once() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|stream, _env| {
            let called = Arc::new(AtomicUsize::new(0));
            let mut calls = 0;
            let allocated = once_warm(|| {
                let called_here = Arc::clone(&called);
                stream.ctx().launch((0_u32,), |_| ()).unwrap();
                stream.ctx().notify(move |_| assert!(called_here.fetch_add(1, Ordering::SeqCst) < 100)).unwrap();
                calls += 1;
                // So that no record is in flight.
                while called.load(Ordering::SeqCst) != calls {
                    std::thread::yield_now();
                }
            });
            assert_eq!(allocated, 50);
        })
        .unwrap();
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8; 10]))), 1);
    std::thread::spawn(|| drop(std::hint::black_box(vec![1_u8; 10]))).join().unwrap();
}

/// The heap allocations of `f` on this thread.
pub fn allocations(f: impl FnOnce()) -> u64 {
    let before = heap::allocations();
    f();
    heap::allocations() - before
}

/// The heap allocations of `f` after warm-up runs.
fn once_warm(mut f: impl FnMut()) -> u64 {
    let mut fifty_times = || (0..50).for_each(|_| f());
    fifty_times();
    allocations(fifty_times)
}

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;
