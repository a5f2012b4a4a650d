//! Several streams and several threads.

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    time::Duration,
};

use tidelock::{
    Buffer, Device, Error,
    driver::{Code, OpenOptions, Pool, RawStream},
    stream::{Detached, Shared, StreamOptions},
};

use super::{get, noise, put, run};

pub fn nested_streams_keep_apart<D: Device>(device: &D) {
    run(device, |mut outer, _| {
        let x = put(&outer.ctx(), &noise(1, 1000));
        run(device, |mut inner, _| {
            let y = put(&inner.ctx(), &noise(2, 1000));
            outer.synchronize().unwrap();
            assert_eq!(get(&inner.ctx(), y.view()), noise(2, 1000));
            run(device, |third, _| assert_eq!(get(&third.ctx(), put(&third.ctx(), &[3]).view()), [3]));
            inner.synchronize().unwrap();
        });
        assert_eq!(get(&outer.ctx(), x.view()), noise(1, 1000));
    });
}

pub fn memory_is_handed_over<D: Device>(device: &D) {
    run(device, |a, _| {
        let handed = run(device, |b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            for round in 0..20 {
                let x = put(&a, &noise(round, 100_000));
                let y = a.transfer(x, &b).unwrap();
                assert_eq!(get(&b, y.view()), noise(round, 100_000));
            }
            // Its stream and its pool end before the memory does.
            b.transfer(put(&b, &noise(21, 1000)), &a).unwrap()
        });
        assert_eq!(get(&a.ctx(), handed.view()), noise(21, 1000));
    });
}

pub fn memory_is_lent<D: Device>(device: &D) {
    run(device, |a, _| {
        run(device, |b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut x = put(&a, &noise(0, 100_000));
            for round in 1..20 {
                let next = put(&b, &noise(round, 100_000));
                let seen = a.lend(x.view(), &b, |x| get(&b, x)).unwrap();
                assert_eq!(seen, noise(round - 1, 100_000));
                a.lend_mut(x.view_mut(), &b, |x| b.copy(next.view(), x)).unwrap().unwrap();
                // The lender's next operation runs after the loan.
                let copy = a.init_from(a.alloc(100_000).unwrap(), x.view()).unwrap();
                assert_eq!(get(&a, copy.view()), noise(round, 100_000));
            }
            assert_eq!(a.lend(x.view(), &a, |_| ()), Err(Error::SameStream));
        });
    });
}

pub fn detached_memory_travels<D: Device>(device: &D) {
    let values = noise(15, 10_000);
    let detach = || -> Buffer<u32, Detached<D::Backend>> {
        run(device, |stream, _| {
            let ctx = stream.ctx();
            ctx.detach(put(&ctx, &values)).unwrap()
        })
    };
    // It outlives its stream and its pool, and the last owner frees it.
    let memory = detach();
    let (values, other) = (&values, device.clone());
    std::thread::scope(|threads| {
        threads.spawn(move || {
            run(&other, |stream, _| {
                let ctx = stream.ctx();
                let x = ctx.attach(memory).unwrap();
                assert_eq!(get(&ctx, x.view()), *values);
            });
        });
    });
    drop(detach());
    std::thread::scope(|threads| {
        let memory = detach();
        threads.spawn(move || drop(memory));
    });
}

pub fn shared_memory_is_read_by_many<D: Device>(device: &D) {
    let values = noise(16, 10_000);
    let shared = run(device, |stream, _| {
        let ctx = stream.ctx();
        ctx.detach(put(&ctx, &values)).unwrap().share()
    });
    std::thread::scope(|threads| {
        for _ in 0..4 {
            let (shared, values, device) = (shared.clone(), &values, device.clone());
            threads.spawn(move || {
                run(&device, |stream, _| {
                    let memory = stream.ctx().attach(shared.clone()).unwrap();
                    assert_eq!(get(&stream.ctx(), memory.view()), *values);
                });
            });
        }
    });
    // All readers have ended: the last owner writes.
    run(device, |stream, _| {
        let ctx = stream.ctx();
        let mut memory = ctx.attach(shared).unwrap();
        ctx.clear(memory.get_mut().unwrap()).unwrap();
        assert_eq!(get(&ctx, memory.try_unwrap().unwrap().view()), [0; 10_000]);
    });
}

pub fn shared_memory_is_read_by_two_streams_at_once<D: Device>(device: &D) {
    run(device, |main, _| {
        run(device, |side, _| {
            let (a, b) = (main.ctx().with_pool(), side.ctx().with_pool());
            let mut shared = put(&a, &noise(40, 100_000)).share();
            for round in 40..60 {
                let theirs = a.transfer(shared.clone(), &b).unwrap();
                let there = b.init_from(b.alloc(100_000).unwrap(), theirs.view()).unwrap();
                let here = a.init_from(a.alloc(100_000).unwrap(), shared.view()).unwrap();
                shared.join(b.transfer(theirs, &a).unwrap()).unwrap();
                let next = put(&a, &noise(round + 1, 100_000));
                a.copy(next.view(), shared.get_mut().unwrap()).unwrap();
                assert_eq!(get(&a, here.view()), noise(round, 100_000));
                assert_eq!(get(&b, there.view()), noise(round, 100_000));
            }
        });
    });
}

pub fn streams_of_other_threads<D: Device>(device: &D) {
    // A new thread has no current context.
    std::thread::scope(|threads| {
        for seed in 0..4 {
            threads.spawn(move || {
                run(device, |mut stream, _| {
                    let ctx = stream.ctx().with_pool();
                    let x = put(&ctx, &noise(seed, 10_000));
                    let y = ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(10).unwrap();
                    assert_eq!((get(&ctx, x.view()), get(&ctx, y.view())), (noise(seed, 10_000), vec![0; 10]));
                    drop((x, y));
                    stream.trim(0).unwrap();
                });
            });
        }
    });
}

pub fn priorities_of_any_size<D: Device>(device: &D) {
    for priority in [i32::MIN, -1, 0, 1, i32::MAX] {
        let answer = device.stream_with(&StreamOptions::default().priority(priority), |stream, _| {
            assert_eq!(get(&stream.ctx(), put(&stream.ctx(), &[priority]).view()), [priority]);
        });
        answer.unwrap();
    }
}

pub fn an_idle_stream_says_so<D: Device>(device: &D) {
    run(device, |mut stream, _| {
        let x = put(&stream.ctx(), &noise(17, 100_000));
        // Busy or idle: it returns an answer, never an error.
        stream.is_idle().unwrap();
        stream.synchronize().unwrap();
        assert!(stream.is_idle().unwrap());
        drop(x);
    });
}

pub fn a_panic_leaves_the_device_usable<D: Device>(device: &D) {
    let mut target = vec![0; 100_000];
    let caught = catch_unwind(AssertUnwindSafe(|| {
        run(device, |mut stream, _| {
            let x = put(&stream.ctx(), &noise(18, 100_000));
            stream.host_scope(|scope| {
                scope.ctx().copy(x.view(), scope.target(&mut target)).unwrap();
                panic!("inside the scope");
            })
        })
    }));
    assert!(caught.is_err());
    // The scope has waited for the copy while the panic unwound.
    assert_eq!(target, noise(18, 100_000));
    run(device, |stream, _| assert_eq!(get(&stream.ctx(), put(&stream.ctx(), &[1]).view()), [1]));
}

/// E8, E9. A device may take no time at all: then every mark says so.
pub fn the_time_between_two_points<D: Device>(device: &D) {
    /// More than the resolution of a device's clock, and than a time loses in an `f32`.
    const RESOLUTION: Duration = Duration::from_micros(20);
    run(device, |mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = put(&ctx, &noise(19, 1 << 20));
        let outer = match ctx.mark() {
            Err(Error::Driver(error)) if error.code == Code::NOT_SUPPORTED => return,
            outer => outer.unwrap(),
        };
        // Events that are used again, before and after they were passed.
        drop(ctx.mark().unwrap());
        for round in 0..20 {
            let first = ctx.mark().unwrap();
            ctx.clear(x.view_mut()).unwrap();
            let second = ctx.mark().unwrap();
            ctx.upload(&[round], x.view_mut().slice(..1).unwrap()).unwrap();
            let second = ctx.elapsed_since(second).unwrap();
            let first = ctx.elapsed_since(first).unwrap();
            while round % 2 == 0 && !second.is_ready().unwrap() {
                std::hint::spin_loop();
            }
            // In any order: the second lies within the first.
            let first = first.wait().unwrap();
            let second = second.wait().unwrap();
            assert!(second <= first + RESOLUTION, "{second:?} of {first:?}");
            assert!(first < Duration::from_secs(100), "{first:?}");
        }
        let inner = ctx.mark().unwrap();
        let inner = ctx.elapsed_since(inner).unwrap();
        let outer = ctx.elapsed_since(outer).unwrap();
        let at_rest = ctx.mark().unwrap();
        let _ = stream.synchronize().unwrap();
        let (inner, outer) = (inner.wait().unwrap(), outer.wait().unwrap());
        assert!(inner <= outer + RESOLUTION, "{inner:?} of {outer:?}");
        // The host's sleep lies between the two points.
        std::thread::sleep(Duration::from_millis(5));
        let slept = stream.ctx().elapsed_since(at_rest).unwrap().wait().unwrap();
        assert!(slept > Duration::from_millis(4), "{slept:?}");
        // A mark of which nothing comes.
        drop(stream.ctx().mark().unwrap());
    });
}

/// A stream that makes the calls of the contract itself stands for another library.
pub fn foreign_memory_is_used_behind_a_foreign_event<D: Device>(device: &D) {
    const LEN: usize = 1 << 20;
    let owner = run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        ctx.detach(ctx.zeros::<u32>(LEN).unwrap()).unwrap()
    });
    let ptr = NonNull::new(owner.view().as_ptr().cast_mut()).unwrap();
    let theirs = device.open(&OpenOptions::new(Pool::Default, 0)).unwrap();
    let event = theirs.create_event().unwrap();
    let fill = |value| {
        // SAFETY: the owner has so many bytes, and what wrote them has ended.
        unsafe { theirs.fill(ptr.as_ptr().cast(), value, NonZero::new(LEN * 4).unwrap()) }.unwrap();
    };
    fill(1);
    fill(3);
    // SAFETY: the event is of the device.
    unsafe { theirs.record(event) }.unwrap();
    // SAFETY: the owner has the elements, which are written before the event only.
    let shared = unsafe { Shared::<u32, _>::from_raw_detached(device, ptr, LEN, Some(event), owner) }.unwrap();
    // SAFETY: as above. The event is the caller's again.
    unsafe { theirs.record(event) }.unwrap();
    // SAFETY: the event is of the device, and is not used again.
    unsafe { device.destroy_event(event) };
    run(device, |stream, _| {
        let shared = stream.ctx().attach(shared).unwrap();
        assert_eq!(get(&stream.ctx(), shared.view()), vec![0x0303_0303; LEN]);
    });
    theirs.synchronize().unwrap();
}
