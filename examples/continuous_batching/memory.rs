//! The memory that an engine owns for its whole life, and the temporaries of one iteration.

#![forbid(unsafe_code)]

use bytemuck::Pod;
use tidelock::{Buffer, Ctx, DeviceLocation, Element, Result, Staged, State, StreamAlloc, ViewMut};

use super::schedule::Peaks;
use super::workload::Sampling;

/// What the device knows of every sequence in the batch, one row or element each.
#[derive(Debug)]
pub struct States<L: DeviceLocation> {
    /// Tokens, in rows of the longest history's width.
    pub history: State<u32, L>,
    /// Tokens that count, the one generated last included.
    pub lengths: State<u32, L>,
    /// Tokens whose keys are in the KV cache.
    pub cached: State<u32, L>,
    pub sampling: State<Sampling, L>,
    pub random: State<u64, L>,
    /// Block tables, packed.
    pub tables: State<u32, L>,
}

impl<L: DeviceLocation> States<L> {
    pub fn new(ctx: &Ctx<'_, L, StreamAlloc<L>>, peaks: &Peaks) -> Result<Self> {
        Ok(Self {
            history: State::zeros(ctx, peaks.rows.saturating_mul(peaks.history))?,
            lengths: State::zeros(ctx, peaks.rows)?,
            cached: State::zeros(ctx, peaks.rows)?,
            sampling: State::zeros(ctx, peaks.rows)?,
            random: State::zeros(ctx, peaks.rows)?,
            tables: State::zeros(ctx, peaks.blocks)?,
        })
    }

    /// Makes what was written the present state.
    pub fn swap(&mut self) {
        self.history.swap();
        self.lengths.swap();
        self.cached.swap();
        self.sampling.swap();
        self.random.swap();
        self.tables.swap();
    }
}

/// What goes up: staged memory that the host fills while the stream rests.
#[derive(Debug)]
pub struct Up<L: DeviceLocation> {
    /// The prompts of the rows that join, one behind the other.
    pub prompts: Buffer<u32, Staged<L>>,
    pub lengths: Buffer<u32, Staged<L>>,
    /// Nothing of a row that joins is cached.
    pub cached: Buffer<u32, Staged<L>>,
    pub sampling: Buffer<Sampling, Staged<L>>,
    pub random: Buffer<u64, Staged<L>>,
    /// The tables of rows that join or got another block, one behind the other.
    pub tables: Buffer<u32, Staged<L>>,
    /// Where the table of each row will begin.
    pub offsets: Buffer<u32, Staged<L>>,
}

impl<L: DeviceLocation> Up<L> {
    pub fn new(ctx: &Ctx<'_, L, StreamAlloc<L>>, peaks: &Peaks) -> Result<Self> {
        Ok(Self {
            prompts: staged(ctx, peaks.joined_tokens)?,
            lengths: staged(ctx, peaks.joins)?,
            cached: staged(ctx, peaks.joins)?,
            sampling: staged(ctx, peaks.joins)?,
            random: staged(ctx, peaks.joins)?,
            tables: staged(ctx, peaks.fresh_blocks)?,
            offsets: staged(ctx, peaks.rows.saturating_add(1))?,
        })
    }
}

/// What comes down: staged memory that the host reads while the stream rests.
#[derive(Debug)]
pub struct Down<L: DeviceLocation> {
    /// One generated token per row.
    pub tokens: Buffer<u32, Staged<L>>,
    /// The histories of the rows that finished, one behind the other.
    pub histories: Buffer<u32, Staged<L>>,
}

impl<L: DeviceLocation> Down<L> {
    pub fn new(ctx: &Ctx<'_, L, StreamAlloc<L>>, peaks: &Peaks) -> Result<Self> {
        Ok(Self { tokens: staged(ctx, peaks.rows)?, histories: staged(ctx, peaks.finished_tokens)? })
    }
}

/// How much goes up in one iteration, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub joins: usize,
    pub prompts: usize,
    pub tables: usize,
}

impl Shape {
    /// The most of everything, which no single iteration may need.
    pub fn largest(peaks: &Peaks) -> Self {
        Self { rows: peaks.rows, joins: peaks.joins, prompts: peaks.joined_tokens, tables: peaks.fresh_blocks }
    }
}

/// Where new rows arrive on the device: the columns of one temporary.
#[derive(Debug)]
pub struct NewRows<'t, L> {
    pub prompts: ViewMut<'t, u32, L>,
    pub lengths: ViewMut<'t, u32, L>,
    pub sampling: ViewMut<'t, Sampling, L>,
    pub random: ViewMut<'t, u64, L>,
    pub tables: ViewMut<'t, u32, L>,
    pub offsets: ViewMut<'t, u32, L>,
}

impl<'t, L: DeviceLocation> NewRows<'t, L> {
    /// The words that the columns take.
    pub fn words(shape: Shape) -> usize {
        let Shape { rows, joins, prompts, tables } = shape;
        let halves = [prompts, joins, tables, rows.saturating_add(1)].map(words::<u32>);
        halves.iter().fold(words::<Sampling>(joins).saturating_add(joins), |sum, &n| sum.saturating_add(n))
    }

    /// Cuts `memory` into columns.
    pub fn carve(memory: ViewMut<'t, u64, L>, shape: Shape) -> Result<Self> {
        let Shape { rows, joins, prompts, tables } = shape;
        let (prompts, memory) = take(memory, prompts)?;
        let (lengths, memory) = take(memory, joins)?;
        let (sampling, memory) = take(memory, joins)?;
        let (random, memory) = take(memory, joins)?;
        let (tables, memory) = take(memory, tables)?;
        let (offsets, _) = take(memory, rows.saturating_add(1))?;
        Ok(Self { prompts, lengths, sampling, random, tables, offsets })
    }
}

/// Staged memory for `len` elements, zeroed.
fn staged<T: Element, L: DeviceLocation, A: Copy>(ctx: &Ctx<'_, L, A>, len: usize) -> Result<Buffer<T, Staged<L>>> {
    Ok(ctx.zero(ctx.pinned(len)?.stage(ctx))?)
}

/// The words that `len` elements take.
fn words<T>(len: usize) -> usize {
    len.saturating_mul(size_of::<T>()).div_ceil(size_of::<u64>())
}

/// Takes `len` elements off the front of `memory`.
fn take<T: Pod, L: DeviceLocation>(
    memory: ViewMut<'_, u64, L>,
    len: usize,
) -> Result<(ViewMut<'_, T, L>, ViewMut<'_, u64, L>)> {
    let (head, rest) = memory.split_at(words::<T>(len))?;
    Ok((head.view::<T>()?.slice(..len)?, rest))
}
