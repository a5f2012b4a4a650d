//! Tables of addresses: what kernels see through them, and hostile programs around them.

use std::{cell::Cell, num::NonZero, panic::AssertUnwindSafe};

use tidelock::{
    Buffer, Element, Error, Stack, View,
    sim::{self, Device, Sim},
    stream::{Shared, Staged, StreamOptions, Table, TableView},
};

use crate::{assert_clean, get, pinned, quick, ramp};

/// A device with the race detector on.
fn watched() -> Device {
    Device::new(sim::Options::quick().race_detector(true))
}

fn size(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// Runs `f` on a stream, and asserts that nothing is left and no race was found.
fn on_stream(f: impl for<'s> FnOnce(tidelock::Stream<Sim<'s>>) -> tidelock::Result<()>) {
    let device = watched();
    device.stream(|stream, _env| f(stream)).unwrap().unwrap();
    assert_clean(&device);
}

/// TurboMind's `block_ptrs` with running offsets (c17). Blocks that are read may repeat.
#[test]
fn the_blocks_of_each_sequence() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let pool = ctx.upload_new(&(0..640).map(|i| (i / 64) as u8).collect::<Vec<_>>())?;
        let block_ids: [&[usize]; 3] = [&[7, 2], &[], &[9, 0, 7]];
        let blocks = pool.view().rows(size(64))?;
        let table = ctx.table(block_ids.concat().iter().map(|id| blocks.row(*id).unwrap()))?;
        let offsets = ctx.upload_new(&[0_u32, 2, 2, 5])?;
        let mut sums = ctx.zeros::<u32>(3)?;
        let kernel = |(blocks, offsets, sums): (&[&[u8]], &[u32], &mut [u32])| {
            for (sum, range) in sums.iter_mut().zip(offsets.windows(2)) {
                let blocks = &blocks[range[0] as usize..range[1] as usize];
                *sum = blocks.iter().map(|block| u32::from(block[63])).sum();
            }
        };
        ctx.launch((table.view(), offsets.view(), sums.view_mut()), kernel)?;
        assert_eq!((table.len(), table.is_empty()), (5, false));
        drop(table);
        drop(pool);
        assert_eq!(get(&mut stream, sums.view()), [9, 0, 16]);
        Ok(())
    });
}

#[test]
fn targets_are_written_through_a_table_of_exclusive_views() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let mut pool = ctx.upload_new(&ramp(0, 12))?;
        let mut table = ctx.table(pool.view_mut().chunks_exact(size(3)))?;
        ctx.launch((table.view_mut(), 100_u32), |(blocks, more)| {
            blocks.iter_mut().enumerate().for_each(|(i, block)| block[i % 3] += more);
        })?;
        // The same targets, read.
        let mut firsts = ctx.zeros::<u32>(4)?;
        ctx.launch((table.view(), firsts.view_mut()), |(blocks, firsts)| {
            blocks.iter().zip(firsts).for_each(|(block, first)| *first = block[0]);
        })?;
        // And one of them by itself.
        ctx.copy(table.target(1)?, firsts.view_mut().slice(1..)?)?;
        ctx.clear::<u32, _>(table.target_mut(2)?)?;
        assert!(table.target(4).is_err() && table.target_mut(usize::MAX).is_err());
        drop(table);
        assert_eq!(get(&mut stream, firsts.view()), [100, 3, 104, 5]);
        assert_eq!(get(&mut stream, pool.view()), [100, 1, 2, 3, 104, 5, 0, 0, 0, 109, 10, 11]);
        Ok(())
    });
}

/// A payload of every size and alignment lies beside its address.
#[test]
fn payloads() {
    fn with<P: Element + PartialEq + core::fmt::Debug>(payloads: [P; 3]) {
        on_stream(|mut stream| {
            let ctx = stream.ctx().with_pool();
            let pool = ctx.upload_new(&ramp(1, 6))?;
            let table = ctx.table(pool.view().chunks_exact(size(2)).zip(payloads))?;
            let kernel = move |(table,): (&[(&[u32], P)],)| {
                let found: Vec<_> = table.iter().map(|(target, payload)| (target.to_vec(), *payload)).collect();
                let [a, b, c] = payloads;
                assert_eq!(found, [(vec![1, 2], a), (vec![3, 4], b), (vec![5, 6], c)]);
            };
            ctx.launch((table.view(),), kernel)?;
            let mut out = ctx.zeros::<P>(3)?;
            ctx.launch((table.view().slice(1..)?, out.view_mut()), |(table, out)| {
                table.iter().zip(out).for_each(|((_, payload), out)| *out = *payload);
            })?;
            assert_eq!(get(&mut stream, out.view())[..2], payloads[1..]);
            Ok(())
        });
    }
    with([1_u8, 2, 3]);
    with([u64::MAX, 0, 7]);
    with([1.5_f32, -0.5, 2.0]);
    with([u128::MAX, 0, 1 << 77]);
    with([true, false, true]);
    with([[0_u8; 0]; 3]);
    with([[1_u8, 2, 3], [4, 5, 6], [7, 8, 9]]);
    with([[9_u32; 40]; 3]);
}

#[test]
fn a_table_of_addresses_and_lengths_that_is_written() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(10)?;
        let (a, b) = x.view_mut().split_at(3)?;
        let mut table = ctx.table([b, a].map(|view| {
            let len = view.len() as u32;
            (view, len)
        }))?;
        ctx.launch((table.view_mut(),), |(table,)| {
            table.iter_mut().for_each(|(target, len)| target.fill(*len));
        })?;
        drop(table);
        assert_eq!(get(&mut stream, x.view()), [3, 3, 3, 7, 7, 7, 7, 7, 7, 7]);
        Ok(())
    });
}

#[test]
fn parts_of_a_table() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let mut pool = ctx.upload_new(&ramp(0, 8))?;
        let mut table = ctx.table(pool.view_mut().chunks_exact(size(2)))?;
        let part = table.view().slice(1..3)?;
        assert_eq!((part.len(), part.is_empty(), part.slice(1..)?.len()), (2, false, 1));
        assert!(part.slice(1..4).is_err() && part.slice(usize::MAX..).is_err() && table.view().slice(..5).is_err());
        ctx.launch((part.slice(1..)?,), |(part,)| assert_eq!(part, [[4, 5]]))?;
        ctx.launch((table.view().slice(4..)?,), |(part,)| assert!(part.is_empty()))?;
        ctx.launch((table.view_mut().slice(3..)?,), |(part,)| part[0][1] = 70)?;
        drop(table);
        assert_eq!(get(&mut stream, pool.view()), [0, 1, 2, 3, 4, 5, 6, 70]);
        Ok(())
    });
}

#[test]
fn nothing_at_all() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let none: [View<'_, u32, Sim<'_>>; 0] = [];
        let table = ctx.table(none)?;
        ctx.launch((table.view(),), |(table,)| assert!(table.is_empty()))?;
        let none: [(Buffer<u32, Sim<'_>>, u8); 0] = [];
        let mut table = ctx.table(none)?;
        ctx.launch((table.view_mut(),), |(table,)| assert!(table.is_empty()))?;
        assert!(table.is_empty() && table.target(0).is_err());
        // Targets of nothing, and targets whose elements take no bytes.
        let empty = ctx.zeros::<u64>(0)?;
        let nothings = ctx.zeros::<[u8; 0]>(5)?;
        let (empties, flat) = (ctx.table([empty.view(); 3])?, ctx.table([nothings.view()])?);
        ctx.launch((empties.view(), flat.view()), |(empties, flat)| {
            assert!(empties.len() == 3 && empties.concat().is_empty() && flat[0].len() == 5);
        })?;
        stream.synchronize().map(drop)
    });
}

/// A struct of an engine: it holds the table, and no lifetime but that of the stream.
struct Caches<'s> {
    table: Table<Buffer<u32, Sim<'s>>, Sim<'s>>,
}

impl<'s> Caches<'s> {
    fn grow(&mut self, ctx: tidelock::Ctx<'_, Sim<'s>>) -> tidelock::Result<()> {
        ctx.launch((self.table.view_mut(),), |(caches,)| caches.iter_mut().for_each(|cache| cache[0] += 1))
    }
}

#[test]
fn a_table_that_owns_its_targets() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let buffers = [ctx.upload_new(&[1_u32])?, ctx.upload_new(&[5, 5])?];
        let mut caches = Caches { table: ctx.table(buffers)? };
        caches.grow(stream.ctx())?;
        let ctx = stream.ctx().with_pool();
        ctx.upload(&[50], caches.table.target_mut(1)?.slice(1..)?)?;
        caches.grow(stream.ctx())?;
        assert_eq!(get(&mut stream, caches.table.target(1)?), [7, 50]);
        let [a, b] = <[_; 2]>::try_from(caches.table.into_owners()).unwrap();
        assert_eq!((get(&mut stream, a.view()), get(&mut stream, b.view())), (vec![3], vec![7, 50]));
        // One that is dropped frees all.
        drop(stream.ctx().with_pool().table([(a, 1_u8), (b, 2)])?);
        Ok(())
    });
}

/// Weights of an engine, on a stream of its own: others share them.
struct Layers<'s> {
    weights: Table<(Shared<u32, Sim<'s>>, u32), Sim<'s>>,
}

#[test]
fn a_table_of_shared_memory() {
    let device = watched();
    device
        .stream(|side, _env| {
            device
                .stream(|mut main, _env| {
                    let (ctx, aux) = (main.ctx().with_pool(), side.ctx().with_pool());
                    let mut all = ctx.upload_new(&ramp(1, 8)).unwrap().share();
                    let parts = [0..4, 6..8, 0..4].map(|part| (all.slice(part.clone()).unwrap(), part.end as u32));
                    let layers = Layers { weights: ctx.table(parts).unwrap() };
                    let theirs = ctx.transfer(all.clone(), &aux).unwrap();
                    let mut sums = ctx.zeros::<u32>(3).unwrap();
                    ctx.launch((layers.weights.view(), sums.view_mut()), |(weights, sums)| {
                        weights.iter().zip(sums).for_each(|((x, end), sum)| *sum = x.iter().sum::<u32>() * 100 + end);
                    })
                    .unwrap();
                    // The other stream makes a table of its own.
                    let others = aux.table([theirs]).unwrap();
                    aux.launch((others.view(),), |(x,)| assert_eq!(x[0][7], 8)).unwrap();
                    assert_eq!(get(&mut main, sums.view()), [1004, 1508, 1004]);
                    assert!(all.get_mut().is_none());
                    // The table of the other stream is over when that stream is behind it.
                    let [theirs] = <[_; 1]>::try_from(others.into_owners()).unwrap();
                    let ctx = main.ctx().with_pool();
                    all.join(side.ctx().transfer(theirs, &ctx).unwrap()).unwrap();
                    assert!(all.get_mut().is_none(), "the table of this stream owns it");
                    drop(layers);
                    main.synchronize().unwrap();
                    main.ctx().clear(all.get_mut().unwrap()).unwrap();
                    drop(all.try_unwrap().unwrap());
                })
                .unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn staged_targets_and_tables_in_an_arena() {
    on_stream(|mut stream| {
        let mut stack = Stack::new(stream.ctx().pool());
        for _ in 0..3 {
            let ctx = stream.ctx().with_device_alloc(&stack);
            let staged = [pinned(&[1_u32, 2]).stage(&ctx), pinned(&[3_u32]).stage(&ctx)];
            let odd = ctx.upload_new(&[1_u8; 3])?;
            let table: Table<View<'_, u32, Staged<Sim<'_>>>, _, _> = ctx.table(staged.each_ref().map(Buffer::view))?;
            let wide = ctx.table([(odd.view(), 1_u128), (odd.view().slice(1..)?, 2)])?;
            let mut sum = ctx.zeros::<u32>(1)?;
            ctx.launch((table.view(), wide.view(), sum.view_mut()), |(table, wide, sum)| {
                sum[0] = table.concat().iter().sum::<u32>() + wide[1].0.len() as u32 + wide[1].1 as u32;
            })?;
            assert_eq!(staged[1].len(), 1);
            let out = ctx.init_from(ctx.alloc_pinned(1)?.stage(&ctx), sum.view())?;
            drop((wide, table));
            drop((odd, sum));
            let done = stream.synchronize()?;
            assert_eq!(out.peek(&done), [10]);
            drop((out, staged));
            stack.reset()?;
        }
        Ok(())
    });
}

/// An iterator that lies about how many views are left.
struct Liar<I>(I, (usize, Option<usize>));

impl<I: Iterator> Iterator for Liar<I> {
    type Item = I::Item;
    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

impl<I: Iterator> ExactSizeIterator for Liar<I> {
    fn len(&self) -> usize {
        self.1.0
    }
}

#[test]
fn iterators_that_lie() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let pool = ctx.upload_new(&ramp(0, 8))?;
        for hint in [(0, Some(0)), (usize::MAX, None), (usize::MAX, Some(usize::MAX)), (3, Some(1))] {
            let table = ctx.table(Liar(pool.view().chunks_exact(size(2)), hint))?;
            ctx.launch((table.view(),), |(table,)| assert_eq!(table, [[0, 1], [2, 3], [4, 5], [6, 7]]))?;
        }
        // One that goes on after its end is not used after it.
        let calls = Cell::new(0);
        let odd = core::iter::from_fn(|| {
            calls.set(calls.get() + 1);
            (calls.get() != 3).then_some(pool.view())
        });
        assert_eq!((ctx.table(odd)?.len(), calls.get()), (2, 3));
        stream.synchronize().map(drop)
    });
}

#[test]
fn iterators_that_panic_and_that_make_tables() {
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let pool = ctx.upload_new(&ramp(0, 4))?;
        for at in 0..3 {
            let views = (0..4).map(|i| if i == at { panic!("on purpose") } else { pool.view() });
            std::panic::catch_unwind(AssertUnwindSafe(|| ctx.table(views).map(drop))).unwrap_err();
            // Also of buffers, which are dropped.
            let buffers = (0..4).map(|i| if i == at { panic!("on purpose") } else { ctx.zeros::<u32>(5).unwrap() });
            std::panic::catch_unwind(AssertUnwindSafe(|| drop(ctx.table(buffers)))).unwrap_err();
        }
        let mut inner = Vec::new();
        let outer = ctx.table((1..4).map(|n| {
            inner.push(ctx.table(core::iter::repeat_n(pool.view(), n)).unwrap());
            pool.view().slice(n..).unwrap()
        }))?;
        assert_eq!(inner.iter().map(Table::len).collect::<Vec<_>>(), [1, 2, 3]);
        ctx.launch((outer.view(), inner[2].view()), |(outer, inner)| {
            assert_eq!(outer, [&[1, 2, 3][..], &[2, 3], &[3]]);
            assert_eq!(inner, [[0, 1, 2, 3]; 3]);
        })?;
        stream.synchronize().map(drop)
    });
}

#[test]
fn tables_that_are_forgotten_swapped_and_dropped_before_their_kernels() {
    let device = Device::new(sim::Options::quick().race_detector(true));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (a, b) = (ctx.upload_new(&[1_u32]).unwrap(), ctx.upload_new(&[2_u32]).unwrap());
            let (mut x, mut y) = (ctx.table([a.view()]).unwrap(), ctx.table([b.view(), b.view()]).unwrap());
            core::mem::swap(&mut x, &mut y);
            let gate = crate::Gate::close(&ctx);
            ctx.launch((x.view(), y.view()), |(x, y)| assert_eq!((x, y), (&[&[2][..], &[2]][..], &[&[1][..]][..])))
                .unwrap();
            drop((x, y));
            drop((a, b));
            // What comes next takes the memory in stream order.
            let more: Vec<_> = (0..8).map(|_| ctx.upload_new(&[9_u32; 4]).unwrap()).collect();
            drop(gate);
            let forgotten = ctx.table(more.iter().map(Buffer::view)).unwrap();
            core::mem::forget(forgotten);
            stream.synchronize().unwrap();
        })
        .unwrap();
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.findings.len()), (1, 0), "{report:?}");
}

#[test]
fn large_tables_pass_through_a_small_ring_in_pieces() {
    let device = watched();
    device
        .stream_with(&StreamOptions::default().ring_bytes(1024), |mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let pool = ctx.upload_new(&ramp(0, 3000)).unwrap();
            let table = ctx.table(pool.view().chunks_exact(size(1)).zip(0_u32..)).unwrap();
            ctx.launch((table.view(),), |(table,)| {
                assert_eq!(table.len(), 3000);
                table.iter().for_each(|(target, number)| assert_eq!(target, &[*number]));
            })
            .unwrap();
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn elements_that_no_memory_behind_the_table_is_aligned_for() {
    /// As aligned as no memory of the simulated device is sure to be.
    #[derive(Clone, Copy)]
    #[repr(C, align(1024))]
    struct Coarse([u8; 1024]);
    // SAFETY: zeroed bytes are bytes.
    unsafe impl bytemuck::Zeroable for Coarse {}
    // SAFETY: bytes without padding, for each pattern of which there is a value.
    unsafe impl bytemuck::Pod for Coarse {}
    impl Element for Coarse {}
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let bytes = ctx.zeros::<u8>(4096).unwrap();
            let start = bytes.as_ptr().addr().next_multiple_of(1024) - bytes.as_ptr().addr();
            let coarse = bytes.view().slice(start..start + 1024).unwrap().try_cast::<Coarse>().unwrap();
            let table = ctx.table([coarse]).unwrap();
            let error = ctx.launch((table.view(),), |_| ()).unwrap_err();
            assert!(matches!(error, Error::Driver(error) if error.code == tidelock::driver::Code::MISALIGNED_ADDRESS));
            // A payload that is aligned to more than memory is.
            let error = ctx.table([(bytes.view(), Coarse([0; 1024]))]).unwrap_err();
            assert!(matches!(error, Error::Alignment { align: 1024, .. }), "{error}");
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_helper_names_the_type_of_a_table() {
    fn longest<'s>(
        ctx: tidelock::Ctx<'_, Sim<'s>>,
        table: TableView<'_, View<'_, u32, Sim<'s>>, Sim<'s>>,
        out: &mut Buffer<u64, Sim<'s>>,
    ) -> tidelock::Result<()> {
        ctx.launch((table, out.view_mut()), |(table, out)| {
            out[0] = table.iter().map(|target| target.len() as u64).max().unwrap_or(0);
        })
    }
    on_stream(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let (pool, mut out) = (ctx.zeros::<u32>(9)?, ctx.zeros::<u64>(1)?);
        let table = ctx.table([pool.view().slice(..2)?, pool.view()])?;
        longest(stream.ctx(), table.view(), &mut out)?;
        assert_eq!(get(&mut stream, out.view()), [9]);
        Ok(())
    });
}

#[test]
fn a_refused_table_hands_back_the_buffers_that_it_took() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            for call in [sim::Call::MemAllocFromPoolAsync, sim::Call::MemcpyAsync] {
                let ctx = stream.ctx().with_pool();
                let buffers = [ctx.upload_new(&[1_u32]).unwrap(), ctx.upload_new(&[2_u32]).unwrap()];
                let code = tidelock::driver::Code::UNKNOWN;
                device.gpu().fail(sim::Fault { nth: 1, onwards: false, call: Some(call), code });
                let rejected = ctx.table(buffers).map(drop).unwrap_err();
                device.gpu().disarm();
                assert!(matches!(rejected.error, Error::Driver(error) if error.code == code));
                let table = ctx.table(rejected.value.into_iter().zip([7_u8, 8])).map_err(|r| r.error).unwrap();
                let mut sum = ctx.zeros::<u32>(1).unwrap();
                ctx.launch((table.view(), sum.view_mut()), |(table, sum)| {
                    sum[0] = table.iter().map(|(x, more)| x[0] + u32::from(*more)).sum();
                })
                .unwrap();
                drop(table);
                assert_eq!(get(&mut stream, sum.view()), [18]);
            }
        })
        .unwrap();
    assert_clean(&device);
}

/// On a poisoned stream nothing is enqueued, also for no entries.
#[test]
fn a_table_of_a_broken_device() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = ctx.zeros::<u32>(4).unwrap();
            let table = ctx.table([x.view()]).unwrap();
            ctx.launch((), |()| panic!("on purpose")).unwrap();
            assert!(stream.synchronize().is_err());
            let ctx = stream.ctx().with_pool();
            let none: [View<'_, u32, Sim<'_>>; 0] = [];
            assert!(matches!(ctx.table([x.view()]), Err(Error::Poisoned(_))));
            assert!(matches!(ctx.table(none), Err(Error::Poisoned(_))));
            assert!(matches!(ctx.launch((table.view(),), |_| ()), Err(Error::Poisoned(_))));
        })
        .unwrap_err();
}

#[test]
fn sizes() {
    fn of<'s, 'p>(_: tidelock::Ctx<'_, Sim<'s>>, _: &'p ()) -> [usize; 3] {
        let table = size_of::<Table<View<'p, u32, Sim<'s>>, Sim<'s>>>();
        let owned = size_of::<Table<(Buffer<u8, Sim<'s>>, u64), Sim<'s>>>();
        [table, owned, size_of::<TableView<'p, View<'p, u32, Sim<'s>>, Sim<'s>>>()]
            .map(|size| size / size_of::<usize>())
    }
    on_stream(|stream| {
        assert_eq!(of(stream.ctx(), &()), [13, 13, 6]);
        Ok(())
    });
}
