//! Copies and fills on their way through a stream: resolved at the call, executed later.

use core::{ptr, slice};
use std::sync::Arc;

use super::{
    block::{Hold, Raw},
    failure::Failure,
    report::Traffic,
    rng::Rng,
};

/// How many holds are remembered by the address of their block.
const REMEMBERED: usize = 32;

/// Leaves as many bits of a hash as number the remembered holds.
const HASH_SHIFT: u32 = usize::BITS - REMEMBERED.ilog2();

/// The copies that a small batch has room for.
const SMALL: usize = 8;

/// Copies that run together, in any order. Recycled: after the first uses, none of its vectors
/// grows any more.
///
/// Invariant, promised by the callers of [`push`](Batch::push): both ends of every entry are valid
/// for its bytes while `holds` is kept and until the batch ran or was dropped, and no access
/// conflicts that is not ordered against the stream.
#[derive(Debug, Default)]
pub(super) struct Batch {
    entries: Vec<Entry>,
    holds: Vec<Hold>,
    /// Where in `holds` the block of an address was held last; only a hint.
    remembered: [usize; REMEMBERED],
    /// Bytes that were read during the call. Not touched while an entry points into it.
    staged: Vec<u8>,
    pub(super) traffic: Traffic,
    pub(super) is_large: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    dst: Raw,
    src: Raw,
    bytes: usize,
}

impl Batch {
    /// A batch that has room for a few copies.
    pub(super) fn small() -> Self {
        Batch {
            entries: Vec::with_capacity(SMALL),
            holds: Vec::with_capacity(SMALL.saturating_mul(2)),
            ..Batch::default()
        }
    }

    /// A batch that may grow to any size.
    pub(super) fn large() -> Self {
        Batch { is_large: true, ..Batch::default() }
    }

    /// Whether a small batch will do.
    pub(super) const fn is_small(count: usize, stages: bool) -> bool {
        count <= SMALL && !stages
    }

    /// Keeps the memory of an allocation until the batch ran, and makes the batch fail if it is not
    /// live then.
    pub(super) fn hold(&mut self, hold: &Hold) {
        let is_held = |held: &Hold| held.generation == hold.generation && Arc::ptr_eq(&held.block, &hold.block);
        // Fibonacci hashing: the top bits of the product depend on all bits of the address.
        let hash = hold.block.start().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> HASH_SHIFT;
        let hint = self.remembered.get_mut(hash);
        if !hint.as_ref().and_then(|hint| self.holds.get(**hint)).is_some_and(is_held) {
            hint.into_iter().for_each(|hint| *hint = self.holds.len());
            self.holds.push(hold.clone());
        }
    }

    /// Makes room for `count` entries, and for holds of both their ends: how many there are is a
    /// matter of addresses, on which it must not depend whether a call allocates.
    pub(super) fn reserve(&mut self, count: usize) {
        self.entries.reserve(count);
        self.holds.reserve(count.saturating_mul(2));
    }

    /// Adds a copy of `bytes` bytes.
    ///
    /// # Safety
    /// The invariant of the type holds for the new entry: an end in a block is covered by a hold
    /// and inside the block, every other end is the caller's memory, of which the caller promised
    /// it.
    pub(super) unsafe fn push(&mut self, dst: Raw, src: Raw, bytes: usize) {
        self.entries.push(Entry { dst, src, bytes });
    }

    /// Reads the sources of the entries from `first` on now, so that their memory is free when this
    /// returns.
    pub(super) fn stage(&mut self, first: usize) {
        let Some(entries) = self.entries.get_mut(first..) else { return };
        let total = entries.iter().fold(0_usize, |sum, entry| sum.saturating_add(entry.bytes));
        self.staged.reserve(total);
        for entry in entries.iter() {
            // SAFETY: the source is valid for reads of `bytes` bytes by the invariant of the type,
            // the caller of the device is still in the call, and the source is not written
            // meanwhile.
            let source = unsafe { slice::from_raw_parts(entry.src.0.cast_const(), entry.bytes) };
            self.staged.extend_from_slice(source);
        }
        let mut next = self.staged.as_mut_ptr();
        for entry in entries {
            entry.src = Raw(next);
            next = next.wrapping_add(entry.bytes);
        }
    }

    /// Executes the copies, in an order of the generator's choice.
    pub(super) fn run(&mut self, rng: &mut Rng) -> Result<(), Failure> {
        let what = if self.entries.len() == 1 { "a copy" } else { "a batch of copies" };
        self.holds.iter().try_for_each(|hold| hold.check(what))?;
        rng.shuffle(&mut self.entries);
        for Entry { dst, src, bytes } in self.entries.drain(..) {
            // SAFETY: by the invariant of the type; `copy` allows the ends to overlap.
            unsafe { ptr::copy(src.0.cast_const(), dst.0, bytes) }
        }
        Ok(())
    }

    /// Empties the batch for its next use.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.holds.clear();
        self.staged.clear();
        self.traffic = Traffic::default();
    }
}

/// A fill that runs later.
///
/// Invariant: `dst` is valid for writes of `bytes` bytes while `hold` is kept, and no access
/// conflicts with the fill that is not ordered against the stream.
#[derive(Debug)]
pub(super) struct Fill {
    dst: Raw,
    value: u8,
    bytes: usize,
    hold: Hold,
}

impl Fill {
    /// # Safety
    /// The invariant of the type.
    pub(super) unsafe fn new(dst: Raw, value: u8, bytes: usize, hold: Hold) -> Self {
        Fill { dst, value, bytes, hold }
    }

    pub(super) fn run(&self) -> Result<(), Failure> {
        self.hold.check("a fill")?;
        // SAFETY: by the invariant of the type.
        unsafe { ptr::write_bytes(self.dst.0, self.value, self.bytes) }
        Ok(())
    }
}
