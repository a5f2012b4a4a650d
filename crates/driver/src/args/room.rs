//! Memory for what a host function gets for a table: one slice for each target.

use core::{cell::RefCell, mem::MaybeUninit};

use crate::code::Code;

/// Memory of the thread that runs a host function. The thread keeps it and uses it again, so that a
/// launch in a steady loop allocates nothing.
#[derive(Debug)]
pub struct Room(Vec<u8>);

thread_local! {
    /// The memory that no host function of this thread uses now. There are at most as many as one
    /// launch has tables.
    static UNUSED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Room {
    /// Memory for `len` values.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if the host has none.
    pub(super) fn array<S>(&mut self, len: usize) -> Result<&mut [MaybeUninit<S>], Code> {
        // One alignment more, for the bytes in front of the first value.
        let bytes = len.checked_mul(size_of::<S>()).and_then(|bytes| bytes.checked_add(align_of::<S>()));
        let bytes = bytes.ok_or(Code::OUT_OF_MEMORY)?;
        self.0.clear();
        self.0.try_reserve(bytes).map_err(|_| Code::OUT_OF_MEMORY)?;
        let free = self.0.spare_capacity_mut();
        let front = free.as_ptr().align_offset(align_of::<S>());
        let place = free.get_mut(front..).map_or(core::ptr::null_mut(), <[_]>::as_mut_ptr);
        if place.is_null() || free.len().saturating_sub(front) < bytes.saturating_sub(align_of::<S>()) {
            return Err(Code::OUT_OF_MEMORY);
        }
        // SAFETY:
        // - `place` is aligned, and so many bytes are free behind it, as was just compared. They
        //   are borrowed from `self`.
        // - A `MaybeUninit` needs no value.
        Ok(unsafe { core::slice::from_raw_parts_mut(place.cast(), len) })
    }
}

impl Default for Room {
    #[inline]
    fn default() -> Self {
        let unused = UNUSED.try_with(|unused| unused.try_borrow_mut().ok().and_then(|mut unused| unused.pop()));
        Room(unused.ok().flatten().unwrap_or_default())
    }
}

impl Drop for Room {
    #[inline]
    fn drop(&mut self) {
        let room = core::mem::take(&mut self.0);
        if room.capacity() == 0 {
            return;
        }
        // A thread that ends keeps none.
        let _ = UNUSED.try_with(|unused| {
            if let Ok(mut unused) = unused.try_borrow_mut()
                && unused.try_reserve(1).is_ok()
            {
                unused.push(room);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_the_rooms_that_it_used_at_once() {
        let kept = std::thread::spawn(|| {
            for _ in 0..3 {
                let mut rooms = [Room::default(), Room::default()];
                for room in &mut rooms {
                    let places = room.array::<u128>(100).unwrap();
                    assert!(places.len() == 100 && places.as_ptr().is_aligned());
                }
                assert_eq!(rooms[0].array::<[u8; 0]>(9).unwrap().len(), 9);
                assert_eq!(rooms[1].array::<u64>(usize::MAX).map(|_| ()), Err(Code::OUT_OF_MEMORY));
            }
            drop(Room::default());
            UNUSED.with_borrow(|unused| unused.iter().map(Vec::capacity).collect::<Vec<_>>())
        });
        let kept = kept.join().unwrap();
        assert!(kept.len() == 2 && kept.iter().all(|bytes| *bytes >= 1600), "{kept:?}");
    }
}
