//! Use beside cudarc: its contexts, its launch builder, its owned memory.

use core::{fmt, marker::PhantomData, ptr::NonNull};
use std::sync::Arc;

use cudarc::driver::{CudaContext, DeviceRepr};

use super::{
    Batching, Cuda, Device, OpenError, PINNING,
    context::{Context, given},
    driver::Driver,
    shared::Shared,
    supported,
};
use crate::{
    Element,
    buffer::{View, ViewMut},
    location::AnyThread,
    stream::Staged,
};

impl Device {
    /// The device of a context that cudarc made, which is kept alive by the device and its streams.
    ///
    /// If it is the first device of the process, pinned memory is registered in this context, which
    /// then lives to the end of the process. Devices of one context share the library's state for
    /// it, so a context may be adopted any number of times.
    ///
    /// # Errors
    /// As for [`open`](Device::open).
    #[inline]
    pub fn from_cudarc(context: &Arc<CudaContext>) -> Result<Device, OpenError> {
        let driver = Driver::load()?;
        let (ordinal, raw) = (context.ordinal(), context.cu_device());
        let (compute_capability, pools) = supported(driver, raw, ordinal)?;
        let pointer: NonNull<_> = given("cuCtxGetCurrent", context.cu_ctx())?;
        let owner = context.clone();
        // SAFETY:
        // - The context is alive as long as its owner, or the owner that the shared state has
        //   already. The device and all its clones keep the shared state.
        let context = unsafe { Context::new(driver, pointer.cast()) };
        let shared = Shared::adopted(context, owner);
        if PINNING.set(context).is_ok() {
            // Pinned memory belongs to the process.
            shared.keep();
        }
        let batching = Batching::Auto;
        let copy_tuning = super::CopyTuning::default();
        Ok(Device {
            context,
            raw,
            ordinal,
            compute_capability,
            pools,
            batching,
            copy_tuning,
            free_stream: shared.free_stream(),
            shared,
        })
    }
}

/// A view as a kernel argument of cudarc's launch builder: the address of its first element,
/// borrowed as the view was.
///
/// Pass it by reference to `arg`. The builder's `launch` is `unsafe`: its caller promises what the
/// caller of [`Ctx::launch`](crate::Ctx::launch) promises, on the stream the memory belongs to.
#[repr(transparent)]
pub struct KernelPtr<'v, T> {
    /// The kernel's parameter. Staged memory is host memory too: its provenance is exposed.
    address: usize,
    /// Neither `Send` nor `Sync`, like the view.
    borrow: PhantomData<(&'v mut T, *const ())>,
}

// SAFETY:
// - No device location is `AnyThread`: there are no such arguments. Written out so that the
//   compiler names this reason.
unsafe impl<'v, T> Send for KernelPtr<'v, T> where Cuda<'v>: AnyThread {}
// SAFETY:
// - As above.
unsafe impl<'v, T> Sync for KernelPtr<'v, T> where Cuda<'v>: AnyThread {}

// SAFETY:
// - It is one number of the size of a `CUdeviceptr`, which is what a pointer parameter of a kernel
//   is.
unsafe impl<T: Element> DeviceRepr for KernelPtr<'_, T> {}

macro_rules! from {
    ($($location:ty),*) => {$(
        impl<'v, 's, T: Element> From<View<'v, T, $location>> for KernelPtr<'v, T> {
            #[inline]
            fn from(view: View<'v, T, $location>) -> Self {
                KernelPtr { address: view.as_ptr().expose_provenance(), borrow: PhantomData }
            }
        }
        impl<'v, 's, T: Element> From<ViewMut<'v, T, $location>> for KernelPtr<'v, T> {
            #[inline]
            fn from(mut view: ViewMut<'v, T, $location>) -> Self {
                KernelPtr { address: view.as_mut_ptr().expose_provenance(), borrow: PhantomData }
            }
        }
    )*};
}
from!(Cuda<'s>, Staged<Cuda<'s>>);

impl<T> fmt::Debug for KernelPtr<'_, T> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KernelPtr").field(&self.address).finish()
    }
}

static_assertions::assert_not_impl_any!(KernelPtr<'static, u32>: Send, Sync);
static_assertions::assert_eq_size!(KernelPtr<'static, u32>, u64);
