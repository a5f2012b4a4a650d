//! Failures of the driver.

use tidelock::{
    BatchCopy, Buffer, Error, Stack, State,
    driver::{Backend, Code},
    location::Pinned,
    sim::{self, Call, Fault, SimBackend},
};

use tidelock_test_support::memory::cleared;

use super::{no_memory, on_a_stream, put, read_back};

fn fault(call: Call, code: Code) -> Fault {
    Fault { nth: 1, onwards: false, call: Some(call), code }
}

#[test]
fn a_driver_that_refuses_an_allocation() {
    on_a_stream(|device, stream| {
        let engine = device.gpu();
        let ctx = stream.ctx().with_pool();
        let sync = ctx.with_device_alloc(ctx.sync_alloc());
        let no_memory = no_memory("device", 40);
        engine.fail(Fault { onwards: true, ..fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY) });
        assert!(no_memory(ctx.zeros::<u32>(10).unwrap_err()));
        engine.fail(Fault { onwards: true, ..fault(Call::MemAlloc, Code::OUT_OF_MEMORY) });
        assert!(no_memory(sync.zeros::<u32>(10).unwrap_err()));
        // A call that is refused once succeeds the next time.
        engine.fail(fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY));
        assert_eq!(ctx.zeros::<u32>(10).unwrap().len(), 10);
        engine.fail(fault(Call::MemAllocFromPoolAsync, Code::NOT_SUPPORTED));
        assert!(matches!(ctx.zeros::<u32>(10).unwrap_err(), Error::Driver(why) if why.code == Code::NOT_SUPPORTED));

        // The second of two fails: the first is freed.
        engine.fail(Fault { nth: 2, onwards: true, ..fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY) });
        let before = engine.report().allocations;
        assert!(no_memory(State::<u32, _>::zeros(&ctx, 10).unwrap_err()));
        assert_eq!(engine.report().allocations, before);

        let mut stack = Stack::new(ctx.pool());
        engine.disarm();
        drop(ctx.with_device_alloc(&stack).zeros::<u8>(700).unwrap());
        engine.fail(Fault { onwards: true, ..fault(Call::MemAllocFromPoolAsync, Code::OUT_OF_MEMORY) });
        assert!(super::no_memory("device", 768)(stack.reset().unwrap_err()));
        engine.disarm();
        stack.reset().unwrap();
        assert_eq!(stack.usage().capacity, 768);
        engine.disarm();
    });
}

#[test]
fn a_driver_that_refuses_work() {
    on_a_stream(|device, stream| {
        let engine = device.gpu();
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

        // What was moved in is handed back.
        refuse(Call::MemsetD8Async);
        let empty = ctx.alloc::<u32>(3).unwrap();
        let place = empty.as_ptr();
        let rejected = ctx.init_zeros(empty).unwrap_err();
        is(rejected.error, Call::MemsetD8Async);
        assert_eq!(rejected.value.as_ptr(), place);
        refuse(Call::MemcpyAsync);
        let rejected = ctx.init_from(rejected.value, x.view()).unwrap_err();
        is(rejected.error, Call::MemcpyAsync);
        let z = ctx.init_from(rejected.value, x.view()).unwrap();
        assert_eq!(z.as_ptr().addr(), place.addr());

        assert_eq!(read_back(stream, y.view()), [1, 5, 6]);
        assert_eq!(read_back(stream, z.view()), [1, 2, 3]);
    });
}

#[test]
fn a_driver_that_refuses_a_fence_or_a_wait() {
    on_a_stream(|device, stream| {
        let engine = device.gpu();
        let ctx = stream.ctx();
        let staged = Buffer::<u32, Pinned<SimBackend>>::from_slice(&[1, 2, 3]).unwrap().stage(&ctx);
        // Takes all events of the stream, so that the next fence needs a new one.
        let in_use: Vec<_> = (0..8).map(|_| ctx.fence(cleared(&ctx)).unwrap()).collect();
        for call in [Call::EventCreate, Call::EventRecord] {
            let one = cleared(&ctx);
            engine.fail(fault(call, Code::OUT_OF_MEMORY));
            let rejected = ctx.fence(one).unwrap_err();
            assert!(matches!(rejected.error, Error::Driver(why) if why.call == call.name()));
            let one = ctx.fence(rejected.value).unwrap().wait().unwrap();
            assert_eq!(&one[..], [0]);
        }
        drop((in_use, cleared(&ctx)));
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
    // Larger than any piece that another test leaves in the pool.
    let bytes = 64 << 20;
    let no_memory = no_memory("pinned", bytes);
    on_a_stream(|_, stream| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u8>(bytes).unwrap();
        SimBackend::PINNED.trim(0).unwrap();
        let refused = Fault { onwards: true, ..fault(Call::MemHostAlloc, Code::OUT_OF_MEMORY) };
        sim::with_pinned_faults(Some(refused), || {
            assert!(no_memory(Buffer::<u8, Pinned<SimBackend>>::zeros(bytes).unwrap_err()));
            assert!(no_memory(ctx.alloc_pinned::<u8>(bytes).unwrap_err()));
            assert!(no_memory(SimBackend::PINNED.reserve(bytes).unwrap_err()));
        });
        // An upload of any size needs the ring.
        let upload = || ctx.upload(&vec![1; bytes], x.view_mut()).unwrap_err();
        let (answer, calls) = sim::with_pinned_faults(Some(refused), upload);
        assert!(super::no_memory("pinned", 1 << 20)(answer));
        assert_eq!(calls, [Call::MemHostAlloc], "one attempt to pin");
        assert_eq!(ctx.alloc_pinned::<u8>(10).unwrap().len(), 10);
    });
}

#[test]
fn a_stream_that_cannot_be_opened() {
    let device = sim::Device::default();
    for call in [Call::MemPoolCreate, Call::StreamCreate] {
        device.gpu().fail(fault(call, Code::OUT_OF_MEMORY));
        let error = device.stream(|_, _| unreachable!("no stream")).unwrap_err();
        assert!(matches!(error, Error::Driver(why) if (why.call, why.code) == (call.name(), Code::OUT_OF_MEMORY)));
        assert!(device.gpu().report().is_clean(), "a pool that was created is destroyed");
    }
    device.stream(|_, _| ()).unwrap();
}
