//! Rows that change places, as the driver seam carries them.

use core::{fmt, ptr::NonNull};

/// Rows of one width that change places: row `i` of `dst` becomes row `n` of `src` for the `i`th
/// number `n`, or, from `old` on, row `n - old` of `joining`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RowGather {
    /// Where the rows go, one behind the other.
    pub dst: *mut u8,
    /// Where they come from, `old` of them.
    pub src: *const u8,
    /// Where the others come from; null if they are left as they are.
    pub joining: *const u8,
    /// The bytes of a row, not 0.
    pub bytes: usize,
    /// How many rows `src` has.
    pub old: u32,
    /// What all numbers are below.
    pub bound: u32,
    /// The bits that any number has, or more, if the host knows the numbers.
    pub bits: u32,
    /// How many numbers there are.
    pub rows: usize,
    /// The numbers, if the host knows them.
    pub numbers: Option<NonNull<[u32]>>,
    /// The numbers in device memory, to be read in stream order; null if they are not there.
    pub device: *const u32,
}

impl RowGather {
    /// No rows of `bytes` bytes from `src`, going to `dst`: the caller sets the other fields.
    #[inline]
    #[must_use]
    pub const fn new(dst: *mut u8, src: *const u8, bytes: usize) -> Self {
        let (joining, device) = (core::ptr::null(), core::ptr::null());
        RowGather { dst, src, joining, bytes, old: 0, bound: 0, bits: u32::MAX, rows: 0, numbers: None, device }
    }
}

/// Some row gathers whose numbers the host may read.
#[derive(Clone, Copy, Default)]
pub struct RowGathers<'a> {
    /// Invariant: the numbers of each, if there are any, are as many as its rows and stay as they
    /// are for `'a`.
    all: &'a [RowGather],
}

impl<'a> RowGathers<'a> {
    /// None.
    pub const NONE: RowGathers<'static> = RowGathers { all: &[] };

    /// Those that have no numbers on the host; none if one has.
    pub(crate) fn on_device(all: &'a [RowGather]) -> Self {
        if all.iter().all(|gather| gather.numbers.is_none()) { RowGathers { all } } else { RowGathers::NONE }
    }

    /// # Safety
    /// - The numbers of each, if there are any, are as many as its rows and stay as they are for
    ///   `'a`.
    #[inline]
    #[must_use]
    pub const unsafe fn new(all: &'a [RowGather]) -> Self {
        RowGathers { all }
    }

    /// The moves.
    #[inline]
    #[must_use]
    pub const fn all(self) -> &'a [RowGather] {
        self.all
    }

    /// The moves with their numbers, if the host knows them.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (&'a RowGather, Option<&'a [u32]>)> + Clone {
        self.all.iter().map(|m| {
            // SAFETY:
            // - By the invariant of the type.
            (m, m.numbers.map(|numbers| unsafe { numbers.as_ref() }))
        })
    }

    /// Without the first `n`, if there are so many.
    #[inline]
    #[must_use]
    pub fn behind(self, n: usize) -> Option<RowGathers<'a>> {
        Some(RowGathers { all: self.all.get(n..)? })
    }

    /// Whether there are none.
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
