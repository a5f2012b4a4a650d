// R2: what a method returns from `peek` keeps the stream borrowed, although the proof is dropped.
// Instead: use the elements first, and enqueue after their last use.
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub struct Engine<L: DeviceLocation> {
    stream: Stream<L>,
    out: Buffer<u32, Staged<L>>,
}

impl<L: DeviceLocation> Engine<L> {
    fn tokens(&mut self) -> Result<&[u32]> {
        let done = self.stream.synchronize()?;
        Ok(self.out.peek(&done))
    }

    pub fn step(&mut self) -> Result<u32> {
        let tokens = self.tokens()?;
        self.stream.ctx().clear(self.out.view_mut())?;
        Ok(tokens.iter().sum())
    }
}

fn main() {}
