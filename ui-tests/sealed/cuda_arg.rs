// R9: a kernel gets the addresses of views and elements: `cuda::Arg` is sealed.
// Instead: `impl Element for Address {}`, and pass it by value.
use tidelock::cuda::Arg;

pub struct Address(pub u64);

impl<'s> Arg<'s> for Address {
    type Param = u64;
    fn param(self) -> u64 {
        self.0
    }
}

fn main() {}
