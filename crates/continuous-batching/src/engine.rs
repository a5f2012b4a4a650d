//! The memory loop of an inference engine, for any device: what an iteration of continuous batching
//! does with memory.
//!
//! An iteration has three batches of copies, one submission each: new rows are **uploaded**, the
//! states are **re-packed** into their other halves, and, after the **model** has run, tokens and
//! finished histories are **copied to the host**. The caller then synchronises once and reads. With
//! the call that clears the temporaries and the launch of the model these are six driver calls,
//! whatever the batch, because every iteration uploads, moves and returns something.

#![forbid(unsafe_code)]

use tidelock::{BatchCopy, Ctx, DeviceLocation, Result, Stack, Stream, Synced, batch::BatchStats};

use super::memory::{Down, Joins, NewRows, Shape, Up};
use super::model::Model;
use super::pipeline::Iteration;
use super::recorder::{Mark, Recorder, Timed};
use super::rows::{self, Rows};
use super::schedule::{Peaks, Plan};
use super::workload::Request;

/// An engine without its model: the batch, and the memory that moves it.
#[derive(Debug)]
pub struct Engine<L: DeviceLocation> {
    rows: Rows<L>,
    up: Up<L>,
    down: Down<L>,
    joins: Joins,
    /// Temporaries of one iteration.
    arena: Stack<L>,
    copies: BatchCopy,
    /// The statistics of `copies` when the engine was warm.
    warm: BatchStats,
    /// Whether the model has run in this iteration, and only the copies to the host are left.
    generated: bool,
    usage: Usage,
}

/// The statistics of an engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Copies that were added, those left after merging neighbours, and their submissions.
    pub copies_asked: u64,
    pub copies_merged: u64,
    pub submissions: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// The most bytes that the temporaries of one iteration took, and those of the last iteration.
    pub arena_peak_bytes: usize,
    pub arena_bytes: usize,
    /// The bytes of the states of all sequences.
    pub states_bytes: usize,
    /// Iterations that were enqueued while the device was still working on the one before.
    pub ahead: u64,
}

impl<L: DeviceLocation<Backend: Timed>> Engine<L> {
    /// An engine with an empty batch and memory for `peaks`, from the stream's pool.
    ///
    /// # Errors
    ///
    /// Those of the allocations.
    pub fn new(ctx: &Ctx<'_, L>, peaks: &Peaks) -> Result<Self> {
        let pool = &ctx.with_pool();
        Ok(Self {
            rows: Rows::new(pool, peaks)?,
            up: Up::new(pool, peaks)?,
            down: Down::new(pool, peaks)?,
            joins: Joins::new(peaks),
            arena: Stack::new(ctx.pool()),
            copies: BatchCopy::new(),
            warm: BatchStats::default(),
            generated: false,
            usage: Usage::default(),
        })
    }

    /// Runs iterations of the largest shape on an empty batch, so that nothing has to grow later:
    /// neither the arena, nor the storage of copies, nor what the driver caches. Real engines also
    /// warm up before they serve.
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](Self::enqueue).
    pub fn warm_up<M: Model<L>>(&mut self, stream: &mut Stream<L>, model: &mut M, peaks: &Peaks) -> Result<()> {
        // More than one, so that everything that a driver recycles is used.
        const ITERATIONS: usize = 8;
        let (plan, recorder) = (Plan::largest(peaks), Recorder::new());
        for _ in 0..ITERATIONS {
            let ctx = &stream.ctx();
            self.rows.pretend(ctx, &plan)?;
            self.joins.count(&plan, &[]);
            let arena = ctx.with_device_alloc(&self.arena);
            drop(arena.alloc::<u64>(NewRows::<L>::words(Shape::largest(peaks)))?);
            self.enqueue(ctx, model, Iteration { plan: &plan, number: 0, recorder: &recorder })?;
            stream.synchronize()?;
        }
        self.rows.forget();
        self.usage = Usage::default();
        self.warm = self.copies.stats();
        Ok(())
    }

    /// Writes the uploads of the next iteration into staged memory.
    pub fn fill(&mut self, synced: &Synced<'_, L>, plan: &Plan, requests: &[Request], seed: u64) {
        self.joins.count(plan, requests);
        self.up.columns(synced).write(plan, requests, seed);
    }

    /// Enqueues one iteration: the plan that was filled in.
    ///
    /// # Errors
    ///
    /// The error of the library or the device. Rows and states are then unchanged. The same call
    /// may be made again, and continues where it was refused.
    pub fn enqueue<M: Model<L>>(&mut self, ctx: &Ctx<'_, L>, model: &mut M, iteration: Iteration<'_>) -> Result<()> {
        let Iteration { plan, number, recorder } = iteration;
        if !self.generated {
            self.generate(ctx, model, iteration)?;
            self.generated = true;
        }
        let Self { rows, down, copies, usage, .. } = self;
        let before = copies.stats().bytes;
        recorder.stream(ctx, number, Mark::Down);
        rows.bring_down(ctx, copies, plan, down.tokens.view_mut(), down.histories.view_mut())?;
        recorder.stream(ctx, number, Mark::AfterDown);
        usage.bytes_down += copies.stats().bytes - before;
        self.generated = false;
        Ok(())
    }

    /// The token that each row of `plan` has generated.
    pub fn tokens<'a>(&'a self, synced: &'a Synced<'_, L>, plan: &Plan) -> &'a [u32] {
        &self.down.tokens.peek(synced)[..plan.perm.len()]
    }

    /// The histories of the rows in `plan.finishing`, in that order, each without its last token.
    pub fn finished<'a>(&'a self, synced: &'a Synced<'_, L>, plan: &'a Plan) -> impl Iterator<Item = &'a [u32]> {
        rows::finished(self.down.histories.peek(synced), plan)
    }

    /// The statistics since the warm-up.
    pub fn usage(&self) -> Usage {
        let (now, warm) = (self.copies.stats(), self.warm);
        Usage {
            copies_asked: now.asked - warm.asked,
            copies_merged: now.submitted - warm.submitted,
            submissions: now.submissions - warm.submissions,
            arena_peak_bytes: self.usage.arena_peak_bytes.max(self.arena.usage().peak),
            arena_bytes: self.arena.usage().peak,
            states_bytes: self.rows.states_bytes(),
            ..self.usage
        }
    }

    /// Enqueues everything up to the model's own work.
    fn generate<M: Model<L>>(&mut self, ctx: &Ctx<'_, L>, model: &mut M, iteration: Iteration<'_>) -> Result<()> {
        let Iteration { plan, number, recorder } = iteration;
        let Self { rows, up, joins, arena, copies, usage, .. } = self;
        // The arena grows to the size that the previous iteration needed.
        usage.arena_peak_bytes = usage.arena_peak_bytes.max(arena.usage().peak);
        arena.reset()?;
        let in_arena = &ctx.with_device_alloc(&*arena);

        let shape = joins.shape();
        recorder.stream(ctx, number, Mark::Up);
        let mut memory = in_arena.zeros::<u64>(NewRows::<L>::words(shape))?;
        let mut new = NewRows::carve(memory.view_mut(), shape)?;
        let before = copies.stats().bytes;
        rows.bring_up(in_arena, copies, up, shape, &mut new)?;
        usage.bytes_up += copies.stats().bytes - before;
        recorder.stream(ctx, number, Mark::Repack);
        rows.repack(in_arena, copies, plan, joins, &new, None)?;

        recorder.stream(ctx, number, Mark::Model);
        rows.generate(in_arena, model, plan, &new)
    }
}
