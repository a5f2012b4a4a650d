//! The memory loop of an inference engine, for any device: what an iteration of continuous batching does with memory.
//!
//! An iteration has three batches of copies, one submission each: new rows go **up**, the states are **re-packed** into
//! their other halves, and, after the **model** has run, tokens and finished histories come **down**. The caller then
//! synchronises once and reads. With the call that clears the temporaries and the launch of the model these are six driver
//! calls, whatever the batch: something goes up, moves and comes down in every iteration.

#![forbid(unsafe_code)]

use std::mem;
use std::num::NonZero;

use tidelock::{
    BatchCopy, BatchStats, Buffer, Ctx, DeviceLocation, Error, Offsets, Permutation, Result, Stack, Stream, Synced,
};

use super::memory::{Down, NewRows, Shape, States, Up};
use super::model::{Model, Sequences};
use super::schedule::{Peaks, Plan};
use super::workload::{self, Request};

/// The states of all sequences in the batch, and the ways up and down.
#[derive(Debug)]
pub struct Engine<L: DeviceLocation> {
    states: States<L>,
    /// The token each row generated last.
    tokens: Buffer<u32, L>,
    up: Up<L>,
    down: Down<L>,
    table: HostTable,
    arena: Stack<L>,
    batch: BatchCopy,
    /// What `batch` had done when the engine was warm.
    warm: BatchStats,
    /// The width of a row of the token histories.
    width: NonZero<usize>,
    /// Whether the model has run in this iteration; what is left is the way down.
    generated: bool,
    usage: Usage,
}

/// What an engine has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Copies that were asked for, those left after merging neighbours, and the submissions they went in.
    pub copies_asked: u64,
    pub copies_merged: u64,
    pub submissions: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// The most that one iteration's temporaries took.
    pub arena_peak_bytes: usize,
}

/// What the host has to know of the rows to move them.
#[derive(Debug)]
struct HostTable {
    /// Tokens that each row held when its last token was generated, and room for the next batch's.
    lengths: Vec<u32>,
    next_lengths: Vec<u32>,
    /// Where the block table of each row begins, and room for the next batch's.
    offsets: Vec<u32>,
    next_offsets: Vec<u32>,
    /// Where the prompt of each row that joins begins in what goes up.
    prompts: Vec<u32>,
}

impl<L: DeviceLocation> Engine<L> {
    /// An engine with an empty batch and memory for `peaks`, from the stream's pool.
    ///
    /// # Errors
    ///
    /// Those of the allocations.
    pub fn new(ctx: &Ctx<'_, L>, peaks: &Peaks) -> Result<Self> {
        let ctx = &ctx.with_pool();
        Ok(Self {
            states: States::new(ctx, peaks)?,
            tokens: ctx.zeros(peaks.rows)?,
            up: Up::new(ctx, peaks)?,
            down: Down::new(ctx, peaks)?,
            table: HostTable::new(peaks),
            arena: Stack::new(ctx.pool()),
            batch: BatchCopy::new(),
            warm: BatchStats::default(),
            width: NonZero::new(peaks.history).unwrap_or(NonZero::<usize>::MIN),
            generated: false,
            usage: Usage::default(),
        })
    }

    /// Runs iterations of the largest shape on an empty batch, so that nothing has to grow later: neither the arena, nor
    /// the storage of copies, nor what the driver keeps. Engines do the same before they serve.
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](Self::enqueue).
    pub fn warm_up<M: Model<L>>(&mut self, stream: &mut Stream<L>, model: &mut M, peaks: &Peaks) -> Result<()> {
        // More than one, so that whatever a driver recycles takes its turn.
        const ITERATIONS: usize = 8;
        let plan = Plan::largest(peaks);
        for _ in 0..ITERATIONS {
            self.table.lengths.clear();
            self.table.lengths.resize(peaks.rows, 1);
            self.table.offsets.clone_from(&plan.block_offsets);
            let ctx = &stream.ctx();
            let arena = ctx.with_device_alloc(&self.arena);
            drop(arena.device::<u64>(NewRows::<L>::words(Shape::largest(peaks)))?);
            // The host moves rows of one token, in which the model sees none.
            ctx.clear::<u32, L>(self.states.lengths.front_mut())?;
            ctx.clear::<u32, L>(self.states.cached.front_mut())?;
            self.enqueue(ctx, model, &plan)?;
            stream.synchronize()?;
        }
        self.table = HostTable::new(peaks);
        self.usage = Usage::default();
        self.warm = self.batch.stats();
        Ok(())
    }

    /// Writes down what goes up in the next iteration.
    ///
    /// Prompts and parameters are functions of the seed; where a real engine gets them from does not matter here.
    pub fn fill(&mut self, synced: &Synced<'_, L>, plan: &Plan, requests: &[Request], seed: u64) {
        let Self { up, table, .. } = self;
        let mut rest = up.prompts.peek_mut(synced);
        let lengths = up.lengths.peek_mut(synced);
        let sampling = up.sampling.peek_mut(synced);
        let random = up.random.peek_mut(synced);
        table.prompts.clear();
        table.prompts.push(0);
        let mut end = 0;
        let joins = plan.joins.iter().map(|&join| requests[join]);
        for (((request, length), sampling), random) in joins.zip(lengths).zip(sampling).zip(random) {
            let (prompt, behind) = mem::take(&mut rest).split_at_mut(request.prompt as usize);
            for (token, k) in prompt.iter_mut().zip(0..) {
                *token = workload::prompt_token(seed, request.id, k);
            }
            rest = behind;
            end += request.prompt;
            table.prompts.push(end);
            *length = request.prompt;
            *sampling = workload::sampling(seed, request.id);
            *random = workload::random_state(seed, request.id);
        }
        up.tables.peek_mut(synced)[..plan.fresh_blocks.len()].copy_from_slice(&plan.fresh_blocks);
        up.offsets.peek_mut(synced)[..plan.block_offsets.len()].copy_from_slice(&plan.block_offsets);
    }

    /// Enqueues one iteration: the plan that was filled in.
    ///
    /// # Errors
    ///
    /// What the library or the device answered. Rows and states are then as they were: the same call may be tried again,
    /// and goes on where it was refused.
    pub fn enqueue<M: Model<L>>(&mut self, ctx: &Ctx<'_, L>, model: &mut M, plan: &Plan) -> Result<()> {
        if !self.generated {
            self.generate(ctx, model, plan)?;
            self.generated = true;
        }
        self.bring_down(ctx, plan)?;
        self.generated = false;
        Ok(())
    }

    /// The token that each row of `plan` has generated.
    pub fn tokens<'a>(&'a self, synced: &'a Synced<'_, L>, plan: &Plan) -> &'a [u32] {
        &self.down.tokens.peek(synced)[..plan.perm.len()]
    }

    /// The histories of the rows in `plan.finishing`, in that order, each without its last token.
    pub fn finished<'a>(&'a self, synced: &'a Synced<'_, L>, plan: &'a Plan) -> impl Iterator<Item = &'a [u32]> {
        let mut rest = self.down.histories.peek(synced);
        plan.finishing.iter().map(move |&row| {
            let (history, behind) = rest.split_at(plan.lengths[row as usize] as usize);
            rest = behind;
            history
        })
    }

    /// What has been done so far.
    pub fn usage(&self) -> Usage {
        let (now, warm) = (self.batch.stats(), self.warm);
        Usage {
            copies_asked: now.asked - warm.asked,
            copies_merged: now.submitted - warm.submitted,
            submissions: now.submissions - warm.submissions,
            arena_peak_bytes: self.usage.arena_peak_bytes.max(self.arena.usage().peak),
            ..self.usage
        }
    }

    /// Everything up to the model's own work.
    fn generate<M: Model<L>>(&mut self, ctx: &Ctx<'_, L>, model: &mut M, plan: &Plan) -> Result<()> {
        // The arena becomes as large as the iteration before would have liked it.
        self.usage.arena_peak_bytes = self.usage.arena_peak_bytes.max(self.arena.usage().peak);
        self.arena.iter()?;
        let ctx = &ctx.with_device_alloc(&self.arena);
        let Self { states, tokens, up, table, batch, width, .. } = self;

        let joining = table.prompts.len().saturating_sub(1);
        let shape = Shape::of(plan, table.prompts.last().copied().unwrap_or(0) as usize);
        let Shape { rows, joins, .. } = shape;
        let old = plan.old_rows as usize;
        debug_assert_eq!(joining, joins, "the plan was filled in");
        let mut memory = ctx.zeros::<u64>(NewRows::<L>::words(shape))?;
        let mut new = NewRows::carve(memory.view_mut(), shape)?;

        // Up: into the temporaries, and where a value is known to be missing, straight into its place.
        let before = batch.stats().bytes;
        batch.scope(ctx, |b| {
            b.copy(up.prompts.view().slice(..shape.prompts)?, new.prompts.reborrow())?;
            b.copy(up.lengths.view().slice(..joins)?, new.lengths.reborrow())?;
            b.copy(up.sampling.view().slice(..joins)?, new.sampling.reborrow())?;
            b.copy(up.random.view().slice(..joins)?, new.random.reborrow())?;
            b.copy(up.tables.view().slice(..shape.tables)?, new.tables.reborrow())?;
            b.copy(up.offsets.view().slice(..rows + 1)?, new.offsets.reborrow())?;
            b.copy(up.cached.view().slice(..joins)?, states.cached.back_mut().slice(rows - joins..rows)?)
        })?;
        self.usage.bytes_up += batch.stats().bytes - before;

        // Re-pack: from the front of every state, and the new rows, to its back.
        let each = NonZero::<usize>::MIN;
        let perm = Permutation::new(&plan.perm, old, joins)?;
        let table_perm = Permutation::new(&plan.block_perm, old, plan.fresh_block_offsets.len() - 1)?;
        table.next_lengths.resize(rows, 0);
        table.next_offsets.resize(rows + 1, 0);
        batch.scope(ctx, |b| {
            b.group(|g| {
                let (front, back) = states.history.both();
                let (front, back) = (front.rows(*width)?.first(old)?, back.rows(*width)?.first(rows)?);
                let prompts = new.prompts.as_view().ragged(Offsets::new(&table.prompts, "prompts")?)?;
                let tokens = tokens.view().slice(..old)?;
                g.append(front, &table.lengths, tokens, prompts, perm, back, &mut table.next_lengths)
            })?;
            b.group(|g| {
                let (front, back) = states.lengths.both();
                let (front, back) = (front.rows(each)?.first(old)?, back.rows(each)?.first(rows)?);
                g.warp_join(front, new.lengths.as_view().rows(each)?, perm, back)
            })?;
            b.group(|g| {
                let (front, back) = states.cached.both();
                g.warp(front.rows(each)?.first(old)?, perm, back.rows(each)?.first(rows)?)
            })?;
            b.group(|g| {
                let (front, back) = states.sampling.both();
                let (front, back) = (front.rows(each)?.first(old)?, back.rows(each)?.first(rows)?);
                g.warp_join(front, new.sampling.as_view().rows(each)?, perm, back)
            })?;
            b.group(|g| {
                let (front, back) = states.random.both();
                let (front, back) = (front.rows(each)?.first(old)?, back.rows(each)?.first(rows)?);
                g.warp_join(front, new.random.as_view().rows(each)?, perm, back)
            })?;
            b.group(|g| {
                let (front, back) = states.tables.both();
                let front = front.ragged(Offsets::new(&table.offsets, "block table offsets")?)?;
                let fresh = Offsets::new(&plan.fresh_block_offsets, "fresh block table offsets")?;
                let fresh = new.tables.as_view().ragged(fresh)?;
                g.warp_ragged(front, fresh, table_perm, back, &mut table.next_offsets)
            })
        })?;
        debug_assert_eq!(table.next_lengths, plan.lengths, "the histories are as long as the plan says");
        debug_assert_eq!(table.next_offsets, plan.block_offsets, "the tables lie where the device was told");

        // The model: on the states as re-packed. If it is refused, the fronts are the old states again.
        states.swap();
        let answer = model.generate(
            ctx,
            Sequences {
                history: states.history.front().rows(*width)?.first(rows)?,
                lengths: states.lengths.front_mut().slice(..rows)?,
                cached: states.cached.front_mut().slice(..rows)?,
                sampling: states.sampling.front().slice(..rows)?,
                random: states.random.front_mut().slice(..rows)?,
                tables: states.tables.front().slice(..plan.total_blocks() as usize)?,
                offsets: new.offsets.as_view(),
                tokens: tokens.view_mut().slice(..rows)?,
            },
        );
        match answer {
            Ok(()) => table.swap(),
            Err(_) => states.swap(),
        }
        answer
    }

    /// Tokens of all rows, and the histories of those that finish.
    fn bring_down(&mut self, ctx: &Ctx<'_, L>, plan: &Plan) -> Result<()> {
        let Self { states, tokens, down, batch, width, .. } = self;
        let rows = plan.perm.len();
        let before = batch.stats().bytes;
        batch.scope(ctx, |b| {
            b.copy(tokens.view().slice(..rows)?, down.tokens.view_mut().slice(..rows)?)?;
            let histories = states.history.front().rows(*width)?;
            let mut rest = down.histories.view_mut();
            for &row in &plan.finishing {
                let (history, behind) = rest.split_at(plan.lengths[row as usize] as usize)?;
                b.copy(histories.row(row as usize)?.slice(..history.len())?, history)?;
                rest = behind;
            }
            Ok::<_, Error>(())
        })?;
        self.usage.bytes_down += batch.stats().bytes - before;
        Ok(())
    }
}

impl HostTable {
    fn new(peaks: &Peaks) -> Self {
        let mut offsets = Vec::with_capacity(peaks.rows + 1);
        offsets.push(0);
        let mut prompts = Vec::with_capacity(peaks.joins + 1);
        prompts.push(0);
        Self {
            lengths: Vec::with_capacity(peaks.rows),
            next_lengths: Vec::with_capacity(peaks.rows),
            offsets,
            next_offsets: Vec::with_capacity(peaks.rows + 1),
            prompts,
        }
    }

    fn swap(&mut self) {
        mem::swap(&mut self.lengths, &mut self.next_lengths);
        mem::swap(&mut self.offsets, &mut self.next_offsets);
    }
}
