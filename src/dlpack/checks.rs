//! What a structure of another program has to be.

use core::ptr::NonNull;

use super::{abi::DlTensor, dtype::dtype_of};
use crate::{
    element::DType,
    error::Error,
    layout::{AnyLayout, MAX_RANK},
};

/// Why a structure of another program was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DlError {
    /// The structures have another layout.
    #[error("the structure is of DLPack {major}.{minor}, and 1 is read")]
    Version {
        /// Its version.
        major: u32,
        /// Its version.
        minor: u32,
    },
    /// The memory is elsewhere.
    #[error("the memory is on device {device_id} of type {device_type}")]
    Device {
        /// Its type.
        device_type: i32,
        /// Its number.
        device_id: i32,
    },
    /// The library has no such element.
    #[error("the element has code {code}, {bits} bits and {lanes} lanes, which is no `DType`")]
    Element {
        /// Its code.
        code: u8,
        /// The bits of a value.
        bits: u8,
        /// The values of an element.
        lanes: u16,
    },
    /// The number of axes is negative, or more than 8, or there are axes without extents.
    #[error("there are {ndim} axes, and 0 to 8 with their extents are read")]
    Axes {
        /// The number of axes.
        ndim: i32,
    },
    /// An extent or a stride is negative.
    #[error("axis {axis} has {extent} places at a distance of {stride}: neither may be negative")]
    Negative {
        /// The axis.
        axis: usize,
        /// Its extent.
        extent: i64,
        /// Its stride, or 0 if there are none.
        stride: i64,
    },
    /// The address is null although there are elements, or not aligned, or the memory would wrap
    /// around the address space.
    #[error("{address:#x}, {offset} bytes further, is no address of the tensor's elements")]
    Address {
        /// The address.
        address: usize,
        /// The offset of the first element in bytes.
        offset: u64,
    },
    /// The layout is none, or the elements are not what they should be.
    #[error("{0}")]
    Other(#[from] Error),
}

/// A tensor, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    pub(super) dtype: DType,
    pub(super) layout: AnyLayout,
    /// Of the first element, aligned; dangling if there are none.
    pub(super) first: NonNull<u8>,
    /// From the first element to the end of the last one.
    pub(super) bytes: usize,
}

/// Checks all that can be checked without reading the elements.
///
/// # Safety
/// - `shape` and `strides` have `ndim` numbers each, if they are not null.
pub(super) unsafe fn checked(tensor: &DlTensor) -> Result<Checked, DlError> {
    let code = tensor.dtype;
    let dtype = dtype_of(code).ok_or(DlError::Element { code: code.code, bits: code.bits, lanes: code.lanes })?;
    let rank = usize::try_from(tensor.ndim).ok().filter(|rank| *rank <= MAX_RANK);
    let rank = rank.filter(|rank| *rank == 0 || !tensor.shape.is_null()).ok_or(DlError::Axes { ndim: tensor.ndim })?;
    let (mut shape, mut stride) = ([0_usize; MAX_RANK], [0_usize; MAX_RANK]);
    for (axis, (to_extent, to_stride)) in shape.iter_mut().zip(&mut stride).enumerate().take(rank) {
        // SAFETY:
        // - The caller promises `ndim` extents, of which `axis` is one.
        let extent = unsafe { *tensor.shape.wrapping_add(axis) };
        let by = match NonNull::new(tensor.strides.wrapping_add(axis)).filter(|_| !tensor.strides.is_null()) {
            // SAFETY:
            // - The caller promises `ndim` strides, of which `axis` is one.
            Some(stride) => unsafe { *stride.as_ptr() },
            None => 0,
        };
        // The stride of an axis without a second place may be anything.
        let by = if extent == 1 { 0 } else { by };
        let negative = DlError::Negative { axis, extent, stride: by };
        *to_extent = usize::try_from(extent).map_err(|_| negative)?;
        *to_stride = usize::try_from(by).map_err(|_| negative)?;
    }
    let (shape, stride) = (shape.get(..rank).unwrap_or(&[]), stride.get(..rank).unwrap_or(&[]));
    let layout = if tensor.strides.is_null() { AnyLayout::new(shape)? } else { AnyLayout::strided(shape, stride)? };
    let refused = DlError::Address { address: tensor.data.addr(), offset: tensor.byte_offset };
    let size = dtype.group_bytes();
    let bytes = layout.cosize().checked_mul(size).filter(|bytes| isize::try_from(*bytes).is_ok()).ok_or(refused)?;
    // All elements of the library are aligned to their size, but those of three bytes, to 1.
    let align = if size.is_power_of_two() { size } else { 1 };
    if bytes == 0 {
        let first = core::ptr::without_provenance_mut(align);
        return Ok(Checked { dtype, layout, first: NonNull::new(first).ok_or(refused)?, bytes });
    }
    let offset = usize::try_from(tensor.byte_offset).map_err(|_| refused)?;
    let first = tensor.data.addr().checked_add(offset).filter(|first| first.checked_add(bytes).is_some());
    if tensor.data.is_null() || !first.is_some_and(|first| first.is_multiple_of(align)) {
        return Err(refused);
    }
    let first = NonNull::new(tensor.data.cast::<u8>().wrapping_add(offset)).ok_or(refused)?;
    Ok(Checked { dtype, layout, first, bytes })
}
