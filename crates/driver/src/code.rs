//! The result codes of driver calls. Their names are in the binary, so that formatting a code makes
//! no driver call.

#![forbid(unsafe_code)]

use core::{fmt, num::NonZero};

/// The result code of a driver call, with the numbers of CUDA's `CUresult`.
///
/// All backends use these numbers, so that one table has the names.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// The call does not accept a pointer, a size or a range.
    pub const INVALID_VALUE: Code = Code(1);
    /// The device, its pool or the host has no memory left for the request.
    pub const OUT_OF_MEMORY: Code = Code(2);
    /// The driver was not initialised.
    pub const NOT_INITIALIZED: Code = Code(3);
    /// The driver is shutting down.
    pub const DEINITIALIZED: Code = Code(4);
    /// The library that was found is the toolkit's link-time stub, not a driver.
    pub const STUB_LIBRARY: Code = Code(34);
    /// There is no device.
    pub const NO_DEVICE: Code = Code(100);
    /// The ordinal names no device.
    pub const INVALID_DEVICE: Code = Code(101);
    /// The device code could not be read.
    pub const INVALID_IMAGE: Code = Code(200);
    /// The context is invalid, or is destroyed.
    pub const INVALID_CONTEXT: Code = Code(201);
    /// The image has no code for the device.
    pub const NO_BINARY_FOR_GPU: Code = Code(209);
    /// The PTX does not compile.
    pub const INVALID_PTX: Code = Code(218);
    /// The stream, event or pool is invalid, or is destroyed.
    pub const INVALID_HANDLE: Code = Code(400);
    /// The named symbol does not exist.
    pub const NOT_FOUND: Code = Code(500);
    /// The work is still running. This is no failure.
    pub const NOT_READY: Code = Code(600);
    /// Work on the device accessed memory that does not exist. Sticky.
    pub const ILLEGAL_ADDRESS: Code = Code(700);
    /// A launch was refused for lack of resources.
    pub const LAUNCH_OUT_OF_RESOURCES: Code = Code(701);
    /// A check in a kernel failed, or a host function left elements of an output unwritten. Sticky.
    pub const ASSERT: Code = Code(710);
    /// A part of the host memory is page-locked already.
    pub const HOST_MEMORY_ALREADY_REGISTERED: Code = Code(712);
    /// The host memory is not registered, and cannot be unregistered.
    pub const HOST_MEMORY_NOT_REGISTERED: Code = Code(713);
    /// An address is not aligned for the access. Sticky if it comes from the driver.
    pub const MISALIGNED_ADDRESS: Code = Code(716);
    /// A kernel failed while it ran. Sticky.
    pub const LAUNCH_FAILED: Code = Code(719);
    /// The call is not allowed here, such as inside a function that the device runs on the host.
    pub const NOT_PERMITTED: Code = Code(800);
    /// The stream is being captured.
    pub const STREAM_CAPTURED: Code = Code(900);
    /// The driver or the device cannot do this.
    pub const NOT_SUPPORTED: Code = Code(801);
    /// The driver is still starting, or waits for another part of the system.
    pub const SYSTEM_NOT_READY: Code = Code(802);
    /// The call is not allowed while the stream is captured.
    pub const CAPTURE_UNSUPPORTED: Code = Code(900);
    /// The driver gives no reason.
    pub const UNKNOWN: Code = Code(999);

    /// Whether the code means that the device is broken: every later call fails then (F4).
    ///
    /// These are the codes after which a CUDA device refuses all further work of the process.
    #[inline]
    #[must_use]
    pub const fn is_sticky(self) -> bool {
        matches!(self.0, 214 | 220 | 226 | 700 | 702 | 710 | 714..=719 | 721)
    }

    /// The name of the code in the CUDA driver API, without its prefix.
    #[inline]
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "SUCCESS",
            1 => "INVALID_VALUE",
            2 => "OUT_OF_MEMORY",
            3 => "NOT_INITIALIZED",
            4 => "DEINITIALIZED",
            34 => "STUB_LIBRARY",
            46 => "DEVICE_UNAVAILABLE",
            100 => "NO_DEVICE",
            101 => "INVALID_DEVICE",
            200 => "INVALID_IMAGE",
            201 => "INVALID_CONTEXT",
            209 => "NO_BINARY_FOR_GPU",
            214 => "ECC_UNCORRECTABLE",
            218 => "INVALID_PTX",
            220 => "NVLINK_UNCORRECTABLE",
            222 => "UNSUPPORTED_PTX_VERSION",
            226 => "CONTAINED",
            301 => "FILE_NOT_FOUND",
            400 => "INVALID_HANDLE",
            500 => "NOT_FOUND",
            600 => "NOT_READY",
            700 => "ILLEGAL_ADDRESS",
            701 => "LAUNCH_OUT_OF_RESOURCES",
            702 => "LAUNCH_TIMEOUT",
            709 => "CONTEXT_IS_DESTROYED",
            710 => "ASSERT",
            712 => "HOST_MEMORY_ALREADY_REGISTERED",
            713 => "HOST_MEMORY_NOT_REGISTERED",
            714 => "HARDWARE_STACK_ERROR",
            715 => "ILLEGAL_INSTRUCTION",
            716 => "MISALIGNED_ADDRESS",
            717 => "INVALID_ADDRESS_SPACE",
            718 => "INVALID_PC",
            719 => "LAUNCH_FAILED",
            721 => "TENSOR_MEMORY_LEAK",
            800 => "NOT_PERMITTED",
            801 => "NOT_SUPPORTED",
            802 => "SYSTEM_NOT_READY",
            803 => "SYSTEM_DRIVER_MISMATCH",
            804 => "COMPAT_NOT_SUPPORTED_ON_DEVICE",
            805 => "MPS_CONNECTION_FAILED",
            806 => "MPS_RPC_FAILURE",
            807 => "MPS_SERVER_NOT_READY",
            808 => "MPS_MAX_CLIENTS_REACHED",
            809 => "MPS_MAX_CONNECTIONS_REACHED",
            900 => "STREAM_CAPTURE_UNSUPPORTED",
            999 => "UNKNOWN",
            _ => "a code this crate has no name for",
        }
    }

    /// What to do about a failure that the set-up of the machine causes, where the name of the code
    /// does not say it.
    #[inline]
    #[must_use]
    pub const fn advice(self) -> Option<&'static str> {
        Some(match self.0 {
            802 => {
                "the driver is still starting, or waits for the fabric manager of NVSwitch systems: open again later"
            }
            803 => {
                "the kernel module and the library of the driver are of different versions: reload the module or reboot"
            }
            804 => "CUDA's compatibility library does not work on this GPU: take its folder out of LD_LIBRARY_PATH",
            805 => "start nvidia-cuda-mps-control, or unset CUDA_MPS_PIPE_DIRECTORY if MPS is not wanted",
            806 => "the MPS server has failed: see its log, and restart it",
            807 => "the MPS server is starting or recovering: open again later",
            808 => "end another process that uses the MPS server, or do without MPS",
            809 => "the MPS server has no connections left: end another process that uses it, or use fewer streams",
            _ => return None,
        })
    }
}

impl fmt::Debug for Code {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for Code {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A driver call that failed, and its code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DriverError {
    /// The name of the call.
    pub call: &'static str,
    /// The result of the call.
    pub code: Code,
    /// For a batch, the copy that was refused, if the driver says which one (F8). CUDA says it
    /// before CUDA 13, and where copies are made one by one.
    pub copy: Option<RefusedCopy>,
}

/// A copy of a batch. Adjacent copies of a group are merged into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RefusedCopy {
    /// The destination address.
    pub dst: usize,
    /// The size in bytes.
    pub bytes: NonZero<usize>,
}

impl DriverError {
    /// `call` failed with `code`.
    #[inline]
    #[must_use]
    pub const fn new(call: &'static str, code: Code) -> Self {
        DriverError { call, code, copy: None }
    }

    /// The same error, for the copy of `bytes` bytes to `dst`.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn of_copy(self, dst: *mut u8, bytes: usize) -> Self {
        let copy = NonZero::new(bytes).map(|bytes| RefusedCopy { dst: dst.addr(), bytes });
        DriverError { copy, ..self }
    }
}

impl fmt::Debug for DriverError {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("DriverError");
        out.field("call", &self.call).field("code", &self.code);
        if let Some(copy) = &self.copy {
            out.field("copy", copy);
        }
        out.finish()
    }
}

impl fmt::Display for DriverError {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.call, self.code)?;
        if let Some(RefusedCopy { dst, bytes }) = self.copy {
            write!(f, " to the copy of {bytes} bytes that goes to {dst:#x}")?;
        }
        match self.code.advice() {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for DriverError {}
