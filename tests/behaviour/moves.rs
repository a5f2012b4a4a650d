//! Row gathers as a whole: random programs, the edges, and what remains when something fails.

use proptest::test_runner::{Config, TestRunner};
use tidelock::{
    BatchCopy, Ctx, Error, Permutation, Result, Stack, View, ViewMut,
    batch::BatchStats,
    driver::Code,
    sim::{self, Fault, Sim},
    state::{DevicePermutation, RowNumbers},
    stream::StreamAlloc,
};

use super::{assert_clean, get, put, ramp, slow, width};
use tidelock_test_support::random_moves::{
    failing::attempt,
    programs::{Value, check, programs},
};

/// A device with the race detector on.
fn watched(seed: u64) -> sim::Device {
    sim::Device::new(sim::Options::default().seed(seed))
}

fn assert_in_order(device: &sim::Device) {
    assert_eq!(device.gpu().check(), Ok(()));
    assert_clean(device);
}

fn runs_random_programs<T: Value>(cases: u32) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let answer = runner.run(&programs(), |program| {
        let device = watched(program.len() as u64);
        device.stream(|mut stream, _env| check::<T, _>(&mut stream, &program, true)).unwrap().unwrap();
        assert_in_order(&device);
        Ok(())
    });
    answer.unwrap();
}

#[test]
fn random_programs_of_bytes() {
    runs_random_programs::<u8>(40);
}

#[test]
fn random_programs_of_words() {
    runs_random_programs::<u32>(40);
}

#[test]
fn random_programs_of_odd_elements() {
    runs_random_programs::<[u8; 3]>(40);
}

#[test]
fn random_programs_of_nothing() {
    runs_random_programs::<[u32; 0]>(20);
}

#[test]
fn every_call_may_fail() {
    let device = watched(3);
    let mut failed = 0;
    for onwards in [false, true] {
        for nth in 1.. {
            let engine = device.gpu();
            let fault = Fault { nth, onwards, call: None, code: Code::OUT_OF_MEMORY };
            let mut made = 0;
            let answer = device.stream(|mut stream, _env| {
                let disarm = || {
                    made = engine.calls_since_arming();
                    engine.disarm();
                };
                attempt(&mut stream, true, || engine.fail(fault), disarm)
            });
            match answer.unwrap() {
                Err(Error::Driver(error)) => assert_eq!(error.code, Code::OUT_OF_MEMORY),
                Err(Error::OutOfMemory { .. }) => {}
                answer => assert_eq!(answer, Ok(())),
            }
            failed += u64::from(nth <= made);
            if nth > made {
                break;
            }
        }
    }
    // An allocation, an upload, a launch for the numbers that exist on the device only, a
    // submission, a free; twice.
    assert!(failed >= 10, "{failed}");
    assert_eq!(device.gpu().check(), Ok(()));
}

/// Gathers rows of one word by `numbers`, given in way `way`, out of `old` and `joining` rows. Rows
/// that join are left out.
fn stays(way: usize, numbers: &[u32], old: usize, joining: usize) -> (Vec<u32>, BatchStats) {
    let device = watched(1);
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &ramp(100, old));
        let mut dst = ctx.zeros::<u32>(numbers.len())?;
        let permutation = Permutation::new(numbers, old, joining)?;
        let on_device = DevicePermutation::upload(&ctx, permutation)?;
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |batch| {
            batch.group(|group| {
                let (src, dst) = (src.view().rows(width(1))?, dst.view_mut().rows(width(1))?);
                if way == 0 { group.warp(src, permutation, dst) } else { group.warp_by(src, on_device.numbers(), dst) }
            })
        })?;
        Ok::<_, Error>((get(&mut stream, dst.view()), batch.stats()))
    });
    assert_in_order(&device);
    answer.unwrap().unwrap()
}

#[test]
fn rows_that_are_left_are_not_counted() {
    // Three of ten are rows that stay: 5, 1 and 0.
    let numbers = [9, 5, 8, 8, 1, 9, 7, 0, 9, 7];
    for way in [0, 1] {
        let (found, stats) = stays(way, &numbers, 7, 3);
        assert_eq!(found, [0, 105, 0, 0, 101, 0, 0, 100, 0, 0], "way {way}");
        assert_eq!((stats.asked, stats.submitted, stats.bytes, stats.submissions), (3, 3, 12, 1), "way {way}");
        // No row stays, and nothing is submitted.
        let (found, stats) = stays(way, &[0, 1, 2, 0, 1, 2, 0, 1, 2], 0, 3);
        assert_eq!((&found[..], stats), (&[0; 9][..], BatchStats::default()), "way {way}");
    }
}

#[test]
fn numbers_in_an_arena_may_go_when_the_scope_has_ended() {
    let device = watched(9);
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &ramp(0, 50));
        let mut results = Vec::new();
        let mut stack = Stack::<_, StreamAlloc<Sim<'_>>>::new(ctx.pool());
        let mut batch = BatchCopy::new();
        for round in 0..20_u32 {
            stack.reset()?;
            let numbers: Vec<u32> = (0..16).map(|i| (i * 13 + round * 7) % 50).collect();
            let mut dst = ctx.zeros::<u32>(16)?;
            let on_stack = ctx.with_device_alloc(&stack);
            {
                let on_device = DevicePermutation::upload(&on_stack, Permutation::new(&numbers, 50, 0)?)?;
                // SAFETY: the numbers were checked before they were uploaded.
                let unchecked = unsafe { RowNumbers::unchecked(on_device.numbers().as_view(), 50, 0) };
                batch.scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.warp_by(src.view().rows(width(1))?, unchecked, dst.view_mut().rows(width(1))?)
                    })
                })?;
            }
            // Other data is written to the same memory.
            let others = on_stack.upload_new(&[u32::MAX; 16])?;
            drop(others);
            results.push((numbers, dst));
        }
        for (numbers, dst) in &results {
            assert_eq!(&get(&mut stream, dst.view()), numbers);
        }
        Ok::<_, Error>(())
    });
    answer.unwrap().unwrap();
    assert_in_order(&device);
}

#[test]
fn numbers_of_a_group_that_failed_are_not_shared() {
    let device = watched(2);
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &ramp(0, 16));
        let mut dst = ctx.zeros::<u32>(16 * 16)?;
        let one: Vec<u32> = (0..16).map(|i| i * 5 % 16).collect();
        let other: Vec<u32> = (0..16).map(|i| i * 7 % 16).collect();
        let both = [Permutation::new(&one, 16, 0)?, Permutation::new(&other, 16, 0)?];
        let (a, b) = (0, 1);
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |batch| {
            let mut parts = dst.view_mut().chunks_exact(width(16));
            let mut group = |kinds: &[usize], keep: bool| {
                let parts: Vec<_> = parts.by_ref().take(kinds.len()).collect();
                let answer = batch.group(|group| {
                    for (kind, part) in kinds.iter().zip(parts) {
                        group.warp(src.view().rows(width(1))?, both[*kind], part.rows(width(1))?)?;
                    }
                    if keep { Ok(()) } else { Err(Error::OutOfRange { operand: "on purpose" }) }
                });
                assert_eq!(answer.is_ok(), keep);
            };
            group(&[a, b], true);
            group(&[b, a, b], false);
            group(&[a, a], false);
            group(&[b, a, a], true);
            group(&[b], false);
            group(&[a, b, b, a], true);
            Ok(())
        })?;
        let zeros = vec![0; 16];
        let [a, b, z] = [&one, &other, &zeros];
        let expected = [a, b, z, z, z, z, z, b, a, a, z, a, b, b, a, z];
        assert_eq!(get(&mut stream, dst.view()), expected.map(|part| part.clone()).concat());
        assert_eq!(batch.stats().asked, 9 * 16);
        Ok::<_, Error>(())
    });
    answer.unwrap().unwrap();
    assert_in_order(&device);
}

#[test]
fn long_rows_by_numbers_on_the_device() {
    // Longer than the longest row that a gather takes, which is 256 KiB.
    const ROW: usize = (1 << 18) / 4 + 5;
    let device = watched(2);
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let source = ramp(0, 4 * ROW);
        let src = ctx.upload_new(&source)?;
        let (mut a, mut b) = (ctx.zeros::<u32>(9 * ROW)?, ctx.zeros::<u32>(9 * ROW)?);
        let numbers = [3, 1, 0, 2, 2, 3, 1, 0, 3];
        let permutation = Permutation::new(&numbers, 4, 0)?;
        let on_device = DevicePermutation::upload(&ctx, permutation)?;
        BatchCopy::new().scope(&ctx, |batch| {
            batch.group(|group| {
                let src = src.view().rows(width(ROW))?;
                group.warp(src, permutation, a.view_mut().rows(width(ROW))?)?;
                group.warp_by(src, on_device.numbers(), b.view_mut().rows(width(ROW))?)
            })
        })?;
        let expected: Vec<u32> = numbers.iter().flat_map(|n| source[*n as usize * ROW..][..ROW].to_vec()).collect();
        assert!(get(&mut stream, a.view()) == expected && get(&mut stream, b.view()) == expected);
        Ok::<_, Error>(())
    });
    answer.unwrap().unwrap();
    assert_in_order(&device);
}

#[test]
fn bounds_that_have_no_number_of_32_bits_are_refused_or_copied_one_by_one() {
    let device = watched(2);
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &ramp(5, 9));
        let mut dst = ctx.zeros::<u32>(9)?;
        let numbers = [8, 0, u32::MAX, 7, 1, u32::MAX - 1, 6, 2, 5];
        // The first bound with no row, and the last.
        for joining in [u32::MAX as usize - 8, usize::MAX - 9] {
            let ctx = stream.ctx().with_pool();
            let permutation = Permutation::new(&numbers, 9, joining)?;
            let on_device = DevicePermutation::upload(&ctx, permutation)?;
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    let src = src.view().rows(width(1))?;
                    let refused = group.warp_by(src, on_device.numbers(), dst.view_mut().rows(width(1))?);
                    assert_eq!(refused, Err(Error::TooLarge { operand: "numbers" }));
                    Ok(())
                })
            })?;
            batch.scope(&ctx, |batch| {
                batch.group(|group| group.warp(src.view().rows(width(1))?, permutation, dst.view_mut().rows(width(1))?))
            })?;
            assert_eq!(batch.stats().asked, 7);
            assert_eq!(get(&mut stream, dst.view()), [13, 5, 0, 12, 6, 0, 11, 7, 10]);
        }
        Ok::<_, Error>(())
    });
    answer.unwrap().unwrap();
    assert_in_order(&device);
}

/// Gathers rows of one word by numbers of the host or of the device.
fn move_rows<'s>(
    ctx: &Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>,
    batch: &mut BatchCopy,
    numbers: &[u32],
    src: View<'_, u32, Sim<'s>>,
    dst: ViewMut<'_, u32, Sim<'s>>,
    on_device: bool,
) -> Result<()> {
    let permutation = Permutation::new(numbers, src.len(), 0)?;
    if !on_device {
        return batch.scope(ctx, |batch| {
            batch.group(|group| group.warp(src.rows(width(1))?, permutation, dst.rows(width(1))?))
        });
    }
    let uploaded = DevicePermutation::upload(ctx, permutation)?;
    // SAFETY: the numbers were checked before they were uploaded.
    let unchecked = unsafe { RowNumbers::unchecked(uploaded.numbers().as_view(), src.len(), 0) };
    batch.scope(ctx, |batch| batch.group(|group| group.warp_by(src.rows(width(1))?, unchecked, dst.rows(width(1))?)))
}

#[test]
fn a_broken_stream_refuses_moves_and_the_storage_serves_another() {
    let numbers = [3, 1, 4, 1, 5, 9, 2, 6, 5];
    let mut batch = BatchCopy::new();
    for on_device in [false, true] {
        let broken = slow();
        let answer = broken.stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (src, mut dst) = (put(&ctx, &ramp(0, 10)), ctx.zeros::<u32>(9)?);
            ctx.launch((dst.view_mut(),), |(dst,)| assert!(dst.len() > 9, "in the kernel"))?;
            // Enqueued or refused: the kernel may have run.
            let _ = move_rows(&ctx, &mut batch, &numbers, src.view(), dst.view_mut(), on_device);
            let error = stream.synchronize().unwrap_err();
            let ctx = stream.ctx().with_pool();
            let refused = move_rows(&ctx, &mut batch, &numbers, src.view(), dst.view_mut(), on_device);
            assert!(matches!(refused, Err(Error::Poisoned(_))), "{refused:?} after {error}");
            Ok::<_, Error>(())
        });
        assert!(matches!(answer, Err(Error::Poisoned(_))), "{answer:?}");
        let device = watched(4);
        let answer = device.stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (src, mut dst) = (put(&ctx, &ramp(0, 10)), ctx.zeros::<u32>(9)?);
            move_rows(&ctx, &mut batch, &numbers, src.view(), dst.view_mut(), on_device)?;
            assert_eq!(get(&mut stream, dst.view()), numbers);
            Ok::<_, Error>(())
        });
        answer.unwrap().unwrap();
        assert_in_order(&device);
    }
}
