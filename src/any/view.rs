//! Borrowed tensors of any element and any rank.

use core::{fmt, marker::PhantomData, ptr::NonNull};

use super::element_type::{ElementType, row_major, with_scalar};
#[cfg(feature = "dlpack")]
use crate::layout::{MAX_RANK, advance};
use crate::{
    buffer::View,
    element::{DType, Scalar},
    error::Result,
    layout::AnyLayout,
    location::{AnyThread, Host, Location},
    tensor::TensorView,
};

/// A tensor of some scalar in location `D`, of some rank, borrowed to read. `Copy`.
pub struct AnyView<'a, D> {
    /// Invariant: what a [`TensorView`] of `element` with this layout has.
    ptr: NonNull<u8>,
    element: ElementType,
    layout: AnyLayout,
    borrow: PhantomData<(&'a u8, D)>,
}

impl<'a, T: Scalar, D, const R: usize> TensorView<'a, T, D, R> {
    /// The tensor, with its element and its rank as values.
    #[inline]
    #[must_use]
    pub fn any(self) -> AnyView<'a, D> {
        let ptr = self.as_nonnull().cast();
        AnyView { ptr, element: ElementType::of::<T>(), layout: self.layout().any(), borrow: PhantomData }
    }
}

impl<'a, D> AnyView<'a, D> {
    /// The name of the element.
    #[inline]
    #[must_use]
    pub const fn dtype(self) -> DType {
        self.element.dtype()
    }

    /// The layout, in elements. Values of less than a byte are counted in groups that fill bytes.
    #[inline]
    #[must_use]
    pub const fn layout(self) -> AnyLayout {
        self.layout
    }

    /// The address of the first element, in the location's own address space.
    #[inline]
    #[must_use]
    pub const fn as_ptr(self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// The tensor, with its element and its rank in its type.
    ///
    /// # Errors
    /// [`Error::Element`](crate::Error::Element) if its elements are not `T`,
    /// [`Error::Rank`](crate::Error::Rank) if its rank is not `R`.
    #[inline]
    pub fn downcast<T: Scalar, const R: usize>(self) -> Result<TensorView<'a, T, D, R>> {
        self.element.is::<T>()?;
        let layout = self.layout.rank()?;
        // SAFETY:
        // - The invariant of the type: the elements are `T`, which was compared, and the layout is
        //   that of the view.
        Ok(unsafe { TensorView::new(self.ptr.cast(), layout) })
    }
}

impl<'a, D: Location> AnyView<'a, D> {
    /// The bytes of the elements.
    ///
    /// # Errors
    /// [`Error::NotContiguous`](crate::Error::NotContiguous) if the elements are not adjacent, in
    /// order.
    #[inline]
    pub fn bytes(self) -> Result<View<'a, u8, D>> {
        self.layout.contiguous("tensor")?;
        let bytes = self.layout.size().wrapping_mul(self.element.size());
        // SAFETY:
        // - The elements are adjacent from `ptr` on, and are not written during `'a`.
        // - Every byte of a scalar is initialised: it is an `Element`.
        Ok(unsafe { View::from_raw_parts(self.ptr, bytes) })
    }
}

#[cfg(feature = "dlpack")]
impl<'a> AnyView<'a, Host> {
    /// Elements of the library's own scalar of this name.
    ///
    /// # Safety
    /// - Each element that the layout names, from `first` on, is one of the scalar, in memory of
    ///   the host that is not written during `'a`. `first` is aligned.
    pub(crate) unsafe fn from_raw(dtype: DType, layout: AnyLayout, first: NonNull<u8>) -> Self {
        let element = with_scalar!(dtype, T => ElementType::of::<T>());
        AnyView { ptr: first, element, layout, borrow: PhantomData }
    }

    /// The first byte of each element, the last axis fastest.
    pub(crate) fn bytes_by_index(self) -> impl Iterator<Item = u8> {
        let (mut index, mut offset) = ([0; MAX_RANK], 0);
        (0..self.layout.size()).map(move |_| {
            let now = offset;
            let (shape, stride) = (self.layout.shape(), self.layout.stride());
            advance(shape, stride, index.get_mut(..shape.len()).unwrap_or(&mut []), &mut offset);
            // SAFETY:
            // - `now` is the offset of an element, whose bytes are initialised.
            unsafe { *self.ptr.as_ptr().wrapping_add(now.wrapping_mul(self.element.size())) }
        })
    }
}

impl<'a> AnyView<'a, Host> {
    /// Bytes of the host as a row-major tensor of the library's own scalar of this name.
    ///
    /// The shape counts elements: values of less than a byte are counted in groups that fill bytes.
    /// Cost: one pass for `bool`, whose bytes are looked at; else none.
    ///
    /// # Errors
    /// As for [`AnyLayout::new`]; [`Error::Length`](crate::Error::Length) if the bytes are not
    /// those of so many elements, [`Error::Reinterpret`](crate::Error::Reinterpret) if they are not
    /// aligned, [`Error::NotAValue`](crate::Error::NotAValue) for a `bool` that is neither 0 nor 1.
    #[inline]
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: View<'a, u8, Host>) -> Result<Self> {
        let layout = row_major(dtype, shape, bytes.len())?;
        with_scalar!(dtype, T => {
            let elements = bytes.checked::<T>()?;
            Ok(AnyView { ptr: elements.as_nonnull().cast(), element: ElementType::of::<T>(), layout, borrow: PhantomData })
        })
    }
}

impl<'a, T: Scalar, D, const R: usize> From<TensorView<'a, T, D, R>> for AnyView<'a, D> {
    #[inline]
    fn from(tensor: TensorView<'a, T, D, R>) -> Self {
        tensor.any()
    }
}

impl<D> Clone for AnyView<'_, D> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<D> Copy for AnyView<'_, D> {}

// SAFETY:
// - A tensor of memory that belongs to no thread is a shared borrow of its elements, which are
//   `Sync`: every scalar is an `Element`.
unsafe impl<D: AnyThread> Send for AnyView<'_, D> {}
// SAFETY:
// - As above.
unsafe impl<D: AnyThread> Sync for AnyView<'_, D> {}

impl<D> fmt::Display for AnyView<'_, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.dtype(), self.layout)
    }
}

impl<D: Location> fmt::Debug for AnyView<'_, D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyView<{}, {}> {{ layout: {} }}", self.dtype(), D::NAME, self.layout)
    }
}

pub(super) fn view_of<'a, D>(ptr: NonNull<u8>, element: ElementType, layout: AnyLayout) -> AnyView<'a, D> {
    AnyView { ptr, element, layout, borrow: PhantomData }
}
