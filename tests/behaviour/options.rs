//! The options of a stream: each gives the same values.

use tidelock::{BatchCopy, State, driver::Pool, sim, stream::StreamOptions};

use super::{assert_clean, get, ramp, slow, width};

/// A workload that uses the pool, the ring, deferred frees and a batch.
fn work(device: &sim::Device, options: &StreamOptions) {
    device
        .stream_with(options, |mut stream, _env| {
            let mut batch = BatchCopy::new();
            let mut state = State::<u32, _>::zeros(&stream.ctx().with_pool(), 256).unwrap();
            for round in 0..12 {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.zeros::<u32>(256).unwrap();
                ctx.upload(&ramp(round, 256), x.view_mut()).unwrap();
                let more = super::staged(&ctx, &ramp(round + 1, 256));
                state
                    .step(|_, back| {
                        let mut rows = back.rows(width(64))?.into_iter();
                        batch.scope(&ctx, |q| {
                            for (i, row) in rows.by_ref().enumerate() {
                                let from = i * 64..(i + 1) * 64;
                                if i % 2 == 0 {
                                    q.copy(x.view().slice(from)?, row)?;
                                } else {
                                    q.copy(more.view().slice(from)?, row)?;
                                }
                            }
                            Ok(())
                        })
                    })
                    .unwrap();
                drop((more, x));
                if round % 4 == 3 {
                    stream.trim(0).unwrap();
                }
            }
            let got = get(&mut stream, state.front());
            for (i, row) in got.chunks(64).enumerate() {
                let start = 11 + i * 64 + i % 2;
                assert_eq!(row, ramp(u32::try_from(start).unwrap(), 64));
            }
        })
        .unwrap();
    assert_clean(device);
}

#[test]
fn every_option_gives_the_same_values() {
    let device = slow();
    let default = StreamOptions::default();
    let variants = [
        default,
        default.pool(Pool::Default),
        default.pool(Pool::Own { release_threshold: 0 }),
        default.pool(Pool::Own { release_threshold: 1 << 12 }),
        default.priority(-5),
        default.priority(i32::MAX),
        default.ring_bytes(0),
        default.ring_bytes(1),
        default.ring_bytes(1025),
        default.max_deferred_frees(0),
        default.max_deferred_frees(usize::MAX),
        default.pool(Pool::Default).ring_bytes(4096).max_deferred_frees(1),
    ];
    for options in &variants {
        work(&device, options);
    }
}

#[test]
fn one_default_pool_serves_streams_at_the_same_time() {
    let device = slow();
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let options = StreamOptions::default().pool(Pool::Default);
                device.stream_with(&options, |mut stream, _env| {
                    for round in 0..40 {
                        let ctx = stream.ctx().with_pool();
                        let mut x = ctx.zeros::<u32>(100).unwrap();
                        ctx.upload(&ramp(round, 100), x.view_mut()).unwrap();
                        assert_eq!(get(&mut stream, x.view()), ramp(round, 100));
                    }
                })
            });
        }
    });
    assert_clean(&device);
}

#[test]
fn trim_gives_memory_back_down_to_what_is_kept() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let free = |stream: &tidelock::Stream<_>| stream.ctx().memory_info().unwrap().0;
            let (untouched, total) = stream.ctx().memory_info().unwrap();
            assert_eq!(untouched, total);
            let kept = stream.ctx().with_pool().zeros::<u8>(1000).unwrap();
            drop(stream.ctx().with_pool().zeros::<u8>(100_000).unwrap());
            stream.synchronize().unwrap();
            assert!(untouched - free(&stream) > 101_000, "the pool keeps what was freed");
            stream.trim(usize::MAX).unwrap();
            assert!(untouched - free(&stream) > 101_000);
            stream.trim(0).unwrap();
            // Live memory stays: 1000 bytes and one of padding, in whole granules of 512.
            assert_eq!(untouched - free(&stream), 1024);
            drop(kept);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_pool_without_a_threshold_gives_memory_back_at_a_synchronise() {
    let device = slow();
    for pool in [Pool::Default, Pool::Own { release_threshold: 0 }] {
        device
            .stream_with(&StreamOptions::default().pool(pool), |mut stream, _env| {
                let (before, _) = stream.ctx().memory_info().unwrap();
                drop(stream.ctx().with_pool().zeros::<u8>(100_000).unwrap());
                stream.synchronize().unwrap();
                assert_eq!(stream.ctx().memory_info().unwrap().0, before);
            })
            .unwrap();
    }
    assert_clean(&device);
}

#[test]
fn the_ordinal_is_what_the_device_goes_by() {
    let device = sim::Device::new(sim::Options::quick().ordinal(6));
    device.stream(|stream, _env| assert_eq!(stream.ctx().device_ordinal(), 6)).unwrap();
}
