//! The command line.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

/// Replays requests through an engine loop with continuous batching and verifies every generated
/// token.
#[derive(Clone, Debug, Parser)]
#[command(version, about, max_term_width = 100, allow_negative_numbers = true)]
pub struct Cli {
    /// Where to run
    #[arg(long, value_name = Device::CHOICE, help = Device::HELP, default_value = "auto")]
    pub device: Device,

    /// A trace to replay, of Azure LLM inference (CSV), BurstGPT (CSV) or Mooncake (JSON lines);
    /// without it requests are generated
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Skips and counts rows of the trace that are no requests, such as those of zero tokens
    #[arg(long, requires = "trace")]
    pub skip_invalid: bool,

    /// How many requests to serve, at most [default: 500 generated ones, or the whole trace]
    #[arg(long, value_name = "N", value_parser = in_range::<1, MAX_REQUESTS>)]
    pub requests: Option<NonZeroU32>,

    /// How many requests may be in the batch at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = in_range::<1, MAX_BATCH>)]
    pub max_batch: NonZeroU32,

    /// On how many streams the engine works: with 2, uploads and the host's work overlap the
    /// device's step
    #[arg(long, value_name = "1|2", default_value = "1")]
    pub streams: Streams,

    /// Draws the run: memory, batch size and what the streams did; beside it, FILE.trace.json for
    /// Perfetto
    #[arg(long, value_name = "FILE.svg")]
    pub report: Option<PathBuf>,

    /// Seed of everything random: requests, prompts, sampling, the order of rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Memory of the simulated device in bytes, which `auto` then takes [default: 64 GiB, taken
    /// from the host as it is allocated]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<NonZeroUsize>,
}

/// The largest `--requests`.
const MAX_REQUESTS: u32 = 10_000_000;

/// The largest `--max-batch`.
const MAX_BATCH: u32 = 65_536;

/// The device to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The best one there is.
    Auto,
    /// The simulated one.
    Sim,
    /// The GPU with this number.
    #[cfg(feature = "cuda-core")]
    Cuda(usize),
}

impl Device {
    #[cfg(feature = "cuda-core")]
    const CHOICE: &'static str = "auto|sim|cuda[:N]";
    #[cfg(not(feature = "cuda-core"))]
    const CHOICE: &'static str = "auto|sim";

    #[cfg(feature = "cuda-core")]
    const HELP: &'static str =
        "Where to run: `cuda:N` is GPU number N, `sim` the simulated device, `auto` the first GPU, else `sim`";
    #[cfg(not(feature = "cuda-core"))]
    const HELP: &'static str =
        "Where to run: `sim` is the simulated device, `auto` too, for want of CUDA in this program";

    #[cfg(feature = "cuda-core")]
    const EXPECTED: &'static str = "expected `auto`, `sim`, `cuda` or `cuda:N`";
    #[cfg(not(feature = "cuda-core"))]
    const EXPECTED: &'static str = "expected `auto` or `sim`; this program is built without CUDA";

    /// The GPU that `text` names.
    #[cfg(feature = "cuda-core")]
    fn gpu(text: &str) -> Option<Self> {
        let number = match text.strip_prefix("cuda")? {
            "" => 0,
            rest => rest.strip_prefix(':').filter(|rest| !rest.starts_with('+'))?.parse().ok()?,
        };
        Some(Self::Cuda(number))
    }

    /// No GPU: this program is built without CUDA.
    #[cfg(not(feature = "cuda-core"))]
    fn gpu(_: &str) -> Option<Self> {
        None
    }
}

impl Cli {
    /// The arguments of this process. Help and errors end the process.
    pub fn read() -> Self {
        Self::parse().checked().unwrap_or_else(|error| error.exit())
    }

    /// Refuses options that contradict each other.
    fn checked(self) -> Result<Self, clap::Error> {
        if self.memory.is_none() || matches!(self.device, Device::Auto | Device::Sim) {
            return Ok(self);
        }
        let message = "`--memory` is that of the simulated device: it cannot be used with `--device cuda`";
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }
}

/// How many streams the engine works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Everything in order on one.
    One,
    /// An upload stream beside the compute stream.
    Two,
}

impl FromStr for Streams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "1" => Ok(Self::One),
            "2" => Ok(Self::Two),
            _ => Err("expected `1` or `2`".to_owned()),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "sim" => Ok(Self::Sim),
            _ => Self::gpu(text).ok_or_else(|| Self::EXPECTED.to_owned()),
        }
    }
}

/// A number from `MIN` to `MAX`, or a message with the expected range.
fn in_range<const MIN: u32, const MAX: u32>(text: &str) -> Result<NonZeroU32, String> {
    let expected = |e: &dyn Display| format!("expected a number from {MIN} to {MAX} ({e})");
    let number: u32 = text.parse().map_err(|e| expected(&e))?;
    NonZeroU32::new(number)
        .filter(|_| (MIN..=MAX).contains(&number))
        .ok_or_else(|| expected(&if number < MIN { "it is too small" } else { "it is too large" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, String> {
        let arguments = ["continuous_batching"].iter().chain(arguments);
        Cli::try_parse_from(arguments).and_then(Cli::checked).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_has_a_default() {
        let cli = parse(&[]).unwrap();
        assert_eq!((cli.device, cli.trace, cli.skip_invalid, cli.requests), (Device::Auto, None, false, None));
        assert_eq!((cli.max_batch.get(), cli.seed, cli.memory, cli.streams), (256, 0, None, Streams::One));
    }

    #[test]
    fn every_option_is_read() {
        let arguments =
            "--device sim --trace=a.csv --skip-invalid --requests=7 --max-batch 65536 --seed=9 --memory=1048576";
        let cli = parse(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!((cli.device, cli.trace, cli.skip_invalid), (Device::Sim, Some("a.csv".into()), true));
        assert_eq!((cli.requests.map(NonZeroU32::get), cli.max_batch.get(), cli.seed), (Some(7), 65_536, 9));
        assert_eq!(cli.memory.map(NonZeroUsize::get), Some(1 << 20));
    }

    #[cfg(feature = "cuda-core")]
    #[test]
    fn a_gpu_has_a_number_and_its_own_memory() {
        for (text, number) in [("cuda", 0), ("cuda:0", 0), ("cuda:7", 7)] {
            assert_eq!(parse(&["--device", text]).unwrap().device, Device::Cuda(number));
        }
        assert!(parse(&["--device=cuda", "--memory=1"]).unwrap_err().contains("cannot be used with `--device cuda`"));
        assert_eq!(parse(&["--device=auto", "--memory=1"]).unwrap().device, Device::Auto);
    }

    #[cfg(not(feature = "cuda-core"))]
    #[test]
    fn without_cuda_there_is_no_gpu_to_name() {
        assert!(parse(&["--device", "cuda"]).unwrap_err().contains("built without CUDA"));
    }

    #[test]
    fn absurd_values_are_refused_with_the_option_and_what_was_expected() {
        let cases = [
            (["--max-batch", "0"], "from 1 to 65536 (it is too small)"),
            (["--max-batch", "65537"], "from 1 to 65536 (it is too large)"),
            (["--requests", "0"], "from 1 to 10000000 (it is too small)"),
            (["--requests", "99999999999"], "from 1 to 10000000 (number too large"),
            (["--requests", "many"], "from 1 to 10000000 (invalid digit"),
            (["--device", "tpu"], Device::EXPECTED),
            (["--device", "cuda1"], Device::EXPECTED),
            (["--device", "cuda:"], Device::EXPECTED),
            (["--device", "cuda:-1"], Device::EXPECTED),
            (["--device", "cuda:+1"], Device::EXPECTED),
            (["--device", "cuda:99999999999999999999"], Device::EXPECTED),
            (["--seed", "x"], "invalid digit"),
            (["--streams", "3"], "expected `1` or `2`"),
            (["--memory", "0"], "zero"),
        ];
        for (arguments, expected) in cases {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(arguments[0]) && error.contains(expected), "{arguments:?}: {error}");
        }
        assert!(parse(&["--skip-invalid"]).unwrap_err().contains("--trace"));
        assert!(parse(&["--max-batch=-1"]).unwrap_err().contains("from 1 to 65536"));
    }
}
