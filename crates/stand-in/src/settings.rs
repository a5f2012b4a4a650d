//! The settings of the stand-in. All of it is set between tests, some of it holds from the next
//! reset on.

use core::time::Duration;
use std::sync::{Mutex, PoisonError};

use tidelock_driver::code::Code;
use tidelock_simulator::{Delay, Options};

/// The settings, each by the name that [`set`] takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Devices that the driver sees, at most 16.
    pub(crate) devices: u64,
    /// The compute capability of all of them.
    pub(crate) compute_major: u64,
    pub(crate) compute_minor: u64,
    pub(crate) driver_version: u64,
    /// Bytes of each device.
    memory_limit: u64,
    seed: u64,
    /// The longest delay of an operation, in microseconds; 0 for none.
    delay: u64,
    /// Whether the race detector watches.
    race_detector: u64,
    pub(crate) unified_addressing: u64,
    pub(crate) memory_pools: u64,
    /// Whether copies with pageable operands are done when the call returns, instead of some time
    /// later.
    pub(crate) pageable_synchronous: u64,
    /// Whether calls on a stream fail unless its context is current, as no driver seen so far does.
    pub(crate) stream_calls_need_context: u64,
    /// Whether the copy kernels of the library are known: see `kernel_model`. A library asks once
    /// for each context, and keeps it.
    pub(crate) copy_kernels: u64,
}

const DEFAULT: Settings = Settings {
    devices: 2,
    compute_major: 9,
    compute_minor: 0,
    driver_version: 13_000,
    memory_limit: 8 << 30,
    seed: 0x7464_6c6b,
    delay: 100,
    race_detector: 1,
    unified_addressing: 1,
    memory_pools: 1,
    pageable_synchronous: 0,
    stream_calls_need_context: 0,
    copy_kernels: 1,
};

static SETTINGS: Mutex<Settings> = Mutex::new(DEFAULT);

/// As they are now.
pub(crate) fn settings() -> Settings {
    *SETTINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Back to what they were at first.
pub(crate) fn restore() {
    *SETTINGS.lock().unwrap_or_else(PoisonError::into_inner) = DEFAULT;
}

/// # Errors
/// `INVALID_VALUE` if there is no setting of that name.
pub(crate) fn set(name: &str, value: u64) -> Result<(), Code> {
    let mut settings = SETTINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = match name {
        "devices" => &mut settings.devices,
        "compute_major" => &mut settings.compute_major,
        "compute_minor" => &mut settings.compute_minor,
        "driver_version" => &mut settings.driver_version,
        "memory_limit" => &mut settings.memory_limit,
        "seed" => &mut settings.seed,
        "delay" => &mut settings.delay,
        "race_detector" => &mut settings.race_detector,
        "unified_addressing" => &mut settings.unified_addressing,
        "memory_pools" => &mut settings.memory_pools,
        "pageable_synchronous" => &mut settings.pageable_synchronous,
        "stream_calls_need_context" => &mut settings.stream_calls_need_context,
        "copy_kernels" => &mut settings.copy_kernels,
        _ => return Err(Code::INVALID_VALUE),
    };
    *place = value;
    Ok(())
}

impl Settings {
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The options of the simulated GPU that is device `ordinal`.
    pub(crate) fn options(&self, ordinal: usize) -> Options {
        let delay = if self.delay == 0 { Delay::None } else { Delay::Upto(Duration::from_micros(self.delay)) };
        let limit = usize::try_from(self.memory_limit).unwrap_or(usize::MAX);
        let options = Options::quick().seed(self.seed).delay(delay).memory_limit(limit).ordinal(ordinal);
        options.race_detector(self.race_detector != 0)
    }
}
