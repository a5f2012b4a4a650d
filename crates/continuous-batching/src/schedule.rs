//! Which requests are in the batch, in which row, with which blocks of the KV cache: continuous
//! batching on the host.
//!
//! An engine calls [`Scheduler::advance`] once per iteration and carries out the [`Plan`]:
//!
//! 1. Rows whose request has finished leave. The others are re-packed by a permutation that leaves
//!    nothing in place, and requests that have arrived join behind them while there is room.
//! 2. The engine warps its per-row states by `perm`, its block tables by `block_perm`, and appends
//!    the token that each surviving row generated in the iteration before. Row `i` then holds
//!    `lengths[i]` tokens.
//! 3. The model generates one token per row. The rows in `finishing` have then all their tokens.
//!
//! Time is virtual, so that a run depends on nothing but its inputs.

#![forbid(unsafe_code)]

use std::num::NonZeroU32;

use super::blocks::{BlockPool, Chain};
use super::workload::{Request, SplitMix};

/// Virtual time of one iteration.
pub const SECONDS_PER_ITERATION: f64 = 0.1;

/// Tokens in one block of the KV cache.
pub const BLOCK_TOKENS: u32 = 64;

/// What changes in one iteration; the vectors are reused from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Rows of the batch before this iteration.
    pub old_rows: u32,
    /// For each row its source: an old row, or `old_rows + k` for `joins[k]`.
    pub perm: Vec<u32>,
    /// The requests that join, as positions in the workload. They take the last rows, in this
    /// order.
    pub joins: Vec<usize>,
    /// For each row, the tokens that it holds before its next one is generated.
    pub lengths: Vec<u32>,
    /// For each row the source of its block table: an old row's, or `old_rows + m` for the fresh
    /// table `m`.
    pub block_perm: Vec<u32>,
    /// The tables of rows that joined or got another block, whole and one after the other.
    pub fresh_blocks: Vec<u32>,
    /// Where each fresh table begins in `fresh_blocks`, and where the last one ends: one more than
    /// there are tables.
    pub fresh_block_offsets: Vec<u32>,
    /// Where each row's table begins once all tables are packed in the order of the rows, and where
    /// the last one ends.
    pub block_offsets: Vec<u32>,
    /// The rows that have all their tokens after this iteration, in ascending order.
    pub finishing: Vec<u32>,
}

/// The largest values that any plan of a workload has, for sizing memory once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Iterations until every request has finished.
    pub iterations: u64,
    /// Rows in the batch.
    pub rows: usize,
    /// Requests that join in one iteration.
    pub joins: usize,
    /// Tokens in the prompts that join in one iteration.
    pub joined_tokens: usize,
    /// Tokens in a history when its request has finished.
    pub history: usize,
    /// Blocks in the tables of one iteration; block ids are below it.
    pub blocks: usize,
    /// Fresh block tables in one iteration.
    pub fresh_tables: usize,
    /// Blocks in the fresh tables of one iteration.
    pub fresh_blocks: usize,
    /// Tokens in the histories of the rows that finish in one iteration, without those generated in
    /// it.
    pub finished_tokens: usize,
}

/// The content of one row of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seq {
    /// The request, as its position in the workload.
    pub request: usize,
    /// Tokens generated in earlier iterations.
    pub generated: u32,
    /// Tokens of prompt and history together, without the one this iteration generates.
    pub length: u32,
}

/// Forms the batch of every iteration.
#[derive(Debug)]
pub struct Scheduler<'r> {
    requests: &'r [Request],
    /// The requests by arrival, and how many of them have joined.
    order: Vec<usize>,
    joined: usize,
    clock: f64,
    max_batch: usize,
    shuffle: SplitMix,
    rows: Vec<Row>,
    /// The rows of the next iteration while it is formed. It is swapped with `rows`.
    packed: Vec<Row>,
    pool: BlockPool,
    peaks: Peaks,
}

impl<'r> Scheduler<'r> {
    /// A scheduler for a workload, in any order, with at most `max_batch` rows.
    ///
    /// It first runs the whole schedule once without an engine to compute the [`Peaks`], which
    /// takes some milliseconds.
    pub fn new(requests: &'r [Request], max_batch: NonZeroU32, seed: u64) -> Self {
        let mut rehearsal = Self::with_peaks(requests, max_batch, seed, Peaks::default());
        let mut plan = Plan::default();
        let mut peaks = Peaks::default();
        while rehearsal.advance(&mut plan) {
            peaks.include(&plan, requests);
        }
        Self::with_peaks(requests, max_batch, seed, peaks)
    }

    /// The largest values to come, for sizing memory.
    pub fn peaks(&self) -> &Peaks {
        &self.peaks
    }

    /// A plan for [`advance`](Self::advance) to fill, with room enough for every iteration.
    pub fn plan(&self) -> Plan {
        let peaks = &self.peaks;
        Plan {
            old_rows: 0,
            perm: Vec::with_capacity(peaks.rows),
            joins: Vec::with_capacity(peaks.joins),
            lengths: Vec::with_capacity(peaks.rows),
            block_perm: Vec::with_capacity(peaks.rows),
            fresh_blocks: Vec::with_capacity(peaks.fresh_blocks),
            fresh_block_offsets: Vec::with_capacity(peaks.fresh_tables + 1),
            block_offsets: Vec::with_capacity(peaks.rows + 1),
            finishing: Vec::with_capacity(peaks.rows),
        }
    }

    /// Forms the next batch. Returns `false` if every request has finished and there is none.
    ///
    /// It allocates nothing with a plan from [`plan`](Self::plan).
    pub fn advance(&mut self, plan: &mut Plan) -> bool {
        plan.clear();
        self.keep_survivors(plan);
        self.join_arrivals(plan);
        self.extend_tables(plan);
        std::mem::swap(&mut self.rows, &mut self.packed);
        self.clock += SECONDS_PER_ITERATION;
        !self.rows.is_empty()
    }

    /// The content of row `i` of the batch that was formed last.
    pub fn seq(&self, i: usize) -> Option<Seq> {
        let row = self.rows.get(i)?;
        let length = self.requests.get(row.request)?.prompt + row.generated;
        Some(Seq { request: row.request, generated: row.generated, length })
    }

    /// The block table of row `i` of the batch that was formed last; empty if there is no such row.
    #[cfg(test)]
    pub fn blocks(&self, i: usize) -> impl Iterator<Item = u32> {
        self.pool.walk(self.rows.get(i).map_or(Chain::EMPTY, |row| row.table))
    }

    fn with_peaks(requests: &'r [Request], max_batch: NonZeroU32, seed: u64, peaks: Peaks) -> Self {
        const STREAM_SHUFFLE: u64 = 0x7368_7566;
        let mut order: Vec<usize> = (0..requests.len()).collect();
        let arrival = |&request: &usize| requests.get(request).map_or(0.0, |r| r.arrival);
        order.sort_by(|a, b| arrival(a).total_cmp(&arrival(b)));
        Self {
            requests,
            order,
            joined: 0,
            clock: 0.0,
            max_batch: usize::try_from(max_batch.get()).unwrap_or(usize::MAX),
            shuffle: SplitMix::new(seed, STREAM_SHUFFLE),
            rows: Vec::with_capacity(peaks.rows),
            packed: Vec::with_capacity(peaks.rows),
            pool: BlockPool::with_room_for(peaks.blocks),
            peaks,
        }
    }

    /// Drops the rows that have finished and moves the others to new places.
    fn keep_survivors(&mut self, plan: &mut Plan) {
        for (old, row) in (0..).zip(&mut self.rows) {
            plan.old_rows += 1;
            row.generated += 1;
            if row.generated < self.requests[row.request].generate {
                plan.perm.push(old);
            } else {
                self.pool.release(row.table);
            }
        }
        // Sattolo's shuffle: one cycle through all rows, so that no row stays where plain
        // compaction would leave it.
        for i in (1..plan.perm.len()).rev() {
            let bound = u32::try_from(i).unwrap_or(u32::MAX);
            plan.perm.swap(i, self.shuffle.below(bound) as usize);
        }
        self.packed.clear();
        self.packed.extend(plan.perm.iter().map(|&old| self.rows[old as usize]));
    }

    /// Takes requests that have arrived, in the order of their arrival, while there is room.
    fn join_arrivals(&mut self, plan: &mut Plan) {
        let waiting = self.order.get(self.joined..).unwrap_or_default();
        if let (true, Some(&next)) = (self.packed.is_empty(), waiting.first()) {
            // There is nothing to do until then.
            self.clock = self.clock.max(self.requests[next].arrival);
        }
        let room = self.max_batch.saturating_sub(self.packed.len());
        let has_arrived = |&&request: &&usize| self.requests[request].arrival <= self.clock;
        for (&request, source) in waiting.iter().take(room).take_while(has_arrived).zip(plan.old_rows..) {
            plan.joins.push(request);
            plan.perm.push(source);
            self.packed.push(Row { request, generated: 0, table: Chain::EMPTY });
        }
        self.joined += plan.joins.len();
    }

    /// Gives every row the blocks for its tokens and the next one, and describes the batch.
    fn extend_tables(&mut self, plan: &mut Plan) {
        plan.fresh_block_offsets.push(0);
        plan.block_offsets.push(0);
        let mut fresh = plan.old_rows;
        for (i, (row, &source)) in (0..).zip(self.packed.iter_mut().zip(&plan.perm)) {
            let request = &self.requests[row.request];
            let length = request.prompt + row.generated;
            plan.lengths.push(length);
            if row.generated + 1 >= request.generate {
                plan.finishing.push(i);
            }
            let needed = (length + 1).div_ceil(BLOCK_TOKENS);
            if row.table.blocks() < needed {
                self.pool.extend(&mut row.table, needed);
                plan.fresh_blocks.extend(self.pool.walk(row.table));
                let end = plan.fresh_block_offsets.last().map_or(0, |start| start + row.table.blocks());
                plan.fresh_block_offsets.push(end);
                plan.block_perm.push(fresh);
                fresh += 1;
            } else {
                plan.block_perm.push(source);
            }
            plan.block_offsets.push(plan.total_blocks() + row.table.blocks());
        }
    }
}

impl Plan {
    /// A plan that moves the largest number of rows, each from one token to two and with one block,
    /// for warming up.
    pub fn largest(peaks: &Peaks) -> Self {
        let rows = u32::try_from(peaks.rows).unwrap_or(u32::MAX);
        let finishing = u32::try_from(peaks.finished_tokens / 2).unwrap_or(u32::MAX).min(rows);
        Self {
            old_rows: rows,
            perm: (0..rows).rev().collect(),
            joins: Vec::new(),
            lengths: vec![2; peaks.rows],
            block_perm: (0..rows).rev().collect(),
            fresh_blocks: Vec::new(),
            fresh_block_offsets: vec![0],
            block_offsets: (0..=rows).collect(),
            finishing: (0..finishing).collect(),
        }
    }

    /// Blocks in all rows' tables together, fresh ones included.
    pub fn total_blocks(&self) -> u32 {
        self.block_offsets.last().copied().unwrap_or(0)
    }

    fn clear(&mut self) {
        let Self {
            old_rows,
            perm,
            joins,
            lengths,
            block_perm,
            fresh_blocks,
            fresh_block_offsets,
            block_offsets,
            finishing,
        } = self;
        *old_rows = 0;
        joins.clear();
        for vector in [perm, lengths, block_perm, fresh_blocks, fresh_block_offsets, block_offsets, finishing] {
            vector.clear();
        }
    }
}

impl Peaks {
    fn include(&mut self, plan: &Plan, requests: &[Request]) {
        let tokens = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let joined = || plan.joins.iter().filter_map(|&i| requests.get(i));
        self.iterations += 1;
        self.rows = self.rows.max(plan.perm.len());
        self.joins = self.joins.max(plan.joins.len());
        self.joined_tokens = self.joined_tokens.max(joined().map(|r| tokens(r.prompt)).sum());
        self.history = joined().map(|r| tokens(r.prompt) + tokens(r.generate)).fold(self.history, usize::max);
        self.blocks = self.blocks.max(tokens(plan.total_blocks()));
        self.fresh_tables = self.fresh_tables.max(plan.fresh_block_offsets.len() - 1);
        self.fresh_blocks = self.fresh_blocks.max(plan.fresh_blocks.len());
        let finished = plan.finishing.iter().filter_map(|&row| plan.lengths.get(row as usize));
        self.finished_tokens = self.finished_tokens.max(finished.map(|&length| tokens(length)).sum());
    }
}

/// One row of the batch.
#[derive(Clone, Copy, Debug)]
struct Row {
    request: usize,
    generated: u32,
    table: Chain,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::workload;

    /// An engine reduced to its rows, which only the plan moves, like states on a device.
    #[derive(Default)]
    struct Rows {
        requests: Vec<usize>,
        lengths: Vec<u32>,
        tables: Vec<Vec<u32>>,
        generated: Vec<u32>,
    }

    impl Rows {
        fn apply(&mut self, plan: &Plan, workload: &[Request]) {
            assert_eq!(plan.old_rows as usize, self.requests.len());
            let distinct: BTreeSet<u32> = plan.perm.iter().copied().collect();
            assert_eq!(distinct.len(), plan.perm.len(), "no row is duplicated");
            let sources: Vec<usize> = self.requests.iter().chain(&plan.joins).copied().collect();
            let survivor = |length: &u32| length + 1;
            let joining = plan.joins.iter().map(|&r| workload[r].prompt);
            let lengths: Vec<u32> = self.lengths.iter().map(survivor).chain(joining).collect();
            let fresh = plan.fresh_block_offsets.windows(2);
            let fresh = fresh.map(|ends| plan.fresh_blocks[ends[0] as usize..ends[1] as usize].to_vec());
            let tables: Vec<Vec<u32>> = self.tables.iter().cloned().chain(fresh).collect();

            self.requests = plan.perm.iter().map(|&p| sources[p as usize]).collect();
            self.lengths = plan.perm.iter().map(|&p| lengths[p as usize]).collect();
            self.tables = plan.block_perm.iter().map(|&p| tables[p as usize].clone()).collect();
            for &row in &self.requests {
                self.generated[row] += 1;
            }
        }
    }

    fn run(workload: &[Request], max_batch: u32, seed: u64) -> Peaks {
        let max_batch = NonZeroU32::new(max_batch).unwrap();
        let mut scheduler = Scheduler::new(workload, max_batch, seed);
        let peaks = *scheduler.peaks();
        let mut plan = scheduler.plan();
        let capacities = |plan: &Plan, s: &Scheduler| {
            let vectors = [&plan.perm, &plan.lengths, &plan.block_perm, &plan.fresh_blocks, &plan.finishing];
            let sizes = vectors.map(Vec::capacity);
            let offsets = [&plan.fresh_block_offsets, &plan.block_offsets].map(Vec::capacity);
            let others = (plan.joins.capacity(), s.pool.room(), s.rows.capacity() + s.packed.capacity());
            (sizes, offsets, others)
        };
        let reserved = capacities(&plan, &scheduler);
        let mut rows = Rows { generated: vec![0; workload.len()], ..Rows::default() };
        let mut finished = vec![0; workload.len()];
        let mut iterations = 0;
        while scheduler.advance(&mut plan) {
            iterations += 1;
            rows.apply(&plan, workload);
            assert!(rows.requests.len() <= max_batch.get() as usize);
            assert_eq!(rows.lengths, plan.lengths);
            let mut owned = BTreeSet::new();
            for (i, (&request, table)) in rows.requests.iter().zip(&rows.tables).enumerate() {
                let seq = scheduler.seq(i).unwrap();
                let generated = rows.generated[request] - 1;
                assert_eq!(seq, Seq { request, generated, length: rows.lengths[i] });
                assert!(scheduler.blocks(i).eq(table.iter().copied()));
                assert_eq!(table.len(), (seq.length as usize + 64) / 64, "room for one token more, and no block more");
                assert!(table.iter().all(|&block| owned.insert(block)), "a block has one owner");
            }
            assert_eq!(owned.len(), plan.total_blocks() as usize);
            let offsets = rows.tables.iter().scan(0, |end, table| {
                *end += u32::try_from(table.len()).unwrap();
                Some(*end)
            });
            assert!([0].into_iter().chain(offsets).eq(plan.block_offsets.iter().copied()));
            let finished_tokens = plan.finishing.iter().map(|&row| rows.lengths[row as usize] as usize);
            assert!(finished_tokens.sum::<usize>() <= peaks.finished_tokens);
            assert!(owned.iter().all(|&block| (block as usize) < peaks.blocks));
            for &row in &plan.finishing {
                let request = rows.requests[row as usize];
                assert_eq!(rows.generated[request], workload[request].generate);
                finished[request] += 1;
            }
        }
        assert!(finished.iter().all(|&times| times == 1), "every request finishes exactly once");
        assert_eq!(scheduler.pool.free() as usize, scheduler.pool.made(), "every block is free again");
        assert_eq!(scheduler.pool.made(), peaks.blocks);
        assert_eq!(capacities(&plan, &scheduler), reserved, "nothing grew");
        assert_eq!(peaks.iterations, iterations);
        assert!(!scheduler.advance(&mut plan) && plan.perm.is_empty(), "the end is the end");
        peaks
    }

    #[test]
    fn the_plan_alone_moves_every_row_to_its_place() {
        run(&workload::generate(60, 1), 256, 1);
        run(&workload::generate(60, 2), 5, 2);
        run(&workload::generate(10, 3), 1, 3);
        assert_eq!(run(&[], 4, 4), Peaks::default());
    }

    #[test]
    fn requests_join_by_arrival_and_idle_time_is_skipped() {
        let request = |id, arrival| Request { id, arrival, prompt: 63, generate: 3 };
        let workload = [request(0, 1e9), request(1, 0.0), request(2, 0.15)];
        let mut scheduler = Scheduler::new(&workload, NonZeroU32::MAX, 0);
        let mut plan = scheduler.plan();
        let mut joins = Vec::new();
        while scheduler.advance(&mut plan) {
            joins.push(plan.joins.clone());
        }
        let none = Vec::new();
        assert_eq!(joins, [vec![1], none.clone(), vec![2], none.clone(), none.clone(), vec![0], none.clone(), none]);
    }

    #[test]
    fn a_table_is_fresh_when_its_row_joins_and_when_it_outgrows_its_blocks() {
        let workload = [Request { id: 0, arrival: 0.0, prompt: 62, generate: 4 }];
        let mut scheduler = Scheduler::new(&workload, NonZeroU32::MIN, 0);
        let mut plan = scheduler.plan();
        let mut seen = Vec::new();
        while scheduler.advance(&mut plan) {
            seen.push((plan.lengths[0], plan.block_perm[0], plan.fresh_blocks.len(), plan.finishing.len()));
        }
        // The 65th token, which the row that holds 64 generates, is the first in a second block.
        assert_eq!(seen, [(62, 0, 1, 0), (63, 0, 0, 0), (64, 1, 2, 0), (65, 0, 0, 1)]);
    }

    #[test]
    fn re_packing_leaves_no_survivor_where_compaction_would() {
        let workload: Vec<Request> =
            (0..9).map(|id| Request { id, arrival: 0.0, prompt: 1, generate: 2 + id % 3 }).collect();
        let mut scheduler = Scheduler::new(&workload, NonZeroU32::MAX, 5);
        let mut plan = scheduler.plan();
        while scheduler.advance(&mut plan) {
            let mut compacted = plan.perm.clone();
            compacted.sort_unstable();
            let moved = compacted.iter().zip(&plan.perm).all(|(a, b)| a != b);
            assert!(moved || plan.perm.len() == 1 || plan.old_rows == 0, "{:?}", plan.perm);
        }
    }
}
