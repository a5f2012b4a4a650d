//! Lanes: streams that threads enter in turn.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::channel,
    thread,
};

use tidelock::{
    BatchCopy, Buffer, Ctx, Device, DeviceLocation, Error, Result, Stack,
    stream::{Detached, Lane, On, OnBackend, StreamAlloc, StreamOptions},
};

use super::{get, noise, put};

const LEN: usize = 10_000;

/// Memory between two visits.
type Memory<D> = Buffer<u32, Detached<<D as tidelock::driver::RawDevice>::Backend>>;

/// Enters `lane` with a context that has memory of the pool.
fn visit<B: tidelock::driver::Backend, R>(
    lane: &mut Lane<B>,
    f: impl for<'s> FnOnce(Ctx<'_, On<'s, B>, StreamAlloc<On<'s, B>>>) -> Result<R>,
) -> R {
    lane.enter(|stream, _| f(stream.ctx().with_pool())).unwrap().unwrap()
}

/// Memory with `values`, detached.
fn detached<L: DeviceLocation>(
    ctx: &Ctx<'_, L, StreamAlloc<L>>,
    values: &[u32],
) -> Result<Buffer<u32, Detached<<L as OnBackend>::Backend>>> {
    let mut x = ctx.zeros::<u32>(values.len())?;
    ctx.upload(values, x.view_mut())?;
    Ok(ctx.detach(x)?)
}

pub fn a_lane_is_used_in_many_visits<D: Device>(device: &D) {
    let mut lane = device.lane().unwrap();
    let mut memory: Memory<D> = visit(&mut lane, |ctx| detached(&ctx, &noise(1, LEN)));
    for round in 2..20 {
        memory = visit(&mut lane, |ctx| {
            let mut x = ctx.attach(memory)?;
            assert_eq!(get(&ctx, x.view()), noise(round - 1, LEN));
            ctx.upload(&noise(round, LEN), x.view_mut())?;
            Ok(ctx.detach(x)?)
        });
    }
    let last = visit(&mut lane, |ctx| Ok(get(&ctx, ctx.attach(memory)?.view())));
    assert_eq!(last, noise(19, LEN));
    assert_eq!(lane.leaked_bytes(), 0);
}

/// The lane goes to and fro between two threads, with uploads through its ring, batches, frees that
/// are still to happen, and waits that the other thread relies on.
pub fn two_threads_enter_one_lane_in_turn<D: Device>(device: &D) {
    let options = StreamOptions::default().ring_bytes(1 << 16).max_deferred_frees(4);
    let mut lane = device.lane_with(&options).unwrap();
    let memory: Memory<D> = visit(&mut lane, |ctx| detached(&ctx, &noise(0, LEN)));
    let turn = |round: u32, lane: &mut Lane<D::Backend>, memory: Memory<D>| -> Memory<D> {
        lane.enter(|mut stream, _| -> Result<Memory<D>> {
            let ctx = stream.ctx().with_pool();
            let old = ctx.attach(memory)?;
            let mut new = ctx.zeros::<u32>(LEN)?;
            let fresh = put(&ctx, &noise(round, LEN));
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |b| {
                let (upper, lower) = new.view_mut().split_at(LEN / 2)?;
                b.copy(old.view().slice(..LEN / 2)?, upper)?;
                b.copy(fresh.view().slice(..LEN / 2)?, lower)
            })?;
            let out = ctx.init_from(ctx.alloc_pinned(LEN)?.stage(&ctx), new.view())?;
            drop((old, fresh));
            if round.is_multiple_of(3) {
                let done = stream.synchronize()?;
                let seen = out.peek(&done);
                assert_eq!(seen[LEN / 2..], noise(round, LEN)[..LEN / 2]);
            }
            drop(out);
            let ctx = stream.ctx();
            ctx.upload(&noise(round, LEN), new.view_mut())?;
            Ok(ctx.detach(new)?)
        })
        .unwrap()
        .unwrap()
    };
    let ((there, away), (back, home)) = (channel(), channel());
    thread::scope(|threads| {
        threads.spawn(move || {
            for (round, mut lane, memory) in away {
                let memory = turn(round, &mut lane, memory);
                back.send((lane, memory)).unwrap();
            }
        });
        let (mut lane, mut memory) = (lane, memory);
        for round in 0..10 {
            there.send((2 * round + 1, lane, memory)).unwrap();
            (lane, memory) = home.recv().unwrap();
            memory = turn(2 * round + 2, &mut lane, memory);
        }
        drop(there);
        let values = visit(&mut lane, |ctx| Ok(get(&ctx, ctx.attach(memory)?.view())));
        assert_eq!(values, noise(20, LEN));
    });
}

pub fn memory_goes_from_lane_to_lane<D: Device>(device: &D) {
    let mut lanes: Vec<_> = (0..3).map(|_| device.lane().unwrap()).collect();
    let mut memory: Memory<D> = visit(&mut lanes[0], |ctx| detached(&ctx, &noise(0, LEN)));
    for round in 1..12 {
        lanes.rotate_left(1);
        let [one, other, _] = &mut lanes[..] else { unreachable!() };
        // Both are entered: memory is lent and transferred, and leaves by the other lane.
        let moved = one.enter(|a, _| {
            other.enter(|b, _| -> Result<Memory<D>> {
                let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                let mut x = a.attach(memory)?;
                assert_eq!(a.lend(x.view(), &b, |x| get(&b, x))?, noise(round - 1, LEN));
                a.upload(&noise(round, LEN), x.view_mut())?;
                Ok(b.detach(a.transfer(x, &b)?)?)
            })
        });
        memory = moved.unwrap().unwrap().unwrap();
    }
    let values = visit(&mut lanes[2], |ctx| Ok(get(&ctx, ctx.attach(memory)?.view())));
    assert_eq!(values, noise(11, LEN));
}

pub fn what_a_visit_lends_is_back_at_its_end<D: Device>(device: &D) {
    let mut lane = device.lane().unwrap();
    for round in 0..6 {
        let (source, mut target) = (noise(round, LEN), vec![0; LEN]);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            lane.enter(|stream, env| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.zeros::<u32>(LEN)?;
                ctx.copy(env.source(&source), x.view_mut())?;
                ctx.copy(x.view(), env.target(&mut target))?;
                if round % 2 == 0 {
                    resume_unwind(Box::new("in a visit"));
                }
                Ok::<_, Error>(())
            })
        }));
        assert_eq!(ended.is_err(), round % 2 == 0);
        assert_eq!(target, source);
    }
}

/// An arena of a visit ends with it, and a lane may end on another thread with work in flight.
pub fn lanes_with_arenas_end_anywhere<D: Device>(device: &D) {
    for seed in 0..4 {
        let mut lane = device.lane_with(&StreamOptions::default().warm(seed % 2 == 0)).unwrap();
        for round in 0..3 {
            visit(&mut lane, |ctx| {
                let mut stack = Stack::new(ctx.pool());
                for _ in 0..2 {
                    let arena = ctx.with_device_alloc(&stack);
                    let x = arena.upload_new(&noise(seed + round, LEN))?;
                    drop(arena.init_from(arena.alloc_pinned(LEN)?.stage(&ctx), x.view())?);
                    drop(x);
                    stack.reset()?;
                }
                Ok(())
            });
        }
        thread::scope(|threads| threads.spawn(move || drop(lane)).join().unwrap());
    }
}
