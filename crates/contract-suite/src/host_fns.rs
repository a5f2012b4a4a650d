//! Host functions as kernels, of backends that run them.

#![forbid(unsafe_code)]

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
};

use tidelock::{
    Device, Error, Layout,
    driver::{HostFns, StreamOf},
};
use tidelock_test_support::memory::{get, noise, put, staged};

use super::run;

/// What a function panics with here, and captures: it panics when it is dropped.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on purpose, in a drop");
        }
    }
}

/// L4: an error or a panic of a host function breaks the device, and goes no further.
pub fn a_payload_that_panics_when_dropped_goes_no_further<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    breaks(device, || panic_any(PanicsWhenDropped));
}

/// L2, L4: so does a panic while the function drops what it captured.
pub fn a_capture_that_panics_when_dropped_goes_no_further<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    let capture = PanicsWhenDropped;
    breaks(device, move || drop(capture));
}

/// K2, L2: a host function writes outputs that are uninitialised, by any way of writing.
pub fn a_host_function_writes_its_outputs<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, fresh) = (put(&ctx, &[1_u32, 2, 3]), (ctx.alloc::<u32>(3).unwrap(), ctx.alloc::<bool>(70).unwrap()));
        let ((y, mask), ()) = ctx
            .init_with(fresh, |(y, mask)| {
                let (left, right) = y.split_at(1)?;
                ctx.launch((left, x.view(), right, mask), |(mut left, x, mut right, mut mask)| {
                    left.fill(x[2]);
                    right.copy_from_slice(&x[..2]);
                    (0..70).rev().for_each(|i| mask.write(i, i % 3 == 0));
                })
            })
            .unwrap();
        assert_eq!(get(&ctx, y.view()), [3, 1, 2]);
        assert_eq!(get(&ctx, mask.view()), (0..70).map(|i| i % 3 == 0).collect::<Vec<_>>());
    });
}

/// K2, L2: a host function gets tensors by their indices, of device memory and of staged memory.
pub fn tensors_are_indexed<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, page) = (put(&ctx, &noise(51, 7 * 9)), staged(&ctx, &noise(52, 9 * 2)));
        let mut y = put(&ctx, &noise(53, 9 * 5)).tensor([9, 5]).unwrap();
        let (left, right) = y.view_mut().split_at(1, 3).unwrap();
        // Every third column, turned; the halves of one tensor are two arguments.
        let x = x.view().strided(Layout::strided([9, 3], [1, 27]).unwrap()).unwrap();
        let page = page.view().tensor([9, 2]).unwrap();
        ctx.launch((x, page, left, right, 3), |(x, page, mut left, mut right, k)| {
            for i in 0..9 {
                (0..3).for_each(|j| left[[i, j]] = x[[i, j]].wrapping_mul(k));
                (0..2).for_each(|j| right[[i, 1 - j]] = page[[i, j]]);
            }
        })
        .unwrap();
        let (x, page) = (noise(51, 7 * 9), noise(52, 9 * 2));
        let value = |i: usize, j: usize| if j < 3 { x[i + 27 * j].wrapping_mul(3) } else { page[2 * i + 4 - j] };
        let expected: Vec<u32> = (0..45).map(|at| value(at / 5, at % 5)).collect();
        assert_eq!(get(&ctx, y.buffer().view()), expected);
    });
}

/// L4: a host function that leaves elements of an output unwritten breaks the device.
pub fn an_output_that_is_not_written_breaks_the_device<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    let answer = device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let launched =
            ctx.init_with(ctx.alloc::<bool>(3)?, |mask| ctx.launch((mask,), |(mut mask,)| mask.write(1, true)));
        assert!(launched.is_ok());
        drop(launched);
        stream.synchronize().map(drop)
    });
    let answer = answer.and_then(|answer| answer);
    assert!(matches!(answer, Err(Error::Poisoned(_))), "{answer:?}");
    assert!(device.stream(|_, _| ()).is_err(), "a stream opens on a broken device");
}

/// Launches `f`, which breaks the device.
fn breaks<D: Device>(device: &D, f: impl FnOnce() + Send + 'static)
where
    StreamOf<D::Backend>: HostFns,
{
    let ended = catch_unwind(AssertUnwindSafe(|| {
        device.stream(|mut stream, _| {
            stream.ctx().launch((), move |()| f()).unwrap();
            stream.synchronize().map(drop)
        })
    }));
    let answer = ended.expect("the panic left the call");
    assert!(answer.is_err(), "the device works although a function panicked");
    assert!(device.stream(|_, _| ()).is_err(), "a stream opens on a broken device");
}

/// A kernel may open streams of its device, or is refused to; what it drops there waits for nothing
/// that waits for it.
pub fn a_kernel_that_drops_detached_memory_ends<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    run(device, |mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let detached = ctx.detach(ctx.upload_new(&[1_u32; 4]).unwrap()).map_err(|rejected| rejected.error).unwrap();
        let device = device.clone();
        let kernel = move |()| {
            drop(detached);
            let _ = device.stream(|stream, _| stream.ctx().with_pool().zeros::<u32>(4).map(drop));
        };
        ctx.launch((), kernel).unwrap();
        stream.synchronize().unwrap();
    });
}

/// The lane that a kernel drops waits for nothing that waits for the kernel, also if it is the lane of
/// the kernel itself.
pub fn a_kernel_that_drops_a_lane_ends<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    let mut lane = device.lane().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let detached = lane.enter(|stream, _| {
        let ctx = stream.ctx().with_pool();
        // Runs at once where work runs during its call: then the lane is not there yet.
        ctx.launch((), move |()| drop(receive.recv_timeout(std::time::Duration::from_secs(1)))).unwrap();
        ctx.detach(ctx.upload_new(&[1_u32; 4]).unwrap()).map_err(|rejected| rejected.error).unwrap()
    });
    let _ = send.send(lane);
    run(device, |stream, _| {
        let ctx = stream.ctx();
        assert_eq!(super::get(&ctx, ctx.attach(detached.unwrap()).unwrap().view()), [1; 4]);
    });
}

/// L2, L5: a function gets a slice for each view of a list, and for each target of a table.
pub fn lists_and_tables_are_slices<D: Device>(device: &D)
where
    StreamOf<D::Backend>: HostFns,
{
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.upload_new(&[1_u32, 2, 3, 4, 5, 6]).unwrap();
        let mut y = ctx.upload_new(&[10_u32; 6]).unwrap();
        let mut sums = ctx.zeros::<u32>(3).unwrap();
        {
            let two = NonZero::new(2).unwrap();
            let list = [x.view().slice(..1).unwrap(), x.view().slice(4..).unwrap()];
            let read = ctx.table(x.view().chunks_exact(two).zip([true, false, true])).unwrap();
            let mut written = ctx.table(y.view_mut().chunks_exact(two)).unwrap();
            let args = (list, read.view(), written.view_mut(), sums.view_mut());
            ctx.launch(args, |(list, read, written, sums)| {
                assert_eq!(list, [&[1][..], &[5, 6]]);
                for (((from, takes), to), sum) in read.iter().zip(written).zip(sums) {
                    to[1] += from[1];
                    *sum = from.iter().sum::<u32>() * u32::from(*takes);
                }
            })
            .unwrap();
        }
        assert_eq!(get(&ctx, sums.view()), [3, 0, 11]);
        assert_eq!(get(&ctx, y.view()), [10, 12, 10, 14, 10, 16]);
    });
}
