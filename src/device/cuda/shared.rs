//! The state that all handles of one context share: its owner, its copy kernels, its measured
//! tuning.

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use cudarc::driver::CudaContext;
use tidelock_driver::{DeviceState, DriverError, PoolList};

use super::{CopyTuning, NoCopyKernels, context::Context, copy::Kernels, free_behind::FreeStream, pool::PoolHandle};
use crate::sync::{Mutex, lock};

/// The shared state of one context. Each context that has a handle has one.
///
/// If the context is kept for the process, so is the state. Otherwise the state ends with the last
/// handle: every stream, and all memory that outlives streams, has a handle.
#[derive(Debug)]
pub(super) struct Shared {
    context: Context,
    /// What the typed layer keeps for the device.
    state: DeviceState,
    /// Whether a copy kernel may be running that was not waited for.
    running: AtomicBool,
    /// `None` before the first attempt to load them.
    kernels: Mutex<Option<Result<Arc<Kernels>, NoCopyKernels>>>,
    measured: Mutex<Option<CopyTuning>>,
    pools: PoolList<PoolHandle>,
    /// What the handles share and the state of a kept context does not keep.
    free_stream: Mutex<Weak<FreeStream>>,
    /// Keeps an adopted context alive. The last field: it is dropped after what lies in the
    /// context.
    _owner: Option<Arc<CudaContext>>,
}

/// An entry in the list of contexts.
struct Entry {
    address: usize,
    shared: Weak<Shared>,
    /// The state again, if the context is kept for the process.
    kept: Option<Arc<Shared>>,
}

/// No handle is dropped while this is locked.
static CONTEXTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

impl Shared {
    /// The state of `context`, which ends with its last handle; it keeps `owner` if there is none
    /// yet.
    ///
    /// The owner keeps the context alive, so no other context has its address as long as the state
    /// exists.
    pub(super) fn adopted(context: Context, owner: Arc<CudaContext>) -> Arc<Shared> {
        Shared::of(context, Some(owner), false)
    }

    /// The state of `context`, which is kept for the process from now on, as the context is.
    pub(super) fn kept(context: Context) -> Arc<Shared> {
        Shared::of(context, None, true)
    }

    /// Keeps the state and its context for the process.
    pub(super) fn keep(&self) {
        Shared::of(self.context, None, true);
    }

    fn of(context: Context, owner: Option<Arc<CudaContext>>, keep: bool) -> Arc<Shared> {
        let mut contexts = lock(&CONTEXTS);
        let address = context.address();
        let found = contexts.iter_mut().find(|entry| entry.address == address);
        if let Some(entry) = found
            && let Some(shared) = entry.shared.upgrade()
        {
            if keep && entry.kept.is_none() {
                entry.kept = Some(shared.clone());
            }
            return shared;
        }
        let shared = Arc::new(Shared {
            context,
            state: DeviceState::new(),
            running: AtomicBool::new(false),
            kernels: Mutex::new(None),
            measured: Mutex::new(None),
            pools: PoolList::new(),
            free_stream: Mutex::new(Weak::new()),
            _owner: owner,
        });
        contexts.retain(|entry| entry.shared.strong_count() != 0);
        let kept = keep.then(|| shared.clone());
        contexts.push(Entry { address, shared: Arc::downgrade(&shared), kept });
        shared
    }

    /// What the typed layer keeps for the device.
    #[inline]
    pub(super) const fn state(&self) -> &DeviceState {
        &self.state
    }

    /// What frees memory that belongs to no stream. It ends with the last handle.
    pub(super) fn free_stream(&self) -> Arc<FreeStream> {
        let mut known = lock(&self.free_stream);
        if let Some(streams) = known.upgrade() {
            return streams;
        }
        let streams = Arc::new(FreeStream::new(self.context));
        *known = Arc::downgrade(&streams);
        streams
    }

    /// Notes that a copy kernel may be running on a stream that has ended: the kernels stay loaded.
    pub(super) fn keep_kernels(&self) {
        self.running.store(true, Ordering::Release);
    }

    /// The copy kernels, for a device of this compute capability. The first call loads them. For a
    /// device without machine code the driver then compiles PTX for a second or so, and keeps what
    /// it compiled on disk.
    ///
    /// # Errors
    /// Why there are none; later calls give the same answer.
    pub(super) fn kernels(&self, compute_capability: (u32, u32)) -> Result<Arc<Kernels>, NoCopyKernels> {
        let load = || Kernels::load(self.context, compute_capability).map(Arc::new);
        lock(&self.kernels).get_or_insert_with(load).clone()
    }

    /// The measured tuning of the context. The first call runs `measure`.
    ///
    /// # Errors
    /// What `measure` answered; the next call measures again.
    pub(super) fn measured(
        &self,
        measure: impl FnOnce() -> Result<CopyTuning, DriverError>,
    ) -> Result<CopyTuning, DriverError> {
        let mut measured = lock(&self.measured);
        match *measured {
            Some(found) => Ok(found),
            None => Ok(*measured.insert(measure()?)),
        }
    }

    /// The pools that the streams of the context allocate from. Those in the list are alive.
    pub(super) fn pools(&self) -> &PoolList<PoolHandle> {
        &self.pools
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        lock(&CONTEXTS).retain(|entry| entry.shared.strong_count() != 0);
        if *self.running.get_mut() {
            return;
        }
        if let Some(Ok(kernels)) = lock(&self.kernels).take()
            && let Some(kernels) = Arc::into_inner(kernels)
        {
            // SAFETY:
            // - The context is alive: its owner is dropped after this.
            // - Every stream that launched a kernel of these had a handle of this and has ended,
            //   and all of them were seen to have passed their launches, or `running` were set.
            // - This is the only owner of the kernels.
            unsafe { kernels.unload(self.context) }
        }
    }
}
