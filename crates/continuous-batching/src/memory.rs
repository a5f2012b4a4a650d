//! The memory that an engine owns for its whole life, and the temporaries of one iteration.

#![forbid(unsafe_code)]

use std::mem;

use bytemuck::Pod;
use tidelock::{
    Buffer, Ctx, DeviceLocation, Element, Error, Result, State, Synced, ViewMut,
    location::Location,
    stream::{Staged, StreamAlloc},
};

use super::schedule::{Peaks, Plan};
use super::workload::{self, Request, Sampling};

/// The device's data of every sequence in the batch, one row or element each.
#[derive(Debug)]
pub struct States<L: DeviceLocation> {
    /// Tokens, in rows of the longest history's width.
    pub history: State<u32, L>,
    /// Tokens that count, including the one generated last.
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

    /// The bytes of both halves.
    pub fn bytes(&self) -> usize {
        fn of<T: Element, L: DeviceLocation>(state: &State<T, L>) -> usize {
            2 * state.len() * size_of::<T>()
        }
        let Self { history, lengths, cached, sampling, random, tables } = self;
        of(history) + of(lengths) + of(cached) + of(sampling) + of(random) + of(tables)
    }

    /// Makes the written halves the present state.
    pub fn swap(&mut self) {
        self.history.swap();
        self.lengths.swap();
        self.cached.swap();
        self.sampling.swap();
        self.random.swap();
        self.tables.swap();
    }
}

/// The upload: staged memory that the host fills while the stream is idle.
#[derive(Debug)]
pub struct Up<L: DeviceLocation> {
    /// The prompts of the rows that join, one after the other.
    pub prompts: Buffer<u32, Staged<L>>,
    pub lengths: Buffer<u32, Staged<L>>,
    /// Zeros: the cache has no keys of a row that joins.
    pub cached: Buffer<u32, Staged<L>>,
    pub sampling: Buffer<Sampling, Staged<L>>,
    pub random: Buffer<u64, Staged<L>>,
    /// The tables of rows that join or got another block, one after the other.
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

    /// The columns, to write while the stream is idle. That of the cached lengths stays zero.
    pub fn columns<'a>(&'a mut self, synced: &'a Synced<'_, L>) -> Columns<'a> {
        Columns {
            prompts: self.prompts.peek_mut(synced),
            lengths: self.lengths.peek_mut(synced),
            sampling: self.sampling.peek_mut(synced),
            random: self.random.peek_mut(synced),
            tables: self.tables.peek_mut(synced),
            offsets: self.offsets.peek_mut(synced),
        }
    }
}

/// The results: staged memory that the host reads while the stream is idle.
#[derive(Debug)]
pub struct Down<L: DeviceLocation> {
    /// One generated token per row.
    pub tokens: Buffer<u32, Staged<L>>,
    /// The histories of the rows that finished, one after the other.
    pub histories: Buffer<u32, Staged<L>>,
}

impl<L: DeviceLocation> Down<L> {
    pub fn new(ctx: &Ctx<'_, L, StreamAlloc<L>>, peaks: &Peaks) -> Result<Self> {
        Ok(Self { tokens: staged(ctx, peaks.rows)?, histories: staged(ctx, peaks.finished_tokens)? })
    }
}

/// The upload as the host writes it.
#[derive(Debug)]
pub struct Columns<'a> {
    pub prompts: &'a mut [u32],
    pub lengths: &'a mut [u32],
    pub sampling: &'a mut [Sampling],
    pub random: &'a mut [u64],
    pub tables: &'a mut [u32],
    pub offsets: &'a mut [u32],
}

impl<'a> Columns<'a> {
    /// Splits host memory into columns, as [`NewRows::carve`] splits the device's.
    pub fn carve(memory: &'a mut [u64], shape: Shape) -> Result<Self> {
        let Shape { rows, joins, prompts, tables } = shape;
        let (prompts, memory) = take_host(memory, prompts)?;
        let (lengths, memory) = take_host(memory, joins)?;
        let (sampling, memory) = take_host(memory, joins)?;
        let (random, memory) = take_host(memory, joins)?;
        let (tables, memory) = take_host(memory, tables)?;
        let (offsets, _) = take_host(memory, rows.saturating_add(1))?;
        Ok(Self { prompts, lengths, sampling, random, tables, offsets })
    }

    /// Writes the upload for `plan`. Prompts and parameters are functions of the seed.
    pub fn write(self, plan: &Plan, requests: &[Request], seed: u64) {
        let Self { prompts: mut rest, lengths, sampling, random, tables, offsets } = self;
        let joins = plan.joins.iter().map(|&join| requests[join]);
        for (((request, length), sampling), random) in joins.zip(lengths).zip(sampling).zip(random) {
            let (prompt, behind) = mem::take(&mut rest).split_at_mut(request.prompt as usize);
            for (token, k) in prompt.iter_mut().zip(0..) {
                *token = workload::prompt_token(seed, request.id, k);
            }
            rest = behind;
            *length = request.prompt;
            *sampling = workload::sampling(seed, request.id);
            *random = workload::random_state(seed, request.id);
        }
        tables[..plan.fresh_blocks.len()].copy_from_slice(&plan.fresh_blocks);
        offsets[..plan.block_offsets.len()].copy_from_slice(&plan.block_offsets);
    }
}

/// The prompts of the requests that join in one iteration, as the host counts them.
#[derive(Debug)]
pub struct Joins {
    /// Where each prompt begins in the upload, and where the last one ends.
    prompts: Vec<u32>,
    shape: Shape,
}

impl Joins {
    /// No prompts, and room for the most that ever join.
    pub fn new(peaks: &Peaks) -> Self {
        let mut prompts = Vec::with_capacity(peaks.joins + 1);
        prompts.push(0);
        Self { prompts, shape: Shape { rows: 0, joins: 0, prompts: 0, tables: 0 } }
    }

    /// Counts those of `plan`.
    pub fn count(&mut self, plan: &Plan, requests: &[Request]) {
        self.prompts.truncate(1);
        let mut end = 0;
        for &join in &plan.joins {
            end += requests[join].prompt;
            self.prompts.push(end);
        }
        let (rows, joins, tables) = (plan.perm.len(), plan.joins.len(), plan.fresh_blocks.len());
        self.shape = Shape { rows, joins, prompts: end as usize, tables };
    }

    pub fn prompts(&self) -> &[u32] {
        &self.prompts
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }
}

/// The size of the upload of one iteration, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub joins: usize,
    pub prompts: usize,
    pub tables: usize,
}

impl Shape {
    /// The largest value of each, which no single iteration may need together.
    pub fn largest(peaks: &Peaks) -> Self {
        Self { rows: peaks.rows, joins: peaks.joins, prompts: peaks.joined_tokens, tables: peaks.fresh_blocks }
    }
}

/// Where new rows arrive on the device: the columns of one temporary.
#[derive(Debug)]
pub struct NewRows<'t, L: Location> {
    pub prompts: ViewMut<'t, u32, L>,
    pub lengths: ViewMut<'t, u32, L>,
    pub sampling: ViewMut<'t, Sampling, L>,
    pub random: ViewMut<'t, u64, L>,
    pub tables: ViewMut<'t, u32, L>,
    pub offsets: ViewMut<'t, u32, L>,
}

impl<L: Location> NewRows<'_, L> {
    /// The words of all columns.
    pub fn words(shape: Shape) -> usize {
        let Shape { rows, joins, prompts, tables } = shape;
        let halves = [prompts, joins, tables, rows.saturating_add(1)].map(words::<u32>);
        halves.iter().fold(words::<Sampling>(joins).saturating_add(joins), |sum, &n| sum.saturating_add(n))
    }
}

impl<'t, L: DeviceLocation> NewRows<'t, L> {
    /// Splits `memory` into columns.
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
    Ok(ctx.init_zeros(ctx.plain().alloc_pinned(len)?.stage(ctx))?)
}

/// The words of `len` elements.
pub fn words<T>(len: usize) -> usize {
    len.saturating_mul(size_of::<T>()).div_ceil(size_of::<u64>())
}

/// Takes `len` elements off the front of `memory`.
pub fn take<T: Pod, L: DeviceLocation>(
    memory: ViewMut<'_, u64, L>,
    len: usize,
) -> Result<(ViewMut<'_, T, L>, ViewMut<'_, u64, L>)> {
    let (head, rest) = memory.split_at(words::<T>(len))?;
    Ok((head.try_cast::<T>()?.slice(..len)?, rest))
}

/// Takes `len` elements off the front of host memory.
pub fn take_host<T: Pod>(memory: &mut [u64], len: usize) -> Result<(&mut [T], &mut [u64])> {
    const SHORT: Error = Error::OutOfRange { operand: "rows that go up" };
    let (head, rest) = memory.split_at_mut_checked(words::<T>(len)).ok_or(SHORT)?;
    let head = bytemuck::try_cast_slice_mut(head).ok().and_then(|head| head.get_mut(..len)).ok_or(SHORT)?;
    Ok((head, rest))
}
