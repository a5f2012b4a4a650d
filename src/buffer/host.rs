//! Buffers that the host may access dereference to slices.

use core::{
    mem::MaybeUninit,
    ops::{Deref, DerefMut},
};

use tidelock_driver::HostAccess;

use super::Buffer;
use crate::{Element, alloc::Allocator, error::Result, location::HostAccessible};

impl<T, D: HostAccessible<DefaultAlloc: Default>> Buffer<T, D> {
    /// `len` zeroes from the default allocator of `D`.
    ///
    /// # Errors
    /// As for [`uninit_in`](Buffer::uninit_in).
    #[inline]
    pub fn zeros(len: usize) -> Result<Self>
    where
        T: Element,
    {
        Buffer::zeros_in(len, D::DefaultAlloc::default())
    }

    /// A copy of `elements`, from the default allocator of `D`.
    ///
    /// # Errors
    /// As for [`uninit_in`](Buffer::uninit_in).
    #[inline]
    pub fn from_slice(elements: &[T]) -> Result<Self>
    where
        T: Element,
    {
        Buffer::from_slice_in(elements, D::DefaultAlloc::default())
    }

    /// `f(0), f(1), …, f(len - 1)`, from the default allocator of `D`.
    ///
    /// # Errors
    /// As for [`uninit_in`](Buffer::uninit_in).
    #[inline]
    pub fn from_fn(len: usize, f: impl FnMut(usize) -> T) -> Result<Self>
    where
        T: Element,
    {
        Buffer::from_fn_in(len, f, D::DefaultAlloc::default())
    }
}

impl<T, D: HostAccessible, A: Allocator<D>> Buffer<T, D, A> {
    /// `len` zeroes from `alloc`. Cost: one pass over the bytes, in place; no element passes
    /// through the stack.
    ///
    /// # Errors
    /// As for [`uninit_in`](Buffer::uninit_in).
    #[inline]
    pub fn zeros_in(len: usize, alloc: A) -> Result<Self>
    where
        T: Element,
    {
        let mut buffer = Buffer::<MaybeUninit<T>, D, A>::uninit_in(len, alloc)?;
        let elements: &mut [MaybeUninit<T>] = &mut buffer;
        // SAFETY:
        // - The pointer and the count are those of one exclusive slice.
        unsafe { elements.as_mut_ptr().write_bytes(0, elements.len()) };
        // SAFETY:
        // - Every byte of every element is zero, and zeroed memory is a `T`: it is `Zeroable`.
        Ok(unsafe { buffer.assume_init() })
    }

    /// A copy of `elements` from `alloc`.
    ///
    /// # Errors
    /// As for [`uninit_in`](Buffer::uninit_in).
    #[inline]
    pub fn from_slice_in(elements: &[T], alloc: A) -> Result<Self>
    where
        T: Element,
    {
        let mut buffer = Buffer::<MaybeUninit<T>, D, A>::uninit_in(elements.len(), alloc)?;
        buffer.write_copy_of_slice(elements);
        // SAFETY:
        // - `write_copy_of_slice` has written every element, or panicked.
        Ok(unsafe { buffer.assume_init() })
    }

    /// `f(0), f(1), …, f(len - 1)` from `alloc`.
    ///
    /// # Errors
    /// As for [`uninit_in`](Buffer::uninit_in).
    #[inline]
    pub fn from_fn_in(len: usize, f: impl FnMut(usize) -> T, alloc: A) -> Result<Self>
    where
        T: Element,
    {
        Ok(Buffer::<MaybeUninit<T>, D, A>::uninit_in(len, alloc)?.write_with(f))
    }
}

impl<T: Element, D: HostAccessible, A: Allocator<D>> Buffer<MaybeUninit<T>, D, A> {
    /// Writes `f(0), f(1), …, f(len - 1)`, which initialises the buffer.
    #[inline]
    #[must_use]
    pub fn write_with(mut self, mut f: impl FnMut(usize) -> T) -> Buffer<T, D, A> {
        for (i, element) in self.iter_mut().enumerate() {
            element.write(f(i));
        }
        // SAFETY:
        // - The loop has written every element. If `f` panics, the memory is freed uninitialised.
        unsafe { self.assume_init() }
    }
}

impl<T, D: HostAccessible, A: Allocator<D>> Deref for Buffer<T, D, A> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY:
        // - The elements belong to `self`, which is borrowed; no work uses memory that the host may
        //   touch.
        unsafe { D::host_touches(HostAccess::read(self.as_ptr().cast(), self.byte_len(), "Deref of a pinned buffer")) };
        self.view().as_slice()
    }
}

impl<T, D: HostAccessible, A: Allocator<D>> DerefMut for Buffer<T, D, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY:
        // - The elements belong to `self`, which is borrowed exclusively; no work uses memory that
        //   the host may touch.
        unsafe {
            D::host_touches(HostAccess::write(self.as_ptr().cast(), self.byte_len(), "DerefMut of a pinned buffer"))
        };
        self.view_mut().into_slice()
    }
}

/// Host buffers of the default allocator are two words.
const _: () = assert!(size_of::<Buffer<u32, crate::location::Host>>() == size_of::<[usize; 2]>());
static_assertions::assert_impl_all!(Buffer<u32, crate::location::Host>: Send, Sync);
static_assertions::assert_not_impl_any!(Buffer<u32, crate::location::Host>: Clone);
static_assertions::assert_not_impl_any!(Buffer<core::cell::Cell<u32>, crate::location::Host>: Sync);
