//! Drop orders: memory is reused only after the work that uses it, whichever value is dropped
//! first.

use std::mem::MaybeUninit;

use tidelock::{
    Buffer, Stack, Stream,
    sim::{Call, Sim},
    stream::{Staged, StreamOptions, SyncAlloc},
};

use super::{Gate, assert_clean, get, pinned, put, quick, ramp, slow, staged};

#[test]
fn the_stream_value_before_its_buffers() {
    let device = slow();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (put(&ctx, &ramp(0, 64)), ctx.zeros::<u32>(64).unwrap());
            ctx.copy(x.view(), y.view_mut()).unwrap();
            let kept = staged(&ctx, &ramp(0, 64));
            let pending = ctx.fence(staged(&ctx, &ramp(0, 64))).unwrap();
            let stack = Stack::new(ctx.pool());
            drop(stream);
            drop((x, kept, y, pending, stack));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_source_before_its_copy_runs() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let gate = Gate::close(&ctx);
            let mut outs = Vec::new();
            for round in 0..8 {
                // The pool hands out the memory of the previous round again, in stream order.
                let x = put(&ctx, &ramp(round, 128));
                outs.push(ctx.init_from(ctx.alloc_pinned::<u32>(128).unwrap().stage(&ctx), x.view()).unwrap());
            }
            drop(gate);
            let done = stream.synchronize().unwrap();
            for (round, out) in (0..).zip(&outs) {
                assert_eq!(out.peek(&done), ramp(round, 128));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn staged_memory_with_work_in_flight_is_not_handed_out() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(3000).unwrap();
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let source = staged(&ctx, &ramp(5, 3000));
            let place = source.as_ptr().addr();
            ctx.copy(source.view(), x.view_mut()).unwrap();
            drop(source);
            // Whatever got the memory now would write into a copy that has not run.
            let others: Vec<_> = (0..8).map(|_| pinned(&[0_u32; 3000])).collect();
            assert!(others.iter().all(|other| other.as_ptr().addr() != place));
            drop(gate);
            assert_eq!(get(&mut stream, x.view()), ramp(5, 3000));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn pendings_out_of_order() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(1, 64));
            let fence = |_| {
                ctx.fence(ctx.init_from(ctx.alloc_pinned::<u32>(64).unwrap().stage(&ctx), x.view()).unwrap()).unwrap()
            };
            let mut pendings: Vec<_> = (0..4).map(fence).collect();
            let second = pendings.swap_remove(1);
            drop(pendings.pop());
            let mut host = second.wait().unwrap();
            assert_eq!(&host[..], ramp(1, 64));
            host[0] = 99;
            let again = host.stage(&ctx);
            drop(pendings);
            assert_eq!(again.peek(&stream.synchronize().unwrap())[..3], [99, 2, 3]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_arena_with_queued_work() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let gate = Gate::close(&stream.ctx());
            let mut outs = Vec::new();
            for round in 0..4 {
                let mut stack = Stack::new(stream.ctx().pool());
                for part in 0..2 {
                    let ctx = stream.ctx().with_device_alloc(&stack);
                    let mut x = ctx.zeros::<u32>(64).unwrap();
                    ctx.upload(&ramp(round * 2 + part, 64), x.view_mut()).unwrap();
                    outs.push(ctx.init_from(ctx.alloc_pinned::<u32>(64).unwrap().stage(&ctx), x.view()).unwrap());
                    drop(x);
                    stack.reset().unwrap();
                }
            }
            drop(gate);
            let done = stream.synchronize().unwrap();
            for (round, out) in (0..).zip(&outs) {
                assert_eq!(out.peek(&done), ramp(round, 64));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn arena_allocations_in_any_order() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            drop(stream.ctx().with_device_alloc(&stack).zeros::<u32>(4 * 64).unwrap());
            stack.reset().unwrap();
            let ctx = stream.ctx().with_device_alloc(&stack);
            let fresh = |start| {
                let mut x = ctx.zeros::<u32>(64).unwrap();
                ctx.upload(&ramp(start, 64), x.view_mut()).unwrap();
                x
            };
            let (a, b, c) = (fresh(10), fresh(20), fresh(30));
            drop(b);
            // The hole is not handed out while `c` lies above it.
            let d = fresh(40);
            drop(a);
            for (x, start) in [(&c, 30), (&d, 40)] {
                let out = ctx.init_from(ctx.alloc_pinned::<u32>(64).unwrap().stage(&ctx), x.view()).unwrap();
                assert_eq!(&ctx.fence(out).unwrap().wait().unwrap()[..], ramp(start, 64));
            }
            drop(d);
            drop(c);
            assert_eq!(stack.usage().in_use, 0, "the holes close when everything above them is gone");
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn synchronous_memory_is_freed_only_when_the_stream_has_passed() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let alloc = ctx.with_device_alloc(ctx.sync_alloc());
            let mut x: Buffer<u32, Sim<'_>, SyncAlloc<Sim<'_>>> = alloc.zeros(64).unwrap();
            let gate = Gate::close(&ctx);
            ctx.upload(&ramp(0, 64), x.view_mut()).unwrap();
            drop(x);
            assert_eq!(device.gpu().counts().of(Call::MemFree), 0);
            drop(gate);
            stream.synchronize().unwrap();
            assert_eq!(device.gpu().counts().of(Call::MemFree), 1);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_full_list_of_deferred_frees_waits_for_the_stream() {
    let device = slow();
    for entries in [0, 1, 3] {
        let options = StreamOptions::default().max_deferred_frees(entries);
        device
            .stream_with(&options, |mut stream, _env| {
                let before = device.gpu().counts();
                let ctx = stream.ctx().with_pool();
                let mut xs = Vec::new();
                for round in 0..12_u32 {
                    let mut x = ctx.zeros::<u32>(500).unwrap();
                    // The staged buffer is dropped right after its copy is enqueued, and the next
                    // one may get its memory.
                    ctx.copy(staged(&ctx, &ramp(round, 500)).view(), x.view_mut()).unwrap();
                    xs.push(x);
                }
                let made = device.gpu().counts() - before;
                // The library does not wait for an idle stream.
                assert_eq!(
                    made.of(Call::StreamQuery),
                    12 / (entries as u64 + 1),
                    "every answer carries out the deferred frees"
                );
                assert!(made.of(Call::StreamSynchronize) <= made.of(Call::StreamQuery));
                for (round, x) in (0..).zip(&xs) {
                    assert_eq!(get(&mut stream, x.view()), ramp(round, 500));
                }
            })
            .unwrap();
        assert_clean(&device);
    }
}

#[test]
fn deferred_bytes_beyond_the_limit_wait_for_a_busy_stream_only() {
    const PIECE: usize = 1 << 20;
    let device = quick();
    let options = StreamOptions::default().max_deferred_bytes(3 * PIECE);
    device
        .stream_with(&options, |mut stream, _env| {
            // The pieces exist before calls are counted, because locking more also queries the
            // stream.
            fn pieces<'s>(
                stream: &Stream<Sim<'s>>,
                count: usize,
                bytes: usize,
            ) -> Vec<Buffer<MaybeUninit<u8>, Staged<Sim<'s>>>> {
                (0..count).map(|_| stream.ctx().alloc_pinned::<u8>(bytes).unwrap().stage(&stream.ctx())).collect()
            }
            let give_up = |pieces: Vec<_>| {
                let before = device.gpu().counts();
                drop(pieces);
                let made = device.gpu().counts() - before;
                (made.of(Call::StreamQuery), made.of(Call::StreamSynchronize))
            };
            let [three, one, four] = [3, 1, 4].map(|count| pieces(&stream, count, PIECE));
            let large = pieces(&stream, 1, 5 * PIECE);
            assert_eq!(give_up(three), (0, 0));
            // The library queries an idle stream, and never waits for it.
            assert_eq!(give_up(one), (1, 0));

            // It waits for a busy stream at the fourth piece at the latest.
            let gate = Gate::close(&stream.ctx());
            gate.open_later();
            assert_eq!(give_up(four), (1, 1));

            // A piece that alone is larger than the limit causes no wait: its bytes are locked
            // anyway.
            let gate = Gate::close(&stream.ctx());
            assert_eq!(give_up(large), (0, 0));
            drop(gate);
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_idle_stream_gets_what_it_gave_up_before_more_is_locked() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            // No other test has pieces of this size.
            let bytes = 37 << 20;
            let staged = stream.ctx().alloc_pinned::<u8>(bytes).unwrap().stage(&stream.ctx());
            let place = staged.as_ptr().addr();
            stream.synchronize().unwrap();
            drop(staged);
            for _ in 0..20 {
                let again = stream.ctx().alloc_pinned::<u8>(bytes).unwrap().stage(&stream.ctx());
                assert_eq!(again.as_ptr().addr(), place, "a second piece was locked");
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_idle_answer_retires_what_was_given_up() {
    let device = quick();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            drop(ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(64).unwrap());
            let gate = Gate::close(&ctx);
            assert!(!stream.is_idle().unwrap());
            assert_eq!(device.gpu().counts().of(Call::MemFree), 0, "the stream has not passed the fill");
            drop(gate);
            while !stream.is_idle().unwrap() {
                std::thread::yield_now();
            }
            assert_eq!(device.gpu().counts().of(Call::MemFree), 1);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_observed_event_retires_graves_without_a_synchronise() {
    let device = slow();
    device
        .stream_with(&StreamOptions::default().max_deferred_frees(1), |stream, _env| {
            let ctx = stream.ctx();
            let before = device.gpu().counts();
            for round in 0..8 {
                drop(staged(&ctx, &ramp(round, 50)));
                drop(ctx.fence(staged(&ctx, &ramp(round, 50))).unwrap().wait().unwrap());
            }
            assert_eq!((device.gpu().counts() - before).of(Call::StreamSynchronize), 0);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_observed_event_does_not_retire_what_was_given_up_behind_it() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(3000).unwrap();
            let pending = ctx.fence(staged(&ctx, &[1_u32])).unwrap();
            let gate = Gate::close(&ctx);
            let source = staged(&ctx, &ramp(5, 3000));
            let place = source.as_ptr().addr();
            ctx.copy(source.view(), x.view_mut()).unwrap();
            drop(source);
            assert_eq!(&pending.wait().unwrap()[..], [1]);
            let others: Vec<_> = (0..8).map(|_| pinned(&[0_u32; 3000])).collect();
            assert!(others.iter().all(|other| other.as_ptr().addr() != place));
            drop(gate);
            assert_eq!(get(&mut stream, x.view()), ramp(5, 3000));
        })
        .unwrap();
    assert_clean(&device);
}
