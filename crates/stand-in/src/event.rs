//! Events.

use tidelock::{driver::Code, sim::engine::Task};

use crate::{
    abi::{Handle, Out},
    context,
    world::{Event, world},
};

/// All flags there are: blocking, without timing, for other processes.
const FLAGS: u32 = 7;

exports! {
    /// Creates an event.
    fn cuEventCreate(out: Out<Handle>, flags: u32) {
        out.check()?;
        if flags > FLAGS {
            return Err(Code::INVALID_VALUE);
        }
        let (context, device) = context::current()?;
        let world = world();
        let id = world.device(device)?.engine.event_create()?;
        out.put(world.events.insert(Event { device, context, id }))
    }

    /// Destroys an event. Who waits for it already goes on waiting.
    fn cuEventDestroy_v2(event: Handle) {
        let world = world();
        let Event { device, id, .. } = world.events.get(event)?;
        world.device(device)?.engine.event_destroy(id)?;
        world.events.remove(event).map(drop)
    }

    /// Records an event. It and the stream are of one context.
    fn cuEventRecord(event: Handle, stream: Handle) {
        let world = world();
        let found = world.events.get(event)?;
        let queue = world.queue(stream)?;
        if found.context != queue.context {
            return Err(Code::INVALID_HANDLE);
        }
        queue.engine.event_record(found.id, queue.id)
    }

    /// Asks whether an event was passed.
    fn cuEventQuery(event: Handle) {
        let world = world();
        let Event { device, id, .. } = world.events.get(event)?;
        if world.device(device)?.engine.event_query(id)? { Ok(()) } else { Err(Code::NOT_READY) }
    }

    /// Waits for an event.
    fn cuEventSynchronize(event: Handle) {
        let world = world();
        let Event { device, id, .. } = world.events.get(event)?;
        world.device(device)?.engine.event_synchronize(id)
    }

    /// The time between two events is not measured here.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        milliseconds.check()?;
        let world = world();
        for event in [start, end] {
            let Event { device, id, .. } = world.events.get(event)?;
            if !world.device(device)?.engine.event_query(id)? {
                return Err(Code::NOT_READY);
            }
        }
        milliseconds.put(0.001)
    }

    /// Makes a stream wait for an event, of its own or another context.
    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) {
        if flags > 1 {
            return Err(Code::INVALID_VALUE);
        }
        let world = world();
        let Event { device, id, .. } = world.events.get(event)?;
        let queue = world.queue(stream)?;
        if device == queue.device {
            return queue.engine.stream_wait_event(queue.id, id);
        }
        // Another engine: its latest record when the stream gets here, which is never earlier than the one asked for.
        let other = world.device(device)?.engine.clone();
        queue.engine.launch(queue.id, Task::new(move |_| other.event_synchronize(id)))
    }
}
