//! A launch, when its turn comes.

use core::{
    cell::Cell,
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use tidelock_driver::code::Code;
use tidelock_simulator::Memory;

use super::{
    CALL, Move, Source, address, decode,
    layout::{Head, PIECE_WORDS, Parameters, Variant, size},
    note_overlaps,
};
use crate::{
    driver::note,
    pointer::{is_device, is_pageable, is_registered},
    settings::settings,
};

thread_local! {
    /// Where the launch before has fetched its table to, on the thread of its stream: first byte,
    /// and behind the last.
    static BEFORE: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A launch in the queue.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) parameters: Parameters,
    pub(crate) variant: Variant,
    /// Bytes of shared memory.
    pub(crate) shared: u32,
    /// The words of a table as they were when the launch was enqueued, if it may have read them
    /// then.
    pub(crate) early: Option<Vec<u32>>,
    /// What the words say that were there when the launch was enqueued.
    pub(crate) moves: Option<Vec<Move>>,
}

/// The bytes that a launch fetches a table into: each word with the number of the launch.
pub(crate) fn fetched_bytes(head: &Head) -> usize {
    if head.fetched == 0 { 0 } else { size(head.pieces).saturating_mul(8 * PIECE_WORDS) }
}

/// The words of a table in page-locked memory, for the thread that enqueues; `None` if there is no
/// such memory.
pub(crate) fn host_table(table: usize, words: usize) -> Option<Vec<u32>> {
    let last = table.saturating_add(words.saturating_mul(4)).saturating_sub(1);
    let inside = words > 0 && !is_device(table) && !is_pageable(table) && !is_pageable(last);
    // SAFETY: the words are in page-locked memory, which goes by its own address and is there until
    // the launch has ended, as whoever launches it promises.
    inside.then(|| unsafe { read(ptr::with_exposed_provenance(table), words) })
}

impl Job {
    pub(crate) fn run(mut self, memory: &Memory) -> Result<(), Code> {
        let moves = self.moves.take();
        let (parameters, head) = (&self.parameters, &self.parameters.head);
        if !self.variant.in_table {
            BEFORE.set((0, 0));
            return self.copy(memory, moves, &parameters.words);
        }
        let count = parameters.all_words(self.variant);
        let place = locate(memory, address(head.table), count.saturating_mul(4))?.cast_const().cast::<u32>();
        let table = || {
            // SAFETY: so much memory was found there, and stays until the task returns.
            unsafe { read(place, count) }
        };
        let words = table();
        let is_changed = self.early.as_ref().is_some_and(|early| *early != words);
        if is_changed {
            note(format!("the table at {:#x} was changed before the launch that reads it has begun", head.table));
        }
        let fetched = locate(memory, address(head.fetched), fetched_bytes(head))?.cast::<u64>();
        let tagged = |word: u32| u64::from(word) | u64::from(head.epoch) << 32;
        if head.fetched != 0 {
            self.look_at_place(fetched, count);
            for (index, word) in words.iter().enumerate() {
                // SAFETY: there are so many places, found above, that are the launch's own.
                unsafe { fetched.wrapping_add(index).write_volatile(tagged(*word)) };
            }
        }
        self.copy(memory, moves.filter(|_| !is_changed), &words)?;
        if table() != words {
            note(format!("the table at {:#x} was changed before the launch that reads it has ended", head.table));
        }
        // SAFETY: as above.
        let kept =
            |(index, word): (usize, &u32)| unsafe { fetched.wrapping_add(index).read_volatile() } == tagged(*word);
        if head.fetched != 0 && !words.iter().enumerate().all(kept) {
            note(format!("what was fetched to {:#x} was changed before the launch has ended", head.fetched));
        }
        Ok(())
    }

    /// Checks that the place that the table is fetched into differs from an older one, and is not in
    /// use.
    fn look_at_place(&self, fetched: *mut u64, words: usize) {
        let head = &self.parameters.head;
        let start = address(head.fetched);
        let end = start.saturating_add(fetched_bytes(head));
        let (before, before_end) = BEFORE.replace((start, end));
        if start < before_end && before < end {
            note(format!("a table is fetched to {start:#x}, where the launch before may still read its own"));
        }
        // SAFETY: there are so many places.
        let number = |index: usize| unsafe { fetched.wrapping_add(index).read_volatile() } >> 32;
        if (0..words).any(|index| number(index) == u64::from(head.epoch)) {
            let epoch = head.epoch;
            note(format!("a table is fetched to {start:#x} with the number {epoch}, which older words there have too"));
        }
    }

    /// Makes `moves`, or the copies that the words say, in no order that anybody could rely on.
    fn copy(&self, memory: &Memory, moves: Option<Vec<Move>>, words: &[u32]) -> Result<(), Code> {
        let moves = moves.map_or_else(|| decode::copies(&self.parameters, self.variant, self.shared, words), Ok);
        let moves = moves.map_err(|complaint| {
            note(format!("{CALL} found what it cannot do: {complaint}"));
            Code::LAUNCH_FAILED
        })?;
        if self.variant.in_table && self.early.is_none() {
            note_overlaps(&moves);
        }
        copy_each(memory, moves)
    }
}

/// Makes `moves`, in no order that anybody could rely on.
pub(super) fn copy_each(memory: &Memory, mut moves: Vec<Move>) -> Result<(), Code> {
    scramble(&mut moves);
    for Move { src, dst, bytes } in moves {
        let bytes = address(bytes);
        let from = match &src {
            Source::Memory(src) => locate(memory, address(*src), bytes)?.cast_const(),
            Source::Own(own) => own.as_ptr(),
        };
        let to = locate(memory, address(dst), bytes)?;
        // SAFETY: both ranges were found in memory that is there until the task returns, or are
        // the move's own bytes, as many as it has; of accesses that conflict the one who
        // launched promises that there are none.
        unsafe { ptr::copy(from, to, bytes) };
    }
    Ok(())
}

/// Where memory really is.
fn locate(memory: &Memory, address: usize, bytes: usize) -> Result<*mut u8, Code> {
    let pointer = ptr::with_exposed_provenance_mut(address);
    if bytes == 0 || is_registered(address, bytes) { Ok(pointer) } else { memory.resolve(pointer, bytes) }
}

/// # Safety
/// - There are `count` words at `from`. They may be written meanwhile: this function looks for that.
unsafe fn read(from: *const u32, count: usize) -> Vec<u32> {
    // SAFETY: promised by the caller.
    (0..count).map(|index| unsafe { from.wrapping_add(index).read_volatile() }).collect()
}

/// Another order for each launch.
fn scramble(moves: &mut [Move]) {
    static LAUNCHES: AtomicU64 = AtomicU64::new(0);
    let launch = LAUNCHES.fetch_add(1, Ordering::Relaxed);
    let mut state = settings().seed() ^ launch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for last in (1..moves.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = usize::try_from(state >> 33).unwrap_or(0);
        moves.swap(last, random.checked_rem(last.wrapping_add(1)).unwrap_or(0));
    }
}
