//! Row numbers: checked once, in a pass that also counts the runs of consecutive rows.

#![forbid(unsafe_code)]

use tidelock_driver::widen;

use crate::error::{Error, Result};

/// Row numbers that are all below a bound. Checked once, and kept with the bound.
#[derive(Clone, Copy, Debug)]
pub struct Indices<'p> {
    /// Invariant: every element is below `bound`.
    rows: &'p [u32],
    bound: usize,
    scan: Scan,
}

/// How many rows are copied, and in how many runs: consecutive rows are one copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) rows: usize,
    pub(crate) runs: usize,
}

/// The result of one pass over row numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// The bitwise or of all row numbers.
    bits: u32,
    /// All rows.
    all: Runs,
    /// The rows of the present batch, below `old`.
    present: Runs,
}

impl<'p> Indices<'p> {
    /// Checks that every one of `rows` is below `bound`; `operand` names them in the error.
    ///
    /// Cost: one pass, vectorised if `bound` is below 2^31.
    ///
    /// # Errors
    /// [`Error::Index`] for the first that is not below it.
    #[inline]
    pub fn new(rows: &'p [u32], bound: usize, operand: &'static str) -> Result<Self> {
        Indices::with_joining(rows, bound, bound, operand)
    }

    /// As [`new`](Indices::new), for row numbers of the present batch below `old`, and of joining
    /// rows from `old` on.
    #[inline]
    pub(crate) fn with_joining(rows: &'p [u32], old: usize, bound: usize, operand: &'static str) -> Result<Self> {
        let scan = scan(rows, old, bound).map_or_else(|| scan_by_row(rows, old, bound, operand), Ok)?;
        Ok(Indices { rows, bound, scan })
    }

    /// The row numbers.
    #[inline]
    #[must_use]
    pub const fn as_slice(self) -> &'p [u32] {
        self.rows
    }

    /// The bound: every row number is below it.
    #[inline]
    #[must_use]
    pub const fn bound(self) -> usize {
        self.bound
    }

    /// The bitwise or of all row numbers.
    pub(crate) const fn bits(self) -> u32 {
        self.scan.bits
    }

    /// The rows that are copied, with those that join or without them. The first row that joins
    /// never continues a run.
    pub(crate) const fn runs(self, with_joining: bool) -> Runs {
        if with_joining { self.scan.all } else { self.scan.present }
    }
}

/// Scans row numbers without a branch. `None` if one is not below `bound`, or if `bound` is 2^31 or
/// above.
///
/// Not inlined, so that it is one call for each caller.
#[inline(never)]
fn scan(rows: &[u32], old: usize, bound: usize) -> Option<Scan> {
    let (old, bound) = (i32::try_from(old).ok()?, i32::try_from(bound).ok()?);
    // Without rows that join, there is less to count.
    if old < bound { pass::<true>(rows, old, bound) } else { pass::<false>(rows, old, bound) }
}

/// Row numbers in a block. Within a block the counters have 32 bits, so that the loop is
/// vectorised.
const BLOCK: usize = 1 << 12;

/// One pass, with signed comparisons: SSE2, which every x86-64 has, compares four signed numbers at
/// once, but no unsigned ones.
#[inline]
fn pass<const JOINS: bool>(rows: &[u32], old: i32, bound: i32) -> Option<Scan> {
    let Some((&first, following)) = rows.split_first() else {
        return Some(Scan::default());
    };
    // `below` is negative if all numbers are below the bound. A number from 2^31 on may pass this
    // test, but sets the sign bit of `bits`.
    let (mut below, mut bits) = (first.cast_signed().wrapping_sub(bound), first);
    let (mut present, mut continued, mut continued_present) =
        (usize::from(first.cast_signed() < old), 0_usize, 0_usize);
    for (rows, following) in rows.chunks(BLOCK).zip(following.chunks(BLOCK)) {
        let mut counts = (0_u32, 0_u32, 0_u32);
        for (&row, &next) in rows.iter().zip(following) {
            let (continues, next) = (row.wrapping_add(1) == next, next.cast_signed());
            below &= next.wrapping_sub(bound);
            bits |= next.cast_unsigned();
            if JOINS {
                counts.0 = counts.0.wrapping_add(u32::from(next < old));
                counts.1 = counts.1.wrapping_add(u32::from(continues & (next != old)));
                counts.2 = counts.2.wrapping_add(u32::from(continues & (next < old)));
            } else {
                counts.1 = counts.1.wrapping_add(u32::from(continues));
            }
        }
        present = present.wrapping_add(widen(counts.0));
        continued = continued.wrapping_add(widen(counts.1));
        continued_present = continued_present.wrapping_add(widen(counts.2));
    }
    if below >= 0 || bits.cast_signed() < 0 {
        return None;
    }
    let all = Runs { rows: rows.len(), runs: rows.len().wrapping_sub(continued) };
    let present = if JOINS { Runs { rows: present, runs: present.wrapping_sub(continued_present) } } else { all };
    Some(Scan { bits, all, present })
}

/// Scans row numbers one by one, for any bound, up to the first that is not below it.
#[cold]
#[inline(never)]
fn scan_by_row(rows: &[u32], old: usize, bound: usize, operand: &'static str) -> Result<Scan> {
    let (mut scan, mut last) = (Scan::default(), None);
    for (position, &row) in rows.iter().enumerate() {
        let index = widen(row);
        if index >= bound {
            return Err(Error::Index { operand, position, index, rows: bound });
        }
        scan.bits |= row;
        let starts = last != row.checked_sub(1) || last.is_none() || index == old;
        scan.all.add(starts);
        if index < old {
            scan.present.add(starts);
        }
        last = Some(row);
    }
    Ok(scan)
}

impl Runs {
    /// Adds a row. `starts`: it does not continue the run before it.
    fn add(&mut self, starts: bool) {
        self.rows = self.rows.wrapping_add(1);
        self.runs = self.runs.wrapping_add(usize::from(starts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, row by row.
    fn naive(numbers: &[u32], old: usize, with_joining: bool) -> Runs {
        let (mut rows, mut runs, mut last) = (0, 0, None::<usize>);
        for &number in numbers {
            let number = usize::try_from(number).unwrap();
            let copied = with_joining || number < old;
            rows += usize::from(copied);
            runs += usize::from(copied && (number == old || last.is_none_or(|last| last + 1 != number)));
            last = copied.then_some(number);
        }
        Runs { rows, runs }
    }

    /// Compares the scan of numbers that are all below the bound with the definition.
    fn compare(numbers: &[u32], old: usize, bound: usize) {
        let indices = Indices::with_joining(numbers, old, bound, "numbers").unwrap();
        let what = format!("{} numbers from {:?}, {old} of {bound}", numbers.len(), numbers.first());
        assert_eq!(indices.bits(), numbers.iter().fold(0, |bits, number| bits | number), "{what}");
        assert_eq!(indices.runs(true), naive(numbers, old, true), "{what}");
        assert_eq!(indices.runs(false), naive(numbers, old, false), "{what}");
        assert_eq!((indices.as_slice(), indices.bound()), (numbers, bound), "{what}");
    }

    /// Lengths with and without numbers after the last whole vector, and around a block.
    const LENGTHS: [usize; 12] = [0, 1, 2, 7, 8, 9, 31, 64, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7];

    #[test]
    fn runs_are_counted_as_row_by_row() {
        let mut state = 1_u32;
        for len in LENGTHS {
            for from in [0, (1 << 31) - 500, (1 << 31) + 3, u32::MAX - 999] {
                let mut number = 0_u32;
                let numbers: Vec<u32> = (0..len)
                    .map(|_| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        number = if state >> 29 == 0 { (state >> 8) % 1000 } else { (number + 1) % 1000 };
                        from + number
                    })
                    .collect();
                let from = usize::try_from(from).unwrap();
                for old in [0, 1, from, from + 500, from + 999, from + 1000] {
                    compare(&numbers, old, from + 1000);
                }
            }
        }
    }

    #[test]
    fn numbers_are_below_a_bound_as_one_by_one() {
        let borders = [0_u64, 1, 1 << 31, 1 << 32, 1 << 33, u64::MAX];
        let bounds: Vec<u64> = borders.iter().flat_map(|&b| [b.wrapping_sub(1), b, b.wrapping_add(1)]).collect();
        let mut refused = 0;
        for &bound in &bounds {
            let near = bounds.iter().flat_map(|&b| [b.wrapping_sub(1), b, b.wrapping_add(1)]);
            let mut numbers: Vec<u32> = near.filter_map(|number| u32::try_from(number).ok()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let (below, others): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|&&number| u64::from(number) < bound);
            let size = usize::try_from(bound).unwrap();
            for old in bounds.iter().filter(|&&old| old <= bound) {
                compare(&below, usize::try_from(*old).unwrap(), size);
            }
            // A number that is not below the bound is the first one, in a whole vector, or after
            // the last one; another follows.
            for (&other, at) in others.iter().flat_map(|other| [0, 1, 6, 11, 16].map(|at| (other, at))) {
                let mut rows = [0; 18];
                (rows[at], rows[17]) = (other, if at == 1 { u32::MAX } else { 0 });
                let position = rows.iter().position(|&row| u64::from(row) >= bound).unwrap();
                let expected = format!("`numbers`[{position}] is {}, but there are {bound} rows", rows[position]);
                let joining = Indices::with_joining(&rows, 0, size, "numbers").unwrap_err();
                let new = Indices::new(&rows, size, "numbers").unwrap_err();
                assert_eq!((joining.to_string(), new.to_string()), (expected.clone(), expected));
                refused += 1;
            }
        }
        assert!(refused > 100, "{refused} were refused");
    }
}
