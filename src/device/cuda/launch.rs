//! Launching functions of modules.

use core::{
    ffi::{c_uint, c_void},
    ptr,
};

use tidelock_driver::{Launch, RawArgs, RawStream};

use super::{Cuda, CudaStream, module::Function};
use crate::{error::Result, stream::Ctx};

/// How many threads a kernel is launched with, and how much shared memory they get beside what the
/// kernel declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Blocks in each direction.
    pub blocks: [u32; 3],
    /// Threads of a block in each direction.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory for each block.
    pub shared_bytes: u32,
}

impl Grid {
    /// `blocks` of `threads` each, without dynamic shared memory.
    #[inline]
    #[must_use]
    pub const fn new(blocks: [u32; 3], threads: [u32; 3]) -> Self {
        Grid { blocks, threads, shared_bytes: 0 }
    }

    /// At least one thread for each of `elements`, in blocks of 256; no block if there are no
    /// elements.
    ///
    /// Clamped to the largest grid (2^31 - 1 blocks), so kernels loop with the size of the grid as
    /// the step.
    #[inline]
    #[must_use]
    pub const fn over(elements: usize) -> Self {
        const THREADS: u32 = 256;
        const MOST: usize = 0x7fff_ffff;
        let blocks = elements.div_ceil(256);
        let blocks = if blocks > MOST { MOST } else { blocks };
        // The four low bytes: `blocks` has no others.
        let [a, b, c, d, ..] = blocks.to_le_bytes();
        Grid::new([u32::from_le_bytes([a, b, c, d]), 1, 1], [THREADS, 1, 1])
    }

    /// The same with `bytes` of dynamic shared memory for each block.
    #[inline]
    #[must_use]
    pub const fn shared_bytes(mut self, bytes: u32) -> Self {
        self.shared_bytes = bytes;
        self
    }

    fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }
}

// SAFETY:
// - L1: a launch is one call of the driver, on the stream; a refused one has done nothing.
// - L3: number and sizes of the parameters are compared before the call, and the driver reads them
//   during it.
// - L6: a grid without blocks is not launched.
unsafe impl<P: RawArgs> Launch<(&Function, Grid), P> for CudaStream {
    #[inline]
    unsafe fn launch(&self, (function, grid): (&Function, Grid), args: P) -> Result<()> {
        function.takes(self.device(), P::SIZES)?;
        if grid.is_empty() {
            return Ok(());
        }
        let Grid { blocks: [x, y, z], threads: [i, j, k], shared_bytes } = grid;
        args.with_params(|params| {
            let launch = self.device().context.driver.table.launch_kernel;
            let (f, stream) = (function.raw(), self.raw());
            // SAFETY:
            // - Function and stream are alive and of one context.
            // - `params` has as many entries as the kernel has parameters, each pointing to a value
            //   of the parameter's size; they are read during the call.
            // - The caller promises the rest (K1 to K3).
            Ok(self.on_stream("cuLaunchKernel", || unsafe {
                launch(f, x, y, z, i, j, k, shared_bytes, stream, params.as_ptr(), ptr::null())
            })?)
        })
    }

    #[inline]
    fn runs((_, grid): &(&Function, Grid)) -> bool {
        !grid.is_empty()
    }
}

/// On a CUDA stream.
impl<A> Ctx<'_, Cuda<'_>, A> {
    /// The `CUstream`, for libraries that enqueue on it. It is valid as long as the stream's
    /// closure runs.
    ///
    /// Work that is enqueued on it must meet the conditions of
    /// [`launch_kernel`](Ctx::launch_kernel). It must not be destroyed, and no capture of it may be
    /// left behind.
    ///
    /// # Errors
    /// If the stream is poisoned.
    #[inline]
    pub fn raw_stream(&self) -> Result<*mut c_void> {
        let stream = self.handle().with_raw(|raw| Ok(raw.raw()))?;
        self.handle().expose();
        Ok(stream)
    }
}

// The driver takes a grid as it is.
static_assertions::assert_type_eq_all!(u32, c_uint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_covers_its_elements() {
        assert_eq!(Grid::over(0).blocks, [0, 1, 1]);
        assert!(Grid::over(0).is_empty());
        assert_eq!(Grid::over(1).blocks, [1, 1, 1]);
        assert_eq!(Grid::over(256).blocks, [1, 1, 1]);
        assert_eq!(Grid::over(257).blocks, [2, 1, 1]);
        assert_eq!(Grid::over(256 * 65_537).blocks, [65_537, 1, 1]);
        assert_eq!(Grid::over(usize::MAX).blocks, [0x7fff_ffff, 1, 1]);
        assert_eq!(
            Grid::over(257).shared_bytes(64),
            Grid { blocks: [2, 1, 1], threads: [256, 1, 1], shared_bytes: 64 }
        );
    }
}
