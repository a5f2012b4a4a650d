// R10: what the typed layer calls across the driver contract takes addresses and events: it is unsafe to call.
// Instead: `ctx.copy(..)`, `ctx.clear(..)`, `ctx.fence(..)` and buffers that free themselves.
use std::{num::NonZero, ptr::NonNull};
use tidelock::driver::{Backend, EventOf, HostAccess, RawDevice, RawStream, StreamOf};

pub fn calls<B: Backend>(raw: &StreamOf<B>, event: EventOf<B>, at: NonNull<u8>, n: NonZero<usize>) {
    let _ = raw.free(at);
    let _ = raw.free_now(at);
    let _ = raw.register(at.as_ptr(), n, false);
    let _ = raw.unregister(at.as_ptr());
    let _ = raw.copy(at.as_ptr(), at.as_ptr(), n);
    let _ = raw.fill(at.as_ptr(), 0, n);
    let _ = raw.batch(Default::default());
    let _ = raw.record(event);
    let _ = raw.wait(event);
    let _ = raw.has_passed(event);
    let _ = raw.wait_event(event);
    raw.loans_end();
    let _ = raw.device().wait_event(event);
    let _ = raw.device().has_passed(event);
    raw.device().destroy_event(event);
    let _ = raw.device().free(at);
    let _ = raw.device().free_behind(&[event], at);
    let _ = B::unpin(at);
    B::host_touches(HostAccess::write(at.as_ptr(), 1, "mine"));
}

fn main() {}
