//! The operands of a batch, in the arrays that the driver takes.

#![forbid(unsafe_code)]

use core::{fmt, mem, ptr::NonNull};

use tidelock_driver::{CopyBatch, RowGather, StridedCopy};

use super::BatchStats;
use crate::{
    buffer::{Counter, Receipt},
    error::{Error, Result},
};

/// Copies in the order of the requests: those that the device reads in stream order, and separately
/// those that read plain host memory during the call.
///
/// A structure of arrays of one length. Adding a copy costs one comparison for each array, and no
/// reallocation while there is room.
#[derive(Default)]
pub(super) struct Storage {
    dst: Box<[*mut u8]>,
    src: Box<[*const u8]>,
    len: Box<[usize]>,
    used: usize,
    during_call: Vec<Run>,
    gathers: Vec<RowGather>,
    strided: Vec<StridedCopy>,
    /// Copies and bytes of all gathers and strided copies.
    gathered: Gathered,
    /// The outputs that are written, to be counted after the submission. Consecutive ones of one
    /// counter share a receipt.
    receipts: Vec<Receipt>,
    /// Copies requested since the scope began that have no entry of their own: merged ones, rows of
    /// a gather, strided copies, and copies of no bytes.
    beyond: u64,
    stats: BatchStats,
}

/// What a gather or a strided copy counts as: its runs as copies, and its bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Gathered {
    pub(super) copies: u64,
    pub(super) bytes: u64,
}

impl Gathered {
    fn add(&mut self, more: Gathered) {
        self.copies = self.copies.wrapping_add(more.copies);
        self.bytes = self.bytes.wrapping_add(more.bytes);
    }
}

/// One copy.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) dst: *mut u8,
    pub(super) src: *const u8,
    pub(super) bytes: usize,
}

/// The length of each list of a storage, to roll back to.
#[derive(Clone, Copy)]
pub(super) struct Savepoint {
    used: usize,
    during_call: usize,
    gathers: usize,
    strided: usize,
    gathered: Gathered,
    receipts: usize,
    /// The elements of the last receipt.
    last_receipt: usize,
    beyond: u64,
}

impl Storage {
    /// Removes all copies, and keeps the room.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.beyond = 0;
        self.during_call.clear();
        self.gathers.clear();
        self.strided.clear();
        self.gathered = Gathered::default();
        self.receipts.clear();
    }

    pub(super) fn stats(&self) -> BatchStats {
        self.stats
    }

    /// Counts requested copies that have no entry of their own.
    #[inline]
    pub(super) fn count(&mut self, beyond: u64) {
        self.beyond = self.beyond.wrapping_add(beyond);
    }

    /// Adds a copy that is read in stream order.
    #[inline]
    pub(super) fn push(&mut self, run: Run) -> Result<()> {
        let Run { dst, src, bytes } = run;
        if self.put(run) { Ok(()) } else { self.grow_and_put(dst, src, bytes) }
    }

    /// Takes the parts of a `Run`: for a reference to one, the caller would write it to memory each
    /// time.
    #[cold]
    #[inline(never)]
    fn grow_and_put(&mut self, dst: *mut u8, src: *const u8, bytes: usize) -> Result<()> {
        self.grow(1)?;
        if self.put(Run { dst, src, bytes }) { Ok(()) } else { Err(no_room(1)) }
    }

    /// Makes room for `more` copies that are read during the call.
    pub(super) fn reserve_during_call(&mut self, more: usize) -> Result<()> {
        self.during_call.try_reserve(more).map_err(|_| no_room(more))
    }

    /// Adds a copy that is read during the call.
    pub(super) fn push_during_call(&mut self, run: Run) -> Result<()> {
        self.during_call.try_reserve(1).map_err(|_| no_room(1))?;
        self.during_call.push(run);
        Ok(())
    }

    /// Adds a gather of rows, which counts as `gathered`.
    pub(super) fn push_gather(&mut self, gather: RowGather, gathered: Gathered) -> Result<()> {
        self.gathers.try_reserve(1).map_err(|_| no_room(1))?;
        self.gathers.push(gather);
        self.gathered.add(gathered);
        Ok(())
    }

    /// Adds a strided copy. Each run counts as a copy.
    pub(super) fn push_strided(&mut self, copy: StridedCopy) -> Result<()> {
        self.strided.try_reserve(1).map_err(|_| no_room(1))?;
        self.strided.push(copy);
        let (loops, times) = (&copy.loops, copy.times());
        let (copies, bytes) = (loops.runs().wrapping_mul(times), loops.bytes().wrapping_mul(times));
        self.gathered.add(Gathered { copies: count(copies), bytes: count(bytes) });
        Ok(())
    }

    /// Makes room for a receipt, so that [`push_receipt`](Storage::push_receipt) does not allocate.
    pub(super) fn reserve_receipt(&mut self) -> Result<()> {
        self.receipts.try_reserve(1).map_err(|_| no_room(1))
    }

    /// Adds the receipt for a copy that has been added: `len` elements of an output.
    pub(super) fn push_receipt(&mut self, counter: &Counter, len: usize) {
        let counter = NonNull::from(counter);
        match self.receipts.last_mut() {
            // The parts of a buffer are disjoint, so that the sum is at most its length.
            Some(last) if last.counter == counter => last.len = last.len.wrapping_add(len),
            _ => self.receipts.push(Receipt { counter, len }),
        }
    }

    /// The outputs that the copies write.
    pub(super) fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// The present state, for [`roll_back`](Storage::roll_back).
    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint {
            used: self.used,
            during_call: self.during_call.len(),
            gathers: self.gathers.len(),
            strided: self.strided.len(),
            gathered: self.gathered,
            receipts: self.receipts.len(),
            last_receipt: self.receipts.last().map_or(0, |last| last.len),
            beyond: self.beyond,
        }
    }

    /// Removes everything that was added since `savepoint`.
    pub(super) fn roll_back(&mut self, savepoint: Savepoint) {
        self.used = self.used.min(savepoint.used);
        self.during_call.truncate(savepoint.during_call);
        self.gathers.truncate(savepoint.gathers);
        self.strided.truncate(savepoint.strided);
        self.gathered = savepoint.gathered;
        self.receipts.truncate(savepoint.receipts);
        if let Some(last) = self.receipts.last_mut() {
            last.len = savepoint.last_receipt;
        }
        self.beyond = savepoint.beyond;
    }

    /// All copies as the driver takes them, those that are read during the call last; and the
    /// gathers and the strided copies.
    pub(super) fn copies(&mut self) -> Result<(CopyBatch<'_>, &[RowGather], &[StridedCopy])> {
        let during_call = self.used;
        let room = self.len.len().saturating_sub(self.used);
        if room < self.during_call.len() {
            self.grow(self.during_call.len())?;
        }
        // Taken out for the loop, and put back to keep its room.
        let mut last = mem::take(&mut self.during_call);
        for run in last.drain(..) {
            self.put(run);
        }
        self.during_call = last;
        let used = self.used;
        match (self.dst.get(..used), self.src.get(..used), self.len.get(..used)) {
            (Some(dst), Some(src), Some(len)) => {
                Ok((CopyBatch::new(dst, src, len, during_call), &self.gathers, &self.strided))
            }
            _ => Err(no_room(used)),
        }
    }

    /// Updates the counters after a scope that succeeded. It counts as a submission if there was
    /// anything to copy. Call [`copies`](Storage::copies) first, which appends the copies that are
    /// read during the call.
    pub(super) fn submitted(&mut self) {
        let used = count(self.used);
        self.stats.asked = self.stats.asked.wrapping_add(used).wrapping_add(self.beyond);
        if self.used == 0 && self.gathers.is_empty() && self.strided.is_empty() {
            return;
        }
        let bytes = self.len.iter().take(self.used).fold(0, |sum: u64, &len| {
            // A length is at most `isize::MAX`, which fits.
            sum.wrapping_add(count(len))
        });
        self.stats.bytes = self.stats.bytes.wrapping_add(bytes).wrapping_add(self.gathered.bytes);
        self.stats.submitted = self.stats.submitted.wrapping_add(used).wrapping_add(self.gathered.copies);
        self.stats.submissions = self.stats.submissions.wrapping_add(1);
    }

    /// Adds a copy if there is room.
    #[inline]
    fn put(&mut self, run: Run) -> bool {
        let at = self.used;
        match (self.dst.get_mut(at), self.src.get_mut(at), self.len.get_mut(at)) {
            (Some(dst), Some(src), Some(len)) => {
                (*dst, *src, *len) = (run.dst, run.src, run.bytes);
                self.used = at.wrapping_add(1);
                true
            }
            _ => false,
        }
    }

    /// Makes room for `more` copies, and doubles it.
    fn grow(&mut self, more: usize) -> Result<()> {
        let room = self.used.saturating_add(more).saturating_mul(2).max(64);
        let dst = grown(&self.dst, room, core::ptr::null_mut())?;
        let src = grown(&self.src, room, core::ptr::null())?;
        let len = grown(&self.len, room, 0)?;
        (self.dst, self.src, self.len) = (dst, src, len);
        Ok(())
    }
}

/// A copy of `old` with `room` elements, of which the new ones are `fill`.
fn grown<T: Copy>(old: &[T], room: usize, fill: T) -> Result<Box<[T]>> {
    let mut new = Vec::new();
    new.try_reserve_exact(room).map_err(|_| no_room(room))?;
    new.extend_from_slice(old);
    new.resize(room, fill);
    Ok(new.into_boxed_slice())
}

/// Converts a count for the counters.
pub(super) fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn no_room(copies: usize) -> Error {
    Error::OutOfMemory { location: "host", bytes: copies.saturating_mul(size_of::<Run>()), shortage: None }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("used", &self.used).field("stats", &self.stats).finish_non_exhaustive()
    }
}
