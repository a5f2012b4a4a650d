// R2: what is peeked is visible while the stream is known to be idle, within the visit.
// Instead: return `out.peek(&done).to_vec()`, or the pinned memory itself with `reclaim`.
use tidelock::{Error, Result, sim::SimBackend, stream::Lane};

pub fn read(lane: &mut Lane<SimBackend>) -> Result<u32> {
    let seen = lane.enter(|mut stream, _| {
        let out = stream.ctx().init_zeros(stream.ctx().alloc_pinned::<u32>(4)?.stage(&stream.ctx()))?;
        let done = stream.synchronize()?;
        Ok::<_, Error>(out.peek(&done))
    })??;
    Ok(seen[0])
}

fn main() {}
