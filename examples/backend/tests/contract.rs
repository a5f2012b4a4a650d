//! Runs the contract suite on the backend of this crate.

use tidelock::Device;
use tidelock_example_backend::HostDevice;

const BYTES: usize = 1 << 30;

/// Runs `law` with two new devices, which must have no allocations and no events afterwards.
fn on(law: impl FnOnce(&HostDevice, &HostDevice)) {
    let devices = (HostDevice::new(BYTES), HostDevice::with_ordinal(BYTES, 1));
    law(&devices.0, &devices.1);
    // A broken device frees nothing (F5).
    let left = |device: &HostDevice| if device.stream(|_, _| ()).is_ok() { device.live() } else { (0, 0) };
    assert_eq!((left(&devices.0), left(&devices.1)), ((0, 0), (0, 0)), "allocations and events");
}

fn on_one(law: impl FnOnce(&HostDevice)) {
    on(|one, _| law(one));
}

tidelock_contract_suite::laws!(on_one);
tidelock_contract_suite::laws_of_host_fns!(on_one);
tidelock_contract_suite::laws_of_two_devices!(on);
