//! Outputs of kernels of a module, and what initialising costs.

use tidelock::{
    BatchCopy, Error,
    cuda::{Device, Grid, Module},
};
use tidelock_test_support::{
    memory::{get, put, width},
    stand_in::{self, Launch},
};

const PTX: &str = ".version 7.0\n.visible .entry stand_in_count(.param .u64 x, .param .u32 n)";

/// Writes `0, 1, ..`.
unsafe extern "C" fn count(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the parameters are registered as an address and a number of four bytes.
    let elements = unsafe { launch.slice::<u32>(0, launch.value::<u32>(1) as usize) };
    elements.map_or(700, |elements| {
        elements.iter_mut().zip(0..).for_each(|(element, i)| *element = i);
        0
    })
}

#[test]
fn a_kernel_of_a_module_writes_outputs_and_an_empty_grid_none() {
    let control = stand_in::load();
    control.reset();
    // SAFETY: the kernel accesses its parameters only.
    unsafe { control.register("stand_in_count", &[8, 4], count) };
    let device = Device::open(0).unwrap();
    let module = Module::load(&device, PTX).unwrap();
    let kernel = module.function("stand_in_count").unwrap();
    device
        .stream(|stream, _| {
            let ctx = stream.ctx().with_pool();
            let fresh = ctx.alloc::<u32>(5).unwrap();
            let (calls, initialised) = control.calls_of(|| {
                ctx.init_with(fresh, |out| {
                    let (left, right) = out.split_at(3)?;
                    ctx.clear(right)?;
                    // SAFETY: the kernel writes the three elements and does nothing else.
                    unsafe { ctx.launch_kernel((&kernel, Grid::over(3)), (left, 3_u32)) }
                })
            });
            assert_eq!(calls, ["cuMemsetD8Async", "cuLaunchKernel"]);
            assert_eq!(get(&ctx, initialised.unwrap().0.view()), [0, 1, 2, 0, 0]);

            let fresh = (ctx.alloc::<u32>(0).unwrap(), ctx.alloc::<u32>(5).unwrap());
            let (calls, rejected) = control.calls_of(|| {
                ctx.init_with(fresh, |(none, out)| {
                    // SAFETY: a launch with no threads.
                    unsafe { ctx.launch_kernel((&kernel, Grid::over(0)), (none, 0_u32)) }?;
                    // SAFETY: a launch with no threads, by which the output stays as it is.
                    unsafe { ctx.launch_kernel((&kernel, Grid::over(0)), (out, 5_u32)) }
                })
            });
            assert_eq!(calls, Vec::<String>::new());
            let rejected = rejected.unwrap_err();
            assert_eq!(rejected.error, Error::Unwritten { output: 1, missing: 5, len: 5 });

            // Refused, before the driver is called.
            let refused = ctx.init_with(rejected.value.1, |out| {
                // SAFETY: refused.
                let answer = unsafe { ctx.launch_kernel((&kernel, Grid::over(5)), (out,)) };
                assert!(matches!(answer, Err(Error::Length { .. })));
                Ok::<_, Error>(())
            });
            assert_eq!(refused.unwrap_err().error, Error::Unwritten { output: 0, missing: 5, len: 5 });
        })
        .unwrap();
    drop(module);
    control.report().assert_clean();
}

#[test]
fn initialising_by_a_batch_is_the_batch() {
    let control = stand_in::load();
    control.reset();
    let device = Device::open(0).unwrap();
    device
        .stream_with(&tidelock::stream::StreamOptions::default().warm(true), |stream, _| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &(0..80).collect::<Vec<u32>>());
            let fresh = ctx.alloc::<u32>(50).unwrap();
            let mut batch = BatchCopy::new();
            let (calls, initialised) = control.calls_of(|| {
                ctx.init_with(fresh, |out| {
                    batch.scope(&ctx, |batch| {
                        for (from, to) in x.view().chunks_exact(width(8)).zip(out.rows(width(5))?) {
                            batch.copy(from.slice(..5)?, to)?;
                        }
                        Ok::<_, Error>(())
                    })
                })
            });
            assert_eq!(calls, ["cuLaunchKernelEx"]);
            let expected: Vec<u32> = (0..80).filter(|i| i % 8 < 5).collect();
            assert_eq!(get(&ctx, initialised.unwrap().0.view()), expected);
        })
        .unwrap();
    control.report().assert_clean();
}
