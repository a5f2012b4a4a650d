//! A group: copies that continue one another become one.

#![forbid(unsafe_code)]

use core::{
    fmt,
    marker::PhantomData,
    ptr::{self, NonNull},
};

use super::storage::{Moved, Run, Storage};
use crate::{
    Element,
    buffer::{Dst, Indices, Rows, RowsMut, View, widen},
    device::Move,
    error::{Error, Result},
    location::{BatchSource, DeviceLocation, Invariant, KernelAccessible, Location},
    state::{Permutation, RowNumbers},
};

/// Copies of one group: where a copy starts where the last one ended, at the source and at the destination, they become
/// one.
///
/// Merging stays inside one allocation, because distinct allocations are never adjacent (rule R10). Sources in plain host
/// memory are not merged.
pub struct Group<'g, 'env, L: DeviceLocation> {
    storage: &'g mut Storage,
    /// The run that grows: where its source starts, and where source and destination end. There is none if the source
    /// ends where it starts.
    src: *const u8,
    src_end: *const u8,
    dst_end: *mut u8,
    asked: u64,
    brand: PhantomData<(Invariant<'env>, L)>,
}

impl<'g, 'env, L: DeviceLocation> Group<'g, 'env, L> {
    pub(super) fn new(storage: &'g mut Storage) -> Self {
        Group {
            storage,
            src: ptr::null(),
            src_end: ptr::null(),
            dst_end: ptr::null_mut(),
            asked: 0,
            brand: PhantomData,
        }
    }

    /// Adds one copy, merged with the one before if it continues it. Cost of one that does: 15 instructions.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, [`Error::OutOfMemory`] if the storage cannot grow. Nothing is added then.
    #[inline]
    pub fn copy<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        let (dst, len) = dst.into_parts();
        // One way out of the fast path, with all operands in registers, so that the fast path saves none.
        if S::DURING_CALL
            || len != src.len()
            || src.as_ptr().cast() != self.src_end
            || dst.as_ptr().cast() != self.dst_end
        {
            return self.start::<T, S>(dst.as_ptr(), len, src);
        }
        self.asked = self.asked.wrapping_add(1);
        self.src_end = src.as_ptr().wrapping_add(len).cast();
        self.dst_end = dst.as_ptr().wrapping_add(len).cast();
        Ok(())
    }

    /// Adds one copy that is never merged, for adopted memory whose edges touch other memory of the group.
    ///
    /// # Errors
    /// As for [`copy`](Group::copy).
    #[inline]
    pub fn copy_unmerged<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        self.flush()?;
        self.copy(src, dst)?;
        self.flush()
    }

    /// Adds the rows of a permutation as a whole, if that is the better way; `false`, and nothing is added, if they are to be
    /// copied one by one: there are few, they are long, most of them continue one another, or they are read during the call.
    ///
    /// The caller has compared the shapes of all four; without `joining`, rows that join are left as they are.
    #[inline]
    pub(crate) fn adds_rows<T, S: BatchSource<L>, N: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        joining: Option<Rows<'env, T, N>>,
        permutation: Permutation<'env>,
        dst: &mut RowsMut<'env, T, D>,
    ) -> Result<bool> {
        if S::DURING_CALL || N::DURING_CALL {
            return Ok(false);
        }
        let m = rows(src, joining, (permutation.old(), permutation.joining()), dst);
        // Between host and device the copy engines do long rows better.
        let longest = if S::IS_DEVICE && N::IS_DEVICE && D::IS_DEVICE { LONGEST_ROW } else { LONGEST_ROW_TO_HOST };
        self.adds_move(m, permutation.rows(), longest)
    }

    /// Adds rows by numbers that are on the device.
    ///
    /// The caller has compared the shapes of all four; without `joining`, rows that join are left as they are.
    #[inline]
    pub(crate) fn add_rows_by<T, S: KernelAccessible<L>, N: KernelAccessible<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        joining: Option<Rows<'env, T, N>>,
        numbers: RowNumbers<'env, L>,
        dst: &mut RowsMut<'env, T, D>,
    ) -> Result<()> {
        let m = rows(src, joining, (numbers.old(), numbers.joining()), dst);
        self.add_move_by(Move { device: numbers.rows().as_ptr(), ..m }, numbers.on_host())
    }

    #[inline(never)]
    fn adds_move(&mut self, m: Move, numbers: Indices<'env>, longest: usize) -> Result<bool> {
        if m.rows < FEWEST_ROWS || m.bytes == 0 || m.bytes > longest || m.bound == u32::MAX {
            return Ok(false);
        }
        // Without a number of a row that joins, all are copied.
        let runs = Runs::of(numbers.as_slice(), m.old, !m.joining.is_null() || m.bound <= m.old);
        if runs.runs <= m.rows / LONG_RUNS {
            return Ok(false);
        }
        self.add_move(m, Some(numbers), &runs)?;
        Ok(true)
    }

    #[inline(never)]
    fn add_move_by(&mut self, m: Move, on_host: Option<Indices<'env>>) -> Result<()> {
        if m.bound == u32::MAX {
            return Err(Error::TooLarge { operand: "numbers" });
        }
        if m.bytes > LONGEST_ROW {
            return Err(Error::TooLarge { operand: "row" });
        }
        // Without rows that join, positions whose row joins are left as they are: no copies, as far as the host knows.
        let rows = match on_host {
            Some(numbers) if m.joining.is_null() => count_true(numbers.as_slice(), |&row| row < m.old),
            _ => m.rows,
        };
        self.add_move(m, on_host, &Runs { rows, runs: rows })
    }

    /// Adds rows as a whole, nothing but their count if they have no bytes.
    fn add_move(&mut self, m: Move, on_host: Option<Indices<'env>>, of: &Runs) -> Result<()> {
        if m.bytes != 0 && of.rows != 0 {
            self.flush()?;
            let moved = Moved { copies: count(of.runs), bytes: count(of.rows.wrapping_mul(m.bytes)) };
            let bits = on_host.map_or(u32::MAX, Indices::bits);
            let numbers = on_host.map(|numbers| NonNull::from(numbers.as_slice()));
            self.storage.push_move(Move { numbers, bits, ..m }, moved)?;
        }
        self.asked = self.asked.wrapping_add(count(of.rows));
        Ok(())
    }

    /// Ends the run, and the group.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.storage.count(self.asked);
        Ok(())
    }

    /// Adds a copy that does not continue the run: ends the run and starts another.
    #[cold]
    #[inline(never)]
    fn start<T, S: BatchSource<L>>(&mut self, dst: *mut T, len: usize, src: View<'env, T, S>) -> Result<()> {
        if len != src.len() {
            return Err(Error::Length { operand: "dst", expected: src.len(), found: len });
        }
        let run = Run { dst: dst.cast(), src: src.as_ptr().cast(), bytes: src.byte_len() };
        if run.bytes != 0 {
            if S::DURING_CALL {
                self.storage.push_during_call(run)?;
            } else {
                self.flush()?;
                self.src = run.src;
                self.src_end = run.src.wrapping_add(run.bytes);
                self.dst_end = run.dst.wrapping_add(run.bytes);
            }
        }
        self.asked = self.asked.wrapping_add(1);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = self.src_end.addr().wrapping_sub(self.src.addr());
        if bytes != 0 {
            self.storage.push(Run { dst: self.dst_end.wrapping_sub(bytes), src: self.src, bytes })?;
        }
        self.src = ptr::null();
        self.src_end = ptr::null();
        self.dst_end = ptr::null_mut();
        Ok(())
    }
}

/// Rows that change places, without their numbers.
#[inline]
fn rows<T, S: Location, N: Location, D: Location>(
    src: Rows<'_, T, S>,
    joining: Option<Rows<'_, T, N>>,
    (old, joins): (usize, usize),
    dst: &mut RowsMut<'_, T, D>,
) -> Move {
    let joining = joining.filter(|joining| joining.count() != 0);
    Move {
        dst: dst.as_mut_ptr().cast(),
        src: src.as_view().as_ptr().cast(),
        joining: joining.map_or(ptr::null(), |joining| joining.as_view().as_ptr().cast()),
        bytes: src.width().get().wrapping_mul(size_of::<T>()),
        // No row number is so large that this changes what it says, but one: the caller looks at the bound.
        old: u32::try_from(old).unwrap_or(u32::MAX),
        bound: u32::try_from(old.saturating_add(joins)).unwrap_or(u32::MAX),
        bits: u32::MAX,
        rows: dst.count(),
        numbers: None,
        device: ptr::null(),
    }
}

/// Fewer rows are copies like others.
const FEWEST_ROWS: usize = 8;
/// Longer rows between host and device are a copy each.
const LONGEST_ROW_TO_HOST: usize = (1 << 18) - 1;
/// The longest row that is picked by its number: longer ones are a launch each, or more.
const LONGEST_ROW: usize = 1 << 30;
/// Rows of which so many continue one another, on average, are copied run by run.
const LONG_RUNS: usize = 8;

/// How rows lie.
struct Runs {
    /// Rows that are copied.
    rows: usize,
    /// How many copies they are, if those that continue one another are one.
    runs: usize,
}

impl Runs {
    /// Rows below `old` are copied, others if `all` are. Cost: one pass if all are, else two; vectorised.
    fn of(numbers: &[u32], old: u32, all: bool) -> Runs {
        let rows = if all { numbers.len() } else { count_true(numbers, |&number| number < old) };
        let next = numbers.get(1..).unwrap_or_default();
        // The first row that joins does not continue the last of the present ones.
        let continued = if rows == numbers.len() {
            pairs_true(numbers, next, |number, next| (next != old) & (number.wrapping_add(1) == next))
        } else {
            pairs_true(numbers, next, |number, next| (next < old) & (number.wrapping_add(1) == next))
        };
        Runs { rows, runs: rows.wrapping_sub(continued) }
    }
}

/// Numbers that are counted with 32 bits, so that the loop is vectorised.
const BLOCK: usize = 1 << 12;

/// How many numbers are `so`.
#[inline]
fn count_true(numbers: &[u32], so: impl Fn(&u32) -> bool) -> usize {
    let of = |block: &[u32]| block.iter().fold(0_u32, |sum, number| sum.wrapping_add(u32::from(so(number))));
    numbers.chunks(BLOCK).fold(0, |sum, block| sum.wrapping_add(widen(of(block))))
}

/// How many numbers and the ones behind them are `so`.
#[inline]
fn pairs_true(numbers: &[u32], next: &[u32], so: impl Fn(u32, u32) -> bool) -> usize {
    let of = |(numbers, next): (&[u32], &[u32])| {
        let pairs = numbers.iter().zip(next);
        pairs.fold(0_u32, |sum, (&number, &next)| sum.wrapping_add(u32::from(so(number, next))))
    };
    numbers.chunks(BLOCK).zip(next.chunks(BLOCK)).fold(0, |sum, blocks| sum.wrapping_add(widen(of(blocks))))
}

/// A count for the statistics.
fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl<L: DeviceLocation> fmt::Debug for Group<'_, '_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row by row, as it is said.
    fn naive(numbers: &[u32], old: u32, all: bool) -> (usize, usize) {
        let (mut rows, mut runs, mut last) = (0, 0, None::<u32>);
        for &number in numbers {
            let copied = all || number < old;
            rows += usize::from(copied);
            runs += usize::from(copied && (number == old || last.is_none_or(|last| last + 1 != number)));
            last = copied.then_some(number);
        }
        (rows, runs)
    }

    #[test]
    fn runs_are_counted_as_row_by_row() {
        let mut state = 1_u32;
        for len in [0, 1, 2, 31, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let mut number = 0_u32;
            let numbers: Vec<u32> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    number = if state >> 29 == 0 { (state >> 8) % 1000 } else { (number + 1) % 1000 };
                    number
                })
                .collect();
            for (old, all) in [(0, true), (500, true), (500, false), (1000, false), (1000, true)] {
                let found = Runs::of(&numbers, old, all);
                assert_eq!((found.rows, found.runs), naive(&numbers, old, all), "{len} rows, {old}, {all}");
            }
        }
    }
}
