//! What only the simulated device has: kernels that are closures, an engine to drive by hand, failures to order.

use std::{
    mem::MaybeUninit,
    ptr,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use tidelock::{
    Buffer, Result, Stream,
    alloc::PinnedUsage,
    driver::{Code, DriverError},
    location::Pinned,
    sim::{
        self, Call, Device, Fault, Sim, SimBackend, Use,
        engine::{Memory, Task},
    },
    stream::{Env, StreamOptions},
};

use super::watch::{Objects, Place, Watch};

/// The public functions called here.
pub const COVERED: &[&str] = &[
    "sim::Engine::check",
    "sim::Engine::host_touches",
    "sim::Engine::log",
    "sim::Engine::report",
    "sim::Engine::take_log",
    "sim::Memory::resolve",
    "sim::Task::new_unchecked",
    "sim::pinned_counts",
    "sim::with_pinned_faults",
    "Ctx::launch",
    "Device::stream",
    "Device::stream_with",
    "sim::Device::new",
    "sim::Device::stream",
    "sim::Device::stream_with",
    "sim::Engine::default_pool",
    "sim::Engine::disarm",
    "sim::Engine::event_create",
    "sim::Engine::event_destroy",
    "sim::Engine::event_query",
    "sim::Engine::event_record",
    "sim::Engine::event_synchronize",
    "sim::Engine::fail",
    "sim::Engine::fail_in_turn",
    "sim::Engine::launch",
    "sim::Engine::launch_using",
    "sim::Engine::mem_alloc",
    "sim::Engine::mem_alloc_async",
    "sim::Engine::mem_free",
    "sim::Engine::mem_free_async",
    "sim::Engine::mem_get_info",
    "sim::Engine::mem_host_alloc",
    "sim::Engine::mem_host_free",
    "sim::Engine::mem_host_register",
    "sim::Engine::mem_host_unregister",
    "sim::Engine::memcpy_async",
    "sim::Engine::memcpy_batch_async",
    "sim::Engine::memset_d8_async",
    "sim::Engine::new",
    "sim::Engine::pool_create",
    "sim::Engine::pool_destroy",
    "sim::Engine::pool_set_threshold",
    "sim::Engine::pool_trim_to",
    "sim::Engine::pool_usage",
    "sim::Engine::stream_create",
    "sim::Engine::stream_destroy",
    "sim::Engine::stream_priority",
    "sim::Engine::stream_query",
    "sim::Engine::stream_synchronize",
    "sim::Engine::stream_wait_event",
    "sim::SimStream::drop",
    "sim::Task::drop",
    "sim::Task::new",
];

impl Place for Device {
    type Family = SimBackend;
    type At<'s> = Sim<'s>;
    const LONGEST: usize = 16;

    fn open<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Sim<'s>>, Env<'s, 'env, Sim<'s>>) -> R,
    ) -> Result<R> {
        self.stream_with(options, f)
    }
}

/// Calls that were to lock memory, and were refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// What a device and the pinned pool hold.
pub fn objects(device: &Device) -> Objects {
    let report = device.engine().report();
    let counts = [
        ("allocations", report.allocations),
        ("bytes", report.allocated_bytes),
        ("pinned allocations", report.pinned_allocations),
        ("pinned bytes", report.pinned_bytes),
        ("registered ranges", report.registered),
        ("streams", report.streams),
        ("events", report.events),
        ("pools", report.pools),
        ("findings", report.findings.len()),
    ];
    let mut objects: Objects = counts.map(|(kind, count)| (kind.to_owned(), count)).into_iter().collect();
    let made = sim::pinned_counts();
    let gone = made.of(Call::MemFreeHost) + REFUSED.load(SeqCst);
    let locked = made.of(Call::MemHostAlloc).saturating_sub(gone);
    objects.extend([("blocks of the pinned pool".to_owned(), usize::try_from(locked).unwrap())]);
    objects.extend(pinned::<SimBackend>());
    objects
}

/// What the pinned pool has.
pub fn pinned<B: tidelock::driver::Backend>() -> [(String, usize); 2] {
    let PinnedUsage { reserved, used, .. } = B::PINNED.usage();
    [("pinned pool, reserved".to_owned(), reserved), ("pinned pool, used".to_owned(), used)]
}

fn failed(code: Code) -> tidelock::Error {
    DriverError::new("by hand", code).into()
}

/// Kernels, failures, devices that come and go.
pub fn typed(watch: &Watch<'_>, device: &Device, turns: usize) {
    device
        .stream(|mut stream, _| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(64).unwrap();
            watch.steady("kernels", turns, || {
                let captured = [7_u32; 300];
                stream.ctx().launch((x.view_mut(), 3_u32), move |(x, n)| x[0] = n + captured[0])?;
                stream.ctx().launch((x.view_mut(),), |(x,)| x[1] += 1)?;
                stream.synchronize().map(drop)
            });
        })
        .unwrap();
    failures(watch, device, turns);
    watch.steady("pinned memory that is refused", turns / 4, || {
        let refused = Fault { nth: 1, onwards: true, call: Some(Call::MemHostAlloc), code: Code::OUT_OF_MEMORY };
        let large = || Buffer::<MaybeUninit<u8>, Pinned<SimBackend>>::uninit_in(64 << 20, Default::default());
        let (answer, calls) = sim::with_pinned_faults(Some(refused), large);
        assert!(answer.is_err());
        REFUSED.fetch_add(calls.len() as u64, SeqCst);
        Ok(())
    });
    watch.steady("devices that come and go", turns / 4, || {
        let device = Device::new(sim::Options::quick());
        device.stream(|stream, _| stream.ctx().with_pool().zeros::<u32>(64).map(drop))?
    });
}

/// Every call of a hand-over, a fence and an upload failing once.
fn failures(watch: &Watch<'_>, device: &Device, turns: usize) {
    let engine = device.engine();
    device
        .stream_with(&super::crossings::small(), |mut a, _| {
            device.stream(|mut b, _| {
                let mut at = 0;
                watch.steady("calls that fail", turns, || {
                    let (mut x, mut y) = (a.ctx().with_pool().zeros::<u32>(16)?, a.ctx().with_pool().zeros::<u32>(60)?);
                    let staged = a.ctx().alloc_pinned::<u32>(9)?.write_with(|_| 1).stage(&a.ctx());
                    at = at % 14 + 1;
                    let fault = |nth, call| Fault { nth, onwards: false, call, code: Code::UNKNOWN };
                    engine.fail_in_turn(fault(at, None), fault(1, Some(Call::EventQuery)));
                    let _ = a.ctx().upload(&[1; 16], x.view_mut());
                    let _ = a.ctx().upload(&[1; 60], y.view_mut());
                    let _ = a.ctx().lend_mut(x.view_mut(), &b.ctx(), |_| ());
                    let pending = a.ctx().fence(staged);
                    let x = a.ctx().transfer(x, &b.ctx());
                    let x = x.or_else(|refused| a.ctx().transfer(refused.value, &b.ctx()));
                    let memory = b.ctx().detach(x.map_err(|refused| refused.error)?);
                    let memory = memory.or_else(|refused| b.ctx().detach(refused.value));
                    let memory = a.ctx().attach(memory.map_err(|refused| refused.error)?);
                    drop((memory, pending.map(|pending| pending.wait().map(drop).map_err(drop))));
                    engine.disarm();
                    a.synchronize().map(drop)?;
                    b.synchronize().map(drop)
                });
            })
        })
        .unwrap()
        .unwrap();
}

/// The engine, driven by hand.
pub fn by_hand(watch: &Watch<'_>, device: &Device, turns: usize) {
    let engine = device.engine();
    watch.steady("the engine by hand", turns, || calls(engine).map_err(failed));
    watch.steady("engines that come and go", turns / 4, || {
        drop(sim::Engine::new(sim::Options::quick()));
        Ok(())
    });
}

/// A page of its own.
#[repr(align(4096))]
struct Page([u8; 4096]);

fn calls(engine: &sim::Engine) -> Result<(), Code> {
    let (stream, other) = (engine.stream_create(0)?, engine.stream_create(-1)?);
    engine.log(true);
    engine.stream_priority(stream)?;
    let pool = engine.pool_create(0)?;
    engine.pool_set_threshold(pool, 1 << 20)?;
    let (x, y) =
        (engine.mem_alloc_async(64, pool, stream)?, engine.mem_alloc_async(64, engine.default_pool()?, stream)?);
    let (z, host) = (engine.mem_alloc(64)?, engine.mem_host_alloc(64)?);
    let event = engine.event_create()?;
    let mut page = Box::new(Page([0; 4096]));
    // SAFETY: the page stays until it is unregistered, below.
    unsafe { engine.mem_host_register(page.0.as_mut_ptr(), 4096) }?;
    // SAFETY: all memory has 64 bytes, and is freed behind what uses it.
    unsafe {
        engine.memset_d8_async(x.as_ptr(), 1, 64, stream)?;
        engine.memcpy_async(y.as_ptr(), x.as_ptr(), 64, stream)?;
        engine.memcpy_async(host.as_ptr(), x.as_ptr(), 64, stream)?;
        engine.memcpy_batch_async(&[z.as_ptr()], &[x.as_ptr().cast_const()], &[64], 1, stream)?;
    }
    engine.launch(stream, Task::new(|_| Ok(())))?;
    let address = x.as_ptr().addr();
    let resolves = move |memory: &Memory| memory.resolve(ptr::without_provenance_mut(address), 64).map(drop);
    // SAFETY: it borrows nothing, and may run anywhere.
    let task = unsafe { Task::new_unchecked(resolves) };
    engine.launch_using(stream, task, &[Use::read(x.as_ptr(), 64)])?;
    engine.event_record(event, stream)?;
    engine.stream_wait_event(other, event)?;
    engine.event_query(event)?;
    engine.event_synchronize(event)?;
    engine.stream_query(stream)?;
    engine.stream_synchronize(other)?;
    engine.fail(Fault { nth: 1, onwards: false, call: Some(Call::StreamSynchronize), code: Code::UNKNOWN });
    assert_eq!(engine.stream_synchronize(stream), Err(Code::UNKNOWN));
    engine.disarm();
    engine.stream_synchronize(stream)?;
    // SAFETY: the streams have been waited for, so that the host may read the memory, and nobody writes it.
    unsafe { engine.host_touches(Use::read(host.as_ptr(), 64)) };
    // SAFETY: the streams have been waited for, and nobody uses the memory any more.
    unsafe {
        engine.mem_free_async(x.as_ptr(), stream)?;
        engine.mem_free_async(y.as_ptr(), stream)?;
        engine.mem_free(z.as_ptr())?;
        engine.mem_host_free(host.as_ptr())?;
        engine.mem_host_unregister(page.0.as_mut_ptr())?;
    }
    engine.stream_synchronize(stream)?;
    engine.pool_trim_to(pool, 0)?;
    engine.pool_usage(pool)?;
    engine.mem_get_info()?;
    engine.log(false);
    assert!(engine.take_log().len() > 20);
    assert!(engine.check().is_ok() && engine.report().events > 0);
    engine.event_destroy(event)?;
    engine.stream_destroy(stream)?;
    engine.stream_destroy(other)?;
    engine.pool_destroy(pool)
}
