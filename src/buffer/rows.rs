//! Rows of one width: adjacent ones, or the same columns of wider rows.

mod iter;
mod pick;

use core::{fmt, marker::PhantomData, num::NonZero, ops::RangeBounds, ptr::NonNull};

pub use self::iter::{RowsIter, RowsIterMut};
pub(crate) use self::pick::{Picked, at_least};
use super::{View, ViewMut, shown, view::resolve};
use crate::{
    error::{Error, OutOfRange, Result},
    location::{AnyThread, Host, Location},
};

/// Rows of one width, borrowed to read. `Copy`, four words.
///
/// The rows of a view are adjacent. Some [`columns`](Rows::columns) of them are rows as well, which
/// are farther apart than they are wide: their distance is the [`pitch`](Rows::pitch).
pub struct Rows<'a, T, D> {
    /// Invariants:
    /// 1. Row `i`, for `i < count`, is the `width` elements from `ptr + i * pitch` on. It is
    ///    elements of `T` in `D` that are not written during `'a`, in stream order.
    /// 2. `width <= pitch`, so that rows do not overlap, and all rows lie in one allocation.
    /// 3. `ptr` is not null, except in an iterator that has handed out all rows.
    ptr: *const T,
    width: NonZero<usize>,
    pitch: usize,
    count: usize,
    borrow: PhantomData<(&'a T, D)>,
}

/// Rows of one width, borrowed exclusively. Four words.
///
/// Methods that select or divide consume the rows; [`reborrow`](RowsMut::reborrow) first to keep
/// them.
///
/// ```
/// use tidelock::ViewMut;
/// use std::num::NonZero;
///
/// // Two interleaved halves of one matrix: one is read while the other is written.
/// let mut mix = [1, 2, 10, 20, 3, 4, 30, 40];
/// let rows = ViewMut::from(&mut mix[..]).rows(NonZero::new(4).unwrap())?;
/// let (gate, up) = rows.split_columns(2)?;
/// for (gate, up) in gate.into_iter().zip(up.into_rows()) {
///     gate.into_slice().copy_from_slice(up.as_slice());
/// }
/// assert_eq!(mix, [10, 20, 10, 20, 30, 40, 30, 40]);
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct RowsMut<'a, T, D> {
    /// Invariants: as those of [`Rows`], except that only these rows access their elements during
    /// `'a`, in stream order. The elements between the rows belong to others.
    ptr: *mut T,
    width: NonZero<usize>,
    pitch: usize,
    count: usize,
    borrow: PhantomData<(&'a mut T, D)>,
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The view as rows of `width` elements.
    ///
    /// # Errors
    /// [`Error::Length`] if it is not a whole number of rows.
    #[inline]
    pub fn rows(self, width: NonZero<usize>) -> Result<Rows<'a, T, D>> {
        let count = count(self.len(), width)?;
        Ok(Rows { ptr: self.ptr.as_ptr(), width, pitch: width.get(), count, borrow: PhantomData })
    }
}

impl<'a, T, D: Location> ViewMut<'a, T, D> {
    /// The view as rows of `width` elements.
    ///
    /// # Errors
    /// [`Error::Length`] if it is not a whole number of rows.
    #[inline]
    pub fn rows(self, width: NonZero<usize>) -> Result<RowsMut<'a, T, D>> {
        let count = count(self.len(), width)?;
        Ok(RowsMut { ptr: self.ptr.as_ptr(), width, pitch: width.get(), count, borrow: PhantomData })
    }
}

impl<'a, T, D> Rows<'a, T, D> {
    /// # Safety
    /// - The invariants of the type.
    #[inline]
    pub(crate) const unsafe fn from_raw(ptr: *const T, width: NonZero<usize>, pitch: usize, count: usize) -> Self {
        Rows { ptr, width, pitch, count, borrow: PhantomData }
    }

    /// How many rows there are.
    #[inline]
    #[must_use]
    pub const fn row_count(self) -> usize {
        self.count
    }

    /// How many elements a row has.
    #[inline]
    #[must_use]
    pub const fn width(self) -> NonZero<usize> {
        self.width
    }

    /// How many elements a row begins behind the one before: the width if rows are adjacent, more
    /// if they are columns of wider rows.
    #[inline]
    #[must_use]
    pub const fn pitch(self) -> usize {
        self.pitch
    }

    /// The rows as one view.
    ///
    /// # Errors
    /// [`Error::Length`] if they are not adjacent: their pitch is not their width.
    #[inline]
    pub const fn as_view(self) -> Result<View<'a, T, D>> {
        let (width, pitch) = (self.width.get(), self.pitch);
        if pitch != width && self.count > 1 {
            return Err(Error::Length { operand: "pitch", expected: width, found: pitch });
        }
        // SAFETY:
        // - Invariant 3.
        let ptr = unsafe { NonNull::new_unchecked(self.ptr.cast_mut()) };
        // SAFETY:
        // - Invariant 1: the rows are so many adjacent elements, as their pitch is their width or
        //   there is at most one.
        Ok(unsafe { View::from_raw_parts(ptr, self.count.wrapping_mul(width)) })
    }

    /// The address of the first row.
    #[inline]
    pub(crate) const fn as_ptr(self) -> *const T {
        self.ptr
    }

    /// Row `i`.
    ///
    /// # Errors
    /// [`OutOfRange`] if there is none.
    #[inline]
    pub fn row(self, i: usize) -> Result<View<'a, T, D>, OutOfRange> {
        if i >= self.count {
            return Err(OutOfRange);
        }
        // SAFETY:
        // - `i < count`, just checked.
        Ok(unsafe { self.row_unchecked(i) })
    }

    /// The first `n` rows.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer.
    #[inline]
    pub const fn first(self, n: usize) -> Result<Rows<'a, T, D>, OutOfRange> {
        if n > self.count { Err(OutOfRange) } else { Ok(Rows { count: n, ..self }) }
    }

    /// The columns in `range` of every row: rows as many as these, and as far apart.
    ///
    /// # Errors
    /// [`OutOfRange`] if rows do not have all of these columns, or if the range is empty.
    #[inline]
    pub fn columns(self, range: impl RangeBounds<usize>) -> Result<Rows<'a, T, D>, OutOfRange> {
        let (start, width) = column_range(&range, self.width)?;
        Ok(Rows { ptr: self.ptr.wrapping_add(self.first_column(start)), width, ..self })
    }

    /// How far column `start` is from the first. Without rows there are no columns, and the address
    /// stays.
    #[inline]
    const fn first_column(self, start: usize) -> usize {
        if self.count == 0 { 0 } else { start }
    }

    /// Row `i`.
    ///
    /// # Safety
    /// - `i < self.count`.
    #[inline]
    const unsafe fn row_unchecked(self, i: usize) -> View<'a, T, D> {
        // SAFETY:
        // - `i < count`, as the caller promises.
        let ptr = unsafe { row_address(self.ptr.cast_mut(), i, self.pitch) };
        // SAFETY:
        // - Invariant 1.
        unsafe { View::from_raw_parts(ptr, self.width.get()) }
    }
}

impl<'a, T, D> RowsMut<'a, T, D> {
    /// # Safety
    /// - The invariants of the type.
    #[inline]
    pub(crate) const unsafe fn from_raw(ptr: *mut T, width: NonZero<usize>, pitch: usize, count: usize) -> Self {
        RowsMut { ptr, width, pitch, count, borrow: PhantomData }
    }

    /// How many rows there are.
    #[inline]
    #[must_use]
    pub const fn row_count(&self) -> usize {
        self.count
    }

    /// How many elements a row has.
    #[inline]
    #[must_use]
    pub const fn width(&self) -> NonZero<usize> {
        self.width
    }

    /// How many elements a row begins behind the one before: the width if rows are adjacent, more
    /// if they are columns of wider rows.
    #[inline]
    #[must_use]
    pub const fn pitch(&self) -> usize {
        self.pitch
    }

    /// The address of the first row.
    #[inline]
    pub(crate) const fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// The same rows for a shorter time.
    #[inline]
    #[must_use]
    pub const fn reborrow(&mut self) -> RowsMut<'_, T, D> {
        RowsMut { ptr: self.ptr, width: self.width, pitch: self.pitch, count: self.count, borrow: PhantomData }
    }

    /// The same rows to read, for as long as these are borrowed.
    #[inline]
    #[must_use]
    pub const fn as_rows(&self) -> Rows<'_, T, D> {
        Rows { ptr: self.ptr, width: self.width, pitch: self.pitch, count: self.count, borrow: PhantomData }
    }

    /// The same rows to read, for the whole lifetime.
    #[inline]
    #[must_use]
    pub const fn into_rows(self) -> Rows<'a, T, D> {
        Rows { ptr: self.ptr, width: self.width, pitch: self.pitch, count: self.count, borrow: PhantomData }
    }

    /// Row `i`.
    ///
    /// # Errors
    /// [`OutOfRange`] if there is none.
    #[inline]
    pub fn row(self, i: usize) -> Result<ViewMut<'a, T, D>, OutOfRange> {
        if i >= self.count {
            return Err(OutOfRange);
        }
        // SAFETY:
        // - `i < count`, just checked; `self` is consumed.
        Ok(unsafe { self.row_unchecked(i) })
    }

    /// The first `n` rows.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer.
    #[inline]
    pub const fn first(self, n: usize) -> Result<RowsMut<'a, T, D>, OutOfRange> {
        if n > self.count { Err(OutOfRange) } else { Ok(RowsMut { count: n, ..self }) }
    }

    /// The columns in `range` of every row: rows as many as these, and as far apart.
    ///
    /// # Errors
    /// [`OutOfRange`] if rows do not have all of these columns, or if the range is empty.
    #[inline]
    pub fn columns(self, range: impl RangeBounds<usize>) -> Result<RowsMut<'a, T, D>, OutOfRange> {
        let (start, width) = column_range(&range, self.width)?;
        Ok(RowsMut { ptr: self.ptr.wrapping_add(self.as_rows().first_column(start)), width, ..self })
    }

    /// The first `at` columns of every row, and the rest.
    ///
    /// # Errors
    /// [`OutOfRange`] if one of the two has no columns.
    #[inline]
    pub fn split_columns(self, at: usize) -> Result<(RowsMut<'a, T, D>, RowsMut<'a, T, D>), OutOfRange> {
        let rest = self.width.get().checked_sub(at).and_then(NonZero::new).ok_or(OutOfRange)?;
        let (left, width) = (self.ptr, NonZero::new(at).ok_or(OutOfRange)?);
        let right = RowsMut { ptr: left.wrapping_add(self.as_rows().first_column(at)), width: rest, ..self };
        // The columns `0 .. at` and `at .. width` of no row overlap, and nothing else accesses them
        // as `self` is consumed.
        let left = RowsMut { ptr: left, width, pitch: right.pitch, count: right.count, borrow: PhantomData };
        Ok((left, right))
    }

    /// The `N` rows of these numbers, in this order.
    ///
    /// Cost: `N * (N - 1) / 2` comparisons. [`Scatter`](super::Scatter) is for many rows.
    ///
    /// # Errors
    /// [`Error::Index`] for the first number that names no row, [`Error::Repeated`] for the first
    /// that is there already.
    ///
    /// ```
    /// use tidelock::ViewMut;
    /// use std::num::NonZero;
    ///
    /// let mut pool = [0; 6];
    /// let rows = ViewMut::from(&mut pool[..]).rows(NonZero::new(2).unwrap())?;
    /// let [last, first] = rows.get_disjoint([2, 0])?;
    /// (last.into_slice()[0], first.into_slice()[0]) = (7, 8);
    /// assert_eq!(pool, [8, 0, 0, 0, 7, 0]);
    ///
    /// let rows = ViewMut::from(&mut pool[..]).rows(NonZero::new(2).unwrap())?;
    /// let error = rows.get_disjoint([1, 1]).unwrap_err();
    /// assert_eq!(error.to_string(), "`rows`[1] is 1, which is there already");
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn get_disjoint<const N: usize>(self, rows: [usize; N]) -> Result<[ViewMut<'a, T, D>; N]> {
        let operand = "rows";
        for (position, &index) in rows.iter().enumerate() {
            if index >= self.count {
                return Err(Error::Index { operand, position, index, rows: self.count });
            }
            if rows.iter().take(position).any(|&earlier| earlier == index) {
                return Err(Error::Repeated { operand, position, index });
            }
        }
        Ok(rows.map(|row| {
            // SAFETY:
            // - `row < count`, and the numbers differ: checked above. `self` is consumed.
            unsafe { self.row_unchecked(row) }
        }))
    }

    /// Row `i`, to read.
    ///
    /// # Safety
    /// - `i < self.count`.
    /// - During `'a`, the row is not written.
    #[inline]
    const unsafe fn row_to_read_unchecked(&self, i: usize) -> View<'a, T, D> {
        // SAFETY:
        // - `i < count`, as the caller promises.
        let ptr = unsafe { row_address(self.ptr, i, self.pitch) };
        // SAFETY:
        // - The invariants: nothing but `self` accesses the row; the caller promises the rest.
        unsafe { View::from_raw_parts(ptr, self.width.get()) }
    }

    /// Row `i`.
    ///
    /// # Safety
    /// - `i < self.count`.
    /// - While the result lives, the row is not accessed through `self`, and is not taken again.
    #[inline]
    const unsafe fn row_unchecked(&self, i: usize) -> ViewMut<'a, T, D> {
        // SAFETY:
        // - `i < count`, as the caller promises.
        let ptr = unsafe { row_address(self.ptr, i, self.pitch) };
        // SAFETY:
        // - The invariants: rows do not overlap, and nothing but `self` accesses them.
        unsafe { ViewMut::from_raw_parts(ptr, self.width.get()) }
    }
}

/// The address of row `i`.
///
/// # Safety
/// - Rows that keep the invariants of [`Rows`] have this pitch, start at `ptr`, and are more than
///   `i`.
#[inline]
const unsafe fn row_address<T>(ptr: *mut T, i: usize, pitch: usize) -> NonNull<T> {
    // Wrapping: `add` requires an object on the host, and a device address has none. For elements
    // of size 0 the product may wrap, and the address stays the same.
    let ptr = ptr.wrapping_add(i.wrapping_mul(pitch));
    // SAFETY:
    // - The row lies in the allocation, which has no element at address 0.
    unsafe { NonNull::new_unchecked(ptr) }
}

/// Start and width of the columns in `range` of rows of `width` elements.
#[inline]
fn column_range(range: &impl RangeBounds<usize>, width: NonZero<usize>) -> Result<(usize, NonZero<usize>), OutOfRange> {
    let (start, columns) = resolve(range, width.get())?;
    Ok((start, NonZero::new(columns).ok_or(OutOfRange)?))
}

fn count(len: usize, width: NonZero<usize>) -> Result<usize> {
    let count = len / width;
    let whole = count.wrapping_mul(width.get());
    if whole == len { Ok(count) } else { Err(Error::Length { operand: "rows", expected: whole, found: len }) }
}

impl<T, D> Clone for Rows<'_, T, D> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, D> Copy for Rows<'_, T, D> {}

// SAFETY:
// - Rows of memory that belongs to no thread are a shared borrow of their elements.
unsafe impl<T: Sync, D: AnyThread> Send for Rows<'_, T, D> {}
// SAFETY:
// - As above: shared access only.
unsafe impl<T: Sync, D: AnyThread> Sync for Rows<'_, T, D> {}
// SAFETY:
// - Exclusive rows of memory that belongs to no thread are an exclusive borrow of their elements.
unsafe impl<T: Send, D: AnyThread> Send for RowsMut<'_, T, D> {}
// SAFETY:
// - A shared reference to exclusive rows gives shared access only.
unsafe impl<T: Sync, D: AnyThread> Sync for RowsMut<'_, T, D> {}

static_assertions::assert_eq_size!(Rows<'static, u32, Host>, [usize; 4]);
static_assertions::assert_eq_size!(RowsMut<'static, u32, Host>, [usize; 4]);
static_assertions::assert_impl_all!(RowsMut<'static, u32, Host>: Send, Sync);
static_assertions::assert_not_impl_any!(RowsMut<'static, u32, Host>: Clone);
static_assertions::assert_not_impl_any!(Rows<'static, core::cell::Cell<u32>, Host>: Send, Sync);

macro_rules! debug {
    ($($name:ident)*) => {$(
        impl<T, D: Location> fmt::Debug for $name<'_, T, D> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { width, pitch, count, .. } = self;
                shown::memory::<T, D>(f, stringify!($name))?;
                f.debug_struct("").field("count", count).field("width", width).field("pitch", pitch).finish()
            }
        }
    )*};
}
debug!(Rows RowsMut);
