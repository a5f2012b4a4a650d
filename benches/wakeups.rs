//! How late the host finds out that the device has passed a fence, by the way that it waits.
//!
//! `cargo bench --bench wakeups` runs on a GPU if there is one, and on the simulated device
//! otherwise; `-- sim` chooses the latter. Each line is one way of waiting: how many microseconds
//! later than a thread that spins on `is_ready` for the same fence it goes on. That thread has a
//! core of its own, and is itself about a microsecond late. The work before the fence is fills, of
//! about the time in the first column.

use std::{
    env,
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tidelock::{Buffer, Device, Error, Result, driver::Backend, sim, stream::Arriving};

type Arrival<B> = Buffer<u8, Arriving<B>>;

/// A way of waiting. Returns when the host goes on.
type Way<B> = fn(Arrival<B>) -> Result<Instant>;

fn ways<B: Backend>() -> [(&'static str, Way<B>); 5] {
    [
        ("spin on is_ready", |arrival| spin(&arrival)),
        ("wait", |arrival| Ok(arrival.wait().map(|_| Instant::now())?)),
        ("is_ready and sleep 50 us", |arrival| {
            while !arrival.is_ready()? {
                thread::sleep(Duration::from_micros(50));
            }
            Ok(Instant::now())
        }),
        ("await, thread parked", |arrival| block_on(arrival)),
        ("await, task of tokio", |arrival| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async { Ok(arrival.await.map(|_| Instant::now())?) })
        }),
    ]
}

fn spin<B: Backend>(arrival: &Arrival<B>) -> Result<Instant> {
    while !arrival.is_ready()? {
        std::hint::spin_loop();
    }
    Ok(Instant::now())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<B: Backend>(arrival: Arrival<B>) -> Result<Instant> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut arrival = pin!(arrival);
    loop {
        if let Poll::Ready(answer) = arrival.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(answer.map(|_| Instant::now())?);
        }
        thread::park();
    }
}

/// What one fence is given to a thread with, and where its time goes.
type Job<B> = (Arrival<B>, Way<B>);

/// A thread that waits in whatever way it is given.
fn waiter<B: Backend>(start: Arc<Barrier>) -> (mpsc::Sender<Job<B>>, mpsc::Receiver<Result<Instant>>) {
    let ((send, jobs), (tell, times)) = (mpsc::channel::<Job<B>>(), mpsc::channel());
    thread::spawn(move || {
        for (arrival, way) in jobs {
            start.wait();
            if tell.send(way(arrival)).is_err() {
                return;
            }
        }
    });
    (send, times)
}

fn run<D: Device>(name: &str, device: &D, bytes: usize, fills: &[usize], rounds: usize) -> Result<()> {
    let start = Arc::new(Barrier::new(3));
    let (reference, reference_times) = waiter::<D::Backend>(Arc::clone(&start));
    let (other, other_times) = waiter::<D::Backend>(Arc::clone(&start));
    println!("{name}: microseconds later than a spinning thread, {rounds} fences each");
    println!("{:>10}  {:<26} {:>8} {:>8} {:>8}", "work, us", "way", "p50", "p90", "p99");
    device.stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let mut memory = ctx.alloc::<u8>(bytes)?;
        for &fills in fills {
            for (name, way) in ways::<D::Backend>() {
                let (mut late, mut work) = (Vec::new(), Duration::ZERO);
                for round in 0..rounds + rounds / 10 {
                    let page = || Ok::<_, Error>(ctx.alloc_pinned::<u8>(1)?.write_with(|_| 0).stage(&ctx));
                    let pages = (page()?, page()?);
                    let begin = Instant::now();
                    for _ in 0..fills {
                        ctx.clear(memory.view_mut())?;
                    }
                    // One record for both.
                    let pages = (ctx.fence(pages.0)?.detach(), ctx.fence(pages.1)?.detach());
                    let _ = reference.send((pages.0, |arrival| spin(&arrival)));
                    let _ = other.send((pages.1, way));
                    start.wait();
                    let times = (reference_times.recv(), other_times.recv());
                    let (Ok(passed), Ok(seen)) = times else { return Ok(()) };
                    let (passed, seen) = (passed?, seen?);
                    // The first ones warm up.
                    if round >= rounds / 10 {
                        late.push(seen.saturating_duration_since(passed));
                        work += passed.saturating_duration_since(begin);
                    }
                }
                late.sort_unstable();
                let at = |percent: usize| late[(late.len() - 1) * percent / 100].as_secs_f64() * 1e6;
                let work = work.as_secs_f64() * 1e6 / rounds as f64;
                println!("{work:>10.0}  {name:<26} {:>8.1} {:>8.1} {:>8.1}", at(50), at(90), at(99));
            }
        }
        black_box(&mut memory);
        Ok(())
    })?
}

fn main() -> Result<()> {
    let wants_sim = env::args().any(|arg| arg == "sim");
    #[cfg(feature = "cuda-core")]
    if !wants_sim && let Ok(device) = tidelock::cuda::Device::open(0) {
        // A fill of 256 MiB takes about 80 us on an H200.
        return run("cuda:0", &device, 256 << 20, &[1, 12, 250], 500);
    }
    let _ = wants_sim;
    run("the simulated device", &sim::Device::new(sim::Options::quick()), 1 << 20, &[1, 10, 100], 50)
}
