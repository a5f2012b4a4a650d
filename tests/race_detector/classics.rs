//! Races that other libraries allow, as driver calls. The race detector reports each, and none once
//! the missing wait is there.
//!
//! R1 to R11 are those of a widely used safe wrapper of the CUDA driver, H1 and H2 those of a
//! prototype of `lend`.

use std::{ptr, slice, sync::mpsc};

use tidelock::{
    driver::Code,
    sim::{
        Call, Fault, Gpu, Options, Use,
        gpu::{EventId, Memory, StreamId, Task},
    },
};

const N: usize = 4096;

/// A program of raw calls. `waits` says whether it makes the wait in question.
type Program = fn(&World, waits: bool);

struct World {
    gpu: Gpu,
    a: StreamId,
    b: StreamId,
    c: StreamId,
}

const PROGRAMS: &[(&str, Program, [&str; 2])] = &[
    ("R1: two read, a third writes", two_read_one_writes, ["cuMemsetD8Async", "cuMemcpyAsync"]),
    ("R2: two read, the owner frees", two_read_one_frees, ["cuMemFreeAsync", "cuMemcpyAsync"]),
    ("R3: a stream ends in flight", stream_ends_in_flight, ["cuMemcpyAsync", "cuMemsetD8Async"]),
    ("R4: one stream that is two", one_stream_that_is_two, ["cuMemcpyAsync", "cuMemsetD8Async"]),
    ("R5: event on the wrong stream", event_on_the_wrong_stream, ["cuMemsetD8Async", "cuMemcpyAsync"]),
    ("R6: host reads before the copy", host_reads_early, ["the host's own access", "cuMemcpyAsync"]),
    ("R7: host writes under the copy", host_writes_early, ["the host's own access", "cuMemcpyAsync"]),
    ("R7: host frees under the copy", host_frees_early, ["cuMemFreeHost", "cuMemcpyAsync"]),
    ("R8: replayed after the free", replayed_after_free, ["cuLaunchKernel", "cuMemFreeAsync"]),
    ("R9: record failed, error parked", record_failed, ["cuMemcpyAsync", "cuMemsetD8Async"]),
    ("R10: two exclusive views", two_exclusive_views, ["cuMemsetD8Async", "cuMemsetD8Async"]),
    ("R11: synchronise failed, then free", synchronise_failed, ["cuMemFreeHost", "cuMemcpyAsync"]),
    ("H1: written inside, then lent", written_inside_then_lent, ["cuMemsetD8Async", "cuMemsetD8Async"]),
    ("H2: lent for another lender", lent_for_another, ["cuMemcpyAsync", "cuMemsetD8Async"]),
    ("used before its allocation", used_before_allocation, ["cuMemsetD8Async", "cuMemAllocFromPoolAsync"]),
    ("copies of one batch overlap", batch_overlaps, ["cuMemcpyBatchAsync", "cuMemcpyBatchAsync"]),
];

#[test]
fn every_known_race_is_reported_and_its_wait_accepted() {
    for (name, program, [later, earlier]) in PROGRAMS {
        for waits in [true, false] {
            let gpu = Gpu::new(Options::default());
            let stream = || gpu.stream_create(0).unwrap();
            let world = World { a: stream(), b: stream(), c: stream(), gpu: gpu.clone() };
            program(&world, waits);
            match gpu.check() {
                Ok(()) => assert!(waits, "{name}: not reported"),
                Err(report) => {
                    assert!(!waits, "{name}: reported with the wait:\n{report}");
                    println!("{name:<36} {report}");
                    let names =
                        report.starts_with(&format!("race: {later}")) && report.contains(&format!("which {earlier}"));
                    assert!(names, "{name}: {report}");
                    assert!(!gpu.report().is_clean());
                }
            }
        }
    }
}

#[test]
fn a_gpu_without_a_race_detector_reports_nothing() {
    let gpu = Gpu::new(Options::default().race_detector(false));
    let stream = || gpu.stream_create(0).unwrap();
    let world = World { a: stream(), b: stream(), c: stream(), gpu: gpu.clone() };
    two_exclusive_views(&world, false);
    assert_eq!(gpu.check(), Ok(()));
    assert!(
        Options::quick() != Options::quick().race_detector(true)
            && Options::default() == Options::default().race_detector(true)
    );
}

#[test]
fn races_between_two_devices_are_reported_by_both() {
    let gpus = [0, 1].map(|ordinal| Gpu::new(Options::default().ordinal(ordinal)));
    let [one, two] = &gpus;
    let page = one.mem_host_alloc(N).unwrap().as_ptr();
    for gpu in &gpus {
        let stream = gpu.stream_create(0).unwrap();
        gpu.launch_using(stream, Task::new(|_| Ok(())), &[Use::write(page, N)]).unwrap();
    }
    let (first, second) = (one.check().unwrap_err(), two.check().unwrap_err());
    assert_eq!(first, second);
    assert!(first.contains("stream 1 of device 0") && first.contains("stream 1 of device 1"), "{first}");
}

impl World {
    /// Device memory that all streams may use.
    fn memory(&self) -> *mut u8 {
        self.gpu.mem_alloc(N).unwrap().as_ptr()
    }

    fn pinned(&self) -> *mut u8 {
        self.gpu.mem_host_alloc(N).unwrap().as_ptr()
    }

    fn set(&self, memory: *mut u8, stream: StreamId) {
        unsafe { self.gpu.memset_d8_async(memory, 1, N, stream) }.unwrap();
    }

    fn copy(&self, to: *mut u8, from: *mut u8, stream: StreamId) {
        unsafe { self.gpu.memcpy_async(to, from, N, stream) }.unwrap();
    }

    fn record(&self, stream: StreamId) -> EventId {
        let event = self.gpu.event_create().unwrap();
        self.gpu.event_record(event, stream).unwrap();
        event
    }

    /// Makes `later` wait for everything submitted to `earlier` so far.
    fn order(&self, earlier: StreamId, later: StreamId) {
        self.gpu.stream_wait_event(later, self.record(earlier)).unwrap();
    }
}

fn two_read_one_writes(w: &World, waits: bool) {
    w.set(two_read(w, waits), w.c);
}

fn two_read_one_frees(w: &World, waits: bool) {
    unsafe { w.gpu.mem_free_async(two_read(w, waits), w.c) }.unwrap();
}

/// Memory that streams `a` and `b` read before stream `c` uses it.
fn two_read(w: &World, waits: bool) -> *mut u8 {
    let (source, x, y) = (w.memory(), w.memory(), w.memory());
    w.copy(x, source, w.a);
    w.copy(y, source, w.b);
    if waits {
        w.order(w.a, w.c);
    }
    // The buffer has one event, which is that of the last reader only.
    w.order(w.b, w.c);
    source
}

fn stream_ends_in_flight(w: &World, waits: bool) {
    let (x, y) = (w.memory(), w.memory());
    w.set(x, w.a);
    if waits {
        w.order(w.a, w.b);
    }
    w.gpu.stream_destroy(w.a).unwrap();
    w.copy(y, x, w.b);
}

/// The handle stands for the calling thread's stream, and is sent to another thread.
fn one_stream_that_is_two(w: &World, waits: bool) {
    let (x, y) = (w.memory(), w.memory());
    w.set(x, w.a);
    if waits {
        w.order(w.a, w.b);
    }
    std::thread::scope(|scope| {
        let gpu = &w.gpu;
        let (x, y, b) = (x.addr(), y.addr(), w.b);
        let at = ptr::without_provenance_mut::<u8>;
        scope.spawn(move || unsafe { gpu.memcpy_async(at(y), at(x), N, b) }.unwrap());
    });
}

/// The copy runs on `c`, but the read is recorded on the stream of the source.
fn event_on_the_wrong_stream(w: &World, waits: bool) {
    let (source, target) = (w.memory(), w.memory());
    w.copy(target, source, w.c);
    w.order(if waits { w.c } else { w.a }, w.a);
    w.set(source, w.a);
}

fn host_reads_early(w: &World, waits: bool) {
    let (x, page) = (w.memory(), w.pinned());
    w.copy(page, x, w.a);
    if waits {
        w.gpu.event_synchronize(w.record(w.a)).unwrap();
    }
    unsafe { w.gpu.host_touches(Use::read(page, 1)) };
}

fn host_writes_early(w: &World, waits: bool) {
    let (x, page) = (w.memory(), w.pinned());
    w.copy(x, page, w.a);
    // Reading what the device reads is allowed.
    unsafe { w.gpu.host_touches(Use::read(page, N)) };
    if waits {
        while !w.gpu.stream_query(w.a).unwrap() {}
    }
    unsafe { w.gpu.host_touches(Use::write(page, 1)) };
}

fn host_frees_early(w: &World, waits: bool) {
    let (x, page) = (w.memory(), w.pinned());
    w.copy(x, page, w.a);
    if waits {
        w.gpu.stream_synchronize(w.a).unwrap();
    }
    unsafe { w.gpu.mem_host_free(page) }.unwrap();
}

fn replayed_after_free(w: &World, waits: bool) {
    let x = w.memory();
    let replay = || w.gpu.launch_using(w.a, Task::new(|_| Ok(())), &[Use::write(x, N)]).unwrap();
    replay();
    w.order(w.a, w.b);
    if waits {
        // A graph that keeps its memory is replayed first, and its memory is freed after it.
        replay();
        w.order(w.a, w.b);
        unsafe { w.gpu.mem_free_async(x, w.b) }.unwrap();
    } else {
        // The free is held until the replay is enqueued: of memory that is free already the detector
        // has no accesses any more.
        let (release, held) = mpsc::channel::<()>();
        let hold = move |_: &Memory| {
            let _ = held.recv();
            Ok(())
        };
        w.gpu.launch(w.b, Task::new(hold)).unwrap();
        unsafe { w.gpu.mem_free_async(x, w.b) }.unwrap();
        replay();
        drop(release);
    }
}

fn record_failed(w: &World, waits: bool) {
    let (x, y) = (w.memory(), w.memory());
    let event = w.gpu.event_create().unwrap();
    w.set(x, w.a);
    if !waits {
        w.gpu.fail(Fault { nth: 1, onwards: false, call: Some(Call::EventRecord), code: Code::INVALID_VALUE });
    }
    // The error is stored, and the program never looks at it.
    let _ = w.gpu.event_record(event, w.a);
    w.gpu.stream_wait_event(w.b, event).unwrap();
    w.copy(y, x, w.b);
}

fn two_exclusive_views(w: &World, waits: bool) {
    let x = w.memory();
    w.set(x, w.a);
    if waits {
        w.order(w.a, w.b);
    }
    w.set(x, w.b);
}

fn synchronise_failed(w: &World, waits: bool) {
    let (x, page) = (w.memory(), w.pinned());
    w.copy(x, page, w.a);
    if !waits {
        w.gpu.fail(Fault { nth: 1, onwards: false, call: Some(Call::StreamSynchronize), code: Code::INVALID_VALUE });
    }
    let _ = w.gpu.stream_synchronize(w.a);
    unsafe { w.gpu.mem_host_free(page) }.unwrap();
}

/// The child `b` waits for the parent `a` on entry. The parent then writes inside the region, and
/// lends the memory.
fn written_inside_then_lent(w: &World, waits: bool) {
    let x = w.memory();
    w.order(w.a, w.b);
    w.set(x, w.a);
    if waits {
        w.order(w.a, w.b);
    }
    w.set(x, w.b);
    w.order(w.b, w.a);
    w.set(x, w.a);
}

/// The child `b` waits for its parent `a`, and is lent memory of `c`, which is no ancestor.
fn lent_for_another(w: &World, waits: bool) {
    let (x, y) = (w.memory(), w.memory());
    w.set(x, w.c);
    w.order(if waits { w.c } else { w.a }, w.b);
    w.copy(y, x, w.b);
}

fn used_before_allocation(w: &World, waits: bool) {
    let pool = w.gpu.default_pool().unwrap();
    let x = w.gpu.mem_alloc_async(N, pool, w.a).unwrap().as_ptr();
    if waits {
        w.order(w.a, w.b);
    }
    w.set(x, w.b);
}

fn batch_overlaps(w: &World, waits: bool) {
    let (x, y) = (w.memory(), w.memory());
    let shift = if waits { N / 2 } else { N / 2 - 1 };
    let dst = [y, y.wrapping_add(shift)];
    let len = [N / 2; 2];
    let src = [x.cast_const(), x.wrapping_add(N / 2).cast_const()];
    unsafe { w.gpu.memcpy_batch_async(&dst, &src, &len, 2, w.a) }.unwrap();
    // Two reads of one range are no race.
    let dst = slice::from_ref(&y);
    unsafe { w.gpu.memcpy_batch_async(dst, &src[..1], &len[..1], 1, w.a) }.unwrap();
}
