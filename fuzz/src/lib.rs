//! What is fuzzed: functions of bytes that panic if the library is wrong.
//!
//! `cargo fuzz` runs them, and without a fuzzer `tests/fuzz` does. Each compares what the library
//! does with a second computation, and returns what was reached, in words, so that a driver without
//! coverage keeps inputs that reach something new.

pub mod dlpack;
pub mod header;
pub mod layouts;

/// A function of bytes, with its name: that of its corpus.
pub type Target = (&'static str, fn(&[u8]) -> String);

/// All of them.
pub const TARGETS: [Target; 3] = [("header", header::run), ("dlpack", dlpack::run), ("layouts", layouts::run)];

/// Numbers out of bytes. What is not there is 0.
pub struct Input<'b>(pub &'b [u8]);

impl Input<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, at| word | u64::from(self.byte()) << (8 * at))
    }

    /// Mostly a small number, and at times a large one or one near a power of two.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => u64::from(small % 9),
            at @ 200..232 => (1_u64 << (2 * (at - 200))).wrapping_add(u64::from(self.byte() % 3)).wrapping_sub(1),
            232..240 => i64::MAX as u64 - u64::from(self.byte()),
            _ => self.word(),
        }
    }
}
