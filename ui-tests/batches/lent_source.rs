// R4: lent host memory takes part in plain copies only.
// Instead: a host view, which a batch reads during the call: `b.copy(View::from(tokens), device)`.
use tidelock::{BatchCopy, DeviceLocation, Result, Stream, ViewMut};

pub fn send<L: DeviceLocation>(
    mut stream: Stream<L>,
    batch: &mut BatchCopy,
    tokens: &[u32],
    device: ViewMut<'_, u32, L>,
) -> Result<()> {
    stream.host_scope(|scope| {
        let lent = scope.source(tokens);
        batch.scope(&scope.ctx(), |b| b.copy(lent, device))
    })?
}

fn main() {}
