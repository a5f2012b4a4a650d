//! How a test controls and reads the stand-in: functions beside the driver's interface, which are
//! not logged and never fail on request. A test finds them by name in the library that it opened.

use core::{ffi::c_char, ptr};

use tidelock_driver::code::Code;

use crate::{
    abi::{Answer, In, Text},
    driver,
    fault_injection::{self, Fault},
    lookup, module, settings,
};

/// The bit of `tl_fail` that makes all later calls fail too.
const ONWARDS: u32 = 1;
/// The bit of `tl_fail` that makes failing calls release what they were asked to release.
const RELEASES: u32 = 2;

fn answer(result: Result<(), Code>) -> Answer {
    result.map_or_else(|code| code.0, |()| 0)
}

/// Makes the devices anew, as they are set to be, and forgets the log, the fault and the findings.
///
/// Contexts that are retained, loaded modules, page-locked memory and registered kernels stay: a
/// library keeps them for the process.
#[unsafe(no_mangle)]
pub extern "C" fn tl_reset() {
    fault_injection::reset();
    driver::reset();
}

/// Sets a setting by its name, see `settings.rs`; what the devices are made with holds from the
/// next reset on. Answers 1 if there is no such setting.
///
/// # Safety
/// - `name` is a string that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_set(name: Text, value: u64) -> Answer {
    answer(name.read().and_then(|name| settings::set(&name, value)))
}

/// Sets all settings to what they were at first.
#[unsafe(no_mangle)]
pub extern "C" fn tl_defaults() {
    settings::restore();
}

/// Makes the nth call from now on fail with `code`: of the function called `name`, or of all if
/// that is empty.
///
/// `how` is a sum: 1 if the later ones fail too, 2 if calls that release something do so before
/// they fail. Answers 1 if there is no such function.
///
/// # Safety
/// - `name` is a string that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_fail(name: Text, nth: u64, how: u32, code: u32) -> Answer {
    answer(fault(name, nth, how, code).map(|fault| _ = fault_injection::arm(Some(fault))))
}

/// Makes calls fail behind the first one that fails as [`tl_fail`] said, counted from there; the
/// arguments are the same.
///
/// # Safety
/// - `name` is a string that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_fail_then(name: Text, nth: u64, how: u32, code: u32) -> Answer {
    answer(fault(name, nth, how, code).map(fault_injection::arm_behind))
}

fn fault(name: Text, nth: u64, how: u32, code: u32) -> Result<Fault, Code> {
    let name = name.read()?;
    let export = lookup::export(&name).map(|export| export.name);
    if export.is_none() && !name.is_empty() {
        return Err(Code::INVALID_VALUE);
    }
    let (onwards, releases) = (how & ONWARDS != 0, how & RELEASES != 0);
    Ok(Fault { name: export, nth, onwards, releases, code })
}

/// Makes no more calls fail; answers how many calls were made since, of those that `tl_fail` named.
#[unsafe(no_mangle)]
pub extern "C" fn tl_disarm() -> u64 {
    fault_injection::arm(None)
}

/// How many calls were made since the last reset.
#[unsafe(no_mangle)]
pub extern "C" fn tl_calls() -> u64 {
    fault_injection::calls()
}

/// Writes the names of the calls so far, a line each, as [`tl_report`] does; `clear` other than 0
/// empties the log.
///
/// # Safety
/// - `buffer` is valid for writes of `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_log(buffer: *mut c_char, room: usize, clear: u32) -> usize {
    // SAFETY: promised by the caller.
    let bytes = unsafe { write(&fault_injection::log(false).join("\n"), buffer, room) };
    if clear != 0 && bytes <= room {
        fault_injection::log(true);
    }
    bytes
}

/// Writes the names of the copy kernels that were enqueued, by themselves or in graphs, as
/// [`tl_log`] those of the calls.
///
/// # Safety
/// - `buffer` is valid for writes of `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_kernels(buffer: *mut c_char, room: usize, clear: u32) -> usize {
    // SAFETY: promised by the caller.
    let bytes = unsafe { write(&fault_injection::kernels(false).join("\n"), buffer, room) };
    if clear != 0 && bytes <= room {
        fault_injection::kernels(true);
    }
    bytes
}

/// Waits until all that was enqueued is done.
#[unsafe(no_mangle)]
pub extern "C" fn tl_settle() {
    driver::driver().settle();
}

/// Writes what there is and what went wrong, a line each: `live KIND COUNT`, `sticky DEVICE CODE`,
/// `finding WORDS`. Answers the bytes of the text, of which it writes nothing if there is not room
/// for all.
///
/// # Safety
/// - `buffer` is valid for writes of `room` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_report(buffer: *mut c_char, room: usize) -> usize {
    // SAFETY: promised by the caller.
    unsafe { write(&driver::driver().report(), buffer, room) }
}

/// Makes `entry` the kernel called `name`, with `count` parameters of `sizes` bytes. Answers 1 for
/// a null pointer.
///
/// # Safety
/// - `name` is a string that ends in a zero byte; `sizes` has `count` entries.
/// - `entry` may be called on any thread with a launch whose parameters have these sizes, and does
///   not unwind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tl_register_kernel(
    name: Text,
    entry: Option<module::Entry>,
    sizes: In<usize>,
    count: usize,
) -> Answer {
    let register = || {
        let sizes = if count == 0 && sizes.is_null() { &[] } else { sizes.all(count)? };
        module::register(name.read()?, entry.ok_or(Code::INVALID_VALUE)?, sizes);
        Ok(())
    };
    answer(register())
}

/// # Safety
/// - `buffer` is valid for writes of `room` bytes.
unsafe fn write(text: &str, buffer: *mut c_char, room: usize) -> usize {
    if text.len() <= room && !buffer.is_null() {
        // SAFETY: promised by the caller, and there is room.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len()) };
    }
    text.len()
}
