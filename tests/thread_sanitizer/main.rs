//! Threads, streams, and all that they share, for ThreadSanitizer. It is a program without a test
//! harness, because the sanitizer misreads the harness's own threads. `.ci/thread-sanitizer.sh`
//! runs it. It also runs as an ordinary test with the race detector, which must report nothing.
//!
//! Under the sanitizer the race detector is off, because its lock would order the threads under
//! test. The library's own order is expressed in atomics (see `src/sync.rs`), so that the sanitizer
//! sees that order and no other: the bytes of the simulated devices are plain memory, and a missing
//! wait between two streams is a race of two threads.
//!
//! Each of these was removed from the library once, and every run found it:
//!
//! | removed | found |
//! |---|---|
//! | the lock of the pinned pool | 11 to 21 races, and a panic |
//! | `Release` where an allocation begins and ends (`Block::state`), `Relaxed` instead | 2 races |
//! | the order of `Progress::done`, by which streams and the host wait | 8 to 10 races |
//! | the wait of `transfer` and at the start of `lend` | 4 races, wrong values |
//! | the wait at the end of `lend` | 2 or 3 races, wrong values |
//! | the wait of `attach` | 2 races |
//! | the wait of `attach`, for shared memory | 1 or 2 races |
//! | the wait of `Pending::wait`; that of `synchronize` | 4 races, wrong values |
//! | the wait before a deferred free | 1 or 2 races, wrong values |
//! | the wait for a slot of the ring | wrong values: the channel that the copies travel in orders the two threads by accident |
//! | reading host memory during the call of a batch | wrong values, as above |
//!
//! Without `--cfg tidelock_tsan` there are 700 to 1000 reports in a run, all of them false.

use std::{
    ops::Deref,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    BatchCopy, Buffer, Ctx, DeviceLocation, View,
    driver::Backend,
    location::Pinned,
    sim::{Delay, Device, Options, Sim, SimBackend},
    stream::{Arriving, Detached, StreamAlloc, StreamOptions},
};

const THREADS: u32 = 3;
const N: usize = 300;

type PinnedBuffer = Buffer<u32, Pinned<SimBackend>>;

/// One program, which runs once for each seed.
type Program = fn(seed: u64);

const PROGRAMS: &[(&str, Program)] = &[
    ("pinned pool", pinned_pool),
    ("pinned memory from stream to stream", pinned_travels),
    ("detached memory from stream to stream", detached_travels),
    ("arriving memory", arriving),
    ("transfer and lend", transfer_and_lend),
    ("shared memory", shared),
    ("rings, deferred frees, pools", rings),
    ("host memory on loan, batches", loans),
    ("lanes that threads enter in turn", lanes),
    ("a device that ends elsewhere", device_ends),
];

fn main() {
    // Process-wide values are initialised before there are threads, because the sanitizer does not
    // see how `std` orders that.
    drop(PinnedBuffer::zeros(N).unwrap());
    for (name, program) in PROGRAMS {
        let start = Instant::now();
        (0..ROUNDS).for_each(program);
        println!("{name}: {ROUNDS} rounds in {:.1?}", start.elapsed());
    }
}

const ROUNDS: u64 = 12;

/// A device whose race detector must have reported nothing when it is dropped.
struct Checked(Device);

fn device(seed: u64) -> Checked {
    let options = Options::default().seed(seed).delay(Delay::Upto(Duration::from_micros(30)));
    Checked(Device::new(options.race_detector(cfg!(not(tidelock_tsan)))))
}

impl Deref for Checked {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.0
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        if !thread::panicking() {
            assert_eq!(self.0.gpu().check(), Ok(()));
        }
    }
}

/// Runs `f` on several threads at once. They are joined one by one, which the sanitizer sees.
fn together<R: Send>(f: impl Fn(u32) -> R + Sync) -> Vec<R> {
    let ready = AtomicU32::new(0);
    thread::scope(|scope| {
        let start = |thread| {
            let (f, ready) = (&f, &ready);
            scope.spawn(move || {
                ready.fetch_add(1, Ordering::Relaxed);
                while ready.load(Ordering::Relaxed) < THREADS {
                    thread::yield_now();
                }
                f(thread)
            })
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A place where one thread leaves a value for another. An atomic repeats the order that its lock
/// gives.
struct Shelf<T> {
    values: Mutex<Vec<T>>,
    left: AtomicU32,
}

impl<T> Shelf<T> {
    fn new(values: Vec<T>) -> Self {
        Shelf { values: Mutex::new(values), left: AtomicU32::new(0) }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        self.left.load(Ordering::Acquire);
        let answer = f(&mut values);
        self.left.fetch_add(1, Ordering::Release);
        answer
    }

    fn put(&self, value: T) {
        self.with(|values| values.insert(0, value));
    }

    fn take(&self) -> T {
        loop {
            match self.with(Vec::pop) {
                Some(value) => return value,
                None => thread::yield_now(),
            }
        }
    }
}

/// What `view` holds once the stream has passed everything enqueued.
fn read<L: DeviceLocation>(ctx: &Ctx<'_, L, StreamAlloc<L>>, view: View<'_, u32, L>) -> Vec<u32> {
    let staged = ctx.init_from(ctx.alloc_pinned(view.len()).unwrap().stage(ctx), view).unwrap();
    ctx.fence(staged).unwrap().wait().unwrap().to_vec()
}

/// All threads allocate and free pieces of many sizes, and nothing else orders the threads.
fn pinned_pool(_: u64) {
    together(|thread| {
        for round in 0..200 {
            let len = 1 + (round * 37) % 900;
            let buffers: Vec<_> = (0..3).map(|_| PinnedBuffer::from_fn(len, |_| thread).unwrap()).collect();
            assert!(buffers.iter().flat_map(|buffer| buffer.iter()).all(|value| *value == thread));
        }
    });
}

fn pinned_travels(seed: u64) {
    let device = device(seed);
    let shelf = Shelf::new((0..4).map(|_| PinnedBuffer::zeros(N).unwrap()).collect());
    together(|_| {
        device
            .stream(|mut stream, _| {
                for round in 0..10 {
                    let ctx = stream.ctx().with_pool();
                    let mut staged = shelf.take().stage(&ctx);
                    ctx.launch((staged.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1)).unwrap();
                    let mut buffer = match round % 2 {
                        0 => staged.reclaim(&stream.synchronize().unwrap()),
                        _ => ctx.fence(staged).unwrap().wait().unwrap(),
                    };
                    buffer[0] += 1;
                    shelf.put(buffer);
                }
            })
            .unwrap();
    });
    let sum = shelf.with(|buffers| buffers.iter().map(|buffer| (buffer[0], buffer[N - 1])).collect::<Vec<_>>());
    assert_eq!(sum.iter().map(|(first, _)| first).sum::<u32>(), 2 * 10 * THREADS);
    assert_eq!(sum.iter().map(|(_, last)| last).sum::<u32>(), 10 * THREADS);
}

/// Memory that arrives on another thread, which waits, polls or drops it, and closures that are called
/// meanwhile.
fn arriving(seed: u64) {
    let device = device(seed);
    let shelf = Shelf::new(Vec::<(u32, Buffer<u32, Arriving<SimBackend>>)>::new());
    let sum = Arc::new(Shelf::new(Vec::new()));
    together(|thread| {
        device
            .stream(|stream, _| {
                for round in 0..12 {
                    let ctx = stream.ctx();
                    let mut page = ctx.init_zeros(ctx.alloc_pinned::<u32>(N).unwrap().stage(&ctx)).unwrap();
                    let value = 100 * thread + round;
                    ctx.launch((page.view_mut(),), move |(page,)| page.fill(value)).unwrap();
                    shelf.put((value, ctx.fence(page).unwrap().detach()));
                    let sum = Arc::clone(&sum);
                    ctx.notify(move |answer| sum.put(answer)).unwrap();
                    let (value, mut page) = shelf.take();
                    let page = match round % 3 {
                        0 => page.wait().unwrap(),
                        1 => loop {
                            if let Poll::Ready(page) = Pin::new(&mut page).poll(&mut Context::from_waker(Waker::noop()))
                            {
                                break page.unwrap();
                            }
                            thread::yield_now();
                        },
                        _ => continue,
                    };
                    assert_eq!(page[..], [value; N]);
                }
            })
            .unwrap();
    });
    assert!((0..12 * THREADS).all(|_| sum.take() == Ok(())));
}

fn zeros(device: &Device) -> Buffer<u32, Detached<SimBackend>> {
    let detached = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        ctx.detach(ctx.zeros::<u32>(N).unwrap()).unwrap()
    });
    detached.unwrap()
}

fn detached_travels(seed: u64) {
    let device = device(seed);
    let shelf = Shelf::new((0..4).map(|_| zeros(&device)).collect());
    together(|_| {
        device
            .stream(|stream, _| {
                let ctx = stream.ctx().with_pool();
                for _ in 0..10 {
                    let mut x = ctx.attach(shelf.take()).unwrap();
                    ctx.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1)).unwrap();
                    shelf.put(ctx.detach(x).unwrap());
                }
            })
            .unwrap();
    });
    let sum: u32 = device
        .stream(|stream, _| {
            let ctx = stream.ctx().with_pool();
            let attached = (0..3).map(|_| ctx.attach(shelf.take()).unwrap());
            attached.map(|x| read(&ctx, x.view())[N - 1]).sum()
        })
        .unwrap();
    assert!(sum <= 10 * THREADS);
    // The last one is dropped here, and its drop waits for it.
}

type Pool<'c, 's> = Ctx<'c, Sim<'s>, StreamAlloc<Sim<'s>>>;

/// Writes on one stream. The other reads and writes what was transferred or lent.
fn to_and_fro(a: &Pool<'_, '_>, b: &Pool<'_, '_>) {
    for _ in 0..5 {
        let mut x = a.zeros::<u32>(N).unwrap();
        a.launch((x.view_mut(),), |(x,)| x.fill(7)).unwrap();
        let mut sum = b.zeros::<u32>(1).unwrap();
        a.lend(x.view(), b, |x| b.launch((x, sum.view_mut()), |(x, sum)| sum[0] = x.iter().sum()).unwrap()).unwrap();
        a.lend_mut(x.view_mut(), b, |mut x| b.launch((x.reborrow(),), |(x,)| x.fill(8)).unwrap()).unwrap();
        a.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1)).unwrap();
        let y = a.transfer(x, b).unwrap();
        assert_eq!(read(b, y.view()), [9; N]);
        assert_eq!(read(b, sum.view())[0], 7 * u32::try_from(N).unwrap());
    }
}

fn transfer_and_lend(seed: u64) {
    let device = device(seed);
    together(|_| {
        device
            .stream(|a, _| {
                device
                    .stream(|b, _| {
                        let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                        to_and_fro(&a, &b);
                        to_and_fro(&b, &a);
                    })
                    .unwrap();
            })
            .unwrap();
    });
}

fn shared(seed: u64) {
    let device = device(seed);
    let shared = device
        .stream(|stream, _| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(N).unwrap();
            ctx.launch((x.view_mut(),), |(x,)| {
                thread::sleep(Duration::from_micros(200));
                x.fill(5);
            })
            .unwrap();
            let shared = ctx.detach(x).unwrap().share();
            // Streams of other threads read it while the stream that writes is still running.
            together(|_| {
                device
                    .stream(|stream, _| {
                        let ctx = stream.ctx().with_pool();
                        for _ in 0..5 {
                            assert_eq!(read(&ctx, ctx.attach(shared.clone()).unwrap().view()), [5; N]);
                        }
                    })
                    .unwrap();
            });
            shared
        })
        .unwrap();
    thread::spawn(move || drop(shared)).join().unwrap();
}

fn rings(seed: u64) {
    let device = device(seed);
    let options = StreamOptions::default().ring_bytes(2048).max_deferred_frees(2);
    together(|thread| {
        device
            .stream_with(&options, |mut stream, _| {
                for round in 0..4 {
                    let ctx = stream.ctx().with_pool();
                    let mut x = ctx.zeros::<u32>(N).unwrap();
                    // Through the ring, twice around, and then with more than the ring holds.
                    let mut rows = ctx.zeros::<u32>(9 * 100).unwrap();
                    ctx.launch((0_u32,), |_| thread::sleep(Duration::from_micros(500))).unwrap();
                    for (row, value) in (thread..).take(9).enumerate() {
                        ctx.upload(&[value; 100], rows.view_mut().slice(row * 100..(row + 1) * 100).unwrap()).unwrap();
                    }
                    assert!(
                        (thread..).zip(read(&ctx, rows.view()).chunks(100)).all(|(value, row)| row == [value; 100])
                    );
                    ctx.upload(&[round; N], x.view_mut()).unwrap();
                    // By the simulated GPU's synchronous allocator, whose addresses all streams
                    // share, and with a deferred free.
                    let mut y = ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(N).unwrap();
                    ctx.copy(x.view(), y.view_mut()).unwrap();
                    for _ in 0..3 {
                        drop(ctx.init_from(ctx.alloc_pinned(N).unwrap().stage(&ctx), y.view()).unwrap());
                    }
                    assert_eq!(read(&ctx, y.view()), [round; N]);
                    drop((x, y));
                    stream.synchronize().unwrap();
                    // Whole blocks are unlocked, and locked again.
                    SimBackend::PINNED.trim(0).unwrap();
                }
            })
            .unwrap();
        // A query of the pool orders nothing.
        assert!(device.gpu().counts().total() > 0 && device.gpu().report().sticky.is_none());
    });
}

/// Lanes and memory go from thread to thread, each lane with its ring, its deferred frees and what was
/// waited for.
fn lanes(seed: u64) {
    let device = device(seed);
    let options = StreamOptions::default().ring_bytes(2048).max_deferred_frees(2);
    let open = || {
        let mut lane = device.lane_with(&options).unwrap();
        let memory = lane.enter(|stream, _| {
            let ctx = stream.ctx().with_pool();
            ctx.detach(ctx.zeros::<u32>(N).unwrap()).unwrap()
        });
        (lane, memory.unwrap())
    };
    let shelf = Shelf::new((0..2).map(|_| open()).collect());
    together(|thread| {
        for round in 0..6 {
            let taken = shelf.with(Vec::pop);
            let Some((mut lane, memory)) = taken else {
                thread::yield_now();
                continue;
            };
            let value = thread + round;
            let visit = lane.enter(|mut stream, _| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.attach(memory).unwrap();
                for _ in 0..3 {
                    ctx.upload(&[value; N], x.view_mut()).unwrap();
                    drop(ctx.init_from(ctx.alloc_pinned(N).unwrap().stage(&ctx), x.view()).unwrap());
                }
                if round % 2 == 0 {
                    assert_eq!(read(&ctx, x.view()), [value; N]);
                    stream.synchronize().unwrap();
                }
                stream.ctx().detach(x).unwrap()
            });
            shelf.with(|shelf| shelf.push((lane, visit.unwrap())));
        }
    });
}

fn loans(seed: u64) {
    let device = device(seed);
    let source = vec![3_u32; N];
    let sums = together(|_| {
        let (mut target, mut during_call) = (vec![0_u32; N], vec![3_u32; N]);
        device
            .stream(|mut stream, env| {
                let ctx = stream.ctx().with_pool();
                let (mut x, mut y) = (ctx.zeros::<u32>(N).unwrap(), ctx.zeros::<u32>(N).unwrap());
                ctx.copy(env.source(&source), x.view_mut()).unwrap();
                let mut batch = BatchCopy::new();
                batch.scope(&ctx, |batch| batch.copy(View::from(&during_call[..]), y.view_mut())).unwrap();
                during_call.fill(0);
                ctx.launch((x.view_mut(), y.view()), |(x, y)| x.iter_mut().zip(y).for_each(|(x, y)| *x += y)).unwrap();
                stream.host_scope(|scope| scope.ctx().copy(x.view(), scope.target(&mut target)).unwrap()).unwrap();
                drop((x, y));
            })
            .unwrap();
        target.iter().sum::<u32>()
    });
    assert_eq!(sums, [6 * u32::try_from(N).unwrap(); THREADS as usize]);
}

fn device_ends(seed: u64) {
    let device = device(seed);
    let detached = together(|_| {
        let detached = zeros(&device);
        (detached, device.0.clone())
    });
    let engine = device.gpu().clone();
    drop(device);
    let shelf = Shelf::new(detached);
    together(|_| drop(shelf.take()));
    assert_eq!(engine.check(), Ok(()));
}
