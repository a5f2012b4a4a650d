//! The words of a table: what is uploaded, and what the host keeps of it.

#![forbid(unsafe_code)]

use crate::{
    error::{Error, Result},
    location::{Host, Location},
};

/// The words of one table, as they lie in device memory: the slots, then the lengths.
#[derive(Debug, Default)]
pub(super) struct Words {
    all: Vec<usize>,
    /// The lengths, until the last slot is there.
    lengths: Vec<usize>,
}

impl Words {
    /// A further slot of `words` zeroes, and the place of its length.
    ///
    /// # Errors
    /// If the host has no memory.
    pub(super) fn add(&mut self, words: usize) -> Result<(&mut [usize], &mut usize)> {
        let start = self.all.len();
        reserve(&mut self.all, words)?;
        reserve(&mut self.lengths, 1)?;
        self.all.resize(start.saturating_add(words), 0);
        let slot = self.all.get_mut(start..).unwrap_or_default();
        Ok((slot, self.lengths.push_mut(0)))
    }

    /// Puts the lengths behind the slots.
    ///
    /// # Errors
    /// If the host has no memory.
    pub(super) fn finish(&mut self) -> Result<()> {
        reserve(&mut self.all, self.lengths.len())?;
        self.all.append(&mut self.lengths);
        Ok(())
    }

    /// All words.
    pub(super) fn all(&self) -> &[usize] {
        &self.all
    }

    /// Forgets the words, and keeps their memory. Returns whether there is some.
    pub(super) fn clear(&mut self) -> bool {
        self.all.clear();
        self.lengths.clear();
        self.all.capacity() != 0
    }
}

/// Makes room for `more` elements in `list`.
///
/// # Errors
/// If the host has no memory.
pub(super) fn reserve<T>(list: &mut Vec<T>, more: usize) -> Result<()> {
    let bytes = list.len().saturating_add(more).saturating_mul(size_of::<T>());
    list.try_reserve(more).map_err(|_| Error::OutOfMemory { location: Host::NAME, bytes, shortage: None })
}
