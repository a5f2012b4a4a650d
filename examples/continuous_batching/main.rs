//! The memory loop of an LLM inference engine with continuous batching, replaying real or generated requests.
//!
//! Requests arrive, join the batch where there is room, generate a token in every iteration, and leave; the batch is
//! re-packed each time. [`engine`] and [`rows`] are what a user of this library writes, generic over the device; [`model`]
//! is what differs between devices; [`schedule`] decides who is in the batch; [`oracle`] knows what every request must have
//! generated, and the run fails unless all of them have.
//!
//! ```text
//! cargo run --release --example continuous_batching -- --requests 2000 --max-batch 128
//! ```

#![deny(unsafe_op_in_unsafe_fn)]

mod cli;
mod engine;
mod heap;
mod memory;
mod model;
mod oracle;
mod replay;
mod rows;
mod schedule;
mod sim;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod workload;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidelock::sim as simulated;

use cli::{Cli, Device};
use replay::{Outcome, Replay};
use sim::SimModel;
use trace::TraceError;
use workload::Request;

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let answer = run(&cli);
    let code = if answer.as_ref().is_ok_and(is_verified) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // Whoever closed the pipe does not want to read more.
    let _ = match answer {
        Ok(outcome) => tell(&outcome),
        Err(error) => writeln!(io::stderr(), "error: {error}"),
    };
    code
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The trace was refused.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The library or the device refused something.
    #[error("on the device: {0}")]
    Device(#[from] tidelock::Error),
}

fn run(cli: &Cli) -> Result<Outcome, Failure> {
    let requests = requests(cli)?;
    let replay = Replay { requests: &requests, max_batch: cli.max_batch, seed: cli.seed };
    let progress = progress(requests.len());
    let outcome = match cli.device {
        Device::Auto | Device::Sim => on_sim(cli, replay, &progress),
    };
    progress.finish_and_clear();
    Ok(outcome?)
}

fn on_sim(cli: &Cli, replay: Replay<'_>, progress: &ProgressBar) -> tidelock::Result<Outcome> {
    let mut options = simulated::Options::quick().seed(cli.seed);
    if let Some(bytes) = cli.memory {
        options = options.memory_limit(bytes.get());
    }
    let device = simulated::Device::new(options);
    let driver_calls = || device.engine().counts().total();
    device.stream(|stream, _env| {
        replay.run(stream, |ctx, peaks| SimModel::new(ctx, peaks.blocks), driver_calls, progress)
    })?
}

fn requests(cli: &Cli) -> Result<Vec<Request>, TraceError> {
    let limit = cli.requests.map(|n| usize::try_from(n.get()).unwrap_or(usize::MAX));
    match &cli.trace {
        Some(path) => workload::from_trace(path, limit),
        None => Ok(workload::generate(limit.unwrap_or(workload::DEFAULT_REQUESTS), cli.seed)),
    }
}

/// A bar on the terminal; nothing at all if standard error is none.
fn progress(requests: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} requests, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(requests as u64), ProgressDrawTarget::stderr());
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn tell(outcome: &Outcome) -> io::Result<()> {
    let Outcome { summary, mismatches } = outcome;
    write!(io::stdout(), "{summary}")?;
    if is_verified(outcome) {
        return Ok(());
    }
    let mut stderr = io::stderr();
    for mismatch in mismatches {
        writeln!(stderr, "error: {mismatch}")?;
    }
    writeln!(stderr, "error: only {} of {} requests are verified", summary.verified, summary.requests)
}

fn is_verified(outcome: &Outcome) -> bool {
    outcome.summary.verified == outcome.summary.requests
}
