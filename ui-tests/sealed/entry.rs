// R9: a table points to memory of its stream: `Entry` is sealed.
// Instead: a struct of your own hands out views of its buffers.
use tidelock::{DeviceLocation, Error, View, stream::Entry};

pub struct Mine;

// As `Self`.
impl<L: DeviceLocation> Entry<L> for Mine {
    type Element = u64;
    type Location = L;
    type Refused = Error;
    type Payload = ();
    type Owner = ();
    fn into_parts(self, _: &mut [u8]) -> (*const u64, usize, ()) {
        (std::ptr::dangling(), 1 << 40, ())
    }
    fn refused(error: Error, _: Vec<()>) -> Error {
        error
    }
}

// As the stream.
impl Entry<Mine> for View<'_, u64, Mine> {
    type Element = u64;
    type Location = Mine;
    type Refused = Error;
    type Payload = ();
    type Owner = ();
    fn into_parts(self, _: &mut [u8]) -> (*const u64, usize, ()) {
        (std::ptr::dangling(), 1 << 40, ())
    }
    fn refused(error: Error, _: Vec<()>) -> Error {
        error
    }
}

fn main() {}
