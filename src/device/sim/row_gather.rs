//! Row gathers whose numbers lie in device memory, carried out as a kernel would.

use core::ptr;

use tidelock_driver::{Code, DriverError, RowGather, widen};

use tidelock_simulator::{Memory, Task, Use};

use super::stream::SimStream;

impl SimStream {
    /// Enqueues `m`, whose numbers are read from device memory in stream order. A number that is
    /// not below the bound breaks the device, as a kernel that reads outside of its memory does.
    ///
    /// # Safety
    /// - As for `RawStream::batch`, for `m`.
    pub(super) unsafe fn gather_rows(&self, m: &RowGather) -> Result<(), DriverError> {
        let (src, dst) = (Pitched::new(m.bytes, m.src_pitch), Pitched::new(m.bytes, m.dst_pitch));
        let (old, joins) = (widen(m.old), widen(m.bound.saturating_sub(m.old)));
        let joins = if m.joining.is_null() { 0 } else { joins };
        let numbers = m.rows.saturating_mul(size_of::<u32>());
        let mut uses = vec![Use::read(m.device.cast(), numbers)];
        src.each(old, |at, bytes| uses.push(Use::read(m.src.wrapping_add(at), bytes)));
        src.each(joins, |at, bytes| uses.push(Use::read(m.joining.wrapping_add(at), bytes)));
        dst.each(m.rows, |at, bytes| uses.push(Use::write(m.dst.wrapping_add(at), bytes)));
        let (old, joining, all) = (src.span(old), src.span(joins), dst.span(m.rows));
        let m = m.clone();
        let run = move |memory: &Memory| {
            let at: *mut u32 = Memory::resolve(memory, m.device.cast_mut().cast(), numbers)?.cast();
            let dst = Memory::resolve(memory, m.dst, all)?;
            let src = Memory::resolve(memory, m.src.cast_mut(), old)?;
            let more =
                if m.joining.is_null() { None } else { Some(Memory::resolve(memory, m.joining.cast_mut(), joining)?) };
            for i in 0..m.rows {
                // SAFETY:
                // - `resolve` found so many aligned numbers in one allocation.
                let place = unsafe { at.add(i) };
                // SAFETY:
                // - The number is initialised in stream order.
                let number = unsafe { place.read() };
                let (base, row) = match (number.checked_sub(m.old), more) {
                    _ if number >= m.bound => return Err(Code::ILLEGAL_ADDRESS),
                    (None, _) => (src, number),
                    (Some(_), None) => continue,
                    (Some(number), Some(more)) => (more, number),
                };
                // SAFETY:
                // - `resolve` found all rows of the base in one allocation, of which this is one.
                let from = unsafe { base.add(widen(row).wrapping_mul(m.src_pitch)) };
                // SAFETY:
                // - `i` is below the number of rows that `dst` has room for.
                let to = unsafe { dst.add(i.wrapping_mul(m.dst_pitch)) };
                // SAFETY:
                // - Both are rows of what `resolve` found; the caller promises that they do not
                //   overlap.
                unsafe { ptr::copy_nonoverlapping(from, to, m.bytes) }
            }
            Ok(())
        };
        // SAFETY:
        // - The closure owns what it captures, which are addresses that are only used through
        //   `Memory`.
        let task = unsafe { Task::new_unchecked(run) };
        self.launch_using(task, &uses)
    }
}

/// Rows of one size, at one distance, in bytes.
#[derive(Clone, Copy)]
struct Pitched {
    bytes: usize,
    pitch: usize,
}

impl Pitched {
    fn new(bytes: usize, pitch: usize) -> Self {
        Pitched { bytes, pitch }
    }

    /// The bytes from the first of `rows` rows to the end of the last one.
    fn span(self, rows: usize) -> usize {
        rows.checked_sub(1).map_or(0, |before| before.saturating_mul(self.pitch).saturating_add(self.bytes))
    }

    /// Calls `f` with the offset and the size of each range of `rows` rows: one if they are
    /// adjacent, else one for each row, as what lies between belongs to others.
    fn each(self, rows: usize, mut f: impl FnMut(usize, usize)) {
        if self.pitch == self.bytes {
            f(0, self.span(rows));
            return;
        }
        for row in 0..rows {
            f(row.wrapping_mul(self.pitch), self.bytes);
        }
    }
}
