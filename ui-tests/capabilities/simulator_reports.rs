// R4: what the typed layer reports to the simulator is taken as it is: a report of what is not so ends an obligation.
// Instead: let the typed layer report; a program that drives a `Gpu` by hand proves each report in an `unsafe` block.
#![forbid(unsafe_code)]
use std::ptr::NonNull;
use tidelock_simulator::{Call, EventId, Gpu, Sabotage, StreamId, Use, host_touches, unpin};

pub fn reports(gpu: &Gpu, page: &[u8]) {
    host_touches(Use::read(page.as_ptr(), page.len()), "a lie");
    gpu.host_touches(Use::read(page.as_ptr(), page.len()));
    gpu.loans_end(StreamId::default());
    let _ = gpu.device_state();
    gpu.free_behind(EventId::default(), None);
    gpu.pretend(1, true, Call::StreamSynchronize);
    gpu.sabotage(Sabotage::ReadLate);
    let _ = unpin(NonNull::from(page).cast());
}

fn main() {}
