//! Blocks of tensors by pairs of numbers, between any layouts.

#![forbid(unsafe_code)]

use core::ptr::NonNull;

use tidelock_driver::{Blocks, RowGather, StridedCopy, widen};

use super::{Group, storage::Run};
use crate::{
    Element,
    buffer::{Scatter, at_least},
    error::Result,
    layout::{BlockPlan, plan_blocks},
    stream::{BatchSource, DeviceLocation, KernelAccessible},
    tensor::{TensorMut, TensorView},
};

/// Blocks by pairs of numbers. What fails adds nothing to the group.
impl<'env, L: DeviceLocation> Group<'_, 'env, L> {
    /// Copies blocks, the places of axis 0: for each pair of `scatter`, `dst[to] = src[from]`, with
    /// the elements at the same indices of the other axes. All other blocks of `dst` are left as
    /// they are.
    ///
    /// Both tensors may have any layout, such as those of caches with tokens or heads first, by
    /// layer or by page: their other extents are equal. There are at least as many blocks as the
    /// bounds of the scatter, which is borrowed until the submission.
    ///
    /// ```
    /// use tidelock::{BatchCopy, Result, buffer::Scatter, sim};
    ///
    /// // Blocks of 2 tokens and 2 heads: [block, token, head] of a cache, [page, head, token] of
    /// // what is kept of it.
    /// let pages = sim::Device::default().stream(|mut stream, _env| -> Result<_> {
    ///     let ctx = stream.ctx().with_pool();
    ///     let cache = ctx.upload_new(&[0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23])?.tensor([3, 2, 2])?;
    ///     let mut pages = ctx.zeros::<i32>(8)?.tensor([2, 2, 2])?;
    ///     let mut scatter = Scatter::new();
    ///     scatter.set([(2, 0), (0, 1)], 3, 2)?;
    ///     BatchCopy::new().scope(&ctx, |batch| {
    ///         batch.group(|g| g.copy_blocks(cache.view(), &scatter, pages.view_mut().transpose(1, 2)?))
    ///     })?;
    ///     stream.read(pages.buffer().view())
    /// })??;
    /// assert_eq!(pages, [20, 22, 21, 23, 0, 2, 1, 3]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// Cost: one entry of the batch, for any number of blocks and of runs; blocks that are one run at
    /// both sides are rows, as for [`scatter`](Group::scatter). An entry for each run of plain host
    /// memory.
    ///
    /// # Errors
    /// [`Error::Extent`](crate::Error::Extent) if extents of other axes than axis 0 differ,
    /// [`Error::Length`](crate::Error::Length) naming the operand that has fewer blocks,
    /// [`Error::Rank`](crate::Error::Rank) if there is no axis.
    #[inline]
    pub fn copy_blocks<T: Element, S: BatchSource<L>, D: KernelAccessible<L>, const R: usize>(
        &mut self,
        src: TensorView<'env, T, S, R>,
        scatter: &'env Scatter,
        mut dst: TensorMut<'env, T, D, R>,
    ) -> Result<()> {
        let plan = plan_blocks(&src.layout(), &dst.layout(), size_of::<T>())?;
        at_least("src", scatter.from_rows(), blocks(src.shape()))?;
        at_least("dst", scatter.to_rows(), blocks(dst.shape()))?;
        let copy = StridedCopy::new(dst.as_mut_ptr().cast(), src.as_ptr().cast(), plan.loops);
        self.add_blocks(
            copy,
            &plan,
            scatter,
            Crossing { during_call: S::DURING_CALL, pcie: !(S::IS_DEVICE && D::IS_DEVICE) },
        )
    }

    /// Copies blocks inside one tensor: for each pair of `scatter`, `tensor[to] = tensor[from]`.
    ///
    /// The pairs have no order. So a block that is source and destination is refused. Cost and
    /// borrow: as for [`copy_blocks`](Group::copy_blocks).
    ///
    /// # Errors
    /// As for [`copy_blocks`](Group::copy_blocks), or
    /// [`Error::ReadAndWritten`](crate::Error::ReadAndWritten) for the first source that is a
    /// destination too.
    #[inline]
    pub fn copy_blocks_within<T: Element, D: BatchSource<L> + KernelAccessible<L>, const R: usize>(
        &mut self,
        mut tensor: TensorMut<'env, T, D, R>,
        scatter: &'env Scatter,
    ) -> Result<()> {
        let plan = plan_blocks(&tensor.layout(), &tensor.layout(), size_of::<T>())?;
        at_least("tensor", scatter.from_rows().max(scatter.to_rows()), blocks(tensor.shape()))?;
        scatter.apart()?;
        let ptr: *mut u8 = tensor.as_mut_ptr().cast();
        let copy = StridedCopy::new(ptr, ptr, plan.loops);
        self.add_blocks(copy, &plan, scatter, Crossing { during_call: false, pcie: !D::IS_DEVICE })
    }

    #[inline(never)]
    fn add_blocks(
        &mut self,
        copy: StridedCopy,
        plan: &BlockPlan,
        scatter: &'env Scatter,
        crossing: Crossing,
    ) -> Result<()> {
        let BlockPlan { loops, src_pitch, dst_pitch } = *plan;
        let run = loops.run();
        if run == 0 || scatter.is_empty() {
            return Ok(());
        }
        let (from, to) = (scatter.sources(), scatter.targets());
        if loops.runs() == 1 && src_pitch >= run && dst_pitch >= run && !crossing.during_call {
            let mut gather = RowGather::new(copy.dst, copy.src, run);
            (gather.src_pitch, gather.dst_pitch) = (src_pitch, dst_pitch);
            let bound = u32::try_from(scatter.from_rows()).unwrap_or(u32::MAX);
            (gather.old, gather.bound) = (bound, bound);
            if self.adds_scatter(gather, scatter, crossing.pcie)? {
                return Ok(());
            }
        }
        let blocks = Blocks::new((src_pitch, dst_pitch), NonNull::from(from), NonNull::from(to));
        let copy = copy.with_blocks(blocks.with_bits(bits(scatter)));
        self.beyond = self.beyond.wrapping_add(1);
        if !crossing.during_call {
            return self.storage.push_strided(copy);
        }
        self.storage.reserve_during_call(loops.runs().saturating_mul(from.len()))?;
        for (&from, &to) in from.iter().zip(to) {
            let (from, to) = (widen(from).wrapping_mul(src_pitch), widen(to).wrapping_mul(dst_pitch));
            for (src, dst) in &loops {
                let dst = copy.dst.wrapping_add(to).wrapping_add(dst);
                let src = copy.src.wrapping_add(from).wrapping_add(src);
                self.storage.push_during_call(Run { dst, src, bytes: run })?;
            }
        }
        Ok(())
    }
}

/// Where the operands are.
#[derive(Clone, Copy)]
struct Crossing {
    /// Whether the source is read during the call.
    during_call: bool,
    /// Whether host memory is read or written by the device.
    pcie: bool,
}

/// How many blocks there are.
fn blocks<const R: usize>(shape: [usize; R]) -> usize {
    shape.first().copied().unwrap_or(0)
}

/// A mask of the bits of all numbers below the bounds.
fn bits(scatter: &Scatter) -> u32 {
    let highest = scatter.from_rows().max(scatter.to_rows()).saturating_sub(1);
    let zeros = u32::try_from(highest).unwrap_or(u32::MAX).leading_zeros();
    u32::MAX.checked_shr(zeros).unwrap_or(0)
}
