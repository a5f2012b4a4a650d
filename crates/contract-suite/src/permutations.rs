//! Rows by their numbers: on the host, on the device, and on the device without a copy on the host.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Device, Element, Error, Permutation,
    driver::Code,
    state::{DevicePermutation, RowNumbers},
};

use super::{get, noise, put, run};

/// A case: rows of `width` elements, `old` and `joining` of them, by `numbers`.
struct Case {
    width: usize,
    old: usize,
    joining: usize,
    numbers: Vec<u32>,
}

/// Rows of few and of many bytes, with numbers of 16 and of 32 bits, fewer than fit into launch
/// parameters and more than fit into a table.
fn cases() -> Vec<Case> {
    let shapes = [(1, 300, 20, 256), (3, 8, 1, 9), (256, 100, 24, 124), (1, 70_000, 9, 40_000)];
    let case = |(width, old, joining, count)| {
        let number = |i: u32| (i ^ i >> 7).wrapping_mul(0x9e37_79b9) % (old + joining) as u32;
        Case { width, old, joining, numbers: (1..=count).map(number).collect() }
    };
    let mut cases: Vec<Case> = shapes.map(case).into();
    // Every second row, of more rows than 16-bit numbers can name.
    let Case { numbers, .. } = case((1, 40_000, 20_000, 2000));
    let numbers = numbers.iter().map(|number| 2 * number).collect();
    cases.push(Case { width: 4, old: 80_000, joining: 40_000, numbers });
    cases
}

impl Case {
    fn width(&self) -> NonZero<usize> {
        NonZero::new(self.width).unwrap()
    }

    /// The rows afterwards, computed naively. Rows without a source keep their content.
    fn expected<T: Element>(&self, src: &[T], joining: Option<&[T]>, before: &[T]) -> Vec<T> {
        let row = |of: &[T], row: usize| of[row * self.width..][..self.width].to_vec();
        let each =
            self.numbers.iter().enumerate().flat_map(|(i, &number)| match (number as usize).checked_sub(self.old) {
                None => row(src, number as usize),
                Some(number) => joining.map_or_else(|| row(before, i), |joining| row(joining, number)),
            });
        each.collect()
    }
}

/// Elements of an odd size, so that rows have no alignment.
fn odd(seed: u32, len: usize) -> Vec<[u8; 3]> {
    noise(seed, len).iter().map(|n| [*n as u8, (n >> 8) as u8, (n >> 16) as u8]).collect()
}

fn check<D: Device, T: Element + PartialEq + core::fmt::Debug>(
    device: &D,
    case: &Case,
    values: fn(u32, usize) -> Vec<T>,
) {
    let (src, more) = (values(1, case.old * case.width), values(2, case.joining * case.width));
    let before = values(3, case.numbers.len() * case.width);
    let (stayed, joined) = (case.expected(&src, None, &before), case.expected(&src, Some(&more), &before));
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (src, more) = (put(&ctx, &src), put(&ctx, &more));
        let permutation = Permutation::new(&case.numbers, case.old, case.joining).unwrap();
        let on_device = DevicePermutation::upload(&ctx, permutation).unwrap();
        let raw = ctx.upload_new(&case.numbers).unwrap();
        // SAFETY: these are the numbers that `Permutation` has checked.
        let unchecked = unsafe { RowNumbers::unchecked(raw.view(), case.old, case.joining) };
        let mut batch = BatchCopy::new();
        // Three ways to give the numbers, and two states in one submission each.
        for way in 0..3 {
            let (mut stays, mut joins) = (put(&ctx, &before), put(&ctx, &before));
            let answer = batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    let rows = (src.view().rows(case.width())?, more.view().rows(case.width())?);
                    let (to, and) = (stays.view_mut().rows(case.width())?, joins.view_mut().rows(case.width())?);
                    match way {
                        0 => {
                            group.warp(rows.0, permutation, to)?;
                            group.warp_join(rows.0, rows.1, permutation, and)
                        }
                        1 => {
                            group.warp_by(rows.0, on_device.numbers(), to)?;
                            group.warp_join_by(rows.0, rows.1, on_device.numbers(), and)
                        }
                        _ => {
                            group.warp_by(rows.0, unchecked, to)?;
                            group.warp_join_by(rows.0, rows.1, unchecked, and)
                        }
                    }
                })
            });
            match answer {
                Err(Error::Driver(error)) if way == 2 && error.code == Code::NOT_SUPPORTED => {
                    // Without the copy kernels the numbers cannot be read, and nothing is written.
                    assert_eq!(get(&ctx, stays.view()), before);
                    continue;
                }
                answer => answer.unwrap(),
            }
            assert_eq!(get(&ctx, stays.view()), stayed, "way {way}: rows that stay");
            assert_eq!(get(&ctx, joins.view()), joined, "way {way}: rows that stay and rows that join");
        }
    });
}

pub fn rows_change_places<D: Device>(device: &D) {
    for case in &cases() {
        check(device, case, noise);
        check(device, case, odd);
    }
}

pub fn states_share_their_numbers<D: Device>(device: &D) {
    let numbers: Vec<u32> = (0..64).map(|i| i * 37 % 64).collect();
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let width = |n: usize| NonZero::new(n).unwrap();
        let widths: Vec<usize> = (1..=20).collect();
        let fronts: Vec<_> = widths.iter().map(|&n| put(&ctx, &noise(n as u32, 64 * n))).collect();
        let mut backs: Vec<_> = widths.iter().map(|&n| ctx.zeros::<u32>(64 * n).unwrap()).collect();
        let permutation = Permutation::new(&numbers, 64, 0).unwrap();
        let mut batch = BatchCopy::new();
        let answer = batch.scope(&ctx, |batch| {
            batch.group(|group| {
                for ((front, back), &n) in fronts.iter().zip(&mut backs).zip(&widths) {
                    group.warp(front.view().rows(width(n))?, permutation, back.view_mut().rows(width(n))?)?;
                }
                Ok(())
            })
        });
        answer.unwrap();
        assert_eq!((batch.stats().asked, batch.stats().submitted, batch.stats().submissions), (20 * 64, 20 * 64, 1));
        for (back, &n) in backs.iter().zip(&widths) {
            let front = noise(n as u32, 64 * n);
            let expected: Vec<u32> = numbers.iter().flat_map(|&row| front[row as usize * n..][..n].to_vec()).collect();
            assert_eq!(get(&ctx, back.view()), expected, "rows of {n}");
        }
    });
}
