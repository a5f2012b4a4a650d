// R4: what is page-locked for a host scope outlives the scope, which waits for the stream and unlocks it at its end.
// Instead: map `weights` before the scope.
use tidelock::{DeviceLocation, Result, Stream, ViewMut};

pub fn load<L: DeviceLocation>(mut stream: Stream<L>, device: ViewMut<'_, f32, L>) -> Result<()> {
    stream.host_scope(|scope| {
        let weights = vec![0.5; 8];
        scope.ctx().copy(scope.register(&weights)?, device)
    })?
}

fn main() {}
