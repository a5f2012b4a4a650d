//! Call sites of TurboMind in the spelling of this library, on the simulated device with the race
//! detector on, and on the stand-in driver. Each asserts its driver calls against what the C++
//! makes: never more.
#![cfg(feature = "sim")]
#![forbid(unsafe_code)]

mod c14_output_logits;

use tidelock::{
    DeviceLocation, Result, Stream,
    sim::{self, Sim},
};
#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
use {
    tidelock::{
        cuda::{self, Cuda},
        stream::StreamOptions,
    },
    tidelock_test_support::stand_in::{self, Control},
};

/// A device, and the calls that its driver gets.
pub trait Backend {
    /// The memory of a stream.
    type At<'s>: DeviceLocation;

    /// Runs `f` with a stream.
    fn stream<R>(&self, f: impl for<'s> FnOnce(Stream<Self::At<'s>>) -> Result<R>) -> Result<R>;

    /// Runs `f`, and counts its calls.
    fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (R, u64);
}

/// The simulated device.
pub struct Simulated(sim::Device);

impl Backend for Simulated {
    type At<'s> = Sim<'s>;

    fn stream<R>(&self, f: impl for<'s> FnOnce(Stream<Sim<'s>>) -> Result<R>) -> Result<R> {
        self.0.stream(|stream, _env| f(stream)).and_then(|answer| answer)
    }

    fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (R, u64) {
        let before = self.0.gpu().counts().total();
        let answer = f();
        (answer, self.0.gpu().counts().total() - before)
    }
}

/// The CUDA device on the stand-in driver.
#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
pub struct StandIn(cuda::Device, Control);

#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
impl Backend for StandIn {
    type At<'s> = Cuda<'s>;

    fn stream<R>(&self, f: impl for<'s> FnOnce(Stream<Cuda<'s>>) -> Result<R>) -> Result<R> {
        // As an engine opens it: what the first use acquires is acquired already.
        let options = StreamOptions::default().warm(true);
        self.0.stream_with(&options, |stream, _env| f(stream)).and_then(|answer| answer)
    }

    fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (R, u64) {
        let (calls, answer) = self.1.calls_of(f);
        (answer, calls.len() as u64)
    }
}

macro_rules! callers {
    ($($name:ident)*) => {
        mod simulated {
            $(#[test]
            fn $name() {
                let device = crate::sim::Device::new(crate::sim::Options::default().race_detector(true));
                crate::$name::run(&crate::Simulated(device.clone()));
                device.gpu().check().unwrap();
                let report = device.gpu().report();
                assert!(report.is_clean(), "{report:?}");
            })*
        }

        #[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
        mod on_the_stand_in {
            use crate::{StandIn, cuda, stand_in};

            $(#[test]
            fn $name() {
                let control = stand_in::load();
                control.reset();
                let device = cuda::Device::open(0).unwrap();
                let backend = StandIn(device, control);
                crate::$name::run(&backend);
                backend.1.report().assert_clean();
            })*
        }
    };
}
callers! { c14_output_logits }
