//! Waiting without a stream: arriving memory, futures, and closures that are called once a stream has
//! passed a point.

mod arriving;
mod faults;
mod futures;
mod hostile;
mod notify;

use std::{
    sync::{Arc, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tidelock::{
    Buffer, Ctx, DeviceLocation, Element, Result, View,
    driver::{Code, DriverError},
    sim::{self, Device, Sim, SimBackend},
    stream::{Arriving, OnBackend, Pending},
};

type Arrival<T = u32> = Buffer<T, Arriving<SimBackend>>;

/// How long anything may take that a test waits for.
const SOON: Duration = Duration::from_secs(20);

/// A device with the race detector on.
fn watched() -> Device {
    Device::new(sim::Options::quick().race_detector(true))
}

/// Holds a stream: nothing enqueued after it runs before it is dropped.
struct Gate {
    _open: mpsc::Sender<()>,
}

impl Gate {
    fn close<A>(ctx: &Ctx<'_, Sim<'_>, A>) -> Gate {
        let (open, opened) = mpsc::channel::<()>();
        // The sender sends nothing, and is only dropped.
        ctx.launch((0_u32,), move |_| assert!(opened.recv().is_err())).unwrap();
        Gate { _open: open }
    }

    /// Opens after a while, from another thread.
    fn open_later(self) {
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(self);
        });
    }
}

/// A kernel writes `values` into staged memory, which is fenced.
fn fenced<'s, A: Copy>(ctx: &Ctx<'_, Sim<'s>, A>, values: &[u32]) -> Pending<u32, Sim<'s>> {
    let mut out = ctx.init_zeros(ctx.plain().alloc_pinned::<u32>(values.len()).unwrap().stage(ctx)).unwrap();
    let values = values.to_vec();
    ctx.launch((out.view_mut(),), move |(out,)| out.copy_from_slice(&values)).unwrap();
    ctx.fence(out).unwrap()
}

/// Polls until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Asserts that everything on `device` is freed, soon, and that nothing went wrong.
#[track_caller]
fn assert_clean(device: &Device) {
    let start = Instant::now();
    // The thread that watches drops a record just before or after it wakes someone.
    while !device.gpu().report().is_clean() && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_micros(200));
    }
    let report = device.gpu().report();
    assert!(report.is_clean(), "{report:?}");
    device.gpu().check().unwrap();
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on this thread.
#[track_caller]
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    let start = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park_timeout(SOON);
        assert!(start.elapsed() < SOON, "no waker was called");
    }
}

/// Polls `future` once.
fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Makes the device answer every call with a sticky code.
fn break_device<A>(ctx: &Ctx<'_, Sim<'_>, A>) {
    ctx.launch((0_u32,), |_| panic!("a kernel that breaks the device, on purpose")).unwrap();
}
