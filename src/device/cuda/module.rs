//! Device code of the program: modules, and the functions in them.

use core::{ffi::c_void, fmt};
use std::sync::Arc;

use tidelock_driver::{Code, DriverError};

use super::{
    Device,
    error::ModuleError,
    handle::DriverObject,
    image::{Image, fits, params_of},
};
use crate::error::Result;

/// Device code loaded into the context of a device.
///
/// It stays loaded as long as the context, also when this is dropped: a kernel of it may still be
/// running. [`unload`](Module::unload) frees it.
#[derive(Clone)]
pub struct Module {
    loaded: Arc<Loaded>,
}

/// A kernel of a module: what [`Ctx::launch`](crate::Ctx::launch) on a CUDA stream launches.
/// Cloning it is cheap.
#[derive(Clone)]
pub struct Function {
    /// Keeps the context alive.
    loaded: Arc<Loaded>,
    /// Invariant: a kernel of the module, whose parameters have these sizes, in bytes.
    raw: DriverObject,
    params: Arc<[usize]>,
}

struct Loaded {
    device: Device,
    /// Invariant: a module of the device's context.
    image: Image,
}

impl Module {
    /// Compiles PTX for `device` and loads it. Cost: the driver's compiler runs; it keeps a cache
    /// on disk.
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

    /// The kernel called `name`, with the number and the sizes of its parameters as the driver
    /// reports them.
    ///
    /// Cost: one driver call, and one for each parameter.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is none, `NOT_SUPPORTED` if the driver is older than CUDA 12.4 and
    /// cannot report parameters: use [`function_declared`](Module::function_declared) then.
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
    /// A driver that can report the sizes is asked for each of these; whether there are more is not
    /// checked.
    ///
    /// # Errors
    /// `NOT_FOUND` if there is none, [`Error::Length`](crate::Error::Length) if the driver reports
    /// other parameters.
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

    /// Unloads the module and frees its memory.
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
        // - The caller promises that the module is not used any more.
        Ok(unsafe { self.loaded.image.unload(self.loaded.device.context) }?)
    }

    fn made(&self, raw: DriverObject, params: Vec<usize>) -> Function {
        Function { loaded: self.loaded.clone(), raw, params: params.into() }
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
        self.raw.raw()
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
