// R9: page-locked memory of one backend staged for a stream of another.
// Instead: allocate it with the stream's own context: `ctx.alloc_pinned::<T>(len)`.
use tidelock::{Buffer, Ctx, cuda::Cuda, location::Pinned, sim::SimBackend, stream::Staged};

pub fn stage<'s>(ctx: &Ctx<'_, Cuda<'s>>, memory: Buffer<u32, Pinned<SimBackend>>) -> Buffer<u32, Staged<Cuda<'s>>> {
    memory.stage(ctx)
}

fn main() {}
