//! What safe code can do to the library, and what must hold afterwards.
//!
//! Everything in here compiles, so none of it may read or write memory that it does not own. The
//! suite also runs under AddressSanitizer, and values are checked where a race would be silent.
//! Safe code can leak, so the sanitizer does not look for leaks.

#![allow(clippy::drop_non_drop, clippy::forget_non_drop, reason = "users may drop and forget whatever they like")]
#![allow(clippy::type_complexity, reason = "an allocator of two closures is best read as what it is")]

mod alignment;
mod arguments;
mod batches;
mod by_value;
mod combined;
mod context;
mod crossing;
mod debug;

mod drops;
mod foreign;
mod kernels;
mod lanes;
mod leaks;
mod located;
mod memory;
mod moves;
mod nested;
mod options;
mod outputs;
mod panics;
mod raw_gpu;
mod registered;
mod reinterpreted;
mod ring;
mod scopes;
mod shared;
mod shortage;
mod staging;
mod swaps;
mod tables;
mod timing;
mod views;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    time::Duration,
};

use tidelock::{
    Buffer, Ctx, Element, Stream, View,
    location::Pinned,
    sim::{self, Sim, SimBackend},
};
use tidelock_test_support::memory::{put, staged, width};

/// Options of AddressSanitizer, whose runtime looks this symbol up. Without the sanitizer it is
/// unused.
#[unsafe(no_mangle)]
extern "C" fn __asan_default_options() -> *const core::ffi::c_char {
    c"detect_leaks=0".as_ptr()
}

/// A device whose operations run late.
fn slow() -> sim::Device {
    sim::Device::new(sim::Options::quick().delay(sim::Delay::Upto(Duration::from_micros(500))))
}

/// A device whose operations run as soon as they can.
fn quick() -> sim::Device {
    sim::Device::new(sim::Options::quick())
}

/// `0, 1, 2, ..` from `start` on.
fn ramp(start: u32, len: usize) -> Vec<u32> {
    (start..).take(len).collect()
}

fn pinned<T: Element>(values: &[T]) -> Buffer<T, Pinned<SimBackend>> {
    Buffer::from_slice(values).unwrap()
}

/// What device memory holds. It waits for the whole stream, and frees the memory that it used.
fn get<'s, T: Element>(stream: &mut Stream<Sim<'s>>, view: View<'_, T, Sim<'s>>) -> Vec<T> {
    stream.read(view).unwrap()
}

/// Holds a stream: nothing enqueued after it runs before it is dropped.
struct Gate {
    _open: mpsc::Sender<()>,
}

impl Gate {
    fn close<A>(ctx: &Ctx<'_, Sim<'_>, A>) -> Gate {
        let (open, opened) = mpsc::channel::<()>();
        let wait = move |_: (u32,)| {
            // The sender sends nothing, and is only dropped.
            let _ = opened.recv();
        };
        ctx.launch((0_u32,), wait).unwrap();
        Gate { _open: open }
    }

    /// Opens after a while, from another thread.
    fn open_later(self) {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(self);
        });
    }
}

/// Runs `f` on a thread of its own, and panics if it hangs.
fn within(limit: Duration, f: impl FnOnce() + Send + 'static) {
    let (ends, ended) = mpsc::channel::<()>();
    let worker = std::thread::spawn(move || {
        let _ends = ends;
        f();
    });
    assert_eq!(ended.recv_timeout(limit), Err(mpsc::RecvTimeoutError::Disconnected), "hangs");
    worker.join().unwrap();
}

/// Runs `f`, which must panic with `payload`.
fn panics_with<R>(payload: &'static str, f: impl FnOnce() -> R) {
    let caught = catch_unwind(AssertUnwindSafe(f)).err().expect("no panic");
    assert_eq!(caught.downcast_ref::<&str>(), Some(&payload));
}

/// Asserts that everything on `device` was freed and nothing went wrong.
fn assert_clean(device: &sim::Device) {
    let report = device.gpu().report();
    assert!(report.is_clean(), "{report:?}");
}

/// Asserts that nothing went wrong on `device`, which holds `allocations` that safe code has
/// leaked.
fn assert_leaked(device: &sim::Device, allocations: usize) {
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.streams, report.pools), (allocations, 0, 0), "{report:?}");
    assert_eq!((report.sticky, &report.findings[..]), (None, &[][..]));
}
