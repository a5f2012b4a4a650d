//! The exact driver calls of each operation.

use tidelock::{
    BatchCopy, Buffer, Permutation, Stack, Stream, View,
    driver::Pool,
    location::Host,
    sim::{self, Call::*, Sim},
    stream::StreamOptions,
};

use tidelock_test_support::memory::cleared;

use super::{calls, costs, heap::allocations, on_stream, pinned, turn, width};

#[test]
fn one_call_for_each_operation() {
    on_stream(|device, mut stream| {
        let ctx = stream.ctx().with_pool();
        let empty = costs(device, &[MemAllocFromPoolAsync], || ctx.alloc::<u32>(64).unwrap());
        let x = costs(device, &[MemsetD8Async], || ctx.init_zeros(empty).unwrap());
        let mut y = costs(device, &[MemAllocFromPoolAsync, MemsetD8Async], || ctx.zeros::<u32>(64).unwrap());
        costs(device, &[MemcpyAsync], || ctx.copy(x.view(), y.view_mut()).unwrap());
        costs(device, &[MemsetD8Async], || ctx.clear(y.view_mut()).unwrap());
        ctx.upload(&[0; 64], y.view_mut()).unwrap();
        costs(device, &[MemcpyAsync], || ctx.upload(&[1; 64], y.view_mut()).unwrap());
        let empty = ctx.alloc::<u32>(64).unwrap();
        let z = costs(device, &[MemcpyAsync], || ctx.init_from(empty, x.view()).unwrap());
        costs(device, &[MemFreeAsync], || drop(z));
        costs(device, &[LaunchKernel], || ctx.launch((x.view(), y.view_mut(), 1_u32), |_| ()).unwrap());
        let table = costs(device, &[MemAllocFromPoolAsync, MemcpyAsync], || ctx.table([x.view(); 40]).unwrap());
        costs(device, &[LaunchKernel], || ctx.launch((table.view(),), |_| ()).unwrap());
        costs(device, &[MemFreeAsync], || drop(table));
        costs(device, &[], || ctx.table([] as [View<'_, u32, Sim<'_>>; 0]).map(drop).unwrap());
        costs(device, &[LaunchKernel], || ctx.launch(([x.view(); 5], [y.view_mut()]), |_| ()).unwrap());

        let page_locked = pinned(64);
        let staged = costs(device, &[], || page_locked.stage(&ctx));
        let pending = costs(device, &[EventRecord], || ctx.fence(staged).unwrap());
        costs(device, &[EventQuery], || pending.is_ready().unwrap());
        while !pending.is_ready().unwrap() {}
        // It was seen to have passed.
        let page_locked = costs(device, &[], || pending.wait().unwrap());
        // Nothing was enqueued since.
        let pending = costs(device, &[], || ctx.fence(page_locked.stage(&ctx)).unwrap());
        costs(device, &[], || pending.is_ready().unwrap());
        costs(device, &[], || drop(pending));

        let mut staged = pinned(64).stage(&ctx);
        costs(device, &[StreamSynchronize], || stream.synchronize().map(|_| ()).unwrap());
        let done = stream.synchronize().unwrap();
        costs(device, &[], || (staged.peek(&done)[0], staged.peek_mut(&done)[0]));
        costs(device, &[], || staged.reclaim(&done));
        costs(device, &[MemcpyAsync, StreamSynchronize], || stream.read(y.view()).unwrap());
        costs(device, &[StreamQuery], || stream.is_idle().unwrap());
        costs(device, &[StreamSynchronize, MemPoolTrimTo], || stream.trim(1 << 20).map(|_| ()).unwrap());
        let ctx = stream.ctx();
        costs(device, &[MemGetInfo], || ctx.memory_info().unwrap());
        costs(device, &[], || (ctx.device_ordinal(), ctx.with_pool(), ctx.sync_alloc()));
        costs(device, &[], || drop(pinned(64)));

        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let big = costs(device, &[MemAlloc], || sync.alloc::<u32>(64).unwrap());
        costs(device, &[], || drop(big));
        costs(device, &[StreamSynchronize, MemFree], || stream.synchronize().map(|_| ()).unwrap());

        let mut data = [0_u32; 64];
        costs(device, &[MemcpyAsync, MemcpyAsync, StreamSynchronize], || {
            stream.host_scope(|scope| {
                scope.ctx().copy(scope.source(&[1; 64]), y.view_mut()).unwrap();
                scope.ctx().copy(y.view(), scope.target(&mut data)).unwrap();
            })
        })
        .unwrap();
        costs(device, &[StreamSynchronize], || stream.host_scope(|_| ()).unwrap());
    });
}

#[test]
fn no_call_for_nothing() {
    on_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        let x = costs(device, &[], || ctx.zeros::<u32>(0).unwrap());
        let mut y = costs(device, &[], || ctx.init_from(ctx.alloc::<u32>(0).unwrap(), x.view()).unwrap());
        costs(device, &[], || ctx.copy(x.view(), y.view_mut()).unwrap());
        costs(device, &[], || ctx.clear(y.view_mut()).unwrap());
        costs(device, &[], || ctx.upload(&[], y.view_mut()).unwrap());
        costs(device, &[], || batch.scope(&ctx, |_| Ok(())).unwrap());
        costs(device, &[], || batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())).unwrap());
        costs(device, &[], || {
            let nothing = Buffer::<u32, Host>::zeros(0).unwrap();
            batch.scope(&ctx, |b| b.group(|g| g.copy(nothing.view(), y.view_mut()))).unwrap();
        });
        let none = Permutation::new(&[], 0, 0).unwrap();
        costs(device, &[], || {
            batch
                .scope(&ctx, |b| b.group(|g| g.warp(x.view().rows(width(4))?, none, y.view_mut().rows(width(4))?)))
                .unwrap();
        });
        let staged = costs(device, &[], || ctx.alloc_pinned::<u32>(0).unwrap().stage(&ctx));
        costs(device, &[], || drop((staged, x, y)));
        assert_eq!(batch.stats().submissions, 0);
    });
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

/// The number of events that a stream opens with. It creates more when all are in use.
const EVENTS: usize = 8;

#[test]
fn a_fence_is_one_call_until_all_events_are_in_use() {
    on_stream(|device, stream| {
        let ctx = stream.ctx();
        let fence = |created: usize| {
            let staged = cleared(&ctx);
            costs(device, &[vec![EventCreate; created], vec![EventRecord]].concat(), || ctx.fence(staged).unwrap())
        };
        let mut pending: Vec<_> = (0..EVENTS).map(|_| fence(0)).collect();
        pending.push(fence(EVENTS));
        // The event of a completed fence is used again.
        for _ in 0..EVENTS {
            costs(device, &[EventSynchronize], || pending.remove(0).wait().unwrap());
            pending.push(fence(0));
        }
        pending.extend((1..EVENTS).map(|_| fence(0)));
        pending.push(fence(EVENTS));
    });
}

#[test]
fn one_submission_for_a_batch_whatever_is_in_it() {
    on_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        for rows in [1, 2, 7, 64, 1000] {
            let (x, host) = (ctx.zeros::<u32>(rows * 4).unwrap(), vec![1_u32; rows * 4]);
            let (up, mut down) = (pinned(rows * 4).stage(&ctx), pinned(rows * 4).stage(&ctx));
            let mut y = ctx.zeros::<u32>(rows * 16).unwrap();
            costs(device, &[MemcpyBatchAsync], || {
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
    });
}

#[test]
fn an_arena_makes_no_call_once_it_has_its_region() {
    on_stream(|device, stream| {
        let mut stack = Stack::new(stream.ctx().pool());
        // Without a region: three allocations and frees, then one allocation for the region.
        let (first, ()) = calls(device, || arena_iteration(&stream, &mut stack));
        assert_eq!((first.len(), first.last()), (7, Some(&MemAllocFromPoolAsync)));
        for _ in 0..3 {
            costs(device, &[], || arena_iteration(&stream, &mut stack));
        }
    });
}

/// Holes that are filled, and drops in any order, without a driver call and without a heap
/// allocation.
#[test]
fn an_arena_with_holes_makes_no_call_and_no_heap_allocation() {
    on_stream(|device, stream| {
        let mut stack = Stack::new(stream.ctx().pool());
        let mut iteration = || {
            let ctx = stream.ctx().with_device_alloc(&stack);
            let mut kept = [const { None }; 40];
            for i in 0..200_usize {
                kept[i * i * 7 % 40] = Some(ctx.alloc::<u8>(256 + 100 * (i * i % 29)).unwrap());
                kept[i * 3 % 40] = Some(ctx.alloc::<u8>(1 + i * 11 % 1000).unwrap());
            }
            drop(kept);
            stack.reset().unwrap();
        };
        iteration();
        iteration();
        costs(device, &[], || assert_eq!(allocations(&mut iteration), 0));
    });
}

fn arena_iteration<'s>(stream: &Stream<Sim<'s>>, stack: &mut Stack<Sim<'s>>) {
    let ctx = stream.ctx().with_device_alloc(&*stack);
    let (a, b) = (ctx.alloc::<u32>(100).unwrap(), ctx.alloc::<u8>(7).unwrap());
    let c = ctx.alloc::<u64>(1).unwrap();
    drop((b, a));
    drop(c);
    stack.reset().unwrap();
}
