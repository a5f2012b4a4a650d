//! How detached memory is freed: on streams that are kept, behind no other event than its own.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::Duration,
};

use tidelock::{
    Ctx,
    cuda::{Cuda, Device, Grid, Module},
};
use tidelock_test_support::stand_in::{self, Control, Launch};

const PTX: &str = ".version 7.0\n.visible .entry stand_in_held(.param .u64 x)";

/// Lets the kernel end.
static OPEN: AtomicBool = AtomicBool::new(false);

/// Lets the kernel end, also if the test panics.
struct Opens;
impl Drop for Opens {
    fn drop(&mut self) {
        OPEN.store(true, SeqCst);
    }
}

/// Runs until it is let go.
unsafe extern "C" fn held(_: *const Launch) -> u32 {
    while !OPEN.load(SeqCst) {
        thread::sleep(Duration::from_micros(100));
    }
    0
}

fn drop_one(control: &Control, ctx: &Ctx<'_, Cuda<'_>>) -> String {
    let memory = ctx.detach(ctx.with_pool().zeros::<u32>(100).unwrap()).unwrap();
    control.calls_of(|| drop(memory)).0.join(" ")
}

#[test]
fn a_kept_stream_frees_what_no_other_event_holds_back() {
    let control = stand_in::load();
    control.reset();
    OPEN.store(false, SeqCst);
    // SAFETY: the kernel accesses nothing.
    unsafe { control.register("stand_in_held", &[8], held) };
    let device = Device::open(0).unwrap();
    let module = Module::load(&device, PTX).unwrap();
    let kernel = module.function("stand_in_held").unwrap();
    let streams_before = control.report().live("stream");
    device
        .stream(|mut stream, _| {
            device
                .stream(|other, _| {
                    let (ctx, other) = (stream.ctx().with_pool(), other.ctx());
                    let target = ctx.zeros::<u32>(1).unwrap();
                    let waiting = ctx.zeros::<u32>(100).unwrap();
                    let opens = Opens;
                    // SAFETY: the kernel accesses nothing.
                    unsafe { ctx.launch_kernel((&kernel, Grid::over(1)), (target.view(),)) }.unwrap();
                    // Two buffers of one record: the second goes the way of the first.
                    let two = (ctx.detach(waiting).unwrap(), ctx.detach(target).unwrap());
                    let (calls, ()) = control.calls_of(|| drop(two.0));
                    assert_eq!(
                        calls.join(" "),
                        "cuCtxGetCurrent cuStreamCreateWithPriority cuStreamWaitEvent cuMemFreeAsync"
                    );
                    let (calls, ()) = control.calls_of(|| drop(two.1));
                    assert_eq!(calls.join(" "), "cuStreamWaitEvent cuMemFreeAsync");
                    // Memory of another stream is not held back, and neither is what comes later.
                    let calls = drop_one(&control, &other);
                    let apart = "cuStreamQuery cuCtxGetCurrent cuStreamCreateWithPriority cuStreamWaitEvent cuMemFreeAsync cuStreamDestroy";
                    assert!(calls.starts_with(apart), "{calls}");
                    drop(opens);
                })
                .unwrap();
            stream.synchronize().unwrap();
            control.report();
            for _ in 0..20 {
                // The stand-in has passed all that it had.
                let calls = drop_one(&control, &stream.ctx());
                assert!(!calls.contains("Create") && !calls.contains("Destroy"), "{calls}");
                control.report();
            }
        })
        .unwrap();
    drop(kernel);
    drop(module);
    // With the last handle go the streams.
    assert!(control.report().live("stream") > streams_before);
    drop(device);
    control.report().assert_clean();
}
