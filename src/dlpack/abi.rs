//! The structures of DLPack 1.1, `dlpack.h`.

#![forbid(unsafe_code)]

use core::ffi::c_void;

/// Where memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DlDevice {
    /// `kDLCPU` is 1, `kDLCUDA` 2, `kDLCUDAHost` 3.
    pub device_type: i32,
    /// The number of the device.
    pub device_id: i32,
}

/// The element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DlDataType {
    /// `kDLInt` is 0, `kDLUInt` 1, `kDLFloat` 2, `kDLBfloat` 4, `kDLBool` 6, and so on.
    pub code: u8,
    /// The bits of a value.
    pub bits: u8,
    /// The values of an element.
    pub lanes: u16,
}

/// A tensor.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DlTensor {
    /// The memory.
    pub data: *mut c_void,
    /// Where it is.
    pub device: DlDevice,
    /// How many axes there are.
    pub ndim: i32,
    /// The element.
    pub dtype: DlDataType,
    /// `ndim` extents.
    pub shape: *mut i64,
    /// `ndim` strides in elements, or null for a row-major tensor.
    pub strides: *mut i64,
    /// Where the first element is, from `data` on.
    pub byte_offset: u64,
}

/// A tensor with its owner, before DLPack 1.0: what a capsule called `dltensor` holds.
#[derive(Debug)]
#[repr(C)]
pub struct DlManagedTensor {
    /// The tensor.
    pub dl_tensor: DlTensor,
    /// The owner's.
    pub manager_ctx: *mut c_void,
    /// Ends the use of the tensor, and frees this structure.
    pub deleter: Option<unsafe extern "C" fn(*mut DlManagedTensor)>,
}

/// A tensor with its owner: what a capsule called `dltensor_versioned` holds.
#[derive(Debug)]
#[repr(C)]
pub struct DlManagedTensorVersioned {
    /// Of the structures. Another `major` is another layout behind `deleter`.
    pub version: DlVersion,
    /// The owner's.
    pub manager_ctx: *mut c_void,
    /// Ends the use of the tensor, and frees this structure.
    pub deleter: Option<unsafe extern "C" fn(*mut DlManagedTensorVersioned)>,
    /// [`READ_ONLY`], and others.
    pub flags: u64,
    /// The tensor.
    pub dl_tensor: DlTensor,
}

/// The version of the structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DlVersion {
    /// Structures of one `major` have one layout.
    pub major: u32,
    /// Codes that came later.
    pub minor: u32,
}

/// The version of what this module exports.
pub const VERSION: DlVersion = DlVersion { major: 1, minor: 1 };

/// `DLPACK_FLAG_BITMASK_READ_ONLY`.
pub const READ_ONLY: u64 = 1;

/// `kDLCPU`.
pub const CPU: i32 = 1;
/// `kDLCUDA`.
pub const CUDA: i32 = 2;
/// `kDLCUDAHost`: page-locked memory of the host.
pub const CUDA_HOST: i32 = 3;

static_assertions::assert_eq_size!(DlTensor, [u64; 6]);
static_assertions::assert_eq_size!(DlManagedTensor, [u64; 8]);
static_assertions::assert_eq_size!(DlManagedTensorVersioned, [u64; 10]);
