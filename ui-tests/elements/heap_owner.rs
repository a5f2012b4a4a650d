// R9: an element is plain bytes; what owns memory cannot be copied to a device.
// Instead: one buffer of bytes and a table of offsets: `View::ragged`.
use tidelock::{Buffer, Result, location::Host};

pub fn prompts() -> Result<Buffer<String, Host>> {
    Buffer::from_fn(8, |_| String::new())
}

fn main() {}
