//! Allocating, growing and freeing.

use std::{
    alloc::Layout,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use tidelock::sim::{Call, SimBackend};
use tidelock::{
    Buffer, Ctx, DeviceLocation, Result, Stack, State,
    alloc::{AllocError, Allocator, ClosureAlloc, PinnedAlloc},
    driver::Backend,
    location::Pinned,
    sim::Sim,
    stream::{StreamAlloc, StreamOptions},
};

use super::trial::{MEMORY, N, Trial, get, put, ramp};

pub fn pool(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| stream.ctx().with_pool().alloc::<u32>(N).map(drop));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

pub fn pool_by_location(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| allocated(&stream.ctx().with_pool(), N));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// Allocates and frees by [`Ctx::alloc_in`]: the location is a parameter.
fn allocated<L: DeviceLocation>(ctx: &Ctx<'_, L, StreamAlloc<L>>, len: usize) -> Result<()> {
    ctx.alloc_in::<u32, L>(len).map(drop)
}

pub fn zeros(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| stream.ctx().with_pool().zeros::<u32>(N));
        match answer {
            Ok(x) => {
                t.settle(None)?;
                t.holds(&mut stream, x.view(), &[0; N])?;
            }
            Err(error) => t.settle(Some(error))?,
        }
        t.probe(&mut stream)
    })
}

pub fn empty_like(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(5))?;
        let answer = t.strike(|| stream.ctx().with_pool().empty_like(x.view()).map(drop));
        t.settle(answer.err())?;
        t.holds(&mut stream, x.view(), &ramp(5))?;
        t.probe(&mut stream)
    })
}

pub fn sync_alloc(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let answer = t.strike(|| ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(N).map(drop));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// A wait carries out the free of synchronous memory.
pub fn sync_free(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let (x, y) = (sync.zeros::<u32>(N)?, sync.zeros::<u32>(N)?);
        let answer = t.strike(|| {
            drop((x, y));
            stream.synchronize().map(drop)
        });
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// A drop waits for the stream when it finds no room for a deferred free.
pub fn full_deferred_frees(t: &Trial) -> Result<()> {
    t.open_on(&t.device, &StreamOptions::default().max_deferred_frees(1), |mut stream, _env| {
        let ctx = stream.ctx();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let buffers = [sync.zeros::<u32>(N)?, sync.zeros::<u32>(N)?, sync.zeros::<u32>(N)?];
        t.strike(|| drop(buffers));
        t.settle(None)?;
        t.probe(&mut stream)
    })
}

pub fn freed(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let (x, y) = (put(&stream.ctx(), &ramp(1))?, put(&stream.ctx(), &ramp(2))?);
        t.strike(|| drop(x));
        t.settle(None)?;
        t.holds(&mut stream, y.view(), &ramp(2))?;
        t.probe(&mut stream)
    })
}

/// The pool of pinned memory has to grow.
pub fn pinned_growth(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        SimBackend::PINNED.trim(0)?;
        let answer = t.strike(|| stream.ctx().alloc_pinned::<u8>(PAGES).map(drop));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// All ways to pinned memory, of which there is none at first.
pub fn pinned_pages(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        SimBackend::PINNED.trim(0)?;
        let answer = t.strike(|| {
            let pinned = PinnedAlloc::<SimBackend>::new();
            let pages = [
                Buffer::<_, Pinned<SimBackend>>::from_fn(3, |i| i)?,
                Buffer::from_fn_in(3, |i| i, pinned)?,
                Buffer::from_slice_in(&[0, 1, 2], pinned)?,
                Buffer::uninit_in(3, pinned)?.write_with(|i| i),
            ];
            assert!(pages.iter().all(|page| page[..] == [0, 1, 2]));
            drop((pages, Buffer::<u8, _>::zeros_in(PAGES, pinned)?));
            Ok(())
        });
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// A block of pinned memory is unlocked.
pub fn pinned_trim(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        drop((Buffer::<u8, Pinned<SimBackend>>::zeros(PAGES)?, stream.ctx().alloc_pinned::<u8>(PAGES)?));
        let answer = t.strike(|| SimBackend::PINNED.trim(0));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// Pinned memory is locked in advance, in a block of its own.
pub fn pinned_reserve(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        SimBackend::PINNED.trim(0)?;
        let locked = || SimBackend::PINNED.usage().reserved;
        let before = locked();
        let answer = t.strike(|| SimBackend::PINNED.reserve(PAGES));
        assert!(answer.is_ok() || locked() == before, "{answer:?}");
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// The ring needs pinned memory at its first use. No other part of an upload does, whatever its
/// size.
pub fn pinned_for_uploads(t: &Trial) -> Result<()> {
    t.open_on(&t.device, &StreamOptions::default().ring_bytes(PAGES), |mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let (mut small, mut large) = (ctx.zeros::<u32>(N)?, ctx.zeros::<u8>(PAGES / 2)?);
        SimBackend::PINNED.trim(0)?;
        let answer = t.strike(|| {
            ctx.upload(&ramp(9), small.view_mut())?;
            ctx.upload(&vec![3; PAGES / 2], large.view_mut())
        });
        t.settle(answer.err())?;
        if answer.is_ok() {
            t.holds(&mut stream, small.view(), &ramp(9))?;
        }
        t.probe(&mut stream)
    })
}

/// More pinned memory than one block of the pool holds.
const PAGES: usize = 5 << 20;

/// All requests from upstream, then a region, then a larger region, then a spill, then the end of
/// the arena.
pub fn stack(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let answer = t.strike(|| {
            let mut stack = Stack::new(ctx.pool());
            for round in 1..4 {
                let arena = ctx.with_device_alloc(&stack);
                let (a, b) = (arena.zeros::<u32>(N * round)?, arena.alloc::<u8>(round)?);
                drop(a);
                drop((arena.zeros::<u64>(N * round)?, b));
                stack.reset()?;
            }
            Ok(())
        });
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// The region cannot grow: the arena is empty, serves from upstream, and grows the next time.
pub fn stack_growth(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let mut stack = Stack::new(ctx.pool());
        drop(ctx.with_device_alloc(&stack).zeros::<u32>(N)?);
        stack.reset()?;
        drop(ctx.with_device_alloc(&stack).zeros::<u32>(2 * N)?);
        let answer = t.strike(|| stack.reset());
        t.settle(answer.err())?;
        assert_eq!(stack.usage().in_use, 0);
        if !t.is_over() {
            drop(ctx.with_device_alloc(&stack).zeros::<u32>(N)?);
            stack.reset()?;
            assert!(stack.usage().capacity >= 2 * N * size_of::<u32>(), "{:?}", stack.usage());
            let mut x = ctx.with_device_alloc(&stack).zeros::<u32>(N)?;
            ctx.upload(&ramp(4), x.view_mut())?;
            t.holds(&mut stream, x.view(), &ramp(4))?;
        }
        t.probe(&mut stream)
    })
}

/// The region is made larger and smaller by explicit calls. If one is refused, the arena still
/// serves requests.
pub fn stack_by_hand(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let mut stack = Stack::new(ctx.pool());
        let answer = t.strike(|| {
            stack.reserve(N)?;
            stack.reserve(100 * N)?;
            drop(ctx.with_device_alloc(&stack).zeros::<u32>(N)?);
            stack.reset()?;
            stack.shrink_to(10 * N)?;
            stack.shrink_to(0)
        });
        let is_ok = answer.is_ok();
        t.settle(answer.err())?;
        assert_eq!(stack.usage().in_use, 0);
        // The size that the last iteration needed.
        assert!(!is_ok || stack.usage().capacity == N.next_multiple_of(64) * size_of::<u32>(), "{:?}", stack.usage());
        if !t.is_over() {
            let mut x = ctx.with_device_alloc(&stack).zeros::<u32>(N)?;
            ctx.upload(&ramp(4), x.view_mut())?;
            t.holds(&mut stream, x.view(), &ramp(4))?;
        }
        t.probe(&mut stream)
    })
}

/// Memory is free only after the work submitted to the stream, and the stream is busy until the
/// library waits for it.
pub fn waited_for(t: &Trial) -> Result<()> {
    t.open_on(&t.other, &StreamOptions::default().wait_for_memory(true), |mut stream, _env| {
        const MOST: usize = MEMORY / 4 * 3;
        let ctx = stream.ctx();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let (given_up, y) = (sync.zeros::<u8>(MOST)?, put(&ctx, &ramp(2))?);
        stream.synchronize()?;
        let ctx = stream.ctx();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let device = t.other.clone();
        let waits = move || device.gpu().counts().of(Call::StreamSynchronize);
        let (before, over) = (waits(), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&over);
        ctx.launch((0_u32,), move |_| {
            while waits() == before && !is_over.load(SeqCst) {
                thread::yield_now();
            }
        })?;
        drop(given_up);
        let answer = t.strike(|| sync.alloc::<u8>(MOST).map(drop));
        over.store(true, SeqCst);
        t.settle_request(answer, true)?;
        t.holds(&mut stream, y.view(), &ramp(2))?;
        t.probe(&mut stream)
    })
}

/// More than the device has: idle memory is freed, and the error says what there is.
pub fn refused(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let mut answers = [Ok(()), Ok(()), Ok(())];
        t.strike(|| {
            let pool = ctx.pool();
            let sync = ctx.with_device_alloc(ctx.sync_alloc());
            let arena = Stack::new(pool);
            answers = [
                ctx.with_pool().alloc::<u8>(1 << 40).map(drop),
                sync.alloc::<u8>(1 << 40).map(drop),
                ctx.with_device_alloc(&arena).alloc::<u8>(1 << 40).map(drop),
            ];
            assert!(Allocator::<Sim<'_>>::shortage(&pool).is_some());
        });
        answers.into_iter().try_for_each(|answer| t.settle_request(answer, false))?;
        t.probe(&mut stream)
    })
}

/// An arena over memory whose frees are deferred.
pub fn stack_of_sync_memory(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| {
            let mut stack = Stack::new(stream.ctx().sync_alloc());
            for round in 1..3 {
                let x = stream.ctx().with_device_alloc(&stack).zeros::<u32>(N * round)?;
                drop(x);
                stack.reset()?;
            }
            drop(stack);
            stream.synchronize().map(drop)
        });
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

pub fn closures(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| through_closures(&stream));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// An allocator of two closures in front of the stream's pool.
fn through_closures<'s>(stream: &tidelock::Stream<Sim<'s>>) -> Result<()> {
    let pool = stream.ctx().pool();
    // SAFETY:
    // - Both closures are the pool's own functions.
    let closures = unsafe {
        ClosureAlloc::<Sim<'s>, _, _>::new(
            |layout: Layout| -> Result<NonNull<u8>, AllocError> { pool.alloc(layout) },
            |ptr: NonNull<u8>, layout: Layout| pool.dealloc(ptr, layout),
        )
    };
    drop(stream.ctx().with_device_alloc(&closures).zeros::<u32>(N)?);
    Ok(())
}

pub fn states(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let x = put(&ctx, &ramp(3))?;
        let answer = t.strike(|| State::<u32, _>::zeros(&ctx, N));
        match answer {
            Err(error) => t.settle(Some(error))?,
            Ok(mut state) => {
                t.settle(None)?;
                if !t.is_over() {
                    state.step(|_, back| stream.ctx().copy(x.view(), back))?;
                    assert_eq!(get(&mut stream, state.front())?, ramp(3));
                }
            }
        }
        t.probe(&mut stream)
    })
}
