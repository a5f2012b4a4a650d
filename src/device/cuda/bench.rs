//! Memory for measurements, and the streams that use it.

use core::{
    alloc::Layout,
    cell::Cell,
    num::NonZero,
    ptr::{self, NonNull},
};

use tidelock_driver::{AllocError, Allocation, Backend, Code, CopyBatch, DriverError, RawStream};

use crate::{
    device::cuda::{CopyTuning, CudaBackend, Device, stream::CudaStream},
    stream::StreamOptions,
};

/// One half is read, the other is written.
pub(super) const DEVICE_BYTES: usize = 64 << 20;
pub(super) const PINNED_BYTES: usize = 4 << 20;

/// Sources in plain host memory. They stay valid also for a copy that cannot be waited for.
static PLAIN: [u8; 1 << 16] = [0; 1 << 16];

/// Memory for measurements. [`using`](Bench::using) is the only way to use it, and it is freed only
/// if everything that used it was waited for (rule R12).
pub(super) struct Bench {
    device: Device,
    /// Allocates and frees the memory.
    stream: CudaStream,
    /// Invariant: `DEVICE_BYTES` from `alloc_now` of `stream`, that nothing else uses. Not
    /// allocated in stream order, because several streams use it.
    device_memory: NonNull<u8>,
    /// Invariant: a piece of the pinned pool with [`pinned_layout`], that nothing else uses.
    pinned: NonNull<u8>,
    /// Invariant: if nothing is in use, no work on the memory is left.
    in_use: Cell<Option<DriverError>>,
}

/// One way to carry out batches on the memory of a bench.
pub(super) struct Way<'b> {
    bench: &'b Bench,
    stream: CudaStream,
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Device,
    Pinned,
    Plain,
}

/// The copies of a batch, inside the memory of a [`Bench`].
pub(super) struct Batch<'b> {
    bench: &'b Bench,
    dst: Vec<*mut u8>,
    src: Vec<*const u8>,
    len: Vec<usize>,
    /// The first copy with a source in plain host memory; 0 if there is none.
    during_call: usize,
}

impl Bench {
    /// # Errors
    /// What the driver answered; what was allocated is given back, unless the device may still be
    /// using it.
    pub(super) fn new(device: &Device) -> Result<Bench, DriverError> {
        let stream = CudaStream::open(device.clone(), &StreamOptions::default().open())?;
        let bytes = NonZero::new(DEVICE_BYTES).unwrap_or(NonZero::<usize>::MIN);
        let refused = |error| match error {
            AllocError::Driver(code) | AllocError::Poisoned(code) => DriverError::new("cuMemHostAlloc", code),
            _ => DriverError::new("cuMemHostAlloc", Code::OUT_OF_MEMORY),
        };
        let pinned = CudaBackend::PINNED.alloc(pinned_layout()).map_err(refused)?;
        let device_memory = stream.alloc_now(Allocation::new(bytes)).inspect_err(|_| {
            // SAFETY:
            // - It comes from the pool with this layout, and nothing has used it.
            unsafe { CudaBackend::PINNED.dealloc(pinned, pinned_layout()) }
        })?;
        let bench = Bench { device: device.clone(), stream, device_memory, pinned, in_use: Cell::new(None) };
        bench.using(&bench.stream, |stream| {
            // SAFETY:
            // - The memory has so many bytes, is the bench's, and lives until the fill is waited
            //   for.
            unsafe { stream.fill(bench.device_memory.as_ptr(), 0, bytes) }
        })?;
        Ok(bench)
    }

    /// The copy tuning of the device.
    pub(super) fn copy_tuning(&self) -> CopyTuning {
        self.device.copy_tuning
    }

    /// A stream that carries out batches with this tuning.
    ///
    /// # Errors
    /// What the driver answered.
    pub(super) fn way(&self, copy_tuning: CopyTuning) -> Result<Way<'_>, DriverError> {
        let device = self.device.clone().with_copy_tuning(copy_tuning);
        Ok(Way { bench: self, stream: CudaStream::open(device, &StreamOptions::default().open())? })
    }

    /// A batch of no copies.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { bench: self, dst: Vec::new(), src: Vec::new(), len: Vec::new(), during_call: 0 }
    }

    /// Enqueues work on the memory, and waits for it; no other work runs meanwhile. If the wait
    /// fails twice, the memory counts as in use to the end of the process, and nothing more is
    /// enqueued on it.
    ///
    /// # Errors
    /// What the driver answered, now or to an earlier wait that failed.
    fn using(
        &self,
        stream: &CudaStream,
        enqueue: impl FnOnce(&CudaStream) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        if let Some(error) = self.in_use.get() {
            return Err(error);
        }
        let answer = enqueue(stream);
        // Also after an error: a part may have been enqueued.
        let waited = stream.synchronize();
        if waited.is_err() {
            self.in_use.set(stream.synchronize().err());
        }
        answer.and(waited)
    }
}

impl Way<'_> {
    /// Carries out a batch, and waits for it.
    ///
    /// # Errors
    /// What the driver answered; `INVALID_VALUE` for a batch of another bench.
    pub(super) fn run(&self, batch: &Batch<'_>) -> Result<(), DriverError> {
        if !ptr::eq(self.bench, batch.bench) {
            return Err(DriverError::new("a batch of another bench", Code::INVALID_VALUE));
        }
        self.bench.using(&self.stream, |stream| {
            // SAFETY:
            // - All copies lie inside the bench's memory, whose two halves do not overlap; copies
            //   of a batch write to different pieces, as `add` asks. Nothing else uses the memory,
            //   which lives until this was waited for: `using`.
            // - Sources in plain host memory are a static that is never changed.
            Ok(unsafe { stream.launcher.run(&stream.calls, batch.copies()) }?)
        })
    }
}

impl Batch<'_> {
    /// Adds a copy of `bytes` bytes from byte `at` of a place to byte `to` of the half that is
    /// written, unless it does not lie inside. The copies of one batch have different destinations.
    pub(super) fn add(&mut self, place: Place, at: usize, to: usize, bytes: usize) {
        let (from, room) = match place {
            Place::Device => (self.bench.device_memory.as_ptr().cast_const(), DEVICE_BYTES / 2),
            Place::Pinned => (self.bench.pinned.as_ptr().cast_const(), PINNED_BYTES),
            Place::Plain => (PLAIN.as_ptr(), PLAIN.len()),
        };
        if at.saturating_add(bytes) <= room && to.saturating_add(bytes) <= DEVICE_BYTES / 2 {
            self.src.push(from.wrapping_add(at));
            self.dst.push(self.bench.device_memory.as_ptr().wrapping_add(DEVICE_BYTES / 2).wrapping_add(to));
            self.len.push(bytes);
        }
    }

    /// All copies that are added from here on have sources in plain host memory.
    pub(super) fn plain_from_here(&mut self) {
        self.during_call = self.len.len();
    }

    fn copies(&self) -> CopyBatch<'_> {
        let during_call = if self.during_call == 0 { self.len.len() } else { self.during_call };
        CopyBatch::new(&self.dst, &self.src, &self.len, during_call)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.in_use.get().is_some() {
            return;
        }
        // SAFETY:
        // - The memory comes from `alloc_now` of this stream, this is the end of its only owner,
        //   and all that used it was waited for. Errors are ignored; the memory then stays
        //   allocated.
        let _ = unsafe { self.stream.free_now(self.device_memory) };
        // SAFETY:
        // - It comes from the pool with this layout, and as above.
        unsafe { CudaBackend::PINNED.dealloc(self.pinned, pinned_layout()) }
    }
}

fn pinned_layout() -> Layout {
    Layout::from_size_align(PINNED_BYTES, 256).unwrap_or(Layout::new::<u8>())
}
