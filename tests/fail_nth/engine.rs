//! The engine of the main example: 300 requests, with every driver call failing once and from then on.

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tidelock::{
    Code, Error, Result,
    sim::{Device, Fault, Options},
};

use super::trial::Watch;

#[path = "../../examples/continuous_batching"]
pub mod example {
    pub mod engine;
    pub mod memory;
    pub mod model;
    pub mod oracle;
    pub mod rows;
    pub mod schedule;
    pub mod sim;
    pub mod trace;
    pub mod workload;
}

use example::{engine::Engine, oracle::Oracle, schedule::Scheduler, sim::SimModel, workload::Request};

const SEED: u64 = 11;
const REQUESTS: u32 = 300;
const MAX_BATCH: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// How often a refused step is tried again.
const TRIES: usize = 3;

/// Short requests that come all together, so that many fit into one batch.
pub fn requests() -> Vec<Request> {
    let request =
        |id: u32| Request { id, arrival: f64::from(id) * 0.004, prompt: 3 + id * 7 % 20, generate: 1 + id * 5 % 4 };
    (0..REQUESTS).map(request).collect()
}

/// What a run came to.
pub struct Served {
    pub calls: u64,
    pub answer: Result<usize>,
}

/// Serves `requests` with `fault`; a step that is refused is tried again.
///
/// # Errors
/// What went wrong, in words.
pub fn serve(requests: &[Request], fault: Option<Fault>) -> Result<Served, String> {
    let _watch = Watch::over(format!("the engine, {fault:?}"));
    let device = Device::new(Options::quick().oracle(true));
    let nothing = Fault { nth: u64::MAX, onwards: false, call: None, code: Code::UNKNOWN };
    device.engine().fail(fault.unwrap_or(nothing));
    let answer = catch_unwind(AssertUnwindSafe(|| device.stream(|stream, _env| loop_over(stream, requests))));
    let calls = device.engine().calls_since_arming();
    device.engine().disarm();
    let wrong = |words: &str| Err(format!("{fault:?}: {words}"));
    let Ok(answer) = answer else { return wrong("a panic") };
    let answer = answer.and_then(|inside| inside);
    let report = device.engine().report();
    if !report.findings.is_empty() {
        return wrong(&format!("{:?}", report.findings));
    }
    match (answer, fault) {
        (Ok(verified), _) if verified != requests.len() => wrong(&format!("{verified} requests are verified")),
        (Err(error), None) => wrong(&format!("{error}, although nothing failed")),
        (Err(error), Some(fault)) if !is_of(error, fault) => wrong(&format!("{error} is not what was injected")),
        // One refusal is one thing that stays: an event, the stream, its pool, or an allocation.
        (Ok(_), Some(fault)) if !fault.onwards && !fault.code.is_sticky() => {
            let stays = report.allocations + report.events + report.streams + report.pools;
            if stays > 1 { wrong(&format!("{report:?}")) } else { Ok(Served { calls, answer }) }
        }
        (Ok(_), None) if !report.is_clean() => wrong(&format!("{report:?}")),
        _ => Ok(Served { calls, answer }),
    }
}

/// Whether `error` is the injected one, in its class.
fn is_of(error: Error, fault: Fault) -> bool {
    match error {
        Error::Poisoned(why) => why.code == fault.code && fault.code.is_sticky(),
        Error::Driver(why) => why.code == fault.code && !fault.code.is_sticky(),
        Error::OutOfMemory { .. } => fault.code == Code::OUT_OF_MEMORY,
        _ => false,
    }
}

/// The loop of the example, which tries again what is refused; how many requests are verified.
fn loop_over<'s>(mut stream: tidelock::Stream<tidelock::Sim<'s>>, requests: &[Request]) -> Result<usize> {
    let mut scheduler = Scheduler::new(requests, MAX_BATCH, SEED);
    let peaks = *scheduler.peaks();
    let mut plan = scheduler.plan();
    let mut oracle = Oracle::new(SEED, peaks.history);
    let mut model = tried(|| SimModel::new(&stream.ctx(), peaks.blocks))?;
    let mut engine = tried(|| Engine::new(&stream.ctx(), &peaks))?;
    let mut verified = 0;
    while scheduler.advance(&mut plan) {
        tried(|| stream.synchronize().map(|synced| engine.fill(&synced, &plan, requests, SEED)))?;
        tried(|| engine.enqueue(&stream.ctx(), &mut model, &plan))?;
        tried(|| stream.synchronize().map(drop))?;
        let synced = stream.synchronize()?;
        let tokens = engine.tokens(&synced, &plan);
        for (&row, history) in plan.finishing.iter().zip(engine.finished(&synced, &plan)) {
            let row = usize::try_from(row).unwrap();
            let history = [history, &tokens[row..=row]].concat();
            let request = &requests[scheduler.seq(row).unwrap().request];
            verified += usize::from(oracle.check(request, &history).is_ok());
        }
    }
    Ok(verified)
}

/// Does `step`, again if it is refused.
fn tried<R>(mut step: impl FnMut() -> Result<R>) -> Result<R> {
    let mut answer = step();
    for _ in 1..TRIES {
        match answer {
            Err(Error::Poisoned(_)) | Ok(_) => break,
            Err(_) => answer = step(),
        }
    }
    answer
}
