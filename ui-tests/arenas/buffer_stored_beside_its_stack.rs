// R7: a struct does not hold memory of an arena that it also owns.
// Instead: keep arena buffers in locals, or in a struct of the step: `struct Step<'a, L> { logits: Buffer<f32, L, &'a Stack<L>> }`.
use tidelock::{Buffer, Ctx, DeviceLocation, Result, Stack};

pub struct Engine<'a, L: DeviceLocation> {
    stack: Stack<L>,
    logits: Option<Buffer<f32, L, &'a Stack<L>>>,
}

impl<'a, L: DeviceLocation> Engine<'a, L> {
    pub fn step(&mut self, ctx: Ctx<'_, L>) -> Result<()> {
        self.logits = Some(ctx.with_device_alloc(&self.stack).zeros::<f32>(8)?);
        Ok(())
    }
}

fn main() {}
