//! Rows by pairs of numbers, and rows with a pitch, in random batches and at the edges.

use core::ptr::NonNull;
use std::rc::Rc;

use proptest::prelude::*;

use super::{Batch, DST, PAIRS, ROOM, SRC, check, described, segments};
use crate::device::cuda::copy::remaining::Remaining;

impl Batch {
    /// Rows of `bytes` bytes by pairs, at these distances.
    fn push_scatter(
        &mut self,
        (dst, src): (usize, usize),
        bytes: usize,
        (src_pitch, dst_pitch): (usize, usize),
        bound: u32,
        pairs: &[(u32, u32)],
    ) {
        let numbers: Vec<u32> = pairs.iter().map(|pair| pair.0).collect();
        let targets: Rc<[u32]> = pairs.iter().map(|pair| pair.1).collect();
        self.push_gather(dst, src, 0, bytes, (bound, bound), &numbers);
        let gather = self.gathers.last_mut().unwrap();
        gather.targets = Some(NonNull::from(&*targets));
        (gather.src_pitch, gather.dst_pitch) = (src_pitch, dst_pitch);
        self.numbers.push(targets);
    }
}

/// Pairs whose destinations differ, of rows below `rows`.
fn pairs(count: usize, rows: u32, seed: u32) -> Vec<(u32, u32)> {
    let from = |i: u32| (seed.wrapping_add(i)).wrapping_mul(0x9e37_79b9) % rows;
    (0..count.min(rows as usize) as u32).map(|i| (from(i), rows - 1 - i)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn scatters_and_pitched_gathers_mean_what_the_batch_says(
        parts in prop::collection::vec(
            (any::<bool>(), 1..300_usize, 1..70_usize, 0..5_u32, (0..40_usize, 0..40_usize), any::<u32>()), 1..5
        )
    ) {
        let mut batch = Batch::default();
        let mut to = DST;
        for (is_scatter, count, bytes, align, gaps, seed) in parts {
            let align = 1 << align;
            let pitches = ((bytes + gaps.0).next_multiple_of(align), (bytes + gaps.1).next_multiple_of(align));
            let src = SRC + seed as usize % 4096 * align;
            to = to.next_multiple_of(align);
            let rows = 2 * count as u32;
            if to + rows as usize * pitches.1 > DST + ROOM {
                break;
            }
            let pairs = pairs(count, rows, seed);
            if is_scatter {
                batch.push_scatter((to, src), bytes, pitches, rows, &pairs);
            } else {
                let numbers: Vec<u32> = pairs.iter().map(|pair| pair.0).collect();
                batch.push_gather(to, src, 0, bytes, (rows, rows), &numbers);
                let gather = batch.gathers.last_mut().unwrap();
                (gather.src_pitch, gather.dst_pitch) = pitches;
            }
            to += rows as usize * pitches.1;
            // A copy between them.
            batch.push(to, SRC + 77, 19);
            to += 19;
        }
        check(&batch);
    }
}

#[test]
fn layers_share_the_words_of_their_pairs() {
    let mut batch = Batch::default();
    let pairs = pairs(100, 200, 7);
    for layer in 0..4 {
        batch.push_scatter((DST + layer * 8192, SRC + layer * 8192), 32, (32, 32), 200, &pairs);
        let first = (batch.gathers[0].numbers, batch.gathers[0].targets);
        let gather = batch.gathers.last_mut().unwrap();
        (gather.numbers, gather.targets) = first;
    }
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.gathers, launch.words, launch.plain), (4, 200, true));
    assert!(segments(&parameters).iter().all(|segment| segment.form == PAIRS && segment.src_pitch == 32));
    check(&batch);
    // Equal sources alone are not equal pairs.
    let targets: Rc<[u32]> = pairs.iter().rev().map(|pair| pair.1).collect();
    batch.gathers[2].targets = Some(NonNull::from(&*targets));
    let (launch, _) = described(&Remaining::new(batch.copies()), None);
    assert_eq!((launch.gathers, launch.words), (4, 600));
    check(&batch);
}

#[test]
fn rows_that_are_apart_are_aligned_as_their_pitch_is() {
    // Row by row at multiples of 16, or of 4, or of nothing.
    for (pitch, plain, unit) in [(48, true, 0), (36, false, 4), (33, false, 1)] {
        let mut batch = Batch::default();
        batch.push_scatter((DST, SRC), 32, (pitch, pitch), 40, &pairs(20, 40, 3));
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        assert_eq!((launch.plain, segments(&parameters)[0].unit), (plain, unit), "{pitch}");
        check(&batch);
    }
}
