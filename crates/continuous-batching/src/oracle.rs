//! The definition of what the model computes, and a simple check of what the engine generated.
//!
//! The "model" stands for a language model in the one respect that matters to memory: the next
//! token follows from every token of the sequence, its position, the sequence's own sampling
//! parameters, random state and length. A copy that is lost, late or misplaced by one row changes
//! what is generated, and everything after it.
//!
//! For a sequence with the tokens `t[0..n]`, all arithmetic wrapping:
//!
//! 1. `keys` is the sum of [`key`]`(t[j], j)` over all positions, in 32 bits: each token at its
//!    place.
//! 2. `tokens` is the sum of [`token_term`]`(t[j])`, in 32 bits: each token at any place. The pair
//!    is a [`Digest`]. Both are sums, so a kernel may add in any order, and the oracle adds one
//!    token at a time.
//! 3. `r`, the sequence's random state, becomes [`step_random`]`(r)`, once per generated token.
//! 4. The next token is [`sample`]`(digest, r, sampling, n)` with the new `r`; it is below the
//!    vocabulary's size.
//!
//! There is no floating-point arithmetic (the temperature enters by its bits), so every device
//! gives the same tokens.

#![forbid(unsafe_code)]

use super::workload::{self, Request, Sampling, VOCABULARY};

/// What one token contributes at its position.
#[inline]
pub fn key(token: u32, position: u32) -> u32 {
    let x = (token ^ position.wrapping_mul(0x9E37_79B1)).wrapping_mul(0x85EB_CA6B);
    x ^ (x >> 15)
}

/// What one token contributes wherever it is.
#[inline]
pub fn token_term(token: u32) -> u32 {
    let x = token.wrapping_add(0x7F4A_7C15).wrapping_mul(0xC2B2_AE35);
    x ^ (x >> 13)
}

/// Everything that the model uses of a sequence's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    pub keys: u32,
    pub tokens: u32,
}

impl Digest {
    /// The digest of a whole sequence.
    #[cfg(test)]
    pub fn of(tokens: &[u32]) -> Self {
        let mut digest = Self::default();
        for (&token, position) in tokens.iter().zip(0..) {
            digest.push(token, position);
        }
        digest
    }

    /// Adds the token at `position`.
    #[inline]
    pub fn push(&mut self, token: u32, position: u32) {
        self.keys = self.keys.wrapping_add(key(token, position));
        self.tokens = self.tokens.wrapping_add(token_term(token));
    }
}

/// The random state that follows `state` (xorshift64, the state of xorshift64*).
#[inline]
pub fn step_random(state: u64) -> u64 {
    let x = state ^ (state >> 12);
    let x = x ^ (x << 25);
    x ^ (x >> 27)
}

/// The token that follows a sequence of `length` tokens.
///
/// As in a real model the context and the temperature give `top_k` candidates and the random state
/// picks one; here it also enters the candidate itself, so that a wrong state shows at once even
/// where `top_k` is small.
#[inline]
pub fn sample(digest: Digest, random: u64, sampling: Sampling, length: u32) -> u32 {
    let draw = random.wrapping_mul(0x2545_F491_4F6C_DD1D);
    let pick = ((draw >> 32) * u64::from(sampling.top_k)) >> 32;
    let context = (u64::from(digest.keys) << 32) | u64::from(digest.tokens);
    let shape = (u64::from(sampling.temperature.to_bits()) << 32) | u64::from(length);
    let candidate = mix(context ^ mix(shape ^ draw)).wrapping_add(pick.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (((mix(candidate) >> 32) * u64::from(VOCABULARY)) >> 32) as u32
}

/// Derives the tokens that the engine should generate.
#[derive(Debug)]
pub struct Oracle {
    seed: u64,
    history: Vec<u32>,
}

/// The first difference between a history and the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A token is wrong.
    #[error("request {request}: token {position} is {found}, expected {expected}")]
    Token { request: u32, position: usize, found: u32, expected: u32 },
    /// The history has another number of tokens.
    #[error("request {request}: the history has {found} tokens, expected {expected}")]
    Length { request: u32, found: usize, expected: usize },
    /// The history is right, but the tokens that the host received one by one differ.
    #[error("request {request}: the tokens received one by one are not those of its history")]
    Received { request: u32 },
}

impl Oracle {
    /// An oracle for the workload with this seed, with room for histories of `longest` tokens.
    pub fn new(seed: u64, longest: usize) -> Self {
        Self { seed, history: Vec::with_capacity(longest) }
    }

    /// The whole history of a request, prompt and generated tokens, valid until the next call.
    ///
    /// It takes time proportional to the length. It allocates nothing while no history is longer
    /// than the longest so far.
    pub fn history(&mut self, request: &Request) -> &[u32] {
        let mut digest = Digest::default();
        self.history.clear();
        for position in 0..request.prompt {
            let token = workload::prompt_token(self.seed, request.id, position);
            digest.push(token, position);
            self.history.push(token);
        }
        let sampling = workload::sampling(self.seed, request.id);
        let mut random = workload::random_state(self.seed, request.id);
        for (length, _) in (request.prompt..).zip(0..request.generate) {
            random = step_random(random);
            let token = sample(digest, random, sampling, length);
            digest.push(token, length);
            self.history.push(token);
        }
        &self.history
    }

    /// Compares the history of a finished request with the expected one.
    ///
    /// # Errors
    ///
    /// The first token that differs, or the lengths if one history is the beginning of the other.
    pub fn check(&mut self, request: &Request, found: &[u32]) -> Result<(), Mismatch> {
        let expected = self.history(request);
        if let Some(position) = expected.iter().zip(found).position(|(a, b)| a != b) {
            let (expected, found) = (expected[position], found[position]);
            return Err(Mismatch::Token { request: request.id, position, found, expected });
        }
        if expected.len() == found.len() {
            Ok(())
        } else {
            Err(Mismatch::Length { request: request.id, found: found.len(), expected: expected.len() })
        }
    }
}

/// Spreads every input bit over all output bits, one to one.
#[inline]
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let x = (x ^ (x >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request = Request { id: 3, arrival: 0.0, prompt: 100, generate: 50 };

    /// The definition again, from the whole sequence at every step, as a kernel computes it.
    fn by_definition(seed: u64, request: &Request) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..request.prompt).map(|k| workload::prompt_token(seed, request.id, k)).collect();
        let mut random = workload::random_state(seed, request.id);
        for _ in 0..request.generate {
            random = step_random(random);
            let length = u32::try_from(tokens.len()).unwrap();
            tokens.push(sample(Digest::of(&tokens), random, workload::sampling(seed, request.id), length));
        }
        tokens
    }

    #[test]
    fn history_is_the_definition_applied_step_by_step() {
        let mut oracle = Oracle::new(9, 0);
        assert_eq!(oracle.history(&REQUEST), by_definition(9, &REQUEST));
        assert!(oracle.history(&REQUEST).iter().all(|&t| t < VOCABULARY));
        let other = Request { id: 4, prompt: 1, generate: 1, ..REQUEST };
        assert_eq!(oracle.history(&other), by_definition(9, &other));
    }

    #[test]
    fn the_next_token_depends_on_every_input() {
        let base = Sampling { temperature: 0.7, top_k: 40 };
        let digest = Digest { keys: 11, tokens: 22 };
        let token = sample(digest, 33, base, 44);
        assert_ne!(token, sample(Digest { keys: 12, ..digest }, 33, base, 44));
        assert_ne!(token, sample(Digest { tokens: 23, ..digest }, 33, base, 44));
        assert_ne!(token, sample(digest, 34, base, 44));
        assert_ne!(token, sample(digest, 33, Sampling { temperature: 0.8, ..base }, 44));
        assert_ne!(token, sample(digest, 33, base, 45));
        // `top_k` decides the candidate only through the pick, so that a close value may give the
        // same one.
        assert!((2..=100).any(|top_k| sample(digest, 33, Sampling { top_k, ..base }, 44) != token));
    }

    #[test]
    fn the_digest_sees_a_changed_and_an_exchanged_token() {
        let digest = Digest::of(&[5, 6, 7]);
        assert_ne!(digest, Digest::of(&[5, 6, 8]));
        assert_ne!(digest.keys, Digest::of(&[6, 5, 7]).keys);
        assert_eq!(digest.tokens, Digest::of(&[6, 5, 7]).tokens);
    }

    #[test]
    fn check_names_the_first_difference() {
        let mut oracle = Oracle::new(9, 0);
        let good = oracle.history(&REQUEST).to_vec();
        assert_eq!(oracle.check(&REQUEST, &good), Ok(()));
        let mut bad = good.clone();
        bad[120] ^= 1;
        bad[130] ^= 1;
        let expected = Mismatch::Token { request: 3, position: 120, found: bad[120], expected: good[120] };
        assert_eq!(oracle.check(&REQUEST, &bad), Err(expected));
        let expected = Mismatch::Length { request: 3, found: 149, expected: 150 };
        assert_eq!(oracle.check(&REQUEST, &good[..149]), Err(expected));
    }
}
