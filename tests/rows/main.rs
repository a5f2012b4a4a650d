//! Rows by index on the simulated device, with its race detector: random scatters against a
//! reference, the call sites that they are for, and programs that try to break them.
#![cfg(feature = "sim")]

mod attacks;
mod call_sites;

use std::num::NonZero;

use proptest::test_runner::{Config, TestRunner};
use tidelock::{
    DeviceLocation, Element, Result, Stream, View,
    sim::{self, Sim},
};
use tidelock_test_support::{
    random_moves::programs::Value,
    random_scatters::{cases, check},
};

fn width(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// Calls `f` with a stream of a device whose race detector is on, and asserts that it is clean.
fn run<R>(f: impl for<'s> FnOnce(Stream<Sim<'s>>) -> Result<R>) -> Result<R> {
    let device = sim::Device::default();
    let answer = device.stream(|stream, _env| f(stream)).unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
    answer
}

/// What is in memory of the stream.
fn down<T: Element, L: DeviceLocation>(stream: &mut Stream<L>, view: View<'_, T, L>) -> Result<Vec<T>> {
    let ctx = stream.ctx().with_pool();
    let seen = ctx.init_from(ctx.alloc_pinned(view.len())?.stage(&ctx), view)?;
    Ok(seen.reclaim(&stream.synchronize()?).to_vec())
}

fn runs_random_cases<T: Value>(number: u32) {
    let mut runner = TestRunner::new(Config { cases: number, failure_persistence: None, ..Config::default() });
    let answer = runner.run(&cases(), |case| {
        run(|mut stream| check::<T, _>(&mut stream, &case)).unwrap();
        Ok(())
    });
    answer.unwrap();
}

#[test]
fn random_scatters_of_bytes() {
    runs_random_cases::<u8>(60);
}

#[test]
fn random_scatters_of_words() {
    runs_random_cases::<u32>(60);
}

#[test]
fn random_scatters_of_odd_elements() {
    runs_random_cases::<[u8; 3]>(60);
}

#[test]
fn random_scatters_of_nothing() {
    runs_random_cases::<[u32; 0]>(20);
}
