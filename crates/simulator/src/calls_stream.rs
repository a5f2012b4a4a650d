//! The calls on streams, events and tasks.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::sync::Arc;

use super::{
    Gpu, Shared,
    call::Call,
    event::{Event, Recorded, Stamp},
    lock,
    op::Op,
    progress::Progress,
    race_detector::ReleaseClock,
    slots::EventId,
    slots::StreamId,
    stream::Stream,
    task::Task,
    uses::Use,
};
use tidelock_driver::code::Code;

impl Gpu {
    /// Creates a stream and its thread. The priority is kept and changes nothing.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if the host has no thread left.
    #[inline]
    pub fn stream_create(&self, priority: i32) -> Result<StreamId, Code> {
        self.call(Call::StreamCreate, |shared| {
            let timeline = shared.new_timeline();
            let stream = Arc::new(Stream::new(priority, timeline));
            let id = lock(&shared.streams).insert(Arc::clone(&stream)).ok_or(Code::OUT_OF_MEMORY)?;
            if stream.start(StreamId(id), shared).is_err() {
                lock(&shared.streams).remove(id);
                return Err(Code::OUT_OF_MEMORY);
            }
            shared.stream_begins(timeline, StreamId(id));
            Ok(StreamId(id))
        })
    }

    /// Destroys a stream: waits until its work is done, and ends its thread.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream.
    #[inline]
    pub fn stream_destroy(&self, stream: StreamId) -> Result<(), Code> {
        self.call(Call::StreamDestroy, |shared| {
            let stream = lock(&shared.streams).remove(stream.0).ok_or(Code::INVALID_HANDLE)?;
            stream.close();
            stream.join();
            shared.stream_ends(stream.timeline);
            Ok(())
        })
    }

    /// Holds the calling thread until everything enqueued on `stream` so far is done. Pools then
    /// give back what they cache beyond their thresholds.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream; the code of a failure on the device.
    #[inline]
    pub fn stream_synchronize(&self, stream: StreamId) -> Result<(), Code> {
        self.call_or(Call::StreamSynchronize, Some(()), |shared| {
            let stream = shared.stream(stream)?;
            let release = shared.release(stream.timeline);
            shared.wait(&stream.progress, stream.submitted(), release.as_deref())
        })
    }

    /// Whether everything enqueued on `stream` so far is done; the driver says `NOT_READY` for
    /// `false`.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream.
    #[inline]
    pub fn stream_query(&self, stream: StreamId) -> Result<bool, Code> {
        self.call_or(Call::StreamQuery, Some(true), |shared| {
            let stream = shared.stream(stream)?;
            let release = shared.release(stream.timeline);
            shared.ask(&stream.progress, stream.submitted(), release.as_deref())
        })
    }

    /// The priority that `stream` was created with. Not counted as a call.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream.
    #[inline]
    pub fn stream_priority(&self, stream: StreamId) -> Result<i32, Code> {
        self.shared().stream(stream).map(|stream| stream.priority)
    }

    /// Makes what is enqueued on `stream` from now on wait for the latest record of `event` as of
    /// this call.
    ///
    /// An event that was never recorded is not waited for.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream or event.
    #[inline]
    pub fn stream_wait_event(&self, stream: StreamId, event: EventId) -> Result<(), Code> {
        self.call_or(Call::StreamWaitEvent, Some(()), |shared| {
            let stream = shared.stream(stream)?;
            if let Some(Recorded { stream: recorder, ticket, release }) = shared.recorded(event)? {
                shared.submit(&stream, Op::Wait { stream: recorder, ticket })?;
                shared.stream_joins(stream.timeline, release.as_ref());
            }
            Ok(())
        })
    }

    /// Creates an event that was never recorded.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if there are 2^32 events.
    #[inline]
    pub fn event_create(&self) -> Result<EventId, Code> {
        self.call(Call::EventCreate, |shared| {
            lock(&shared.events).insert(Event::default()).map(EventId).ok_or(Code::OUT_OF_MEMORY)
        })
    }

    /// As [`event_create`](Gpu::event_create), for an event whose records take the time.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if there are 2^32 events.
    #[inline]
    pub fn event_create_timed(&self) -> Result<EventId, Code> {
        self.call(Call::EventCreate, |shared| {
            let event = Event { time: Some(Arc::default()), ..Event::default() };
            lock(&shared.events).insert(event).map(EventId).ok_or(Code::OUT_OF_MEMORY)
        })
    }

    /// The time between the moments at which a stream came to the latest records of `start` and of
    /// `end`, by the clock of the device, which is the host's monotonic clock. Zero if `end` is not
    /// later.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if one of them is no event, takes no time or was never recorded;
    /// `NOT_READY` if one of the records was not passed; the code of a failure on the device.
    #[inline]
    pub fn event_elapsed(&self, start: EventId, end: EventId) -> Result<Duration, Code> {
        self.call_or(Call::EventElapsedTime, Some(Duration::ZERO), |shared| {
            let (start, end) = (shared.stamp(start)?, shared.stamp(end)?);
            Ok(start.until(&end))
        })
    }

    /// Creates an event that stands for the point that `event` stands for now.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such event, `OUT_OF_MEMORY` if there are 2^32 events.
    #[doc(hidden)]
    #[inline]
    pub fn event_behind(&self, event: EventId) -> Result<EventId, Code> {
        self.call(Call::EventCreate, |shared| {
            let recorded = shared.recorded(event)?;
            lock(&shared.events).insert(Event { recorded, ..Event::default() }).map(EventId).ok_or(Code::OUT_OF_MEMORY)
        })
    }

    /// Destroys an event. Waits for it that were enqueued before keep their meaning.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such event.
    #[inline]
    pub fn event_destroy(&self, event: EventId) -> Result<(), Code> {
        self.call(Call::EventDestroy, |shared| {
            lock(&shared.events).remove(event.0).map(drop).ok_or(Code::INVALID_HANDLE)
        })
    }

    /// Records `event` behind everything enqueued on `stream` so far, instead of where it was
    /// recorded before.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream or event.
    #[inline]
    pub fn event_record(&self, event: EventId, stream: StreamId) -> Result<(), Code> {
        self.call_or(Call::EventRecord, Some(()), |shared| {
            let stream = shared.stream(stream)?;
            let time = lock(&shared.events).get(event.0).map(|event| event.time.clone()).ok_or(Code::INVALID_HANDLE)?;
            let ticket = shared.submit(&stream, time.map_or(Op::Record, Op::Stamp))?;
            let recorded =
                Recorded { stream: Arc::clone(&stream.progress), ticket, release: shared.recorded_on(stream.timeline) };
            if let Some(event) = lock(&shared.events).get_mut(event.0) {
                event.recorded = Some(recorded);
            }
            Ok(())
        })
    }

    /// Whether the latest record of `event` has been passed; the driver says `NOT_READY` for
    /// `false`.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such event; the code of a failure on the device.
    #[inline]
    pub fn event_query(&self, event: EventId) -> Result<bool, Code> {
        self.call_or(Call::EventQuery, Some(true), |shared| match shared.recorded(event)? {
            Some(Recorded { stream, ticket, release }) => shared.ask(&stream, ticket, release.as_deref()),
            None => Ok(true),
        })
    }

    /// Holds the calling thread until the latest record of `event` has been passed. Pools then give
    /// back what they cache beyond their thresholds.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such event; the code of a failure on the device.
    #[inline]
    pub fn event_synchronize(&self, event: EventId) -> Result<(), Code> {
        self.call_or(Call::EventSynchronize, Some(()), |shared| match shared.recorded(event)? {
            Some(Recorded { stream, ticket, release }) => shared.wait(&stream, ticket, release.as_deref()),
            None => Ok(()),
        })
    }

    /// Enqueues `task`. An error of the task, or a panic in it, breaks the device when it happens.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream, `INVALID_VALUE` if the task captures more than
    /// 4096 bytes. A refused task is dropped before the call returns.
    #[inline]
    pub fn launch(&self, stream: StreamId, task: Task) -> Result<(), Code> {
        self.launch_using(stream, task, &[])
    }

    /// As [`launch`](Gpu::launch), and tells the race detector what memory the task touches. What
    /// it resolves besides is not checked for order.
    ///
    /// # Errors
    /// As for [`launch`](Gpu::launch).
    #[inline]
    pub fn launch_using(&self, stream: StreamId, task: Task, uses: &[Use]) -> Result<(), Code> {
        self.call(Call::LaunchKernel, |shared| {
            let stream = shared.stream(stream)?;
            if task.is_refused() {
                return Err(Code::INVALID_VALUE);
            }
            let task = shared.recycler.task(task);
            shared.submit(&stream, Op::Launch(task))?;
            shared.enqueued(stream.timeline, Call::LaunchKernel, uses.iter().copied());
            Ok(())
        })
    }
}

impl Shared {
    /// Where `event` was recorded last.
    pub(super) fn recorded(&self, event: EventId) -> Result<Option<Recorded>, Code> {
        lock(&self.events).get(event.0).map(|event| event.recorded.clone()).ok_or(Code::INVALID_HANDLE)
    }

    /// When a stream came to the latest record of `event`.
    fn stamp(&self, event: EventId) -> Result<Arc<Stamp>, Code> {
        let (recorded, time) = {
            let events = lock(&self.events);
            let event = events.get(event.0).ok_or(Code::INVALID_HANDLE)?;
            (event.recorded.clone(), event.time.clone())
        };
        let (Some(recorded), Some(time)) = (recorded, time) else { return Err(Code::INVALID_HANDLE) };
        let passed = recorded.is_passed();
        self.running()?;
        if passed { Ok(time) } else { Err(Code::NOT_READY) }
    }

    fn wait(&self, stream: &Progress, ticket: u64, release: Option<&ReleaseClock>) -> Result<(), Code> {
        stream.wait(ticket, &self.health)?;
        // The operation waited for may be the one that broke the device, or may have been skipped.
        self.running()?;
        self.thread_joins(release);
        self.free_orphans();
        self.with_heap(super::heap::Heap::settle);
        Ok(())
    }

    fn ask(&self, stream: &Progress, ticket: u64, release: Option<&ReleaseClock>) -> Result<bool, Code> {
        let reached = stream.has_reached(ticket);
        self.running()?;
        self.thread_joins(release.filter(|_| reached));
        self.free_orphans();
        Ok(reached)
    }
}
