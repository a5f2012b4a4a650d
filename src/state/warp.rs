//! The Warps: the rows of a batch are re-packed by a permutation.

#![forbid(unsafe_code)]

use tidelock_driver::widen;

use super::{Permutation, RowNumbers};
use crate::{
    Element,
    batch::Group,
    buffer::{Dst, DstRows, Picked, Ragged, Rows},
    error::{Error, Result},
    location::Location,
    stream::{BatchSource, DeviceLocation, KernelAccessible},
};

/// The Warps of continuous batching. A Warp that fails adds nothing to the group.
impl<'env, L: DeviceLocation> Group<'_, 'env, L> {
    /// Copies the rows that stay: `dst[i] = src[permutation[i]]`. Positions whose row joins are
    /// left as they are.
    ///
    /// `src` has `permutation.old()` rows, `dst` has `permutation.len()`, all of one width.
    ///
    /// Cost: the row numbers, 4 bytes each, are part of the batch, once for all states that one
    /// permutation re-packs. Few, long or mostly consecutive rows are a copy each instead;
    /// consecutive ones merge.
    ///
    /// # Errors
    /// [`Error::Length`] naming the operand that has another shape.
    #[inline]
    pub fn warp<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        permutation: Permutation<'env>,
        mut dst: impl DstRows<'env, T, D>,
    ) -> Result<()> {
        shapes(permutation.old(), permutation.len(), src, &dst)?;
        let counter = dst.counter();
        self.expects_output(counter)?;
        if self.adds_rows(src, None::<Rows<'env, T, S>>, permutation, &mut dst)? {
            self.count_rows(counter, permutation.indices().runs(false).rows, src.width().get());
            return Ok(());
        }
        for (row, dst) in src.pick_own(permutation.indices()).zip(dst) {
            if let Some(row) = row {
                self.copy(row, dst)?;
            }
        }
        Ok(())
    }

    /// Copies the rows that stay and the rows that join: `dst[i]` is row `permutation[i]` of `src`
    /// followed by `joining`.
    ///
    /// `src` has `permutation.old()` rows, `joining` has `permutation.joining()`, `dst` has
    /// `permutation.len()`, all of one width. Cost: as for [`warp`](Group::warp).
    ///
    /// # Errors
    /// [`Error::Length`] naming the operand that has another shape.
    #[inline]
    pub fn warp_join<T: Element, S: BatchSource<L>, N: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        joining: Rows<'env, T, N>,
        permutation: Permutation<'env>,
        mut dst: impl DstRows<'env, T, D>,
    ) -> Result<()> {
        shapes(permutation.old(), permutation.len(), src, &dst)?;
        expect("joining", permutation.joining(), joining.row_count())?;
        expect("joining row", src.width().get(), joining.width().get())?;
        let counter = dst.counter();
        self.expects_output(counter)?;
        if self.adds_rows(src, Some(joining), permutation, &mut dst)? {
            self.count_rows(counter, permutation.len(), src.width().get());
            return Ok(());
        }
        for (row, dst) in src.pick(joining, permutation.indices(), "permutation")?.zip(dst) {
            match row {
                Picked::First(row) => self.copy(row, dst)?,
                Picked::Second(row) => self.copy(row, dst)?,
            }
        }
        Ok(())
    }

    /// As [`warp`](Group::warp), by row numbers in device memory.
    ///
    /// Cost: independent of how many row numbers there are; a launch of its own.
    ///
    /// # Errors
    /// [`Error::Length`] naming the operand that has another shape; [`Error::TooLarge`] if `old +
    /// joining` exceeds 32 bits, or a row has more than 1 GiB.
    #[inline]
    pub fn warp_by<T: Element, S: KernelAccessible<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        numbers: RowNumbers<'env, L>,
        mut dst: impl DstRows<'env, T, D>,
    ) -> Result<()> {
        shapes(numbers.old(), numbers.len(), src, &dst)?;
        let counter = dst.counter();
        self.expects_output(counter)?;
        self.add_rows_by(src, None::<Rows<'env, T, S>>, numbers, &mut dst)?;
        // If the host does not have the numbers, any row may be one that joins.
        let rows = match numbers.on_host() {
            Some(on_host) => on_host.runs(false).rows,
            None if numbers.joining() == 0 => numbers.len(),
            None => 0,
        };
        self.count_rows(counter, rows, src.width().get());
        Ok(())
    }

    /// As [`warp_join`](Group::warp_join), by row numbers in device memory. Cost: as for
    /// [`warp_by`](Group::warp_by).
    ///
    /// # Errors
    /// As for [`warp_by`](Group::warp_by). [`Error::Length`] also if the pitches of `src` and `joining`
    /// differ: the device reads both with one.
    #[inline]
    pub fn warp_join_by<T: Element, S: KernelAccessible<L>, N: KernelAccessible<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        joining: Rows<'env, T, N>,
        numbers: RowNumbers<'env, L>,
        mut dst: impl DstRows<'env, T, D>,
    ) -> Result<()> {
        shapes(numbers.old(), numbers.len(), src, &dst)?;
        expect("joining", numbers.joining(), joining.row_count())?;
        expect("joining row", src.width().get(), joining.width().get())?;
        let counter = dst.counter();
        self.expects_output(counter)?;
        self.add_rows_by(src, Some(joining), numbers, &mut dst)?;
        self.count_rows(counter, numbers.len(), src.width().get());
        Ok(())
    }

    /// Copies rows of unequal length, and packs them densely: row `i` of `dst` is row
    /// `permutation[i]` of `src` followed by `joining`. Writes to `offsets[i]` where row `i`
    /// starts, and returns where the last row ends.
    ///
    /// `src` has `permutation.old()` rows, `joining` has `permutation.joining()`, `offsets` has
    /// `permutation.len() + 1` elements, and `dst` has room for all rows.
    ///
    /// # Errors
    /// [`Error::Length`] naming the operand that has another shape; [`Error::Room`] naming the
    /// first row that does not fit into `dst`, or whose offset does not fit into `u32`. `offsets`
    /// is unchanged then.
    #[inline]
    pub fn warp_ragged<T: Element, S: BatchSource<L>, N: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Ragged<'env, T, S>,
        joining: Ragged<'env, T, N>,
        permutation: Permutation<'_>,
        dst: impl Dst<'env, T, D>,
        offsets: &mut [u32],
    ) -> Result<usize> {
        expect("src", permutation.old(), src.row_count())?;
        expect("joining", permutation.joining(), joining.row_count())?;
        expect("offsets", permutation.len().saturating_add(1), offsets.len())?;
        let rows = permutation.indices().as_slice();
        let len = |row: u32| match widen(row).checked_sub(permutation.old()) {
            None => src.row_len(widen(row)).unwrap_or(0),
            Some(row) => joining.row_len(row).unwrap_or(0),
        };
        // Everything is checked before anything is added or written.
        let mut end = 0_usize;
        for (i, &row) in rows.iter().enumerate() {
            let room = dst.count().saturating_sub(end);
            end = end.saturating_add(len(row));
            if end > dst.count() || u32::try_from(end).is_err() {
                return Err(Error::Room { operand: "dst", row: i, found: len(row), room });
            }
        }
        let (mut rest, mut at) = (dst, 0_u32);
        let mut starts = offsets.iter_mut();
        for &row in rows {
            let (head, tail) = rest.cut(len(row)).map_err(|error| error.of("dst"))?;
            rest = tail;
            if let Some(start) = starts.next() {
                *start = at;
            }
            at = at.saturating_add(u32::try_from(head.count()).unwrap_or(u32::MAX));
            match widen(row).checked_sub(permutation.old()) {
                None => src.row(widen(row)).map_or(Ok(()), |row| self.copy(row, head))?,
                Some(row) => joining.row(row).map_or(Ok(()), |row| self.copy(row, head))?,
            }
        }
        if let Some(start) = starts.next() {
            *start = at;
        }
        Ok(end)
    }
}

/// Checks that `src` has `old` rows, `dst` has `new`, and all have one width.
#[inline]
fn shapes<'a, T, S: Location, D: Location>(
    old: usize,
    new: usize,
    src: Rows<'_, T, S>,
    dst: &impl DstRows<'a, T, D>,
) -> Result<()> {
    expect("src", old, src.row_count())?;
    expect("dst", new, dst.row_count())?;
    expect("dst row", src.width().get(), dst.width().get())
}

/// Checks the length of an operand, and names it in the error.
#[inline]
pub(super) fn expect(operand: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Length { operand, expected, found }) }
}
