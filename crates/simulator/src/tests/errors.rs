//! What is refused, what breaks the device, and how calls are made to fail.

use super::*;

#[test]
fn calls_refuse_what_the_driver_refuses() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 64, stream);
    let host = [0_u8; 64];
    let refused = Err(Code::INVALID_VALUE);
    let batch = |dst: &[*mut u8], src: &[*const u8], len: &[usize], during| unsafe {
        gpu.memcpy_batch_async(dst, src, len, during, stream)
    };
    assert_eq!(batch(&[ptr], &[host.as_ptr()], &[0], 1), refused);
    assert_eq!(batch(&[ptr::null_mut()], &[host.as_ptr()], &[1], 1), refused);
    assert_eq!(batch(&[ptr], &[ptr::null()], &[1], 1), refused);
    assert_eq!(batch(&[], &[], &[], 0), refused);
    assert_eq!(batch(&[ptr], &[host.as_ptr()], &[1, 1], 1), refused);
    assert_eq!(batch(&[ptr], &[host.as_ptr()], &[1], 2), refused);
    assert_eq!(
        batch(&[ptr], &[ptr.wrapping_add(32).cast_const()], &[1], 0),
        refused,
        "a device source during the call"
    );
    assert_eq!(unsafe { gpu.memcpy_async(ptr::null_mut(), host.as_ptr(), 1, stream) }, refused);
    assert_eq!(unsafe { gpu.memcpy_async(ptr, host.as_ptr(), 0, stream) }, Ok(()));
    assert_eq!(unsafe { gpu.memcpy_async(ptr, host.as_ptr(), 1, StreamId::default()) }, Err(Code::INVALID_HANDLE));
    assert_eq!(unsafe { gpu.memset_d8_async(host.as_ptr().cast_mut(), 0, 1, stream) }, refused, "pageable");
    assert_eq!(unsafe { gpu.mem_free_async(ptr.wrapping_add(1), stream) }, refused);
    free(&gpu, ptr, stream);
    assert_eq!(unsafe { gpu.mem_free_async(ptr, stream) }, refused, "twice");
    assert_eq!(gpu.mem_alloc(0), refused.map(|()| unreachable!()));
    assert_eq!(gpu.pool_usage(PoolId::default()), Err(Code::INVALID_HANDLE));
    assert_eq!(gpu.event_record(EventId::default(), stream), Err(Code::INVALID_HANDLE));
    let other = Gpu::new(Options::quick());
    let foreign = other.mem_alloc(64).unwrap().as_ptr();
    assert_eq!(upload(&gpu, foreign, &host, stream), refused, "another device's");
}

#[test]
fn pinned_memory_freed_under_a_copy_breaks_the_device_and_nothing_else() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 64, stream);
    let pinned = gpu.mem_host_alloc(64).unwrap().as_ptr();
    let gate = block(&gpu, stream);
    unsafe { gpu.memcpy_async(ptr, pinned, 64, stream) }.unwrap();
    unsafe { gpu.mem_host_free(pinned) }.unwrap();
    drop(gate);
    assert_eq!(gpu.stream_synchronize(stream), Err(Code::ILLEGAL_ADDRESS));
}

#[test]
fn faults_hit_the_nth_call_once_or_from_then_on() {
    let gpu = Gpu::new(Options::quick());
    let code = Code::OUT_OF_MEMORY;
    gpu.fail(Fault { nth: 2, onwards: false, call: None, code });
    let answers: Vec<bool> = (0..4).map(|_| gpu.event_create().is_ok()).collect();
    assert_eq!(answers, [true, false, true, true]);
    assert_eq!(gpu.report().events, 3, "a failed call does nothing");
    assert_eq!(gpu.calls_since_arming(), 4);

    gpu.fail(Fault { nth: 1, onwards: true, call: Some(Call::StreamCreate), code });
    let event = gpu.event_create().unwrap();
    assert_eq!(gpu.stream_create(0), Err(code));
    assert_eq!(gpu.stream_create(0), Err(code));
    assert_eq!(gpu.calls_since_arming(), 2);
    gpu.disarm();
    let stream = gpu.stream_create(0).unwrap();
    assert_eq!(gpu.calls_since_arming(), 2);

    let ptr = alloc(&gpu, 64, stream);
    for (call, attempt) in [
        (
            Call::MemFreeAsync,
            (|gpu, ptr, stream, _| unsafe { gpu.mem_free_async(ptr, stream) })
                as fn(&Gpu, *mut u8, StreamId, EventId) -> Result<(), Code>,
        ),
        (Call::MemFree, |gpu, ptr, _, _| unsafe { gpu.mem_free(ptr) }),
        (Call::StreamDestroy, |gpu, _, stream, _| gpu.stream_destroy(stream)),
        (Call::EventDestroy, |gpu, _, _, event| gpu.event_destroy(event)),
    ] {
        let before = gpu.report();
        gpu.fail(Fault { nth: 1, onwards: false, call: Some(call), code: Code::UNKNOWN });
        assert_eq!(attempt(&gpu, ptr, stream, event), Err(Code::UNKNOWN), "{call}");
        assert_eq!(gpu.report(), before);
    }
    free(&gpu, ptr, stream);
    assert_eq!(gpu.report().allocations, 0);
}

#[test]
fn calls_are_counted_and_logged() {
    let gpu = Gpu::new(Options::quick());
    for (index, call) in Call::ALL.iter().enumerate() {
        assert_eq!((call.index(), &call.name()[..2]), (index, "cu"));
    }
    let before = gpu.counts();
    gpu.log(true);
    let event = gpu.event_create().unwrap();
    let _ = gpu.event_query(event);
    let _ = gpu.event_query(EventId::default());
    gpu.log(false);
    gpu.event_destroy(event).unwrap();
    let made = gpu.counts() - before;
    assert_eq!((made.total(), made.of(Call::EventQuery), made.of(Call::MemAlloc)), (4, 2, 0));
    assert_eq!(format!("{made:?}"), r#"{"cuEventCreate": 1, "cuEventDestroy": 1, "cuEventQuery": 2}"#);
    assert_eq!(gpu.take_log(), [Call::EventCreate, Call::EventQuery, Call::EventQuery]);
    assert_eq!(gpu.take_log(), []);
}

#[test]
fn use_after_free_breaks_the_device_and_nothing_hangs() {
    within(SOON, || {
        let gpu = slow(8);
        let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(0).unwrap());
        let event = gpu.event_create().unwrap();
        let ptr = alloc(&gpu, 64, a);
        let gate = block(&gpu, b);
        gpu.event_record(event, b).unwrap();
        free(&gpu, ptr, a);
        unsafe { gpu.memset_d8_async(ptr, 1, 64, a) }.unwrap();
        let code = Err(Code::ILLEGAL_ADDRESS);
        assert_eq!(gpu.stream_synchronize(a), code);
        // The other stream is still held, and is not waited for.
        assert_eq!(gpu.stream_synchronize(b), code);
        assert_eq!(gpu.event_synchronize(event), code);
        assert_eq!(gpu.stream_wait_event(a, event), code);
        assert_eq!(gpu.mem_alloc(1).err(), code.err());
        assert_eq!(gpu.mem_host_alloc(1).err(), code.err());
        assert_eq!(unsafe { gpu.mem_free_async(ptr, a) }, code);
        assert_eq!(gpu.stream_destroy(a), code);
        let report = gpu.report();
        assert_eq!(report.sticky, Some(Code::ILLEGAL_ADDRESS));
        assert!(
            report.findings[0].contains("a fill uses the memory at 0x7f")
                && report.findings[0].contains("after its free ran")
        );
        drop(gate);
    });
}

#[test]
fn use_before_allocation_breaks_the_device() {
    let gpu = Gpu::new(Options::quick());
    let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(0).unwrap());
    let gate = block(&gpu, a);
    let ptr = alloc(&gpu, 64, a);
    assert_eq!(unsafe { gpu.mem_free(ptr) }, Err(Code::INVALID_VALUE));
    unsafe { gpu.memset_d8_async(ptr, 1, 64, b) }.unwrap();
    assert_eq!(gpu.stream_synchronize(b), Err(Code::ILLEGAL_ADDRESS));
    assert!(gpu.report().findings[0].contains("before its allocation ran"), "{:?}", gpu.report());
    drop(gate);
}

#[test]
fn synchronous_frees_do_not_wait() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let (kept, ptr) = (gpu.mem_alloc(64).unwrap().as_ptr(), gpu.mem_alloc(64).unwrap().as_ptr());
    let gate = block(&gpu, stream);
    unsafe { gpu.memcpy_async(kept, ptr, 64, stream) }.unwrap();
    unsafe { gpu.mem_free(ptr) }.unwrap();
    assert!(!gpu.stream_query(stream).unwrap());
    assert_eq!(upload(&gpu, ptr, &[0], stream), Err(Code::INVALID_VALUE), "unmapped");
    drop(gate);
    assert_eq!(gpu.stream_synchronize(stream), Err(Code::ILLEGAL_ADDRESS));
}

#[test]
fn tasks_reach_live_memory_only() {
    let gpu = slow(12);
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 64, stream);
    let pinned = gpu.mem_host_alloc(64).unwrap().as_ptr();
    let (device, host) = (ptr.addr(), pinned.addr());
    let large = [5_u8; 1000];
    gpu.launch(
        stream,
        Task::new(move |memory| {
            let at = |address, bytes| memory.resolve(ptr::without_provenance_mut(address), bytes);
            let (to, from) = (at(device, 64)?, at(host, 64)?);
            unsafe { from.write_bytes(large[999], 64) };
            unsafe { to.copy_from_nonoverlapping(from, 64) };
            assert_eq!(at(device, 65), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(at(0, 1), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(at(ptr::from_ref(&large).addr(), 1), Err(Code::ILLEGAL_ADDRESS));
            assert_eq!(at(device, 0).map(|ptr| ptr.addr()), Ok(device));
            Ok(())
        }),
    )
    .unwrap();
    assert_eq!(read(&gpu, ptr, 64, stream), [5; 64]);
    assert_eq!(gpu.report().sticky, None);
    free(&gpu, ptr, stream);
    gpu.launch(stream, Task::new(move |memory| memory.resolve(ptr::without_provenance_mut(device), 1).map(drop)))
        .unwrap();
    assert_eq!(gpu.stream_synchronize(stream), Err(Code::ILLEGAL_ADDRESS));
    assert!(gpu.report().findings[0].contains("a task uses 1 bytes at 0x7f"), "{:?}", gpu.report());
}

#[test]
fn tasks_that_panic_or_call_the_driver_are_answered() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (inner, seen) = (gpu.clone(), Arc::clone(&answers));
    gpu.launch(
        stream,
        Task::new(move |_| {
            seen.lock().unwrap().push(inner.stream_synchronize(stream));
            Ok(())
        }),
    )
    .unwrap();
    gpu.stream_synchronize(stream).unwrap();
    assert_eq!(*answers.lock().unwrap(), [Err(Code(800))]);

    let dropped = Arc::new(AtomicUsize::new(0));
    let witness = || Witness(Arc::clone(&dropped));
    let first = witness();
    gpu.launch(
        stream,
        Task::new(move |_| {
            let _first = &first;
            panic!("on purpose")
        }),
    )
    .unwrap();
    assert_eq!(gpu.stream_synchronize(stream), Err(Code::LAUNCH_FAILED));
    assert_eq!(gpu.report().findings.len(), 1);
    let second = witness();
    assert_eq!(
        gpu.launch(
            stream,
            Task::new(move |_| {
                let _second = &second;
                Ok(())
            })
        ),
        Err(Code::LAUNCH_FAILED)
    );
    assert_eq!(dropped.load(Ordering::SeqCst), 2);
    let third = (witness(), [0_u8; 512]);
    drop(Task::new(move |_| {
        let _third = &third;
        Ok(())
    }));
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}

/// A program launches tasks of its own beside the streams of the typed layer, which goes by
/// `Code::is_sticky` (F4, L4).
#[test]
fn a_task_that_fails_with_any_code_breaks_the_device_with_a_sticky_one() {
    let codes = [(0, 719), (1, 719), (2, 719), (600, 719), (713, 719), (700, 700), (716, 716)];
    for (answered, broken) in codes {
        let gpu = Gpu::new(Options::quick());
        let stream = gpu.stream_create(0).unwrap();
        gpu.launch(stream, Task::new(move |_| Err(Code(answered)))).unwrap();
        assert_eq!(gpu.stream_synchronize(stream), Err(Code(broken)), "{answered}");
        assert_eq!(gpu.event_create(), Err(Code(broken)), "{answered}");
    }
}

#[test]
fn faults_of_the_pinned_pool_are_one_threads_and_end_with_the_closure() {
    let refused = Err(DriverError::new("cuMemHostAlloc", Code::OUT_OF_MEMORY));
    let fault = Fault { nth: 2, onwards: true, call: Some(Call::MemHostAlloc), code: Code::OUT_OF_MEMORY };
    let once = || pin(64).map(|ptr| unsafe { unpin(ptr) }.unwrap());
    let before = pinned_counts();
    let (answers, calls) = with_pinned_faults(Some(fault), || {
        let first = once();
        thread::scope(|scope| scope.spawn(|| (0..3).for_each(|_| once().unwrap())).join()).unwrap();
        let inner = with_pinned_faults(None, || [once(), once()]);
        assert_eq!(inner, ([Ok(()), Ok(())], [Call::MemHostAlloc, Call::MemFreeHost].repeat(2)));
        [first, once(), once()]
    });
    assert_eq!(answers, [Ok(()), refused, refused]);
    assert_eq!(calls, [Call::MemHostAlloc, Call::MemFreeHost, Call::MemHostAlloc, Call::MemHostAlloc]);
    once().unwrap();
    let panics = move || with_pinned_faults(Some(Fault { nth: 1, ..fault }), || panic!("on purpose"));
    thread::spawn(move || {
        assert!(std::panic::catch_unwind(panics).is_err());
        once().unwrap();
    })
    .join()
    .unwrap();
    // Other tests pin too.
    assert!((pinned_counts() - before).of(Call::MemHostAlloc) >= 10);
}
