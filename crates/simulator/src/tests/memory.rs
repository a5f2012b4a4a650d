//! Device and pinned memory: addresses, reuse, pools and limits.

use super::*;

#[test]
fn a_stream_reuses_its_memory_at_once() {
    let gpu = slow(4);
    let stream = gpu.stream_create(0).unwrap();
    let gate = block(&gpu, stream);
    let first = alloc(&gpu, 1000, stream);
    unsafe { gpu.memset_d8_async(first, 7, 1000, stream) }.unwrap();
    free(&gpu, first, stream);
    let second = alloc(&gpu, 900, stream);
    assert_eq!(first, second);
    let mut seen = vec![0; 900];
    download(&gpu, &mut seen, second, stream).unwrap();
    assert_eq!(download(&gpu, &mut [0; 901], second, stream), Err(Code::INVALID_VALUE), "bounds of the second");
    drop(gate);
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(seen, [0xA5; 900], "poisoned in stream order");
    assert_eq!(gpu.report().sticky, None);
}

#[test]
fn another_stream_reuses_memory_only_after_the_free_has_run() {
    let gpu = Gpu::new(Options::quick());
    let pool = gpu.pool_create(u64::MAX).unwrap();
    let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(0).unwrap());
    let first = gpu.mem_alloc_async(512, pool, a).unwrap().as_ptr();
    let gate = block(&gpu, a);
    free(&gpu, first, a);
    let second = gpu.mem_alloc_async(512, pool, b).unwrap().as_ptr();
    assert_ne!(first, second);
    drop(gate);
    gpu.stream_synchronize(a).unwrap();
    assert_eq!(gpu.mem_alloc_async(512, pool, b).unwrap().as_ptr(), first);
    assert_eq!(gpu.pool_usage(pool).unwrap().reserved, 1024);
}

#[test]
fn without_poison_memory_is_zeroed_once_and_then_kept() {
    let gpu = Gpu::new(Options::quick().poison(None));
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 100, stream);
    assert_eq!(read(&gpu, ptr, 100, stream), [0; 100]);
    unsafe { gpu.memset_d8_async(ptr, 3, 100, stream) }.unwrap();
    free(&gpu, ptr, stream);
    assert_eq!(alloc(&gpu, 400, stream), ptr);
    let seen = read(&gpu, ptr, 400, stream);
    assert_eq!((&seen[..100], &seen[100..]), (&[3; 100][..], &[0; 300][..]));
}

#[test]
fn neighbours_are_adjacent_and_no_copy_spans_them() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let first = alloc(&gpu, 512, stream);
    let second = alloc(&gpu, 1024, stream);
    let third = gpu.mem_alloc(512).unwrap().as_ptr();
    assert_eq!(first.wrapping_add(512), second);
    assert_eq!(second.wrapping_add(1024), third);
    assert_eq!(first.addr() % 512, 0);
    let mut host = [0; 513];
    let refused = Err(Code::INVALID_VALUE);
    assert_eq!(download(&gpu, &mut host, first, stream), refused);
    assert_eq!(upload(&gpu, first.wrapping_add(1), &host[..512], stream), refused);
    assert_eq!(unsafe { gpu.memset_d8_async(first, 0, 513, stream) }, refused);
    assert_eq!(unsafe { gpu.memcpy_async(second, first, 513, stream) }, refused);
    let batch = unsafe { gpu.memcpy_batch_async(&[second, second], &[first, first], &[512, 513], 2, stream) };
    assert_eq!(batch, refused);
    assert_eq!(upload(&gpu, third.wrapping_add(512), &host[..1], stream), refused, "behind the last");
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(gpu.traffic(), Traffic::default());
}

#[test]
fn pinned_memory_is_known_to_every_engine() {
    let (gpu, owner) = (slow(5), Gpu::new(Options::quick()));
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 8192, stream);
    let pinned = owner.mem_host_alloc(5000).unwrap().as_ptr();
    assert_eq!(pinned.addr() % 4096, 0);
    assert_eq!(unsafe { pinned.add(4999).read() }, 0xA5);
    unsafe { pinned.write_bytes(6, 5000) };
    unsafe { gpu.memcpy_async(ptr, pinned, 5000, stream) }.unwrap();
    unsafe { gpu.memset_d8_async(pinned, 8, 10, stream) }.unwrap();
    assert_eq!(unsafe { gpu.memcpy_async(ptr, pinned.wrapping_add(1), 5000, stream) }, Err(Code::INVALID_VALUE));
    assert_eq!(unsafe { gpu.memcpy_async(ptr, pinned.wrapping_sub(1), 2, stream) }, Err(Code::INVALID_VALUE));
    assert_eq!(read(&gpu, ptr, 5000, stream), [6; 5000]);
    assert_eq!(unsafe { slice::from_raw_parts(pinned, 11) }, [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6]);
    assert_eq!((owner.report().pinned_allocations, owner.report().pinned_bytes), (1, 5000));
    unsafe { owner.mem_host_free(pinned) }.unwrap();
    assert_eq!(unsafe { owner.mem_host_free(pinned) }, Err(Code::INVALID_VALUE));
    assert!(owner.report().is_clean());
    let ours = pin(64).unwrap();
    unsafe { gpu.memcpy_async(ptr, ours.as_ptr(), 64, stream) }.unwrap();
    assert_eq!(read(&gpu, ptr, 64, stream), [0xA5; 64]);
    unsafe { unpin(ours) }.unwrap();
    assert_eq!(unsafe { unpin(ours) }, Err(DriverError::new("cuMemFreeHost", Code::INVALID_VALUE)));
}

#[test]
fn memory_over_the_limit_is_refused_until_cached_memory_was_passed() {
    let gpu = Gpu::new(Options::quick().memory_limit(1 << 20));
    let pool = gpu.pool_create(u64::MAX).unwrap();
    let stream = gpu.stream_create(0).unwrap();
    let first = gpu.mem_alloc_async(600_000, pool, stream).unwrap().as_ptr();
    assert_eq!(gpu.mem_alloc(600_000), Err(Code::OUT_OF_MEMORY));
    let gate = block(&gpu, stream);
    free(&gpu, first, stream);
    assert_eq!(gpu.mem_alloc(600_000), Err(Code::OUT_OF_MEMORY), "the free has not run");
    drop(gate);
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(gpu.pool_usage(pool).unwrap().reserved, 600_064);
    assert_eq!(gpu.mem_get_info().unwrap(), ((1 << 20) - 600_064, 1 << 20));
    let second = gpu.mem_alloc(600_000).unwrap().as_ptr();
    assert_eq!(gpu.pool_usage(pool).unwrap().reserved, 0, "given back for it");
    assert_eq!(gpu.report().allocated_bytes, 600_000);
    unsafe { gpu.mem_free(second) }.unwrap();
    assert_eq!(gpu.mem_get_info().unwrap().0, 1 << 20);
    assert_eq!(gpu.mem_alloc(usize::MAX), Err(Code::OUT_OF_MEMORY));
    assert_eq!(gpu.mem_alloc((1 << 20) + 1), Err(Code::OUT_OF_MEMORY));
}

#[test]
fn pools_keep_their_threshold_and_trim() {
    let gpu = slow(6);
    let stream = gpu.stream_create(0).unwrap();
    let pool = gpu.pool_create(1024).unwrap();
    let all: Vec<_> = (0..4).map(|_| gpu.mem_alloc_async(512, pool, stream).unwrap().as_ptr()).collect();
    let usage = gpu.pool_usage(pool).unwrap();
    assert_eq!(usage, PoolUsage { reserved: 2048, reserved_high: 2048, used: 2048, used_high: 2048 });
    all.iter().for_each(|ptr| free(&gpu, *ptr, stream));
    assert_eq!(gpu.pool_usage(pool).unwrap().used, 0);
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(gpu.pool_usage(pool).unwrap().reserved, 1024);
    gpu.pool_trim_to(pool, 600).unwrap();
    assert_eq!(gpu.pool_usage(pool).unwrap().reserved, 512);
    gpu.pool_set_threshold(pool, 0).unwrap();
    let event = gpu.event_create().unwrap();
    gpu.event_record(event, stream).unwrap();
    gpu.event_synchronize(event).unwrap();
    assert_eq!(gpu.pool_usage(pool).unwrap(), PoolUsage { reserved: 0, reserved_high: 2048, used: 0, used_high: 2048 });

    let late = gpu.mem_alloc_async(512, pool, stream).unwrap().as_ptr();
    gpu.pool_destroy(pool).unwrap();
    assert_eq!(gpu.pool_destroy(pool), Err(Code::INVALID_HANDLE));
    assert_eq!(gpu.mem_alloc_async(512, pool, stream), Err(Code::INVALID_HANDLE));
    assert_eq!(gpu.pool_destroy(gpu.default_pool().unwrap()), Err(Code::INVALID_VALUE));
    assert_eq!(read(&gpu, late, 1, stream), [0xA5], "outlives its pool");
    free(&gpu, late, stream);
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(gpu.mem_get_info().unwrap().0, 64 << 30);
    gpu.event_destroy(event).unwrap();
    gpu.stream_destroy(stream).unwrap();
    assert!(gpu.report().is_clean());
}

#[test]
fn the_two_ways_to_free_are_exchangeable() {
    let gpu = slow(11);
    let stream = gpu.stream_create(0).unwrap();
    let plain = gpu.mem_alloc(64).unwrap().as_ptr();
    free(&gpu, plain, stream);
    let pooled = alloc(&gpu, 64, stream);
    gpu.stream_synchronize(stream).unwrap();
    unsafe { gpu.mem_free(pooled) }.unwrap();
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(gpu.mem_get_info().unwrap().0, 64 << 30);
}

#[test]
fn addresses_wrap_around_without_collisions() {
    let gpu = Gpu::new(Options::quick().memory_limit(usize::MAX));
    let first = gpu.mem_alloc(512).unwrap().as_ptr();
    let shared = gpu.shared();
    // As if 4 TiB had been handed out since.
    lock(&shared.heap).set_cursor_before_end(700);
    let second = gpu.mem_alloc(512).unwrap().as_ptr();
    let third = gpu.mem_alloc(512).unwrap().as_ptr();
    assert!(second > first);
    assert_eq!(third, first.wrapping_add(512));
}

#[test]
fn twenty_thousand_engines_share_no_addresses_with_those_that_live() {
    // Some devices live for a while, so that the ranges of the others are given out around them.
    const LIVE: usize = 64;
    let mut live: VecDeque<(Gpu, usize)> = VecDeque::new();
    for round in 0..20_000 {
        let gpu = Gpu::new(Options::quick());
        let first = gpu.mem_alloc(512).unwrap().as_ptr().addr();
        for (_, other) in &live {
            assert!(first.abs_diff(*other) >= WINDOW, "{first:#x} and {other:#x} after {round} engines");
        }
        if round % 100 == 0 {
            live.push_back((gpu, first));
            live.truncate(LIVE);
        }
    }
    assert_eq!(live.len(), LIVE);
}

#[test]
fn an_engine_for_which_no_addresses_are_left_refuses_to_allocate() {
    let gpu = Gpu::new(Options::quick());
    lock(&gpu.shared().heap).lose_window();
    let stream = gpu.stream_create(0).unwrap();
    assert_eq!(gpu.mem_alloc(1), Err(Code::OUT_OF_MEMORY));
    let pool = gpu.default_pool().unwrap();
    assert_eq!(gpu.mem_alloc_async(1, pool, stream), Err(Code::OUT_OF_MEMORY));
    assert_eq!(gpu.pool_usage(pool).unwrap(), PoolUsage::default());
    gpu.stream_synchronize(stream).unwrap();
    gpu.stream_destroy(stream).unwrap();
    assert!(gpu.report().is_clean());
}
