//! Runs the engine loop of `crates/continuous-batching` on the backend of this crate, and checks
//! every token.

use std::num::NonZeroU32;

use indicatif::ProgressBar;
use tidelock::{Ctx, Device, Result};
use tidelock_continuous_batching::{
    closure_model::ClosureModel,
    replay::{Outcome, Replay},
    schedule::Peaks,
    workload::Request,
};
use tidelock_example_backend::HostDevice;

/// Replays a few requests on one stream, or on two.
fn replay(streams: u64) -> Result<Outcome> {
    let device = HostDevice::new(1 << 30);
    let request =
        |id: u32| Request { id, arrival: f64::from(id) * 0.2, prompt: 50 + id * 7 % 30, generate: 3 + id * 5 % 11 };
    let requests: Vec<_> = (0..20).map(request).collect();
    let replay = Replay { requests: &requests, max_batch: NonZeroU32::new(6).unwrap(), seed: 7 };
    let bar = &ProgressBar::hidden();
    let outcome = if streams == 1 {
        device
            .stream(|stream, _env| replay.run(stream, |ctx, peaks| ClosureModel::new(ctx, peaks.blocks), || 0, bar))?
    } else {
        device.stream(|upload, _env| {
            device.stream(|compute, _env| {
                let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| ClosureModel::new(ctx, peaks.blocks);
                replay.run_on_two(&upload, &compute, model, || 0, bar)
            })
        })??
    };
    assert_eq!(device.live(), (0, 0));
    outcome
}

#[test]
fn every_token_is_right_on_one_stream_and_on_two() {
    for streams in [1, 2] {
        let outcome = replay(streams).unwrap();
        assert!(outcome.mismatches.is_empty(), "{:?}", outcome.mismatches);
        assert_eq!((outcome.summary.verified, outcome.summary.requests), (20, 20));
    }
}
