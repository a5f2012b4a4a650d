//! Owned memory, with the type of its elements, its location and its allocator in the type.
//!
//! [`Buffer`] owns memory. [`View`] and [`ViewMut`] borrow elements of it, on the host or on a
//! device. [`Rows`] and [`RowsMut`] divide a view into rows of one width, [`Ragged`] with
//! [`Offsets`] into rows of many lengths. [`Indices`] are checked row numbers, and a [`Scatter`] has
//! checked pairs of them. An [`Owner`] is the allocator of memory that was allocated elsewhere. An
//! [`Output`] is written once, to initialise its buffer.

mod host;
mod indices;
pub(crate) mod output;
mod owner;
mod ragged;
mod rows;
mod scatter;
pub(crate) mod shown;
mod view;

use core::{alloc::Layout, fmt, marker::PhantomData, mem::ManuallyDrop, mem::MaybeUninit, ptr::NonNull};

pub use self::{
    indices::Indices,
    output::{DstRows, Output, OutputRows, OutputRowsIter},
    owner::Owner,
    ragged::{Offsets, Ragged},
    rows::{Rows, RowsIter, RowsIterMut, RowsMut},
    scatter::Scatter,
    view::{ChunksExact, ChunksExactMut, Dst, ReadAs, View, ViewMut},
};
pub(crate) use self::{
    indices::Runs,
    output::{Counter, Receipt},
    rows::{Picked, at_least},
    view::resolve as part_of,
};
use crate::{
    alloc::Allocator,
    error::{Error, Result},
    location::{AnyThread, Location},
};

/// `len` elements of `T` in location `D`, owned, allocated from `A`.
///
/// A buffer is not `Clone`; share it as `Rc<Buffer<..>>`. Uninitialised memory is a
/// `Buffer<MaybeUninit<T>, ..>`; [`Ctx::init_zeros`](crate::Ctx::init_zeros) and
/// [`Ctx::init_from`](crate::Ctx::init_from) turn it into a `Buffer<T, ..>`. Host-accessible
/// buffers dereference to slices. Dropping a buffer of device memory frees it in stream order.
///
/// Size: three words on a device, two on the host. No reference count, no event.
pub struct Buffer<T, D: Location, A: Allocator<D> = <D as Location>::DefaultAlloc> {
    /// Invariants:
    /// 1. `ptr` comes from `alloc` with the layout of `[T; len]`, or dangles, aligned, if that
    ///    layout is empty.
    /// 2. No other buffer owns the memory; every element is a `T`, in stream order.
    ptr: NonNull<T>,
    len: usize,
    alloc: A,
    location: PhantomData<(T, D)>,
}

impl<T, D: Location, A: Allocator<D>> Buffer<T, D, A> {
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
        // Invariant 1: the layout exists, so that this does not wrap.
        self.len.wrapping_mul(size_of::<T>())
    }

    /// A view of all elements, to read.
    #[inline]
    #[must_use]
    pub const fn view(&self) -> View<'_, T, D> {
        // SAFETY:
        // - The elements are `T` and belong to `self`, which is borrowed for the view's lifetime
        //   (invariant 2).
        unsafe { View::from_raw_parts(self.ptr, self.len) }
    }

    /// A view of all elements, to write.
    #[inline]
    #[must_use]
    pub const fn view_mut(&mut self) -> ViewMut<'_, T, D> {
        // SAFETY:
        // - The elements are `T` and belong to `self`, which is borrowed exclusively for the view's
        //   lifetime.
        unsafe { ViewMut::from_raw_parts(self.ptr, self.len) }
    }

    /// The address of the first element, in the location's own address space. It may dangle if the
    /// buffer is empty.
    #[inline]
    #[must_use]
    pub const fn as_ptr(&self) -> *const T {
        self.ptr.as_ptr()
    }

    /// The address of the first element, in the location's own address space. It may dangle if the
    /// buffer is empty.
    #[inline]
    #[must_use]
    pub const fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr.as_ptr()
    }

    /// The allocator's handle.
    #[inline]
    #[must_use]
    pub const fn allocator(&self) -> &A {
        &self.alloc
    }

    /// A buffer of memory that was allocated from `alloc`.
    ///
    /// # Safety
    /// - `ptr` comes from `alloc.alloc` (or a copy of its handle) with the layout of `[T; len]`, or
    ///   that layout is empty and `ptr` is aligned.
    /// - Nothing else owns the memory.
    /// - Every element is a `T` once the stream has passed what is enqueued now.
    #[inline]
    #[must_use]
    pub const unsafe fn from_raw_parts(ptr: NonNull<T>, len: usize, alloc: A) -> Self {
        Buffer { ptr, len, alloc, location: PhantomData }
    }

    /// Releases ownership: the memory is leaked unless [`from_raw_parts`](Buffer::from_raw_parts)
    /// makes a buffer of it again.
    #[inline]
    #[must_use]
    pub fn into_raw_parts(self) -> (NonNull<T>, usize, A) {
        let this = ManuallyDrop::new(self);
        // SAFETY:
        // - `this` is neither dropped nor used again, so that the handle is moved out once.
        let alloc = unsafe { core::ptr::read(&this.alloc) };
        (this.ptr, this.len, alloc)
    }
}

impl<T, D: Location, A: Allocator<D>> Buffer<MaybeUninit<T>, D, A> {
    /// `len` uninitialised elements from `alloc`. Nothing is allocated for 0 bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if `len` elements exceed the address space, else the allocator's error.
    #[inline]
    pub fn uninit_in(len: usize, alloc: A) -> Result<Self> {
        let Ok(layout) = Layout::array::<T>(len) else {
            return Err(Error::TooLarge { operand: D::NAME });
        };
        let ptr = if layout.size() == 0 {
            layout.dangling_ptr()
        } else {
            alloc.alloc(layout).map_err(|error| error.explained(D::NAME, layout.size(), || alloc.shortage()))?
        };
        // SAFETY:
        // - `ptr` is fresh from `alloc` with the layout of `[T; len]`, or dangles with an empty
        //   layout.
        // - Uninitialised memory is a `MaybeUninit<T>`.
        Ok(unsafe { Buffer::from_raw_parts(ptr.cast(), len, alloc) })
    }

    /// The same memory, with its elements assumed to be initialised.
    ///
    /// # Safety
    /// - Every element has been written, or will have been when the stream has passed what is
    ///   enqueued now.
    #[inline]
    #[must_use]
    pub unsafe fn assume_init(self) -> Buffer<T, D, A> {
        let (ptr, len, alloc) = self.into_raw_parts();
        // SAFETY:
        // - `MaybeUninit<T>` "is guaranteed to have the same size, alignment, and ABI as T" (std
        //   1.95).
        // - The caller promises that every element is a `T`.
        unsafe { Buffer::from_raw_parts(ptr.cast(), len, alloc) }
    }
}

impl<T, D: Location, A: Allocator<D>> Drop for Buffer<T, D, A> {
    #[inline]
    fn drop(&mut self) {
        // There are no destructors to run: every constructor requires `Element`, which is `Copy`,
        // or `MaybeUninit`.
        let Ok(layout) = Layout::array::<T>(self.len) else { return };
        if layout.size() != 0 {
            // SAFETY:
            // - Invariant 1; `self` is not used after this.
            // - All work on the memory was enqueued on the stream of its brand, or is ordered
            //   before (M5).
            unsafe { self.alloc.dealloc(self.ptr.cast(), layout) }
        }
    }
}

// The elements do not move with the buffer.
impl<T, D: Location, A: Allocator<D>> Unpin for Buffer<T, D, A> {}

impl<T, D: Location, A: Allocator<D>> fmt::Debug for Buffer<T, D, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "Buffer")?;
        f.debug_struct("").field("len", &self.len).finish()
    }
}

// SAFETY:
// - The memory is not tied to a thread; elements and handle are `Send`.
unsafe impl<T: Send, D: AnyThread, A: Allocator<D> + Send> Send for Buffer<T, D, A> {}
// SAFETY:
// - A shared buffer gives shared access to its elements and its handle only.
unsafe impl<T: Sync, D: AnyThread, A: Allocator<D> + Sync> Sync for Buffer<T, D, A> {}
