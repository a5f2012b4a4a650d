//! The driver and its devices.

use core::ffi::c_char;

use tidelock_driver::code::Code;

use crate::{
    abi::Out,
    context::ordinal,
    driver::driver,
    settings::{Settings, settings},
};

/// The name of a device, without its ordinal.
const NAME: &[u8] = b"tidelock stand-in";

/// A `CUdevice_attribute`; those that the library does not read are 0.
fn attribute(attribute: u32, settings: &Settings) -> Result<i32, Code> {
    Ok(match attribute {
        // Threads of a block, and the block in each direction.
        1..=3 => 1024,
        4 => 64,
        // The grid in each direction.
        5 => i32::MAX,
        6 | 7 => 65_535,
        // Shared memory of a block, and what it may be raised to.
        8 => 49_152,
        97 => 232_448,
        // Threads of a warp; multiprocessors; the clock and the memory bus.
        10 => 32,
        16 => 132,
        // Pinned memory can be mapped, and host memory be registered.
        19 | 91 => 1,
        41 => i32::from(settings.unified_addressing != 0),
        75 => i32::try_from(settings.compute_major).unwrap_or(0),
        76 => i32::try_from(settings.compute_minor).unwrap_or(0),
        115 => i32::from(settings.memory_pools != 0),
        9..=200 => 0,
        _ => return Err(Code::INVALID_VALUE),
    })
}

exports! {
    /// The version of CUDA that the driver speaks.
    fn cuDriverGetVersion(out: Out<i32>) {
        out.put(i32::try_from(settings().driver_version).unwrap_or(0))
    }

    /// How many devices there are.
    fn cuDeviceGetCount(out: Out<i32>) {
        out.put(i32::try_from(driver().count()).unwrap_or(0))
    }

    /// A device by its ordinal.
    fn cuDeviceGet(out: Out<i32>, device: i32) {
        out.check()?;
        ordinal(device)?;
        out.put(device)
    }

    /// What a device can do.
    fn cuDeviceGetAttribute(out: Out<i32>, wanted: u32, device: i32) {
        out.check()?;
        ordinal(device)?;
        out.put(attribute(wanted, &settings())?)
    }

    /// The name of a device, cut off where the buffer ends.
    fn cuDeviceGetName(out: Out<c_char>, bytes: i32, device: i32) {
        out.check()?;
        ordinal(device)?;
        let room = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_sub(1)).ok_or(Code::INVALID_VALUE)?;
        let shown = NAME.get(..room.min(NAME.len())).unwrap_or_default();
        // SAFETY: the caller's buffer has room for one byte more than `shown` has.
        unsafe { core::ptr::copy_nonoverlapping(shown.as_ptr(), out.raw().cast(), shown.len()) };
        // SAFETY: as above.
        let end = unsafe { out.raw().add(shown.len()) };
        // SAFETY: as above: the last byte of the room.
        unsafe { end.write(0) };
        Ok(())
    }

    /// The memory of a device.
    fn cuDeviceTotalMem_v2(out: Out<usize>, device: i32) {
        out.check()?;
        let (_, total) = driver().device(ordinal(device)?)?.gpu.mem_get_info()?;
        out.put(total)
    }

    /// Peer access does not exist.
    fn cuDeviceCanAccessPeer(out: Out<i32>, device: i32, peer: i32) {
        out.check()?;
        ordinal(device)?;
        ordinal(peer)?;
        out.put(0)
    }

    /// The unique id of a device.
    fn cuDeviceGetUuid_v2(out: Out<[u8; 16]>, device: i32) {
        out.check()?;
        let mut uuid = *b"tidelock stand-i";
        if let (Some(last), Ok(id)) = (uuid.last_mut(), u8::try_from(ordinal(device)?)) {
            *last = id;
        }
        out.put(uuid)
    }
}
