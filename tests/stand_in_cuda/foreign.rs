//! Memory and streams from elsewhere, and cudarc beside the library: the driver calls.

use std::{
    ptr::NonNull,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cudarc::driver::{CudaContext, CudaStream, DevicePtr, DeviceSlice, sys};
use tidelock::{
    Error,
    cuda::{Cuda, CudaBackend, Device, Event},
    driver::{Code, Pool},
    stream::{Detached, Lane, Shared, StreamOptions},
};
use tidelock_test_support::{
    memory::{get, put},
    stand_in::{self, Control, Report},
};

/// The calls that `f` makes.
macro_rules! calls {
    ($control:expr, $operation:expr) => {{
        let (calls, answer) = $control.calls_of(|| $operation);
        (calls.join(" "), answer)
    }};
}

/// Runs `test` beside a context of cudarc, whose state in the library ends with the test.
fn beside_cudarc(test: impl FnOnce(&Control, &Arc<CudaContext>, &Device)) {
    with_context(test, settled).assert_clean();
}

/// The report, once the thread of the library has given back what it dropped last.
fn settled(control: &Control) -> Report {
    let start = Instant::now();
    loop {
        let report = control.report();
        if report.left() == 0 || start.elapsed() > Duration::from_secs(10) {
            return report;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The same, and returns the report at the end, as `report` takes it.
fn with_context(
    test: impl FnOnce(&Control, &Arc<CudaContext>, &Device),
    report: impl FnOnce(&Control) -> Report,
) -> Report {
    let control = stand_in::load();
    control.reset();
    // Pinned memory belongs to the primary context.
    drop(Device::open(0).unwrap());
    let mut context = core::ptr::null_mut();
    // SAFETY: the driver is there, and the place is valid for a write.
    assert_eq!(unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) }, sys::CUresult::CUDA_SUCCESS);
    // SAFETY: the context was just created for device 0, and is given away.
    let theirs = unsafe { CudaContext::from_raw_context(0, 0, context) }.unwrap();
    let device = Device::from_cudarc(&theirs).unwrap();
    test(&control, &theirs, &device);
    drop((device, theirs));
    report(&control)
}

#[test]
fn foreign_memory_behind_a_foreign_event() {
    beside_cudarc(|control, theirs, device| {
        let stream = theirs.new_stream().unwrap();
        let slice = stream.clone_htod(&[7_u32; 64]).unwrap();
        let event = stream.record_event(None).unwrap();
        let ptr = {
            let (address, _guard) = slice.device_ptr(&stream);
            NonNull::new(core::ptr::with_exposed_provenance_mut::<u32>(address.try_into().unwrap())).unwrap()
        };
        let ready = Event::from_raw(event.cu_event().cast());
        let adopt = |ready| {
            // SAFETY:
            // - The slice has so many elements, written before the event, and outlives the memory.
            unsafe { Shared::<u32, Detached<CudaBackend>>::from_raw_detached(device, ptr, 64, ready, ()) }.unwrap()
        };
        let (calls, shared) = calls!(control, adopt(ready));
        assert_eq!(
            calls,
            "cuCtxGetCurrent cuEventCreate cuCtxGetCurrent cuStreamCreateWithPriority cuStreamWaitEvent cuEventRecord \
             cuStreamDestroy_v2"
        );
        drop(event);
        let (calls, at_once) = calls!(control, adopt(None));
        assert_eq!(calls, "cuCtxGetCurrent cuEventCreate");
        drop(at_once);
        device
            .stream(|stream, _env| {
                let ctx = stream.ctx();
                let (calls, shared) = calls!(control, ctx.attach(shared).unwrap());
                assert_eq!(calls, "cuStreamWaitEvent cuEventDestroy_v2", "the record has no other owner");
                assert_eq!(get(&stream.ctx(), shared.view()), [7; 64]);
            })
            .unwrap();
        drop(slice);
        assert_eq!(Event::from_raw(core::ptr::null_mut()), None);
    });
}

#[test]
fn memory_of_cudarc_is_shared_memory() {
    beside_cudarc(|control, theirs, device| {
        let (one, two) = (theirs.new_stream().unwrap(), theirs.new_stream().unwrap());
        let mut slice = one.alloc_zeros::<u32>(64).unwrap();
        // cudarc makes the one stream wait for this.
        two.memcpy_htod(&[5; 64], &mut slice).unwrap();
        // SAFETY:
        // - cudarc records the work of both streams.
        let (calls, shared) = calls!(control, unsafe { Shared::from_cudarc(device, slice) }.unwrap());
        let ours: Vec<_> = calls.split(' ').filter(|call| !call.starts_with("cuCtx")).collect();
        assert_eq!(
            ours.join(" "),
            "cuStreamWaitEvent cuStreamWaitEvent cuEventCreate cuEventRecord cuEventRecord cuEventCreate \
             cuStreamCreateWithPriority cuStreamWaitEvent cuEventRecord cuStreamDestroy_v2 cuEventDestroy_v2"
        );
        device
            .stream(|mut stream, _env| {
                let mut shared = stream.ctx().attach(shared).unwrap();
                assert_eq!(get(&stream.ctx(), shared.view()), [5; 64]);
                stream.ctx().clear(shared.get_mut().unwrap()).unwrap();
                assert_eq!(get(&stream.ctx(), shared.view()), [0; 64]);
                let (calls, ()) = calls!(control, drop(shared));
                assert_eq!(calls, "");
                let (calls, ()) = calls!(control, stream.synchronize().map(|_| ()).unwrap());
                let calls: Vec<_> = calls.split(' ').filter(|call| !call.starts_with("cuCtx")).collect();
                assert_eq!(
                    calls.join(" "),
                    "cuStreamSynchronize cuStreamWaitEvent cuStreamWaitEvent cuMemFreeAsync cuEventDestroy_v2 \
                     cuEventDestroy_v2"
                );
            })
            .unwrap();
    });
}

#[test]
fn memory_of_another_context_is_refused() {
    beside_cudarc(|_, theirs, _| {
        let other = Device::open(1).unwrap();
        let slice = theirs.default_stream().alloc_zeros::<u32>(4).unwrap();
        // SAFETY:
        // - It is refused.
        let refused = unsafe { Shared::from_cudarc(&other, slice) }.unwrap_err();
        assert_eq!(refused.error, Error::OtherDevice { operand: "slice" });
        assert_eq!(refused.value.len(), 4);
        other
            .stream(|stream, _env| {
                // SAFETY:
                // - It is refused.
                let refused = unsafe { stream.ctx().to_cudarc(theirs) }.unwrap_err();
                assert_eq!(refused, Error::OtherDevice { operand: "context" });
            })
            .unwrap();
    });
}

#[test]
fn a_bridge_on_its_own_stream_and_on_others() {
    beside_cudarc(|control, theirs, device| {
        device
            .stream(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                let (x, mut y) = (put(&ctx, &[3_u32; 64]), ctx.zeros::<u32>(64).unwrap());
                // SAFETY:
                // - Nothing of cudarc that has the stream outlives it, and nothing captures it.
                let (calls, bridge) = calls!(control, unsafe { ctx.to_cudarc(theirs) }.unwrap());
                assert_eq!(calls, "");
                let mut copy = || {
                    let (from, mut to) = (bridge.read(x.view()), bridge.write(y.view_mut()));
                    assert_eq!((from.len(), to.num_bytes()), (64, 256));
                    bridge.stream().memcpy_dtod(&from, &mut to).unwrap();
                };
                let (calls, ()) = calls!(control, copy());
                assert_eq!(calls, "cuCtxGetCurrent cuMemcpyDtoDAsync_v2");
                let other = theirs.new_stream().unwrap();
                let (calls, copied) = calls!(control, other.clone_dtoh(&bridge.read(x.view())).unwrap());
                let ours: Vec<_> = calls.split(' ').filter(|call| !call.starts_with("cuCtx")).collect();
                assert_eq!(
                    ours.join(" "),
                    "cuStreamIsCapturing cuEventCreate cuEventRecord cuStreamWaitEvent cuEventDestroy_v2 \
                     cuMemcpyDtoHAsync_v2 cuStreamSynchronize"
                );
                assert_eq!(copied, [3; 64]);
                drop(bridge);
                assert_eq!(get(&stream.ctx(), y.view()), [3; 64]);
            })
            .unwrap();
    });
}

/// A stream of cudarc that cannot be joined gets no address.
#[test]
fn a_refused_join_refuses_the_work() {
    beside_cudarc(|control, theirs, device| {
        device
            .stream(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                let x = put(&ctx, &[3_u32; 64]);
                let other = theirs.new_stream().unwrap();
                // SAFETY:
                // - As above.
                let bridge = unsafe { ctx.to_cudarc(theirs) }.unwrap();
                for name in ["cuStreamIsCapturing", "cuEventCreate", "cuEventRecord", "cuStreamWaitEvent"] {
                    let fault =
                        stand_in::Fault { name, nth: 1, onwards: false, releases: false, code: Code::OUT_OF_MEMORY.0 };
                    control.fail(fault);
                    let mut copied = [9_u32; 64];
                    let answer = other.memcpy_dtoh(&bridge.read(x.view()), &mut copied[..]);
                    control.disarm();
                    assert_eq!(answer.unwrap_err().0, sys::CUresult::CUDA_ERROR_INVALID_VALUE, "{name}");
                    assert_eq!(copied, [9; 64]);
                }
            })
            .unwrap();
    });
}

/// Generic code that is given a stream and a bridge.
#[test]
fn a_bridge_ends_the_sharing_of_records() {
    fn hand_overs(control: &Control, ctx: tidelock::Ctx<'_, Cuda<'_>>) -> String {
        let [a, b] = [1, 2].map(|n| put(&ctx.with_pool(), &[n]));
        let (calls, _) = calls!(control, drop((ctx.detach(a).unwrap(), ctx.detach(b).unwrap())));
        calls.split(' ').filter(|call| *call == "cuEventRecord").collect::<Vec<_>>().join(" ")
    }
    beside_cudarc(|control, theirs, device| {
        device
            .stream(|stream, _env| {
                assert_eq!(hand_overs(control, stream.ctx()), "cuEventRecord");
                // SAFETY:
                // - It is dropped at once.
                drop(unsafe { stream.ctx().to_cudarc(theirs) }.unwrap());
                assert_eq!(hand_overs(control, stream.ctx()), "cuEventRecord cuEventRecord");
            })
            .unwrap();
    });
}

#[test]
fn an_adopted_stream_is_entered_and_not_destroyed() {
    beside_cudarc(|control, theirs, device| {
        let stream = theirs.new_stream().unwrap();
        let raw = stream.cu_stream().cast();
        // SAFETY:
        // - The stream outlives the lane, and nothing captures it.
        let (calls, lane) = calls!(control, unsafe { device.adopt(raw) }.unwrap());
        assert!(calls.starts_with("cuStreamGetCtx cuStreamIsCapturing "), "{calls}");
        assert!(!calls.contains("cuStreamCreate"), "{calls}");
        let mut lane = lane;
        let mut values = theirs_then_ours(control, theirs, &stream, &mut lane);
        assert_eq!(values.pop(), Some(8));
        let (calls, ()) = calls!(control, drop(lane));
        assert!(calls.contains("cuStreamSynchronize") && !calls.contains("cuStreamDestroy"), "{calls}");
        // It is still usable.
        drop(stream.clone_htod(&[1_u32]).unwrap());
        stream.synchronize().unwrap();
        // Again, and with the pool of the device.
        let options = StreamOptions::default().pool(Pool::Default);
        // SAFETY:
        // - As above.
        drop(unsafe { device.adopt_with(raw, &options) }.unwrap());
    });
}

/// Memory that cudarc writes on its stream, read in a visit of the lane on the same stream. Every
/// hand-over is a record, and every attach of another stream's memory is a wait.
fn theirs_then_ours(
    control: &Control,
    theirs: &Arc<CudaContext>,
    stream: &Arc<CudaStream>,
    lane: &mut Lane<CudaBackend>,
) -> Vec<u32> {
    let memory = lane.enter(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let [a, b] = [1, 2].map(|n| put(&ctx, &[n; 4]));
        let (calls, pair) = calls!(control, [ctx.detach(a).unwrap(), ctx.detach(b).unwrap()]);
        let records = calls.split(' ').filter(|call| *call == "cuEventRecord").count();
        assert_eq!(records, 2, "{calls}");
        pair
    });
    let memory = memory.unwrap();
    lane.enter(|ours, _env| {
        let ctx = ours.ctx();
        let (calls, [mut a, b]) = calls!(control, memory.map(|memory| ctx.attach(memory).unwrap()));
        let waits = calls.split(' ').filter(|call| *call == "cuStreamWaitEvent").count();
        assert_eq!(waits, 2, "no wait is left out: {calls}");
        // SAFETY:
        // - It is dropped in here.
        let bridge = unsafe { ctx.to_cudarc(theirs) }.unwrap();
        assert!(bridge.stream() == stream);
        stream.memcpy_htod(&[8_u32; 4], &mut bridge.write(a.view_mut())).unwrap();
        drop((bridge, b));
        get(&ctx, a.view())
    })
    .unwrap()
}

#[test]
fn streams_that_cannot_be_adopted() {
    beside_cudarc(|control, theirs, device| {
        for default in [0_usize, 1, 2] {
            // SAFETY:
            // - It is refused.
            let (calls, answer) = calls!(control, unsafe { device.adopt(core::ptr::without_provenance_mut(default)) });
            assert!(matches!(answer, Err(Error::Driver(error)) if error.code == Code::NOT_SUPPORTED), "{answer:?}");
            assert_eq!(calls, "");
        }
        let stream = theirs.new_stream().unwrap();
        let other = Device::open(1).unwrap();
        // SAFETY:
        // - It is refused.
        let answer = unsafe { other.adopt(stream.cu_stream().cast()) };
        assert_eq!(answer.unwrap_err(), Error::OtherDevice { operand: "stream" });
        for name in ["cuStreamGetCtx", "cuStreamIsCapturing", "cuMemPoolCreate", "cuEventCreate"] {
            control.fail(stand_in::Fault { name, nth: 1, onwards: true, releases: false, code: Code::OUT_OF_MEMORY.0 });
            // SAFETY:
            // - The stream outlives the lane, and nothing captures it.
            let answer = unsafe { device.adopt(stream.cu_stream().cast()) };
            control.disarm();
            assert!(matches!(answer, Err(Error::Driver(_))), "{name}: {answer:?}");
        }
        stream.synchronize().unwrap();
    });
}

/// Each call of adopting a stream, of taking memory, and of using and dropping both fails once.
#[test]
fn each_call_may_fail() {
    for nth in 1.. {
        let mut failed = false;
        let test = |control: &Control, theirs: &Arc<CudaContext>, device: &Device| {
            let Ok(stream) = theirs.new_stream() else { panic!("nothing fails yet") };
            let (slice, more) = (stream.alloc_zeros::<u32>(64).unwrap(), stream.alloc_zeros::<u32>(64).unwrap());
            let ready = stream.record_event(None).unwrap();
            let ptr = {
                let (address, _guard) = more.device_ptr(&stream);
                NonNull::new(core::ptr::with_exposed_provenance_mut::<u32>(address.try_into().unwrap())).unwrap()
            };
            let event = Event::from_raw(ready.cu_event().cast());
            control.fail(stand_in::Fault { name: "", nth, onwards: false, releases: false, code: 999 });
            let answer = (|| -> tidelock::Result<()> {
                // SAFETY:
                // - The stream outlives the lane, and nothing captures it.
                let mut lane = unsafe { device.adopt_with(stream.cu_stream().cast(), &StreamOptions::default()) }?;
                // SAFETY:
                // - cudarc records the work on the slice.
                let taken = unsafe { Shared::from_cudarc(device, slice) }.map_err(|refused| refused.error)?;
                // SAFETY:
                // - The owner has the memory, written before the event.
                let shared = unsafe { Shared::<u32, _>::from_raw_detached(device, ptr, 64, event, more) }
                    .map_err(|refused| refused.error)?;
                lane.enter(|stream, _env| -> tidelock::Result<()> {
                    let ctx = stream.ctx().with_pool();
                    let (taken, shared) = (ctx.attach(taken)?, ctx.attach(shared)?);
                    // SAFETY:
                    // - As for `Shared::from_cudarc`. There are no bytes, and the owner is none.
                    drop(unsafe { Shared::<u32, _>::from_raw(&ctx, NonNull::dangling(), 0, ()) });
                    drop(ctx.init_from(ctx.alloc(64)?, taken.view())?);
                    drop(ctx.init_from(ctx.alloc(64)?, shared.view())?);
                    drop(ctx.detach(taken)?);
                    Ok(())
                })?
            })();
            failed = control.disarm() >= nth;
            assert!(failed || answer.is_ok(), "{nth}: {answer:?}");
            let _ = stream.synchronize();
            // What a failed call has kept stays.
            let start = Instant::now();
            while !failed && control.report().live("allocation") != 0 && start.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let report = with_context(test, Control::report);
        assert_eq!((report.findings.len(), report.sticky.len()), (0, 0), "{nth}: {report:#?}");
        if !failed {
            report.assert_clean();
            assert!(nth > 20, "{nth}");
            break;
        }
    }
}
