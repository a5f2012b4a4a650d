//! The allocators of a context: which are replaced, which stay, and how a function that is generic
//! over its context gets them.

use std::mem::MaybeUninit;

use tidelock::{
    Buffer, Ctx, DeviceLocation, Error, Result, Stack,
    alloc::{Allocator, HostAlloc, PinnedAlloc},
    location::{Host, Location, Pinned},
    sim::{Sim, SimBackend},
    stream::{AllocOf, HasAlloc, StreamAlloc, WithHost},
};

use super::{pinned, quick, ramp};

type PinnedHere = Pinned<SimBackend>;
type PinnedStack = Stack<PinnedHere>;

/// The bytes that are handed out of an arena.
fn used<D: Location, A: Allocator<D>>(stack: &Stack<D, A>) -> usize {
    stack.usage().in_use
}

/// Asserts at compile time which allocator a buffer frees to.
fn of<A: Allocator<D>, T, D: Location>(buffer: Buffer<MaybeUninit<T>, D, A>) -> Buffer<MaybeUninit<T>, D, A> {
    buffer
}

#[test]
fn a_context_is_one_word_until_something_is_replaced() {
    const WORD: usize = size_of::<usize>();
    assert_eq!(size_of::<Ctx<'static, Sim<'static>>>(), WORD);
    assert_eq!(size_of::<Ctx<'static, Sim<'static>, WithHost<tidelock::stream::NoDeviceAlloc, HostAlloc>>>(), WORD);
    assert_eq!(size_of::<Ctx<'static, Sim<'static>, &Stack<Sim<'static>>>>(), 2 * WORD);
    assert_eq!(size_of::<Ctx<'static, Sim<'static>, WithHost<&Stack<Sim<'static>>, &Stack<Host>>>>(), 3 * WORD);
}

#[test]
fn each_allocator_is_replaced_on_its_own() {
    quick()
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let device = Stack::new(ctx.pool());
            let (host, page) = (Stack::<Host>::new(HostAlloc), PinnedStack::new(PinnedAlloc::new()));
            let all = ctx.with_pinned_alloc(&page).with_device_alloc(&device).with_host_alloc(&host);
            let x = of::<&Stack<Sim<'_>>, _, _>(all.alloc::<u32>(64)?);
            let h = of::<&Stack<Host>, _, _>(all.alloc_host::<u32>(65)?);
            let p = of::<&PinnedStack, _, _>(all.alloc_pinned::<u32>(66)?);
            assert!(used(&device) >= 256 && used(&host) >= 260 && used(&page) >= 264);
            // The same by location, and like a view.
            let before = (used(&device), used(&host), used(&page));
            let again =
                (all.alloc_in::<u8, Host>(1)?, all.alloc_in::<u8, PinnedHere>(1)?, all.alloc_in::<u8, Sim<'_>>(1)?);
            assert!(used(&device) > before.0 && used(&host) > before.1 && used(&page) > before.2);
            drop(again);
            let h = h.write_with(|i| i as u32);
            let p = p.write_with(|i| i as u32);
            let twins = (all.empty_like(h.view())?, all.empty_like(p.view())?);
            drop((of::<&Stack<Host>, _, _>(twins.0), of::<&PinnedStack, _, _>(twins.1)));
            assert_eq!((&h[..], &p[..]), (&ramp(0, 65)[..], &ramp(0, 66)[..]));
            drop((x, h, p));
            assert_eq!((used(&device), used(&host), used(&page)), (0, 0, 0));
            // No memory, and too much of it.
            assert_eq!(all.alloc_host::<u32>(0)?.len() + all.alloc_pinned::<u32>(0)?.len(), 0);
            assert!(all.alloc_host::<u64>(usize::MAX).is_err() && all.alloc_pinned::<u64>(usize::MAX).is_err());
            assert!(all.alloc_pinned::<u8>(isize::MAX as usize).is_err());
            assert_eq!((used(&device), used(&host), used(&page)), (0, 0, 0));
            Ok::<_, tidelock::Error>(())
        })
        .unwrap()
        .unwrap();
}

#[test]
fn the_innermost_allocator_is_used_and_the_outer_context_stays() {
    quick()
        .stream(|stream, _| {
            let (outer, inner) = (Stack::<Host>::new(HostAlloc), Stack::<Host>::new(HostAlloc));
            let (far, near) = (Stack::new(stream.ctx().pool()), Stack::new(stream.ctx().pool()));
            let ctx = stream.ctx().with_host_alloc(&outer).with_device_alloc(&far);
            {
                let ctx = ctx.with_host_alloc(&inner).with_device_alloc(&near);
                let _both = (ctx.alloc_host::<u8>(8)?, ctx.alloc::<u8>(8)?);
                assert_eq!((used(&outer), used(&far)), (0, 0));
                assert!(used(&inner) > 0 && used(&near) > 0);
            }
            assert_eq!((used(&inner), used(&near)), (0, 0));
            let _both = (ctx.alloc_host::<u8>(8)?, ctx.alloc::<u8>(8)?);
            assert!(used(&outer) > 0 && used(&far) > 0);
            // Back to what the stream has, from any of them.
            let ctx = ctx.with_host_alloc(&inner);
            let before = (used(&outer), used(&inner), used(&far));
            let plain = (
                of::<HostAlloc, u8, _>(ctx.plain().alloc_host(8)?),
                of::<StreamAlloc<_>, u8, _>(ctx.with_pool().alloc(8)?),
            );
            let staged = ctx.with_pool().alloc_pinned::<u8>(8)?.stage(&ctx);
            assert_eq!((used(&outer), used(&inner), used(&far)), before);
            drop((plain, staged));
            Ok::<_, tidelock::Error>(())
        })
        .unwrap()
        .unwrap();
}

/// A layer that allocates wherever its context does, with an arena of its own for a part of it.
fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>, own: &Stack<L>, depth: usize) -> Result<usize> {
    let weights = ctx.zeros::<f32>(8)?;
    let host = ctx.alloc_host::<u32>(5)?.write_with(|i| i as u32);
    let inside = ctx.with_device_alloc(own);
    let hidden: Buffer<f32, L, &Stack<L>> = inside.zeros::<f32>(weights.len())?;
    let also = inside.alloc_host::<u32>(5)?;
    Ok(host.len() + also.len() + hidden.len() + part(&inside, depth)?)
}

fn part<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>, depth: usize) -> Result<usize> {
    let of_the_stream = ctx.with_pool().zeros::<u32>(depth)?;
    let from: AllocOf<A, Host> = *ctx.alloc_host::<u8>(1)?.allocator();
    Ok(of_the_stream.len() + Buffer::<u8, Host, _>::zeros_in(3, from)?.len() + default_context(&ctx.plain())?)
}

fn by_value<L: DeviceLocation, A: HasAlloc<L> + HasAlloc<L::Pinned>>(ctx: Ctx<'_, L, A>, len: usize) -> Result<usize> {
    Ok(ctx.alloc_pinned::<u8>(len)?.len() + ctx.alloc::<u8>(len)?.len())
}

/// What takes the context that a stream has first.
fn default_context<L: DeviceLocation>(ctx: &Ctx<'_, L>) -> Result<usize> {
    let staged = ctx.alloc_pinned::<u32>(4)?.write_with(|i| i as u32).stage(ctx);
    let copied = ctx.init_from(ctx.with_pool().alloc(4)?, staged.view())?;
    Ok(copied.len())
}

#[test]
fn functions_that_are_generic_over_their_context_keep_what_it_replaces() {
    quick()
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let (own, arena) = (Stack::new(ctx.pool()), Stack::new(ctx.pool()));
            let (host, page) = (Stack::<Host>::new(HostAlloc), PinnedStack::new(PinnedAlloc::new()));
            let outside = [layer(&ctx.with_pool(), &own, 1)?, layer(&ctx.with_device_alloc(&arena), &own, 1)?];
            assert_eq!(outside, [10 + 8 + 1 + 3 + 4; 2]);
            assert_eq!((used(&host), used(&page)), (0, 0));
            let all = ctx.with_host_alloc(&host).with_device_alloc(&arena).with_pinned_alloc(&page);
            assert_eq!((layer(&all, &own, 1)?, default_context(&all.plain())?), (10 + 8 + 1 + 3 + 4, 4));
            assert!(host.usage().peak > 0 && own.usage().peak > 0, "the layer used them");
            assert_eq!(page.usage().peak, 0, "the layer staged its memory");
            assert_eq!(by_value(all, 300)?, 600);
            assert!(page.usage().peak >= 300);
            Ok::<_, tidelock::Error>(())
        })
        .unwrap()
        .unwrap();
}

#[test]
fn pinned_memory_of_an_arena_is_lent_in_a_scope() {
    quick()
        .stream(|mut stream, _| {
            let page = PinnedStack::new(PinnedAlloc::new());
            let mut out = stream.ctx().with_pinned_alloc(&page).alloc_pinned::<u32>(6)?.write_with(|_| 0);
            let up = pinned(&[1, 2, 3, 4, 5, 6]);
            stream.host_scope(|scope| {
                let ctx = scope.ctx().with_pool();
                let x = ctx.init_from(ctx.alloc(6)?, scope.source(&up))?;
                ctx.copy(x.view(), scope.target(&mut out))
            })??;
            assert_eq!(out[..], up[..]);
            Ok::<_, tidelock::Error>(())
        })
        .unwrap()
        .unwrap();
}

#[test]
fn pinned_memory_by_default_goes_through_the_stream() {
    quick()
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let host = Stack::<Host>::new(HostAlloc);
            // The stream, which has deferred frees, says how much memory there is.
            let says = |error| match error {
                Error::OutOfMemory { shortage, .. } => shortage.is_some(),
                other => panic!("{other}"),
            };
            assert!(says(ctx.alloc_pinned::<u8>(1 << 46).unwrap_err()));
            assert!(says(ctx.with_host_alloc(&host).alloc_pinned::<u8>(1 << 46).unwrap_err()));
            assert!(says(ctx.with_pinned_alloc(PinnedAlloc::new()).plain().alloc_pinned::<u8>(1 << 46).unwrap_err()));
            assert!(!says(ctx.with_pinned_alloc(PinnedAlloc::new()).alloc_pinned::<u8>(1 << 46).unwrap_err()));
            // It is the default allocator by name, so that its memory can be staged.
            let named = ctx.with_pinned_alloc(PinnedAlloc::new()).alloc_pinned::<u8>(4)?.stage(&ctx);
            drop(ctx.init_zeros(named)?);
            Ok::<_, tidelock::Error>(())
        })
        .unwrap()
        .unwrap();
}
