//! The host's copy of a table, in memory that the stream keeps for the next table.

#![forbid(unsafe_code)]

use core::mem::{offset_of, take};

use tidelock_driver::Slot;

use super::{
    super::words::{Words, reserve},
    DeviceLocation, Entry, words_of,
};
use crate::error::Result;

/// The words of a table of stream `L`.
pub(super) struct HostCopy<L: DeviceLocation> {
    words: Words,
    handle: L::Handle,
}

impl<L: DeviceLocation> HostCopy<L> {
    /// No words, in memory of a table that was dropped, if there was one.
    pub(super) fn new(handle: L::Handle) -> Self {
        let words = handle.words.borrow_mut().pop().unwrap_or_default();
        HostCopy { words, handle }
    }

    /// Writes the words of `entries`, and collects what owns their targets.
    ///
    /// # Errors
    /// If the host has no memory.
    pub(super) fn fill<E: Entry<L>>(
        &mut self,
        entries: impl IntoIterator<Item = E>,
        owners: &mut Vec<E::Owner>,
    ) -> Result<()> {
        for entry in entries {
            // Zeroes, so that padding is initialised.
            let (slot, length) = self.words.add(words_of::<E, L>())?;
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(slot);
            let payload = bytes.get_mut(offset_of!(Slot<E::Payload>, payload)..).unwrap_or_default();
            reserve(owners, 1)?;
            let (ptr, len, owner) = entry.into_parts(payload);
            if let Some(address) = slot.first_mut() {
                // Exposed, because a host function makes a pointer of it again.
                *address = ptr.expose_provenance();
            }
            *length = len;
            owners.push(owner);
        }
        self.words.finish()
    }

    /// All words.
    pub(super) fn words(&self) -> &[usize] {
        self.words.all()
    }

    /// How many entries there are, of `words` words each.
    pub(super) fn entries(&self, words: usize) -> usize {
        // One more for the length. No entry has as many words as the address space.
        self.words.all().len().checked_div(words.wrapping_add(1)).unwrap_or(0)
    }

    /// The slots, and the lengths of the `entries` targets.
    pub(super) fn parts(&self, entries: usize) -> (&[usize], &[usize]) {
        let slots = self.words.all().len().saturating_sub(entries);
        self.words.all().split_at_checked(slots).unwrap_or_default()
    }
}

impl<L: DeviceLocation> Drop for HostCopy<L> {
    #[inline]
    fn drop(&mut self) {
        let mut words = take(&mut self.words);
        let mut unused = self.handle.words.borrow_mut();
        if words.clear() && unused.try_reserve(1).is_ok() {
            unused.push(words);
        }
    }
}
