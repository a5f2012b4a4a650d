//! Lanes, outputs, tables, scatters, marks, arenas and shared memory in one program, and what safe
//! code does to their combinations.

use std::{
    cell::RefCell,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use tidelock::{
    BatchCopy, Buffer, Error, Result, Stack,
    buffer::Scatter,
    driver::Code,
    sim::{self, Device, Fault, SimBackend},
    stream::{Detached, Lane, Shared},
};
use tidelock_test_support::memory::get as read;

use crate::{Gate, assert_clean, ramp, within};

const TWO: NonZero<usize> = NonZero::new(2).unwrap();

/// A device with the race detector on, whose operations run late.
fn watched() -> Device {
    Device::new(sim::Options::quick().race_detector(true).delay(sim::Delay::Upto(Duration::from_micros(200))))
}

fn is_empty(device: &Device) {
    assert_clean(device);
    device.gpu().check().unwrap();
}

/// The destructors of a thread drop the lane, when other thread-local values are gone already.
#[test]
fn a_lane_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static LANE: RefCell<Option<Lane<SimBackend>>> = const { RefCell::new(None) };
    }
    let device = watched();
    let gpu = device.clone();
    within(Duration::from_secs(20), move || {
        std::thread::spawn(move || {
            let mut lane = gpu.lane().unwrap();
            let gate = lane.enter(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                let gate = Gate::close(&ctx);
                let table = ctx.table([ctx.zeros::<u32>(9).unwrap()]).unwrap();
                drop(ctx.alloc_pinned::<u32>(4).unwrap().stage(&ctx));
                std::mem::forget(ctx.mark().unwrap());
                drop(table);
                gate
            });
            LANE.set(Some(lane));
            gate.unwrap().open_later();
        })
        .join()
        .unwrap();
    });
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.streams, &report.findings[..]), (0, 0, &[][..]), "{report:?}");
    device.gpu().check().unwrap();
}

/// The end of a scope inside of a visit ends the loans of the scope, and not those of the visit.
#[test]
fn a_scope_in_a_visit_leaves_the_loans_of_the_visit() {
    for panics in [false, true] {
        let device = watched();
        let mut lane = device.lane().unwrap();
        let (source, mut back, mut inner) = (ramp(3, 64), [0_u32; 64], [0_u32; 64]);
        let answer = catch_unwind(AssertUnwindSafe(|| {
            lane.enter(|mut stream, env| {
                let x = stream.ctx().with_pool().zeros::<u32>(64).unwrap();
                let (lent, target) = (env.source(&source), env.target(&mut back));
                let scope = catch_unwind(AssertUnwindSafe(|| {
                    stream.host_scope(|scope| {
                        scope.ctx().copy(x.view(), scope.target(&mut inner)).unwrap();
                        if panics {
                            resume_unwind(Box::new("in the scope"));
                        }
                    })
                }));
                assert_eq!(scope.is_err(), panics);
                // Slow, and behind the scope: the visit has still to wait for it.
                let gate = Gate::close(&stream.ctx());
                let mut x = x;
                stream.ctx().copy(lent, x.view_mut()).unwrap();
                stream.ctx().copy(x.view(), target).unwrap();
                gate.open_later();
                if panics {
                    resume_unwind(Box::new("in the visit"));
                }
            })
        }));
        assert_eq!(answer.is_err(), panics);
        assert_eq!((&back[..], inner), (&source[..], [0; 64]));
        drop(lane);
        is_empty(&device);
    }
}

/// Outputs in an arena whose closure panics while a slow kernel writes them: the arena is reset,
/// and its memory is written again.
#[test]
fn an_arena_is_used_again_behind_outputs_that_a_panic_gave_up() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            for round in 0..8_u32 {
                {
                    let ctx = stream.ctx().with_device_alloc(&stack);
                    let fresh = (ctx.alloc::<u32>(64).unwrap(), ctx.alloc_pinned::<u32>(8).unwrap().stage(&ctx));
                    let panicked = catch_unwind(AssertUnwindSafe(|| {
                        ctx.init_with(fresh, |(a, b)| -> Result<()> {
                            ctx.launch((a, b), |(mut a, mut b)| {
                                std::thread::sleep(Duration::from_millis(1));
                                a.fill(9);
                                b.fill(8);
                            })?;
                            resume_unwind(Box::new("on purpose"))
                        })
                        .map(drop)
                    }));
                    assert!(panicked.is_err());
                }
                stack.reset().unwrap();
                let ctx = stream.ctx().with_device_alloc(&stack);
                let x = ctx.upload_new(&ramp(round, 64)).unwrap();
                let out = ctx.init_from(ctx.alloc_pinned(64).unwrap().stage(&ctx), x.view()).unwrap();
                let done = stream.synchronize().unwrap();
                assert_eq!(out.peek(&done), ramp(round, 64));
            }
        })
        .unwrap();
    is_empty(&device);
}

/// The caller of a batch swallows the errors and panics of its groups: what is counted is what is
/// written.
#[test]
fn outputs_of_groups_whose_failure_is_swallowed() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = ctx.upload_new(&ramp(0, 8)).unwrap();
            let mut batch = BatchCopy::new();
            // In each case: which of the four parts of the output are written.
            for lost in 0..16_u32 {
                let answer = ctx.init_with(ctx.alloc::<u32>(8).unwrap(), |out| {
                    batch.scope(&ctx, |batch| {
                        for (i, part) in out.rows(TWO)?.into_iter().enumerate() {
                            let src = x.view().slice(2 * i..2 * i + 2)?;
                            let is_lost = lost >> i & 1 == 1;
                            let answer = catch_unwind(AssertUnwindSafe(|| {
                                batch.group(|group| {
                                    let (a, b) = part.split_at(1)?;
                                    let (x, y) = src.split_at(1)?;
                                    group.copy(x, a)?;
                                    match (is_lost, i % 2) {
                                        (false, _) => group.copy(y, b),
                                        // Another length, and a panic behind a merged copy.
                                        (true, 0) => group.copy(src, b),
                                        (true, _) => {
                                            group.copy(y, b)?;
                                            resume_unwind(Box::new("on purpose"))
                                        }
                                    }
                                })
                            }));
                            assert_eq!(is_lost, !matches!(answer, Ok(Ok(()))));
                        }
                        Ok::<_, Error>(())
                    })
                });
                let missing = 2 * lost.count_ones() as usize;
                match answer {
                    Ok((y, ())) => assert_eq!((read(&ctx, y.view()), missing), (ramp(0, 8), 0)),
                    Err(rejected) => assert_eq!(rejected.error, Error::Unwritten { output: 0, missing, len: 8 }),
                }
            }
        })
        .unwrap();
    is_empty(&device);
}

type Weights = Shared<u32, Detached<SimBackend>>;
type Cache = Buffer<u32, Detached<SimBackend>>;

/// A step of an engine: a table of shared weights, an output that a kernel and a batch write in
/// turn, rows that are scattered, a loan to another stream, and a span of time.
fn step(device: &Device, lane: &mut Lane<SimBackend>, weights: Weights, cache: Cache) -> Result<(Cache, Vec<u32>)> {
    lane.enter(|mut stream, _env| -> Result<_> {
        let stack = Stack::new(stream.ctx().pool());
        let ctx = stream.ctx().with_device_alloc(&stack);
        let start = ctx.mark()?;
        let weights = ctx.attach(weights)?;
        let mut cache = ctx.attach(cache)?;
        let table = ctx.table((0..4).map(|i| (weights.slice(i..i + 2).unwrap(), i as u32)))?;
        let (mut batch, mut scatter) = (BatchCopy::new(), Scatter::new());
        scatter.set([(0, 3), (1, 0)], 2, 4)?;
        let (y, ()) = ctx.init_with(ctx.alloc::<u32>(8)?, |out| -> Result<()> {
            let (sums, rest) = out.split_at(4)?;
            ctx.launch((table.view(), sums), |(table, mut sums)| {
                sums.write_iter(table.iter().map(|(x, i)| x.iter().sum::<u32>() + 100 * i));
            })?;
            batch.scope(&ctx, |batch| batch.group(|group| group.copy(cache.view().slice(..4)?, rest)))
        })?;
        drop(table);
        batch.scope(&ctx, |batch| {
            batch.group(|group| group.scatter(y.view().slice(..4)?.rows(TWO)?, &scatter, cache.view_mut().rows(TWO)?))
        })?;
        device.stream(|other, _env| {
            ctx.lend_mut(cache.view_mut(), &other.ctx(), |x| {
                other.ctx().launch((x,), |(x,)| x.iter_mut().for_each(|x| *x += 1))
            })
        })???;
        let time = ctx.elapsed_since(start)?;
        let out = ctx.init_from(ctx.alloc_pinned(8)?.stage(&ctx), y.view())?;
        let cache = ctx.detach(cache)?;
        drop((y, weights));
        let done = stream.synchronize()?;
        let seen = out.peek(&done).to_vec();
        drop(out);
        time.wait()?;
        Ok((cache, seen))
    })?
}

fn memory(lane: &mut Lane<SimBackend>) -> Result<(Weights, Cache)> {
    lane.enter(|stream, _env| -> Result<_> {
        let ctx = stream.ctx().with_pool();
        let weights = ctx.detach(ctx.upload_new(&ramp(1, 5))?.share())?;
        Ok((weights, ctx.detach(ctx.zeros(8)?)?))
    })?
}

/// Each driver call of the step fails once, or from then on. The step answers with an error or the
/// right values, and what comes after it is right.
#[test]
fn each_call_of_a_step_of_everything_fails() {
    let right = vec![3, 105, 207, 309, 0, 0, 0, 0];
    for onwards in [false, true] {
        let mut nth = 1;
        loop {
            let device = watched();
            let mut lane = device.lane().unwrap();
            let (weights, cache) = memory(&mut lane).unwrap();
            device.gpu().fail(Fault { nth, onwards, call: None, code: Code::UNKNOWN });
            let before = device.gpu().counts().total();
            let answer = step(&device, &mut lane, weights.clone(), cache);
            let made = device.gpu().counts().total() - before;
            device.gpu().disarm();
            let failed = answer.is_err();
            if let Ok((cache, seen)) = answer {
                assert_eq!(seen, right, "call {nth}");
                // The device may hold an error from the end of a visit that returned a value.
                if let Ok((cache, seen)) = step(&device, &mut lane, weights.clone(), cache) {
                    assert_eq!(seen, [3, 105, 207, 309, 208, 310, 1, 1], "call {nth}");
                    drop(cache);
                }
            }
            drop(weights);
            drop(lane);
            // Another lane of the device is as it was.
            let mut lane = device.lane().unwrap();
            let (weights, cache) = memory(&mut lane).unwrap();
            assert_eq!(step(&device, &mut lane, weights, cache).unwrap().1, right, "behind call {nth}");
            drop(lane);
            let report = device.gpu().report();
            assert_eq!((report.sticky, &report.findings[..]), (None, &[][..]), "call {nth}, {report:?}");
            device.gpu().check().unwrap();
            if nth > made && !failed {
                break;
            }
            nth += 1;
        }
        // A step makes as many calls, each of which has failed.
        assert!((20..200).contains(&nth), "{nth}");
    }
}

/// A kernel catches the panic of the iterator that fills its output, and writes the rest.
#[test]
fn a_kernel_goes_on_behind_an_iterator_that_panics() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (x, ()) = ctx
                .init_with(ctx.alloc::<u32>(100).unwrap(), |out| {
                    ctx.launch((out,), |(mut out,)| {
                        out.write(70, 70);
                        let lies = (0..).map(|i| if i == 40 { resume_unwind(Box::new("on purpose")) } else { i });
                        assert!(catch_unwind(AssertUnwindSafe(|| out.write_iter(lies))).is_err());
                        (40..100).filter(|i| *i != 70).for_each(|i| out.write(i, i as u32));
                    })
                })
                .unwrap();
            assert_eq!(read(&ctx, x.view()), ramp(0, 100));
        })
        .unwrap();
    is_empty(&device);
}

/// A borrower makes tables of what it has on loan, and initialises memory from it by a batch; a
/// panic in the loan leaves both streams in order.
#[test]
fn tables_and_outputs_of_what_is_on_loan() {
    let device = watched();
    let mut lanes = [device.lane().unwrap(), device.lane().unwrap()];
    let [a, b] = &mut lanes;
    for round in 0..8_u32 {
        let sums = a.enter(|a, _env| {
            let a = a.ctx().with_pool();
            let mut x = a.zeros::<u32>(8).unwrap();
            a.launch((x.view_mut(), round), |(x, n)| {
                std::thread::sleep(Duration::from_micros(300));
                x.fill(n);
            })
            .unwrap();
            let seen = b.enter(|b, _env| {
                let b = b.ctx().with_pool();
                let loan = catch_unwind(AssertUnwindSafe(|| {
                    a.lend_mut(x.view_mut(), &b, |x| {
                        let y = {
                            let fresh = b.alloc::<u32>(8).unwrap();
                            let source = x.as_view();
                            let copied =
                                b.init_with(fresh, |out| BatchCopy::new().scope(&b, |batch| batch.copy(source, out)));
                            copied.unwrap().0
                        };
                        let mut table = b.table(x.chunks_exact(TWO)).unwrap();
                        b.launch((table.view_mut(),), |(table,)| table.iter_mut().for_each(|x| x[1] += 1)).unwrap();
                        drop(table);
                        let seen = read(&b, y.view());
                        if round % 2 == 1 {
                            resume_unwind(Box::new("in the loan"));
                        }
                        seen
                    })
                }));
                assert_eq!(loan.is_err(), round % 2 == 1);
                loan.map_or(vec![round; 8], |seen| seen.unwrap())
            });
            assert_eq!(seen.unwrap(), [round; 8]);
            read(&a, x.view())
        });
        assert_eq!(sums.unwrap(), [round, round + 1].repeat(4));
    }
    drop(lanes);
    is_empty(&device);
}
