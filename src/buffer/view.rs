//! Borrowed memory: shared and exclusive views, and their slices.

mod cast;
mod chunks;
mod reinterpret;

use core::{
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    num::NonZero,
    ops::{Bound, RangeBounds},
    ptr::NonNull,
};

use self::cast::cast_parts;
pub use self::{
    cast::ReadAs,
    chunks::{ChunksExact, ChunksExactMut},
};
use super::{Output, output::Counter};
use crate::{
    Element, PlainBytes,
    buffer::shown,
    error::{OutOfRange, Result},
    location::{AnyThread, Host, HostAccessible, Location},
};

/// `len` elements of `T` in location `D`, borrowed to read. `Copy`, two words.
///
/// Cost of a slice: a bounds check and two moves.
pub struct View<'a, T, D> {
    /// Invariant: `len` elements of `T` in `D` that are not written during `'a`, in stream order.
    pub(super) ptr: NonNull<T>,
    len: usize,
    borrow: PhantomData<(&'a T, D)>,
}

/// `len` elements of `T` in location `D`, borrowed exclusively. Two words.
///
/// Slicing and splitting consume the view; [`reborrow`](ViewMut::reborrow) first to keep it.
pub struct ViewMut<'a, T, D> {
    /// Invariant: `len` elements of `T` in `D` that only this view accesses during `'a`, in stream
    /// order.
    pub(super) ptr: NonNull<T>,
    len: usize,
    borrow: PhantomData<(&'a mut T, D)>,
}

/// A destination for whole values: a [`ViewMut`] of `T` or of `MaybeUninit<T>`, or an [`Output`] of
/// `T`. Sealed.
///
/// A view of `T` does not convert to one of `MaybeUninit<T>`: through it, initialised memory could
/// become uninitialised.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a destination for elements of `{T}` in `{D}`",
    label = "expected `ViewMut<'_, {T}, {D}>`",
    note = "a buffer is a destination through `buffer.view_mut()`"
)]
pub trait Dst<'a, T, D>: Sized + sealed::SealedDst<'a, T, D> {
    /// The address and the length.
    #[doc(hidden)]
    fn into_parts(self) -> (NonNull<T>, usize);

    /// How many elements there are.
    #[doc(hidden)]
    fn count(&self) -> usize;

    /// The first `mid` elements, and the rest.
    #[doc(hidden)]
    fn cut(self, mid: usize) -> Result<(Self, Self), OutOfRange>;

    /// The elements without what counts them, if it is an [`Output`].
    #[doc(hidden)]
    #[inline]
    fn split_counter(self) -> Result<(ViewMut<'a, MaybeUninit<T>, D>, &'a Counter), Self> {
        Err(self)
    }

    /// What counts the elements once the write was enqueued, if it is an [`Output`].
    #[doc(hidden)]
    #[inline]
    fn counter(&self) -> Option<&'a Counter> {
        None
    }
}

impl<'a, T, D> View<'a, T, D> {
    /// A view of memory that was allocated elsewhere.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there in `D`, inside one allocation, once
    ///   the stream has passed what is enqueued now.
    /// - During `'a`, and until the stream has passed what is enqueued during `'a`, the memory
    ///   stays allocated and is not written.
    /// - Each end of the range lies inside the allocation, or is not adjacent to memory that is
    ///   used in the same batch group.
    #[inline]
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<T>, len: usize) -> Self {
        View { ptr, len, borrow: PhantomData }
    }

    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub const fn byte_len(self) -> usize {
        self.len.wrapping_mul(size_of::<T>())
    }

    /// The address of the first element, in the location's own address space.
    #[inline]
    #[must_use]
    pub const fn as_ptr(self) -> *const T {
        self.ptr.as_ptr()
    }

    #[inline]
    pub(crate) const fn as_nonnull(self) -> NonNull<T> {
        self.ptr
    }

    /// The elements in `range`. Cost: 8 instructions.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist, or if the range ends before it starts.
    #[inline]
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<View<'a, T, D>, OutOfRange> {
        let (start, len) = resolve(&range, self.len)?;
        Ok(View { ptr: element_address(self.ptr, start)?, len, borrow: PhantomData })
    }

    /// The first `mid` elements, and the rest.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer.
    #[inline]
    pub fn split_at(self, mid: usize) -> Result<(View<'a, T, D>, View<'a, T, D>), OutOfRange> {
        let rest = self.len.checked_sub(mid).ok_or(OutOfRange)?;
        // SAFETY:
        // - `0 + mid <= self.len`.
        let head = unsafe { self.part(0, mid) };
        // SAFETY:
        // - `mid + rest == self.len`.
        let tail = unsafe { self.part(mid, rest) };
        Ok((head, tail))
    }

    /// The view in pieces of `size` elements; elements that do not fill a piece are left out.
    #[inline]
    #[must_use]
    pub fn chunks_exact(self, size: NonZero<usize>) -> ChunksExact<'a, T, D> {
        ChunksExact { rest: self, size }
    }

    /// The part `start .. start + len`.
    ///
    /// # Safety
    /// - `start + len <= self.len`.
    #[inline]
    pub(super) const unsafe fn part(self, start: usize, len: usize) -> View<'a, T, D> {
        // Wrapping: `add` requires an object on the host, and a device address has none.
        let ptr = self.ptr.as_ptr().wrapping_add(start);
        // SAFETY:
        // - `start` is at most `self.len`, and the elements do not wrap around the address space,
        //   so that the address is not null.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        View { ptr, len, borrow: PhantomData }
    }
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The same bytes, read as elements of `U`.
    ///
    /// If `T` and `U` have one size, the number of elements stays the same, also for types of size
    /// 0. A view of no bytes becomes an empty view, aligned for `U`, whatever its address.
    ///
    /// # Errors
    /// [`Error::Reinterpret`](crate::Error::Reinterpret) if they are not a whole number of `U`, or
    /// not aligned for it.
    #[doc(alias = "view")]
    #[inline]
    pub fn try_cast<U: ReadAs<T>>(self) -> Result<View<'a, U, D>> {
        let (ptr, len) = cast_parts::<T, U>(self.ptr, self.len)?;
        // SAFETY:
        // - The bytes are `len` aligned elements of `U`.
        // - Every bit pattern is a `U`, and every byte of a `T` is initialised: `ReadAs` requires
        //   that both are `Pod`.
        Ok(unsafe { View::from_raw_parts(ptr, len) })
    }

    /// The bytes of the elements, to read.
    ///
    /// `T` may be any element without padding, also `bool`. The reverse is
    /// [`checked`](View::checked), because not every byte is a `bool`;
    /// [`try_cast`](View::try_cast) converts between types that are both [`Pod`](bytemuck::Pod).
    ///
    /// ```
    /// use tidelock::{Buffer, location::Host};
    ///
    /// let finished = Buffer::<bool, Host>::from_slice(&[true, false, true])?;
    /// assert_eq!(finished.view().bytes().as_slice(), [1, 0, 1]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> View<'a, u8, D>
    where
        T: PlainBytes,
    {
        // SAFETY:
        // - The bytes are those of the view, borrowed for the same lifetime; every address is
        //   aligned for a byte.
        // - Every byte is initialised, and no shared reference can change it: `PlainBytes`
        //   requires `NoUninit`.
        unsafe { View::from_raw_parts(self.ptr.cast(), self.byte_len()) }
    }
}

impl<'a, T, D> ViewMut<'a, T, D> {
    /// An exclusive view of memory that was allocated elsewhere.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there in `D`, inside one allocation, once
    ///   the stream has passed what is enqueued now.
    /// - During `'a`, and until the stream has passed what is enqueued during `'a`, the memory
    ///   stays allocated and is accessed through this view only.
    /// - Each end of the range lies inside the allocation, or is not adjacent to memory that is
    ///   used in the same batch group.
    #[inline]
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<T>, len: usize) -> Self {
        ViewMut { ptr, len, borrow: PhantomData }
    }

    /// How many elements there are.
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

    /// How many bytes there are.
    #[inline]
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.len.wrapping_mul(size_of::<T>())
    }

    /// The address of the first element, in the location's own address space.
    #[inline]
    #[must_use]
    pub const fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr.as_ptr()
    }

    #[inline]
    pub(crate) const fn into_nonnull(self) -> NonNull<T> {
        self.ptr
    }

    /// The same view for a shorter time.
    #[inline]
    #[must_use]
    pub const fn reborrow(&mut self) -> ViewMut<'_, T, D> {
        ViewMut { ptr: self.ptr, len: self.len, borrow: PhantomData }
    }

    /// The same elements to read, for as long as this view is borrowed.
    #[inline]
    #[must_use]
    pub const fn as_view(&self) -> View<'_, T, D> {
        View { ptr: self.ptr, len: self.len, borrow: PhantomData }
    }

    /// The same elements to read, for the whole lifetime.
    #[inline]
    #[must_use]
    pub const fn into_view(self) -> View<'a, T, D> {
        View { ptr: self.ptr, len: self.len, borrow: PhantomData }
    }

    /// The elements in `range`. Cost: 8 instructions.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist, or if the range ends before it starts.
    #[inline]
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<ViewMut<'a, T, D>, OutOfRange> {
        let (start, len) = resolve(&range, self.len)?;
        Ok(ViewMut { ptr: element_address(self.ptr, start)?, len, borrow: PhantomData })
    }

    /// The first `mid` elements, and the rest.
    ///
    /// # Errors
    /// [`OutOfRange`] if there are fewer.
    #[inline]
    pub fn split_at(self, mid: usize) -> Result<(ViewMut<'a, T, D>, ViewMut<'a, T, D>), OutOfRange> {
        let rest = self.len.checked_sub(mid).ok_or(OutOfRange)?;
        // SAFETY:
        // - `0 + mid <= self.len`; the two parts do not overlap, and `self` is consumed.
        let head = unsafe { self.part(0, mid) };
        // SAFETY:
        // - `mid + rest == self.len`; the two parts do not overlap, and `self` is consumed.
        let tail = unsafe { self.part(mid, rest) };
        Ok((head, tail))
    }

    /// The view in pieces of `size` elements; elements that do not fill a piece are left out.
    #[inline]
    #[must_use]
    pub fn chunks_exact(self, size: NonZero<usize>) -> ChunksExactMut<'a, T, D> {
        ChunksExactMut { rest: self, size }
    }

    /// The part `start .. start + len`.
    ///
    /// # Safety
    /// - `start + len <= self.len`.
    /// - While the result lives, the part is not accessed through `self`.
    #[inline]
    pub(super) const unsafe fn part(&self, start: usize, len: usize) -> ViewMut<'a, T, D> {
        // Wrapping, as in `View::part`.
        let ptr = self.ptr.as_ptr().wrapping_add(start);
        // SAFETY:
        // - As in `View::part`.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        ViewMut { ptr, len, borrow: PhantomData }
    }
}

impl<'a, T, D: Location> ViewMut<'a, T, D> {
    /// The same bytes, as elements of `U`, with the number of elements of [`View::try_cast`].
    ///
    /// # Errors
    /// [`Error::Reinterpret`](crate::Error::Reinterpret) if they are not a whole number of `U`, or
    /// not aligned for it.
    #[doc(alias = "view")]
    #[inline]
    pub fn try_cast<U: ReadAs<T>>(self) -> Result<ViewMut<'a, U, D>> {
        let (ptr, len) = cast_parts::<T, U>(self.ptr, self.len)?;
        // SAFETY:
        // - The bytes are `len` aligned elements of `U`.
        // - Every byte pattern that is written is a `T` too: `ReadAs` requires that both are `Pod`.
        Ok(unsafe { ViewMut::from_raw_parts(ptr, len) })
    }
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The elements as a slice.
    #[inline]
    #[must_use]
    pub const fn as_slice<H: HostAccessible>(self) -> &'a [T]
    where
        D: Is<H>,
    {
        // SAFETY:
        // - `len` elements of `T` that are not written during `'a`.
        // - The host may dereference memory in `D`, and only the host uses it.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<'a, T, D: Location> ViewMut<'a, T, D> {
    /// The elements as an exclusive slice.
    #[inline]
    #[must_use]
    pub const fn into_slice<H: HostAccessible>(self) -> &'a mut [T]
    where
        D: Is<H>,
    {
        // SAFETY:
        // - `len` elements of `T` that only this view accesses during `'a`.
        // - The host may dereference memory in `D`.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// `Self` is `H`. Sealed.
///
/// The bound goes through a parameter of the method, so that for memory that the host cannot access
/// rustc prints the notes of [`HostAccessible`], and not that the method is missing.
#[doc(hidden)]
pub trait Is<H>: sealed::SealedIs<H> {}

impl<D> Is<D> for D {}

impl<'a, T> From<&'a [T]> for View<'a, T, Host> {
    #[inline]
    fn from(slice: &'a [T]) -> Self {
        View { ptr: NonNull::from(slice).cast(), len: slice.len(), borrow: PhantomData }
    }
}

impl<'a, T> From<&'a mut [T]> for ViewMut<'a, T, Host> {
    #[inline]
    fn from(slice: &'a mut [T]) -> Self {
        let len = slice.len();
        ViewMut { ptr: NonNull::from(slice).cast(), len, borrow: PhantomData }
    }
}

impl<'a, T: Element, D> Dst<'a, T, D> for ViewMut<'a, T, D> {
    #[inline]
    fn into_parts(self) -> (NonNull<T>, usize) {
        (self.ptr, self.len)
    }

    #[inline]
    fn count(&self) -> usize {
        self.len
    }

    #[inline]
    fn cut(self, mid: usize) -> Result<(Self, Self), OutOfRange> {
        self.split_at(mid)
    }
}

impl<'a, T: Element, D> Dst<'a, T, D> for ViewMut<'a, MaybeUninit<T>, D> {
    #[inline]
    fn into_parts(self) -> (NonNull<T>, usize) {
        (self.ptr.cast(), self.len)
    }

    #[inline]
    fn count(&self) -> usize {
        self.len
    }

    #[inline]
    fn cut(self, mid: usize) -> Result<(Self, Self), OutOfRange> {
        self.split_at(mid)
    }
}

impl<T, D> Clone for View<'_, T, D> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, D> Copy for View<'_, T, D> {}

macro_rules! debug {
    ($($name:ident)*) => {$(
        impl<T, D: Location> fmt::Debug for $name<'_, T, D> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                shown::memory::<T, D>(f, stringify!($name))?;
                f.debug_struct("").field("len", &self.len).finish()
            }
        }
    )*};
}
debug!(View ViewMut);

// SAFETY:
// - A view of memory that belongs to no thread is a shared borrow of its elements.
unsafe impl<T: Sync, D: AnyThread> Send for View<'_, T, D> {}
// SAFETY:
// - A shared view gives shared access only.
unsafe impl<T: Sync, D: AnyThread> Sync for View<'_, T, D> {}
// SAFETY:
// - An exclusive view of memory that belongs to no thread is an exclusive borrow of its elements.
unsafe impl<T: Send, D: AnyThread> Send for ViewMut<'_, T, D> {}
// SAFETY:
// - A shared reference to an exclusive view gives shared access only.
unsafe impl<T: Sync, D: AnyThread> Sync for ViewMut<'_, T, D> {}

static_assertions::assert_eq_size!(View<'static, u32, Host>, [usize; 2]);
static_assertions::assert_eq_size!(ViewMut<'static, u32, Host>, [usize; 2]);
static_assertions::assert_impl_all!(View<'static, u32, Host>: Send, Sync, Copy);
static_assertions::assert_impl_all!(ViewMut<'static, u32, Host>: Send, Sync);
static_assertions::assert_not_impl_any!(ViewMut<'static, u32, Host>: Clone);
static_assertions::assert_not_impl_any!(View<'static, core::cell::Cell<u32>, Host>: Send, Sync);

/// Start and length of `range` in `len` elements.
#[inline]
pub(crate) fn resolve(range: &impl RangeBounds<usize>, len: usize) -> Result<(usize, usize), OutOfRange> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.checked_add(1).ok_or(OutOfRange)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.checked_add(1).ok_or(OutOfRange)?,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    if start <= end && end <= len { Ok((start, end.wrapping_sub(start))) } else { Err(OutOfRange) }
}

/// The address of element `start` of a view with at least `start` elements.
///
/// No address in a view is null, so that this does not fail. The check is folded into the bounds
/// check before it, and costs two instructions less than an unchecked conversion.
#[inline]
fn element_address<T>(ptr: NonNull<T>, start: usize) -> Result<NonNull<T>, OutOfRange> {
    NonNull::new(ptr.as_ptr().wrapping_add(start)).ok_or(OutOfRange)
}

/// Each has the parameters of the trait that it seals, so that a type of another crate as one of
/// them does not satisfy the supertrait either.
mod sealed {
    use core::mem::MaybeUninit;

    use super::{Element, Output, ViewMut};

    /// Implemented for `ViewMut` of `T` and of `MaybeUninit<T>`, and for `Output` of `T`.
    #[diagnostic::on_unimplemented(
        message = "`Dst` is sealed, and `{Self}` is no destination for elements of `{T}` in `{D}`",
        label = "not `ViewMut<'_, {T}, {D}>`",
        note = "memory of your own is written through a `ViewMut`: of a slice `ViewMut::from(&mut slice[..])`, of anything else `unsafe ViewMut::from_raw_parts`"
    )]
    pub trait SealedDst<'a, T, D> {}
    impl<'a, T: Element, D> SealedDst<'a, T, D> for ViewMut<'a, T, D> {}
    impl<'a, T: Element, D> SealedDst<'a, T, D> for ViewMut<'a, MaybeUninit<T>, D> {}
    impl<'o, T: Element, D> SealedDst<'o, T, D> for Output<'o, T, D> {}

    /// Implemented for two equal types only.
    pub trait SealedIs<H> {}
    impl<D> SealedIs<D> for D {}
}
