//! Append: histories of variable length are re-packed, and each that stays grows by one token.

#![forbid(unsafe_code)]

use core::num::NonZero;

use tidelock_driver::widen;

use super::{Permutation, warp::expect};
use crate::{
    Element,
    batch::Group,
    buffer::{Ragged, Rows, RowsMut, View},
    error::{Error, Result},
    stream::{BatchSource, DeviceLocation, KernelAccessible},
};

impl<'env, L: DeviceLocation> Group<'_, 'env, L> {
    /// Copies histories, and appends one element to each that stays. With `j = permutation[i]`, row
    /// `i` of `dst` becomes the first `sizes[j]` elements of row `j` of `history`, followed by
    /// `tokens[j]`; or, if the row joins, row `j - old` of `joining`. `dst_sizes[i]` becomes the
    /// number of these elements.
    ///
    /// `history` has `permutation.old()` rows, as have `sizes` and `tokens`; `joining` has
    /// `permutation.joining()`; `dst` and `dst_sizes` have `permutation.len()`. The rest of each
    /// destination row is left as it is.
    ///
    /// # Errors
    /// [`Error::Length`] naming the operand that has another shape; [`Error::Room`] naming the
    /// first row that does not fit. Nothing is added to the group then, and `dst_sizes` is
    /// unchanged.
    #[expect(clippy::too_many_arguments, reason = "the operands of TurboMind's Append")]
    #[inline]
    pub fn append<T, S, K, N, D>(
        &mut self,
        history: Rows<'env, T, S>,
        sizes: &[u32],
        tokens: View<'env, T, K>,
        joining: Ragged<'env, T, N>,
        permutation: Permutation<'_>,
        dst: RowsMut<'env, T, D>,
        dst_sizes: &mut [u32],
    ) -> Result<()>
    where
        T: Element,
        S: BatchSource<L>,
        K: BatchSource<L>,
        N: BatchSource<L>,
        D: KernelAccessible<L>,
    {
        expect("history", permutation.old(), history.row_count())?;
        expect("sizes", permutation.old(), sizes.len())?;
        expect("tokens", permutation.old(), tokens.len())?;
        expect("joining", permutation.joining(), joining.row_count())?;
        expect("dst", permutation.len(), dst.row_count())?;
        expect("dst_sizes", permutation.len(), dst_sizes.len())?;
        let tokens = tokens.rows(NonZero::<usize>::MIN)?;
        let rows = permutation.indices().as_slice();
        let size = |row: usize| sizes.get(row).copied().map_or(0, widen);

        // Everything is checked before anything is added or written.
        let (history_room, room) = (history.width().get(), dst.width().get());
        for (i, &row) in rows.iter().enumerate() {
            let found = match widen(row).checked_sub(permutation.old()) {
                None if size(widen(row)) > history_room => {
                    return Err(Error::Room {
                        operand: "history",
                        row: i,
                        found: size(widen(row)),
                        room: history_room,
                    });
                }
                None => size(widen(row)).saturating_add(1),
                Some(row) => joining.row_len(row).unwrap_or(0),
            };
            if found > room || u32::try_from(found).is_err() {
                return Err(Error::Room { operand: "dst", row: i, found, room });
            }
        }

        for ((&row, dst), dst_size) in rows.iter().zip(dst).zip(dst_sizes) {
            let count = match widen(row).checked_sub(permutation.old()) {
                None => {
                    let (row, size) = (widen(row), size(widen(row)));
                    let (head, tail) = dst.split_at(size)?;
                    self.copy(history.row(row)?.slice(..size)?, head)?;
                    self.copy(tokens.row(row)?, tail.slice(..1)?)?;
                    size.saturating_add(1)
                }
                Some(row) => {
                    let row = joining.row(row)?;
                    self.copy(row, dst.slice(..row.len())?)?;
                    row.len()
                }
            };
            *dst_size = u32::try_from(count).unwrap_or(u32::MAX);
        }
        Ok(())
    }
}
