// R10: whoever implements `HostFns` promises clauses of the driver contract (L1, L2, L4): it is unsafe to implement.
// Instead: `sim::Device` runs closures; `examples/backend` is a backend outside of the library.
use tidelock::driver::{Code, DriverError, HostFns, KernelUse, SameAddress};

pub struct Mine;

impl HostFns for Mine {
    type Memory = SameAddress;
    unsafe fn run(
        &self,
        _: impl FnOnce(&SameAddress) -> Result<(), Code> + Send + 'static,
        _: impl FnOnce(&mut dyn FnMut(KernelUse)),
    ) -> Result<(), DriverError> {
        Ok(())
    }
}

fn main() {}
