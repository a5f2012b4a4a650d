//! Every operation of one stream, on any device. Each allocates what it needs and frees it.

use std::{
    alloc::Layout,
    mem::MaybeUninit,
    num::NonZero,
    ops::ControlFlow,
    pin::Pin,
    ptr::NonNull,
    sync::mpsc::sync_channel,
    task::{Context, Waker},
};

use tidelock::{
    BatchCopy, Buffer, DeviceLocation, Error, Permutation, Result, Stack, State, Stream, View,
    alloc::{Allocator, ClosureAlloc, HostAlloc},
    buffer::{Offsets, Scatter},
    driver::Code,
    file::{File, FileError},
    location::{Host, Pinned},
    state::{DevicePermutation, RowNumbers},
    stream::{OnBackend, Shared},
};

use tidelock_test_support::files::PagedFile;

use super::watch::Place;

/// One operation.
pub struct Operation<P: Place> {
    pub name: &'static str,
    pub run: for<'d, 's> fn(&'d mut Stream<P::At<'s>>, &'d P) -> Result<()>,
}

macro_rules! operations {
    ($($name:ident: $covers:expr;)+) => {
        /// All of them.
        pub fn all<P: Place>() -> Vec<Operation<P>> {
            vec![$(Operation { name: stringify!($name), run: $name::<P> }),+]
        }
        /// The public functions that they call.
        pub const COVERED: &[&[&str]] = &[$(&$covers),+];
    };
}
operations! {
    memory: ["Ctx::alloc", "Ctx::init_zeros", "Ctx::zeros", "Ctx::empty_like", "Ctx::alloc_in", "Buffer::drop"];
    raw_memory: ["Buffer::uninit_in", "Buffer::into_raw_parts", "Buffer::from_raw_parts", "Buffer::assume_init",
        "Allocator::alloc", "Allocator::dealloc"];
    host_memory: ["Ctx::alloc_host", "Buffer::zeros", "Buffer::from_slice", "Buffer::from_fn", "Buffer::zeros_in",
        "Buffer::from_slice_in", "Buffer::from_fn_in", "Buffer::write_with"];
    memory_of_others: ["Buffer::from_owner", "Buffer::from_raw_owner", "Owner::drop", "ClosureAlloc::new"];
    pinned_memory: ["Ctx::alloc_pinned", "Buffer::stage", "Buffer::reclaim", "Buffer::peek", "Buffer::peek_mut"];
    synchronous_memory: ["Ctx::sync_alloc"];
    copies: ["Ctx::copy", "Ctx::clear", "Ctx::init_from"];
    outputs: ["Ctx::init_with"];
    uploads: ["Ctx::upload", "Ctx::upload_new"];
    long_uploads: [];
    fences: ["Ctx::fence", "Pending::wait", "Pending::is_ready"];
    many_fences: [];
    marks: ["Ctx::mark", "Ctx::elapsed_since", "Elapsed::is_ready", "Elapsed::wait", "Mark::drop"];
    arriving_memory: ["Pending::detach", "Buffer::wait", "Buffer::is_ready", "Ctx::notify"];
    staged_memory_given_up: [];
    host_scope: ["Stream::host_scope", "HostScope::ctx", "HostScope::source", "HostScope::target"];
    page_locked_host_memory: ["HostScope::register", "HostScope::register_mut"];
    waits: ["Stream::synchronize", "Stream::read", "Stream::is_idle", "Ctx::memory_info"];
    trims: ["Stream::trim"];
    batches: ["BatchCopy::new", "BatchCopy::scope", "Batch::copy", "Batch::group", "Group::copy", "Group::copy_unmerged"];
    batches_of_host_memory: [];
    a_batch_given_up: [];
    warps: ["Group::warp", "Group::warp_join", "Group::warp_ragged", "Group::append"];
    rows_by_index: ["Scatter::new", "Scatter::set", "Scatter::clear", "Group::scatter", "Group::scatter_within",
        "Group::copy_rows"];
    tensors: ["Ctx::copy_tensor", "Ctx::init_tensor", "Group::copy_tensor"];
    blocks: ["Group::copy_blocks", "Group::copy_blocks_within"];
    warps_by_the_device: ["DevicePermutation::upload", "Group::warp_by", "Group::warp_join_by", "RowNumbers::unchecked"];
    states: ["State::zeros", "State::new", "State::step"];
    arenas: ["Stack::new", "Stack::with_align", "Stack::reset", "Stack::drop"];
    arenas_that_spill: [];
    arenas_made_larger_and_smaller: ["Stack::reserve", "Stack::shrink_to"];
    detached_memory: ["Ctx::detach", "Ctx::attach"];
    shared_memory: ["Buffer::share", "Shared::slice", "Shared::join", "Shared::get_mut", "Shared::try_unwrap",
        "Shared::stage", "Shared::from_raw", "Shared::drop", "SharedMemory::drop"];
    tables: ["Ctx::table", "Table::into_owners"];
    files: ["Load::registered", "Load::through_ring"];
    refusals: ["Allocator::shortage"];
}

fn four() -> NonZero<usize> {
    NonZero::new(4).unwrap()
}

fn memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let x = ctx.init_zeros(ctx.alloc::<u32>(64)?)?;
    let y = ctx.zeros::<u32>(5000)?;
    drop((ctx.empty_like(x.view())?, ctx.alloc_in::<u8, P::At<'_>>(77)?, y));
    Ok(())
}

fn raw_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let pool = stream.ctx().pool();
    let x = stream.ctx().with_pool().init_zeros(Buffer::<MaybeUninit<u32>, P::At<'_>, _>::uninit_in(16, pool)?)?;
    let (ptr, len, alloc) = x.into_raw_parts();
    // SAFETY: these are the parts of a buffer that is gone.
    drop(unsafe { Buffer::<u32, P::At<'_>, _>::from_raw_parts(ptr, len, alloc) });
    let y = stream.ctx().with_pool().alloc::<u32>(16)?;
    // SAFETY: it is not read.
    drop(unsafe { y.assume_init() });
    let layout = Layout::array::<u64>(9).unwrap();
    let z = Allocator::<P::At<'_>>::alloc(&pool, layout).unwrap();
    // SAFETY: it comes from this allocator with this layout, and is not in use.
    unsafe { Allocator::<P::At<'_>>::dealloc(&pool, z, layout) };
    Ok(())
}

fn host_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    drop(ctx.alloc_host::<u32>(9)?.write_with(|i| i as u32));
    drop((Buffer::<u32, Host>::zeros(8)?, Buffer::<u32, Host>::from_slice(&[1, 2, 3])?));
    drop((Buffer::<u32, Host>::from_fn(8, |i| i as u32)?, Buffer::<u32, Host, _>::zeros_in(8, HostAlloc)?));
    drop(Buffer::<u32, Host, _>::from_slice_in(&[1], HostAlloc)?);
    drop(Buffer::<u32, Host, _>::from_fn_in(3, |i| i as u32, HostAlloc)?);
    Ok(())
}

fn memory_of_others<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let owned = Buffer::<u32, Host, _>::from_owner(vec![1_u32, 2, 3, 4]);
    let mut x = ctx.zeros::<u32>(4)?;
    ctx.upload(&owned, x.view_mut())?;
    let mut owner = vec![1_u32, 2, 3, 4];
    let ptr = NonNull::new(owner.as_mut_ptr()).unwrap();
    // SAFETY: the elements are the owner's, and nothing else has the owner.
    let adopted = unsafe { Buffer::<u32, Host, _>::from_raw_owner(ptr, 4, owner) };
    ctx.upload(&adopted, x.view_mut())?;
    let pool = stream.ctx().pool();
    // SAFETY: both closures are the pool's.
    let mine = unsafe {
        ClosureAlloc::<P::At<'_>, _, _>::new(
            |layout| Allocator::<P::At<'_>>::alloc(&pool, layout),
            |ptr, layout| Allocator::<P::At<'_>>::dealloc(&pool, ptr, layout),
        )
    };
    stream.ctx().with_device_alloc(&mine).zeros::<u32>(100).map(drop)
}

fn pinned_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    let mut staged = ctx.alloc_pinned::<u32>(300)?.write_with(|i| i as u32).stage(&ctx);
    ctx.clear(staged.view_mut())?;
    let done = stream.synchronize()?;
    staged.peek_mut(&done)[1] = staged.peek(&done)[0];
    drop(staged.reclaim(&done));
    Ok(())
}

fn synchronous_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(64).map(drop)
}

fn copies<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (x, mut y) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
    ctx.copy(x.view(), y.view_mut())?;
    ctx.clear(y.view_mut())?;
    drop(ctx.init_from(ctx.alloc::<u32>(64)?, x.view())?);
    Ok(())
}

fn outputs<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let x = ctx.zeros::<u32>(64)?;
    let mut batch = BatchCopy::new();
    let fresh = || Ok::<_, Error>((ctx.alloc::<u32>(64)?, ctx.alloc_pinned::<u32>(64)?.stage(&ctx)));
    let mut init = |fails| {
        ctx.init_with(fresh()?, |(a, b)| {
            ctx.clear(a)?;
            batch.scope(&ctx, |batch| {
                for (from, to) in x.view().chunks_exact(four()).zip(b.rows(four())?) {
                    batch.copy(from, to)?;
                }
                if fails { Err(Error::SameStream) } else { Ok(()) }
            })
        })
        .map(drop)
        .map_err(Error::from)
    };
    init(false)?;
    assert_eq!(init(true), Err(Error::SameStream));
    Ok(())
}

fn uploads<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut x = ctx.upload_new(&[1_u32; 64])?;
    // More than a segment of the small ring.
    (0..6).try_for_each(|_| ctx.upload(&[2; 50], x.view_mut().slice(..50)?))
}

fn long_uploads<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut x = ctx.zeros::<u32>(3000)?;
    ctx.upload(&[1; 3000], x.view_mut())
}

fn fences<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    let staged = || Ok::<_, Error>(Buffer::<u32, Pinned<P::Family>>::zeros(50)?.stage(&ctx));
    let pending = ctx.fence(staged()?).map_err(|refused| refused.error)?;
    let given_up = ctx.fence(staged()?).map_err(|refused| refused.error)?;
    given_up.is_ready()?;
    drop(given_up);
    pending.wait().map(drop).map_err(|refused| refused.error)
}

/// The time between points, of which some is not read; more marks than a stream keeps events for.
fn marks<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    let (read, unread) = (ctx.mark()?, ctx.mark()?);
    let _x = ctx.with_pool().zeros::<u32>(64)?;
    let unread = ctx.elapsed_since(unread).map_err(|refused| refused.error)?;
    let read = ctx.elapsed_since(read).map_err(|refused| refused.error)?;
    unread.is_ready()?;
    drop(unread);
    read.wait().map_err(|refused| refused.error)?;
    (0..20).map(|_| ctx.mark()).collect::<Result<Vec<_>>>().map(drop)
}

/// Waited for, awaited and dropped. The closure is called last, so that no record is watched at the
/// end.
fn arriving_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    let arriving = || {
        let staged = ctx.init_zeros(ctx.alloc_pinned::<u32>(50)?.stage(&ctx))?;
        Ok::<_, Error>(ctx.fence(staged)?.detach())
    };
    let (mut polled, dropped, waited) = (arriving()?, arriving()?, arriving()?);
    drop(dropped);
    let mut pending = ctx.fence(ctx.alloc_pinned::<u32>(50)?.stage(&ctx))?;
    for _ in 0..3 {
        let _ = Pin::new(&mut polled).poll(&mut Context::from_waker(Waker::noop()));
        let _ = Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop()));
    }
    let (tell, told) = sync_channel(1);
    ctx.notify(move |answer| tell.send(answer).unwrap())?;
    waited.is_ready()?;
    waited.wait()?;
    drop(polled);
    told.recv().unwrap()
}

/// More fences than a stream keeps events for.
fn many_fences<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    fence_often(stream, 50)
}

/// Waits for `count` fences after all of them were made.
pub fn fence_often<L: DeviceLocation<Pinned = Pinned<<L as OnBackend>::Backend>>>(
    stream: &mut Stream<L>,
    count: usize,
) -> Result<()> {
    let ctx = stream.ctx();
    let fence =
        |_| ctx.fence(Buffer::<u32, Pinned<L::Backend>>::zeros(1)?.stage(&ctx)).map_err(|refused| refused.error);
    let pending = (0..count).map(fence).collect::<Result<Vec<_>>>()?;
    pending.into_iter().try_for_each(|pending| pending.wait().map(drop).map_err(|refused| refused.error))
}

fn staged_memory_given_up<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx();
    for bytes in [1, 20, 400] {
        let mut staged = ctx.alloc_pinned::<[u8; 7]>(bytes)?.write_with(|_| [1; 7]).stage(&ctx);
        ctx.clear(staged.view_mut())?;
    }
    Ok(())
}

fn host_scope<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut x = stream.ctx().with_pool().zeros::<u32>(16)?;
    let (from, mut to) = ([1_u32; 16], [0_u32; 16]);
    stream.host_scope(|scope| {
        scope.ctx().copy(scope.source(&from), x.view_mut())?;
        scope.ctx().copy(x.view(), scope.target(&mut to))
    })?
}

/// Whole pages, because a page cannot be locked twice.
fn page_locked_host_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut x = stream.ctx().with_pool().zeros::<u32>(2048)?;
    let (from, mut to) = (vec![1_u32; 3072], vec![0_u32; 3072]);
    let [first, place] = [&from, &to].map(|memory| memory.as_ptr().align_offset(4096));
    let to = &mut to[place..place + 2048];
    stream.host_scope(|scope| {
        let ctx = scope.ctx();
        ctx.copy(scope.register(&from[first..first + 2048])?, x.view_mut())?;
        // A page that is locked is refused.
        assert!(scope.register(&from[first..first + 1]).is_err());
        ctx.copy(x.view(), scope.register_mut(&mut *to)?)
    })??;
    assert_eq!(to[2047], 1);
    Ok(())
}

fn files<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let bytes = PagedFile::default();
    let file = File::new(bytes.bytes()).unwrap();
    let map = file.load().threads(NonZero::new(2).unwrap()).pinned_bytes(4096).through_ring(&stream.ctx()).unwrap();
    let again = file.load().registered(stream).unwrap();
    for map in [map, again] {
        let last = map.get::<u32, P::At<'_>, 1>("b").unwrap().contiguous()?.slice(999..)?;
        assert_eq!(stream.read(last)?, [1999]);
    }
    let stopped = file.load().pinned_bytes(4096).progress(|_| ControlFlow::Break(())).through_ring(&stream.ctx());
    assert!(matches!(stopped, Err(FileError::Stopped { .. })));
    Ok(())
}

fn waits<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    stream.ctx().memory_info()?;
    stream.is_idle()?;
    let x = stream.ctx().with_pool().zeros::<u32>(5)?;
    assert_eq!(stream.read(x.view())?, [0; 5]);
    stream.synchronize().map(drop)
}

fn trims<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    drop(stream.ctx().with_pool().alloc::<u8>(100_000)?);
    stream.trim(0).map(drop)
}

fn batches<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (x, mut y) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
    let mut batch = BatchCopy::new();
    for _ in 0..2 {
        batch.scope(&ctx, |batch| {
            let (a, rest) = y.view_mut().split_at(16)?;
            let (b, rest) = rest.split_at(16)?;
            let (c, _) = rest.split_at(16)?;
            batch.copy(x.view().slice(..16)?, b)?;
            batch.group(|group| {
                group.copy(x.view().slice(20..36)?, a)?;
                group.copy_unmerged(x.view().slice(40..56)?, c)
            })
        })?;
    }
    Ok(())
}

fn batches_of_host_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut batch = BatchCopy::new();
    // Few bytes, which are copied into the launch, and more.
    for len in [1, P::LONGEST / 8, P::LONGEST] {
        let (x, host) = (ctx.zeros::<[u32; 32]>(len)?, vec![[1_u32; 32]; len]);
        let (staged, mut y) =
            (ctx.alloc_pinned::<[u32; 32]>(len)?.write_with(|_| [1; 32]).stage(&ctx), ctx.zeros::<[u32; 32]>(3 * len)?);
        batch.scope(&ctx, |batch| {
            let (a, rest) = y.view_mut().split_at(len)?;
            let (b, c) = rest.split_at(len)?;
            batch.copy(x.view(), a)?;
            batch.copy(staged.view(), b)?;
            batch.copy(View::from(&host[..]), c)
        })?;
    }
    Ok(())
}

fn a_batch_given_up<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (x, mut y) = (ctx.zeros::<u32>(8)?, ctx.zeros::<u32>(8)?);
    let answer = BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| group.copy(x.view(), y.view_mut()))?;
        Err::<(), _>(Error::OutOfRange { operand: "mine" })
    });
    assert!(answer.is_err());
    Ok(())
}

fn warps<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (old, more) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
    let [mut a, mut b, mut c, mut d] =
        [ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?];
    let (mut offsets, mut sizes) = ([0; 4], [0; 3]);
    let (stay, join, few) = ([2, 0, 15], [17, 3, 16], [1, 2, 0]);
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| {
            let (stay, join) = (Permutation::new(&stay, 16, 0)?, Permutation::new(&join, 16, 16)?);
            let (old, more) = (old.view().rows(four())?, more.view().rows(four())?);
            group.warp(old, stay, a.view_mut().rows(four())?.first(3)?)?;
            group.warp_join(old, more, join, b.view_mut().rows(four())?.first(3)?)
        })?;
        batch.group(|group| {
            let rows = Permutation::new(&few, 2, 1)?;
            let ragged = old.view().slice(..10)?.ragged(Offsets::new(&[0, 4, 10], "old")?)?;
            let joining = more.view().slice(..5)?.ragged(Offsets::new(&[0, 5], "joining")?)?;
            group.warp_ragged(ragged, joining, rows, c.view_mut(), &mut offsets)?;
            let history = old.view().slice(..16)?.rows(NonZero::new(8).unwrap())?;
            let dst = d.view_mut().rows(NonZero::new(8).unwrap())?.first(3)?;
            group.append(history, &[3, 5], more.view().slice(..2)?, joining, rows, dst, &mut sizes)
        })
    })
}

/// The storage of a scatter grows to its largest set, and no more.
fn rows_by_index<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (src, mut dst) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
    let (mut cache, mut mix) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
    let mut scatter = Scatter::new();
    scatter.set((0..16).map(|i| (i, 15 - i)), 16, 16)?;
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| group.scatter(src.view().rows(four())?, &scatter, dst.view_mut().rows(four())?))
    })?;
    scatter.clear();
    scatter.set((0..8).map(|i| (2 * i, 2 * i + 1)), 16, 16)?;
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| {
            let (left, right) = mix.view_mut().rows(four())?.split_columns(1)?;
            group.copy_rows(right.into_rows().columns(1..2)?, left)?;
            group.scatter_within(cache.view_mut().rows(four())?, &scatter)
        })
    })
}

/// The lists of runs grow to the largest batch, and no more.
fn tensors<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let src = ctx.zeros::<u32>(64)?.tensor([8, 8])?;
    let mut dst = ctx.zeros::<u32>(64)?.tensor([8, 8])?;
    let turned = src.view().transpose(0, 1)?;
    ctx.copy_tensor(turned, dst.view_mut())?;
    BatchCopy::new().scope(&ctx, |batch| batch.group(|group| group.copy_tensor(turned, dst.view_mut())))?;
    drop(ctx.init_tensor(ctx.alloc::<u32>(64)?.tensor([8, 8])?, turned)?);
    // What outputs with a layout count, and the device memory that lent operands pass through.
    drop(
        ctx.init_with(ctx.alloc::<u32>(64)?.tensor([8, 8])?, |out| ctx.copy_tensor(turned, out))
            .map_err(Error::from)?,
    );
    let (from, mut to) = ([1_u32; 64], [0_u32; 64]);
    stream.host_scope(|scope| {
        let from = scope.source(&from).tensor([8, 8])?.transpose(0, 1)?;
        scope.ctx().copy_tensor(from, scope.target(&mut to).tensor([8, 8])?)
    })?
}

/// The strided copies of a batch keep their room, and so does what becomes of them.
fn blocks<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let src = ctx.zeros::<u32>(64)?.tensor([4, 4, 4])?;
    let mut dst = ctx.zeros::<u32>(64)?.tensor([4, 4, 4])?;
    let mut scatter = Scatter::new();
    scatter.set([(0, 1), (2, 3)], 4, 4)?;
    BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| group.copy_blocks(src.view(), &scatter, dst.view_mut().transpose(1, 2)?))
    })?;
    BatchCopy::new().scope(&ctx, |batch| batch.group(|group| group.copy_blocks_within(dst.view_mut(), &scatter)))
}

fn warps_by_the_device<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (old, more) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
    let [mut a, mut b, mut c] = [ctx.zeros::<u32>(12)?, ctx.zeros::<u32>(12)?, ctx.zeros::<u32>(12)?];
    let numbers = [17, 3, 16];
    let join = DevicePermutation::upload(&ctx, Permutation::new(&numbers, 16, 16)?)?;
    let raw = ctx.upload_new(&[2_u32, 0, 15])?;
    // SAFETY: all are below 16.
    let stay = unsafe { RowNumbers::unchecked(raw.view(), 16, 0) };
    let stays = DevicePermutation::upload(&ctx, Permutation::new(&[1, 2, 3], 16, 0)?)?;
    let answer = BatchCopy::new().scope(&ctx, |batch| {
        batch.group(|group| {
            let (old, more) = (old.view().rows(four())?, more.view().rows(four())?);
            group.warp_by(old, stays.numbers(), a.view_mut().rows(four())?)?;
            group.warp_join_by(old, more, join.numbers(), b.view_mut().rows(four())?)?;
            group.warp_by(old, stay, c.view_mut().rows(four())?)
        })
    });
    match answer {
        // Without the copy kernels.
        Err(Error::Driver(error)) if error.code == Code::NOT_SUPPORTED => Ok(()),
        answer => answer,
    }
}

fn states<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut state = State::<u32, P::At<'_>, _>::zeros(&ctx, 64)?;
    state.step(|front, back| ctx.copy(front, back))?;
    let refused = State::new(ctx.zeros::<u32>(8)?, ctx.zeros::<u32>(9)?).unwrap_err();
    drop((refused, State::new(ctx.zeros::<u32>(8)?, ctx.zeros::<u32>(8)?).unwrap()));
    Ok(())
}

fn arenas<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut stack = Stack::new(stream.ctx().pool());
    for _ in 0..3 {
        let ctx = stream.ctx().with_device_alloc(&stack);
        let (a, b) = (ctx.zeros::<u32>(100)?, ctx.zeros::<u32>(50)?);
        drop(a);
        drop((ctx.zeros::<u8>(7)?, b));
        stack.reset()?;
    }
    drop(stack);
    let aligned = Stack::<P::At<'_>, _, tidelock::alloc::AlignTo<64>>::with_align(stream.ctx().pool());
    stream.ctx().with_device_alloc(&aligned).zeros::<u32>(3).map(drop)
}

/// The size is larger in every second iteration.
fn arenas_that_spill<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut stack = Stack::new(stream.ctx().pool());
    for turn in 0..6 {
        let ctx = stream.ctx().with_device_alloc(&stack);
        let kept = ctx.zeros::<u32>(100)?;
        drop((0..turn % 2 * 3).map(|_| ctx.zeros::<u32>(700)).collect::<Result<Vec<_>>>()?);
        drop(kept);
        stack.reset()?;
    }
    Ok(())
}

fn arenas_made_larger_and_smaller<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let mut stack = Stack::new(stream.ctx().pool());
    for bytes in [1000, 5000] {
        stack.reserve(bytes)?;
        drop(stream.ctx().with_device_alloc(&stack).zeros::<u8>(bytes)?);
        stack.shrink_to(bytes / 2)?;
        stack.reset()?;
    }
    stack.shrink_to(0)
}

fn detached_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let detach = || ctx.detach(ctx.zeros::<u32>(10)?).map_err(|refused| refused.error);
    drop(detach()?);
    drop(detach()?.share());
    ctx.attach(detach()?).map(drop).map_err(|refused| refused.error)
}

fn shared_memory<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut x = ctx.zeros::<u32>(10)?.share();
    let part = x.slice(2..4)?;
    let away = ctx.detach(x.clone()).map_err(|refused| refused.error)?;
    drop(away.clone());
    let back = ctx.attach(away).map_err(|refused| refused.error)?;
    drop(x.join(back));
    drop(part);
    ctx.clear(x.get_mut().unwrap())?;
    let buffer = x.try_unwrap().unwrap();
    let pinned = ctx.alloc_pinned::<u32>(10)?.write_with(|_| 1).share();
    ctx.copy(pinned.clone().stage(&stream.ctx()).view(), { buffer }.view_mut())?;
    let owner = ctx.zeros::<u32>(10)?;
    let ptr = NonNull::new(owner.as_ptr().cast_mut()).unwrap();
    let owner = ctx.detach(owner).map_err(|refused| refused.error)?;
    // SAFETY: the owner keeps the memory, and nothing else uses it.
    drop(unsafe { Shared::from_raw(&stream.ctx(), ptr, 10, owner) });
    Ok(())
}

fn refusals<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (x, mut y) = (ctx.zeros::<u32>(8)?, ctx.zeros::<u32>(9)?);
    assert!(ctx.copy(x.view(), y.view_mut()).is_err());
    assert!(ctx.init_from(ctx.alloc::<u32>(9)?, x.view()).is_err());
    assert!(ctx.upload(&[1; 3], y.view_mut()).is_err());
    assert!(ctx.alloc::<u64>(usize::MAX).is_err());
    assert!(ctx.alloc::<u8>(1 << 46).is_err());
    assert!(Allocator::<P::At<'_>>::shortage(&stream.ctx().pool()).is_some());
    assert!(ctx.alloc_pinned::<u64>(usize::MAX / 8).is_err());
    assert_eq!(ctx.lend(x.view(), &ctx, |_| ()), Err(Error::SameStream));
    Ok(())
}

/// A few of all operations, and more events than a stream keeps, for streams that come and go.
pub fn some<P: Place>(stream: &mut Stream<P::At<'_>>, device: &P) -> Result<()> {
    fence_often(stream, 40)?;
    fences(stream, device)?;
    long_uploads(stream, device)?;
    batches(stream, device)?;
    staged_memory_given_up(stream, device)
}

/// Tables of every size, also several at once.
fn tables<P: Place>(stream: &mut Stream<P::At<'_>>, _: &P) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut x = ctx.zeros::<u32>(64)?;
    let read = ctx.table(x.view().chunks_exact(four()).zip(0_u32..))?;
    drop((ctx.table([x.view(); 3])?, read));
    drop(ctx.table(x.view_mut().chunks_exact(four()))?);
    drop(ctx.table([x])?.into_owners());
    Ok(())
}
