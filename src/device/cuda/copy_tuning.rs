//! The sizes at which one way to carry out a batch becomes better than another.

#![forbid(unsafe_code)]

use super::copy::{LARGEST_GRAPH, MOST_PAYLOAD, MOST_STAGED};

/// The sizes, in bytes, at which one way to carry out a batch becomes better than another. They
/// change how long a batch takes, never what it does.
///
/// The default was measured on an H200. [`Device::calibrate`](super::Device::calibrate) measures on
/// the device at hand, and [`Device::with_copy_tuning`](super::Device::with_copy_tuning) takes any
/// numbers. They apply to the copy kernels, and have no effect where those are not used.
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
    /// The shortest copy between host and device that a copy engine carries out; the kernel takes
    /// shorter ones with the rest of the batch. 256 KiB by default; with `usize::MAX` the kernel
    /// takes all.
    pub copy_engine: usize,
    /// The most bytes in plain host memory that a batch copies to page-locked memory during the
    /// call, so that the kernel reads them from there. If there are more, the driver copies what is
    /// in plain host memory. 32 KiB by default; 0 is never; clamped to 65,520.
    pub staged: usize,
    /// The most bytes in plain host memory that are copied into the parameters of the launch,
    /// instead of page-locked memory, if one launch with at most 4352 bytes of parameters takes the
    /// whole batch. 1024 by default, which is also the limit; 0 is never.
    pub payload: usize,
    /// The least bytes of the first part of a batch that is launched in two parts. A batch of
    /// thousands of rows, or of copies of different lengths, on an idle stream has two parts if it
    /// has at least twice as many bytes: the device works on the first part while the host
    /// describes the second. (The first part has fewer bytes if copies have less than 16.) 12 MiB
    /// by default; `usize::MAX` is never.
    pub part: usize,
    /// The longest description, in bytes, with which a batch on an idle stream is launched as a
    /// graph. 4352 by default, which is also the limit; 0 is never.
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
