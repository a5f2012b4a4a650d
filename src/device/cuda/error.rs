//! Why a CUDA device cannot be opened, a module cannot be loaded, or there are no copy kernels.

#![forbid(unsafe_code)]

use core::fmt;
use std::sync::Arc;

use tidelock_driver::{Code, DriverError};

use crate::error::{Error, Located};

/// Why a CUDA device cannot be opened. Nothing has changed. Formatting makes no driver call.
///
/// No failure is remembered: the next call tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The loader found no driver library.
    #[error("no CUDA driver was found ({})", super::library::NAMES.join(", "))]
    NoDriver,
    /// A file with the name of the driver library was found, and cannot be loaded: it is for
    /// another machine, ends too early, or lacks a library that it needs.
    #[error("the CUDA driver that was found cannot be loaded: {reason}")]
    Unloadable {
        /// The loader's message, or what is wrong with the file's header if the loader gives no
        /// reason.
        reason: Arc<str>,
    },
    /// The library that was found is the toolkit's link-time stub, which does nothing, and there is
    /// no other.
    #[error("the only CUDA driver that was found is the toolkit's stub: install the GPU's driver")]
    Stub,
    /// The process was forked after the driver had been initialised, or while it was. CUDA does not
    /// work in such a process.
    #[error(
        "CUDA cannot be used in a process that was forked after its parent had initialised it: open the device after the \
         fork only, or start the process with exec"
    )]
    Forked,
    /// The library lacks a function that this crate needs.
    #[error("the CUDA driver has no `{name}`: it is older than CUDA 12.0, or not a driver")]
    MissingSymbol {
        /// The function, by its name in the library.
        name: &'static str,
    },
    /// The driver is older than CUDA 12.0.
    #[error("the CUDA driver speaks CUDA {found}, at least 12000 is needed")]
    TooOld {
        /// The driver's version: 1000 times the major plus 10 times the minor number.
        found: i32,
    },
    /// There is no device with this ordinal.
    #[error("there is no CUDA device {ordinal}: the driver sees {count}")]
    NoSuchDevice {
        /// The requested ordinal.
        ordinal: usize,
        /// The number of devices the driver sees.
        count: usize,
    },
    /// The device lacks a feature that this crate needs.
    #[error("CUDA device {ordinal} has no {feature}")]
    Unsupported {
        /// The ordinal of the device.
        ordinal: usize,
        /// The feature.
        feature: &'static str,
    },
    /// The driver refused a call.
    #[error("{0}")]
    Driver(DriverError),
}

impl From<DriverError> for OpenError {
    #[inline]
    fn from(error: DriverError) -> Self {
        if error.code == Code::STUB_LIBRARY { OpenError::Stub } else { OpenError::Driver(error) }
    }
}

impl From<OpenError> for Error {
    /// The nearest driver error. The library or device at fault is lost.
    #[inline]
    fn from(error: OpenError) -> Error {
        let code = match error {
            OpenError::Driver(error) => return error.into(),
            OpenError::Forked => return super::driver::FORKED.into(),
            OpenError::NoDriver | OpenError::Unloadable { .. } | OpenError::TooOld { .. } => Code::NOT_INITIALIZED,
            OpenError::Stub => Code::STUB_LIBRARY,
            OpenError::MissingSymbol { .. } => Code::NOT_FOUND,
            OpenError::NoSuchDevice { count: 0, .. } => Code::NO_DEVICE,
            OpenError::NoSuchDevice { .. } => Code::INVALID_DEVICE,
            OpenError::Unsupported { .. } => Code::NOT_SUPPORTED,
        };
        Error::Driver(DriverError::new("opening a device", code))
    }
}

/// Why a module does not load, with the messages of the driver's compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleError {
    /// What the driver answered.
    pub error: DriverError,
    /// The compiler's messages, at most 8 KiB; empty if it had none.
    pub log: String,
}

impl fmt::Display for ModuleError {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)?;
        if self.log.is_empty() { Ok(()) } else { write!(f, ": {}", self.log.trim_end()) }
    }
}

impl core::error::Error for ModuleError {}

impl From<ModuleError> for Error {
    #[inline]
    fn from(error: ModuleError) -> Error {
        error.error.into()
    }
}

impl From<OpenError> for Located {
    #[inline]
    #[track_caller]
    fn from(error: OpenError) -> Located {
        Located::from(Error::from(error))
    }
}

impl From<ModuleError> for Located {
    #[inline]
    #[track_caller]
    fn from(error: ModuleError) -> Located {
        Located::from(Error::from(error))
    }
}

/// Why there are no copy kernels on a device. The driver's copy calls then carry out batches, which
/// is no error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoCopyKernels {
    /// The device is older than the kernels.
    #[error("compute capability {}.{} is below 8.0", found.0, found.1)]
    Capability {
        /// The compute capability of the device.
        found: (u32, u32),
    },
    /// The driver lacks the function that launches them.
    #[error("the CUDA driver has no `{lacks}`")]
    Driver {
        /// The function, by its name in the library.
        lacks: &'static str,
    },
    /// Their code in this program is not what was built into it.
    #[error("their code `{file}` in this program is damaged")]
    Image {
        /// The name of the file that it was built from.
        file: &'static str,
    },
    /// The driver does not load their code.
    #[error("the CUDA driver refused their code: {0}")]
    Code(#[from] ModuleError),
    /// The code was loaded, but a kernel is missing or has other parameters.
    #[error("the CUDA driver refused a kernel: {0}")]
    Kernel(#[from] Error),
}

static_assertions::assert_impl_all!(NoCopyKernels: Send, Sync, Clone);
static_assertions::assert_impl_all!(OpenError: Send, Sync, Clone);
static_assertions::assert_impl_all!(ModuleError: Send, Sync);

#[cfg(test)]
mod tests {
    use crate::device::code::Code;
    use cudarc::driver::sys::CUresult;

    #[test]
    #[allow(clippy::as_conversions, reason = "the number of an enumeration's variant")]
    fn codes_have_the_drivers_names() {
        use CUresult::*;
        let known = [
            CUDA_ERROR_INVALID_VALUE,
            CUDA_ERROR_OUT_OF_MEMORY,
            CUDA_ERROR_NOT_INITIALIZED,
            CUDA_ERROR_STUB_LIBRARY,
            CUDA_ERROR_NO_DEVICE,
            CUDA_ERROR_INVALID_CONTEXT,
            CUDA_ERROR_NOT_READY,
            CUDA_ERROR_NOT_SUPPORTED,
            CUDA_ERROR_SYSTEM_NOT_READY,
            CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
            CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE,
            CUDA_ERROR_MPS_CONNECTION_FAILED,
            CUDA_ERROR_MPS_RPC_FAILURE,
            CUDA_ERROR_MPS_SERVER_NOT_READY,
            CUDA_ERROR_MPS_MAX_CLIENTS_REACHED,
            CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED,
            CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
            CUDA_ERROR_UNKNOWN,
        ];
        for theirs in known {
            let code = Code(theirs as u32);
            assert_eq!(format!("CUDA_ERROR_{}", code.name()), format!("{theirs:?}"));
            assert_eq!(code.advice().is_some(), (802..=809).contains(&code.0), "{code}");
        }
    }
}
