//! Out of memory while the stream or the pool holds the missing memory: the library finds it, or
//! the error says what would have to be waited for.

use tidelock::{
    Error, Stack, Stream,
    driver::{Code, Pool},
    error::Shortage,
    sim::{self, Call, Fault, Sim},
    stream::StreamOptions,
};

use super::{Gate, assert_clean};

const M: usize = 1 << 20;

/// A device with 64 MiB.
fn small() -> sim::Device {
    sim::Device::new(sim::Options::quick().race_detector(true).memory_limit(64 * M))
}

/// The shortage in an error of a request for `bytes` bytes of device memory.
#[track_caller]
fn shortage_of<T>(answer: Result<T, Error>, bytes: usize) -> Shortage {
    match answer.map(drop) {
        Err(Error::OutOfMemory { location: "device", bytes: asked, shortage: Some(shortage) }) if asked == bytes => {
            shortage
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_idle_stream_finds_what_it_gave_up() {
    let device = small();
    device
        .stream(|stream, _env| {
            let idle = |stream: &tidelock::Stream<_>| while !stream.is_idle().unwrap() {};
            // From each allocator to each other.
            drop(stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).zeros::<u8>(40 * M).unwrap());
            idle(&stream);
            drop(stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).alloc::<u8>(40 * M).unwrap());
            drop(stream.ctx().with_pool().alloc::<u8>(40 * M).unwrap());
            idle(&stream);
            drop(stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).alloc::<u8>(40 * M).unwrap());
            // The allocator below an arena, in both places where the arena calls it.
            let mut stack = Stack::new(stream.ctx().pool());
            drop(stream.ctx().with_device_alloc(&stack).alloc::<u8>(40 * M).unwrap());
            idle(&stream);
            drop(stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).alloc::<u8>(40 * M).unwrap());
            stack.reset().unwrap();
            assert_eq!(stack.usage().capacity, 40 * M);
        })
        .unwrap();
    assert_clean(&device);
}

/// The wait for memory finds that the device is broken. The error says so, and not that memory is
/// short.
#[test]
fn a_device_that_is_lost_while_memory_is_waited_for_is_no_shortage() {
    let device = small();
    let mut answer = Ok(());
    let end = device.stream_with(&StreamOptions::default().wait_for_memory(true), |stream, _env| {
        let sync = stream.ctx().with_device_alloc(stream.ctx().sync_alloc());
        let x = sync.alloc::<u8>(40 * M).unwrap();
        let gate = Gate::close(&stream.ctx());
        drop(x);
        let call = Some(Call::StreamSynchronize);
        device.gpu().fail(Fault { nth: 1, onwards: true, call, code: Code::LAUNCH_FAILED });
        answer = sync.alloc::<u8>(40 * M).map(drop);
        device.gpu().disarm();
        drop(gate);
    });
    for answer in [answer, end] {
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::Poisoned(why) if why.code == Code::LAUNCH_FAILED), "{error}");
    }
}

/// Each step of the reclaim ladder is one call, and none waits.
#[test]
fn an_idle_stream_is_asked_and_its_pool_is_trimmed() {
    let device = small();
    device
        .stream(|stream, _env| {
            let sync = stream.ctx().with_device_alloc(stream.ctx().sync_alloc());
            drop(sync.alloc::<u8>(40 * M).unwrap());
            let _ = device.gpu().take_log();
            device.gpu().log(true);
            drop(stream.ctx().with_pool().alloc::<u8>(40 * M).unwrap());
            device.gpu().log(false);
            let ladder = [
                Call::MemAllocFromPoolAsync,
                Call::StreamQuery,
                Call::MemFree,
                // For a stream that has just reported that it is idle.
                Call::StreamSynchronize,
                Call::MemPoolTrimTo,
                Call::MemAllocFromPoolAsync,
                Call::MemFreeAsync,
            ];
            assert_eq!(device.gpu().take_log(), ladder);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_busy_stream_is_not_waited_for_and_the_error_says_what_waits() {
    let device = small();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let (pool, sync) = (ctx.with_pool(), ctx.with_device_alloc(ctx.sync_alloc()));
            let gate = Gate::close(&ctx);
            let before = device.gpu().counts();

            // In the pool, freed behind the gate: 50 MiB, a byte, and the granule of 512.
            drop(pool.alloc::<u8>(50 * M).unwrap());
            let shortage = shortage_of(sync.alloc::<u8>(40 * M), 40 * M);
            assert_eq!((shortage.device, shortage.total), (0, 64 * M));
            assert_eq!((shortage.free, shortage.cached, shortage.waiting), (14 * M - 512, 50 * M + 512, 0));

            // In deferred frees.
            drop(sync.alloc::<u8>(10 * M).unwrap());
            let shortage = shortage_of(sync.alloc::<u8>(40 * M), 40 * M);
            assert_eq!((shortage.free, shortage.cached, shortage.waiting), (4 * M - 1024, 50 * M + 512, 10 * M));
            let words = sync.alloc::<u8>(40 * M).unwrap_err().to_string();
            let expected = "no device memory left for 41943040 bytes (device 0: 4193280 of 67108864 bytes are free, \
                            pools hold 52429312 more, 10485760 wait for the stream to pass)";
            assert_eq!(words, expected);
            // The arena's own requests end on the same ladder.
            let stack = Stack::new(ctx.sync_alloc());
            assert!(ctx.with_device_alloc(&stack).alloc::<u8>(40 * M).is_err());
            let made = device.gpu().counts() - before;
            assert_eq!((made.of(Call::StreamSynchronize), made.of(Call::EventSynchronize)), (0, 0));

            drop(gate);
            stream.synchronize().unwrap();
            drop(stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).alloc::<u8>(40 * M).unwrap());
        })
        .unwrap();
    assert_clean(&device);
}

/// The other streams find what one stream has freed and its pool caches, by each way to allocate,
/// without a wait.
#[test]
fn memory_in_the_pool_of_another_stream_is_found_once_that_is_idle() {
    for pool in [Pool::Own { release_threshold: u64::MAX }, Pool::Default] {
        let device = small();
        let options = StreamOptions::default().pool(pool);
        let own = StreamOptions::default().pool(Pool::Own { release_threshold: u64::MAX });
        let two = |f: &dyn Fn(&Stream<Sim<'_>>, &Stream<Sim<'_>>)| {
            device.stream_with(&options, |a, _| device.stream_with(&own, |b, _| f(&a, &b)).unwrap()).unwrap();
        };
        two(&|a, b| {
            let (kept, pool) = (a.ctx().with_pool(), b.ctx().with_pool());
            let sync = b.ctx().with_device_alloc(b.ctx().sync_alloc());
            for way in 0..3 {
                let gate = Gate::close(&a.ctx());
                drop(kept.alloc::<u8>(50 * M).unwrap());
                let shortage = shortage_of(pool.alloc::<u8>(40 * M), 40 * M);
                assert_eq!((shortage.free, shortage.cached, shortage.waiting), (14 * M - 512, 50 * M + 512, 0));
                drop(gate);
                while !a.is_idle().unwrap() {}
                let before = device.gpu().counts();
                match way {
                    0 => drop(pool.alloc::<u8>(40 * M).unwrap()),
                    1 => drop(sync.alloc::<u8>(40 * M).unwrap()),
                    _ => drop(b.ctx().with_device_alloc(&Stack::new(b.ctx().pool())).alloc::<u8>(40 * M).unwrap()),
                }
                let made = device.gpu().counts() - before;
                assert_eq!(made.of(Call::EventSynchronize), 0);
                // And back, so that `a` has its memory again.
                while !b.is_idle().unwrap() {}
                drop(kept.alloc::<u8>(50 * M).unwrap());
            }
        });
        assert_clean(&device);
    }
}

#[test]
fn a_stream_that_may_wait_for_memory_does() {
    let device = small();
    device
        .stream_with(&StreamOptions::default().wait_for_memory(true), |mut stream, _env| {
            for round in 0..4 {
                // The rest of the previous round would be waited for behind a closed gate.
                stream.trim(0).unwrap();
                let ctx = stream.ctx();
                let (pool, sync) = (ctx.with_pool(), ctx.with_device_alloc(ctx.sync_alloc()));
                let gate = Gate::close(&ctx);
                if round % 2 == 0 {
                    drop(pool.alloc::<u8>(50 * M).unwrap());
                } else {
                    drop(sync.alloc::<u8>(50 * M).unwrap());
                }
                gate.open_later();
                let before = device.gpu().counts();
                if round < 2 {
                    drop(sync.alloc::<u8>(40 * M).unwrap());
                } else {
                    drop(pool.alloc::<u8>(60 * M).unwrap());
                }
                let waits = (device.gpu().counts() - before).of(Call::StreamSynchronize);
                assert_eq!(waits, 1, "round {round}");
            }
            let ctx = stream.ctx();
            let (pool, sync) = (ctx.with_pool(), ctx.with_device_alloc(ctx.sync_alloc()));
            // A request for more memory than the device has is refused nevertheless.
            let keep = pool.alloc::<u8>(30 * M).unwrap();
            let shortage = shortage_of(sync.alloc::<u8>(40 * M), 40 * M);
            assert!(shortage.free < 40 * M && shortage.waiting == 0, "{shortage:?}");
            drop(keep);
        })
        .unwrap();
    assert_clean(&device);
}
