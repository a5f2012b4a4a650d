//! Device code of the user: modules, and the functions in them.

use core::{ffi::c_void, fmt, ptr, ptr::NonNull};
use std::{ffi::CString, sync::Arc};

use super::{
    Device,
    context::{Context, given},
    driver::{same_process, text},
    error::ModuleError,
};
use crate::{
    device::code::{Code, DriverError},
    error::{Error, Result},
};

/// Device code loaded into the context of a device.
///
/// It stays loaded as long as the context, also when this is dropped: whether a kernel of it is still running is not
/// known to its type. [`unload`](Module::unload) is for whoever knows.
#[derive(Clone)]
pub struct Module {
    loaded: Arc<Loaded>,
}

/// A kernel of a module: what [`Ctx::launch`](crate::Ctx::launch) on a CUDA stream launches. Cloning it is cheap.
#[derive(Clone)]
pub struct Function {
    /// Keeps the context alive.
    loaded: Arc<Loaded>,
    /// Invariant: a kernel of the module, whose parameters have these sizes, in bytes.
    raw: NonNull<c_void>,
    params: Arc<[usize]>,
}

struct Loaded {
    device: Device,
    /// Invariant: a module of the device's context.
    image: Image,
}

/// A `CUmodule`, loaded until it is unloaded by its owner. Calls about it are made in the context it was loaded into.
#[derive(Debug)]
pub(super) struct Image(NonNull<c_void>);

// SAFETY:
// - Module and function handles belong to the context, not to a thread; nothing is changed through them.
unsafe impl Send for Image {}
// SAFETY:
// - As for `Send`.
unsafe impl Sync for Image {}
// SAFETY:
// - As for `Image`.
unsafe impl Send for Function {}
// SAFETY:
// - As for `Image`.
unsafe impl Sync for Function {}

impl Module {
    /// Compiles PTX for `device` and loads it. Cost: the driver's compiler runs; it keeps a cache on disk.
    ///
    /// # Errors
    /// What the driver answered, with the compiler's messages.
    #[inline]
    pub fn load(device: &Device, ptx: &str) -> Result<Module, ModuleError> {
        let image = Image::compile(device.context, ptx)?;
        Ok(Module { loaded: Arc::new(Loaded { device: device.clone(), image }) })
    }

    /// Loads a compiled image (cubin or fatbin), or PTX that ends in a zero byte.
    ///
    /// # Errors
    /// What the driver answered, with the compiler's messages.
    ///
    /// # Safety
    /// - The image is complete: the driver reads as far as its headers say, or to the zero byte.
    #[inline]
    pub unsafe fn load_image(device: &Device, image: &[u8]) -> Result<Module, ModuleError> {
        // SAFETY:
        // - The caller keeps the same contract.
        let image = unsafe { Image::load(device.context, image) }?;
        Ok(Module { loaded: Arc::new(Loaded { device: device.clone(), image }) })
    }

    /// The kernel called `name`, with the number and the sizes of its parameters as the driver says them.
    ///
    /// Cost: one driver call, and one for each parameter.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is none, `NOT_SUPPORTED` if the driver is older than CUDA 12.4 and cannot say:
    /// [`function_declared`](Module::function_declared) then.
    #[inline]
    pub fn function(&self, name: &str) -> Result<Function> {
        let context = self.loaded.device.context;
        let raw = self.loaded.image.find(context, name)?;
        match params_of(context, raw, usize::MAX)? {
            Some(params) => Ok(self.made(raw, params)),
            None => Err(DriverError::new("cuFuncGetParamInfo", Code::NOT_SUPPORTED).into()),
        }
    }

    /// The kernel called `name`, whose parameters have the sizes `params`, in bytes: 8 for a view.
    ///
    /// A driver that can say what they are is asked about each of them; it is not asked whether there are more.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is none, [`Error::Length`] if the driver knows that the parameters are others.
    ///
    /// # Safety
    /// - The kernel has these parameters.
    #[inline]
    pub unsafe fn function_declared(&self, name: &str, params: &[usize]) -> Result<Function> {
        let raw = self.loaded.image.declared(self.loaded.device.context, name, params)?;
        Ok(self.made(raw, params.to_vec()))
    }

    /// The device the module is loaded on.
    #[inline]
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.loaded.device
    }

    /// Gives the module's memory back.
    ///
    /// # Errors
    /// What the driver answered; the module then stays loaded.
    ///
    /// # Safety
    /// - No kernel of the module is running or enqueued, on any stream.
    /// - No [`Function`] of it, and no other clone of it, is used any more, except to be dropped.
    #[inline]
    pub unsafe fn unload(self) -> Result<()> {
        // SAFETY:
        // - The caller promises that nobody uses the module any more.
        Ok(unsafe { self.loaded.image.unload(self.loaded.device.context) }?)
    }

    fn made(&self, raw: NonNull<c_void>, params: Vec<usize>) -> Function {
        Function { loaded: self.loaded.clone(), raw, params: params.into() }
    }
}

impl Image {
    /// As [`Module::load`], into `context`.
    pub(super) fn compile(context: Context, ptx: &str) -> Result<Image, ModuleError> {
        let invalid = |_| ModuleError { error: DriverError::new(LOAD, Code::INVALID_PTX), log: String::new() };
        let image = CString::new(ptx).map_err(invalid)?;
        // SAFETY:
        // - The image is text that ends in a zero byte, which the driver takes for PTX or refuses.
        unsafe { Image::load(context, image.as_bytes_with_nul()) }
    }

    /// As [`Module::load_image`], into `context`.
    ///
    /// # Safety
    /// As for [`Module::load_image`].
    unsafe fn load(context: Context, image: &[u8]) -> Result<Image, ModuleError> {
        same_process().map_err(|error| ModuleError { error, log: String::new() })?;
        let load = context.driver.table.module_load_data_ex;
        let mut raw = ptr::null_mut();
        let mut log = [0_u8; LOG_BYTES];
        let options = [JIT_ERROR_LOG, JIT_ERROR_LOG_BYTES];
        // Half of the values are numbers in the place of pointers.
        let values = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(LOG_BYTES)];
        // SAFETY:
        // - `raw` is valid for a write; the caller promises that the image is complete.
        // - There are two options and two values: a buffer, and its size.
        let answer = context
            .enter(LOAD, || unsafe { load(&mut raw, image.as_ptr().cast(), 2, options.as_ptr(), values.as_ptr()) });
        match answer.and_then(|()| given(LOAD, raw)) {
            Ok(raw) => Ok(Image(raw)),
            Err(error) => Err(ModuleError { error, log: text(&log) }),
        }
    }

    /// The kernel called `name`.
    fn find(&self, context: Context, name: &str) -> Result<NonNull<c_void>, DriverError> {
        const CALL: &str = "cuModuleGetFunction";
        let name = CString::new(name).map_err(|_| DriverError::new(CALL, Code::NOT_FOUND))?;
        let get = context.driver.table.module_get_function;
        let mut raw = ptr::null_mut();
        // SAFETY:
        // - `raw` is valid for a write, the module is loaded, and the name ends in a zero byte.
        context.enter(CALL, || unsafe { get(&mut raw, self.0.as_ptr(), name.as_ptr()) })?;
        given(CALL, raw)
    }

    /// The kernel called `name`, if its parameters have the sizes `params` or the driver cannot say.
    pub(super) fn declared(&self, context: Context, name: &str, params: &[usize]) -> Result<NonNull<c_void>> {
        let raw = self.find(context, name)?;
        if let Some(found) = params_of(context, raw, params.len())? {
            fits(&found, params)?;
        }
        Ok(raw)
    }

    /// Gives the memory back.
    ///
    /// # Errors
    /// What the driver answered; it then stays loaded.
    ///
    /// # Safety
    /// - It was loaded into `context`, which is alive, and was not unloaded before.
    /// - No kernel of it is running or enqueued, nor used any more.
    pub(super) unsafe fn unload(&self, context: Context) -> Result<(), DriverError> {
        let unload = context.driver.table.module_unload;
        // SAFETY:
        // - The module is loaded, and the caller promises that nobody uses it.
        context.enter("cuModuleUnload", || unsafe { unload(self.0.as_ptr()) })
    }
}

/// The sizes of the first parameters of a kernel that is loaded into `context`, `most` at most, if the driver can say.
fn params_of(context: Context, function: NonNull<c_void>, most: usize) -> Result<Option<Vec<usize>>, DriverError> {
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
        let answer = unsafe { info(function.as_ptr(), params.len(), &mut offset, &mut size) };
        if answer != 0 {
            break answer;
        }
        params.push(size);
    };
    // It ends with the refusal of the first parameter that does not exist, unless fewer are asked for.
    match context.enter(CALL, all) {
        Err(error) if error.code != Code::INVALID_VALUE => Err(error),
        _ => Ok(Some(params)),
    }
}

impl Function {
    /// The sizes of the kernel's parameters, in bytes.
    #[inline]
    #[must_use]
    pub fn params(&self) -> &[usize] {
        &self.params
    }

    /// The `CUfunction`.
    #[inline]
    #[must_use]
    pub const fn raw(&self) -> *mut c_void {
        self.raw.as_ptr()
    }

    /// Whether the kernel can be launched on a stream of `device` with arguments of these sizes.
    #[inline]
    pub(super) fn takes(&self, device: &Device, sizes: &[usize]) -> Result<()> {
        if self.loaded.device.context != device.context {
            return Err(DriverError::new("cuLaunchKernel", Code::INVALID_CONTEXT).into());
        }
        if *self.params == *sizes { Ok(()) } else { fits(&self.params, sizes) }
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

/// What messages call the arguments of a launch.
const NAMES: [&str; 12] = [
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
];

/// # Errors
/// [`Error::Length`], for the number of the arguments or for the first one of another size.
#[cold]
fn fits(expected: &[usize], found: &[usize]) -> Result<()> {
    if expected.len() != found.len() {
        return Err(Error::Length { operand: "args", expected: expected.len(), found: found.len() });
    }
    let mut sizes = NAMES.iter().zip(expected).zip(found);
    match sizes.find(|((_, expected), found)| expected != found) {
        Some(((&operand, &expected), &found)) => Err(Error::Length { operand, expected, found }),
        None => Ok(()),
    }
}

impl fmt::Debug for Module {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("device", &self.loaded.device).finish_non_exhaustive()
    }
}

impl fmt::Debug for Function {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("params", &self.params).finish_non_exhaustive()
    }
}

static_assertions::assert_impl_all!(Module: Send, Sync, Clone);
static_assertions::assert_impl_all!(Function: Send, Sync, Clone);

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
