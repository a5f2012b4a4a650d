//! Events.

use tidelock_driver::code::Code;
use tidelock_simulator::Task;

use crate::{
    abi::{Handle, Out},
    context,
    driver::{Event, driver},
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
        let driver = driver();
        let id = driver.device(device)?.gpu.event_create()?;
        out.put(driver.events.insert(Event { device, context, id }))
    }

    /// Destroys an event. Who waits for it already goes on waiting.
    fn cuEventDestroy_v2(event: Handle) {
        let driver = driver();
        let Event { device, id, .. } = driver.events.get(event)?;
        driver.device(device)?.gpu.event_destroy(id)?;
        driver.events.remove(event).map(drop)
    }

    /// Records an event. It and the stream are of one context.
    fn cuEventRecord(event: Handle, stream: Handle) {
        let driver = driver();
        let found = driver.events.get(event)?;
        let target = driver.target(stream)?;
        if found.context != target.context {
            return Err(Code::INVALID_HANDLE);
        }
        target.gpu.event_record(found.id, target.id)
    }

    /// Asks whether an event was passed.
    fn cuEventQuery(event: Handle) {
        let driver = driver();
        let Event { device, id, .. } = driver.events.get(event)?;
        if driver.device(device)?.gpu.event_query(id)? { Ok(()) } else { Err(Code::NOT_READY) }
    }

    /// Waits for an event.
    fn cuEventSynchronize(event: Handle) {
        let driver = driver();
        let Event { device, id, .. } = driver.events.get(event)?;
        driver.device(device)?.gpu.event_synchronize(id)
    }

    /// The time between two events is not measured here.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        milliseconds.check()?;
        let driver = driver();
        for event in [start, end] {
            let Event { device, id, .. } = driver.events.get(event)?;
            if !driver.device(device)?.gpu.event_query(id)? {
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
        let driver = driver();
        let Event { device, id, .. } = driver.events.get(event)?;
        let target = driver.target(stream)?;
        if device == target.device {
            return target.gpu.stream_wait_event(target.id, id);
        }
        // Another simulated GPU: its latest record when the stream gets here, which is never
        // earlier than the one asked for.
        let other = driver.device(device)?.gpu.clone();
        target.gpu.launch(target.id, Task::new(move |_| other.event_synchronize(id)))
    }
}
