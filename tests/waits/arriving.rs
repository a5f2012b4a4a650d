//! Arriving memory: detached from its stream, waited for and dropped on any thread.

use super::*;
use tidelock::{
    Device as _, Error,
    driver::{Backend, Pool},
    location::Pinned,
    sim::Call,
    stream::StreamOptions,
};

#[test]
fn it_is_waited_for_on_any_thread_while_the_stream_goes_on() {
    let device = watched();
    let (send, arrivals) = mpsc::channel::<(u32, Vec<Arrival>)>();
    let replies = thread::spawn(move || {
        let mut n = 0;
        for (step, pages) in arrivals {
            for page in pages {
                assert_eq!(page.wait().unwrap()[..], [step; 4]);
                n += 1;
            }
        }
        n
    });
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(4)?;
            for step in 1..40 {
                ctx.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1))?;
                let page = || Ok(ctx.init_from(ctx.alloc_pinned(4)?.stage(&ctx), x.view())?);
                let pages = (0..3).map(|_| page()).collect::<Result<Vec<_>>>()?;
                let before = device.gpu().counts();
                let pages: Vec<Arrival> =
                    pages.into_iter().map(|page| Ok(ctx.fence(page)?.detach())).collect::<Result<_>>()?;
                assert_eq!((device.gpu().counts() - before).of(Call::EventRecord), 1, "a record for all of them");
                send.send((step, pages)).unwrap();
            }
            drop(send);
            Ok::<_, Error>(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(replies.join().unwrap(), 39 * 3);
    assert_clean(&device);
}

#[test]
fn it_outlives_its_stream_and_its_device_value() {
    let device = watched();
    let arrival = device.stream(|stream, _env| fenced(&stream.ctx(), &[1, 2, 3]).detach()).unwrap();
    drop(device);
    assert_eq!((arrival.len(), arrival.is_empty()), (3, false));
    assert!(arrival.is_ready().unwrap());
    let values = thread::spawn(|| arrival.wait().unwrap().to_vec()).join().unwrap();
    assert_eq!(values, [1, 2, 3]);
}

#[test]
fn a_wait_does_not_wait_for_what_is_behind_the_fence() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let first = Gate::close(&ctx);
            let arrival = fenced(&ctx, &[7]).detach();
            let second = Gate::close(&ctx);
            assert!(!arrival.is_ready().unwrap());
            first.open_later();
            assert_eq!(arrival.wait().unwrap()[..], [7]);
            assert!(!stream.is_idle().unwrap());
            drop(second);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn detaching_makes_no_driver_call_and_dropping_never_waits() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let pending = fenced(&ctx, &[7; 100]);
            let calls = device.gpu().counts();
            let arrival = pending.detach();
            assert_eq!((device.gpu().counts() - calls).total(), 0);
            // The gate is closed: a wait would not end.
            drop(arrival);
            assert_eq!(device.deferred_bytes(), 400);
            drop(gate);
            stream.synchronize().unwrap();
            until("it is freed", || device.deferred_bytes() == 0);
            assert_eq!((stream.leaked_bytes(), device.leaked_bytes()), (0, 0));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn dropped_memory_that_is_ready_is_free_at_once() {
    let device = watched();
    let arrival = device.stream(|stream, _env| fenced(&stream.ctx(), &[7; 100]).detach()).unwrap();
    drop(arrival);
    assert_eq!((device.deferred_bytes(), device.leaked_bytes()), (0, 0));
    assert_clean(&device);
}

/// The pool must not hand the memory out while a kernel is still to write it.
#[test]
fn dropped_memory_is_not_handed_out_early() {
    for _ in 0..20 {
        let device = watched();
        device
            .stream(|mut stream, _env| {
                let ctx = stream.ctx();
                let gate = Gate::close(&ctx);
                let arrival = fenced(&ctx, &[7; 64]).detach();
                let place = arrival.as_ptr();
                drop(arrival);
                let others: Vec<_> =
                    (0..100).map(|_| Buffer::<u32, Pinned<SimBackend>>::from_slice(&[1; 64]).unwrap()).collect();
                assert!(others.iter().all(|other| other.as_ptr() != place));
                drop(gate);
                stream.synchronize().unwrap();
                assert!(others.iter().all(|other| other[..] == [1; 64]));
            })
            .unwrap();
        assert_clean(&device);
    }
}

#[test]
fn dropped_in_a_kernel_it_is_freed_behind_its_record() {
    for round in 0..20 {
        let (device, other) = (watched(), watched());
        device
            .stream(|mut stream, _env| {
                let ctx = stream.ctx();
                let early = fenced(&ctx, &[1; 10]).detach();
                let gate = Gate::close(&ctx);
                let late = fenced(&ctx, &[2; 10]).detach();
                let second = if round % 2 == 0 { &device } else { &other };
                second
                    .stream(|mut another, _env| {
                        another.ctx().launch((0_u32,), move |_| drop((early, late))).unwrap();
                        // The kernel does not wait: the gate opens after it.
                        another.synchronize().unwrap();
                        // The early one is over.
                        until("one is freed", || device.deferred_bytes() == 40);
                    })
                    .unwrap();
                // In a kernel of its own stream, before and behind the record.
                let own = fenced(&ctx, &[3; 10]).detach();
                let (send, receive) = mpsc::channel();
                ctx.launch((0_u32,), move |_| drop::<(Arrival, Arrival)>(receive.recv().unwrap())).unwrap();
                let behind = fenced(&ctx, &[4; 10]).detach();
                send.send((own, behind)).unwrap();
                drop(gate);
                stream.synchronize().unwrap();
                until("it is freed", || device.deferred_bytes() == 0);
                assert_eq!((device.leaked_bytes(), stream.leaked_bytes()), (0, 0));
            })
            .unwrap();
        assert_clean(&device);
        assert_clean(&other);
    }
}

#[test]
fn dropped_after_all_streams_and_handles_it_is_freed() {
    let used = || SimBackend::PINNED.usage().used;
    let device = watched();
    let out = |ctx: &Ctx<'_, Sim<'_>>| {
        let out = ctx.init_zeros(ctx.alloc_pinned::<u8>(1 << 20).unwrap().stage(ctx)).unwrap();
        ctx.fence(out).unwrap().detach()
    };
    let arrivals: Vec<_> = device.stream(|stream, _env| (0..64).map(|_| out(&stream.ctx())).collect()).unwrap();
    drop(device);
    // Other tests use less of the pool.
    assert!(used() >= 64 << 20);
    thread::spawn(move || drop(arrivals)).join().unwrap();
    assert!(used() < 48 << 20);
}

/// Also while the thread that frees such memory is held up.
#[test]
fn what_waits_is_freed_before_more_memory_is_locked() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let (go, held) = mpsc::channel::<()>();
            ctx.notify(move |_| assert!(held.recv().is_err())).unwrap();
            let mut places = Vec::new();
            for _ in 0..10 {
                // Large memory, which no other test uses.
                let empty = ctx.alloc_pinned::<u8>(3 << 20).unwrap();
                places.push(empty.as_ptr());
                let gate = Gate::close(&ctx);
                drop(ctx.fence(ctx.init_zeros(empty.stage(&ctx)).unwrap()).unwrap().detach());
                assert_eq!(device.deferred_bytes(), 3 << 20);
                let behind = fenced(&ctx, &[1]);
                drop(gate);
                behind.wait().unwrap();
            }
            places.dedup();
            assert_eq!(places.len(), 1);
            drop(go);
        })
        .unwrap();
    until("all is freed", || device.deferred_bytes() == 0);
    assert_clean(&device);
}

#[test]
fn empty_and_uninitialised_memory_arrives_too() {
    let device = watched();
    let (empty, raw) = device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let empty = fenced(&ctx, &[]).detach();
            (empty, ctx.fence(ctx.alloc_pinned::<u32>(4).unwrap().stage(&ctx)).unwrap().detach())
        })
        .unwrap();
    assert_eq!(empty.wait().unwrap().len(), 0);
    assert_eq!(raw.wait().unwrap().write_with(|i| i as u32)[..], [0, 1, 2, 3]);
    assert_clean(&device);
}

#[test]
fn a_refused_wait_hands_the_memory_back() {
    let device = watched();
    let arrival = device.stream(|stream, _env| fenced(&stream.ctx(), &[5, 6]).detach()).unwrap();
    let fault = |call| sim::Fault { nth: 1, onwards: false, call: Some(call), code: Code::OUT_OF_MEMORY };
    device.gpu().fail(fault(Call::EventQuery));
    assert!(matches!(arrival.is_ready(), Err(Error::Driver(_))));
    device.gpu().fail(fault(Call::EventSynchronize));
    let rejected = arrival.wait().unwrap_err();
    assert!(matches!(rejected.error, Error::Driver(DriverError { code: Code::OUT_OF_MEMORY, .. })), "{rejected}");
    assert_eq!(rejected.value.wait().unwrap()[..], [5, 6]);
    assert_clean(&device);
}

#[test]
fn a_broken_device_hands_it_back_and_leaks_what_is_dropped() {
    let device = watched();
    let mut kept = Vec::new();
    let answer = device.stream(|stream, _env| {
        let ctx = stream.ctx();
        let gate = Gate::close(&ctx);
        let (dropped, waited) = (fenced(&ctx, &[1; 10]).detach(), fenced(&ctx, &[2; 10]).detach());
        // One is dropped before the device breaks, one is not.
        drop(dropped);
        kept.push(waited);
        break_device(&ctx);
        kept.push(fenced(&ctx, &[3; 10]).detach());
        drop(gate);
    });
    assert!(answer.is_err());
    for arrival in kept {
        let rejected = match arrival.wait() {
            // What was passed before the failure may be said to be.
            Ok(_) => continue,
            Err(rejected) => rejected,
        };
        assert!(matches!(rejected.error, Error::Poisoned(_)), "{rejected}");
        let leaked = device.leaked_bytes();
        drop(rejected.value);
        assert_eq!(device.leaked_bytes(), leaked + 40);
    }
    until("nothing waits", || device.deferred_bytes() == 0);
}

/// The stream may be waiting for the kernel, and the simulated device takes no call there.
#[test]
fn a_kernel_may_drop_and_not_wait() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let (send, receive) = mpsc::channel::<Arrival>();
            let (tell, told) = mpsc::channel();
            ctx.launch((0_u32,), move |_| {
                let arrival = receive.recv().unwrap();
                let is_ready = arrival.is_ready();
                tell.send((is_ready, arrival.wait().map(drop))).unwrap();
            })
            .unwrap();
            send.send(fenced(&ctx, &[1]).detach()).unwrap();
            let (is_ready, waited) = told.recv().unwrap();
            for error in [is_ready.unwrap_err(), waited.unwrap_err().error] {
                assert!(matches!(error, Error::Driver(DriverError { code: Code::NOT_PERMITTED, .. })), "{error}");
            }
            stream.synchronize().unwrap();
        })
        .unwrap();
    until("it is freed", || device.deferred_bytes() == 0);
    assert_clean(&device);
}

#[test]
fn it_waits_behind_streams_of_any_kind() {
    let device = watched();
    for options in [
        StreamOptions::default().warm(true),
        StreamOptions::default().max_deferred_frees(1).priority(-1),
        StreamOptions::default().pool(Pool::Default),
    ] {
        let arrival = device.stream_with(&options, |stream, _env| fenced(&stream.ctx(), &[9]).detach()).unwrap();
        assert_eq!(arrival.wait().unwrap()[..], [9]);
    }
    assert_clean(&device);
}

#[test]
fn it_outlives_visits_of_a_lane() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    let mut arrivals = Vec::new();
    for step in 0..20 {
        arrivals.push(lane.enter(|stream, _env| fenced(&stream.ctx(), &[step; 8]).detach()).unwrap());
        if step % 3 == 0 {
            drop(arrivals.pop());
        }
    }
    let steps = (0..20).filter(|step| step % 3 != 0);
    let threads = steps.zip(arrivals).map(|(step, arrival)| thread::spawn(move || (step, arrival.wait().unwrap())));
    for thread in threads {
        let (step, values) = thread.join().unwrap();
        assert_eq!(values[..], [step; 8]);
    }
    drop(lane);
    until("all is freed", || device.deferred_bytes() == 0);
    assert_clean(&device);
}
