//! The stand-in driver: it answers as a driver does, and the CUDA device on it keeps its contract.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod api;
mod raw_calls;
mod raw_copies;
mod raw_faults;
mod raw_launch;
mod raw_memory;
mod raw_tables;

use std::ptr;
use tidelock_test_support::stand_in::{self, Control, Fault};

use self::api::Api;

const OK: u32 = 0;
const INVALID_VALUE: u32 = 1;
const OUT_OF_MEMORY: u32 = 2;
const INVALID_DEVICE: u32 = 101;
const INVALID_IMAGE: u32 = 200;
const INVALID_CONTEXT: u32 = 201;
const INVALID_PTX: u32 = 218;
const INVALID_HANDLE: u32 = 400;
const NOT_FOUND: u32 = 500;
const NOT_READY: u32 = 600;
const ILLEGAL_ADDRESS: u32 = 700;

/// The driver, called directly. It is initialised, and the first device's context is current on
/// this thread.
struct Raw {
    control: Control,
    api: Api,
    context: usize,
}

/// Unwraps what a function of the driver returns, and the value that it wrote.
macro_rules! made {
    ($call:expr) => {{
        let mut out = Default::default();
        #[allow(unused_unsafe, reason = "used inside and outside of unsafe blocks")]
        // SAFETY: the place is valid for a write; the other arguments are what the function takes.
        let answer = unsafe { $call(&mut out) };
        assert_eq!(answer, crate::OK);
        out
    }};
}
pub(crate) use made;

impl Raw {
    fn new() -> Raw {
        Raw::with(&[])
    }

    /// With settings other than the default.
    fn with(settings: &[(&str, u64)]) -> Raw {
        let control = stand_in::load();
        settings.iter().for_each(|(name, value)| control.set(name, *value));
        control.reset();
        let api = Api::of(control.library());
        // SAFETY: 0 is the flag there is.
        assert_eq!(unsafe { (api.cuInit)(0) }, OK);
        let context = made!(|out: *mut usize| (api.cuDevicePrimaryCtxRetain)(out, 0));
        // SAFETY: it is a context.
        assert_eq!(unsafe { (api.cuCtxSetCurrent)(context) }, OK);
        Raw { control, api, context }
    }

    fn stream(&self) -> usize {
        made!(|out| (self.api.cuStreamCreate)(out, 1))
    }

    fn event(&self) -> usize {
        made!(|out| (self.api.cuEventCreate)(out, 2))
    }

    fn alloc(&self, bytes: usize, stream: usize) -> usize {
        made!(|out| (self.api.cuMemAllocAsync)(out, bytes, stream))
    }

    fn free(&self, memory: usize, stream: usize) {
        // SAFETY: the memory was allocated, and its uses come before in the stream.
        assert_eq!(unsafe { (self.api.cuMemFreeAsync)(memory, stream) }, OK);
    }

    fn synchronize(&self, stream: usize) {
        // SAFETY: it is a stream.
        assert_eq!(unsafe { (self.api.cuStreamSynchronize)(stream) }, OK);
    }

    fn destroy(&self, stream: usize) {
        // SAFETY: it is a stream that is not used after this.
        assert_eq!(unsafe { (self.api.cuStreamDestroy_v2)(stream) }, OK);
    }

    /// Copies `bytes` to the device, and waits for it.
    fn upload(&self, dst: usize, bytes: &[u8], stream: usize) {
        // SAFETY: the source lives until the wait is over.
        assert_eq!(unsafe { (self.api.cuMemcpyHtoDAsync_v2)(dst, bytes.as_ptr(), bytes.len(), stream) }, OK);
        self.synchronize(stream);
    }

    /// What the device holds.
    fn read(&self, src: usize, len: usize, stream: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: the target lives until the wait is over.
        assert_eq!(unsafe { (self.api.cuMemcpyDtoHAsync_v2)(bytes.as_mut_ptr(), src, len, stream) }, OK);
        self.synchronize(stream);
        bytes
    }

    /// Makes the nth call of `name` fail with `code`.
    fn fail(&self, name: &str, nth: u64, code: u32) {
        self.control.fail(Fault { name, nth, onwards: false, releases: false, code });
    }

    /// Releases the context, and asserts that nothing is left and no fault was found.
    #[track_caller]
    fn end(self) {
        // SAFETY: the context was retained, and is not used any more.
        assert_eq!(unsafe { (self.api.cuDevicePrimaryCtxRelease_v2)(0) }, OK);
        // SAFETY: no context is one that can be current.
        assert_eq!(unsafe { (self.api.cuCtxSetCurrent)(0) }, OK);
        self.control.report().assert_clean();
    }
}

fn null<T>() -> *mut T {
    ptr::null_mut()
}
