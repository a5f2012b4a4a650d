//! Row gathers, as an operand of a batch.

use core::{fmt, ptr::NonNull};

use crate::stream::Operands;

/// A gather of rows of one width. For the `i`th number `n`, row `i` of `dst`, or row `targets[i]` if
/// there are targets, becomes row `n` of `src` if `n` is below `old`, and row `n - old` of `joining`
/// otherwise (O7, O10, O11).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RowGather {
    /// The destination.
    pub dst: *mut u8,
    /// The source, of `old` rows.
    pub src: *const u8,
    /// The joining rows, `bound - old` of them. If null, their destination rows keep their content.
    pub joining: *const u8,
    /// The size of a row in bytes, not 0.
    pub bytes: usize,
    /// How many bytes a row of `src` or of `joining` begins behind the one before (O11): `bytes` if
    /// its rows are adjacent, never less.
    pub src_pitch: usize,
    /// The same for `dst`.
    pub dst_pitch: usize,
    /// The number of rows of `src`.
    pub old: u32,
    /// All numbers are below this bound.
    pub bound: u32,
    /// If the host has the numbers, a mask of the bits that are set in any of them. It may have
    /// more bits.
    pub bits: u32,
    /// The number of numbers. Without targets, it is the number of rows of `dst`.
    pub rows: usize,
    /// The numbers, if the host has them (O8).
    pub numbers: Option<NonNull<[u32]>>,
    /// The numbers of the destination rows, if these are not `0 .. rows` (O10). The host has the
    /// numbers of the source rows then, and nothing joins.
    pub targets: Option<NonNull<[u32]>>,
    /// The numbers in device memory, which are read in stream order (O9). Null if they are not in
    /// device memory.
    pub device: *const u32,
}

impl RowGather {
    /// A gather of no rows of `bytes` bytes from `src` to `dst`, whose rows are adjacent. The caller
    /// sets the other fields.
    #[inline]
    #[must_use]
    pub const fn new(dst: *mut u8, src: *const u8, bytes: usize) -> Self {
        RowGather {
            dst,
            src,
            joining: core::ptr::null(),
            bytes,
            src_pitch: bytes,
            dst_pitch: bytes,
            old: 0,
            bound: 0,
            bits: u32::MAX,
            rows: 0,
            numbers: None,
            targets: None,
            device: core::ptr::null(),
        }
    }

    /// What a stream takes that takes the gather (V2).
    #[inline]
    #[must_use]
    pub const fn operands(&self) -> Operands {
        let by = if self.numbers.is_some() { Operands::ROW_GATHERS } else { Operands::DEVICE_ROW_GATHERS };
        let to = if self.targets.is_some() { Operands::ROW_SCATTERS } else { Operands::NONE };
        let is_adjacent = self.src_pitch == self.bytes && self.dst_pitch == self.bytes;
        let pitch = if is_adjacent { Operands::NONE } else { Operands::PITCHED_ROWS };
        by.and(to).and(pitch)
    }
}

/// The row gathers of a batch. The host may read their numbers.
#[derive(Clone, Copy, Default)]
pub struct RowGathers<'a> {
    /// Invariant: the numbers and the targets of each gather, if the host has them, are as many as
    /// its rows, and are initialised and unchanged during `'a`.
    all: &'a [RowGather],
}

impl<'a> RowGathers<'a> {
    /// No gathers.
    pub const NONE: RowGathers<'static> = RowGathers { all: &[] };

    /// `all`, if none of them has numbers on the host, and no gathers otherwise.
    pub(crate) fn on_device(all: &'a [RowGather]) -> Self {
        if all.iter().all(|gather| gather.numbers.is_none() && gather.targets.is_none()) {
            RowGathers { all }
        } else {
            RowGathers::NONE
        }
    }

    /// # Safety
    /// - The numbers and the targets of each gather, if the host has them, are as many as its rows,
    ///   and are initialised and unchanged during `'a` (O8).
    #[inline]
    #[must_use]
    pub const unsafe fn new(all: &'a [RowGather]) -> Self {
        RowGathers { all }
    }

    /// The gathers.
    #[inline]
    #[must_use]
    pub const fn all(self) -> &'a [RowGather] {
        self.all
    }

    /// The gathers, each with its numbers if the host has them.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (&'a RowGather, Option<&'a [u32]>)> + Clone {
        self.all.iter().map(|gather| {
            // SAFETY:
            // - The invariant of the type.
            (gather, gather.numbers.map(|numbers| unsafe { numbers.as_ref() }))
        })
    }

    /// The gathers, each with its numbers and its targets if the host has them.
    #[inline]
    pub fn with_targets(self) -> impl Iterator<Item = (&'a RowGather, Option<&'a [u32]>, Option<&'a [u32]>)> + Clone {
        self.iter().map(|(gather, numbers)| {
            // SAFETY:
            // - The invariant of the type.
            (gather, numbers, gather.targets.map(|targets| unsafe { targets.as_ref() }))
        })
    }

    /// The gathers behind the first `n`. `None` if there are fewer.
    #[inline]
    #[must_use]
    pub fn behind(self, n: usize) -> Option<RowGathers<'a>> {
        Some(RowGathers { all: self.all.get(n..)? })
    }

    /// Whether there are no gathers.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.all.is_empty()
    }
}

impl fmt::Debug for RowGathers<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all).finish()
    }
}
