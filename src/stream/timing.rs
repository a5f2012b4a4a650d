//! The time between two points of a stream: marks, and spans that are read by a wait.
//!
//! Invariant, beside those of [`events`](super::events): every event in a [`Mark`] or in
//! `StreamState::timed_events` comes from `create_timed_event` of the same stream. It never enters
//! `StreamState::events` or a record that streams share, so that the two kinds stay apart (E8).

use core::{fmt, time::Duration};

use tidelock_driver::{Backend, EventOf, RawStream};

use super::{Ctx, location::DeviceLocation, record::EventRecord, state::StreamState};
use crate::{
    error::{Rejected, Result},
    location::AnyThread,
};

/// The most unused events that take the time and that a stream keeps.
const KEPT: usize = 16;

/// A point of stream `L` whose time is taken when the stream comes to it.
/// [`Ctx::mark`] makes one.
///
/// It owns an event, which the stream uses again once the mark is dropped.
#[must_use = "the time is read by `ctx.elapsed_since(mark)`"]
pub struct Mark<L: DeviceLocation> {
    record: EventRecord<EventOf<L::Backend>>,
    handle: L::Handle,
}

/// The time between two points of stream `L`, which is known once the stream has passed the second.
/// [`Ctx::elapsed_since`] makes one.
///
/// Dropping it costs no driver call.
#[must_use = "the time is read by `wait`"]
pub struct Elapsed<L: DeviceLocation> {
    start: Mark<L>,
    end: Mark<L>,
}

impl<L: DeviceLocation, A> Ctx<'_, L, A> {
    /// Marks the point behind everything enqueued so far. The time is taken when the stream comes to
    /// it.
    ///
    /// Cost: one driver call. An event that takes the time costs the device more than that of a
    /// fence, so that the two are kept apart: a mark creates an event if the stream has none of that
    /// kind to use again (two more calls on CUDA). The stream keeps up to 16 of them.
    ///
    /// # Errors
    /// The driver's error, which is
    /// [`Code::NOT_SUPPORTED`](crate::driver::Code::NOT_SUPPORTED) on a backend that takes no time.
    ///
    /// ```
    /// use tidelock::sim;
    ///
    /// sim::Device::default().stream(|stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let start = ctx.mark()?;
    ///     let hidden = ctx.zeros::<f32>(4096)?;
    ///     let step = ctx.elapsed_since(start)?; // nothing waits yet
    ///     drop(hidden);
    ///     println!("the step took {:?}", step.wait()?);
    ///     Ok::<_, tidelock::Error>(())
    /// })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    #[inline]
    pub fn mark(&self) -> Result<Mark<L>> {
        let handle = self.handle();
        let event = handle.timed_event()?;
        match handle.record_into(event) {
            Ok(record) => Ok(Mark { record, handle }),
            Err(error) => {
                handle.recycle_timed(event);
                Err(error)
            }
        }
    }

    /// The time from `start` to the point behind everything enqueued so far, as a value that arrives
    /// with a wait.
    ///
    /// Cost: as for [`mark`](Ctx::mark).
    ///
    /// # Errors
    /// As for [`mark`](Ctx::mark), with `start`.
    #[inline]
    pub fn elapsed_since(&self, start: Mark<L>) -> Result<Elapsed<L>, Rejected<Mark<L>>> {
        match self.mark() {
            Ok(end) => Ok(Elapsed { start, end }),
            Err(error) => Err(Rejected::new(error, start)),
        }
    }
}

impl<L: DeviceLocation> Elapsed<L> {
    /// Waits until the stream has passed the second point, and returns the time between the two by
    /// the clock of the device. Its resolution is about half a microsecond on CUDA.
    ///
    /// Cost: two driver calls, the first of which blocks the calling thread. Where the host has seen
    /// already that the stream is that far, as after [`is_ready`](Elapsed::is_ready) or
    /// [`Stream::synchronize`](super::Stream::synchronize), it is one call, which does not wait.
    ///
    /// # Errors
    /// The driver's error, with `self`, so that the wait can be tried again.
    #[inline]
    pub fn wait(self) -> Result<Duration, Rejected<Self>> {
        match self.read() {
            Ok(time) => Ok(time),
            Err(error) => Err(Rejected::new(error, self)),
        }
    }

    /// Whether [`wait`](Elapsed::wait) would return at once. Cost: one driver call, and none where
    /// the host has seen already that the stream is that far.
    ///
    /// # Errors
    /// The driver's error.
    #[inline]
    pub fn is_ready(&self) -> Result<bool> {
        self.end.handle.query_record(&self.end.record)
    }

    fn read(&self) -> Result<Duration> {
        let Mark { record: end, handle } = &self.end;
        handle.wait_for_record(end)?;
        let (start, end) = (self.start.record.event(), end.event());
        // SAFETY:
        // - E8, E9: both come from `create_timed_event` of this stream (the invariant of this file),
        //   which alone records them: the brands of the two marks are the same. They are not
        //   destroyed, because the marks own them (E5).
        // - `start` was recorded before `end`, and neither since: an event is recorded again only
        //   after its mark is dropped. The stream has passed `end` (H1).
        handle.with_raw(|raw| unsafe { raw.elapsed(start, end) })
    }
}

impl<L: DeviceLocation> Drop for Mark<L> {
    #[inline]
    fn drop(&mut self) {
        self.handle.recycle_timed(self.record.event());
    }
}

impl<B: Backend> StreamState<B> {
    /// An event that takes the time, to record later.
    fn timed_event(&self) -> Result<EventOf<B>> {
        self.check()?;
        let kept = self.timed_events.borrow_mut().pop();
        match kept {
            Some(event) => Ok(event),
            None => self.with_raw(RawStream::create_timed_event),
        }
    }

    /// Keeps an event that takes the time, which the caller owns, for a later record.
    fn recycle_timed(&self, event: EventOf<B>) {
        let mut events = self.timed_events.borrow_mut();
        if events.len() < KEPT && events.try_reserve(1).is_ok() {
            events.push(event);
        } else {
            drop(events);
            self.destroy_event(event);
        }
    }
}

// SAFETY:
// - No device location is `AnyThread`, so that this applies to no type. It makes the compiler give
//   its reason.
unsafe impl<L: DeviceLocation + AnyThread> Send for Mark<L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Mark<L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Send for Elapsed<L> {}
// SAFETY:
// - As above.
unsafe impl<L: DeviceLocation + AnyThread> Sync for Elapsed<L> {}

impl<L: DeviceLocation> fmt::Debug for Mark<L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mark").finish_non_exhaustive()
    }
}
impl<L: DeviceLocation> fmt::Debug for Elapsed<L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elapsed").finish_non_exhaustive()
    }
}
