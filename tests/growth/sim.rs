//! What only the simulated device has: kernels that are closures, direct calls of the simulated
//! GPU, and injected failures.

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
        gpu::{Memory, Task},
    },
    stream::{Env, Lane, StreamOptions},
};

use super::watch::{Objects, Place, Watch};

/// The public functions called here.
pub const COVERED: &[&str] = &[
    "sim::Gpu::check",
    "sim::Gpu::host_touches",
    "sim::Gpu::log",
    "sim::Gpu::report",
    "sim::Gpu::take_log",
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
    "sim::Gpu::default_pool",
    "sim::Gpu::disarm",
    "sim::Gpu::event_create",
    "sim::Gpu::event_create_timed",
    "sim::Gpu::event_destroy",
    "sim::Gpu::event_elapsed",
    "sim::Gpu::event_query",
    "sim::Gpu::event_record",
    "sim::Gpu::event_synchronize",
    "sim::Gpu::fail",
    "sim::Gpu::fail_in_turn",
    "sim::Gpu::launch",
    "sim::Gpu::launch_using",
    "sim::Gpu::mem_alloc",
    "sim::Gpu::mem_alloc_async",
    "sim::Gpu::mem_free",
    "sim::Gpu::mem_free_async",
    "sim::Gpu::mem_get_info",
    "sim::Gpu::mem_host_alloc",
    "sim::Gpu::mem_host_free",
    "sim::Gpu::mem_host_register",
    "sim::Gpu::mem_host_unregister",
    "sim::Gpu::memcpy_async",
    "sim::Gpu::memcpy_batch_async",
    "sim::Gpu::memset_d8_async",
    "sim::Gpu::new",
    "sim::Gpu::pool_create",
    "sim::Gpu::pool_destroy",
    "sim::Gpu::pool_set_threshold",
    "sim::Gpu::pool_trim_to",
    "sim::Gpu::pool_usage",
    "sim::Gpu::stream_create",
    "sim::Gpu::stream_destroy",
    "sim::Gpu::stream_priority",
    "sim::Gpu::stream_query",
    "sim::Gpu::stream_synchronize",
    "sim::Gpu::stream_wait_event",
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

    fn lane_with(&self, options: &StreamOptions) -> Result<Lane<SimBackend>> {
        if *options == StreamOptions::default() { self.lane() } else { self.lane_with(options) }
    }

    fn enter<R>(lane: &mut Lane<SimBackend>, f: impl for<'s> FnOnce(Stream<Sim<'s>>) -> R) -> Result<R> {
        lane.enter(|stream, _env| f(stream))
    }
}

/// How many calls that lock memory were refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// The live objects of a device and of the pinned pool.
pub fn objects(device: &Device) -> Objects {
    let report = device.gpu().report();
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

/// What the pinned pool holds.
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

/// Each call of a hand-over, a fence and an upload fails once. The frees behind them do not fail: what
/// is refused then is leaked.
fn failures(watch: &Watch<'_>, device: &Device, turns: usize) {
    let gpu = device.gpu();
    device
        .stream_with(&super::crossings::small(), |mut a, _| {
            device.stream(|mut b, _| {
                let mut at = 0;
                watch.steady("calls that fail", turns, || {
                    let (mut x, mut y) = (a.ctx().with_pool().zeros::<u32>(16)?, a.ctx().with_pool().zeros::<u32>(60)?);
                    let staged = a.ctx().alloc_pinned::<u32>(9)?.write_with(|_| 1).stage(&a.ctx());
                    at = at % 13 + 1;
                    let fault = |nth, call| Fault { nth, onwards: false, call, code: Code::UNKNOWN };
                    gpu.fail_in_turn(fault(at, None), fault(1, Some(Call::EventQuery)));
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
                    gpu.disarm();
                    a.synchronize().map(drop)?;
                    b.synchronize().map(drop)
                });
            })
        })
        .unwrap()
        .unwrap();
}

/// Direct calls of the simulated GPU.
pub fn by_hand(watch: &Watch<'_>, device: &Device, turns: usize) {
    let gpu = device.gpu();
    watch.steady("the gpu by hand", turns, || calls(gpu).map_err(failed));
    watch.steady("gpus that come and go", turns / 4, || {
        drop(sim::Gpu::new(sim::Options::quick()));
        Ok(())
    });
}

/// A page of its own.
#[repr(align(4096))]
struct Page([u8; 4096]);

fn calls(gpu: &sim::Gpu) -> Result<(), Code> {
    let (stream, other) = (gpu.stream_create(0)?, gpu.stream_create(-1)?);
    gpu.log(true);
    gpu.stream_priority(stream)?;
    let pool = gpu.pool_create(0)?;
    gpu.pool_set_threshold(pool, 1 << 20)?;
    let (x, y) = (gpu.mem_alloc_async(64, pool, stream)?, gpu.mem_alloc_async(64, gpu.default_pool()?, stream)?);
    let (z, host) = (gpu.mem_alloc(64)?, gpu.mem_host_alloc(64)?);
    let (event, timed) = (gpu.event_create()?, gpu.event_create_timed()?);
    gpu.event_record(timed, stream)?;
    let mut page = Box::new(Page([0; 4096]));
    // SAFETY: the page stays until it is unregistered, below.
    unsafe { gpu.mem_host_register(page.0.as_mut_ptr(), 4096) }?;
    // SAFETY: all memory has 64 bytes, and is freed behind what uses it.
    unsafe {
        gpu.memset_d8_async(x.as_ptr(), 1, 64, stream)?;
        gpu.memcpy_async(y.as_ptr(), x.as_ptr(), 64, stream)?;
        gpu.memcpy_async(host.as_ptr(), x.as_ptr(), 64, stream)?;
        gpu.memcpy_batch_async(&[z.as_ptr()], &[x.as_ptr().cast_const()], &[64], 1, stream)?;
    }
    gpu.launch(stream, Task::new(|_| Ok(())))?;
    let address = x.as_ptr().addr();
    let resolves = move |memory: &Memory| memory.resolve(ptr::without_provenance_mut(address), 64).map(drop);
    // SAFETY: it borrows nothing, and may run anywhere.
    let task = unsafe { Task::new_unchecked(resolves) };
    gpu.launch_using(stream, task, &[Use::read(x.as_ptr(), 64)])?;
    gpu.event_record(event, stream)?;
    gpu.stream_wait_event(other, event)?;
    gpu.event_query(event)?;
    gpu.event_synchronize(event)?;
    gpu.stream_query(stream)?;
    gpu.stream_synchronize(other)?;
    gpu.fail(Fault { nth: 1, onwards: false, call: Some(Call::StreamSynchronize), code: Code::UNKNOWN });
    assert_eq!(gpu.stream_synchronize(stream), Err(Code::UNKNOWN));
    gpu.disarm();
    gpu.stream_synchronize(stream)?;
    gpu.event_elapsed(timed, timed)?;
    // SAFETY: the streams have been waited for, so the host may read the memory, and nothing
    // writes it.
    unsafe { gpu.host_touches(Use::read(host.as_ptr(), 64)) };
    // SAFETY: the streams have been waited for, and the memory is not used any more.
    unsafe {
        gpu.mem_free_async(x.as_ptr(), stream)?;
        gpu.mem_free_async(y.as_ptr(), stream)?;
        gpu.mem_free(z.as_ptr())?;
        gpu.mem_host_free(host.as_ptr())?;
        gpu.mem_host_unregister(page.0.as_mut_ptr())?;
    }
    gpu.stream_synchronize(stream)?;
    gpu.pool_trim_to(pool, 0)?;
    gpu.pool_usage(pool)?;
    gpu.mem_get_info()?;
    gpu.log(false);
    assert!(gpu.take_log().len() > 20);
    assert!(gpu.check().is_ok() && gpu.report().events > 0);
    gpu.event_destroy(event)?;
    gpu.event_destroy(timed)?;
    gpu.stream_destroy(stream)?;
    gpu.stream_destroy(other)?;
    gpu.pool_destroy(pool)
}
