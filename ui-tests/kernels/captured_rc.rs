// R4: a kernel runs on the stream's own thread, so that what it captures is `Send`.
// Instead: capture an `Arc`, or pass the value as an argument.
use std::rc::Rc;
use tidelock::{Ctx, Result, ViewMut, sim::Sim};

pub fn scale<'s>(ctx: Ctx<'_, Sim<'s>>, x: ViewMut<'_, u32, Sim<'s>>, factor: Rc<u32>) -> Result<()> {
    ctx.launch((x,), move |(x,)| x.iter_mut().for_each(|x| *x *= *factor))
}

fn main() {}
