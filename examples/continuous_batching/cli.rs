//! The command line.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

/// Replays requests through an engine loop with continuous batching and verifies every generated token.
#[derive(Clone, Debug, Parser)]
#[command(version, about, max_term_width = 100, allow_negative_numbers = true)]
pub struct Cli {
    /// Where to run: `sim` is the simulated device, `auto` the best device there is
    #[arg(long, value_name = "auto|sim", default_value = "auto")]
    pub device: Device,

    /// A trace to replay, with the columns TIMESTAMP,ContextTokens,GeneratedTokens; without it requests are generated
    #[arg(long, value_name = "FILE.csv")]
    pub trace: Option<PathBuf>,

    /// How many requests to serve, at most [default: 500 generated ones, or the whole trace]
    #[arg(long, value_name = "N", value_parser = in_range::<1, MAX_REQUESTS>)]
    pub requests: Option<NonZeroU32>,

    /// How many requests may be in the batch at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = in_range::<1, MAX_BATCH>)]
    pub max_batch: NonZeroU32,

    /// Seed of everything random: requests, prompts, sampling, the order of rows
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Memory of the simulated device in bytes [default: 64 GiB, taken from the host as it is allocated]
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
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "sim" => Ok(Self::Sim),
            _ => Err("expected `auto` or `sim`".to_owned()),
        }
    }
}

/// A number from `MIN` to `MAX`, or what was expected instead.
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
        Cli::try_parse_from(arguments).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_has_a_default() {
        let cli = parse(&[]).unwrap();
        assert_eq!((cli.device, cli.trace, cli.requests), (Device::Auto, None, None));
        assert_eq!((cli.max_batch.get(), cli.seed, cli.memory), (256, 0, None));
    }

    #[test]
    fn every_option_is_read() {
        let arguments = "--device sim --trace=a.csv --requests=7 --max-batch 65536 --seed=9 --memory=1048576";
        let cli = parse(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!((cli.device, cli.trace), (Device::Sim, Some("a.csv".into())));
        assert_eq!((cli.requests.map(NonZeroU32::get), cli.max_batch.get(), cli.seed), (Some(7), 65_536, 9));
        assert_eq!(cli.memory.map(NonZeroUsize::get), Some(1 << 20));
    }

    #[test]
    fn absurd_values_are_refused_with_the_option_and_what_was_expected() {
        let cases = [
            (["--max-batch", "0"], "from 1 to 65536 (it is too small)"),
            (["--max-batch", "65537"], "from 1 to 65536 (it is too large)"),
            (["--requests", "0"], "from 1 to 10000000 (it is too small)"),
            (["--requests", "99999999999"], "from 1 to 10000000 (number too large"),
            (["--requests", "many"], "from 1 to 10000000 (invalid digit"),
            (["--device", "tpu"], "expected `auto` or `sim`"),
            (["--seed", "x"], "invalid digit"),
            (["--memory", "0"], "zero"),
        ];
        for (arguments, expected) in cases {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(arguments[0]) && error.contains(expected), "{arguments:?}: {error}");
        }
        assert!(parse(&["--max-batch=-1"]).unwrap_err().contains("from 1 to 65536"));
    }
}
