//! Tensors for other programs.

use core::{ffi::c_void, fmt, mem::ManuallyDrop, ptr::NonNull};
use std::sync::Arc;

use super::{
    abi::{CPU, DlDevice, DlManagedTensorVersioned, DlTensor, READ_ONLY, VERSION},
    dtype::code_of,
};
use crate::{
    any::AnyTensor,
    element::DType,
    error::{Error, Rejected, Result},
    layout::{AnyLayout, MAX_RANK},
    location::Host,
};

/// A tensor that is ready for another program. Dropping it drops the tensor.
pub struct Exported {
    /// Invariant: a structure of this module, which this owns.
    managed: NonNull<DlManagedTensorVersioned>,
}

/// What a structure has behind it.
#[repr(C)]
struct Holder<O> {
    /// First, so that the address of the structure is that of the holder.
    managed: DlManagedTensorVersioned,
    shape: [i64; MAX_RANK],
    strides: [i64; MAX_RANK],
    owner: O,
}

/// Hands a tensor of the host out. Who gets it may write it. Cost: one heap allocation.
#[inline]
#[must_use]
pub fn export(tensor: AnyTensor<Host>) -> Exported {
    let (layout, data) = (tensor.layout(), tensor.view().as_ptr());
    let dtype = tensor.dtype();
    exported(tensor, dtype, layout, (data, HOST), 0)
}

/// Hands a tensor out that is still read here: the elements of `tensor` that `layout` names,
/// counted from element `first`. It is marked as read-only.
///
/// # Errors
/// [`Error::Length`] if `layout` reaches beyond the tensor, with the tensor.
#[inline]
pub fn export_shared(
    tensor: Arc<AnyTensor<Host>>,
    layout: AnyLayout,
    first: usize,
) -> Result<Exported, Rejected<Arc<AnyTensor<Host>>>> {
    let found = tensor.layout().size();
    match first.checked_add(layout.cosize()) {
        Some(expected) if expected <= found => {}
        expected => {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Rejected::new(Error::Length { operand: "tensor", expected, found }, tensor));
        }
    }
    let offset = first.wrapping_mul(tensor.dtype().group_bytes());
    let data = tensor.view().as_ptr().wrapping_add(offset);
    let dtype = tensor.dtype();
    Ok(exported(tensor, dtype, layout, (data, HOST), READ_ONLY))
}

const HOST: DlDevice = DlDevice { device_type: CPU, device_id: 0 };

/// The structure of a tensor whose first element is at `data`, on `device`. `owner` is dropped by the
/// deleter.
pub(crate) fn exported<O: Send + 'static>(
    owner: O,
    dtype: DType,
    layout: AnyLayout,
    (data, device): (*const u8, DlDevice),
    flags: u64,
) -> Exported {
    // Extents and strides of a layout are at most `isize::MAX`, which fits.
    let numbers = |from: &[usize]| {
        let mut to = [0; MAX_RANK];
        to.iter_mut().zip(from).for_each(|(to, from)| *to = i64::try_from(*from).unwrap_or(i64::MAX));
        to
    };
    let data = if layout.size() == 0 { core::ptr::null() } else { data };
    let dl_tensor = DlTensor {
        data: data.cast_mut().cast::<c_void>(),
        device,
        ndim: i32::try_from(layout.axes()).unwrap_or(0),
        dtype: code_of(dtype),
        shape: core::ptr::null_mut(),
        strides: core::ptr::null_mut(),
        byte_offset: 0,
    };
    let managed = DlManagedTensorVersioned {
        version: VERSION,
        manager_ctx: core::ptr::null_mut(),
        deleter: Some(delete::<O>),
        flags,
        dl_tensor,
    };
    let holder = Holder { managed, shape: numbers(layout.shape()), strides: numbers(layout.stride()), owner };
    // All addresses that go out come from this one.
    let holder = NonNull::from(Box::leak(Box::new(holder)));
    let place = holder.as_ptr();
    // SAFETY:
    // - The holder is in its box, which nothing else has.
    let shape = unsafe { &raw mut (*place).shape };
    // SAFETY:
    // - As above.
    let strides = unsafe { &raw mut (*place).strides };
    // SAFETY:
    // - As above.
    let tensor = unsafe { &mut (*place).managed.dl_tensor };
    (tensor.shape, tensor.strides) = (shape.cast(), strides.cast());
    Exported { managed: holder.cast() }
}

/// Drops the tensor of a structure.
///
/// # Safety
/// - The structure is the first field of a `Holder<O>` in a box, and is not used again.
unsafe extern "C" fn delete<O>(managed: *mut DlManagedTensorVersioned) {
    if !managed.is_null() {
        // SAFETY:
        // - The caller promises a box of a holder, whose address is that of the structure.
        drop(unsafe { Box::from_raw(managed.cast::<Holder<O>>()) });
    }
}

impl Exported {
    /// The structure, for a capsule called `dltensor_versioned`. Whoever has it calls its deleter
    /// once.
    #[inline]
    #[must_use]
    pub fn into_raw(self) -> NonNull<DlManagedTensorVersioned> {
        ManuallyDrop::new(self).managed
    }
}

impl Drop for Exported {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - The structure is owned and valid.
        let deleter = unsafe { self.managed.as_ref() }.deleter;
        if let Some(deleter) = deleter {
            // SAFETY:
            // - The structure is this module's, and is not used again.
            unsafe { deleter(self.managed.as_ptr()) }
        }
    }
}

// SAFETY:
// - The owner of the tensor is `Send`, and nothing else has the structure.
unsafe impl Send for Exported {}

impl fmt::Debug for Exported {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exported").finish_non_exhaustive()
    }
}
