//! A simulated device that reports races when it is dropped.

use std::{ops::Deref, thread};

use tidelock::sim;

/// A simulated device that must have ended without a race: dropping it asserts that the oracle
/// found none.
///
/// It dereferences to the device. What happens on the device after the value was dropped is not
/// asserted: memory that outlives it is checked with [`assert_ordered`] on a clone of the engine.
#[derive(Debug)]
pub struct Checked {
    device: sim::Device,
}

impl Checked {
    /// A device with the default options and `seed`.
    pub fn new(seed: u64) -> Checked {
        Checked::with(sim::Options::default().seed(seed))
    }

    /// A device with `options` and the oracle on.
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
        // A test that fails already says why.
        if !thread::panicking() {
            assert_ordered(self.device.gpu());
        }
    }
}

/// Asserts that the oracle has found no race on `gpu` so far.
#[track_caller]
pub fn assert_ordered(gpu: &sim::Gpu) {
    if let Err(races) = gpu.check() {
        panic!("the oracle found:\n{races}");
    }
}
