//! Views: slicing, rows, ragged rows and reinterpretation, on the host and through the device.

use bytemuck::{Pod, Zeroable};
use proptest::{collection::vec, prelude::*, test_runner::Config};
use tidelock::{Buffer, Error, View, buffer::Offsets, error::OutOfRange, location::Host};

use super::{assert_clean, get, put, ramp, slow, width};

#[test]
fn cutting_is_checked_at_both_ends() {
    let x = Buffer::<u32, Host>::from_slice(&ramp(0, 10)).unwrap();
    let view = x.view();
    assert_eq!(view.slice(3..7).unwrap().as_slice(), [3, 4, 5, 6]);
    assert_eq!(view.slice(..=2).unwrap().as_slice(), [0, 1, 2]);
    assert_eq!(view.slice(10..).unwrap().as_slice(), [0_u32; 0]);
    let (start, end) = (5, 3);
    for bad in
        [view.slice(8..11), view.slice(start..end), view.slice(11..), view.slice(..=10), view.slice(..=usize::MAX)]
    {
        assert_eq!(bad.unwrap_err(), OutOfRange);
    }
    assert_eq!(
        view.slice((std::ops::Bound::Excluded(usize::MAX), std::ops::Bound::Unbounded)).unwrap_err(),
        OutOfRange
    );
    let (head, tail) = view.split_at(10).unwrap();
    assert_eq!((head.len(), tail.len()), (10, 0));
    assert_eq!(view.split_at(11).unwrap_err(), OutOfRange);
    let pieces = view.chunks_exact(width(3));
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces.map(|piece| piece.as_slice()[0]).collect::<Vec<_>>(), [0, 3, 6]);
    assert_eq!(view.chunks_exact(width(11)).count(), 0);
}

#[test]
fn exclusive_pieces_do_not_overlap() {
    let mut x = Buffer::<u32, Host>::zeros(10).unwrap();
    for (i, piece) in x.view_mut().chunks_exact(width(4)).enumerate() {
        piece.into_slice().fill(i as u32 + 1);
    }
    assert_eq!(&x[..], [1, 1, 1, 1, 2, 2, 2, 2, 0, 0]);
    let (head, tail) = x.view_mut().split_at(5).unwrap();
    let (head, tail) = (head.into_slice(), tail.into_slice());
    core::mem::swap(&mut head[0], &mut tail[0]);
    assert_eq!((x[0], x[5]), (2, 1));
    let mut view = x.view_mut();
    view.reborrow().slice(8..).unwrap().into_slice().fill(9);
    assert_eq!(view.as_view().as_slice()[8..], [9, 9]);
}

#[test]
fn rows_are_counted_and_bounded() {
    let x = Buffer::<u32, Host>::from_slice(&ramp(0, 12)).unwrap();
    let rows = x.view().rows(width(4)).unwrap();
    assert_eq!((rows.row_count(), rows.width(), rows.as_view().unwrap().len()), (3, width(4), 12));
    assert_eq!(rows.row(2).unwrap().as_slice(), [8, 9, 10, 11]);
    assert_eq!(rows.row(3).unwrap_err(), OutOfRange);
    assert_eq!(rows.row(usize::MAX).unwrap_err(), OutOfRange);
    assert_eq!(rows.first(2).unwrap().row(2).unwrap_err(), OutOfRange);
    assert_eq!(rows.first(4).unwrap_err(), OutOfRange);
    let error = x.view().rows(width(5)).unwrap_err();
    assert_eq!(error, Error::Length { operand: "rows", expected: 10, found: 12 });
    let mut y = Buffer::<u32, Host>::zeros(6).unwrap();
    let rows = y.view_mut().rows(width(2)).unwrap().first(2).unwrap();
    assert_eq!((rows.row_count(), rows.width()), (2, width(2)));
    rows.into_iter().for_each(|row| row.into_slice().fill(1));
    assert_eq!(&y[..], [1, 1, 1, 1, 0, 0]);
}

#[test]
fn ragged_rows_are_what_the_offsets_say() {
    let x = Buffer::<u32, Host>::from_slice(&ramp(0, 9)).unwrap();
    let table = [0, 0, 3, 3, 8];
    let offsets = Offsets::new(&table, "offsets").unwrap();
    assert_eq!((offsets.row_count(), offsets.end(), offsets.range(3), offsets.range(4)), (4, 8, Some((3, 8)), None));
    let rows = x.view().ragged(offsets).unwrap();
    let lens: Vec<_> = (0..5).map(|i| rows.row_len(i)).collect();
    assert_eq!(lens, [Some(0), Some(3), Some(0), Some(5), None]);
    assert_eq!(rows.row(3).unwrap().as_slice(), [3, 4, 5, 6, 7]);
    assert!(rows.row(4).is_err() && rows.row(usize::MAX).is_err());
    assert_eq!(rows.row_count(), 4);
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    #[test]
    fn parts_of_ragged_rows_are_those_of_the_whole(
        lens in vec(0..5_usize, 0..9),
        cuts in vec((any::<usize>(), any::<usize>()), 1..4),
    ) {
        let all: Vec<Vec<u32>> = lens.iter().scan(0, |at, len| { *at += len; Some(ramp((*at - len) as u32, *len)) }).collect();
        let elements = all.concat();
        let mut table = vec![0];
        table.extend(lens.iter().scan(0, |at, len| { *at += *len as u32; Some(*at) }));
        let whole = View::from(&elements[..]);
        let offsets = Offsets::new(&table, "table").unwrap();

        // A part, a part of the part, and so on, compared with vectors of rows that are cut in the
        // same way.
        let (mut rows, mut expected) = (whole.ragged(offsets).unwrap(), &all[..]);
        let (mut part, mut skipped, mut before) = (offsets, 0, 0);
        for (a, b) in cuts {
            let (a, b) = (a % (expected.len() + 1), b % (expected.len() + 1));
            let range = a.min(b)..a.max(b);
            rows = rows.part(range.clone()).unwrap();
            part = part.part(range.clone()).unwrap();
            skipped += range.start;
            before += expected[..range.start].concat().len();
            expected = &expected[range];

            // The elements of the rows alone, with the offsets of the table or with a slice of it.
            let count = expected.concat().len();
            prop_assert_eq!((part.start(), part.end(), part.row_count()), (before, before + count, expected.len()));
            let own = whole.slice(before..before + count).unwrap();
            let sliced = Offsets::of_part(&table[skipped..=skipped + part.row_count()], "slice").unwrap();
            let rebased = part.from_first();
            prop_assert_eq!((rebased.start(), rebased.end(), rebased.row_count()), (0, count, expected.len()));
            for rows in [
                rows,
                whole.ragged(part).unwrap(),
                whole.ragged(sliced).unwrap(),
                own.ragged(rebased).unwrap(),
                own.ragged(sliced.from_first()).unwrap(),
            ] {
                let found: Vec<Vec<u32>> = (0..rows.row_count()).map(|i| rows.row(i).unwrap().as_slice().to_vec()).collect();
                prop_assert_eq!(&found, expected);
                let lens: Vec<_> = (0..=rows.row_count()).map(|i| rows.row_len(i)).collect();
                prop_assert_eq!(lens, expected.iter().map(|row| Some(row.len())).chain([None]).collect::<Vec<_>>());
            }
            prop_assert_eq!(part.part(..=part.row_count()).unwrap_err(), OutOfRange);
        }
    }
}

#[test]
fn bytes_are_reinterpreted_as_whole_aligned_elements() {
    let words = Buffer::<u32, Host>::from_slice(&[0x0403_0201, 0x0807_0605, 0x0C0B_0A09]).unwrap();
    let bytes = words.view().try_cast::<u8>().unwrap();
    assert_eq!(bytes.as_slice(), (1..=12).collect::<Vec<u8>>());
    assert_eq!(bytes.slice(4..).unwrap().try_cast::<u32>().unwrap().as_slice(), &words[1..]);
    assert_eq!(bytes.try_cast::<[u8; 3]>().unwrap().as_slice()[1], [4, 5, 6]);
    let refused = |view: View<'_, u8, Host>| view.try_cast::<u32>().unwrap_err();
    let error = Error::Reinterpret { operand: "view", size: 4 };
    assert_eq!(refused(bytes.slice(1..5).unwrap()), error, "not aligned");
    assert_eq!(refused(bytes.slice(..7).unwrap()), error, "not whole");
    assert_eq!(bytes.try_cast::<[u32; 0]>().unwrap_err(), Error::Reinterpret { operand: "view", size: 0 });
    assert!(bytes.slice(..0).unwrap().try_cast::<u32>().unwrap().is_empty());

    let mut words = words;
    words.view_mut().try_cast::<u16>().unwrap().into_slice()[0] = 0xFFFF;
    assert_eq!(words[0], 0x0403_FFFF);
}

#[test]
fn device_memory_is_reinterpreted_in_place() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let mut x = put(&ctx, &[0_u32; 4]);
            ctx.upload(&[1_u8, 2, 3, 4], x.view_mut().slice(1..2).unwrap().try_cast::<u8>().unwrap()).unwrap();
            ctx.launch((x.view_mut().try_cast::<u64>().unwrap(),), |(x,)| x[1] = u64::MAX).unwrap();
            assert_eq!(get(&mut stream, x.view()), [0, 0x0403_0201, u32::MAX, u32::MAX]);
            assert_eq!(get(&mut stream, x.view().slice(1..2).unwrap().try_cast::<u8>().unwrap()), [1, 2, 3, 4]);
            let odd = x.view().slice(1..3).unwrap().try_cast::<u64>().unwrap_err();
            assert_eq!(odd, Error::Reinterpret { operand: "view", size: 8 });
        })
        .unwrap();
    assert_clean(&device);
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Sampling {
    temperature: f32,
    top_k: u32,
}
impl tidelock::Element for Sampling {}

#[test]
fn every_kind_of_element_is_copied_as_it_is() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let flags = [true, false, true];
            let x = put(&stream.ctx(), &flags);
            assert_eq!(get(&mut stream, x.view()), flags);
            let params = [Sampling { temperature: 0.5, top_k: 40 }, Sampling { temperature: -0.0, top_k: 0 }];
            let x = put(&stream.ctx(), &params);
            assert_eq!(get(&mut stream, x.view()), params);
            let nans = [f32::NAN, f32::from_bits(0x7fa0_0001)];
            let x = put(&stream.ctx(), &nans);
            assert_eq!(get(&mut stream, x.view()).map_bits(), nans.to_vec().map_bits());
            let halves = [half::f16::from_f32(1.5), half::f16::MAX];
            let x = put(&stream.ctx(), &halves);
            assert_eq!(get(&mut stream, x.view()), halves);
            let rows = [[1_u32, 2, 3], [4, 5, 6]];
            let x = put(&stream.ctx(), &rows);
            assert_eq!(get(&mut stream, x.view()), rows);
            // Elements of no bytes are copied by copying nothing.
            let nothing = put(&stream.ctx(), &[[0_u32; 0]; 5]);
            assert_eq!(get(&mut stream, nothing.view()), [[0_u32; 0]; 5]);
        })
        .unwrap();
    assert_clean(&device);
}

trait MapBits {
    fn map_bits(self) -> Vec<u32>;
}
impl MapBits for Vec<f32> {
    fn map_bits(self) -> Vec<u32> {
        self.into_iter().map(f32::to_bits).collect()
    }
}

#[test]
fn empty_like_follows_the_view() {
    let device = slow();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(0, 6));
            let same = ctx.empty_like(x.view()).unwrap();
            let host = ctx.alloc_in::<u16, Host>(x.len()).unwrap();
            assert_eq!((same.len(), same.byte_len(), host.len(), host.byte_len()), (6, 24, 6, 12));
            assert_ne!(same.as_ptr().addr(), x.as_ptr().addr());
        })
        .unwrap();
    assert_clean(&device);
}
