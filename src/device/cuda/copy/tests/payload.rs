//! Bytes of plain host memory that are in the parameters.

use core::ptr;

use proptest::prelude::*;

use super::{
    super::{
        encode::encode_with,
        layout::{Parameters, THREADS},
        payload::{MOST, Payload},
        remaining::{Launch, Remaining},
    },
    Batch, DST, OWN, ROOM, SRC, batches, run_block, segments, words_of,
};

/// Marks a byte that comes from the parameters.
pub(super) const OWN_BYTE: usize = 1 << 60;
/// The bytes behind all other destinations, for the payload.
const OWN_ROOM: usize = 1 << 14;

/// Checks one launch of the batch and a payload. The payload is pieces of a host slice, of the
/// lengths `own`, which lie apart and go behind all other destinations. `None` if one launch does
/// not take all of it.
pub(super) fn check_with(batch: &Batch, own: &[usize]) -> Option<(Launch, Parameters)> {
    let (mut all, mut expected) = (batch.clone(), batch.expected());
    expected.resize(ROOM + OWN_ROOM, 0);
    let mut host: Vec<u8> = (0..OWN_ROOM).map(|i| (i * 89 + i / 256 + 1) as u8).collect();
    let mut at = 0;
    for (i, &len) in own.iter().enumerate() {
        at += i * 5 % 3;
        all.dst.push(ptr::without_provenance_mut(DST + ROOM + at));
        all.src.push(host[at + i..].as_ptr());
        all.len.push(len);
        for byte in 0..len {
            expected[ROOM + at + byte] = OWN_BYTE | host[at + i + byte] as usize;
        }
        at += len;
    }
    let copies = all.copies().with_host_from(batch.len.len());
    let mut parameters = Parameters::new();
    parameters.words.fill(0xdead_beef);
    // SAFETY:
    // - The sources lie in `host`, which outlives the payload.
    let launch = unsafe { Payload::of(&copies, usize::MAX) }
        .and_then(|payload| encode_with(&Remaining::new(batch.copies()), &payload, &mut parameters))?;
    host.fill(0);
    assert_eq!((launch.copies, launch.gathers, launch.rows), (batch.len.len(), batch.gathers.len(), 0));
    assert!(!launch.plain && parameters.bytes() <= 4352);
    let (mut bytes, mut blocks, tile) = (vec![0; ROOM + OWN_ROOM], 0, THREADS * launch.groups);
    for segment in &segments(&parameters) {
        assert_eq!(segment.first_block, blocks);
        blocks += segment.chunks.div_ceil(tile);
        for block in 0..segment.chunks.div_ceil(tile) {
            run_block(segment, &words_of(&parameters)[..launch.words], false, block, tile, false, &mut bytes);
        }
    }
    assert_eq!(blocks, launch.blocks);
    assert!(bytes == expected);
    Some((launch, parameters))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn payloads_are_what_the_host_has(batch in batches(), own in prop::collection::vec(1..70_usize, 1..20)) {
        let fits = own.iter().sum::<usize>() <= MOST;
        prop_assert!(check_with(&batch, &own).is_none() || fits);
        prop_assert_eq!(check_with(&Batch::default(), &own).is_some(), fits);
    }
}

#[test]
fn a_payload_is_in_the_parameters() {
    let mut batch = Batch::default();
    let numbers: Vec<u32> = (0..40).map(|i| i * 7 % 50).collect();
    batch.push_gather(DST, SRC, SRC + 0x20_0000, 24, (45, 50), &numbers);
    for i in 0..20 {
        batch.push(DST + 0x1_0000 + i * 512, SRC + i * 389 % 32 * 512, 512);
        batch.push(DST + 0x2_0000 + i * 100, SRC + i * 7, 1 + i);
    }
    let (launch, parameters) = check_with(&batch, &[64, 1, 2, 3, 4, 7]).unwrap();
    assert_eq!((launch.groups, parameters.head.segments), (2, 3));
    assert_eq!(segments(&parameters).iter().map(|segment| segment.form).collect::<Vec<_>>(), [OWN, 1, 3]);
    // Alone: of one byte, and of the most bytes.
    assert_eq!(check_with(&Batch::default(), &[1]).unwrap().0.words, 5);
    assert_eq!(check_with(&Batch::default(), &[MOST]).unwrap().0.words, 4 + MOST / 4);
    assert!(check_with(&Batch::default(), &[MOST, 1]).is_none());
    // As many pieces as fit: five words each, the last of which is mostly empty.
    assert_eq!(check_with(&Batch::default(), &[1; 138]).unwrap().0.words, 690);
    assert!(check_with(&Batch::default(), &[1; 139]).is_none());
    // Beside copies that fill the rest, and one more.
    for (rows, fits) in [(1310, true), (1330, false)] {
        let mut batch = Batch::default();
        for i in 0..rows {
            batch.push(DST + i * 32, SRC + i * 389 % 1000 * 32, 16);
        }
        assert_eq!(check_with(&batch, &[64, 32]).is_some(), fits, "{rows} rows");
    }
}

#[test]
fn large_plain_batches_with_a_payload_keep_their_kernel() {
    let host = [7_u8; 64];
    for (bytes, fits) in [(4 << 20, true), (8 << 20, false)] {
        let mut batch = Batch::default();
        batch.push(DST, SRC, bytes);
        batch.push(DST + bytes, 0, 64);
        batch.src[1] = host.as_ptr();
        let copies = batch.copies().with_host_from(1);
        // SAFETY:
        // - The source is `host`.
        let payload = unsafe { Payload::of(&copies, 64) }.unwrap();
        let before = copies.first(1).unwrap();
        let launch = encode_with(&Remaining::new(before), &payload, &mut Parameters::new());
        assert_eq!(launch.is_some(), fits, "{bytes} bytes");
    }
}
