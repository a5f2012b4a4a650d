//! The engine when the device refuses a call: it returns the error, stays as it was, and continues
//! where it stopped.

use std::num::NonZeroU32;
use std::time::Duration;

use indicatif::ProgressBar;
use tidelock::sim::{Call, Delay, Device, Fault, Options, Sim};
use tidelock::{Ctx, Error, Result, Stack, Stream, driver::Code};

use super::closure_model::ClosureModel;
use super::engine::Engine;
use super::model::{Model, Sequences};
use super::oracle::{Mismatch, Oracle};
use super::pipeline::{Age, Both, Iteration, Pipeline};
use super::recorder::Recorder;
use super::replay::{Outcome, Replay};
use super::rows;
use super::schedule::{Peaks, Scheduler, Seq};
use super::workload::{self, Request};

#[global_allocator]
static HEAP: tidelock_test_support::heap::Counting = tidelock_test_support::heap::Counting;

const SEED: u64 = 3;
const MAX_BATCH: NonZeroU32 = NonZeroU32::new(4).unwrap();

fn requests() -> Vec<Request> {
    let request =
        |id: u32| Request { id, arrival: f64::from(id) * 0.2, prompt: 50 + id * 7 % 30, generate: 3 + id * 5 % 11 };
    (0..12).map(request).collect()
}

/// Serves the whole workload by direct calls, without a warm-up. `enqueue` enqueues every
/// iteration.
fn serve(
    device: &Device,
    requests: &[Request],
    mut enqueue: impl for<'s> FnMut(
        &mut Stream<Sim<'s>>,
        &mut Engine<Sim<'s>>,
        &mut ClosureModel<Sim<'s>>,
        Iteration<'_>,
    ) -> Result<()>,
) -> Result<Vec<Mismatch>> {
    device.stream(|mut stream, _env| {
        let mut scheduler = Scheduler::new(requests, MAX_BATCH, SEED);
        let peaks = *scheduler.peaks();
        let mut plan = scheduler.plan();
        let mut oracle = Oracle::new(SEED, peaks.history);
        let mut model = ClosureModel::new(&stream.ctx(), peaks.blocks)?;
        let mut engine = Engine::new(&stream.ctx(), &peaks)?;
        let (mut mismatches, recorder) = (Vec::new(), Recorder::new());
        let mut number = 0;
        while scheduler.advance(&mut plan) {
            engine.fill(&stream.synchronize()?, &plan, requests, SEED);
            let iteration = Iteration { plan: &plan, number, recorder: &recorder };
            enqueue(&mut stream, &mut engine, &mut model, iteration)?;
            number += 1;
            let synced = stream.synchronize()?;
            let tokens = engine.tokens(&synced, &plan);
            for (&row, history) in plan.finishing.iter().zip(engine.finished(&synced, &plan)) {
                let row = usize::try_from(row).unwrap();
                let history = [history, &tokens[row..=row]].concat();
                mismatches.extend(oracle.check(&requests[scheduler.seq(row).unwrap().request], &history).err());
            }
        }
        assert_eq!(u64::from(number), peaks.iterations);
        Ok(mismatches)
    })?
}

/// Serves the whole workload on two streams by direct calls. Every step is tried again until it is
/// enqueued. `before` runs before the first try, and `after` after it.
fn serve_on_two(
    device: &Device,
    requests: &[Request],
    mut before: impl FnMut(u32),
    mut after: impl FnMut(u32, Result<()>),
) -> Result<Vec<Mismatch>> {
    let answer = device.stream(|upload, _env| {
        device.stream(|compute, _env| {
            let streams = &Both { upload: upload.ctx(), compute: compute.ctx() };
            let mut scheduler = Scheduler::new(requests, MAX_BATCH, SEED);
            let peaks = *scheduler.peaks();
            let plans: Vec<_> = std::iter::from_fn(|| {
                let mut plan = scheduler.plan();
                let formed = scheduler.advance(&mut plan);
                let rows: Vec<Seq> = (0..plan.perm.len()).map_while(|row| scheduler.seq(row)).collect();
                formed.then_some((plan, rows))
            })
            .collect();
            let mut oracle = Oracle::new(SEED, peaks.history);
            let mut model = ClosureModel::new(&streams.compute, peaks.blocks)?;
            let mut engine = Pipeline::new(streams, &peaks)?;
            let (mut mismatches, recorder) = (Vec::new(), Recorder::new());
            let mut check = |engine: &mut Pipeline<_, _>, age, (plan, rows): &(_, Vec<Seq>)| {
                let (tokens, histories) = engine.received(age, plan)?;
                for (&row, history) in plan.finishing.iter().zip(rows::finished(histories, plan)) {
                    let row = usize::try_from(row).unwrap();
                    let history = [history, &tokens[row..=row]].concat();
                    mismatches.extend(oracle.check(&requests[rows[row].request], &history).err());
                }
                Ok::<_, Error>(())
            };

            let iteration = |number: usize| {
                let (plan, number) = (&plans[number].0, u32::try_from(number).unwrap());
                Iteration { plan, number, recorder: &recorder }
            };
            engine.first().send_up(streams, iteration(0), requests, SEED)?;
            for number in 0..plans.len() {
                let mut step = |engine: &mut Pipeline<_, _>| {
                    engine.step(streams, &mut model, iteration(number), |incoming| {
                        if number + 1 == plans.len() {
                            return Ok(());
                        }
                        incoming.send_up(streams, iteration(number + 1), requests, SEED)
                    })
                };
                before(iteration(number).number);
                let answer = step(&mut engine);
                after(iteration(number).number, answer);
                if answer.is_err() {
                    step(&mut engine)?;
                }
                if number > 0 {
                    check(&mut engine, Age::BeforeLast, &plans[number - 1])?;
                }
            }
            check(&mut engine, Age::Last, plans.last().unwrap())?;
            Ok(mismatches)
        })
    });
    answer??
}

/// The workload replayed by the program's own loops, on one stream or two.
fn replayed(device: &Device, streams: u64, max_batch: NonZeroU32, requests: &[Request]) -> Result<Outcome> {
    let replay = Replay { requests, max_batch, seed: SEED };
    let calls = || device.gpu().counts().total();
    let bar = &ProgressBar::hidden();
    if streams == 1 {
        return device.stream(|stream, _env| {
            replay.run(stream, |ctx, peaks| ClosureModel::new(ctx, peaks.blocks), calls, bar)
        })?;
    }
    device.stream(|upload, _env| {
        device.stream(|compute, _env| {
            let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| ClosureModel::new(ctx, peaks.blocks);
            replay.run_on_two(&upload, &compute, model, calls, bar)
        })
    })??
}

#[test]
fn a_device_that_dawdles_gives_the_same_tokens_and_finds_nothing_wrong() {
    let requests = requests();
    for (seed, streams) in (0..8).zip([1, 2].into_iter().cycle()) {
        let device = Device::new(Options::default().seed(seed));
        assert_eq!(replayed(&device, streams, MAX_BATCH, &requests).unwrap().summary.verified, 12);
        assert_eq!(device.gpu().check(), Ok(()));
        assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
    }
}

#[test]
fn two_streams_serve_the_smallest_batches_and_no_requests_at_all() {
    let requests = requests();
    for (max_batch, count) in [(1, 12), (1, 1), (2, 12), (3, 2), (64, 12), (1, 0)] {
        let device = Device::new(Options::default().seed(max_batch.into()));
        let max_batch = NonZeroU32::new(max_batch).unwrap();
        let outcome = replayed(&device, 2, max_batch, &requests[..count]).unwrap();
        assert_eq!((outcome.summary.verified, outcome.summary.requests), (count as u64, count as u64));
        assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
    }
}

#[test]
fn two_streams_never_synchronise_and_call_the_driver_equally_often_also_on_a_device_that_dawdles() {
    let requests = requests();
    for options in [Options::quick(), Options::default().race_detector(false)] {
        let device = Device::new(options);
        let synchronises = || device.gpu().counts().of(Call::StreamSynchronize);
        let outcome = replayed(&device, 2, MAX_BATCH, &requests).unwrap();
        // One each when the streams end.
        assert_eq!(synchronises(), 2);
        assert_eq!(outcome.summary.synchronises, 0);
        let steady = outcome.summary.driver_calls.to_string();
        assert!(["11", "11 to 12", "12"].contains(&steady.as_str()), "{steady}");
        assert_eq!(outcome.summary.heap_allocations.to_string(), "0");
    }
}

/// On a device whose copies sleep, the host completes the next iteration long before the device
/// completes this one.
#[test]
fn the_next_step_is_enqueued_while_the_device_is_at_work_on_this_one() {
    let requests = requests();
    let device = Device::new(Options::quick().delay(Delay::Upto(Duration::from_millis(8))));
    let summary = replayed(&device, 2, MAX_BATCH, &requests).unwrap().summary;
    assert!(summary.ahead * 2 > summary.iterations, "{} of {}", summary.ahead, summary.iterations);
    assert_eq!(replayed(&Device::new(Options::quick()), 1, MAX_BATCH, &requests).unwrap().summary.ahead, 0);
}

#[test]
fn a_call_refused_on_either_stream_is_tried_again_and_every_history_is_right() {
    let requests = requests();
    let mut refusals = 0;
    for onset in [0, 1, 5, 17] {
        for nth in 1.. {
            let device = Device::new(Options::quick().seed(nth));
            let mut calls = 0;
            let before = |number| {
                if number == onset {
                    device.gpu().fail(Fault { nth, onwards: false, call: None, code: Code::INVALID_VALUE });
                }
            };
            let after = |number, answer: Result<()>| {
                if number == onset {
                    calls = device.gpu().calls_since_arming();
                    device.gpu().disarm();
                    refusals += u32::from(answer.is_err());
                }
                assert!(matches!(answer, Ok(()) | Err(Error::Driver(_))), "{answer:?}");
            };
            assert_eq!(serve_on_two(&device, &requests, before, after), Ok(vec![]), "iteration {onset}, call {nth}");
            let report = device.gpu().report();
            assert!(report.is_clean(), "iteration {onset}, call {nth}: {report:?}");
            if calls < nth {
                // All calls but the wait for the results. In the first iteration there is nothing
                // to query.
                assert!(calls >= 11, "iteration {onset} has but {calls} calls");
                break;
            }
        }
    }
    assert!(refusals >= 4 * 11, "{refusals}");
}

#[test]
fn a_device_that_fails_for_good_ends_a_run_on_two_streams_with_an_error() {
    let requests = requests();
    for nth in (1..400).step_by(7) {
        let device = Device::new(Options::quick().seed(nth));
        device.gpu().fail(Fault { nth, onwards: true, call: None, code: Code::ILLEGAL_ADDRESS });
        let answer = replayed(&device, 2, MAX_BATCH, &requests);
        assert!(matches!(answer, Err(Error::Driver(_) | Error::Poisoned(_))), "call {nth}: {answer:?}");
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
            let mismatches = serve(&device, &requests, |stream, engine, model, iteration| {
                if iteration.number == onset {
                    let fault = Fault { nth, onwards: false, call: None, code: Code::INVALID_VALUE };
                    device.gpu().fail(fault);
                    let answer = engine.enqueue(&stream.ctx(), model, iteration);
                    let is_enqueued = answer.is_ok();
                    refused = answer.and_then(|()| stream.synchronize().map(drop)).err();
                    calls = device.gpu().calls_since_arming();
                    device.gpu().disarm();
                    if is_enqueued {
                        return Ok(());
                    }
                }
                engine.enqueue(&stream.ctx(), model, iteration)
            });
            assert_eq!(mismatches, Ok(vec![]), "iteration {onset}, call {nth}");
            // A refused free is no error: the memory is leaked.
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
    let mismatches = serve(&device, &requests, |stream, engine, model, iteration| {
        if iteration.number != 0 {
            return engine.enqueue(&stream.ctx(), model, iteration);
        }
        // All free memory, in smaller and smaller pieces; the arena has no region yet.
        let mut hogs = Vec::new();
        let mut bytes = 1 << 20;
        while bytes > 0 {
            match stream.ctx().with_pool().alloc::<u8>(bytes) {
                Ok(hog) => hogs.push(hog),
                Err(_) => bytes /= 2,
            }
        }
        for _ in 0..2 {
            let error = engine.enqueue(&stream.ctx(), model, iteration).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { location: "device", .. }), "{error:?}");
            assert!(error.to_string().starts_with("no device memory left for "), "{error}");
            refused += 1;
        }
        drop(hogs);
        stream.trim(0)?;
        engine.enqueue(&stream.ctx(), model, iteration)
    });
    assert_eq!(mismatches, Ok(vec![]));
    assert_eq!(refused, 2);
    assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
}

#[test]
fn a_limit_on_memory_ends_the_run_with_an_error_and_leaves_nothing_behind() {
    let requests = requests();
    for streams in [1, 2] {
        let mut limits = 0;
        for limit in (1..).map(|n| n * 512) {
            let device = Device::new(Options::quick().memory_limit(limit));
            let answer = replayed(&device, streams, MAX_BATCH, &requests);
            assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
            match answer {
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
}

/// A model that does its work, and then something wrong.
struct Wrong<'s, F> {
    model: ClosureModel<Sim<'s>>,
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
        // Once, well after the warm-up, with several rows in the batch.
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
        let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| {
            Ok(Wrong { model: ClosureModel::new(ctx, peaks.blocks)?, iteration: 0, harm: &harm })
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
    // A row whose cached length is one too large never writes that token's key.
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
