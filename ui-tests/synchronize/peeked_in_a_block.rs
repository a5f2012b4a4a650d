// R2: elements that outlive the `Synced` they were read with keep the stream borrowed.
// Instead: use the elements first, and enqueue after their last use.
use tidelock::{Buffer, DeviceLocation, Result, Stream, stream::Staged};

pub fn first<L: DeviceLocation>(
    stream: &mut Stream<L>,
    out: &Buffer<u32, Staged<L>>,
    other: &mut Buffer<u32, L>,
) -> Result<u32> {
    let tokens = {
        let done = stream.synchronize()?;
        out.peek(&done)
    };
    stream.ctx().clear(other.view_mut())?;
    Ok(tokens.iter().sum())
}

fn main() {}
