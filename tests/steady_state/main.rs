//! What a steady iteration costs: the exact driver calls of each operation, and no heap allocation.

mod calls;
mod heap;
mod iteration;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidelock::{
    Buffer, Stream,
    location::Pinned,
    sim::{self, Call, Sim, SimBackend},
};
use tidelock_test_support::memory::width;

/// Runs `test` on a stream of its own device, one test at a time.
fn on_stream(test: impl for<'s> FnOnce(&sim::Device, Stream<Sim<'s>>)) {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device.stream(|stream, _env| test(&device, stream)).unwrap();
}

/// The pinned pool belongs to the process, so tests that count its calls take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver calls that `f` makes, including those of the pinned pool.
fn calls<R>(device: &sim::Device, f: impl FnOnce() -> R) -> (Vec<Call>, R) {
    device.gpu().log(true);
    let (value, pinned) = sim::with_pinned_faults(None, f);
    device.gpu().log(false);
    ([device.gpu().take_log(), pinned].concat(), value)
}

/// Asserts that `f` makes exactly `expected` driver calls.
#[track_caller]
fn costs<R>(device: &sim::Device, expected: &[Call], f: impl FnOnce() -> R) -> R {
    let (made, value) = calls(device, f);
    assert_eq!(made, expected);
    value
}

fn pinned(len: usize) -> Buffer<u32, Pinned<SimBackend>> {
    Buffer::from_fn(len, |i| i as u32).unwrap()
}
