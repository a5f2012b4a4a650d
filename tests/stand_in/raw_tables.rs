//! The kernel model by tables, which it fetches from page-locked memory or reads on the device.

use std::{ptr, thread, time::Duration};
use tidelock_test_support::stand_in::Launch;

use super::{
    OK, made,
    raw_launch::{BYTES, Bench, Call, RAGGED, Segment, copied},
};

#[test]
fn a_table_that_is_fetched() {
    let bench = Bench::new();
    let table = bench.table(&[2, 0, 1, 7, 2], 1024);
    let expected = copied(&[(3, 45, 20), (36, 5, 20), (69, 25, 20), (135, 45, 20)]);
    bench.check(c"copy_table_2", &bench.fetched(table, 4), &expected);
    let place = bench.raw.read(bench.src + BYTES - 16384, 16, bench.stream);
    assert_eq!(place, [2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0], "each word with the number of the launch");
    assert_eq!(bench.findings(), [""; 0]);
    // The next launch may begin while this one is running.
    bench.check(c"copy_table_2", &bench.fetched(table, 5), &expected);
    bench.found("where the launch before may still read its own");
    // A launch in between has no table, and has a number that was used already.
    assert_eq!(bench.launch(c"copy_4352_2", &bench.rows()), OK);
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
    // SAFETY: the table has more words. The test is that the race with the launch, which has not
    // read it yet, is found.
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
    // SAFETY: the test is that the table's use is found. The memory stays until the stream has
    // passed the launch.
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
        bench.refuses(c"copy_table_2", &call, words);
    }
    let pageable = Call { table: ptr::from_ref(&[0_u128; 256]).addr() as u64, ..bench.fetched(table, 1) };
    bench.refuses(c"copy_table_2", &pageable, "is not in page-locked memory");
    let early = Call { table: bench.src as u64, ..bench.fetched(table, 1) };
    bench.refuses(c"copy_table_2", &early, "before the work that may write it has ended");
    bench.give_up(&[table]);
}

#[test]
fn who_owns_a_block_is_looked_at() {
    let bench = Bench::new();
    let (src, dst) = (bench.src as u64, bench.dst as u64);
    // 3 copies of 300 chunks each: blocks 0 and 1 of 512 begin with copies 0 and 1, and the last is
    // copy 2.
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
        ([1, 1, 2], 2, 44, "block 0 begins with copy 1 instead of 0"),
        ([0, 2, 2], 3, 64, "block 0 ends with 2 instead of 1"),
        ([0, 1, 1], 2, 44, "block 1 ends with 1 instead of 2"),
        ([0, 1, 2], 1, 44, "block 0 stages 2 copies"),
        ([0, 1, 2], 2, 43, "block 0 stages 44 bytes in 43"),
    ];
    for (owners, staged, shared, found) in wrong {
        let table = bench.table(&words(owners), 1024);
        bench.refuses(c"copy_table_4", &call(table, staged, shared), found);
        tables.push(table);
    }
    bench.give_up(&tables);
}

/// A launch reads row numbers in device memory when its turn in the stream comes. Every write of
/// them must be ordered before.
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
    // Another stream writes the numbers, a row of the first source, one of the second, or a
    // destination.
    let places = [(numbers, 0), (bench.src, 5), (bench.src, 1000), (bench.dst, 3)];
    for (memory, first) in places {
        let at = memory + first;
        assert_eq!(bench.launch(c"copy_table_2", &call), OK);
        let other = bench.raw.stream();
        // SAFETY: the test is that this race is found.
        assert_eq!(unsafe { (api.cuMemsetD8Async)(at, 0, 4, other) }, OK);
        bench.raw.synchronize(other);
        bench.raw.synchronize(bench.stream);
        let findings = bench.findings();
        let found = |words: &String| {
            words.contains(&format!("writes bytes {first}..{} of", first + 4))
                && words.contains(&format!("{memory:#x}, which"))
        };
        assert!(findings.iter().any(found), "{at:#x}: {findings:#?}");
        bench.raw.destroy(other);
    }
    bench.give_up(&[]);
}

impl Bench {
    /// The rows by a table in page-locked memory, which is fetched into the last part of the
    /// source.
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
        // SAFETY: the module's function is not used any more.
        assert_eq!(unsafe { (self.raw.api.cuModuleUnload)(module) }, OK);
    }
}

unsafe extern "C" fn hold(_: *const Launch) -> u32 {
    thread::sleep(Duration::from_millis(50));
    0
}
