//! Shared tensors of any element and any rank.

use core::{fmt, ptr::NonNull};

#[cfg(all(feature = "dlpack", feature = "cuda-core"))]
use tidelock_driver::{Backend, EventOf};

#[cfg(feature = "dlpack")]
use super::element_type::with_scalar;
use super::{AnyView, element_type::ElementType};
#[cfg(all(feature = "dlpack", feature = "cuda-core"))]
use crate::stream::Detached;
#[cfg(feature = "dlpack")]
use crate::stream::{Ctx, DeviceLocation};
use crate::{
    element::{DType, Scalar},
    error::{Rejected, Result},
    layout::{AnyLayout, Layout},
    location::Location,
    stream::{Shared, SharedPlace, SharedTensor},
};

/// A tensor of some scalar in location `D`, of some rank, whose memory has any number of owners.
pub struct AnyShared<D: SharedPlace> {
    /// Invariant: the bytes of elements of `element`, from the first one that the layout names on,
    /// and as many as it reaches.
    memory: Shared<u8, D>,
    element: ElementType,
    layout: AnyLayout,
}

impl<T: Scalar, D: SharedPlace, const R: usize> SharedTensor<T, D, R> {
    /// The tensor, with its element and its rank as values.
    #[inline]
    #[must_use]
    pub fn any(self) -> AnyShared<D> {
        let (memory, layout) = self.into_parts();
        AnyShared { memory: memory.erased(), element: ElementType::of::<T>(), layout: layout.any() }
    }
}

#[cfg(feature = "dlpack")]
impl<L: DeviceLocation> AnyShared<L> {
    /// Elements of the library's own scalar of this name that were allocated elsewhere, and are only
    /// read.
    ///
    /// # Safety
    /// - As for [`Shared::from_raw_read_only`], for `bytes` bytes at `first`, which is aligned for the
    ///   scalar.
    /// - They are elements of the scalar, as far as the layout reaches.
    pub(crate) unsafe fn from_raw<A, O: Send + Sync + 'static>(
        ctx: &Ctx<'_, L, A>,
        dtype: DType,
        layout: AnyLayout,
        first: NonNull<u8>,
        bytes: usize,
        owner: O,
    ) -> Self {
        let element = with_scalar!(dtype, T => ElementType::of::<T>());
        // SAFETY:
        // - The caller keeps the same contract.
        let memory = unsafe { Shared::from_raw_read_only(ctx, first, bytes, owner) };
        AnyShared { memory, element, layout }
    }
}

#[cfg(all(feature = "dlpack", feature = "cuda-core"))]
impl<B: Backend> AnyShared<Detached<B>> {
    /// The owner of the memory.
    pub(crate) const fn memory(&self) -> &Shared<u8, Detached<B>> {
        &self.memory
    }

    /// Whether there is no other owner, and none that is still in use.
    pub(crate) fn is_only_owner(&mut self) -> bool {
        self.memory.get_mut().is_some()
    }

    /// As [`Shared::used_before`].
    ///
    /// # Safety
    /// As for [`Shared::used_before`].
    pub(crate) unsafe fn used_before(self, event: EventOf<B>) -> Self {
        let AnyShared { memory, element, layout } = self;
        // SAFETY:
        // - The caller keeps the same contract.
        AnyShared { memory: unsafe { memory.used_before(event) }, element, layout }
    }
}

impl<D: SharedPlace> AnyShared<D> {
    /// The name of the element.
    #[inline]
    #[must_use]
    pub const fn dtype(&self) -> DType {
        self.element.dtype()
    }

    /// The layout, in elements.
    #[inline]
    #[must_use]
    pub const fn layout(&self) -> AnyLayout {
        self.layout
    }

    /// The elements, to read.
    #[inline]
    #[must_use]
    pub fn view(&self) -> AnyView<'_, D> {
        let ptr = NonNull::new(self.memory.as_ptr().cast_mut()).unwrap_or(NonNull::dangling());
        super::view::view_of(ptr, self.element, self.layout)
    }

    /// The tensor, with its element and its rank in its type.
    ///
    /// # Errors
    /// As for [`AnyView::downcast`], with the tensor.
    #[inline]
    pub fn downcast<T: Scalar, const R: usize>(self) -> Result<SharedTensor<T, D, R>, Rejected<Self>> {
        let typed = self.element.is::<T>().and_then(|()| self.layout.rank());
        let layout: Layout<R> = match typed {
            Ok(layout) => layout,
            Err(error) => return Err(Rejected::new(error, self)),
        };
        let AnyShared { memory, element, layout: any } = self;
        // SAFETY:
        // - The invariant of the type: the bytes are those of elements of `T`, which was compared.
        let memory: Shared<T, D> = unsafe { memory.of_elements() };
        memory.strided(layout).map_err(|Rejected { error, value }| {
            // Not reached: the memory has as many elements as the layout reaches.
            Rejected::new(error, AnyShared { memory: value.erased(), element, layout: any })
        })
    }
}

impl<D: SharedPlace> Clone for AnyShared<D> {
    #[inline]
    fn clone(&self) -> Self {
        AnyShared { memory: self.memory.clone(), element: self.element, layout: self.layout }
    }
}

impl<D: SharedPlace> fmt::Debug for AnyShared<D> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnyShared<{}, {}> {{ layout: {} }}", self.dtype(), <D as Location>::NAME, self.layout)
    }
}
