//! Streams and events: what runs when, and that everything ends.

use super::*;

#[test]
fn operations_of_a_stream_run_in_order_and_late() {
    for seed in 0..8 {
        let gpu = slow(seed);
        let stream = gpu.stream_create(0).unwrap();
        let ptr = alloc(&gpu, 4096, stream);
        let sources: Vec<Vec<u8>> = (0..40_u8).map(|value| vec![value; 4096]).collect();
        let mut seen = vec![vec![0; 4096]; sources.len()];
        for (source, target) in sources.iter().zip(&mut seen) {
            upload(&gpu, ptr, source, stream).unwrap();
            download(&gpu, target, ptr, stream).unwrap();
        }
        gpu.stream_synchronize(stream).unwrap();
        assert_eq!(seen, sources);
        assert!(gpu.stream_query(stream).unwrap());
        free(&gpu, ptr, stream);
        gpu.stream_destroy(stream).unwrap();
        assert_eq!(gpu.stream_query(stream), Err(Code::INVALID_HANDLE));
        assert!(gpu.report().is_clean(), "{:?}", gpu.report());
    }
}

#[test]
fn pageable_memory_is_read_late() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 4, stream);
    let gate = block(&gpu, stream);
    let mut source = [1_u8; 4];
    let raw = source.as_mut_ptr();
    unsafe { gpu.memcpy_async(ptr, raw, 4, stream) }.unwrap();
    // Ordered before the copy by the channel.
    unsafe { raw.write_bytes(2, 4) };
    drop(gate);
    assert_eq!(read(&gpu, ptr, 4, stream), [2; 4]);
}

#[test]
fn sources_during_the_call_may_be_overwritten_after_it() {
    let gpu = slow(3);
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 64, stream);
    let gate = block(&gpu, stream);
    let mut source: Vec<u8> = (0..64).collect();
    let raw = source.as_mut_ptr();
    let dst: Vec<*mut u8> = (0..16).map(|index| ptr.wrapping_add(index * 4)).collect();
    let src: Vec<*const u8> = (0..16).map(|index| raw.wrapping_add(index * 4).cast_const()).collect();
    unsafe { gpu.memcpy_batch_async(&dst, &src, &[4; 16], 8, stream) }.unwrap();
    unsafe { raw.write_bytes(0xFF, 64) };
    drop(gate);
    let seen = read(&gpu, ptr, 64, stream);
    assert_eq!(seen[..32], [0xFF; 32]);
    assert_eq!(seen[32..], (32..64).collect::<Vec<u8>>());
    assert_eq!(gpu.traffic().host_to_device, 64);
    assert_eq!(gpu.traffic().copies, 17);
    drop(source);
}

#[test]
fn batches_run_in_an_order_of_their_own() {
    let gpu = Gpu::new(Options::quick().seed(9));
    let stream = gpu.stream_create(0).unwrap();
    let ptr = alloc(&gpu, 1, stream);
    let sources: Vec<u8> = (0..100).collect();
    let mut last = Vec::new();
    for _ in 0..8 {
        // All to one place, which the driver accepts: what stays is the last one executed.
        let dst = vec![ptr; 100];
        let src: Vec<*const u8> = sources.iter().map(ptr::from_ref).collect();
        unsafe { gpu.memcpy_batch_async(&dst, &src, &[1; 100], 100, stream) }.unwrap();
        last.push(read(&gpu, ptr, 1, stream)[0]);
    }
    assert!(last.iter().any(|value| *value != 99), "{last:?}");
}

#[test]
fn timed_events_take_the_time_of_their_latest_record() {
    let gpu = Gpu::new(Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let sleep = |ms| {
        let task = move |_: &Memory| {
            thread::sleep(Duration::from_millis(ms));
            Ok(())
        };
        gpu.launch(stream, Task::new(task)).unwrap();
    };
    let [start, end, never] = [(); 3].map(|()| gpu.event_create_timed().unwrap());
    let plain = gpu.event_create().unwrap();
    let gate = block(&gpu, stream);
    for event in [start, end, start, plain] {
        gpu.event_record(event, stream).unwrap();
    }
    assert_eq!(gpu.event_elapsed(start, end), Err(Code::NOT_READY));
    sleep(20);
    gpu.event_record(end, stream).unwrap();
    drop(gate);
    gpu.event_synchronize(start).unwrap();
    gpu.event_synchronize(end).unwrap();
    let time = gpu.event_elapsed(start, end).unwrap();
    assert!(time >= Duration::from_millis(20), "{time:?}");
    assert_eq!(gpu.event_elapsed(end, start), Ok(Duration::ZERO), "never less than none");
    for (start, end) in [(start, plain), (plain, end), (never, end), (start, EventId::default())] {
        assert_eq!(gpu.event_elapsed(start, end), Err(Code::INVALID_HANDLE));
    }
    gpu.event_destroy(end).unwrap();
    assert_eq!(gpu.event_elapsed(start, end), Err(Code::INVALID_HANDLE));
}

#[test]
fn events_mean_their_latest_record_at_the_call() {
    let gpu = slow(7);
    let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(-1).unwrap());
    assert_eq!(gpu.stream_priority(b), Ok(-1));
    let event = gpu.event_create().unwrap();
    assert_eq!(gpu.event_query(event), Ok(true), "never recorded");
    gpu.event_synchronize(event).unwrap();
    gpu.stream_wait_event(b, event).unwrap();

    let gate = block(&gpu, a);
    let done = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&done);
    gpu.launch(
        a,
        Task::new(move |_| {
            flag.store(true, Ordering::SeqCst);
            Ok(())
        }),
    )
    .unwrap();
    gpu.event_record(event, a).unwrap();
    assert_eq!(gpu.event_query(event), Ok(false));
    gpu.stream_wait_event(b, event).unwrap();
    // Recorded again elsewhere: whoever waited already still waits for the first record.
    gpu.event_record(event, b).unwrap();
    gpu.event_destroy(event).unwrap();
    let flag = Arc::clone(&done);
    let seen = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&seen);
    gpu.launch(
        b,
        Task::new(move |_| {
            answer.store(flag.load(Ordering::SeqCst), Ordering::SeqCst);
            Ok(())
        }),
    )
    .unwrap();
    assert!(!gpu.stream_query(b).unwrap());
    drop(gate);
    gpu.stream_synchronize(b).unwrap();
    assert!(seen.load(Ordering::SeqCst));
    assert_eq!(gpu.event_query(event), Err(Code::INVALID_HANDLE));
}

#[test]
fn breaking_the_device_wakes_those_who_wait() {
    within(SOON, || {
        let gpu = Gpu::new(Options::quick());
        let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(0).unwrap());
        let event = gpu.event_create().unwrap();
        let gates = (block(&gpu, a), block(&gpu, b));
        gpu.event_record(event, a).unwrap();
        gpu.stream_wait_event(b, event).unwrap();
        gpu.launch(b, Task::new(|_| Ok(()))).unwrap();
        let c = gpu.stream_create(0).unwrap();
        let waiters: Vec<_> = [a, b]
            .map(|stream| {
                let gpu = gpu.clone();
                thread::spawn(move || gpu.stream_synchronize(stream))
            })
            .into();
        let waiting = {
            let gpu = gpu.clone();
            thread::spawn(move || gpu.event_synchronize(event))
        };
        let pushing = {
            let gpu = gpu.clone();
            thread::spawn(move || (0..10_000).try_for_each(|_| gpu.event_record(event, a)))
        };
        thread::sleep(Duration::from_millis(50));
        gpu.launch(c, Task::new(|_| Err(Code(716)))).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(Code(716)));
        }
        assert_eq!(waiting.join().unwrap(), Err(Code(716)));
        assert_eq!(pushing.join().unwrap(), Err(Code(716)), "a full queue");
        drop(gates);
    });
}

#[test]
fn dropping_the_engine_discards_what_is_queued() {
    within(SOON, || {
        let dropped = Arc::new(AtomicUsize::new(0));
        let gpu = Gpu::new(Options::default());
        let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(0).unwrap());
        let event = gpu.event_create().unwrap();
        let ptr = alloc(&gpu, 1 << 16, a);
        let _pinned = gpu.mem_host_alloc(100).unwrap();
        let gate = block(&gpu, a);
        gpu.event_record(event, a).unwrap();
        gpu.stream_wait_event(b, event).unwrap();
        for _ in 0..100 {
            let witness = Witness(Arc::clone(&dropped));
            gpu.launch(
                b,
                Task::new(move |_| {
                    let _witness = &witness;
                    Ok(())
                }),
            )
            .unwrap();
            unsafe { gpu.memset_d8_async(ptr, 1, 1 << 16, a) }.unwrap();
        }
        let opener = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(gate)
        });
        drop(gpu);
        assert_eq!(dropped.load(Ordering::SeqCst), 100);
        opener.join().unwrap();
    });
}

#[test]
fn the_last_handle_may_be_dropped_by_a_task() {
    within(SOON, || {
        let gpu = Gpu::new(Options::quick());
        let stream = gpu.stream_create(0).unwrap();
        let (sender, receiver) = mpsc::channel();
        let inner = gpu.clone();
        gpu.launch(
            stream,
            Task::new(move |_| {
                let _ = receiver.recv();
                drop(inner);
                Ok(())
            }),
        )
        .unwrap();
        drop(gpu);
        sender.send(()).unwrap();
    });
}

#[test]
fn a_full_queue_holds_the_one_who_enqueues() {
    within(SOON, || {
        let gpu = Gpu::new(Options::quick());
        let stream = gpu.stream_create(0).unwrap();
        let gate = block(&gpu, stream);
        let opener = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(gate)
        });
        let begun = Instant::now();
        let event = gpu.event_create().unwrap();
        (0..5000).for_each(|_| gpu.event_record(event, stream).unwrap());
        assert!(begun.elapsed() >= Duration::from_millis(40));
        gpu.stream_synchronize(stream).unwrap();
        opener.join().unwrap();
    });
}

#[test]
fn threads_and_streams_under_stress() {
    let gpu = Gpu::new(Options::default().seed(21).delay(Delay::Upto(Duration::from_micros(20))));
    let pool = gpu.pool_create(1 << 16).unwrap();
    let rounds = 60;
    let workers: Vec<_> = (0..4_u8)
        .map(|worker| {
            let gpu = gpu.clone();
            thread::spawn(move || {
                let (a, b) = (gpu.stream_create(0).unwrap(), gpu.stream_create(0).unwrap());
                let event = gpu.event_create().unwrap();
                let pinned = gpu.mem_host_alloc(4096).unwrap().as_ptr();
                for round in 0..rounds {
                    let bytes = 100 + round * 37 % 3000;
                    let value = worker.wrapping_mul(61).wrapping_add(round as u8);
                    let x = gpu.mem_alloc_async(bytes, pool, a).unwrap().as_ptr();
                    let y = gpu.mem_alloc_async(bytes, pool, a).unwrap().as_ptr();
                    unsafe { gpu.memset_d8_async(x, value, bytes, a) }.unwrap();
                    gpu.event_record(event, a).unwrap();
                    gpu.stream_wait_event(b, event).unwrap();
                    let half = bytes / 2;
                    let dst = [y, y.wrapping_add(half)];
                    let src = [x.cast_const(), x.wrapping_add(half).cast_const()];
                    unsafe { gpu.memcpy_batch_async(&dst, &src, &[half, bytes - half], 2, b) }.unwrap();
                    unsafe { gpu.memcpy_async(pinned, y, bytes, b) }.unwrap();
                    gpu.event_record(event, b).unwrap();
                    gpu.stream_wait_event(a, event).unwrap();
                    free(&gpu, x, a);
                    free(&gpu, y, if round % 2 == 0 { a } else { b });
                    if round % 3 == 0 {
                        gpu.stream_synchronize(a).unwrap()
                    }
                    gpu.event_synchronize(event).unwrap();
                    let seen = unsafe { slice::from_raw_parts(pinned, bytes) };
                    assert!(seen.iter().all(|byte| *byte == value));
                }
                unsafe { gpu.mem_host_free(pinned) }.unwrap();
                gpu.event_destroy(event).unwrap();
                gpu.stream_destroy(a).unwrap();
                gpu.stream_destroy(b).unwrap();
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    gpu.pool_destroy(pool).unwrap();
    assert!(gpu.report().is_clean(), "{:?}", gpu.report());
    assert_eq!(gpu.mem_get_info().unwrap().0, 64 << 30);
}
