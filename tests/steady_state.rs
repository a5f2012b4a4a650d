//! What a steady iteration costs: the exact driver-level calls of each operation, and no heap allocation.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidelock::{
    BatchCopy, Buffer, Ctx, Error, Host, Offsets, Permutation, Pinned, Pool, Ragged, Sim, Stack, State, Stream,
    StreamOptions, View, sim,
    sim::{
        Call::{self, *},
        SimBackend,
    },
};

/// The system's heap, counting per thread: only what the enqueuing thread does itself.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY:
// - Every method is that of `System` with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(ptr, layout, size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// The pinned pool is the process's: tests that count its calls take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn width(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// The driver calls that `f` makes, those of the pinned pool included.
fn calls<R>(device: &sim::Device, f: impl FnOnce() -> R) -> (Vec<Call>, R) {
    let engines = [device.engine(), sim::pinned_engine()];
    engines.iter().for_each(|engine| engine.log(true));
    let value = f();
    engines.iter().for_each(|engine| engine.log(false));
    (engines.map(sim::Engine::take_log).concat(), value)
}

/// Asserts that `f` makes exactly `expected` driver calls.
#[track_caller]
fn costs<R>(device: &sim::Device, expected: &[Call], f: impl FnOnce() -> R) -> R {
    let (made, value) = calls(device, f);
    assert_eq!(made, expected);
    value
}

fn pinned(len: usize) -> Buffer<u32, Pinned<SimBackend>> {
    Buffer::from_fn(len, |i| i as u32).unwrap()
}

#[test]
fn one_call_for_each_operation() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let empty = costs(&device, &[MemAllocFromPoolAsync], || ctx.device::<u32>(64).unwrap());
            let x = costs(&device, &[MemsetD8Async], || ctx.zero(empty).unwrap());
            let mut y = costs(&device, &[MemAllocFromPoolAsync, MemsetD8Async], || ctx.zeros::<u32>(64).unwrap());
            costs(&device, &[MemcpyAsync], || ctx.copy(x.view(), y.view_mut()).unwrap());
            costs(&device, &[MemsetD8Async], || ctx.clear(y.view_mut()).unwrap());
            ctx.upload(&[0; 64], y.view_mut()).unwrap();
            costs(&device, &[MemcpyAsync], || ctx.upload(&[1; 64], y.view_mut()).unwrap());
            let empty = ctx.device::<u32>(64).unwrap();
            let z = costs(&device, &[MemcpyAsync], || ctx.init(empty, x.view()).unwrap());
            costs(&device, &[MemFreeAsync], || drop(z));
            costs(&device, &[LaunchKernel], || ctx.launch((x.view(), y.view_mut(), 1_u32), |_| ()).unwrap());

            let page_locked = pinned(64);
            let staged = costs(&device, &[], || page_locked.stage(&ctx));
            let pending = costs(&device, &[EventRecord], || ctx.fence(staged).unwrap());
            costs(&device, &[EventQuery], || pending.is_ready().unwrap());
            let page_locked = costs(&device, &[EventSynchronize], || pending.wait().unwrap());
            let pending = costs(&device, &[EventRecord], || ctx.fence(page_locked.stage(&ctx)).unwrap());
            costs(&device, &[], || drop(pending));

            let mut staged = pinned(64).stage(&ctx);
            costs(&device, &[StreamSynchronize], || stream.synchronize().map(|_| ()).unwrap());
            let done = stream.synchronize().unwrap();
            costs(&device, &[], || (staged.peek(&done)[0], staged.peek_mut(&done)[0]));
            costs(&device, &[], || staged.reclaim(&done));
            costs(&device, &[StreamQuery], || stream.is_idle().unwrap());
            costs(&device, &[StreamSynchronize, MemPoolTrimTo], || stream.trim(1 << 20).map(|_| ()).unwrap());
            let ctx = stream.ctx();
            costs(&device, &[MemGetInfo], || ctx.memory_info().unwrap());
            costs(&device, &[], || (ctx.device_ordinal(), ctx.with_pool(), ctx.sync_alloc()));
            costs(&device, &[], || drop(pinned(64)));

            let sync = ctx.with_device_alloc(ctx.sync_alloc());
            let big = costs(&device, &[MemAlloc], || sync.device::<u32>(64).unwrap());
            costs(&device, &[], || drop(big));
            costs(&device, &[StreamSynchronize, MemFree], || stream.synchronize().map(|_| ()).unwrap());

            let mut data = [0_u32; 64];
            costs(&device, &[MemcpyAsync, MemcpyAsync, StreamSynchronize], || {
                stream.host_scope(|scope| {
                    scope.ctx().copy(scope.source(&[1; 64]), y.view_mut()).unwrap();
                    scope.ctx().copy(y.view(), scope.target(&mut data)).unwrap();
                })
            })
            .unwrap();
            costs(&device, &[StreamSynchronize], || stream.host_scope(|_| ()).unwrap());
        })
        .unwrap();
}

#[test]
fn no_call_for_nothing() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut batch = BatchCopy::new();
            let x = costs(&device, &[], || ctx.zeros::<u32>(0).unwrap());
            let mut y = costs(&device, &[], || ctx.init(ctx.device::<u32>(0).unwrap(), x.view()).unwrap());
            costs(&device, &[], || ctx.copy(x.view(), y.view_mut()).unwrap());
            costs(&device, &[], || ctx.clear(y.view_mut()).unwrap());
            costs(&device, &[], || ctx.upload(&[], y.view_mut()).unwrap());
            costs(&device, &[], || batch.scope(&ctx, |_| Ok::<_, Error>(())).unwrap());
            costs(&device, &[], || batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())).unwrap());
            costs(&device, &[], || {
                let nothing = Buffer::<u32, Host>::zeroed(0).unwrap();
                batch.scope(&ctx, |b| b.group(|g| g.copy(nothing.view(), y.view_mut()))).unwrap();
            });
            let none = Permutation::new(&[], 0, 0).unwrap();
            costs(&device, &[], || {
                batch
                    .scope(&ctx, |b| b.group(|g| g.warp(x.view().rows(width(4))?, none, y.view_mut().rows(width(4))?)))
                    .unwrap();
            });
            let staged = costs(&device, &[], || ctx.pinned::<u32>(0).unwrap().stage(&ctx));
            costs(&device, &[], || drop((staged, x, y)));
            assert_eq!(batch.stats().submissions, 0);
        })
        .unwrap();
}

#[test]
fn opening_and_closing_a_stream() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    let events = |call| vec![call; EVENTS];
    let open = [vec![StreamCreate], events(EventCreate)].concat();
    let close = [vec![StreamSynchronize], events(EventDestroy), vec![StreamDestroy]].concat();
    let own = [vec![MemPoolCreate], open.clone(), close.clone(), vec![MemPoolDestroy]].concat();
    costs(&device, &own, || device.stream(|_, _| ()).unwrap());
    let shared = [vec![DeviceGetDefaultMemPool], open, close].concat();
    let options = StreamOptions::default().pool(Pool::Default);
    costs(&device, &shared, || device.stream_with(&options, |_, _| ()).unwrap());
}

/// The events that a stream opens with, and creates when all are in use.
const EVENTS: usize = 8;

#[test]
fn a_fence_is_one_call_until_all_events_are_in_use() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let fence = |created: usize| {
                let staged = pinned(1).stage(&ctx);
                costs(&device, &[vec![EventCreate; created], vec![EventRecord]].concat(), || ctx.fence(staged).unwrap())
            };
            let mut pending: Vec<_> = (0..EVENTS).map(|_| fence(0)).collect();
            pending.push(fence(EVENTS));
            // The event of a fence that was waited for is used again.
            for _ in 0..EVENTS {
                costs(&device, &[EventSynchronize], || pending.remove(0).wait().unwrap());
                pending.push(fence(0));
            }
            pending.extend((1..EVENTS).map(|_| fence(0)));
            pending.push(fence(EVENTS));
        })
        .unwrap();
}

#[test]
fn one_submission_for_a_batch_whatever_is_in_it() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut batch = BatchCopy::new();
            for rows in [1, 2, 7, 64, 1000] {
                let (x, host) = (ctx.zeros::<u32>(rows * 4).unwrap(), vec![1_u32; rows * 4]);
                let (up, mut down) = (pinned(rows * 4).stage(&ctx), pinned(rows * 4).stage(&ctx));
                let mut y = ctx.zeros::<u32>(rows * 16).unwrap();
                costs(&device, &[MemcpyBatchAsync], || {
                    batch.scope(&ctx, |b| {
                        let (first, rest) = y.view_mut().split_at(rows * 4)?;
                        let (second, rest) = rest.split_at(rows * 4)?;
                        let (third, fourth) = rest.split_at(rows * 4)?;
                        b.copy(up.view(), first)?;
                        b.group(|g| {
                            let reversed = x.view().chunks_exact(width(4)).collect::<Vec<_>>().into_iter().rev();
                            reversed.zip(second.chunks_exact(width(4))).try_for_each(|(from, to)| g.copy(from, to))
                        })?;
                        b.copy(View::from(&host[..]), third)?;
                        b.copy(x.view(), fourth)?;
                        b.group(|g| g.copy(x.view(), down.view_mut()))
                    })
                })
                .unwrap();
            }
            assert_eq!(batch.stats().submissions, 5);
        })
        .unwrap();
}

fn arena_iteration<'s>(stream: &Stream<Sim<'s>>, stack: &mut Stack<Sim<'s>>) {
    let ctx = stream.ctx().with_device_alloc(&*stack);
    let (a, b) = (ctx.device::<u32>(100).unwrap(), ctx.device::<u8>(7).unwrap());
    let c = ctx.device::<u64>(1).unwrap();
    drop((b, a));
    drop(c);
    stack.iter().unwrap();
}

#[test]
fn an_arena_makes_no_call_once_it_has_its_region() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            // Without a region: three allocations and frees, then one allocation for the region.
            let (first, ()) = calls(&device, || arena_iteration(&stream, &mut stack));
            assert_eq!((first.len(), first.last()), (7, Some(&MemAllocFromPoolAsync)));
            for _ in 0..3 {
                costs(&device, &[], || arena_iteration(&stream, &mut stack));
            }
        })
        .unwrap();
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
    fn new(ctx: &Ctx<'_, Sim<'s>, tidelock::StreamAlloc<Sim<'s>>>) -> Self {
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
        let fresh = ctx.pinned::<u32>(8)?.write_with(|i| i as u32).stage(&ctx);

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
        let mut swapped = ctx.device::<u32>(rows)?;
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
        let (down, _fresh) = ctx.fence((down, fresh))?.wait()?;
        assert_eq!(down[0], 3);
        self.down = Some(down);
        drop((scratch, swapped, logits));
        self.up = Some(up.reclaim(&stream.synchronize()?));
        stack.iter()?;
        Ok(())
    }
}

#[test]
fn a_steady_iteration_makes_the_same_calls_for_any_batch_and_no_heap_allocation() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream(|mut stream, _env| {
            let mut engine = Engine::new(&stream.ctx().with_pool());
            let mut stack = Stack::new(stream.ctx().pool());
            // The last sequence leaves, and one joins in its place; the others turn around.
            let orders: Vec<Vec<u32>> = (2..=ROWS as u32)
                .map(|rows| (0..rows).map(|i| if i == 0 { rows } else { rows - i - 1 }).collect())
                .collect();
            for round in 0..3 * orders.len() {
                engine.step(&mut stream, &mut stack, &orders[orders.len() - 1 - round % orders.len()]).unwrap();
            }
            let (expected, ()) = calls(&device, || engine.step(&mut stream, &mut stack, &orders[0]).unwrap());
            assert_eq!(expected.iter().filter(|call| **call == MemcpyBatchAsync).count(), 2);
            assert_eq!(expected.iter().filter(|call| **call == StreamSynchronize).count(), 1);
            let forbidden = [MemAllocFromPoolAsync, MemFreeAsync, EventCreate, MemHostAlloc, MemFreeHost, MemAlloc];
            assert!(!expected.iter().any(|call| forbidden.contains(call)), "{expected:?}");
            // An iteration in which the ring leaves a segment records an event more: so not all are logged.
            let (made, ()) = calls(&device, || engine.step(&mut stream, &mut stack, &orders[ROWS - 2]).unwrap());
            assert_eq!(made, expected);

            let before = ASKED.get();
            for _ in 0..4 {
                for order in &orders {
                    engine.step(&mut stream, &mut stack, order).unwrap();
                }
            }
            assert_eq!(ASKED.get() - before, 0, "heap allocations in 252 iterations");
        })
        .unwrap();
}

/// Counts the heap allocations of `f` after it ran some times.
fn allocations(mut f: impl FnMut()) -> u64 {
    for _ in 0..50 {
        f();
    }
    let before = ASKED.get();
    for _ in 0..50 {
        f();
    }
    ASKED.get() - before
}

#[test]
fn no_operation_allocates_on_the_heap_once_warm() {
    let _turn = turn();
    let device = sim::Device::new(sim::Options::quick());
    device
        .stream_with(&StreamOptions::default().ring_bytes(1024).graveyard(8), |mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(1024).unwrap();
            let mut batch = BatchCopy::new();
            let counted = [
                (
                    "pool",
                    allocations(|| {
                        let ctx = stream.ctx().with_pool();
                        drop((ctx.zeros::<u32>(300).unwrap(), ctx.device::<u8>(5000).unwrap()));
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "sync",
                    allocations(|| {
                        let ctx = stream.ctx().with_device_alloc(stream.ctx().sync_alloc());
                        // The device makes a block of memory anew each time, which is its own affair.
                        let before = ASKED.get();
                        let y = ctx.device::<u32>(300).unwrap();
                        ASKED.set(before);
                        drop(y);
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "pinned",
                    allocations(|| {
                        let ctx = stream.ctx();
                        let a = ctx.pinned::<u32>(77).unwrap().stage(&ctx);
                        let b = pinned(1000).stage(&ctx);
                        drop(ctx.fence((a, b)).unwrap().wait().unwrap());
                        for _ in 0..12 {
                            drop(pinned(300).stage(&ctx));
                        }
                    }),
                ),
                (
                    "ring",
                    allocations(|| {
                        for _ in 0..12 {
                            stream.ctx().upload(&[1; 50], x.view_mut().slice(..50).unwrap()).unwrap();
                        }
                        stream.ctx().upload(&[1; 1000], x.view_mut().slice(..1000).unwrap()).unwrap();
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "host scope",
                    allocations(|| {
                        let mut data = [0_u32; 16];
                        let part = x.view().slice(..16).unwrap();
                        stream.host_scope(|scope| scope.ctx().copy(part, scope.target(&mut data))).unwrap().unwrap();
                    }),
                ),
                (
                    "kernel",
                    allocations(|| {
                        let ctx = stream.ctx();
                        for n in 0..10_u32 {
                            let captured = [n; 16];
                            ctx.launch((x.view_mut(), n), move |(x, n)| x[0] = n + captured[3]).unwrap();
                        }
                        stream.synchronize().unwrap();
                    }),
                ),
                (
                    "failed scope",
                    allocations(|| {
                        let ctx = stream.ctx();
                        let (head, tail) = x.view_mut().split_at(512).unwrap();
                        let failed = batch.scope(&ctx, |b| {
                            b.group(|g| g.copy(tail.as_view(), head))?;
                            Err::<(), _>(Error::OutOfRange { operand: "mine" })
                        });
                        assert!(failed.is_err());
                    }),
                ),
                (
                    "errors",
                    allocations(|| {
                        let (head, tail) = x.view_mut().split_at(500).unwrap();
                        assert!(stream.ctx().copy(tail.as_view(), head).is_err());
                        assert!(Permutation::new(&[7], 3, 0).is_err());
                    }),
                ),
            ];
            for (what, allocations) in counted {
                assert_eq!(allocations, 0, "{what}");
            }
        })
        .unwrap();
}

#[test]
fn the_counter_counts() {
    let before = ASKED.get();
    drop(std::hint::black_box(vec![1_u8; 10]));
    assert_eq!(ASKED.get() - before, 1);
    std::thread::spawn(|| drop(std::hint::black_box(vec![1_u8; 10]))).join().unwrap();
}
