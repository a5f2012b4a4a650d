// R4: what is lent in a host scope outlives the scope, which waits for the stream at its end.
// Instead: declare `tokens` before the scope.
use tidelock::{DeviceLocation, Result, Stream, View};

pub fn fetch<L: DeviceLocation>(mut stream: Stream<L>, device: View<'_, u32, L>) -> Result<()> {
    stream.host_scope(|scope| {
        let mut tokens = vec![0; 8];
        scope.ctx().copy(device, scope.target(&mut tokens))
    })?
}

fn main() {}
