// R2: a `Synced` comes from `synchronize` only.
// Instead: `stream.synchronize()?`.
use core::marker::PhantomData;
use tidelock::{Buffer, DeviceLocation, Synced, location::Pinned, stream::Staged};

pub fn take_back<L: DeviceLocation>(staged: Buffer<u32, Staged<L>>) -> Buffer<u32, Pinned<L::Backend>> {
    staged.reclaim(&Synced { borrow: PhantomData })
}

fn main() {}
