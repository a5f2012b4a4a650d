//! Records that many owners share: those behind hand-overs and fences.
//!
//! A stream that has enqueued nothing since its latest record hands out that record again, and a
//! stream that has waited for a record does not wait for it twice. So any number of buffers that
//! cross together cost one record and one wait.

#![forbid(unsafe_code)]

use std::sync::Arc;

use tidelock_driver::Backend;

use super::{
    StreamState,
    record::{EventRecord, KEPT, SharedRecord},
};
use crate::error::{Error, Result};

impl<B: Backend> StreamState<B> {
    /// Remembers that others may enqueue on the stream from now on. No record is shared and no wait
    /// is left out any more.
    #[cfg(feature = "cuda-core")]
    pub(crate) fn expose(&self) {
        self.records.exposed.set(true);
        self.records.stir();
    }

    /// A record behind everything enqueued so far: the latest one if nothing was enqueued since.
    ///
    /// # Errors
    /// The driver's error. Nothing has changed then.
    pub(crate) fn shared_record(&self) -> Result<Arc<SharedRecord<B>>> {
        self.check()?;
        if self.records.quiet.get()
            && let Some(latest) = &*self.records.latest.borrow()
        {
            return Ok(Arc::clone(latest));
        }
        self.record_as(self.unused_record()?)
    }

    /// A record that is not used, to pass to [`record_as`](StreamState::record_as) or
    /// [`keep_record`](StreamState::keep_record).
    ///
    /// # Errors
    /// The driver's error for creating an event.
    pub(super) fn unused_record(&self) -> Result<Arc<SharedRecord<B>>> {
        self.check()?;
        if !self.records.quiet.get() {
            // Otherwise it would never be unused.
            drop(self.records.latest.take());
        }
        let mut kept = self.records.kept.borrow_mut();
        for _ in 0..kept.len() {
            let Some(mut record) = kept.pop_front() else { break };
            if Arc::get_mut(&mut record).is_some() {
                return Ok(record);
            }
            kept.push_back(record);
        }
        let at = EventRecord::unrecorded(self.event()?);
        Ok(Arc::new(SharedRecord { at, stream: self.records.stream, device: self.device().clone() }))
    }

    /// As [`shared_record`](StreamState::shared_record), with `unused` for the record if a new one
    /// is needed.
    ///
    /// # Errors
    /// The driver's error. Nothing has changed then.
    pub(super) fn record_as(&self, mut unused: Arc<SharedRecord<B>>) -> Result<Arc<SharedRecord<B>>> {
        if let Err(error) = self.check() {
            // Also if the stream is quiet: what made it poisoned may have been enqueued elsewhere.
            self.keep_record(unused);
            return Err(error);
        }
        let latest = self.records.latest.borrow().clone();
        if let (true, Some(latest)) = (self.records.quiet.get(), latest) {
            self.keep_record(unused);
            return Ok(latest);
        }
        let answer = match Arc::get_mut(&mut unused) {
            Some(record) => self.record_into(record.at.event()).map(|at| record.at = at),
            // It has one owner: it comes from `unused_record`.
            None => Err(Error::OutOfRange { operand: "record" }),
        };
        if let Err(error) = answer {
            self.keep_record(unused);
            return Err(error);
        }
        self.keep_record(Arc::clone(&unused));
        *self.records.latest.borrow_mut() = Some(Arc::clone(&unused));
        self.records.quiet.set(!self.records.exposed.get());
        Ok(unused)
    }

    /// Keeps a record, to use it again once it has no other owner.
    pub(super) fn keep_record(&self, record: Arc<SharedRecord<B>>) {
        let mut kept = self.records.kept.borrow_mut();
        if kept.len() < KEPT && kept.try_reserve(1).is_ok() {
            kept.push_back(record);
        }
    }

    /// Makes what is enqueued from now on run behind `record`. Costs no driver call if it does
    /// already.
    ///
    /// # Errors
    /// [`Error::OtherDevice`], which names `operand`, if the record is of another device, or the
    /// driver's error.
    pub(crate) fn follow(&self, record: &SharedRecord<B>, operand: &'static str) -> Result<()> {
        self.check()?;
        self.require_device(&record.device, operand)?;
        if self.records.is_behind(record) {
            return Ok(());
        }
        self.wait_for(record.at.event(), &record.device, operand)?;
        self.records.remember(record);
        Ok(())
    }
}
