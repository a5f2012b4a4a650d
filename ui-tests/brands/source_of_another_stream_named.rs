// R1: two streams of one backend differ in their brand only, and that is enough.
// Instead: enqueue on the stream that owns the buffer.
use tidelock::{Buffer, Ctx, Result, ViewMut, sim::Sim};

pub fn exchange<'a, 'b>(
    source: &Buffer<f32, Sim<'a>>,
    target: ViewMut<'_, f32, Sim<'b>>,
    b: Ctx<'_, Sim<'b>>,
) -> Result<()> {
    b.copy(source.view(), target)
}

fn main() {}
