//! Random batches against a naive oracle: on the simulated device, and on the first GPU if there is one.
//!
//! Each batch copies pieces of any length and alignment out of device memory, page-locked memory and plain host memory
//! into device memory and page-locked memory; what nobody wrote must keep its poison.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, Stream, View, ViewMut};

/// Where a piece comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Device,
    Pinned,
    Host,
}

/// A piece: how many bytes of the destination are left out before it, its length, and where it comes from.
#[derive(Clone, Copy, Debug)]
struct Piece {
    gap: usize,
    len: usize,
    source: Source,
    at: usize,
}

/// A batch: its pieces, into device memory, and into page-locked memory.
#[derive(Clone, Debug)]
struct Program {
    down: Vec<Piece>,
    across: Vec<Piece>,
}

const SOURCE: usize = 200_000;
const POISON: u8 = 0xA5;

fn bytes(seed: usize) -> Vec<u8> {
    (seed..seed + SOURCE).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8 ^ (i >> 8) as u8).collect()
}

/// Where the pieces are put, and the bytes of the destination after the last one.
fn extent(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.gap + piece.len).sum::<usize>() + 5
}

fn expected(pieces: &[Piece], sources: &[Vec<u8>; 3]) -> Vec<u8> {
    let mut out = vec![POISON; extent(pieces)];
    let mut to = 0;
    for piece in pieces {
        to += piece.gap;
        out[to..to + piece.len].copy_from_slice(&sources[piece.source as usize][piece.at..piece.at + piece.len]);
        to += piece.len;
    }
    out
}

/// Runs of pieces of one kind: of one length or of many, on a grid of 1 to 32 bytes or off it.
fn pieces(most: usize) -> impl Strategy<Value = Vec<Piece>> {
    let source = prop_oneof![4 => Just(Source::Device), 1 => Just(Source::Pinned), 1 => Just(Source::Host)];
    let run = (1..most, 0..13_u32, 0..6_u32, source, any::<bool>(), any::<u64>());
    prop::collection::vec(run, 0..4).prop_map(|runs| {
        let mut all = Vec::new();
        for (count, log, grid, source, one_length, seed) in runs {
            let grid = 1_usize << grid;
            let mut state = seed | 1;
            let mut random = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as usize % below
            };
            let length = 1 + random(1 << log);
            let step = random(3);
            for _ in 0..count {
                let len = if one_length { length } else { 1 + random(1 << log) };
                let at = random((SOURCE - len) / grid) * grid;
                let gap = if one_length { step * grid } else { random(3) };
                all.push(Piece {
                    gap,
                    len: len.next_multiple_of(if random(2) == 0 { grid } else { 1 }).min(len.max(grid)),
                    source,
                    at: at.min(SOURCE - 8192),
                });
            }
        }
        all
    })
}

fn programs() -> impl Strategy<Value = Program> {
    (pieces(600), pieces(200)).prop_map(|(down, across)| Program { down, across })
}

/// Adds the pieces whose sources may go to `dst`.
fn add<'env, L: DeviceLocation, D: tidelock::KernelAccessible<L>>(
    batch: &mut tidelock::Batch<'_, 'env, L>,
    pieces: &[Piece],
    device: View<'env, u8, L>,
    pinned: View<'env, u8, tidelock::Staged<L>>,
    host: &'env [u8],
    dst: ViewMut<'env, u8, D>,
) -> Result<()> {
    let mut rest = dst;
    for piece in pieces {
        let (_, behind) = rest.split_at(piece.gap)?;
        let (dst, behind) = behind.split_at(piece.len)?;
        rest = behind;
        let range = piece.at..piece.at + piece.len;
        match piece.source {
            Source::Device => batch.copy(device.slice(range)?, dst)?,
            Source::Pinned => batch.copy(pinned.slice(range)?, dst)?,
            Source::Host => batch.copy(View::from(&host[range]), dst)?,
        }
    }
    Ok(())
}

/// Runs `program` on a stream; returns what the device memory and the page-locked memory hold after it.
fn run<L: DeviceLocation>(stream: &mut Stream<L>, program: &Program, sources: &[Vec<u8>; 3]) -> Result<[Vec<u8>; 2]> {
    let ctx = stream.ctx().with_pool();
    let device = filled(&ctx, &sources[0])?;
    let pinned = tidelock::Buffer::<u8, L::Pinned>::from_slice(&sources[1])?.stage(&ctx);
    let mut into_device = filled(&ctx, &vec![POISON; extent(&program.down)])?;
    let poison = vec![POISON; extent(&program.across)];
    let mut into_pinned = tidelock::Buffer::<u8, L::Pinned>::from_slice(&poison)?.stage(&ctx);
    BatchCopy::new().scope(&ctx, |batch| {
        add(batch, &program.down, device.view(), pinned.view(), &sources[2], into_device.view_mut())?;
        add(batch, &program.across, device.view(), pinned.view(), &sources[2], into_pinned.view_mut())
    })?;
    let out = ctx.init(ctx.pinned::<u8>(into_device.len())?.stage(&ctx), into_device.view())?;
    let synced = stream.synchronize()?;
    Ok([out.peek(&synced).to_vec(), into_pinned.peek(&synced).to_vec()])
}

fn filled<L: DeviceLocation, A: Copy>(ctx: &Ctx<'_, L, A>, bytes: &[u8]) -> Result<tidelock::Buffer<u8, L>> {
    let staged = tidelock::Buffer::<u8, L::Pinned>::from_slice(bytes)?.stage(ctx);
    Ok(ctx.init(ctx.with_pool().device::<u8>(bytes.len())?, staged.view())?)
}

fn check(program: &Program, run: impl FnOnce(&Program, &[Vec<u8>; 3]) -> Result<[Vec<u8>; 2]>) {
    let sources = [bytes(1), bytes(100_003), bytes(900_001)];
    let [down, across] = run(program, &sources).unwrap();
    assert!(down == expected(&program.down, &sources), "device memory differs");
    assert!(across == expected(&program.across, &sources), "page-locked memory differs");
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn on_the_simulated_device() {
    let device = tidelock::sim::Device::default();
    let answer = runner(24).run(&programs(), |program| {
        check(&program, |program, sources| device.stream(|mut stream, _| run(&mut stream, program, sources))?);
        Ok(())
    });
    answer.unwrap();
}

#[cfg(feature = "cuda-core")]
mod on_a_gpu {
    use super::*;
    use tidelock::cuda::{Batching, Device};

    fn gpu() -> Option<Device> {
        Device::open(0).map_err(|reason| println!("no GPU here: {reason}")).ok()
    }

    #[test]
    fn with_every_way_of_batching() {
        let Some(device) = gpu() else { return };
        for (batching, cases) in [(Batching::Auto, 200), (Batching::Driver, 10), (Batching::Loop, 10)] {
            let device = device.clone().with_batching(batching);
            let answer = runner(cases).run(&programs(), |program| {
                check(&program, |program, sources| {
                    device.stream(|mut stream, _| run(&mut stream, program, sources))?
                });
                Ok(())
            });
            answer.unwrap();
        }
    }

    /// Ten million copies of 1 to 3 bytes in one batch, and a few of more than a gigabyte.
    #[test]
    fn ten_million_copies_and_large_ones() {
        let Some(device) = gpu() else { return };
        let answer = device.stream(|mut stream, _| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let source = bytes(5);
            let src = filled(&ctx, &source)?;
            let mut dst = ctx.zeros::<u8>(20_000_000)?;
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |batch| {
                let mut rest = dst.view_mut();
                for i in 0..10_000_000_usize {
                    let (piece, behind) = rest.split_at(1 + i % 3)?;
                    rest = behind;
                    batch.copy(src.view().slice(i * 7 % 190_000..i * 7 % 190_000 + 1 + i % 3)?, piece)?;
                }
                Ok::<(), tidelock::Error>(())
            })?;
            let out = ctx.init(ctx.pinned::<u8>(dst.len())?.stage(&ctx), dst.view())?;
            let mut to = 0;
            {
                let synced = stream.synchronize()?;
                let out = out.peek(&synced);
                for i in 0..10_000_000_usize {
                    let len = 1 + i % 3;
                    assert_eq!(out[to..to + len], source[i * 7 % 190_000..i * 7 % 190_000 + len], "copy {i}");
                    to += len;
                }
            }
            // Two copies of 1.5 GB each, of whose ends the host looks at a part.
            let ctx = stream.ctx().with_pool();
            let large = 1_500_000_001;
            let mut from = ctx.zeros::<u8>(2 * large)?;
            for at in [0, large - SOURCE, large, 2 * large - SOURCE] {
                ctx.upload(&source, from.view_mut().slice(at..at + SOURCE)?)?;
            }
            let mut to = ctx.zeros::<u8>(2 * large)?;
            batch.scope(&ctx, |batch| {
                let (a, b) = to.view_mut().split_at(large)?;
                batch.copy(from.view().slice(large..)?, a)?;
                batch.copy(from.view().slice(..large)?, b)
            })?;
            for at in [0, large - SOURCE, large, 2 * large - SOURCE] {
                let part = to.view().slice(at..at + SOURCE)?;
                let out = ctx.init(ctx.pinned::<u8>(SOURCE)?.stage(&ctx), part)?;
                assert!(ctx.fence(out)?.wait()?[..] == source[..], "at {at}");
            }
            Ok(())
        });
        // A device with less memory than that has shown the rest.
        match answer.unwrap() {
            Err(tidelock::Error::OutOfMemory { bytes: 3_000_000_002, .. }) => println!("no room for the large copies"),
            answer => answer.unwrap(),
        }
    }
}
