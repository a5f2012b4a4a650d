// R1: the locations are the ones of this crate; memory elsewhere has no rules that the compiler could hold.
// Instead: `Buffer<u32, Host>`, `Buffer<u32, L::Pinned>`, or `Buffer<u32, L>` with `L: DeviceLocation`.
use tidelock::Buffer;

pub struct Disk;

pub fn load(_pages: &Buffer<u8, Disk>) {}

fn main() {}
