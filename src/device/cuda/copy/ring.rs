//! A ring of slots in page-locked memory, which launches read.

use core::{alloc::Layout, marker::PhantomData, ptr::NonNull};

use tidelock_driver::{Backend, Code, DriverError};

use crate::device::cuda::{event::Event, stream_calls::StreamCalls};

/// A ring of slots with `WORDS` words each, in a piece of the pinned pool of `B`.
///
/// A quarter of the ring is reused only after the stream has passed the event that was recorded
/// when the quarter was left: one record and one query for a quarter of the slots.
pub(super) struct Ring<B, const WORDS: usize> {
    /// Invariant: a piece of the pinned pool with the layout of the type.
    memory: NonNull<u32>,
    /// The slot that is filled next, below `SLOTS`.
    at: usize,
    /// Recorded when each quarter was left; `None` for one that nothing reads.
    left: [Option<Event>; QUARTERS],
    /// Events for quarters that were never left.
    spare: [Option<Event>; EVENTS],
    /// Whether a slot was ever filled.
    used: bool,
    backend: PhantomData<B>,
}

const QUARTERS: usize = 4;
const SLOTS: usize = 32;
/// The quarter that is being filled has no event.
const EVENTS: usize = QUARTERS - 1;

impl<B: Backend, const WORDS: usize> Ring<B, WORDS> {
    /// # Errors
    /// `OUT_OF_MEMORY` if there is no pinned memory.
    pub(super) fn new() -> Result<Self, DriverError> {
        let no_memory = DriverError::new("cuMemHostAlloc", Code::OUT_OF_MEMORY);
        let memory = B::PINNED.alloc(Self::layout()).map_err(|_| no_memory)?;
        Ok(Ring {
            memory: memory.cast(),
            at: 0,
            left: [None; QUARTERS],
            spare: [None; EVENTS],
            used: false,
            backend: PhantomData,
        })
    }

    /// Creates the events that the ring needs, before its first use.
    ///
    /// # Errors
    /// What the driver answered; what was created stays.
    pub(super) fn warm(&mut self, stream: &StreamCalls) -> Result<(), DriverError> {
        if self.used || self.spare.iter().any(Option::is_some) {
            return Ok(());
        }
        stream.create_events(&mut self.spare)
    }

    /// The next slot, for launches on `stream` that are made before the next call. Where a quarter
    /// of the ring begins, it may wait for the stream.
    ///
    /// # Errors
    /// What the driver answered to an event or a wait. The ring is unchanged.
    pub(super) fn next(&mut self, stream: &StreamCalls) -> Result<&mut [u32], DriverError> {
        const PER_QUARTER: usize = SLOTS / QUARTERS;
        if self.at.is_multiple_of(PER_QUARTER) {
            self.enter(stream, self.at / PER_QUARTER)?;
        }
        self.used = true;
        let offset = self.at.wrapping_mul(WORDS);
        self.at = self.at.wrapping_add(1) % SLOTS;
        // SAFETY:
        // - `at` was below `SLOTS`, so that the slot lies in the ring.
        let words = unsafe { self.memory.add(offset) };
        // SAFETY:
        // - The slot lies in the ring, is aligned, and was written by the pool or by an earlier use
        //   of it: every bit pattern is a word.
        // - The device has passed all launches that read this part of the ring: it was seen to
        //   before the quarter was entered. The host uses it through this borrow only.
        Ok(unsafe { core::slice::from_raw_parts_mut(words.as_ptr(), WORDS) })
    }

    /// Leaves one quarter, and enters the next when the stream has passed the launches that read
    /// it.
    fn enter(&mut self, stream: &StreamCalls, entered: usize) -> Result<(), DriverError> {
        let before = entered.wrapping_add(QUARTERS - 1) % QUARTERS;
        let event = match self.left.get(entered).copied().flatten() {
            Some(event) => {
                if !stream.query(event)? {
                    stream.observe(event)?;
                }
                event
            }
            None if !self.used => return Ok(()),
            None => match self.spare.iter_mut().find_map(Option::take) {
                Some(event) => event,
                None => stream.create_event()?,
            },
        };
        if let Err(error) = stream.record(event) {
            // An event of the ring stays in it: it was passed. A new one is destroyed.
            if self.left.get(entered).copied().flatten().is_none() {
                event.destroy(stream.context);
            }
            return Err(error);
        }
        if let Some(left) = self.left.get_mut(entered) {
            *left = None;
        }
        // The event stands for the quarter that is left now.
        if let Some(left) = self.left.get_mut(before) {
            *left = Some(event);
        }
        Ok(())
    }

    /// Releases everything, the memory only if the stream has `passed` everything.
    pub(super) fn close(&mut self, stream: &StreamCalls, passed: bool) {
        for event in self.left.iter_mut().chain(&mut self.spare).filter_map(Option::take) {
            event.destroy(stream.context);
        }
        if passed {
            // SAFETY:
            // - The memory comes from the pool with this layout, and this is the end of its only
            //   owner.
            // - The device has passed everything.
            unsafe { B::PINNED.dealloc(self.memory.cast(), Self::layout()) }
        }
    }

    fn layout() -> Layout {
        Layout::from_size_align(WORDS.saturating_mul(SLOTS * 4), 256).unwrap_or(Layout::new::<u8>())
    }
}
