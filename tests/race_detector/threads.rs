//! Which thread waited: a wait of one thread does not count for another, unless memory was handed
//! over.

use std::{
    sync::{Mutex, mpsc},
    thread,
};

use tidelock::{
    BatchCopy, Buffer, View,
    driver::Backend,
    location::Pinned,
    sim::{
        self, Call, Gpu, Options, SimBackend, Use,
        gpu::{EventId, StreamId, Task},
    },
    stream::Detached,
};

use tidelock_test_support::checked::{Checked, assert_ordered};

const N: usize = 4096;

/// Which thread waits for the stream before the memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nobody,
    /// Another thread, which does not touch the memory afterwards.
    Another,
    /// Another thread, which touches the memory and hands it over.
    AnotherWhoTouches,
    Itself,
}

/// Driver calls of one thread after the other, on memory that a stream has written or read.
struct World {
    gpu: Gpu,
    a: StreamId,
    b: StreamId,
    event: EventId,
    page: usize,
    device: usize,
}

impl World {
    fn new(gpu: &Gpu) -> World {
        let [page, device] = [gpu.mem_host_alloc(N), gpu.mem_alloc(N)].map(|memory| memory.unwrap().addr().get());
        let [a, b] = [(); 2].map(|()| gpu.stream_create(0).unwrap());
        let world = World { gpu: gpu.clone(), a, b, event: gpu.event_create().unwrap(), page, device };
        gpu.launch_using(a, Task::new(|_| Ok(())), &[world.page(true), Use::write(at(device), N)]).unwrap();
        gpu.event_record(world.event, a).unwrap();
        world
    }

    fn page(&self, writes: bool) -> Use {
        if writes { Use::write(at(self.page), N) } else { Use::read(at(self.page), N) }
    }
}

fn at(address: usize) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(address)
}

type Step = (&'static str, fn(&World));

const WAITS: &[Step] = &[
    ("cuStreamSynchronize", |w| w.gpu.stream_synchronize(w.a).unwrap()),
    ("cuEventSynchronize", |w| w.gpu.event_synchronize(w.event).unwrap()),
    ("cuStreamQuery", |w| while !w.gpu.stream_query(w.a).unwrap() {}),
    ("cuEventQuery", |w| while !w.gpu.event_query(w.event).unwrap() {}),
];

const TOUCHES: &[Step] = &[
    ("the host reads", |w| unsafe { w.gpu.host_touches(w.page(false)) }),
    ("the host writes", |w| unsafe { w.gpu.host_touches(w.page(true)) }),
    ("the host frees pinned memory", |w| unsafe { w.gpu.mem_host_free(at(w.page)) }.unwrap()),
    ("the host frees device memory", |w| unsafe { w.gpu.mem_free(at(w.device)) }.unwrap()),
    ("another stream reads", |w| w.gpu.launch_using(w.b, Task::new(|_| Ok(())), &[w.page(false)]).unwrap()),
    ("another stream frees", |w| unsafe { w.gpu.mem_free_async(at(w.device), w.b) }.unwrap()),
];

/// The report on the touch, if there is one.
fn report(gpu: &Gpu, wait: Step, touch: Step, waits: Waits, threads: usize) -> Option<String> {
    let world = World::new(gpu);
    let earlier = gpu.check().err().map_or(0, |report| report.len());
    // One thread, or two one after the other.
    let run = |step: &(dyn Fn() + Sync)| thread::scope(|scope| scope.spawn(step).join().unwrap());
    let first = || match waits {
        Waits::Another => wait.1(&world),
        Waits::AnotherWhoTouches => {
            wait.1(&world);
            unsafe { gpu.host_touches(world.page(true)) };
        }
        Waits::Nobody | Waits::Itself => {}
    };
    let second = || {
        if waits == Waits::Itself {
            wait.1(&world);
        }
        touch.1(&world);
    };
    if threads == 1 {
        first();
        second();
    } else {
        run(&first);
        run(&second);
    }
    gpu.check().err().map(|report| report[earlier..].to_owned()).filter(|report| !report.is_empty())
}

#[test]
fn a_wait_counts_for_the_thread_that_made_it() {
    let device = sim::Device::new(Options::quick().race_detector(true));
    for wait in WAITS {
        for touch in TOUCHES {
            let program = format!("{}, then {}", wait.0, touch.0);
            let is_pinned = !touch.0.contains("device memory") && !touch.0.contains("stream frees");
            let gpu = device.gpu();
            for (waits, threads, races) in [
                (Waits::Nobody, 1, true),
                (Waits::Nobody, 2, true),
                (Waits::Another, 2, true),
                // The same thread waits and touches.
                (Waits::Another, 1, false),
                (Waits::Itself, 1, false),
                (Waits::Itself, 2, false),
                // The pinned memory was handed over, but the device memory was not.
                (Waits::AnotherWhoTouches, 2, !is_pinned),
            ] {
                let device = sim::Device::new(Options::quick().race_detector(true));
                let report = report(device.gpu(), *wait, *touch, waits, threads);
                assert_eq!(report.is_some(), races, "{program}, {waits:?} waits, {threads} threads: {report:?}");
                if let Some(report) = report {
                    let hint = report.contains("and that another thread has waited does not count");
                    assert_eq!(hint, waits != Waits::Nobody, "{report}");
                    assert!(report.contains("which cuLaunchKernel (operation 1 of stream"), "{report}");
                }
            }
            assert_ordered(gpu);
        }
    }
}

/// A hand-over by raw calls is invisible, so each wait counts for every thread.
#[test]
fn a_gpu_that_is_called_directly_counts_the_host_as_one() {
    for wait in WAITS {
        for touch in TOUCHES {
            for waits in [Waits::Nobody, Waits::Another, Waits::Itself] {
                let gpu = Gpu::new(Options::quick().race_detector(true));
                let report = report(&gpu, *wait, *touch, waits, 2);
                assert_eq!(report.is_some(), waits == Waits::Nobody, "{}, then {}: {report:?}", wait.0, touch.0);
            }
        }
    }
}

/// What one thread has waited for does not count for another by way of another simulated GPU.
/// Neither the end of that GPU counts, nor a wait on it by raw calls, although such a wait counts
/// for every thread on that GPU's own streams.
#[test]
fn another_gpu_does_not_pass_on_what_a_thread_has_waited_for() {
    for by_hand in [true, false] {
        for ends in [true, false] {
            let device = sim::Device::new(Options::quick().race_detector(true));
            let world = World::new(device.gpu());
            thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    world.gpu.stream_synchronize(world.a).unwrap();
                    let options = Options::quick().race_detector(true);
                    let device = (!by_hand).then(|| sim::Device::new(options));
                    let other = device.as_ref().map_or_else(|| Gpu::new(options), |device| device.gpu().clone());
                    let stream = other.stream_create(0).unwrap();
                    other.launch(stream, Task::new(|_| Ok(()))).unwrap();
                    other.stream_synchronize(stream).unwrap();
                    (!ends).then_some((other, device))
                });
                let _other = waits.join().unwrap();
                unsafe { world.gpu.host_touches(world.page(true)) };
            });
            assert!(device.gpu().check().is_err(), "by hand: {by_hand}, ends: {ends}");
        }
    }
}

/// A thread that has only read does not order the writer before another reader, but it does before
/// a thread that writes.
#[test]
fn reading_hands_over_to_those_who_write() {
    for (writes, races) in [(false, true), (true, false)] {
        let device = sim::Device::new(Options::quick().race_detector(true));
        let world = World::new(device.gpu());
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                world.gpu.stream_synchronize(world.a).unwrap();
                unsafe { world.gpu.host_touches(world.page(false)) };
            });
            reader.join().unwrap();
            unsafe { world.gpu.host_touches(world.page(writes)) };
        });
        assert_eq!(device.gpu().check().is_err(), races, "{writes}");
    }
}

// ---- the waits of the library, removed on one thread while another one waits ----

fn kernel_written(device: &sim::Device) -> Buffer<u32, Detached<SimBackend>> {
    let detached = device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(N).unwrap();
        ctx.launch((x.view_mut(),), |(x,)| x.fill(7)).unwrap();
        let detached = ctx.detach(x).unwrap();
        // The writer has waited, and is the only thread.
        stream.synchronize().unwrap();
        detached
    });
    detached.unwrap()
}

/// What uses memory that another thread's stream has written.
type Program = fn(&sim::Device, Buffer<u32, Detached<SimBackend>>, &dyn Fn());

/// Runs `program` on another thread than the writer's, with or without `call` removed there.
fn on_another_thread(call: Call, removes: bool, program: Program) -> String {
    let device = sim::Device::new(Options::quick().race_detector(true));
    let detached = kernel_written(&device);
    thread::scope(|scope| {
        let program = || {
            program(&device, detached, &|| {
                if removes {
                    // SAFETY:
                    // - The program races on purpose, on memory of which every value is valid.
                    unsafe { device.gpu().pretend(1, false, call) };
                }
            });
        };
        scope.spawn(program).join().unwrap();
    });
    device.gpu().check().err().unwrap_or_default()
}

#[test]
fn the_wait_of_one_thread_does_not_hide_the_missing_wait_of_another() {
    let attach: Program = |device, detached, cut| {
        device
            .stream(|stream, _| {
                cut();
                let mut x = stream.ctx().attach(detached).unwrap();
                stream.ctx().launch((x.view_mut(),), |(x,)| x.fill(8)).unwrap();
            })
            .unwrap();
    };
    let shared: Program = |device, detached, cut| {
        let shared = detached.share();
        device
            .stream(|stream, _| {
                cut();
                let x = stream.ctx().attach(shared.clone()).unwrap();
                stream.ctx().launch((x.view(),), |(x,)| assert_eq!(x.len(), N)).unwrap();
            })
            .unwrap();
    };
    for (what, call, program, later) in [
        ("attach", Call::StreamWaitEvent, attach, "cuLaunchKernel"),
        ("shared", Call::StreamWaitEvent, shared, "cuLaunchKernel"),
    ] {
        assert_eq!(on_another_thread(call, false, program), "", "{what}");
        let report = on_another_thread(call, true, program);
        let first = report.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("race: {later}")), "{what}: {report}");
        assert!(first.ends_with("and that another thread has waited does not count"), "{what}: {report}");
    }
}

// ---- memory that is handed over as safe code may ----

/// What a stream has written to pinned memory, as its thread gets it back.
fn written(device: &sim::Device, value: u32) -> Buffer<u32, Pinned<SimBackend>> {
    let buffer = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(N).unwrap();
        ctx.launch((x.view_mut(), value), |(x, value)| x.fill(value)).unwrap();
        let staged = ctx.init_from(ctx.alloc_pinned(N).unwrap().stage(&ctx), x.view()).unwrap();
        ctx.fence(staged).unwrap().wait().unwrap()
    });
    buffer.unwrap()
}

/// Sends `buffer` through a stream of the calling thread, which adds 1 to each element.
fn add_one(device: &sim::Device, buffer: Buffer<u32, Pinned<SimBackend>>) -> Buffer<u32, Pinned<SimBackend>> {
    let buffer = device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut staged = buffer.stage(&ctx);
        ctx.launch((staged.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1)).unwrap();
        staged.reclaim(&stream.synchronize().unwrap())
    });
    buffer.unwrap()
}

#[test]
fn pinned_memory_travels_by_channel_join_lock_and_borrow() {
    for seed in 0..5 {
        let device = Checked::new(seed);
        let device = &*device;
        let slot = Mutex::new(None);
        let (to, from) = mpsc::channel();
        thread::scope(|scope| {
            let joined = scope.spawn(|| written(device, 1));
            scope.spawn(move || to.send(written(device, 2)).unwrap());
            scope.spawn(|| *slot.lock().unwrap() = Some(written(device, 3)));
            let by_channel = add_one(device, from.recv().unwrap());
            assert_eq!(by_channel[..], [3; N]);
            let by_join = add_one(device, joined.join().unwrap());
            assert_eq!(by_join[..], [2; N]);
            let by_lock = loop {
                match slot.lock().unwrap().take() {
                    Some(buffer) => break buffer,
                    None => thread::yield_now(),
                }
            };
            // Several threads read it at once, then one writes it.
            let mut shared = add_one(device, by_lock);
            thread::scope(|readers| {
                for _ in 0..3 {
                    readers.spawn(|| assert_eq!(shared[..], [4; N]));
                }
            });
            shared[0] = 5;
            assert_eq!(add_one(device, shared)[..2], [6, 5]);
        });
    }
}

/// A thread lends memory of another thread to its stream, pinned and pageable. The owner uses it
/// after that thread is done.
#[test]
fn memory_lent_by_one_thread_goes_back_to_its_owner_on_another() {
    for seed in 0..5 {
        let device = Checked::new(seed);
        let device = &*device;
        let (mut pinned, mut plain) = (written(device, 1), vec![2_u32; N]);
        thread::scope(|scope| {
            scope.spawn(|| {
                device.stream(|mut stream, _| {
                    stream.host_scope(|scope| {
                        let ctx = scope.ctx().with_pool();
                        let (mut x, mut y) = (ctx.zeros::<u32>(N).unwrap(), ctx.zeros::<u32>(N).unwrap());
                        ctx.copy(scope.source(&pinned[..]), x.view_mut()).unwrap();
                        ctx.copy(scope.source(&plain[..]), y.view_mut()).unwrap();
                    })
                })
            });
            scope.spawn(|| {
                device.stream(|stream, env| {
                    let mut x = stream.ctx().with_pool().zeros::<u32>(N).unwrap();
                    stream.ctx().copy(env.source(&pinned[..]), x.view_mut()).unwrap();
                })
            });
        });
        pinned.fill(3);
        plain.fill(4);
        thread::scope(|scope| {
            scope.spawn(|| {
                device.stream(|stream, env| {
                    let ctx = stream.ctx().with_pool();
                    let x = ctx.zeros::<u32>(N).unwrap();
                    ctx.copy(x.view(), env.target(&mut pinned[..])).unwrap();
                    ctx.copy(x.view(), env.target(&mut plain[..])).unwrap();
                })
            });
        });
        assert_eq!((&pinned[..], &plain[..]), (&[0; N][..], &[0; N][..]));
        let [pinned, plain] = [add_one(device, pinned), Buffer::from_slice(&plain).unwrap()];
        assert_eq!((pinned[0], plain[0]), (1, 0));
    }
}

thread_local! {
    static LAST: core::cell::RefCell<Vec<Buffer<u32, Detached<SimBackend>>>> = const { core::cell::RefCell::new(Vec::new()) };
}

#[test]
fn detached_and_shared_memory_ends_on_any_thread() {
    for seed in 0..5 {
        let device = Checked::new(seed);
        let device = &*device;
        let [one, two] = [(); 2].map(|()| kernel_written(device));
        thread::scope(|scope| {
            scope.spawn(|| drop(one));
            // Dropped before or after the race detector's record of the thread, which lasts until
            // the thread ends.
            for engine_first in [true, false] {
                let memory = kernel_written(device);
                scope.spawn(move || {
                    let use_engine = || unsafe { device.gpu().host_touches(Use::read(at(1), 1)) };
                    engine_first.then(use_engine);
                    LAST.with_borrow_mut(|last| last.push(memory));
                    use_engine();
                });
            }
        });
        let shared = two.share();
        thread::scope(|scope| {
            for _ in 0..3 {
                // Nested streams, to which the shared memory is lent.
                let shared = shared.clone();
                scope.spawn(|| {
                    device.stream(|a, _| {
                        device.stream(|b, _| {
                            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                            let (x, mut sum) = (a.attach(shared).unwrap(), b.zeros::<u32>(1).unwrap());
                            a.lend(x.view(), &b, |x| {
                                b.launch((x, sum.view_mut()), |(x, sum)| sum[0] = x.iter().sum()).unwrap()
                            })
                            .unwrap();
                        })
                    })
                });
            }
        });
        thread::spawn(|| drop(shared)).join().unwrap();
        let gpu = device.gpu().clone();
        assert_eq!(gpu.report().allocations, 0);
    }
}

#[test]
fn a_kernel_may_drop_pinned_memory_and_a_thread_the_device() {
    let device = Checked::new(1);
    let buffer = written(&device, 1);
    device.stream(|stream, _| stream.ctx().launch((0_u32,), move |_| drop(buffer)).unwrap()).unwrap();
    let other = sim::Device::default();
    let (buffer, gpu) = (written(&other, 2), other.gpu().clone());
    thread::spawn(move || drop(other)).join().unwrap();
    assert_ordered(&gpu);
    drop(gpu);
    assert_eq!(add_one(&device, buffer)[0], 3);
}

/// Its streams have ended with it, on whatever thread.
#[test]
fn the_end_of_a_gpu_orders_every_thread_after_its_streams() {
    for ends in [true, false] {
        let [one, two] = [(); 2].map(|()| sim::Device::new(Options::quick().race_detector(true)));
        let page = two.gpu().mem_host_alloc(N).unwrap().addr().get();
        let write = |gpu: &Gpu| {
            let stream = gpu.stream_create(0).unwrap();
            gpu.launch_using(stream, Task::new(|_| Ok(())), &[Use::write(at(page), N)]).unwrap();
        };
        write(one.gpu());
        let rest = if ends {
            thread::spawn(move || drop(one)).join().unwrap();
            None
        } else {
            Some(one)
        };
        write(two.gpu());
        assert_eq!(two.gpu().check().is_ok(), ends);
        drop(rest);
    }
}

/// Pieces of the pinned pool, addresses of the device and slots of rings go from thread to thread
/// by the library's own locks.
#[test]
fn what_threads_share_implicitly_is_ordered() {
    for seed in 0..3 {
        let device = Checked::new(seed);
        thread::scope(|scope| {
            for thread in 0..3_u32 {
                let device = &device;
                scope.spawn(move || {
                    for round in 0..20 {
                        device
                            .stream_with(&tidelock::stream::StreamOptions::default().ring_bytes(1024), |stream, _| {
                                let ctx = stream.ctx().with_pool();
                                let sync = ctx.with_device_alloc(ctx.sync_alloc());
                                let (mut x, mut y) = (ctx.zeros::<u32>(64).unwrap(), sync.zeros::<u32>(64).unwrap());
                                for _ in 0..6 {
                                    ctx.upload(&[thread; 64], x.view_mut()).unwrap();
                                }
                                ctx.copy(x.view(), y.view_mut()).unwrap();
                                let staged =
                                    ctx.init_from(ctx.alloc_pinned(64).unwrap().stage(&ctx), y.view()).unwrap();
                                if round % 2 == 0 {
                                    assert_eq!(ctx.fence(staged).unwrap().wait().unwrap()[..], [thread; 64]);
                                }
                            })
                            .unwrap();
                        SimBackend::PINNED.trim(0).unwrap();
                    }
                });
            }
        });
    }
}

/// Both only read: the stream what it was lent, the batch during the call.
#[test]
fn a_batch_may_read_what_is_lent_to_a_stream() {
    let device = Checked::new(1);
    let slice = [7_u32; N];
    device
        .stream(|stream, env| {
            let ctx = stream.ctx().with_pool();
            let (mut x, mut y) = (ctx.zeros::<u32>(N).unwrap(), ctx.zeros::<u32>(N).unwrap());
            ctx.launch((0_u32,), |_| thread::sleep(core::time::Duration::from_millis(5))).unwrap();
            ctx.copy(env.source(&slice), x.view_mut()).unwrap();
            BatchCopy::new().scope(&ctx, |batch| batch.copy(View::from(&slice[..]), y.view_mut())).unwrap();
        })
        .unwrap();
}
