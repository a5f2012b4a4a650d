//! Row gathers and strided copies as plain copies, for streams that do not take them (V2).

use core::{cell::Cell, fmt, ptr};

use crate::{
    batch::CopyBatch,
    code::{Code, DriverError},
    row_gather::{RowGather, RowGathers},
    widen,
};

/// The reused lists of one stream for batches whose row gathers or strided copies become copies.
/// They grow to the largest batch and are not shrunk.
#[derive(Default)]
pub struct GatherScratch {
    copies: Cell<Expanded>,
    runs: Cell<Expanded>,
    on_device: Cell<Vec<RowGather>>,
}

// SAFETY:
// - Addresses in the lists are used during the call that wrote them only. After it the lists are
//   room, which belongs to no thread.
unsafe impl Send for GatherScratch {}

/// The copies of one batch.
#[derive(Debug, Default)]
struct Expanded {
    dst: Vec<*mut u8>,
    src: Vec<*const u8>,
    len: Vec<usize>,
}

impl GatherScratch {
    /// Calls `f` with `batch` after turning the rows of its gathers and the runs of its strided
    /// copies into copies. Rows that are adjacent in both source and destination become one copy.
    /// Gathers whose numbers the host does not have are left out.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if the host has no memory for the copies, or the error of `f`.
    #[inline]
    pub fn expanded<T, E: From<DriverError>>(
        &self,
        batch: &CopyBatch<'_>,
        f: impl FnOnce(&CopyBatch<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if batch.gathers.is_empty() && batch.strided.is_empty() {
            return f(batch);
        }
        let mut room = self.copies.take();
        let answer = room.fill(batch, batch.gathers).map_err(E::from).and_then(|batch| f(&batch));
        self.copies.set(room);
        answer
    }

    /// Calls `f` with `batch` after turning the runs of its strided copies into copies. The gathers
    /// stay.
    ///
    /// # Errors
    /// As for [`expanded`](GatherScratch::expanded).
    #[inline]
    pub fn with_runs<T, E: From<DriverError>>(
        &self,
        batch: &CopyBatch<'_>,
        f: impl FnOnce(&CopyBatch<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if batch.strided.is_empty() {
            return f(batch);
        }
        let mut room = self.runs.take();
        let filled = room.fill(batch, RowGathers::NONE).map_err(E::from);
        let answer = filled.and_then(|copies| f(&copies.with_gathers(batch.gathers)));
        self.runs.set(room);
        answer
    }

    /// Calls `f` with those of `gathers` whose numbers are in device memory only.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if the host has no memory for the list, or the error of `f`.
    #[inline]
    pub fn on_device<T, E: From<DriverError>>(
        &self,
        gathers: RowGathers<'_>,
        f: impl FnOnce(RowGathers<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut room = self.on_device.take();
        room.clear();
        let answer = match room.try_reserve(gathers.all().len()) {
            Err(_) => Err(DriverError::new("the row gathers of a batch", Code::OUT_OF_MEMORY).into()),
            Ok(()) => {
                room.extend(gathers.all().iter().filter(|gather| gather.numbers.is_none()).cloned());
                f(RowGathers::on_device(&room))
            }
        };
        self.on_device.set(room);
        answer
    }
}

impl Expanded {
    fn fill(&mut self, batch: &CopyBatch<'_>, gathers: RowGathers<'_>) -> Result<CopyBatch<'_>, DriverError> {
        let rows = gathers.all().iter().fold(batch.len.len(), |sum, gather| sum.saturating_add(gather.rows));
        let rows = rows.saturating_add(batch.strided.run_count());
        let no_room = |_| DriverError::new("writing out the rows of a batch", Code::OUT_OF_MEMORY);
        self.dst.clear();
        self.src.clear();
        self.len.clear();
        self.dst.try_reserve(rows).map_err(no_room)?;
        self.src.try_reserve(rows).map_err(no_room)?;
        self.len.try_reserve(rows).map_err(no_room)?;
        let split = batch.host_from.min(batch.len.len());
        self.append(batch, 0, split);
        for (gather, numbers, targets) in gathers.with_targets() {
            self.append_rows(gather, numbers.unwrap_or_default(), targets);
        }
        for (dst, src, len) in batch.strided.runs() {
            self.dst.push(dst);
            self.src.push(src);
            self.len.push(len);
        }
        let host_from = self.len.len();
        self.append(batch, split, batch.len.len());
        Ok(CopyBatch::new(&self.dst, &self.src, &self.len, host_from))
    }

    /// Appends the copies `from..to` of `batch`.
    fn append(&mut self, batch: &CopyBatch<'_>, from: usize, to: usize) {
        self.dst.extend_from_slice(batch.dst.get(from..to).unwrap_or_default());
        self.src.extend_from_slice(batch.src.get(from..to).unwrap_or_default());
        self.len.extend_from_slice(batch.len.get(from..to).unwrap_or_default());
    }

    /// Appends the rows of `gather`, as one copy for each run of adjacent rows.
    fn append_rows(&mut self, gather: &RowGather, numbers: &[u32], targets: Option<&[u32]>) {
        let mut run = Run::NONE;
        let mut targets = targets.map(|targets| targets.iter());
        let mut next = gather.dst;
        for &number in numbers {
            let dst = match &mut targets {
                None => next,
                Some(targets) => {
                    let Some(&target) = targets.next() else { return };
                    gather.dst.wrapping_add(widen(target).wrapping_mul(gather.dst_pitch))
                }
            };
            let (base, row, joins) = match number.checked_sub(gather.old) {
                None => (gather.src, number, false),
                Some(row) => (gather.joining, row, true),
            };
            // Without joining rows, the destination rows for them keep their content (O7).
            if !base.is_null() {
                let src = base.wrapping_add(widen(row).wrapping_mul(gather.src_pitch));
                match self.len.last_mut() {
                    Some(len) if run.is_continued_by(dst, src, joins) => *len = len.wrapping_add(gather.bytes),
                    _ => {
                        self.dst.push(dst);
                        self.src.push(src);
                        self.len.push(gather.bytes);
                    }
                }
                run = Run { dst_end: dst.wrapping_add(gather.bytes), src_end: src.wrapping_add(gather.bytes), joins };
            }
            next = next.wrapping_add(gather.dst_pitch);
        }
    }
}

/// The ends of the last copy of a gather, and whether its rows are joining rows.
#[derive(Clone, Copy)]
struct Run {
    dst_end: *mut u8,
    src_end: *const u8,
    joins: bool,
}

impl Run {
    /// No copy. No row continues it, because no row is at address 0.
    const NONE: Run = Run { dst_end: ptr::null_mut(), src_end: ptr::null(), joins: false };

    /// Whether a row from `src` to `dst` continues the copy. Rows of different sources are never
    /// one copy.
    fn is_continued_by(&self, dst: *mut u8, src: *const u8, joins: bool) -> bool {
        self.dst_end == dst && self.src_end == src && self.joins == joins
    }
}

impl fmt::Debug for GatherScratch {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatherScratch").finish_non_exhaustive()
    }
}
