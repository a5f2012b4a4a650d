//! The kernel model: what it copies by the words in its parameter, and which faults it finds in
//! them.

use std::ffi::CStr;

use super::{
    ILLEGAL_ADDRESS, NOT_FOUND, OK,
    raw_launch::{BYTES, Bench, Call, EACH, OWN, PAIRS, RAGGED, ROWS, ROWS_16, Segment, WIDE, copied},
};

#[test]
fn the_twin_is_there_if_it_shall_be() {
    let bench = Bench::new();
    let mut function = 0;
    // SAFETY: the place is valid for a write, the module is loaded.
    let mut find =
        |name: &CStr| unsafe { (bench.raw.api.cuModuleGetFunction)(&mut function, bench.module, name.as_ptr()) };
    for name in [c"copy_4352_plain_2", c"copy_8448_2", c"copy_16384_4", c"copy_table_plain_2", c"copy_768_single_2"] {
        assert_eq!(find(name), OK);
    }
    assert_eq!((find(c"copy_table_single_2"), find(c"copy_4352_single_4")), (NOT_FOUND, NOT_FOUND));
    assert_eq!((find(c"copy_4352_3"), find(c"copy_3000_2"), find(c"copy_table")), (NOT_FOUND, NOT_FOUND, NOT_FOUND));
    bench.raw.control.set("copy_kernels", 0);
    assert_eq!(find(c"copy_4352_plain_2"), NOT_FOUND);
    bench.end(&[]);
}

#[test]
fn rows_of_two_sources() {
    let bench = Bench::new();
    let mut call = bench.rows();
    let first = [(3, 45, 20), (36, 5, 20), (69, 25, 20), (135, 45, 20)];
    // Row 7 is none of the first source's three, and there is no second one.
    bench.check(c"copy_4352_2", &call, &copied(&first));
    bench.check(c"copy_768_single_2", &call, &copied(&first));
    // With a second source it is row 4 of that.
    call.segments[0].second = bench.src as u64 + 1000;
    bench.check(c"copy_16384_4", &call, &copied(&[&first[..], &[(102, 1080, 20)]].concat()));
    bench.end(&[]);
}

#[test]
fn two_rows_in_a_word_and_pairs() {
    let bench = Bench::new();
    let (src, dst) = (bench.src as u64, bench.dst as u64);
    let equal = Segment { magic: 1 << 31 | 1, bytes: 16, row_chunks: 1, old: u32::MAX, ..Segment::default() };
    // The magic number of 1 is 2^31 / 1 + 1.
    let rows = Segment { src, dst, src_pitch: 16, dst_pitch: 32, form: ROWS_16, chunks: 3, copies: 3, ..equal };
    let pairs = Segment {
        src: src + 4096,
        dst: dst + 4096,
        src_pitch: 16,
        dst_pitch: 16,
        form: PAIRS,
        first_block: 1,
        chunks: 2,
        copies: 2,
        words: 2,
        ..equal
    };
    let words = vec![9 | 4 << 16, 700 | 0xffff << 16, 5, 0, 0, 30];
    let call = Call { early: 1, words, segments: vec![rows, pairs], blocks: 2, ..Call::default() };
    let copies = [(0, 144, 16), (32, 64, 16), (64, 11200, 16), (4096, 4176, 16), (4576, 4096, 16)];
    bench.check(c"copy_4352_plain_2", &call, &copied(&copies));
    bench.end(&[]);
}

#[test]
fn lengths_that_differ() {
    let bench = Bench::new();
    let (src, dst) = (bench.src as u64, bench.dst as u64);
    // 7 bytes to place 10, across two groups of 16: chunks 0 and 1, which have 15 bytes too much at
    // their end. 40 bytes to place 64: chunks 2 to 4, 8 too much.
    let ragged = Segment {
        src,
        dst,
        src_pitch: 1,
        dst_pitch: 2,
        form: RAGGED,
        chunks: 5,
        copies: 2,
        staged: 2,
        ..Segment::default()
    };
    let words = vec![15, 2 << 4 | 8, 77, 1001, 5, 32];
    let mut call = Call { early: 1, words, segments: vec![ragged], blocks: 1, shared: 44, ..Call::default() };
    let expected = copied(&[(10, 77, 7), (64, 1001, 40)]);
    bench.check(c"copy_8448_2", &call, &expected);
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let ends = [src + 77, src + 1001, dst + 10, dst + 64].map(halves).concat();
    call.words = [&[15, 2 << 4 | 8][..], &ends].concat();
    call.segments[0].form = WIDE;
    bench.check(c"copy_8448_4", &call, &expected);
    // A table starts with the owner of each block: copy 0 the only one, of which copy 1 is the
    // last.
    let words = [&[0, 1][..], &call.words].concat();
    let table = bench.table(&words, 1024);
    let segment = Segment { words: 2, ..call.segments[0] };
    let by_table = Call { table: table as u64, words: vec![], segments: vec![segment], ..call };
    bench.check(c"copy_table_2", &by_table, &expected);
    bench.end(&[table]);
}

#[test]
fn bytes_in_the_parameters() {
    let bench = Bench::new();
    let mut expected = copied(&[]);
    expected[9..14].copy_from_slice(&[1, 2, 3, 4, 5]);
    expected[40..48].copy_from_slice(&[6, 7, 8, 9, 10, 11, 12, 13]);
    bench.check(c"copy_1280_2", &own(&bench), &expected);
    // In the larger kernel blocks have twice as many chunks.
    let mut call = own(&bench);
    call.segments[0].chunks = 1024;
    bench.check(c"copy_8448_4", &call, &expected);
    bench.end(&[]);
}

#[test]
fn what_bytes_in_the_parameters_cannot_be() {
    type Break = fn(&mut Call);
    let rows: [(Break, &CStr, &str); 6] = [
        (|call| call.segments[0].chunks = 2, c"copy_1280_2", "a block each is 512 chunks"),
        (|_| (), c"copy_1280_plain_2", "copies of different lengths are not for this kernel"),
        (|call| call.words[4] = 0, c"copy_1280_2", "copy 0 has no bytes"),
        (|call| call.words[3] = 7, c"copy_1280_2", "the bytes of copy 0 begin with word 7 instead of 8"),
        (|call| call.words[4] = 9, c"copy_1280_2", "the bytes of copy 1 begin with word 10 instead of 11"),
        (|call| call.words[8] = 13, c"copy_1280_2", "word 13 is used where there are 13"),
    ];
    let bench = Bench::new();
    for (change, name, words) in rows {
        let mut call = own(&bench);
        change(&mut call);
        bench.refuses(name, &call, words);
    }
    assert!(bench.raw.read(bench.dst, BYTES, bench.stream) == copied(&[]), "nothing was copied");
    bench.give_up(&[]);
}

#[test]
fn copies_of_words_and_of_bytes() {
    let bench = Bench::new();
    let (src, dst) = (bench.src as u64, bench.dst as u64);
    // Three rows of 12 bytes; divided by 3 and by 12: 2^33 / 3 + 1, and 2^35 / 12 + 1.
    let rows = Segment {
        src: src + 4,
        dst: dst + 8,
        src_pitch: 12,
        dst_pitch: 20,
        bytes: 12,
        form: ROWS,
        chunks: 9,
        row_chunks: 3,
        magic: 0xaaaa_aaab,
        shift: 2,
        old: 8,
        copies: 3,
        unit: 4,
        ..Segment::default()
    };
    let mut call = Call { early: 1, words: vec![7, 0, 2], segments: vec![rows], blocks: 1, ..Call::default() };
    let copies = [(8, 88, 12), (28, 4, 12), (48, 28, 12)];
    bench.check(c"copy_768_single_unit_2", &call, &copied(&copies));
    bench.check(c"copy_8448_4", &call, &copied(&copies));
    bench.refuses(c"copy_4352_plain_2", &call, "chunks of 4 bytes are not for this kernel");
    call.segments[0].bytes = 11;
    bench.refuses(c"copy_4352_2", &call, "is not made of its chunks");
    call.segments[0] = Segment { src: src + 3, chunks: 36, row_chunks: 12, shift: 4, unit: 1, ..rows };
    bench.check(c"copy_2304_single_unit_2", &call, &copied(&[(8, 87, 12), (28, 3, 12), (48, 27, 12)]));
    call.segments[0] = Segment { src: src + 3, ..rows };
    bench.refuses(c"copy_2304_single_unit_2", &call, "is not made of its chunks");
    call.segments[0] = Segment { chunks: 3, row_chunks: 1, magic: 1 << 31 | 1, shift: 0, unit: 0, ..rows };
    bench.refuses(c"copy_2304_single_unit_2", &call, "chunks of 0 bytes are not for this kernel");
    bench.give_up(&[]);
}

#[test]
fn copies_with_a_block_each() {
    let bench = Bench::new();
    let halves = |address: usize| [address as u32, (address as u64 >> 32) as u32];
    let copies = [(7, 1001, 4089), (5000, 64, 1), (6001, 8000, 100)];
    let words_of = |(dst, src, len): (usize, usize, u32)| {
        let ([a, b], [c, d]) = (halves(bench.src + src), halves(bench.dst + dst));
        [a, b, c, d, len]
    };
    let words = [&[99][..], copies.map(words_of).as_flattened()].concat();
    let segment = Segment { form: EACH, chunks: 3 * 256, words: 1, copies: 3, ..Segment::default() };
    let mut call = Call { early: 1, words, segments: vec![segment], blocks: 3, ..Call::default() };
    let expected = copied(&copies.map(|(dst, src, len)| (dst, src, len as usize)));
    bench.check(c"copy_768_single_2", &call, &expected);
    bench.check(c"copy_4352_2", &call, &expected);
    call.segments[0].chunks = 3 * 512;
    bench.check(c"copy_4352_4", &call, &expected);
    bench.refuses(c"copy_4352_2", &call, "a block each is 768 chunks");
    call.segments[0].chunks = 3 * 256;
    call.words[5] = 4090;
    bench.refuses(c"copy_4352_2", &call, "copy 0 has 4090 bytes, for a block of 4096");
    bench.give_up(&[]);
}

/// Parameters that no launch can have, with the finding for each.
#[test]
fn what_the_kernel_takes_for_granted_is_looked_at() {
    type Break = fn(&mut Call);
    let rows: [(Break, &str); 17] = [
        (|call| call.blocks = 2, "[2, 1, 1] blocks are launched where 1 have work"),
        (|call| call.segments[0].first_block = 1, "begins at another block than 0"),
        (|call| call.segments[0].chunks = 14, "its copies have 15 chunks together"),
        (|call| call.segments[0].row_chunks = 5, "its copies have 25 chunks together"),
        (|call| call.segments[0].magic -= 0x100_0000, "chunk 3 is taken to be of copy Some(0)"),
        (|call| call.segments[0].shift = 1, "chunk 2 is taken to be of copy Some(1)"),
        (|call| call.segments[0].words = 2, "word 5 is used where there are 5"),
        (|call| call.segments[0].bytes = 46, "does not fit into its chunks"),
        (|call| call.segments[0].copies = 0, "there is nothing to copy"),
        (|call| call.segments[0].form = 7, "there is no such form"),
        (|call| call.segments.clear(), "there are no segments"),
        (|call| call.shared = 50_000, "50000 bytes of shared memory"),
        (|call| call.fetchers = 1, "a table is named beside words in the parameters"),
        (|call| call.table = 64, "a table is named beside words in the parameters"),
        (|call| call.words = vec![0; 1100], "do not fit into a parameter"),
        (
            |call| (call.segments[0].form, call.words) = (RAGGED, vec![16; 15]),
            "copy 0 begins with chunk 1 instead of 0",
        ),
        (|call| call.segments[0].chunks = 0, "there is nothing to copy"),
    ];
    let bench = Bench::new();
    for (change, words) in rows {
        let mut call = bench.rows();
        change(&mut call);
        bench.refuses(c"copy_4352_2", &call, words);
    }
    // Rows at odd addresses are not for the plain kernels.
    bench.refuses(c"copy_4352_plain_2", &bench.rows(), "is not plain");
    // Two segments are not for the kernels that read the first one only.
    let mut two = bench.rows();
    two.segments.push(Segment { first_block: 1, ..two.segments[0] });
    bench.refuses(c"copy_768_single_2", &two, "this kernel sees one of 2 segments");
    two.blocks = 2;
    two.starts = Some([2, 3, 3, 3]);
    bench.refuses(c"copy_4352_2", &two, "the head says that it begins at block Some(2)");
    two.starts = Some([1, 1, 2, 2]);
    bench.refuses(c"copy_4352_2", &two, "blocks are sent to no segment");
    assert!(bench.raw.read(bench.dst, BYTES, bench.stream) == copied(&[]), "nothing was copied");
    bench.give_up(&[]);
}

#[test]
fn copies_that_overlap_or_go_nowhere_are_noticed() {
    let bench = Bench::new();
    let mut call = bench.rows();
    call.segments[0].dst_pitch = 19;
    assert_eq!(bench.launch(c"copy_4352_2", &call), OK);
    bench.found("twice in one launch");
    call = bench.rows();
    call.segments[0].dst = bench.src as u64 + 10;
    assert_eq!(bench.launch(c"copy_4352_2", &call), OK);
    bench.found("reads and writes at");
    bench.raw.synchronize(bench.stream);
    // A kernel cannot reach plain host memory.
    let plain = [0_u8; 256];
    call = bench.rows();
    call.segments[0].src = plain.as_ptr() as u64;
    assert_eq!(bench.launch(c"copy_4352_2", &call), OK);
    // SAFETY: it is a stream.
    assert_eq!(unsafe { (bench.raw.api.cuStreamSynchronize)(bench.stream) }, ILLEGAL_ADDRESS);
    bench.give_up(&[]);
}

/// 5 bytes to place 9 and 8 to place 40, a block each.
fn own(bench: &Bench) -> Call {
    let halves = |address: usize| [address as u32, (address as u64 >> 32) as u32];
    let ([a, b], [c, d]) = (halves(bench.dst + 9), halves(bench.dst + 40));
    let bytes = [0x0403_0201, 0xffff_ff05, 0x0908_0706, 0x0d0c_0b0a];
    let words = [&[77, a, b, 8, 5, c, d, 10, 8][..], &bytes].concat();
    let segment = Segment { form: OWN, chunks: 512, words: 1, copies: 2, ..Segment::default() };
    Call { early: 1, words, segments: vec![segment], blocks: 2, ..Call::default() }
}
