//! Pinned memory by value: staged, read while the stream is idle, fenced, and reclaimed.

use core::mem::MaybeUninit;

use tidelock::{
    Buffer, Error,
    sim::{self, Call},
};

use super::{Gate, assert_clean, pinned, put, quick, ramp, slow, staged};

#[test]
fn reclaim_gives_the_memory_back_as_the_device_left_it() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut out = staged(&stream.ctx(), &ramp(0, 100));
            let place = out.as_ptr();
            stream.ctx().launch((out.view_mut(), 7_u32), |(x, n)| x.iter_mut().for_each(|x| *x *= n)).unwrap();
            let host = out.reclaim(&stream.synchronize().unwrap());
            assert_eq!(host.as_ptr(), place);
            assert!(host.iter().zip(0..).all(|(x, i)| *x == 7 * i));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn peek_and_peek_mut_work_in_place() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(64).unwrap();
            let (mut up, mut down) = (staged(&stream.ctx(), &[0; 64]), staged(&stream.ctx(), &[0; 64]));
            for round in 0..8 {
                up.peek_mut(&stream.synchronize().unwrap()).copy_from_slice(&ramp(round, 64));
                let ctx = stream.ctx();
                ctx.copy(up.view(), x.view_mut()).unwrap();
                ctx.copy(x.view(), down.view_mut()).unwrap();
                let done = stream.synchronize().unwrap();
                assert_eq!(down.peek(&done), ramp(round, 64));
                assert_eq!(up.peek(&done), down.peek(&done));
            }
        })
        .unwrap();
    assert_clean(&device);
}

/// A proof that the stream is idle forbids work, but no frees and allocations: a kept handle of the
/// pool frees and allocates device memory.
#[test]
fn what_is_peeked_stays_while_device_memory_comes_and_goes() {
    let device = sim::Device::new(sim::Options::default());
    device
        .stream(|mut stream, _env| {
            let pool = stream.ctx().pool();
            let (mut out, given_up) = (staged(&stream.ctx(), &ramp(5, 1000)), staged(&stream.ctx(), &ramp(0, 1000)));
            let x = put(&stream.ctx().with_pool(), &ramp(0, 1000));
            let done = stream.synchronize().unwrap();
            let calls = device.gpu().counts();
            let seen = out.peek_mut(&done);
            // A free, an allocation and a free; the free of the staged memory is deferred.
            drop(x);
            drop(Buffer::<MaybeUninit<u32>, _, _>::uninit_in(1000, pool).unwrap());
            drop(given_up);
            seen[0] = 7;
            let made = |call| device.gpu().counts().of(call) - calls.of(call);
            assert_eq!((made(Call::MemAllocFromPoolAsync), made(Call::MemFreeAsync)), (1, 2));
            assert_eq!((seen[0], &seen[1..]), (7, &ramp(6, 999)[..]));
        })
        .unwrap();
    assert_clean(&device);
    device.gpu().check().unwrap();
}

#[test]
fn a_fence_waits_for_what_is_before_it_and_not_for_what_is_behind() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(3, 64));
            let first = Gate::close(&ctx);
            let pending =
                ctx.fence(ctx.init_from(ctx.alloc_pinned::<u32>(64).unwrap().stage(&ctx), x.view()).unwrap()).unwrap();
            let second = Gate::close(&ctx);
            assert!(!pending.is_ready().unwrap());
            first.open_later();
            assert_eq!(&pending.wait().unwrap()[..], ramp(3, 64));
            assert!(!stream.is_idle().unwrap());
            drop(second);
            stream.synchronize().unwrap();
            assert!(stream.is_idle().unwrap());
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_ready_fence_says_so() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let pending = stream.ctx().fence(staged(&stream.ctx(), &[1_u8])).unwrap();
            stream.synchronize().unwrap();
            assert!(pending.is_ready().unwrap());
            assert_eq!(&pending.wait().unwrap()[..], [1]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn fences_in_a_row_share_one_record_and_one_wait() {
    let device = slow();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let before = device.gpu().counts();
            let one = |n: u8| staged(&ctx, &[n]);
            let bytes: Vec<_> = (0..22).map(|n| ctx.fence(one(n)).unwrap()).collect();
            let half = ctx.fence(staged(&ctx, &[0.5_f64])).unwrap();
            assert_eq!(half.wait().unwrap()[..], [0.5]);
            for (n, byte) in (0..).zip(bytes) {
                assert!(byte.is_ready().unwrap());
                assert_eq!(byte.wait().unwrap()[..], [n]);
            }
            let made = device.gpu().counts() - before;
            assert_eq!((made.of(Call::EventRecord), made.of(Call::EventSynchronize)), (1, 1));
            assert_eq!(made.of(Call::EventQuery), 0);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn uninitialised_memory_can_be_fenced_and_reclaimed() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let empty = ctx.fence(ctx.alloc_pinned::<u32>(4).unwrap().stage(&ctx)).unwrap().wait().unwrap();
            assert_eq!(&empty.write_with(|i| i as u32)[..], [0, 1, 2, 3]);
            let empty = ctx.alloc_pinned::<u32>(4).unwrap().stage(&ctx);
            let empty = empty.reclaim(&stream.synchronize().unwrap());
            assert_eq!(&empty.write_with(|_| 9)[..], [9; 4]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_pipeline_of_fences_keeps_two_iterations_in_flight() {
    let device = slow();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(64).unwrap();
            let mut spare = vec![pinned(&[0_u32; 64]), pinned(&[0_u32; 64])];
            let mut flight = std::collections::VecDeque::new();
            for round in 0..32_u32 {
                if flight.len() == 2 {
                    let (then, pending): (u32, tidelock::stream::Pending<_, _>) = flight.pop_front().unwrap();
                    let out: tidelock::Buffer<u32, _> = pending.wait().unwrap();
                    assert_eq!(&out[..], [then + 1; 64]);
                    spare.push(out);
                }
                ctx.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1)).unwrap();
                let mut out = spare.pop().unwrap().stage(&ctx);
                ctx.copy(x.view(), out.view_mut()).unwrap();
                flight.push_back((round, ctx.fence(out).unwrap()));
            }
        })
        .unwrap();
    assert_clean(&device);
    assert_eq!(device.gpu().counts().of(Call::EventCreate), 8, "events are recycled");
}

#[test]
fn empty_buffers_go_all_the_ways() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(0).unwrap();
            ctx.upload(&[], x.view_mut()).unwrap();
            let empty = staged(&ctx, &[0_u32; 0]);
            let mut y = ctx.init_from(ctx.alloc::<u32>(0).unwrap(), empty.view()).unwrap();
            ctx.copy(x.view(), y.view_mut()).unwrap();
            ctx.launch((x.view(), y.view_mut()), |(x, y)| assert_eq!((x.len(), y.len()), (0, 0))).unwrap();
            assert!(ctx.fence(empty).unwrap().wait().unwrap().is_empty());
            stream.synchronize().unwrap();
            Ok::<_, Error>(())
        })
        .unwrap()
        .unwrap();
    assert_clean(&device);
}
