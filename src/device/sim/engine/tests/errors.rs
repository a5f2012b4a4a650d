//! What is refused, what breaks the device, and how calls are made to fail.

use super::*;

#[test]
fn calls_refuse_what_the_driver_refuses() {
    let engine = Engine::new(Options::quick());
    let stream = engine.stream_create(0).unwrap();
    let ptr = alloc(&engine, 64, stream);
    let host = [0_u8; 64];
    let refused = Err(Code::INVALID_VALUE);
    let batch = |dst: &[*mut u8], src: &[*const u8], len: &[usize], during| unsafe {
        engine.memcpy_batch_async(dst, src, len, during, stream)
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
    assert_eq!(unsafe { engine.memcpy_async(ptr::null_mut(), host.as_ptr(), 1, stream) }, refused);
    assert_eq!(unsafe { engine.memcpy_async(ptr, host.as_ptr(), 0, stream) }, Ok(()));
    assert_eq!(unsafe { engine.memcpy_async(ptr, host.as_ptr(), 1, StreamId::default()) }, Err(Code::INVALID_HANDLE));
    assert_eq!(unsafe { engine.memset_d8_async(host.as_ptr().cast_mut(), 0, 1, stream) }, refused, "pageable");
    assert_eq!(unsafe { engine.mem_free_async(ptr.wrapping_add(1), stream) }, refused);
    free(&engine, ptr, stream);
    assert_eq!(unsafe { engine.mem_free_async(ptr, stream) }, refused, "twice");
    assert_eq!(engine.mem_alloc(0), refused.map(|()| unreachable!()));
    assert_eq!(engine.pool_usage(PoolId::default()), Err(Code::INVALID_HANDLE));
    assert_eq!(engine.event_record(EventId::default(), stream), Err(Code::INVALID_HANDLE));
    let other = Engine::new(Options::quick());
    let foreign = other.mem_alloc(64).unwrap().as_ptr();
    assert_eq!(upload(&engine, foreign, &host, stream), refused, "another device's");
}

#[test]
fn pinned_memory_freed_under_a_copy_breaks_the_device_and_nothing_else() {
    let engine = Engine::new(Options::quick());
    let stream = engine.stream_create(0).unwrap();
    let ptr = alloc(&engine, 64, stream);
    let pinned = engine.mem_host_alloc(64).unwrap().as_ptr();
    let gate = block(&engine, stream);
    unsafe { engine.memcpy_async(ptr, pinned, 64, stream) }.unwrap();
    unsafe { engine.mem_host_free(pinned) }.unwrap();
    drop(gate);
    assert_eq!(engine.stream_synchronize(stream), Err(Code::ILLEGAL_ADDRESS));
}

#[test]
fn faults_hit_the_nth_call_once_or_from_then_on() {
    let engine = Engine::new(Options::quick());
    let code = Code::OUT_OF_MEMORY;
    engine.fail(Fault { nth: 2, onwards: false, call: None, code });
    let answers: Vec<bool> = (0..4).map(|_| engine.event_create().is_ok()).collect();
    assert_eq!(answers, [true, false, true, true]);
    assert_eq!(engine.report().events, 3, "a failed call does nothing");
    assert_eq!(engine.calls_since_arming(), 4);

    engine.fail(Fault { nth: 1, onwards: true, call: Some(Call::StreamCreate), code });
    let event = engine.event_create().unwrap();
    assert_eq!(engine.stream_create(0), Err(code));
    assert_eq!(engine.stream_create(0), Err(code));
    assert_eq!(engine.calls_since_arming(), 2);
    engine.disarm();
    let stream = engine.stream_create(0).unwrap();
    assert_eq!(engine.calls_since_arming(), 2);

    let ptr = alloc(&engine, 64, stream);
    for (call, attempt) in [
        (
            Call::MemFreeAsync,
            (|engine, ptr, stream, _| unsafe { engine.mem_free_async(ptr, stream) })
                as fn(&Engine, *mut u8, StreamId, EventId) -> Result<(), Code>,
        ),
        (Call::MemFree, |engine, ptr, _, _| unsafe { engine.mem_free(ptr) }),
        (Call::StreamDestroy, |engine, _, stream, _| engine.stream_destroy(stream)),
        (Call::EventDestroy, |engine, _, _, event| engine.event_destroy(event)),
    ] {
        let before = engine.report();
        engine.fail(Fault { nth: 1, onwards: false, call: Some(call), code: Code::UNKNOWN });
        assert_eq!(attempt(&engine, ptr, stream, event), Err(Code::UNKNOWN), "{call}");
        assert_eq!(engine.report(), before);
    }
    free(&engine, ptr, stream);
    assert_eq!(engine.report().allocations, 0);
}

#[test]
fn calls_are_counted_and_logged() {
    let engine = Engine::new(Options::quick());
    for (index, call) in Call::ALL.iter().enumerate() {
        assert_eq!((call.index(), &call.name()[..2]), (index, "cu"));
    }
    let before = engine.counts();
    engine.log(true);
    let event = engine.event_create().unwrap();
    let _ = engine.event_query(event);
    let _ = engine.event_query(EventId::default());
    engine.log(false);
    engine.event_destroy(event).unwrap();
    let made = engine.counts() - before;
    assert_eq!((made.total(), made.of(Call::EventQuery), made.of(Call::MemAlloc)), (4, 2, 0));
    assert_eq!(format!("{made:?}"), r#"{"cuEventCreate": 1, "cuEventDestroy": 1, "cuEventQuery": 2}"#);
    assert_eq!(engine.take_log(), [Call::EventCreate, Call::EventQuery, Call::EventQuery]);
    assert_eq!(engine.take_log(), []);
}

#[test]
fn use_after_free_breaks_the_device_and_nothing_hangs() {
    within(SOON, || {
        let engine = slow(8);
        let (a, b) = (engine.stream_create(0).unwrap(), engine.stream_create(0).unwrap());
        let event = engine.event_create().unwrap();
        let ptr = alloc(&engine, 64, a);
        let gate = block(&engine, b);
        engine.event_record(event, b).unwrap();
        free(&engine, ptr, a);
        unsafe { engine.memset_d8_async(ptr, 1, 64, a) }.unwrap();
        let code = Err(Code::ILLEGAL_ADDRESS);
        assert_eq!(engine.stream_synchronize(a), code);
        // The other stream is still held: nobody waits for it.
        assert_eq!(engine.stream_synchronize(b), code);
        assert_eq!(engine.event_synchronize(event), code);
        assert_eq!(engine.stream_wait_event(a, event), code);
        assert_eq!(engine.mem_alloc(1).err(), code.err());
        assert_eq!(engine.mem_host_alloc(1).err(), code.err());
        assert_eq!(unsafe { engine.mem_free_async(ptr, a) }, code);
        assert_eq!(engine.stream_destroy(a), code);
        let report = engine.report();
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
    let engine = Engine::new(Options::quick());
    let (a, b) = (engine.stream_create(0).unwrap(), engine.stream_create(0).unwrap());
    let gate = block(&engine, a);
    let ptr = alloc(&engine, 64, a);
    assert_eq!(unsafe { engine.mem_free(ptr) }, Err(Code::INVALID_VALUE));
    unsafe { engine.memset_d8_async(ptr, 1, 64, b) }.unwrap();
    assert_eq!(engine.stream_synchronize(b), Err(Code::ILLEGAL_ADDRESS));
    assert!(engine.report().findings[0].contains("before its allocation ran"), "{:?}", engine.report());
    drop(gate);
}

#[test]
fn synchronous_frees_do_not_wait() {
    let engine = Engine::new(Options::quick());
    let stream = engine.stream_create(0).unwrap();
    let (kept, ptr) = (engine.mem_alloc(64).unwrap().as_ptr(), engine.mem_alloc(64).unwrap().as_ptr());
    let gate = block(&engine, stream);
    unsafe { engine.memcpy_async(kept, ptr, 64, stream) }.unwrap();
    unsafe { engine.mem_free(ptr) }.unwrap();
    assert!(!engine.stream_query(stream).unwrap());
    assert_eq!(upload(&engine, ptr, &[0], stream), Err(Code::INVALID_VALUE), "unmapped");
    drop(gate);
    assert_eq!(engine.stream_synchronize(stream), Err(Code::ILLEGAL_ADDRESS));
}

#[test]
fn tasks_reach_live_memory_only() {
    let engine = slow(12);
    let stream = engine.stream_create(0).unwrap();
    let ptr = alloc(&engine, 64, stream);
    let pinned = engine.mem_host_alloc(64).unwrap().as_ptr();
    let (device, host) = (ptr.addr(), pinned.addr());
    let large = [5_u8; 1000];
    engine
        .launch(
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
    assert_eq!(read(&engine, ptr, 64, stream), [5; 64]);
    assert_eq!(engine.report().sticky, None);
    free(&engine, ptr, stream);
    engine
        .launch(stream, Task::new(move |memory| memory.resolve(ptr::without_provenance_mut(device), 1).map(drop)))
        .unwrap();
    assert_eq!(engine.stream_synchronize(stream), Err(Code::ILLEGAL_ADDRESS));
    assert!(engine.report().findings[0].contains("a task uses 1 bytes at 0x7f"), "{:?}", engine.report());
}

#[test]
fn tasks_that_panic_or_call_the_driver_are_answered() {
    let engine = Engine::new(Options::quick());
    let stream = engine.stream_create(0).unwrap();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (inner, seen) = (engine.clone(), Arc::clone(&answers));
    engine
        .launch(
            stream,
            Task::new(move |_| {
                seen.lock().unwrap().push(inner.stream_synchronize(stream));
                Ok(())
            }),
        )
        .unwrap();
    engine.stream_synchronize(stream).unwrap();
    assert_eq!(*answers.lock().unwrap(), [Err(Code(800))]);

    let dropped = Arc::new(AtomicUsize::new(0));
    let witness = || Witness(Arc::clone(&dropped));
    let first = witness();
    engine
        .launch(
            stream,
            Task::new(move |_| {
                let _first = &first;
                panic!("on purpose")
            }),
        )
        .unwrap();
    assert_eq!(engine.stream_synchronize(stream), Err(Code::LAUNCH_FAILED));
    assert_eq!(engine.report().findings.len(), 1);
    let second = witness();
    assert_eq!(
        engine.launch(
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

#[test]
fn a_stream_leaves_nothing_behind() {
    for own in [false, true] {
        let options = OpenOptions::new(if own { Pool::Own { release_threshold: 0 } } else { Pool::Default }, 0);
        let device = Device { engine: Engine::new(Options::quick()) };
        let engine = device.engine();
        let request = Allocation::new(NonZero::new(64).unwrap());
        let stream = device.open(&options).unwrap();
        let ptr = stream.alloc(request).unwrap();
        let event = stream.create_event().unwrap();
        unsafe { stream.record(event) }.unwrap();
        unsafe { stream.wait_event(event) }.unwrap();
        assert_eq!((unsafe { stream.has_passed(event) }, stream.is_idle()), (Ok(true), Ok(true)));
        assert!(core::ptr::eq(stream.device().shared(), device.clone().shared()));
        stream.launch_using(Task::new(|_| Ok(())), &[]).unwrap();
        unsafe { stream.free(ptr) }.unwrap();
        stream.synchronize().unwrap();
        unsafe { device.destroy_event(event) };
        let plain = stream.alloc_now(request).unwrap();
        unsafe { stream.free_now(plain) }.unwrap();
        engine.fail(Fault { nth: 1, onwards: false, call: None, code: Code::UNKNOWN });
        assert_eq!(stream.trim(0), Err(DriverError::new("cuMemPoolTrimTo", Code::UNKNOWN)));
        drop(stream);
        assert!(engine.report().is_clean(), "{:?}", engine.report());
        for nth in 1..=2 {
            engine.fail(Fault { nth, onwards: false, call: None, code: Code::OUT_OF_MEMORY });
            assert!(device.open(&options).is_err());
            assert!(engine.report().is_clean(), "{:?}", engine.report());
        }
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
