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

/// Without timing.
const DISABLE_TIMING: u32 = 2;

exports! {
    /// Creates an event.
    fn cuEventCreate(out: Out<Handle>, flags: u32) {
        out.check()?;
        if flags > FLAGS {
            return Err(Code::INVALID_VALUE);
        }
        let (context, device) = context::current()?;
        let driver = driver();
        let gpu = &driver.device(device)?.gpu;
        let id = if flags & DISABLE_TIMING == 0 { gpu.event_create_timed()? } else { gpu.event_create()? };
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

    /// The time between two events of one device, both of which take the time.
    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    /// The same, under its newer name.
    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
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

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> Result<(), Code> {
    milliseconds.check()?;
    let driver = driver();
    let (start, end) = (driver.events.get(start)?, driver.events.get(end)?);
    if start.context != end.context {
        return Err(Code::INVALID_HANDLE);
    }
    let time = driver.device(start.device)?.gpu.event_elapsed(start.id, end.id)?;
    milliseconds.put(time.as_secs_f32() * 1e3)
}
