//! The model as a Rust function, launched like a kernel: on every device whose streams run
//! closures.

#![forbid(unsafe_code)]

use tidelock::{
    Buffer, Ctx, DeviceLocation, Result, Stack,
    driver::{HostFns, StreamOf},
    stream::SyncAlloc,
};

use super::model::{Model, Sequences};
use super::oracle::{self, Digest};
use super::schedule::BLOCK_TOKENS;
use super::workload::Sampling;

const BLOCK: usize = BLOCK_TOKENS as usize;

/// The model of stream `L`, with its KV cache.
#[derive(Debug)]
pub struct ClosureModel<L: DeviceLocation> {
    cache: Buffer<u32, L, SyncAlloc<L>>,
}

impl<L: DeviceLocation> ClosureModel<L> {
    /// A model with a cache of `blocks` blocks.
    ///
    /// # Errors
    ///
    /// Those of the allocation.
    pub fn new(ctx: &Ctx<'_, L>, blocks: usize) -> Result<Self> {
        let ctx = ctx.with_device_alloc(ctx.sync_alloc());
        Ok(Self { cache: ctx.zeros(blocks.saturating_mul(BLOCK))? })
    }
}

impl<L: DeviceLocation> Model<L> for ClosureModel<L>
where
    StreamOf<L::Backend>: HostFns,
{
    fn generate(&mut self, ctx: &Ctx<'_, L, &Stack<L>>, batch: Sequences<'_, L>) -> Result<()> {
        let Sequences { history, lengths, cached, sampling, random, tables, offsets, tokens } = batch;
        let width = history.width().get();
        let history = history.as_view()?;
        let cache = self.cache.view_mut();
        ctx.launch(
            (history, width, lengths, cached, sampling, random, tables, offsets, cache, tokens),
            |(history, width, lengths, cached, sampling, random, tables, offsets, cache, tokens)| {
                let rows = history.chunks_exact(width).zip(lengths).zip(cached).zip(sampling).zip(random);
                let tables = offsets.windows(2).map(|ends| &tables[ends[0] as usize..ends[1] as usize]);
                for (((((history, length), cached), sampling), random), (table, token)) in rows.zip(tables.zip(tokens))
                {
                    let history = &history[..*length as usize];
                    *token = next_token(history, cached, *sampling, random, table, cache);
                    *length += 1;
                }
            },
        )
    }
}

/// One row of the forward pass.
fn next_token(
    history: &[u32],
    cached: &mut u32,
    sampling: Sampling,
    random: &mut u64,
    table: &[u32],
    cache: &mut [u32],
) -> u32 {
    let length = history.len() as u32;
    for (position, &token) in (*cached..length).zip(&history[*cached as usize..]) {
        let block = table[(position / BLOCK_TOKENS) as usize] as usize;
        cache[block * BLOCK + (position % BLOCK_TOKENS) as usize] = oracle::key(token, position);
    }
    *cached = length;

    // Slices of a block each, so that the sums are vectorised.
    let keys = table.iter().zip(history.chunks(BLOCK)).map(|(&block, tokens)| {
        let start = block as usize * BLOCK;
        cache[start..start + tokens.len()].iter().fold(0_u32, |sum, &key| sum.wrapping_add(key))
    });
    let digest = Digest {
        keys: keys.fold(0, u32::wrapping_add),
        tokens: history.iter().fold(0, |sum, &token| sum.wrapping_add(oracle::token_term(token))),
    };
    *random = oracle::step_random(*random);
    oracle::sample(digest, *random, sampling, length)
}
