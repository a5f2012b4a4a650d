//! Replaying a workload through the engine, and checking everything it generates.

#![forbid(unsafe_code)]

use std::num::NonZeroU32;
use std::time::Instant;

use indicatif::ProgressBar;
use tidelock::{Ctx, DeviceLocation, Result, Stream};

use super::engine::Engine;
use super::heap;
use super::model::Model;
use super::oracle::{Digest, Mismatch, Oracle};
use super::schedule::{Peaks, Plan, Scheduler};
use super::table::Summary;
use super::workload::Request;

/// What to replay.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'r> {
    pub requests: &'r [Request],
    pub max_batch: NonZeroU32,
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub summary: Summary,
    /// The first few requests that were not as the oracle says.
    pub mismatches: Vec<Mismatch>,
}

/// Iterations before the steady state that the table speaks of.
const WARM_UP: u64 = 16;

impl Replay<'_> {
    /// Serves every request on `stream`, with a model that `model` makes for the largest batch there will be.
    ///
    /// `driver_calls` tells how many calls the driver has had so far.
    ///
    /// # Errors
    ///
    /// What the device answered; a wrong token is not an error but part of the outcome.
    pub fn run<L: DeviceLocation, M: Model<L>>(
        self,
        mut stream: Stream<L>,
        model: impl FnOnce(&Ctx<'_, L>, &Peaks) -> Result<M>,
        driver_calls: impl Fn() -> u64,
        progress: &ProgressBar,
    ) -> Result<Outcome> {
        let Self { requests, max_batch, seed } = self;
        let mut scheduler = Scheduler::new(requests, max_batch, seed);
        let peaks = *scheduler.peaks();
        let mut plan = scheduler.plan();
        let mut verifier = Verifier::new(requests, seed, &peaks);
        let mut summary = Summary { requests: requests.len() as u64, ..Summary::default() };

        let mut model = model(&stream.ctx(), &peaks)?;
        let mut engine = Engine::new(&stream.ctx(), &peaks)?;
        engine.warm_up(&mut stream, &mut model, &peaks)?;
        let mut synced = stream.synchronize()?;

        let start = Instant::now();
        let mut before = (driver_calls(), heap::allocations());
        while scheduler.advance(&mut plan) {
            engine.fill(&synced, &plan, requests, seed);
            engine.enqueue(&stream.ctx(), &mut model, &plan)?;
            synced = stream.synchronize()?;
            summary.synchronises += 1;
            let finished = engine.finished(&synced, &plan);
            verifier.iteration(&scheduler, &plan, engine.tokens(&synced, &plan), finished);

            let now = (driver_calls(), heap::allocations());
            if summary.iterations >= WARM_UP {
                summary.driver_calls.include(now.0 - before.0);
                summary.heap_allocations.include(now.1 - before.1);
            }
            summary.iterations += 1;
            summary.tokens += plan.perm.len() as u64;
            // The bar may allocate when it draws.
            if !plan.finishing.is_empty() {
                progress.inc(plan.finishing.len() as u64);
            }
            before = (driver_calls(), heap::allocations());
        }
        summary.wall = start.elapsed();

        let usage = engine.usage();
        summary.verified = verifier.verified;
        summary.copies_asked = usage.copies_asked;
        summary.copies_merged = usage.copies_merged;
        summary.submissions = usage.submissions;
        summary.bytes_up = usage.bytes_up;
        summary.bytes_down = usage.bytes_down;
        summary.arena_peak_bytes = usage.arena_peak_bytes as u64;
        Ok(Outcome { summary, mismatches: verifier.mismatches })
    }
}

/// Compares what comes down with the oracle: the tokens one by one, and every finished history as the device has it.
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

    /// Takes what one iteration brought down: a token per row, and the histories of the rows that finish.
    fn iteration<'a>(
        &mut self,
        scheduler: &Scheduler<'_>,
        plan: &Plan,
        tokens: &[u32],
        finished: impl Iterator<Item = &'a [u32]>,
    ) {
        for (i, &token) in tokens.iter().enumerate() {
            let Some(seq) = scheduler.seq(i) else { continue };
            self.received[seq.request].push(token, seq.length);
        }
        for (&row, history) in plan.finishing.iter().zip(finished) {
            let row = row as usize;
            let Some(seq) = scheduler.seq(row) else { continue };
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
