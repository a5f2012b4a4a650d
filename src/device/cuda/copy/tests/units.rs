//! Chunks that are words or bytes: for which copies, and how many there are.

use super::{
    super::{
        encode::{encode, encode_on_device},
        extent::{Extent, unit},
        layout::{CHUNKS, Segment},
        remaining::{Budget, Remaining},
        rows::{self, NumberFormat},
        run::Run,
    },
    Batch, DST, Launch, PAIRS, Parameters, ROWS_16, SRC, check, described, payload, segments,
};

/// For lengths, the unit where everything else is a multiple of 1, 2, 4, 8 and 16, and in how many
/// chunks that is.
const UNITS: [(usize, [u32; 5], [u32; 5]); 11] = [
    (1, [1; 5], [1; 5]),
    (2, [1; 5], [2; 5]),
    (3, [1; 5], [3; 5]),
    (4, [1, 1, 4, 4, 4], [4, 4, 1, 1, 1]),
    (5, [1; 5], [5; 5]),
    (12, [1, 1, 4, 4, 4], [12, 12, 3, 3, 3]),
    (16, [1, 1, 4, 4, 0], [16, 16, 4, 4, 1]),
    (127, [1; 5], [127; 5]),
    (128, [1, 1, 4, 4, 0], [128, 128, 32, 32, 8]),
    // 15, 14, 12 and 8 bytes may lie before such a copy in the first of its groups: 145 bytes are
    // ten of them, 144 are nine.
    (129, [0; 5], [9, 9, 9, 9, 9]),
    (130, [0; 5], [10, 9, 9, 9, 9]),
];

/// This number of copies counts as few, whatever their lengths.
const COUNT: usize = 20;

/// The one segment of a launch, and the launch.
fn only(batch: &Batch) -> (Launch, Segment) {
    let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
    let segments = segments(&parameters);
    assert_eq!(segments.len(), 1);
    (launch, segments[0])
}

/// Copies of `len` bytes, side by side on a grid of `to` or not, from places on a grid of `from`;
/// each grid begins the given number of bytes behind a multiple of 16.
fn copies(rows: bool, count: usize, len: usize, to: (usize, usize), from: (usize, usize)) -> Batch {
    let mut batch = Batch::default();
    for i in 0..count {
        let place = if rows { i } else { 2 * i + i % 2 };
        batch.push(DST + to.0 + place * to.1, SRC + from.0 + i * 7 % count * from.1, len);
    }
    batch
}

#[test]
fn copies_of_one_length_are_units_by_the_least_of_their_alignments() {
    for (len, units, chunks) in UNITS {
        for (log, (unit, chunks)) in units.into_iter().zip(chunks).enumerate() {
            // Where places are no multiples of 32 only because of this, in one of four places.
            let odd = 1 << log;
            let (even, apart) = ((0, 256), 256 + odd);
            for (rows, form) in [(true, ROWS_16), (false, PAIRS)] {
                let batch = |to, from| copies(rows, COUNT, len, to, from);
                let batches = [
                    batch((odd, 256), even),
                    batch((0, apart), even),
                    batch(even, (odd, 256)),
                    batch(even, (0, apart)),
                ];
                for (which, batch) in batches.iter().enumerate() {
                    let (launch, segment) = only(batch);
                    // The destination decides how many groups there are.
                    let chunks = if unit == 0 && which > 1 { chunks.min(9) } else { chunks };
                    assert_eq!((segment.form, segment.unit), (form, unit), "{len} bytes, {odd}, {which}");
                    assert_eq!((segment.row_chunks, segment.chunks), (chunks, chunks * COUNT as u32), "{len}, {odd}");
                    assert_eq!((launch.unit, launch.plain), (unit != 0, len % 16 == 0 && odd == 16), "{len}, {odd}");
                    assert_eq!(launch.blocks, segment.chunks.div_ceil(256));
                }
                check(&batches[log % 4]);
            }
        }
    }
}

#[test]
fn rows_of_moves_are_units_by_the_least_of_their_alignments() {
    let numbers: Vec<u32> = (0..COUNT as u32).map(|i| i * 7 % 30).collect();
    for (len, units, chunks) in UNITS {
        for (log, (unit, chunks)) in units.into_iter().zip(chunks).enumerate() {
            let odd = 1 << log;
            for (which, [dst, src, joining]) in [[odd, 0, 0], [0, odd, 0], [0, 0, odd]].into_iter().enumerate() {
                let mut batch = Batch::default();
                batch.push_gather(DST + dst, SRC + src, SRC + 0x10_0000 + joining, len, (15, 30), &numbers);
                let (launch, segment) = only(&batch);
                assert_eq!((segment.unit, launch.unit), (unit, unit != 0), "{len} bytes, {odd}, {which}");
                let chunks = if unit == 0 && which > 0 { chunks.min(9) } else { chunks };
                assert_eq!((segment.row_chunks, segment.chunks), (chunks, chunks * COUNT as u32), "{len}, {odd}");
                assert_eq!(launch.plain, len % 16 == 0 && odd == 16);
                if which == log % 3 {
                    check(&batch);
                }
            }
        }
    }
    // Rows that do not join have no base.
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, 0, 48, (15, 30), &numbers);
    assert_eq!((only(&batch).1.unit, only(&batch).0.plain), (0, true));
}

#[test]
fn units_are_for_few_bytes_or_for_copies_of_one() {
    // The length, the grid, the most copies of at most 64 KiB in total, and the unit.
    for (len, grid, most, bytes) in
        [(128, 1, 512, 1), (128, 4, 512, 4), (2, 2, 32_768, 1), (3, 1, 21_845, 1), (4, 2, 16_384, 1), (12, 4, 5461, 4)]
    {
        let alignment = usize::trailing_zeros(grid | len);
        assert_eq!(unit(alignment, len, most), bytes, "{len}");
        assert_eq!(unit(alignment, len, most + 1), 0, "{len}");
        assert_eq!(unit(alignment, len, usize::MAX), 0, "{len}");
    }
    // Copies of one unit each, however many.
    assert_eq!([unit(0, 1, 65_537), unit(2, 4, 16_385), unit(0, 1, usize::MAX), unit(3, 4, usize::MAX)], [1, 4, 1, 4]);
    // In a description: copies of 128 bytes, and of 1.
    for (count, unit, chunks) in [(512, 1, 128), (513, 0, 9)] {
        let batch = copies(true, count, 128, (1, 144), (0, 128));
        assert_eq!((only(&batch).1.unit, only(&batch).1.row_chunks), (unit, chunks));
        check(&batch);
        let mut batch = Batch::default();
        let numbers: Vec<u32> = (0..count as u32).rev().collect();
        batch.push_gather(DST + 1, SRC, 0, 128, (count as u32, count as u32), &numbers);
        assert_eq!((only(&batch).1.unit, only(&batch).1.row_chunks), (unit, chunks));
        check(&batch);
    }
    let many = copies(true, 7000, 1, (0, 3), (0, 5));
    assert_eq!((only(&many).1.unit, only(&many).1.chunks), (1, 7000));
}

#[test]
fn it_is_those_of_the_launch_that_are_few() {
    // 600 rows of 128 bytes are more than 64 KiB; those that fit are not.
    let batch = copies(true, 600, 128, (1, 144), (0, 128));
    let copies = batch.copies();
    let fit = |room: usize, chunks| {
        let run = Run::first(&copies, 10_000, false).unwrap();
        run.fit(&copies, room, chunks, false, 2).map(|fits| (fits.copies, fits.segment.unit))
    };
    assert_eq!(fit(300, CHUNKS), Some((600, 0)));
    assert_eq!(fit(257, CHUNKS), Some((514, 0)));
    assert_eq!(fit(256, CHUNKS), Some((512, 1)));
    // The same for a gather, with two row numbers per word.
    let numbers: Vec<u32> = (0..600).rev().collect();
    let mut gathers = Batch::default();
    gathers.push_gather(DST + 1, SRC, 0, 128, (600, 600), &numbers);
    for (words, rows, unit) in [(257, 514, 0), (256, 512, 1)] {
        let (rest, most) = (Remaining::new(gathers.copies()), Budget { words, chunks: CHUNKS });
        let mut parameters = Parameters::new();
        let launch = encode(&rest, &mut parameters, None, most).unwrap();
        assert_eq!((launch.rows, segments(&parameters)[0].unit), (rows, unit));
    }
    // The room counts groups of 16 bytes, one more than a copy has.
    assert_eq!(
        [fit(300, 9 * 513), fit(300, 9 * 513 - 1), fit(300, 9), fit(300, 8)],
        [Some((513, 0)), Some((512, 1)), Some((1, 1)), None]
    );
}

#[test]
fn rows_have_room_by_their_groups() {
    let mut batch = Batch::default();
    batch.push_gather(DST + 1, SRC, SRC, 18, (5, 9), &[8, 7, 6, 5, 4, 3, 2, 1]);
    let narrow = NumberFormat::of(&batch.gathers[0]);
    let fitting = |words, chunks, form| rows::fitting(&batch.gathers[0], 8, words, chunks, form);
    // 15 bytes may lie before 18: three groups. Two numbers of 16 bits are a word.
    assert_eq!(
        [fitting(9, 24, narrow), fitting(9, 23, narrow), fitting(9, 3, narrow), fitting(9, 2, narrow)],
        [8, 7, 1, 0]
    );
    assert_eq!([fitting(3, 99, narrow), fitting(3, 99, NumberFormat::WIDE), fitting(0, 99, narrow)], [6, 3, 0]);
    assert_eq!(fitting(usize::MAX, u64::MAX, narrow), 8);
    // Aligned rows of 32 bytes are two groups.
    (batch.gathers[0].bytes, batch.gathers[0].src_pitch, batch.gathers[0].dst_pitch) = (32, 32, 32);
    batch.gathers[0].dst = batch.gathers[0].dst.wrapping_add(15);
    assert_eq!([15, 16].map(|chunks| rows::fitting(&batch.gathers[0], 8, 9, chunks, narrow)), [7, 8]);
}

#[test]
fn a_launch_is_of_units_if_it_has_one_segment_of_them() {
    let piece = |batch: &mut Batch, at: usize, len: usize, pitch: usize| {
        for i in 0..10 {
            batch.push(DST + at + i * pitch, SRC + at + i * 3 % 10 * 256, len);
        }
    };
    // The length and the distance of one or two runs of rows.
    let cases: [(&[(usize, usize)], usize, bool); 7] = [
        (&[(3, 5)], 1, true),
        (&[(4, 8)], 1, true),
        (&[(16, 48)], 1, false),
        (&[(3, 5), (4, 8)], 2, false),
        (&[(3, 5), (130, 137)], 2, false),
        (&[(130, 137), (3, 5)], 2, false),
        (&[(16, 48), (4, 8)], 2, false),
    ];
    for (runs, count, is_unit) in cases {
        let mut batch = Batch::default();
        for (i, &(len, pitch)) in runs.iter().enumerate() {
            piece(&mut batch, i * 0x1_0000, len, pitch);
        }
        let (launch, parameters) = described(&Remaining::new(batch.copies()), None);
        assert_eq!((parameters.head.segments as usize, launch.copies), (count, 10 * count));
        assert_eq!(launch.unit, is_unit, "{runs:?}");
        check(&batch);
        // Bytes out of plain host memory are a segment too.
        let (launch, parameters) = payload::check_with(&batch, &[5]).unwrap();
        assert_eq!((parameters.head.segments as usize, launch.unit), (count + 1, false));
    }
    // The same for two gathers.
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, 0, 5, (10, 10), &[9, 8, 7]);
    assert!(described(&Remaining::new(batch.copies()), None).0.unit);
    batch.push_gather(DST + 100, SRC, 0, 5, (10, 10), &[6, 5, 4]);
    assert!(!described(&Remaining::new(batch.copies()), None).0.unit);
}

#[test]
fn rows_by_numbers_on_the_device_are_units_too() {
    let mut batch = Batch::default();
    batch.push_gather(DST, SRC, SRC + 0x10_0002, 12, (5, 9), &[8, 7, 6, 5]);
    batch.gathers[0].device = core::ptr::without_provenance(SRC);
    batch.gathers[0].numbers = None;
    let mut parameters = Parameters::new();
    let launch = encode_on_device(&Remaining::new(batch.copies()), &mut parameters).unwrap();
    let segment = segments(&parameters)[0];
    assert_eq!((launch.gathers, segment.unit, segment.row_chunks, segment.chunks), (1, 1, 12, 48));
}

#[test]
fn an_alignment_is_that_of_the_first_and_of_the_distances() {
    let of = |addresses: &[usize]| Extent::of(addresses.iter().copied(), 0xffff).unwrap().alignment();
    assert_eq!(
        [of(&[48]), of(&[48, 48]), of(&[48, 64]), of(&[64, 68]), of(&[66, 70]), of(&[64, 65])],
        [4, 4, 4, 2, 1, 0]
    );
    // Far apart, so that the largest distance is looked for.
    assert_eq!([of(&[64, 0x100_0000_0000]), of(&[0x100_0000_0004, 0]), of(&[8, 0x100_0000_0008])], [6, 2, 3]);
    let rows = |first, pitch, count| Extent::of_rows(first, pitch, count).alignment();
    assert_eq!([rows(64, 8, 1), rows(64, 8, 2), rows(68, 8, 2), rows(68, 8, 1), rows(64, 1, 3)], [6, 3, 2, 2, 0]);
    assert_eq!(rows(64, 0_usize.wrapping_sub(8), 3), 3);
}
