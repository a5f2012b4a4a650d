//! The contract of a model, whatever the device: one implementation for each backend.

#![forbid(unsafe_code)]

use tidelock::{Ctx, DeviceLocation, Result, Stack, View, ViewMut, buffer::Rows};

use super::workload::Sampling;

/// A language model on device memory of stream `L`, with a paged KV cache of its own.
pub trait Model<L: DeviceLocation> {
    /// Enqueues one forward pass over `batch`, with temporaries from the context's arena.
    ///
    /// For each row, once the stream has passed it:
    ///
    /// 1. the keys of its tokens that were not cached are in the cache, at the places that its
    ///    block table gives;
    /// 2. its random state is stepped, and its next token is in `tokens`; [`oracle`](super::oracle)
    ///    defines it by all cached keys, all tokens and the sampling parameters;
    /// 3. its length counts that token, its cached length does not yet.
    ///
    /// # Errors
    ///
    /// The device's error. Nothing is enqueued then.
    fn generate(&mut self, ctx: &Ctx<'_, L, &Stack<L>>, batch: Sequences<'_, L>) -> Result<()>;
}

/// The rows of the batch as the model's operands. Each field has one element, or one row, per row
/// of the batch.
#[derive(Debug)]
pub struct Sequences<'a, L: DeviceLocation> {
    /// Tokens, `lengths[i]` of which count in row `i`.
    pub history: Rows<'a, u32, L>,
    pub lengths: ViewMut<'a, u32, L>,
    /// Tokens whose keys are in the cache.
    pub cached: ViewMut<'a, u32, L>,
    pub sampling: View<'a, Sampling, L>,
    pub random: ViewMut<'a, u64, L>,
    /// The block tables of all rows, one after the other.
    pub tables: View<'a, u32, L>,
    /// Where the table of each row begins in `tables`, and where the last one ends: one more than
    /// there are rows.
    pub offsets: View<'a, u32, L>,
    /// The output: the generated tokens.
    pub tokens: ViewMut<'a, u32, L>,
}
