// R4: the views of a step end with the step, which swaps the buffers.
// Instead: `state.front()` behind the step.
use tidelock::{DeviceLocation, Error, Result, State};

pub fn step<L: DeviceLocation>(state: &mut State<u32, L>) -> Result<()> {
    let _front = state.step(|front, _back| Ok::<_, Error>(front))?;
    Ok(())
}

fn main() {}
