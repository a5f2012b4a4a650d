// R1: `Location` is sealed.
// Instead: foreign host memory is `Buffer::from_owner(mapping)`.
use tidelock::{HostAlloc, Location};

pub struct Disk;

impl Location for Disk {
    type DefaultAlloc = HostAlloc;
    const NAME: &'static str = "disk";
}

fn main() {}
