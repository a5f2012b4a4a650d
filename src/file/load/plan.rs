//! Which bytes of a file are copied together.

#![forbid(unsafe_code)]

use core::{num::NonZero, ops::Range};

/// Where a part begins in a piece is a multiple of this: it is aligned for every element.
const ALIGN: usize = 64;
/// The fewest bytes of a piece, more than those of any element.
pub(super) const LEAST: usize = 256;

/// A part of a tensor: whole elements, in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The number of the piece.
    pub(super) piece: usize,
    /// Where it begins in the piece, in bytes.
    pub(super) at: usize,
    /// Its bytes in the file.
    pub(super) bytes: Range<usize>,
}

/// Parts of tensors, in pieces of one size. A piece has parts of several tensors where they fit.
#[derive(Debug)]
pub(super) struct Plan {
    parts: Vec<Part>,
    /// Bytes of a piece, at least [`LEAST`].
    size: usize,
    /// The piece that is being filled, and its used bytes.
    piece: usize,
    used: usize,
}

impl Plan {
    /// A plan of pieces of `size` bytes, of [`LEAST`] at least.
    pub(super) fn new(size: usize) -> Self {
        Plan { parts: Vec::new(), size: size.max(LEAST), piece: 0, used: 0 }
    }

    /// Adds a tensor with these bytes of the file, of elements of `element` bytes, at most
    /// [`LEAST`].
    pub(super) fn add(&mut self, bytes: Range<usize>, element: NonZero<usize>) {
        let mut from = bytes.start;
        while from < bytes.end {
            let at = self.used.next_multiple_of(ALIGN);
            let room = self.size.saturating_sub(at);
            let whole = room.saturating_sub(room.checked_rem(element.get()).unwrap_or(0));
            let to = from.saturating_add(whole).min(bytes.end);
            if to == from {
                self.piece = self.piece.saturating_add(1);
                self.used = 0;
                continue;
            }
            let len = to.saturating_sub(from);
            self.parts.push(Part { piece: self.piece, at, bytes: from..to });
            self.used = at.saturating_add(len);
            from = to;
        }
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        self.parts.last().map_or(0, |last| last.piece.saturating_add(1))
    }

    /// Bytes of a piece.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// All parts, in the order of the pieces.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The parts of a piece.
    pub(super) fn parts_of(&self, piece: usize) -> &[Part] {
        let from = self.parts.partition_point(|part| part.piece < piece);
        let to = self.parts.partition_point(|part| part.piece <= piece);
        self.parts.get(from..to).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte is in one part, in order, and no two parts of a piece overlap.
    #[test]
    fn every_byte_lies_in_one_part() {
        for (size, element) in [(0, 1), (256, 8), (300, 3), (1 << 12, 3), (257, 8), (1 << 20, 1)] {
            let mut plan = Plan::new(size);
            let (element, mut from) = (NonZero::new(element).unwrap(), 13);
            let mut expected = Vec::new();
            for count in [0, 1, 7, 100, 0, 333, 1, 1, 5000] {
                let bytes = from..from + count * element.get();
                plan.add(bytes.clone(), element);
                expected.extend(bytes.clone());
                from = bytes.end + 5;
            }
            let found: Vec<usize> = plan.parts().iter().flat_map(|part| part.bytes.clone()).collect();
            assert_eq!(found, expected);
            let mut parts = 0;
            for piece in 0..plan.pieces() {
                let mut end = 0;
                assert!(!plan.parts_of(piece).is_empty());
                for part in plan.parts_of(piece) {
                    assert!(part.at >= end && part.at % ALIGN == 0 && part.bytes.len() % element.get() == 0);
                    end = part.at + part.bytes.len();
                    parts += 1;
                }
                assert!(end <= plan.size());
            }
            assert_eq!(parts, plan.parts().len());
        }
    }
}
