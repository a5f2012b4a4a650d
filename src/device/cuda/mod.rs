//! NVIDIA GPUs, through the CUDA driver that is found at run time.
//!
//! [`Device::open`] finds the driver and checks that it has every function that is needed. If one
//! is missing, or there is no GPU, it returns an error that says so. Nothing panics, and a program
//! with this module builds and starts anywhere.
//!
//! Each operation of a stream is one driver call, as this table lists. It tracks nothing, and does
//! not look up the current context.
//!
//! | operation | driver calls |
//! |---|---|
//! | `copy`, `init_from`; `clear`, `init_zeros` | `cuMemcpyAsync`; `cuMemsetD8Async` |
//! | allocate from the pool; free | `cuMemAllocFromPoolAsync`; `cuMemFreeAsync`; as below on a device without pools |
//! | allocate with `sync_alloc`; free | `cuMemAlloc`; `cuMemFree`, deferred |
//! | an allocation for which there is no memory | `cuStreamQuery`, `cuMemFree` for what has waited, `cuStreamSynchronize` if the stream is idle, `cuMemPoolTrimTo`, and the allocation again; for the error `cuMemGetInfo` and `cuMemPoolGetAttribute` twice |
//! | `upload`, for each quarter of the ring | `cuMemcpyAsync`; where a quarter is left also `cuEventRecord`, and `cuEventSynchronize` if the ring is full |
//! | a batch scope | `cuLaunchKernelEx`, for thousands of copies each; else `cuMemcpyBatchAsync`; see [`Batching`] |
//! | `launch` | `cuLaunchKernel` |
//! | `fence`; `wait`; `is_ready` | `cuEventRecord`; `cuEventSynchronize`; `cuEventQuery` |
//! | `mark`, `elapsed_since`; `is_ready`; `wait` | `cuEventRecord`; `cuEventQuery`; `cuEventSynchronize` unless the point was seen to be passed, and `cuEventElapsedTime` |
//! | a free beyond the limit of deferred frees | `cuStreamQuery`; `cuStreamSynchronize` if the stream is busy |
//! | `register`; the end of its scope | `cuMemHostRegister`; `cuMemHostUnregister` for each |
//! | `synchronize`; `is_idle`; `trim` | `cuStreamSynchronize`; `cuStreamQuery`; `cuStreamSynchronize` and `cuMemPoolTrimTo` |
//!
//! A copy makes five calls while the context of *another* device is current on the thread, as when
//! streams of several devices are nested: the driver refuses its first call. A thread for each
//! device is faster.
//!
//! Calls that are not on a stream (`cuMemAlloc`, `cuMemFree`, `cuEventCreate`, `cuMemHostAlloc`,
//! `cuMemHostRegister`, `cuMemGetInfo`, loading a module) run in the device's context and leave the
//! thread's current context as it was: `cuCtxGetCurrent`, and `cuCtxSetCurrent` twice if another
//! context is current. A stream creates eight events when it opens, in one visit to the context,
//! and eight more whenever all are in use. Events are reused.
//! Events that take the time (`mark`) are created one by one, as many as are in use at once.
//!
//! ```
//! use tidelock::cuda;
//!
//! match cuda::Device::open(0) {
//!     Err(reason) => println!("no GPU here: {reason}"),
//!     Ok(device) => {
//!         let sum = device.stream(|mut stream, _env| {
//!             let ctx = stream.ctx().with_pool();
//!             let mut x = ctx.zeros::<u32>(3)?;
//!             ctx.upload(&[1, 2, 3], x.view_mut())?;
//!             let out = ctx.init_from(ctx.alloc_pinned(3)?.stage(&ctx), x.view())?;
//!             Ok::<u32, tidelock::Error>(out.peek(&stream.synchronize()?).iter().sum())
//!         })??;
//!         assert_eq!(sum, 6);
//!     }
//! }
//! # Ok::<(), tidelock::Error>(())
//! ```
//!
//! # Beside cudarc
//!
//! - [`Device::from_cudarc`] makes a device of a cudarc context.
//! - [`Ctx::to_cudarc`](crate::Ctx::to_cudarc) makes a stream of cudarc of a stream, for cuBLAS and
//!   NCCL handles and cudarc's copies, which take views of the [`Bridge`]. `examples/cublas_gemm.rs`
//!   runs a GEMM between two steps of this library.
//! - [`KernelPtr`] makes a view an argument of cudarc's launch builder.
//! - [`Shared::from_cudarc`](crate::stream::Shared::from_cudarc) makes a `CudaSlice` shared memory.
//!   Memory is given to cudarc with [`Buffer::into_raw_parts`](crate::Buffer::into_raw_parts) and
//!   `upgrade_device_ptr`.
//!
//! ```no_run
//! use cudarc::driver::{CudaContext, CudaFunction, LaunchConfig, PushKernelArg};
//! use std::{error::Error, sync::Arc};
//! use tidelock::cuda;
//!
//! fn double(theirs: &Arc<CudaContext>, kernel: &CudaFunction) -> Result<(), Box<dyn Error>> {
//!     cuda::Device::from_cudarc(theirs)?.stream(|stream, _env| {
//!         let ctx = stream.ctx().with_pool();
//!         let mut x = ctx.zeros::<f32>(1024)?;
//!         // SAFETY: nothing keeps the stream of the bridge, and nothing captures it.
//!         let bridge = unsafe { ctx.to_cudarc(theirs) }?;
//!         bridge.stream().memcpy_htod(&[1.0; 1024], &mut bridge.write(x.view_mut()))?;
//!         let (x, n) = (cuda::KernelPtr::from(x.view_mut()), 1024_u32);
//!         let mut launch = bridge.stream().launch_builder(kernel);
//!         launch.arg(&x).arg(&n);
//!         // SAFETY: the kernel writes the 1024 elements of `x` and nothing else.
//!         unsafe { launch.launch(LaunchConfig::for_num_elems(1024)) }?;
//!         Ok(())
//!     })?
//! }
//! ```

mod adopt;
mod bench;
mod bridge;
mod calibrate;
mod context;
mod copy;
mod copy_tuning;
#[cfg(any(test, tidelock_declarations))]
mod declarations;
mod device;
#[cfg(feature = "dlpack")]
mod dlpack;
mod driver;
mod error;
mod event;
mod free_behind;
mod handle;
mod image;
mod interop;
mod kernels;
mod launch;
mod library;
mod module;
mod pool;
mod shared;
mod stream;
mod stream_calls;

use core::{
    ffi::{c_int, c_uint},
    fmt, ptr,
};
use std::sync::{Arc, OnceLock};

#[cfg(feature = "dlpack")]
pub use self::dlpack::{ConsumerStream, export_tensor};
pub use self::{
    bridge::{Bridge, BridgeView, BridgeViewMut},
    copy_tuning::CopyTuning,
    driver::REQUIRED_SYMBOLS,
    error::{ModuleError, NoCopyKernels, OpenError},
    event::Event,
    interop::KernelPtr,
    launch::Grid,
    module::{Function, Module},
    stream::CudaStream,
};
use self::{
    context::{Context, given},
    driver::{Driver, check},
    free_behind::FreeStream,
    shared::Shared,
};
use crate::{
    error::Result,
    stream::{Env, Lane, On, Stream, StreamOptions},
};

/// The memory of one CUDA stream, branded with `'s`.
pub type Cuda<'s> = On<'s, CudaBackend>;

/// The family of CUDA devices: names their pinned memory,
/// [`Pinned<CudaBackend>`](crate::location::Pinned).
///
/// Pinned memory can be allocated once a device is open, and all devices can use it.
#[derive(Clone, Copy, Debug)]
pub enum CudaBackend {}

/// A CUDA device: a context of the driver.
///
/// Clones, and devices opened with the same ordinal, are the same device. Its primary context, once
/// retained, lives to the end of the process, so nothing that was allocated in it can outlive it.
///
/// All devices of a context share what the library keeps for it: the copy kernels, the numbers of
/// [`calibrate`](Device::calibrate), and the count of leaked bytes. For an adopted context
/// ([`from_cudarc`](Device::from_cudarc)) this is released with the last device, stream and detached
/// memory.
#[derive(Clone)]
pub struct Device {
    context: Context,
    /// The `CUdevice`.
    raw: c_int,
    ordinal: usize,
    compute_capability: (u32, u32),
    /// Whether it has memory pools.
    pools: bool,
    batching: Batching,
    copy_tuning: CopyTuning,
    /// What frees memory that belongs to no stream. Dropped before the context may go.
    free_stream: Arc<FreeStream>,
    /// The state that all handles of the context share. It keeps an adopted context alive.
    shared: Arc<Shared>,
}

/// How the batches of a device's streams are carried out, where there is a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Batching {
    /// A kernel of this crate carries out two or more copies, from compute capability 8.0 and a
    /// driver of CUDA 12.1 on. The driver carries out long copies over PCIe, and copies of more
    /// than 256 MiB, one by one. The kernel takes sources in plain host memory too if they have few
    /// bytes ([`CopyTuning::staged`]).
    ///
    /// All other copies go through `cuMemcpyBatchAsync` where the driver has it (from CUDA 12.8
    /// on), but not on devices of compute capability 10 and above, where large or repeated batches
    /// are reported to crash.
    ///
    /// The first such batch in a context loads the kernel. The driver compiles it once, for a
    /// second or so, and then keeps it on disk. Where it cannot be loaded, as
    /// [`Device::copy_kernels`] reports, the driver carries out these copies too.
    #[default]
    Auto,
    /// `cuMemcpyBatchAsync` where the driver has it, whatever the device.
    Driver,
    /// One `cuMemcpyAsync` for each copy. A batch that reads plain host memory waits for the stream
    /// before it returns.
    Loop,
}

/// Whether the batches of a device's streams are carried out by this crate's copy kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyKernels {
    /// They are loaded.
    Loaded,
    /// [`Device::with_batching`] chose another way.
    TurnedOff,
    /// They cannot be loaded. The driver's copy calls carry out batches: slower, with the same
    /// result.
    Absent(NoCopyKernels),
}

impl Device {
    /// Opens the device with `ordinal`, as the driver counts them.
    ///
    /// Cost: the first call of the process loads the driver, and the first for a device makes its
    /// context, which takes a part of a second; later ones are a few driver calls.
    ///
    /// # Errors
    /// [`OpenError`] says what is missing. It never panics.
    #[inline]
    pub fn open(ordinal: usize) -> Result<Device, OpenError> {
        let count = Device::count_for(ordinal)?;
        let driver = Driver::load()?;
        let index = c_int::try_from(ordinal).ok().filter(|_| ordinal < count);
        let index = index.ok_or(OpenError::NoSuchDevice { ordinal, count })?;
        let mut raw = 0;
        // SAFETY:
        // - `raw` is valid for a write.
        check("cuDeviceGet", unsafe { (driver.table.device_get)(&mut raw, index) })?;
        let (compute_capability, pools) = supported(driver, raw, ordinal)?;
        let mut context = ptr::null_mut();
        // SAFETY:
        // - `context` is valid for a write.
        check("cuDevicePrimaryCtxRetain", unsafe { (driver.table.primary_ctx_retain)(&mut context, raw) })?;
        // SAFETY:
        // - The primary context was just retained, and is never released.
        let context = unsafe { Context::new(driver, given("cuDevicePrimaryCtxRetain", context)?) };
        // The first device's context is where pinned memory is registered.
        let _ = PINNING.set(context);
        let shared = Shared::kept(context);
        Ok(Device {
            context,
            raw,
            ordinal,
            compute_capability,
            pools,
            batching: Batching::Auto,
            copy_tuning: CopyTuning::default(),
            free_stream: shared.free_stream(),
            shared,
        })
    }

    /// How many devices the driver sees.
    ///
    /// # Errors
    /// As for [`open`](Device::open), except that having no devices is no error.
    #[inline]
    pub fn count() -> Result<usize, OpenError> {
        match Device::count_for(0) {
            Err(OpenError::NoSuchDevice { .. }) => Ok(0),
            answer => answer,
        }
    }

    fn count_for(ordinal: usize) -> Result<usize, OpenError> {
        let driver = match Driver::load() {
            Err(OpenError::NoSuchDevice { count, .. }) => return Err(OpenError::NoSuchDevice { ordinal, count }),
            answer => answer?,
        };
        let mut count = 0;
        // SAFETY:
        // - `count` is valid for a write.
        check("cuDeviceGetCount", unsafe { (driver.table.device_get_count)(&mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The ordinal the device was opened with, for messages; it is not the device's identity.
    #[inline]
    #[must_use]
    pub const fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// The compute capability, major and minor.
    #[inline]
    #[must_use]
    pub const fn compute_capability(&self) -> (u32, u32) {
        self.compute_capability
    }

    /// Whether the device has memory pools. Virtual GPUs and those of Windows in TCC mode may have
    /// none.
    ///
    /// Without them a stream allocates with `cuMemAlloc`, for which the driver may wait for the
    /// device, and memory is freed with `cuMemFree` once the stream is seen to have passed its last
    /// use. [`Pool`](crate::driver::Pool) then has no effect.
    #[inline]
    #[must_use]
    pub const fn has_memory_pools(&self) -> bool {
        self.pools
    }

    /// Carries out the batches of streams opened from now on as `batching` says.
    #[inline]
    #[must_use]
    pub fn with_batching(mut self, batching: Batching) -> Self {
        self.batching = batching;
        self
    }

    /// Carries out the batches of streams opened from now on with other tuning than that of an
    /// H200.
    #[inline]
    #[must_use]
    pub fn with_copy_tuning(mut self, copy_tuning: CopyTuning) -> Self {
        self.copy_tuning = copy_tuning;
        self
    }

    /// The copy tuning of streams opened from now on.
    #[inline]
    #[must_use]
    pub const fn copy_tuning(&self) -> CopyTuning {
        self.copy_tuning
    }

    /// Whether the copy kernels carry out batches, and if not, why. A fallback is no error, so this
    /// is how to find out.
    ///
    /// Cost: the first call for a context, or its first batch, loads the kernels as
    /// [`Batching::Auto`] says; later ones make no driver call.
    #[inline]
    #[must_use]
    pub fn copy_kernels(&self) -> CopyKernels {
        if self.batching != Batching::Auto {
            return CopyKernels::TurnedOff;
        }
        match self.shared.kernels(self.compute_capability) {
            Ok(_) => CopyKernels::Loaded,
            Err(reason) => CopyKernels::Absent(reason),
        }
    }

    /// Opens a stream with the default options, runs `f` with it, waits for it and destroys it,
    /// also if `f` panics.
    ///
    /// Nothing branded with `'s` can leave `f`; `env` admits borrowed data that outlives the
    /// stream.
    ///
    /// # Errors
    /// If the stream cannot be opened, or cannot be waited for at the end; what it may still be
    /// using is then leaked.
    ///
    /// # Aborts
    /// If host memory is on loan through `env` and the stream cannot be waited for (rule R12).
    #[inline]
    pub fn stream<'env, R>(
        &'env self,
        f: impl for<'s> FnOnce(Stream<Cuda<'s>>, Env<'s, 'env, Cuda<'s>>) -> R,
    ) -> Result<R> {
        self.stream_with(&StreamOptions::default(), f)
    }

    /// As [`stream`](Device::stream), with `options`.
    ///
    /// # Errors
    /// As for [`stream`](Device::stream).
    ///
    /// # Aborts
    /// As for [`stream`](Device::stream).
    #[inline]
    pub fn stream_with<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Cuda<'s>>, Env<'s, 'env, Cuda<'s>>) -> R,
    ) -> Result<R> {
        crate::Device::stream_with(self, options, f)
    }

    /// Opens a stream with the default options that lives in an object: see [`Lane`].
    ///
    /// # Errors
    /// If the stream cannot be opened.
    #[inline]
    pub fn lane(&self) -> Result<Lane<CudaBackend>> {
        self.lane_with(&StreamOptions::default())
    }

    /// As [`lane`](Device::lane), with `options`.
    ///
    /// # Errors
    /// As for [`lane`](Device::lane).
    #[inline]
    pub fn lane_with(&self, options: &StreamOptions) -> Result<Lane<CudaBackend>> {
        crate::Device::lane_with(self, options)
    }
}

/// The context in which pinned memory is registered: it lives to the end of the process.
static PINNING: OnceLock<Context> = OnceLock::new();

/// `CU_MEMHOSTALLOC_PORTABLE`: "The memory returned by this call will be considered as pinned
/// memory by all CUDA contexts".
const PORTABLE: c_uint = 1;
/// `CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING`.
const UNIFIED_ADDRESSING: c_uint = 41;
/// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR` and `_MINOR`.
const CAPABILITY: [c_uint; 2] = [75, 76];
/// `CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED`.
const MEMORY_POOLS: c_uint = 115;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::{declarations::same_number, *};

    same_number!(UNIFIED_ADDRESSING, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING);
    same_number!(CAPABILITY[0], CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    same_number!(CAPABILITY[1], CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    same_number!(MEMORY_POOLS, CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED);
}

/// The compute capability of a device, and whether it has memory pools; an error if it lacks a
/// feature that this crate needs.
fn supported(driver: &Driver, raw: c_int, ordinal: usize) -> Result<((u32, u32), bool), OpenError> {
    let attribute = |attribute| {
        let mut value = 0;
        // SAFETY:
        // - `value` is valid for a write.
        let answer = unsafe { (driver.table.device_get_attribute)(&mut value, attribute, raw) };
        check("cuDeviceGetAttribute", answer).map(|()| u32::try_from(value).unwrap_or(0))
    };
    if attribute(UNIFIED_ADDRESSING)? == 0 {
        return Err(OpenError::Unsupported { ordinal, feature: "unified addressing" });
    }
    let pools = attribute(MEMORY_POOLS)? != 0;
    let [major, minor] = CAPABILITY;
    Ok(((attribute(major)?, attribute(minor)?), pools))
}

impl PartialEq for Device {
    /// Whether they are the same device: the same context.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.context == other.context
    }
}
impl Eq for Device {}

impl fmt::Debug for Device {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Device");
        out.field("ordinal", &self.ordinal).field("compute_capability", &self.compute_capability);
        out.field("batching", &self.batching).finish_non_exhaustive()
    }
}
