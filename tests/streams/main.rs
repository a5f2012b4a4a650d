//! Memory across streams and threads: transfer, lend, detached and shared memory.

mod opened;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidelock::{
    Buffer, Ctx, Error, Stack,
    sim::{self, Sim},
    stream::StreamAlloc,
};
use tidelock_test_support::{
    checked::{Checked, assert_ordered},
    memory::get,
};

fn device(seed: u64) -> Checked {
    Checked::new(seed)
}

/// The context of a stream, with memory of the stream's pool.
type Pooled<'c, 's> = Ctx<'c, Sim<'s>, StreamAlloc<Sim<'s>>>;

/// Runs `f` on a stream of each device.
fn on_two<R>(
    one: &sim::Device,
    two: &sim::Device,
    f: impl for<'a, 'b> FnOnce(Pooled<'_, 'a>, Pooled<'_, 'b>) -> R,
) -> R {
    one.stream(|a, _| two.stream(|b, _| f(a.ctx().with_pool(), b.ctx().with_pool()))).unwrap().unwrap()
}

#[test]
fn transferred_memory_carries_what_was_written_before() {
    for seed in 0..20 {
        let device = device(seed);
        let values = on_two(&device, &device, |a, b| {
            let mut x = a.zeros::<u32>(1000).unwrap();
            a.launch((x.view_mut(),), |(x,)| x.fill(7)).unwrap();
            let before = device.gpu().counts();
            let mut y = a.transfer(x, &b).unwrap();
            assert_eq!((device.gpu().counts() - before).total(), 2, "a record and a wait");
            b.launch((y.view_mut(),), |(y,)| y.iter_mut().for_each(|y| *y += 1)).unwrap();
            get(&b, y.view())
        });
        assert_eq!(values, [8; 1000]);
    }
}

#[test]
fn lent_memory_is_ordered_on_both_sides_also_on_panic() {
    for seed in 0..20 {
        let device = device(seed);
        let values = on_two(&device, &device, |a, b| {
            let mut x = a.zeros::<u32>(1000).unwrap();
            a.launch((x.view_mut(),), |(x,)| x.fill(7)).unwrap();
            let caught = catch_unwind(AssertUnwindSafe(|| {
                a.lend_mut(x.view_mut(), &b, |mut y| {
                    b.launch((y.reborrow(),), |(y,)| y.iter_mut().for_each(|y| *y += 1)).unwrap();
                    if seed % 2 == 0 {
                        panic!("inside the loan");
                    }
                })
            }));
            assert_eq!(caught.is_err(), seed % 2 == 0);
            let before = device.gpu().counts();
            let mut sums = b.zeros::<u32>(1).unwrap();
            let sum = a
                .lend(x.view(), &b, |y| {
                    b.launch((y, sums.view_mut()), |(y, sums)| sums[0] = y.iter().sum()).unwrap();
                    get(&b, sums.view())
                })
                .unwrap();
            assert_eq!(sum, [8000]);
            assert!((device.gpu().counts() - before).total() > 4);
            a.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x *= 2)).unwrap();
            get(&a, x.view())
        });
        assert_eq!(values, [16; 1000]);
    }
}

/// What the lender writes during one loan and then lends again is ordered too, and so is what the
/// borrower lends on.
#[test]
fn loans_nest_and_order_what_was_written_inside() {
    for seed in 0..20 {
        let device = device(seed);
        let values = device.stream(|a, _| {
            device.stream(|b, _| {
                device.stream(|c, _| {
                    let (a, b, c) = (a.ctx().with_pool(), b.ctx().with_pool(), c.ctx().with_pool());
                    let (mut x, mut z) = (a.zeros::<u32>(1000).unwrap(), a.zeros::<u32>(1000).unwrap());
                    a.launch((x.view_mut(),), |(x,)| x.fill(7)).unwrap();
                    a.lend(x.view(), &b, |x| {
                        a.launch((z.view_mut(),), |(z,)| z.fill(1)).unwrap();
                        a.lend_mut(z.view_mut(), &b, |mut z| {
                            b.launch((z.reborrow(), x), |(z, x)| z.iter_mut().zip(x).for_each(|(z, x)| *z += x))
                                .unwrap();
                            b.lend_mut(z, &c, |mut z| {
                                c.launch((z.reborrow(),), |(z,)| z.iter_mut().for_each(|z| *z *= 2)).unwrap();
                            })
                            .unwrap();
                        })
                        .unwrap();
                        a.launch((z.view_mut(),), |(z,)| z.iter_mut().for_each(|z| *z += 1)).unwrap();
                    })
                    .unwrap();
                    get(&a, z.view())
                })
            })
        });
        assert_eq!(values.unwrap().unwrap().unwrap(), [17; 1000]);
    }
}

#[test]
fn a_loan_costs_four_calls() {
    let device = device(1);
    on_two(&device, &device, |a, b| {
        let mut stack = Stack::new(a.pool());
        let x = a.with_device_alloc(&stack).zeros::<u32>(10).unwrap();
        for _ in 0..3 {
            let before = device.gpu().counts();
            a.lend(x.view(), &b, |_| ()).unwrap();
            assert_eq!((device.gpu().counts() - before).total(), 4);
        }
        drop(x);
        stack.reset().unwrap();
    });
}

#[test]
fn lending_to_oneself_or_to_another_device_is_refused() {
    let (one, two) = (device(1), device(2));
    on_two(&one, &two, |a, b| {
        let x = a.zeros::<u32>(10).unwrap();
        assert_eq!(a.lend(x.view(), &a, |_| unreachable!("refused before")), Err::<(), _>(Error::SameStream));
        let other = Error::OtherDevice { operand: "to" };
        assert_eq!(a.lend(x.view(), &b, |_| unreachable!("refused before")), Err::<(), _>(other));
        let rejected = a.transfer(x, &b).unwrap_err();
        assert_eq!(rejected.error, other);
        assert_eq!(get(&a, rejected.value.view()), [0; 10]);
    });
}

#[test]
fn detached_memory_travels_between_threads_and_outlives_its_device_value() {
    let device = device(3);
    let detached = device
        .stream(|stream, _| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(1000).unwrap();
            ctx.launch((x.view_mut(),), |(x,)| x.fill(7)).unwrap();
            ctx.detach(x).unwrap()
        })
        .unwrap();
    let shared = std::thread::scope(|scope| {
        let device = &*device;
        scope
            .spawn(move || {
                device
                    .stream(|stream, _| {
                        let ctx = stream.ctx().with_pool();
                        let mut x = ctx.attach(detached).unwrap();
                        ctx.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1)).unwrap();
                        ctx.detach(x).unwrap()
                    })
                    .unwrap()
            })
            .join()
            .unwrap()
            .share()
    });
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                device
                    .stream(|stream, _| {
                        let ctx = stream.ctx().with_pool();
                        assert_eq!(get(&ctx, ctx.attach(shared.clone()).unwrap().view()), [8; 1000]);
                    })
                    .unwrap();
            });
        }
    });
    let engine = device.gpu().clone();
    drop(device);
    assert_eq!(engine.report().allocations, 1, "the shared memory");
    drop(shared);
    assert_eq!(engine.report().allocations, 0);
    assert_eq!(engine.report().events, 0);
    assert_ordered(&engine);
}

#[test]
fn memory_of_another_device_is_handed_back() {
    let (one, two) = (device(1), device(2));
    let detached = one.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        ctx.detach(ctx.zeros::<u32>(10).unwrap()).unwrap()
    });
    let detached = two.stream(|stream, _| {
        let rejected = stream.ctx().attach(detached.unwrap()).unwrap_err();
        assert_eq!(rejected.error, Error::OtherDevice { operand: "memory" });
        rejected.value
    });
    let shared = detached.unwrap().share();
    two.stream(|stream, _| {
        let rejected = stream.ctx().attach(shared.clone()).unwrap_err();
        assert_eq!(rejected.error, Error::OtherDevice { operand: "memory" });
    })
    .unwrap();
    one.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        assert_eq!(get(&ctx, ctx.attach(shared.clone()).unwrap().view()), [0; 10]);
    })
    .unwrap();
}

#[test]
fn a_stream_that_cannot_be_waited_for_keeps_shared_memory() {
    let device = device(4);
    let shared = device
        .stream(|stream, _| {
            let ctx = stream.ctx().with_pool();
            ctx.detach(ctx.zeros::<u32>(10).unwrap()).unwrap()
        })
        .unwrap()
        .share();
    let failed = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let theirs = ctx.attach(shared.clone()).unwrap();
        let _copy: Buffer<u32, _, _> = ctx.init_from(ctx.alloc(10).unwrap(), theirs.view()).unwrap();
        device.gpu().fail(sim::Fault {
            nth: 1,
            onwards: true,
            call: Some(sim::Call::StreamSynchronize),
            code: tidelock::driver::Code::UNKNOWN,
        });
    });
    assert!(matches!(failed, Err(Error::Driver(_))), "{failed:?}");
    device.gpu().disarm();
    let before = device.gpu().report().allocations;
    drop(shared);
    assert_eq!(device.gpu().report().allocations, before, "the device may still be reading it");
}
