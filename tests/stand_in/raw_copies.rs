//! The twin of the copy kernels, launched with parameters that are laid out by hand: what it copies, and what it finds wrong.

use std::{
    ffi::{CStr, CString},
    ptr, thread,
    time::Duration,
};

use super::{ILLEGAL_ADDRESS, INVALID_VALUE, NOT_FOUND, OK, Raw, client::Launch, made};

const PTX: &str = include_str!("../../src/device/cuda/kernels/copy_sm90.ptx");

const ROWS: u32 = 0;
const ROWS_16: u32 = 1;
const PAIRS: u32 = 2;
const RAGGED: u32 = 3;
const WIDE: u32 = 4;
const OWN: u32 = 5;

/// `struct Segment` of copy.cu.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    src: u64,
    dst: u64,
    src_pitch: u64,
    dst_pitch: u64,
    bytes: u64,
    form: u32,
    first_block: u32,
    chunks: u32,
    row_chunks: u32,
    magic: u32,
    shift: u32,
    words: u32,
    old: u32,
    second: u64,
    copies: u32,
    owners: u32,
    staged: u32,
}

/// A launch: `struct Head` of copy.cu, the words, the segments, and the shape.
#[derive(Clone, Debug, Default)]
struct Call {
    fetchers: u32,
    early: u32,
    epoch: u32,
    table: u64,
    fetched: u64,
    pieces: u32,
    words: Vec<u32>,
    segments: Vec<Segment>,
    blocks: u32,
    shared: u32,
}

impl Call {
    /// The parameter, of `bytes` bytes.
    fn parameter(&self, bytes: usize) -> Vec<u8> {
        let at = self.words.len().next_multiple_of(2) as u32;
        let mut out = Vec::new();
        let mut put = |numbers: &[u32]| numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        let halves = |number: u64| [number as u32, (number >> 32) as u32];
        put(&[self.segments.len() as u32, self.fetchers, self.early, self.epoch]);
        put(&halves(self.table));
        put(&halves(self.fetched));
        put(&[self.pieces, at]);
        put(&self.words);
        if self.words.len() % 2 == 1 {
            put(&[0xdead_beef]);
        }
        for s in &self.segments {
            [s.src, s.dst, s.src_pitch, s.dst_pitch, s.bytes].iter().for_each(|number| put(&halves(*number)));
            put(&[s.form, s.first_block, s.chunks, s.row_chunks, s.magic, s.shift, s.words, s.old]);
            put(&halves(s.second));
            put(&[s.copies, s.owners, s.staged, 0]);
        }
        assert!(out.len() <= bytes, "too much for the parameter");
        out.resize(bytes, 0xa5);
        out
    }
}

/// A driver with the copy kernels loaded, a stream, and memory with known bytes.
struct Bench {
    raw: Raw,
    module: usize,
    stream: usize,
    src: usize,
    dst: usize,
}

const BYTES: usize = 1 << 16;
const POISON: u8 = 0xEE;

fn source() -> Vec<u8> {
    (0..BYTES).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
}

impl Bench {
    fn new() -> Bench {
        let raw = Raw::new();
        let ptx = CString::new(PTX).unwrap();
        let module = made!(|out| (raw.api.cuModuleLoadData)(out, ptx.as_ptr()));
        let stream = raw.stream();
        let (src, dst) = (raw.alloc(BYTES, stream), raw.alloc(BYTES, stream));
        raw.upload(src, &source(), stream);
        raw.upload(dst, &[POISON; BYTES], stream);
        Bench { raw, module, stream, src, dst }
    }

    fn launch(&self, name: &CStr, call: &Call) -> u32 {
        let api = self.raw.api;
        let function = made!(|out| (api.cuModuleGetFunction)(out, self.module, name.as_ptr()));
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the places are valid for writes.
        assert_eq!(unsafe { (api.cuFuncGetParamInfo)(function, 0, &mut offset, &mut bytes) }, OK);
        let parameter = call.parameter(bytes);
        let params = [parameter.as_ptr().cast()];
        // SAFETY: the one parameter is of the kernel's size; what it names is there until the stream is waited for.
        unsafe {
            let (blocks, shared) = (call.blocks, call.shared);
            (api.cuLaunchKernel)(function, blocks, 1, 1, 128, 1, 1, shared, self.stream, params.as_ptr(), ptr::null())
        }
    }

    /// Launches, and looks at what the destination holds then.
    #[track_caller]
    fn check(&self, name: &CStr, call: &Call, expected: &[u8]) {
        assert_eq!(self.launch(name, call), OK, "{:?}", self.raw.control.report().findings);
        assert!(self.raw.read(self.dst, BYTES, self.stream) == expected);
    }

    /// The findings so far, with what is not the twin's.
    fn findings(&self) -> Vec<String> {
        self.raw.control.report().findings
    }

    /// Page-locked memory with `words`, and with 0 up to `room` of them.
    fn table(&self, words: &[u32], room: usize) -> *mut u32 {
        let memory = made!(|out| (self.raw.api.cuMemHostAlloc)(out, room * 4, 0)).cast::<u32>();
        for i in 0..room {
            // SAFETY: the memory has room for so many words.
            unsafe { memory.add(i).write(words.get(i).copied().unwrap_or(0)) };
        }
        memory
    }

    /// Gives everything back and sees that nothing else was found.
    fn end(self, tables: &[*mut u32]) {
        self.raw.free(self.src, self.stream);
        self.raw.free(self.dst, self.stream);
        self.raw.synchronize(self.stream);
        // SAFETY: nobody uses the tables any more.
        tables.iter().for_each(|table| assert_eq!(unsafe { (self.raw.api.cuMemFreeHost)(table.cast()) }, OK));
        self.raw.destroy(self.stream);
        // SAFETY: nobody uses the module any more.
        assert_eq!(unsafe { (self.raw.api.cuModuleUnload)(self.module) }, OK);
        self.raw.end();
    }

    /// The end of a test that has found what it looked for: everything on the device is forgotten.
    fn give_up(self, tables: &[*mut u32]) {
        self.raw.control.reset();
        // SAFETY: nobody uses the tables any more.
        tables.iter().for_each(|table| assert_eq!(unsafe { (self.raw.api.cuMemFreeHost)(table.cast()) }, OK));
        self.raw.end();
    }

    /// Six rows of 20 bytes: rows 2, 0, 1, row 1 of the second source, nothing, and row 2 again, to odd places 32 bytes apart.
    fn rows(&self) -> Call {
        let segment = Segment {
            src: self.src as u64 + 5,
            dst: self.dst as u64 + 3,
            src_pitch: 20,
            dst_pitch: 33,
            bytes: 20,
            form: ROWS,
            chunks: 18,
            row_chunks: 3,
            // Times (2^33 + 1) / 3, right by 31 + 2.
            magic: 0xAAAA_AAAB,
            shift: 2,
            old: 3,
            second: 0,
            copies: 5,
            ..Segment::default()
        };
        let segment = Segment { chunks: 15, ..segment };
        Call { early: 1, words: vec![2, 0, 1, 7, 2], segments: vec![segment], blocks: 1, ..Call::default() }
    }
}

/// What the destination holds after copies of `(to, from, bytes)`.
fn copied(copies: &[(usize, usize, usize)]) -> Vec<u8> {
    let (mut out, source) = (vec![POISON; BYTES], source());
    for &(to, from, bytes) in copies {
        out[to..to + bytes].copy_from_slice(&source[from..from + bytes]);
    }
    out
}

#[test]
fn the_twin_is_there_if_it_shall_be() {
    let bench = Bench::new();
    let mut function = 0;
    // SAFETY: the place is valid for a write, the module is loaded.
    let mut find =
        |name: &CStr| unsafe { (bench.raw.api.cuModuleGetFunction)(&mut function, bench.module, name.as_ptr()) };
    for name in [c"copy_4k_plain_2", c"copy_8k_2", c"copy_16k_4", c"copy_table_plain_2", c"copy_table_4"] {
        assert_eq!(find(name), OK);
    }
    assert_eq!((find(c"copy_4k_3"), find(c"copy_3k_2"), find(c"copy_table")), (NOT_FOUND, NOT_FOUND, NOT_FOUND));
    bench.raw.control.set("copy_kernels", 0);
    assert_eq!(find(c"copy_4k_plain_2"), NOT_FOUND);
    bench.end(&[]);
}

#[test]
fn rows_of_two_sources() {
    let bench = Bench::new();
    let mut call = bench.rows();
    let first = [(3, 45, 20), (36, 5, 20), (69, 25, 20), (135, 45, 20)];
    // Row 7 is none of the first source's three, and there is no second one.
    bench.check(c"copy_4k_2", &call, &copied(&first));
    // With one, it is its row 4.
    call.segments[0].second = bench.src as u64 + 1000;
    bench.check(c"copy_16k_4", &call, &copied(&[&first[..], &[(102, 1080, 20)]].concat()));
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
    bench.check(c"copy_4k_plain_2", &call, &copied(&copies));
    bench.end(&[]);
}

#[test]
fn lengths_that_differ() {
    let bench = Bench::new();
    let (src, dst) = (bench.src as u64, bench.dst as u64);
    // 7 bytes to place 10, across two groups of 16: chunks 0 and 1, which have 15 bytes too much at their end. 40 bytes to
    // place 64: chunks 2 to 4, 8 too much.
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
    bench.check(c"copy_8k_2", &call, &expected);
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let ends = [src + 77, src + 1001, dst + 10, dst + 64].map(halves).concat();
    call.words = [&[15, 2 << 4 | 8][..], &ends].concat();
    call.segments[0].form = WIDE;
    bench.check(c"copy_8k_4", &call, &expected);
    // In a table there is in front who owns each block: copy 0 the only one, of which copy 1 is the last.
    let words = [&[0, 1][..], &call.words].concat();
    let table = bench.table(&words, 1024);
    let segment = Segment { words: 2, ..call.segments[0] };
    let by_table = Call { table: table as u64, words: vec![], segments: vec![segment], ..call };
    bench.check(c"copy_table_2", &by_table, &expected);
    bench.end(&[table]);
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

#[test]
fn bytes_in_the_parameters() {
    let bench = Bench::new();
    let mut expected = copied(&[]);
    expected[9..14].copy_from_slice(&[1, 2, 3, 4, 5]);
    expected[40..48].copy_from_slice(&[6, 7, 8, 9, 10, 11, 12, 13]);
    bench.check(c"copy_1k_2", &own(&bench), &expected);
    // In the larger kernel blocks have twice as many chunks.
    let mut call = own(&bench);
    call.segments[0].chunks = 1024;
    bench.check(c"copy_8k_4", &call, &expected);
    bench.end(&[]);
}

#[test]
fn what_bytes_in_the_parameters_cannot_be() {
    type Break = fn(&mut Call);
    let rows: [(Break, &CStr, &str); 6] = [
        (|call| call.segments[0].chunks = 2, c"copy_1k_2", "a block each is 512 chunks"),
        (|_| (), c"copy_1k_plain_2", "bytes are where this kernel takes none from"),
        (|call| call.words[4] = 0, c"copy_1k_2", "copy 0 has no bytes"),
        (|call| call.words[3] = 7, c"copy_1k_2", "the bytes of copy 0 begin with word 7 instead of 8"),
        (|call| call.words[4] = 9, c"copy_1k_2", "the bytes of copy 1 begin with word 10 instead of 11"),
        (|call| call.words[8] = 13, c"copy_1k_2", "word 14 is used where there are 14"),
    ];
    let bench = Bench::new();
    for (change, name, words) in rows {
        let mut call = own(&bench);
        change(&mut call);
        assert_eq!(bench.launch(name, &call), INVALID_VALUE, "{words}");
        let findings = bench.findings();
        assert!(findings.last().unwrap().contains(words), "{words}: {findings:#?}");
    }
    assert!(bench.raw.read(bench.dst, BYTES, bench.stream) == copied(&[]), "nothing was copied");
    bench.give_up(&[]);
}

/// What no launch can mean, with what is said of it.
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
        (|call| call.segments[0].words = 2, "word 6 is used where there are 6"),
        (|call| call.segments[0].bytes = 46, "does not fit into its chunks"),
        (|call| call.segments[0].copies = 0, "there is nothing to copy"),
        (|call| call.segments[0].form = 6, "there is no such form"),
        (|call| call.segments.clear(), "there are no segments"),
        (|call| call.shared = 50_000, "50000 bytes of shared memory"),
        (|call| call.fetchers = 1, "a table is named beside words in the parameters"),
        (|call| call.table = 64, "a table is named beside words in the parameters"),
        (|call| call.words = vec![0; 1000], "do not fit into a parameter"),
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
        // What does not fit is cut off by the parameter.
        let answer = if call.words.len() == 1000 { bench.launch_cut(&call) } else { bench.launch(c"copy_4k_2", &call) };
        let findings = bench.findings();
        assert_eq!(answer, INVALID_VALUE, "{words}");
        assert!(findings.last().unwrap().contains(words), "{words}: {findings:#?}");
    }
    // Rows at odd places are not for the plain kernels.
    assert_eq!(bench.launch(c"copy_4k_plain_2", &bench.rows()), INVALID_VALUE);
    assert!(bench.findings().last().unwrap().contains("is not plain"));
    assert!(bench.raw.read(bench.dst, BYTES, bench.stream) == copied(&[]), "nothing was copied");
    bench.give_up(&[]);
}

impl Bench {
    /// Launches with segments that lie behind the end of the parameter.
    fn launch_cut(&self, call: &Call) -> u32 {
        let function = made!(|out| (self.raw.api.cuModuleGetFunction)(out, self.module, c"copy_4k_2".as_ptr()));
        let parameter = call.parameter(16384);
        let params = [parameter.as_ptr().cast()];
        // SAFETY: the parameter is larger than the kernel's.
        unsafe {
            (self.raw.api.cuLaunchKernel)(function, 1, 1, 1, 128, 1, 1, 0, self.stream, params.as_ptr(), ptr::null())
        }
    }

    /// The rows by a table in page-locked memory, fetched into the last part of the source.
    fn fetched(&self, table: *mut u32, epoch: u32) -> Call {
        let mut call = self.rows();
        call.segments[0].first_block = 1;
        let fetched = (self.src + BYTES - 16384) as u64;
        Call { fetchers: 1, epoch, table: table as u64, fetched, pieces: 1, words: vec![], blocks: 2, ..call }
    }

    /// Keeps the stream busy for a while.
    fn hold(&self) {
        // SAFETY: it uses no memory.
        unsafe { self.raw.control.register("hold_copies", &[], hold) };
        let module = made!(|out| (self.raw.api.cuModuleLoadData)(out, c"// hold_copies".as_ptr()));
        let function = made!(|out| (self.raw.api.cuModuleGetFunction)(out, module, c"hold_copies".as_ptr()));
        // SAFETY: it has no parameters.
        let answer = unsafe {
            (self.raw.api.cuLaunchKernel)(function, 1, 1, 1, 1, 1, 1, 0, self.stream, ptr::null(), ptr::null())
        };
        assert_eq!(answer, OK);
        // SAFETY: nobody uses its function any more.
        assert_eq!(unsafe { (self.raw.api.cuModuleUnload)(module) }, OK);
    }
}

unsafe extern "C" fn hold(_: *const Launch) -> u32 {
    thread::sleep(Duration::from_millis(50));
    0
}

#[test]
fn a_table_that_is_fetched() {
    let bench = Bench::new();
    let table = bench.table(&[2, 0, 1, 7, 2], 1024);
    let expected = copied(&[(3, 45, 20), (36, 5, 20), (69, 25, 20), (135, 45, 20)]);
    bench.check(c"copy_table_2", &bench.fetched(table, 4), &expected);
    let place = bench.raw.read(bench.src + BYTES - 16384, 16, bench.stream);
    assert_eq!(place, [2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0], "each word with the number of the launch");
    assert_eq!(bench.findings(), [""; 0]);
    // The next launch may begin while this one is at work.
    bench.check(c"copy_table_2", &bench.fetched(table, 5), &expected);
    assert!(bench.findings().last().unwrap().contains("where the launch before may still read its own"));
    // And once there was one in between, which has no table, with a number that is there already.
    assert_eq!(bench.launch(c"copy_4k_2", &bench.rows()), OK);
    bench.check(c"copy_table_2", &bench.fetched(table, 5), &expected);
    let findings = bench.findings();
    assert!(findings.len() == 2 && findings[1].contains("which older words there have too"), "{findings:#?}");
    bench.give_up(&[table]);
}

#[test]
fn a_table_that_is_changed_too_early() {
    let bench = Bench::new();
    let table = bench.table(&[2, 0, 1, 7, 2], 1024);
    bench.hold();
    assert_eq!(bench.launch(c"copy_table_2", &bench.fetched(table, 4)), OK);
    // SAFETY: the table has more words; that the launch has not read it yet is what is found.
    unsafe { table.write_volatile(1) };
    bench.raw.synchronize(bench.stream);
    let findings = bench.findings();
    assert!(
        findings.len() == 1 && findings[0].contains("changed before the launch that reads it has begun"),
        "{findings:#?}"
    );
    bench.give_up(&[table]);
}

#[test]
fn a_table_that_is_freed_too_early() {
    let bench = Bench::new();
    let table = bench.table(&[2, 0, 1, 7, 2], 1024);
    bench.hold();
    assert_eq!(bench.launch(c"copy_table_2", &bench.fetched(table, 4)), OK);
    // SAFETY: that it is still in use is what is found; the memory stays until the stream has passed.
    assert_eq!(unsafe { (bench.raw.api.cuMemFreeHost)(table.cast()) }, OK);
    let findings = bench.findings();
    assert!(findings.iter().any(|words| words.contains("cuMemFreeHost")), "{findings:#?}");
    bench.give_up(&[]);
}

#[test]
fn tables_that_no_kernel_can_fetch() {
    type Break = fn(&mut Call);
    let rows: [(Break, &str); 8] = [
        (|call| call.epoch = 0, "has no number"),
        (|call| call.fetchers = 2, "2 blocks fetch 1 pieces"),
        (|call| call.fetchers = 0, "0 blocks fetch 1 pieces"),
        (|call| call.table += 4, "from or to an odd address"),
        (|call| call.fetched += 4, "from or to an odd address"),
        (|call| call.segments[0].words = 508, "word 512 is used where there are 512"),
        (|call| call.segments[0].first_block = 0, "begins at another block than 1"),
        (|call| call.fetched = 0, "blocks fetch from nowhere to nowhere"),
    ];
    let bench = Bench::new();
    let table = bench.table(&[0; 1024], 1024);
    for (change, words) in rows {
        let mut call = bench.fetched(table, 1);
        change(&mut call);
        assert_eq!(bench.launch(c"copy_table_2", &call), INVALID_VALUE, "{words}");
        let findings = bench.findings();
        assert!(findings.last().unwrap().contains(words), "{words}: {findings:#?}");
    }
    let pageable = Call { table: ptr::from_ref(&[0_u128; 256]).addr() as u64, ..bench.fetched(table, 1) };
    assert_eq!(bench.launch(c"copy_table_2", &pageable), INVALID_VALUE);
    assert!(bench.findings().last().unwrap().contains("is not in page-locked memory"));
    let early = Call { table: bench.src as u64, ..bench.fetched(table, 1) };
    assert_eq!(bench.launch(c"copy_table_2", &early), INVALID_VALUE);
    assert!(bench.findings().last().unwrap().contains("before the work that may write it has ended"));
    bench.give_up(&[table]);
}

#[test]
fn who_owns_a_block_is_looked_at() {
    let bench = Bench::new();
    let (src, dst) = (bench.src as u64, bench.dst as u64);
    // 3 copies of 300 chunks each: blocks 0 and 1 of 512 begin with copies 0 and 1, and the last is copy 2.
    let ragged = Segment {
        src,
        dst,
        src_pitch: 16,
        dst_pitch: 16,
        form: RAGGED,
        chunks: 900,
        copies: 3,
        words: 3,
        staged: 2,
        ..Segment::default()
    };
    let call = |table: *mut u32, staged: u32, shared: u32| {
        let segment = Segment { staged, ..ragged };
        Call { early: 1, table: table as u64, segments: vec![segment], blocks: 2, shared, ..Call::default() }
    };
    let words = |owners: [u32; 3]| [&owners[..], &[0, 300 << 4, 600 << 4, 7, 400, 1000, 0, 300, 600]].concat();
    let right = bench.table(&words([0, 1, 2]), 1024);
    let expected = copied(&[(0, 112, 4800), (4800, 6400, 4800), (9600, 16000, 4800)]);
    bench.check(c"copy_table_4", &call(right, 2, 44), &expected);
    assert_eq!(bench.findings(), [""; 0]);
    let mut tables = vec![right];
    let wrong = [
        ([1, 1, 2], 2, 44, "block 0 is told to begin with copy 1 instead of 0"),
        ([0, 2, 2], 3, 64, "block 0 is told to end with 2 instead of 1"),
        ([0, 1, 1], 2, 44, "block 1 is told to end with 1 instead of 2"),
        ([0, 1, 2], 1, 44, "block 0 stages 2 copies"),
        ([0, 1, 2], 2, 43, "block 0 stages 44 bytes in 43"),
    ];
    for (owners, staged, shared, words_of) in wrong {
        let table = bench.table(&words(owners), 1024);
        assert_eq!(bench.launch(c"copy_table_4", &call(table, staged, shared)), INVALID_VALUE, "{words_of}");
        let findings = bench.findings();
        assert!(findings.last().unwrap().contains(words_of), "{words_of}: {findings:#?}");
        tables.push(table);
    }
    bench.give_up(&tables);
}

/// Row numbers in device memory are read when the launch's turn comes, and everybody who writes them must come before.
#[test]
fn rows_by_numbers_on_the_device() {
    let bench = Bench::new();
    let numbers = bench.raw.alloc(64, bench.stream);
    let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    bench.raw.upload(numbers, &bytes(&[0, 0, 0, 0, 0]), bench.stream);
    bench.hold();
    let later = bytes(&[2, 0, 1, 3, 2]);
    let api = bench.raw.api;
    // SAFETY: the source lives until the stream is waited for.
    assert_eq!(unsafe { (api.cuMemcpyHtoDAsync_v2)(numbers, later.as_ptr(), later.len(), bench.stream) }, OK);
    let mut call = Call { early: 0, table: numbers as u64, words: vec![], ..bench.rows() };
    call.segments[0].second = bench.src as u64 + 1000;
    let expected = copied(&[(3, 45, 20), (36, 5, 20), (69, 25, 20), (102, 1000, 20), (135, 45, 20)]);
    bench.check(c"copy_table_2", &call, &expected);
    assert_eq!(bench.findings(), [""; 0]);
    // Another stream writes the numbers, a row of the first source, one of the second, or a destination.
    let places = [(numbers, 0), (bench.src, 5), (bench.src, 1000), (bench.dst, 3)];
    for (memory, first) in places {
        let at = memory + first;
        assert_eq!(bench.launch(c"copy_table_2", &call), OK);
        let other = bench.raw.stream();
        // SAFETY: that nothing orders the two is what is found.
        assert_eq!(unsafe { (api.cuMemsetD8Async)(at, 0, 4, other) }, OK);
        bench.raw.synchronize(other);
        bench.raw.synchronize(bench.stream);
        let findings = bench.findings();
        let found = |words: &String| {
            words.contains(&format!("writes bytes {first}..{} of", first + 4))
                && words.contains(&format!("{memory:#x}, which"))
        };
        assert!(findings.last().is_some_and(found), "{at:#x}: {findings:#?}");
        bench.raw.destroy(other);
    }
    bench.give_up(&[]);
}

#[test]
fn copies_that_overlap_or_go_nowhere_are_noticed() {
    let bench = Bench::new();
    let mut call = bench.rows();
    call.segments[0].dst_pitch = 19;
    assert_eq!(bench.launch(c"copy_4k_2", &call), OK);
    assert!(bench.findings().last().unwrap().contains("twice in one launch"));
    call = bench.rows();
    call.segments[0].dst = bench.src as u64 + 10;
    assert_eq!(bench.launch(c"copy_4k_2", &call), OK);
    assert!(bench.findings().last().unwrap().contains("reads and writes at"));
    bench.raw.synchronize(bench.stream);
    // Plain host memory is none that a kernel can reach.
    let plain = [0_u8; 256];
    call = bench.rows();
    call.segments[0].src = plain.as_ptr() as u64;
    assert_eq!(bench.launch(c"copy_4k_2", &call), OK);
    // SAFETY: it is a stream.
    assert_eq!(unsafe { (bench.raw.api.cuStreamSynchronize)(bench.stream) }, ILLEGAL_ADDRESS);
    bench.give_up(&[]);
}
