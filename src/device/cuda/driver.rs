//! The driver library: found, checked and initialised once, and called through a table of its
//! functions.
//!
//! `libloading` opens the library, whichever way cudarc is asked to find it for others. Each
//! function is looked up here, with its type written down here, and returns a plain number:
//! cudarc's wrappers panic where a symbol is missing, and convert unknown codes to a Rust enum.
//! `declarations.rs` compares the types with cudarc's declarations.

use core::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    fmt,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use std::{process, sync::OnceLock, thread};

use libloading::Library;

use tidelock_driver::{Code, DriverError};

use super::{error::OpenError, library::search};

/// What every function of the driver returns: a `CUresult`. Newer drivers have more of them than
/// any list.
pub(super) type Answer = c_uint;

/// A `CUcontext`, `CUstream`, `CUevent`, `CUmemoryPool`, `CUmodule` or `CUfunction`: all of them
/// are opaque pointers.
pub(super) type Handle = *mut c_void;

/// The smallest driver version this crate asks for: CUDA 12.0.
const OLDEST: c_int = 12_000;

/// The loaded driver.
///
/// Invariant: `library` is never closed; each pointer is its function of that name, with the type
/// the CUDA driver manual gives it. Where the manual has a `CUdeviceptr`, an unsigned integer of
/// pointer size, the type here is a pointer of the same size, so host addresses keep their
/// provenance.
pub(super) struct Driver {
    library: Library,
    pub(super) table: Table,
    /// `cuMemcpyBatchAsync` in the signature that the library has.
    pub(super) batch: Option<BatchCall>,
    /// From CUDA 12.4 on.
    pub(super) param_info: Option<ParamInfoCall>,
    /// Every driver so far has it. cudarc declares it up to CUDA 12.9.
    pub(super) elapsed_time: Option<ElapsedTimeCall>,
}

/// The driver that was found, initialised or not. Its library stays open: a driver that failed to
/// start may be partly started.
static FOUND: OnceLock<Driver> = OnceLock::new();

/// The process that initialised the driver; 0 if none did.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// The process in which a thread is finding the driver; 0 if there is none. Not a lock: if a
/// process is forked while another thread holds a lock, the child can never take it.
static FINDING: AtomicU32 = AtomicU32::new(0);

/// The error of a call in a process that was forked after the driver was initialised.
pub(super) const FORKED: DriverError =
    DriverError::new("the CUDA driver of the process that this one was forked from", Code::NOT_INITIALIZED);

/// Whether the driver is usable in this process. Cost: a system call, for the process id.
///
/// # Errors
/// [`FORKED`]: "CUDA is not supported after fork" holds for every driver so far, and some hang.
pub(super) fn same_process() -> Result<(), DriverError> {
    if STARTED.load(Ordering::Acquire) == process::id() { Ok(()) } else { Err(FORKED) }
}

impl Driver {
    /// The driver of the process: found, checked and initialised at the first call that succeeds.
    ///
    /// A failure is not remembered: a driver may be installed, or become ready, before the next
    /// call.
    ///
    /// # Errors
    /// Every [`OpenError`] that is not about one device.
    pub(super) fn load() -> Result<&'static Driver, OpenError> {
        if let Some(driver) = Driver::started()? {
            return Ok(driver);
        }
        let _turn = Turn::take()?;
        if let Some(driver) = Driver::started()? {
            return Ok(driver);
        }
        let (driver, answer) = match FOUND.get() {
            Some(driver) => (driver, driver.table.start()),
            None => {
                let (driver, answer) = search(Driver::of)?;
                (FOUND.get_or_init(|| driver), answer)
            }
        };
        driver.check(answer)?;
        STARTED.store(process::id(), Ordering::Release);
        Ok(driver)
    }

    /// The driver, if it was initialised.
    fn started() -> Result<Option<&'static Driver>, OpenError> {
        match STARTED.load(Ordering::Acquire) {
            0 => Ok(None),
            process if process == process::id() => Ok(FOUND.get()),
            _ => Err(OpenError::Forked),
        }
    }

    /// The driver in `library`, and what `cuInit` answered.
    ///
    /// # Errors
    /// If it is not a usable driver: it lacks a function, or is the toolkit's stub.
    fn of(library: Library) -> Result<(Driver, Answer), OpenError> {
        let table = Table::find(&library)?;
        let answer = table.start();
        if Code(answer) == Code::STUB_LIBRARY {
            return Err(OpenError::Stub);
        }
        let (batch, param_info) = (BatchCall::find(&library), function(&library, "cuFuncGetParamInfo").ok());
        let elapsed_time = function(&library, "cuEventElapsedTime").ok();
        Ok((Driver { library, table, batch, param_info, elapsed_time }, answer))
    }

    /// Whether `cuInit` succeeded, and the driver is new enough.
    fn check(&self, answer: Answer) -> Result<(), OpenError> {
        match check("cuInit", answer) {
            Err(error) if error.code == Code::NO_DEVICE => {
                return Err(OpenError::NoSuchDevice { ordinal: 0, count: 0 });
            }
            answer => answer?,
        }
        let mut found = 0;
        // SAFETY:
        // - `found` is valid for a write.
        let answer = unsafe { (self.table.driver_get_version)(&mut found) };
        check("cuDriverGetVersion", answer)?;
        if found < OLDEST { Err(OpenError::TooOld { found }) } else { Ok(()) }
    }
}

/// The right of one thread to find the driver, until it is dropped.
struct Turn;

impl Turn {
    /// # Errors
    /// [`OpenError::Forked`] if the process was forked while a thread of its parent was finding the
    /// driver.
    fn take() -> Result<Turn, OpenError> {
        let me = process::id();
        loop {
            match FINDING.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(Turn),
                Err(other) if other != me => return Err(OpenError::Forked),
                // Another thread is starting the driver, which takes a part of a second.
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        FINDING.store(0, Ordering::Release);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// The `answer` of the function that the driver manual calls `call`.
#[inline]
pub(super) fn check(call: &'static str, answer: Answer) -> Result<(), DriverError> {
    if answer == 0 { Ok(()) } else { Err(DriverError::new(call, Code(answer))) }
}

/// `cuMemcpyBatchAsync`: its signature changed between CUDA 12.8 and 13.0, and newer libraries have
/// both.
#[derive(Clone, Copy)]
pub(super) enum BatchCall {
    /// Destinations, sources, sizes, their count, attributes, the first copy of each, their count,
    /// out: the copy that failed, stream.
    V12(BatchCall12),
    /// The same without the copy that failed.
    V13(BatchCall13),
}

pub(super) type BatchCall12 = unsafe extern "C" fn(
    *const *mut u8,
    *const *const u8,
    *const usize,
    usize,
    *const CopyAttributes,
    *const usize,
    usize,
    *mut usize,
    Handle,
) -> Answer;

pub(super) type BatchCall13 = unsafe extern "C" fn(
    *const *mut u8,
    *const *const u8,
    *const usize,
    usize,
    *const CopyAttributes,
    *const usize,
    usize,
    Handle,
) -> Answer;

impl BatchCall {
    fn find(library: &Library) -> Option<BatchCall> {
        let newer = function(library, "cuMemcpyBatchAsync_v2").map(BatchCall::V13);
        newer.or_else(|_| function(library, "cuMemcpyBatchAsync").map(BatchCall::V12)).ok()
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

/// `cuEventElapsedTime`: where to write the milliseconds, the earlier event, the later one.
pub(super) type ElapsedTimeCall = unsafe extern "C" fn(*mut f32, Handle, Handle) -> Answer;

/// `CUmemcpyAttributes`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct CopyAttributes {
    /// `CUmemcpySrcAccessOrder`.
    pub(super) src_access_order: c_uint,
    /// "Ignored when the pointers are not managed memory or memory allocated outside CUDA" (13.0):
    /// left at 0, invalid.
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

/// `CUmemPoolProps`; fields that newer versions take from `reserved` mean "default" when they are
/// 0.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct PoolProps {
    pub(super) alloc_type: c_uint,
    pub(super) handle_types: c_uint,
    pub(super) location: MemLocation,
    pub(super) security_attributes: *mut c_void,
    pub(super) reserved: [u8; 64],
}

// The sizes of the C structs on platforms with 64-bit pointers, the only ones with a driver.
static_assertions::assert_eq_size!(CopyAttributes, [u32; 6]);
static_assertions::assert_eq_size!(PoolProps, [u8; 88]);
static_assertions::assert_eq_size!(usize, u64);

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    #[cfg(any(tidelock_declarations = "12.8", tidelock_declarations = "13.0"))]
    use crate::device::cuda::declarations::same_function;
    use crate::device::cuda::declarations::same_structure;

    same_structure!(MemLocation, CUmemLocation, kind = type_);
    same_structure!(
        PoolProps,
        CUmemPoolProps,
        alloc_type = allocType,
        handle_types = handleTypes,
        location = location,
        security_attributes = win32SecurityAttributes
    );
    #[cfg(tidelock_declarations = "12.8")]
    same_function!(BatchCall12, cuMemcpyBatchAsync, _, _, _, _, _, _, _, _, _);
    #[cfg(tidelock_declarations = "12.8")]
    same_function!(ElapsedTimeCall, cuEventElapsedTime, _, _, _);
    #[cfg(tidelock_declarations = "13.0")]
    same_function!(BatchCall13, cuMemcpyBatchAsync_v2, _, _, _, _, _, _, _, _);
    #[cfg(any(tidelock_declarations = "12.8", tidelock_declarations = "13.0"))]
    same_function!(ParamInfoCall, cuFuncGetParamInfo, _, _, _, _);
    #[cfg(any(tidelock_declarations = "12.8", tidelock_declarations = "13.0"))]
    same_structure!(
        CopyAttributes,
        CUmemcpyAttributes,
        src_access_order = srcAccessOrder,
        src_hint = srcLocHint,
        dst_hint = dstLocHint,
        flags = flags
    );
}

/// A function of the driver that was found.
///
/// # Errors
/// [`OpenError::MissingSymbol`].
pub(super) fn symbol<F: Function>(name: &'static str) -> Result<F, OpenError> {
    match FOUND.get() {
        Some(driver) => function(&driver.library, name),
        None => Err(OpenError::NoDriver),
    }
}

fn function<F: Function>(library: &Library, name: &'static str) -> Result<F, OpenError> {
    // SAFETY:
    // - `F` is a function pointer with the type of the function of that name: each caller names
    //   both side by side.
    let found = unsafe { library.get::<F>(name) };
    // A pointer that outlives this is one of the driver's, and the driver's library is never
    // closed.
    found.map(|function| *function).map_err(|_| OpenError::MissingSymbol { name })
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
    ($($field:ident: $symbol:ident($($arg:ty),*),)*) => {
        /// The functions that every driver from CUDA 12.0 on has.
        pub(super) struct Table {
            $(pub(super) $field: unsafe extern "C" fn($($arg),*) -> Answer,)*
        }

        /// The functions that [`Device::open`](super::Device::open) needs in a driver library, by
        /// their names in the library.
        ///
        /// For libraries that stand in for the driver.
        pub const REQUIRED_SYMBOLS: &[&str] = &[$(stringify!($symbol)),*];

        impl Table {
            fn find(library: &Library) -> Result<Table, OpenError> {
                Ok(Table { $($field: function(library, stringify!($symbol))?,)* })
            }
        }

        /// Each type is that of the function of the same name in cudarc.
        #[cfg(any(test, tidelock_declarations))]
        mod table {
            use super::*;
            use crate::device::cuda::declarations::same_function;

            $(same_function!(unsafe extern "C" fn($($arg),*) -> Answer, $symbol, $($arg),*);)*
        }
    };
}
table! {
    init: cuInit(c_uint),
    driver_get_version: cuDriverGetVersion(*mut c_int),
    device_get_count: cuDeviceGetCount(*mut c_int),
    device_get: cuDeviceGet(*mut c_int, c_int),
    device_get_attribute: cuDeviceGetAttribute(*mut c_int, c_uint, c_int),
    device_get_default_mem_pool: cuDeviceGetDefaultMemPool(*mut Handle, c_int),
    primary_ctx_retain: cuDevicePrimaryCtxRetain(*mut Handle, c_int),
    ctx_get_current: cuCtxGetCurrent(*mut Handle),
    ctx_set_current: cuCtxSetCurrent(Handle),
    stream_create: cuStreamCreateWithPriority(*mut Handle, c_uint, c_int),
    stream_destroy: cuStreamDestroy_v2(Handle),
    stream_query: cuStreamQuery(Handle),
    stream_synchronize: cuStreamSynchronize(Handle),
    stream_get_ctx: cuStreamGetCtx(Handle, *mut Handle),
    stream_is_capturing: cuStreamIsCapturing(Handle, *mut c_uint),
    event_create: cuEventCreate(*mut Handle, c_uint),
    event_destroy: cuEventDestroy_v2(Handle),
    event_record: cuEventRecord(Handle, Handle),
    event_query: cuEventQuery(Handle),
    event_synchronize: cuEventSynchronize(Handle),
    stream_wait_event: cuStreamWaitEvent(Handle, Handle, c_uint),
    mem_alloc_from_pool_async: cuMemAllocFromPoolAsync(*mut *mut u8, usize, Handle, Handle),
    mem_free_async: cuMemFreeAsync(*mut u8, Handle),
    mem_alloc: cuMemAlloc_v2(*mut *mut u8, usize),
    mem_free: cuMemFree_v2(*mut u8),
    mem_host_alloc: cuMemHostAlloc(*mut *mut u8, usize, c_uint),
    mem_free_host: cuMemFreeHost(*mut u8),
    mem_host_register: cuMemHostRegister_v2(*mut u8, usize, c_uint),
    mem_host_unregister: cuMemHostUnregister(*mut u8),
    mem_get_info: cuMemGetInfo_v2(*mut usize, *mut usize),
    mem_pool_create: cuMemPoolCreate(*mut Handle, *const PoolProps),
    mem_pool_destroy: cuMemPoolDestroy(Handle),
    mem_pool_set_attribute: cuMemPoolSetAttribute(Handle, c_uint, *mut c_void),
    mem_pool_get_attribute: cuMemPoolGetAttribute(Handle, c_uint, *mut c_void),
    mem_pool_trim_to: cuMemPoolTrimTo(Handle, usize),
    memcpy_async: cuMemcpyAsync(*mut u8, *const u8, usize, Handle),
    memset_d8_async: cuMemsetD8Async(*mut u8, u8, usize, Handle),
    module_load_data_ex: cuModuleLoadDataEx(*mut Handle, *const c_void, c_uint, *const c_uint, *const *mut c_void),
    module_unload: cuModuleUnload(Handle),
    module_get_function: cuModuleGetFunction(*mut Handle, Handle, *const c_char),
    launch_kernel: cuLaunchKernel(
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *const *mut c_void, *const *mut c_void
    ),
}

impl Table {
    /// Initialises the driver. After a failure it may be called again.
    fn start(&self) -> Answer {
        // SAFETY:
        // - "Currently, the Flags parameter must be 0" (CUDA driver manual 13.0, cuInit).
        unsafe { (self.init)(0) }
    }
}

/// The text at `buffer`, up to its first zero byte.
pub(super) fn text(buffer: &[u8]) -> String {
    CStr::from_bytes_until_nul(buffer).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
