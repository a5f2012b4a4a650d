//! The driver calls of lanes, and what they do to the current context of the threads that enter
//! them.

use std::{ffi::c_void, ptr, thread};

use cudarc::driver::sys;
use tidelock::{
    BatchCopy, Buffer, Result,
    cuda::{CudaBackend, Device},
    stream::{Detached, Lane, StreamOptions},
};
use tidelock_test_support::{
    memory::{get, noise, put},
    stand_in,
};

type Memory = Buffer<u32, Detached<CudaBackend>>;

/// The context that is current on the calling thread.
fn current() -> *mut c_void {
    let mut context = ptr::null_mut();
    // SAFETY:
    // - `context` is valid for a write.
    assert_eq!(unsafe { sys::cuCtxGetCurrent(&mut context) }, sys::CUresult::CUDA_SUCCESS);
    context.cast()
}

/// Clears the memory, in a visit.
fn clear(lane: &mut Lane<CudaBackend>, memory: Memory) -> Memory {
    let cleared = lane.enter(|stream, _env| -> Result<Memory> {
        let mut x = stream.ctx().attach(memory)?;
        stream.ctx().clear(x.view_mut())?;
        Ok(stream.ctx().detach(x)?)
    });
    cleared.unwrap().unwrap()
}

fn zeros(lane: &mut Lane<CudaBackend>, len: usize) -> Memory {
    let made = lane.enter(|stream, _env| -> Result<Memory> {
        let ctx = stream.ctx().with_pool();
        Ok(ctx.detach(ctx.zeros(len)?)?)
    });
    made.unwrap().unwrap()
}

/// Frees the memory, in a visit.
fn free(lane: &mut Lane<CudaBackend>, memory: Memory) {
    lane.enter(|stream, _env| drop(stream.ctx().attach(memory).unwrap())).unwrap();
}

#[test]
fn a_visit_creates_destroys_and_waits_for_nothing() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let mut lane = device.lane().unwrap();
    let mut memory = zeros(&mut lane, 100);
    memory = clear(&mut lane, memory);
    let work = "cuMemsetD8Async cuEventRecord";
    for _ in 0..5 {
        let calls = control.calls_of(|| lane.enter(|_, _| ()).unwrap()).0;
        let (enter, leave) = ("cuCtxGetCurrent cuCtxSetCurrent", "cuCtxGetCurrent cuCtxSetCurrent");
        assert_eq!(calls.join(" "), format!("{enter} {leave}"));
        let (calls, cleared) = control.calls_of(|| clear(&mut lane, memory));
        assert_eq!(calls.join(" "), format!("{enter} {work} {leave}"));
        memory = cleared;
    }
    // Where a context is current already, the visit leaves it.
    let other = Device::open(1).unwrap();
    let inside = other.stream(|_, _| {
        let before = current();
        let (calls, cleared) = control.calls_of(|| clear(&mut lane, memory));
        assert_eq!(calls.join(" "), format!("cuCtxGetCurrent {work}"));
        assert_eq!(current(), before);
        cleared
    });
    free(&mut lane, inside.unwrap());
    // With work in flight, the end is a wait, and what the stream holds is given back.
    let (calls, ()) = control.calls_of(|| drop(lane));
    assert_eq!(calls[0], "cuStreamSynchronize");
    assert!(calls[1..].iter().all(|call| call.contains("Destroy")), "{calls:?}");
    control.report().assert_clean();
}

#[test]
fn a_thread_has_its_own_context_again_after_a_visit() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let mut lane = device.lane().unwrap();
    assert!(current().is_null(), "a lane that is open changes no thread");
    let mut memory = zeros(&mut lane, 1000);
    for _ in 0..4 {
        memory = thread::scope(|threads| {
            let visit = || {
                assert!(current().is_null());
                let memory = clear(&mut lane, memory);
                assert!(current().is_null());
                let inside = lane.enter(|_, _| current()).unwrap();
                assert!(!inside.is_null());
                memory
            };
            threads.spawn(visit).join().unwrap()
        });
        assert!(current().is_null());
    }
    free(&mut lane, memory);
    drop(lane);
    control.report().assert_clean();
}

/// Batches need a current context in a driver, and the graphs, rings and tables of the copy kernels
/// pass from thread to thread.
#[test]
fn batches_by_the_copy_kernels_from_two_threads_in_turn() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let mut lane = device.lane().unwrap();
    let mut batch = BatchCopy::new();
    for round in 0..12 {
        thread::scope(|threads| {
            let visit = || {
                let host = noise(round, 3000);
                let copied = lane.enter(|stream, _env| -> Result<Vec<u32>> {
                    let ctx = stream.ctx().with_pool();
                    let x = put(&ctx, &noise(round + 100, 3000));
                    let mut y = ctx.zeros::<u32>(6000)?;
                    let pieces = std::num::NonZero::new(30).unwrap();
                    batch.scope(&ctx, |b| {
                        let (upper, lower) = y.view_mut().split_at(3000)?;
                        let from_host = tidelock::View::from(&host[..]).chunks_exact(pieces);
                        from_host.zip(upper.chunks_exact(pieces)).try_for_each(|(from, to)| b.copy(from, to))?;
                        x.view()
                            .chunks_exact(pieces)
                            .zip(lower.chunks_exact(pieces))
                            .try_for_each(|(from, to)| b.copy(from, to))
                    })?;
                    Ok(get(&ctx, y.view()))
                });
                assert_eq!(copied.unwrap().unwrap(), [host, noise(round + 100, 3000)].concat());
            };
            threads.spawn(visit).join().unwrap();
        });
    }
    thread::scope(|threads| threads.spawn(|| drop(lane)).join().unwrap());
    control.report().assert_clean();
}

/// Each call of opening, entering, using and dropping a lane fails once.
#[test]
fn each_call_may_fail() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    for nth in 1.. {
        control.reset();
        // If the call that leaves a context fails, the context stays current, which does no harm.
        // SAFETY:
        // - "If ctx is NULL then the CUDA context previously bound to the calling CPU thread is
        //   unbound" (CUDA driver manual 13.0).
        assert_eq!(unsafe { sys::cuCtxSetCurrent(ptr::null_mut()) }, sys::CUresult::CUDA_SUCCESS);
        let device = Device::open(0).unwrap();
        control.fail(stand_in::Fault { name: "", nth, onwards: false, releases: false, code: 999 });
        let use_a_lane = || {
            let opened = if nth % 2 == 0 { device.lane() } else { device.lane_with(&StreamOptions::default()) };
            let Ok(mut lane) = opened else { return };
            for _ in 0..2 {
                let visit = lane.enter(|stream, _env| -> Result<()> {
                    let ctx = stream.ctx().with_pool();
                    let x = ctx.detach(ctx.zeros::<u32>(100)?)?;
                    drop(ctx.init_zeros(ctx.alloc_pinned::<u32>(100)?.stage(&ctx))?);
                    drop(ctx.attach(x)?);
                    Ok(())
                });
                assert!(visit.is_ok(), "the visit itself owes nothing");
            }
        };
        use_a_lane();
        let failed = control.disarm() >= nth;
        let report = control.report();
        assert_eq!((report.findings.len(), report.sticky.len()), (0, 0), "{nth}: {report:#?}");
        if !failed {
            report.assert_clean();
            assert!(nth > 10);
            break;
        }
    }
}
