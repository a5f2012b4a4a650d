//! Random batches, and a naive reference for their results.
//!
//! Each batch copies pieces of any length and alignment from device memory, page-locked memory and
//! plain host memory to device memory and page-locked memory. Bytes that no copy writes must keep
//! their poison.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, Stream, View, ViewMut};

/// The source of a piece.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    Device,
    Pinned,
    Host,
}

/// A piece: how many bytes of the destination are left out before it, its length, and its source.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub gap: usize,
    pub len: usize,
    pub source: Source,
    pub at: usize,
}

/// A batch: its pieces, into device memory, and into page-locked memory.
#[derive(Clone, Debug)]
pub struct Program {
    pub down: Vec<Piece>,
    pub across: Vec<Piece>,
}

pub const SOURCE: usize = 200_000;
const POISON: u8 = 0xA5;

pub fn bytes(seed: usize) -> Vec<u8> {
    (seed..seed + SOURCE).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8 ^ (i >> 8) as u8).collect()
}

/// The offsets of the pieces, and the bytes of the destination after the last one.
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

/// Runs of pieces of one kind: of one length or of many, aligned to 1 to 32 bytes or not.
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

/// A few short pieces, so that those out of plain host memory are few bytes together.
fn few() -> impl Strategy<Value = Vec<Piece>> {
    let source = prop_oneof![2 => Just(Source::Device), 1 => Just(Source::Pinned), 3 => Just(Source::Host)];
    let piece = (0..5_usize, 1..100_usize, source, 0..SOURCE - 100);
    prop::collection::vec(piece.prop_map(|(gap, len, source, at)| Piece { gap, len, source, at }), 0..20)
}

pub fn programs() -> impl Strategy<Value = Program> {
    let [many, some] = [600, 200].map(pieces);
    let any = prop_oneof![3 => (many.boxed(), some.boxed()), 1 => (few().boxed(), few().boxed())];
    any.prop_map(|(down, across)| Program { down, across })
}

/// Adds the pieces whose sources can be copied to `dst`.
fn add<'env, L: DeviceLocation, D: tidelock::stream::KernelAccessible<L>>(
    batch: &mut tidelock::batch::Batch<'_, 'env, L>,
    pieces: &[Piece],
    device: View<'env, u8, L>,
    pinned: View<'env, u8, tidelock::stream::Staged<L>>,
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

/// Runs `program` on a stream. Returns what the device memory and the page-locked memory hold
/// afterwards.
pub fn run<L: DeviceLocation>(
    stream: &mut Stream<L>,
    program: &Program,
    sources: &[Vec<u8>; 3],
) -> Result<[Vec<u8>; 2]> {
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
    let out = ctx.init_from(ctx.alloc_pinned::<u8>(into_device.len())?.stage(&ctx), into_device.view())?;
    let synced = stream.synchronize()?;
    Ok([out.peek(&synced).to_vec(), into_pinned.peek(&synced).to_vec()])
}

pub fn filled<L: DeviceLocation, A: Copy>(ctx: &Ctx<'_, L, A>, bytes: &[u8]) -> Result<tidelock::Buffer<u8, L>> {
    let staged = tidelock::Buffer::<u8, L::Pinned>::from_slice(bytes)?.stage(ctx);
    Ok(ctx.init_from(ctx.with_pool().alloc::<u8>(bytes.len())?, staged.view())?)
}

pub fn check(program: &Program, run: impl FnOnce(&Program, &[Vec<u8>; 3]) -> Result<[Vec<u8>; 2]>) {
    let sources = [bytes(1), bytes(100_003), bytes(900_001)];
    let [down, across] = run(program, &sources).unwrap();
    assert!(down == expected(&program.down, &sources), "device memory differs");
    assert!(across == expected(&program.across, &sources), "page-locked memory differs");
}

pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}
