//! The requests to serve: from a trace, or generated with the same character.
//!
//! A request is a handful of numbers. Its prompt, its sampling parameters and its initial random
//! state are functions of the seed and the request's id, so that nothing has to be stored and the
//! oracle can derive them again.

#![forbid(unsafe_code)]

use std::path::Path;

use bytemuck::{Pod, Zeroable};

use super::trace::{self, InvalidRows, Skipped, TraceError};

/// The number of different tokens; every token is below it.
pub const VOCABULARY: u32 = 32_000;

/// The number of requests generated unless told otherwise.
pub const DEFAULT_REQUESTS: usize = 500;

/// One request to serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// Its position in the workload, which is sorted by arrival.
    pub id: u32,
    /// When it arrives, in seconds since the first one.
    pub arrival: f64,
    /// Tokens in its prompt, at least 1.
    pub prompt: u32,
    /// Tokens to generate, at least 1.
    pub generate: u32,
}

/// How the next token of a sequence is chosen, as it lies in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Sampling {
    pub temperature: f32,
    pub top_k: u32,
}

impl tidelock::Element for Sampling {}

/// The requests of a trace, or the first `limit` of them to arrive; and the rows that were left
/// out.
///
/// # Errors
///
/// Those of [`trace::read`].
pub fn from_trace(
    path: &Path,
    invalid: InvalidRows,
    limit: Option<usize>,
) -> Result<(Vec<Request>, Option<Skipped>), TraceError> {
    let trace::Trace { records, skipped } = trace::read(path, invalid)?;
    let limit = limit.unwrap_or(records.len());
    let request = |(id, record): (u32, trace::Record)| Request {
        id,
        arrival: record.arrival,
        prompt: record.prompt,
        generate: record.generate,
    };
    Ok(((0..).zip(records).take(limit).map(request).collect(), skipped))
}

/// A workload of `count` requests, the same for the same seed.
///
/// Lengths are drawn from the distribution of a real conversation service, arrivals are a Poisson
/// process of its rate.
pub fn generate(count: usize, seed: u64) -> Vec<Request> {
    let mut random = SplitMix::new(seed, STREAM_WORKLOAD);
    let mut arrival = 0.0;
    let request = |id| {
        let request = Request { id, arrival, prompt: PROMPT.draw(&mut random), generate: GENERATE.draw(&mut random) };
        arrival += random.exponential() / REQUESTS_PER_SECOND;
        request
    };
    (0..).take(count).map(request).collect()
}

/// Token number `k` of the prompt of request `id`.
pub fn prompt_token(seed: u64, id: u32, k: u32) -> u32 {
    SplitMix::new(seed ^ ((u64::from(id) << 32) | u64::from(k)), STREAM_PROMPT).below(VOCABULARY)
}

/// The sampling parameters of request `id`: a temperature in 0.1 to 2.0, a `top_k` in 2 to 100.
#[expect(clippy::cast_precision_loss, reason = "the value is below 20")]
pub fn sampling(seed: u64, id: u32) -> Sampling {
    let mut random = SplitMix::new(seed ^ u64::from(id), STREAM_SAMPLING);
    Sampling { temperature: (1 + random.below(20)) as f32 / 10.0, top_k: 2 + random.below(99) }
}

/// The random state with which request `id` begins, never zero.
pub fn random_state(seed: u64, id: u32) -> u64 {
    // An xorshift generator never leaves the state zero, so it must not begin there.
    SplitMix::new(seed ^ u64::from(id), STREAM_RANDOM).next() | 1
}

/// A small generator (splitmix64), for everything on the host that only has to look random.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

/// Distinguishes the generators that share a seed.
const STREAM_WORKLOAD: u64 = 0x776F_726B;
const STREAM_PROMPT: u64 = 0x7072_6F6D;
const STREAM_SAMPLING: u64 = 0x7361_6D70;
const STREAM_RANDOM: u64 = 0x7261_6E64;

impl SplitMix {
    /// A generator for the seed, independent of the others with the same seed and another `stream`.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(Self(seed).next() ^ stream)
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait, reason = "the numbers do not end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A number below `bound`, or 0 if that is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// A number from the exponential distribution with mean 1.
    fn exponential(&mut self) -> f64 {
        let uniform = f64::from(self.below(u32::MAX)) / f64::from(u32::MAX);
        -(1.0 - uniform).ln()
    }
}

/// Mean arrival rate of the real trace in one busy hour.
const REQUESTS_PER_SECOND: f64 = 5.4;

/// A distribution of lengths by its quantiles: (requests of 10,000 that are below, length), linear
/// in between.
///
/// Real lengths are neither normal nor log-normal: system prompts and answer limits pile them up in
/// a few places. Quantiles keep that, and integers make the workload the same on every machine.
struct Quantiles(&'static [(u32, u32)]);

/// Quantiles of the prompt lengths of "Azure LLM inference trace 2023", conversation.
const PROMPT: Quantiles = Quantiles(&[
    (0, 2),
    (100, 29),
    (500, 181),
    (1000, 207),
    (1500, 372),
    (2000, 387),
    (3500, 414),
    (4000, 703),
    (4500, 984),
    (5000, 1020),
    (6000, 1071),
    (7500, 1189),
    (8000, 1315),
    (8500, 1877),
    (9000, 2735),
    (9250, 4075),
    (9900, 4142),
    (9950, 4831),
    (9990, 6212),
    (9999, 7930),
    (10_000, 14_050),
]);

/// Quantiles of the generated lengths of the same trace.
const GENERATE: Quantiles = Quantiles(&[
    (0, 7),
    (100, 16),
    (500, 41),
    (1000, 54),
    (2000, 77),
    (3000, 91),
    (4000, 103),
    (4500, 113),
    (5000, 129),
    (5500, 151),
    (6000, 177),
    (6500, 217),
    (7000, 384),
    (8000, 400),
    (9250, 430),
    (9500, 451),
    (9750, 522),
    (9900, 601),
    (9950, 644),
    (9990, 954),
    (10_000, 1000),
]);

impl Quantiles {
    fn draw(&self, random: &mut SplitMix) -> u32 {
        // Finer than the knots, so that every length between two of them can come up.
        const STEPS: u32 = 1 << 16;
        let x = random.below(10_000 * STEPS);
        let above = self.0.partition_point(|&(q, _)| q * STEPS <= x);
        let (Some(&(q0, low)), Some(&(q1, high))) = (self.0.get(above.saturating_sub(1)), self.0.get(above)) else {
            return 1;
        };
        let part = u64::from(x - q0 * STEPS) * u64::from(high + 1 - low) / u64::from((q1 - q0) * STEPS);
        // A part of `high - low`, so it fits.
        low + u32::try_from(part).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_lengths_have_the_character_of_the_real_trace() {
        let requests = generate(20_000, 1);
        let mut prompts: Vec<u32> = requests.iter().map(|r| r.prompt).collect();
        let mut generated: Vec<u32> = requests.iter().map(|r| r.generate).collect();
        prompts.sort_unstable();
        generated.sort_unstable();
        assert!(prompts[0] >= 2 && prompts[19_999] <= 14_050);
        assert!(generated[0] >= 7 && generated[19_999] <= 1000);
        assert!((1010..=1030).contains(&prompts[10_000]), "{}", prompts[10_000]);
        assert!((120..=138).contains(&generated[10_000]), "{}", generated[10_000]);
        let mean = |lengths: &[u32]| lengths.iter().sum::<u32>() / 20_000;
        assert!((1120..=1190).contains(&mean(&prompts)), "{}", mean(&prompts));
        assert!((200..=222).contains(&mean(&generated)), "{}", mean(&generated));
    }

    #[test]
    fn arrivals_start_at_zero_never_decrease_and_keep_the_rate() {
        let requests = generate(20_000, 2);
        assert_eq!(requests[0].arrival.to_bits(), 0.0_f64.to_bits());
        assert!(requests.is_sorted_by_key(|r| r.arrival));
        let rate = 20_000.0 / requests[19_999].arrival;
        assert!((5.2..5.6).contains(&rate), "{rate}");
    }

    #[test]
    fn everything_follows_from_the_seed() {
        assert_eq!(generate(50, 7), generate(50, 7));
        assert_ne!(generate(50, 7), generate(50, 8));
        assert_eq!(generate(50, 7)[..20], generate(20, 7));
        assert_eq!(prompt_token(7, 3, 11), prompt_token(7, 3, 11));
        assert_ne!(random_state(7, 3), random_state(7, 4));
        assert_ne!(random_state(7, 3), random_state(8, 3));
    }

    #[test]
    fn prompts_and_parameters_stay_in_range() {
        for id in 0..1000 {
            assert!(prompt_token(5, id, id * 3) < VOCABULARY);
            let sampling = sampling(5, id);
            assert!((0.1..=2.0).contains(&sampling.temperature));
            assert!((2..=100).contains(&sampling.top_k));
            assert_ne!(random_state(5, id), 0);
        }
        let tokens: std::collections::BTreeSet<u32> = (0..1000).map(|k| prompt_token(5, 9, k)).collect();
        assert!(tokens.len() > 950, "prompts hardly repeat a token");
    }
}
