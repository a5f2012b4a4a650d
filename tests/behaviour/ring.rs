//! The staging ring: a slice is read during the call, whatever its size and however far behind the
//! device is.

use std::time::Duration;

use tidelock::{
    sim::{self, Call},
    stream::StreamOptions,
};

use super::{Gate, assert_clean, get, put, quick, ramp, slow};

#[test]
fn the_slice_can_be_overwritten_right_after_the_call() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let gate = Gate::close(&ctx);
            let mut xs = Vec::new();
            let mut scratch = vec![0_u32; 200];
            for round in 0..20 {
                scratch.copy_from_slice(&ramp(round * 1000, 200));
                let mut x = ctx.zeros::<u32>(200).unwrap();
                ctx.upload(&scratch, x.view_mut()).unwrap();
                scratch.fill(u32::MAX);
                xs.push(x);
            }
            drop(scratch);
            drop(gate);
            for (round, x) in (0..).zip(&xs) {
                assert_eq!(get(&mut stream, x.view()), ramp(round * 1000, 200));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn all_sizes_around_a_segment_wrap_around_a_small_ring() {
    const SEGMENT: usize = 512;
    let sizes = [
        1,
        2,
        63,
        64,
        65,
        SEGMENT - 65,
        SEGMENT - 64,
        SEGMENT - 1,
        SEGMENT,
        SEGMENT + 1,
        2 * SEGMENT,
        4 * SEGMENT,
        4 * SEGMENT + 1,
        9 * SEGMENT + 7,
    ];
    for seed in 0..4 {
        let delay = sim::Delay::Upto(Duration::from_micros(400));
        let device = sim::Device::new(sim::Options::quick().delay(delay).seed(seed));
        let options = StreamOptions::default().ring_bytes(4 * SEGMENT).max_deferred_frees(4);
        device
            .stream_with(&options, |mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut log = Vec::new();
                for round in 0..150_usize {
                    let size = sizes[(round * 5 + seed as usize) % sizes.len()];
                    let byte = |i: usize| (i * 7 + round) as u8;
                    let mut scratch: Vec<u8> = (0..size).map(byte).collect();
                    let mut x = ctx.zeros::<u8>(size).unwrap();
                    ctx.upload(&scratch, x.view_mut()).unwrap();
                    scratch.fill(0xEE);
                    log.push((x, (0..size).map(byte).collect::<Vec<u8>>()));
                }
                for (x, expected) in &log {
                    assert_eq!(&get(&mut stream, x.view()), expected);
                }
            })
            .unwrap();
        assert_clean(&device);
    }
}

#[test]
fn a_full_ring_waits_for_its_oldest_segment_by_an_event() {
    let device = slow();
    let options = StreamOptions::default().ring_bytes(4 * 256);
    device
        .stream_with(&options, |stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u8>(256).unwrap();
            let before = device.gpu().counts();
            for _ in 0..12 {
                ctx.upload(&[1; 256], x.view_mut()).unwrap();
            }
            let made = device.gpu().counts() - before;
            // Eleven segments are left, eight of them into one that was left before.
            assert_eq!(made.of(Call::EventRecord), 11);
            assert_eq!(made.of(Call::EventSynchronize), 8);
            // An event is recorded again when its segment is entered again, so the events that the
            // stream opened with are enough.
            assert_eq!((made.of(Call::EventCreate), made.of(Call::StreamSynchronize)), (0, 0));
            assert_eq!(made.of(Call::MemcpyAsync), 12);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn segments_retire_on_whatever_was_waited_for() {
    let device = slow();
    let options = StreamOptions::default().ring_bytes(4 * 256);
    device
        .stream_with(&options, |mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u8>(256).unwrap();
            let before = device.gpu().counts();
            for round in 0..12 {
                stream.ctx().upload(&[round; 256], x.view_mut()).unwrap();
                stream.synchronize().unwrap();
            }
            assert_eq!((device.gpu().counts() - before).of(Call::EventSynchronize), 0);
            assert_eq!(get(&mut stream, x.view()), [11; 256]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_full_ring_behind_a_held_stream_is_released_by_the_stream() {
    let device = quick();
    let options = StreamOptions::default().ring_bytes(4 * 256);
    device
        .stream_with(&options, |mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let gate = Gate::close(&ctx);
            gate.open_later();
            let mut xs = Vec::new();
            for round in 0..10_u8 {
                let mut x = ctx.zeros::<u8>(256).unwrap();
                ctx.upload(&[round; 256], x.view_mut()).unwrap();
                xs.push(x);
            }
            for (round, x) in (0..).zip(&xs) {
                assert_eq!(get(&mut stream, x.view()), [round; 256]);
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_slice_of_pinned_memory_is_read_during_the_call_too() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(5000).unwrap();
            let gate = Gate::close(&ctx);
            let mut page_locked = super::pinned(&ramp(1, 5000));
            ctx.upload(&page_locked, x.view_mut()).unwrap();
            page_locked.fill(0);
            drop(page_locked);
            drop(gate);
            assert_eq!(get(&mut stream, x.view()), ramp(1, 5000));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn uploads_go_to_staged_memory_and_to_parts() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let mut x = put(&ctx, &ramp(0, 16));
            ctx.upload(&[90, 91], x.view_mut().slice(3..5).unwrap()).unwrap();
            let mut out = super::staged(&ctx, &[0_u32; 4]);
            ctx.upload(&[7; 4], out.view_mut()).unwrap();
            assert_eq!(get(&mut stream, x.view())[2..6], [2, 90, 91, 5]);
            assert_eq!(out.peek(&stream.synchronize().unwrap()), [7; 4]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_upload_of_any_size_locks_no_more_than_the_ring() {
    let device = slow();
    // Four segments of 64 KiB.
    let options = StreamOptions::default().ring_bytes(4 << 16);
    device
        .stream_with(&options, |mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let elements = 3 * (1 << 20) / 4 + 7;
            let values = ramp(5, elements);
            let mut x = ctx.zeros::<u32>(elements).unwrap();
            let before = device.gpu().counts();
            ctx.upload(&values, x.view_mut()).unwrap();
            let made = device.gpu().counts() - before;
            // One piece per segment: 3 MiB in 48, and 28 bytes.
            assert_eq!((made.of(Call::MemcpyAsync), made.of(Call::EventRecord)), (49, 48));
            assert_eq!((made.of(Call::EventCreate), made.of(Call::StreamSynchronize)), (0, 0));
            assert_eq!(get(&mut stream, x.view()), values);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_refused_piece_leaves_a_prefix_of_whole_elements() {
    /// 24 bytes: a segment of 256 has room for ten elements, and a part of an eleventh.
    type Element = [u32; 6];
    let device = quick();
    let options = StreamOptions::default().ring_bytes(4 * 256);
    for nth in 1..=5_usize {
        device
            .stream_with(&options, |mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.upload_new::<Element>(&[[1; 6]; 45]).unwrap();
                let fault = sim::Fault {
                    nth: nth as u64,
                    onwards: false,
                    call: Some(Call::MemcpyAsync),
                    code: tidelock::driver::Code::UNKNOWN,
                };
                device.gpu().fail(fault);
                ctx.upload(&[[2; 6]; 45], x.view_mut()).unwrap_err();
                device.gpu().disarm();
                let out = ctx.init_from(ctx.alloc_pinned(45).unwrap().stage(&ctx), x.view()).unwrap();
                let out = out.reclaim(&stream.synchronize().unwrap());
                let written = (nth - 1) * 10;
                assert_eq!(out[..written], vec![[2; 6]; written]);
                assert_eq!(out[written..], vec![[1; 6]; 45 - written]);
            })
            .unwrap();
    }
    assert_clean(&device);
}

#[test]
fn an_element_larger_than_a_segment_is_uploaded_whole() {
    /// 1200 bytes, while a segment has 256.
    type Element = [u32; 300];
    let device = quick();
    let options = StreamOptions::default().ring_bytes(4 * 256).max_deferred_bytes(4096);
    device
        .stream_with(&options, |mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let before = device.gpu().counts();
            let x = ctx.upload_new::<Element>(&[[7; 300], [8; 300], [9; 300]]).unwrap();
            assert_eq!((device.gpu().counts() - before).of(Call::MemcpyAsync), 3);
            let out = ctx.init_from(ctx.alloc_pinned(3).unwrap().stage(&ctx), x.view()).unwrap();
            let out = out.reclaim(&stream.synchronize().unwrap());
            assert_eq!(out[..], [[7; 300], [8; 300], [9; 300]]);
        })
        .unwrap();
    assert_clean(&device);
}
