//! The engine of the main example: 300 requests, with every driver call failing once and from then
//! on.

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

use indicatif::ProgressBar;
use tidelock::{
    Ctx, Error, Result,
    driver::Code,
    sim::{Device, Fault, Options},
};

use tidelock_continuous_batching::{closure_model::ClosureModel, replay::Replay, schedule::Peaks, workload::Request};
use tidelock_test_support::heap;

use super::trial::Watch;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

const SEED: u64 = 11;
const REQUESTS: u32 = 300;
const MAX_BATCH: NonZeroU32 = NonZeroU32::new(40).unwrap();

/// On how many streams the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    One,
    Two,
}

/// Short requests that arrive quickly, so that many fit into one batch.
pub fn requests() -> Vec<Request> {
    let request =
        |id: u32| Request { id, arrival: f64::from(id) * 0.004, prompt: 3 + id * 7 % 20, generate: 1 + id % 2 };
    (0..REQUESTS).map(request).collect()
}

/// The result of a run.
pub struct Served {
    pub calls: u64,
    /// Whether all requests were served.
    pub all: bool,
}

/// Serves `requests` with `fault`.
///
/// # Errors
/// A description of what went wrong.
pub fn serve(requests: &[Request], streams: Streams, fault: Option<Fault>) -> Result<Served, String> {
    let _watch = Watch::over(format!("the engine on {streams:?}, {fault:?}"));
    let device = Device::new(Options::quick().race_detector(true));
    let nothing = Fault { nth: u64::MAX, onwards: false, call: None, code: Code::UNKNOWN };
    device.gpu().fail(fault.unwrap_or(nothing));
    let answer = catch_unwind(AssertUnwindSafe(|| replay(&device, streams, requests)));
    let calls = device.gpu().calls_since_arming();
    device.gpu().disarm();
    let served = |all| Ok(Served { calls, all });
    let wrong = |words: String| Err(format!("{streams:?}, {fault:?}: {words}"));
    let Ok(answer) = answer else { return wrong("a panic".into()) };
    let report = device.gpu().report();
    if !report.findings.is_empty() {
        return wrong(format!("{:?}", report.findings));
    }
    let stays = report.allocations + report.events + report.streams + report.pools;
    match (answer, fault) {
        (Ok(verified), _) if verified != u64::from(REQUESTS) => wrong(format!("{verified} requests are verified")),
        (Ok(_), None) if report.is_clean() => served(true),
        (answer, None) => wrong(format!("{answer:?}, {report:?}, although nothing failed")),
        (Err(error), Some(fault)) if !is_of(error, fault) => wrong(format!("{error} is not what was injected")),
        // One refused release is reported nowhere, and only what it would have released stays.
        (Ok(_), Some(Fault { onwards: false, .. })) if stays > 1 => wrong(format!("{report:?}")),
        (answer, Some(_)) => served(answer.is_ok()),
    }
}

/// Serves all requests, and returns how many have the expected tokens.
fn replay(device: &Device, streams: Streams, requests: &[Request]) -> Result<u64> {
    let replay = Replay { requests, max_batch: MAX_BATCH, seed: SEED };
    let progress = &ProgressBar::hidden();
    let outcome = match streams {
        Streams::One => device.stream(|stream, _env| {
            replay.run(stream, |ctx, peaks| ClosureModel::new(ctx, peaks.blocks), || 0, progress)
        })??,
        Streams::Two => device.stream(|upload, _env| {
            device.stream(|compute, _env| {
                let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| ClosureModel::new(ctx, peaks.blocks);
                replay.run_on_two(&upload, &compute, model, || 0, progress)
            })
        })???,
    };
    Ok(outcome.summary.verified)
}

/// Whether `error` is the injected one, in its class.
fn is_of(error: Error, fault: Fault) -> bool {
    match error {
        // A wait that fails where it cannot be repeated poisons the stream, whatever the code.
        Error::Poisoned(why) => why.code == fault.code && (fault.code.is_sticky() || fault.onwards),
        Error::Driver(why) => why.code == fault.code && !fault.code.is_sticky(),
        Error::OutOfMemory { .. } => fault.code == Code::OUT_OF_MEMORY,
        _ => false,
    }
}
