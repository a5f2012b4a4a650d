// R8: the host does not look at arriving memory before it has waited for it.
// Instead: `tokens.wait()?[0]`, or `tokens.await?[0]`.
use tidelock::{Buffer, driver::Backend, stream::Arriving};

pub fn first<B: Backend>(tokens: Buffer<u32, Arriving<B>>) -> u32 {
    tokens[0]
}

fn main() {}
