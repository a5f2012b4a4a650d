//! Replaying a workload through the engine, and checking everything it generates.

#![forbid(unsafe_code)]

use std::mem;
use std::num::NonZeroU32;
use std::time::Instant;

use indicatif::ProgressBar;
use tidelock::{Ctx, DeviceLocation, Result, Stream, driver::Backend, stream::OnBackend};

use super::engine::{Engine, Usage};
use super::model::Model;
use super::oracle::{Digest, Mismatch, Oracle};
use super::pipeline::{Age, Both, Iteration, Pipeline};
use super::recorder::{Meter, Phase, Recorder, Recording, Sample, Timed};
use super::rows;
use super::schedule::{Peaks, Plan, Scheduler, Seq};
use super::table::Summary;
use super::workload::Request;
use tidelock_test_support::heap;

/// What to replay.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'r> {
    pub requests: &'r [Request],
    pub max_batch: NonZeroU32,
    pub seed: u64,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    pub summary: Summary,
    /// The first few requests that differ from the oracle.
    pub mismatches: Vec<Mismatch>,
    /// The recording, if one was wanted.
    pub recording: Option<Recording>,
}

/// Iterations before the steady state that the table describes.
const WARM_UP: u64 = 16;

impl Replay<'_> {
    /// Serves every request on `stream`, with a model that `model` makes for the largest batch.
    ///
    /// `meter` returns the number of driver calls so far, and whether a recording is wanted.
    ///
    /// # Errors
    ///
    /// The device's error. A wrong token is not an error but part of the outcome.
    pub fn run<L: DeviceLocation<Backend: Timed>, M: Model<L>>(
        self,
        mut stream: Stream<L>,
        model: impl FnOnce(&Ctx<'_, L>, &Peaks) -> Result<M>,
        meter: impl Meter,
        progress: &ProgressBar,
    ) -> Result<Outcome> {
        let Self { requests, seed, .. } = self;
        let mut scheduler = self.scheduler();
        let peaks = *scheduler.peaks();
        let mut batch = Batch::new(&scheduler);
        let mut run = Run::new(self, &peaks, meter, progress);

        let mut model = model(&stream.ctx(), &peaks)?;
        let mut engine = Engine::new(&stream.ctx(), &peaks)?;
        engine.warm_up(&mut stream, &mut model, &peaks)?;
        let mut synced = stream.synchronize()?;

        run.begin();
        for number in 0.. {
            run.recorder.iteration(number);
            if !run.recorder.host(Phase::Plan, || batch.form(&mut scheduler)) {
                break;
            }
            let iteration = Iteration { plan: &batch.plan, number, recorder: &run.recorder };
            run.recorder.host(Phase::Fill, || engine.fill(&synced, &batch.plan, requests, seed));
            run.recorder.host(Phase::Submit, || engine.enqueue(&stream.ctx(), &mut model, iteration))?;
            run.sample(&stream.ctx(), &batch, engine.usage());
            synced = run.recorder.host(Phase::Wait, || stream.synchronize())?;
            run.summary.synchronises += 1;
            run.check(&batch, engine.tokens(&synced, &batch.plan), engine.finished(&synced, &batch.plan));
            run.count(true);
        }
        Ok(run.end(1, engine.usage()))
    }

    /// As [`run`](Self::run), on two streams: the uploads are on `upload`.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn run_on_two<U, L, M>(
        self,
        upload: &Stream<U>,
        compute: &Stream<L>,
        model: impl FnOnce(&Ctx<'_, L>, &Peaks) -> Result<M>,
        meter: impl Meter,
        progress: &ProgressBar,
    ) -> Result<Outcome>
    where
        U: DeviceLocation<Backend: Timed>,
        L: DeviceLocation + OnBackend<Backend = U::Backend>,
        M: Model<L>,
    {
        let Self { requests, seed, .. } = self;
        let streams = &Both { upload: upload.ctx(), compute: compute.ctx() };
        let mut scheduler = self.scheduler();
        let peaks = *scheduler.peaks();
        let [mut before, mut now, mut next] = [(); 3].map(|()| Batch::new(&scheduler));
        let mut run = Run::new(self, &peaks, meter, progress);

        let mut model = model(&streams.compute, &peaks)?;
        let mut engine = Pipeline::new(streams, &peaks)?;
        engine.warm_up(streams, &mut model, &peaks)?;

        run.begin();
        let mut goes_on = run.recorder.host(Phase::Plan, || next.form(&mut scheduler));
        if goes_on {
            let first = Iteration { plan: &next.plan, number: 0, recorder: &run.recorder };
            engine.first().send_up(streams, first, requests, seed)?;
        }
        for number in 0.. {
            if !goes_on {
                break;
            }
            run.recorder.iteration(number);
            // The plan is now enqueued, and the results of the one before will soon be on the host.
            mem::swap(&mut before, &mut now);
            mem::swap(&mut now, &mut next);
            let iteration = Iteration { plan: &now.plan, number, recorder: &run.recorder };
            engine.step(streams, &mut model, iteration, |incoming| {
                goes_on = run.recorder.host(Phase::Plan, || next.form(&mut scheduler));
                if !goes_on {
                    return Ok(());
                }
                incoming.send_up(
                    streams,
                    Iteration { plan: &next.plan, number: number + 1, ..iteration },
                    requests,
                    seed,
                )
            })?;
            if number > 0 {
                let answer = run.recorder.host(Phase::Wait, || engine.received(Age::BeforeLast, &before.plan));
                let (tokens, histories) = answer?;
                run.check(&before, tokens, rows::finished(histories, &before.plan));
            }
            run.sample(&streams.compute, &now, engine.usage());
            run.count(goes_on);
        }
        if run.summary.iterations > 0 {
            let answer = run.recorder.host(Phase::Wait, || engine.received(Age::Last, &now.plan));
            let (tokens, histories) = answer?;
            run.check(&now, tokens, rows::finished(histories, &now.plan));
        }
        Ok(run.end(2, engine.usage()))
    }

    fn scheduler(&self) -> Scheduler<'_> {
        Scheduler::new(self.requests, self.max_batch, self.seed)
    }
}

/// A batch as it was formed, which stays while the scheduler forms the next one.
#[derive(Debug)]
struct Batch {
    plan: Plan,
    rows: Vec<Seq>,
}

impl Batch {
    fn new(scheduler: &Scheduler<'_>) -> Self {
        Self { plan: scheduler.plan(), rows: Vec::with_capacity(scheduler.peaks().rows) }
    }

    /// Forms the next batch. Returns `false` if there is none.
    fn form(&mut self, scheduler: &mut Scheduler<'_>) -> bool {
        let formed = scheduler.advance(&mut self.plan);
        self.rows.clear();
        self.rows.extend((0..self.plan.perm.len()).map_while(|i| scheduler.seq(i)));
        formed
    }
}

/// A run in progress: its counts and checks, whatever the engine.
struct Run<'r, W> {
    summary: Summary,
    verifier: Verifier<'r>,
    recorder: Recorder,
    meter: W,
    progress: &'r ProgressBar,
    start: Instant,
    usage: Usage,
    /// Driver calls and heap allocations at the end of the iteration before.
    before: (u64, u64),
}

impl<'r, W: Meter> Run<'r, W> {
    fn new(replay: Replay<'r>, peaks: &Peaks, meter: W, progress: &'r ProgressBar) -> Self {
        let Replay { requests, seed, .. } = replay;
        Self {
            summary: Summary { requests: requests.len() as u64, ..Summary::default() },
            verifier: Verifier::new(requests, seed, peaks),
            recorder: if meter.records() { Recorder::keeping(peaks.iterations) } else { Recorder::new() },
            meter,
            usage: Usage::default(),
            progress,
            start: Instant::now(),
            before: (0, 0),
        }
    }

    fn begin(&mut self) {
        self.start = Instant::now();
        self.recorder.begin();
        self.before = self.now();
    }

    /// Checks the results of `batch`.
    fn check<'a>(&mut self, batch: &Batch, tokens: &[u32], finished: impl Iterator<Item = &'a [u32]>) {
        let verifier = &mut self.verifier;
        self.recorder.host(Phase::Verify, || verifier.iteration(batch, tokens, finished));
        self.summary.tokens += tokens.len() as u64;
        // The progress bar may allocate when it draws.
        if !batch.plan.finishing.is_empty() {
            let before = self.now();
            self.progress.inc(batch.plan.finishing.len() as u64);
            self.leave_out(before);
        }
    }

    /// Leaves everything since `before` out of the counts.
    fn leave_out(&mut self, before: (u64, u64)) {
        let now = self.now();
        self.before = (self.before.0 + now.0 - before.0, self.before.1 + now.1 - before.1);
    }

    /// Samples the state in an iteration of `batch`. The calls for this are not counted.
    fn sample<L: DeviceLocation<Backend: Timed>>(&mut self, ctx: &Ctx<'_, L>, batch: &Batch, usage: Usage) {
        let before = self.now();
        self.recorder.sample(|| {
            let (free, total) = ctx.memory_info().unwrap_or_default();
            Sample {
                at: 0,
                rows: batch.rows.len() as u64,
                reserved: (total - free) as u64,
                used: self.meter.used_bytes(),
                states: usage.states_bytes as u64,
                pinned: L::Backend::PINNED.usage().used as u64,
                arena: usage.arena_bytes as u64,
                up: usage.bytes_up - self.usage.bytes_up,
                down: usage.bytes_down - self.usage.bytes_down,
            }
        });
        self.usage = usage;
        self.leave_out(before);
    }

    /// Ends an iteration, and counts it if it is in the steady state.
    fn count(&mut self, is_steady: bool) {
        let now = self.now();
        if is_steady && self.summary.iterations >= WARM_UP {
            self.summary.driver_calls.include(now.0 - self.before.0);
            self.summary.heap_allocations.include(now.1 - self.before.1);
        }
        self.summary.iterations += 1;
        self.before = self.now();
    }

    fn end(self, streams: u64, usage: Usage) -> Outcome {
        let waited = self.recorder.waited();
        let wall = self.start.elapsed();
        let recording = self.recorder.finish(streams);
        let summary = Summary {
            overlap: recording.as_ref().map(Recording::overlap).unwrap_or_default(),
            streams,
            wall,
            waited,
            verified: self.verifier.verified,
            copies_asked: usage.copies_asked,
            copies_merged: usage.copies_merged,
            submissions: usage.submissions,
            ahead: usage.ahead,
            bytes_up: usage.bytes_up,
            bytes_down: usage.bytes_down,
            arena_peak_bytes: usage.arena_peak_bytes as u64,
            ..self.summary
        };
        Outcome { summary, mismatches: self.verifier.mismatches, recording }
    }

    fn now(&self) -> (u64, u64) {
        (self.meter.driver_calls() - self.recorder.marks(), heap::allocations())
    }
}

/// Compares the results with the oracle: the tokens one by one, and every finished history of the
/// device.
#[derive(Debug)]
struct Verifier<'r> {
    requests: &'r [Request],
    oracle: Oracle,
    /// For each request, the tokens received so far.
    received: Vec<Digest>,
    history: Vec<u32>,
    verified: u64,
    mismatches: Vec<Mismatch>,
}

impl<'r> Verifier<'r> {
    fn new(requests: &'r [Request], seed: u64, peaks: &Peaks) -> Self {
        Self {
            requests,
            oracle: Oracle::new(seed, peaks.history),
            received: vec![Digest::default(); requests.len()],
            history: Vec::with_capacity(peaks.history),
            verified: 0,
            mismatches: Vec::new(),
        }
    }

    /// Checks the results of one iteration: a token per row, and the histories of the rows that
    /// finish.
    fn iteration<'a>(&mut self, batch: &Batch, tokens: &[u32], finished: impl Iterator<Item = &'a [u32]>) {
        let Batch { plan, rows } = batch;
        for (&token, seq) in tokens.iter().zip(rows) {
            self.received[seq.request].push(token, seq.length);
        }
        for (&row, history) in plan.finishing.iter().zip(finished) {
            let row = row as usize;
            let seq = rows[row];
            self.history.clear();
            self.history.extend_from_slice(history);
            self.history.push(tokens[row]);
            match self.check(seq.request) {
                Ok(()) => self.verified += 1,
                Err(mismatch) => self.note(mismatch),
            }
        }
    }

    fn check(&mut self, request: usize) -> Result<(), Mismatch> {
        let Request { id, prompt, .. } = self.requests[request];
        self.oracle.check(&self.requests[request], &self.history)?;
        let mut generated = Digest::default();
        for (&token, position) in self.history.iter().zip(0..).skip(prompt as usize) {
            generated.push(token, position);
        }
        if generated == self.received[request] { Ok(()) } else { Err(Mismatch::Received { request: id }) }
    }

    fn note(&mut self, mismatch: Mismatch) {
        const MOST: usize = 5;
        if self.mismatches.len() < MOST {
            self.mismatches.push(mismatch);
        }
    }
}
