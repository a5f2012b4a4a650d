//! Bad input: each refused call is a typed error that names the operand, enqueues nothing, changes nothing, hands back what
//! was moved into it, and leaves the stream usable.

#![allow(clippy::type_complexity, reason = "an allocator of two closures is best read as what it is")]

use std::{
    cell::Cell,
    num::NonZero,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tidelock::{
    AllocError, Allocator, BatchCopy, Buffer, ClosureAlloc, Code, Ctx, Error, Host, HostAlloc, Indices, Offsets,
    Permutation, Pinned, Ragged, Sim, Stack, State, Stream, StreamAlloc, StreamOptions, View, sim,
    sim::{Call, Fault, SimBackend},
};

type Pool<'s> = StreamAlloc<Sim<'s>>;

/// The pool of pinned memory is the process's, and one test makes it fail: whoever uses it takes turns.
fn pinned_memory() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn width(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

fn put<'s>(ctx: &Ctx<'_, Sim<'s>, Pool<'s>>, values: &[u32]) -> Buffer<u32, Sim<'s>> {
    let mut x = ctx.zeros(values.len()).unwrap();
    ctx.upload(values, x.view_mut()).unwrap();
    x
}

fn get<'s>(stream: &mut Stream<Sim<'s>>, x: &Buffer<u32, Sim<'s>>) -> Vec<u32> {
    let mut values = vec![0; x.len()];
    stream.host_scope(|scope| scope.ctx().copy(x.view(), scope.target(&mut values))).unwrap().unwrap();
    values
}

/// Runs `refused`, which must answer with `error` without a driver call.
#[track_caller]
fn refused<R>(device: &sim::Device, error: Error, refused: impl FnOnce() -> Result<R, Error>) {
    let before = device.engine().counts();
    assert_eq!(refused().err(), Some(error));
    assert_eq!((device.engine().counts() - before).total(), 0, "a refused call reached the driver");
}

/// Opens a stream, runs `f`, and asserts that the stream still works and nothing is lost.
fn on_a_stream(f: impl for<'s> FnOnce(&sim::Device, &mut Stream<Sim<'s>>)) {
    let _turn = pinned_memory();
    let device = sim::Device::default();
    device
        .stream(|mut stream, _env| {
            f(&device, &mut stream);
            assert_eq!(stream.leaked_bytes(), 0);
            let x = put(&stream.ctx().with_pool(), &[1, 2, 3]);
            assert_eq!(get(&mut stream, &x), [1, 2, 3]);
        })
        .unwrap();
    let report = device.engine().report();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn permutations() {
    let index = |position, index, rows| Err(Error::Index { operand: "permutation", position, index, rows });
    let check = |rows: &[u32], old, joining| Permutation::new(rows, old, joining).map(Permutation::len);
    assert_eq!(check(&[0, 3], 3, 0), index(1, 3, 3));
    assert_eq!(check(&[4, 0], 3, 1), index(0, 4, 4));
    assert_eq!(check(&[0], 0, 0), index(0, 0, 0));
    assert_eq!(check(&[u32::MAX], 5, 5), index(0, u32::MAX as usize, 10));
    assert_eq!(check(&[0, 1, 2, 9, 8], 3, 0), index(3, 9, 3));
    assert_eq!(check(&[0], usize::MAX, 1), Err(Error::TooLarge { operand: "permutation" }));
    assert_eq!(check(&[0, 0, 3], 3, 1), Ok(3));
    assert_eq!(check(&[], 0, 0), Ok(0));
    let error = Indices::new(&[1, 2], 2, "slots").unwrap_err();
    assert_eq!(error.to_string(), "`slots`[1] is 2, but there are 2 rows");
}

#[test]
fn offsets() {
    let offsets = |position, value| Error::Offsets { operand: "pages", position, value };
    let check = |table: &[u32]| Offsets::new(table, "pages").map(Offsets::rows);
    assert_eq!(check(&[1, 2]), Err(offsets(0, 1)));
    assert_eq!(check(&[0, 5, 4]), Err(offsets(2, 4)));
    assert_eq!(check(&[0, u32::MAX, 0]), Err(offsets(2, 0)));
    assert_eq!(check(&[]), Err(Error::Length { operand: "pages", expected: 1, found: 0 }));
    assert_eq!((check(&[0]), check(&[0, 0, 0])), (Ok(0), Ok(2)));
    let x = Buffer::<u32, Host>::zeroed(9).unwrap();
    let beyond = x.view().ragged(Offsets::new(&[0, 10], "pages").unwrap()).unwrap_err();
    assert_eq!(beyond, Error::Length { operand: "ragged rows", expected: 10, found: 9 });
    let beyond = x.view().ragged(Offsets::new(&[0, 3, u32::MAX], "pages").unwrap()).unwrap_err();
    assert_eq!(beyond, Error::Length { operand: "ragged rows", expected: u32::MAX as usize, found: 9 });
}

#[test]
fn lengths_of_copies() {
    on_a_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &[1, 2, 3, 4]), put(&ctx, &[5, 6, 7]));
        let length = |expected, found| Error::Length { operand: "dst", expected, found };
        refused(device, length(4, 3), || ctx.copy(x.view(), y.view_mut()));
        refused(device, length(2, 3), || ctx.upload(&[1, 2], y.view_mut()));
        refused(device, length(0, 3), || ctx.upload(&[], y.view_mut()));

        let empty = ctx.device::<u32>(7).unwrap();
        let place = empty.as_ptr();
        let rejected = ctx.init(empty, x.view()).unwrap_err();
        assert_eq!((rejected.error, rejected.value.as_ptr()), (length(4, 7), place));
        let zeroed = ctx.zero(rejected.value).unwrap();

        let mut batch = BatchCopy::new();
        refused(device, length(4, 3), || batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())));
        refused(device, length(4, 3), || batch.scope(&ctx, |b| b.group(|g| g.copy(x.view(), y.view_mut()))));
        refused(device, length(4, 3), || batch.scope(&ctx, |b| b.group(|g| g.copy_unmerged(x.view(), y.view_mut()))));
        assert_eq!((batch.stats().submitted, batch.stats().submissions), (0, 0));

        let rejected = State::new(x, y).unwrap_err();
        assert_eq!(rejected.error, Error::Length { operand: "back", expected: 4, found: 3 });
        let (x, y) = rejected.value;
        assert_eq!(
            (get(stream, &x), get(stream, &y), get(stream, &zeroed)),
            (vec![1, 2, 3, 4], vec![5, 6, 7], vec![0; 7])
        );
    });
}

/// Runs one warp on fresh memory; returns its error, and asserts that it changed nothing.
fn warp_error(
    f: impl for<'b, 'e, 's> Fn(
        &mut tidelock::Group<'b, 'e, Sim<'s>>,
        View<'e, u32, Sim<'s>>,
        View<'e, u32, Sim<'s>>,
        tidelock::ViewMut<'e, u32, Sim<'s>>,
    ) -> Result<(), Error>,
) -> Error {
    let seen = Cell::new(None);
    on_a_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let (x, y, mut z) = (put(&ctx, &[1; 12]), put(&ctx, &[2; 6]), put(&ctx, &[3; 12]));
        let mut batch = BatchCopy::new();
        let before = device.engine().counts();
        let answer = batch.scope(&ctx, |b| {
            // The failed group is swallowed, and what it had added is not submitted with the copy beside it.
            let answer = b.group(|g| f(g, x.view(), y.view(), z.view_mut()));
            seen.set(answer.err());
            Ok::<_, Error>(())
        });
        assert_eq!((answer, (device.engine().counts() - before).total()), (Ok(()), 0));
        assert_eq!(get(stream, &z), [3; 12]);
    });
    seen.into_inner().expect("not refused")
}

#[test]
fn shapes_of_a_warp() {
    let length = |operand, expected, found| Error::Length { operand, expected, found };
    let (p, three) = (Permutation::new(&[2, 0], 4, 0).unwrap(), width(3));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(width(4))?, p, z.rows(width(4))?.first(2)?));
    assert_eq!(error, length("src", 4, 3));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(three)?, p, z.rows(three)?));
    assert_eq!(error, length("dst", 2, 4));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(three)?, p, z.rows(width(4))?.first(2)?));
    assert_eq!(error, length("dst row", 3, 4));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(width(5))?, p, z.rows(three)?));
    assert_eq!(error, length("rows", 10, 12));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(three)?, p, z.rows(three)?.first(5)?));
    assert_eq!(error, Error::OutOfRange { operand: "view" });

    let p = Permutation::new(&[5, 0, 4], 4, 2).unwrap();
    let error =
        warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(three)?.first(1)?, p, z.rows(three)?.first(3)?));
    assert_eq!(error, length("joining", 2, 1));
    let error =
        warp_error(|g, x, y, z| g.warp_join(x.rows(three)?.first(3)?, y.rows(three)?, p, z.rows(three)?.first(3)?));
    assert_eq!(error, length("src", 4, 3));
    let error = warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(three)?, p, z.rows(three)?));
    assert_eq!(error, length("dst", 3, 4));
    let error =
        warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(width(2))?.first(2)?, p, z.rows(three)?.first(3)?));
    assert_eq!(error, length("joining row", 3, 2));
    let error = warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(three)?, p, z.rows(width(4))?));
    assert_eq!(error, length("dst row", 3, 4));
}

#[test]
fn shapes_of_a_ragged_warp() {
    let length = |operand, expected, found| Error::Length { operand, expected, found };
    let (old, new) = (Offsets::new(&[0, 5, 5, 12], "old").unwrap(), Offsets::new(&[0, 6], "new").unwrap());
    let attempt = |rows: &'static [u32], counts: (usize, usize), room: usize, mut offsets: Vec<u32>| {
        let before = offsets.clone();
        let offsets = Cell::new(&mut offsets[..]);
        let error = warp_error(|g, x, y, z| {
            let p = Permutation::new(rows, counts.0, counts.1)?;
            let table = offsets.take();
            let answer = g.warp_ragged(x.ragged(old)?, y.ragged(new)?, p, z.slice(..room)?, table);
            offsets.set(table);
            answer.map(drop)
        });
        assert_eq!(offsets.into_inner(), before, "offsets of a refused warp");
        error
    };
    assert_eq!(attempt(&[0], (2, 1), 12, vec![9; 2]), length("src", 2, 3));
    assert_eq!(attempt(&[0], (3, 2), 12, vec![9; 2]), length("joining", 2, 1));
    assert_eq!(attempt(&[0], (3, 1), 12, vec![9; 1]), length("offsets", 2, 1));
    assert_eq!(attempt(&[0], (3, 1), 12, vec![9; 3]), length("offsets", 2, 3));
    let room = |row, found, room| Error::Room { operand: "dst", row, found, room };
    assert_eq!(attempt(&[2, 0, 3], (3, 1), 12, vec![9; 4]), room(2, 6, 0));
    assert_eq!(attempt(&[1, 2], (3, 1), 6, vec![9; 3]), room(1, 7, 6));
}

#[test]
fn shapes_of_an_append() {
    let length = |operand, expected, found| Error::Length { operand, expected, found };
    let new = Offsets::new(&[0, 2, 6], "new").unwrap();
    struct Shape {
        rows: &'static [u32],
        sizes: &'static [u32],
        tokens: usize,
        joining: usize,
        dst: (usize, usize),
        dst_sizes: usize,
    }
    let good = Shape { rows: &[2, 0, 3], sizes: &[2, 0, 1], tokens: 3, joining: 2, dst: (4, 3), dst_sizes: 3 };
    let attempt = |shape: &Shape| {
        let Shape { rows, sizes, tokens, joining, dst, dst_sizes } = *shape;
        let mut table = vec![77_u32; dst_sizes];
        let cell = Cell::new(&mut table[..]);
        let error = warp_error(|g, x, y, z| {
            let p = Permutation::new(rows, 3, joining)?;
            let table = cell.take();
            let answer = g.append(
                x.rows(width(4))?,
                sizes,
                y.slice(..tokens)?,
                y.ragged(new)?,
                p,
                z.rows(width(dst.0))?.first(dst.1)?,
                table,
            );
            cell.set(table);
            answer
        });
        assert!(cell.into_inner().iter().all(|size| *size == 77), "sizes of a refused append");
        error
    };
    assert_eq!(attempt(&Shape { sizes: &[2, 0], ..good }), length("sizes", 3, 2));
    assert_eq!(attempt(&Shape { tokens: 4, ..good }), length("tokens", 3, 4));
    assert_eq!(attempt(&Shape { joining: 3, ..good }), length("joining", 3, 2));
    assert_eq!(attempt(&Shape { dst: (4, 2), ..good }), length("dst", 3, 2));
    assert_eq!(attempt(&Shape { dst_sizes: 4, ..good }), length("dst_sizes", 3, 4));
    let room = |operand, row, found, room| Error::Room { operand, row, found, room };
    assert_eq!(attempt(&Shape { sizes: &[2, 0, 5], ..good }), room("history", 0, 5, 4));
    assert_eq!(attempt(&Shape { sizes: &[4, 0, 1], ..good }), room("dst", 1, 5, 4));
    assert_eq!(attempt(&Shape { sizes: &[u32::MAX, 0, 1], ..good }), room("history", 1, u32::MAX as usize, 4));
    assert_eq!(attempt(&Shape { rows: &[3, 4, 0], dst: (3, 3), ..good }), room("dst", 1, 4, 3));
}

#[test]
fn a_ragged_view_of_nothing_has_no_rows() {
    let x = Buffer::<u32, Host>::zeroed(0).unwrap();
    let rows: Ragged<'_, u32, Host> = x.view().ragged(Offsets::new(&[0], "none").unwrap()).unwrap();
    assert_eq!((rows.count(), rows.row_len(0)), (0, None));
    assert_eq!(x.view().rows(width(7)).unwrap().count(), 0);
}

#[test]
fn huge_and_empty_requests() {
    let isize_max = isize::MAX as usize;
    let huge = |location| Error::OutOfMemory { location, bytes: isize_max };
    let large = |operand| Error::TooLarge { operand };
    assert_eq!(Buffer::<u8, Host>::zeroed(usize::MAX).unwrap_err(), large("host"));
    assert_eq!(Buffer::<u64, Host>::zeroed(isize_max).unwrap_err(), large("host"));
    assert_eq!(Buffer::<u8, Host>::zeroed(isize_max).unwrap_err(), huge("host"));
    assert_eq!(Buffer::<u8, Pinned<SimBackend>>::zeroed(usize::MAX).unwrap_err(), large("pinned"));
    assert_eq!(Buffer::<u8, Pinned<SimBackend>>::zeroed(isize_max).unwrap_err(), huge("pinned"));
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
        refused(device, large("device"), || pool.device::<u64>(1 << 61));
        for answer in
            [pool.zeros::<u8>(isize_max).err(), sync.zeros::<u8>(isize_max).err(), arena.zeros::<u8>(isize_max).err()]
        {
            assert_eq!(answer, Some(huge("device")));
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
                assert_eq!(get(&mut stream, &x), [0; 1000]);
            })
            .unwrap();
    }
    assert!(device.engine().report().is_clean());
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
    // - What is given out comes from `HostAlloc`, which keeps the contract.
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
    let error = Buffer::<u32, Host, _>::zeroed_in(3, &alloc).unwrap_err();
    assert_eq!((error, &first[..]), (Error::OutOfMemory { location: "host", bytes: 12 }, &[1, 2][..]));
    let alloc = failing(1, AllocError::Driver(Code::NOT_SUPPORTED));
    let error = Buffer::<u32, Host, _>::zeroed_in(3, &alloc).unwrap_err();
    assert!(matches!(error, Error::Driver(why) if why.code == Code::NOT_SUPPORTED));

    // Under an arena: the arena is then without a region, remembers its peak, and works again when upstream does.
    let alloc = failing(2, AllocError::OutOfMemory);
    let mut stack = Stack::new(&alloc);
    drop(Buffer::<u8, Host, _>::zeroed_in(1000, &stack).unwrap());
    assert_eq!(stack.iter().unwrap_err(), Error::OutOfMemory { location: "host", bytes: 1024 });
    assert_eq!((stack.usage().capacity, stack.usage().peak), (0, 1024));
    let error = Buffer::<u8, Host, _>::zeroed_in(10, &stack).unwrap_err();
    assert_eq!(error, Error::OutOfMemory { location: "host", bytes: 10 });
    assert_eq!(stack.usage().in_use, 0);
}

fn fault(call: Call, code: Code) -> Fault {
    Fault { nth: 1, onwards: false, call: Some(call), code }
}

#[test]
fn a_driver_that_refuses_an_allocation() {
    on_a_stream(|device, stream| {
        let engine = device.engine();
        let ctx = stream.ctx().with_pool();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let no_memory = Error::OutOfMemory { location: "device", bytes: 40 };
        engine.fail(fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY));
        assert_eq!(ctx.zeros::<u32>(10).unwrap_err(), no_memory);
        engine.fail(fault(Call::MemAlloc, Code::OUT_OF_MEMORY));
        assert_eq!(sync.zeros::<u32>(10).unwrap_err(), no_memory);
        engine.fail(fault(Call::MemAllocFromPoolAsync, Code::NOT_SUPPORTED));
        assert!(matches!(ctx.zeros::<u32>(10).unwrap_err(), Error::Driver(why) if why.code == Code::NOT_SUPPORTED));

        // The second of two: the first is given back.
        engine.fail(Fault { nth: 2, ..fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY) });
        let before = engine.report().allocations;
        assert_eq!(State::<u32, _>::zeros(&ctx, 10).unwrap_err(), no_memory);
        assert_eq!(engine.report().allocations, before);

        let mut stack = Stack::new(ctx.pool());
        drop(ctx.with_device_alloc(&stack).zeros::<u8>(700).unwrap());
        engine.fail(fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY));
        assert_eq!(stack.iter().unwrap_err(), Error::OutOfMemory { location: "device", bytes: 768 });
        stack.iter().unwrap();
        assert_eq!(stack.usage().capacity, 768);
        engine.disarm();
    });
}

#[test]
fn a_driver_that_refuses_work() {
    on_a_stream(|device, stream| {
        let engine = device.engine();
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &[1, 2, 3]), put(&ctx, &[4, 5, 6]));
        let refuse = |call: Call| engine.fail(fault(call, Code::INVALID_VALUE));
        let is = |error: Error, call: Call| {
            assert!(
                matches!(error, Error::Driver(why) if (why.call, why.code) == (call.name(), Code::INVALID_VALUE)),
                "{error}"
            );
        };

        refuse(Call::MemcpyAsync);
        is(ctx.copy(x.view(), y.view_mut()).unwrap_err(), Call::MemcpyAsync);
        refuse(Call::MemcpyAsync);
        is(ctx.upload(&[9, 9, 9], y.view_mut()).unwrap_err(), Call::MemcpyAsync);
        refuse(Call::MemsetD8Async);
        is(ctx.clear(y.view_mut()).unwrap_err(), Call::MemsetD8Async);
        refuse(Call::LaunchKernel);
        is(ctx.launch((y.view_mut(),), |(y,)| y.fill(9)).unwrap_err(), Call::LaunchKernel);
        let mut batch = BatchCopy::new();
        refuse(Call::MemcpyBatchAsync);
        is(batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())).unwrap_err(), Call::MemcpyBatchAsync);
        assert_eq!(batch.stats().submissions, 0);
        let mut state = State::new(put(&ctx, &[1]), put(&ctx, &[2])).unwrap();
        refuse(Call::MemcpyAsync);
        is(state.step(|front, back| ctx.copy(front, back)).unwrap_err(), Call::MemcpyAsync);
        ctx.copy(state.front(), y.view_mut().slice(..1).unwrap()).unwrap();

        // What was moved in comes back.
        refuse(Call::MemsetD8Async);
        let empty = ctx.device::<u32>(3).unwrap();
        let place = empty.as_ptr();
        let rejected = ctx.zero(empty).unwrap_err();
        is(rejected.error, Call::MemsetD8Async);
        assert_eq!(rejected.value.as_ptr(), place);
        refuse(Call::MemcpyAsync);
        let rejected = ctx.init(rejected.value, x.view()).unwrap_err();
        is(rejected.error, Call::MemcpyAsync);
        let z = ctx.init(rejected.value, x.view()).unwrap();
        assert_eq!(z.as_ptr().addr(), place.addr());

        assert_eq!(get(stream, &y), [1, 5, 6]);
        assert_eq!(get(stream, &z), [1, 2, 3]);
    });
}

#[test]
fn a_driver_that_refuses_a_fence_or_a_wait() {
    on_a_stream(|device, stream| {
        let engine = device.engine();
        let ctx = stream.ctx();
        let staged = Buffer::<u32, Pinned<SimBackend>>::from_slice(&[1, 2, 3]).unwrap().stage(&ctx);
        for call in [Call::EventCreate, Call::EventRecord] {
            let one = Buffer::<u8, Pinned<SimBackend>>::from_slice(&[7]).unwrap().stage(&ctx);
            engine.fail(fault(call, Code::OUT_OF_MEMORY));
            let rejected = ctx.fence((one,)).unwrap_err();
            assert!(matches!(rejected.error, Error::Driver(why) if why.call == call.name()));
            let (one,) = ctx.fence(rejected.value).unwrap().wait().unwrap();
            assert_eq!(&one[..], [7]);
        }
        let pending = ctx.fence(staged).unwrap();
        engine.fail(fault(Call::EventQuery, Code::UNKNOWN));
        assert!(matches!(pending.is_ready().unwrap_err(), Error::Driver(why) if why.code == Code::UNKNOWN));
        engine.fail(fault(Call::EventSynchronize, Code::UNKNOWN));
        let rejected = pending.wait().unwrap_err();
        assert!(matches!(rejected.error, Error::Driver(why) if why.code == Code::UNKNOWN));
        assert_eq!(&rejected.value.wait().unwrap()[..], [1, 2, 3]);

        engine.fail(fault(Call::StreamSynchronize, Code::UNKNOWN));
        assert!(matches!(stream.synchronize().unwrap_err(), Error::Driver(why) if why.code == Code::UNKNOWN));
        for call in [Call::StreamSynchronize, Call::MemPoolTrimTo] {
            engine.fail(fault(call, Code::UNKNOWN));
            assert!(matches!(stream.trim(0).unwrap_err(), Error::Driver(why) if why.call == call.name()));
        }
        engine.fail(fault(Call::StreamQuery, Code::UNKNOWN));
        stream.is_idle().unwrap_err();
        engine.fail(fault(Call::MemGetInfo, Code::UNKNOWN));
        stream.ctx().memory_info().unwrap_err();
    });
}

#[test]
fn a_driver_that_refuses_to_pin() {
    let engine = sim::pinned_engine();
    // Larger than any piece that another test leaves behind.
    let bytes = 64 << 20;
    let no_memory = Error::OutOfMemory { location: "pinned", bytes };
    on_a_stream(|_, stream| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u8>(bytes).unwrap();
        engine.fail(Fault { onwards: true, ..fault(Call::MemHostAlloc, Code::OUT_OF_MEMORY) });
        assert_eq!(Buffer::<u8, Pinned<SimBackend>>::zeroed(bytes).unwrap_err(), no_memory);
        assert_eq!(ctx.pinned::<u8>(bytes).unwrap_err(), no_memory);
        let before = engine.counts();
        assert_eq!(ctx.upload(&vec![1; bytes], x.view_mut()).unwrap_err(), no_memory);
        assert_eq!((engine.counts() - before).total(), 1, "one attempt to pin");
        engine.disarm();
        assert_eq!(ctx.pinned::<u8>(10).unwrap().len(), 10);
    });
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
                    assert_eq!(step, Err(Error::OutOfMemory { location: "device", bytes: 48 << 10 }));
                } else {
                    assert_eq!(step, Ok(()));
                }
                stack.iter().unwrap();
            }
            drop(stack);
            let front = state.front();
            let mut values = vec![0_u32; 2048];
            stream.host_scope(|scope| scope.ctx().copy(front, scope.target(&mut values))).unwrap().unwrap();
            assert_eq!(values, [1; 2048]);
        })
        .unwrap();
    assert!(device.engine().report().is_clean());
}

#[test]
fn a_stream_that_cannot_be_opened() {
    let device = sim::Device::default();
    for call in [Call::MemPoolCreate, Call::StreamCreate] {
        device.engine().fail(fault(call, Code::OUT_OF_MEMORY));
        let error = device.stream(|_, _| unreachable!("no stream")).unwrap_err();
        assert!(matches!(error, Error::Driver(why) if (why.call, why.code) == (call.name(), Code::OUT_OF_MEMORY)));
        assert!(device.engine().report().is_clean(), "a pool that was created is destroyed");
    }
    device.stream(|_, _| ()).unwrap();
}

#[test]
fn errors_say_what_was_wrong_without_a_driver() {
    let cases = [
        (Error::Length { operand: "dst", expected: 4, found: 3 }, "`dst` has 3 elements where 4 are needed"),
        (Error::OutOfRange { operand: "row" }, "a range does not lie inside `row`"),
        (Error::Index { operand: "p", position: 1, index: 7, rows: 4 }, "`p`[1] is 7, but there are 4 rows"),
        (Error::Offsets { operand: "o", position: 2, value: 1 }, "`o`[2] is 1: offsets start at 0 and never decrease"),
        (
            Error::Room { operand: "dst", row: 3, found: 9, room: 8 },
            "row 3 of `dst` needs room for 9 elements, there is room for 8",
        ),
        (Error::TooLarge { operand: "host" }, "`host` would be larger than the address space"),
        (Error::OutOfMemory { location: "device", bytes: 5 }, "no device memory left for 5 bytes"),
    ];
    for (error, words) in cases {
        assert_eq!(error.to_string(), words);
    }
}
