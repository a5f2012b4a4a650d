//! What the engine does when the device refuses: it says so, stays as it was, and goes on where it stopped.

use std::num::NonZeroU32;

use indicatif::ProgressBar;
use tidelock::sim::{Device, Fault, Options, Sim};
use tidelock::{Code, Ctx, Error, Result, Stack, Stream};

use super::engine::Engine;
use super::model::{Model, Sequences};
use super::oracle::{Mismatch, Oracle};
use super::replay::Replay;
use super::schedule::{Plan, Scheduler};
use super::sim::SimModel;
use super::workload::{self, Request};

const SEED: u64 = 3;
const MAX_BATCH: NonZeroU32 = NonZeroU32::new(4).unwrap();

fn requests() -> Vec<Request> {
    let request =
        |id: u32| Request { id, arrival: f64::from(id) * 0.2, prompt: 50 + id * 7 % 30, generate: 3 + id * 5 % 11 };
    (0..12).map(request).collect()
}

/// The whole workload by hand, without a warm-up; `iteration` is given every iteration to enqueue and synchronise.
fn serve(
    device: &Device,
    requests: &[Request],
    mut iteration: impl for<'s> FnMut(
        u64,
        &mut Stream<Sim<'s>>,
        &mut Engine<Sim<'s>>,
        &mut SimModel<'s>,
        &Plan,
    ) -> Result<()>,
) -> Result<Vec<Mismatch>> {
    device.stream(|mut stream, _env| {
        let mut scheduler = Scheduler::new(requests, MAX_BATCH, SEED);
        let peaks = *scheduler.peaks();
        let mut plan = scheduler.plan();
        let mut oracle = Oracle::new(SEED, peaks.history);
        let mut model = SimModel::new(&stream.ctx(), peaks.blocks)?;
        let mut engine = Engine::new(&stream.ctx(), &peaks)?;
        let mut mismatches = Vec::new();
        let mut number = 0;
        while scheduler.advance(&mut plan) {
            engine.fill(&stream.synchronize()?, &plan, requests, SEED);
            iteration(number, &mut stream, &mut engine, &mut model, &plan)?;
            number += 1;
            let synced = stream.synchronize()?;
            let tokens = engine.tokens(&synced, &plan);
            for (&row, history) in plan.finishing.iter().zip(engine.finished(&synced, &plan)) {
                let row = usize::try_from(row).unwrap();
                let history = [history, &tokens[row..=row]].concat();
                mismatches.extend(oracle.check(&requests[scheduler.seq(row).unwrap().request], &history).err());
            }
        }
        assert_eq!(number, peaks.iterations);
        Ok(mismatches)
    })?
}

#[test]
fn a_device_that_dawdles_gives_the_same_tokens_and_finds_nothing_wrong() {
    let requests = requests();
    let replay = Replay { requests: &requests, max_batch: MAX_BATCH, seed: SEED };
    for seed in 0..4 {
        let device = Device::new(Options::default().seed(seed));
        let outcome = device.stream(|stream, _env| {
            replay.run(stream, |ctx, peaks| SimModel::new(ctx, peaks.blocks), || 0, &ProgressBar::hidden())
        });
        assert_eq!(outcome.unwrap().unwrap().summary.verified, 12);
        assert!(device.engine().report().is_clean(), "{:?}", device.engine().report());
    }
}

#[test]
fn a_call_refused_in_an_iteration_is_tried_again_and_every_history_is_right() {
    let requests = requests();
    let mut refusals = 0;
    for onset in [0, 1, 5, 17] {
        // The nth call of one iteration fails, for every n there is.
        for nth in 1.. {
            let device = Device::new(Options::quick().seed(nth));
            let (mut refused, mut calls) = (None, 0);
            let mismatches = serve(&device, &requests, |number, stream, engine, model, plan| {
                if number == onset {
                    let fault = Fault { nth, onwards: false, call: None, code: Code::INVALID_VALUE };
                    device.engine().fail(fault);
                    let answer = engine.enqueue(&stream.ctx(), model, plan);
                    let is_enqueued = answer.is_ok();
                    refused = answer.and_then(|()| stream.synchronize().map(drop)).err();
                    calls = device.engine().calls_since_arming();
                    device.engine().disarm();
                    if is_enqueued {
                        return Ok(());
                    }
                }
                engine.enqueue(&stream.ctx(), model, plan)
            });
            assert_eq!(mismatches, Ok(vec![]), "iteration {onset}, call {nth}");
            // A refused free is nobody's error: the memory is leaked.
            assert!(refused.is_none_or(|error| matches!(error, Error::Driver(_))), "{refused:?}");
            if calls < nth {
                assert_eq!(refused, None);
                // Clearing the temporaries, three batches, the model and the synchronise at least.
                assert!(calls >= 6, "iteration {onset} has but {calls} calls");
                break;
            }
            refusals += u32::from(refused.is_some());
        }
    }
    assert!(refusals >= 4 * 6, "{refusals}");
}

#[test]
fn memory_that_runs_out_in_an_iteration_is_an_error_and_the_stream_goes_on() {
    let requests = requests();
    let device = Device::new(Options::quick().memory_limit(1 << 20));
    let mut refused = 0;
    let mismatches = serve(&device, &requests, |number, stream, engine, model, plan| {
        if number != 0 {
            return engine.enqueue(&stream.ctx(), model, plan);
        }
        // All memory there is, in smaller and smaller pieces; the arena has no region yet.
        let mut hogs = Vec::new();
        let mut bytes = 1 << 20;
        while bytes > 0 {
            match stream.ctx().with_pool().device::<u8>(bytes) {
                Ok(hog) => hogs.push(hog),
                Err(_) => bytes /= 2,
            }
        }
        for _ in 0..2 {
            let error = engine.enqueue(&stream.ctx(), model, plan).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { location: "device", .. }), "{error:?}");
            assert!(error.to_string().starts_with("no device memory left for "), "{error}");
            refused += 1;
        }
        drop(hogs);
        stream.trim(0)?;
        engine.enqueue(&stream.ctx(), model, plan)
    });
    assert_eq!(mismatches, Ok(vec![]));
    assert_eq!(refused, 2);
    assert!(device.engine().report().is_clean(), "{:?}", device.engine().report());
}

#[test]
fn a_limit_on_memory_ends_the_run_with_an_error_and_leaves_nothing_behind() {
    let requests = requests();
    let replay = Replay { requests: &requests, max_batch: MAX_BATCH, seed: SEED };
    let mut limits = 0;
    for limit in (1..).map(|n| n * 512) {
        let device = Device::new(Options::quick().memory_limit(limit));
        let answer = device.stream(|stream, _env| {
            replay.run(stream, |ctx, peaks| SimModel::new(ctx, peaks.blocks), || 0, &ProgressBar::hidden())
        });
        assert!(device.engine().report().is_clean(), "{:?}", device.engine().report());
        match answer.unwrap() {
            Err(error) => assert!(matches!(error, Error::OutOfMemory { location: "device", .. }), "{error:?}"),
            Ok(outcome) => {
                assert_eq!(outcome.summary.verified, 12);
                break;
            }
        }
        limits += 1;
    }
    assert!(limits > 10, "{limits}");
}

/// A model that does its work, then something wrong.
struct Wrong<'s, F> {
    model: SimModel<'s>,
    iteration: u64,
    harm: F,
}

impl<'s, F> Model<Sim<'s>> for Wrong<'s, F>
where
    F: FnMut(&Ctx<'_, Sim<'s>, &Stack<Sim<'s>>>, Sequences<'_, Sim<'s>>) -> Result<()>,
{
    fn generate(&mut self, ctx: &Ctx<'_, Sim<'s>, &Stack<Sim<'s>>>, mut batch: Sequences<'_, Sim<'s>>) -> Result<()> {
        let again = Sequences {
            history: batch.history,
            lengths: batch.lengths.reborrow(),
            cached: batch.cached.reborrow(),
            sampling: batch.sampling,
            random: batch.random.reborrow(),
            tables: batch.tables,
            offsets: batch.offsets,
            tokens: batch.tokens.reborrow(),
        };
        self.model.generate(ctx, again)?;
        self.iteration += 1;
        // Once, well behind the warm-up, with several rows in the batch.
        if self.iteration == 20 { (self.harm)(ctx, batch) } else { Ok(()) }
    }
}

/// The requests that are not verified if `harm` is done once.
fn harmed(
    harm: impl for<'s> Fn(&Ctx<'_, Sim<'s>, &Stack<Sim<'s>>>, Sequences<'_, Sim<'s>>) -> Result<()>,
) -> (u64, Vec<Mismatch>) {
    let requests = requests();
    let device = Device::new(Options::quick());
    let replay = Replay { requests: &requests, max_batch: MAX_BATCH, seed: SEED };
    let outcome = device.stream(|stream, _env| {
        let model = |ctx: &Ctx<'_, _>, peaks: &super::schedule::Peaks| {
            Ok(Wrong { model: SimModel::new(ctx, peaks.blocks)?, iteration: 0, harm: &harm })
        };
        replay.run(stream, model, || 0, &ProgressBar::hidden())
    });
    let outcome = outcome.unwrap().unwrap();
    (outcome.summary.requests - outcome.summary.verified, outcome.mismatches)
}

#[test]
fn one_wrong_element_on_the_device_is_noticed_in_the_row_it_belongs_to() {
    assert_eq!(harmed(|_, _| Ok(())), (0, vec![]));
    let (wrong, mismatches) = harmed(|ctx, batch| ctx.launch((batch.tokens,), |(tokens,)| tokens[1] ^= 1));
    assert_eq!(wrong, 1, "{mismatches:?}");
    let (wrong, mismatches) = harmed(|ctx, batch| ctx.launch((batch.random,), |(random,)| random[1] ^= 1));
    assert_eq!(wrong, 1, "{mismatches:?}");
    let (wrong, mismatches) = harmed(|ctx, batch| ctx.launch((batch.random,), |(random,)| random.swap(0, 1)));
    assert_eq!(wrong, 2, "{mismatches:?}");
    // A row that believes to have cached a token more than it has never writes that token's key.
    let (wrong, mismatches) = harmed(|ctx, batch| ctx.launch((batch.cached,), |(cached,)| cached[1] += 1));
    assert_eq!(wrong, 1, "{mismatches:?}");
    let (wrong, mismatches) = harmed(|ctx, batch| ctx.launch((batch.lengths,), |(lengths,)| lengths[1] -= 1));
    assert_eq!(wrong, 1, "{mismatches:?}");
}

#[test]
fn the_workload_of_the_tests_is_not_trivial() {
    let requests = requests();
    let mut scheduler = Scheduler::new(&requests, MAX_BATCH, SEED);
    let (mut full, mut grown, mut plan) = (0, 0, scheduler.plan());
    while scheduler.advance(&mut plan) {
        full += u32::from(plan.perm.len() == 4);
        grown += u32::from(plan.fresh_block_offsets.len() - 1 > plan.joins.len());
    }
    assert!(full > 10 && grown > 2, "{full} full batches, {grown} tables grew");
    assert_ne!(workload::random_state(SEED, 0), workload::random_state(SEED, 1));
}
