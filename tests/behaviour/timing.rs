//! Marks, and the time between them: what it covers, what it costs, and marks that are dropped,
//! forgotten, refused or broken.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use tidelock::{
    Ctx, Error,
    driver::Code,
    sim::{self, Call, Counts, Fault, Sim},
    stream::{Elapsed, Mark},
};

use super::{Gate, quick, slow};

const MS: Duration = Duration::from_millis(1);

/// Enqueues work that takes at least `time`.
fn busy<A>(ctx: &Ctx<'_, Sim<'_>, A>, time: Duration) {
    ctx.launch((), move |()| thread::sleep(time)).unwrap();
}

fn fail(device: &sim::Device, call: Call, code: Code) {
    device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(call), code });
}

fn counts(device: &sim::Device, f: impl FnOnce()) -> Counts {
    let before = device.gpu().counts();
    f();
    device.gpu().counts() - before
}

/// The calls that marks and their waits make.
fn of_events(counts: &Counts) -> [u64; 5] {
    [Call::EventCreate, Call::EventRecord, Call::EventQuery, Call::EventSynchronize, Call::EventElapsedTime]
        .map(|call| counts.of(call))
}

#[test]
fn a_span_covers_what_is_enqueued_between_its_points() {
    quick()
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let outer = ctx.mark().unwrap();
            busy(&ctx, 30 * MS);
            let inner = ctx.mark().unwrap();
            busy(&ctx, 5 * MS);
            let inner = ctx.elapsed_since(inner).unwrap();
            busy(&ctx, 30 * MS);
            let outer = ctx.elapsed_since(outer).unwrap();
            let (inner, outer) = (inner.wait().unwrap(), outer.wait().unwrap());
            assert!(inner >= 5 * MS, "{inner:?}");
            assert!(outer >= inner + 60 * MS, "{inner:?} in {outer:?}");
            // Nothing in between is hardly any time, and never less than none.
            let nothing = ctx.elapsed_since(ctx.mark().unwrap()).unwrap().wait().unwrap();
            assert!(nothing < 1000 * MS, "{nothing:?}");
        })
        .unwrap();
}

#[test]
fn nothing_waits_before_the_time_is_read() {
    let device = quick();
    device
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let mut spans: Option<(Elapsed<_>, Elapsed<_>)> = None;
            let gate = Gate::close(&ctx);
            let made = counts(&device, || {
                let first = ctx.elapsed_since(ctx.mark().unwrap()).unwrap();
                spans = Some((first, ctx.elapsed_since(ctx.mark().unwrap()).unwrap()));
            });
            assert_eq!(of_events(&made), [4, 4, 0, 0, 0]);
            let (first, second) = spans.unwrap();
            let asked = counts(&device, || assert!(!first.is_ready().unwrap() && !second.is_ready().unwrap()));
            assert_eq!((of_events(&asked), asked.total()), ([0, 0, 2, 0, 0], 2));
            drop(gate);
            let waited = counts(&device, || assert!(second.wait().is_ok()));
            assert_eq!((of_events(&waited), waited.total()), ([0, 0, 0, 1, 1], 2));
            // The host has seen that the stream passed the first as well.
            let known = counts(&device, || assert!(first.is_ready().unwrap() && first.wait().is_ok()));
            assert_eq!((of_events(&known), known.total()), ([0, 0, 0, 0, 1], 1));
        })
        .unwrap();
}

#[test]
fn a_point_that_was_seen_is_not_waited_for() {
    let device = slow();
    device
        .stream(|mut stream, _| {
            let span = stream.ctx().elapsed_since(stream.ctx().mark().unwrap()).unwrap();
            let _ = stream.synchronize().unwrap();
            let read = counts(&device, || assert!(span.wait().is_ok()));
            assert_eq!((of_events(&read), read.total()), ([0, 0, 0, 0, 1], 1));
            let span = stream.ctx().elapsed_since(stream.ctx().mark().unwrap()).unwrap();
            while !span.is_ready().unwrap() {
                std::hint::spin_loop();
            }
            let read = counts(&device, || assert!(span.wait().is_ok()));
            assert_eq!((of_events(&read), read.total()), ([0, 0, 0, 0, 1], 1));
        })
        .unwrap();
}

#[test]
fn marks_use_their_events_again_and_never_those_of_fences() {
    let device = quick();
    device
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let before = device.gpu().report().events;
            let mut pending: Option<Elapsed<_>> = None;
            let made = counts(&device, || {
                for _ in 0..500 {
                    let start = ctx.mark().unwrap();
                    let staged = ctx.alloc_pinned::<u32>(1).unwrap().write_with(|_| 1).stage(&ctx);
                    let fence = ctx.fence(staged).unwrap();
                    let last = pending.replace(ctx.elapsed_since(start).unwrap());
                    drop((last.map(|last| last.wait().unwrap()), fence.wait().unwrap()));
                }
            });
            assert_eq!(made.of(Call::EventCreate), 4, "two spans are pending at once");
            assert_eq!(made.of(Call::EventDestroy), 0);
            assert_eq!(device.gpu().report().events, before + 4);
            drop(pending);
            // More than the stream keeps.
            let marks: Vec<Mark<_>> = (0..100).map(|_| ctx.mark().unwrap()).collect();
            assert_eq!(device.gpu().report().events, before + 100);
            drop(marks);
            assert_eq!(device.gpu().report().events, before + 16);
        })
        .unwrap();
    assert_eq!(device.gpu().report().events, 0, "those of the stream end with it");
}

#[test]
fn marks_are_dropped_on_any_path() {
    let device = slow();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        device.stream(|stream, _| {
            let ctx = stream.ctx();
            let _mark = ctx.mark().unwrap();
            let _span = ctx.elapsed_since(ctx.mark().unwrap()).unwrap();
            panic!("as planned");
        })
    }));
    assert!(caught.is_err());
    device
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let _gate = Gate::close(&ctx);
            // Neither is reached yet.
            drop(ctx.mark().unwrap());
            drop(ctx.elapsed_since(ctx.mark().unwrap()).unwrap());
            // An event that is used again before its first record is passed.
            drop(ctx.mark().unwrap());
        })
        .unwrap();
    assert_eq!(device.gpu().report().events, 0);
    // A forgotten mark keeps its event, and nothing else.
    device.stream(|stream, _| std::mem::forget(stream.ctx().mark().unwrap())).unwrap();
    assert_eq!(device.gpu().report().events, 1);
    device
        .stream(|stream, _| stream.ctx().elapsed_since(stream.ctx().mark().unwrap()).unwrap().wait().unwrap())
        .unwrap();
    assert_eq!(device.gpu().report().events, 1);
}

#[test]
fn a_mark_outlives_contexts_and_swaps_and_not_its_order() {
    quick()
        .stream(|mut stream, _| {
            let mut first = stream.ctx().mark().unwrap();
            busy(&stream.ctx(), 5 * MS);
            let _ = stream.synchronize().unwrap();
            let mut second = stream.ctx().mark().unwrap();
            std::mem::swap(&mut first, &mut second);
            // `second` is the older one now, and either is older than what is recorded here.
            let [long, short] = [second, first].map(|mark| stream.ctx().elapsed_since(mark).unwrap());
            let (short, long) = (short.wait().unwrap(), long.wait().unwrap());
            assert!(long >= 5 * MS, "{long:?} and {short:?}");
        })
        .unwrap();
}

#[test]
fn what_is_refused_is_handed_back_and_tried_again() {
    let device = quick();
    let code = Code::OUT_OF_MEMORY;
    device
        .stream(|stream, _| {
            let ctx = stream.ctx();
            for call in [Call::EventCreate, Call::EventRecord] {
                let events = device.gpu().report().events;
                fail(&device, call, code);
                assert!(matches!(ctx.mark(), Err(Error::Driver(error)) if error.code == code), "{call}");
                assert!(device.gpu().report().events <= events + 1);
            }
            let start = ctx.mark().unwrap();
            busy(&ctx, 2 * MS);
            fail(&device, Call::EventRecord, code);
            let refused = ctx.elapsed_since(start).unwrap_err();
            assert!(matches!(refused.error, Error::Driver(error) if error.code == code));
            let mut span = ctx.elapsed_since(refused.value).unwrap();
            for call in [Call::EventSynchronize, Call::EventElapsedTime] {
                fail(&device, call, code);
                let refused = span.wait().unwrap_err();
                assert!(matches!(refused.error, Error::Driver(error) if error.code == code), "{call}");
                span = refused.value;
            }
            assert!(span.wait().unwrap() >= 2 * MS);
        })
        .unwrap();
    assert_eq!(device.gpu().report().events, 0);
}

#[test]
fn a_broken_device_says_so_at_every_mark() {
    let device = quick();
    let answer = device.stream(|stream, _| {
        let ctx = stream.ctx();
        let (start, other) = (ctx.mark().unwrap(), ctx.mark().unwrap());
        let span = ctx.elapsed_since(start).unwrap();
        ctx.launch((), |()| panic!("as planned")).unwrap();
        let late = ctx.elapsed_since(other).unwrap();
        assert!(late.wait().is_err(), "the device broke in between");
        // The time is not read any more, also where the point was passed before.
        assert!(matches!(span.wait().unwrap_err().error, Error::Poisoned(_) | Error::Driver(_)));
        assert!(matches!(ctx.mark(), Err(Error::Poisoned(_))));
    });
    assert!(answer.is_err());
}
