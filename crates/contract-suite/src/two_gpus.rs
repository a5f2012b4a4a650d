//! Laws that need two GPUs, and not only two contexts on one. They run if there are two, and print
//! a line if there are not.

use std::{io::Write, ptr, sync::Once, thread};

use cudarc::driver::sys::{self, CUresult::CUDA_SUCCESS};
use tidelock::{
    BatchCopy, Stream,
    cuda::{Batching, CudaBackend, Device, Grid},
    driver::Backend,
};

use super::{
    cuda::{alone, devices, is_poisoned, kernel, part},
    get, noise, put, staged,
};

fn gpus() -> Option<(Device, Device)> {
    static TELL: Once = Once::new();
    let (one, two) = devices()?;
    if one.ordinal() == two.ordinal() {
        // Written past the output capture of the test harness.
        TELL.call_once(|| std::io::stderr().write_all(b"contract: not run on two GPUs: there is one\n").unwrap());
        return None;
    }
    Some((one, two))
}

/// Runs `test` on a thread of its own, which has no current context.
fn on_a_fresh_thread(test: impl FnOnce() + Send) {
    thread::scope(|threads| threads.spawn(test).join().unwrap());
    give_pinned_memory_back();
}

/// Unlocks pinned memory that is not in use, so that what a leak checker finds at the end is a
/// leak.
fn give_pinned_memory_back() {
    CudaBackend::PINNED.trim(0).unwrap();
}

/// The address of the thread's current context, 0 if there is none.
fn current() -> usize {
    let mut current = ptr::null_mut();
    // SAFETY: the place is valid for a write.
    assert_eq!(unsafe { sys::cuCtxGetCurrent(&mut current) }, CUDA_SUCCESS);
    current.expose_provenance()
}

fn make_current(context: usize) {
    // SAFETY: a primary context that the library has retained, or none.
    assert_eq!(unsafe { sys::cuCtxSetCurrent(ptr::with_exposed_provenance_mut(context)) }, CUDA_SUCCESS);
}

/// The context of a device that the library has opened.
fn primary(ordinal: i32) -> usize {
    let mut context = ptr::null_mut();
    // SAFETY: the place is valid for a write.
    assert_eq!(unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, ordinal) }, CUDA_SUCCESS);
    // SAFETY: it was just retained, and the library keeps it.
    assert_eq!(unsafe { sys::cuDevicePrimaryCtxRelease_v2(ordinal) }, CUDA_SUCCESS);
    context.expose_provenance()
}

/// Every operation that needs a context or might: memory of all kinds, more events than a stream
/// opens with, a batch, a kernel.
fn work(device: &Device, stream: &mut Stream<tidelock::cuda::Cuda<'_>>, seed: u32) {
    let (expected, scale) = (noise(seed, 1000), kernel(device, "scale"));
    let ctx = stream.ctx().with_pool();
    let pending: Vec<_> = (0..20_u32).map(|i| ctx.fence(staged(&ctx, &[i])).unwrap()).collect();
    let mut x = put(&ctx, &expected);
    let mut y = ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(1000).unwrap();
    // SAFETY: the kernel multiplies the 1000 elements of `x`, and touches nothing else.
    unsafe { ctx.launch_kernel((&scale, Grid::over(1000)), (x.view_mut(), 3_u32, 1000_u32)) }.unwrap();
    let copied = BatchCopy::new().scope(&ctx, |batch| {
        let (left, right) = y.view_mut().split_at(300)?;
        batch.copy(x.view().slice(700..)?, left)?;
        batch.copy(x.view().slice(..700)?, right)
    });
    copied.unwrap();
    let tripled: Vec<u32> = expected.iter().map(|x| x.wrapping_mul(3)).collect();
    assert_eq!(get(&ctx, y.view()), [&tripled[700..], &tripled[..700]].concat());
    for (i, pending) in (0..).zip(pending) {
        assert_eq!(pending.wait().unwrap()[..], [i]);
    }
    let (free, total) = ctx.memory_info().unwrap();
    assert!(0 < free && free <= total);
    drop((x, y));
    stream.trim(0).unwrap();
}

pub fn nested_streams_leave_the_current_context_as_it_was() {
    let Some((one, two)) = gpus() else { return };
    let contexts = [primary(0), primary(1)];
    assert_ne!(contexts[0], contexts[1]);
    for batching in [Batching::Auto, Batching::Driver, Batching::Loop] {
        let (one, two) = (one.clone().with_batching(batching), two.clone().with_batching(batching));
        // The context that is current on a thread before: none, the outer device's, the inner
        // one's.
        for before in [0, contexts[0], contexts[1]] {
            on_a_fresh_thread(|| {
                make_current(before);
                // A stream makes its own context current only if there is none.
                let within = if before == 0 { contexts[0] } else { before };
                let opened = one.stream(|mut a, _| {
                    assert_eq!(current(), within);
                    let opened = two.stream(|mut b, _| {
                        assert_eq!(current(), within);
                        work(&two, &mut b, 1);
                        work(&one, &mut a, 2);
                        assert_eq!(current(), within);
                        // The program changes the current context in between.
                        for other in contexts {
                            make_current(other);
                            work(&one, &mut a, 3);
                            work(&two, &mut b, 4);
                            assert_eq!(current(), other);
                        }
                        make_current(within);
                    });
                    opened.unwrap();
                    assert_eq!(current(), within);
                    work(&one, &mut a, 5);
                });
                opened.unwrap();
                assert_eq!(current(), before);
            });
        }
    }
}

pub fn the_outer_stream_may_be_of_the_second_gpu() {
    let Some((one, two)) = gpus() else { return };
    on_a_fresh_thread(|| {
        let opened = two.stream(|mut b, _| {
            one.stream(|mut a, _| {
                work(&one, &mut a, 6);
                two.stream(|mut c, _| work(&two, &mut c, 7)).unwrap();
                work(&two, &mut b, 8);
            })
        });
        opened.unwrap().unwrap();
        assert_eq!(current(), 0);
    });
}

pub fn both_gpus_work_at_the_same_time_on_threads_of_their_own() {
    let Some((one, two)) = gpus() else { return };
    thread::scope(|threads| {
        for (device, seed) in [(&one, 10), (&two, 20), (&one, 30), (&two, 40)] {
            threads.spawn(move || {
                for round in 0..10 {
                    device.stream(|mut stream, _| work(device, &mut stream, seed + round)).unwrap();
                }
            });
        }
    });
    give_pinned_memory_back();
}

pub fn nothing_hangs_on_one_gpu_when_the_other_breaks() {
    if gpus().is_some() {
        assert!(alone("two_gpus::breaks_one_gpu", "one of two").success());
    }
}

/// Runs in a subprocess only.
pub fn breaks_one_gpu() {
    let Some(_) = part() else { return };
    let (one, two) = gpus().unwrap();
    let fault = kernel(&two, "fault");
    let answer = one.stream(|mut a, _| {
        let (x, page) = (put(&a.ctx(), &noise(9, 1000)), staged(&a.ctx(), &[1_u32]));
        let answer = two.stream(|mut b, _| {
            // SAFETY: the launch is unsound on purpose: the test shows what follows from such a
            // mistake.
            unsafe { b.ctx().launch_kernel((&fault, Grid::new([1; 3], [1; 3])), ()) }.unwrap();
            assert!(is_poisoned(b.synchronize().unwrap_err()));
        });
        assert!(is_poisoned(answer.unwrap_err()));
        // One broken device may break all devices of the process (two H200, driver 580), or that
        // device alone.
        match a.ctx().fence(page) {
            Ok(_) => work(&one, &mut a, 11),
            Err(rejected) => {
                assert!(is_poisoned(rejected.error));
                assert!(is_poisoned(a.synchronize().map(drop).unwrap_err()));
                assert!(is_poisoned(a.ctx().with_pool().alloc::<u32>(4).unwrap_err()));
                drop((x, rejected));
                assert!(a.leaked_bytes() >= 4004);
            }
        }
    });
    assert!(answer.is_ok() || is_poisoned(answer.unwrap_err()));
    assert!(two.stream(|_, _| ()).is_err());
    assert_eq!(one.stream(|_, _| ()).is_ok(), answer.is_ok());
}
