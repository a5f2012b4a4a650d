//! Carries out the batches of one stream: [`BatchLauncher::route`] decides how, and
//! [`BatchLauncher::run`] does it.

use core::{cell::RefCell, fmt};
use std::sync::Arc;

use tidelock_driver::{Code, CopyBatch, DriverError, GatherScratch, StridedCopies, StridedCopy};

use super::{
    launches::Launches,
    lazy::Lazy,
    memcpy::{CopyCall, Failure},
    memcpy_routing::MemcpyRouting,
    payload::Payload,
    remaining::Launch,
    staging::{Staging, takes},
    strided::{BlockStaging, StridedLaunches, WholeBlocks},
};
use crate::device::cuda::{Batching, CudaBackend, Device, NoCopyKernels, stream_calls::StreamCalls};

/// Carries out the batches of one stream. It allocates nothing before its first batch.
pub(in super::super) struct BatchLauncher {
    device: Device,
    state: RefCell<Lazy<Working>>,
    scratch: GatherScratch,
}

/// The state of a stream's launches. There is none if the copy kernels cannot be loaded.
struct Working {
    launches: Launches<CudaBackend>,
    strided: StridedLaunches,
    block_staging: Lazy<BlockStaging>,
    staging: Option<Staging<CudaBackend>>,
}

/// What carries out a batch.
enum Route<'s> {
    /// One launch, which the parameters describe already. The bytes in plain host memory are among
    /// the parameters.
    OneLaunch(&'s mut Launches<CudaBackend>, Launch),
    /// Launches that read from these sources. What was in plain host memory has been copied to
    /// page-locked memory.
    Staged(&'s mut Launches<CudaBackend>, &'s [*const u8]),
    /// Launches for what is read in stream order, and the driver's copy calls for the rest.
    InOrder(&'s mut Launches<CudaBackend>),
    /// The driver's copy calls.
    Driver,
}

impl BatchLauncher {
    pub(in super::super) fn new(device: Device) -> BatchLauncher {
        BatchLauncher { device, state: RefCell::default(), scratch: GatherScratch::default() }
    }

    /// Enqueues all of `copies`; if it fails, some of them may have been enqueued.
    ///
    /// # Safety
    /// As for `RawStream::batch`; after [`Failure::Unsettled`] the caller keeps sources in plain
    /// host memory valid and unchanged until the stream has passed. `stream` is the same at each
    /// call, of the device that this was made for.
    pub(in super::super) unsafe fn run(&self, stream: &StreamCalls, copies: CopyBatch<'_>) -> Result<(), Failure> {
        if copies.strided.is_empty() {
            // SAFETY:
            // - The caller keeps the same contract.
            return unsafe { self.run_flat(stream, copies) };
        }
        let mut rest = copies.strided;
        while !rest.is_empty() {
            // SAFETY:
            // - The caller keeps the contract for these copies.
            let done = unsafe { self.run_strided(stream, rest) }?;
            rest = rest.behind(done).unwrap_or_default();
            let Some((first, behind)) = rest.split_first() else { break };
            rest = behind;
            self.scratch.with_runs(&CopyBatch::default().with_strided(first), |copies| {
                // SAFETY:
                // - The caller keeps the contract; the strided copy was written out as the runs that
                //   it is.
                unsafe { self.run_flat(stream, *copies) }
            })?;
        }
        // SAFETY:
        // - The caller keeps the contract for what is left.
        unsafe { self.run_flat(stream, copies.with_strided(StridedCopies::NONE)) }
    }

    /// Enqueues the first of `copies`: those that the kernels take. Returns how many there are.
    ///
    /// # Safety
    /// As for [`run`](BatchLauncher::run).
    unsafe fn run_strided(&self, stream: &StreamCalls, copies: StridedCopies<'_>) -> Result<usize, Failure> {
        let mut state = self.state.try_borrow_mut().map_err(|_| NESTED)?;
        if self.device.batching != Batching::Auto {
            return Ok(0);
        }
        let Some(working) = self.working(&mut state) else { return Ok(0) };
        if let Some((first, numbers)) = copies.iter().next()
            && let Some(blocks) = WholeBlocks::of(first, numbers).filter(|_| stream.pool.is_some())
            && let Some(staging) = working.block_staging.get_or_make(|| BlockStaging::new(stream))
        {
            // SAFETY:
            // - The caller keeps the contract for these copies.
            let cross = |stream: &StreamCalls, copies: &CopyBatch<'_>| unsafe { self.copy_by_driver(stream, copies) };
            // SAFETY:
            // - The caller keeps the contract. The stream has a pool.
            if unsafe { staging.run(stream, &mut working.strided, &blocks, cross) }? {
                return Ok(1);
            }
        }
        let long = self.device.copy_tuning.copy_engine;
        let is_taken = |copy: &StridedCopy| {
            // Long runs over PCIe are left to the copy engines.
            let (dst, src, len) = ([copy.dst], [copy.src], [copy.loops.run()]);
            let routing = MemcpyRouting::look(&CopyBatch::new(&dst, &src, &len, 1), long);
            routing.takes_none || !routing.takes(copy.loops.run(), copy.src, copy.dst)
        };
        let is_whole = |(copy, numbers)| WholeBlocks::of(copy, numbers).is_some();
        // The first one may be whole blocks for which there is no staging memory.
        let (mut rest, mut taken) = (copies.iter(), 0_usize);
        while rest.next().is_some_and(|next| is_taken(next.0) && (taken == 0 || !is_whole(next))) {
            taken = taken.saturating_add(1);
        }
        let Some(copies) = copies.first(taken) else { return Ok(0) };
        // SAFETY:
        // - The caller keeps the contract.
        Ok(unsafe { working.strided.run(stream, copies) }?)
    }

    /// As [`run`](BatchLauncher::run), without strided copies.
    ///
    /// # Safety
    /// As for [`run`](BatchLauncher::run).
    unsafe fn run_flat(&self, stream: &StreamCalls, copies: CopyBatch<'_>) -> Result<(), Failure> {
        // One thread uses a stream at a time, and no call that is made below comes back here.
        let mut state = self.state.try_borrow_mut().map_err(|_| NESTED)?;
        // SAFETY:
        // - The caller promises the sources to the end of this call.
        match unsafe { self.route(&mut state, stream, &copies) }? {
            Route::OneLaunch(launches, launch) => {
                // SAFETY:
                // - The parameters describe these copies, and have the bytes of those in plain host
                //   memory.
                unsafe { launches.launch(stream, launch, true) }?;
                Ok(())
            }
            Route::Staged(launches, src) => {
                let copies = copies.with_sources(src).with_host_from(src.len());
                // SAFETY:
                // - The caller keeps the contract for everything but the sources in plain host
                //   memory, and what is in their place is not changed before the stream has passed
                //   it.
                Ok(unsafe { launches.run_in_order(stream, copies) }?)
            }
            Route::InOrder(launches) => {
                let front = copies.first(copies.host_from).unwrap_or_default();
                // SAFETY:
                // - A part of `copies`, for which the caller keeps the contract.
                unsafe { launches.run_in_order(stream, front) }?;
                // SAFETY:
                // - As above, for the other part.
                unsafe { self.copy_by_driver(stream, &copies.behind(copies.host_from).unwrap_or_default()) }
            }
            // SAFETY:
            // - The caller keeps the contract.
            Route::Driver => unsafe { self.copy_by_driver(stream, &copies) },
        }
    }

    /// Decides what carries out `copies`. What a launch needs of sources in plain host memory is
    /// read here.
    ///
    /// # Errors
    /// What the driver answered to an event or a wait. Nothing of the batch is enqueued.
    ///
    /// # Safety
    /// - Sources of `copies` from `host_from` on are valid for reads of their lengths during this
    ///   call.
    /// - All launches by an earlier answer were made.
    unsafe fn route<'s>(
        &self,
        state: &'s mut Lazy<Working>,
        stream: &StreamCalls,
        copies: &CopyBatch<'_>,
    ) -> Result<Route<'s>, DriverError> {
        let (in_order, all) = (copies.host_from, copies.len.len());
        // A single copy ends sooner by the driver's copy call, plain host memory or not.
        if self.device.batching != Batching::Auto || (all < 2 && copies.gathers.is_empty()) {
            return Ok(Route::Driver);
        }
        let copy_tuning = self.device.copy_tuning;
        // SAFETY:
        // - The caller promises the sources for longer than the answer is used.
        let payload = unsafe { Payload::of(copies, copy_tuning.payload) };
        let stages = in_order < all && takes(copies, copy_tuning.staged);
        let has_front = in_order >= 2 || !copies.gathers.is_empty();
        if payload.is_none() && !stages && !has_front {
            return Ok(Route::Driver);
        }
        let (Some(Working { launches, staging, .. }), Some(front)) = (self.working(state), copies.first(in_order))
        else {
            return Ok(Route::Driver);
        };
        if let Some(payload) = payload
            && let Some(launch) = launches.encode_with(front, &payload)
        {
            return Ok(Route::OneLaunch(launches, launch));
        }
        if stages && staging.is_none() {
            *staging = Staging::new().ok();
        }
        if stages
            && let Some(staging) = staging
            // SAFETY:
            // - The caller promises the sources, and the launches of an earlier answer.
            && let Some(src) = unsafe { staging.fill(stream, copies) }?
        {
            return Ok(Route::Staged(launches, src));
        }
        Ok(if has_front { Route::InOrder(launches) } else { Route::Driver })
    }

    /// Enqueues `copies` by the driver's copy calls; rows become the copies that they are.
    ///
    /// # Safety
    /// As for [`run`](BatchLauncher::run).
    unsafe fn copy_by_driver(&self, stream: &StreamCalls, copies: &CopyBatch<'_>) -> Result<(), Failure> {
        if copies.len.is_empty() && copies.gathers.is_empty() {
            return Ok(());
        }
        if copies.gathers.all().iter().any(|m| m.numbers.is_none()) {
            return Err(ON_DEVICE_ONLY.into());
        }
        let Device { batching, compute_capability, .. } = self.device;
        self.scratch.expanded(copies, |copies| {
            match CopyCall::choose(batching, compute_capability, stream.context.driver.batch, copies) {
                // SAFETY:
                // - The caller keeps the contract; rows were written out as the copies they are.
                CopyCall::Batch(call) => Ok(unsafe { stream.copy_batch(call, copies) }?),
                // SAFETY:
                // - As above.
                CopyCall::Each => unsafe { stream.copy_each(copies) },
            }
        })
    }

    /// The state of the launches, made at the first call; `None` if the kernels cannot be loaded.
    fn working<'s>(&self, state: &'s mut Lazy<Working>) -> Option<&'s mut Working> {
        state.get_or_make(|| {
            let kernels = self.device.shared.kernels(self.device.compute_capability)?;
            let strided = StridedLaunches::new(Arc::clone(&kernels));
            let launches = Launches::new(kernels, self.device.copy_tuning);
            let block_staging = Lazy::Untried;
            Ok::<_, NoCopyKernels>(Working { launches, strided, block_staging, staging: None })
        })
    }

    /// Makes in advance everything that batches would make at their first use, if there are kernels
    /// for the device.
    ///
    /// # Errors
    /// What the driver answered; what was made stays.
    pub(in super::super) fn warm(&self, stream: &StreamCalls) -> Result<(), DriverError> {
        if self.device.batching != Batching::Auto {
            return Ok(());
        }
        let mut state = self.state.try_borrow_mut().map_err(|_| NESTED)?;
        let Some(Working { launches, staging, .. }) = self.working(&mut state) else { return Ok(()) };
        let staging = match staging {
            Some(staging) => staging,
            None => staging.insert(Staging::new()?),
        };
        staging.warm(stream)?;
        launches.warm(stream)
    }

    /// Releases everything, except page-locked memory that the stream may still be reading.
    pub(in super::super) fn close(&mut self, stream: &StreamCalls) {
        let Some(mut working) = self.state.get_mut().give_up() else { return };
        working.launches.close_graphs(stream);
        if let Some(block_staging) = working.block_staging.give_up() {
            block_staging.close(stream);
        }
        // A second query: where the stream was waited for, one refused query would leak locked
        // memory and kernels.
        let passed = stream.seems_idle() || stream.is_idle().or_else(|_| stream.is_idle()).unwrap_or(false);
        if !passed {
            self.device.shared.keep_kernels();
        }
        working.launches.close_tables(stream, passed);
        if let Some(mut staging) = working.staging {
            staging.close(stream, passed);
        }
    }
}

/// A batch that is started inside another one on the same stream. No call below starts one.
const NESTED: DriverError = DriverError::new("a batch inside a batch", Code::UNKNOWN);
/// Only the copy kernels read row numbers in device memory.
const ON_DEVICE_ONLY: DriverError =
    DriverError::new("a batch by row numbers that only the device has", Code::NOT_SUPPORTED);

impl fmt::Debug for BatchLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLauncher").finish_non_exhaustive()
    }
}
