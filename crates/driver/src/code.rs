//! Result codes of the driver, with their names in the binary so that formatting one never calls
//! the driver.

#![forbid(unsafe_code)]

use core::{fmt, num::NonZero};

/// A result code of the driver, with the numbers of `CUresult`.
///
/// The simulated device answers with the same numbers as CUDA, so that one table names both.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

impl Code {
    /// A pointer, a size or a range is not one that the call accepts.
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
    /// The context is not one, or is destroyed.
    pub const INVALID_CONTEXT: Code = Code(201);
    /// The PTX does not compile.
    pub const INVALID_PTX: Code = Code(218);
    /// The stream, event or pool is not one, or is destroyed.
    pub const INVALID_HANDLE: Code = Code(400);
    /// The named symbol does not exist.
    pub const NOT_FOUND: Code = Code(500);
    /// The work is still running: an answer, not a failure.
    pub const NOT_READY: Code = Code(600);
    /// Work on the device touched memory that is not there. Sticky.
    pub const ILLEGAL_ADDRESS: Code = Code(700);
    /// A launch was refused for lack of resources.
    pub const LAUNCH_OUT_OF_RESOURCES: Code = Code(701);
    /// Host memory was to be page-locked of which a part is so already.
    pub const HOST_MEMORY_ALREADY_REGISTERED: Code = Code(712);
    /// Host memory was to be unlocked that is not registered.
    pub const HOST_MEMORY_NOT_REGISTERED: Code = Code(713);
    /// An address is not aligned for what is read or written there. Sticky where the driver answers
    /// it.
    pub const MISALIGNED_ADDRESS: Code = Code(716);
    /// A launch failed while it ran. Sticky.
    pub const LAUNCH_FAILED: Code = Code(719);
    /// The driver or the device cannot do this.
    pub const NOT_SUPPORTED: Code = Code(801);
    /// The driver is still starting, or waits for another part of the system.
    pub const SYSTEM_NOT_READY: Code = Code(802);
    /// The call is not allowed while the stream is captured.
    pub const CAPTURE_UNSUPPORTED: Code = Code(900);
    /// The driver does not say.
    pub const UNKNOWN: Code = Code(999);

    /// Whether the failure is the device's for good: every later call answers with it.
    ///
    /// The list is that of the errors the CUDA driver manual (13.0, `CUresult`) describes with
    /// "leaves the process in an inconsistent state and any further CUDA work will return the same
    /// error".
    #[inline]
    #[must_use]
    pub const fn is_sticky(self) -> bool {
        matches!(self.0, 214 | 220 | 226 | 700 | 702 | 710 | 714..=719 | 721)
    }

    /// The name the driver manual gives the code, without its prefix.
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

    /// What to do about a failure that the machine's set-up causes and its message does not
    /// explain.
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

/// A driver call that failed, and how.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DriverError {
    /// The call, by the name the driver manual gives it.
    pub call: &'static str,
    /// What it answered.
    pub code: Code,
    /// Of a batch, the copy that was refused: where the driver says which, as before CUDA 13, or
    /// makes the copies one by one.
    pub copy: Option<RefusedCopy>,
}

/// A copy of a batch. Those of a group that continue one another are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RefusedCopy {
    /// The address it goes to.
    pub dst: usize,
    /// Its bytes.
    pub bytes: NonZero<usize>,
}

impl DriverError {
    /// `call` answered `code`.
    #[inline]
    #[must_use]
    pub const fn new(call: &'static str, code: Code) -> Self {
        DriverError { call, code, copy: None }
    }

    /// The same, of the copy to `dst`.
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
