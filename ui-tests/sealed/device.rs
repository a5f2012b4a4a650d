// R10: streams are opened by the library: `Device` is every `RawDevice`, and nothing else.
// Instead: a device of your own implements `driver::RawDevice`, which is unsafe; `examples/backend` has one.
use tidelock::{
    Device, Result, Stream,
    stream::{Env, On, StreamOptions},
};

#[derive(Clone)]
pub struct Mine;

impl Device for Mine {
    fn stream_with<'env, R>(
        &'env self,
        _: &StreamOptions,
        _: impl for<'s> FnOnce(Stream<On<'s, Self::Backend>>, Env<'s, 'env, On<'s, Self::Backend>>) -> R,
    ) -> Result<R> {
        loop {}
    }
}

fn main() {}
