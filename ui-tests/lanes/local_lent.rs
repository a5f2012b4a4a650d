// R4: what is lent through `env` outlives the visit, which waits for it at its end.
// Instead: declare `back` before `enter`, or lend it in `stream.host_scope(|scope| ..)`.
use tidelock::{Result, sim::SimBackend, stream::Lane};

pub fn read(lane: &mut Lane<SimBackend>) -> Result<u32> {
    lane.enter(|stream, env| {
        let mut back = [0_u32; 4];
        let ctx = stream.ctx().with_pool();
        let x = ctx.zeros::<u32>(4)?;
        ctx.copy(x.view(), env.target(&mut back))?;
        Ok(back[0])
    })?
}

fn main() {}
