//! Streams.

use tidelock::driver::Code;

use crate::{
    abi::{Handle, Out},
    context,
    world::{Stream, world},
};

pub(crate) const LEAST_PRIORITY: i32 = 0;
pub(crate) const GREATEST_PRIORITY: i32 = -5;

const NON_BLOCKING: u32 = 1;

fn create(out: &Out<Handle>, flags: u32, priority: i32) -> Result<(), Code> {
    out.check()?;
    if flags > NON_BLOCKING {
        return Err(Code::INVALID_VALUE);
    }
    let (context, device) = context::current()?;
    let world = world();
    let priority = priority.clamp(GREATEST_PRIORITY, LEAST_PRIORITY);
    let id = world.device(device)?.engine.stream_create(priority)?;
    out.put(world.streams.insert(Stream { device, context, id, flags, priority }))
}

exports! {
    /// Creates a stream.
    fn cuStreamCreate(out: Out<Handle>, flags: u32) {
        create(&out, flags, LEAST_PRIORITY)
    }

    /// Creates a stream with a priority, which is clamped and changes nothing.
    fn cuStreamCreateWithPriority(out: Out<Handle>, flags: u32, priority: i32) {
        create(&out, flags, priority)
    }

    /// Destroys a stream. The work that was enqueued on it goes on.
    fn cuStreamDestroy_v2(stream: Handle) {
        let world = world();
        let queue = world.queue(stream)?;
        // What the device is broken with, before anything changes.
        queue.engine.default_pool()?;
        let removed = world.streams.remove(stream)?;
        world.end_later(removed)
    }

    /// Waits for a stream.
    fn cuStreamSynchronize(stream: Handle) {
        let queue = world().queue(stream)?;
        queue.engine.stream_synchronize(queue.id)
    }

    /// Asks whether a stream is done.
    fn cuStreamQuery(stream: Handle) {
        let queue = world().queue(stream)?;
        if queue.engine.stream_query(queue.id)? { Ok(()) } else { Err(Code::NOT_READY) }
    }

    /// The context of a stream.
    fn cuStreamGetCtx(stream: Handle, out: Out<Handle>) {
        out.check()?;
        out.put(world().queue(stream)?.context)
    }

    /// The flags of a stream.
    fn cuStreamGetFlags(stream: Handle, out: Out<u32>) {
        out.check()?;
        out.put(if stream <= 2 { 0 } else { world().streams.get(stream)?.flags })
    }

    /// The priority of a stream, as it was clamped.
    fn cuStreamGetPriority(stream: Handle, out: Out<i32>) {
        out.check()?;
        out.put(if stream <= 2 { LEAST_PRIORITY } else { world().streams.get(stream)?.priority })
    }

    /// Whether a stream is captured: never.
    fn cuStreamIsCapturing(stream: Handle, out: Out<u32>) {
        out.check()?;
        world().queue(stream)?;
        out.put(0)
    }
}
