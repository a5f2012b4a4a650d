//! Streams.

use tidelock_driver::code::Code;

use crate::{
    abi::{Handle, Out},
    context,
    driver::{Stream, driver},
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
    let driver = driver();
    let priority = priority.clamp(GREATEST_PRIORITY, LEAST_PRIORITY);
    let id = driver.device(device)?.gpu.stream_create(priority)?;
    out.put(driver.streams.insert(Stream { device, context, id, flags, priority }))
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
        let driver = driver();
        let target = driver.target(stream)?;
        // What the device is broken with, before anything changes.
        target.gpu.default_pool()?;
        let removed = driver.streams.remove(stream)?;
        driver.end_later(removed)
    }

    /// Waits for a stream.
    fn cuStreamSynchronize(stream: Handle) {
        let target = driver().target(stream)?;
        target.gpu.stream_synchronize(target.id)
    }

    /// Asks whether a stream is done.
    fn cuStreamQuery(stream: Handle) {
        let target = driver().target(stream)?;
        if target.gpu.stream_query(target.id)? { Ok(()) } else { Err(Code::NOT_READY) }
    }

    /// The context of a stream.
    fn cuStreamGetCtx(stream: Handle, out: Out<Handle>) {
        out.check()?;
        out.put(driver().target(stream)?.context)
    }

    /// The flags of a stream.
    fn cuStreamGetFlags(stream: Handle, out: Out<u32>) {
        out.check()?;
        out.put(if stream <= 2 { 0 } else { driver().streams.get(stream)?.flags })
    }

    /// The priority of a stream, as it was clamped.
    fn cuStreamGetPriority(stream: Handle, out: Out<i32>) {
        out.check()?;
        out.put(if stream <= 2 { LEAST_PRIORITY } else { driver().streams.get(stream)?.priority })
    }

    /// Whether a stream is captured: never.
    fn cuStreamIsCapturing(stream: Handle, out: Out<u32>) {
        out.check()?;
        driver().target(stream)?;
        out.put(0)
    }
}
