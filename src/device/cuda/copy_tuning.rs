//! Where one way to carry out a batch becomes better than another.

#![forbid(unsafe_code)]

use super::copy::{LARGEST_GRAPH, MOST_PAYLOAD, MOST_STAGED};

/// Where one way to carry out a batch becomes better than another: numbers of bytes, which change how long a batch takes
/// and never what it does.
///
/// The default is what was measured on an H200; [`Device::calibrate`](super::Device::calibrate) measures on the device
/// at hand, and [`Device::with_copy_tuning`](super::Device::with_copy_tuning) takes any numbers. They are about the copy
/// kernels, and mean nothing where those are not used.
///
/// ```no_run
/// use tidelock::cuda;
///
/// let device = cuda::Device::open(0)?;
/// let measured = device.calibrate()?;
/// let device = device.with_copy_tuning(measured);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CopyTuning {
    /// Copies between host and device from so many bytes on are made by a copy engine, one by one, and shorter ones by the
    /// kernel with everything else. 256 KiB by default; `usize::MAX`: all by the kernel.
    pub copy_engine: usize,
    /// A batch with at most so many bytes in plain host memory is one with everything else: these bytes are copied to
    /// page-locked memory during the call. Beyond them, what is in plain host memory is the driver's. 32 KiB by default; 0:
    /// never; what is above 65,520 means 65,520.
    pub staged: usize,
    /// A batch with at most so many bytes in plain host memory has them in the parameters of its launch and not in
    /// page-locked memory, if one launch with at most 4352 bytes of parameters takes all of it. 1024 by default, which is the most; 0: never.
    pub payload: usize,
    /// A batch of thousands of rows, or of copies of different lengths, on an idle stream is launched in two parts, so that the
    /// device is busy with the first while the host describes the second, if it has twice so many bytes: the first has about
    /// so many then, or more (fewer if copies have less than 16 bytes). 12 MiB by default; `usize::MAX`: never.
    pub part: usize,
    /// Batches on an idle stream are launched as graphs up to descriptions of so many bytes, and plainly beyond. 4352 by
    /// default, which is the most; 0: never.
    pub graph: usize,
}

impl Default for CopyTuning {
    #[inline]
    fn default() -> Self {
        CopyTuning {
            copy_engine: 256 << 10,
            staged: 32 << 10,
            payload: MOST_PAYLOAD,
            part: 12 << 20,
            graph: LARGEST_GRAPH,
        }
    }
}

static_assertions::const_assert!(MOST_STAGED == 65_520);
static_assertions::const_assert!(MOST_PAYLOAD == 1024);
static_assertions::const_assert!(LARGEST_GRAPH == 4352);
