//! Memory that the library does not allocate itself: owners, closures, and the synchronous
//! allocator.

use std::{
    alloc::Layout,
    cell::{Cell, RefCell},
    collections::HashMap,
    ptr::NonNull,
    rc::Rc,
};

use tidelock::{
    Buffer, Stack,
    alloc::{Allocator, ClosureAlloc, HostAlloc},
    buffer::Owner,
    location::Host,
    sim::Sim,
};

use super::{assert_clean, get, ramp, slow};

struct Counted(Vec<u32>, Rc<Cell<u32>>);

impl AsMut<[u32]> for Counted {
    fn as_mut(&mut self) -> &mut [u32] {
        &mut self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn an_owner_lives_as_long_as_its_buffer() {
    let drops = Rc::new(Cell::new(0));
    for len in [0, 1, 100] {
        drops.set(0);
        let mut buffer = Buffer::<u32, Host, _>::from_owner(Counted(ramp(0, len), Rc::clone(&drops)));
        buffer.iter_mut().for_each(|x| *x += 1);
        assert_eq!((&buffer[..], drops.get()), (&ramp(1, len)[..], 0));
        let (ptr, len, owner): (_, _, Owner<Counted>) = buffer.into_raw_parts();
        assert_eq!(drops.get(), 0);
        // SAFETY:
        // - All three come from one `into_raw_parts`.
        drop(unsafe { Buffer::<u32, Host, _>::from_raw_parts(ptr, len, owner) });
        assert_eq!(drops.get(), 1);
    }
}

#[test]
fn vectors_boxes_and_borrowed_statics_are_owners() {
    let mut from_vec = Buffer::<f32, Host, _>::from_owner(vec![1.0, 2.0]);
    from_vec[0] = 5.0;
    let from_box = Buffer::<f32, Host, _>::from_owner(Box::<[f32]>::from([3.0]));
    let leaked: &'static mut [f32] = Box::leak(Box::from([4.0_f32]));
    let from_static = Buffer::<f32, Host, _>::from_owner(leaked);
    assert_eq!([&from_vec[..], &from_box, &from_static].concat(), [5.0, 2.0, 3.0, 4.0]);
    let moved = std::thread::spawn(move || from_vec[1]).join().unwrap();
    assert_eq!(moved, 2.0);
}

#[test]
fn an_owned_buffer_is_a_source_of_uploads_and_batches() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (mut x, mut y) = (ctx.zeros::<u32>(8).unwrap(), ctx.zeros::<u32>(8).unwrap());
            let source = Buffer::<u32, Host, _>::from_owner(ramp(3, 8));
            ctx.upload(&source, x.view_mut()).unwrap();
            tidelock::BatchCopy::new().scope(&ctx, |q| q.copy(source.view(), y.view_mut())).unwrap();
            drop(source);
            assert_eq!(get(&mut stream, x.view()), ramp(3, 8));
            assert_eq!(get(&mut stream, y.view()), ramp(3, 8));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_raw_owner_keeps_device_memory_of_another_buffer_alive() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let alloc = ctx.with_device_alloc(ctx.sync_alloc());
            let drops = Rc::new(Cell::new(0));
            let region = alloc.zeros::<u32>(64).unwrap();
            let (ptr, len, _) = region.into_raw_parts();
            // SAFETY:
            // - Its buffer has just given the memory up, and it is never freed: nothing else
            //   touches it.
            // - It is one whole allocation.
            let mut x = unsafe { Buffer::<u32, Sim<'_>, _>::from_raw_owner(ptr, len, Counted(vec![], drops.clone())) };
            ctx.upload(&ramp(2, 64), x.view_mut()).unwrap();
            assert_eq!(get(&mut stream, x.view()), ramp(2, 64));
            assert_eq!(drops.get(), 0);
            drop(x);
            assert_eq!(drops.get(), 1);
        })
        .unwrap();
    super::assert_leaked(&device, 1);
}

#[test]
fn closures_get_their_own_layouts_back() {
    let live = RefCell::new(HashMap::<usize, Layout>::new());
    // SAFETY:
    // - Both closures are those of `HostAlloc`, which keeps the contract.
    let alloc = unsafe {
        ClosureAlloc::<Host, _, _>::new(
            |layout| {
                HostAlloc.alloc(layout).inspect(|p| assert!(live.borrow_mut().insert(p.addr().get(), layout).is_none()))
            },
            |ptr: NonNull<u8>, layout| {
                assert_eq!(live.borrow_mut().remove(&ptr.addr().get()), Some(layout));
                HostAlloc.dealloc(ptr, layout);
            },
        )
    };
    let a = Buffer::<u32, Host, _>::zeros_in(7, &alloc).unwrap();
    let b = Buffer::<[u64; 3], Host, _>::zeros_in(5, &alloc).unwrap();
    let none = Buffer::<u32, Host, _>::zeros_in(0, &alloc).unwrap();
    let layouts: Vec<Layout> = live.borrow().values().copied().collect();
    assert_eq!(layouts.len(), 2, "nothing is asked for no bytes");
    assert!(
        layouts.contains(&Layout::array::<u32>(7).unwrap()) && layouts.contains(&Layout::array::<[u64; 3]>(5).unwrap())
    );
    drop((a, b, none));
    assert!(live.borrow().is_empty());
}

#[test]
fn closures_can_stand_in_front_of_a_pool_and_under_an_arena() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let pool = stream.ctx().pool();
            let live = Cell::new(0_usize);
            // SAFETY:
            // - Both closures are those of the stream's pool, which keeps the contract.
            let alloc = unsafe {
                ClosureAlloc::<Sim<'_>, _, _>::new(
                    |layout| pool.alloc(layout).inspect(|_| live.set(live.get() + layout.size())),
                    |ptr, layout| {
                        live.set(live.get() - layout.size());
                        pool.dealloc(ptr, layout);
                    },
                )
            };
            {
                let mut stack = Stack::new(&alloc);
                for round in 0..3 {
                    let ctx = stream.ctx().with_device_alloc(&stack);
                    let mut x = ctx.zeros::<u32>(64).unwrap();
                    ctx.upload(&ramp(round, 64), x.view_mut()).unwrap();
                    // Then in the region, which has as many bytes in front of it.
                    assert_eq!(
                        (get(&mut stream, x.view()), live.get()),
                        (ramp(round, 64), if round == 0 { 256 } else { 512 })
                    );
                    drop(x);
                    stack.reset().unwrap();
                }
            }
            assert_eq!(live.get(), 0);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn synchronous_memory_works_like_any_other() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            for round in 0..8 {
                let ctx = stream.ctx().with_device_alloc(stream.ctx().sync_alloc());
                let mut x = ctx.zeros::<u32>(300).unwrap();
                ctx.upload(&ramp(round, 300), x.view_mut()).unwrap();
                assert_eq!(get(&mut stream, x.view()), ramp(round, 300));
            }
        })
        .unwrap();
    assert_clean(&device);
}
