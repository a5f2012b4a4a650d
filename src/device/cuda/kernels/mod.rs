//! The images of the copy kernels: choosing one for a device, and loading it. build.sh makes them.

use core::ops::Range;

use tidelock_driver::Code;

use super::{
    context::Context,
    error::{ModuleError, NoCopyKernels},
    image::Image,
};

mod images;

/// The least compute capability that the kernels run on, and that the PTX is for.
const OLDEST: (u32, u32) = (8, 0);
const PTX_FROM: (u32, u32) = (9, 0);

/// Machine code or PTX, compressed with zstd in a container that the driver loads.
struct Packed {
    /// The name of the file in this folder.
    file: &'static str,
    fatbin: &'static [u8],
    /// FNV-1a of `fatbin`.
    hash: u64,
    /// Where the zstd frame is in `fatbin`.
    frame: Range<usize>,
    /// The bytes that the frame unpacks to.
    unpacked: usize,
}

/// The driver reads the header of a container as 8-byte words.
#[repr(C, align(16))]
struct Aligned<const N: usize>([u8; N]);

/// Loads the copy kernels for a device of this compute capability into `context`.
///
/// Cost: a few ms for machine code; the driver's compiler runs if there is only PTX for the device,
/// and keeps what it compiled on disk.
///
/// # Errors
/// Why there are no kernels.
pub(super) fn load(context: Context, compute_capability: (u32, u32)) -> Result<Image, NoCopyKernels> {
    let packed = choose(compute_capability).ok_or(NoCopyKernels::Capability { found: compute_capability })?;
    match packed.load(context) {
        // A device of an embedded system can refuse the machine code of its major version.
        Err(NoCopyKernels::Code(ModuleError { error, .. }))
            if error.code == Code::NO_BINARY_FOR_GPU && compute_capability >= PTX_FROM =>
        {
            images::COMPUTE_90.load(context)
        }
        answer => answer,
    }
}

/// The image for a compute capability. Machine code runs on the later devices of its major version.
fn choose(compute_capability: (u32, u32)) -> Option<&'static Packed> {
    match compute_capability {
        older if older < OLDEST => None,
        (8, _) => Some(&images::SM_80),
        (9, _) => Some(&images::SM_90),
        (10, _) => Some(&images::SM_100),
        (12, _) => Some(&images::SM_120),
        _ => Some(&images::COMPUTE_90),
    }
}

impl Packed {
    fn load(&self, context: Context) -> Result<Image, NoCopyKernels> {
        self.check()?;
        // Drivers unpack zstd from CUDA 12.4 on (nvcc manual 12.9, `--compress-mode`), the version
        // that has `cuFuncGetParamInfo`.
        let unpacked = if context.driver.param_info.is_some() { None } else { Some(self.unpack()?) };
        // SAFETY:
        // - The image is complete: its hash is the one of the file that build.sh made, and what was
        //   unpacked has the length that the file names. A zero byte follows it, which ends PTX.
        Ok(unsafe { Image::load(context, unpacked.as_deref().unwrap_or(self.fatbin)) }?)
    }

    /// # Errors
    /// If the image is not the one that build.sh made.
    fn check(&self) -> Result<(), NoCopyKernels> {
        if fnv(self.fatbin) == self.hash { Ok(()) } else { Err(self.damaged()) }
    }

    /// The machine code or the text of the PTX, and a zero byte.
    ///
    /// # Errors
    /// If the image is not the one that build.sh made.
    fn unpack(&self) -> Result<Vec<u8>, NoCopyKernels> {
        let frame = self.fatbin.get(self.frame.clone()).ok_or_else(|| self.damaged())?;
        let mut unpacked = vec![0; self.unpacked];
        let length = ruzstd::decoding::FrameDecoder::new().decode_all(frame, &mut unpacked);
        if !length.is_ok_and(|length| length == self.unpacked) {
            return Err(self.damaged());
        }
        unpacked.push(0);
        Ok(unpacked)
    }

    #[cold]
    fn damaged(&self) -> NoCopyKernels {
        NoCopyKernels::Image { file: self.file }
    }
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests;
