//! Where addresses lie, and the arithmetic of descriptions.

#![forbid(unsafe_code)]

/// Where addresses lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The base that distances count from: not above the lowest address.
    pub(super) min: usize,
    /// All distances from `min` are multiples of `1 << shift`.
    pub(super) shift: u32,
    /// The largest distance in these units, or more.
    pub(super) units: usize,
}

impl Extent {
    /// The extent of `addresses`; `None` if there are none. The largest distance is exact only if
    /// it may be more than `most` units.
    pub(super) fn of(addresses: impl Iterator<Item = usize> + Clone, most: usize) -> Option<Extent> {
        let first = addresses.clone().next()?;
        let bits = addresses.clone().fold(0, |bits, address| bits | (address ^ first));
        Extent::of_bits(addresses, bits, most)
    }

    /// The same, given the `bits` in which any of them differs from the first.
    pub(super) fn of_bits(
        mut addresses: impl Iterator<Item = usize> + Clone,
        bits: usize,
        most: usize,
    ) -> Option<Extent> {
        let first = addresses.next()?;
        if bits == 0 {
            return Some(Extent { min: first, shift: 0, units: 0 });
        }
        let shift = bits.trailing_zeros();
        // Most of the time the bits that differ are enough: everything lies in one aligned block.
        let inside = usize::MAX.checked_shr(bits.leading_zeros()).unwrap_or(0);
        let unit = 1_usize << shift;
        if inside >> shift <= most {
            return Some(Extent { min: first & !(inside & !unit.wrapping_sub(1)), shift, units: inside >> shift });
        }
        let (min, max) = addresses.fold((first, first), |(min, max), address| (min.min(address), max.max(address)));
        Some(Extent { min, shift, units: max.wrapping_sub(min) >> shift })
    }

    /// The extent of `count` addresses from `first` on, each `pitch` bytes behind the one before.
    pub(super) fn of_rows(first: usize, pitch: usize, count: usize) -> Extent {
        let apart = count > 1 && pitch != 0;
        Extent { min: first, shift: if apart { pitch.trailing_zeros() } else { 0 }, units: usize::from(apart) }
    }

    /// All addresses are multiples of two to the power of this.
    pub(super) fn alignment(&self) -> u32 {
        let zeros = self.min.trailing_zeros();
        if self.units == 0 { zeros } else { zeros.min(self.shift) }
    }
}

/// What a thread copies at once of `copies` copies of `bytes` bytes each, whose addresses and
/// lengths are multiples of two to the power of `alignment`: words of 4 bytes or single bytes, if
/// they have few bytes together, and 0 for groups of 16.
pub(super) fn unit(alignment: u32, bytes: usize, copies: usize) -> u32 {
    let unit = match alignment {
        4.. => return 0,
        2..4 => 4,
        _ => 1,
    };
    let is_one = wide(bytes) <= u64::from(unit);
    // Neighbouring units are one access over PCIe, where an unaligned group is one access for each
    // byte.
    let few = bytes <= LONGEST_IN_UNITS && bytes.saturating_mul(copies) <= MOST_IN_UNITS;
    if is_one || few { unit } else { 0 }
}

/// The longest copy, and the most bytes of a segment, that are copied by words or bytes.
const LONGEST_IN_UNITS: usize = 128;
const MOST_IN_UNITS: usize = 64 << 10;

/// The aligned groups of 16 bytes that `bytes` bytes touch at most, beginning at a multiple of two
/// to the power of `alignment`.
pub(super) fn groups(alignment: u32, bytes: usize) -> u64 {
    let misaligned = match alignment {
        4.. => 0,
        zeros => 16_u64.wrapping_sub(1 << zeros),
    };
    wide(bytes).wrapping_add(misaligned).div_ceil(16)
}

/// The factor and the shift that divide a number below 2^31 by `by`: multiply, then shift right by
/// 31 and by the shift.
///
/// With `2^(l-1) < by <= 2^l` the factor is `2^(31+l) / by + 1`, which is at most 2^32 - 1 as `by >
/// 2^(l-1)`, and too large by at most `by` parts of 2^(31+l): less than one in a product with a
/// number below 2^31.
pub(super) fn division(by: u32) -> (u32, u32) {
    let shift = if by <= 1 { 0 } else { 32_u32.wrapping_sub(by.wrapping_sub(1).leading_zeros()) };
    let magic = (1_u64 << 31_u32.wrapping_add(shift)).checked_div(u64::from(by)).unwrap_or(0).wrapping_add(1);
    (low(magic), shift)
}

pub(super) fn halves(words: &mut [u32], address: usize) {
    if let [low_half, high_half] = words {
        *low_half = low(wide(address));
        *high_half = low(wide(address) >> 32);
    }
}

/// The low 32 bits.
#[inline]
pub(super) fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[inline]
pub(super) fn wide(number: usize) -> u64 {
    u64::from_le_bytes(number.to_le_bytes())
}

pub(super) fn narrow(number: usize) -> Option<u32> {
    u32::try_from(number).ok()
}

pub(super) fn narrow64(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}
