//! What an address is: device memory, page-locked host memory, or plain host memory.

use core::ffi::c_void;
use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock},
};

use tidelock_driver::code::Code;
use tidelock_simulator::{Gpu, Options};

use crate::{
    abi::{Handle, In, Out},
    context,
    driver::{Driver, driver, lock, note},
};

/// Page-locked memory belongs to the process, not to the driver's state: whoever holds it keeps it
/// whatever was reset.
static PINNED: Mutex<BTreeMap<usize, Pinned>> = Mutex::new(BTreeMap::new());

/// The lowest of the simulated GPU's device addresses, above everything a program can map.
const LOWEST_DEVICE: usize = 0x7f80_0000_0000_0000;

/// The bytes of a page.
const PAGE: usize = 4096;

/// Portable, mapped, write-combined.
const HOST_FLAGS: u32 = 7;

/// What the driver answers for memory that is registered already, and for memory that is not.
const ALREADY_REGISTERED: Code = Code(712);
const NOT_REGISTERED: Code = Code(713);

/// Page-locked host memory.
#[derive(Clone, Copy, Debug)]
struct Pinned {
    bytes: usize,
    context: Handle,
    device: usize,
    /// Whether it was the program's before.
    registered: bool,
}

/// What an address is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
    pub(crate) context: Handle,
    pub(crate) device: usize,
    pub(crate) pool: Option<Handle>,
    on_device: bool,
}

/// The simulated GPU that the process's page-locked memory comes from.
fn pinned_engine() -> &'static Gpu {
    static ENGINE: OnceLock<Gpu> = OnceLock::new();
    ENGINE.get_or_init(|| Gpu::new(Options::quick()))
}

pub(crate) fn is_device(address: usize) -> bool {
    LOWEST_DEVICE <= address && address <= isize::MAX.cast_unsigned()
}

/// Whether the memory is unknown to the driver.
pub(crate) fn is_pageable(address: usize) -> bool {
    !is_device(address) && pinned_at(address).is_none()
}

/// Whether the host memory was registered, all of it.
pub(crate) fn is_registered(address: usize, bytes: usize) -> bool {
    let end = address.saturating_add(bytes);
    pinned_at(address).is_some_and(|(start, pinned)| pinned.registered && end <= start.saturating_add(pinned.bytes))
}

/// How many pieces of host memory are page-locked: of the program's if `registered`, or else of the
/// driver's.
pub(crate) fn pinned_count(registered: bool) -> usize {
    lock(&PINNED).values().filter(|pinned| pinned.registered == registered).count()
}

/// What lies at `address`, unless it is plain host memory or nothing.
pub(crate) fn place(driver: &Driver, address: usize) -> Option<Place> {
    if let Some((start, found)) = driver.memory.covering(address) {
        let (bytes, context, device, pool) = (found.bytes, found.context, found.device, found.pool);
        return Some(Place { start, bytes, context, device, pool, on_device: true });
    }
    let (start, found) = pinned_at(address)?;
    let (bytes, context, device) = (found.bytes, found.context, found.device);
    Some(Place { start, bytes, context, device, pool: None, on_device: false })
}

fn pinned_at(address: usize) -> Option<(usize, Pinned)> {
    let pinned = lock(&PINNED);
    let (start, found) = pinned.range(..=address).next_back()?;
    (address < start.saturating_add(found.bytes)).then_some((*start, *found))
}

fn forget(call: &str, address: usize, registered: bool) -> Result<Pinned, Code> {
    let mut pinned = lock(&PINNED);
    match pinned.get(&address) {
        Some(found) if found.registered == registered => pinned.remove(&address).ok_or(Code::INVALID_VALUE),
        // An answer, and no harm done: it is how a program finds out.
        None if registered => Err(NOT_REGISTERED),
        _ => {
            drop(pinned);
            note(format!("{call}: {address:#x} is no memory that it can end"));
            Err(if registered { NOT_REGISTERED } else { Code::INVALID_VALUE })
        }
    }
}

/// Writes an attribute of a pointer.
fn attribute(driver: &Driver, wanted: u32, address: usize, out: &Out<c_void>) -> Result<(), Code> {
    let place = place(driver, address).ok_or(Code::INVALID_VALUE)?;
    let number = |value: i32| Out::write(out, value);
    let word = |value: usize| Out::write(out, value);
    match wanted {
        1 => word(place.context),
        // Host or device memory.
        2 => number(if place.on_device { 2 } else { 1 }),
        // The address for devices, and for the host.
        3 => word(address),
        4 if place.on_device => Err(Code::INVALID_VALUE),
        4 => word(address),
        7 => word(place.start),
        // Managed.
        8 => Out::write(out, 0_u8),
        9 => number(i32::try_from(place.device).unwrap_or(0)),
        11 => word(place.start),
        12 => word(place.bytes),
        // Mapped.
        13 => Out::write(out, 1_u8),
        17 => word(place.pool.unwrap_or(0)),
        _ => Err(Code::INVALID_VALUE),
    }
}

impl Out<c_void> {
    /// Writes a value whose type the caller named by a number.
    fn write<T>(&self, value: T) -> Result<(), Code> {
        self.check()?;
        // SAFETY: the caller of the interface promises room for the type of the attribute it names.
        unsafe { self.raw().cast::<T>().write_unaligned(value) };
        Ok(())
    }
}

exports! {
    /// Allocates page-locked host memory.
    fn cuMemHostAlloc(out: Out<usize>, bytes: usize, flags: u32) {
        out.check()?;
        if flags > HOST_FLAGS {
            return Err(Code::INVALID_VALUE);
        }
        let (device, _) = driver().current()?;
        let (context, _) = context::current()?;
        let memory = pinned_engine().mem_host_alloc(bytes)?;
        let address = memory.as_ptr().expose_provenance();
        lock(&PINNED).insert(address, Pinned { bytes, context, device, registered: false });
        out.put(address)
    }

    /// Frees page-locked host memory, without waiting for anybody.
    fn cuMemFreeHost(memory: *mut u8) {
        context::current()?;
        let found = forget("cuMemFreeHost", memory.addr(), false)?;
        // SAFETY: it is memory of `cuMemHostAlloc` that was not freed; the caller promises that
        // it is not used any more.
        let freed = unsafe { pinned_engine().mem_host_free(memory) };
        if freed.is_err() {
            lock(&PINNED).insert(memory.addr(), found);
        }
        freed
    }

    /// Page-locks memory of the program.
    fn cuMemHostRegister_v2(memory: *mut u8, bytes: usize, _flags: u32) {
        let (context, device) = context::current()?;
        let address = memory.addr();
        let end = address.checked_add(bytes).filter(|end| address != 0 && *end > address).ok_or(Code::INVALID_VALUE)?;
        let mut pinned = lock(&PINNED);
        // Whole pages are locked: ranges that share one meet, though they do not touch.
        let (first, behind) = (address & !(PAGE - 1), end.checked_next_multiple_of(PAGE).ok_or(Code::INVALID_VALUE)?);
        let before = pinned.range(..behind).next_back();
        if before.is_some_and(|(start, found)| {
            start.saturating_add(found.bytes).checked_next_multiple_of(PAGE).unwrap_or(usize::MAX) > first
        }) {
            return Err(ALREADY_REGISTERED);
        }
        pinned.insert(address, Pinned { bytes, context, device, registered: true });
        Ok(())
    }

    /// Ends the registration of memory of the program.
    fn cuMemHostUnregister(memory: *mut u8) {
        context::current()?;
        forget("cuMemHostUnregister", memory.addr(), true).map(drop)
    }

    /// The address that devices use for page-locked memory: the same.
    fn cuMemHostGetDevicePointer_v2(out: Out<usize>, memory: *mut u8, flags: u32) {
        out.check()?;
        context::current()?;
        if flags != 0 || pinned_at(memory.addr()).is_none() {
            return Err(Code::INVALID_VALUE);
        }
        out.put(memory.addr())
    }

    /// One attribute of an address; plain host memory has none.
    fn cuPointerGetAttribute(out: Out<c_void>, wanted: u32, address: usize) {
        attribute(&driver(), wanted, address, &out)
    }

    /// Several attributes of an address; of plain host memory all are 0.
    fn cuPointerGetAttributes(count: u32, wanted: In<u32>, out: In<Out<c_void>>, address: usize) {
        let count = usize::try_from(count).map_err(|_| Code::INVALID_VALUE)?;
        let driver = driver();
        for (wanted, out) in wanted.all(count)?.iter().zip(out.all(count)?) {
            let written = attribute(&driver, *wanted, address, out);
            match (written, *wanted) {
                (Ok(()), _) => {}
                (Err(_), 2) => out.write(0_i32)?,
                // No device.
                (Err(_), 9) => out.write(-2_i32)?,
                (Err(_), 8 | 13) => out.write(0_u8)?,
                (Err(_), 1 | 3 | 4 | 7 | 11 | 12 | 17) => out.write(0_usize)?,
                (Err(code), _) => return Err(code),
            }
        }
        Ok(())
    }

    /// The allocation around a device address.
    fn cuMemGetAddressRange_v2(start: Out<usize>, bytes: Out<usize>, address: usize) {
        context::current()?;
        let place = place(&driver(), address).ok_or(Code::NOT_FOUND)?;
        start.put_if(place.start);
        bytes.put_if(place.bytes);
        Ok(())
    }
}
