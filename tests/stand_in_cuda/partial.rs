//! A batch that the driver refuses: what its destinations hold afterwards. Each row is as it was or
//! copied, the rows of one submission are either all copied or all unchanged, and the stream is
//! usable.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Error, Result, View,
    cuda::{Batching, Device},
};
use tidelock_test_support::{
    memory::{get, noise, put},
    stand_in::{self, Control, Fault},
};

/// Words of a row. Two more words follow each, which no copy writes.
const ROW: usize = 3;
const STRIDE: NonZero<usize> = NonZero::new(5).unwrap();
const BEFORE: u32 = 0xdead_beef;
const REFUSED: u32 = 2;

/// Refuses the `nth` call of `name` while a batch is submitted that copies `on_device` rows of
/// device memory, and then `from_host` rows of plain host memory. Returns for each row whether it
/// is copied.
fn refused(
    control: &Control,
    batching: Batching,
    on_device: usize,
    from_host: usize,
    name: &str,
    nth: u64,
) -> Vec<bool> {
    control.reset();
    let case = format!("{batching:?}, {on_device} rows and {from_host} of the host, call {nth} of {name}");
    let device = Device::open(0).unwrap().with_batching(batching);
    let copied = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let words = (on_device + from_host) * STRIDE.get();
        let values = noise(7, words);
        let source = put(&ctx, &values);
        let mut target = put(&ctx, &vec![BEFORE; words]);
        let host_values = &values[on_device * STRIDE.get()..];
        let mut host_source = host_values.to_vec();
        let mut batch = BatchCopy::new();
        let mut submit = |host_source: &[u32], target: &mut tidelock::Buffer<u32, _>| -> Result<()> {
            batch.scope(&ctx, |batch| {
                let mut to = target.view_mut().chunks_exact(STRIDE);
                for from in source.view().chunks_exact(STRIDE).take(on_device) {
                    batch.copy(from.slice(..ROW)?, to.next().unwrap().slice(..ROW)?)?;
                }
                for (from, to) in host_source.chunks_exact(STRIDE.get()).zip(to) {
                    batch.copy(View::from(&from[..ROW]), to.slice(..ROW)?)?;
                }
                Ok(())
            })
        };

        control.fail(Fault { name, nth, onwards: false, releases: false, code: REFUSED });
        let answer = submit(&host_source, &mut target);
        control.disarm();
        // Host memory is not read after the call, whether or not the batch was refused.
        host_source.fill(1);

        let Err(error) = answer else { panic!("{case}: nothing was refused") };
        let is_refusal = matches!(error, Error::Driver(why) if why.code.0 == REFUSED && name.starts_with(why.call));
        assert!(is_refusal, "{case}: {error}");
        let found = get(&ctx, target.view());
        let pairs = found.chunks_exact(STRIDE.get()).zip(values.chunks_exact(STRIDE.get()));
        let copied: Vec<bool> = pairs
            .map(|(found, expected)| {
                assert_eq!(found[ROW..], [BEFORE; 2], "{case}: beside a row");
                let is_copied = found[..ROW] == expected[..ROW];
                assert!(is_copied || found[..ROW] == [BEFORE; ROW], "{case}: {found:x?} for {expected:x?}");
                is_copied
            })
            .collect();

        // The same batch again, without a failure.
        submit(host_values, &mut target).unwrap();
        let found = get(&ctx, target.view());
        for (found, expected) in found.chunks_exact(STRIDE.get()).zip(values.chunks_exact(STRIDE.get())) {
            assert_eq!(found[..ROW], expected[..ROW], "{case}");
        }
        copied
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
    // A few bytes of plain host memory are copied into the launch.
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
    // Chunks of 4096 copies. All sources that are read during the call are in the last chunk.
    for (nth, done) in [(1, 0), (2, 4096), (3, 8192)] {
        let found = refused(&control, Batching::Driver, 9000, 20, "cuMemcpyBatchAsync_v2", nth);
        assert_eq!(found, [each(done, true), each(9020 - done, false)].concat(), "{nth}");
    }
    for nth in 1..=7 {
        let found = refused(&control, Batching::Loop, 4, 3, "cuMemcpyAsync", nth);
        let done = usize::try_from(nth).unwrap() - 1;
        assert_eq!(found, [each(done, true), each(7 - done, false)].concat(), "{nth}");
    }
    // All copies are enqueued. Only the wait for plain host memory is refused, and made again.
    assert_eq!(refused(&control, Batching::Loop, 4, 3, "cuStreamSynchronize", 1), each(7, true));
    // Larger amounts of host memory are copied by the driver's batches, after the copy kernels.
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
