//! Values that are moved into a kernel on the simulated device, and dropped there.

use std::time::{Duration, Instant};

use tidelock::{
    Buffer, Ctx, Result, Stream,
    location::Pinned,
    sim::{self, Device, Sim, SimBackend},
    stream::Detached,
};

use crate::{Gate, assert_clean, within};

const SOON: Duration = Duration::from_secs(20);

/// A device with the race detector on.
fn watched() -> Device {
    Device::new(sim::Options::quick().race_detector(true))
}

/// Memory that a kernel has written, detached from a stream of `device` that has ended.
fn detached(device: &Device) -> Buffer<u32, Detached<SimBackend>> {
    let written = device.stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(1000)?;
        ctx.launch((x.view_mut(),), |(x,)| x.fill(3))?;
        Ok(ctx.detach(x)?)
    });
    written.and_then(|written: Result<_>| written).unwrap()
}

/// Launches a kernel that only drops `value`.
fn drop_in_a_kernel<A>(ctx: Ctx<'_, Sim<'_>, A>, value: impl Send + 'static) {
    ctx.launch((0_u32,), move |_| drop(value)).unwrap();
}

/// Asserts that the device holds nothing, and that no race was found.
fn is_empty(device: &Device) {
    assert_clean(device);
    device.gpu().check().unwrap();
}

#[test]
fn detached_and_shared_memory_dropped_in_a_kernel_is_freed() {
    for _ in 0..20 {
        let device = watched();
        device
            .stream(|mut stream, _env| {
                let (plain, shared) = (detached(&device), detached(&device).share());
                let nothing = stream.ctx().detach(stream.ctx().with_pool().zeros::<u32>(0).unwrap()).unwrap();
                let before = device.gpu().report();
                assert_eq!(before.allocations, 2);
                drop_in_a_kernel(stream.ctx(), (plain, shared, nothing));
                stream.synchronize().unwrap();
                let after = device.gpu().report();
                // The stream keeps the event of `nothing`, which it records again.
                assert_eq!((after.allocations, before.events - after.events), (0, 2));
                assert_eq!(stream.leaked_bytes(), 0);
            })
            .unwrap();
        is_empty(&device);
    }
}

/// Waits, without a driver call, until `device` has this number of allocations.
fn until_there_are(allocations: usize, device: &Device) {
    let start = Instant::now();
    while device.gpu().report().allocations != allocations {
        assert!(start.elapsed() < SOON, "{:?}", device.gpu().report());
        std::thread::yield_now();
    }
}

/// Detaches memory whose event lies behind a closed gate, drops it in a kernel of `other`, and
/// opens the gate. `freed` asserts that the memory is freed then.
fn dropped_before_its_event(device: &Device, other: &Device, freed: fn(&Device, &mut Stream<Sim<'_>>)) {
    device
        .stream(|mut stream, _env| {
            let gate = Gate::close(&stream.ctx());
            let mut x = stream.ctx().with_pool().zeros::<u32>(1000).unwrap();
            stream.ctx().launch((x.view_mut(),), |(x,)| x.fill(3)).unwrap();
            let memory = stream.ctx().detach(x).unwrap();
            other
                .stream(|mut another, _env| {
                    drop_in_a_kernel(another.ctx(), memory);
                    // The kernel does not wait: the gate opens after it.
                    another.synchronize().unwrap();
                    assert_eq!(device.gpu().report().allocations, 1, "freed while a kernel writes it");
                })
                .unwrap();
            assert_eq!(device.gpu().report().allocations, 1);
            drop(gate);
            freed(device, &mut stream);
        })
        .unwrap();
    is_empty(device);
    is_empty(other);
}

#[test]
fn memory_dropped_in_a_kernel_before_its_event_is_freed_behind_it() {
    within(SOON, || {
        let one = watched();
        let by_the_stream = |device: &Device, _: &mut Stream<Sim<'_>>| until_there_are(0, device);
        let by_who_waits = |device: &Device, stream: &mut Stream<Sim<'_>>| {
            stream.synchronize().unwrap();
            assert_eq!(device.gpu().report().allocations, 0);
        };
        dropped_before_its_event(&one, &one, by_the_stream);
        dropped_before_its_event(&one, &one, by_who_waits);
        // A kernel of another device does not wait either.
        dropped_before_its_event(&one, &watched(), by_the_stream);
        dropped_before_its_event(&one, &watched(), by_who_waits);
    });
}

#[test]
fn shared_memory_ends_in_the_kernel_that_drops_it_last() {
    let device = watched();
    let shared = detached(&device).share();
    for _ in 0..3 {
        device
            .stream(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut sum = ctx.zeros::<u32>(1).unwrap();
                let x = ctx.attach(shared.clone()).unwrap();
                let args = (sum.view_mut(), x.view());
                ctx.launch(args, |(sum, x)| sum[0] = x.iter().sum()).unwrap();
            })
            .unwrap();
    }
    device
        .stream(|mut stream, _env| {
            drop_in_a_kernel(stream.ctx(), shared);
            stream.synchronize().unwrap();
        })
        .unwrap();
    is_empty(&device);
}

#[test]
fn memory_of_a_kernel_that_panics_is_freed_and_that_of_one_that_never_runs_is_reported() {
    let device = watched();
    let (one, other) = (detached(&device), detached(&device));
    let broken = device.stream(|stream, _env| {
        let gate = Gate::close(&stream.ctx());
        let kernel = move |_| {
            let _one = one;
            panic!("on purpose")
        };
        stream.ctx().launch((0_u32,), kernel).unwrap();
        drop_in_a_kernel(stream.ctx(), other);
        drop(gate);
    });
    broken.unwrap_err();
    until_there_are(1, &device);
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.sticky.is_some()), (1, true));
    device.gpu().check().unwrap();
}

#[test]
fn pinned_memory_dropped_in_a_kernel_goes_back_to_the_pool() {
    let device = watched();
    let pinned = |len| Buffer::<u32, Pinned<SimBackend>>::from_fn(len, |_| 1).unwrap();
    // A size that no other test uses, so that the pool has one piece of it.
    const LEN: usize = 200_000;
    let mut places = std::collections::BTreeSet::new();
    // Another test may have the pool give its block back, or its block taken, a few times.
    for _ in 0..60 {
        let memory = pinned(LEN);
        places.insert(memory.as_ptr().addr());
        let memory = device
            .stream(|mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.zeros::<u32>(LEN)?;
                let memory = memory.stage(&ctx);
                ctx.copy(memory.view(), x.view_mut())?;
                let memory = memory.reclaim(&stream.synchronize()?);
                drop_in_a_kernel(stream.ctx(), memory);
                Ok::<_, tidelock::Error>(())
            })
            .unwrap();
        memory.unwrap();
    }
    assert!(places.len() < 20, "the pool grows: {places:?}");
    is_empty(&device);
}
