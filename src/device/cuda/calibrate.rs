//! Measures the sizes of [`CopyTuning`]: carries out the same batches in two ways, and compares the
//! time on the host's clock from the call to the end of a wait for the stream.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::time::Instant;

use tidelock_driver::DriverError;

use super::{
    CopyKernels, CopyTuning, Device,
    bench::{Batch, Bench, PINNED_BYTES, Place},
    copy::{LARGEST_GRAPH, MOST_PAYLOAD, MOST_STAGED},
};
use crate::error::Result;

impl Device {
    /// Measures the [`CopyTuning`] on this device.
    ///
    /// Cost: the first call for a context takes some tens of milliseconds, 64 MiB of device memory
    /// and 4 MiB of page-locked memory, and loads the copy kernels. Later calls give the same
    /// numbers. Other work of the device and the host meanwhile disturbs them, so call it when
    /// there is little.
    ///
    /// Where the copy kernels carry out no batches, nothing is measured, and it returns
    /// [`copy_tuning`](Device::copy_tuning).
    ///
    /// # Errors
    /// What the driver answered, for example `OUT_OF_MEMORY`. If the device cannot be waited for,
    /// tried twice, the memory that it may still be using is leaked. The device stays usable.
    #[inline]
    pub fn calibrate(&self) -> Result<CopyTuning> {
        if self.copy_kernels() != CopyKernels::Loaded {
            return Ok(self.copy_tuning);
        }
        Ok(self.shared.measured(|| measure(self))?)
    }
}

/// The rounds of which the median counts, and the rounds before them.
const ROUNDS: usize = 15;
const WARMING: usize = 5;

fn measure(device: &Device) -> Result<CopyTuning, DriverError> {
    let bench = Bench::new(device)?;
    let (copy_engine, staged) = (copy_engine(&bench)?, staged(&bench)?);
    let payload = payload(&bench, staged)?;
    Ok(CopyTuning { copy_engine, staged, payload, part: part(&bench)?, graph: graph(&bench)? })
}

/// The shortest pieces that the copy engines copy to the device no later than the kernel.
fn copy_engine(bench: &Bench) -> Result<usize, DriverError> {
    let by_kernel = CopyTuning { copy_engine: usize::MAX, ..bench.copy_tuning() };
    for bytes in [32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20] {
        let by_engine = CopyTuning { copy_engine: bytes, ..bench.copy_tuning() };
        let mut batch = bench.batch();
        for at in (0..PINNED_BYTES).step_by(bytes) {
            batch.add(Place::Pinned, at, at, bytes);
        }
        if is_no_slower(bench, by_engine, by_kernel, &[batch])? {
            return Ok(bytes);
        }
    }
    Ok(usize::MAX)
}

/// The most bytes of plain host memory that arrive no later through page-locked memory than by the
/// driver.
fn staged(bench: &Bench) -> Result<usize, DriverError> {
    let by_driver = CopyTuning { staged: 0, payload: 0, ..bench.copy_tuning() };
    let along = CopyTuning { staged: MOST_STAGED, ..by_driver };
    plain(bench, along, by_driver, &[MOST_STAGED / 4 - 16, 8 << 10, 4 << 10, 1 << 10, 256, 64])
}

/// The most bytes of plain host memory that arrive no later in the launch parameters. Otherwise up
/// to `staged` bytes go through page-locked memory.
fn payload(bench: &Bench, staged: usize) -> Result<usize, DriverError> {
    let otherwise = CopyTuning { staged, payload: 0, ..bench.copy_tuning() };
    let along = CopyTuning { payload: MOST_PAYLOAD, ..otherwise };
    plain(bench, along, otherwise, &[MOST_PAYLOAD / 4, 128, 64, 16])
}

/// The most bytes of plain host memory with which way `one` ends no later than the `other`: four
/// pieces of one of these lengths, beside two copies on the device.
fn plain(bench: &Bench, one: CopyTuning, other: CopyTuning, pieces: &[usize]) -> Result<usize, DriverError> {
    for &piece in pieces {
        let mut batch = bench.batch();
        for at in [0, 2 << 10] {
            batch.add(Place::Device, at, at, 1 << 10);
        }
        batch.plain_from_here();
        for at in (0..1_usize << 16).step_by(1 << 14) {
            batch.add(Place::Plain, at, at.saturating_add(1 << 20), piece);
        }
        if is_no_slower(bench, one, other, &[batch])? {
            return Ok(piece.wrapping_mul(4));
        }
    }
    Ok(0)
}

/// The bytes of the first part of a batch that ends no later in two parts than in one.
fn part(bench: &Bench) -> Result<usize, DriverError> {
    let whole = CopyTuning { part: usize::MAX, ..bench.copy_tuning() };
    let mut batch = bench.batch();
    let most = 8 << 10;
    for i in 0..4096_usize {
        // 24 MiB in total.
        let bytes = if i.is_multiple_of(2) { most } else { most / 2 };
        batch.add(Place::Device, i.saturating_mul(most), (i ^ 1).saturating_mul(most), bytes);
    }
    let batches = [batch];
    for part in [4 << 20, 8 << 20, 12 << 20] {
        if is_no_slower(bench, CopyTuning { part, ..whole }, whole, &batches)? {
            return Ok(part);
        }
    }
    Ok(usize::MAX)
}

/// The longest descriptions with which batches, each different from the last, end no later as
/// graphs.
fn graph(bench: &Bench) -> Result<usize, DriverError> {
    let plainly = CopyTuning { graph: 0, ..bench.copy_tuning() };
    let as_graph = CopyTuning { graph: LARGEST_GRAPH, ..bench.copy_tuning() };
    let mut found = 0;
    // Two rows per word.
    for (rows, bytes) in [(500_usize, 1280), (1000, 2304), (2000, LARGEST_GRAPH)] {
        let others = (0..8_usize).map(|other| {
            let mut batch = bench.batch();
            let shift = other.wrapping_mul(1 << 16);
            for i in 0..rows {
                batch.add(Place::Device, i.saturating_mul(32).saturating_add(shift), i.saturating_mul(16), 16);
            }
            batch
        });
        if !is_no_slower(bench, as_graph, plainly, &others.collect::<Vec<_>>())? {
            break;
        }
        found = bytes;
    }
    Ok(found)
}

/// Whether the batches end no later in way `one` than in the `other`: up to 2 % later counts as no
/// later, because the clock is no more exact.
fn is_no_slower(bench: &Bench, one: CopyTuning, other: CopyTuning, batches: &[Batch<'_>]) -> Result<bool, DriverError> {
    let ways = [bench.way(one)?, bench.way(other)?];
    let mut times = [[Duration::ZERO; ROUNDS]; 2];
    for round in 0..ROUNDS.wrapping_add(WARMING) {
        // In turn, so both have the same disturbances.
        for (way, times) in ways.iter().zip(&mut times) {
            let Some(batch) = batches.get(round.checked_rem(batches.len()).unwrap_or(0)) else { continue };
            let start = Instant::now();
            way.run(batch)?;
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
