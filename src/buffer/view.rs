//! Borrowed memory: shared and exclusive views, and what can be cut out of them.

mod chunks;

use core::{
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    num::NonZero,
    ops::{Bound, RangeBounds},
    ptr::NonNull,
};

use bytemuck::Pod;

pub use self::chunks::{ChunksExact, ChunksExactMut};
use crate::{
    Element, PlainBytes,
    error::{Error, OutOfRange, Result},
    location::{AnyThread, Host, HostAccessible, Location},
};

/// `len` elements of `T` in location `D`, borrowed to read. `Copy`, two words.
///
/// It never owns, and slicing it is a bounds check and two moves.
pub struct View<'a, T, D> {
    /// Invariant: `len` elements of `T` in `D` that nobody writes during `'a`, in stream order.
    ptr: NonNull<T>,
    len: usize,
    borrow: PhantomData<(&'a T, D)>,
}

/// `len` elements of `T` in location `D`, borrowed exclusively. Two words.
///
/// Cutting it consumes it; [`reborrow`](ViewMut::reborrow) first to keep it.
pub struct ViewMut<'a, T, D> {
    /// Invariant: `len` elements of `T` in `D` that nobody else touches during `'a`, in stream order.
    ptr: NonNull<T>,
    len: usize,
    borrow: PhantomData<(&'a mut T, D)>,
}

/// Where whole values are written: memory of `T`, or memory that becomes `T` by being written. Sealed.
///
/// There is no conversion from one to the other: memory that is a `T` must not become uninitialised again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a destination for elements of `{T}` in `{D}`",
    label = "expected `ViewMut<'_, {T}, {D}>`",
    note = "a buffer is a destination through `buffer.view_mut()`"
)]
pub trait Dst<'a, T, D>: sealed::SealedDst<'a, T, D> {
    /// The address and the length.
    #[doc(hidden)]
    fn into_parts(self) -> (NonNull<T>, usize);
}

impl<'a, T, D> View<'a, T, D> {
    /// A view of memory that this crate does not know.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there in `D`, inside one allocation, once the stream has passed
    ///   what is enqueued now.
    /// - During `'a`, and until the stream has passed what is enqueued during `'a`, the memory stays and nobody writes it.
    /// - The edges of the range lie inside the allocation or touch no memory that is used in the same batch group.
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

    /// The elements in `range`. Cost: 8 instructions.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist, or if the range ends before it starts.
    #[inline]
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<View<'a, T, D>, OutOfRange> {
        let (start, len) = resolve(&range, self.len)?;
        Ok(View { ptr: behind(self.ptr, start)?, len, borrow: PhantomData })
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
        // Wrapping, because a device address has no object behind it on the host, which is what `add` asks for.
        let ptr = self.ptr.as_ptr().wrapping_add(start);
        // SAFETY:
        // - `start` is at most `self.len`, and the elements lie in one address space without wrapping, so that the address is
        //   not null.
        let ptr = unsafe { NonNull::new_unchecked(ptr) };
        View { ptr, len, borrow: PhantomData }
    }
}

impl<'a, T, D: Location> View<'a, T, D> {
    /// The same bytes, read as elements of `U`.
    ///
    /// Elements of one size keep their number, also those of no bytes. No bytes at all are no elements of any other type,
    /// whatever their address; the result is aligned for `U` then too.
    ///
    /// # Errors
    /// [`Error::Reinterpret`] if they are not a whole number of `U`, or not aligned for it.
    #[doc(alias = "view")]
    #[inline]
    pub fn try_cast<U: ReadAs<T>>(self) -> Result<View<'a, U, D>> {
        let (ptr, len) = reinterpreted::<T, U>(self.ptr, self.len)?;
        // SAFETY:
        // - The bytes are `len` aligned elements of `U`; every bit pattern is a `U`, and every byte of a `T` is
        //   initialised, because both are `Pod`: `ReadAs` asks for it.
        Ok(unsafe { View::from_raw_parts(ptr, len) })
    }

    /// The elements' bytes, to read: of any element without padding, `bool` included. There is no way back, because not
    /// every byte is a `bool`; elements that are [`Pod`] on both sides change places by [`try_cast`](View::try_cast).
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
        // - The same bytes, in the same place and for the same time; they are aligned, as every address is for a byte.
        // - Every byte is initialised, and nobody changes it through a shared reference: `PlainBytes` asks for `NoUninit`.
        unsafe { View::from_raw_parts(self.ptr.cast(), self.byte_len()) }
    }
}

impl<'a, T, D> ViewMut<'a, T, D> {
    /// An exclusive view of memory that this crate does not know.
    ///
    /// # Safety
    /// - `ptr` is aligned, and `len` elements of `T` lie there in `D`, inside one allocation, once the stream has passed
    ///   what is enqueued now.
    /// - During `'a`, and until the stream has passed what is enqueued during `'a`, the memory stays and nobody else
    ///   touches it.
    /// - The edges of the range lie inside the allocation or touch no memory that is used in the same batch group.
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
        Ok(ViewMut { ptr: behind(self.ptr, start)?, len, borrow: PhantomData })
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
    /// - The view is not used for the part any more while the result lives.
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
    /// The same bytes, as elements of `U`: as many as by [`View::try_cast`].
    ///
    /// # Errors
    /// [`Error::Reinterpret`] if they are not a whole number of `U`, or not aligned for it.
    #[doc(alias = "view")]
    #[inline]
    pub fn try_cast<U: ReadAs<T>>(self) -> Result<ViewMut<'a, U, D>> {
        let (ptr, len) = reinterpreted::<T, U>(self.ptr, self.len)?;
        // SAFETY:
        // - The bytes are `len` aligned elements of `U`; whatever is written is a `T` too, because both are `Pod`:
        //   `ReadAs` asks for it.
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
        // - `len` elements of `T` that nobody writes during `'a`; the host may dereference memory in `D`, and the host is
        //   the only one who uses it.
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
        // - `len` elements of `T` that nobody else touches during `'a`; the host may dereference memory in `D`.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// `Self` is `H`: a detour by way of a parameter of the method, so that memory out of the host's reach is reported as not
/// [`HostAccessible`], with its advice, and not as a missing method. Sealed.
#[doc(hidden)]
pub trait Is<H>: sealed::SealedIs<H> {}

impl<D> Is<D> for D {}

/// Elements of `T` may be looked at as elements of `Self`: both are [`Pod`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "elements of `{T}` cannot be reinterpreted as elements of `{Self}`",
    label = "`{Self}` and `{T}` are not both `bytemuck::Pod`",
    note = "every bit pattern must be a value of both; a mask of `bool` is read as `view.bytes()`, copied as `bool`, or kept as `u8`"
)]
pub trait ReadAs<T>: sealed::SealedReadAs<T> {}

#[diagnostic::do_not_recommend]
impl<T: Pod, U: Pod> ReadAs<T> for U {}

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
}

impl<'a, T: Element, D> Dst<'a, T, D> for ViewMut<'a, MaybeUninit<T>, D> {
    #[inline]
    fn into_parts(self) -> (NonNull<T>, usize) {
        (self.ptr.cast(), self.len)
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
        impl<T, D> fmt::Debug for $name<'_, T, D> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("ptr", &self.ptr).field("len", &self.len).finish()
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
pub(super) fn resolve(range: &impl RangeBounds<usize>, len: usize) -> Result<(usize, usize), OutOfRange> {
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

/// The address of element `start` of a view, where it has so many. No address in a view is null, so that this does not fail;
/// saying so with a check that is folded into the others is two instructions less than claiming it.
#[inline]
fn behind<T>(ptr: NonNull<T>, start: usize) -> Result<NonNull<T>, OutOfRange> {
    NonNull::new(ptr.as_ptr().wrapping_add(start)).ok_or(OutOfRange)
}

/// Where the `len` elements of `T` at `ptr` lie as elements of `U`, and how many they are: as many bytes, and aligned.
///
/// Elements of one size are as many, which says it for those of no bytes. An element of no bytes is a part of no other bytes.
#[inline]
fn reinterpreted<T, U>(ptr: NonNull<T>, len: usize) -> Result<(NonNull<U>, usize)> {
    let bytes = len.wrapping_mul(size_of::<T>());
    let count = match NonZero::new(size_of::<U>()) {
        _ if size_of::<U>() == size_of::<T>() => Some(len),
        Some(size) if bytes.is_multiple_of(size.get()) => Some(bytes / size),
        None if bytes == 0 => Some(0),
        _ => None,
    };
    let ptr = ptr.cast::<U>();
    match count {
        Some(count) if ptr.is_aligned() => Ok((ptr, count)),
        // Nothing is read there or written, and references to it are aligned all the same.
        Some(count) if bytes == 0 => Ok((NonNull::dangling(), count)),
        _ => Err(Error::Reinterpret { operand: "view", size: size_of::<U>() }),
    }
}

/// Each has the parameters of the trait that it seals: an implementation for a type of another crate, in any position,
/// has no implementation here to stand on.
mod sealed {
    use core::mem::MaybeUninit;

    use super::{Element, ViewMut};

    /// Implemented for the exclusive views of `T` and of what becomes `T` only.
    #[diagnostic::on_unimplemented(
        message = "`Dst` is sealed, and `{Self}` is no destination for elements of `{T}` in `{D}`",
        label = "not `ViewMut<'_, {T}, {D}>`",
        note = "memory of your own is written through a `ViewMut`: of a slice `ViewMut::from(&mut slice[..])`, of anything else `unsafe ViewMut::from_raw_parts`"
    )]
    pub trait SealedDst<'a, T, D> {}
    impl<'a, T: Element, D> SealedDst<'a, T, D> for ViewMut<'a, T, D> {}
    impl<'a, T: Element, D> SealedDst<'a, T, D> for ViewMut<'a, MaybeUninit<T>, D> {}

    /// Implemented for two names of one type only.
    pub trait SealedIs<H> {}
    impl<D> SealedIs<D> for D {}

    /// Implemented for plain old data only.
    #[diagnostic::on_unimplemented(
        message = "`ReadAs` is sealed, and `{Self}` and `{T}` are not both `bytemuck::Pod`",
        label = "not both `bytemuck::Pod`",
        note = "`ReadAs` holds by itself for two types that are `bytemuck::Pod`: derive that where every bit pattern is a value"
    )]
    pub trait SealedReadAs<T> {}
    #[diagnostic::do_not_recommend]
    impl<T: bytemuck::Pod, U: bytemuck::Pod> SealedReadAs<T> for U {}
}
