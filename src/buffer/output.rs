//! Outputs: memory that is initialised by whatever writes all of it.

use core::{cell::Cell, fmt, mem::MaybeUninit, num::NonZero, ptr::NonNull};

use super::{Dst, RowsMut, ViewMut};
use crate::{
    Element,
    error::{OutOfRange, Result},
    location::{AnyThread, Location},
};

/// Elements to write, of a buffer that [`Ctx::init_with`](crate::Ctx::init_with) initialises. Three
/// words.
///
/// It is a destination of copies, uploads, fills, batches and groups ([`Dst`]), and an argument of
/// kernels. It is written once: whatever writes it takes it by value, and counts its elements if
/// the write was enqueued. It cannot be read, copied or reborrowed. Parts of it are written each on
/// their own: [`split_at`](Output::split_at), [`rows`](Output::rows), [`tensor`](Output::tensor).
#[must_use = "the buffer is initialised once all of it is written"]
pub struct Output<'o, T, D> {
    /// Invariant: part of the memory that `counter` counts, disjoint from all other outputs.
    view: ViewMut<'o, MaybeUninit<T>, D>,
    counter: &'o Counter,
}

/// An output cut into rows of one width. It iterates over its rows, which are outputs.
#[must_use = "the buffer is initialised once all of it is written"]
pub struct OutputRows<'o, T, D> {
    /// Invariant: as for [`Output`].
    rows: RowsMut<'o, MaybeUninit<T>, D>,
    counter: &'o Counter,
}

/// The rows of an [`OutputRows`].
pub struct OutputRowsIter<'o, T, D> {
    rows: <RowsMut<'o, MaybeUninit<T>, D> as IntoIterator>::IntoIter,
    counter: &'o Counter,
}

/// The elements of one buffer that have been written so far. Only this crate changes it.
#[derive(Debug, Default)]
pub struct Counter(Cell<usize>);

impl Counter {
    /// Counts `len` elements whose write was enqueued.
    #[inline]
    pub(crate) fn add(&self, len: usize) {
        // Outputs of one buffer are disjoint and are written once, so that the sum is at most the
        // length of the buffer.
        self.0.set(self.0.get().wrapping_add(len));
    }

    #[inline]
    pub(crate) fn get(&self) -> usize {
        self.0.get()
    }
}

/// A write of an output that is not yet enqueued: which counter counts it, and how many elements.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) counter: NonNull<Counter>,
    pub(crate) len: usize,
}

impl Receipt {
    /// Counts the write.
    ///
    /// # Safety
    /// - The counter is alive.
    pub(crate) unsafe fn settle(&self) {
        // SAFETY:
        // - The caller promises that the counter is alive. It is shared, and changed by shared
        //   references.
        unsafe { self.counter.as_ref() }.add(self.len);
    }
}

impl<'o, T, D> Output<'o, T, D> {
    /// The elements of `view`, which `counter` counts.
    ///
    /// The caller makes one for the memory of a counter.
    #[inline]
    pub(crate) const fn new(view: ViewMut<'o, MaybeUninit<T>, D>, counter: &'o Counter) -> Self {
        Output { view, counter }
    }

    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.view.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// The first `mid` elements, and the rest.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer. They count as not written then.
    #[inline]
    pub fn split_at(self, mid: usize) -> Result<(Self, Self), OutOfRange> {
        let Output { view, counter } = self;
        let (head, tail) = view.split_at(mid)?;
        Ok((Output { view: head, counter }, Output { view: tail, counter }))
    }

    /// The elements, and what counts them.
    #[inline]
    pub(crate) fn into_raw(self) -> (ViewMut<'o, MaybeUninit<T>, D>, &'o Counter) {
        (self.view, self.counter)
    }

    /// What counts the elements.
    #[inline]
    pub(crate) const fn counter(&self) -> &'o Counter {
        self.counter
    }
}

impl<'o, T, D: Location> Output<'o, T, D> {
    /// The elements as rows of `width`.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if they are not a whole number of rows. They count
    /// as not written then.
    #[inline]
    pub fn rows(self, width: NonZero<usize>) -> Result<OutputRows<'o, T, D>> {
        Ok(OutputRows { rows: self.view.rows(width)?, counter: self.counter })
    }
}

impl<'o, T: Element, D> Dst<'o, T, D> for Output<'o, T, D> {
    #[inline]
    fn into_parts(self) -> (NonNull<T>, usize) {
        Dst::<'o, T, D>::into_parts(self.view)
    }

    #[inline]
    fn count(&self) -> usize {
        self.len()
    }

    #[inline]
    fn cut(self, mid: usize) -> Result<(Self, Self), OutOfRange> {
        self.split_at(mid)
    }

    #[inline]
    fn split_counter(self) -> Result<(ViewMut<'o, MaybeUninit<T>, D>, &'o Counter), Self> {
        Ok(self.into_raw())
    }

    #[inline]
    fn counter(&self) -> Option<&'o Counter> {
        Some(self.counter)
    }
}

impl<'o, T, D: Location> OutputRows<'o, T, D> {
    /// The elements of `rows`, which `counter` counts.
    #[inline]
    pub(crate) const fn new(rows: RowsMut<'o, MaybeUninit<T>, D>, counter: &'o Counter) -> Self {
        OutputRows { rows, counter }
    }

    /// How many rows there are.
    #[inline]
    #[must_use]
    pub const fn row_count(&self) -> usize {
        self.rows.row_count()
    }

    /// How many elements a row has.
    #[inline]
    #[must_use]
    pub const fn width(&self) -> NonZero<usize> {
        self.rows.width()
    }
}

impl<'o, T, D> IntoIterator for OutputRows<'o, T, D> {
    type Item = Output<'o, T, D>;
    type IntoIter = OutputRowsIter<'o, T, D>;
    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        OutputRowsIter { rows: self.rows.into_iter(), counter: self.counter }
    }
}

impl<'o, T, D> Iterator for OutputRowsIter<'o, T, D> {
    type Item = Output<'o, T, D>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let counter = self.counter;
        self.rows.next().map(|view| Output { view, counter })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl<T, D> ExactSizeIterator for OutputRowsIter<'_, T, D> {}

/// Rows that a Warp writes: a [`RowsMut`], or an [`OutputRows`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "a Warp writes rows of `{T}`, and `{Self}` is not cut into rows",
    label = "expected `RowsMut<'_, {T}, ..>`, or the rows of an output",
    note = "rows are cut from a view: `buffer.view_mut().rows(width)?`, or from an output of `ctx.init_with`: `out.rows(width)?`"
)]
pub trait DstRows<'a, T, D>: IntoIterator<Item: Dst<'a, T, D>> + sealed::SealedDstRows<'a, T, D> {
    /// How many rows there are.
    #[doc(hidden)]
    fn row_count(&self) -> usize;
    /// How many elements a row has.
    #[doc(hidden)]
    fn width(&self) -> NonZero<usize>;
    /// How many elements a row begins behind the one before.
    #[doc(hidden)]
    fn pitch(&self) -> usize;
    /// The address of the first row.
    #[doc(hidden)]
    fn as_mut_ptr(&mut self) -> *mut T;
    /// What counts the elements once the write was enqueued, if they are an output's.
    #[doc(hidden)]
    #[inline]
    fn counter(&self) -> Option<&'a Counter> {
        None
    }
}

impl<'a, T: Element, D: Location> DstRows<'a, T, D> for RowsMut<'a, T, D> {
    #[inline]
    fn row_count(&self) -> usize {
        RowsMut::row_count(self)
    }

    #[inline]
    fn width(&self) -> NonZero<usize> {
        RowsMut::width(self)
    }

    #[inline]
    fn pitch(&self) -> usize {
        RowsMut::pitch(self)
    }

    #[inline]
    fn as_mut_ptr(&mut self) -> *mut T {
        RowsMut::as_mut_ptr(self)
    }
}

impl<'o, T: Element, D: Location> DstRows<'o, T, D> for OutputRows<'o, T, D> {
    #[inline]
    fn row_count(&self) -> usize {
        self.rows.row_count()
    }

    #[inline]
    fn width(&self) -> NonZero<usize> {
        self.rows.width()
    }

    #[inline]
    fn pitch(&self) -> usize {
        self.rows.pitch()
    }

    #[inline]
    fn as_mut_ptr(&mut self) -> *mut T {
        self.rows.as_mut_ptr().cast()
    }

    #[inline]
    fn counter(&self) -> Option<&'o Counter> {
        Some(self.counter)
    }
}

/// What may change threads: an output in such memory. Sealed: [`AnyThread`] memory, of which no
/// output is. So the compiler gives one reason.
#[diagnostic::on_unimplemented(
    message = "an output stays on the thread of its stream, and no kernel captures it",
    label = "captured by a kernel, or sent to another thread",
    note = "a kernel gets an output as an argument: `ctx.launch((x.view(), out), |(x, mut out)| ..)`"
)]
pub trait ChangesThreads: AnyThread {}

#[diagnostic::do_not_recommend]
impl<D: AnyThread> ChangesThreads for D {}

// SAFETY:
// - No output is in memory of any thread, so that this applies to no type.
unsafe impl<T, D: ChangesThreads> Send for Output<'_, T, D> {}
// SAFETY:
// - As above.
unsafe impl<T, D: ChangesThreads> Sync for Output<'_, T, D> {}
// SAFETY:
// - As above.
unsafe impl<T, D: ChangesThreads> Send for OutputRows<'_, T, D> {}
// SAFETY:
// - As above.
unsafe impl<T, D: ChangesThreads> Sync for OutputRows<'_, T, D> {}

static_assertions::assert_eq_size!(Output<'static, u32, crate::location::Host>, [usize; 3]);
static_assertions::assert_not_impl_any!(Output<'static, u32, crate::location::Host>: Clone);

macro_rules! debug {
    ($($name:ident $field:ident)*) => {$(
        impl<T, D: Location> fmt::Debug for $name<'_, T, D> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field(stringify!($field), &self.$field).finish()
            }
        }
    )*};
}
debug!(Output view OutputRows rows OutputRowsIter rows);

/// Each has the parameters of the trait that it seals.
mod sealed {
    use super::{Element, Location, OutputRows, RowsMut};

    /// Implemented for `RowsMut` and `OutputRows` only.
    #[diagnostic::on_unimplemented(
        message = "`DstRows` is sealed, and `{Self}` is neither `RowsMut` nor `OutputRows` of `{T}` in `{D}`",
        label = "not rows to write",
        note = "memory of your own is written through a `ViewMut`, which `rows(width)` cuts into rows"
    )]
    pub trait SealedDstRows<'a, T, D> {}
    impl<'a, T: Element, D: Location> SealedDstRows<'a, T, D> for RowsMut<'a, T, D> {}
    impl<'o, T: Element, D: Location> SealedDstRows<'o, T, D> for OutputRows<'o, T, D> {}
}
