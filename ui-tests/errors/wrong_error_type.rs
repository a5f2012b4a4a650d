// R14: every refusal turns into `tidelock::Error`.
// Instead: `impl From<tidelock::Error> for EngineError`.
use tidelock::{DeviceLocation, Stream};

pub struct EngineError;

pub fn finish<L: DeviceLocation>(stream: &mut Stream<L>) -> Result<(), EngineError> {
    stream.synchronize()?;
    Ok(())
}

fn main() {}
