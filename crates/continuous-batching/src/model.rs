//! What the engine asks of a model, whatever the device: one implementation per backend.

#![forbid(unsafe_code)]

use tidelock::{Ctx, DeviceLocation, Result, Stack, View, ViewMut, buffer::Rows};

use super::workload::Sampling;

/// A language model on device memory of stream `L`, with a paged KV cache of its own.
pub trait Model<L: DeviceLocation> {
    /// Enqueues one forward pass over `batch`, temporaries from the context's arena.
    ///
    /// For each row, once the stream has passed it:
    ///
    /// 1. the keys of its tokens that are not cached yet are in the cache, at the places its block
    ///    table says;
    /// 2. its random state is stepped, and its next token, which follows from all cached keys, all
    ///    tokens and the sampling parameters as [`oracle`](super::oracle) says, is in `tokens`;
    /// 3. its length counts that token, its cached length does not yet.
    ///
    /// # Errors
    ///
    /// What the device answered. Nothing is enqueued then.
    fn generate(&mut self, ctx: &Ctx<'_, L, &Stack<L>>, batch: Sequences<'_, L>) -> Result<()>;
}

/// The rows of the batch, as a model sees them: everything has one element, or one row, per row of
/// the batch.
#[derive(Debug)]
pub struct Sequences<'a, L: DeviceLocation> {
    /// Tokens, `lengths[i]` of which count in row `i`.
    pub history: Rows<'a, u32, L>,
    pub lengths: ViewMut<'a, u32, L>,
    /// Tokens whose keys are in the cache.
    pub cached: ViewMut<'a, u32, L>,
    pub sampling: View<'a, Sampling, L>,
    pub random: ViewMut<'a, u64, L>,
    /// The block tables of all rows, one behind the other.
    pub tables: View<'a, u32, L>,
    /// Where the table of each row begins in `tables`, and where the last one ends: one more than
    /// there are rows.
    pub offsets: View<'a, u32, L>,
    /// Where the generated tokens go.
    pub tokens: ViewMut<'a, u32, L>,
}
