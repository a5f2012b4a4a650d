//! Tensors of other programs.

use core::{fmt, ptr::NonNull};

use super::{
    abi::{CPU, CUDA_HOST, DlDevice, DlManagedTensor, DlManagedTensorVersioned, DlTensor, READ_ONLY, VERSION},
    checks::{Checked, DlError, checked},
};
use crate::{
    any::{AnyShared, AnyView},
    element::DType,
    error::{Error, Rejected},
    layout::{AnyLayout, MAX_RANK},
    location::Host,
    stream::{Ctx, DeviceLocation},
};

/// A tensor of the host that another program made. Dropping it calls its deleter, once.
pub struct Imported {
    owner: Owner,
    tensor: Checked,
}

/// A structure of another program, whose deleter is called when this is dropped.
struct Owner(Managed);

/// A structure of either layout.
#[derive(Clone, Copy)]
enum Managed {
    Versioned(NonNull<DlManagedTensorVersioned>),
    Unversioned(NonNull<DlManagedTensor>),
}

impl Imported {
    /// The tensor of a capsule called `dltensor_versioned`, which the caller takes from it.
    ///
    /// Cost: one pass over the elements for `bool`, whose bytes are looked at; else none.
    ///
    /// # Errors
    /// [`DlError`], with the structure: its deleter was not called. Refused are memory that is not
    /// the host's, elements that the library does not have, more than 8 axes, negative extents and
    /// strides, null or misaligned addresses, sizes that overflow, a `bool` that is neither 0 nor
    /// 1, and more elements of `bool` than bytes, unless strides of 0 repeat them.
    ///
    /// # Safety
    /// - `managed` is a live structure of DLPack, valid for its version, and is given away: nothing
    ///   else uses it or calls its deleter.
    /// - Until the deleter is called, the memory that it describes stays, has initialised elements,
    ///   and is not written.
    /// - The deleter may be called on any thread.
    #[inline]
    pub unsafe fn new(
        managed: NonNull<DlManagedTensorVersioned>,
    ) -> Result<Imported, Rejected<NonNull<DlManagedTensorVersioned>, DlError>> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { Imported::of(Managed::Versioned(managed)) }.map_err(|error| Rejected { error, value: managed })
    }

    /// The tensor of a capsule called `dltensor`, from before DLPack 1.0.
    ///
    /// # Errors
    /// As for [`new`](Imported::new).
    ///
    /// # Safety
    /// As for [`new`](Imported::new).
    #[inline]
    pub unsafe fn unversioned(
        managed: NonNull<DlManagedTensor>,
    ) -> Result<Imported, Rejected<NonNull<DlManagedTensor>, DlError>> {
        // SAFETY:
        // - The caller keeps the same contract.
        unsafe { Imported::of(Managed::Unversioned(managed)) }.map_err(|error| Rejected { error, value: managed })
    }

    /// # Safety
    /// As for [`new`](Imported::new).
    unsafe fn of(managed: Managed) -> Result<Imported, DlError> {
        // SAFETY:
        // - The caller promises a live structure.
        let tensor = unsafe { managed.tensor() }?;
        let DlDevice { device_type, device_id } = tensor.device;
        if device_type != CPU && device_type != CUDA_HOST {
            return Err(DlError::Device { device_type, device_id });
        }
        // SAFETY:
        // - The caller promises a valid structure: `ndim` extents and strides.
        let tensor = unsafe { checked(tensor) }?;
        if tensor.dtype == DType::Bool {
            // SAFETY:
            // - The caller promises the memory, and every byte is a `u8`.
            unsafe { flags(&tensor) }?;
        }
        Ok(Imported { owner: Owner(managed), tensor })
    }

    /// The elements, to read.
    #[inline]
    #[must_use]
    pub fn view(&self) -> AnyView<'_, Host> {
        let Checked { dtype, layout, first, .. } = self.tensor;
        // SAFETY:
        // - `checked` has found that the address is aligned and the layout does not wrap, and `of`
        //   that each `bool` is one. The caller of `new` promised that the elements stay and are
        //   not written until the deleter is called, which is when this is dropped.
        unsafe { AnyView::from_raw(dtype, layout, first) }
    }

    /// Whether the other program has marked the memory as read-only.
    #[inline]
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self.owner.0 {
            // SAFETY:
            // - The structure is alive until the deleter is called.
            Managed::Versioned(managed) => unsafe { managed.as_ref() }.flags & READ_ONLY != 0,
            Managed::Unversioned(_) => false,
        }
    }
}

/// The tensor of a capsule called `dltensor_versioned`, on the device of a stream, as shared memory
/// of the stream, which is only read: the other program may have owners too. Its deleter is called once
/// every stream has passed its last use.
///
/// The other program is asked for the capsule with the raw stream of `ctx`, so that it orders its
/// work before: `tensor.__dlpack__(stream=raw)`. `device` is what DLPack calls the stream's device:
/// on CUDA type 2 and the ordinal.
///
/// # Errors
/// As for [`Imported::new`], and [`DlError::Device`] if the memory is not on `device`. `bool` is
/// refused, whose bytes the host cannot look at: the other program exports it as `u8`.
///
/// # Safety
/// - As for [`Imported::new`], once the stream has passed what is enqueued now.
/// - No other allocation that is used in the same batch group is adjacent to the memory.
#[inline]
pub unsafe fn import_on_stream<L: DeviceLocation, A>(
    ctx: &Ctx<'_, L, A>,
    device: DlDevice,
    managed: NonNull<DlManagedTensorVersioned>,
) -> Result<AnyShared<L>, Rejected<NonNull<DlManagedTensorVersioned>, DlError>> {
    let check = || {
        // SAFETY:
        // - The caller promises a live structure.
        let tensor = unsafe { Managed::Versioned(managed).tensor() }?;
        if tensor.device != device {
            let DlDevice { device_type, device_id } = tensor.device;
            return Err(DlError::Device { device_type, device_id });
        }
        // SAFETY:
        // - The caller promises a valid structure: `ndim` extents and strides.
        let tensor = unsafe { checked(tensor) }?;
        if tensor.dtype == DType::Bool {
            return Err(Error::NotAValue { operand: "tensor", position: 0 }.into());
        }
        Ok(tensor)
    };
    match check() {
        Ok(Checked { dtype, layout, first, bytes }) => {
            let owner = Owner(Managed::Versioned(managed));
            // SAFETY:
            // - The caller promises the memory until the deleter is called, which the drop of the
            //   owner does. `checked` has found that the address is aligned and that the layout
            //   reaches `bytes` bytes. Every pattern of bits is an element, except for `bool`.
            Ok(unsafe { AnyShared::from_raw(ctx, dtype, layout, first, bytes, owner) })
        }
        Err(error) => Err(Rejected { error, value: managed }),
    }
}

impl Managed {
    /// # Safety
    /// - The structure is alive.
    unsafe fn tensor<'m>(self) -> Result<&'m DlTensor, DlError> {
        match self {
            Managed::Versioned(managed) => {
                // SAFETY:
                // - The caller promises that it is alive. The version comes first in every version.
                let version = unsafe { (*managed.as_ptr()).version };
                if version.major != VERSION.major {
                    return Err(DlError::Version { major: version.major, minor: version.minor });
                }
                // SAFETY:
                // - As above, and structures of one `major` have one layout.
                Ok(&unsafe { managed.as_ref() }.dl_tensor)
            }
            // SAFETY:
            // - The caller promises that it is alive.
            Managed::Unversioned(managed) => Ok(&unsafe { managed.as_ref() }.dl_tensor),
        }
    }
}

/// Refuses bytes that are no `bool`. Looks at no more bytes than the memory has, however many
/// elements name one of them.
///
/// # Safety
/// - The elements of the tensor are initialised bytes of the host that nothing writes.
unsafe fn flags(tensor: &Checked) -> Result<(), DlError> {
    let layout = tensor.layout;
    // All places of an axis of stride 0 are one.
    let once = |(extent, stride): (&usize, &usize)| if *stride == 0 { (*extent).min(1) } else { *extent };
    let mut shape = [0; MAX_RANK];
    shape.iter_mut().zip(layout.shape().iter().zip(layout.stride())).for_each(|(to, axis)| *to = once(axis));
    let distinct = AnyLayout::strided(shape.get(..layout.axes()).unwrap_or(&[]), layout.stride())?;
    if distinct.size() > distinct.cosize() {
        distinct.injective("tensor")?;
    }
    // SAFETY:
    // - The caller promises the bytes, and a byte has no alignment and no invalid pattern.
    let view = unsafe { AnyView::<Host>::from_raw(DType::U8, distinct, tensor.first) };
    let Some(mut at) = view.bytes_by_index().position(|byte| byte > 1) else { return Ok(()) };
    // The first element of the tensor that is this byte.
    let (mut position, mut step) = (0_usize, 1_usize);
    for (extent, places) in layout.shape().iter().zip(distinct.shape()).rev() {
        let place = at.checked_rem(*places).unwrap_or(0);
        at = at.checked_div(*places).unwrap_or(0);
        position = position.wrapping_add(place.wrapping_mul(step));
        step = step.wrapping_mul(*extent);
    }
    Err(Error::NotAValue { operand: "tensor", position }.into())
}

impl Drop for Owner {
    fn drop(&mut self) {
        match self.0 {
            Managed::Versioned(managed) => {
                // SAFETY:
                // - The structure is alive until its deleter is called.
                let deleter = unsafe { managed.as_ref() }.deleter;
                if let Some(deleter) = deleter {
                    // SAFETY:
                    // - The structure was given away to this, which is dropped once.
                    unsafe { deleter(managed.as_ptr()) }
                }
            }
            Managed::Unversioned(managed) => {
                // SAFETY:
                // - As above.
                let deleter = unsafe { managed.as_ref() }.deleter;
                if let Some(deleter) = deleter {
                    // SAFETY:
                    // - As above.
                    unsafe { deleter(managed.as_ptr()) }
                }
            }
        }
    }
}

// SAFETY:
// - The caller of the import promised that the deleter may be called on any thread, and nothing
//   else has the structure.
unsafe impl Send for Owner {}
// SAFETY:
// - A shared reference reads the structure, which nothing writes.
unsafe impl Sync for Owner {}
// SAFETY:
// - The elements are not written until the deleter is called, and the owner may change threads.
unsafe impl Send for Imported {}
// SAFETY:
// - As above: shared access only.
unsafe impl Sync for Imported {}

impl fmt::Debug for Imported {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported").field("tensor", &self.view()).finish()
    }
}
