//! The driver library: found, checked and initialised once, and called through a table of what was found.
//!
//! cudarc finds and opens the library. Its wrappers panic where a library or a symbol is missing, and give codes they do
//! not know to a Rust enum, so that none of them is called: each function is looked up here, with its type written
//! down here, and answers a plain number.

use core::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    fmt,
};
use std::sync::OnceLock;

use cudarc::driver::sys;

use super::error::OpenError;
use crate::device::code::{Code, DriverError};

/// What every function of the driver answers: a `CUresult`, of which newer drivers have more than any list.
pub(super) type Answer = c_uint;

/// A `CUcontext`, `CUstream`, `CUevent`, `CUmemoryPool`, `CUmodule` or `CUfunction`: all of them are opaque pointers.
pub(super) type Handle = *mut c_void;

/// The smallest driver version this crate asks for: CUDA 12.0.
const OLDEST: c_int = 12_000;

/// The loaded driver.
///
/// Invariant: `cuInit` has succeeded; each pointer is the function of its name, with the type the CUDA driver manual
/// gives it. Where the manual has a `CUdeviceptr`, an unsigned integer of pointer size, the type here is a pointer of the
/// same size, so that host addresses keep their provenance on the way.
pub(super) struct Driver {
    pub(super) table: Table,
    /// `cuMemcpyBatchAsync` in the signature that the library has.
    pub(super) batch: Option<BatchCall>,
    /// From CUDA 12.4 on.
    pub(super) param_info: Option<ParamInfoCall>,
}

impl Driver {
    /// The driver of the process: found, checked and initialised at the first call, whose answer is kept.
    ///
    /// # Errors
    /// All of [`OpenError`] that is not about one device.
    pub(super) fn load() -> Result<&'static Driver, OpenError> {
        static DRIVER: OnceLock<Result<Driver, OpenError>> = OnceLock::new();
        DRIVER.get_or_init(Driver::find).as_ref().map_err(|error| *error)
    }

    fn find() -> Result<Driver, OpenError> {
        // SAFETY:
        // - It opens and closes the library candidates: "When a library is loaded, initialisation routines contained
        //   within it are executed" (libloading 0.9), and the CUDA driver's are made for that.
        if !unsafe { sys::is_culib_present() } {
            return Err(OpenError::NoDriver);
        }
        let table = Table::find()?;
        let driver = Driver { table, batch: BatchCall::find(), param_info: symbol("cuFuncGetParamInfo").ok() };
        // SAFETY:
        // - "Currently, the Flags parameter must be 0" (CUDA driver manual 13.0, cuInit).
        let answer = unsafe { (driver.table.init)(0) };
        match check("cuInit", answer) {
            Err(error) if error.code == Code::NO_DEVICE => {
                return Err(OpenError::NoSuchDevice { ordinal: 0, count: 0 });
            }
            answer => answer?,
        }
        let mut found = 0;
        // SAFETY:
        // - `found` is valid for a write.
        let answer = unsafe { (driver.table.driver_get_version)(&mut found) };
        check("cuDriverGetVersion", answer)?;
        if found < OLDEST {
            return Err(OpenError::TooOld { found });
        }
        Ok(driver)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// `answer` of `call`, by the name the driver manual gives it.
#[inline]
pub(super) fn check(call: &'static str, answer: Answer) -> Result<(), DriverError> {
    if answer == 0 { Ok(()) } else { Err(DriverError::new(call, Code(answer))) }
}

/// `cuMemcpyBatchAsync`: its signature changed between CUDA 12.8 and 13.0, and newer libraries have both.
#[derive(Clone, Copy)]
pub(super) enum BatchCall {
    /// Destinations, sources, sizes, their count, attributes, the first copy of each, their count, where to write the
    /// copy that failed, stream.
    V12(
        unsafe extern "C" fn(
            *const *mut u8,
            *const *const u8,
            *const usize,
            usize,
            *const CopyAttributes,
            *const usize,
            usize,
            *mut usize,
            Handle,
        ) -> Answer,
    ),
    /// The same without the copy that failed.
    V13(
        unsafe extern "C" fn(
            *const *mut u8,
            *const *const u8,
            *const usize,
            usize,
            *const CopyAttributes,
            *const usize,
            usize,
            Handle,
        ) -> Answer,
    ),
}

impl BatchCall {
    fn find() -> Option<BatchCall> {
        let newer = symbol("cuMemcpyBatchAsync_v2").map(BatchCall::V13);
        newer.or_else(|_| symbol("cuMemcpyBatchAsync").map(BatchCall::V12)).ok()
    }
}

impl fmt::Debug for BatchCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BatchCall::V12(_) => "cuMemcpyBatchAsync (12.8)",
            BatchCall::V13(_) => "cuMemcpyBatchAsync (13.0)",
        })
    }
}

/// `cuFuncGetParamInfo`: function, index, where to write offset and size.
pub(super) type ParamInfoCall = unsafe extern "C" fn(Handle, usize, *mut usize, *mut usize) -> Answer;

/// `CUmemcpyAttributes`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct CopyAttributes {
    /// `CUmemcpySrcAccessOrder`.
    pub(super) src_access_order: c_uint,
    /// "Ignored when the pointers are not managed memory or memory allocated outside CUDA" (13.0): left at 0, invalid.
    pub(super) src_hint: MemLocation,
    pub(super) dst_hint: MemLocation,
    /// `CUmemcpyFlags`.
    pub(super) flags: c_uint,
}

/// `CUmemLocation`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct MemLocation {
    pub(super) kind: c_uint,
    pub(super) id: c_int,
}

/// `CUmemPoolProps`; what newer versions cut out of `reserved` means "default" when it is 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct PoolProps {
    pub(super) alloc_type: c_uint,
    pub(super) handle_types: c_uint,
    pub(super) location: MemLocation,
    pub(super) security_attributes: *mut c_void,
    pub(super) reserved: [u8; 64],
}

// The sizes of the C structs on every platform with 64-bit pointers, which is where the driver exists.
static_assertions::assert_eq_size!(CopyAttributes, [u32; 6]);
static_assertions::assert_eq_size!(PoolProps, [u8; 88]);
static_assertions::assert_eq_size!(usize, u64);

/// A function of the library.
pub(super) fn symbol<F: Function>(name: &'static str) -> Result<F, OpenError> {
    // SAFETY:
    // - Called only behind `is_culib_present`, so that it does not panic; opening the library is as safe as there.
    let library = unsafe { sys::culib() };
    // SAFETY:
    // - `F` is a function pointer with the type of the function of that name: each caller names both side by side.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    match found {
        // The library is never closed, so that the pointer stays valid.
        Ok(function) => Ok(*function),
        Err(_) => Err(OpenError::MissingSymbol { name }),
    }
}

/// A pointer to a function of the driver.
pub(super) trait Function: Copy {}

macro_rules! functions {
    ($(($($arg:ident)*))*) => {$(
        impl<$($arg),*> Function for unsafe extern "C" fn($($arg),*) -> Answer {}
    )*};
}
functions! {
    (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) (A B C D E F G H I)
    (A B C D E F G H I J) (A B C D E F G H I J K)
}

macro_rules! table {
    ($($field:ident: $symbol:literal($($arg:ty),*),)*) => {
        /// The functions that every driver from CUDA 12.0 on has.
        pub(super) struct Table {
            $(pub(super) $field: unsafe extern "C" fn($($arg),*) -> Answer,)*
        }

        /// The functions a driver library must have for [`Device::open`](super::Device::open) to take it, by their names
        /// in the library.
        ///
        /// For whoever writes a library that stands in for the driver.
        pub const REQUIRED_SYMBOLS: &[&str] = &[$($symbol),*];

        impl Table {
            fn find() -> Result<Table, OpenError> {
                Ok(Table { $($field: symbol($symbol)?,)* })
            }
        }
    };
}
table! {
    init: "cuInit"(c_uint),
    driver_get_version: "cuDriverGetVersion"(*mut c_int),
    device_get_count: "cuDeviceGetCount"(*mut c_int),
    device_get: "cuDeviceGet"(*mut c_int, c_int),
    device_get_attribute: "cuDeviceGetAttribute"(*mut c_int, c_uint, c_int),
    device_get_default_mem_pool: "cuDeviceGetDefaultMemPool"(*mut Handle, c_int),
    primary_ctx_retain: "cuDevicePrimaryCtxRetain"(*mut Handle, c_int),
    ctx_get_current: "cuCtxGetCurrent"(*mut Handle),
    ctx_set_current: "cuCtxSetCurrent"(Handle),
    stream_create: "cuStreamCreateWithPriority"(*mut Handle, c_uint, c_int),
    stream_destroy: "cuStreamDestroy_v2"(Handle),
    stream_query: "cuStreamQuery"(Handle),
    stream_synchronize: "cuStreamSynchronize"(Handle),
    event_create: "cuEventCreate"(*mut Handle, c_uint),
    event_destroy: "cuEventDestroy_v2"(Handle),
    event_record: "cuEventRecord"(Handle, Handle),
    event_query: "cuEventQuery"(Handle),
    event_synchronize: "cuEventSynchronize"(Handle),
    stream_wait_event: "cuStreamWaitEvent"(Handle, Handle, c_uint),
    mem_alloc_from_pool_async: "cuMemAllocFromPoolAsync"(*mut *mut u8, usize, Handle, Handle),
    mem_free_async: "cuMemFreeAsync"(*mut u8, Handle),
    mem_alloc: "cuMemAlloc_v2"(*mut *mut u8, usize),
    mem_free: "cuMemFree_v2"(*mut u8),
    mem_host_alloc: "cuMemHostAlloc"(*mut *mut u8, usize, c_uint),
    mem_free_host: "cuMemFreeHost"(*mut u8),
    mem_get_info: "cuMemGetInfo_v2"(*mut usize, *mut usize),
    mem_pool_create: "cuMemPoolCreate"(*mut Handle, *const PoolProps),
    mem_pool_destroy: "cuMemPoolDestroy"(Handle),
    mem_pool_set_attribute: "cuMemPoolSetAttribute"(Handle, c_uint, *mut c_void),
    mem_pool_trim_to: "cuMemPoolTrimTo"(Handle, usize),
    memcpy_async: "cuMemcpyAsync"(*mut u8, *const u8, usize, Handle),
    memset_d8_async: "cuMemsetD8Async"(*mut u8, u8, usize, Handle),
    module_load_data_ex: "cuModuleLoadDataEx"(*mut Handle, *const c_void, c_uint, *const c_uint, *const *mut c_void),
    module_unload: "cuModuleUnload"(Handle),
    module_get_function: "cuModuleGetFunction"(*mut Handle, Handle, *const c_char),
    launch_kernel: "cuLaunchKernel"(
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *const *mut c_void, *const *mut c_void
    ),
}

/// The text at `buffer`, up to its first zero byte.
pub(super) fn text(buffer: &[u8]) -> String {
    CStr::from_bytes_until_nul(buffer).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
