//! What holds on every device: one suite, which always runs on the simulated device, and on the
//! first GPU if there is one.
//!
//! With a GPU, run it with `--test-threads=1`. Some laws request more memory than there is, and
//! meanwhile the driver refuses small requests of others too (H200, driver 580).

/// The simulated device, a new one for each test, which must hold nothing at the end.
mod on_sim {
    use tidelock::sim::{Device, Options};

    fn on(law: impl FnOnce(&Device, &Device)) {
        let (one, two) = (Device::new(Options::default()), Device::new(Options::default().ordinal(1)));
        law(&one, &two);
        for device in [one, two] {
            let report = device.gpu().report();
            assert!(report.findings.is_empty(), "{report:?}");
            assert_eq!((report.allocations, report.streams, report.events, report.pools), (0, 0, 0, 0), "{report:?}");
        }
    }

    fn on_one(law: impl FnOnce(&Device)) {
        on(|one, _| law(one));
    }

    /// A broken device keeps its streams.
    fn on_one_to_break(law: impl FnOnce(&Device)) {
        law(&Device::new(Options::default()));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_host_fns!(on_one_to_break);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// The first GPU, and a second context on it, which counts as another device.
#[cfg(feature = "cuda-core")]
mod on_cuda {
    use tidelock::cuda::Device;

    fn on(law: impl FnOnce(&Device, &Device)) {
        if let Some((one, two)) = tidelock_contract_suite::cuda::devices() {
            law(&one, &two);
            crate::give_pinned_memory_back();
        }
    }

    fn on_one(law: impl FnOnce(&Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// The same with single copies in place of the driver's batches, as on devices where batches are
/// not available.
#[cfg(feature = "cuda-core")]
mod on_cuda_with_loops {
    use tidelock::cuda::{Batching, Device};

    fn on(law: impl FnOnce(&Device, &Device)) {
        if let Some((one, two)) = tidelock_contract_suite::cuda::devices() {
            law(&one.with_batching(Batching::Loop), &two.with_batching(Batching::Loop));
            crate::give_pinned_memory_back();
        }
    }

    fn on_one(law: impl FnOnce(&Device)) {
        on(|one, _| law(one));
    }

    tidelock_contract_suite::laws!(on_one);
    tidelock_contract_suite::laws_of_two_devices!(on);
}

/// Unlocks pinned memory that is not in use, so that what a leak checker finds at the end is a
/// leak.
#[cfg(feature = "cuda-core")]
fn give_pinned_memory_back() {
    use tidelock::driver::Backend;
    tidelock::cuda::CudaBackend::PINNED.trim(0).unwrap();
}

#[cfg(feature = "cuda-core")]
tidelock_contract_suite::laws_of_cuda!();
