//! Batches that are launched in two parts on an idle stream, and those that are not.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Permutation, Result,
    cuda::{CopyTuning, Device},
};
use tidelock_test_support::stand_in::Control;

use super::open;

/// A batch of row gathers, all of one width, and of copies.
struct Work {
    rows: usize,
    width: usize,
    /// Offsets of the copies in the source and in the target, and their lengths; none continues the
    /// one before.
    copies: Vec<(usize, usize, usize)>,
}

/// A batch of rows and of copies with the lengths of `len`, a byte apart.
fn work((rows, width): (usize, usize), count: usize, len: impl Fn(usize) -> usize) -> Work {
    let (mut from, mut to) = (0, rows * width);
    let copies = (0..count).map(|i| {
        let copy = (from, to, len(i));
        (from, to) = (from + copy.2, to + copy.2 + 1);
        copy
    });
    Work { rows, width, copies: copies.collect() }
}

/// The kernels that carry out `work` when the stream is idle, or busy. The target must hold exactly
/// the copied bytes.
fn kernels(control: &Control, device: &Device, work: &Work, part: usize, is_idle: bool) -> Vec<String> {
    let mut copy_tuning = CopyTuning::default();
    copy_tuning.part = part;
    submitted(control, &device.clone().with_copy_tuning(copy_tuning), work, is_idle)[0].clone()
}

/// The same, and the driver calls that launch.
fn submitted(control: &Control, device: &Device, work: &Work, is_idle: bool) -> [Vec<String>; 2] {
    let Work { rows, width, copies } = work;
    let extent = copies.iter().map(|copy| copy.0.max(copy.1) + copy.2).max().unwrap_or(0).max(rows * width) + 7;
    let source: Vec<u8> = (0..extent).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect();
    // Few enough rows that their numbers take 16 bits.
    let old = (*rows).min(60_000);
    let numbers: Vec<u32> = (0..*rows).rev().map(|row| (row % old) as u32).collect();
    let mut expected = vec![0xA5; extent];
    for (to, &from) in numbers.iter().enumerate() {
        expected[to * width..][..*width].copy_from_slice(&source[from as usize * width..][..*width]);
    }
    for &(from, to, len) in copies {
        expected[to..to + len].copy_from_slice(&source[from..from + len]);
    }
    let answer = device.stream(|mut stream, _| -> Result<([Vec<String>; 2], Vec<u8>)> {
        let ctx = stream.ctx().with_pool();
        let (from, mut to) = (ctx.upload_new(&source)?, ctx.upload_new(&vec![0xA5_u8; extent])?);
        stream.synchronize()?;
        let ctx = stream.ctx().with_pool();
        let _before = if is_idle { None } else { Some(ctx.zeros::<u8>(1)?) };
        drop((control.take_kernels(), control.take_log()));
        BatchCopy::new().scope(&ctx, |batch| {
            let (rows_to, mut rest) = to.view_mut().split_at(rows * width)?;
            if *rows > 0 {
                let width = NonZero::new(*width).unwrap();
                let rows_from = from.view().slice(..old * width.get())?.rows(width)?;
                let permutation = Permutation::new(&numbers, old, 0)?;
                batch.group(|group| group.warp(rows_from, permutation, rows_to.rows(width)?))?;
            }
            let mut at = rows * width;
            for &(src, dst, len) in copies {
                let (_, behind) = rest.split_at(dst - at)?;
                let (dst_view, behind) = behind.split_at(len)?;
                batch.copy(from.view().slice(src..src + len)?, dst_view)?;
                (rest, at) = (behind, dst + len);
            }
            Ok(())
        })?;
        let mut launches = control.take_log();
        launches.retain(|call| ["cuGraphLaunch", "cuLaunchKernelEx"].contains(&call.as_str()));
        let names = [control.take_kernels(), launches];
        let page = ctx.init_from(ctx.alloc_pinned::<u8>(extent)?.stage(&ctx), to.view())?;
        Ok((names, ctx.fence(page)?.wait()?.to_vec()))
    });
    let (names, found) = answer.unwrap().unwrap();
    assert!(found == expected, "{rows} rows and {} copies differ, {names:?}", copies.len());
    control.report().assert_clean();
    names
}

#[test]
fn two_parts_are_for_many_copies_on_an_idle_stream() {
    let (control, device) = open(&[]);
    let launches = |work: &Work, part| {
        assert_eq!(kernels(&control, &device, work, part, false).len(), 1, "behind other work");
        assert_eq!(kernels(&control, &device, work, usize::MAX, true).len(), 1, "never");
        kernels(&control, &device, work, part, true).len()
    };
    // Of different lengths.
    for (count, parts) in [(2047, 1), (2048, 2)] {
        assert_eq!(launches(&work((0, 1), count, |i| 8 + i % 3), 0), parts, "{count} copies");
    }
    // Rows count as a quarter. Beside more rows than that, copies of one length count as a whole.
    for (rows, count, parts) in [(8191, 0, 1), (8192, 0, 2), (4095, 1024, 1), (4096, 1024, 2), (0, 6000, 1)] {
        assert_eq!(launches(&work((rows, 8), count, |_| 8), 0), parts, "{rows} rows, {count} copies");
    }
    // The first part may be half of everything: of 2048 times 8 bytes.
    let all = work((0, 1), 2048, |i| 7 + i % 2 * 2);
    for (part, parts) in [(8191, 2), (8192, 2), (8193, 1), (usize::MAX, 1)] {
        assert_eq!(kernels(&control, &device, &all, part, true).len(), parts, "{part} bytes");
    }
    let odd = work((0, 1), 2048, |i| 8 + usize::from(i == 1));
    for (part, parts) in [(8192, 2), (8193, 1)] {
        assert_eq!(kernels(&control, &device, &odd, part, true).len(), parts, "{part} bytes");
    }
}

#[test]
fn a_first_part_is_in_parameters_or_else_in_a_table() {
    let (control, device) = open(&[]);
    let is = |work: &Work, part, expected: &[&str]| {
        let names = kernels(&control, &device, work, part, true);
        let rooms = names.iter().map(|name| name.split('_').nth(1).unwrap());
        let in_table = |room: &str| if ["table", "mixed"].contains(&room) { "table" } else { "parameters" };
        assert_eq!(rooms.map(in_table).collect::<Vec<_>>(), expected, "{names:?}");
    };
    // Parameters have room for 1232 copies of different lengths. The first part is a third, and
    // half of it is worth a launch: a sixth.
    let copies = |count| work((0, 1), count, |i| 200 + i % 2);
    is(&copies(2200), 0, &["parameters", "table"]);
    is(&copies(7300), 0, &["parameters", "table"]);
    is(&copies(7500), 0, &["table", "table"]);
    // A quarter, where half of everything is requested.
    is(&copies(4900), 2450 * 200, &["parameters", "table"]);
    is(&copies(5000), 2500 * 200, &["table", "table"]);
    // And for 7396 rows: a sixteenth of everything, or a quarter.
    let rows = |count| work((count, 16), 0, |_| 0);
    is(&rows(118_336), 0, &["parameters", "table", "table"]);
    is(&rows(118_352), 0, &["table", "table", "table"]);
    is(&rows(29_584), 14_792 * 16, &["parameters", "table"]);
    is(&rows(29_588), 14_794 * 16, &["table", "table"]);
}

#[test]
fn a_copy_that_is_longer_than_a_first_part_may_be_ends_it() {
    let (control, device) = open(&[]);
    let two = |work: &Work, parts: &[usize]| {
        for &part in parts {
            let names = kernels(&control, &device, work, part, true);
            assert_eq!(names.len(), 2, "{part} bytes: {names:?}");
        }
    };
    // One copy of 200,000 bytes, which are most of the bytes, among 2500 of about 8 bytes.
    for at in [0, 1, 1231, 1300, 2499] {
        two(&work((0, 1), 2500, |i| if i == at { 200_000 } else { 8 + i % 2 }), &[0, 110_000]);
    }
    // Three copies of nearly a third each, after rows and without.
    for (rows, width) in [(0, 1), (8192, 1), (8192, 9)] {
        two(&work((rows, width), 2048, |i| if i < 3 { 120_000 } else { 1 + i % 2 }), &[0, 100_000, 180_000]);
    }
}

#[test]
fn rows_and_copies_are_in_parts_together() {
    let (control, device) = open(&[]);
    for (rows, width, count, len) in
        [(8000, 16, 100, 16), (100, 16, 8000, 16), (4000, 5, 2000, 3), (20_000, 3, 20_000, 5), (2000, 300, 1600, 64)]
    {
        for differing in [0, 1] {
            let work = work((rows, width), count, |i| len + i % 2 * differing);
            let all = rows * width + work.copies.iter().map(|copy| copy.2).sum::<usize>();
            let whole = kernels(&control, &device, &work, 0, false);
            for part in [0, all / 3, all / 2] {
                let names = kernels(&control, &device, &work, part, true);
                assert!(names.len() <= whole.len() + 4, "{rows}, {count}: {names:?}");
                // Where most are copies after rows, their lengths are not considered.
                assert_eq!(names.len() > whole.len(), rows > count, "{rows}, {count}: {names:?}");
            }
            assert_eq!(kernels(&control, &device, &work, all / 2 + 1, true), whole, "{rows}, {count}");
        }
    }
}

#[test]
fn only_the_end_of_a_batch_is_a_graph() {
    let (control, device) = open(&[]);
    let mut copy_tuning = CopyTuning::default();
    let mut launches = |part, rows, is_idle| {
        copy_tuning.part = part;
        let [names, calls] =
            submitted(&control, &device.clone().with_copy_tuning(copy_tuning), &work((rows, 16), 0, |_| 0), is_idle);
        assert_eq!(names.len(), calls.len());
        calls.into_iter().zip(names).map(|(call, name)| format!("{call} {name}")).collect::<Vec<_>>()
    };
    assert_eq!(launches(0, 1024, true), ["cuGraphLaunch copy_2304_single_plain_2"]);
    assert_eq!(launches(0, 1024, false), ["cuLaunchKernelEx copy_2304_single_plain_2"]);
    // Nothing overlaps with a graph, and the stream is busy after the first part.
    let both = ["cuLaunchKernelEx copy_2304_single_plain_2", "cuLaunchKernelEx copy_16384_single_plain_2"];
    assert_eq!(launches(0, 8192, true), both);
    assert_eq!(launches(usize::MAX, 8192, true), ["cuLaunchKernelEx copy_mixed_plain_2"]);
}
