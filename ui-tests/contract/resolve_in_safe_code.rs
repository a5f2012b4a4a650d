// R10: whoever implements `Resolve` promises clauses of the driver contract (L2): it is unsafe to implement.
// Instead: `sim::Device` runs closures; `examples/backend` is a backend outside of the library.
use tidelock::driver::{Code, Resolve};

pub struct Mine;

impl Resolve for Mine {
    fn resolve(&self, ptr: *mut u8, _: usize) -> Result<*mut u8, Code> {
        Ok(ptr.wrapping_add(8))
    }
    fn keeps_alignment(_: *const u8, _: usize) -> bool {
        true
    }
}

fn main() {}
