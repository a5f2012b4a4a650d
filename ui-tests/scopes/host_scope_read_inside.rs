// R4: memory lent to be written is the stream's until the scope ends.
// Instead: read `tokens` behind the scope.
use tidelock::{DeviceLocation, Result, Stream, View};

pub fn fetch<L: DeviceLocation>(mut stream: Stream<L>, device: View<'_, u32, L>) -> Result<u32> {
    let mut tokens = [0; 8];
    stream.host_scope(|scope| {
        scope.ctx().copy(device, scope.target(&mut tokens))?;
        Ok(tokens[0])
    })?
}

fn main() {}
