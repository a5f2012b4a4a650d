//! The driver calls of marks and of the time between them.

use tidelock::{cuda::Device, driver::Code, stream::StreamOptions};
use tidelock_test_support::stand_in;

#[test]
fn the_calls_of_marks() {
    let control = stand_in::load();
    control.reset();
    let device = Device::open(0).unwrap();
    device
        .stream_with(&StreamOptions::default(), |mut stream, _| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(1000).unwrap();
            let round = || ctx.elapsed_since(ctx.mark().unwrap()).unwrap();
            // The first marks create events that take the time, one by one.
            let (calls, span) = control.calls_of(round);
            let mark = ["cuCtxGetCurrent", "cuEventCreate", "cuEventRecord"];
            assert_eq!(calls, [mark, mark].concat());
            let (calls, time) = control.calls_of(|| span.wait().unwrap());
            assert_eq!(calls, ["cuEventSynchronize", "cuEventElapsedTime"]);
            assert!(time.as_secs() < 100, "{time:?}");
            // Later ones use them again.
            let (calls, span) = control.calls_of(round);
            assert_eq!(calls, ["cuEventRecord"; 2]);
            let (calls, ready) = control.calls_of(|| while !span.is_ready().unwrap() {});
            assert!(calls.iter().all(|call| call == "cuEventQuery"), "{calls:?}, {ready:?}");
            assert_eq!(control.calls_of(|| span.wait().unwrap()).0, ["cuEventElapsedTime"]);
            // One that is dropped unread makes no call, and the host waits for none.
            let span = round();
            assert_eq!(control.calls_of(|| drop(span)).0, [""; 0]);
            // A fence beside it uses an event without timing: nothing is created for either.
            let (calls, ()) = control.calls_of(|| {
                let start = ctx.mark().unwrap();
                let staged = ctx.alloc_pinned::<u32>(8).unwrap().write_with(|_| 1).stage(&ctx);
                let fence = ctx.fence(staged).unwrap();
                let span = ctx.elapsed_since(start).unwrap();
                drop((fence.wait().unwrap(), ctx.clear(x.view_mut())));
                assert!(span.wait().is_ok());
            });
            let calls: Vec<_> = calls.iter().filter(|call| call.contains("Event")).collect();
            let expected =
                ["cuEventRecord", "cuEventRecord", "cuEventRecord", "cuEventSynchronize", "cuEventSynchronize"];
            assert_eq!(calls[..5], expected);
            assert_eq!(calls[5..], ["cuEventElapsedTime"]);
            let span = round();
            let _ = stream.synchronize().unwrap();
            assert_eq!(control.calls_of(|| span.wait().unwrap()).0, ["cuEventElapsedTime"]);
        })
        .unwrap();
    control.report().assert_clean();
}

#[test]
fn a_driver_that_refuses_the_time_is_asked_again() {
    let control = stand_in::load();
    control.reset();
    let device = Device::open(0).unwrap();
    device
        .stream_with(&StreamOptions::default(), |stream, _| {
            let ctx = stream.ctx();
            let mut span = ctx.elapsed_since(ctx.mark().unwrap()).unwrap();
            for name in ["cuEventSynchronize", "cuEventElapsedTime"] {
                control.fail(stand_in::Fault { name, nth: 1, onwards: false, releases: false, code: 2 });
                let refused = span.wait().unwrap_err();
                control.disarm();
                assert!(refused.error.to_string().contains(name), "{}", refused.error);
                span = refused.value;
            }
            assert!(span.wait().is_ok());
            for name in ["cuEventCreate", "cuEventRecord"] {
                let marks: Vec<_> = (0..2).map(|_| ctx.mark().unwrap()).collect();
                control.fail(stand_in::Fault { name, nth: 1, onwards: false, releases: false, code: 2 });
                let refused = ctx.mark().unwrap_err();
                control.disarm();
                assert!(refused.to_string().contains(name), "{refused}");
                drop(marks);
            }
            assert_eq!(Code::OUT_OF_MEMORY.0, 2);
        })
        .unwrap();
    control.report().assert_clean();
}
