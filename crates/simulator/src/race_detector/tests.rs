//! What the race detector keeps does not grow in a steady loop.

use core::iter;
use std::collections::BTreeSet;

use super::{
    detector::{Place, RaceDetector},
    race::Kind,
    shadow::Span,
};
use crate::{call::Call, slots::StreamId};

#[test]
fn host_memory_that_is_never_at_one_place_twice_is_forgotten_also_if_no_stream_ends() {
    const DEVICE: u64 = u64::MAX;
    let mut detector = RaceDetector::new();
    detector.begin_device(DEVICE);
    let timeline = detector.new_timeline();
    detector.begin_stream(timeline, Place { device: DEVICE, ordinal: 0, stream: StreamId::default() }, false);
    let (me, mut own, mut most) = (1, BTreeSet::new(), 0);
    for at in 0..40_000 {
        // Apart from each other, so that they are not one range.
        let span = Span::new(0x1000 + at * 64, 32).unwrap();
        let races = detector.operation(timeline, Call::MemcpyAsync, iter::once((span, Kind::Pageable, false)), me);
        assert!(races.is_empty());
        let known = detector.release(timeline).unwrap();
        detector.thread_joins(&known, me, false);
        if at % 100 == 0 {
            most = most.max(detector.kept(DEVICE, me, &mut own)[1]);
        }
    }
    assert!(most < 5000, "{most}");
}

#[test]
fn streams_that_ended_are_forgotten() {
    const DEVICE: u64 = u64::MAX;
    let mut detector = RaceDetector::new();
    detector.begin_device(DEVICE);
    let (me, mut own, mut most) = (1, BTreeSet::new(), 0);
    for at in 0..1000 {
        let timeline = detector.new_timeline();
        detector.begin_stream(timeline, Place { device: DEVICE, ordinal: 0, stream: StreamId::default() }, false);
        let span = Span::new(0x1000 + at % 7 * 64, 64).unwrap();
        let races = detector.operation(timeline, Call::MemcpyAsync, iter::once((span, Kind::Device, true)), me);
        assert!(races.is_empty());
        detector.thread_joins(&detector.release(timeline).unwrap(), me, false);
        detector.end_stream(timeline);
        let [streams, accesses, clocks] = detector.kept(DEVICE, me, &mut own);
        most = most.max(streams + accesses + clocks);
    }
    // Of each of some 64 streams: itself, and what it, the thread and everybody know of it and of
    // those before.
    assert!(most < 64 * 64, "{most}");
}
