//! Requests for more memory than there is.

#![allow(clippy::type_complexity, reason = "an allocator of two closures is best read as what it is")]

use std::cell::Cell;

use tidelock::{
    Buffer, Error, Stack, State,
    alloc::{AllocError, Allocator, ClosureAlloc, HostAlloc},
    driver::Code,
    location::{Host, Pinned},
    sim::{self, SimBackend},
    stream::StreamOptions,
};

use super::{no_memory, on_a_stream, pinned_memory, put, read_back, refused};

#[test]
fn huge_and_empty_requests() {
    let isize_max = isize::MAX as usize;
    let huge = |location| no_memory(location, isize_max);
    let large = |operand| Error::TooLarge { operand };
    assert_eq!(Buffer::<u8, Host>::zeros(usize::MAX).unwrap_err(), large("host"));
    assert_eq!(Buffer::<u64, Host>::zeros(isize_max).unwrap_err(), large("host"));
    assert!(huge("host")(Buffer::<u8, Host>::zeros(isize_max).unwrap_err()));
    assert_eq!(Buffer::<u8, Pinned<SimBackend>>::zeros(usize::MAX).unwrap_err(), large("pinned"));
    assert!(huge("pinned")(Buffer::<u8, Pinned<SimBackend>>::zeros(isize_max).unwrap_err()));
    assert_eq!(Buffer::<u32, Host>::from_fn(usize::MAX / 4, |_| 0).unwrap_err(), large("host"));
    on_a_stream(|device, stream| {
        let ctx = stream.ctx();
        let (pool, sync) = (ctx.with_pool(), ctx.with_device_alloc(ctx.sync_alloc()));
        let stack = Stack::new(ctx.pool());
        let arena = ctx.with_device_alloc(&stack);
        for len in [usize::MAX, isize_max + 1] {
            refused(device, large("device"), || pool.zeros::<u8>(len));
            refused(device, large("device"), || sync.zeros::<u8>(len));
            refused(device, large("device"), || arena.zeros::<u8>(len));
            refused(device, large("device"), || State::<u8, _>::zeros(&pool, len));
        }
        refused(device, large("device"), || pool.alloc::<u64>(1 << 61));
        for answer in
            [pool.zeros::<u8>(isize_max).err(), sync.zeros::<u8>(isize_max).err(), arena.zeros::<u8>(isize_max).err()]
        {
            assert!(answer.is_some_and(huge("device")));
        }
        assert_eq!(stack.usage().in_use, 0);
        let empty = pool.zeros::<u64>(0).unwrap();
        assert_eq!((empty.len(), empty.view().slice(..).unwrap().len()), (0, 0));
    });
}

#[test]
fn a_ring_larger_than_the_address_space_is_no_ring() {
    let _turn = pinned_memory();
    let device = sim::Device::default();
    for bytes in [usize::MAX, 1 << 63, isize::MAX as usize] {
        device
            .stream_with(&StreamOptions::default().ring_bytes(bytes), |mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.zeros::<u32>(1000).unwrap();
                let error = ctx.upload(&[7; 1000], x.view_mut()).unwrap_err();
                assert!(matches!(error, Error::OutOfMemory { location: "pinned", .. }), "{error}");
                assert_eq!(read_back(&mut stream, x.view()), [0; 1000]);
            })
            .unwrap();
    }
    assert!(device.gpu().report().is_clean());
}

/// A host allocator that refuses the `nth` request and every later one with `error`.
fn failing(
    nth: u32,
    error: AllocError,
) -> ClosureAlloc<
    Host,
    impl Fn(core::alloc::Layout) -> Result<core::ptr::NonNull<u8>, AllocError>,
    impl Fn(core::ptr::NonNull<u8>, core::alloc::Layout),
> {
    let asked = Cell::new(0);
    // SAFETY:
    // - All memory is that of `HostAlloc`, which keeps the contract.
    unsafe {
        ClosureAlloc::new(
            move |layout| {
                asked.set(asked.get() + 1);
                if asked.get() < nth { HostAlloc.alloc(layout) } else { Err(error) }
            },
            |ptr, layout| HostAlloc.dealloc(ptr, layout),
        )
    }
}

#[test]
fn an_allocator_that_fails() {
    let alloc = failing(2, AllocError::OutOfMemory);
    let first = Buffer::<u32, Host, _>::from_slice_in(&[1, 2], &alloc).unwrap();
    let error = Buffer::<u32, Host, _>::zeros_in(3, &alloc).unwrap_err();
    assert_eq!((no_memory("host", 12)(error), &first[..]), (true, &[1, 2][..]));
    let alloc = failing(1, AllocError::Driver(Code::NOT_SUPPORTED));
    let error = Buffer::<u32, Host, _>::zeros_in(3, &alloc).unwrap_err();
    assert!(matches!(error, Error::Driver(why) if why.code == Code::NOT_SUPPORTED));

    // Under an arena: the arena then has no region, keeps the size that it wants, and works again
    // when upstream does.
    let alloc = failing(2, AllocError::OutOfMemory);
    let mut stack = Stack::new(&alloc);
    drop(Buffer::<u8, Host, _>::zeros_in(1000, &stack).unwrap());
    assert!(no_memory("host", 1024)(stack.reset().unwrap_err()));
    assert_eq!((stack.usage().capacity, stack.usage().peak), (0, 0));
    assert!(no_memory("host", 1024)(stack.reset().unwrap_err()));
    let error = Buffer::<u8, Host, _>::zeros_in(10, &stack).unwrap_err();
    assert!(no_memory("host", 10)(error));
    assert_eq!(stack.usage().in_use, 0);
}

#[test]
fn a_memory_limit_in_the_middle_of_an_iteration() {
    let _turn = pinned_memory();
    let device = sim::Device::new(sim::Options::quick().memory_limit(64 << 10));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut state = State::new(put(&ctx, &[1; 2048]), put(&ctx, &[2; 2048])).unwrap();
            let mut stack = Stack::new(ctx.pool());
            for round in 0..6 {
                let ctx = stream.ctx().with_device_alloc(&stack);
                let step = state.step(|front, mut back| {
                    let mut scratch = ctx.zeros::<u32>(2048)?;
                    ctx.copy(front, scratch.view_mut())?;
                    if round % 2 == 0 {
                        let more = ctx.zeros::<u8>(48 << 10)?;
                        drop(more);
                    }
                    ctx.copy(scratch.view(), back.reborrow())
                });
                if round % 2 == 0 {
                    assert!(step.is_err_and(no_memory("device", 48 << 10)));
                } else {
                    assert_eq!(step, Ok(()));
                }
                stack.reset().unwrap();
            }
            drop(stack);
            let front = state.front();
            let mut values = vec![0_u32; 2048];
            stream.host_scope(|scope| scope.ctx().copy(front, scope.target(&mut values))).unwrap().unwrap();
            assert_eq!(values, [1; 2048]);
        })
        .unwrap();
    assert!(device.gpu().report().is_clean());
}
