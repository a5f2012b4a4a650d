//! The memory loop of an LLM inference engine with continuous batching, replaying real or generated
//! requests.
//!
//! Requests arrive, join the batch where there is room, generate a token in every iteration, and
//! leave; the batch is re-packed each time. The run fails unless every request has generated the
//! expected tokens. The loop itself is the library `crates/continuous-batching`; this program has
//! the options, the choice of the device and the output.
//!
//! ```text
//! cargo run --release --example continuous_batching -- --requests 2000 --max-batch 128
//! ```

#![forbid(unsafe_code)]

mod cli;

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidelock::{Ctx, sim as simulated};

use cli::{Cli, Device, Streams};
use tidelock_continuous_batching::{
    closure_model::ClosureModel,
    recorder::Gauges,
    replay::{Outcome, Replay},
    report::{Files, ReportError},
    schedule::Peaks,
    trace::{InvalidRows, TraceError},
    workload::{self, Request},
};
use tidelock_test_support::heap;
#[cfg(feature = "cuda-core")]
use {
    tidelock::{
        cuda::{CudaBackend, Device as Gpu, OpenError},
        driver::Backend,
    },
    tidelock_continuous_batching::{
        cuda::{self, CudaModel, TokenStep},
        table::Steady,
    },
};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    let cli = Cli::read();
    match serve(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error is gone: the error has nowhere to go.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the requests and prints the results. Returns whether all of them were verified.
fn serve(cli: &Cli) -> Result<bool, Failure> {
    let requests = requests(cli)?;
    let files = cli.report.as_deref().map(Files::create).transpose()?;
    let (device, outcome) = run(cli, &requests)?;
    // If the pipe is closed, its reader wants no more output.
    let _ = print_outcome(&device, &outcome);
    if let (Some(files), Some(recording)) = (files, &outcome.recording) {
        files.write(&device, &outcome.summary, recording)?;
    }
    Ok(is_verified(&outcome))
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The trace was refused.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A file of the report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The library or the device refused something.
    #[error("on the device: {0}")]
    Device(#[from] tidelock::Error),
    /// There is no such GPU.
    #[cfg(feature = "cuda-core")]
    #[error(transparent)]
    Gpu(#[from] OpenError),
}

/// The name of the device, and the outcome of the workload on it.
fn run(cli: &Cli, requests: &[Request]) -> Result<(String, Outcome), Failure> {
    let replay = Replay { requests, max_batch: cli.max_batch, seed: cli.seed };
    let progress = progress(requests.len());
    let outcome = match cli.device {
        #[cfg(feature = "cuda-core")]
        Device::Cuda(number) => {
            Gpu::open(number).map_err(Failure::from).and_then(|gpu| on_gpu(cli, &gpu, replay, &progress))
        }
        #[cfg(feature = "cuda-core")]
        Device::Auto => match usable_gpu(cli) {
            Ok(gpu) => on_gpu(cli, &gpu, replay, &progress),
            Err(reason) => on_sim(cli, Some(reason), replay, &progress),
        },
        #[cfg(not(feature = "cuda-core"))]
        Device::Auto => on_sim(cli, Some("this program is built without CUDA".to_owned()), replay, &progress),
        Device::Sim => on_sim(cli, None, replay, &progress),
    };
    progress.finish_and_clear();
    outcome
}

/// The first GPU, or why it is not used: it cannot run the model, or the memory of the simulated
/// device is given.
#[cfg(feature = "cuda-core")]
fn usable_gpu(cli: &Cli) -> Result<Gpu, String> {
    if cli.memory.is_some() {
        return Err("`--memory` is that of the simulated device".to_owned());
    }
    let gpu = Gpu::open(0).map_err(|error| error.to_string())?;
    let (found, needed) = (gpu.compute_capability(), cuda::CAPABILITY);
    if found >= needed {
        return Ok(gpu);
    }
    Err(format!("that of number 0 has compute capability {}.{}, {}.{} is needed", found.0, found.1, needed.0, needed.1))
}

#[cfg(feature = "cuda-core")]
fn on_gpu(cli: &Cli, gpu: &Gpu, replay: Replay<'_>, progress: &ProgressBar) -> Result<(String, Outcome), Failure> {
    let kernel = TokenStep::load(gpu)?;
    let gauges = Gauges { driver_calls: || 0, used_bytes: || 0, records: cli.report.is_some() };
    let mut outcome = match cli.streams {
        Streams::One => gpu.stream(|stream, _env| {
            replay.run(stream, |ctx, peaks| CudaModel::new(ctx, &kernel, peaks.blocks), gauges, progress)
        })??,
        Streams::Two => gpu.stream(|upload, _env| {
            gpu.stream(|compute, _env| {
                let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| CudaModel::new(ctx, &kernel, peaks.blocks);
                replay.run_on_two(&upload, &compute, model, gauges, progress)
            })
        })???,
    };
    // Unlocks memory that is kept for the next stream, so that a leak checker does not report it.
    CudaBackend::PINNED.trim(0)?;
    // Calls of a real driver are not counted here. tests/example_cuda/main.rs counts those of the
    // stand-in.
    outcome.summary.driver_calls = Steady::default();
    let (major, minor) = gpu.compute_capability();
    let warning = cuda::warning(gpu).map(|text| format!("\nwarning: {text}")).unwrap_or_default();
    let device = format!("GPU {}, compute capability {major}.{minor}; driver calls are not counted", gpu.ordinal());
    Ok((device + &warning, outcome))
}

/// `reason` says why there is no GPU, if one was requested.
fn on_sim(
    cli: &Cli,
    reason: Option<String>,
    replay: Replay<'_>,
    progress: &ProgressBar,
) -> Result<(String, Outcome), Failure> {
    let mut options = simulated::Options::quick().seed(cli.seed);
    if let Some(bytes) = cli.memory {
        options = options.memory_limit(bytes.get());
    }
    let device = simulated::Device::new(options);
    let gauges = Gauges {
        driver_calls: || device.gpu().counts().total(),
        used_bytes: || device.gpu().report().allocated_bytes as u64,
        records: cli.report.is_some(),
    };
    let outcome = match cli.streams {
        Streams::One => device.stream(|stream, _env| {
            replay.run(stream, |ctx, peaks| ClosureModel::new(ctx, peaks.blocks), gauges, progress)
        })??,
        Streams::Two => device.stream(|upload, _env| {
            device.stream(|compute, _env| {
                let model = |ctx: &Ctx<'_, _>, peaks: &Peaks| ClosureModel::new(ctx, peaks.blocks);
                replay.run_on_two(&upload, &compute, model, gauges, progress)
            })
        })???,
    };
    let reason = reason.map(|reason| format!("; no GPU: {reason}")).unwrap_or_default();
    Ok(("simulated".to_owned() + &reason, outcome))
}

fn requests(cli: &Cli) -> Result<Vec<Request>, TraceError> {
    let limit = cli.requests.map(|n| usize::try_from(n.get()).unwrap_or(usize::MAX));
    match &cli.trace {
        Some(path) => {
            let invalid = if cli.skip_invalid { InvalidRows::Skip } else { InvalidRows::Refuse };
            let (requests, skipped) = workload::from_trace(path, invalid, limit)?;
            if let Some(skipped) = skipped {
                // A closed standard error is ignored.
                let _ = writeln!(io::stderr(), "warning: trace {}: {skipped}", path.display());
            }
            Ok(requests)
        }
        None => Ok(workload::generate(limit.unwrap_or(workload::DEFAULT_REQUESTS), cli.seed)),
    }
}

/// A bar on the terminal, or none if standard error is not a terminal.
fn progress(requests: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} requests, {eta} left");
    let bar = ProgressBar::with_draw_target(Some(requests as u64), ProgressDrawTarget::stderr());
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn print_outcome(device: &str, outcome: &Outcome) -> io::Result<()> {
    let Outcome { summary, mismatches, .. } = outcome;
    write!(io::stdout(), "device: {device}\n\n{summary}")?;
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
