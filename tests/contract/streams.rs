//! Several streams, several devices, several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidelock::{
    BatchCopy, Ctx, DeviceLocation, Error, View, ViewMut,
    stream::{Detached, StreamOptions},
};

use super::{Open, get, noise, put};

pub fn nested_streams_keep_apart<D: Open>(device: &D, _: &D) {
    device.run(|mut outer, _| {
        let x = put(&outer.ctx(), &noise(1, 1000));
        device.run(|mut inner, _| {
            let y = put(&inner.ctx(), &noise(2, 1000));
            outer.synchronize().unwrap();
            assert_eq!(get(&inner.ctx(), y.view()), noise(2, 1000));
            device.run(|third, _| assert_eq!(get(&third.ctx(), put(&third.ctx(), &[3]).view()), [3]));
            inner.synchronize().unwrap();
        });
        assert_eq!(get(&outer.ctx(), x.view()), noise(1, 1000));
    });
}

pub fn two_devices_at_once<D: Open>(one: &D, two: &D) {
    one.run(|mut a, _| {
        two.run(|mut b, _| {
            for round in 0..10 {
                let (ctx_a, ctx_b) = (a.ctx().with_pool(), b.ctx().with_pool());
                // Calls without a stream alternate between the two: each must find its own device.
                let (x, y) = (put(&ctx_a, &noise(round, 500)), put(&ctx_b, &noise(round + 1, 500)));
                let z = ctx_a.with_device_alloc(ctx_a.sync_alloc()).zeros::<u32>(100).unwrap();
                let w = ctx_b.with_device_alloc(ctx_b.sync_alloc()).zeros::<u32>(100).unwrap();
                assert_eq!(get(&ctx_b, y.view()), noise(round + 1, 500));
                assert_eq!(get(&ctx_a, x.view()), noise(round, 500));
                assert_eq!((get(&ctx_a, z.view()), get(&ctx_b, w.view())), (vec![0; 100], vec![0; 100]));
                assert!(ctx_a.memory_info().is_ok() && ctx_b.memory_info().is_ok());
                let rejected = ctx_a.transfer(x, &ctx_b).unwrap_err();
                assert_eq!(rejected.error, Error::OtherDevice { operand: "to" });
                let lent = ctx_b.lend(y.view(), &ctx_a, |_| ());
                assert_eq!(lent, Err(Error::OtherDevice { operand: "to" }));
                let rejected = ctx_b.attach(ctx_a.detach(rejected.value).unwrap()).unwrap_err();
                assert_eq!(rejected.error, Error::OtherDevice { operand: "memory" });
                drop((w, z, rejected));
                a.synchronize().unwrap();
                b.synchronize().unwrap();
            }
        });
    });
}

pub fn memory_of_another_device_is_refused<D: Open>(one: &D, two: &D) {
    let values = noise(22, 1000);
    let frozen = one.run(|stream, _| stream.ctx().detach(put(&stream.ctx(), &values)).unwrap().freeze());
    // An `env` wants the memory to outlive the stream; `run` borrows the device for as long.
    let scope = (one.clone(), two.clone(), frozen);
    let (one, two, frozen) = (&scope.0, &scope.1, &scope.2);
    one.run(|a, env_of_a| {
        two.run(|b, env_of_b| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut x = put(&a, &values);
            assert_eq!(
                a.lend(x.view(), &b, |_| unreachable!("it was lent")),
                Err::<(), _>(Error::OtherDevice { operand: "to" })
            );
            let lent = a.lend_mut(x.view_mut(), &b, |_| unreachable!("it was lent"));
            assert_eq!(lent, Err::<(), _>(Error::OtherDevice { operand: "to" }));
            let rejected = a.transfer(x, &b).unwrap_err();
            assert_eq!(rejected.error, Error::OtherDevice { operand: "to" });
            let rejected = b.attach(a.detach(rejected.value).unwrap()).unwrap_err();
            assert_eq!(rejected.error, Error::OtherDevice { operand: "memory" });
            assert_eq!(env_of_b.frozen(frozen).unwrap_err(), Error::OtherDevice { operand: "memory" });
            // What was refused is where it was, as it was.
            assert_eq!(get(&a, a.attach(rejected.value).unwrap().view()), values);
            assert_eq!(get(&a, env_of_a.frozen(frozen).unwrap()), values);
        });
    });
}

pub fn pinned_memory_goes_from_device_to_device<D: Open>(one: &D, two: &D) {
    let values = noise(23, 10_000);
    one.run(|a, _| {
        two.run(|b, _| {
            let (ctx_a, ctx_b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut page =
                tidelock::Buffer::<u32, <D::At<'_> as tidelock::stream::OnBackend>::Pinned>::from_slice(&values)
                    .unwrap();
            for _ in 0..5 {
                // Up to the one, down from it, and the same memory up to the other.
                let up = page.stage(&ctx_a);
                let x = ctx_a.init_from(ctx_a.alloc(10_000).unwrap(), up.view()).unwrap();
                let down = ctx_a.init_from(ctx_a.alloc_pinned(10_000).unwrap().stage(&ctx_a), x.view()).unwrap();
                let (up, down) = ctx_a.fence((up, down)).unwrap().wait().unwrap();
                assert_eq!((&up[..], &down[..]), (&values[..], &values[..]));
                let (again, mut zeros) = (down.stage(&ctx_b), up.stage(&ctx_b));
                let y = ctx_b.init_from(ctx_b.alloc(10_000).unwrap(), again.view()).unwrap();
                ctx_b.clear(zeros.view_mut()).unwrap();
                let out = ctx_b.init_from(ctx_b.alloc_pinned(10_000).unwrap().stage(&ctx_b), y.view()).unwrap();
                let (again, zeros, out) = ctx_b.fence((again, zeros, out)).unwrap().wait().unwrap();
                assert_eq!((&again[..], &zeros[..]), (&values[..], &[0; 10_000][..]));
                page = out;
                assert_eq!(page[..], values);
            }
        });
    });
}

pub fn batches_on_nested_devices<D: Open>(one: &D, two: &D) {
    let host = noise(24, 500);
    one.run(|a, _| {
        two.run(|b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let (mut on_a, mut on_b) = (BatchCopy::new(), BatchCopy::new());
            for round in 0..5 {
                // Whichever device's context is current: neither batch asks for it.
                let (x, y) = (put(&a, &noise(round, 1000)), put(&b, &noise(round + 100, 1000)));
                let (mut x2, mut y2) = (a.zeros::<u32>(1500).unwrap(), b.zeros::<u32>(1500).unwrap());
                exchanged(&mut on_b, &b, y.view(), &host, y2.view_mut());
                exchanged(&mut on_a, &a, x.view(), &host, x2.view_mut());
                for (seed, copied) in [(round, get(&a, x2.view())), (round + 100, get(&b, y2.view()))] {
                    let values = noise(seed, 1000);
                    assert_eq!(copied, [&values[500..], &values[..500], &host].concat());
                }
            }
        });
    });
}

/// One batch with the halves of `src` in turned order, and then `host`.
fn exchanged<L: DeviceLocation, A: Copy>(
    batch: &mut BatchCopy,
    ctx: &Ctx<'_, L, A>,
    src: View<'_, u32, L>,
    host: &[u32],
    dst: ViewMut<'_, u32, L>,
) {
    let answer = batch.scope(ctx, |batch| {
        let (dst, last) = dst.split_at(1000)?;
        let (left, right) = dst.split_at(500)?;
        batch.copy(src.slice(500..)?, left)?;
        batch.copy(src.slice(..500)?, right)?;
        batch.copy(View::from(host), last)
    });
    answer.unwrap();
}

pub fn memory_is_handed_over<D: Open>(device: &D, _: &D) {
    device.run(|a, _| {
        let handed = device.run(|b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            for round in 0..20 {
                let x = put(&a, &noise(round, 100_000));
                let y = a.transfer(x, &b).unwrap();
                assert_eq!(get(&b, y.view()), noise(round, 100_000));
            }
            // Its stream and its pool end before it does.
            b.transfer(put(&b, &noise(21, 1000)), &a).unwrap()
        });
        assert_eq!(get(&a.ctx(), handed.view()), noise(21, 1000));
    });
}

pub fn memory_is_lent<D: Open>(device: &D, _: &D) {
    device.run(|a, _| {
        device.run(|b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut x = put(&a, &noise(0, 100_000));
            for round in 1..20 {
                let next = put(&b, &noise(round, 100_000));
                let seen = a.lend(x.view(), &b, |x| get(&b, x)).unwrap();
                assert_eq!(seen, noise(round - 1, 100_000));
                a.lend_mut(x.view_mut(), &b, |x| b.copy(next.view(), x)).unwrap().unwrap();
                // The lender's next operation runs behind the loan.
                let copy = a.init_from(a.alloc(100_000).unwrap(), x.view()).unwrap();
                assert_eq!(get(&a, copy.view()), noise(round, 100_000));
            }
            assert_eq!(a.lend(x.view(), &a, |_| ()), Err(Error::SameStream));
        });
    });
}

pub fn detached_memory_travels<D: Open>(device: &D, _: &D) {
    let values = noise(15, 10_000);
    let detach = || -> Detached<u32, D::Family> {
        device.run(|stream, _| {
            let ctx = stream.ctx();
            ctx.detach(put(&ctx, &values)).unwrap()
        })
    };
    // It outlives its stream and its pool, and is freed by whoever drops it.
    let memory = detach();
    let (values, other) = (&values, device.clone());
    std::thread::scope(|threads| {
        threads.spawn(move || {
            other.run(|stream, _| {
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

pub fn frozen_memory_is_read_by_many<D: Open>(device: &D, _: &D) {
    let values = noise(16, 10_000);
    let frozen = device.run(|stream, _| {
        let ctx = stream.ctx();
        ctx.detach(put(&ctx, &values)).unwrap().freeze()
    });
    // Scoped threads and an `env` want the memory to outlive the stream; `run` borrows the device for as long.
    let scope = (device.clone(), frozen, values);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            let (device, frozen, values) = (&scope.0, &scope.1, &scope.2);
            threads.spawn(move || {
                device.run(|stream, env| {
                    let view = env.frozen(frozen).unwrap();
                    assert_eq!(get(&stream.ctx(), view), *values);
                });
            });
        }
    });
}

pub fn streams_of_other_threads<D: Open>(device: &D, _: &D) {
    // A fresh thread has no current context.
    std::thread::scope(|threads| {
        for seed in 0..4 {
            threads.spawn(move || {
                device.run(|mut stream, _| {
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

pub fn priorities_of_any_size<D: Open>(device: &D, _: &D) {
    for priority in [i32::MIN, -1, 0, 1, i32::MAX] {
        let answer = device.open(&StreamOptions::default().priority(priority), |stream, _| {
            assert_eq!(get(&stream.ctx(), put(&stream.ctx(), &[priority]).view()), [priority]);
        });
        answer.unwrap();
    }
}

pub fn an_idle_stream_says_so<D: Open>(device: &D, _: &D) {
    device.run(|mut stream, _| {
        let x = put(&stream.ctx(), &noise(17, 100_000));
        // Busy or not: an answer, never an error.
        stream.is_idle().unwrap();
        stream.synchronize().unwrap();
        assert!(stream.is_idle().unwrap());
        drop(x);
    });
}

pub fn a_panic_leaves_the_device_usable<D: Open>(device: &D, _: &D) {
    let mut target = vec![0; 100_000];
    let caught = catch_unwind(AssertUnwindSafe(|| {
        device.run(|mut stream, _| {
            let x = put(&stream.ctx(), &noise(18, 100_000));
            stream.host_scope(|scope| {
                scope.ctx().copy(x.view(), scope.target(&mut target)).unwrap();
                panic!("inside the scope");
            })
        })
    }));
    assert!(caught.is_err());
    // The scope has waited for the copy while it unwound.
    assert_eq!(target, noise(18, 100_000));
    device.run(|stream, _| assert_eq!(get(&stream.ctx(), put(&stream.ctx(), &[1]).view()), [1]));
}
