//! The engine on two streams: the upload of one iteration overlaps the device's work on the one
//! before.
//!
//! ```text
//! host      plan 2 · fill 2       tokens of 0 · plan 3 · fill 3        tokens of 1 · …
//! upload    ─────────── up 2 ──●  ───────────────── up 3 ──●
//! compute   ── step 1 ────────────○── step 2 ────────────────○── step 3 ───── …
//! ```
//!
//! The memory in which rows arrive exists twice and is transferred in both directions: to the
//! compute stream after its upload, and back to the upload stream after its step. An upload
//! therefore waits for the step before the one that hides it, and a step for an upload that has had
//! a whole step's time. (A loan for the step would order as much, but one step sooner: the next
//! loan begins after the end of the last.) Pinned memory alternates between host and stream, with a
//! fence; no stream is ever synchronised.
//!
//! These are twelve driver calls an iteration at most, whatever the batch: three of two transfers,
//! one of which shares the record of a fence, three of the step, one upload, two fences and the two
//! waits for them, and one query whether the device still has work. If the query finds none, one of
//! the waits is left out.

#![forbid(unsafe_code)]

use std::mem;

use tidelock::{
    BatchCopy, Buffer, Ctx, DeviceLocation, Error, Result, Stack, ViewMut, batch::BatchStats, error::Rejected,
    location::Host, stream::OnBackend,
};

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
    /// The rows of the next step, and those of the step after it.
    arrived: Incoming<U, L>,
    arriving: Incoming<U, L>,
    step: Step<L>,
}

/// New rows on their way to the device, in one piece: host memory, device memory, and the host's
/// counts.
#[derive(Debug)]
pub struct Incoming<U: DeviceLocation, L: DeviceLocation> {
    pinned: Turn<u64, U>,
    device: Place<U, L>,
    joins: Joins,
    bytes: u64,
    uploads: u64,
}

/// Device memory that belongs to one of the two streams.
#[derive(Debug)]
enum Place<U: DeviceLocation, L: DeviceLocation> {
    Upload(Buffer<u64, U>),
    Compute(Buffer<u64, L>),
    /// To neither, during a transfer.
    Nowhere,
}

/// The capabilities of both streams.
#[derive(Debug)]
pub struct Both<'c, U: DeviceLocation, L: DeviceLocation> {
    pub upload: Ctx<'c, U>,
    pub compute: Ctx<'c, L>,
}

/// The memory that the compute stream works with.
#[derive(Debug)]
struct Step<L: DeviceLocation> {
    rows: Rows<L>,
    /// Temporaries of one step.
    arena: Stack<L>,
    copies: BatchCopy,
    /// The statistics of `copies` when the engine was warm.
    warm: BatchStats,
    /// The results of the next step, and those of the step before: tokens, and after them
    /// histories.
    down: Turn<u32, L>,
    down_before: Turn<u32, L>,
    histories: usize,
    progress: Progress,
    usage: Usage,
}

/// Which parts of a step are enqueued already if a later part was refused.
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

/// An iteration: its plan, its number, and its recorder.
#[derive(Clone, Copy, Debug)]
pub struct Iteration<'a> {
    pub plan: &'a Plan,
    pub number: u32,
    pub recorder: &'a Recorder,
}

impl<U, L> Pipeline<U, L>
where
    U: DeviceLocation<Backend: Timed>,
    L: DeviceLocation + OnBackend<Backend = U::Backend>,
{
    /// An engine with an empty batch and memory for `peaks`, from the streams' pools.
    ///
    /// # Errors
    ///
    /// Those of the allocations.
    pub fn new(streams: &Both<'_, U, L>, peaks: &Peaks) -> Result<Self> {
        let Both { upload, compute } = streams;
        Ok(Self {
            arrived: Incoming::new(upload, peaks)?,
            arriving: Incoming::new(upload, peaks)?,
            step: Step::new(compute, peaks)?,
        })
    }

    /// Runs iterations of the largest shape on an empty batch, as
    /// [`Engine::warm_up`](super::engine::Engine::warm_up) does.
    ///
    /// # Errors
    ///
    /// Those of [`step`](Self::step).
    pub fn warm_up<M: Model<L>>(&mut self, streams: &Both<'_, U, L>, model: &mut M, peaks: &Peaks) -> Result<()> {
        // More than one, so that everything that a driver recycles is used.
        const ITERATIONS: usize = 8;
        let (plan, recorder) = (Plan::largest(peaks), Recorder::new());
        let largest = Iteration { plan: &plan, number: 0, recorder: &recorder };
        self.first().send_up(streams, largest, &[], 0)?;
        for _ in 0..ITERATIONS {
            self.step.rows.pretend(&streams.compute, &plan)?;
            self.step(streams, model, largest, |incoming| incoming.send_up(streams, largest, &[], 0))?;
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

    /// Where the rows of the first iteration go, before there is a step that hides their upload.
    pub fn first(&mut self) -> &mut Incoming<U, L> {
        &mut self.arrived
    }

    /// Enqueues one iteration, whose rows were uploaded, and lets `next` upload those of the one
    /// after it.
    ///
    /// # Errors
    ///
    /// The error of the library or the device. The same call may be made again, and continues where
    /// it was refused.
    pub fn step<M: Model<L>>(
        &mut self,
        streams: &Both<'_, U, L>,
        model: &mut M,
        iteration: Iteration<'_>,
        next: impl FnOnce(&mut Incoming<U, L>) -> Result<()>,
    ) -> Result<()> {
        let Self { arrived, arriving, step } = self;
        let Incoming { device, joins, .. } = arrived;
        let rows = device.on_compute(streams)?.view_mut().slice(..words(joins.shape()))?;
        iteration.recorder.host(Phase::Submit, || step.enqueue(&streams.compute, model, iteration, joins, rows))?;
        next(arriving)?;
        // After the step, and on the upload stream after the next upload.
        iteration.recorder.host(Phase::Submit, || device.on_upload(streams).map(drop))?;
        mem::swap(&mut self.arrived, &mut self.arriving);
        self.step.is_over();
        Ok(())
    }

    /// The token that each row of `plan` has generated, and the histories of the rows in
    /// `plan.finishing`, one after the other and each without its last token. It waits until the
    /// stream has copied them to the host.
    ///
    /// # Errors
    ///
    /// The device's error.
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

    /// The statistics since the warm-up.
    pub fn usage(&self) -> Usage {
        let Step { rows, copies, warm, arena, usage, .. } = &self.step;
        let now = copies.stats();
        let uploads = self.arrived.uploads + self.arriving.uploads;
        Usage {
            copies_asked: now.asked - warm.asked + uploads,
            copies_merged: now.submitted - warm.submitted + uploads,
            submissions: now.submissions - warm.submissions + uploads,
            bytes_up: self.arrived.bytes + self.arriving.bytes,
            arena_peak_bytes: usage.arena_peak_bytes.max(arena.usage().peak),
            arena_bytes: arena.usage().peak,
            states_bytes: rows.states_bytes(),
            ..*usage
        }
    }
}

impl<U, L> Incoming<U, L>
where
    U: DeviceLocation<Backend: Timed>,
    L: DeviceLocation + OnBackend<Backend = U::Backend>,
{
    fn new(upload: &Ctx<'_, U>, peaks: &Peaks) -> Result<Self> {
        let words = words(Shape::largest(peaks));
        let (pinned, device) = (Turn::new(upload, words)?, Place::Upload(upload.with_pool().zeros(words)?));
        Ok(Self { pinned, device, joins: Joins::new(peaks), bytes: 0, uploads: 0 })
    }

    /// Writes the upload of an iteration, enqueues it, and transfers its memory to the compute
    /// stream.
    ///
    /// # Errors
    ///
    /// The device's error. The same call may be made again.
    pub fn send_up(
        &mut self,
        streams: &Both<'_, U, L>,
        iteration: Iteration<'_>,
        requests: &[Request],
        seed: u64,
    ) -> Result<()> {
        let Self { pinned, device, joins, bytes, uploads } = self;
        let Iteration { plan, number, recorder } = iteration;
        joins.count(plan, requests);
        let shape = joins.shape();
        // If it belongs to the stream, it was filled before a call was refused.
        if let Some(memory) = recorder.host(Phase::Wait, || pinned.host())? {
            recorder.host(Phase::Fill, || {
                let (cached, memory) = memory::take_host::<u32>(memory, shape.joins)?;
                cached.fill(0);
                Columns::carve(memory, shape)?.write(plan, requests, seed);
                Ok::<_, Error>(())
            })?;
        }
        recorder.host(Phase::Submit, || {
            let upload = &streams.upload;
            let arrival = device.on_upload(streams)?.view_mut().slice(..words(shape))?;
            let staged = pinned.stage(upload)?;
            recorder.stream(upload, number, Mark::Up);
            upload.copy(staged.view().slice(..words(shape))?, arrival)?;
            recorder.stream(upload, number, Mark::AfterUp);
            pinned.fence(upload)?;
            device.on_compute(streams).map(drop)
        })?;
        *bytes += 8 * words(shape) as u64;
        *uploads += 1;
        Ok(())
    }
}

impl<U, L> Place<U, L>
where
    U: DeviceLocation,
    L: DeviceLocation + OnBackend<Backend = U::Backend>,
{
    /// Transfers the memory to the compute stream, after what the upload stream has enqueued. It
    /// makes no driver call if the memory is there already.
    fn on_compute(&mut self, streams: &Both<'_, U, L>) -> Result<&mut Buffer<u64, L>> {
        if let Self::Upload(_) = self {
            self.hand_over(streams)?;
        }
        match self {
            Self::Compute(buffer) => Ok(buffer),
            _ => Err(LOST),
        }
    }

    /// Transfers the memory to the upload stream, after what the compute stream has enqueued. It
    /// makes no driver call if the memory is there already.
    fn on_upload(&mut self, streams: &Both<'_, U, L>) -> Result<&mut Buffer<u64, U>> {
        if let Self::Compute(_) = self {
            self.hand_over(streams)?;
        }
        match self {
            Self::Upload(buffer) => Ok(buffer),
            _ => Err(LOST),
        }
    }

    fn hand_over(&mut self, streams: &Both<'_, U, L>) -> Result<()> {
        let Both { upload, compute } = streams;
        let (place, answer) = match mem::replace(self, Self::Nowhere) {
            Self::Upload(buffer) => match upload.transfer(buffer, compute) {
                Ok(buffer) => (Self::Compute(buffer), Ok(())),
                Err(Rejected { error, value, .. }) => (Self::Upload(value), Err(error)),
            },
            Self::Compute(buffer) => match compute.transfer(buffer, upload) {
                Ok(buffer) => (Self::Upload(buffer), Ok(())),
                Err(Rejected { error, value, .. }) => (Self::Compute(value), Err(error)),
            },
            Self::Nowhere => (Self::Nowhere, Err(LOST)),
        };
        *self = place;
        answer
    }
}

/// Memory that was being transferred when something panicked.
const LOST: Error = Error::OutOfRange { operand: "memory between the streams" };

impl<L: DeviceLocation<Backend: Timed>> Step<L> {
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

    /// Enqueues the parts of a step that are not enqueued yet, on the rows that arrived in
    /// `memory`.
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
            arena.reset()?;
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

/// The words of an upload: the cached lengths of the joining rows, which are zero, and their
/// columns.
fn words(shape: Shape) -> usize {
    memory::words::<u32>(shape.joins).saturating_add(NewRows::<Host>::words(shape))
}
