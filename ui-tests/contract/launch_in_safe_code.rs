// R10: whoever implements `Launch` promises clauses of the driver contract (L1 to L4): it is unsafe to implement.
// Instead: `sim::Device` runs closures; `examples/backend` is a backend outside of the library.
use tidelock::driver::{Launch, Result};

pub struct Mine;

impl Launch<(), ()> for Mine {
    unsafe fn launch(&self, _: (), _: ()) -> Result<()> {
        Ok(())
    }
}

fn main() {}
