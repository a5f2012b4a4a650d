// R1: a host scope is invariant in what its loans outlive.
// Instead: pass the scope on as it is.
use tidelock::{DeviceLocation, stream::HostScope};

pub fn shorten<'a, 'h, 'long: 'short, 'short, L: DeviceLocation>(
    scope: &'a HostScope<'h, 'long, L>,
) -> &'a HostScope<'h, 'short, L> {
    scope
}

fn main() {}
