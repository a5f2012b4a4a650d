//! Borrowed tensors.

use core::{fmt, marker::PhantomData, num::NonZero, ptr::NonNull};

use crate::{
    buffer::{Rows, RowsMut, View, ViewMut, shown},
    error::{Error, Result},
    layout::Layout,
    location::{AnyThread, Host, Location},
};

/// Elements of `T` in location `D`, of any layout of rank `R`, borrowed to read. `Copy`, one word
/// and the layout.
pub struct TensorView<'a, T, D, const R: usize> {
    /// Invariants:
    /// 1. Each element that the layout names, counted from `ptr`, is a `T` in `D` that is not
    ///    written during `'a`, in stream order. All of them lie in one allocation.
    /// 2. `ptr` is aligned and not null, and no address of an element wraps around.
    ptr: NonNull<T>,
    layout: Layout<R>,
    borrow: PhantomData<(&'a T, D)>,
}

/// Elements of `T` in location `D`, of any layout of rank `R` that names none twice, borrowed
/// exclusively. One word and the layout.
///
/// Methods that select or divide consume the tensor; [`reborrow`](TensorMut::reborrow) first to
/// keep it.
pub struct TensorMut<'a, T, D, const R: usize> {
    /// Invariants: as those of [`TensorView`], except that only this tensor accesses the elements
    /// that it names during `'a`, in stream order. The layout is injective. What lies between the
    /// elements belongs to others.
    ptr: NonNull<T>,
    layout: Layout<R>,
    borrow: PhantomData<(&'a mut T, D)>,
}

impl<'a, T, D> View<'a, T, D> {
    /// The view as a row-major tensor. One extent may be [`REST`](crate::layout::REST).
    ///
    /// # Errors
    /// [`Error::Length`] if `shape` has another number of elements; as for [`Layout::of`].
    #[inline]
    pub fn tensor<const R: usize>(self, shape: [usize; R]) -> Result<TensorView<'a, T, D, R>> {
        let layout = Layout::of(shape, self.len())?;
        // SAFETY:
        // - The layout names the elements of the view, one after the other.
        Ok(unsafe { TensorView::new(self.as_nonnull(), layout) })
    }

    /// The elements of the view that `layout` names.
    ///
    /// # Errors
    /// [`Error::Length`] if the view has fewer elements than [`cosize`](Layout::cosize).
    #[inline]
    pub fn strided<const R: usize>(self, layout: Layout<R>) -> Result<TensorView<'a, T, D, R>> {
        reaches(&layout, self.len())?;
        // SAFETY:
        // - The view has as many elements as the layout reaches.
        Ok(unsafe { self.strided_unchecked(layout) })
    }

    /// # Safety
    /// - The view has at least `layout.cosize()` elements.
    #[inline]
    pub(crate) const unsafe fn strided_unchecked<const R: usize>(self, layout: Layout<R>) -> TensorView<'a, T, D, R> {
        // SAFETY:
        // - The caller promises that the layout names elements of the view only.
        unsafe { TensorView::new(self.as_nonnull(), layout) }
    }
}

impl<'a, T, D> ViewMut<'a, T, D> {
    /// The view as a row-major tensor. One extent may be [`REST`](crate::layout::REST).
    ///
    /// # Errors
    /// As for [`View::tensor`].
    #[inline]
    pub fn tensor<const R: usize>(self, shape: [usize; R]) -> Result<TensorMut<'a, T, D, R>> {
        let layout = Layout::of(shape, self.len())?;
        // SAFETY:
        // - The layout names the elements of the view, one after the other, and each once.
        Ok(unsafe { TensorMut::new(self.into_nonnull(), layout) })
    }

    /// The elements of the view that `layout` names.
    ///
    /// # Errors
    /// [`Error::Length`] if the view has fewer elements than [`cosize`](Layout::cosize),
    /// [`Error::Aliases`] if two indices may name one element.
    #[inline]
    pub fn strided<const R: usize>(self, layout: Layout<R>) -> Result<TensorMut<'a, T, D, R>> {
        reaches(&layout, self.len())?;
        layout.injective("layout")?;
        // SAFETY:
        // - The layout names elements of the view only, and each once.
        Ok(unsafe { TensorMut::new(self.into_nonnull(), layout) })
    }
}

#[inline]
fn reaches<const R: usize>(layout: &Layout<R>, len: usize) -> Result<()> {
    let expected = layout.cosize();
    if expected <= len { Ok(()) } else { Err(Error::Length { operand: "view", expected, found: len }) }
}

impl<'a, T, D, const R: usize> TensorView<'a, T, D, R> {
    /// # Safety
    /// - The invariants of the type.
    #[inline]
    pub(crate) const unsafe fn new(ptr: NonNull<T>, layout: Layout<R>) -> Self {
        TensorView { ptr, layout, borrow: PhantomData }
    }

    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub const fn shape(self) -> [usize; R] {
        self.layout.shape()
    }

    /// The layout.
    #[inline]
    #[must_use]
    pub const fn layout(self) -> Layout<R> {
        self.layout
    }

    /// How many elements there are.
    #[inline]
    #[must_use]
    pub fn size(self) -> usize {
        self.layout.size()
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

    /// The elements as a view.
    ///
    /// # Errors
    /// [`Error::NotContiguous`] if they are not adjacent, in order.
    #[inline]
    pub fn contiguous(self) -> Result<View<'a, T, D>> {
        self.layout.contiguous("tensor")?;
        // SAFETY:
        // - The elements that the layout names are adjacent from `ptr` on (invariants 1 and 2).
        Ok(unsafe { View::from_raw_parts(self.ptr, self.layout.size()) })
    }
}

impl<'a, T, D: Location, const R: usize> TensorView<'a, T, D, R> {
    /// The places of the first axis as rows: what permutations, scatters and offsets take.
    ///
    /// # Errors
    /// [`Error::NotContiguous`] if the elements of a place are not adjacent, [`Error::Aliases`] if
    /// places overlap, [`Error::Length`] if a place has no elements, [`Error::Rank`] for a scalar.
    #[inline]
    pub fn rows(self) -> Result<Rows<'a, T, D>> {
        let Row { width, pitch, count } = Row::of(&self.layout)?;
        // SAFETY:
        // - Row `i` is the elements of place `i`, which are adjacent. No row overlaps the next.
        Ok(unsafe { Rows::from_raw(self.ptr.as_ptr(), width, pitch, count) })
    }
}

impl<'a, T, D, const R: usize> TensorMut<'a, T, D, R> {
    /// # Safety
    /// - The invariants of the type.
    #[inline]
    pub(crate) const unsafe fn new(ptr: NonNull<T>, layout: Layout<R>) -> Self {
        TensorMut { ptr, layout, borrow: PhantomData }
    }

    /// The extent of each axis.
    #[inline]
    #[must_use]
    pub const fn shape(&self) -> [usize; R] {
        self.layout.shape()
    }

    /// The layout.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> Layout<R> {
        self.layout
    }

    /// How many elements there are.
    #[inline]
    #[must_use]
    pub fn size(&self) -> usize {
        self.layout.size()
    }

    /// The address of the first element, in the location's own address space.
    #[inline]
    #[must_use]
    pub const fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr.as_ptr()
    }

    #[inline]
    pub(crate) const fn as_nonnull(&self) -> NonNull<T> {
        self.ptr
    }

    /// The same tensor for a shorter time.
    #[inline]
    #[must_use]
    pub const fn reborrow(&mut self) -> TensorMut<'_, T, D, R> {
        TensorMut { ptr: self.ptr, layout: self.layout, borrow: PhantomData }
    }

    /// The same elements to read, for as long as this tensor is borrowed.
    #[inline]
    #[must_use]
    pub const fn as_view(&self) -> TensorView<'_, T, D, R> {
        TensorView { ptr: self.ptr, layout: self.layout, borrow: PhantomData }
    }

    /// The same elements to read, for the whole lifetime.
    #[inline]
    #[must_use]
    pub const fn into_view(self) -> TensorView<'a, T, D, R> {
        TensorView { ptr: self.ptr, layout: self.layout, borrow: PhantomData }
    }

    /// The elements as a view.
    ///
    /// # Errors
    /// [`Error::NotContiguous`] if they are not adjacent, in order.
    #[inline]
    pub fn contiguous(self) -> Result<ViewMut<'a, T, D>> {
        self.layout.contiguous("tensor")?;
        // SAFETY:
        // - The elements that the layout names are adjacent from `ptr` on, and only this tensor
        //   accesses them.
        Ok(unsafe { ViewMut::from_raw_parts(self.ptr, self.layout.size()) })
    }
}

impl<'a, T, D: Location, const R: usize> TensorMut<'a, T, D, R> {
    /// The places of the first axis as rows: what permutations, scatters and offsets take.
    ///
    /// # Errors
    /// As for [`TensorView::rows`].
    #[inline]
    pub fn rows(self) -> Result<RowsMut<'a, T, D>> {
        let Row { width, pitch, count } = Row::of(&self.layout)?;
        // SAFETY:
        // - Row `i` is the elements of place `i`, which are adjacent and this tensor's alone. No
        //   row overlaps the next.
        Ok(unsafe { RowsMut::from_raw(self.ptr.as_ptr(), width, pitch, count) })
    }
}

/// The places of the first axis as rows, in elements.
struct Row {
    width: NonZero<usize>,
    pitch: usize,
    count: usize,
}

impl Row {
    fn of<const R: usize>(layout: &Layout<R>) -> Result<Row> {
        let (shape, stride) = (layout.shape(), layout.stride());
        let (Some((&count, places)), Some(&pitch)) = (shape.split_first(), stride.first()) else {
            return Err(Error::Rank { operand: "rows", expected: 1, found: 0 });
        };
        let width = places.iter().fold(1, |width: usize, extent| width.wrapping_mul(*extent));
        let Some(width) = NonZero::new(width) else {
            return Err(Error::Length { operand: "row", expected: 1, found: 0 });
        };
        if count == 0 {
            return Ok(Row { width, pitch: width.get(), count });
        }
        // One place, with its axis.
        layout.slice(0, ..1)?.0.contiguous("row")?;
        if count == 1 {
            return Ok(Row { width, pitch: width.get(), count });
        }
        if pitch < width.get() {
            return Err(Error::Aliases { operand: "rows", axis: 0 });
        }
        Ok(Row { width, pitch, count })
    }
}

impl<T, D, const R: usize> Clone for TensorView<'_, T, D, R> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, D, const R: usize> Copy for TensorView<'_, T, D, R> {}

// SAFETY:
// - A tensor of memory that belongs to no thread is a shared borrow of its elements.
unsafe impl<T: Sync, D: AnyThread, const R: usize> Send for TensorView<'_, T, D, R> {}
// SAFETY:
// - As above: shared access only.
unsafe impl<T: Sync, D: AnyThread, const R: usize> Sync for TensorView<'_, T, D, R> {}
// SAFETY:
// - An exclusive tensor of memory that belongs to no thread is an exclusive borrow of its elements.
unsafe impl<T: Send, D: AnyThread, const R: usize> Send for TensorMut<'_, T, D, R> {}
// SAFETY:
// - A shared reference to an exclusive tensor gives shared access only.
unsafe impl<T: Sync, D: AnyThread, const R: usize> Sync for TensorMut<'_, T, D, R> {}

impl<T, D: Location, const R: usize> fmt::Debug for TensorView<'_, T, D, R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "TensorView")?;
        f.debug_struct("").field("layout", &self.layout).finish()
    }
}

impl<T, D: Location, const R: usize> fmt::Debug for TensorMut<'_, T, D, R> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "TensorMut")?;
        f.debug_struct("").field("layout", &self.layout).finish()
    }
}

static_assertions::assert_eq_size!(TensorView<'static, u32, Host, 3>, [usize; 7]);
static_assertions::assert_eq_size!(TensorMut<'static, u32, Host, 2>, [usize; 5]);
static_assertions::assert_impl_all!(TensorView<'static, u32, Host, 2>: Send, Sync, Copy);
static_assertions::assert_impl_all!(TensorMut<'static, u32, Host, 2>: Send, Sync);
static_assertions::assert_not_impl_any!(TensorMut<'static, u32, Host, 2>: Clone);
static_assertions::assert_not_impl_any!(TensorView<'static, core::cell::Cell<u32>, Host, 2>: Send, Sync);
