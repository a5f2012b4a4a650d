// R10: whoever implements `RawStream` promises clauses of the driver contract (S, M, O, E, H, F): it is unsafe to implement.
// Instead: `sim::Device` is a device without hardware; `examples/backend` is a backend outside of the library.
use tidelock::driver::RawStream;

pub struct Mine;

impl RawStream for Mine {
    type Backend = tidelock::sim::SimBackend;
}

fn main() {}
