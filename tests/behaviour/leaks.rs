//! Forgotten, leaked and cyclic values: memory is leaked, and nothing else goes wrong.

use std::{cell::RefCell, mem, rc::Rc};

use tidelock::{BatchCopy, Buffer, Stack, State, sim::Sim};

use super::{Gate, assert_clean, assert_leaked, get, put, quick, ramp, slow, staged};

#[test]
fn a_forgotten_buffer_with_work_in_flight_is_only_lost() {
    let device = slow();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = put(&ctx, &ramp(0, 64));
            ctx.clear(x.view_mut()).unwrap();
            mem::forget(x);
        })
        .unwrap();
    assert_leaked(&device, 1);
}

#[test]
fn a_forgotten_stream_is_waited_for_and_destroyed_by_its_frame() {
    let device = slow();
    let before = device.gpu().traffic();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (ctx.zeros::<u32>(64).unwrap(), ctx.zeros::<u32>(64).unwrap());
            for _ in 0..8 {
                ctx.copy(x.view(), y.view_mut()).unwrap();
            }
            drop((x, y));
            mem::forget(stream);
        })
        .unwrap();
    assert_eq!((device.gpu().traffic() - before).copies, 8);
    assert_clean(&device);
}

#[test]
fn a_forgotten_synced_ends_with_its_borrow() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut x = put(&stream.ctx(), &ramp(5, 16));
            mem::forget(stream.synchronize().unwrap());
            let ctx = stream.ctx();
            ctx.upload(&ramp(9, 16), x.view_mut()).unwrap();
            assert_eq!(get(&mut stream, x.view()), ramp(9, 16));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn forgotten_staged_memory_and_pendings_are_never_handed_out_again() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(7, 1000));
            let mut lost = Vec::new();
            for round in 0..4 {
                let out = ctx.init_from(ctx.alloc_pinned::<u32>(1000).unwrap().stage(&ctx), x.view()).unwrap();
                lost.push(out.as_ptr().addr());
                if round % 2 == 0 { mem::forget(out) } else { mem::forget(ctx.fence(out).unwrap()) }
            }
            let taken: Vec<_> = (0..16).map(|_| staged(&ctx, &[1_u32; 1000])).collect();
            for other in &taken {
                assert!(!lost.contains(&other.as_ptr().addr()));
            }
            let done = stream.synchronize().unwrap();
            for other in taken {
                assert_eq!(&other.reclaim(&done)[..], [1; 1000]);
            }
        })
        .unwrap();
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.events, report.findings.len()), (0, 2, 0));
}

#[test]
fn a_leaked_box_of_a_buffer_stays_usable_until_the_stream_ends() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let x = Box::leak(Box::new(put(&stream.ctx(), &ramp(0, 32))));
            let out = Box::leak(Box::new(staged(&stream.ctx(), &[0_u32; 32])));
            stream.ctx().copy(x.view(), out.view_mut()).unwrap();
            let done = stream.synchronize().unwrap();
            assert_eq!(out.peek(&done), ramp(0, 32));
        })
        .unwrap();
    assert_leaked(&device, 1);
}

struct Node<'s> {
    memory: Buffer<u32, Sim<'s>>,
    other: RefCell<Option<Rc<Node<'s>>>>,
}

#[test]
fn a_cycle_of_buffers_is_only_lost() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let node =
                |start| Rc::new(Node { memory: put(&stream.ctx(), &ramp(start, 16)), other: RefCell::new(None) });
            let (a, b) = (node(1), node(2));
            *a.other.borrow_mut() = Some(Rc::clone(&b));
            *b.other.borrow_mut() = Some(Rc::clone(&a));
            let through = a.other.borrow().clone().unwrap();
            assert_eq!(get(&mut stream, through.memory.view()), ramp(2, 16));
        })
        .unwrap();
    assert_leaked(&device, 2);
}

struct ArenaNode<'a, 's> {
    _memory: Buffer<u32, Sim<'s>, &'a Stack<Sim<'s>>>,
    other: RefCell<Option<Rc<ArenaNode<'a, 's>>>>,
}

#[test]
fn a_cycle_of_arena_buffers_leaves_the_arena_sound() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            let mut sums = Vec::new();
            for round in 0..4_u32 {
                let ctx = stream.ctx().with_device_alloc(&stack);
                let node = Rc::new(ArenaNode { _memory: ctx.zeros(100).unwrap(), other: RefCell::new(None) });
                *node.other.borrow_mut() = Some(Rc::clone(&node));
                let mut x = ctx.zeros::<u32>(100).unwrap();
                ctx.launch((x.view_mut(), round), |(x, n)| x.fill(n)).unwrap();
                sums.push(ctx.init_from(ctx.alloc_pinned::<u32>(100).unwrap().stage(&ctx), x.view()).unwrap());
                drop((x, node));
                stack.reset().unwrap();
            }
            let done = stream.synchronize().unwrap();
            for (round, sum) in (0..).zip(&sums) {
                assert_eq!(sum.peek(&done), [round; 100]);
            }
        })
        .unwrap();
    // The first round ran outside of the region, and one allocation is leaked there. The others lay
    // in the region.
    assert_leaked(&device, 1);
}

#[test]
fn forgotten_arena_memory_is_reused_behind_the_work_that_used_it() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            let ctx = stream.ctx().with_device_alloc(&stack);
            drop((ctx.zeros::<u32>(64).unwrap(), ctx.zeros::<u32>(64).unwrap()));
            stack.reset().unwrap();
            let gate = Gate::close(&stream.ctx());
            let mut outs = Vec::new();
            let mut places = Vec::new();
            for round in 0..6_u32 {
                let ctx = stream.ctx().with_device_alloc(&stack);
                let (mut a, mut b) = (ctx.zeros::<u32>(64).unwrap(), ctx.zeros::<u32>(64).unwrap());
                ctx.launch((a.view_mut(), round), |(a, n)| a.fill(n + 1)).unwrap();
                ctx.copy(a.view(), b.view_mut()).unwrap();
                outs.push(ctx.init_from(ctx.alloc_pinned::<u32>(64).unwrap().stage(&ctx), b.view()).unwrap());
                places.push(a.as_ptr());
                mem::forget((a, b));
                stack.reset().unwrap();
            }
            assert!(places.iter().all(|place| *place == places[0]), "the region is reused");
            drop(gate);
            let done = stream.synchronize().unwrap();
            for (round, out) in (1..).zip(&outs) {
                assert_eq!(out.peek(&done), [round; 64]);
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_leaked_arena_keeps_its_region() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            drop(stream.ctx().with_device_alloc(&stack).zeros::<u32>(64).unwrap());
            stack.reset().unwrap();
            let stack = &*Box::leak(Box::new(stack));
            let mut x = stream.ctx().with_device_alloc(stack).zeros::<u32>(64).unwrap();
            stream.ctx().upload(&ramp(3, 64), x.view_mut()).unwrap();
            assert_eq!(get(&mut stream, x.view()), ramp(3, 64));
        })
        .unwrap();
    assert_leaked(&device, 1);
}

#[test]
fn forgotten_states_batches_and_scopes_hold_nothing_up() {
    let device = slow();
    let mut read_back = [0_u32; 8];
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            mem::forget(State::<u32, _>::zeros(&ctx, 8).unwrap());
            let x = put(&ctx, &ramp(1, 8));
            let mut batch = BatchCopy::new();
            let mut y = ctx.zeros::<u32>(8).unwrap();
            batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())).unwrap();
            mem::forget(batch);
            stream
                .host_scope(|scope| {
                    let target = scope.target(&mut read_back);
                    scope.ctx().copy(y.view(), target).unwrap();
                    let _ = scope.source(&[1_u8]);
                })
                .unwrap();
            mem::forget((x, y));
        })
        .unwrap();
    assert_eq!(read_back, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_leaked(&device, 4);
}
