//! Copies of many runs of one length, as loops.

#![forbid(unsafe_code)]

/// One loop around a copy: how often it is made, and how many bytes source and destination advance
/// each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loop {
    /// How often.
    pub times: usize,
    /// The bytes from one source to the next.
    pub src: usize,
    /// The bytes from one destination to the next.
    pub dst: usize,
}

/// A copy of runs of one length in nested loops: what a copy between two tensors of one shape is.
///
/// `Copy`, 26 words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loops {
    /// Bytes of one run. 0 if nothing is copied; there is no loop then.
    run: usize,
    /// Invariant: the last byte of the last run is less than `isize::MAX` bytes behind the first
    /// byte of the first, at source and destination. The number of runs does not overflow.
    loops: [Loop; Loops::MOST],
    /// Invariant: at most [`Loops::MOST`].
    depth: usize,
}

impl Loops {
    /// The most loops.
    pub const MOST: usize = 8;

    /// Nothing to copy.
    pub const NOTHING: Loops = Loops { run: 0, loops: [Loop { times: 0, src: 0, dst: 0 }; Loops::MOST], depth: 0 };

    /// Runs of `run` bytes in `loops`, the outermost first. A loop that is made no time makes all
    /// of it nothing.
    ///
    /// `None` if there are more than [`MOST`](Loops::MOST) loops, or if the sizes overflow.
    #[inline]
    #[must_use]
    pub fn new(run: usize, loops: &[Loop]) -> Option<Loops> {
        let mut all = Loops { run, depth: loops.len(), ..Loops::NOTHING };
        all.loops.get_mut(..loops.len())?.copy_from_slice(loops);
        if run == 0 || loops.iter().any(|one| one.times == 0) {
            return Some(Loops::NOTHING);
        }
        let (mut runs, mut src, mut dst) = (1_usize, run, run);
        for one in loops {
            let again = one.times.checked_sub(1)?;
            runs = runs.checked_mul(one.times)?;
            src = again.checked_mul(one.src)?.checked_add(src)?;
            dst = again.checked_mul(one.dst)?.checked_add(dst)?;
        }
        let fits = isize::try_from(src.max(dst)).is_ok() && runs.checked_mul(run).is_some();
        fits.then_some(all)
    }

    /// Bytes of one run, 0 if nothing is copied.
    #[inline]
    #[must_use]
    pub const fn run(&self) -> usize {
        self.run
    }

    /// The loops around a run, the outermost first.
    #[inline]
    #[must_use]
    pub fn loops(&self) -> &[Loop] {
        self.loops.get(..self.depth).unwrap_or(&[])
    }

    /// How many runs there are.
    #[inline]
    #[must_use]
    pub fn runs(&self) -> usize {
        if self.run == 0 { 0 } else { self.loops().iter().fold(1, |runs, one| runs.wrapping_mul(one.times)) }
    }

    /// How many bytes are copied.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.runs().wrapping_mul(self.run)
    }

    /// The bytes of the source from the first one that is read to the last.
    #[inline]
    #[must_use]
    pub fn src_span(&self) -> usize {
        self.span(|one| one.src)
    }

    /// The bytes of the destination from the first one that is written to the last.
    #[inline]
    #[must_use]
    pub fn dst_span(&self) -> usize {
        self.span(|one| one.dst)
    }

    /// The offset of each run in bytes, at the source and at the destination.
    #[inline]
    #[must_use]
    pub fn iter(&self) -> Runs<'_> {
        Runs { loops: self.loops(), at: [0; Loops::MOST], offsets: (self.run != 0).then_some((0, 0)) }
    }

    fn span(&self, stride: impl Fn(&Loop) -> usize) -> usize {
        self.loops().iter().fold(self.run, |span, one| {
            let again = one.times.saturating_sub(1);
            span.wrapping_add(again.wrapping_mul(stride(one)))
        })
    }
}

impl<'a> IntoIterator for &'a Loops {
    type Item = (usize, usize);
    type IntoIter = Runs<'a>;

    #[inline]
    fn into_iter(self) -> Runs<'a> {
        self.iter()
    }
}

/// The offsets of the runs of [`Loops`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    loops: &'a [Loop],
    /// How often each loop has been made.
    at: [usize; Loops::MOST],
    /// Those of the next run.
    offsets: Option<(usize, usize)>,
}

impl Iterator for Runs<'_> {
    type Item = (usize, usize);

    #[inline]
    fn next(&mut self) -> Option<(usize, usize)> {
        let now = self.offsets?;
        let (mut src, mut dst) = now;
        self.offsets = None;
        for (one, at) in self.loops.iter().zip(&mut self.at).rev() {
            // Offsets of `Loops` do not overflow.
            let next = at.wrapping_add(1);
            if next < one.times {
                *at = next;
                self.offsets = Some((src.wrapping_add(one.src), dst.wrapping_add(one.dst)));
                break;
            }
            src = src.wrapping_sub(at.wrapping_mul(one.src));
            dst = dst.wrapping_sub(at.wrapping_mul(one.dst));
            *at = 0;
        }
        Some(now)
    }
}

const _: () = assert!(size_of::<Loops>() == 26 * size_of::<usize>());

#[cfg(test)]
mod tests {
    use super::*;

    const fn one(times: usize, src: usize, dst: usize) -> Loop {
        Loop { times, src, dst }
    }

    #[test]
    fn runs_come_in_the_order_of_nested_loops() {
        let loops = Loops::new(4, &[one(2, 100, 8), one(3, 10, 20)]).unwrap();
        let by_hand = [(0, 0), (10, 20), (20, 40), (100, 8), (110, 28), (120, 48)];
        assert!(loops.iter().eq(by_hand));
        assert_eq!((loops.runs(), loops.bytes(), loops.src_span(), loops.dst_span()), (6, 24, 124, 52));
        assert!(Loops::new(7, &[]).unwrap().iter().eq([(0, 0)]));
    }

    #[test]
    fn nothing_has_no_runs() {
        for nothing in [Loops::new(0, &[one(2, 1, 1)]), Loops::new(8, &[one(2, 1, 1), one(0, 1, 1)])] {
            let nothing = nothing.unwrap();
            assert_eq!((nothing, nothing.iter().count(), nothing.bytes()), (Loops::NOTHING, 0, 0));
            assert_eq!((nothing.src_span(), nothing.dst_span()), (0, 0));
        }
    }

    #[test]
    fn what_overflows_is_refused() {
        const HALF: usize = 1 << (usize::BITS - 1);
        assert_eq!(Loops::new(1, &[one(1, 0, 0); 9]), None);
        assert_eq!(Loops::new(1, &[one(2, HALF, 0)]), None);
        assert_eq!(Loops::new(1, &[one(2, 0, HALF)]), None);
        assert_eq!(Loops::new(1, &[one(3, HALF, 1)]), None);
        assert_eq!(Loops::new(1, &[one(HALF, 0, 0), one(2, 0, 0)]), None);
        assert_eq!(Loops::new(4, &[one(HALF, 0, 0)]), None);
        assert_eq!(Loops::new(usize::MAX, &[]), None);
        assert!(Loops::new(1, &[one(1, usize::MAX, usize::MAX); 8]).is_some());
    }
}
