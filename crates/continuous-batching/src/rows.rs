//! The rows of the batch, and how they move: to the device, to their new places, and to the host.

#![forbid(unsafe_code)]

use std::mem;
use std::num::NonZero;

use tidelock::{
    BatchCopy, Buffer, Ctx, DeviceLocation, Element, Permutation, Result, Stack, State, View, ViewMut,
    batch::Batch,
    buffer::Offsets,
    stream::{Staged, StreamAlloc},
};

use super::memory::{Joins, NewRows, Shape, States, Up};
use super::model::{Model, Sequences};
use super::schedule::{Peaks, Plan};

/// The states of all sequences in the batch.
#[derive(Debug)]
pub struct Rows<L: DeviceLocation> {
    states: States<L>,
    /// The token each row generated last.
    tokens: Buffer<u32, L>,
    table: HostTable,
    /// The width of a row of the token histories.
    width: NonZero<usize>,
}

/// The host's data for moving the rows. None of the vectors ever grows.
#[derive(Debug)]
struct HostTable {
    /// Tokens that each row held when its last token was generated, and room for the next batch's.
    lengths: Vec<u32>,
    next_lengths: Vec<u32>,
    /// Where the block table of each row begins, and room for the next batch's.
    offsets: Vec<u32>,
    next_offsets: Vec<u32>,
}

/// Rows of one element.
const ONE: NonZero<usize> = NonZero::<usize>::MIN;

impl<L: DeviceLocation> Rows<L> {
    /// No rows, and memory for `peaks`.
    pub fn new(ctx: &Ctx<'_, L, StreamAlloc<L>>, peaks: &Peaks) -> Result<Self> {
        Ok(Self {
            states: States::new(ctx, peaks)?,
            tokens: ctx.zeros(peaks.rows)?,
            table: HostTable::new(peaks),
            width: NonZero::new(peaks.history).unwrap_or(ONE),
        })
    }

    /// Sets the number of rows to that which `plan` moves, with one token each for the host and
    /// none for the model.
    pub fn pretend(&mut self, ctx: &Ctx<'_, L>, plan: &Plan) -> Result<()> {
        self.table.lengths.clear();
        self.table.lengths.resize(plan.perm.len(), 1);
        self.table.offsets.clone_from(&plan.block_offsets);
        ctx.clear::<u32, L>(self.states.lengths.front_mut())?;
        ctx.clear::<u32, L>(self.states.cached.front_mut())
    }

    /// The bytes of the states of all sequences, both halves.
    pub fn states_bytes(&self) -> usize {
        self.states.bytes()
    }

    /// Removes all rows.
    pub fn forget(&mut self) {
        self.table.clear();
    }

    /// Uploads the new rows to `new`, except the cached lengths, which go straight to their places.
    pub fn bring_up(
        &mut self,
        ctx: &Ctx<'_, L, &Stack<L>>,
        copies: &mut BatchCopy,
        up: &Up<L>,
        shape: Shape,
        new: &mut NewRows<'_, L>,
    ) -> Result<()> {
        let states = &mut self.states;
        let Shape { rows, joins, prompts, tables } = shape;
        copies.scope(ctx, |b| {
            b.copy(up.prompts.view().slice(..prompts)?, new.prompts.reborrow())?;
            b.copy(up.lengths.view().slice(..joins)?, new.lengths.reborrow())?;
            b.copy(up.sampling.view().slice(..joins)?, new.sampling.reborrow())?;
            b.copy(up.random.view().slice(..joins)?, new.random.reborrow())?;
            b.copy(up.tables.view().slice(..tables)?, new.tables.reborrow())?;
            b.copy(up.offsets.view().slice(..rows + 1)?, new.offsets.reborrow())?;
            b.copy(up.cached.view().slice(..joins)?, states.cached.back_mut().slice(rows - joins..rows)?)
        })
    }

    /// Writes the next states from the present ones and the joining rows.
    /// [`generate`](Self::generate) makes them the present ones.
    ///
    /// `cached` are the cached lengths of the joining rows, unless they are in place already.
    pub fn repack(
        &mut self,
        ctx: &Ctx<'_, L, &Stack<L>>,
        copies: &mut BatchCopy,
        plan: &Plan,
        joins: &Joins,
        new: &NewRows<'_, L>,
        cached: Option<View<'_, u32, L>>,
    ) -> Result<()> {
        let Self { states, tokens, table, width, .. } = self;
        let (rows, old) = (plan.perm.len(), plan.old_rows as usize);
        let perm = Permutation::new(&plan.perm, old, plan.joins.len())?;
        let table_perm = Permutation::new(&plan.block_perm, old, plan.fresh_block_offsets.len() - 1)?;
        let prompt_offsets = Offsets::new(joins.prompts(), "prompts")?;
        let offsets = Offsets::new(&table.offsets, "block table offsets")?;
        let fresh_offsets = Offsets::new(&plan.fresh_block_offsets, "fresh block table offsets")?;
        table.next_lengths.resize(rows, 0);
        table.next_offsets.resize(rows + 1, 0);

        copies.scope(ctx, |b| {
            b.group(|g| {
                let (front, back) = states.history.both();
                let (front, back) = (front.rows(*width)?.first(old)?, back.rows(*width)?.first(rows)?);
                let prompts = new.prompts.as_view().ragged(prompt_offsets)?;
                let tokens = tokens.view().slice(..old)?;
                g.append(front, &table.lengths, tokens, prompts, perm, back, &mut table.next_lengths)
            })?;
            match cached {
                Some(cached) => join(b, &mut states.cached, cached, perm)?,
                None => b.group(|g| {
                    let (front, back) = states.cached.both();
                    g.warp(front.rows(ONE)?.first(old)?, perm, back.rows(ONE)?.first(rows)?)
                })?,
            }
            join(b, &mut states.lengths, new.lengths.as_view(), perm)?;
            join(b, &mut states.sampling, new.sampling.as_view(), perm)?;
            join(b, &mut states.random, new.random.as_view(), perm)?;
            b.group(|g| {
                let (front, back) = states.tables.both();
                let fresh = new.tables.as_view().ragged(fresh_offsets)?;
                g.warp_ragged(front.ragged(offsets)?, fresh, table_perm, back, &mut table.next_offsets)
            })
        })?;
        debug_assert_eq!(table.next_lengths, plan.lengths, "the histories are as long as the plan says");
        debug_assert_eq!(table.next_offsets, plan.block_offsets, "the tables lie where the offsets on the device say");
        Ok(())
    }

    /// Makes the re-packed states the present ones, and runs the model on them. If the model is
    /// refused, the old ones are the present ones again.
    pub fn generate<M: Model<L>>(
        &mut self,
        ctx: &Ctx<'_, L, &Stack<L>>,
        model: &mut M,
        plan: &Plan,
        new: &NewRows<'_, L>,
    ) -> Result<()> {
        self.swap();
        let answer = self.sequences(plan, new).and_then(|sequences| model.generate(ctx, sequences));
        if answer.is_err() {
            self.swap();
        }
        answer
    }

    /// Exchanges the present states and those written last, on the device and on the host.
    fn swap(&mut self) {
        self.states.swap();
        self.table.swap();
    }

    /// The rows of `plan` as the model's operands.
    fn sequences<'a>(&'a mut self, plan: &Plan, new: &'a NewRows<'_, L>) -> Result<Sequences<'a, L>> {
        let Self { states, tokens, width, .. } = self;
        let rows = plan.perm.len();
        Ok(Sequences {
            history: states.history.front().rows(*width)?.first(rows)?,
            lengths: states.lengths.front_mut().slice(..rows)?,
            cached: states.cached.front_mut().slice(..rows)?,
            sampling: states.sampling.front().slice(..rows)?,
            random: states.random.front_mut().slice(..rows)?,
            tables: states.tables.front().slice(..plan.total_blocks() as usize)?,
            offsets: new.offsets.as_view(),
            tokens: tokens.view_mut().slice(..rows)?,
        })
    }

    /// Copies the tokens of all rows to `front`, and the histories of those that finish to
    /// `behind`.
    pub fn bring_down(
        &self,
        ctx: &Ctx<'_, L>,
        copies: &mut BatchCopy,
        plan: &Plan,
        front: ViewMut<'_, u32, Staged<L>>,
        behind: ViewMut<'_, u32, Staged<L>>,
    ) -> Result<()> {
        let Self { states, tokens, width, .. } = self;
        let rows = plan.perm.len();
        copies.scope(ctx, |b| {
            b.copy(tokens.view().slice(..rows)?, front.slice(..rows)?)?;
            let histories = states.history.front().rows(*width)?;
            let mut rest = behind;
            for &row in &plan.finishing {
                let (history, behind) = rest.split_at(plan.lengths[row as usize] as usize)?;
                b.copy(histories.row(row as usize)?.slice(..history.len())?, history)?;
                rest = behind;
            }
            Ok(())
        })
    }
}

/// The finished histories, in the order of `plan.finishing`, each without its last token.
pub fn finished<'a>(mut rest: &'a [u32], plan: &'a Plan) -> impl Iterator<Item = &'a [u32]> {
    plan.finishing.iter().map(move |&row| {
        let (history, behind) = rest.split_at(plan.lengths[row as usize] as usize);
        rest = behind;
        history
    })
}

/// Moves a state of one element a row.
fn join<'env, T: Element, L: DeviceLocation>(
    batch: &mut Batch<'_, 'env, L>,
    state: &'env mut State<T, L>,
    joining: View<'env, T, L>,
    perm: Permutation<'env>,
) -> Result<()> {
    let (front, back) = state.both();
    let (front, back) = (front.rows(ONE)?.first(perm.old())?, back.rows(ONE)?.first(perm.len())?);
    batch.group(|g| g.warp_join(front, joining.rows(ONE)?, perm, back))
}

impl HostTable {
    fn new(peaks: &Peaks) -> Self {
        let mut table = Self {
            lengths: Vec::with_capacity(peaks.rows),
            next_lengths: Vec::with_capacity(peaks.rows),
            offsets: Vec::with_capacity(peaks.rows + 1),
            next_offsets: Vec::with_capacity(peaks.rows + 1),
        };
        table.clear();
        table
    }

    /// No rows: the table of offsets then has one entry, which is 0.
    fn clear(&mut self) {
        self.lengths.clear();
        self.offsets.clear();
        self.offsets.push(0);
    }

    fn swap(&mut self) {
        mem::swap(&mut self.lengths, &mut self.next_lengths);
        mem::swap(&mut self.offsets, &mut self.next_offsets);
    }
}
