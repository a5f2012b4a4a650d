//! What crosses between streams, in one thread, in two, and in threads that come and go.

use std::{
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use tidelock::{
    Buffer, Error, Result, Stream,
    alloc::PinnedPool,
    driver::{Backend, Pool},
    error::Rejected,
    location::Pinned,
    stream::{Arriving, Detached, StreamOptions},
};

use super::{
    operations::{self, Operation},
    watch::{Place, Watch},
};

/// The public functions called here.
pub const COVERED: &[&str] = &[
    "Ctx::transfer",
    "Ctx::lend",
    "Ctx::lend_mut",
    "Ctx::lend_tensor",
    "Ctx::lend_tensor_mut",
    "Env::source",
    "Env::target",
    "PinnedPool::trim",
    "PinnedPool::reserve",
    "StreamOptions::wait_for_memory",
    "StreamOptions::warm",
    "PinnedPool::drop",
    "PinnedPool::new",
];

/// From the first stream to the second.
type Crossing<P> =
    for<'d, 'a, 'b> fn(&'d mut Stream<<P as Place>::At<'a>>, &'d mut Stream<<P as Place>::At<'b>>, &'d P) -> Result<()>;

/// Options with a small ring and few deferred frees, so that both wrap around soon. The pool
/// returns unused memory at each wait; otherwise what it keeps depends on timing.
pub fn small() -> StreamOptions {
    StreamOptions::default().pool(Pool::Own { release_threshold: 0 }).ring_bytes(1024).max_deferred_frees(8)
}

fn error<T>(refused: Rejected<T>) -> Error {
    refused.error
}

fn crossings<P: Place>() -> Vec<(&'static str, Crossing<P>)> {
    vec![
        ("transfer", transfer::<P>),
        ("lend", lend::<P>),
        ("lend_mut", lend_mut::<P>),
        ("lend_tensor and lend_tensor_mut", lend_tensors::<P>),
        ("a loan that panics", lend_and_panic::<P>),
        ("detach and attach", hand_over::<P>),
        ("detach and attach, forty at once", hand_over_many::<P>),
        ("detach and attach, there and back", there_and_back::<P>),
        ("a hand-over to the same device, dropped", dropped::<P>),
    ]
}

fn transfer<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    a.ctx().transfer(a.ctx().with_pool().zeros::<u32>(16)?, &b.ctx()).map(drop).map_err(error)
}

fn lend<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let (x, mut y) = (a.ctx().with_pool().zeros::<u32>(16)?, b.ctx().with_pool().zeros::<u32>(16)?);
    a.ctx().lend(x.view(), &b.ctx(), |x| b.ctx().copy(x, y.view_mut()))?
}

fn lend_mut<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut x = a.ctx().with_pool().zeros::<u32>(16)?;
    a.ctx().lend_mut(x.view_mut(), &b.ctx(), |x| b.ctx().clear(x))?
}

fn lend_tensors<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let (here, there) = (a.ctx().with_pool(), b.ctx().with_pool());
    let mut x = here.zeros::<u32>(64)?.tensor([8, 8])?;
    let mut y = there.zeros::<u32>(32)?.tensor([8, 4])?;
    let (left, right) = x.view_mut().split_at(1, 4)?;
    here.lend_tensor(right.as_view(), &there, |right| there.copy_tensor(right, y.view_mut()))??;
    here.lend_tensor_mut(left, &there, |left| there.copy_tensor(y.view(), left))?
}

fn lend_and_panic<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut x = a.ctx().with_pool().zeros::<u32>(16)?;
    let answer = catch_unwind(AssertUnwindSafe(|| a.ctx().lend_mut(x.view_mut(), &b.ctx(), |_| panic_on_purpose())));
    assert!(answer.is_err());
    Ok(())
}

/// Panics without printing a message.
fn panic_on_purpose() {
    resume_unwind(Box::new("on purpose"))
}

fn hand_over<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let memory = a.ctx().detach(a.ctx().with_pool().zeros::<u32>(16)?).map_err(error)?;
    b.ctx().attach(memory).map(drop).map_err(error)
}

fn hand_over_many<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let detach = |_| a.ctx().detach(a.ctx().with_pool().zeros::<u32>(16)?).map_err(error);
    let all = (0..40).map(detach).collect::<Result<Vec<_>>>()?;
    all.into_iter().try_for_each(|memory| b.ctx().attach(memory).map(drop).map_err(error))
}

fn there_and_back<P: Place>(a: &mut Stream<P::At<'_>>, b: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let memory = a.ctx().detach(a.ctx().with_pool().zeros::<u32>(16)?).map_err(error)?;
    let memory = b.ctx().detach(b.ctx().attach(memory).map_err(error)?).map_err(error)?;
    a.ctx().attach(memory).map(drop).map_err(error)
}

fn dropped<P: Place>(a: &mut Stream<P::At<'_>>, _: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    a.ctx().detach(a.ctx().with_pool().zeros::<u32>(16)?).map(drop).map_err(error)
}

/// Each operation by itself.
pub fn alone<P: Place>(watch: &Watch<'_>, device: &P, all: &[Operation<P>], turns: usize) {
    let operation = |stream: &mut Stream<P::At<'_>>, operation: &Operation<P>| {
        watch.steady(operation.name, turns, || {
            (operation.run)(stream, device)?;
            stream.synchronize().map(drop)
        });
    };
    for each in all {
        device.open(&small(), |mut stream, _| operation(&mut stream, each)).unwrap();
    }
    // Memory of the device's pool.
    let options = small().pool(Pool::Default);
    device.open(&options, |mut stream, _| all.iter().for_each(|each| operation(&mut stream, each))).unwrap();
}

/// Runs `f` with two streams.
fn two<P: Place>(device: &P, f: impl FnOnce(&mut Stream<P::At<'_>>, &mut Stream<P::At<'_>>)) {
    device.open(&small(), |mut a, _| device.open(&small(), |mut b, _| f(&mut a, &mut b))).unwrap().unwrap();
}

/// Each operation on one stream beside each on another, and what crosses between the two.
pub fn pairs<P: Place>(watch: &Watch<'_>, device: &P, all: &[Operation<P>], turns: usize) {
    for (name, crossing) in crossings::<P>() {
        two(device, |a, b| {
            watch.steady(name, turns, || {
                crossing(a, b, device)?;
                a.synchronize().map(drop)?;
                b.synchronize().map(drop)
            });
        });
    }
    two(device, |a, b| {
        let (mut at, round) = (0_usize, all.len() * all.len());
        watch.steady_rounds("all pairs", round, || {
            let (one, other) = (&all[at % all.len()], &all[at / all.len() % all.len()]);
            at += 1;
            (one.run)(a, device)?;
            (other.run)(b, device)?;
            let crossings = crossings::<P>();
            (crossings[at % crossings.len()].1)(a, b, device)?;
            a.synchronize().map(drop)?;
            b.synchronize().map(drop)
        });
    });
}

/// A stream on another thread, which handles the items that it is sent.
struct Other<T> {
    to: SyncSender<T>,
    done: Receiver<()>,
}

impl<T: Send> Other<T> {
    /// Sends `item`, and waits until it is handled.
    fn give(&self, item: T) {
        self.to.send(item).unwrap();
        self.done.recv().unwrap();
    }
}

/// Runs `f` beside another thread, on which `deal` handles what `f` gives.
fn beside<P: Place, T: Send>(
    device: &P,
    deal: impl Fn(&mut Stream<P::At<'_>>, T) -> Result<()> + Send,
    f: impl FnOnce(&mut Stream<P::At<'_>>, &Other<T>),
) {
    let ((to, items), (say, done)) = (sync_channel::<T>(1), sync_channel(1));
    thread::scope(|scope| {
        let other = device.clone();
        scope.spawn(move || {
            other
                .open(&small(), |mut stream, _| {
                    for item in items {
                        deal(&mut stream, item).unwrap();
                        stream.synchronize().unwrap();
                        say.send(()).unwrap();
                    }
                })
                .unwrap();
        });
        device.open(&small(), |mut stream, _| f(&mut stream, &Other { to, done })).unwrap();
    });
}

/// What two threads do with streams of one device.
pub fn threads<P: Place>(watch: &Watch<'_>, device: &P, all: &[Operation<P>], turns: usize) {
    type Memory<P> = Buffer<u32, Detached<<P as Place>::Family>>;
    let attached = |stream: &mut Stream<P::At<'_>>, memory: Vec<Memory<P>>| {
        memory.into_iter().try_for_each(|memory| stream.ctx().attach(memory).map(drop).map_err(error))
    };
    for many in [1, 30] {
        beside(device, attached, |stream, other| {
            watch.steady(&format!("{many} handed over to another thread"), turns, || {
                let detach = |_| stream.ctx().detach(stream.ctx().with_pool().zeros::<u32>(16)?).map_err(error);
                other.give((0..many).map(detach).collect::<Result<_>>()?);
                stream.synchronize().map(drop)
            });
        });
    }
    let dropped = |_: &mut Stream<P::At<'_>>, memory: Memory<P>| {
        drop(memory);
        Ok(())
    };
    beside(device, dropped, |stream, other| {
        watch.steady("detached memory dropped by another thread", turns, || {
            other.give(stream.ctx().detach(stream.ctx().with_pool().zeros::<u32>(16)?).map_err(error)?);
            stream.synchronize().map(drop)
        });
    });
    let arrival = |_: &mut Stream<P::At<'_>>, arrival: Buffer<u32, Arriving<P::Family>>| {
        drop(arrival);
        Ok(())
    };
    beside(device, arrival, |stream, other| {
        watch.steady("arriving memory dropped by another thread", turns, || {
            let ctx = stream.ctx();
            other.give(ctx.fence(ctx.init_zeros(ctx.alloc_pinned(16)?.stage(&ctx))?)?.detach());
            // Called behind the free, so that no record is watched at the end.
            let (tell, told) = sync_channel(1);
            drop(ctx.with_pool().zeros::<u32>(1)?);
            ctx.notify(move |answer| tell.send(answer).unwrap())?;
            told.recv().unwrap()
        });
    });
    let staged = |stream: &mut Stream<P::At<'_>>, page: Buffer<u32, Pinned<P::Family>>| {
        let ctx = stream.ctx();
        let mut page = page.stage(&ctx);
        ctx.clear(page.view_mut())
    };
    beside(device, staged, |_, other| {
        watch.steady("pinned memory given to another thread", turns, || {
            other.give(Buffer::from_slice(&[1; 100])?);
            Ok(())
        });
    });
    // Both threads at once, with another pair each time.
    let dealt = |stream: &mut Stream<P::At<'_>>, at: usize| (all[at % all.len()].run)(stream, device);
    beside(device, dealt, |stream, other| {
        let (mut at, round) = (0_usize, all.len() * all.len());
        // As many events as both threads can need at once. Otherwise the number depends on timing.
        operations::fence_often(stream, 200).unwrap();
        watch.steady_rounds("all pairs in two threads", round, || {
            at += 1;
            other.to.send(at / all.len()).unwrap();
            let answer = (all[at % all.len()].run)(stream, device);
            other.done.recv().unwrap();
            answer?;
            stream.synchronize().map(drop)
        });
    });
    watch.steady("threads with streams that come and go", turns / 4, || {
        let thread = || {
            device.open(&small(), |mut stream, _| {
                operations::some(&mut stream, device)?;
                stream.synchronize().map(drop)
            })
        };
        thread::scope(|scope| scope.spawn(thread).join().unwrap())?
    });
}

/// Streams that come and go, and what they hold while they exist.
pub fn streams<P: Place>(watch: &Watch<'_>, device: &P, turns: usize) {
    for (name, options) in [
        ("streams with pools of their own", StreamOptions::default()),
        ("warm streams", small().warm(true)),
        ("streams on the device's pool", StreamOptions::default().pool(Pool::Default).priority(-1)),
    ] {
        watch.steady(name, turns, || device.open(&options, |mut stream, _| operations::some(&mut stream, device))?);
    }
    device.run(|_, _| {
        watch.steady("streams inside another", turns, || device.open(&small(), |_, _| ()));
    });
    watch.steady("streams that panic", turns, || {
        let panics = || device.run(|_, _| panic_on_purpose());
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        Ok(())
    });
    watch.steady("memory that outlives its stream", turns, || {
        let detached = device.open(&small(), |stream, _| {
            stream.ctx().detach(stream.ctx().with_pool().zeros::<u32>(16)?).map_err(error)
        })??;
        device.open(&small(), |stream, _| stream.ctx().attach(detached).map(drop).map_err(error))?
    });
    watch.steady("shared memory and loans through env", turns, || {
        let shared = device.run(|stream, _| {
            let x = stream.ctx().with_pool().zeros::<u32>(16)?;
            stream.ctx().detach(x).map(Buffer::share).map_err(error)
        })?;
        let (from, mut to) = ([1_u32; 16], [0_u32; 16]);
        device.open(&small(), |stream, env| {
            let ctx = stream.ctx().with_pool();
            let shared = ctx.attach(shared).map_err(error)?;
            let mut x = ctx.init_from(ctx.alloc::<u32>(16)?, shared.view())?;
            ctx.copy(env.source(&from), x.view_mut())?;
            ctx.copy(x.view(), env.target(&mut to))
        })?
    });
    watch.steady("the pinned pool trimmed", turns / 25, || {
        let pool = P::Family::PINNED;
        // A block of its own, which is unlocked as a whole.
        drop(Buffer::<MaybeUninit<u8>, Pinned<P::Family>>::uninit_in(9 << 20, Default::default())?);
        // Memory that is locked by a pool of its own is unlocked with the pool.
        PinnedPool::<P::Family>::new().reserve(1 << 20)?;
        pool.trim(8 << 20)
    });
    watch.steady("the pinned pool locked ahead", turns / 25, || {
        let pool = P::Family::PINNED;
        pool.reserve(9 << 20)?;
        drop(Buffer::<MaybeUninit<u8>, Pinned<P::Family>>::uninit_in(1 << 20, Default::default())?);
        pool.trim(8 << 20)
    });
}

/// Requests that find memory only after a wait for the stream, on a device of less than 2 MiB.
pub fn short_of_memory<P: Place>(watch: &Watch<'_>, device: &P, turns: usize) {
    let options = small().wait_for_memory(true).max_deferred_bytes(1 << 20);
    device
        .open(&options, |mut stream, _| {
            watch.steady("memory waited for", turns, || {
                let ctx = stream.ctx();
                let (sync, pool) = (ctx.with_device_alloc(ctx.sync_alloc()), ctx.with_pool());
                for _ in 0..2 {
                    // Dropped memory is free only after the stream has passed its last use.
                    drop(sync.zeros::<u8>(1 << 20)?);
                    drop(pool.zeros::<u8>(1 << 20)?);
                }
                stream.synchronize().map(drop)
            });
            // No memory is dropped: this request is refused, and no other.
            let _kept = stream.ctx().with_pool().zeros::<u8>(1 << 20).unwrap();
            watch.steady("memory that is not there", turns, || {
                let ctx = stream.ctx();
                assert!(ctx.with_pool().alloc::<u8>(1 << 20).is_err());
                assert!(ctx.with_device_alloc(ctx.sync_alloc()).alloc::<u8>(1 << 20).is_err());
                Ok(())
            });
        })
        .unwrap();
}
