// R4: the bytes of a file live as long as it is loaded from.
// Instead: keep the `Contents` or the `Mapped` beside the file.
use tidelock::{DeviceLocation, Stream, file::{Contents, FileError}};

pub fn load<L: DeviceLocation>(stream: &mut Stream<L>, contents: Contents) -> Result<usize, FileError> {
    let file = contents.file()?;
    drop(contents);
    Ok(file.load().registered(stream)?.len())
}

fn main() {}
