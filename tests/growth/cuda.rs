//! What only CUDA has, on the stand-in: contexts, modules, kernels, and the routes of a batch.

use std::{
    num::NonZero,
    ptr::{self, NonNull},
    sync::Arc,
};

use cudarc::driver::{CudaContext, CudaStream, DevicePtr, sys};
use tidelock::{
    BatchCopy, Error, Result, Stream,
    cuda::{self, Batching, ConsumerStream, CopyKernels, Cuda, CudaBackend, Device, Event, Grid, Module},
    stream::{Env, Lane, Shared, StreamOptions},
};
use tidelock_test_support::stand_in::{Control, Launch};

use super::{
    operations,
    sim::pinned,
    watch::{Objects, Place, Watch},
};

/// The public functions called here.
pub const COVERED: &[&str] = &[
    "Ctx::launch_kernel",
    "Shared::from_raw_detached",
    "cuda::Bridge::read",
    "cuda::Bridge::stream",
    "cuda::Bridge::write",
    "cuda::Ctx::raw_stream",
    "cuda::Ctx::to_cudarc",
    "cuda::CudaStream::drop",
    "cuda::Device::adopt",
    "cuda::Device::adopt_with",
    "cuda::Device::calibrate",
    "cuda::Device::copy_kernels",
    "cuda::Device::count",
    "cuda::Device::from_cudarc",
    "cuda::Device::open",
    "cuda::Device::stream",
    "cuda::Device::stream_with",
    "cuda::Module::function",
    "cuda::Module::function_declared",
    "cuda::Module::load",
    "cuda::Module::load_image",
    "cuda::Module::unload",
    "cuda::Shared::from_cudarc",
    "cuda::export_tensor",
];

impl Place for Device {
    type Family = CudaBackend;
    type At<'s> = Cuda<'s>;
    // More than fits into the parameters of a copy kernel.
    const LONGEST: usize = 600;

    fn open<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Cuda<'s>>, Env<'s, 'env, Cuda<'s>>) -> R,
    ) -> Result<R> {
        self.stream_with(options, f)
    }

    fn lane_with(&self, options: &StreamOptions) -> Result<Lane<CudaBackend>> {
        if *options == StreamOptions::default() { self.lane() } else { self.lane_with(options) }
    }

    fn enter<R>(lane: &mut Lane<CudaBackend>, f: impl for<'s> FnOnce(Stream<Cuda<'s>>) -> R) -> Result<R> {
        lane.enter(|stream, _env| f(stream))
    }
}

/// The live objects of the driver and of the pinned pool.
pub fn objects(control: &Control) -> Objects {
    let report = control.report();
    let mut objects: Objects = report.live;
    objects.insert("findings".to_owned(), report.findings.len());
    objects.insert("broken devices".to_owned(), report.sticky.len());
    objects.extend(pinned::<CudaBackend>());
    objects
}

/// A context of the first device that is not its primary one.
fn context() -> Arc<CudaContext> {
    let mut context = ptr::null_mut();
    // SAFETY: the driver is there, and the place is valid for a write.
    assert_eq!(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) }, sys::CUresult::CUDA_SUCCESS);
    // SAFETY: the context was just created for device 0, and is given away.
    let context = unsafe { CudaContext::from_raw_context(0, 0, context) }.unwrap();
    // SAFETY: no context is one that can be current.
    assert_eq!(unsafe { sys::cuCtxSetCurrent(ptr::null_mut()) }, sys::CUresult::CUDA_SUCCESS);
    context
}

/// Devices, and what belongs to their contexts.
pub fn contexts(watch: &Watch<'_>, turns: usize) {
    watch.steady("devices opened", turns, || {
        Device::count().map_err(Error::from)?;
        let device = Device::open(0).map_err(Error::from)?;
        assert_eq!(device.copy_kernels(), CopyKernels::Loaded);
        Ok(())
    });
    let theirs = context();
    watch.steady("a context adopted again and again", turns, || {
        let device = Device::from_cudarc(&theirs).map_err(Error::from)?.with_batching(Batching::Driver);
        device.stream(|mut stream, _| operations::some(&mut stream, &device))?
    });
    // The copy kernels are loaded and unloaded in each turn.
    watch.steady("kernels of a context adopted again and again", turns / 25, || {
        let device = Device::from_cudarc(&theirs).map_err(Error::from)?;
        assert_eq!(device.copy_kernels(), CopyKernels::Loaded);
        Ok(())
    });
    let adopted = Device::from_cudarc(&theirs).unwrap();
    watch.steady("streams of an adopted context", turns, || {
        adopted.stream(|mut stream, _| operations::some(&mut stream, &adopted))?
    });
    watch.steady("the adopted context beside its device", turns, || {
        let again = Device::from_cudarc(&theirs).map_err(Error::from)?;
        again.stream(|mut stream, _| operations::some(&mut stream, &again))?
    });
    let stream = theirs.new_stream().unwrap();
    watch.steady("memory and streams of cudarc", turns, || elsewhere(&theirs, &stream, &adopted));
    adopted.calibrate().unwrap();
    watch.steady("calibration", turns, || adopted.calibrate().map(drop));
    drop(adopted);
    watch.steady("contexts that come and go", turns, || {
        let device = Device::from_cudarc(&context()).map_err(Error::from)?.with_batching(Batching::Driver);
        device.stream(|mut stream, _| operations::some(&mut stream, &device))?
    });
    watch.steady("kernels of contexts that come and go", turns / 25, || {
        let device = Device::from_cudarc(&context()).map_err(Error::from)?;
        device.stream(|mut stream, _| operations::some(&mut stream, &device))?
    });
    let own = Device::open(0).unwrap();
    own.calibrate().unwrap();
    watch.steady("calibration of the crate's own context", turns, || own.calibrate().map(drop));
}

/// A stream of cudarc that is adopted, memory of cudarc that is shared, and views that it copies.
fn elsewhere(theirs: &Arc<CudaContext>, stream: &Arc<CudaStream>, device: &Device) -> Result<()> {
    let (slice, more) = (stream.alloc_zeros::<u32>(64).unwrap(), stream.alloc_zeros::<u32>(64).unwrap());
    let ptr = {
        let (address, _guard) = more.device_ptr(stream);
        NonNull::new(ptr::with_exposed_provenance_mut::<u32>(address.try_into().unwrap())).unwrap()
    };
    let ready = stream.record_event(None).unwrap();
    let event = Event::from_raw(ready.cu_event().cast());
    // SAFETY: the stream outlives the lane, and nothing captures it.
    drop(unsafe { device.adopt(stream.cu_stream().cast()) }?);
    // SAFETY: as above.
    let mut lane = unsafe { device.adopt_with(stream.cu_stream().cast(), &StreamOptions::default()) }?;
    // SAFETY: cudarc records the work on the slice.
    let taken = unsafe { Shared::from_cudarc(device, slice) }.map_err(|refused| refused.error)?;
    // SAFETY: the owner has the memory, written before the event.
    let shared = unsafe { Shared::<u32, _>::from_raw_detached(device, ptr, 64, event, more) }
        .map_err(|refused| refused.error)?;
    let stream_of_cudarc = stream.cu_stream().cast();
    lane.enter(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let (taken, shared) = (ctx.attach(taken)?, ctx.attach(shared)?);
        let mut x = ctx.init_from(ctx.alloc(64)?, taken.view())?;
        ctx.copy(shared.view(), x.view_mut())?;
        // SAFETY: nothing captures the stream, and what cudarc has of it is dropped here.
        let bridge = unsafe { ctx.to_cudarc(theirs) }?;
        let mut copied = bridge.stream().alloc_zeros::<u32>(64).unwrap();
        bridge.stream().memcpy_dtod(&bridge.read(shared.view()), &mut copied).unwrap();
        bridge.stream().memcpy_dtod(&copied, &mut bridge.write(x.view_mut())).unwrap();
        let tensor = ctx.detach(x.share())?.tensor([8, 8])?.any();
        let consumer = ConsumerStream::from_raw(stream_of_cudarc).unwrap();
        // SAFETY: the stream outlives the tensor, which nothing uses.
        drop(unsafe { cuda::export_tensor(tensor, Some(consumer)) }.map_err(|refused| refused.error)?);
        Ok(())
    })?
}

const PTX: &str = ".version 7.0\n.visible .entry stand_in_nothing(.param .u64 x, .param .u32 n)\0";

unsafe extern "C" fn nothing(_: *const Launch) -> u32 {
    0
}

/// Modules that are loaded and unloaded, and kernels.
pub fn modules(watch: &Watch<'_>, control: &Control, device: &Device, turns: usize) {
    // SAFETY: it touches nothing.
    unsafe { control.register("stand_in_nothing", &[8, 4], nothing) };
    let text = &PTX[..PTX.len() - 1];
    device
        .stream(|mut stream, _| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(3).unwrap();
            watch.steady("modules", turns, || {
                let module = Module::load(device, text).map_err(Error::from)?;
                let kernel = module.function("stand_in_nothing")?;
                // SAFETY: it touches nothing.
                unsafe { stream.ctx().launch_kernel((&kernel, Grid::over(3)), (x.view_mut(), 3_u32)) }?;
                stream.ctx().raw_stream()?;
                stream.synchronize().map(drop)?;
                // SAFETY: the kernel has been waited for, and its function is used no more.
                unsafe { module.unload() }?;
                // SAFETY: the image is text that ends in a zero byte.
                let module = unsafe { Module::load_image(device, PTX.as_bytes()) }.map_err(Error::from)?;
                // SAFETY: these are its parameters.
                drop(unsafe { module.function_declared("stand_in_nothing", &[8, 4]) }?);
                // SAFETY: nothing of it was launched.
                unsafe { module.unload() }
            });
            watch.steady("code that is refused", turns, || {
                assert!(Module::load(device, "nothing").is_err());
                Ok(())
            });
        })
        .unwrap();
}

/// Batches by every route: tables, graphs, parts, the driver's batches, single copies.
pub fn batches(watch: &Watch<'_>, device: &Device, turns: usize) {
    for batching in [Batching::Auto, Batching::Driver, Batching::Loop] {
        let device = device.clone().with_batching(batching);
        device
            .stream(|mut stream, _| {
                let ctx = stream.ctx().with_pool();
                let (source, mut target) = (ctx.zeros::<u32>(6000).unwrap(), ctx.zeros::<u32>(6000).unwrap());
                let (four, mut batch) = (NonZero::new(4).unwrap(), BatchCopy::new());
                let mut at = 0;
                watch.steady(&format!("batches, {batching:?}"), turns, || {
                    // A few copies, enough for a table, and a different number in each turn.
                    at += 1;
                    let count = if at % 4 == 0 { 1500 } else { 2 + at % 7 };
                    let ctx = stream.ctx();
                    batch.scope(&ctx, |batch| {
                        let pieces = source.view().chunks_exact(four).zip(target.view_mut().chunks_exact(four));
                        for (i, (from, to)) in pieces.take(count).enumerate() {
                            batch.copy(from.slice(..1 + i % 2)?, to.slice(..1 + i % 2)?)?;
                        }
                        Ok(())
                    })?;
                    if at % 2 == 0 { stream.synchronize().map(drop) } else { Ok(()) }
                });
            })
            .unwrap();
    }
}
