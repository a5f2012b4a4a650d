// R4: memory lent to be read is not written until the scope ends.
// Instead: write `tokens` before it is lent, or behind the scope.
use tidelock::{DeviceLocation, Result, Stream, ViewMut};

pub fn send<L: DeviceLocation>(mut stream: Stream<L>, device: ViewMut<'_, u32, L>) -> Result<()> {
    let mut tokens = [7; 8];
    stream.host_scope(|scope| {
        scope.ctx().copy(scope.source(&tokens), device)?;
        tokens[0] = 8;
        Ok(())
    })?
}

fn main() {}
