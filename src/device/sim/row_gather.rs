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
        let bytes = m.bytes;
        let rows = move |n: u32| widen(n).saturating_mul(bytes);
        let (old, joining) = (rows(m.old), rows(m.bound.saturating_sub(m.old)));
        let (numbers, all) = (m.rows.saturating_mul(size_of::<u32>()), m.rows.saturating_mul(m.bytes));
        let uses = [
            Use::read(m.device.cast(), numbers),
            Use::read(m.src, old),
            Use::read(m.joining, if m.joining.is_null() { 0 } else { joining }),
            Use::write(m.dst, all),
        ];
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
                let from = unsafe { base.add(rows(row)) };
                // SAFETY:
                // - `i` is below the number of rows that `dst` has room for.
                let to = unsafe { dst.add(i.wrapping_mul(m.bytes)) };
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
