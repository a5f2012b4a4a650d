//! Memory from elsewhere: when its owner is dropped, and what the owner may do in its drop.

use std::{
    num::NonZero,
    panic::panic_any,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    Buffer, Ctx, Error,
    driver::{Allocation, Code, HostFns, OpenOptions, Pool, RawDevice, RawStream},
    sim::{self, Call, Fault, Sim, SimBackend},
    stream::{Detached, Shared},
};

use super::{Gate, assert_clean, get, put, ramp, within};

type Foreign = Buffer<u32, Detached<SimBackend>>;

/// An owner: counts its drops, and does `last` in them.
struct Owner<F: FnMut() + Send + Sync + 'static> {
    drops: Arc<AtomicUsize>,
    last: F,
    /// Declared last, so that the memory is freed after `last`.
    _memory: Foreign,
}

impl<F: FnMut() + Send + Sync + 'static> Drop for Owner<F> {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        (self.last)();
    }
}

fn watched() -> sim::Device {
    sim::Device::new(sim::Options::quick().race_detector(true))
}

/// Memory of a stream of its own, which has ended.
fn memory(device: &sim::Device, values: &[u32]) -> Foreign {
    device.stream(|stream, _env| stream.ctx().detach(put(&stream.ctx().with_pool(), values)).unwrap()).unwrap()
}

/// The memory as shared memory of a stream, with an owner that does `last` when it is dropped.
fn adopted<'s, A, F: FnMut() + Send + Sync + 'static>(
    ctx: &Ctx<'_, Sim<'s>, A>,
    memory: Foreign,
    drops: &Arc<AtomicUsize>,
    last: F,
) -> Shared<u32, Sim<'s>> {
    let (ptr, len) = (NonNull::new(memory.view().as_ptr().cast_mut()).unwrap(), memory.len());
    // SAFETY:
    // - The owner has the memory, which nothing else uses. The stream that wrote it has ended.
    // - It is one whole allocation.
    unsafe { Shared::from_raw(ctx, ptr, len, Owner { drops: drops.clone(), last, _memory: memory }) }
}

fn drops() -> Arc<AtomicUsize> {
    Arc::default()
}

/// Waits until `drops` has come to `count`.
#[track_caller]
fn comes_to(drops: &AtomicUsize, count: usize) {
    let start = Instant::now();
    while drops.load(Ordering::SeqCst) < count && start.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(drops.load(Ordering::SeqCst), count);
}

#[test]
fn an_owner_goes_when_all_streams_have_passed() {
    let (device, drops) = (watched(), drops());
    let x = memory(&device, &ramp(1, 64));
    device
        .stream(|mut a, _env| {
            device
                .stream(|mut b, _env| {
                    let (here, there) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let mine = adopted(&here, x, &drops, || ());
                    let theirs = here.transfer(mine.clone(), &there).unwrap();
                    let gate = Gate::close(&there);
                    let copy = there.init_from(there.alloc(64).unwrap(), theirs.view()).unwrap();
                    drop((mine, theirs));
                    a.synchronize().unwrap();
                    assert_eq!(drops.load(Ordering::SeqCst), 0, "the other stream still reads");
                    drop(gate);
                    assert_eq!(get(&mut b, copy.view()), ramp(1, 64));
                    assert_eq!(drops.load(Ordering::SeqCst), 1);
                })
                .unwrap();
        })
        .unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    settles(&device);
}

#[test]
fn the_last_detached_owner_does_not_wait_and_does_not_leak() {
    let (device, drops) = (watched(), drops());
    let x = memory(&device, &ramp(1, 64));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let shared = adopted(&ctx, x, &drops, || ());
            let gate = Gate::close(&ctx);
            let copy = ctx.init_from(ctx.alloc(64).unwrap(), shared.view()).unwrap();
            let detached = ctx.detach(shared).unwrap();
            // Returns although the stream is held.
            thread::spawn(move || drop(detached)).join().unwrap();
            assert_eq!(drops.load(Ordering::SeqCst), 0);
            drop(gate);
            comes_to(&drops, 1);
            assert_eq!(get(&mut stream, copy.view()), ramp(1, 64));
        })
        .unwrap();
    assert_eq!((drops.load(Ordering::SeqCst), tidelock::Device::leaked_bytes(&device)), (1, 0));
    settles(&device);
}

#[test]
fn any_number_of_owners_wait_for_held_streams() {
    const OWNERS: usize = 300;
    within(Duration::from_secs(60), || {
        let (device, drops) = (watched(), drops());
        let memory: Vec<_> = (0..OWNERS).map(|_| memory(&device, &[7])).collect();
        device
            .stream(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                let gate = Gate::close(&ctx);
                for memory in memory {
                    let shared = adopted(&ctx, memory, &drops, || ());
                    drop(ctx.init_from(ctx.alloc(1).unwrap(), shared.view()).unwrap());
                    drop(ctx.detach(shared).unwrap());
                }
                assert_eq!(drops.load(Ordering::SeqCst), 0);
                drop(gate);
                comes_to(&drops, OWNERS);
            })
            .unwrap();
        settles(&device);
    });
}

#[test]
fn an_owner_dropped_in_a_kernel_and_after_its_stream() {
    let (device, drops) = (watched(), drops());
    let (x, y) = (memory(&device, &[1, 2]), memory(&device, &[3, 4]));
    let outlives = device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (first, second) = (adopted(&ctx, x, &drops, || ()), adopted(&ctx, y, &drops, || ()));
            drop(ctx.init_from(ctx.alloc(2).unwrap(), first.view()).unwrap());
            let (captured, outlives) = (ctx.detach(first).unwrap(), ctx.detach(second).unwrap());
            ctx.launch((0_u32,), move |_| drop(captured)).unwrap();
            outlives
        })
        .unwrap();
    comes_to(&drops, 1);
    thread::spawn(move || drop(outlives)).join().unwrap();
    comes_to(&drops, 2);
    settles(&device);
}

/// Waits until the thread of the library has given back what it dropped last: an owner counts its drop
/// before its fields are dropped.
fn settles(device: &sim::Device) {
    let start = Instant::now();
    while !device.gpu().report().is_clean() && start.elapsed() < Duration::from_secs(20) {
        thread::yield_now();
    }
    assert_clean(device);
}

#[test]
fn owners_that_panic() {
    /// A payload that panics in turn.
    struct Worse;
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("the payload panics");
        }
    }
    let (device, drops) = (watched(), drops());
    let worse = || panic_any(Worse);
    let [a, b, c] = [[1], [2], [3]].map(|values| memory(&device, &values));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            drop(adopted(&ctx, a, &drops, worse));
            stream.synchronize().unwrap();
            assert_eq!(drops.load(Ordering::SeqCst), 1, "in the sweep of a wait");
            let ctx = stream.ctx().with_pool();
            let shared = adopted(&ctx, b, &drops, worse);
            let gate = Gate::close(&ctx);
            drop(ctx.detach(shared).unwrap());
            drop(gate);
            comes_to(&drops, 2);
            // The thread of the library goes on.
            let shared = adopted(&ctx, c, &drops, worse);
            let gate = Gate::close(&ctx);
            drop(ctx.detach(shared).unwrap());
            drop(gate);
            comes_to(&drops, 3);
        })
        .unwrap();
    settles(&device);
}

#[test]
fn owners_that_use_the_library_in_their_drop() {
    let (device, drops) = (watched(), drops());
    let [a, b, inner] = [[1], [2], [3]].map(|values| memory(&device, &values));
    let step = |device: &sim::Device| {
        let device = device.clone();
        move || {
            device
                .stream(|mut stream, _env| {
                    let x = put(&stream.ctx().with_pool(), &[5_u32]);
                    assert_eq!(get(&mut stream, x.view()), [5]);
                })
                .unwrap();
        }
    };
    let ran = Arc::new(AtomicUsize::new(0));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            // It opens a stream, and drops a further owner of foreign memory with work in flight.
            let held = adopted(&ctx, inner, &drops, || ());
            let mut held = Some(ctx.detach(held).unwrap());
            let (run, counted) = (step(&device), ran.clone());
            let outer = adopted(&ctx, a, &drops, move || {
                run();
                drop(held.take());
                counted.fetch_add(1, Ordering::SeqCst);
            });
            drop(outer);
            stream.synchronize().unwrap();
            comes_to(&drops, 2);
            // The same on the thread of the library.
            let ctx = stream.ctx().with_pool();
            let (run, counted) = (step(&device), ran.clone());
            let shared = adopted(&ctx, b, &drops, move || {
                run();
                counted.fetch_add(1, Ordering::SeqCst);
            });
            let gate = Gate::close(&ctx);
            drop(ctx.detach(shared).unwrap());
            drop(gate);
            comes_to(&drops, 3);
        })
        .unwrap();
    comes_to(&ran, 2);
    settles(&device);
}

#[test]
fn an_owner_of_nothing_lives_as_long_as_its_memory() {
    let (device, drops) = (watched(), drops());
    let [a, b] = [[1], [2]].map(|values| memory(&device, &values));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let place = NonNull::<[u32; 0]>::dangling();
            let panics = || panic_any("dropped");
            let owner = Owner { drops: drops.clone(), last: panics, _memory: a };
            // SAFETY:
            // - There are no bytes.
            let empty = unsafe { Shared::from_raw(&ctx, place, usize::MAX, owner) };
            assert_eq!(drops.load(Ordering::SeqCst), 0);
            assert_eq!(empty.len(), usize::MAX);
            let empty = empty.try_unwrap().expect_err("it is not a stream's own memory");
            drop(empty);
            stream.synchronize().unwrap();
            assert_eq!(drops.load(Ordering::SeqCst), 1);
            let owner = Owner { drops: drops.clone(), last: panics, _memory: b };
            // SAFETY:
            // - There are no bytes.
            let empty = unsafe { Shared::<u32, _>::from_raw_detached(&device, NonNull::dangling(), 0, None, owner) };
            drop(empty.unwrap());
            comes_to(&drops, 2);
        })
        .unwrap();
    settles(&device);
}

#[test]
fn an_owner_is_leaked_once_if_the_device_breaks() {
    let (device, drops) = (watched(), drops());
    let x = memory(&device, &ramp(0, 64));
    let owner = drops.clone();
    let _ = device.stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let shared = adopted(&ctx, x, &owner, || ());
        let gate = Gate::close(&ctx);
        drop(ctx.init_from(ctx.alloc(64).unwrap(), shared.view()).unwrap());
        let detached = ctx.detach(shared).unwrap();
        device.gpu().fail(Fault { nth: 1, onwards: true, call: None, code: Code::LAUNCH_FAILED });
        drop(detached);
        drop(gate);
    });
    let start = Instant::now();
    while tidelock::Device::leaked_bytes(&device) == 0 && start.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_micros(100));
    }
    assert_eq!((drops.load(Ordering::SeqCst), tidelock::Device::leaked_bytes(&device)), (0, 256));
}

/// Holds a stream until the sender is dropped.
fn hold(stream: &sim::SimStream) -> mpsc::Sender<()> {
    let (open, opened) = mpsc::channel::<()>();
    let wait = move |_: &_| {
        let _ = opened.recv();
        Ok(())
    };
    // SAFETY:
    // - The closure uses no memory of the device.
    unsafe { stream.run(wait, |_| ()) }.unwrap();
    open
}

/// A stream of another library: it makes the calls of the driver itself.
#[test]
fn detached_memory_behind_a_foreign_event() {
    let (device, drops) = (watched(), drops());
    let theirs = device.open(&OpenOptions::new(Pool::Default, 0)).unwrap();
    let bytes = NonZero::new(64 * 4).unwrap();
    let ptr = theirs.alloc(Allocation::new(bytes)).unwrap();
    let event = theirs.create_event().unwrap();
    let late = hold(&theirs);
    // SAFETY:
    // - The memory was just allocated, and has so many bytes.
    unsafe { theirs.fill(ptr.as_ptr(), 3, bytes) }.unwrap();
    // SAFETY:
    // - The event is of the device.
    unsafe { theirs.record(event) }.unwrap();
    let marker = memory(&device, &[0]);
    let owner = Owner { drops: drops.clone(), last: || (), _memory: marker };
    // SAFETY:
    // - The memory is as long, and written before the event only.
    // - It is one allocation, which is freed once the owner was dropped.
    let shared = unsafe { Shared::<u32, _>::from_raw_detached(&device, ptr.cast(), 64, Some(event), owner) }.unwrap();
    // The event stays the caller's: it is recorded again behind work that is still to run, and
    // destroyed.
    let release = hold(&theirs);
    // SAFETY:
    // - The event is of the device.
    unsafe { theirs.record(event) }.unwrap();
    // SAFETY:
    // - The event is of the device and is not used any more.
    unsafe { device.destroy_event(event) };
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        drop(late);
    });
    device
        .stream(|mut stream, _env| {
            let shared = stream.ctx().attach(shared).unwrap();
            assert_eq!(get(&mut stream, shared.view()), [0x0303_0303; 64]);
        })
        .unwrap();
    comes_to(&drops, 1);
    drop(release);
    theirs.synchronize().unwrap();
    // SAFETY:
    // - All work on the memory was waited for.
    unsafe { theirs.free(ptr) }.unwrap();
    theirs.synchronize().unwrap();
    drop(theirs);
    settles(&device);
}

#[test]
fn a_refused_event_returns_the_owner() {
    let (device, drops) = (watched(), drops());
    let x = memory(&device, &[1]);
    let ptr = NonNull::new(x.view().as_ptr().cast_mut()).unwrap();
    device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(Call::EventCreate), code: Code::OUT_OF_MEMORY });
    let owner = Owner { drops: drops.clone(), last: || (), _memory: x };
    // SAFETY:
    // - The owner has the memory, which nothing else uses.
    let refused = unsafe { Shared::<u32, _>::from_raw_detached(&device, ptr, 1, None, owner) }.unwrap_err();
    device.gpu().disarm();
    assert!(matches!(refused.error, Error::Driver(error) if error.code == Code::OUT_OF_MEMORY));
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(refused.value);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    settles(&device);
}

/// The address and the length of memory that no stream has: what an exporter needs.
#[test]
fn detached_memory_has_an_address_and_a_length() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(0, 64));
            let place = x.view().as_ptr();
            let detached: Foreign = ctx.detach(x).unwrap();
            assert_eq!((detached.as_ptr(), detached.len()), (place, 64));
            assert_eq!((detached.view().as_ptr(), detached.view().len()), (place, 64));
            let part = detached.share().slice(8..).unwrap();
            assert_eq!((part.as_ptr(), part.len()), (place.wrapping_add(8), 56));
        })
        .unwrap();
    settles(&device);
}
