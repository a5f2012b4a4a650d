//! Device code that is loaded into a context, and the kernels in it.

use core::ptr;
use std::ffi::CString;

use tidelock_driver::{Code, DriverError};

use super::{
    context::{Context, given},
    driver::{same_process, text},
    error::ModuleError,
    handle::DriverObject,
};
use crate::error::{Error, Result};

/// A `CUmodule`, loaded until its owner unloads it. Calls about it are made in the context it was
/// loaded into.
#[derive(Debug)]
pub(super) struct Image(DriverObject);

impl Image {
    /// As [`Module::load`](super::Module::load), into `context`.
    pub(super) fn compile(context: Context, ptx: &str) -> Result<Image, ModuleError> {
        let invalid = |_| ModuleError { error: DriverError::new(LOAD, Code::INVALID_PTX), log: String::new() };
        let image = CString::new(ptx).map_err(invalid)?;
        // SAFETY:
        // - The image is text that ends in a zero byte, which the driver takes for PTX or refuses.
        unsafe { Image::load(context, image.as_bytes_with_nul()) }
    }

    /// As [`Module::load_image`](super::Module::load_image), into `context`.
    ///
    /// # Safety
    /// As for [`Module::load_image`](super::Module::load_image).
    pub(super) unsafe fn load(context: Context, image: &[u8]) -> Result<Image, ModuleError> {
        same_process().map_err(|error| ModuleError { error, log: String::new() })?;
        let load = context.driver.table.module_load_data_ex;
        let mut raw = ptr::null_mut();
        let mut log = [0_u8; LOG_BYTES];
        let options = [JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES];
        // The second value is a number in place of a pointer.
        let values = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(LOG_BYTES)];
        // SAFETY:
        // - `raw` is valid for a write; the caller promises that the image is complete.
        // - There are two options and two values: a buffer, and its size.
        let answer = context
            .enter(LOAD, || unsafe { load(&mut raw, image.as_ptr().cast(), 2, options.as_ptr(), values.as_ptr()) });
        match answer.and_then(|()| given(LOAD, raw)) {
            Ok(raw) => Ok(Image(DriverObject(raw))),
            Err(error) => Err(ModuleError { error, log: text(&log) }),
        }
    }

    /// The kernel called `name`.
    pub(super) fn find(&self, context: Context, name: &str) -> Result<DriverObject, DriverError> {
        const CALL: &str = "cuModuleGetFunction";
        let name = CString::new(name).map_err(|_| DriverError::new(CALL, Code::NOT_FOUND))?;
        let get = context.driver.table.module_get_function;
        let mut raw = ptr::null_mut();
        // SAFETY:
        // - `raw` is valid for a write, the module is loaded, and the name ends in a zero byte.
        context.enter(CALL, || unsafe { get(&mut raw, self.0.raw(), name.as_ptr()) })?;
        given(CALL, raw).map(DriverObject)
    }

    /// The kernel called `name`, if its parameters have the sizes `params`, or the driver cannot
    /// report them.
    pub(super) fn declared(&self, context: Context, name: &str, params: &[usize]) -> Result<DriverObject> {
        let raw = self.find(context, name)?;
        if let Some(found) = params_of(context, raw, params.len())? {
            fits(&found, params)?;
        }
        Ok(raw)
    }

    /// Unloads the code.
    ///
    /// # Errors
    /// What the driver answered. The code then stays loaded.
    ///
    /// # Safety
    /// - It was loaded into `context`, which is alive, and was not unloaded before.
    /// - No kernel of it is running or enqueued, nor used any more.
    pub(super) unsafe fn unload(&self, context: Context) -> Result<(), DriverError> {
        let unload = context.driver.table.module_unload;
        // SAFETY:
        // - The module is loaded, and the caller promises that it is not used any more.
        context.enter("cuModuleUnload", || unsafe { unload(self.0.raw()) })
    }
}

/// The sizes of the first parameters of a kernel that is loaded into `context`, at most `most`, if
/// the driver can report them.
pub(super) fn params_of(
    context: Context,
    function: DriverObject,
    most: usize,
) -> Result<Option<Vec<usize>>, DriverError> {
    const CALL: &str = "cuFuncGetParamInfo";
    let Some(info) = context.driver.param_info else { return Ok(None) };
    let mut params = Vec::new();
    let all = || loop {
        if params.len() >= most {
            break 0;
        }
        let (mut offset, mut size) = (0, 0);
        // SAFETY:
        // - The function is loaded; both places are valid for a write.
        let answer = unsafe { info(function.raw(), params.len(), &mut offset, &mut size) };
        if answer != 0 {
            break answer;
        }
        params.push(size);
    };
    // The query fails for the first parameter that does not exist, which ends the loop, unless
    // `most` does.
    match context.enter(CALL, all) {
        Err(error) if error.code != Code::INVALID_VALUE => Err(error),
        _ => Ok(Some(params)),
    }
}

const LOAD: &str = "cuModuleLoadDataEx";
/// `CU_JIT_ERROR_LOG_BUFFER`, and its size in bytes.
const JIT_ERROR_LOG: u32 = 5;
const JIT_ERROR_LOG_BYTES: u32 = 6;
const LOG_BYTES: usize = 8192;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(JIT_ERROR_LOG, CUjit_option::CU_JIT_ERROR_LOG_BUFFER);
    same_number!(JIT_ERROR_LOG_BYTES, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES);
}

/// The names of a launch's arguments in messages.
const NAMES: [&str; 32] = [
    "args.0 (bytes)",
    "args.1 (bytes)",
    "args.2 (bytes)",
    "args.3 (bytes)",
    "args.4 (bytes)",
    "args.5 (bytes)",
    "args.6 (bytes)",
    "args.7 (bytes)",
    "args.8 (bytes)",
    "args.9 (bytes)",
    "args.10 (bytes)",
    "args.11 (bytes)",
    "args.12 (bytes)",
    "args.13 (bytes)",
    "args.14 (bytes)",
    "args.15 (bytes)",
    "args.16 (bytes)",
    "args.17 (bytes)",
    "args.18 (bytes)",
    "args.19 (bytes)",
    "args.20 (bytes)",
    "args.21 (bytes)",
    "args.22 (bytes)",
    "args.23 (bytes)",
    "args.24 (bytes)",
    "args.25 (bytes)",
    "args.26 (bytes)",
    "args.27 (bytes)",
    "args.28 (bytes)",
    "args.29 (bytes)",
    "args.30 (bytes)",
    "args.31 (bytes)",
];

/// # Errors
/// [`Error::Length`], for the number of the arguments or for the first one of another size.
#[cold]
pub(super) fn fits(expected: &[usize], found: &[usize]) -> Result<()> {
    if expected.len() != found.len() {
        return Err(Error::Length { operand: "args", expected: expected.len(), found: found.len() });
    }
    let mut sizes = NAMES.iter().zip(expected).zip(found);
    match sizes.find(|((_, expected), found)| expected != found) {
        Some(((&operand, &expected), &found)) => Err(Error::Length { operand, expected, found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_do_not_fit_are_named() {
        assert_eq!(fits(&[8, 8, 4], &[8, 8, 4]), Ok(()));
        let count = Error::Length { operand: "args", expected: 3, found: 2 };
        assert_eq!(fits(&[8, 8, 4], &[8, 8]), Err(count));
        let size = Error::Length { operand: "args.1 (bytes)", expected: 8, found: 4 };
        assert_eq!(fits(&[8, 8, 4], &[8, 4, 8]), Err(size));
        assert_eq!(size.to_string(), "`args.1 (bytes)` has 4 elements where 8 are needed");
    }
}
