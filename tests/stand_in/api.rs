//! The functions of the driver, called directly.

use std::ffi::{c_char, c_void};

use tidelock_test_support::stand_in::Library;

macro_rules! api {
    ($($name:ident($($arg:ty),*);)*) => {
        /// The functions, looked up in the opened library.
        #[allow(non_snake_case, reason = "named as the driver names them")]
        #[derive(Clone, Copy)]
        pub struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> u32,)*
        }

        impl Api {
            pub fn of(library: Library) -> Api {
                // SAFETY: each is named beside its type.
                Api { $($name: unsafe { library.function(stringify!($name)) },)* }
            }
        }
    };
}

api! {
    cuInit(u32);
    cuDriverGetVersion(*mut i32);
    cuDeviceGetCount(*mut i32);
    cuDeviceGet(*mut i32, i32);
    cuDeviceGetName(*mut c_char, i32, i32);
    cuDeviceGetAttribute(*mut i32, u32, i32);
    cuDeviceTotalMem_v2(*mut usize, i32);
    cuDevicePrimaryCtxRetain(*mut usize, i32);
    cuDevicePrimaryCtxRelease_v2(i32);
    cuDevicePrimaryCtxGetState(i32, *mut u32, *mut i32);
    cuCtxGetCurrent(*mut usize);
    cuCtxSetCurrent(usize);
    cuCtxPushCurrent_v2(usize);
    cuCtxPopCurrent_v2(*mut usize);
    cuCtxSynchronize();
    cuCtxCreate_v2(*mut usize, u32, i32);
    cuCtxDestroy_v2(usize);
    cuStreamCreate(*mut usize, u32);
    cuStreamCreateWithPriority(*mut usize, u32, i32);
    cuStreamGetPriority(usize, *mut i32);
    cuStreamDestroy_v2(usize);
    cuStreamSynchronize(usize);
    cuStreamQuery(usize);
    cuStreamWaitEvent(usize, usize, u32);
    cuStreamGetCtx(usize, *mut usize);
    cuEventCreate(*mut usize, u32);
    cuEventDestroy_v2(usize);
    cuEventRecord(usize, usize);
    cuEventQuery(usize);
    cuEventSynchronize(usize);
    cuMemAlloc_v2(*mut usize, usize);
    cuMemFree_v2(usize);
    cuMemAllocAsync(*mut usize, usize, usize);
    cuMemAllocFromPoolAsync(*mut usize, usize, usize, usize);
    cuMemFreeAsync(usize, usize);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuDeviceGetDefaultMemPool(*mut usize, i32);
    cuMemPoolCreate(*mut usize, *const [u32; 22]);
    cuMemPoolDestroy(usize);
    cuMemPoolTrimTo(usize, usize);
    cuMemPoolSetAttribute(usize, u32, *mut u64);
    cuMemPoolGetAttribute(usize, u32, *mut u64);
    cuMemHostAlloc(*mut *mut u8, usize, u32);
    cuMemFreeHost(*mut u8);
    cuMemHostRegister_v2(*mut u8, usize, u32);
    cuMemHostUnregister(*mut u8);
    cuMemHostGetDevicePointer_v2(*mut usize, *mut u8, u32);
    cuPointerGetAttribute(*mut c_void, u32, usize);
    cuMemcpyAsync(usize, usize, usize, usize);
    cuMemcpyHtoDAsync_v2(usize, *const u8, usize, usize);
    cuMemcpyDtoHAsync_v2(*mut u8, usize, usize, usize);
    cuMemcpyDtoDAsync_v2(usize, usize, usize, usize);
    cuMemcpyHtoD_v2(usize, *const u8, usize);
    cuMemcpyDtoH_v2(*mut u8, usize, usize);
    cuMemsetD8Async(usize, u8, usize, usize);
    cuMemsetD32Async(usize, u32, usize, usize);
    cuMemcpyBatchAsync(
        *const usize, *const usize, *const usize, usize, *const [u32; 6], *const usize, usize, *mut usize, usize
    );
    cuMemcpyBatchAsync_v2(*const usize, *const usize, *const usize, usize, *const [u32; 6], *const usize, usize, usize);
    cuModuleLoadData(*mut usize, *const c_char);
    cuModuleUnload(usize);
    cuModuleGetFunction(*mut usize, usize, *const c_char);
    cuFuncGetParamInfo(usize, usize, *mut usize, *mut usize);
    cuLaunchKernel(usize, u32, u32, u32, u32, u32, u32, u32, usize, *const *const c_void, *const *const c_void);
    cuGraphCreate(*mut usize, u32);
    cuGraphInstantiateWithFlags(*mut usize, usize, u64);
    cuGetErrorName(u32, *mut *const c_char);
    cuGetErrorString(u32, *mut *const c_char);
    cuGetProcAddress_v2(*const c_char, *mut *const c_void, i32, u64, *mut u32);
}
