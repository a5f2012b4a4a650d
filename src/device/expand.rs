//! Moves as copies, for a device that has nothing better for them.

#![forbid(unsafe_code)]

use core::{cell::Cell, fmt};

use super::{
    Copies,
    code::{Code, DriverError},
};
use crate::buffer::widen;

/// Room for the copies of a batch whose moves are written out; it grows to the largest and stays so.
#[derive(Debug, Default)]
struct Expanded {
    dst: Vec<*mut u8>,
    src: Vec<*const u8>,
    len: Vec<usize>,
}

/// The room of one queue.
#[derive(Default)]
pub(crate) struct GatherScratch(Cell<Expanded>);

impl GatherScratch {
    /// Calls `f` with `copies`, its moves written out as [`Expanded::fill`] does.
    ///
    /// # Errors
    /// As for [`Expanded::fill`], and what `f` returned.
    pub(crate) fn expanded<T, E: From<DriverError>>(
        &self,
        copies: &Copies<'_>,
        f: impl FnOnce(&Copies<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if copies.moves.is_empty() {
            return f(copies);
        }
        let mut room = self.0.take();
        let answer = room.fill(copies).map_err(E::from).and_then(|copies| f(&copies));
        self.0.set(room);
        answer
    }
}

impl Expanded {
    /// `copies` with a copy for each row of its moves; rows that continue one another, at both ends, are one copy. Moves whose
    /// numbers the host does not know are left out.
    ///
    /// # Errors
    /// If there is no room.
    fn fill(&mut self, copies: &Copies<'_>) -> Result<Copies<'_>, DriverError> {
        let rows = copies.moves.all().iter().fold(copies.len.len(), |sum, m| sum.saturating_add(m.rows));
        let no_room = |_| DriverError::new("writing out the rows of a batch", Code::OUT_OF_MEMORY);
        self.dst.clear();
        self.src.clear();
        self.len.clear();
        self.dst.try_reserve(rows).map_err(no_room)?;
        self.src.try_reserve(rows).map_err(no_room)?;
        self.len.try_reserve(rows).map_err(no_room)?;
        let split = copies.during_call.min(copies.len.len());
        self.append(copies, 0, split);
        for (m, numbers) in copies.moves.iter() {
            let numbers = numbers.unwrap_or_default();
            let mut dst = m.dst;
            // Where the last copy of this move ends, and whether its source is `joining`.
            let (mut dst_end, mut src_end, mut joined) = (core::ptr::null_mut(), core::ptr::null(), false);
            for &number in numbers {
                let row = |n: u32| widen(n).wrapping_mul(m.bytes);
                let src = match number.checked_sub(m.old) {
                    None => m.src.wrapping_add(row(number)),
                    Some(number) if !m.joining.is_null() => m.joining.wrapping_add(row(number)),
                    Some(_) => core::ptr::null(),
                };
                if !src.is_null() {
                    match self.len.last_mut() {
                        Some(len) if dst == dst_end && src == src_end && joined == (number >= m.old) => {
                            *len = len.wrapping_add(m.bytes)
                        }
                        _ => {
                            self.dst.push(dst);
                            self.src.push(src);
                            self.len.push(m.bytes);
                        }
                    }
                    (dst_end, src_end) = (dst.wrapping_add(m.bytes), src.wrapping_add(m.bytes));
                    joined = number >= m.old;
                }
                dst = dst.wrapping_add(m.bytes);
            }
        }
        let during_call = self.len.len();
        self.append(copies, split, copies.len.len());
        Ok(Copies { dst: &self.dst, src: &self.src, len: &self.len, during_call, ..Copies::default() })
    }

    /// Adds copies `from` to `to`.
    fn append(&mut self, copies: &Copies<'_>, from: usize, to: usize) {
        self.dst.extend_from_slice(copies.dst.get(from..to).unwrap_or_default());
        self.src.extend_from_slice(copies.src.get(from..to).unwrap_or_default());
        self.len.extend_from_slice(copies.len.get(from..to).unwrap_or_default());
    }
}

impl fmt::Debug for GatherScratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherScratch").finish_non_exhaustive()
    }
}
