//! A simulated device that reports races when it is dropped.

use std::{ops::Deref, thread};

use tidelock::sim;

/// A simulated device that must end without a race: its drop asserts that the race detector has
/// found none.
///
/// It dereferences to the device. What happens on the device after the drop is not asserted: for
/// memory that outlives it, call [`assert_ordered`] on a clone of the simulated GPU.
#[derive(Debug)]
pub struct Checked {
    device: sim::Device,
}

impl Checked {
    /// A device with the default options and `seed`.
    pub fn new(seed: u64) -> Checked {
        Checked::with(sim::Options::default().seed(seed))
    }

    /// A device with `options` and the race detector on.
    pub fn with(options: sim::Options) -> Checked {
        Checked { device: sim::Device::new(options.race_detector(true)) }
    }
}

impl Deref for Checked {
    type Target = sim::Device;

    fn deref(&self) -> &sim::Device {
        &self.device
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        // A test that has failed already has its message.
        if !thread::panicking() {
            assert_ordered(self.device.gpu());
        }
    }
}

/// Asserts that the race detector has found no race on `gpu` so far.
#[track_caller]
pub fn assert_ordered(gpu: &sim::Gpu) {
    if let Err(races) = gpu.check() {
        panic!("the race detector found:\n{races}");
    }
}
