//! An engine's loop: the same calls for any batch, and no heap allocation.

use tidelock::{
    BatchCopy, Buffer, Ctx, Error, Permutation, Stack, State, Stream, View,
    buffer::{Offsets, Ragged},
    location::Pinned,
    sim::{Call::*, Sim, SimBackend},
};

use super::{calls, heap::allocations, on_stream, pinned, width};

#[test]
fn a_steady_iteration_makes_the_same_calls_for_any_batch_and_no_heap_allocation() {
    on_stream(|device, mut stream| {
        let mut engine = Engine::new(&stream.ctx().with_pool());
        let mut stack = Stack::new(stream.ctx().pool());
        // The last sequence leaves, one joins in its place, and the others are reversed.
        let orders: Vec<Vec<u32>> = (2..=ROWS as u32)
            .map(|rows| (0..rows).map(|i| if i == 0 { rows } else { rows - i - 1 }).collect())
            .collect();
        for round in 0..3 * orders.len() {
            engine.step(&mut stream, &mut stack, &orders[orders.len() - 1 - round % orders.len()]).unwrap();
        }
        let (expected, ()) = calls(device, || engine.step(&mut stream, &mut stack, &orders[0]).unwrap());
        assert_eq!(expected.iter().filter(|call| **call == MemcpyBatchAsync).count(), 2);
        assert_eq!(expected.iter().filter(|call| **call == StreamSynchronize).count(), 1);
        let forbidden = [MemAllocFromPoolAsync, MemFreeAsync, EventCreate, MemHostAlloc, MemFreeHost, MemAlloc];
        assert!(!expected.iter().any(|call| forbidden.contains(call)), "{expected:?}");
        // An iteration in which the ring leaves a segment records one more event, so not all
        // iterations are logged.
        let (made, ()) = calls(device, || engine.step(&mut stream, &mut stack, &orders[ROWS - 2]).unwrap());
        assert_eq!(made, expected);

        let four_rounds = orders.iter().cycle().take(4 * orders.len());
        let allocated =
            allocations(|| four_rounds.for_each(|order| engine.step(&mut stream, &mut stack, order).unwrap()));
        assert_eq!(allocated, 0, "heap allocations in 252 iterations");
    });
}

/// The memory of an engine's loop, for batches of up to `ROWS` sequences.
struct Engine<'s> {
    history: State<u32, Sim<'s>>,
    lengths: State<u32, Sim<'s>>,
    pages: State<u32, Sim<'s>>,
    produced: State<u32, Sim<'s>>,
    up: Option<Buffer<u32, Pinned<SimBackend>>>,
    down: Option<Buffer<u32, Pinned<SimBackend>>>,
    batch: BatchCopy,
    sizes: Vec<u32>,
    next_sizes: Vec<u32>,
    offsets: Vec<u32>,
    next_offsets: Vec<u32>,
}

const ROWS: usize = 64;
const STRIDE: usize = 16;

impl<'s> Engine<'s> {
    fn new(ctx: &Ctx<'_, Sim<'s>, tidelock::stream::StreamAlloc<Sim<'s>>>) -> Self {
        let state = |len| State::zeros(ctx, len).unwrap();
        Engine {
            history: state(ROWS * STRIDE),
            lengths: state(ROWS),
            pages: state(ROWS * 4),
            produced: state(ROWS),
            up: Some(pinned(STRIDE)),
            down: Some(pinned(ROWS)),
            batch: BatchCopy::new(),
            sizes: vec![3; ROWS],
            next_sizes: vec![0; ROWS],
            offsets: (0..=ROWS as u32).map(|i| i * 3).collect(),
            next_offsets: vec![0; ROWS + 1],
        }
    }

    /// One iteration over `rows` sequences, in which the last one leaves and one joins.
    fn step(&mut self, stream: &mut Stream<Sim<'s>>, stack: &mut Stack<Sim<'s>>, order: &[u32]) -> Result<(), Error> {
        let rows = order.len();
        let ctx = stream.ctx().with_device_alloc(&*stack);
        let permutation = Permutation::new(order, rows, 1)?;
        let mut logits = ctx.zeros::<f32>(rows * 8)?;
        let mut scratch = ctx.zeros::<u32>(rows)?;
        let mut up = self.up.take().unwrap();
        up.fill(5);
        let up = up.stage(&ctx);
        let fresh = ctx.alloc_pinned::<u32>(8)?.write_with(|i| i as u32).stage(&ctx);

        ctx.upload(&self.sizes[..rows], scratch.view_mut())?;
        ctx.clear(logits.view_mut())?;
        ctx.launch(
            (self.history.front_mut(), scratch.view(), logits.view_mut(), 3_u32),
            |(history, sizes, _, add)| {
                for (row, size) in history.chunks_mut(STRIDE).zip(sizes) {
                    row[*size as usize - 1] += add;
                }
            },
        )?;

        let (width_of_history, one) = (width(STRIDE), width(1));
        let (history, next_history) = self.history.both();
        let (lengths, next_lengths) = self.lengths.both();
        let (pages, next_pages) = self.pages.both();
        let tokens = self.produced.front().slice(..rows)?;
        let (sizes, offsets) = (&self.sizes[..rows], Offsets::new(&self.offsets[..=rows], "offsets")?);
        let joins = [0, 2];
        let joining: Ragged<'_, u32, _> = up.view().ragged(Offsets::new(&joins, "joins")?)?;
        let Engine { batch, next_sizes, next_offsets, .. } = self;
        batch.scope(&ctx, |b| {
            b.group(|g| {
                let to = next_history.rows(width_of_history)?.first(rows)?;
                let from = history.rows(width_of_history)?.first(rows)?;
                g.append(from, sizes, tokens, joining, permutation, to, &mut next_sizes[..rows])
            })?;
            b.group(|g| {
                let join = up.view().slice(..1)?.rows(one)?;
                g.warp_join(lengths.rows(one)?.first(rows)?, join, permutation, next_lengths.rows(one)?.first(rows)?)
            })?;
            b.group(|g| {
                let from = pages.ragged(offsets)?;
                g.warp_ragged(from, joining, permutation, next_pages, &mut next_offsets[..=rows]).map(drop)
            })?;
            b.copy(View::from(&sizes[..1]), scratch.view_mut().slice(..1)?)
        })?;
        let mut swapped = ctx.alloc::<u32>(rows)?;
        self.produced.step(|front, back| {
            let (back, front) = (back.slice(..rows)?, front.slice(..rows)?);
            batch.scope(&ctx, |b| b.group(|g| g.warp(front.rows(one)?, permutation, back.rows(one)?)))?;
            ctx.copy(front, swapped.view_mut())
        })?;
        self.history.swap();
        self.lengths.swap();
        self.pages.swap();

        let mut down = self.down.take().unwrap().stage(&ctx);
        ctx.copy(scratch.view(), down.view_mut().slice(..rows)?)?;
        let (down, fresh) = (ctx.fence(down)?, ctx.fence(fresh)?);
        let (down, _fresh) = (down.wait()?, fresh.wait()?);
        assert_eq!(down[0], 3);
        self.down = Some(down);
        drop((scratch, swapped, logits));
        self.up = Some(up.reclaim(&stream.synchronize()?));
        stack.reset()?;
        Ok(())
    }
}
