//! This library's ways to make the copies of a workload.

use core::num::NonZero;
use std::ptr::NonNull;

use tidelock::{
    BatchCopy, DeviceLocation, Permutation, Result, Stream, View, ViewMut, batch::Batch, state::DevicePermutation,
};

use super::workload::{Kind, Rows, Workload};

pub fn at(address: u64) -> NonNull<u8> {
    NonNull::with_exposed_provenance(NonZero::new(address as usize).unwrap())
}

pub fn source<'env, L: DeviceLocation>(address: u64, len: usize) -> View<'env, u8, L> {
    // SAFETY: the benchmark's own memory, alive all the time. Pinned memory is passed as if it were
    // the device's: the stream is waited for before the host looks at it.
    unsafe { View::from_raw_parts(at(address), len) }
}

pub fn target<'env, L: DeviceLocation>(address: u64, len: usize) -> ViewMut<'env, u8, L> {
    // SAFETY: as for `source`; no destination of a batch overlaps anything else of it.
    unsafe { ViewMut::from_raw_parts(at(address), len) }
}

/// A batch of one copy a row.
pub fn copies<L: DeviceLocation>(stream: &Stream<L>, batch: &mut BatchCopy, w: &Workload, k: usize) -> Result<()> {
    batch.scope(&stream.ctx(), |b| add(b, w, k))
}

/// The copies of set `k`.
pub fn add<L: DeviceLocation>(b: &mut Batch<'_, '_, L>, w: &Workload, k: usize) -> Result<()> {
    w.try_each(k, |dst, src, len| b.copy(source::<L>(src, len), target::<L>(dst, len)))
}

/// The same in a group, which merges copies that continue one another.
pub fn merged<L: DeviceLocation>(stream: &Stream<L>, batch: &mut BatchCopy, w: &Workload, k: usize) -> Result<()> {
    batch.scope(&stream.ctx(), |b| {
        b.group(|group| w.try_each(k, |dst, src, len| group.copy(source::<L>(src, len), target::<L>(dst, len))))
    })
}

/// A Warp by numbers of the host.
pub fn warp<L: DeviceLocation>(stream: &Stream<L>, batch: &mut BatchCopy, rows: &Rows, k: usize) -> Result<()> {
    batch.scope(&stream.ctx(), |b| add_warp(b, rows, k))
}

pub fn add_warp<'env, L: DeviceLocation>(b: &mut Batch<'_, 'env, L>, rows: &'env Rows, k: usize) -> Result<()> {
    let permutation = Permutation::new(&rows.numbers[k], rows.old, rows.joining)?;
    let width = NonZero::new(rows.bytes).unwrap();
    let (src, dst) = rows.bases(k);
    let (present, to) = (source::<L>(src, rows.old * rows.bytes), target::<L>(dst, rows.count * rows.bytes));
    b.group(|group| {
        if rows.joining == 0 {
            return group.warp(present.rows(width)?, permutation, to.rows(width)?);
        }
        let joining = source::<L>(src + (rows.old * rows.bytes) as u64, rows.joining * rows.bytes);
        group.warp_join(present.rows(width)?, joining.rows(width)?, permutation, to.rows(width)?)
    })
}

/// A decode step as an engine makes it: two Warps by one permutation, and the arrays of the host.
pub fn step<L: DeviceLocation>(stream: &Stream<L>, batch: &mut BatchCopy, w: &Workload, k: usize) -> Result<()> {
    let permutation = Permutation::new(&w.steps[k], 256, 0)?;
    let Kind::Copies(sets) = &w.kind else { return Ok(()) };
    let (rows, arrays) = sets[k].split_at(512);
    // Flag 0 is at the place that its row gives.
    let (dst, src) = (rows[0].0, rows[0].1 - u64::from(w.steps[k][0]));
    let width = |n| NonZero::new(n).unwrap();
    batch.scope(&stream.ctx(), |b| {
        b.group(|group| {
            let (flags, to) = (source::<L>(src, 256), target::<L>(dst, 256));
            group.warp(flags.rows(width(1))?, permutation, to.rows(width(1))?)?;
            let (lengths, to) = (source::<L>(src + 4096, 1024), target::<L>(dst + 4096, 1024));
            group.warp(lengths.rows(width(4))?, permutation, to.rows(width(4))?)
        })?;
        arrays.iter().try_for_each(|&(dst, src, len)| b.copy(source::<L>(src, len), target::<L>(dst, len)))
    })
}

/// A Warp by numbers that are on the device.
pub fn warp_by<L: DeviceLocation>(
    stream: &Stream<L>,
    batch: &mut BatchCopy,
    rows: &Rows,
    k: usize,
    numbers: &DevicePermutation<'_, L>,
) -> Result<()> {
    let width = NonZero::new(rows.bytes).unwrap();
    let (src, dst) = rows.bases(k);
    let (present, to) = (source::<L>(src, rows.old * rows.bytes), target::<L>(dst, rows.count * rows.bytes));
    let joining = || source::<L>(src + (rows.old * rows.bytes) as u64, rows.joining * rows.bytes).rows(width);
    batch.scope(&stream.ctx(), |b| {
        b.group(|group| match rows.joining {
            0 => group.warp_by(present.rows(width)?, numbers.numbers(), to.rows(width)?),
            _ => group.warp_join_by(present.rows(width)?, joining()?, numbers.numbers(), to.rows(width)?),
        })
    })
}

/// The same, with numbers that are uploaded first.
pub fn warp_uploaded<L: DeviceLocation>(
    stream: &Stream<L>,
    batch: &mut BatchCopy,
    rows: &Rows,
    k: usize,
) -> Result<()> {
    warp_by(stream, batch, rows, k, &on_device(stream, rows, k)?)
}

pub fn on_device<'p, L: DeviceLocation>(
    stream: &Stream<L>,
    rows: &'p Rows,
    k: usize,
) -> Result<DevicePermutation<'p, L>> {
    let permutation = Permutation::new(&rows.numbers[k], rows.old, rows.joining)?;
    DevicePermutation::upload(&stream.ctx().with_pool(), permutation)
}
