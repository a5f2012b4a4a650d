// R4: a program that gets the pool of a stream that it did not open could destroy it: the list of pools is the library's.
// Instead: a stream has a pool of its own with `StreamOptions::pool`; `gpu.pool_create(..)` makes one for calls by hand.
use tidelock::sim::Device;

pub fn destroy(device: &Device) {
    device.gpu().pools().each(|pool| drop(device.gpu().pool_destroy(pool)));
    device.pools().each(|pool| drop(device.gpu().pool_destroy(pool)));
}

fn main() {}
