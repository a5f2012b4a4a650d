// R9: kernels, fills and batches reach device and staged memory only: `KernelAccessible` is sealed for both.
// Instead: `ctx.upload(&slice, destination)`, and work on the copy.
use tidelock::{location::Host, sim::Sim, stream::KernelAccessible};

pub struct Mine;

// As `Self`.
impl<'s> KernelAccessible<Sim<'s>> for Mine {}

// As the stream.
impl KernelAccessible<Mine> for Host {}

fn main() {}
