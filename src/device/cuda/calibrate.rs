//! Measuring where one way to carry out a batch becomes better than another: the same batches both ways, by the clock of
//! the host, each from the call to the end of a wait for the stream.

use core::{alloc::Layout, num::NonZero, ptr::NonNull, time::Duration};
use std::time::Instant;

use super::{
    CopyKernels, Crossovers, CudaBackend, Device,
    copy::{LARGEST_GRAPH, MOST_PAYLOAD, MOST_STAGED},
    queue::CudaQueue,
};
use crate::{
    device::{
        Backend, Copies, Queue,
        code::{Code, DriverError},
    },
    error::Result,
    stream::StreamOptions,
};

impl Device {
    /// Measures the [`Crossovers`] on this device: the ones it has, with what was measured in their place.
    ///
    /// Cost: the first call for a context takes some tens of milliseconds, 64 MiB of device memory and 4 MiB of page-locked
    /// memory, and loads the copy kernels; later ones answer what was measured then. Whatever else the device and the
    /// host are doing meanwhile is in the numbers: call it where little else goes on.
    ///
    /// Where batches are not carried out by the copy kernels there is nothing to measure, and it answers
    /// [`crossovers`](Device::crossovers).
    ///
    /// # Errors
    /// What the driver answered, `OUT_OF_MEMORY` among it.
    #[inline]
    pub fn calibrate(&self) -> Result<Crossovers> {
        if self.copy_kernels() != CopyKernels::Loaded {
            return Ok(self.crossovers);
        }
        Ok(self.shared.measured(|| measure(self))?)
    }
}

/// Rounds of which the median counts, and rounds before them.
const ROUNDS: usize = 15;
const WARMING: usize = 5;

/// Half of it is read, half of it is written.
const DEVICE_BYTES: usize = 64 << 20;
const PINNED_BYTES: usize = 4 << 20;

fn measure(device: &Device) -> Result<Crossovers, DriverError> {
    let bench = Bench::new(device)?;
    let (copy_engine, staged) = (copy_engine(&bench)?, staged(&bench)?);
    let payload = payload(&bench, staged)?;
    Ok(Crossovers { copy_engine, staged, payload, part: part(&bench)?, graph: graph(&bench)? })
}

/// The shortest pieces that copy engines bring up no later than the kernel does.
fn copy_engine(bench: &Bench) -> Result<usize, DriverError> {
    let by_kernel = Crossovers { copy_engine: usize::MAX, ..bench.device.crossovers };
    for bytes in [32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        let by_engine = Crossovers { copy_engine: bytes, ..bench.device.crossovers };
        let mut batch = Batch::default();
        for at in (0..PINNED_BYTES).step_by(bytes) {
            batch.add(bench, Place::Pinned, at, at, bytes);
        }
        if bench.is_no_slower(by_engine, by_kernel, &[batch])? {
            return Ok(bytes);
        }
    }
    Ok(usize::MAX)
}

/// The most bytes of plain host memory that are there no later if they go along through page-locked memory.
fn staged(bench: &Bench) -> Result<usize, DriverError> {
    let by_driver = Crossovers { staged: 0, payload: 0, ..bench.device.crossovers };
    let along = Crossovers { staged: MOST_STAGED, ..by_driver };
    plain(bench, along, by_driver, &[MOST_STAGED / 4 - 16, 8 << 10, 4 << 10, 1 << 10, 256, 64])
}

/// The most that are there no later in the parameters of the launch, where up to `staged` go along otherwise.
fn payload(bench: &Bench, staged: usize) -> Result<usize, DriverError> {
    let otherwise = Crossovers { staged, payload: 0, ..bench.device.crossovers };
    let along = Crossovers { payload: MOST_PAYLOAD, ..otherwise };
    plain(bench, along, otherwise, &[MOST_PAYLOAD / 4, 128, 64, 16])
}

/// The most bytes of plain host memory, in four of these `pieces` beside two copies on the device, that are done no later one
/// way than the other.
fn plain(bench: &Bench, one: Crossovers, other: Crossovers, pieces: &[usize]) -> Result<usize, DriverError> {
    for &piece in pieces {
        let mut batch = Batch::default();
        for at in [0, 2 << 10] {
            batch.add(bench, Place::Device, at, at, 1 << 10);
        }
        batch.during_call = batch.len.len();
        for at in (0..1_usize << 16).step_by(1 << 14) {
            batch.add(bench, Place::Plain, at, at.saturating_add(1 << 20), piece);
        }
        if bench.is_no_slower(one, other, &[batch])? {
            return Ok(piece.wrapping_mul(4));
        }
    }
    Ok(0)
}

/// The bytes of the first part of a batch that is done no later in two.
fn part(bench: &Bench) -> Result<usize, DriverError> {
    let whole = Crossovers { part: usize::MAX, ..bench.device.crossovers };
    let mut batch = Batch::default();
    let most = 8 << 10;
    for i in 0..4096_usize {
        // 24 MiB together.
        let bytes = if i.is_multiple_of(2) { most } else { most / 2 };
        batch.add(bench, Place::Device, i.saturating_mul(most), (i ^ 1).saturating_mul(most), bytes);
    }
    let batches = [batch];
    for part in [4 << 20, 8 << 20, 12 << 20] {
        if bench.is_no_slower(Crossovers { part, ..whole }, whole, &batches)? {
            return Ok(part);
        }
    }
    Ok(usize::MAX)
}

/// The longest descriptions that are done no later as a graph, if each is another one.
fn graph(bench: &Bench) -> Result<usize, DriverError> {
    let plainly = Crossovers { graph: 0, ..bench.device.crossovers };
    let as_graph = Crossovers { graph: LARGEST_GRAPH, ..bench.device.crossovers };
    let mut found = 0;
    // Two rows a word.
    for (rows, bytes) in [(500_usize, 1280), (1000, 2304), (2000, LARGEST_GRAPH)] {
        let others = (0..8_usize).map(|other| {
            let mut batch = Batch::default();
            let shift = other.wrapping_mul(1 << 16);
            for i in 0..rows {
                batch.add(bench, Place::Device, i.saturating_mul(32).saturating_add(shift), i.saturating_mul(16), 16);
            }
            batch
        });
        if !bench.is_no_slower(as_graph, plainly, &others.collect::<Vec<_>>())? {
            break;
        }
        found = bytes;
    }
    Ok(found)
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug)]
enum Place {
    Device,
    Pinned,
    Plain,
}

/// The copies of a batch, inside the memory of a [`Bench`].
#[derive(Debug, Default)]
struct Batch {
    dst: Vec<*mut u8>,
    src: Vec<*const u8>,
    len: Vec<usize>,
    /// Where those in plain host memory begin; 0 if there are none.
    during_call: usize,
}

impl Batch {
    /// Adds `bytes` bytes from byte `at` of a place on, which go to byte `to` of the half that is written; what does not lie
    /// inside is left out.
    fn add(&mut self, bench: &Bench, place: Place, at: usize, to: usize, bytes: usize) {
        let (from, room) = match place {
            Place::Device => (bench.device_memory.as_ptr().cast_const(), DEVICE_BYTES / 2),
            Place::Pinned => (bench.pinned.as_ptr().cast_const(), PINNED_BYTES),
            Place::Plain => (bench.plain.as_ptr(), bench.plain.len()),
        };
        if at.saturating_add(bytes) <= room && to.saturating_add(bytes) <= DEVICE_BYTES / 2 {
            self.src.push(from.wrapping_add(at));
            self.dst.push(bench.device_memory.as_ptr().wrapping_add(DEVICE_BYTES / 2).wrapping_add(to));
            self.len.push(bytes);
        }
    }

    fn copies(&self) -> Copies<'_> {
        let during_call = if self.during_call == 0 { self.len.len() } else { self.during_call };
        Copies { dst: &self.dst, src: &self.src, len: &self.len, during_call, ..Copies::default() }
    }
}

/// Memory to measure with.
struct Bench {
    device: Device,
    queue: CudaQueue,
    /// Invariant: `DEVICE_BYTES` from `alloc_sync` of `queue`, that nothing else uses. Of no stream, as several use it.
    device_memory: NonNull<u8>,
    /// Invariant: a piece of the pinned pool with [`pinned_layout`], that nothing else uses.
    pinned: NonNull<u8>,
    plain: Vec<u8>,
}

impl Bench {
    fn new(device: &Device) -> Result<Bench, DriverError> {
        let queue = CudaQueue::open(device.clone(), &StreamOptions::default())?;
        let bytes = NonZero::new(DEVICE_BYTES).unwrap_or(NonZero::<usize>::MIN);
        let no_memory = DriverError::new("cuMemHostAlloc", Code::OUT_OF_MEMORY);
        let pinned = CudaBackend::pinned_pool().alloc(pinned_layout()).map_err(|_| no_memory)?;
        let device_memory = match queue.alloc_sync(bytes) {
            Ok(memory) => memory,
            Err(error) => {
                // SAFETY:
                // - It comes from the pool with this layout, and nothing has used it.
                unsafe { CudaBackend::pinned_pool().dealloc(pinned, pinned_layout()) }
                return Err(error);
            }
        };
        let bench = Bench { device: device.clone(), queue, device_memory, pinned, plain: vec![0; 1 << 16] };
        // SAFETY:
        // - The memory has so many bytes, was just allocated and is nobody else's.
        unsafe { bench.queue.fill(bench.device_memory.as_ptr(), 0, bytes) }?;
        bench.queue.synchronize()?;
        Ok(bench)
    }

    /// Whether the batches are done no later one way than the other: at most 2 % later, which is less than the clock tells.
    fn is_no_slower(&self, one: Crossovers, other: Crossovers, batches: &[Batch]) -> Result<bool, DriverError> {
        let open =
            |crossovers| CudaQueue::open(self.device.clone().with_crossovers(crossovers), &StreamOptions::default());
        let queues = [open(one)?, open(other)?];
        let mut times = [[Duration::ZERO; ROUNDS]; 2];
        for round in 0..ROUNDS.wrapping_add(WARMING) {
            // In turn, so that what else goes on is in both.
            for (queue, times) in queues.iter().zip(&mut times) {
                let Some(batch) = batches.get(round.checked_rem(batches.len()).unwrap_or(0)) else { continue };
                let start = Instant::now();
                // SAFETY:
                // - All copies lie inside the bench's memory, whose two halves do not overlap; different copies of a batch
                //   write to different pieces, and nothing else uses the memory: the other queue was waited for.
                let answer = unsafe { queue.batch(batch.copies()) };
                // The memory is given back only when nothing uses it.
                queue.synchronize()?;
                answer?;
                if let Some(time) = round.checked_sub(WARMING).and_then(|round| times.get_mut(round)) {
                    *time = start.elapsed();
                }
            }
        }
        let [one, other] = times.map(|mut times| {
            times.sort_unstable();
            times.get(ROUNDS / 2).copied().unwrap_or_default()
        });
        Ok(one <= other.saturating_add(other.checked_div(50).unwrap_or_default()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Every batch was waited for. A device that cannot be waited for is broken, and keeps what it has.
        if self.queue.synchronize().is_err() {
            return;
        }
        // SAFETY:
        // - The memory comes from `alloc_sync` of this queue, this is the end of its only owner, and the device has passed
        //   everything. There is nobody to tell a failure.
        let _ = unsafe { self.queue.free_sync(self.device_memory) };
        // SAFETY:
        // - It comes from the pool with this layout, and as above.
        unsafe { CudaBackend::pinned_pool().dealloc(self.pinned, pinned_layout()) }
    }
}

fn pinned_layout() -> Layout {
    Layout::from_size_align(PINNED_BYTES, 256).unwrap_or(Layout::new::<u8>())
}
