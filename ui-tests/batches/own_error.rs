// R14: a scope's closure returns an error that a refused submission can be turned into.
// Instead: `impl From<tidelock::Error> for EngineError`, or return `tidelock::Error`.
use tidelock::{BatchCopy, Ctx, DeviceLocation};

pub struct EngineError;

pub fn step<L: DeviceLocation>(ctx: Ctx<'_, L>, batch: &mut BatchCopy) -> Result<(), EngineError> {
    batch.scope(&ctx, |_| Err(EngineError))
}

fn main() {}
