//! Lanes: streams that live in objects and that threads enter in turn, and what safe code does to
//! them between and inside visits.

use std::{
    ffi::c_void,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    BatchCopy, Buffer, Ctx, Error, Result, Stack,
    driver::Code,
    sim::{self, Call, Device, Fault, Sim, SimBackend},
    stream::{Detached, Lane, StreamAlloc},
};
use tidelock_test_support::memory::get as read;

use crate::{Gate, assert_clean, panics_with, ramp, within};

const SOON: Duration = Duration::from_secs(20);

/// Memory of the stream's pool.
type Pooled<'c, 's> = Ctx<'c, Sim<'s>, StreamAlloc<Sim<'s>>>;
type Memory = Buffer<u32, Detached<SimBackend>>;

/// A device with the race detector on, whose operations run late.
fn watched() -> Device {
    Device::new(sim::Options::quick().race_detector(true).delay(sim::Delay::Upto(Duration::from_micros(200))))
}

/// Asserts that the device holds nothing, and that no race was found.
fn is_empty(device: &Device) {
    assert_clean(device);
    device.gpu().check().unwrap();
}

/// Enters `lane` with a context that has memory of the pool.
fn visit<R>(lane: &mut Lane<SimBackend>, f: impl FnOnce(Pooled<'_, '_>) -> Result<R>) -> Result<R> {
    lane.enter(|stream, _env| f(stream.ctx().with_pool()))?
}

fn zeros(lane: &mut Lane<SimBackend>, len: usize) -> Memory {
    visit(lane, |ctx| Ok(ctx.detach(ctx.zeros(len)?)?)).unwrap()
}

/// Adds `n` to each element, in a visit that does not wait.
fn add(lane: &mut Lane<SimBackend>, memory: Memory, n: u32) -> Memory {
    let added = visit(lane, |ctx| {
        let mut x = ctx.attach(memory)?;
        ctx.launch((x.view_mut(), n), |(x, n)| x.iter_mut().for_each(|x| *x += n))?;
        Ok(ctx.detach(x)?)
    });
    added.unwrap()
}

/// The elements, which a visit reads.
fn values(lane: &mut Lane<SimBackend>, memory: Memory) -> Vec<u32> {
    visit(lane, |ctx| Ok(read(&ctx, ctx.attach(memory)?.view()))).unwrap()
}

/// Waits, without a driver call, until `device` holds nothing.
fn until_empty(device: &Device) {
    let start = Instant::now();
    while !device.gpu().report().is_clean() {
        assert!(start.elapsed() < SOON, "{:?}", device.gpu().report());
        thread::yield_now();
    }
    device.gpu().check().unwrap();
}

/// What a Python object or a C handle holds.
struct Session {
    lane: Lane<SimBackend>,
    sum: Option<Memory>,
}

impl Session {
    fn new(device: &Device) -> Session {
        let mut lane = device.lane().unwrap();
        let sum = zeros(&mut lane, 4);
        Session { lane, sum: Some(sum) }
    }

    fn step(&mut self, n: u32) {
        let sum = self.sum.take().unwrap();
        self.sum = Some(add(&mut self.lane, sum, n));
    }

    fn finish(mut self) -> Vec<u32> {
        values(&mut self.lane, self.sum.take().unwrap())
    }
}

#[test]
fn sessions_in_a_vec_step_in_any_order_and_on_any_thread() {
    let device = watched();
    let mut sessions: Vec<_> = (0..3).map(|_| Session::new(&device)).collect();
    for round in 0..6 {
        for session in &mut sessions {
            session.step(round);
        }
    }
    thread::scope(|threads| {
        for session in &mut sessions {
            threads.spawn(|| session.step(100));
        }
    });
    // The memory of one goes on in the stream of another.
    let mut other = sessions.pop().unwrap();
    let moved = sessions[0].sum.replace(other.sum.take().unwrap());
    drop((other, moved));
    for session in sessions {
        assert_eq!(session.finish(), [115; 4]);
    }
    is_empty(&device);
}

#[test]
fn a_lane_goes_through_a_c_interface() {
    extern "C" fn open(device: &Device) -> *mut c_void {
        Box::into_raw(Box::new(Session::new(device))).cast()
    }
    unsafe extern "C" fn step(session: *mut c_void, n: u32) {
        // SAFETY:
        // - The pointer comes from `open`, and one thread at a time uses it.
        unsafe { &mut *session.cast::<Session>() }.step(n);
    }
    unsafe extern "C" fn close(session: *mut c_void) -> u32 {
        // SAFETY:
        // - The pointer comes from `open`, and is not used again.
        unsafe { Box::from_raw(session.cast::<Session>()) }.finish()[0]
    }
    let device = watched();
    let session = open(&device);
    // SAFETY:
    // - As the functions ask.
    unsafe { step(session, 2) };
    // SAFETY:
    // - As above.
    unsafe { step(session, 3) };
    // SAFETY:
    // - As above.
    assert_eq!(unsafe { close(session) }, 5);
    is_empty(&device);
}

#[test]
fn a_later_visit_creates_destroys_and_waits_for_nothing() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    let mut memory = zeros(&mut lane, 1000);
    memory = add(&mut lane, memory, 1);
    let before = device.gpu().counts();
    for _ in 0..10 {
        memory = add(&mut lane, memory, 1);
    }
    let made = device.gpu().counts() - before;
    let costly = [
        Call::StreamCreate,
        Call::StreamDestroy,
        Call::StreamSynchronize,
        Call::StreamQuery,
        Call::EventCreate,
        Call::EventDestroy,
        Call::EventSynchronize,
        Call::MemPoolCreate,
        Call::MemPoolDestroy,
        Call::StreamWaitEvent,
    ];
    assert_eq!(costly.map(|call| made.of(call)), [0; 10], "the memory comes back to the stream it left");
    assert_eq!(made.total(), 20, "a launch and a record for each visit");
    assert_eq!(values(&mut lane, memory), [11; 1000]);
    let before = device.gpu().counts();
    lane.enter(|_, _| ()).unwrap();
    assert_eq!((device.gpu().counts() - before).total(), 0, "an empty visit");
    drop(lane);
    is_empty(&device);
}

/// The ring, deferred frees and records of a lane pass from thread to thread. What one thread has
/// waited for, the next one need not wait for again, and the race detector follows.
#[test]
fn two_threads_in_turn_share_the_ring_and_what_was_waited_for() {
    let device = watched();
    let options = tidelock::stream::StreamOptions::default().ring_bytes(1024).max_deferred_frees(4);
    let mut lane = device.lane_with(&options).unwrap();
    let mut memory = zeros(&mut lane, 64);
    for round in 0..40_u32 {
        memory = thread::scope(|threads| {
            let (lane, device) = (&mut lane, &device);
            let visit = move || {
                let next = lane.enter(|mut stream, _env| -> Result<Memory> {
                    let mut x = stream.ctx().attach(memory)?;
                    stream.ctx().upload(&ramp(round, 64), x.view_mut())?;
                    let out = stream.ctx().alloc_pinned::<u32>(64)?.stage(&stream.ctx());
                    let out = stream.ctx().init_from(out, x.view())?;
                    if round % 3 == 0 {
                        assert_eq!(out.peek(&stream.synchronize()?), ramp(round, 64));
                    }
                    drop(out);
                    Ok(stream.ctx().detach(x)?)
                });
                device.gpu().check().unwrap();
                next.unwrap().unwrap()
            };
            threads.spawn(visit).join().unwrap()
        });
    }
    assert_eq!(values(&mut lane, memory), ramp(39, 64));
    assert_eq!(lane.leaked_bytes(), 0);
    drop(lane);
    is_empty(&device);
}

#[test]
fn what_is_lent_in_a_visit_is_back_when_it_ends_also_on_panic() {
    for panics in [false, true] {
        let device = watched();
        let mut lane = device.lane().unwrap();
        let mut back = [0_u32; 64];
        let source = ramp(9, 64);
        let before = device.gpu().counts();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            lane.enter(|stream, env| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.zeros::<u32>(64).unwrap();
                ctx.copy(env.source(&source), x.view_mut()).unwrap();
                ctx.copy(x.view(), env.target(&mut back)).unwrap();
                if panics {
                    std::panic::resume_unwind(Box::new("mid-visit"));
                }
            })
        }));
        assert_eq!(answer.is_err(), panics);
        assert_eq!(back[..], source);
        assert_eq!((device.gpu().counts() - before).of(Call::StreamSynchronize), 1);
        // The loan has ended: the next visit owes nothing.
        let before = device.gpu().counts();
        let memory = zeros(&mut lane, 4);
        assert_eq!((device.gpu().counts() - before).of(Call::StreamSynchronize), 0);
        assert_eq!(values(&mut lane, memory), [0; 4]);
        drop(lane);
        is_empty(&device);
    }
}

/// Weights that all lanes read and that are replaced while they run: an owner that a visit gives up
/// counts until its stream has passed, and the visit does not wait.
#[test]
fn shared_weights_are_read_by_many_lanes_and_replaced() {
    let device = watched();
    let mut main = device.lane().unwrap();
    let mut lanes: Vec<_> = (0..3).map(|_| device.lane().unwrap()).collect();
    for round in 0..10_u32 {
        let weights = visit(&mut main, |ctx| {
            let mut x = ctx.zeros::<u32>(1000)?;
            ctx.launch((x.view_mut(), round), |(x, n)| x.fill(n))?;
            Ok(ctx.detach(x)?.share())
        });
        let weights = weights.unwrap();
        let before = device.gpu().counts();
        let read: Vec<_> = lanes
            .iter_mut()
            .map(|lane| {
                let copied = visit(lane, |ctx| {
                    let own = ctx.attach(weights.clone())?;
                    Ok(ctx.detach(ctx.init_from(ctx.alloc(1000)?, own.view())?)?)
                });
                copied.unwrap()
            })
            .collect();
        let made = device.gpu().counts() - before;
        assert_eq!([Call::StreamSynchronize, Call::EventSynchronize].map(|call| made.of(call)), [0; 2]);
        drop(weights);
        lanes.rotate_left(1);
        for (lane, memory) in lanes.iter_mut().zip(read) {
            assert_eq!(values(lane, memory), [round; 1000]);
        }
    }
    drop((main, lanes));
    until_empty(&device);
}

#[test]
fn what_a_visit_gives_up_is_freed_in_a_later_one_or_with_the_lane() {
    let device = watched();
    for later in [true, false] {
        let mut lane = device.lane().unwrap();
        let gate = visit(&mut lane, |ctx| {
            let gate = Gate::close(&ctx);
            drop(ctx.init_zeros(ctx.alloc_pinned::<u32>(1000)?.stage(&ctx))?);
            drop(ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(1000)?);
            Ok(gate)
        });
        assert_eq!(device.gpu().report().allocations, 1, "freed while a kernel may use it");
        drop(gate);
        if later {
            lane.enter(|mut stream, _| stream.synchronize().map(drop)).unwrap().unwrap();
            assert_eq!(device.gpu().report().allocations, 0);
        }
        drop(lane);
        is_empty(&device);
    }
}

#[test]
fn a_lane_that_is_dropped_waits_also_on_another_thread() {
    for elsewhere in [false, true] {
        let device = watched();
        let mut lane = device.lane().unwrap();
        let gate = visit(&mut lane, |ctx| {
            let gate = Gate::close(&ctx);
            drop(ctx.init_zeros(ctx.alloc_pinned::<u32>(1000)?.stage(&ctx))?);
            Ok(gate)
        });
        gate.unwrap().open_later();
        if elsewhere {
            thread::spawn(|| drop(lane)).join().unwrap()
        } else {
            drop(lane)
        }
        is_empty(&device);
    }
}

/// Launches a kernel in a visit of `lane` that drops what is sent to it.
fn drop_in_a_kernel<T: Send + 'static>(lane: &mut Lane<SimBackend>) -> mpsc::Sender<T> {
    let (send, receive) = mpsc::channel::<T>();
    visit(lane, |ctx| ctx.launch((0_u32,), move |_| drop(receive.recv()))).unwrap();
    send
}

#[test]
fn a_lane_may_be_dropped_in_a_kernel_also_in_its_own() {
    within(SOON, || {
        for _ in 0..20 {
            let (device, other) = (watched(), watched());
            let mut lane = device.lane().unwrap();
            // Its own kernel: a wait there would be one for itself.
            let send = drop_in_a_kernel(&mut lane);
            visit(&mut lane, |ctx| ctx.zeros::<u32>(1000).map(drop)).unwrap();
            send.send(lane).unwrap();
            until_empty(&device);
            // That of another lane, and of another device.
            for host in [&device, &other] {
                let mut host = host.lane().unwrap();
                let mut lane = device.lane().unwrap();
                let gate = visit(&mut lane, |ctx| {
                    drop(ctx.init_zeros(ctx.alloc_pinned::<u32>(1000)?.stage(&ctx))?);
                    Ok(Gate::close(&ctx))
                });
                drop_in_a_kernel(&mut host).send(lane).unwrap();
                host.enter(|mut stream, _| stream.synchronize().map(drop)).unwrap().unwrap();
                assert!(!device.gpu().report().is_clean(), "the lane waits for its gate");
                drop((gate, host));
                until_empty(&device);
            }
            until_empty(&other);
        }
    });
}

#[test]
fn no_stream_is_opened_or_entered_in_a_kernel() {
    let (device, other) = (watched(), watched());
    let mut lane = device.lane().unwrap();
    let refused = |error: Error| matches!(error, Error::Driver(error) if error.code == Code::NOT_PERMITTED);
    for host in [&device, &other] {
        let (inner, mut moved) = (device.clone(), device.lane().unwrap());
        let (say, said) = mpsc::channel();
        let mut host = host.lane().unwrap();
        let kernel = move |_: (u32,)| {
            let answers = [
                inner.lane().map(drop),
                inner.stream(|_, _| ()),
                moved.enter(|_, _| unreachable!("a visit inside a kernel")),
            ];
            say.send(answers).unwrap();
        };
        visit(&mut host, |ctx| ctx.launch((0_u32,), kernel)).unwrap();
        for answer in said.recv().unwrap() {
            assert!(refused(answer.unwrap_err()));
        }
    }
    lane.enter(|_, _| ()).unwrap();
    drop(lane);
    until_empty(&device);
    until_empty(&other);
}

/// The kernel that a lane runs while its owner drops the last reference to the device.
#[test]
fn a_lane_keeps_its_device() {
    within(SOON, || {
        let device = watched();
        let gpu = device.gpu().clone();
        let mut lane = device.lane().unwrap();
        drop(device);
        let memory = zeros(&mut lane, 100);
        assert_eq!(values(&mut lane, memory), [0; 100]);
        let send = drop_in_a_kernel(&mut lane);
        send.send(lane).unwrap();
        let start = Instant::now();
        while !gpu.report().is_clean() {
            assert!(start.elapsed() < SOON);
            thread::yield_now();
        }
    });
}

#[test]
fn what_a_visit_forgets_holds_nothing_up() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    let mut read_back = [0_u32; 8];
    for round in 0..4 {
        let memory = zeros(&mut lane, 8);
        let kept = lane.enter(|mut stream, env| -> Result<Memory> {
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (ctx.attach(memory)?, ctx.zeros::<u32>(8)?);
            mem::forget(ctx.alloc_pinned::<u32>(8)?.stage(&ctx));
            let out = ctx.init_zeros(ctx.alloc_pinned::<u32>(8)?.stage(&ctx))?;
            mem::forget(ctx.fence(out)?);
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut()))?;
            mem::forget(batch);
            let stack = Stack::new(ctx.pool());
            mem::forget(ctx.with_device_alloc(&stack).zeros::<u32>(8)?);
            mem::forget(stack);
            stream.host_scope(|scope| scope.ctx().copy(x.view(), scope.target(&mut read_back)))??;
            mem::forget(stream.synchronize()?);
            let kept = stream.ctx().detach(x)?;
            mem::forget((y, stream, env));
            Ok(kept)
        });
        let kept = add(&mut lane, kept.unwrap().unwrap(), round);
        assert_eq!(values(&mut lane, kept), [round; 8]);
    }
    drop(lane);
    let report = device.gpu().report();
    // In each visit a buffer, an allocation of the arena, and the event of a fence were forgotten.
    assert_eq!((report.allocations, report.events, report.streams, report.pools), (8, 4, 0, 0), "{report:?}");
    device.gpu().check().unwrap();
}

#[test]
fn a_forgotten_lane_leaks_its_stream_and_nothing_else() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    let memory = zeros(&mut lane, 8);
    mem::forget(lane);
    let mut other = device.lane().unwrap();
    assert_eq!(values(&mut other, memory), [0; 8]);
    drop(other);
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.streams, report.pools, report.findings.len()), (0, 1, 1, 0));
    device.gpu().check().unwrap();
}

#[test]
fn a_panic_in_a_visit_leaves_the_lane_usable() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    for round in 0..6 {
        panics_with("mid-visit", || {
            lane.enter(|mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let x = ctx.zeros::<u32>(64).unwrap();
                let mut y = ctx.zeros::<u32>(64).unwrap();
                let mut batch = BatchCopy::new();
                let batched = match round {
                    0 => panic!("mid-visit"),
                    1 => batch.scope(&ctx, |b| {
                        b.copy(x.view(), y.view_mut())?;
                        panic!("mid-visit")
                    }),
                    2 => batch.scope(&ctx, |b| b.group(|_| panic!("mid-visit"))),
                    3 => stream.host_scope(|_| panic!("mid-visit")).unwrap(),
                    4 => {
                        let mut stack = Stack::new(ctx.pool());
                        drop(ctx.with_device_alloc(&stack).zeros::<u32>(64).unwrap());
                        stack.reset().unwrap();
                        let _in_the_region = ctx.with_device_alloc(&stack).zeros::<u32>(64).unwrap();
                        panic!("mid-visit")
                    }
                    _ => device.stream(|b, _| ctx.lend(x.view(), &b.ctx(), |_| panic!("mid-visit"))).unwrap(),
                };
                batched.unwrap_or_else(|error: Error| panic!("{error}"))
            })
        });
        let memory = zeros(&mut lane, 8);
        let memory = add(&mut lane, memory, 3);
        assert_eq!(values(&mut lane, memory), [3; 8]);
    }
    drop(lane);
    is_empty(&device);
}

#[test]
fn visits_of_several_lanes_nest_and_lend() {
    let device = watched();
    let mut lanes: Vec<_> = (0..2).map(|_| device.lane().unwrap()).collect();
    let mut memory = zeros(&mut lanes[0], 1000);
    for round in 0..10 {
        let [one, other] = &mut lanes[..] else { unreachable!() };
        memory = one
            .enter(|a, _| {
                other.enter(|b, _| -> Result<Memory> {
                    let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let mut x = a.attach(memory)?;
                    a.lend_mut(x.view_mut(), &b, |x| b.launch((x, round), |(x, n)| x.fill(n)))??;
                    let stack = Stack::new(a.pool());
                    let on_arena = a.with_device_alloc(&stack);
                    let copy = on_arena.init_from(on_arena.alloc(1000)?, x.view())?;
                    a.copy(copy.view(), x.view_mut())?;
                    drop(copy);
                    let moved = a.transfer(x, &b)?;
                    Ok(b.detach(moved)?)
                })
            })
            .unwrap()
            .unwrap()
            .unwrap();
        lanes.swap(0, 1);
    }
    assert_eq!(values(&mut lanes[0], memory), [9; 1000]);
    drop(lanes);
    is_empty(&device);
}

fn fault(nth: u64, onwards: bool, call: Option<Call>, code: Code) -> Fault {
    Fault { nth, onwards, call, code }
}

#[test]
fn a_lane_that_cannot_be_opened_leaves_nothing() {
    let device = watched();
    let before = device.gpu().counts();
    drop(device.lane().unwrap());
    let calls = (device.gpu().counts() - before).total();
    for nth in 1..=calls {
        device.gpu().fail(fault(nth, false, None, Code::OUT_OF_MEMORY));
        let lane = device.lane();
        device.gpu().disarm();
        drop(lane);
        // What the last calls could not give back stays with the simulated GPU.
        let report = device.gpu().report();
        assert!(report.findings.is_empty() && report.allocations == 0, "{nth}: {report:?}");
    }
    device.gpu().check().unwrap();
}

#[test]
fn a_device_that_breaks_between_visits_reports_it_in_each_and_moves_nothing() {
    within(SOON, || {
        let device = Device::new(sim::Options::quick());
        let mut lane = device.lane().unwrap();
        let mut memory = zeros(&mut lane, 8);
        device.stream(|stream, _| stream.ctx().launch((0_u32,), |_| panic!("on purpose"))).unwrap_err();
        for _ in 0..3 {
            memory = lane
                .enter(|mut stream, _env| {
                    let failed = stream.synchronize().unwrap_err();
                    assert!(matches!(failed, Error::Driver(_) | Error::Poisoned(_)), "{failed:?}");
                    let rejected = stream.ctx().attach(memory).unwrap_err();
                    assert!(matches!(rejected.error, Error::Poisoned(_)), "{:?}", rejected.error);
                    assert!(stream.ctx().with_pool().zeros::<u32>(1).is_err());
                    rejected.value
                })
                .unwrap();
        }
        // Nothing is freed on a broken device, and nothing hangs.
        drop((lane, memory));
    });
}

#[test]
fn a_refused_call_in_a_visit_leaves_the_lane_usable() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    let mut memory = zeros(&mut lane, 8);
    for call in [Call::EventRecord, Call::LaunchKernel] {
        device.gpu().fail(fault(1, false, Some(call), Code::UNKNOWN));
        memory = lane
            .enter(|stream, _env| {
                let ctx = stream.ctx();
                let mut x = ctx.attach(memory).unwrap();
                let launched = ctx.launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1));
                assert_eq!(launched.is_err(), call == Call::LaunchKernel);
                let detached = ctx.detach(x);
                assert_eq!(detached.is_err(), call == Call::EventRecord);
                detached.or_else(|rejected| ctx.detach(rejected.value)).unwrap()
            })
            .unwrap();
        device.gpu().disarm();
    }
    assert_eq!(values(&mut lane, memory), [1; 8]);
    drop(lane);
    is_empty(&device);
}

#[test]
fn a_lane_that_cannot_be_waited_for_leaks_what_it_may_use() {
    let device = watched();
    let mut lane = device.lane().unwrap();
    let memory = zeros(&mut lane, 8);
    let gate = visit(&mut lane, |ctx| {
        let gate = Gate::close(&ctx);
        drop(ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(1000)?);
        Ok(gate)
    });
    gate.unwrap().open_later();
    device.gpu().fail(fault(1, true, Some(Call::StreamSynchronize), Code::UNKNOWN));
    drop(lane);
    device.gpu().disarm();
    assert_eq!(device.gpu().report().allocations, 2, "the deferred free did not take place");
    // The memory that left before is no concern of the lane.
    let mut other = device.lane().unwrap();
    assert_eq!(values(&mut other, memory), [0; 8]);
    drop(other);
    let report = device.gpu().report();
    assert_eq!((report.allocations, report.streams, report.findings.len()), (1, 0, 0), "{report:?}");
    device.gpu().check().unwrap();
}

/// A lane that is behind a lock is entered by any number of threads, one at a time.
#[test]
fn threads_take_turns_through_a_lock() {
    let device = watched();
    let lane = Arc::new(Mutex::new((device.lane().unwrap(), None::<Memory>)));
    {
        let (lane, memory) = &mut *lane.lock().unwrap();
        *memory = Some(zeros(lane, 64));
    }
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for _ in 0..25 {
                    let (lane, memory) = &mut *lane.lock().unwrap();
                    *memory = Some(add(lane, memory.take().unwrap(), 1));
                }
            });
        }
    });
    let (mut lane, memory) = Arc::into_inner(lane).unwrap().into_inner().unwrap();
    assert_eq!(values(&mut lane, memory.unwrap()), [100; 64]);
    drop(lane);
    is_empty(&device);
}

/// A program that is generic over the device.
fn generic<D: tidelock::Device>(device: &D) -> Result<Vec<u32>> {
    let mut lane = device.lane()?;
    let memory = lane.enter(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(3)?;
        ctx.upload(&[1, 2, 3], x.view_mut())?;
        Ok::<_, Error>(ctx.detach(x)?)
    })??;
    lane.enter(|stream, _env| Ok(read(&stream.ctx(), stream.ctx().attach(memory)?.view())))?
}

#[test]
fn generic_code_opens_lanes() {
    assert_eq!(generic(&watched()).unwrap(), [1, 2, 3]);
}
