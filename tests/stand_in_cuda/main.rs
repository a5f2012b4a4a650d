//! The CUDA device on the stand-in driver: the laws of every device, the driver calls of each
//! operation, and every single call failing once.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

mod arguments;
mod blocks;
mod calibrating;
mod copy_tuning;
mod dlpack;
mod faults;
mod foreign;
mod freeing;
mod images;
mod lanes;
mod numbers;
mod outputs;
mod partial;
mod pools;
mod rows;
mod states;
mod timing;
mod warm;

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    Element, Result, View, ViewMut,
    batch::Batch,
    cuda::{Batching, Cuda, Device},
};
use tidelock_test_support::stand_in;

/// Runs `law` with the two devices of a driver with `settings`, and asserts that nothing is left
/// and no fault was found.
fn on_driver(settings: &[(&str, u64)], batching: Batching, law: impl FnOnce(&Device, &Device)) {
    let control = stand_in::load();
    settings.iter().for_each(|(name, value)| control.set(name, *value));
    control.reset();
    let devices = [0, 1].map(|ordinal| Device::open(ordinal).unwrap().with_batching(batching));
    let [one, two] = devices;
    let answer = catch_unwind(AssertUnwindSafe(|| law(&one, &two)));
    // The streams that free detached memory end with the last handle.
    drop((one, two));
    let mut report = control.report();
    // A thread of the library may be giving back the record that it has just seen passed.
    let start = Instant::now();
    while report.left() != 0 && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
        report = control.report();
    }
    // The law's own panic says more.
    answer.unwrap_or_else(|payload| {
        eprintln!("{report:#?}");
        resume_unwind(payload)
    });
    report.assert_clean();
}

/// The default: delays, plain host memory read and written late, batches by the copy kernels.
mod on_the_stand_in {
    fn on(law: impl FnOnce(&tidelock::cuda::Device, &tidelock::cuda::Device)) {
        super::on_driver(&[], super::Batching::Auto, |one, two| {
            assert_eq!(one.copy_kernels(), tidelock::cuda::CopyKernels::Loaded);
            law(one, two);
        });
    }

    fn on_one(law: impl FnOnce(&tidelock::cuda::Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// The opposite behaviour, which a driver may have and no driver seen so far has: copies of plain
/// host memory are complete when the call returns, and calls on a stream need its context.
mod on_a_strict_driver {
    fn on(law: impl FnOnce(&tidelock::cuda::Device, &tidelock::cuda::Device)) {
        let settings = [("pageable_synchronous", 1), ("stream_calls_need_context", 1), ("seed", 99)];
        super::on_driver(&settings, super::Batching::Auto, law);
    }

    fn on_one(law: impl FnOnce(&tidelock::cuda::Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// Batches by the driver, as without copy kernels.
mod with_batches_of_the_driver {
    fn on(law: impl FnOnce(&tidelock::cuda::Device, &tidelock::cuda::Device)) {
        super::on_driver(&[], super::Batching::Driver, law);
    }

    fn on_one(law: impl FnOnce(&tidelock::cuda::Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// Single copies, as where batches are not available either.
mod without_batches {
    fn on(law: impl FnOnce(&tidelock::cuda::Device, &tidelock::cuda::Device)) {
        super::on_driver(&[("compute_major", 10)], super::Batching::Loop, law);
    }

    fn on_one(law: impl FnOnce(&tidelock::cuda::Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// Devices without memory pools: memory is allocated at once, and freed once its stream has passed
/// the last use.
mod without_pools {
    fn on(law: impl FnOnce(&tidelock::cuda::Device, &tidelock::cuda::Device)) {
        super::on_driver(&[("memory_pools", 0)], super::Batching::Auto, |one, two| {
            assert!(!one.has_memory_pools());
            law(one, two);
        });
    }

    fn on_one(law: impl FnOnce(&tidelock::cuda::Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// Adds copies of every second element, which cannot be merged.
fn every_second<'env, 's, T: Element>(
    batch: &mut Batch<'_, 'env, Cuda<'s>>,
    from: View<'env, T, Cuda<'s>>,
    to: ViewMut<'env, T, Cuda<'s>>,
) -> Result<()> {
    let pair = NonZero::new(2).unwrap();
    let mut pieces = from.chunks_exact(pair).zip(to.chunks_exact(pair));
    pieces.try_for_each(|(from, to)| batch.copy(from.slice(..1)?, to.slice(..1)?))
}
