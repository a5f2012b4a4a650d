//! What the device and the race detector keep does not grow in a steady loop.

use core::time::Duration;
use std::{collections::BTreeSet, time::Instant};

use super::{super::event::Event, *};

/// Everything that one device keeps, and what the race detector keeps of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// Slots of tables, used or free.
    slots: [usize; 3],
    /// Ranges of device addresses, live or cached.
    ranges: usize,
    /// Boxes that operations travel in.
    boxes: usize,
    orphans: usize,
    pinned: usize,
    /// Streams, ranges of bytes with their accesses, and entries of clocks.
    race_detector: [usize; 3],
}

impl Kept {
    /// Whether nothing is more than an eighth above `other`.
    fn is_within(self, other: Kept) -> bool {
        let numbers = |kept: Kept| {
            let rest = [kept.ranges, kept.boxes, kept.orphans, kept.pinned];
            [&kept.slots[..], &rest[..], &kept.race_detector[..]].concat()
        };
        numbers(self).iter().zip(numbers(other)).all(|(mine, other)| *mine <= other + other / 8 + 4)
    }
}

/// What `gpu` keeps; `timelines` collects its streams, as the race detector numbers them.
fn kept(gpu: &Gpu, timelines: &mut BTreeSet<u64>) -> Kept {
    let shared = gpu.shared();
    let (streams, (events, known)) = (lock(&shared.streams).len(), {
        let events = lock(&shared.events);
        (events.len(), events.values().map(Event::known).sum::<usize>())
    });
    let (pools, ranges) = lock(&shared.heap).sizes();
    let [remembered, accesses, clocks] = race_detector::kept(shared.id, timelines);
    Kept {
        slots: [streams, events, pools],
        ranges,
        boxes: shared.recycler.len(),
        orphans: shared.orphans.len(),
        pinned: pinned::held_by(shared.id).0,
        race_detector: [remembered, accesses, clocks + known],
    }
}

/// Runs `step` again and again; nothing may be more at the end than it was after a third of the
/// rounds.
fn is_steady(gpu: &Gpu, rounds: usize, mut step: impl FnMut(usize)) {
    let mut timelines = BTreeSet::new();
    let mut early = None;
    for round in 0..rounds {
        step(round);
        let now = kept(gpu, &mut timelines);
        if round == rounds / 3 {
            early = Some(now);
        } else if round + 1 == rounds {
            let early = early.unwrap();
            assert!(now.is_within(early), "{early:?}\n{now:?}");
        }
    }
    assert_eq!(gpu.report().findings, [""; 0]);
}

/// Memory of a stream that has ended, and an event that was recorded behind all work on it. Drop
/// frees it, as the typed layer does.
struct Detached {
    gpu: Gpu,
    address: usize,
    event: EventId,
}

const BYTES: usize = 256;

impl Detached {
    fn new(gpu: &Gpu) -> Self {
        on_stream(gpu, |stream| Detached::of(gpu, stream))
    }

    fn of(gpu: &Gpu, stream: StreamId) -> Self {
        let (memory, event) = (alloc(gpu, BYTES, stream), gpu.event_create().unwrap());
        unsafe { gpu.memset_d8_async(memory, 0, BYTES, stream) }.unwrap();
        gpu.event_record(event, stream).unwrap();
        Detached { gpu: gpu.clone(), address: memory.addr(), event }
    }

    fn memory(&self) -> *mut u8 {
        ptr::without_provenance_mut(self.address)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        unsafe { self.gpu.free_behind(&[self.event], ptr::NonNull::new(self.memory()).unwrap()) };
        // A kernel makes no call of the driver.
        if !unsafe { self.gpu.destroys_event(self.event) } {
            self.gpu.event_destroy(self.event).unwrap();
        }
    }
}

/// Runs `f` with a stream that is waited for at its end, where its loans end.
fn on_stream<R>(gpu: &Gpu, f: impl FnOnce(StreamId) -> R) -> R {
    let stream = gpu.stream_create(0).unwrap();
    let value = f(stream);
    gpu.stream_synchronize(stream).unwrap();
    unsafe { gpu.loans_end(stream) };
    gpu.stream_destroy(stream).unwrap();
    value
}

/// A watched device that tells the threads of the host apart, as that of the typed layer does.
fn watched() -> Gpu {
    Gpu::new(Options::quick().race_detector(true).by_thread(true))
}

#[test]
fn handles_made_and_destroyed_leave_nothing_behind() {
    const COPIES: usize = 40;
    for by_thread in [false, true] {
        let gpu = Gpu::new(Options::quick().race_detector(true).by_thread(by_thread));
        let kept = gpu.stream_create(0).unwrap();
        let target = alloc(&gpu, COPIES * 64, kept);
        // Host memory that is never at the same place twice.
        let source = vec![1_u8; 300 * COPIES * 64];
        is_steady(&gpu, 300, |round| {
            let (stream, event) = (gpu.stream_create(0).unwrap(), gpu.event_create().unwrap());
            let pool = gpu.pool_create(if round % 2 == 0 { 0 } else { u64::MAX }).unwrap();
            let memory = gpu.mem_alloc_async(64 << (round % 4), pool, stream).unwrap().as_ptr();
            let plain = gpu.mem_alloc(100).unwrap().as_ptr();
            let pinned = gpu.mem_host_alloc(100).unwrap().as_ptr();
            let from = &source[round * COPIES * 64..][..COPIES * 64];
            for (at, piece) in from.chunks(64).enumerate() {
                upload(&gpu, target.wrapping_add(at * 64), piece, kept).unwrap();
            }
            unsafe { gpu.memcpy_async(memory, pinned, 64, stream) }.unwrap();
            unsafe { gpu.memset_d8_async(plain, 1, 100, stream) }.unwrap();
            gpu.launch(stream, Task::new(|_| Ok(()))).unwrap();
            gpu.event_record(event, stream).unwrap();
            gpu.stream_wait_event(kept, event).unwrap();
            free(&gpu, memory, kept);
            gpu.event_synchronize(event).unwrap();
            gpu.stream_synchronize(kept).unwrap();
            if by_thread {
                unsafe { host_touches(Use::write(from.as_ptr(), from.len()), "the owner") };
            }
            unsafe { gpu.mem_free(plain) }.unwrap();
            unsafe { gpu.mem_host_free(pinned) }.unwrap();
            gpu.pool_destroy(pool).unwrap();
            gpu.event_destroy(event).unwrap();
            gpu.stream_destroy(stream).unwrap();
        });
    }
}

#[test]
fn memory_that_is_only_read_does_not_collect_the_streams_of_threads_that_read_it() {
    let gpu = watched();
    let weights = Detached::new(&gpu);
    is_steady(&gpu, 600, |_| {
        let read = || {
            on_stream(&gpu, |stream| {
                gpu.stream_wait_event(stream, weights.event).unwrap();
                let address = weights.address;
                let task = Task::new(move |memory| {
                    let first = memory.resolve(ptr::without_provenance_mut(address), BYTES)?;
                    assert_eq!(unsafe { first.add(BYTES - 1).read() }, 0);
                    Ok(())
                });
                gpu.launch_using(stream, task, &[Use::read(weights.memory(), BYTES)]).unwrap();
            });
        };
        thread::scope(|scope| scope.spawn(read).join().unwrap());
    });
    drop(weights);
    gpu.check().unwrap();
    assert!(gpu.report().is_clean());
}

#[test]
fn memory_dropped_in_kernels_leaves_nothing_behind() {
    let gpu = watched();
    is_steady(&gpu, 300, |_| {
        on_stream(&gpu, |stream| {
            let detached = Detached::of(&gpu, stream);
            let task = Task::new(move |_| {
                drop(detached);
                Ok(())
            });
            gpu.launch(stream, task).unwrap();
        });
    });
    assert!(gpu.report().is_clean());
}

thread_local! {
    static LAST: core::cell::RefCell<Vec<Detached>> = const { core::cell::RefCell::new(Vec::new()) };
}

#[test]
fn threads_that_make_calls_while_they_end_are_not_kept() {
    let gpu = watched();
    let before = race_detector::threads_kept();
    for _ in 0..400 {
        let memory = Detached::new(&gpu);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Destructors run in the order of the first uses, or in the opposite one.
                let first = || LAST.with_borrow(Vec::len);
                let _ = (first(), race_detector::current_thread(), first());
                LAST.with_borrow_mut(|last| last.push(memory));
            });
            scope.spawn(|| {
                let _ = (race_detector::current_thread(), LAST.with_borrow(Vec::len));
            });
        });
    }
    // Other tests have threads too.
    assert!(
        race_detector::threads_kept() < before + 200,
        "{} threads before, {} now",
        before,
        race_detector::threads_kept()
    );
    // A scope does not wait for what its threads drop while they end.
    let start = Instant::now();
    while !gpu.report().is_clean() && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(gpu.report().is_clean());
}
