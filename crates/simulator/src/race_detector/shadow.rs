//! Who touched which bytes last: the shadow of a memory.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::clock::{Clock, Timeline};

/// One operation of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) timeline: Timeline,
    pub(super) tick: u64,
    pub(super) name: &'static str,
    /// Whether its parts run in no order, so that they may conflict among themselves.
    pub(super) unordered: bool,
}

/// A range of addresses, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// An earlier access that an access conflicts with, unordered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    pub(super) earlier: Operation,
    pub(super) earlier_writes: bool,
    /// The bytes that both touch, or the first of them.
    pub(super) span: Span,
}

/// For each byte, the last write of a stream and the reads since.
///
/// Accesses of the host are not kept: threads order what they do among themselves, in safe Rust at
/// least, so that whoever conflicts with such an access later comes after it, and after all that
/// its thread knew. What is kept of them is just that. Behind an exclusive access of the host
/// nothing earlier matters any more; behind a shared one nothing earlier matters to those who
/// write, while another thread that reads must know of the write itself.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    /// Disjoint segments by their first byte.
    segments: BTreeMap<usize, Segment>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Segment {
    end: usize,
    write: Option<Write>,
    reads: Vec<Operation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Write {
    operation: Operation,
    /// Whether a thread whose clock covered it has read the bytes since: a later writer comes after
    /// that.
    was_read: bool,
}

impl Span {
    /// The `bytes` bytes from `start` on, if there are any.
    pub(super) fn new(start: usize, bytes: usize) -> Option<Span> {
        let end = start.checked_add(bytes)?;
        (start < end).then_some(Span { start, end })
    }
}

impl Shadow {
    pub(super) const fn new() -> Self {
        Shadow { segments: BTreeMap::new() }
    }

    /// Notes an access and answers with an earlier one that it races with, if there is one.
    /// `operation` is `None` for the host; `clock` is that of the accessing stream or thread.
    pub(super) fn access(
        &mut self,
        span: Span,
        operation: Option<Operation>,
        writes: bool,
        clock: &Clock,
    ) -> Option<Conflict> {
        // The common case of an operation on a whole buffer, time and again.
        if let Some(segment) = self.segments.get_mut(&span.start)
            && segment.end == span.end
        {
            let conflict = segment.conflict(span, operation, writes, clock);
            segment.note(operation, writes, clock);
            return conflict;
        }
        self.cut(span.start);
        self.cut(span.end);
        let mut conflict = None;
        for (start, segment) in self.segments.range_mut(span.start..span.end) {
            let part = Span { start: *start, end: segment.end };
            conflict = conflict.or_else(|| segment.conflict(part, operation, writes, clock));
            if !writes {
                segment.note(operation, writes, clock);
            }
        }
        match (operation, writes) {
            (None, false) => {}
            (None, true) => self.forget(span),
            (Some(operation), true) => {
                self.forget(span);
                self.segments.insert(span.start, Segment::written(span.end, operation));
                self.merge(span);
            }
            (Some(operation), false) => {
                self.fill_gaps(span, operation);
                self.merge(span);
            }
        }
        conflict
    }

    /// Notes a write that needs no order: it is the first of its memory.
    pub(super) fn reset(&mut self, span: Span, operation: Option<Operation>) {
        self.forget(span);
        if let Some(operation) = operation {
            self.segments.insert(span.start, Segment::written(span.end, operation));
        }
    }

    /// Forgets all accesses to `span`.
    pub(super) fn forget(&mut self, span: Span) {
        self.cut(span.start);
        self.cut(span.end);
        while let Some(start) = self.segments.range(span.start..span.end).next().map(|(start, _)| *start) {
            self.segments.remove(&start);
        }
    }

    /// Keeps the accesses that `keep` says so of, given whether they write.
    pub(super) fn retain(&mut self, keep: impl Fn(&Operation, bool) -> bool) {
        self.segments.retain(|_, segment| {
            segment.write = segment.write.filter(|write| keep(&write.operation, true));
            segment.reads.retain(|read| keep(read, false));
            segment.write.is_some() || !segment.reads.is_empty()
        });
    }

    /// How many ranges of bytes are kept.
    pub(super) fn len(&self) -> usize {
        self.segments.len()
    }

    /// All accesses, with the bytes and whether they write.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Span, &Operation, bool)> {
        self.segments.iter().flat_map(|(start, segment)| segment.accesses(*start))
    }

    /// All accesses to bytes of `span`, with the bytes and whether they write.
    pub(super) fn within(&self, span: Span) -> impl Iterator<Item = (Span, &Operation, bool)> {
        let before = self.segments.range(..span.start).next_back().filter(|(_, segment)| segment.end > span.start);
        let segments = before.into_iter().chain(self.segments.range(span.start..span.end));
        segments.flat_map(|(start, segment)| segment.accesses(*start))
    }

    /// Splits the segment that `at` lies inside of.
    fn cut(&mut self, at: usize) {
        let Some((_, segment)) = self.segments.range_mut(..at).next_back() else { return };
        if segment.end > at {
            let rest = Segment { end: segment.end, write: segment.write, reads: segment.reads.clone() };
            segment.end = at;
            self.segments.insert(at, rest);
        }
    }

    /// Notes the reads of bytes that no segment covers.
    fn fill_gaps(&mut self, span: Span, operation: Operation) {
        let mut at = span.start;
        while at < span.end {
            let next = self.segments.range(at..span.end).next().map(|(start, segment)| (*start, segment.end));
            let (gap_end, after) = next.unwrap_or((span.end, span.end));
            if at < gap_end {
                self.segments.insert(at, Segment { end: gap_end, write: None, reads: vec![operation] });
            }
            at = after;
        }
    }

    /// Joins segments in and next to `span` that are alike.
    fn merge(&mut self, span: Span) {
        let before = self.segments.range(..span.start).next_back().map(|(start, _)| *start);
        let mut left = before.unwrap_or(span.start);
        while left < span.end {
            let next = self.segments.range(left.saturating_add(1)..=span.end).next();
            let Some((&right, segment)) = next else { break };
            let alike = self
                .segments
                .get(&left)
                .is_some_and(|left| left.end == right && left.write == segment.write && left.reads == segment.reads);
            let end = segment.end;
            if alike {
                self.segments.remove(&right);
                if let Some(left) = self.segments.get_mut(&left) {
                    left.end = end;
                }
            } else {
                left = right;
            }
        }
    }
}

impl Segment {
    const fn written(end: usize, operation: Operation) -> Self {
        Segment { end, write: Some(Write { operation, was_read: false }), reads: Vec::new() }
    }

    fn accesses(&self, start: usize) -> impl Iterator<Item = (Span, &Operation, bool)> {
        let span = Span { start, end: self.end };
        let writes = self.write.iter().map(move |write| (span, &write.operation, true));
        writes.chain(self.reads.iter().map(move |read| (span, read, false)))
    }

    fn conflict(&self, span: Span, operation: Option<Operation>, writes: bool, clock: &Clock) -> Option<Conflict> {
        let races = |earlier: &&Operation| {
            let is_same = |now: Operation| now.timeline == earlier.timeline && now.tick == earlier.tick;
            match operation.filter(|now| is_same(*now)) {
                Some(now) => now.unordered,
                None => !clock.covers(earlier.timeline, earlier.tick),
            }
        };
        let found = |earlier_writes| move |earlier: &Operation| Conflict { earlier: *earlier, earlier_writes, span };
        let reads = if writes { self.reads.as_slice() } else { &[] };
        let write = self.write.as_ref().filter(|write| !(writes && write.was_read)).map(|write| &write.operation);
        write.filter(races).map(found(true)).or_else(|| reads.iter().find(races).map(found(false)))
    }

    fn note(&mut self, operation: Option<Operation>, writes: bool, clock: &Clock) {
        if writes {
            self.write = operation.map(|operation| Write { operation, was_read: false });
            self.reads.clear();
            return;
        }
        // Who comes after this read comes after those that it comes after.
        self.reads.retain(|read| !clock.covers(read.timeline, read.tick));
        match operation {
            Some(operation) => self.reads.push(operation),
            // Either the thread's clock covers the write, or it was just reported.
            None => {
                self.write = self.write.filter(|write| clock.covers(write.operation.timeline, write.operation.tick));
                self.write.iter_mut().for_each(|write| write.was_read = true);
            }
        }
    }
}
