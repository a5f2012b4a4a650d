//! Device and pinned memory: addresses, reuse, pools and limits.

use super::*;

#[test]
fn a_stream_reuses_its_memory_at_once() {
    let engine = slow(4);
    let stream = engine.stream_create(0).unwrap();
    let gate = block(&engine, stream);
    let first = alloc(&engine, 1000, stream);
    unsafe { engine.memset_d8_async(first, 7, 1000, stream) }.unwrap();
    free(&engine, first, stream);
    let second = alloc(&engine, 900, stream);
    assert_eq!(first, second);
    let mut seen = vec![0; 900];
    download(&engine, &mut seen, second, stream).unwrap();
    assert_eq!(download(&engine, &mut [0; 901], second, stream), Err(Code::INVALID_VALUE), "bounds of the second");
    drop(gate);
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(seen, [0xA5; 900], "poisoned in stream order");
    assert_eq!(engine.report().sticky, None);
}

#[test]
fn another_stream_reuses_memory_only_after_the_free_has_run() {
    let engine = Engine::new(Options::quick());
    let pool = engine.pool_create(u64::MAX).unwrap();
    let (a, b) = (engine.stream_create(0).unwrap(), engine.stream_create(0).unwrap());
    let first = engine.mem_alloc_async(512, pool, a).unwrap().as_ptr();
    let gate = block(&engine, a);
    free(&engine, first, a);
    let second = engine.mem_alloc_async(512, pool, b).unwrap().as_ptr();
    assert_ne!(first, second);
    drop(gate);
    engine.stream_synchronize(a).unwrap();
    assert_eq!(engine.mem_alloc_async(512, pool, b).unwrap().as_ptr(), first);
    assert_eq!(engine.pool_usage(pool).unwrap().reserved, 1024);
}

#[test]
fn without_poison_memory_is_zeroed_once_and_then_kept() {
    let engine = Engine::new(Options::quick().poison(None));
    let stream = engine.stream_create(0).unwrap();
    let ptr = alloc(&engine, 100, stream);
    assert_eq!(read(&engine, ptr, 100, stream), [0; 100]);
    unsafe { engine.memset_d8_async(ptr, 3, 100, stream) }.unwrap();
    free(&engine, ptr, stream);
    assert_eq!(alloc(&engine, 400, stream), ptr);
    let seen = read(&engine, ptr, 400, stream);
    assert_eq!((&seen[..100], &seen[100..]), (&[3; 100][..], &[0; 300][..]));
}

#[test]
fn neighbours_are_adjacent_and_no_copy_spans_them() {
    let engine = Engine::new(Options::quick());
    let stream = engine.stream_create(0).unwrap();
    let first = alloc(&engine, 512, stream);
    let second = alloc(&engine, 1024, stream);
    let third = engine.mem_alloc(512).unwrap().as_ptr();
    assert_eq!(first.wrapping_add(512), second);
    assert_eq!(second.wrapping_add(1024), third);
    assert_eq!(first.addr() % 512, 0);
    let mut host = [0; 513];
    let refused = Err(Code::INVALID_VALUE);
    assert_eq!(download(&engine, &mut host, first, stream), refused);
    assert_eq!(upload(&engine, first.wrapping_add(1), &host[..512], stream), refused);
    assert_eq!(unsafe { engine.memset_d8_async(first, 0, 513, stream) }, refused);
    assert_eq!(unsafe { engine.memcpy_async(second, first, 513, stream) }, refused);
    let batch = unsafe { engine.memcpy_batch_async(&[second, second], &[first, first], &[512, 513], 2, stream) };
    assert_eq!(batch, refused);
    assert_eq!(upload(&engine, third.wrapping_add(512), &host[..1], stream), refused, "behind the last");
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(engine.traffic(), Traffic::default());
}

#[test]
fn pinned_memory_is_known_to_every_engine() {
    let (engine, owner) = (slow(5), Engine::new(Options::quick()));
    let stream = engine.stream_create(0).unwrap();
    let ptr = alloc(&engine, 8192, stream);
    let pinned = owner.mem_host_alloc(5000).unwrap().as_ptr();
    assert_eq!(pinned.addr() % 4096, 0);
    assert_eq!(unsafe { pinned.add(4999).read() }, 0xA5);
    unsafe { pinned.write_bytes(6, 5000) };
    unsafe { engine.memcpy_async(ptr, pinned, 5000, stream) }.unwrap();
    unsafe { engine.memset_d8_async(pinned, 8, 10, stream) }.unwrap();
    assert_eq!(unsafe { engine.memcpy_async(ptr, pinned.wrapping_add(1), 5000, stream) }, Err(Code::INVALID_VALUE));
    assert_eq!(unsafe { engine.memcpy_async(ptr, pinned.wrapping_sub(1), 2, stream) }, Err(Code::INVALID_VALUE));
    assert_eq!(read(&engine, ptr, 5000, stream), [6; 5000]);
    assert_eq!(unsafe { slice::from_raw_parts(pinned, 11) }, [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6]);
    assert_eq!((owner.report().pinned_allocations, owner.report().pinned_bytes), (1, 5000));
    unsafe { owner.mem_host_free(pinned) }.unwrap();
    assert_eq!(unsafe { owner.mem_host_free(pinned) }, Err(Code::INVALID_VALUE));
    assert!(owner.report().is_clean());
    let ours = pin(64).unwrap();
    unsafe { engine.memcpy_async(ptr, ours.as_ptr(), 64, stream) }.unwrap();
    assert_eq!(read(&engine, ptr, 64, stream), [0xA5; 64]);
    unsafe { unpin(ours) }.unwrap();
    assert_eq!(unsafe { unpin(ours) }, Err(DriverError::new("cuMemFreeHost", Code::INVALID_VALUE)));
}

#[test]
fn memory_over_the_limit_is_refused_until_cached_memory_was_passed() {
    let engine = Engine::new(Options::quick().memory_limit(1 << 20));
    let pool = engine.pool_create(u64::MAX).unwrap();
    let stream = engine.stream_create(0).unwrap();
    let first = engine.mem_alloc_async(600_000, pool, stream).unwrap().as_ptr();
    assert_eq!(engine.mem_alloc(600_000), Err(Code::OUT_OF_MEMORY));
    let gate = block(&engine, stream);
    free(&engine, first, stream);
    assert_eq!(engine.mem_alloc(600_000), Err(Code::OUT_OF_MEMORY), "the free has not run");
    drop(gate);
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(engine.pool_usage(pool).unwrap().reserved, 600_064);
    assert_eq!(engine.mem_get_info().unwrap(), ((1 << 20) - 600_064, 1 << 20));
    let second = engine.mem_alloc(600_000).unwrap().as_ptr();
    assert_eq!(engine.pool_usage(pool).unwrap().reserved, 0, "given back for it");
    assert_eq!(engine.report().allocated_bytes, 600_000);
    unsafe { engine.mem_free(second) }.unwrap();
    assert_eq!(engine.mem_get_info().unwrap().0, 1 << 20);
    assert_eq!(engine.mem_alloc(usize::MAX), Err(Code::OUT_OF_MEMORY));
    assert_eq!(engine.mem_alloc((1 << 20) + 1), Err(Code::OUT_OF_MEMORY));
}

#[test]
fn pools_keep_their_threshold_and_trim() {
    let engine = slow(6);
    let stream = engine.stream_create(0).unwrap();
    let pool = engine.pool_create(1024).unwrap();
    let all: Vec<_> = (0..4).map(|_| engine.mem_alloc_async(512, pool, stream).unwrap().as_ptr()).collect();
    let usage = engine.pool_usage(pool).unwrap();
    assert_eq!(usage, PoolUsage { reserved: 2048, reserved_high: 2048, used: 2048, used_high: 2048 });
    all.iter().for_each(|ptr| free(&engine, *ptr, stream));
    assert_eq!(engine.pool_usage(pool).unwrap().used, 0);
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(engine.pool_usage(pool).unwrap().reserved, 1024);
    engine.pool_trim_to(pool, 600).unwrap();
    assert_eq!(engine.pool_usage(pool).unwrap().reserved, 512);
    engine.pool_set_threshold(pool, 0).unwrap();
    let event = engine.event_create().unwrap();
    engine.event_record(event, stream).unwrap();
    engine.event_synchronize(event).unwrap();
    assert_eq!(
        engine.pool_usage(pool).unwrap(),
        PoolUsage { reserved: 0, reserved_high: 2048, used: 0, used_high: 2048 }
    );

    let late = engine.mem_alloc_async(512, pool, stream).unwrap().as_ptr();
    engine.pool_destroy(pool).unwrap();
    assert_eq!(engine.pool_destroy(pool), Err(Code::INVALID_HANDLE));
    assert_eq!(engine.mem_alloc_async(512, pool, stream), Err(Code::INVALID_HANDLE));
    assert_eq!(engine.pool_destroy(engine.default_pool().unwrap()), Err(Code::INVALID_VALUE));
    assert_eq!(read(&engine, late, 1, stream), [0xA5], "outlives its pool");
    free(&engine, late, stream);
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(engine.mem_get_info().unwrap().0, 64 << 30);
    engine.event_destroy(event).unwrap();
    engine.stream_destroy(stream).unwrap();
    assert!(engine.report().is_clean());
}

#[test]
fn the_two_ways_to_free_are_exchangeable() {
    let engine = slow(11);
    let stream = engine.stream_create(0).unwrap();
    let plain = engine.mem_alloc(64).unwrap().as_ptr();
    free(&engine, plain, stream);
    let pooled = alloc(&engine, 64, stream);
    engine.stream_synchronize(stream).unwrap();
    unsafe { engine.mem_free(pooled) }.unwrap();
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(engine.mem_get_info().unwrap().0, 64 << 30);
}

#[test]
fn addresses_wrap_around_without_collisions() {
    let engine = Engine::new(Options::quick().memory_limit(usize::MAX));
    let first = engine.mem_alloc(512).unwrap().as_ptr();
    let shared = engine.shared();
    // As if 4 TiB had been handed out since.
    lock(&shared.heap).set_cursor_before_end(700);
    let second = engine.mem_alloc(512).unwrap().as_ptr();
    let third = engine.mem_alloc(512).unwrap().as_ptr();
    assert!(second > first);
    assert_eq!(third, first.wrapping_add(512));
}

#[test]
fn twenty_thousand_engines_share_no_addresses_with_those_that_live() {
    // Some engines live for a while, so that the ranges of the others are given out around them.
    const LIVE: usize = 64;
    let mut live: VecDeque<(Engine, usize)> = VecDeque::new();
    for round in 0..20_000 {
        let engine = Engine::new(Options::quick());
        let first = engine.mem_alloc(512).unwrap().as_ptr().addr();
        for (_, other) in &live {
            assert!(first.abs_diff(*other) >= WINDOW, "{first:#x} and {other:#x} after {round} engines");
        }
        if round % 100 == 0 {
            live.push_back((engine, first));
            live.truncate(LIVE);
        }
    }
    assert_eq!(live.len(), LIVE);
}

#[test]
fn an_engine_for_which_no_addresses_are_left_refuses_to_allocate() {
    let engine = Engine::new(Options::quick());
    lock(&engine.shared().heap).lose_window();
    let stream = engine.stream_create(0).unwrap();
    assert_eq!(engine.mem_alloc(1), Err(Code::OUT_OF_MEMORY));
    let pool = engine.default_pool().unwrap();
    assert_eq!(engine.mem_alloc_async(1, pool, stream), Err(Code::OUT_OF_MEMORY));
    assert_eq!(engine.pool_usage(pool).unwrap(), PoolUsage::default());
    engine.stream_synchronize(stream).unwrap();
    engine.stream_destroy(stream).unwrap();
    assert!(engine.report().is_clean());
}
