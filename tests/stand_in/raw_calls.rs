//! Devices, contexts, streams, events, kernels: what the driver returns.

use std::{
    ffi::{CStr, c_char, c_void},
    ptr,
};
use tidelock_test_support::stand_in::{Launch, Library, path};

use super::{
    ILLEGAL_ADDRESS, INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_IMAGE, INVALID_PTX, INVALID_VALUE,
    NOT_FOUND, NOT_READY, OK, Raw, made, null,
};

#[test]
fn it_is_found_by_the_name_of_the_driver() {
    let raw = Raw::new();
    let found = Library::find("libcuda.so").unwrap();
    let init = |library: Library| library.symbol("cuInit").unwrap();
    assert_eq!(init(found), init(raw.control.library()));
    assert_eq!(init(Library::open(&path())), init(found), "opened once");
    assert!(found.symbol("tl_reset").is_some());
    raw.end();
}

#[test]
fn devices_and_their_attributes() {
    let raw =
        Raw::with(&[("devices", 3), ("driver_version", 12_080), ("compute_major", 10), ("memory_limit", 1 << 20)]);
    let api = raw.api;
    assert_eq!(made!(|out: *mut i32| (api.cuDriverGetVersion)(out)), 12_080);
    assert_eq!(made!(|out: *mut i32| (api.cuDeviceGetCount)(out)), 3);
    assert_eq!(made!(|out: *mut i32| (api.cuDeviceGet)(out, 2)), 2);
    let mut device = -7;
    // SAFETY: the place is valid for a write.
    assert_eq!(unsafe { (api.cuDeviceGet)(&mut device, 3) }, INVALID_DEVICE);
    // SAFETY: as above.
    assert_eq!(unsafe { (api.cuDeviceGet)(&mut device, -1) }, INVALID_DEVICE);
    assert_eq!(device, -7, "an error writes nothing");
    // SAFETY: null is refused.
    assert_eq!(unsafe { (api.cuDeviceGet)(null(), 0) }, INVALID_VALUE);
    for (attribute, expected) in [(41, 1), (75, 10), (76, 0), (115, 1), (1, 1024), (10, 32)] {
        assert_eq!(made!(|out: *mut i32| (api.cuDeviceGetAttribute)(out, attribute, 1)), expected, "{attribute}");
    }
    // SAFETY: the place is valid for a write.
    assert_eq!(unsafe { (api.cuDeviceGetAttribute)(&mut device, 100_000, 0) }, INVALID_VALUE);
    assert_eq!(made!(|out: *mut usize| (api.cuDeviceTotalMem_v2)(out, 0)), 1 << 20);
    let mut name = [1 as c_char; 9];
    // SAFETY: the buffer has 9 bytes.
    assert_eq!(unsafe { (api.cuDeviceGetName)(name.as_mut_ptr(), 9, 0) }, OK);
    // SAFETY: the function ends the text inside the buffer.
    assert_eq!(unsafe { CStr::from_ptr(name.as_ptr()) }, c"tidelock");
    raw.end();
}

#[test]
fn results_have_names() {
    let raw = Raw::new();
    for (code, name, text) in [
        (0, c"CUDA_SUCCESS", c"no error"),
        (1, c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
        (719, c"CUDA_ERROR_LAUNCH_FAILED", c"unspecified launch failure"),
    ] {
        let mut found: *const c_char = ptr::null();
        // SAFETY: the place is valid for a write.
        assert_eq!(unsafe { (raw.api.cuGetErrorName)(code, &mut found) }, OK);
        // SAFETY: it is a string of the library.
        assert_eq!(unsafe { CStr::from_ptr(found) }, name);
        // SAFETY: the place is valid for a write.
        assert_eq!(unsafe { (raw.api.cuGetErrorString)(code, &mut found) }, OK);
        // SAFETY: it is a string of the library.
        assert_eq!(unsafe { CStr::from_ptr(found) }, text);
    }
    let mut found: *const c_char = name_of_nothing().as_ptr();
    // SAFETY: the place is valid for a write.
    assert_eq!(unsafe { (raw.api.cuGetErrorName)(12_345, &mut found) }, INVALID_VALUE);
    assert!(found.is_null());
    raw.end();
}

fn name_of_nothing() -> &'static CStr {
    c"nothing"
}

#[test]
fn functions_are_looked_up_by_version() {
    let raw = Raw::new();
    let library = raw.control.library();
    let find = |name: &CStr, version| {
        let (mut found, mut status) = (ptr::null(), 9);
        // SAFETY: the places are valid for a write, the name is a string.
        let answer = unsafe { (raw.api.cuGetProcAddress_v2)(name.as_ptr(), &mut found, version, 0, &mut status) };
        (answer, found.cast_mut(), status)
    };
    let at = |name| library.symbol(name).unwrap();
    assert_eq!(find(c"cuMemAlloc", 12_000), (OK, at("cuMemAlloc_v2"), 0));
    assert_eq!(find(c"cuMemAllocAsync", 12_000), (OK, at("cuMemAllocAsync"), 0));
    assert_eq!(find(c"cuMemcpyBatchAsync", 12_080), (OK, at("cuMemcpyBatchAsync"), 0));
    assert_eq!(find(c"cuMemcpyBatchAsync", 13_000), (OK, at("cuMemcpyBatchAsync_v2"), 0));
    assert_eq!(find(c"cuNothing", 13_000), (NOT_FOUND, null(), 1));
    raw.end();
}

#[test]
fn contexts_are_current_on_one_thread() {
    let raw = Raw::new();
    let api = raw.api;
    let current = || made!(|out: *mut usize| (api.cuCtxGetCurrent)(out));
    assert_eq!(current(), raw.context);
    std::thread::scope(|scope| {
        let elsewhere = scope.spawn(|| {
            assert_eq!(made!(|out: *mut usize| (api.cuCtxGetCurrent)(out)), 0);
            let mut out = 0;
            // SAFETY: the place is valid for a write.
            unsafe { (api.cuStreamCreate)(&mut out, 0) }
        });
        assert_eq!(elsewhere.join().unwrap(), INVALID_CONTEXT);
    });
    let again = made!(|out: *mut usize| (api.cuDevicePrimaryCtxRetain)(out, 0));
    assert_eq!(again, raw.context, "a device has one primary context");
    let other = made!(|out: *mut usize| (api.cuDevicePrimaryCtxRetain)(out, 1));
    assert_ne!(other, raw.context);
    // SAFETY: contexts that are alive.
    unsafe {
        assert_eq!((api.cuCtxPushCurrent_v2)(other), OK);
        assert_eq!(current(), other);
        assert_eq!(made!(|out: *mut usize| (api.cuCtxPopCurrent_v2)(out)), other);
        assert_eq!(current(), raw.context);
        assert_eq!((api.cuCtxSetCurrent)(other), OK);
        assert_eq!((api.cuCtxSetCurrent)(0), OK);
        assert_eq!(current(), 0);
        assert_eq!((api.cuCtxSetCurrent)(0x1234), INVALID_CONTEXT);
        assert_eq!((api.cuDevicePrimaryCtxRelease_v2)(1), OK);
        assert_eq!((api.cuDevicePrimaryCtxRelease_v2)(1), INVALID_CONTEXT);
        assert_eq!((api.cuCtxSetCurrent)(other), INVALID_CONTEXT, "released");
        let (mut flags, mut active) = (9, 9);
        assert_eq!((api.cuDevicePrimaryCtxGetState)(1, &mut flags, &mut active), OK);
        assert_eq!((flags, active), (0, 0));
        assert_eq!((api.cuDevicePrimaryCtxRelease_v2)(0), OK);
        let created = made!(|out: *mut usize| (api.cuCtxCreate_v2)(out, 0, 0));
        assert_eq!(current(), created);
        assert_ne!(created, raw.context);
        assert_eq!((api.cuCtxDestroy_v2)(created), OK);
        assert_eq!(current(), 0);
    }
    raw.end();
}

#[test]
fn streams_work_whatever_context_is_current() {
    let raw = Raw::new();
    let api = raw.api;
    let (stream, event) = (raw.stream(), raw.event());
    let other = made!(|out: *mut usize| (api.cuDevicePrimaryCtxRetain)(out, 1));
    for current in [other, 0] {
        // SAFETY: the context is alive, and so is the stream.
        unsafe {
            assert_eq!((api.cuCtxSetCurrent)(current), OK);
            let memory = raw.alloc(64, stream);
            assert_eq!((api.cuMemsetD8Async)(memory, 7, 64, stream), OK);
            assert_eq!((api.cuEventRecord)(event, stream), OK);
            assert_eq!((api.cuStreamWaitEvent)(stream, event, 0), OK);
            if current == other {
                // The exception: a single copy of a pool's memory.
                let mut bytes = [0_u8; 64];
                assert_eq!((api.cuMemcpyDtoHAsync_v2)(bytes.as_mut_ptr(), memory, 64, stream), INVALID_VALUE);
            } else {
                assert_eq!(raw.read(memory, 64, stream), [7; 64]);
            }
            raw.free(memory, stream);
            assert_eq!((api.cuEventSynchronize)(event), OK);
            assert_eq!(made!(|out: *mut usize| (api.cuStreamGetCtx)(stream, out)), raw.context);
        }
    }
    // No context is current now.
    let (mut word, mut pinned) = (0, null());
    // SAFETY: the places are valid for writes; all of it is refused.
    unsafe {
        assert_eq!((api.cuMemAlloc_v2)(&mut word, 8), INVALID_CONTEXT);
        assert_eq!((api.cuMemHostAlloc)(&mut pinned, 8, 0), INVALID_CONTEXT);
        assert_eq!((api.cuEventCreate)(&mut word, 0), INVALID_CONTEXT);
        let mut free = 0;
        assert_eq!((api.cuMemGetInfo_v2)(&mut free, &mut word), INVALID_CONTEXT);
        assert_eq!((api.cuModuleLoadData)(&mut word, c"//".as_ptr()), INVALID_CONTEXT);
        assert_eq!((api.cuCtxSynchronize)(), INVALID_CONTEXT);
        assert_eq!((api.cuMemsetD8Async)(1, 0, 1, 0), INVALID_CONTEXT, "the default stream");
        assert_eq!((api.cuEventDestroy_v2)(event), OK);
        assert_eq!((api.cuDevicePrimaryCtxRelease_v2)(1), OK);
    }
    raw.destroy(stream);
    raw.end();
}

#[test]
fn stream_calls_need_their_context_if_set_so() {
    let raw = Raw::with(&[("stream_calls_need_context", 1)]);
    let stream = raw.stream();
    // SAFETY: contexts and stream are alive.
    unsafe {
        assert_eq!((raw.api.cuCtxSetCurrent)(0), OK);
        assert_eq!((raw.api.cuStreamSynchronize)(stream), INVALID_CONTEXT);
        assert_eq!((raw.api.cuCtxSetCurrent)(raw.context), OK);
    }
    raw.synchronize(stream);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn priorities_are_clamped() {
    let raw = Raw::new();
    for (asked, expected) in [(0, 0), (-3, -3), (-100, -5), (7, 0)] {
        let stream = made!(|out| (raw.api.cuStreamCreateWithPriority)(out, 1, asked));
        assert_eq!(made!(|out: *mut i32| (raw.api.cuStreamGetPriority)(stream, out)), expected);
        raw.destroy(stream);
    }
    raw.end();
}

#[test]
fn what_was_destroyed_is_reported_as_such() {
    let raw = Raw::new();
    let (stream, event) = (raw.stream(), raw.event());
    // SAFETY: what does not exist is refused.
    unsafe {
        assert_eq!((raw.api.cuStreamSynchronize)(0x5000), INVALID_HANDLE);
        assert_eq!((raw.api.cuEventDestroy_v2)(event), OK);
        assert_eq!((raw.api.cuEventDestroy_v2)(event), INVALID_HANDLE);
        raw.destroy(stream);
        assert_eq!((raw.api.cuStreamQuery)(stream), INVALID_HANDLE);
    }
    let findings = raw.control.report().findings;
    assert_eq!(findings, ["a event was used after it was destroyed", "a stream was used after it was destroyed"]);
    raw.control.reset();
    raw.end();
}

unsafe extern "C" fn hold(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns, and the parameter is a number.
    let milliseconds = unsafe { (*launch).value::<u64>(0) };
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    0
}

/// Adds `n` to the `len` numbers at an address.
unsafe extern "C" fn add_all(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the parameters are registered as an address, a number and a number.
    let (len, n) = unsafe { (launch.value::<u32>(1), launch.value::<u8>(2)) };
    // SAFETY: as above.
    match unsafe { launch.slice::<u8>(0, len as usize) } {
        Some(numbers) => numbers.iter_mut().for_each(|number| *number += n),
        None => return ILLEGAL_ADDRESS,
    }
    launch.grid.iter().product::<u32>() - launch.block.iter().product::<u32>()
}

/// Registers the kernels, and loads a module that has them.
fn module(raw: &Raw) -> usize {
    // SAFETY: they keep to their parameters.
    unsafe {
        raw.control.register("hold", &[8], hold);
        raw.control.register("add_all", &[8, 4, 1], add_all);
    }
    made!(|out| (raw.api.cuModuleLoadData)(out, c"// hold, add_all".as_ptr()))
}

fn kernel(raw: &Raw, module: usize, name: &CStr) -> usize {
    made!(|out| (raw.api.cuModuleGetFunction)(out, module, name.as_ptr()))
}

fn launch(raw: &Raw, function: usize, grid: u32, block: u32, stream: usize, params: &[*const c_void]) -> u32 {
    // SAFETY: the parameters are those of the kernel.
    unsafe { (raw.api.cuLaunchKernel)(function, grid, 1, 1, block, 1, 1, 0, stream, params.as_ptr(), ptr::null()) }
}

fn hold_for(raw: &Raw, module: usize, milliseconds: u64, stream: usize) {
    let hold = kernel(raw, module, c"hold");
    assert_eq!(launch(raw, hold, 1, 1, stream, &[ptr::from_ref(&milliseconds).cast()]), OK);
}

#[test]
fn events_order_streams() {
    let raw = Raw::new();
    let (a, b, event, module) = (raw.stream(), raw.stream(), raw.event(), module(&raw));
    let memory = raw.alloc(16, a);
    // SAFETY: all is alive.
    unsafe {
        assert_eq!((raw.api.cuEventQuery)(event), OK, "an event that was never recorded has been passed");
        hold_for(&raw, module, 30, a);
        assert_eq!((raw.api.cuMemsetD8Async)(memory, 5, 16, a), OK);
        assert_eq!((raw.api.cuEventRecord)(event, a), OK);
        assert_eq!((raw.api.cuStreamQuery)(a), NOT_READY);
        assert_eq!((raw.api.cuEventQuery)(event), NOT_READY);
        assert_eq!((raw.api.cuStreamWaitEvent)(b, event, 0), OK);
    }
    assert_eq!(raw.read(memory, 16, b), [5; 16]);
    raw.free(memory, b);
    // SAFETY: alive until here.
    unsafe {
        assert_eq!((raw.api.cuEventDestroy_v2)(event), OK);
        assert_eq!((raw.api.cuModuleUnload)(module), OK);
    }
    raw.destroy(a);
    raw.destroy(b);
    raw.end();
}

#[test]
fn what_nothing_orders_is_reported_as_a_race() {
    let raw = Raw::new();
    let (a, b) = (raw.stream(), raw.stream());
    let memory = raw.alloc(16, a);
    raw.synchronize(a);
    // SAFETY: the memory is alive; that nothing orders the two is what is tested.
    unsafe {
        assert_eq!((raw.api.cuMemsetD8Async)(memory, 5, 16, a), OK);
        assert_eq!((raw.api.cuMemsetD8Async)(memory, 6, 16, b), OK);
    }
    let report = raw.control.report();
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert!(report.findings[0].contains("cuMemsetD8Async"), "{report:#?}");
    raw.control.reset();
    raw.end();
}

#[test]
fn events_stay_with_their_context() {
    let raw = Raw::new();
    let stream = raw.stream();
    let other = made!(|out: *mut usize| (raw.api.cuDevicePrimaryCtxRetain)(out, 1));
    // SAFETY: all of it is alive until it is released.
    unsafe {
        assert_eq!((raw.api.cuCtxSetCurrent)(other), OK);
        let event = raw.event();
        let elsewhere = raw.stream();
        assert_eq!((raw.api.cuEventRecord)(event, stream), INVALID_HANDLE);
        assert_eq!((raw.api.cuEventRecord)(event, elsewhere), OK);
        assert_eq!((raw.api.cuStreamWaitEvent)(stream, event, 0), OK, "waiting may cross contexts");
        raw.synchronize(stream);
        assert_eq!((raw.api.cuEventDestroy_v2)(event), OK);
        raw.destroy(elsewhere);
        assert_eq!((raw.api.cuDevicePrimaryCtxRelease_v2)(1), OK);
    }
    raw.destroy(stream);
    raw.end();
}

#[test]
fn modules_and_kernels_are_found_by_name() {
    let raw = Raw::new();
    let module = module(&raw);
    let mut out = 0;
    // SAFETY: the places are valid for writes, images and names are strings.
    unsafe {
        assert_eq!((raw.api.cuModuleLoadData)(&mut out, c"int main()".as_ptr()), INVALID_PTX);
        assert_eq!((raw.api.cuModuleLoadData)(&mut out, c"\x7fELF".as_ptr()), INVALID_IMAGE);
        // Such containers begin with 16 bytes that name those behind them, of which there are 8 here.
        let unknown = [0xba55_ed50_u32, 0x0010_0001, 8, 0, 0, 0];
        assert_eq!((raw.api.cuModuleLoadData)(&mut out, unknown.as_ptr().cast()), INVALID_IMAGE);
        assert_eq!((raw.api.cuModuleGetFunction)(&mut out, module, c"absent".as_ptr()), NOT_FOUND);
        let ptx = c".version 7.0\n.visible .entry add_all(.param .u64 x)";
        let picky = made!(|out: *mut usize| (raw.api.cuModuleLoadData)(out, ptx.as_ptr()));
        assert_eq!((raw.api.cuModuleGetFunction)(&mut out, picky, c"hold".as_ptr()), NOT_FOUND, "not in the text");
        kernel(&raw, picky, c"add_all");
        let add = kernel(&raw, module, c"add_all");
        for (index, expected) in [(0, (0, 8)), (1, (8, 4)), (2, (12, 1))] {
            let (mut offset, mut size) = (0, 0);
            assert_eq!((raw.api.cuFuncGetParamInfo)(add, index, &mut offset, &mut size), OK);
            assert_eq!((offset, size), expected);
        }
        let (mut offset, mut size) = (0, 0);
        assert_eq!((raw.api.cuFuncGetParamInfo)(add, 3, &mut offset, &mut size), INVALID_VALUE);
        assert_eq!((raw.api.cuModuleUnload)(picky), OK);
        assert_eq!((raw.api.cuModuleUnload)(module), OK);
    }
    raw.end();
}

#[test]
fn kernels_run_on_the_device_with_copies_of_their_parameters() {
    let raw = Raw::new();
    let (stream, module) = (raw.stream(), module(&raw));
    let add = kernel(&raw, module, c"add_all");
    let memory = raw.alloc(16, stream);
    raw.upload(memory, &[1; 16], stream);
    hold_for(&raw, module, 20, stream);
    let (mut address, mut len, mut n) = (memory + 4, 8_u32, 3_u8);
    let params = [
        ptr::from_mut(&mut address).cast_const().cast(),
        ptr::from_mut(&mut len).cast_const().cast(),
        ptr::from_mut(&mut n).cast_const().cast(),
    ];
    assert_eq!(launch(&raw, add, 2, 2, stream, &params), OK);
    (address, len, n) = (0, 0, 0);
    assert_eq!(raw.read(memory, 16, stream), [[1; 4], [4; 4], [4; 4], [1; 4]].concat());
    assert_eq!((address, len, n), (0, 0, 0));
    for (grid, block) in [(0, 1), (1, 0), (1, 1025)] {
        assert_eq!(launch(&raw, add, grid, block, stream, &params), INVALID_VALUE, "{grid} {block}");
    }
    assert_eq!(launch(&raw, 0x77, 1, 1, stream, &params), INVALID_HANDLE);
    raw.free(memory, stream);
    // SAFETY: nothing of it runs any more.
    assert_eq!(unsafe { (raw.api.cuModuleUnload)(module) }, OK);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn a_kernel_that_faults_breaks_its_device_and_no_other() {
    let raw = Raw::new();
    let (stream, module) = (raw.stream(), module(&raw));
    let (address, len, n) = (0x10_usize, 8_u32, 3_u8);
    let params = [ptr::from_ref(&address).cast(), ptr::from_ref(&len).cast(), ptr::from_ref(&n).cast()];
    assert_eq!(launch(&raw, kernel(&raw, module, c"add_all"), 1, 1, stream, &params), OK);
    let mut out = 0;
    // SAFETY: all of it is refused.
    unsafe {
        assert_eq!((raw.api.cuStreamSynchronize)(stream), ILLEGAL_ADDRESS);
        assert_eq!((raw.api.cuMemAllocAsync)(&mut out, 8, stream), ILLEGAL_ADDRESS);
        assert_eq!((raw.api.cuMemAlloc_v2)(&mut out, 8), ILLEGAL_ADDRESS);
        let mut pinned = null();
        assert_eq!((raw.api.cuMemHostAlloc)(&mut pinned, 8, 0), ILLEGAL_ADDRESS);
        assert_eq!((raw.api.cuStreamDestroy_v2)(stream), ILLEGAL_ADDRESS);
    }
    let other = made!(|out: *mut usize| (raw.api.cuDevicePrimaryCtxRetain)(out, 1));
    // SAFETY: the context is alive.
    assert_eq!(unsafe { (raw.api.cuCtxSetCurrent)(other) }, OK);
    let stream = raw.stream();
    raw.synchronize(stream);
    raw.destroy(stream);
    // SAFETY: it was retained.
    assert_eq!(unsafe { (raw.api.cuDevicePrimaryCtxRelease_v2)(1) }, OK);
    assert_eq!(raw.control.report().sticky, [(0, ILLEGAL_ADDRESS)]);
    raw.control.reset();
    raw.end();
}
