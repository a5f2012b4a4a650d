//! Batches on the stand-in driver, most of them by the kernel model: random ones against a naive
//! reference, those for each form and for the table, and tables whose words are written while a
//! launch may still read them.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

mod chosen;
mod parts;

use std::{
    num::NonZero,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tidelock::{
    BatchCopy, Buffer, Permutation, Result, Stream,
    cuda::{Batching, CopyKernels, Cuda, CudaBackend, Device, Grid, Module},
    state::DevicePermutation,
};
use tidelock_test_support::random_batches::{Piece, Program, Source, check, programs, run, runner};
use tidelock_test_support::stand_in::{self, Control, Fault, Launch};

/// The driver with `settings`, and its first device.
fn open(settings: &[(&str, u64)]) -> (Control, Device) {
    let control = stand_in::load();
    settings.iter().for_each(|(name, value)| control.set(name, *value));
    control.reset();
    (control, Device::open(0).unwrap())
}

#[test]
fn random_batches_in_every_way() {
    let drivers: [&[(&str, u64)]; 3] =
        [&[], &[("delay", 2000), ("seed", 5)], &[("pageable_synchronous", 1), ("stream_calls_need_context", 1)]];
    for settings in drivers {
        for (batching, cases) in [(Batching::Auto, 24), (Batching::Driver, 4), (Batching::Loop, 4)] {
            let (control, device) = open(settings);
            let device = device.with_batching(batching);
            let expected = if batching == Batching::Auto { CopyKernels::Loaded } else { CopyKernels::TurnedOff };
            assert_eq!(device.copy_kernels(), expected);
            let answer = runner(cases).run(&programs(), |program| {
                check(&program, |program, sources| {
                    device.stream(|mut stream, _| run(&mut stream, program, sources))?
                });
                Ok(())
            });
            answer.unwrap();
            control.report().assert_clean();
        }
    }
}

/// Pseudorandom numbers.
fn random(state: &mut u64, below: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % below
}

/// `count` pieces of device memory: of one length or of several, adjacent or apart, aligned to a
/// grid or not.
fn pieces(count: usize, lengths: [usize; 2], gap: usize, grid: usize) -> Vec<Piece> {
    let mut state = (count ^ lengths[1] << 20) as u64 | 1;
    let mut piece = |_| {
        let len = lengths[0] + random(&mut state, lengths[1] - lengths[0] + 1);
        let gap = if gap == 0 { 0 } else { random(&mut state, gap) * grid };
        let at = random(&mut state, 190_000 / grid) * grid;
        Piece { gap, len, source: Source::Device, at }
    };
    (0..count).map(&mut piece).collect()
}

#[test]
fn batches_of_every_form_and_size() {
    let (control, device) = open(&[]);
    // Rows of 16 and of 32 bits, pairs, and lengths that differ; odd, even, and multiples of 16; in
    // the parameters of one launch, in a table, and in several.
    let shapes = [
        (1, [1, 1], 0, 1),
        (2000, [16, 16], 0, 16),
        (10_000, [16, 16], 0, 16),
        (10_000, [7, 7], 0, 1),
        (10_000, [2, 2], 0, 2),
        (10_000, [64, 64], 0, 64),
        (10_000, [48, 48], 3, 16),
        (10_000, [5, 5], 4, 1),
        (1000, [1, 400], 0, 1),
        (10_000, [1, 90], 0, 1),
        (10_000, [1, 90], 3, 1),
        (12_000, [4, 33], 2, 4),
        (40_000, [1, 3], 2, 1),
        (100_000, [1, 1], 0, 1),
        (300, [3000, 9000], 0, 8),
        (2500, [3000, 9000], 2, 1),
    ];
    for (count, lengths, gap, grid) in shapes {
        let program = Program { down: pieces(count, lengths, gap, grid), across: vec![] };
        let (calls, ()) = control.calls_of(|| {
            check(&program, |program, sources| device.stream(|mut stream, _| run(&mut stream, program, sources))?);
        });
        let launches = calls.iter().filter(|call| *call == "cuLaunchKernelEx").count();
        let case = format!("{count} of {lengths:?}: {launches} launches");
        assert_eq!(launches > 0, count > 1, "{case}");
        // A table has room for 32768 words: at least one word for two copies and at most five for
        // one. 2^27 chunks are more.
        assert!(launches <= 2 + count / 6000, "{case}");
        control.report().assert_clean();
    }
}

/// Pieces of all kinds in one batch, many times, with pieces of host memory between them.
#[test]
fn batches_of_many_kinds_at_once() {
    let (control, device) = open(&[("delay", 1000)]);
    let mut down = Vec::new();
    for round in 0..20 {
        down.extend(pieces(40 + round, [1 + round, 1 + round], 0, 1));
        down.extend(pieces(20, [1, 40], 3, 1));
        down.push(Piece { gap: 3, len: 100, source: Source::Host, at: 5 * round });
        down.extend(pieces(64, [16, 16], 2, 16));
        down.push(Piece { gap: 0, len: 33, source: Source::Pinned, at: 7 * round });
    }
    let program = Program { across: down[..500].to_vec(), down };
    check(&program, |program, sources| device.stream(|mut stream, _| run(&mut stream, program, sources))?);
    control.report().assert_clean();
}

/// The bytes of a batch's target, and of its copies' sources.
const BYTES: usize = 4500;

/// Submits `batches` batches that need a table each, without a wait, calls `then`, and returns what
/// each of them wrote.
fn around_the_ring(stream: &Stream<Cuda<'_>>, batches: usize, then: impl FnOnce()) -> Result<Vec<Vec<u8>>> {
    let ctx = stream.ctx().with_pool();
    // Each batch has a source of its own, and copies 1500 pieces of 1 to 3 bytes to other places.
    let source: Vec<u8> = (0..batches * BYTES).map(|i| (i / BYTES * 7 + i * 13) as u8).collect();
    let source = Buffer::<u8, tidelock::location::Pinned<CudaBackend>>::from_slice(&source)?.stage(&ctx);
    let source = ctx.init_from(ctx.alloc::<u8>(batches * BYTES)?, source.view())?;
    let mut targets = (0..batches).map(|_| ctx.zeros::<u8>(BYTES)).collect::<Result<Vec<_>>>()?;
    let mut batch = BatchCopy::new();
    for (number, target) in targets.iter_mut().enumerate() {
        let source = source.view().slice(number * BYTES..(number + 1) * BYTES)?;
        batch.scope(&ctx, |batch| {
            for (i, to) in target.view_mut().chunks_exact(NonZero::new(3).unwrap()).enumerate() {
                let (len, from) = (1 + (i + number) % 3, moved(number, i));
                batch.copy(source.slice(from..from + len)?, to.slice(..len)?)?;
            }
            Ok(())
        })?;
    }
    then();
    let mut found = Vec::new();
    for target in &targets {
        let page = ctx.init_from(ctx.alloc_pinned::<u8>(BYTES)?.stage(&ctx), target.view())?;
        found.push(ctx.fence(page)?.wait()?.to_vec());
    }
    Ok(found)
}

/// The source of piece `i` of a batch.
fn moved(number: usize, i: usize) -> usize {
    (i * 1117 + number * 31) % 1499 * 3
}

fn expected(number: usize) -> Vec<u8> {
    let source = |at: usize| (number * 7 + (number * BYTES + at) * 13) as u8;
    let byte = |at: usize| {
        let (i, within) = (at / 3, at % 3);
        if within < 1 + (i + number) % 3 { source(moved(number, i) + within) } else { 0 }
    };
    (0..BYTES).map(byte).collect()
}

/// Twice around the ring of 32 tables, with the host far ahead of the device.
#[test]
fn tables_are_written_again_when_they_were_read() {
    let (control, device) = open(&[("delay", 3000)]);
    let found = device.stream(|stream, _| around_the_ring(&stream, 70, || ())).unwrap().unwrap();
    for (number, found) in found.iter().enumerate() {
        assert!(*found == expected(number), "batch {number}");
    }
    control.report().assert_clean();
}

/// The same without the wait for the part of the ring that is written again, while the device is
/// delayed.
#[test]
fn tables_that_are_written_too_early_are_noticed() {
    for batches in [32, 33] {
        let (control, device) = open(&[]);
        // SAFETY: it uses no memory.
        unsafe { control.register("hold", &[], hold) };
        LET_GO.store(false, Ordering::SeqCst);
        let answer = device.stream(|stream, _| {
            // Whatever fails, the end of the stream waits for it.
            let _let_go = LetGo;
            let module = Module::load(&device, ".version 7.0\n.visible .entry hold()").unwrap();
            // SAFETY: it has no parameters, and uses no memory.
            unsafe { stream.ctx().launch_kernel((&module.function("hold").unwrap(), Grid::over(1)), ()) }.unwrap();
            // The driver reports all events as passed.
            control.fail(Fault { name: "cuEventQuery", nth: 1, onwards: true, releases: false, code: 0 });
            let found = around_the_ring(&stream, batches, || LET_GO.store(true, Ordering::SeqCst));
            assert_eq!(control.disarm() > 0, batches > 32, "an event is asked for where the ring ends");
            found
        });
        let findings = control.report().findings;
        if batches == 32 {
            let right = answer.unwrap().unwrap().iter().enumerate().all(|(number, found)| *found == expected(number));
            assert!(right && findings.is_empty(), "{findings:#?}");
        } else {
            let changed = |words: &String| words.contains("the table at") && words.contains("was changed");
            assert!(findings.iter().any(changed), "{findings:#?}");
        }
    }
    stand_in::load();
}

static LET_GO: AtomicBool = AtomicBool::new(false);

/// Releases the kernel when it is dropped.
struct LetGo;

impl Drop for LetGo {
    fn drop(&mut self) {
        LET_GO.store(true, Ordering::SeqCst);
    }
}

/// Delays the stream until it is released.
unsafe extern "C" fn hold(_: *const Launch) -> u32 {
    while !LET_GO.load(Ordering::SeqCst) {
        thread::yield_now();
    }
    0
}

/// Many states in one batch, with their own row numbers and shared ones in turns: on the host and
/// on the device, with and without rows that join.
#[test]
fn warps_of_several_permutations_in_one_batch() {
    const OLD: usize = 50;
    const JOINING: usize = 20;
    let (control, device) = open(&[("delay", 500)]);
    let answer = device.stream(|mut stream, _| -> Result<()> {
        let ctx = stream.ctx().with_pool();
        let mut state = 77;
        let mut numbers = |rows: usize| (0..rows).map(|_| random(&mut state, OLD + JOINING) as u32).collect::<Vec<_>>();
        let numbers = [numbers(40), numbers(40), numbers(300), numbers(7)];
        let permutations = numbers.each_ref().map(|rows| Permutation::new(rows, OLD, JOINING).unwrap());
        let on_device = permutations.map(|permutation| DevicePermutation::upload(&ctx, permutation).unwrap());
        // Which of them, the bytes of a row, and how many bytes lie before the rows, of the sources
        // and of the target.
        let states = [
            (0, 16, 0),
            (0, 3, 0),
            (1, 16, 16),
            (1, 48, 0),
            (0, 64, 8),
            (2, 5, 1),
            (2, 18, 3),
            (3, 1, 0),
            (1, 100, 4),
            (0, 24, 0),
            (2, 4, 2),
            (1, 2, 15),
            (1, 8, 0),
        ];
        let bytes = |seed: usize, len: usize| (0..len).map(|i| (i * 31 + seed * 7 + i / 251) as u8).collect::<Vec<_>>();
        for joins in [true, false] {
            for by_device in [false, true] {
                let (mut first, mut second, mut target) = (Vec::new(), Vec::new(), Vec::new());
                for (seed, &(which, width, before)) in states.iter().enumerate() {
                    first.push(ctx.upload_new(&bytes(seed, before + OLD * width))?);
                    second.push(ctx.upload_new(&bytes(seed + 100, before + JOINING * width))?);
                    target.push(ctx.upload_new(&vec![9_u8; before + numbers[which].len() * width])?);
                }
                let mut batch = BatchCopy::new();
                batch.scope(&ctx, |batch| {
                    batch.group(|group| {
                        let operands = first.iter().zip(&second).zip(&mut target).zip(states);
                        for (((first, second), target), (which, width, before)) in operands {
                            let width = NonZero::new(width).unwrap();
                            let src = first.view().slice(before..)?.rows(width)?;
                            let joining = second.view().slice(before..)?.rows(width)?;
                            let dst = target.view_mut().slice(before..)?.rows(width)?;
                            match (joins, by_device) {
                                (true, false) => group.warp_join(src, joining, permutations[which], dst)?,
                                (true, true) => group.warp_join_by(src, joining, on_device[which].numbers(), dst)?,
                                (false, false) => group.warp(src, permutations[which], dst)?,
                                (false, true) => group.warp_by(src, on_device[which].numbers(), dst)?,
                            }
                        }
                        Ok(())
                    })
                })?;
                for (seed, (target, &(which, width, before))) in target.iter().zip(&states).enumerate() {
                    let (old, new) = (bytes(seed, before + OLD * width), bytes(seed + 100, before + JOINING * width));
                    let row = |row: u32| match (row as usize).checked_sub(OLD) {
                        None => old[before + row as usize * width..][..width].to_vec(),
                        Some(row) if joins => new[before + row * width..][..width].to_vec(),
                        Some(_) => vec![9; width],
                    };
                    let mut expected = vec![9; before];
                    expected.extend(numbers[which].iter().flat_map(|number| row(*number)));
                    let page = ctx.init_from(ctx.alloc_pinned::<u8>(target.len())?.stage(&ctx), target.view())?;
                    assert!(ctx.fence(page)?.wait()?[..] == expected[..], "state {seed}, {joins}, {by_device}");
                }
            }
        }
        stream.synchronize().map(drop)
    });
    answer.unwrap().unwrap();
    control.report().assert_clean();
}

/// States with more rows than a table has room for, whose numbers take 16 bits and 32.
#[test]
fn warps_of_more_rows_than_a_launch_takes() {
    const WIDTH: NonZero<usize> = NonZero::new(3).unwrap();
    let (control, device) = open(&[]);
    for old in [60_000, 80_000] {
        let mut state = 3;
        let numbers: Vec<u32> = (0..150_000).map(|_| random(&mut state, old) as u32).collect();
        let source: Vec<u8> = (0..3 * old).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 9) as u8).collect();
        let found = device.stream(|stream, _| -> Result<Vec<u8>> {
            let ctx = stream.ctx().with_pool();
            let permutation = Permutation::new(&numbers, old, 0)?;
            let (from, mut to) = (ctx.upload_new(&source)?, ctx.zeros::<u8>(3 * numbers.len())?);
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |batch| {
                batch.group(|group| group.warp(from.view().rows(WIDTH)?, permutation, to.view_mut().rows(WIDTH)?))
            })?;
            let page = ctx.init_from(ctx.alloc_pinned::<u8>(to.len())?.stage(&ctx), to.view())?;
            Ok(ctx.fence(page)?.wait()?.to_vec())
        });
        let expected: Vec<u8> = numbers.iter().flat_map(|&row| source[3 * row as usize..][..3].to_vec()).collect();
        assert!(found.unwrap().unwrap() == expected, "{old} rows");
        control.report().assert_clean();
    }
}
