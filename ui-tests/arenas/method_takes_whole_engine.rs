// R7: while a context borrows the engine's stack, the engine as a whole is borrowed.
// Instead: put the layers into a struct of their own, and call `self.model.forward(&ctx)`.
use tidelock::{Ctx, DeviceLocation, Result, Stack, Stream, stream::HasAlloc};

pub struct Engine<L: DeviceLocation> {
    stream: Stream<L>,
    stack: Stack<L>,
    steps: u32,
}

impl<L: DeviceLocation> Engine<L> {
    pub fn step(&mut self) -> Result<()> {
        let ctx = self.stream.ctx().with_device_alloc(&self.stack);
        self.forward(&ctx)
    }

    fn forward<A: HasAlloc<L>>(&mut self, ctx: &Ctx<'_, L, A>) -> Result<()> {
        self.steps += 1;
        ctx.zeros::<f32>(8).map(drop)
    }
}

fn main() {}
