//! Which copy kernel a batch is launched by: the smallest with room for the batch's encoding, and
//! the most special one that accepts the batch.

use std::{num::NonZero, ops::RangeInclusive};

use tidelock::{
    BatchCopy, Permutation,
    cuda::{CopyTuning, Device},
    state::DevicePermutation,
};
use tidelock_test_support::{
    random_batches::{Piece, Program, Source, check, run},
    stand_in::Control,
};

use super::open;

/// The copy kernels that `pieces` are launched by, in order. All bytes must be copied.
fn kernels(control: &Control, device: &Device, pieces: Vec<Piece>) -> Vec<String> {
    let program = Program { down: pieces, across: vec![] };
    control.take_kernels();
    check(&program, |program, sources| device.stream(|mut stream, _| run(&mut stream, program, sources))?);
    control.report().assert_clean();
    control.take_kernels()
}

/// A device that launches a batch in one part where possible.
fn whole() -> (Control, Device) {
    let (control, device) = open(&[]);
    let mut copy_tuning = CopyTuning::default();
    copy_tuning.part = usize::MAX;
    (control, device.with_copy_tuning(copy_tuning))
}

/// `count` rows of `len` bytes, `pitch` bytes apart, none of which continues another.
fn rows(count: usize, len: usize, pitch: usize) -> Vec<Piece> {
    let at = |i: usize| i * 7 % 1000 * 16;
    let gap = |i: usize| if i == 0 { 0 } else { pitch - len };
    (0..count).map(|i| Piece { gap: gap(i), len, source: Source::Device, at: at(i) }).collect()
}

/// `count` pieces of different lengths.
fn ragged(count: usize, lengths: RangeInclusive<usize>) -> Vec<Piece> {
    let len = |i: usize| lengths.start() + i * 31 % (lengths.end() - lengths.start() + 1);
    (0..count).map(|i| Piece { gap: 3, len: len(i), source: Source::Device, at: i * 77 % 90_000 }).collect()
}

/// Both lists, the second at a multiple of 64 bytes.
fn two(first: Vec<Piece>, mut second: Vec<Piece>) -> Vec<Piece> {
    let end: usize = first.iter().map(|piece| piece.gap + piece.len).sum();
    second[0].gap = end.next_multiple_of(64) + 64 - end;
    [first, second].concat()
}

/// The kind of kernel in its name, without the bytes of its parameter.
fn kind(kernels: &[String]) -> &str {
    let [name] = kernels else { panic!("more or less than one launch: {kernels:?}") };
    name.strip_prefix("copy_").unwrap().trim_start_matches(|c: char| c.is_ascii_digit())
}

#[test]
fn a_kernel_is_chosen_for_what_all_segments_have_in_common() {
    let (control, device) = whole();
    let plain = || rows(20, 48, 64);
    let words = || rows(20, 12, 20);
    let bytes = || rows(20, 3, 5);
    let odd = || rows(20, 150, 163);
    let cases = [
        (plain(), "_single_plain_2"),
        (words(), "_single_unit_2"),
        (bytes(), "_single_unit_2"),
        (odd(), "_single_2"),
        (ragged(20, 1..=90), "_single_2"),
        (ragged(40, 1..=90), "_single_2"),
        (two(plain(), rows(20, 16, 32)), "_plain_2"),
        (two(plain(), words()), "_2"),
        (two(words(), plain()), "_2"),
        (two(words(), bytes()), "_2"),
        (two(odd(), words()), "_2"),
        (two(plain(), ragged(20, 1..=90)), "_2"),
        // Where a batch has 8 MiB and is not all plain, each thread takes more. There is then no
        // kernel for a single segment.
        (ragged(150, 60_000..=80_000), "_4"),
        (two(ragged(150, 60_000..=80_000), ragged(10, 1..=90)), "_4"),
        (rows(150, 64_001, 64_100), "_4"),
        (rows(150, 64_000, 64_016), "_single_plain_2"),
    ];
    for (i, (pieces, expected)) in cases.into_iter().enumerate() {
        assert_eq!(kind(&kernels(&control, &device, pieces)), expected, "case {i}");
    }
    // A plain batch has a launch of its own there, and so has one of words. Parts of a batch are in
    // a table.
    let (large, large_odd) = (rows(150, 64_000, 64_016), rows(150, 64_001, 64_100));
    for (first, second, names) in [
        (words(), &large, ["copy_table_4", "copy_768_single_plain_2"]),
        (odd(), &large, ["copy_table_4", "copy_768_single_plain_2"]),
        (plain(), &large_odd, ["copy_mixed_plain_2", "copy_4352_4"]),
    ] {
        assert_eq!(kernels(&control, &device, two(first, second.clone())), names);
    }
    // Bytes out of plain host memory are not copied in units, and are not plain.
    let own = || vec![Piece { gap: 0, len: 5, source: Source::Host, at: 3 }];
    assert_eq!(kind(&kernels(&control, &device, two(own(), own()))), "_single_2");
    assert_eq!(kind(&kernels(&control, &device, two(bytes(), own()))), "_2");
    assert_eq!(kind(&kernels(&control, &device, two(plain(), own()))), "_2");
}

#[test]
fn a_kernel_has_room_for_the_encoding() {
    let (control, device) = whole();
    // Head and segment are 56 bytes and 96, and two row numbers are a word. So this many rows take
    // this many bytes.
    let sizes = [(84, 320), (308, 768), (564, 1280), (1076, 2304), (2100, 4352), (4148, 8448), (7396, 16_384)];
    for (at, &(most, bytes)) in sizes.iter().enumerate() {
        let next = sizes.get(at + 1).map(|(_, bytes)| *bytes);
        for (len, pitch, name) in [(16, 48, "_single_plain_2"), (4, 12, "_single_unit_2"), (131, 144, "_single_2")] {
            // Longer encodings that are not plain have no kernels of their own for one segment.
            let name = |bytes| {
                if bytes > 4352 && len != 16 { format!("copy_{bytes}_2") } else { format!("copy_{bytes}{name}") }
            };
            assert_eq!(kernels(&control, &device, rows(most - 1, len, pitch)), [name(bytes)], "{most}, {len}");
            assert_eq!(kernels(&control, &device, rows(most, len, pitch)), [name(bytes)], "{most}, {len}");
            if let Some(next) = next {
                assert_eq!(kernels(&control, &device, rows(most + 1, len, pitch)), [name(next)], "{most}, {len}");
            }
        }
        // With eight rows more, of another length, there is a segment more and four words: 112
        // bytes, or 56 rows.
        for (count, bytes) in [(most - 56, Some(bytes)), (most - 55, next)] {
            // There is no kernel for so few bytes.
            let Some(bytes) = bytes.map(|bytes| bytes.max(768)) else { continue };
            for (len, name) in [(32, "_plain_2"), (33, "_2")] {
                let pieces = two(rows(8, len, 48), rows(count, 16, 48));
                assert_eq!(kernels(&control, &device, pieces), [format!("copy_{bytes}{name}")], "{count}, {len}");
            }
        }
    }
    // An encoding that fits no parameters is in a table, whose first words are passed in the
    // parameters where all is plain.
    for (len, pitch, name) in [(16, 48, "copy_mixed_plain_2"), (4, 12, "copy_table_2"), (131, 144, "copy_table_2")] {
        assert_eq!(kernels(&control, &device, rows(7397, len, pitch)), [name], "{len}");
    }
    assert_eq!(kernels(&control, &device, ragged(1232, 10..=90)), ["copy_16384_2"]);
    assert_eq!(kernels(&control, &device, ragged(1233, 10..=90)), ["copy_table_2"]);
    // With more for each thread, there are no kernels for fewer than 4352 bytes: 350 copies of
    // three words.
    for (count, name) in [(350, "copy_4352_4"), (351, "copy_8448_4"), (1232, "copy_16384_4"), (1233, "copy_table_4")] {
        assert_eq!(kernels(&control, &device, ragged(count, 24_000..=28_000)), [name]);
    }
}

#[test]
fn numbers_on_the_device_are_a_table() {
    let (control, device) = whole();
    for (width, joins, name) in [
        (16, 0, "copy_table_plain_2"),
        (12, 0, "copy_table_2"),
        (150, 0, "copy_table_2"),
        (16, 16, "copy_table_plain_2"),
        (16, 1, "copy_table_2"),
    ] {
        let numbers: Vec<u32> = (0..40).map(|i| i * 7 % 60).collect();
        let bytes = |seed: usize, len: usize| (0..len).map(|i| (i * 31 + seed + i / 251) as u8).collect::<Vec<_>>();
        let (old, new) = (bytes(1, 45 * width), bytes(7, joins + 15 * width));
        let answer = device.stream(|stream, _| -> tidelock::Result<Vec<u8>> {
            let ctx = stream.ctx().with_pool();
            let on_device = DevicePermutation::upload(&ctx, Permutation::new(&numbers, 45, 15)?)?;
            let (first, second) = (ctx.upload_new(&old)?, ctx.upload_new(&new)?);
            let mut target = ctx.upload_new(&vec![9_u8; 40 * width])?;
            let width = NonZero::new(width).unwrap();
            control.take_kernels();
            BatchCopy::new().scope(&ctx, |batch| {
                batch.group(|group| {
                    let (src, dst) = (first.view().rows(width)?, target.view_mut().rows(width)?);
                    if joins == 0 {
                        return group.warp_by(src, on_device.numbers(), dst);
                    }
                    group.warp_join_by(src, second.view().slice(joins..)?.rows(width)?, on_device.numbers(), dst)
                })
            })?;
            assert_eq!(control.take_kernels(), [name], "{width} bytes, {joins}");
            let page = ctx.init_from(ctx.alloc_pinned::<u8>(target.len())?.stage(&ctx), target.view())?;
            Ok(ctx.fence(page)?.wait()?.to_vec())
        });
        let row = |number: u32| match (number as usize).checked_sub(45) {
            None => old[number as usize * width..][..width].to_vec(),
            Some(row) if joins > 0 => new[joins + row * width..][..width].to_vec(),
            Some(_) => vec![9; width],
        };
        let expected: Vec<u8> = numbers.iter().flat_map(|&number| row(number)).collect();
        assert_eq!(answer.unwrap().unwrap(), expected, "{width} bytes, {joins}");
        control.report().assert_clean();
    }
}
