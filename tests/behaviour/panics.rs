//! A panic in every closure that runs inside a frame of the library: what had begun is completed or
//! undone, and everything else is usable.

use std::{
    cell::Cell,
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
};

use tidelock::{
    BatchCopy, Buffer, Error, Stack, State, View,
    alloc::{ClosureAlloc, HostAlloc},
    driver::Code,
    location::Host,
};

use super::{assert_clean, get, panics_with, pinned, put, quick, ramp, slow, staged};

#[test]
fn in_a_stream_it_is_waited_for_and_destroyed() {
    let device = slow();
    let before = device.gpu().traffic();
    panics_with("in the stream", || {
        device.stream(|stream, _env| {
            let stack = Stack::new(stream.ctx().pool());
            let ctx = stream.ctx().with_device_alloc(&stack);
            let (x, mut y) = (ctx.zeros::<u32>(256).unwrap(), ctx.zeros::<u32>(256).unwrap());
            let _kept = staged(&ctx, &ramp(0, 256));
            let _pending = ctx.fence(staged(&ctx, &ramp(0, 256))).unwrap();
            for _ in 0..16 {
                ctx.copy(x.view(), y.view_mut()).unwrap();
            }
            panic!("in the stream");
        })
    });
    assert_eq!((device.gpu().traffic() - before).copies, 16, "the frame waits for what was enqueued");
    assert_clean(&device);
    device.stream(|mut stream, _env| stream.synchronize().map(drop)).unwrap().unwrap();
}

#[test]
fn in_a_stream_the_data_lent_through_env_is_settled() {
    let device = slow();
    let (source, mut target) = (ramp(10, 512), vec![0_u32; 512]);
    panics_with("with a loan", || {
        device.stream(|stream, env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(512).unwrap();
            ctx.copy(env.source(&source), x.view_mut()).unwrap();
            ctx.copy(x.view(), env.target(&mut target)).unwrap();
            panic!("with a loan");
        })
    });
    assert_eq!(target, source);
    assert_clean(&device);
}

#[test]
fn in_a_host_scope_the_slices_are_settled_and_the_stream_goes_on() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let x = put(&stream.ctx(), &ramp(1, 2000));
            let mut data = vec![0_u32; 2000];
            for round in 0..6 {
                let enter = || {
                    stream.host_scope(|scope| {
                        scope.ctx().copy(x.view(), scope.target(&mut data)).unwrap();
                        assert!(round % 2 == 0, "odd");
                    })
                };
                assert_eq!(catch_unwind(AssertUnwindSafe(enter)).is_ok(), round % 2 == 0);
                assert_eq!(data, ramp(1, 2000), "the frame has waited");
                data.fill(0);
                if round == 3 {
                    data = vec![0; 2000];
                }
            }
            assert_eq!(get(&mut stream, x.view()), ramp(1, 2000));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn in_a_batch_nothing_is_submitted_and_nothing_is_left_behind() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut kept = put(&ctx, &ramp(0, 64));
            let mut batch = BatchCopy::new();
            {
                let (a, mut b) = (put(&ctx, &ramp(50, 64)), ctx.zeros::<u32>(64).unwrap());
                panics_with("in the batch", || {
                    batch.scope(&ctx, |q| -> Result<(), Error> {
                        q.copy(a.view(), b.view_mut())?;
                        q.group(|g| g.copy(a.view(), kept.view_mut()))?;
                        panic!("in the batch")
                    })
                });
                // Both operands end here; their copies must not be in the next submission.
            }
            assert_eq!(batch.stats().submissions, 0);
            let (c, mut d) = (put(&ctx, &ramp(9, 8)), ctx.zeros::<u32>(8).unwrap());
            batch.scope(&ctx, |q| q.copy(c.view(), d.view_mut())).unwrap();
            assert_eq!((batch.stats().submissions, batch.stats().submitted, batch.stats().bytes), (1, 1, 32));
            assert_eq!(get(&mut stream, d.view()), ramp(9, 8));
            assert_eq!(get(&mut stream, kept.view()), ramp(0, 64));
        })
        .unwrap();
    assert_clean(&device);
}

/// What a scope that panicked left in the storage is not submitted, although the storage moves to
/// another thread and another stream.
#[test]
fn a_batch_that_a_panic_ended_serves_a_stream_of_another_thread() {
    let (here, there) = (slow(), slow());
    let mut batch = BatchCopy::new();
    here.stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let (row, a, mut b) = (ramp(7, 64), put(&ctx, &ramp(50, 64)), ctx.zeros::<u32>(192).unwrap());
        panics_with("in the batch", || {
            let (first, rest) = b.view_mut().split_at(64).unwrap();
            let (second, third) = rest.split_at(64).unwrap();
            batch.scope(&ctx, |q| -> Result<(), Error> {
                q.copy(a.view(), first)?;
                q.copy(View::from(&row[..]), second)?;
                q.group(|g| g.copy(a.view(), third))?;
                panic!("in the batch")
            })
        });
    })
    .unwrap();
    let (read, batch) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let read = there.stream(|mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let (c, mut d) = (put(&ctx, &ramp(9, 8)), ctx.zeros::<u32>(8).unwrap());
                batch.scope(&ctx, |q| q.copy(c.view(), d.view_mut())).unwrap();
                get(&mut stream, d.view())
            });
            (read.unwrap(), batch)
        });
        other.join().unwrap()
    });
    assert_eq!(read, ramp(9, 8));
    assert_eq!((batch.stats().submissions, batch.stats().submitted, batch.stats().bytes), (1, 1, 32));
    assert_clean(&here);
    assert_clean(&there);
}

#[test]
fn in_a_group_none_of_its_copies_is_added() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(1, 8));
            let (mut y, mut z) = (ctx.zeros::<u32>(8).unwrap(), ctx.zeros::<u32>(8).unwrap());
            let mut batch = BatchCopy::new();
            let add = |q: &mut tidelock::batch::Batch<'_, '_, _>| -> Result<(), Error> { q.group(|_| Ok(())) };
            batch
                .scope(&ctx, |q| {
                    q.copy(x.view(), z.view_mut())?;
                    let (head, tail) = y.view_mut().split_at(4)?;
                    panics_with("in the group", || {
                        q.group(|g| -> Result<(), Error> {
                            // Two runs that do not continue one another, so that the first is no
                            // longer held by the group.
                            g.copy(x.view().slice(4..)?, head)?;
                            g.copy(x.view().slice(..4)?, tail)?;
                            panic!("in the group")
                        })
                    });
                    add(q)
                })
                .unwrap();
            assert_eq!((batch.stats().asked, batch.stats().submitted), (1, 1));
            assert_eq!(get(&mut stream, z.view()), ramp(1, 8));
            assert_eq!(get(&mut stream, y.view()), [0; 8]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn in_a_step_the_states_are_not_swapped() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let back = ctx.zeros::<u32>(8).unwrap();
            let mut state = State::new(put(&ctx, &ramp(1, 8)), back).unwrap();
            panics_with("in the step", || {
                state.step(|front, back| -> Result<(), Error> {
                    ctx.copy(front, back)?;
                    panic!("in the step")
                })
            });
            ctx.clear(state.back_mut()).unwrap();
            assert_eq!(get(&mut stream, state.front()), ramp(1, 8));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn in_a_kernel_it_breaks_the_device_and_is_said_by_every_later_call() {
    let device = slow();
    let answer = device.stream(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(8).unwrap();
        ctx.launch((x.view_mut(),), |(x,)| assert!(x.len() > 8, "in the kernel")).unwrap();
        let error = stream.synchronize().unwrap_err();
        assert!(matches!(error, Error::Poisoned(why) if why.code == Code::LAUNCH_FAILED), "{error}");
        assert_eq!(stream.ctx().clear(x.view_mut()), Err(error));
        drop(x);
        assert_eq!(stream.leaked_bytes(), 32);
    });
    assert!(matches!(answer, Err(Error::Poisoned(why)) if why.code == Code::LAUNCH_FAILED));
    let report = device.gpu().report();
    assert_eq!((report.sticky, report.allocations), (Some(Code::LAUNCH_FAILED), 1));

    // The other device is not concerned.
    quick().stream(|mut stream, _env| stream.synchronize().map(drop)).unwrap().unwrap();
}

/// An allocator that counts live allocations.
fn counted(
    live: &Cell<isize>,
) -> ClosureAlloc<
    Host,
    impl Fn(core::alloc::Layout) -> Result<core::ptr::NonNull<u8>, tidelock::alloc::AllocError>,
    impl Fn(core::ptr::NonNull<u8>, core::alloc::Layout),
> {
    use tidelock::alloc::Allocator;
    // SAFETY:
    // - Both closures are those of `HostAlloc`, which keeps the contract.
    unsafe {
        ClosureAlloc::new(
            |layout| HostAlloc.alloc(layout).inspect(|_| live.set(live.get() + 1)),
            |ptr, layout| {
                live.set(live.get() - 1);
                HostAlloc.dealloc(ptr, layout);
            },
        )
    }
}

#[test]
fn in_the_initialiser_of_a_buffer_the_memory_is_given_back() {
    let live = Cell::new(0);
    let alloc = counted(&live);
    panics_with("at 3", || Buffer::<u64, Host, _>::from_fn_in(8, |i| if i == 3 { panic!("at 3") } else { 1 }, &alloc));
    assert_eq!(live.get(), 0);
    let empty = Buffer::<MaybeUninit<u64>, Host, _>::uninit_in(8, &alloc).unwrap();
    assert_eq!(live.get(), 1);
    panics_with("at 5", || empty.write_with(|i| if i == 5 { panic!("at 5") } else { 1 }));
    assert_eq!(live.get(), 0);
    let whole = Buffer::<u64, Host, _>::from_fn_in(8, |i| i as u64, &alloc).unwrap();
    assert_eq!((&whole[..], live.get()), (&[0, 1, 2, 3, 4, 5, 6, 7][..], 1));
}

#[test]
fn in_the_closures_of_an_allocator_it_passes_through() {
    // SAFETY:
    // - `alloc` returns no memory, so nothing has to hold for it.
    let broken = unsafe { ClosureAlloc::<Host, _, _>::new(|_| panic!("no memory"), |_, _| {}) };
    panics_with("no memory", || Buffer::<u32, Host, _>::zeros_in(4, &broken));
}

/// An owner of memory that records when it is dropped, and may panic in each of its methods.
struct Owner {
    memory: Vec<u32>,
    drops: Rc<Cell<u32>>,
    refuse: bool,
    explode: bool,
}

impl AsMut<[u32]> for Owner {
    fn as_mut(&mut self) -> &mut [u32] {
        assert!(!self.refuse, "no slice");
        &mut self.memory
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
        if self.explode {
            panic!("in the owner's drop");
        }
    }
}

#[test]
fn in_the_code_of_an_owner_it_is_dropped_once() {
    let drops = Rc::new(Cell::new(0));
    let owner = |refuse, explode| Owner { memory: vec![1, 2, 3], drops: Rc::clone(&drops), refuse, explode };
    assert!(catch_unwind(AssertUnwindSafe(|| Buffer::<u32, Host, _>::from_owner(owner(true, false)))).is_err());
    assert_eq!(drops.replace(0), 1, "an owner that gave no slice is dropped");
    let buffer = Buffer::<u32, Host, _>::from_owner(owner(false, true));
    panics_with("in the owner's drop", || drop(buffer));
    assert_eq!(drops.get(), 1);
}

#[test]
fn through_nested_frames_all_of_them_are_closed() {
    let (outer, inner) = (slow(), slow());
    panics_with("deep", || {
        outer.stream(|mut a, _env| {
            let x = put(&a.ctx(), &ramp(0, 64));
            let mut data = vec![0_u32; 64];
            a.host_scope(|scope| {
                scope.ctx().copy(x.view(), scope.target(&mut data)).unwrap();
                inner.stream(|b, _env| {
                    let ctx = b.ctx().with_pool();
                    let (y, mut z) = (put(&ctx, &ramp(0, 64)), ctx.zeros::<u32>(64).unwrap());
                    let mut batch = BatchCopy::new();
                    batch.scope(&ctx, |q| {
                        q.copy(y.view(), z.view_mut())?;
                        outer.stream(|c, _env| -> Result<(), Error> {
                            let _w = c.ctx().with_pool().zeros::<u32>(8)?;
                            panic!("deep")
                        })?
                    })
                })
            })
        })
    });
    assert_clean(&outer);
    assert_clean(&inner);
}

#[test]
fn a_pinned_buffer_moved_into_a_kernel_is_given_back() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(16).unwrap();
            let values = pinned(&ramp(4, 16));
            stream.ctx().launch((x.view_mut(),), move |(x,)| x.copy_from_slice(&values)).unwrap();
            assert_eq!(get(&mut stream, x.view()), ramp(4, 16));
        })
        .unwrap();
    assert_clean(&device);
}
