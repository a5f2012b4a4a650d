//! The effect of each threshold of the copy tuning: the driver calls on both sides of it, and the
//! same bytes.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Buffer, Error, Stream, View,
    cuda::{Batching, CopyTuning, Cuda, Device},
    location::Host,
};
use tidelock_test_support::{
    memory::{get, put, staged},
    stand_in::{self, Control},
};

use crate::every_second;

const LAUNCH: &str = "cuLaunchKernelEx";

/// Runs `test` on a stream of a device with the default copy tuning, changed by `change`.
fn with<R>(change: impl FnOnce(&mut CopyTuning), test: impl for<'s> FnOnce(&Control, Stream<Cuda<'s>>) -> R) -> R {
    let control = stand_in::load();
    let mut copy_tuning = CopyTuning::default();
    change(&mut copy_tuning);
    let device = Device::open(0).unwrap().with_copy_tuning(copy_tuning);
    assert_eq!(device.copy_tuning(), copy_tuning);
    let answer = device.stream(|stream, _| test(&control, stream)).unwrap();
    control.report().assert_clean();
    answer
}

/// The calls of two copies of `bytes` bytes each from pinned memory, and of `own` copies from plain
/// host memory, at the second time, after other work.
fn up(control: &Control, stream: &Stream<Cuda<'_>>, bytes: usize, own: usize) -> Vec<String> {
    let ctx = stream.ctx().with_pool();
    let values: Vec<u8> = (0..4 * bytes).map(|i| (i % 251) as u8).collect();
    let pinned = staged(&ctx, &values);
    let host = Buffer::<u8, Host>::from_slice(&values).unwrap();
    let mut target = ctx.zeros::<u8>(4 * bytes).unwrap();
    let mut batch = BatchCopy::new();
    let mut submit = || {
        let pieces = target.view_mut().chunks_exact(NonZero::new(2 * bytes).unwrap());
        let (calls, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                for (i, to) in pieces.enumerate() {
                    let (first, second) = to.split_at(bytes).unwrap();
                    let (at, next) = (2 * i * bytes, (2 * i + 1) * bytes);
                    batch.copy(pinned.view().slice(at..next)?, first)?;
                    if i < own {
                        batch.copy(host.view().slice(next..next + bytes)?, second)?;
                    }
                }
                Ok(())
            })
        });
        answer.unwrap();
        calls
    };
    submit();
    let calls = submit();
    let expected = |i: usize| if (i / bytes).is_multiple_of(2) || i / bytes / 2 < own { values[i] } else { 0 };
    assert_eq!(get(&ctx, target.view()), (0..4 * bytes).map(expected).collect::<Vec<_>>());
    calls
}

#[test]
fn copies_over_pcie_are_the_copy_engines_from_some_length_on() {
    let calls = |bytes, from| {
        with(|copy_tuning| copy_tuning.copy_engine = from, |control, stream| up(control, &stream, bytes, 0))
    };
    let asks = ["cuPointerGetAttribute"; 5];
    assert_eq!(calls(3000, 256 << 10), [LAUNCH]);
    assert_eq!(calls(3000, 5000), [LAUNCH]);
    let by_engines = calls(3000, 3000);
    let copies: Vec<_> = by_engines.iter().filter(|call| !asks.contains(&call.as_str())).collect();
    assert_eq!(copies, ["cuMemcpyAsync"; 2]);
    assert!(calls(256 << 10, 256 << 10).ends_with(&["cuMemcpyAsync".to_owned()]));
    assert_eq!(calls(256 << 10, usize::MAX), [LAUNCH]);
}

#[test]
fn plain_host_memory_goes_along_up_to_some_bytes() {
    let calls = |bytes, own, most| {
        let change = |copy_tuning: &mut CopyTuning| (copy_tuning.staged, copy_tuning.payload) = (most, 0);
        with(change, |control, stream| up(control, &stream, bytes, own))
    };
    let beside = [LAUNCH, "cuMemcpyBatchAsync_v2"];
    assert_eq!(calls(1000, 1, 1000), [LAUNCH]);
    assert_eq!(calls(1000, 1, 999), beside);
    assert_eq!(calls(1000, 2, 2000), [LAUNCH]);
    assert_eq!(calls(1000, 2, 1999), beside);
    assert_eq!(calls(1000, 1, 0), beside);
    // As many bytes as there is room for, whatever the tuning says.
    assert_eq!(calls(65_520, 1, usize::MAX), [LAUNCH]);
    assert_eq!(calls(65_537, 1, usize::MAX), beside);
}

#[test]
fn plain_host_memory_that_goes_along_may_change_at_once() {
    // One call for each quarter of the ring that is left, and none where the bytes are in the
    // parameters.
    for (payload, expected) in [(0, 12), (11, 12), (12, 0), (usize::MAX, 0)] {
        with(
            |copy_tuning| copy_tuning.payload = payload,
            |control, stream| {
                let ctx = stream.ctx().with_pool();
                let mut host = Buffer::<u32, Host>::from_slice(&[0; 3]).unwrap();
                let mut targets: Vec<_> = (0..100).map(|_| put(&ctx, &[u32::MAX; 3])).collect();
                let mut batch = BatchCopy::new();
                let (calls, ()) = control.calls_of(|| {
                    // More than three times around the ring, whose quarters have eight slots.
                    for (i, target) in (0..).zip(&mut targets) {
                        host.copy_from_slice(&[i, i + 1, i + 2]);
                        let (one, two) = target.view_mut().split_at(1).unwrap();
                        let answer = batch.scope(&ctx, |batch| {
                            batch.copy(host.view().slice(..1)?, one)?;
                            batch.copy(host.view().slice(1..)?, two)
                        });
                        answer.unwrap();
                    }
                });
                let count = |name: &str| calls.iter().filter(|call| *call == name).count();
                assert_eq!(count(LAUNCH) + count("cuGraphLaunch"), 100);
                assert_eq!(count("cuEventRecord"), expected, "{payload}");
                for (i, target) in (0..).zip(&targets) {
                    assert_eq!(get(&ctx, target.view()), [i, i + 1, i + 2]);
                }
            },
        );
    }
}

#[test]
fn a_few_bytes_of_plain_host_memory_are_in_the_parameters() {
    // The bytes have no other way: page-locked memory cannot be allocated.
    let calls = |bytes: usize, payload| {
        let change = |copy_tuning: &mut CopyTuning| (copy_tuning.staged, copy_tuning.payload) = (0, payload);
        with(change, |control, stream| {
            let ctx = stream.ctx().with_pool();
            let source = put(&ctx, &(0..64).collect::<Vec<u8>>());
            let mut host: Vec<u8> = (0..bytes).map(|i| (i * 7 + 1) as u8).collect();
            let expected: Vec<u8> = (32..64).chain(1..20).chain([0]).chain(host.iter().copied()).collect();
            let mut target = ctx.zeros::<u8>(expected.len()).unwrap();
            let mut batch = BatchCopy::new();
            let (calls, answer) = control.calls_of(|| {
                let (one, rest) = target.view_mut().split_at(32)?;
                let (two, rest) = rest.split_at(19)?;
                let (_, three) = rest.split_at(1)?;
                let (own, behind) = three.split_at(bytes / 2)?;
                batch.scope(&ctx, |batch| {
                    batch.copy(source.view().slice(32..)?, one)?;
                    batch.copy(View::from(&host[..bytes / 2]), own)?;
                    batch.copy(source.view().slice(1..20)?, two)?;
                    batch.copy(View::from(&host[bytes / 2..]), behind)
                })
            });
            answer.unwrap();
            host.fill(0);
            assert_eq!(get(&ctx, target.view()), expected);
            calls
        })
    };
    let beside = [LAUNCH, "cuMemcpyBatchAsync_v2"];
    // The first launch of a context looks for the kernels.
    calls(64, 64);
    assert_eq!(calls(64, 64), [LAUNCH]);
    assert_eq!(calls(64, 63), beside);
    assert_eq!(calls(64, 0), beside);
    assert_eq!(calls(2, usize::MAX), [LAUNCH]);
    assert_eq!(calls(1024, usize::MAX), [LAUNCH]);
    assert_eq!(calls(1025, usize::MAX), beside);
}

#[test]
fn a_large_batch_on_an_idle_stream_is_launched_in_two_parts() {
    let calls = |part, idle| {
        with(
            |copy_tuning| copy_tuning.part = part,
            |control, stream| {
                let source = put(&stream.ctx().with_pool(), &(0..16_384).collect::<Vec<u32>>());
                let mut target = stream.ctx().with_pool().zeros::<u32>(16_384).unwrap();
                let mut batch = BatchCopy::new();
                let mut submit = || {
                    while idle && !stream.is_idle().unwrap() {}
                    // Pairs of pieces of eight and four bytes that are exchanged, 32 bytes apart.
                    let to = target.view_mut().chunks_exact(NonZero::new(8).unwrap());
                    let (calls, answer) = control.calls_of(|| {
                        let mut to = to.collect::<Vec<_>>();
                        to.chunks_mut(2).for_each(|pair| pair.reverse());
                        batch.scope(&stream.ctx(), |batch| {
                            for (i, to) in to.into_iter().enumerate() {
                                let len = 2 - i % 2;
                                batch.copy(source.view().slice(8 * i..8 * i + len)?, to.slice(..len)?)?;
                            }
                            Ok(())
                        })
                    });
                    answer.unwrap();
                    calls
                };
                submit();
                let calls = submit();
                let len = |piece: u32| 2 - (piece ^ 1) % 2;
                let expected = |i: u32| if i % 8 < len(i / 8) { i ^ 8 } else { 0 };
                let found = get(&stream.ctx().with_pool(), target.view());
                assert_eq!(found, (0..16_384).map(expected).collect::<Vec<_>>());
                calls
            },
        )
    };
    // 2048 copies of 6 bytes on average, of which the first part may be half.
    assert_eq!(calls(usize::MAX, true), [LAUNCH]);
    assert_eq!(calls(6145, true), [LAUNCH]);
    assert_eq!(calls(6144, true), [LAUNCH; 2]);
    assert_eq!(calls(6144, false), [LAUNCH]);
    assert_eq!(calls(0, true), [LAUNCH; 2]);
}

#[test]
fn descriptions_of_some_bytes_are_graphs() {
    let calls = |rows: usize, most| {
        with(
            |copy_tuning| copy_tuning.graph = most,
            |control, stream| {
                let ctx = stream.ctx().with_pool();
                let source = put(&ctx, &vec![7_u8; 2 * rows]);
                let mut target = ctx.zeros::<u8>(2 * rows).unwrap();
                let mut batch = BatchCopy::new();
                let mut submit = || {
                    while !stream.is_idle().unwrap() {}
                    let (from, to) = (source.view(), target.view_mut());
                    let (calls, answer) = control.calls_of(|| batch.scope(&ctx, |batch| every_second(batch, from, to)));
                    answer.unwrap();
                    calls
                };
                submit();
                submit()
            },
        )
    };
    // Of the parameters, 56 bytes are the head and 96 the segment; a word has two rows.
    assert_eq!(calls(564, 1280), ["cuGraphLaunch"]);
    assert_eq!(calls(566, 1280), [LAUNCH], "2304 bytes");
    assert_eq!(calls(566, 2304), ["cuGraphLaunch"]);
    assert_eq!(calls(2100, usize::MAX), ["cuGraphLaunch"]);
    assert_eq!(calls(2102, usize::MAX), [LAUNCH], "8448 bytes");
    assert_eq!(calls(2, 0), [LAUNCH]);
}

#[test]
fn they_are_measured_once() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let measured = device.calibrate().unwrap();
    assert!(measured.payload <= 1024, "{measured:?}");
    assert!(measured.graph <= 4352 && measured.staged <= 65_520 && measured.copy_engine >= 32 << 10, "{measured:?}");
    assert!(measured.part >= 1850 * 512, "{measured:?}");
    let (calls, again) = control.calls_of(|| Device::open(0).unwrap().calibrate().unwrap());
    assert_eq!(again, measured);
    assert!(calls.iter().all(|call| call.starts_with("cuDevice")), "{calls:?}");
    // There is nothing to measure.
    let mut own = CopyTuning::default();
    own.part = 1;
    let (calls, answer) =
        control.calls_of(|| device.clone().with_copy_tuning(own).with_batching(Batching::Loop).calibrate().unwrap());
    assert_eq!((answer, calls), (own, Vec::<String>::new()));
    control.report().assert_clean();
}

#[test]
fn what_cannot_be_measured_is_an_error_and_leaves_nothing() {
    let control = stand_in::load();
    // Another device than that of the test above, which may have been measured.
    let device = Device::open(1).unwrap();
    assert_eq!(device.copy_kernels(), tidelock::cuda::CopyKernels::Loaded);
    for (name, code) in [("cuMemAlloc_v2", 2), ("cuMemsetD8Async", 1), ("cuStreamCreateWithPriority", 2)] {
        for nth in [1, 2] {
            control.fail(stand_in::Fault { name, nth, onwards: false, releases: false, code });
            let answer = device.calibrate();
            let seen = control.disarm();
            match answer {
                Err(Error::Driver(error)) => assert_eq!((error.code.0, seen >= nth), (code, true)),
                Err(error) => panic!("{error}"),
                Ok(_) => return,
            }
            control.report().assert_clean();
        }
    }
}
