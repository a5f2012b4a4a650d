// R1: the locations are the ones of this crate; memory elsewhere has no rules that the compiler could hold.
// Instead: `Buffer<u32, Host>`, `Buffer<u32, L::Pinned>`, or `Buffer<u32, L>` with `L: DeviceLocation`.
use tidelock::{View, location::Location};

pub struct Disk;

fn describe<D: Location>(_pages: View<'_, u8, D>) {}

pub fn load(pages: View<'_, u8, Disk>) {
    describe(pages);
}

fn main() {}
