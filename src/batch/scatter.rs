//! Rows by pairs of numbers, and rows as they are.

#![forbid(unsafe_code)]

use super::Group;
use crate::{
    Element,
    buffer::{Rows, RowsMut, Scatter, at_least},
    error::{Error, Result},
    location::Location,
    stream::{BatchSource, DeviceLocation, KernelAccessible},
};

/// Rows by pairs of numbers. What fails adds nothing to the group.
impl<'env, L: DeviceLocation> Group<'_, 'env, L> {
    /// Copies rows: for each pair of `scatter`, `dst[to] = src[from]`. All other rows of `dst` are
    /// left as they are.
    ///
    /// `src` and `dst` have one width, and at least [`from_rows`](Scatter::from_rows) and
    /// [`to_rows`](Scatter::to_rows) rows. The scatter is borrowed until the submission, so that it
    /// does not change meanwhile.
    ///
    /// Cost: the numbers, 8 bytes a pair, are part of the batch, once for all buffers that one
    /// scatter serves. Few, long or mostly consecutive rows are a copy each instead; consecutive
    /// ones merge.
    ///
    /// # Errors
    /// [`Error::Length`] naming the operand that has another width, or fewer rows.
    #[inline]
    pub fn scatter<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        scatter: &'env Scatter,
        mut dst: RowsMut<'env, T, D>,
    ) -> Result<()> {
        at_least("src", scatter.from_rows(), src.row_count())?;
        at_least("dst", scatter.to_rows(), dst.row_count())?;
        same_width(src, &dst)?;
        if self.adds_pairs(src, scatter, &mut dst)? {
            return Ok(());
        }
        for (src, dst) in src.sources(scatter)?.zip(dst.targets(scatter)?) {
            self.copy(src, dst)?;
        }
        Ok(())
    }

    /// Copies rows inside one buffer: for each pair of `scatter`, `rows[to] = rows[from]`. All other
    /// rows are left as they are.
    ///
    /// The pairs have no order. So a row that is source and destination is refused: what one pair
    /// writes, no other reads. A chain takes one batch for each link.
    ///
    /// There are at least as many `rows` as both bounds of the scatter. Cost and borrow: as for
    /// [`scatter`](Group::scatter).
    ///
    /// # Errors
    /// [`Error::Length`] if there are fewer rows; [`Error::ReadAndWritten`] for the first source that
    /// is a destination too.
    ///
    /// ```
    /// use tidelock::{BatchCopy, Error, buffer::Scatter, sim};
    /// use std::num::NonZero;
    ///
    /// let seen = sim::Device::default().stream(|mut stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let block = NonZero::new(1).unwrap();
    ///     let mut cache = ctx.upload_new(&[10, 11, 12, 13, 14])?;
    ///     let mut batch = BatchCopy::new();
    ///     let mut scatter = Scatter::new();
    ///     // Two sequences get copies of their own of block 3 (copy-on-write).
    ///     scatter.set([(3, 0), (3, 2)], 5, 5)?;
    ///     batch.scope(&ctx, |b| b.group(|g| g.scatter_within(cache.view_mut().rows(block)?, &scatter)))?;
    ///     // A chain is refused, as its copies have no order.
    ///     scatter.set([(1, 4), (4, 2)], 5, 5)?;
    ///     let answer = batch.scope(&ctx, |b| b.group(|g| g.scatter_within(cache.view_mut().rows(block)?, &scatter)));
    ///     assert_eq!(answer, Err(Error::ReadAndWritten { operand: "from", position: 1, index: 4 }));
    ///     let seen = ctx.init_from(ctx.alloc_pinned(5)?.stage(&ctx), cache.view())?.reclaim(&stream.synchronize()?);
    ///     Ok::<_, Error>(seen.to_vec())
    /// })??;
    /// assert_eq!(seen, [13, 11, 13, 13, 14]);
    /// # Ok::<(), Error>(())
    /// ```
    #[inline]
    pub fn scatter_within<T: Element, D: BatchSource<L> + KernelAccessible<L>>(
        &mut self,
        mut rows: RowsMut<'env, T, D>,
        scatter: &'env Scatter,
    ) -> Result<()> {
        at_least("rows", scatter.from_rows().max(scatter.to_rows()), rows.row_count())?;
        scatter.apart()?;
        if self.adds_pairs_within(&mut rows, scatter)? {
            return Ok(());
        }
        for (src, dst) in rows.pairs(scatter)? {
            self.copy(src, dst)?;
        }
        Ok(())
    }

    /// Copies all rows, in order: `dst[i] = src[i]`. It is for rows with a pitch, of which a view
    /// cannot be made.
    ///
    /// Cost: as for a [`copy`](Group::copy) of each row; adjacent rows merge.
    ///
    /// # Errors
    /// [`Error::Length`] if the number of rows or their widths differ.
    #[inline]
    pub fn copy_rows<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        dst: RowsMut<'env, T, D>,
    ) -> Result<()> {
        same_width(src, &dst)?;
        let (expected, found) = (src.row_count(), dst.row_count());
        if expected != found {
            return Err(Error::Length { operand: "dst", expected, found });
        }
        src.into_iter().zip(dst).try_for_each(|(src, dst)| self.copy(src, dst))
    }
}

/// Checks that the rows of source and destination have one width.
#[inline]
fn same_width<T, S: Location, D: Location>(src: Rows<'_, T, S>, dst: &RowsMut<'_, T, D>) -> Result<()> {
    let (expected, found) = (src.width().get(), dst.width().get());
    if expected == found { Ok(()) } else { Err(Error::Length { operand: "dst row", expected, found }) }
}
