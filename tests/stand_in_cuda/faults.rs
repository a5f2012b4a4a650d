//! Every operation, with each of its driver calls failing once: the result is a typed error or
//! success, nothing is lost, and the stream is usable afterwards.

use std::{
    alloc::Layout,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use cudarc::driver::{CudaContext, sys};
use tidelock::{
    BatchCopy, Buffer, Error, Layout as TensorLayout, Permutation, Result, Stack, State, Stream,
    alloc::{AllocError, Allocator, ClosureAlloc, PinnedAlloc},
    buffer::{Offsets, Scatter},
    cuda::{Batching, CopyKernels, Cuda, CudaBackend, Device, Grid, Module},
    driver::{Backend, Pool},
    file::{File, FileError},
    location::{Host, Pinned},
    state::DevicePermutation,
    stream::{Detached, Shared, StreamOptions},
};
use tidelock_test_support::{
    files::PagedFile,
    memory::{get, put},
    stand_in::{self, Control, Fault, Launch, Report},
};

use crate::every_second;

/// The error of the driver or of the memory that a load failed with.
fn inside(error: FileError) -> Error {
    match error {
        FileError::Tensor { error, .. } | FileError::Load { error } => error,
        other => panic!("{other}"),
    }
}

/// What the failing call returns: a temporary error, which every function of the driver may return.
const TRANSIENT: u32 = 2;
/// A sticky error: a kernel that faulted earlier.
const STICKY: u32 = 719;

type Page<T> = Buffer<T, Pinned<CudaBackend>>;

type Operation = for<'a, 's> fn(&'a Device, &'a mut Stream<Cuda<'s>>) -> Result<()>;

/// The calls that fail in one run of an operation.
#[derive(Clone, Copy, Debug)]
struct Plan {
    nth: u64,
    releases: bool,
    onwards: bool,
    code: u32,
    /// The kind of wait that fails next.
    then: Option<&'static str>,
}

/// The failures injected by all tests of this file so far.
static INJECTED: AtomicU64 = AtomicU64::new(0);

/// The result of one run of an operation.
struct Outcome {
    answer: Result<()>,
    /// The calls that the operation made.
    calls: Vec<String>,
    /// What the stream reports as leaked.
    leaked: usize,
    report: Report,
}

/// The first device in a context of its own. The library stores a failure of the device by its
/// context.
pub(crate) fn fresh_device() -> Device {
    Device::from_cudarc(&fresh_context()).unwrap()
}

fn fresh_context() -> Arc<CudaContext> {
    let mut context = std::ptr::null_mut();
    // SAFETY: the driver is there, and the place is valid for a write.
    assert_eq!(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) }, sys::CUresult::CUDA_SUCCESS);
    // SAFETY: the context was just created for device 0, and is given away.
    let context = unsafe { CudaContext::from_raw_context(0, 0, context) }.unwrap();
    // SAFETY: no context is one that can be current.
    assert_eq!(unsafe { sys::cuCtxSetCurrent(std::ptr::null_mut()) }, sys::CUresult::CUDA_SUCCESS);
    context
}

/// Runs two operations on a new driver, the second with calls that fail as `plan` says.
fn run(control: &Control, batching: Batching, [before, operation]: [Operation; 2], plan: Plan) -> Outcome {
    control.reset();
    // SAFETY: the kernel accesses its parameters only.
    unsafe { control.register("stand_in_double", &[8, 4], double) };
    let context = fresh_context();
    let device = Device::from_cudarc(&context).unwrap().with_batching(batching);
    let mut leaked = 0;
    let (mut calls, mut answer, mut is_lost) = (Vec::new(), Ok(()), false);
    let ended = device.stream(|mut stream, _| {
        // Memory from before, which must not change.
        let witness = put(&stream.ctx(), &[1_u32, 2, 3, 4]);
        before(&device, &mut stream).unwrap();
        stream.synchronize().unwrap();
        control.take_log();
        let Plan { nth, releases, onwards, code, then } = plan;
        let first = Fault { name: "", nth, onwards, releases, code };
        match then {
            None => control.fail(first),
            Some(name) => control.fail_in_turn(first, Fault { name, nth: 1, onwards, releases, code }),
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| operation(&device, &mut stream)));
        control.disarm();
        calls = control.take_log();
        leaked = stream.leaked_bytes();
        answer = outcome.unwrap_or_else(|payload| {
            eprintln!("{plan:?} of {calls:?} panicked");
            resume_unwind(payload)
        });
        // A stream that could neither be joined with another nor waited for is poisoned.
        is_lost = then.is_some() && matches!(stream.is_idle(), Err(Error::Poisoned(_)));
        if code == TRANSIENT && !is_lost {
            assert_eq!(get(&stream.ctx(), witness.view()), [1, 2, 3, 4], "{plan:?} of {calls:?}");
            assert_eq!(get(&stream.ctx(), put(&stream.ctx(), &[9_u32]).view()), [9], "{plan:?} of {calls:?}");
        }
    });
    let failed = usize::try_from(plan.nth).unwrap() <= calls.len();
    let injected = INJECTED.fetch_add(u64::from(failed), SeqCst) + u64::from(failed);
    println!("{injected} injected failures");
    if plan.code == TRANSIENT && !is_lost || !failed {
        ended.unwrap();
    }
    // The streams that free detached memory end with the last handle. The context is destroyed
    // after the report, and what is in it with it.
    drop(device);
    let report = control.report();
    drop(context);
    Outcome { answer, calls, leaked, report }
}

/// Runs `operation` once for each of its calls, which fails, and once more without a failure.
fn each_call_fails(batching: Batching, settings: &[(&str, u64)], operation: Operation) {
    each_call_fails_after(|_, _| Ok(()), batching, settings, operation);
}

/// The same on a stream that has done something before.
fn each_call_fails_after(before: Operation, batching: Batching, settings: &[(&str, u64)], operation: Operation) {
    let control = stand_in::load();
    // Page-locked memory belongs to the context of the first device that is opened.
    Device::open(0).unwrap();
    settings.iter().for_each(|(name, value)| control.set(name, *value));
    control.set("delay", 0);
    for releases in [false, true] {
        for nth in 1.. {
            let plan = Plan { nth, releases, onwards: false, code: TRANSIENT, then: None };
            let Outcome { answer, calls, leaked, report } = run(&control, batching, [before, operation], plan);
            let at = usize::try_from(nth).unwrap() - 1;
            let Some(failed) = calls.get(at) else {
                answer.unwrap();
                report.assert_clean();
                assert!(nth > 1, "the operation makes no call");
                break;
            };
            let case = format!("call {nth} of {calls:?} failed; {answer:?}; {report:#?}");
            assert_eq!(report.findings, [""; 0], "{case}");
            assert_eq!(report.sticky, [], "{case}");
            let expected = match answer {
                Ok(()) => true,
                Err(Error::Driver(error) | Error::Poisoned(error)) => error.code.0 == TRANSIENT,
                Err(Error::OutOfMemory { .. }) => true,
                Err(_) => false,
            };
            assert!(expected, "{case}");
            // What the driver did not free is still there, and the stream reports it if it is
            // memory. Detached memory is not freed if its last use cannot be waited for or its
            // context cannot be entered. It belongs to no stream that could report it. Nothing else
            // is left.
            let kept = match failed.as_str() {
                call if is_release(call) => !releases,
                call if call.starts_with("cuCtx") => calls[..at].iter().any(|call| is_release(call) || is_wait(call)),
                call => is_wait(call),
            };
            let allowed = usize::from(kept || leaked > 0);
            assert!(report.left() <= allowed, "{leaked} bytes leaked; {case}");
        }
    }
}

fn is_release(call: &str) -> bool {
    ["Free", "Destroy"].iter().any(|part| call.contains(part))
}

fn is_wait(call: &str) -> bool {
    call.contains("Synchronize")
}

/// Runs `operation` once for each of its calls, which fails together with the next wait: the
/// recovery from a failure fails too.
fn each_call_and_the_next_wait_fail(batching: Batching, operation: Operation) {
    let control = stand_in::load();
    // Page-locked memory belongs to the context of the first device that is opened.
    Device::open(0).unwrap();
    control.set("delay", 0);
    for wait in ["cuStreamSynchronize", "cuEventSynchronize"] {
        for nth in 1.. {
            let plan = Plan { nth, releases: false, onwards: false, code: TRANSIENT, then: Some(wait) };
            let Outcome { answer, calls, report, .. } = run(&control, batching, [|_, _| Ok(()), operation], plan);
            if calls.len() < usize::try_from(nth).unwrap() {
                break;
            }
            // What a stream was using that could not be waited for stays (rule R12).
            let case = format!("call {nth} of {calls:?} and the next {wait}; {answer:?}; {report:#?}");
            assert_eq!(report.findings, [""; 0], "{case}");
            assert_eq!(report.sticky, [], "{case}");
            let is_expected = match answer {
                Ok(()) | Err(Error::OutOfMemory { .. }) => true,
                Err(Error::Driver(error) | Error::Poisoned(error)) => error.code.0 == TRANSIENT,
                Err(_) => false,
            };
            assert!(is_expected, "{case}");
        }
    }
}

/// Runs `operation` with the device broken from each of its calls on: nothing hangs, panics, or is
/// freed while it is in use.
fn the_device_breaks(batching: Batching, settings: &[(&str, u64)], operation: Operation) {
    let control = stand_in::load();
    // Page-locked memory belongs to the context of the first device that is opened.
    Device::open(0).unwrap();
    settings.iter().for_each(|(name, value)| control.set(name, *value));
    control.set("delay", 0);
    for nth in 1.. {
        let plan = Plan { nth, releases: false, onwards: true, code: STICKY, then: None };
        let Outcome { answer, calls, report, .. } = run(&control, batching, [|_, _| Ok(()), operation], plan);
        if calls.len() < usize::try_from(nth).unwrap() {
            answer.unwrap();
            break;
        }
        let case = format!("from call {nth} of {calls:?} on; {answer:?}; {report:#?}");
        assert_eq!(report.findings, [""; 0], "{case}");
        match answer {
            Ok(()) => {}
            Err(Error::Driver(error) | Error::Poisoned(error)) => assert_eq!(error.code.0, STICKY, "{case}"),
            Err(_) => panic!("{case}"),
        }
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* fn $name:ident($device:pat, $stream:pat) $body:block)*) => {
        $($(#[$doc])* fn $name($device: &Device, $stream: &mut Stream<Cuda<'_>>) -> Result<()> $body)*

        /// Each call fails once.
        mod once {
            use super::{Batching, each_call_fails};
            $(#[test] fn $name() { each_call_fails(Batching::Auto, &[], super::$name) })*
        }
        /// Each call fails once, on a driver whose calls on a stream need its context, without
        /// batches.
        mod once_on_a_strict_driver {
            use super::{Batching, each_call_fails};
            $(#[test] fn $name() { each_call_fails(Batching::Loop, &[("stream_calls_need_context", 1)], super::$name) })*
        }
        /// Each call fails once, with batches by the driver.
        mod once_with_batches_of_the_driver {
            use super::{Batching, each_call_fails};
            $(#[test] fn $name() { each_call_fails(Batching::Driver, &[], super::$name) })*
        }
        /// Each call fails once, on a device without memory pools.
        mod once_without_pools {
            use super::{Batching, each_call_fails};
            $(#[test] fn $name() { each_call_fails(Batching::Auto, &[("memory_pools", 0)], super::$name) })*
        }
        /// Each call fails, and the next wait too.
        mod with_the_next_wait {
            use super::{Batching, each_call_and_the_next_wait_fail};
            $(#[test] fn $name() { each_call_and_the_next_wait_fail(Batching::Auto, super::$name) })*
        }
        /// The device breaks at each call.
        mod for_good {
            use super::{Batching, the_device_breaks};
            $(#[test] fn $name() { the_device_breaks(Batching::Auto, &[], super::$name) })*
        }
    };
}

operations! {
    fn allocating(_, stream) {
        let ctx = stream.ctx().with_pool();
        let (a, b) = (ctx.alloc::<u32>(100)?, ctx.zeros::<u8>(10_000)?);
        drop((a, b));
        Ok(())
    }

    fn copying(_, stream) {
        let ctx = stream.ctx().with_pool();
        let (a, mut b) = (ctx.zeros::<u32>(100)?, ctx.alloc::<u32>(100)?);
        ctx.copy(a.view(), b.view_mut())?;
        ctx.clear(b.view_mut())?;
        let page = ctx.init_from(ctx.alloc_pinned::<u32>(100)?.stage(&ctx), a.view())?;
        ctx.fence(page)?.wait()?;
        Ok(())
    }

    /// What a refusal hands back is freed.
    fn initialising(_, stream) {
        let ctx = stream.ctx().with_pool();
        let a = ctx.zeros::<u32>(100)?;
        let fresh = (ctx.alloc::<u32>(200)?, ctx.alloc_pinned::<u32>(100)?.stage(&ctx));
        let mut batch = BatchCopy::new();
        let ((_, page), ()) = ctx.init_with(fresh, |(b, page)| {
            let (left, right) = b.split_at(50)?;
            let (middle, right) = right.split_at(50)?;
            ctx.upload(&[1; 50], left)?;
            ctx.clear(middle)?;
            batch.scope(&ctx, |batch| {
                batch.copy(a.view(), page)?;
                batch.group(|group| group.copy(a.view(), right))
            })
        })?;
        ctx.fence(page)?.wait()?;
        Ok(())
    }

    /// Around the ring more than once, and with more than it holds.
    fn uploading(_, stream) {
        let ctx = stream.ctx().with_pool();
        let data = vec![7_u32; 1 << 16];
        let mut memory = ctx.zeros::<u32>(1 << 16)?;
        for len in [100, 16_000, 30_000, 30_000, 30_000, 30_000, 1 << 16] {
            ctx.upload(&data[..len], memory.view_mut().slice(..len)?)?;
        }
        Ok(())
    }

    /// Through pinned pieces, of which each is used several times.
    fn a_file_through_the_ring(_, stream) {
        let bytes = PagedFile::default();
        let file = File::new(bytes.bytes()).unwrap();
        let map = file.load().pinned_bytes(4096).through_ring(&stream.ctx()).map_err(inside)?;
        let numbers = stream.read(map.get::<u32, Cuda<'_>, 1>("b").unwrap().contiguous()?)?;
        assert!(numbers.into_iter().eq(1000..2000));
        Ok(())
    }

    fn staging(_, stream) {
        let ctx = stream.ctx();
        let one = ctx.fence(Page::<u32>::from_slice(&[1, 2])?.stage(&ctx))?;
        let mut byte = Page::<u8>::from_slice(&[1])?.stage(&ctx);
        ctx.clear(byte.view_mut())?;
        let two = ctx.fence(byte)?;
        two.is_ready()?;
        assert_eq!(&one.wait()?[..], [1, 2]);
        assert_eq!(&two.wait()?[..], [0]);
        let mut page = Page::<u64>::from_slice(&[5])?.stage(&ctx);
        let synced = stream.synchronize()?;
        page.peek_mut(&synced)[0] += 1;
        assert_eq!(page.reclaim(&synced)[0], 6);
        Ok(())
    }

    /// The time between two marks, read with and without a query before, and not read.
    fn timing(_, stream) {
        let ctx = stream.ctx();
        let span = ctx.elapsed_since(ctx.mark()?)?;
        drop(ctx.elapsed_since(ctx.mark()?)?);
        span.is_ready()?;
        span.wait()?;
        ctx.elapsed_since(ctx.mark()?)?.wait()?;
        Ok(())
    }

    fn waiting(_, stream) {
        stream.is_idle()?;
        stream.synchronize()?;
        stream.trim(0)?;
        stream.ctx().memory_info()?;
        let x = stream.ctx().with_pool().zeros::<u32>(5)?;
        assert_eq!(stream.read(x.view())?, [0; 5]);
        Ok(())
    }

    fn batching(_, stream) {
        let ctx = stream.ctx().with_pool();
        let source = ctx.zeros::<u32>(4)?;
        let (mut a, mut b) = (ctx.zeros::<u32>(2)?, ctx.zeros::<u32>(2)?);
        let own = Buffer::<u32, Host>::from_slice(&[5, 6])?;
        let mut batch = BatchCopy::new();
        for with_own in [false, true] {
            batch.scope(&ctx, |batch| {
                batch.copy(source.view().slice(..2)?, a.view_mut())?;
                if with_own {
                    batch.copy(own.view(), b.view_mut())
                } else {
                    batch.copy(source.view().slice(2..)?, b.view_mut())
                }
            })?;
        }
        Ok(())
    }

    fn synchronous_memory(_, stream) {
        let ctx = stream.ctx();
        let plain = ctx.with_device_alloc(ctx.sync_alloc());
        let memory = plain.zeros::<u32>(100)?;
        drop((plain.alloc::<u8>(1)?, memory));
        stream.synchronize()?;
        Ok(())
    }

    fn an_arena(_, stream) {
        let mut stack = Stack::new(stream.ctx().pool());
        for len in [100, 1000, 1000] {
            let ctx = stream.ctx().with_device_alloc(&stack);
            drop((ctx.zeros::<u32>(len)?, ctx.zeros::<u8>(len)?));
            stack.reset()?;
        }
        Ok(())
    }

    /// A stream inside the stream, with a pool of its own, and memory on both sides.
    fn another_stream(device, stream) {
        let options = StreamOptions::default().pool(Pool::Own { release_threshold: 0 });
        let a = stream.ctx().with_pool();
        device.stream_with(&options, |other, _| {
            let b = other.ctx().with_pool();
            let mut x = a.zeros::<u32>(64)?;
            a.lend(x.view(), &b, |x| b.zeros::<u32>(64).and_then(|mut y| b.copy(x, y.view_mut())))??;
            a.lend_mut(x.view_mut(), &b, |x| b.clear(x))??;
            let y = b.zeros::<u32>(x.len())?;
            a.lend_tensor(x.view().tensor([x.len()])?, &b, |_| ())?;
            let row = x.len();
            a.lend_tensor_mut(x.view_mut().tensor([row])?, &b, |x| b.copy_tensor(y.view().tensor([row])?, x))??;
            let y = a.transfer(x, &b)?;
            drop(b.transfer(y, &a)?);
            Ok(())
        })?
    }

    fn streams_of_the_default_pool(device, _) {
        let options = StreamOptions::default().pool(Pool::Default).priority(-1);
        device.stream_with(&options, |stream, _| stream.ctx().with_pool().zeros::<u8>(8).map(drop))?
    }

    fn memory_that_travels(device, stream) {
        let ctx = stream.ctx().with_pool();
        let detached: Buffer<u32, Detached<CudaBackend>> = ctx.detach(ctx.zeros::<u32>(16)?)?;
        let shared: Shared<u32, Detached<CudaBackend>> = ctx.detach(ctx.zeros::<u32>(16)?)?.share();
        device.stream(|other, _env| {
            let ctx = other.ctx().with_pool();
            let x = ctx.attach(detached)?;
            let shared: Shared<u32, Cuda<'_>> = ctx.attach(shared)?;
            let mut y = ctx.zeros::<u32>(16)?;
            ctx.copy(shared.view(), y.view_mut())?;
            ctx.copy(x.view(), y.view_mut())
        })?
    }

    fn state_and_rows(_, stream) {
        let ctx = stream.ctx().with_pool();
        let mut state = State::<u32, Cuda<'_>, _>::zeros(&ctx, 12)?;
        let order = Permutation::new(&[2, 0, 1], 3, 0)?;
        let mut batch = BatchCopy::new();
        state.step(|front, back| {
            let width = NonZero::new(4).unwrap();
            batch.scope(&ctx, |batch| batch.group(|group| group.warp(front.rows(width)?, order, back.rows(width)?)))
        })
    }

    /// Rows by pairs of numbers between two buffers and inside one, and columns.
    fn scatters(_, stream) {
        let ctx = stream.ctx().with_pool();
        let (src, mut dst, mut cache) = (ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?, ctx.zeros::<u32>(64)?);
        let (mut between, mut within) = (Scatter::new(), Scatter::new());
        between.set((0..16).map(|i| (15 - i, i)), 16, 16)?;
        within.set((0..8).map(|i| (2 * i, 2 * i + 1)), 16, 16)?;
        let width = NonZero::new(4).unwrap();
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |batch| {
            batch.group(|group| {
                group.scatter(src.view().rows(width)?, &between, dst.view_mut().rows(width)?)?;
                group.scatter_within(cache.view_mut().rows(width)?, &within)
            })
        })?;
        batch.scope(&ctx, |batch| {
            let (left, right) = cache.view_mut().rows(width)?.split_columns(2)?;
            batch.group(|group| group.copy_rows(right.into_rows(), left))
        })
    }

    /// Tensors of other layouts, alone and in a batch.
    fn tensors(_, stream) {
        let ctx = stream.ctx().with_pool();
        let src = ctx.zeros::<u32>(64)?.tensor([8, 8])?;
        let (mut dst, mut other) = (ctx.zeros::<u32>(64)?.tensor([8, 8])?, ctx.zeros::<u32>(64)?.tensor([8, 8])?);
        let turned = src.view().transpose(0, 1)?;
        ctx.copy_tensor(turned, dst.view_mut())?;
        BatchCopy::new().scope(&ctx, |batch| {
            batch.group(|group| {
                let (left, right) = other.view_mut().split_at(1, 3)?;
                group.copy_tensor(turned.slice(1, ..3)?, left)?;
                group.copy_tensor(turned.slice(1, 3..)?, right)
            })
        })?;
        drop(ctx.init_tensor(ctx.alloc::<u32>(64)?.tensor([8, 8])?, turned)?);
        Ok(())
    }

    /// Blocks of other layouts, in two layers and inside one.
    fn blocks(_, stream) {
        let ctx = stream.ctx().with_pool();
        let src = ctx.zeros::<u32>(64)?.tensor([4, 4, 4])?;
        let (mut dst, mut other) = (ctx.zeros::<u32>(64)?.tensor([4, 4, 4])?, ctx.zeros::<u32>(64)?.tensor([4, 4, 4])?);
        let mut scatter = Scatter::new();
        scatter.set([(0, 1), (2, 3)], 4, 4)?;
        BatchCopy::new().scope(&ctx, |batch| {
            batch.group(|group| {
                group.copy_blocks(src.view(), &scatter, dst.view_mut().transpose(1, 2)?)?;
                group.copy_blocks(src.view(), &scatter, other.view_mut().transpose(1, 2)?)
            })
        })?;
        BatchCopy::new().scope(&ctx, |batch| batch.group(|group| group.copy_blocks_within(dst.view_mut(), &scatter)))
    }

    /// Whole blocks to the host and back, in two pieces.
    fn whole_blocks(_, stream) {
        let ctx = stream.ctx().with_pool();
        let by_layer = TensorLayout::strided([34, 2, 8192], [8192, 34 * 8192, 1])?;
        let mut cache = ctx.zeros::<u32>(by_layer.size())?;
        let mut pages = ctx.init_from(ctx.alloc_pinned::<u32>(by_layer.size())?.stage(&ctx), cache.view())?;
        let mut scatter = Scatter::new();
        scatter.set((0..34).map(|i| (33 - i, i)), 34, 34)?;
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |batch| {
            batch.group(|group| {
                group.copy_blocks(cache.view().strided(by_layer)?, &scatter, pages.view_mut().tensor([34, 2, 8192])?)
            })
        })?;
        batch.scope(&ctx, |batch| {
            batch.group(|group| {
                group.copy_blocks(pages.view().tensor([34, 2, 8192])?, &scatter, cache.view_mut().strided(by_layer)?)
            })
        })
    }

    /// All ways to new memory.
    fn new_memory(_, stream) {
        let ctx = stream.ctx().with_pool();
        let x = ctx.upload_new(&[1_u32, 2, 3])?;
        let y = ctx.empty_like(x.view())?;
        let y = ctx.init_zeros(y)?;
        let z = ctx.alloc_in::<u32, Cuda<'_>>(y.len())?;
        drop(ctx.init_from(z, x.view())?);
        let pool = stream.ctx().pool();
        // SAFETY: both closures are the pool's own functions.
        let closures = unsafe {
            ClosureAlloc::<Cuda<'_>, _, _>::new(
                |layout: Layout| -> Result<NonNull<u8>, AllocError> { pool.alloc(layout) },
                |ptr: NonNull<u8>, layout: Layout| pool.dealloc(ptr, layout),
            )
        };
        stream.ctx().with_device_alloc(&closures).zeros::<u32>(9).map(drop)
    }

    /// All ways to page-locked memory, of which there is none at first.
    fn pages(_, stream) {
        CudaBackend::PINNED.trim(0)?;
        let pinned = PinnedAlloc::<CudaBackend>::new();
        let pages = [
            Page::from_fn(3, |i| i as u32)?,
            Page::from_fn_in(3, |i| i as u32, pinned)?,
            Page::from_slice_in(&[0, 1, 2], pinned)?,
            Buffer::uninit_in(3, pinned)?.write_with(|i| i as u32),
        ];
        assert!(pages.iter().all(|page| page[..] == [0, 1, 2]));
        // The largest is locked by itself, whatever else there is.
        drop((pages, Page::<u8>::zeros(9 << 20)?, Page::<u8>::zeros_in(10, pinned)?));
        drop(stream.ctx().alloc_pinned::<u8>(2 << 20)?);
        CudaBackend::PINNED.trim(0)
    }

    fn looking_at_staged_memory(_, stream) {
        let ctx = stream.ctx();
        let mut page = Page::<u32>::from_slice(&[5, 6])?.stage(&ctx);
        ctx.clear(page.view_mut().slice(..1)?)?;
        let synced = stream.synchronize()?;
        assert_eq!(page.peek(&synced), [0, 6]);
        page.peek_mut(&synced)[0] = 1;
        Ok(())
    }

    /// The other Warps, and Append, with rows that join from plain host memory, and row numbers on
    /// the device.
    fn warps_and_append(_, stream) {
        let ctx = stream.ctx().with_pool();
        let (old, own) = (ctx.zeros::<u32>(48)?, Buffer::<u32, Host>::from_slice(&[7; 8])?);
        let mut batch = BatchCopy::new();
        let width = NonZero::new(8).unwrap();
        let order = Permutation::new(&[1, 6, 0], 6, 1)?;
        let numbers = DevicePermutation::upload(&ctx, order)?;
        let joining = ctx.zeros::<u32>(8)?;
        let [mut a, mut b, mut c, mut d, mut e] = [24, 15, 24, 24, 24].map(|len| ctx.zeros::<u32>(len));
        let places = [&mut a, &mut b, &mut c, &mut d, &mut e];
        let [a, b, c, d, e] = places.map(|place| place.as_mut().map_err(|error| *error));
        let (a, b, c, d, e) = (a?, b?, c?, d?, e?);
        let two = Permutation::new(&[1, 0], 6, 0)?;
        let two = DevicePermutation::upload(&ctx, two)?;
        let (mut offsets, mut sizes) = ([0; 4], [0; 3]);
        batch.scope(&ctx, |batch| {
            batch.group(|g| g.warp_join(old.view().rows(width)?, own.view().rows(width)?, order, a.view_mut().rows(width)?))?;
            batch.group(|g| {
                let rows = old.view().slice(..10)?.ragged(Offsets::new(&[0, 4, 10], "old")?)?;
                let joining = own.view().slice(..5)?.ragged(Offsets::new(&[0, 5], "joining")?)?;
                g.warp_ragged(rows, joining, Permutation::new(&[1, 2, 0], 2, 1)?, b.view_mut(), &mut offsets)
            })?;
            batch.group(|g| {
                let joining = own.view().slice(..5)?.ragged(Offsets::new(&[0, 5], "joining")?)?;
                let (history, tokens) = (old.view().slice(..16)?.rows(width)?, old.view().slice(16..18)?);
                let order = Permutation::new(&[1, 2, 0], 2, 1)?;
                g.append(history, &[3, 5], tokens, joining, order, c.view_mut().rows(width)?, &mut sizes)
            })?;
            batch.group(|g| {
                let rows = old.view().rows(width)?;
                g.warp_join_by(rows, joining.view().rows(width)?, numbers.numbers(), d.view_mut().rows(width)?)?;
                let (front, rest) = e.view_mut().split_at(16)?;
                g.warp_by(rows, two.numbers(), front.rows(width)?)?;
                g.copy_unmerged(old.view().slice(..8)?, rest)
            })
        })
    }

    /// The stream is opened with other options than the default, and used by others.
    fn a_stream_with_all_options(device, _) {
        let pool = Pool::Own { release_threshold: 1 << 20 };
        let options = StreamOptions::default().pool(pool).priority(-1).ring_bytes(1 << 16).max_deferred_frees(2);
        device.stream_with(&options, |mut stream, _| {
            let mut x = stream.ctx().with_pool().zeros::<u8>(50_000)?;
            stream.ctx().upload(&[1; 50_000], x.view_mut())?;
            assert!(!stream.ctx().raw_stream()?.is_null());
            drop(x);
            stream.trim(0).map(drop)
        })?
    }

    fn kernels_declared(device, stream) {
        let image = std::ffi::CString::new(PTX).unwrap();
        // SAFETY: it ends in a zero byte.
        let module = unsafe { Module::load_image(device, image.as_bytes_with_nul()) }?;
        // SAFETY: these are its parameters.
        let double = unsafe { module.function_declared("stand_in_double", &[8, 4]) }?;
        let ctx = stream.ctx();
        let mut x = ctx.with_pool().zeros::<u32>(3)?;
        // SAFETY: the kernel doubles the three elements and does nothing else.
        unsafe { ctx.launch_kernel((&double, Grid::over(3)), (x.view_mut(), 3_u32)) }
    }

    fn kernels(device, stream) {
        let module = Module::load(device, PTX)?;
        let double = module.function("stand_in_double")?;
        let ctx = stream.ctx();
        let mut x = ctx.with_pool().zeros::<u32>(3)?;
        // SAFETY: the kernel doubles the three elements and does nothing else.
        unsafe { ctx.launch_kernel((&double, Grid::over(3)), (x.view_mut(), 3_u32)) }?;
        // SAFETY: the kernel has been waited for, and its function is used no more.
        stream.synchronize().and_then(|_| unsafe { module.unload() })
    }

    /// What a refused table has taken comes back.
    fn tables(_, stream) {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.upload_new(&[1_u32, 2, 3, 4])?;
        drop(ctx.table(x.view_mut().chunks_exact(NonZero::new(2).unwrap()).zip(0_u8..))?);
        let (answer, back) = match ctx.table([x]) {
            Ok(table) => (Ok(()), table.into_owners()),
            Err(rejected) => (Err(rejected.error), rejected.value),
        };
        assert_eq!((back.len(), back[0].len()), (1, 4));
        answer
    }

    /// The region is made larger and smaller by explicit calls.
    fn an_arena_by_hand(_, stream) {
        let mut stack = Stack::new(stream.ctx().pool());
        stack.reserve(100)?;
        stack.reserve(10_000)?;
        drop(stream.ctx().with_device_alloc(&stack).zeros::<u8>(1000)?);
        stack.reset()?;
        stack.shrink_to(5000)?;
        stack.shrink_to(0)
    }

    /// Everything that a stream needs, and pinned memory for the program, before any work.
    fn a_warm_stream(device, _) {
        CudaBackend::PINNED.trim(0)?;
        CudaBackend::PINNED.reserve(5 << 20)?;
        let options = StreamOptions::default().warm(true).wait_for_memory(true);
        device.stream_with(&options, |stream, _| stream.ctx().with_pool().zeros::<u8>(8).map(drop))?
    }

    /// More than the device has: idle memory is freed, and the error says what there is.
    fn memory_that_is_not_there(_, stream) {
        let ctx = stream.ctx();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        for refused in [ctx.with_pool().alloc::<u8>(1 << 40).map(drop), sync.alloc::<u8>(1 << 40).map(drop)] {
            match refused {
                Err(Error::OutOfMemory { shortage: Some(_), .. }) => {}
                refused => return refused,
            }
        }
        assert!(Allocator::<Cuda<'_>>::shortage(&ctx.pool()).is_some());
        Ok(())
    }

    fn devices(_, _) {
        Device::count().map_err(Error::from)?;
        let device = Device::open(1).map_err(Error::from)?;
        device.stream(|stream, _| stream.ctx().with_pool().zeros::<u8>(8).map(drop))?
    }
}

/// A refused load of the copy kernels is reported, is no error, and leaves nothing. Each of its
/// calls also fails in the first batch of a context.
#[test]
fn the_copy_kernels() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    for name in ["cuCtxGetCurrent", "cuModuleLoadDataEx", "cuModuleGetFunction", "cuFuncGetParamInfo"] {
        for nth in [1, 2, 30] {
            control.reset();
            let device = fresh_device();
            control.fail(Fault { name, nth, onwards: false, releases: false, code: TRANSIENT });
            let answer = device.copy_kernels();
            let failed = control.disarm() >= nth;
            assert_eq!(matches!(answer, CopyKernels::Absent(_)), failed, "{name}, {nth}: {answer:?}");
            assert!(failed || answer == CopyKernels::Loaded, "{name}, {nth}: {answer:?}");
            let back = device.stream(|stream, _| get(&stream.ctx(), put(&stream.ctx(), &[9_u32]).view()));
            assert_eq!(back.unwrap(), [9]);
            control.report().assert_clean();
        }
    }
}

/// Memory on loan is waited for twice before the process is aborted, so that one failure does no
/// harm. A device that is permanently broken aborts the process: `tests/abort` and the contract
/// suite test that in processes of their own.
#[test]
fn host_memory_on_loan() {
    each_call_fails(Batching::Auto, &[], |_, stream| {
        let mut back = [0_u32; 4];
        stream.host_scope(|scope| {
            let ctx = scope.ctx().with_pool();
            let mut memory = ctx.zeros::<u32>(4)?;
            ctx.copy(scope.source(&[1, 2, 3, 4]), memory.view_mut())?;
            ctx.copy(memory.view(), scope.target(&mut back))
        })??;
        assert_eq!(back, [1, 2, 3, 4]);
        Ok(())
    });
}

/// The same for memory that is page-locked for the scope: an unlock that fails at first is tried
/// again.
#[test]
fn host_memory_page_locked() {
    each_call_fails(Batching::Auto, &[], |_, stream| {
        let (from, mut back) = (vec![1_u32; 4096], vec![0_u32; 4096]);
        let [first, place] = [&from, &back].map(|memory| memory.as_ptr().align_offset(4096));
        let (from, back) = (&from[first..first + 3000], &mut back[place..place + 3000]);
        stream.host_scope(|scope| {
            let ctx = scope.ctx().with_pool();
            let mut memory = ctx.zeros::<u32>(3000)?;
            ctx.copy(scope.register(from)?, memory.view_mut())?;
            ctx.copy(memory.view(), scope.register_mut(&mut *back)?)
        })??;
        assert_eq!(*back, [1; 3000]);
        Ok(())
    });
}

/// The same for a file that is page-locked while it is loaded.
#[test]
fn a_page_locked_file() {
    each_call_fails(Batching::Auto, &[], |_, stream| {
        let bytes = PagedFile::default();
        let file = File::new(bytes.bytes()).unwrap();
        let map = file.load().registered(stream).map_err(inside)?;
        let numbers = stream.read(map.get::<u32, Cuda<'_>, 1>("a").unwrap().contiguous()?)?;
        assert!(numbers.into_iter().eq(0..1000));
        Ok(())
    });
}

/// More copies than fit into one call of the driver, with a source in plain host memory at the end:
/// some are enqueued when one fails.
#[test]
fn batching_in_chunks() {
    each_call_fails(Batching::Driver, &[], |_, stream| {
        let ctx = stream.ctx().with_pool();
        let (source, mut target) = (ctx.zeros::<u32>(10_000)?, ctx.zeros::<u32>(10_000)?);
        let (own, mut place) = (Buffer::<u32, Host>::from_slice(&[5, 6])?, ctx.zeros::<u32>(2)?);
        BatchCopy::new().scope(&ctx, |batch| {
            every_second(batch, source.view(), target.view_mut())?;
            batch.copy(own.view(), place.view_mut())
        })
    });
}

/// As many batches, each of 1500 copies of different lengths, which are too many for the parameters
/// of one launch.
fn by_tables(stream: &Stream<Cuda<'_>>, batches: usize) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let (source, mut target) = (ctx.zeros::<u32>(6000)?, ctx.zeros::<u32>(6000)?);
    let (four, mut batch) = (NonZero::new(4).unwrap(), BatchCopy::new());
    for _ in 0..batches {
        batch.scope(&ctx, |batch| {
            let pieces = source.view().chunks_exact(four).zip(target.view_mut().chunks_exact(four)).enumerate();
            for (i, (from, to)) in pieces {
                batch.copy(from.slice(..1 + i % 2)?, to.slice(..1 + i % 2)?)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn the_first_batch_by_a_table() {
    each_call_fails(Batching::Auto, &[], |_, stream| by_tables(stream, 1));
}

/// Where the first quarter of the ring of tables ends, and an event is created and recorded.
#[test]
fn a_quarter_of_the_tables() {
    each_call_fails_after(|_, stream| by_tables(stream, 7), Batching::Auto, &[], |_, stream| by_tables(stream, 2));
}

/// Where the ring ends, and an event is waited for and recorded again.
#[test]
fn all_of_the_tables() {
    each_call_fails_after(|_, stream| by_tables(stream, 31), Batching::Auto, &[], |_, stream| by_tables(stream, 2));
}

const PTX: &str = ".version 7.0\n.visible .entry stand_in_double(.param .u64 x, .param .u32 n)";

unsafe extern "C" fn double(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the parameters are registered as an address and a number of four bytes.
    let elements = unsafe { launch.slice::<u32>(0, launch.value::<u32>(1) as usize) };
    elements.map_or(700, |elements| {
        elements.iter_mut().for_each(|element| *element *= 2);
        0
    })
}
