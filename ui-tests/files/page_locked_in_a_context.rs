// R2: a page-locked file is waited for, so that its load needs the stream.
// Instead: load before the context is taken, or through the ring, which takes `&ctx`.
use tidelock::{DeviceLocation, Stream, View, ViewMut, file::{File, FileError}};

pub fn load<L: DeviceLocation>(
    stream: &mut Stream<L>,
    file: &File<'_>,
    from: View<'_, u32, L>,
    to: ViewMut<'_, u32, L>,
) -> Result<(), FileError> {
    let ctx = stream.ctx();
    let weights = file.load().registered(stream)?;
    ctx.copy(from, to)?;
    drop(weights);
    Ok(())
}

fn main() {}
