//! Strided copies and copies of blocks: one launch for any number of runs (kernels/strided.cu).
//!
//! [`shape`] chooses the kernel and the order in which a block is copied, [`layout`] are its
//! parameters, [`kernels`] lists the kernels. [`whole_blocks`] takes blocks to the host and back.

mod kernels;
mod layout;
mod shape;
#[cfg(test)]
mod tests;
mod whole_blocks;

use std::sync::Arc;

use tidelock_driver::{Blocks, DriverError, StridedCopies, StridedCopy};

pub(super) use self::{
    kernels::{Body, VARIANTS, Variant},
    whole_blocks::{BlockStaging, WholeBlocks},
};
use self::{
    layout::{Parameters, WIDE_NUMBERS},
    shape::Shape,
};
use super::{
    extent::{division, halves, narrow, wide},
    kernels::{Chosen, Kernels, too_large},
};
use crate::device::cuda::stream_calls::StreamCalls;

/// Launches the kernels for strided copies on one stream.
pub(super) struct StridedLaunches {
    kernels: Arc<Kernels>,
    parameters: Box<Parameters>,
}

/// The most parts of one launch.
const PARTS: usize = 128;

/// Copies that are one launch, or a few: they differ in their addresses only.
struct Alike<'c> {
    copies: &'c [StridedCopy],
    from: &'c [u32],
    to: &'c [u32],
}

impl StridedLaunches {
    pub(super) fn new(kernels: Arc<Kernels>) -> Self {
        StridedLaunches { kernels, parameters: Box::new(Parameters::new()) }
    }

    /// Enqueues `copies`, up to the first one that no kernel takes. Returns how many were enqueued.
    ///
    /// # Errors
    /// What the driver answered; some of the copies may be enqueued.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    pub(super) unsafe fn run(&mut self, stream: &StreamCalls, copies: StridedCopies<'_>) -> Result<usize, DriverError> {
        let mut done = 0_usize;
        let mut rest = copies;
        while let Some((first, (from, to))) = rest.iter().next() {
            let alike = rest.all().iter().take(PARTS).take_while(|next| is_alike(first, next)).count();
            let (Some(copies), Some(behind)) = (rest.first(alike), rest.behind(alike)) else { break };
            let alike = Alike { copies: copies.all(), from, to };
            let Some(shape) = alike.shape() else { break };
            let mut pair = 0;
            while pair < alike.from.len() {
                let Some(chosen) = self.describe(&shape, &alike, &mut pair) else { return Ok(done) };
                // SAFETY:
                // - The parameters describe these copies only, which may be made in stream order, as
                //   the caller promises. They name no table.
                unsafe { self.kernels.launch(stream, &chosen, &*self.parameters) }?;
            }
            done = done.saturating_add(alike.copies.len());
            rest = behind;
        }
        Ok(done)
    }

    /// Enqueues `copies`, all of which a kernel takes.
    ///
    /// # Errors
    /// As for [`run`](StridedLaunches::run), or `INVALID_VALUE` if no kernel takes one of them.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    unsafe fn run_all(&mut self, stream: &StreamCalls, copies: StridedCopies<'_>) -> Result<(), DriverError> {
        // SAFETY:
        // - The caller keeps the contract.
        let done = unsafe { self.run(stream, copies) }?;
        if done == copies.all().len() { Ok(()) } else { Err(too_large()) }
    }

    /// Describes the pairs from `pair` on, as many as one launch takes, and moves `pair` behind them.
    fn describe(&mut self, shape: &Shape, alike: &Alike<'_>, pair: &mut usize) -> Option<Chosen> {
        let (parts, loops) = (alike.copies.len(), shape.loops());
        let blocks = alike.blocks();
        let is_wide = blocks.is_some_and(|blocks| blocks.bits > 0xffff);
        let room = Parameters::room(loops.len()).checked_sub(parts.checked_mul(4)?)?;
        let per_pair = if is_wide { 2_usize } else { 1 };
        let most = usize::try_from((1_u32 << 31).checked_div(shape.tiles)?).ok()?.checked_div(parts)?;
        let left = alike.from.len().checked_sub(*pair)?;
        let pairs = left.min(room.checked_div(per_pair)?).min(most);
        if pairs == 0 {
            return None;
        }
        let end = pair.checked_add(pairs)?;
        let (from, to) = (alike.from.get(*pair..end)?, alike.to.get(*pair..end)?);

        let head = &mut self.parameters.head;
        (head.src_pitch, head.dst_pitch) = blocks.map_or((0, 0), |of| (wide(of.src_pitch), wide(of.dst_pitch)));
        (head.units, head.tiles) = (shape.units, shape.tiles);
        (head.tiles_magic, head.tiles_shift) = division(shape.tiles);
        head.run = shape.run;
        (head.run_magic, head.run_shift) = division(shape.run);
        head.how = shape.how | if is_wide { WIDE_NUMBERS } else { 0 };
        (head.parts, head.part_tiles) = (narrow(parts)?, shape.tiles.checked_mul(narrow(pairs)?)?);
        (head.part_magic, head.part_shift) = division(head.part_tiles);
        let grid = head.part_tiles.checked_mul(head.parts)?;

        let (bases, numbers) = self.parameters.put(loops)?.split_at_mut_checked(parts.checked_mul(4)?)?;
        for (words, copy) in bases.as_chunks_mut::<4>().0.iter_mut().zip(alike.copies) {
            let (src, dst) = words.split_at_mut(2);
            halves(src, copy.src.addr());
            halves(dst, copy.dst.addr());
        }
        if is_wide {
            let words = numbers.as_chunks_mut::<2>().0.iter_mut();
            words.zip(from.iter().zip(to)).for_each(|(word, (from, to))| *word = [*from, *to]);
        } else {
            numbers.iter_mut().zip(from.iter().zip(to)).for_each(|(word, (from, to))| *word = from | to << 16);
        }
        *pair = end;
        let words = parts.checked_mul(4)?.checked_add(pairs.checked_mul(per_pair)?)?;
        self.kernels.strided(shape.body, Parameters::bytes(loops.len(), words), grid)
    }
}

impl Alike<'_> {
    fn blocks(&self) -> Option<&Blocks> {
        self.copies.first()?.blocks.as_ref()
    }

    fn shape(&self) -> Option<Shape> {
        let pitches = self.blocks().map_or((0, 0), |blocks| (blocks.src_pitch, blocks.dst_pitch));
        let (src, dst) =
            self.copies.iter().fold(pitches, |(src, dst), copy| (src | copy.src.addr(), dst | copy.dst.addr()));
        Shape::of(&self.copies.first()?.loops, src, dst)
    }
}

/// Whether two copies differ in their addresses only.
fn is_alike(one: &StridedCopy, other: &StridedCopy) -> bool {
    let blocks = |copy: &StridedCopy| copy.blocks.map(|of| (of.src_pitch, of.dst_pitch, of.from, of.to));
    one.loops == other.loops && blocks(one) == blocks(other)
}
