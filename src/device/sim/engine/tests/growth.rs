//! What the engine and the oracle keep does not grow in a steady loop.

use core::iter;
use std::collections::BTreeSet;

use super::{
    super::{
        oracle,
        race::Kind,
        shadow::Span,
        world::{Place, World},
    },
    *,
};
use crate::{
    device::sim::{Device, SimBackend},
    stream::Detached,
};

/// Everything that one engine keeps, and what the oracle keeps of its streams.
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
    oracle: [usize; 3],
}

impl Kept {
    /// Whether nothing is more than an eighth above `other`.
    fn is_within(self, other: Kept) -> bool {
        let numbers = |kept: Kept| {
            let rest = [kept.ranges, kept.boxes, kept.orphans, kept.pinned];
            [&kept.slots[..], &rest[..], &kept.oracle[..]].concat()
        };
        numbers(self).iter().zip(numbers(other)).all(|(mine, other)| *mine <= other + other / 8 + 4)
    }
}

/// What `engine` keeps; `lines` collects its streams, as the oracle calls them.
fn kept(engine: &Engine, lines: &mut BTreeSet<u64>) -> Kept {
    let shared = engine.shared();
    let (streams, (events, known)) = (lock(&shared.streams).len(), {
        let events = lock(&shared.events);
        (events.len(), events.values().map(calls_stream::Event::known).sum::<usize>())
    });
    let (pools, ranges) = lock(&shared.heap).sizes();
    let [lines, accesses, clocks] = oracle::kept(shared.id, lines);
    Kept {
        slots: [streams, events, pools],
        ranges,
        boxes: shared.recycler.len(),
        orphans: shared.orphans.len(),
        pinned: pinned::held_by(shared.id).0,
        oracle: [lines, accesses, clocks + known],
    }
}

/// Runs `step` again and again; nothing may be more at the end than it was after a third of the rounds.
fn is_steady(engine: &Engine, rounds: usize, mut step: impl FnMut(usize)) {
    let mut lines = BTreeSet::new();
    let mut early = None;
    for round in 0..rounds {
        step(round);
        let now = kept(engine, &mut lines);
        if round == rounds / 3 {
            early = Some(now);
        } else if round + 1 == rounds {
            let early = early.unwrap();
            assert!(now.is_within(early), "{early:?}\n{now:?}");
        }
    }
    assert_eq!(engine.report().findings, [""; 0]);
}

/// Memory of a stream that has ended.
fn detached(device: &Device) -> Detached<u32, SimBackend> {
    device.stream(|stream, _| stream.ctx().detach(stream.ctx().with_pool().zeros(64).unwrap()).unwrap()).unwrap()
}

#[test]
fn handles_made_and_destroyed_leave_nothing_behind() {
    const COPIES: usize = 40;
    for by_thread in [false, true] {
        let engine = Engine::new(Options { by_thread, ..Options::quick().oracle(true) });
        let kept = engine.stream_create(0).unwrap();
        let target = alloc(&engine, COPIES * 64, kept);
        // Host memory that is never at the same place twice.
        let source = vec![1_u8; 300 * COPIES * 64];
        is_steady(&engine, 300, |round| {
            let (stream, event) = (engine.stream_create(0).unwrap(), engine.event_create().unwrap());
            let pool = engine.pool_create(if round % 2 == 0 { 0 } else { u64::MAX }).unwrap();
            let memory = engine.mem_alloc_async(64 << (round % 4), pool, stream).unwrap().as_ptr();
            let plain = engine.mem_alloc(100).unwrap().as_ptr();
            let pinned = engine.mem_host_alloc(100).unwrap().as_ptr();
            let from = &source[round * COPIES * 64..][..COPIES * 64];
            for (at, piece) in from.chunks(64).enumerate() {
                upload(&engine, target.wrapping_add(at * 64), piece, kept).unwrap();
            }
            unsafe { engine.memcpy_async(memory, pinned, 64, stream) }.unwrap();
            unsafe { engine.memset_d8_async(plain, 1, 100, stream) }.unwrap();
            engine.launch(stream, Task::new(|_| Ok(()))).unwrap();
            engine.event_record(event, stream).unwrap();
            engine.stream_wait_event(kept, event).unwrap();
            free(&engine, memory, kept);
            engine.event_synchronize(event).unwrap();
            engine.stream_synchronize(kept).unwrap();
            if by_thread {
                oracle::host_touches(Use::write(from.as_ptr(), from.len()), "the owner");
            }
            unsafe { engine.mem_free(plain) }.unwrap();
            unsafe { engine.mem_host_free(pinned) }.unwrap();
            engine.pool_destroy(pool).unwrap();
            engine.event_destroy(event).unwrap();
            engine.stream_destroy(stream).unwrap();
        });
    }
}

#[test]
fn host_memory_that_is_never_at_one_place_twice_is_forgotten_also_if_no_stream_ends() {
    const DEVICE: u64 = u64::MAX;
    let mut world = World::new();
    world.begin_device(DEVICE);
    let timeline = world.new_timeline();
    world.begin_line(timeline, Place { device: DEVICE, ordinal: 0, stream: StreamId::default() }, false);
    let (me, mut own, mut most) = (1, BTreeSet::new(), 0);
    for at in 0..40_000 {
        // Apart from each other, so that they are not one range.
        let span = Span::new(0x1000 + at * 64, 32).unwrap();
        let races = world.operation(timeline, Call::MemcpyAsync, iter::once((span, Kind::Pageable, false)), me);
        assert!(races.is_empty());
        let known = world.knowledge(timeline).unwrap();
        world.host_learns(&known, me, false);
        if at % 100 == 0 {
            most = most.max(world.kept(DEVICE, me, &mut own)[1]);
        }
    }
    assert!(most < 5000, "{most}");
}

#[test]
fn streams_that_ended_are_forgotten() {
    const DEVICE: u64 = u64::MAX;
    let mut world = World::new();
    world.begin_device(DEVICE);
    let (me, mut own, mut most) = (1, BTreeSet::new(), 0);
    for at in 0..1000 {
        let timeline = world.new_timeline();
        world.begin_line(timeline, Place { device: DEVICE, ordinal: 0, stream: StreamId::default() }, false);
        let span = Span::new(0x1000 + at % 7 * 64, 64).unwrap();
        let races = world.operation(timeline, Call::MemcpyAsync, iter::once((span, Kind::Device, true)), me);
        assert!(races.is_empty());
        world.host_learns(&world.knowledge(timeline).unwrap(), me, false);
        world.end_line(timeline);
        let [lines, accesses, clocks] = world.kept(DEVICE, me, &mut own);
        most = most.max(lines + accesses + clocks);
    }
    // Of each of some 64 streams: itself, and what it, the thread and everybody know of it and of those before.
    assert!(most < 64 * 64, "{most}");
}

#[test]
fn frozen_memory_does_not_collect_the_streams_of_threads_that_read_it() {
    let device = Device::new(Options::quick().oracle(true));
    let frozen = detached(&device).freeze();
    is_steady(device.engine(), 600, |_| {
        let read = || {
            device
                .stream(|stream, env| {
                    let x = env.frozen(&frozen).unwrap();
                    stream.ctx().launch((x,), |(x,)| assert_eq!(x[63], 0)).unwrap();
                })
                .unwrap();
        };
        thread::scope(|scope| scope.spawn(read).join().unwrap());
    });
    drop(frozen);
    device.engine().check().unwrap();
    assert!(device.engine().report().is_clean());
}

#[test]
fn memory_dropped_in_kernels_leaves_nothing_behind() {
    let device = Device::new(Options::quick().oracle(true));
    is_steady(device.engine(), 300, |_| {
        device
            .stream(|mut stream, _| {
                let ctx = stream.ctx();
                let detached = ctx.detach(ctx.with_pool().zeros::<u32>(64).unwrap()).unwrap();
                ctx.launch((0_u32,), move |_| drop(detached)).unwrap();
                stream.synchronize().unwrap();
            })
            .unwrap();
    });
    assert!(device.engine().report().is_clean());
}

thread_local! {
    static LAST: core::cell::RefCell<Vec<Detached<u32, SimBackend>>> = const { core::cell::RefCell::new(Vec::new()) };
}

#[test]
fn threads_that_make_calls_while_they_end_are_not_kept() {
    let device = Device::new(Options::quick().oracle(true));
    let before = oracle::threads_kept();
    for _ in 0..400 {
        let memory = detached(&device);
        thread::scope(|scope| {
            scope.spawn(|| {
                // Destructors run in the order of the first uses, or in the opposite one.
                let first = || LAST.with_borrow(Vec::len);
                let _ = (first(), threads::current(), first());
                LAST.with_borrow_mut(|last| last.push(memory));
            });
            scope.spawn(|| {
                let _ = (threads::current(), LAST.with_borrow(Vec::len));
            });
        });
    }
    // Other tests have threads too.
    assert!(oracle::threads_kept() < before + 200, "{} threads before, {} now", before, oracle::threads_kept());
    assert!(device.engine().report().is_clean());
}
