// R1: the location of a stream is a name that only opening a stream makes: a program cannot make a stream of one.
// Instead: `device.stream(|stream, env| ..)`.
use tidelock::{Ctx, Stream, stream::On, sim::SimBackend};

pub fn forged() -> Ctx<'static, On<'static, SimBackend>> {
    let stream: Stream<On<'static, SimBackend>> = Stream::new(todo!());
    stream.ctx()
}

fn main() {}
