//! Owned tensors of any element and any rank.

use core::{fmt, marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};

use super::{
    AnyView,
    element_type::{ElementType, row_major, with_scalar},
};
use crate::{
    alloc::Allocator,
    buffer::Buffer,
    element::{DType, Scalar},
    error::{Error, Rejected, Result},
    layout::{AnyLayout, Layout},
    location::{AnyThread, Host, Location},
    stream::{AllocOf, Ctx, DeviceLocation, HasAlloc},
    tensor::{Tensor, TensorMut},
};

/// A row-major tensor of some scalar in location `D`, of some rank, with its memory from `A`.
pub struct AnyTensor<D: Location, A: Allocator<D> = <D as Location>::DefaultAlloc> {
    /// Invariants:
    /// 1. `ptr`, `len` and `alloc` are the parts of a buffer of `element`, which this owns.
    /// 2. `layout` is row-major, of `len` elements.
    /// 3. `drop` drops a buffer of `element`.
    ptr: NonNull<u8>,
    len: usize,
    alloc: ManuallyDrop<A>,
    drop: unsafe fn(NonNull<u8>, usize, A),
    element: ElementType,
    layout: AnyLayout,
    location: PhantomData<D>,
}

impl<T: Scalar, D: Location, A: Allocator<D>> Buffer<T, D, A> {
    /// The buffer as a row-major tensor of a shape that is a value. One extent may be
    /// [`REST`](crate::layout::REST).
    ///
    /// # Errors
    /// As for [`AnyLayout::of`], with the buffer.
    #[inline]
    pub fn any_tensor(self, shape: &[usize]) -> Result<AnyTensor<D, A>, Rejected<Self>> {
        match AnyLayout::of(shape, self.len()) {
            Ok(layout) => Ok(AnyTensor::of(self, layout)),
            Err(error) => Err(Rejected::new(error, self)),
        }
    }
}

impl<D: Location, A: Allocator<D>> AnyTensor<D, A> {
    /// The buffer has as many elements as the layout, which is row-major.
    fn of<T: Scalar>(buffer: Buffer<T, D, A>, layout: AnyLayout) -> Self {
        let (ptr, len, alloc) = buffer.into_raw_parts();
        AnyTensor {
            ptr: ptr.cast(),
            len,
            alloc: ManuallyDrop::new(alloc),
            drop: drop_buffer::<T, D, A>,
            element: ElementType::of::<T>(),
            layout,
            location: PhantomData,
        }
    }

    /// The name of the element.
    #[inline]
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.element.dtype()
    }

    /// The layout, in elements, which is row-major. Values of less than a byte are counted in
    /// groups that fill bytes.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> AnyLayout {
        self.layout
    }

    /// All elements, to read.
    #[inline]
    #[must_use]
    pub fn view(&self) -> AnyView<'_, D> {
        super::view::view_of(self.ptr, self.element, self.layout)
    }

    /// All elements, to write, with element and rank in the type.
    ///
    /// # Errors
    /// As for [`AnyView::downcast`].
    #[inline]
    pub fn downcast_mut<T: Scalar, const R: usize>(&mut self) -> Result<TensorMut<'_, T, D, R>> {
        let layout = self.typed::<T, R>()?;
        // SAFETY:
        // - Invariants 1 and 2: the elements are `T`, which was compared, and the tensor is
        //   borrowed exclusively. A row-major layout names no element twice.
        Ok(unsafe { TensorMut::new(self.ptr.cast(), layout) })
    }

    /// The tensor, with its element and its rank in its type.
    ///
    /// # Errors
    /// As for [`AnyView::downcast`], with the tensor.
    #[inline]
    pub fn downcast<T: Scalar, const R: usize>(self) -> Result<Tensor<T, D, R, A>, Rejected<Self>> {
        let layout: Layout<R> = match self.typed::<T, R>() {
            Ok(layout) => layout,
            Err(error) => return Err(Rejected::new(error, self)),
        };
        let mut this = ManuallyDrop::new(self);
        // SAFETY:
        // - `this` is neither dropped nor used again.
        let alloc = unsafe { ManuallyDrop::take(&mut this.alloc) };
        // SAFETY:
        // - Invariant 1: the parts are those of a buffer of `T`, which was compared.
        let buffer = unsafe { Buffer::from_raw_parts(this.ptr.cast(), this.len, alloc) };
        buffer.tensor(layout.shape()).map_err(|Rejected { error, value }| {
            // Not reached: the layout has `len` elements.
            Rejected::new(error, AnyTensor::of(value, layout.any()))
        })
    }

    fn typed<T: Scalar, const R: usize>(&self) -> Result<Layout<R>> {
        self.element.is::<T>()?;
        self.layout.rank()
    }
}

impl AnyTensor<Host> {
    /// A copy of little-endian bytes, as a row-major tensor of the library's own scalar of this
    /// name.
    ///
    /// The shape counts elements: values of less than a byte are counted in groups that fill bytes.
    ///
    /// # Errors
    /// As for [`AnyLayout::new`] and [`Buffer::uninit_in`]; [`Error::Length`] if the bytes are not
    /// those of so many elements, [`Error::NotAValue`] for a `bool` that is neither 0 nor 1.
    #[inline]
    pub fn from_le_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Self> {
        const { assert!(cfg!(target_endian = "little"), "the bytes are those of memory") }
        let layout = row_major(dtype, shape, bytes.len())?;
        with_scalar!(dtype, T => {
            let mut buffer = Buffer::<T, Host>::zeros(layout.size())?;
            let elements = bytes.chunks_exact(dtype.group_bytes()).zip(buffer.iter_mut());
            for (position, (bytes, element)) in elements.enumerate() {
                let value = bytemuck::checked::try_pod_read_unaligned(bytes);
                *element = value.map_err(|_| Error::NotAValue { operand: "bytes", position })?;
            }
            Ok(AnyTensor::of(buffer, layout))
        })
    }
}

impl<T: Scalar, D: Location, const R: usize, A: Allocator<D>> From<Tensor<T, D, R, A>> for AnyTensor<D, A> {
    #[inline]
    fn from(tensor: Tensor<T, D, R, A>) -> Self {
        let layout = tensor.layout().any();
        AnyTensor::of(tensor.into_buffer(), layout)
    }
}

/// Drops the buffer of these parts.
///
/// # Safety
/// - They are those of a buffer of `T` that is owned by the caller.
unsafe fn drop_buffer<T, D: Location, A: Allocator<D>>(ptr: NonNull<u8>, len: usize, alloc: A) {
    // SAFETY:
    // - The caller keeps the same contract.
    drop(unsafe { Buffer::<T, D, A>::from_raw_parts(ptr.cast(), len, alloc) });
}

impl<D: Location, A: Allocator<D>> Drop for AnyTensor<D, A> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - The tensor is not used again.
        let alloc = unsafe { ManuallyDrop::take(&mut self.alloc) };
        // SAFETY:
        // - Invariants 1 and 3.
        unsafe { (self.drop)(self.ptr, self.len, alloc) }
    }
}

// SAFETY:
// - The tensor owns its elements, which are `Send`: every scalar is an `Element`. The memory
//   belongs to no thread, and the handle may change threads.
unsafe impl<D: AnyThread, A: Allocator<D> + Send> Send for AnyTensor<D, A> {}
// SAFETY:
// - A shared reference gives shared access to the elements, which are `Sync`, and to the handle.
unsafe impl<D: AnyThread, A: Allocator<D> + Sync> Sync for AnyTensor<D, A> {}

impl<D: Location, A: Allocator<D>> fmt::Debug for AnyTensor<D, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyTensor<{}, {}> {{ layout: {} }}", self.dtype(), D::NAME, self.layout)
    }
}

impl<L: DeviceLocation, A: HasAlloc<L>> Ctx<'_, L, A> {
    /// A tensor of zeros on the device, of the library's own element of this name. Cost: an
    /// allocation and one driver call.
    ///
    /// The shape counts elements: values of less than a byte are counted in groups that fill bytes.
    ///
    /// # Errors
    /// As for [`AnyLayout::new`] and [`Ctx::zeros`].
    #[inline]
    pub fn zeros_any(&self, dtype: DType, shape: &[usize]) -> Result<AnyTensor<L, AllocOf<A, L>>> {
        with_scalar!(dtype, T => self.zeros_of::<T>(shape))
    }

    fn zeros_of<T: Scalar>(&self, shape: &[usize]) -> Result<AnyTensor<L, AllocOf<A, L>>> {
        let layout = AnyLayout::new(shape)?;
        let buffer = Buffer::uninit_in(layout.size(), self.device_alloc())?;
        let buffer: Buffer<T, L, _> = self.init_zeros(buffer)?;
        Ok(AnyTensor::of(buffer, layout))
    }
}
