//! The engine on two streams: what goes up for one iteration travels while the device works on the one before.
//!
//! ```text
//! host      plan 2 · fill 2       tokens of 0 · plan 3 · fill 3        tokens of 1 · …
//! upload    ─────────── up 2 ──●  ───────────────── up 3 ──●
//! compute   ── step 1 ────────────○── step 2 ────────────────○── step 3 ───── …
//! ```
//!
//! The memory in which rows arrive belongs to the upload stream, twice, and is lent to the compute stream for a step. A
//! loan orders the step behind its upload, and the upload after the next, which goes into the same memory, behind the step.
//! The next upload is enqueued inside of the loan and waits for nothing. Pinned memory takes turns between host and stream,
//! with a fence; no stream is ever synchronised.
//!
//! These are thirteen driver calls an iteration, whatever the batch: four of the loan, three of the step, one upload, two
//! fences and the two waits for them, and one that asks whether the device still has work.

#![forbid(unsafe_code)]

use std::mem;

use tidelock::{BatchCopy, BatchStats, Buffer, Ctx, DeviceLocation, OnBackend, Result, Stack, ViewMut};

use super::engine::Usage;
use super::memory::{self, Columns, Joins, NewRows, Shape};
use super::model::Model;
use super::recorder::{Mark, Phase, Recorder, Timed};
use super::rows::Rows;
use super::schedule::{Peaks, Plan};
use super::turn::Turn;
use super::workload::Request;

/// An engine without its model, on an upload stream `U` and a compute stream `L`.
#[derive(Debug)]
pub struct Pipeline<U: DeviceLocation, L: DeviceLocation> {
    /// The rows that the step to come works on, and those of the one behind it.
    arrived: Incoming<U>,
    arriving: Incoming<U>,
    step: Step<L>,
}

/// New rows on their way up, in one piece: host memory, device memory, and what the host knows of them.
#[derive(Debug)]
pub struct Incoming<U: DeviceLocation> {
    pinned: Turn<u64, U>,
    device: Buffer<u64, U>,
    joins: Joins,
    bytes: u64,
    uploads: u64,
}

/// What the compute stream works with.
#[derive(Debug)]
struct Step<L: DeviceLocation> {
    rows: Rows<L>,
    /// Temporaries of one step.
    arena: Stack<L>,
    copies: BatchCopy,
    /// What `copies` had done when the engine was warm.
    warm: BatchStats,
    /// What comes down in the step to come, and what came down in the one before it: tokens, and behind them histories.
    down: Turn<u32, L>,
    down_before: Turn<u32, L>,
    histories: usize,
    progress: Progress,
    usage: Usage,
}

/// What of a step is enqueued already if a later part of it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Nothing,
    Generated,
    BroughtDown,
}

/// Which of the two steps that were enqueued last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    Last,
    BeforeLast,
}

/// An iteration: its plan, its number, and what measures it.
#[derive(Clone, Copy, Debug)]
pub struct Iteration<'a> {
    pub plan: &'a Plan,
    pub number: u32,
    pub recorder: &'a Recorder,
}

impl<U, L> Pipeline<U, L>
where
    U: Timed,
    L: Timed + OnBackend<Backend = U::Backend>,
{
    /// An engine with an empty batch and memory for `peaks`, from the streams' pools.
    ///
    /// # Errors
    ///
    /// Those of the allocations.
    pub fn new(upload: &Ctx<'_, U>, compute: &Ctx<'_, L>, peaks: &Peaks) -> Result<Self> {
        Ok(Self {
            arrived: Incoming::new(upload, peaks)?,
            arriving: Incoming::new(upload, peaks)?,
            step: Step::new(compute, peaks)?,
        })
    }

    /// Runs iterations of the largest shape on an empty batch, as [`Engine::warm_up`](super::engine::Engine::warm_up) does.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub fn warm_up<M: Model<L>>(
        &mut self,
        upload: &Ctx<'_, U>,
        compute: &Ctx<'_, L>,
        model: &mut M,
        peaks: &Peaks,
    ) -> Result<()> {
        // More than one, so that whatever a driver recycles takes its turn.
        const ITERATIONS: usize = 8;
        let (plan, recorder) = (Plan::largest(peaks), Recorder::new());
        let largest = Iteration { plan: &plan, number: 0, recorder: &recorder };
        self.first().send_up(upload, largest, &[], 0)?;
        for _ in 0..ITERATIONS {
            self.step.rows.pretend(compute, &plan)?;
            self.step(upload, compute, model, largest, |incoming| incoming.send_up(upload, largest, &[], 0))?;
            self.received(Age::BeforeLast, &plan)?;
        }
        self.received(Age::Last, &plan)?;
        self.step.rows.forget();
        self.step.usage = Usage::default();
        self.step.warm = self.step.copies.stats();
        for incoming in [&mut self.arrived, &mut self.arriving] {
            (incoming.bytes, incoming.uploads) = (0, 0);
        }
        Ok(())
    }

    /// Where the rows of the first iteration go, before there is a step to hide their way behind.
    pub fn first(&mut self) -> &mut Incoming<U> {
        &mut self.arrived
    }

    /// Enqueues one iteration, whose rows were sent up, and lets `next` send up those of the one behind it.
    ///
    /// # Errors
    ///
    /// What the library or the device answered. The same call may be tried again, and goes on where it was refused.
    pub fn step<M: Model<L>>(
        &mut self,
        upload: &Ctx<'_, U>,
        compute: &Ctx<'_, L>,
        model: &mut M,
        iteration: Iteration<'_>,
        next: impl FnOnce(&mut Incoming<U>) -> Result<()>,
    ) -> Result<()> {
        let Self { arrived: Incoming { device, joins, .. }, arriving, step } = self;
        let words = words(joins.shape());
        upload.lend_mut(device.view_mut().slice(..words)?, compute, |rows| {
            iteration.recorder.host(Phase::Submit, || step.enqueue(compute, model, iteration, joins, rows))?;
            next(arriving)
        })??;
        mem::swap(&mut self.arrived, &mut self.arriving);
        self.step.is_over();
        Ok(())
    }

    /// The token that each row of `plan` has generated, and the histories of the rows in `plan.finishing`, one behind the
    /// other and each without its last token; the stream is waited for until it has brought them down.
    ///
    /// # Errors
    ///
    /// What the device answered.
    pub fn received(&mut self, age: Age, plan: &Plan) -> Result<(&[u32], &[u32])> {
        let Step { down, down_before, histories, .. } = &mut self.step;
        let down = match age {
            Age::Last => down_before,
            Age::BeforeLast => down,
        };
        let received: &[u32] = down.host()?.unwrap_or_default();
        let (tokens, histories) = received.split_at_checked(*histories).unwrap_or_default();
        Ok((&tokens[..plan.perm.len()], histories))
    }

    /// What has been done since the warm-up.
    pub fn usage(&self) -> Usage {
        let Step { copies, warm, arena, usage, .. } = &self.step;
        let now = copies.stats();
        let uploads = self.arrived.uploads + self.arriving.uploads;
        Usage {
            copies_asked: now.asked - warm.asked + uploads,
            copies_merged: now.submitted - warm.submitted + uploads,
            submissions: now.submissions - warm.submissions + uploads,
            bytes_up: self.arrived.bytes + self.arriving.bytes,
            arena_peak_bytes: usage.arena_peak_bytes.max(arena.usage().peak),
            ..*usage
        }
    }
}

impl<U: Timed> Incoming<U> {
    fn new(upload: &Ctx<'_, U>, peaks: &Peaks) -> Result<Self> {
        let words = words(Shape::largest(peaks));
        let (pinned, device) = (Turn::new(upload, words)?, upload.with_pool().zeros(words)?);
        Ok(Self { pinned, device, joins: Joins::new(peaks), bytes: 0, uploads: 0 })
    }

    /// Writes down what goes up for an iteration, and enqueues its way up.
    ///
    /// # Errors
    ///
    /// What the device answered. The same call may be tried again.
    pub fn send_up(
        &mut self,
        upload: &Ctx<'_, U>,
        iteration: Iteration<'_>,
        requests: &[Request],
        seed: u64,
    ) -> Result<()> {
        let Self { pinned, device, joins, bytes, uploads } = self;
        let Iteration { plan, number, recorder } = iteration;
        joins.count(plan, requests);
        let shape = joins.shape();
        // If it is the stream's, it was filled before a call was refused.
        if let Some(memory) = recorder.host(Phase::Wait, || pinned.host())? {
            recorder.host(Phase::Fill, || {
                let (cached, memory) = memory::take_host::<u32>(memory, shape.joins)?;
                cached.fill(0);
                Columns::carve(memory, shape)?.write(plan, requests, seed);
                Ok::<_, tidelock::Error>(())
            })?;
        }
        recorder.host(Phase::Submit, || {
            let staged = pinned.stage(upload)?;
            recorder.stream(upload, number, Mark::Up);
            upload.copy(staged.view().slice(..words(shape))?, device.view_mut().slice(..words(shape))?)?;
            recorder.stream(upload, number, Mark::AfterUp);
            pinned.fence(upload)
        })?;
        *bytes += 8 * words(shape) as u64;
        *uploads += 1;
        Ok(())
    }
}

impl<L: Timed> Step<L> {
    fn new(ctx: &Ctx<'_, L>, peaks: &Peaks) -> Result<Self> {
        let down = peaks.rows.saturating_add(peaks.finished_tokens);
        Ok(Self {
            rows: Rows::new(&ctx.with_pool(), peaks)?,
            arena: Stack::new(ctx.pool()),
            copies: BatchCopy::new(),
            warm: BatchStats::default(),
            down: Turn::new(ctx, down)?,
            down_before: Turn::new(ctx, down)?,
            histories: peaks.rows,
            progress: Progress::Nothing,
            usage: Usage::default(),
        })
    }

    /// Enqueues what is not enqueued yet of a step on the rows that arrived in `memory`.
    fn enqueue<M: Model<L>>(
        &mut self,
        ctx: &Ctx<'_, L>,
        model: &mut M,
        iteration: Iteration<'_>,
        joins: &Joins,
        memory: ViewMut<'_, u64, L>,
    ) -> Result<()> {
        let Self { rows, arena, copies, down, down_before, histories, progress, usage, .. } = self;
        let Iteration { plan, number, recorder } = iteration;
        if *progress < Progress::Generated {
            usage.arena_peak_bytes = usage.arena_peak_bytes.max(arena.usage().peak);
            arena.iter()?;
            let in_arena = &ctx.with_device_alloc(&*arena);
            let (cached, memory) = memory::take(memory, joins.shape().joins)?;
            let new = NewRows::carve(memory, joins.shape())?;
            recorder.stream(ctx, number, Mark::Repack);
            rows.repack(in_arena, copies, plan, joins, &new, Some(cached.as_view()))?;
            recorder.stream(ctx, number, Mark::Model);
            rows.generate(in_arena, model, plan, &new)?;
            *progress = Progress::Generated;
        }
        if *progress < Progress::BroughtDown {
            recorder.stream(ctx, number, Mark::Down);
            let (tokens, histories) = down.stage(ctx)?.view_mut().split_at(*histories)?;
            let before = copies.stats().bytes;
            rows.bring_down(ctx, copies, plan, tokens, histories)?;
            usage.bytes_down += copies.stats().bytes - before;
            recorder.stream(ctx, number, Mark::AfterDown);
            *progress = Progress::BroughtDown;
        }
        down.fence(ctx)?;
        usage.ahead += u64::from(down_before.is_under_way()?);
        Ok(())
    }

    fn is_over(&mut self) {
        mem::swap(&mut self.down, &mut self.down_before);
        self.progress = Progress::Nothing;
    }
}

/// The words that go up in one iteration: what of the rows that join is cached, which is nothing, and their columns.
fn words(shape: Shape) -> usize {
    memory::words::<u32>(shape.joins).saturating_add(NewRows::<()>::words(shape))
}
