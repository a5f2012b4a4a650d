//! Pairs of row numbers, source and destination: checked once for any number of buffers.

#![forbid(unsafe_code)]

use core::fmt;

use tidelock_driver::widen;

use super::Runs;
use crate::error::{Error, Result};

/// Which rows go where: pairs of a source row and a destination row, in reusable storage.
///
/// Every number is below its bound, and no two destinations are one row. A source may be there more
/// than once. Both are checked once, in [`set`](Scatter::set); what uses the pairs compares the two
/// bounds with its rows, so that one `Scatter` serves all layers of a model.
///
/// [`Group::scatter`](crate::batch::Group::scatter) copies between two buffers,
/// [`Group::scatter_within`](crate::batch::Group::scatter_within) inside one.
/// [`RowsMut::targets`](super::RowsMut::targets), [`RowsMut::pairs`](super::RowsMut::pairs) and
/// [`Rows::sources`](super::Rows::sources) are the rows themselves, for copies of other kinds.
///
/// ```
/// use tidelock::{BatchCopy, buffer::Scatter, sim};
/// use std::num::NonZero;
///
/// let seen = sim::Device::default().stream(|mut stream, _env| {
///     let ctx = stream.ctx().with_pool();
///     let width = NonZero::new(2).unwrap();
///     let tokens = ctx.upload_new(&[0, 0, 1, 1, 2, 2])?;
///     let mut slots = ctx.zeros::<i32>(8)?;
///     let mut scatter = Scatter::new();
///     // Rows of a prefill, to slots of a free list.
///     scatter.set([(2, 3), (0, 1), (1, 0)], 3, 4)?;
///     BatchCopy::new().scope(&ctx, |batch| {
///         batch.group(|group| group.scatter(tokens.view().rows(width)?, &scatter, slots.view_mut().rows(width)?))
///     })?;
///     let seen = ctx.init_from(ctx.alloc_pinned(8)?.stage(&ctx), slots.view())?.reclaim(&stream.synchronize()?);
///     Ok::<_, tidelock::Error>(seen.to_vec())
/// })??;
/// assert_eq!(seen, [1, 1, 0, 0, 0, 0, 2, 2]);
/// # Ok::<(), tidelock::Error>(())
/// ```
#[derive(Default)]
pub struct Scatter {
    /// The numbers of all pairs. Invariant of the first `len`, which are as many of both: each is
    /// below its bound, and no two of `to` are equal.
    from: Vec<u32>,
    to: Vec<u32>,
    len: usize,
    from_rows: usize,
    to_rows: usize,
    /// The runs of pairs that continue one another in source and destination.
    runs: usize,
    /// The position of the first source that is a destination too.
    within: Option<usize>,
    /// A bit for each row up to the highest destination ever. All are 0 between calls.
    marks: Vec<u64>,
}

impl Scatter {
    /// No pairs. Nothing is allocated.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Scatter {
            from: Vec::new(),
            to: Vec::new(),
            len: 0,
            from_rows: 0,
            to_rows: 0,
            runs: 0,
            within: None,
            marks: Vec::new(),
        }
    }

    /// Replaces the pairs by `pairs`, each the number of a source row, below `from_rows`, and of its
    /// destination row, below `to_rows`.
    ///
    /// The storage grows to the most pairs, and by a bit for each row up to the highest destination;
    /// it is not shrunk. Cost: two passes over the pairs, and no allocation once it has grown.
    ///
    /// There are no pairs if this fails, or if `pairs` panics.
    ///
    /// # Errors
    /// [`Error::Index`] for the first number, of `from` or of `to`, that is not below its bound;
    /// [`Error::Repeated`] for the first destination that is there already;
    /// [`Error::OutOfMemory`] if the storage cannot grow.
    ///
    /// ```
    /// use tidelock::buffer::Scatter;
    ///
    /// let mut scatter = Scatter::new();
    /// let error = scatter.set([(0, 1), (4, 2)], 4, 4).unwrap_err();
    /// assert_eq!(error.to_string(), "`from`[1] is 4, but there are 4 rows");
    /// let error = scatter.set([(0, 1), (3, 1)], 4, 4).unwrap_err();
    /// assert_eq!(error.to_string(), "`to`[1] is 1, which is there already");
    /// ```
    #[inline]
    pub fn set(&mut self, pairs: impl IntoIterator<Item = (u32, u32)>, from_rows: usize, to_rows: usize) -> Result<()> {
        // While the caller's iterator runs there are no pairs, and nothing is marked.
        self.clear();
        for (from, to) in pairs {
            self.push(from, to)?;
        }
        self.check(from_rows, to_rows)
    }

    /// Removes all pairs, and keeps the storage.
    #[inline]
    pub fn clear(&mut self) {
        (self.len, self.from_rows, self.to_rows, self.runs, self.within) = (0, 0, 0, 0, None);
        self.from.clear();
        self.to.clear();
    }

    /// How many pairs there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bound of the sources: each is below it.
    #[inline]
    #[must_use]
    pub const fn from_rows(&self) -> usize {
        self.from_rows
    }

    /// The bound of the destinations: each is below it.
    #[inline]
    #[must_use]
    pub const fn to_rows(&self) -> usize {
        self.to_rows
    }

    /// The source of each pair.
    #[inline]
    #[must_use]
    pub fn sources(&self) -> &[u32] {
        self.from.get(..self.len).unwrap_or_default()
    }

    /// The destination of each pair. No two are equal.
    #[inline]
    #[must_use]
    pub fn targets(&self) -> &[u32] {
        self.to.get(..self.len).unwrap_or_default()
    }

    /// Checks that no row is source and destination, as copies inside one buffer need it.
    ///
    /// # Errors
    /// [`Error::ReadAndWritten`] for the first source that is a destination too.
    #[inline]
    pub(crate) fn apart(&self) -> Result<()> {
        match self.within {
            None => Ok(()),
            Some(position) => {
                let index = self.from.get(position).map_or(0, |&from| widen(from));
                Err(Error::ReadAndWritten { operand: "from", position, index })
            }
        }
    }

    /// The pairs, and their runs if adjacent rows of the buffers continue one another.
    #[inline]
    pub(crate) const fn runs(&self, adjacent: bool) -> Runs {
        Runs { rows: self.len, runs: if adjacent { self.runs } else { self.len } }
    }

    #[inline]
    fn push(&mut self, from: u32, to: u32) -> Result<()> {
        if self.from.len() == self.from.capacity() || self.to.len() == self.to.capacity() {
            self.grow()?;
        }
        self.from.push(from);
        self.to.push(to);
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Result<()> {
        let bytes = self.from.len().saturating_mul(size_of::<(u32, u32)>()).saturating_mul(2);
        self.from.try_reserve(64).map_err(|_| no_room(bytes))?;
        self.to.try_reserve(64).map_err(|_| no_room(bytes))
    }

    /// Clears the marks of the destinations, which lie in the first `words` words: all of these, unless
    /// there are few destinations in many.
    fn unmark_all(&mut self, words: usize) {
        match self.marks.get_mut(..words) {
            Some(marks) if words <= self.to.len() => marks.fill(0),
            _ => {
                for &to in &self.to {
                    let (word, _) = place(to);
                    if let Some(word) = self.marks.get_mut(word) {
                        *word = 0;
                    }
                }
            }
        }
    }

    /// Checks the pairs that were pushed, and makes them those of the scatter.
    fn check(&mut self, from_rows: usize, to_rows: usize) -> Result<()> {
        in_bounds(&self.from, from_rows, "from")?;
        in_bounds(&self.to, to_rows, "to")?;
        let words = (widen(highest(&self.to)) / 64).saturating_add(1);
        if let Some(more) = words.checked_sub(self.marks.len()).filter(|_| !self.to.is_empty()) {
            self.marks.try_reserve(more).map_err(|_| no_room(words.saturating_mul(8)))?;
            self.marks.resize(words, 0);
        }
        // Without a branch for each number. Where one is refused is found afterwards.
        let is_repeated = self.to.iter().fold(false, |repeated, &to| !mark(&mut self.marks, to) | repeated);
        let is_read = self.from.iter().fold(false, |read, &from| is_marked(&self.marks, from) | read);
        let within = if is_read { self.from.iter().position(|&from| is_marked(&self.marks, from)) } else { None };
        self.unmark_all(words);
        if is_repeated {
            let position = self.to.iter().position(|&to| !mark(&mut self.marks, to)).unwrap_or(0);
            self.unmark_all(words);
            let index = self.to.get(position).map_or(0, |&to| widen(to));
            return Err(Error::Repeated { operand: "to", position, index });
        }
        let mut runs = usize::from(!self.to.is_empty());
        let pairs = self.from.array_windows::<2>().zip(self.to.array_windows::<2>());
        for ([from, next_from], [to, next_to]) in pairs {
            let continues = (from.wrapping_add(1) == *next_from) & (to.wrapping_add(1) == *next_to);
            runs = runs.wrapping_add(usize::from(!continues));
        }
        (self.from_rows, self.to_rows, self.runs, self.within) = (from_rows, to_rows, runs, within);
        self.len = self.from.len();
        Ok(())
    }
}

/// The highest number, 0 if there is none.
fn highest(numbers: &[u32]) -> u32 {
    numbers.iter().fold(0, |highest, &number| highest.max(number))
}

/// Checks that every number is below `rows`.
fn in_bounds(numbers: &[u32], rows: usize, operand: &'static str) -> Result<()> {
    if numbers.is_empty() || widen(highest(numbers)) < rows {
        return Ok(());
    }
    match numbers.iter().position(|&number| widen(number) >= rows) {
        None => Ok(()),
        Some(position) => {
            let index = numbers.get(position).map_or(0, |&number| widen(number));
            Err(Error::Index { operand, position, index, rows })
        }
    }
}

/// The word and the bit of a row.
#[inline]
fn place(row: u32) -> (usize, u64) {
    (widen(row / 64), 1 << (row % 64))
}

/// Marks a row that has a bit, and returns whether it was not marked before.
#[inline]
fn mark(marks: &mut [u64], row: u32) -> bool {
    let (word, bit) = place(row);
    match marks.get_mut(word) {
        Some(word) => {
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        }
        None => false,
    }
}

#[inline]
fn is_marked(marks: &[u64], row: u32) -> bool {
    let (word, bit) = place(row);
    marks.get(word).is_some_and(|word| word & bit != 0)
}

fn no_room(bytes: usize) -> Error {
    Error::OutOfMemory { location: "host", bytes, shortage: None }
}

impl fmt::Debug for Scatter {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scatter { len, from_rows, to_rows, .. } = self;
        f.debug_struct("Scatter")
            .field("len", len)
            .field("from_rows", from_rows)
            .field("to_rows", to_rows)
            .finish_non_exhaustive()
    }
}
