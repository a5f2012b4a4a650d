//! Memory pools.

use core::ffi::c_void;

use tidelock_driver::code::Code;

use crate::{
    abi::{Handle, In, Out},
    context::ordinal,
    driver::{Pool, driver},
    settings::settings,
};

/// `CUmemPoolProps`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Props {
    alloc_type: u32,
    handle_types: u32,
    location: Location,
    security: usize,
    reserved: [u64; 8],
}

/// `CUmemLocation`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Location {
    kind: u32,
    id: i32,
}

/// `CUmemAccessDesc`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Access {
    location: Location,
    flags: u32,
}

const PINNED: u32 = 1;
const DEVICE: u32 = 1;
/// The attribute that can be set to any number; the first three are switches for reuse that change
/// nothing here.
const RELEASE_THRESHOLD: u32 = 4;

/// A number that an attribute has in place of a typed value.
fn number(value: &Out<c_void>) -> Result<u64, Code> {
    value.check()?;
    // SAFETY: the caller promises that the attribute's value, a 64-bit number, is there.
    Ok(unsafe { value.raw().cast::<u64>().read_unaligned() })
}

/// # Errors
/// `NOT_SUPPORTED` where devices have no pools.
pub(crate) fn supported() -> Result<(), Code> {
    if settings().memory_pools == 0 { Err(Code::NOT_SUPPORTED) } else { Ok(()) }
}

exports! {
    /// The pool that a device always has, if it has any.
    fn cuDeviceGetDefaultMemPool(out: Out<Handle>, device: i32) {
        out.check()?;
        supported()?;
        let driver = driver();
        let device = driver.device(ordinal(device)?)?;
        device.gpu.default_pool()?;
        out.put(device.default_pool)
    }

    /// The pool that a device allocates from: always the default one.
    fn cuDeviceGetMemPool(out: Out<Handle>, device: i32) {
        out.check()?;
        supported()?;
        out.put(driver().device(ordinal(device)?)?.default_pool)
    }

    /// Creates a pool of device memory.
    fn cuMemPoolCreate(out: Out<Handle>, props: In<Props>) {
        out.check()?;
        supported()?;
        let props = props.first()?;
        if props.alloc_type != PINNED || props.location.kind != DEVICE || props.reserved != [0; 8] {
            return Err(Code::INVALID_VALUE);
        }
        if props.handle_types != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let device = ordinal(props.location.id)?;
        let driver = driver();
        let id = driver.device(device)?.gpu.pool_create(0)?;
        out.put(driver.pools.insert(Pool { device, id, is_default: false, threshold: 0 }))
    }

    /// Destroys a pool; memory from it stays valid until it is freed.
    fn cuMemPoolDestroy(pool: Handle) {
        let driver = driver();
        let found = driver.pools.get(pool)?;
        if found.is_default {
            return Err(Code::INVALID_VALUE);
        }
        driver.device(found.device)?.gpu.pool_destroy(found.id)?;
        driver.pools.remove(pool).map(drop)
    }

    /// Gives cached memory of a pool back.
    fn cuMemPoolTrimTo(pool: Handle, keep: usize) {
        let driver = driver();
        let found = driver.pools.get(pool)?;
        driver.device(found.device)?.gpu.pool_trim_to(found.id, keep)
    }

    /// Sets an attribute of a pool.
    fn cuMemPoolSetAttribute(pool: Handle, attribute: u32, value: Out<c_void>) {
        value.check()?;
        let driver = driver();
        let found = driver.pools.get(pool)?;
        match attribute {
            1..=3 => Ok(()),
            RELEASE_THRESHOLD => {
                let threshold = number(&value)?;
                driver.device(found.device)?.gpu.pool_set_threshold(found.id, threshold)?;
                driver.pools.change(pool, |pool| pool.threshold = threshold);
                Ok(())
            }
            _ => Err(Code::INVALID_VALUE),
        }
    }

    /// Reads an attribute of a pool.
    fn cuMemPoolGetAttribute(pool: Handle, attribute: u32, value: Out<c_void>) {
        value.check()?;
        let driver = driver();
        let found = driver.pools.get(pool)?;
        let usage = driver.device(found.device)?.gpu.pool_usage(found.id)?;
        let answer = match attribute {
            1..=3 => {
                // SAFETY: the caller promises room for the attribute's value, a 32-bit number.
                unsafe { value.raw().cast::<i32>().write_unaligned(1) };
                return Ok(());
            }
            RELEASE_THRESHOLD => found.threshold,
            5 => u64::try_from(usage.reserved).unwrap_or(u64::MAX),
            6 => u64::try_from(usage.reserved_high).unwrap_or(u64::MAX),
            7 => u64::try_from(usage.used).unwrap_or(u64::MAX),
            8 => u64::try_from(usage.used_high).unwrap_or(u64::MAX),
            _ => return Err(Code::INVALID_VALUE),
        };
        // SAFETY: the caller promises room for the attribute's value, a 64-bit number.
        unsafe { value.raw().cast::<u64>().write_unaligned(answer) };
        Ok(())
    }

    /// Gives devices access to a pool: its own has it already, and no other can.
    fn cuMemPoolSetAccess(pool: Handle, access: In<Access>, count: usize) {
        let found = driver().pools.get(pool)?;
        for access in access.all(count)? {
            let device = ordinal(access.location.id)?;
            if access.location.kind != DEVICE || device != found.device || access.flags != 3 {
                return Err(Code::INVALID_DEVICE);
            }
        }
        Ok(())
    }
}
