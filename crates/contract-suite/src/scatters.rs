//! Rows by pairs of numbers, between two buffers and inside one, and rows that are columns.

use tidelock::Device;
use tidelock_test_support::{
    random_moves::programs::{Place, Value},
    random_scatters::{Case, Columns, Way, check},
};

use super::run;

const WHOLE: Columns = Columns { before: 0, behind: 0 };
/// A row of words is aligned to 16 bytes at no place, at every second one, and at all.
const PARTS: [Columns; 3] =
    [Columns { before: 1, behind: 0 }, Columns { before: 2, behind: 4 }, Columns { before: 4, behind: 4 }];

/// Widths, rows and pairs: rows of few and of many bytes, and pairs that fit into launch parameters of
/// several sizes, and that need a table.
const SHAPES: [(usize, usize, usize); 4] = [(1, 300, 256), (3, 40, 9), (256, 50, 24), (4, 5000, 2100)];
/// More pairs than a table holds.
const MANY: (usize, usize, usize) = (1, 70_000, 20_000);

/// `count` pairs of rows below `rows`: sources are odd, destinations are even and distinct.
fn pairs(rows: usize, count: usize) -> Vec<(u32, u32)> {
    let half = rows as u32 / 2;
    let pair = |i: u32| (2 * ((i ^ i >> 7).wrapping_mul(0x9e37_79b9) % half) + 1, 2 * ((i * 7919) % half));
    let mut pairs: Vec<_> = (0..(count as u32).min(half)).map(pair).collect();
    let mut seen = vec![false; rows];
    pairs.retain(|&(_, to)| !std::mem::replace(&mut seen[to as usize], true));
    pairs
}

fn check_all<D: Device, T: Value>(
    device: &D,
    way: Way,
    shapes: &[(usize, usize, usize)],
    columns: &[Columns],
    places: &[(Place, Place)],
) {
    for &(width, rows, count) in shapes {
        for &columns in columns {
            for &(src, dst) in places {
                let (src, dst) = ((src, columns), (dst, columns));
                let pairs = pairs(rows, count);
                let case = Case { way, width, from_rows: rows, to_rows: rows, pairs, src, dst, layers: 2 };
                run(device, |mut stream, _| check::<T, _>(&mut stream, &case)).unwrap();
            }
        }
    }
}

pub fn rows_go_by_pairs<D: Device>(device: &D) {
    use Place::{Device, Host, Staged};
    let places = [(Device, Device), (Staged, Device), (Device, Staged), (Host, Device)];
    check_all::<_, u32>(device, Way::Scatter, &SHAPES, &[WHOLE], &places);
    check_all::<_, u32>(device, Way::Scatter, &[MANY], &[WHOLE], &places[..1]);
    check_all::<_, [u8; 3]>(device, Way::Scatter, &SHAPES[..3], &[WHOLE], &places[..2]);
    check_all::<_, u32>(device, Way::Targets, &SHAPES[..3], &[WHOLE], &places[..1]);
}

pub fn rows_change_places_in_one_buffer<D: Device>(device: &D) {
    let places = [(Place::Device, Place::Device), (Place::Staged, Place::Staged)];
    check_all::<_, u32>(device, Way::Within, &SHAPES, &[WHOLE], &places[..1]);
    check_all::<_, u32>(device, Way::Within, &SHAPES[..3], &[WHOLE, PARTS[1]], &places);
    check_all::<_, [u8; 3]>(device, Way::Within, &SHAPES[..3], &[WHOLE], &places[..1]);
}

pub fn columns_are_rows<D: Device>(device: &D) {
    let places = [(Place::Device, Place::Device)];
    for way in [Way::Scatter, Way::Warp, Way::WarpBy, Way::CopyRows] {
        check_all::<_, u32>(device, way, &SHAPES[..3], &PARTS, &places);
    }
    check_all::<_, u32>(device, Way::Scatter, &SHAPES[3..], &PARTS[2..], &places);
    check_all::<_, u8>(device, Way::WarpBy, &SHAPES[..3], &PARTS, &[(Place::Staged, Place::Device)]);
    check_all::<_, [u8; 3]>(device, Way::Warp, &SHAPES[..3], &PARTS[..2], &places);
}
