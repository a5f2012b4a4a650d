//! Looking things up: functions by name, results by number.

use core::ffi::{CStr, c_char, c_void};

use tidelock_driver::code::Code;

use crate::{
    abi::{Export, Out, Text},
    context, copy, device, event, graph, memory, module, pointer, pool, stream,
};

macro_rules! results {
    ($($code:literal $name:literal $text:literal;)*) => {
        /// The results that have a name here, by number.
        const RESULTS: &[(u32, &CStr, &CStr)] = &[$(($code, $name, $text)),*];
    };
}

results! {
    0 c"CUDA_SUCCESS" c"no error";
    1 c"CUDA_ERROR_INVALID_VALUE" c"invalid argument";
    2 c"CUDA_ERROR_OUT_OF_MEMORY" c"out of memory";
    3 c"CUDA_ERROR_NOT_INITIALIZED" c"initialization error";
    4 c"CUDA_ERROR_DEINITIALIZED" c"driver shutting down";
    34 c"CUDA_ERROR_STUB_LIBRARY" c"CUDA driver is a stub library";
    100 c"CUDA_ERROR_NO_DEVICE" c"no CUDA-capable device is detected";
    101 c"CUDA_ERROR_INVALID_DEVICE" c"invalid device ordinal";
    200 c"CUDA_ERROR_INVALID_IMAGE" c"device kernel image is invalid";
    201 c"CUDA_ERROR_INVALID_CONTEXT" c"invalid device context";
    218 c"CUDA_ERROR_INVALID_PTX" c"a PTX JIT compilation failed";
    400 c"CUDA_ERROR_INVALID_HANDLE" c"invalid resource handle";
    500 c"CUDA_ERROR_NOT_FOUND" c"named symbol not found";
    600 c"CUDA_ERROR_NOT_READY" c"device not ready";
    700 c"CUDA_ERROR_ILLEGAL_ADDRESS" c"an illegal memory access was encountered";
    701 c"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES" c"too many resources requested for launch";
    709 c"CUDA_ERROR_CONTEXT_IS_DESTROYED" c"context is destroyed";
    712 c"CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED" c"part or all of the requested memory range is already mapped";
    713 c"CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED" c"pointer does not correspond to a registered memory region";
    719 c"CUDA_ERROR_LAUNCH_FAILED" c"unspecified launch failure";
    800 c"CUDA_ERROR_NOT_PERMITTED" c"operation not permitted";
    801 c"CUDA_ERROR_NOT_SUPPORTED" c"operation not supported";
    999 c"CUDA_ERROR_UNKNOWN" c"unknown error";
}

/// From which version of CUDA on the base name of a function means its second form, where that is
/// not the oldest supported.
const SINCE: &[(&str, i32)] = &[("cuMemcpyBatchAsync", 13_000)];

const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// All functions of the interface.
fn exports() -> impl Iterator<Item = &'static Export> {
    let groups = [
        context::EXPORTS,
        copy::EXPORTS,
        device::EXPORTS,
        event::EXPORTS,
        graph::EXPORTS,
        memory::EXPORTS,
        module::EXPORTS,
        pointer::EXPORTS,
        pool::EXPORTS,
        stream::EXPORTS,
        EXPORTS,
    ];
    groups.into_iter().flatten()
}

/// The function called `name`, exactly.
pub(crate) fn export(name: &str) -> Option<&'static Export> {
    exports().find(|export| export.name == name)
}

/// The function that `name` means in a version of CUDA.
fn address(name: &str, version: i32) -> Option<*const c_void> {
    let since = SINCE.iter().find(|(base, _)| *base == name).map_or(0, |(_, since)| *since);
    let second = export(&format!("{name}_v2")).filter(|_| version >= since);
    second.or_else(|| export(name)).or_else(|| export(&format!("{name}_v4"))).map(|export| (export.address)())
}

fn result(
    code: u32,
    out: &Out<*const c_char>,
    of: impl Fn(&(u32, &'static CStr, &'static CStr)) -> &'static CStr,
) -> Result<(), Code> {
    match RESULTS.iter().find(|row| row.0 == code) {
        Some(row) => out.put(of(row).as_ptr()),
        None => {
            out.put(core::ptr::null())?;
            Err(Code::INVALID_VALUE)
        }
    }
}

exports! {
    /// The name of a result.
    fn cuGetErrorName(code: u32, out: Out<*const c_char>) {
        result(code, &out, |row| row.1)
    }

    /// What a result means.
    fn cuGetErrorString(code: u32, out: Out<*const c_char>) {
        result(code, &out, |row| row.2)
    }

    /// A function by its base name and a version of CUDA.
    fn cuGetProcAddress(name: Text, out: Out<*const c_void>, version: i32, _flags: u64) {
        out.check()?;
        let found = address(&name.read()?, version);
        out.put(found.unwrap_or(core::ptr::null()))?;
        found.map(drop).ok_or(Code::NOT_FOUND)
    }

    /// A function by its base name and a version of CUDA, and whether there is one.
    fn cuGetProcAddress_v2(name: Text, out: Out<*const c_void>, version: i32, _flags: u64, status: Out<u32>) {
        out.check()?;
        let found = address(&name.read()?, version);
        status.put_if(if found.is_some() { FOUND } else { NOT_FOUND });
        out.put(found.unwrap_or(core::ptr::null()))?;
        found.map(drop).ok_or(Code::NOT_FOUND)
    }
}
