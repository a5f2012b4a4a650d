//! A batch that the driver refuses: what its destinations hold then. Each row is what it was or
//! what was to be copied, rows of one submission are the same of the two, and the stream is as
//! useful as before.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Error, Result, View,
    cuda::{Batching, Device},
};
use tidelock_test_support::{
    memory::{get, noise, put},
    stand_in::{self, Control, Fault},
};

/// Words of a row, of which there are two more behind each that nothing is copied to.
const ROW: usize = 3;
const STRIDE: NonZero<usize> = NonZero::new(5).unwrap();
const BEFORE: u32 = 0xdead_beef;
const REFUSED: u32 = 2;

/// Refuses the `nth` call of `name` while a batch of `rows` rows, and `from_host` more out of plain
/// host memory, is submitted. Returns which of the rows are copied.
fn refused(control: &Control, batching: Batching, rows: usize, from_host: usize, name: &str, nth: u64) -> Vec<bool> {
    control.reset();
    let told = format!("{batching:?}, {rows} rows and {from_host} more, call {nth} of {name}");
    let device = Device::open(0).unwrap().with_batching(batching);
    let all = rows + from_host;
    let copied = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let values = noise(7, all * STRIDE.get());
        let source = put(&ctx, &values);
        let mut target = put(&ctx, &vec![BEFORE; all * STRIDE.get()]);
        let mut own = values[rows * STRIDE.get()..].to_vec();
        let mut batch = BatchCopy::new();
        let mut submit = |own: &[u32], target: &mut tidelock::Buffer<u32, _>| -> Result<()> {
            batch.scope(&ctx, |batch| {
                let mut targets = target.view_mut().chunks_exact(STRIDE);
                for from in source.view().chunks_exact(STRIDE).take(rows) {
                    batch.copy(from.slice(..ROW)?, targets.next().unwrap().slice(..ROW)?)?;
                }
                for (from, to) in own.chunks_exact(STRIDE.get()).zip(targets) {
                    batch.copy(View::from(&from[..ROW]), to.slice(..ROW)?)?;
                }
                Ok(())
            })
        };
        control.fail(Fault { name, nth, onwards: false, releases: false, code: REFUSED });
        let answer = submit(&own, &mut target);
        // Nobody reads it any more, whatever became of the batch.
        own.fill(1);
        control.disarm();
        let is_told =
            |error| matches!(error, Error::Driver(why) if why.code.0 == REFUSED && name.starts_with(why.call));
        let Err(error) = answer else { panic!("{told}: nothing was refused") };
        assert!(is_told(error), "{told}: {error}");
        let copied = get(&ctx, target.view());
        let rows = copied.chunks_exact(STRIDE.get()).zip(values.chunks_exact(STRIDE.get()));
        let rows = rows.map(|(found, expected)| {
            assert_eq!(found[ROW..], [BEFORE; 2], "{told}: beside a row");
            let is_copied = found[..ROW] == expected[..ROW];
            assert!(is_copied || found[..ROW] == [BEFORE; ROW], "{told}: {found:x?} for {expected:x?}");
            is_copied
        });
        let rows: Vec<_> = rows.collect();
        // The same again, with nothing in its way.
        submit(&values[values.len() - own.len()..], &mut target).unwrap();
        let found = get(&ctx, target.view());
        for (found, expected) in found.chunks_exact(STRIDE.get()).zip(values.chunks_exact(STRIDE.get())) {
            assert_eq!(found[..ROW], expected[..ROW], "{told}");
        }
        rows
    });
    control.report().assert_clean();
    copied.unwrap()
}

/// `count` times `is_copied`.
fn each(count: usize, is_copied: bool) -> Vec<bool> {
    vec![is_copied; count]
}

#[test]
fn a_batch_of_one_submission_is_refused_as_a_whole() {
    let control = stand_in::load();
    let launch = "cuLaunchKernelEx";
    // A few bytes of plain host memory go along with the launch.
    for (rows, from_host) in [(2, 0), (4096, 0), (4, 3)] {
        assert_eq!(refused(&control, Batching::Auto, rows, from_host, launch, 1), each(rows + from_host, false));
    }
    for (rows, from_host) in [(2, 0), (1, 1), (0, 5), (4000, 96)] {
        let found = refused(&control, Batching::Driver, rows, from_host, "cuMemcpyBatchAsync_v2", 1);
        assert_eq!(found, each(rows + from_host, false));
    }
}

#[test]
fn submissions_before_the_refused_one_are_carried_out() {
    let control = stand_in::load();
    // Chunks of 4096, of which the last one has all that is read during the call.
    for (nth, done) in [(1, 0), (2, 4096), (3, 8192)] {
        let found = refused(&control, Batching::Driver, 9000, 20, "cuMemcpyBatchAsync_v2", nth);
        assert_eq!(found, [each(done, true), each(9020 - done, false)].concat(), "{nth}");
    }
    for nth in 1..=7 {
        let found = refused(&control, Batching::Loop, 4, 3, "cuMemcpyAsync", nth);
        let done = usize::try_from(nth).unwrap() - 1;
        assert_eq!(found, [each(done, true), each(7 - done, false)].concat(), "{nth}");
    }
    // All were enqueued, and only the wait for plain host memory was refused, which is made again.
    assert_eq!(refused(&control, Batching::Loop, 4, 3, "cuStreamSynchronize", 1), each(7, true));
    // More of it is the driver's, after what the copy kernels do.
    assert_eq!(refused(&control, Batching::Auto, 4, 6000, "cuLaunchKernelEx", 1), each(6004, false));
    for (nth, done) in [(1, 4), (2, 4 + 4096)] {
        let found = refused(&control, Batching::Auto, 4, 6000, "cuMemcpyBatchAsync_v2", nth);
        assert_eq!(found, [each(done, true), each(6004 - done, false)].concat(), "{nth}");
    }
}

#[test]
fn launches_before_the_refused_one_are_carried_out() {
    let control = stand_in::load();
    let found = refused(&control, Batching::Auto, 70_000, 0, "cuLaunchKernelEx", 2);
    let done = found.iter().take_while(|is_copied| **is_copied).count();
    assert!((4096..70_000).contains(&done) && !found[done..].contains(&true), "{done} rows are copied");
}
