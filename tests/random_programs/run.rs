//! Running a program on the library, beside a model that does everything at once and in order.

use std::{
    mem,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use tidelock::{
    Backend, BatchCopy, Buffer, Code, Ctx, Detached, Error, Host, Pending, Permutation, Pinned, Rejected, Result, Sim,
    Stack, Staged, Stream, StreamAlloc, StreamOptions, SyncAlloc, View, ViewMut,
    sim::{self, Fault, SimBackend},
};

use super::program::{End, Kind, Op, Part, Program, Side, Which};

/// The elements of every buffer: a piece of the pinned pool holds exactly that many.
const N: usize = 64;
const ROWS: u32 = 8;
const WIDTH: NonZero<usize> = NonZero::new(N / 8).unwrap();

type Values = Vec<u32>;

/// The payload of the panics in here.
struct OnPurpose;

/// What a program did, or what went wrong with it, in words.
pub type Verdict = core::result::Result<Tally, String>;

/// What programs did, in sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    /// Waits of one stream for another.
    pub waits: u64,
    pub batches: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Programs in which a stream was lost.
    pub lost: u64,
    /// Things that were forgotten.
    pub forgotten: u64,
}

impl core::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.calls += other.calls;
        self.waits += other.waits;
        self.batches += other.batches;
        self.failures += other.failures;
        self.lost += other.lost;
        self.forgotten += other.forgotten;
    }
}

/// Memory of one stream.
enum Memory<'s> {
    Pool(Buffer<u32, Sim<'s>>),
    Sync(Buffer<u32, Sim<'s>, SyncAlloc<Sim<'s>>>),
    Staged(Buffer<u32, Staged<Sim<'s>>>),
}

/// Memory that is the host's.
enum OnHost {
    Pinned(Buffer<u32, Pinned<SimBackend>>),
    Pageable(Buffer<u32, Host>),
}

/// A view, for copies.
#[derive(Clone, Copy)]
enum Source<'a, 's> {
    Device(View<'a, u32, Sim<'s>>),
    Staged(View<'a, u32, Staged<Sim<'s>>>),
    Host(View<'a, u32, Host>),
}

enum Target<'a, 's> {
    Device(ViewMut<'a, u32, Sim<'s>>),
    Staged(ViewMut<'a, u32, Staged<Sim<'s>>>),
}

/// One stream, its memory, and what the model says that it holds.
struct Place<'s> {
    stream: Stream<Sim<'s>>,
    device: usize,
    slots: Vec<(Memory<'s>, Values)>,
    pending: Vec<(Pending<Buffer<u32, Staged<Sim<'s>>>, Sim<'s>>, Values)>,
    arena: Stack<Sim<'s>, StreamAlloc<Sim<'s>>>,
    batch: BatchCopy,
    frozen: Option<View<'s, u32, Sim<'s>>>,
}

/// What is no stream's.
struct World<'d> {
    devices: &'d [sim::Device; 2],
    host: Vec<(OnHost, Values)>,
    detached: Vec<(Detached<u32, SimBackend>, usize, Values)>,
    armed: Option<Fault>,
    /// Failures that have happened.
    hits: usize,
    forgotten: Forgotten,
}

/// What a program gave up for ever: this must leak, and nothing else.
#[derive(Clone, Copy, Default)]
struct Forgotten {
    allocations: usize,
    pieces: usize,
    events: usize,
}

/// Runs `program`, and tells what is not as the model says.
pub fn run(program: &Program) -> Verdict {
    let delay = if program.delays { sim::Delay::Upto(Duration::from_micros(100)) } else { sim::Delay::None };
    let options = sim::Options::quick().delay(delay).oracle(true);
    let devices = [sim::Device::new(options), sim::Device::new(options.ordinal(1))];
    let used = SimBackend::pinned_pool().usage().used;
    let mut world = World {
        devices: &devices,
        host: Vec::new(),
        detached: Vec::new(),
        armed: None,
        hits: 0,
        forgotten: Forgotten::default(),
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| streams(program, &mut world)));
    world.settle();
    let World { host, detached, hits, forgotten, .. } = world;
    drop((host, detached));
    let is_over = match outcome {
        Ok(is_over) => is_over?,
        Err(_) => return Err("a panic".into()),
    };
    let reports = devices.each_ref().map(|device| device.engine().report());
    for (device, report) in devices.iter().zip(&reports) {
        device.engine().check()?;
        if report.sticky.is_some() || report.streams + report.pools > 0 {
            return Err(format!("{report:?}"));
        }
    }
    let counts = devices.each_ref().map(|device| device.engine().counts());
    let made = |call| counts.iter().map(|counts| counts.of(call)).sum();
    let tally = Tally {
        calls: counts.iter().map(sim::Counts::total).sum(),
        waits: made(sim::Call::StreamWaitEvent),
        batches: made(sim::Call::MemcpyBatchAsync),
        failures: u64::try_from(hits).unwrap(),
        lost: u64::from(is_over),
        forgotten: u64::try_from(forgotten.allocations + forgotten.pieces).unwrap(),
    };
    if is_over {
        return Ok(tally);
    }
    // A failure leaks one thing at most; what was forgotten leaks, and nothing else.
    let sum = |count: fn(&sim::Report) -> usize| reports.iter().map(count).sum::<usize>();
    let (allocations, events) = (sum(|report| report.allocations), sum(|report| report.events));
    let now = SimBackend::pinned_pool().usage().used;
    let pieces = now.saturating_sub(used) / (N * size_of::<u32>());
    for (what, found, expected) in [
        ("allocations", allocations, forgotten.allocations),
        ("events", events, forgotten.events),
        ("pieces of pinned memory", pieces, forgotten.pieces),
    ] {
        let room = if what == "pieces of pinned memory" { hits * 4 } else { hits };
        if found < expected || found > expected + room {
            return Err(format!("{found} {what} leak, {expected} were forgotten, {hits} calls failed"));
        }
    }
    Ok(tally)
}

/// Opens the streams and runs the operations; whether a stream was lost on the way.
fn streams(program: &Program, world: &mut World<'_>) -> core::result::Result<bool, String> {
    let [first, second] = world.devices;
    let values: Values = (7000..).take(N).collect();
    let frozen = program.ops.iter().any(|(_, op)| matches!(op, Op::ReadFrozen { .. })).then(|| {
        let made = first.stream(|stream, _env| {
            let buffer = filled(&stream.ctx(), &values)?;
            Ok::<_, Error>(stream.ctx().detach(buffer)?.freeze())
        });
        made.unwrap().unwrap()
    });
    let inner_device = if program.two_devices { second } else { first };
    let mut options = StreamOptions::default();
    if program.is_tight {
        options = options.ring_bytes(1024).graveyard(1);
    }
    let frozen = frozen.as_ref();
    let mut verdict = Ok(false);
    let end = first.stream_with(&options, |outer, outer_env| {
        let end = inner_device.stream_with(&options, |inner, inner_env| {
            let outer_frozen = frozen.map(|frozen| outer_env.frozen(frozen).unwrap());
            let inner_frozen = frozen.filter(|_| !program.two_devices).map(|frozen| inner_env.frozen(frozen).unwrap());
            let mut outer = Place::new(outer, 0, outer_frozen);
            let mut inner = Place::new(inner, usize::from(program.two_devices), inner_frozen);
            if program.is_stocked {
                for kind in [Kind::Pool, Kind::Pool, Kind::Staged] {
                    world.allocate(&mut outer, kind, 1).unwrap();
                    world.allocate(&mut inner, kind, 1001).unwrap();
                }
            }
            for (index, (side, op)) in program.ops.iter().enumerate() {
                let done = match side {
                    Side::Outer => world.step(op, &mut outer, &mut inner),
                    Side::Inner => world.step(op, &mut inner, &mut outer),
                };
                world.settle_if_hit();
                match done {
                    Ok(()) => {}
                    Err(Trouble::Refused(error)) if world.explains(error) => {
                        if matches!(error, Error::Poisoned(_)) {
                            verdict = Ok(true);
                            return;
                        }
                    }
                    Err(Trouble::Refused(error)) => {
                        verdict = Err(format!("operation {index} answers {error}"));
                        return;
                    }
                    Err(Trouble::Wrong(words)) => {
                        verdict = Err(format!("operation {index}: {words}"));
                        return;
                    }
                }
            }
            world.settle();
            verdict = match world.check(&mut outer).and_then(|()| world.check(&mut inner)) {
                Ok(()) => Ok(false),
                // A sticky answer may have been kept by a drop.
                Err(Trouble::Refused(Error::Poisoned(_))) if world.hits > 0 => Ok(true),
                Err(Trouble::Refused(error)) => Err(format!("at the end: {error}")),
                Err(Trouble::Wrong(words)) => Err(format!("at the end: {words}")),
            };
        });
        world.settle();
        end
    });
    match end.and_then(|end| end) {
        Err(error) if verdict == Ok(false) => Err(format!("the end of a stream answers {error}")),
        _ => verdict,
    }
}

/// Why an operation was not done.
enum Trouble {
    Refused(Error),
    Wrong(String),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Refused(error.into())
    }
}

type Done = core::result::Result<(), Trouble>;

/// `Ok` if `found` is what the model says.
fn same(what: &str, found: &[u32], expected: &[u32]) -> Done {
    match (0..N).find(|&i| found.get(i) != expected.get(i)) {
        None => Ok(()),
        Some(i) => Err(Trouble::Wrong(format!("{what}[{i}] is {:?} and not {:?}", found.get(i), expected.get(i)))),
    }
}

impl World<'_> {
    /// Whether an injected failure has happened and is what `error` says.
    fn explains(&self, error: Error) -> bool {
        let code = match error {
            Error::Driver(why) | Error::Poisoned(why) => why.code,
            Error::OutOfMemory { .. } => Code::OUT_OF_MEMORY,
            _ => return false,
        };
        self.hits > 0 && (code == Code::UNKNOWN || code == Code::LAUNCH_FAILED)
    }

    /// Takes note of the failure if it has happened.
    fn settle_if_hit(&mut self) {
        if let Some(fault) = self.armed
            && self.devices[0].engine().calls_since_arming() >= fault.nth
        {
            self.settle();
        }
    }

    /// Makes nothing fail any more.
    fn settle(&mut self) {
        if let Some(fault) = self.armed.take() {
            let engine = self.devices[0].engine();
            self.hits += usize::from(engine.calls_since_arming() >= fault.nth);
            engine.disarm();
        }
    }

    /// Does one operation on `here`; `there` is the other stream. What is refused has no effect in the model.
    fn step<'a, 'b>(&mut self, op: &Op, here: &mut Place<'a>, there: &mut Place<'b>) -> Done {
        let ctx = here.stream.ctx();
        match *op {
            Op::Allocate { kind, value } => self.allocate(here, kind, value)?,
            Op::Zeros => {
                let buffer = ctx.with_pool().zeros(N)?;
                here.slots.push((Memory::Pool(buffer), vec![0; N]));
            }
            Op::Copy { from, to, part } => {
                let Some((from, to)) = here.two(from, to) else { return Ok(()) };
                let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
                let range = part.range();
                copy(&ctx, from.0.source().part(part), to.0.target().part(part))?;
                to.1[range.clone()].copy_from_slice(&from.1[range]);
            }
            Op::Upload { to, part, value } => {
                let Some((memory, values)) = pick(&mut here.slots, to) else { return Ok(()) };
                let up: Values = (value..).take(part.range().len()).collect();
                match memory.target().part(part) {
                    Target::Device(to) => ctx.upload(&up, to)?,
                    Target::Staged(to) => ctx.upload(&up, to)?,
                }
                values[part.range()].copy_from_slice(&up);
            }
            Op::Clear { to, part } => {
                let Some((memory, values)) = pick(&mut here.slots, to) else { return Ok(()) };
                match memory.target().part(part) {
                    Target::Device(to) => ctx.clear(to)?,
                    Target::Staged(to) => ctx.clear(to)?,
                }
                values[part.range()].fill(0);
            }
            Op::Add { to, value } => {
                let Some((memory, values)) = pick(&mut here.slots, to) else { return Ok(()) };
                let add = |(x, value): (&mut [u32], u32)| x.iter_mut().for_each(|x| *x = x.wrapping_add(value));
                match memory.target() {
                    Target::Device(to) => ctx.launch((to, value), add)?,
                    Target::Staged(to) => ctx.launch((to, value), add)?,
                }
                values.iter_mut().for_each(|x| *x = x.wrapping_add(value));
            }
            Op::Stage { pinned } => {
                let Some(at) = nth(&self.host, pinned, |(host, _)| matches!(host, OnHost::Pinned(_))) else {
                    return Ok(());
                };
                if let (OnHost::Pinned(buffer), values) = self.host.swap_remove(at) {
                    here.slots.push((Memory::Staged(buffer.stage(&ctx)), values));
                }
            }
            Op::Reclaim { staged } => {
                let Some(at) = here.staged(staged) else { return Ok(()) };
                let synced = here.stream.synchronize()?;
                if let (Memory::Staged(buffer), values) = here.slots.swap_remove(at) {
                    let buffer = buffer.reclaim(&synced);
                    same("reclaimed", &buffer, &values)?;
                    self.host.push((OnHost::Pinned(buffer), values));
                }
            }
            Op::Peek { staged } => {
                let Some(at) = here.staged(staged) else { return Ok(()) };
                let synced = here.stream.synchronize()?;
                if let (Memory::Staged(buffer), values) = &here.slots[at] {
                    same("peeked", buffer.peek(&synced), values)?;
                }
            }
            Op::PeekMut { staged, value } => {
                let Some(at) = here.staged(staged) else { return Ok(()) };
                let synced = here.stream.synchronize()?;
                if let (Memory::Staged(buffer), values) = &mut here.slots[at] {
                    buffer.peek_mut(&synced)[value as usize % N] = value;
                    values[value as usize % N] = value;
                }
            }
            Op::Write { pinned, value } => {
                let Some((host, values)) = pick(&mut self.host, pinned) else { return Ok(()) };
                let slice: &mut [u32] = match host {
                    OnHost::Pinned(buffer) => buffer,
                    OnHost::Pageable(buffer) => buffer,
                };
                slice.fill(value);
                values.fill(value);
            }
            Op::Fence { staged } => {
                let Some(at) = here.staged(staged) else { return Ok(()) };
                if let (Memory::Staged(buffer), values) = here.slots.swap_remove(at) {
                    match ctx.fence(buffer) {
                        Ok(pending) => here.pending.push((pending, values)),
                        Err(Rejected { error, value, .. }) => {
                            here.slots.push((Memory::Staged(value), values));
                            return Err(error.into());
                        }
                    }
                }
            }
            Op::Wait { pending } => {
                let Some((pending, values)) = take(&mut here.pending, pending) else { return Ok(()) };
                match pending.wait() {
                    Ok(buffer) => {
                        same("waited for", &buffer, &values)?;
                        self.host.push((OnHost::Pinned(buffer), values));
                    }
                    Err(Rejected { error, value, .. }) => {
                        here.pending.push((value, values));
                        return Err(error.into());
                    }
                }
            }
            Op::Transfer { from } => {
                let Some(at) = here.pooled(from) else { return Ok(()) };
                if let (Memory::Pool(buffer), values) = here.slots.swap_remove(at) {
                    match ctx.transfer(buffer, &there.stream.ctx()) {
                        Ok(buffer) => there.slots.push((Memory::Pool(buffer), values)),
                        Err(Rejected { error, value, .. }) => {
                            here.slots.push((Memory::Pool(value), values));
                            return other_device(error, here.device != there.device);
                        }
                    }
                }
            }
            Op::Lend { from, to, also, part, end } => return self.lend(here, there, (from, to, also), part, end),
            Op::LendMut { to, from, part, end } => return self.lend_mut(here, there, (to, from), part, end),
            Op::Detach { from } => {
                let Some(at) = here.pooled(from) else { return Ok(()) };
                if let (Memory::Pool(buffer), values) = here.slots.swap_remove(at) {
                    match ctx.detach(buffer) {
                        Ok(memory) => self.detached.push((memory, here.device, values)),
                        Err(Rejected { error, value, .. }) => {
                            here.slots.push((Memory::Pool(value), values));
                            return Err(error.into());
                        }
                    }
                }
            }
            Op::Attach { memory } => {
                let Some((memory, device, values)) = take(&mut self.detached, memory) else { return Ok(()) };
                match ctx.attach(memory) {
                    Ok(buffer) => here.slots.push((Memory::Pool(buffer), values)),
                    Err(Rejected { error, value, .. }) => {
                        self.detached.push((value, device, values));
                        return other_device(error, here.device != device);
                    }
                }
            }
            Op::DropDetached { memory } => drop(take(&mut self.detached, memory)),
            Op::ReadFrozen { to } => {
                let (Some(frozen), Some((memory, values))) = (here.frozen, pick(&mut here.slots, to)) else {
                    return Ok(());
                };
                copy(&ctx, Source::Device(frozen), memory.target())?;
                values.copy_from_slice(&(7000..).take(N).collect::<Values>());
            }
            Op::Batch { ref copies, halves, end } => return self.batch(here, copies, halves, end),
            Op::Warp { from, to, ref rows, end } => return warp(here, (from, to), rows, end),
            Op::Arena { from, to, buffers, ref drops, end } => return arena(here, (from, to), buffers, drops, end),
            Op::HostScope { from, to, value, end } => {
                // A scope that cannot be waited for while it has loans aborts the process (rule R12).
                if self.armed.is_some_and(|fault| fault.code.is_sticky()) {
                    self.settle();
                }
                return host_scope(here, (from, to), value, end);
            }
            Op::Drop { buffer } => drop(take(&mut here.slots, buffer)),
            Op::DropHost { buffer } => drop(take(&mut self.host, buffer)),
            Op::DropPending { pending } => drop(take(&mut here.pending, pending)),
            Op::Forget { buffer } => {
                if let Some((memory, _)) = take(&mut here.slots, buffer) {
                    match memory {
                        Memory::Staged(_) => self.forgotten.pieces += 1,
                        Memory::Pool(_) | Memory::Sync(_) => self.forgotten.allocations += 1,
                    }
                    mem::forget(memory);
                }
            }
            Op::ForgetPending { pending } => {
                if let Some((pending, _)) = take(&mut here.pending, pending) {
                    self.forgotten.pieces += 1;
                    self.forgotten.events += 1;
                    mem::forget(pending);
                }
            }
            Op::Synchronize => drop(here.stream.synchronize()?),
            Op::Trim => drop(here.stream.trim(0)?),
            Op::Check => {
                self.settle();
                self.check(here)?;
            }
            Op::Fail { nth, sticky } => {
                self.settle();
                let code = if sticky { Code::LAUNCH_FAILED } else { Code::UNKNOWN };
                let fault = Fault { nth, onwards: false, call: None, code };
                self.devices[0].engine().fail(fault);
                self.armed = Some(fault);
            }
        }
        Ok(())
    }

    fn allocate<'s>(&mut self, here: &mut Place<'s>, kind: Kind, value: u32) -> Result<()> {
        let values: Values = (value..).take(N).collect();
        let ctx = here.stream.ctx();
        let memory = match kind {
            Kind::Pool => Memory::Pool(filled(&ctx, &values)?),
            Kind::Sync => {
                let mut buffer = ctx.with_device_alloc(ctx.sync_alloc()).zeros(N)?;
                ctx.upload(&values, buffer.view_mut())?;
                Memory::Sync(buffer)
            }
            Kind::Staged => Memory::Staged(Buffer::<u32, Pinned<SimBackend>>::from_slice(&values)?.stage(&ctx)),
            Kind::Pinned => {
                self.host.push((OnHost::Pinned(Buffer::from_slice(&values)?), values));
                return Ok(());
            }
            Kind::Host => {
                self.host.push((OnHost::Pageable(Buffer::from_slice(&values)?), values));
                return Ok(());
            }
        };
        here.slots.push((memory, values));
        Ok(())
    }

    fn lend<'a, 'b>(
        &mut self,
        here: &mut Place<'a>,
        there: &mut Place<'b>,
        (from, to, also): (Which, Which, Option<Which>),
        part: Part,
        end: End,
    ) -> Done {
        let other = here.device != there.device;
        let (Some(from), Some((to, to_values))) = (here.on_device(from), pick(&mut there.slots, to)) else {
            return Ok(());
        };
        let also = also
            .and_then(|also| here.slots.len().checked_sub(1).map(|last| also.min(last)))
            .filter(|&also| also != from);
        let (ctx, there_ctx) = (here.stream.ctx(), there.stream.ctx());
        let (lent, mut second) = match also {
            Some(also) => match here.slots.get_disjoint_mut([from, also]) {
                Ok([lent, second]) => (&*lent, Some(second)),
                Err(_) => return Ok(()),
            },
            None => (&here.slots[from], None),
        };
        let Source::Device(view) = lent.0.source().part(part) else { return Ok(()) };
        let range = part.range();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            ctx.lend(view, &there_ctx, |borrowed| {
                copy(&there_ctx, Source::Device(borrowed), to.target().part(part))?;
                to_values[range.clone()].copy_from_slice(&lent.1[range.clone()]);
                if let Some((memory, values)) = second.as_deref_mut() {
                    copy(&ctx, Source::Device(view), memory.target().part(part))?;
                    values[range.clone()].copy_from_slice(&lent.1[range]);
                }
                finish(end)
            })
        }));
        ended(answer, other)
    }

    fn lend_mut<'a, 'b>(
        &mut self,
        here: &mut Place<'a>,
        there: &mut Place<'b>,
        (to, from): (Which, Which),
        part: Part,
        end: End,
    ) -> Done {
        let other = here.device != there.device;
        let (Some(to), Some((from, from_values))) = (here.on_device(to), pick(&mut there.slots, from)) else {
            return Ok(());
        };
        let (ctx, there_ctx) = (here.stream.ctx(), there.stream.ctx());
        let (memory, values) = &mut here.slots[to];
        let Target::Device(view) = memory.target().part(part) else { return Ok(()) };
        let answer = catch_unwind(AssertUnwindSafe(|| {
            ctx.lend_mut(view, &there_ctx, |borrowed| {
                copy(&there_ctx, from.source().part(part), Target::Device(borrowed))?;
                values[part.range()].copy_from_slice(&from_values[part.range()]);
                finish(end)
            })
        }));
        ended(answer, other)
    }

    /// A batch of copies to different buffers, from others and from host memory.
    fn batch<'s>(&mut self, here: &mut Place<'s>, copies: &[(Which, Which)], halves: bool, end: End) -> Done {
        let count = here.slots.len();
        if count < 2 {
            return Ok(());
        }
        let mut targets: Vec<usize> = copies.iter().map(|(_, to)| to % count).collect();
        targets.sort_unstable();
        targets.dedup();
        targets.truncate(count - 1);
        let ctx = here.stream.ctx();
        let (mut sources, mut destinations) = (Vec::new(), Vec::new());
        for (index, (memory, values)) in here.slots.iter_mut().enumerate() {
            if targets.contains(&index) {
                destinations.push((memory.target(), values));
            } else {
                sources.push((memory.source(), &*values));
            }
        }
        for (host, values) in &self.host {
            if let OnHost::Pageable(buffer) = host {
                sources.push((Source::Host(buffer.view()), values));
            }
        }
        let (views, mut models): (Vec<_>, Vec<_>) = destinations.into_iter().unzip();
        let pairs = || copies.iter().map(|(from, _)| sources[from % sources.len()]);
        let answer = catch_unwind(AssertUnwindSafe(|| {
            here.batch.scope(&ctx, |scope| {
                scope.group(|group| {
                    for ((from, _), to) in pairs().zip(views) {
                        macro_rules! add {
                            ($from:expr, $to:expr) => {
                                if halves {
                                    let (from, to) = ($from.split_at(N / 2)?, $to.split_at(N / 2)?);
                                    group.copy(from.0, to.0)?;
                                    group.copy(from.1, to.1)?;
                                } else {
                                    group.copy_unmerged($from, $to)?;
                                }
                            };
                        }
                        match (from, to) {
                            (Source::Device(from), Target::Device(to)) => add!(from, to),
                            (Source::Staged(from), Target::Device(to)) => add!(from, to),
                            (Source::Host(from), Target::Device(to)) => add!(from, to),
                            (Source::Device(from), Target::Staged(to)) => add!(from, to),
                            (Source::Staged(from), Target::Staged(to)) => add!(from, to),
                            (Source::Host(from), Target::Staged(to)) => add!(from, to),
                        }
                    }
                    finish(end)
                })
            })
        }));
        let is_submitted = matches!(answer, Ok(Ok(())));
        ended(answer.map(|inside| inside.map(Ok)), false)?;
        if is_submitted {
            for ((_, from), to) in pairs().zip(models.iter_mut()) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Compares all memory of a stream with the model.
    fn check(&mut self, here: &mut Place<'_>) -> Done {
        let ctx = here.stream.ctx();
        let mut down = Vec::new();
        for (memory, _) in &here.slots {
            let empty = ctx.pinned::<u32>(N)?.stage(&ctx);
            down.push(match memory.source() {
                Source::Device(from) => ctx.init(empty, from)?,
                Source::Staged(from) => ctx.init(empty, from)?,
                Source::Host(_) => continue,
            });
        }
        let synced = here.stream.synchronize()?;
        for (index, (found, (_, expected))) in down.iter().zip(&here.slots).enumerate() {
            same(&format!("buffer {index}"), found.peek(&synced), expected)?;
        }
        for (host, expected) in &self.host {
            match host {
                OnHost::Pinned(buffer) => same("a pinned buffer", buffer, expected)?,
                OnHost::Pageable(buffer) => same("a host buffer", buffer, expected)?,
            }
        }
        Ok(())
    }
}

/// Rows of one buffer go to another by a permutation.
fn warp(here: &mut Place<'_>, (from, to): (Which, Which), rows: &[u32], end: End) -> Done {
    let Some((from, to)) = here.two(from, to) else { return Ok(()) };
    let (ctx, batch) = (here.stream.ctx(), &mut here.batch);
    let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
    let permutation = Permutation::new(rows, ROWS as usize, 0)?;
    let answer = catch_unwind(AssertUnwindSafe(|| {
        batch.scope(&ctx, |scope| {
            scope.group(|group| {
                macro_rules! warp {
                    ($from:expr, $to:expr) => {
                        group.warp($from.rows(WIDTH)?, permutation, $to.rows(WIDTH)?.first(rows.len())?)?
                    };
                }
                match (from.0.source(), to.0.target()) {
                    (Source::Device(from), Target::Device(to)) => warp!(from, to),
                    (Source::Staged(from), Target::Device(to)) => warp!(from, to),
                    (Source::Device(from), Target::Staged(to)) => warp!(from, to),
                    (Source::Staged(from), Target::Staged(to)) => warp!(from, to),
                    (Source::Host(_), _) => {}
                }
                finish(end)
            })
        })
    }));
    let is_submitted = matches!(answer, Ok(Ok(())));
    ended(answer.map(|inside| inside.map(Ok)), false)?;
    if is_submitted {
        let width = WIDTH.get();
        for (to, from_row) in to.1.chunks_exact_mut(width).zip(rows) {
            to.copy_from_slice(&from.1[*from_row as usize * width..][..width]);
        }
    }
    Ok(())
}

/// One buffer goes through those of an arena, which are then dropped in some order, to another.
fn arena(here: &mut Place<'_>, (from, to): (Which, Which), buffers: usize, drops: &[Which], end: End) -> Done {
    let Some((from, to)) = here.two(from, to) else { return Ok(()) };
    let ctx = here.stream.ctx();
    let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let arena = ctx.with_device_alloc(&here.arena);
        let mut chain = vec![arena.zeros::<u32>(N)?];
        copy(&ctx, from.0.source(), Target::Device(chain[0].view_mut()))?;
        for _ in 1..buffers {
            let mut next = arena.zeros::<u32>(N)?;
            if let Some(last) = chain.last() {
                ctx.copy(last.view(), next.view_mut())?;
            }
            chain.push(next);
        }
        if let Some(last) = chain.last() {
            copy(&ctx, Source::Device(last.view()), to.0.target())?;
            to.1.copy_from_slice(&from.1);
        }
        for which in drops {
            if !chain.is_empty() {
                drop(chain.remove(which % chain.len()));
            }
        }
        finish(end)
    }));
    let iterated = here.arena.iter();
    ended(answer.map(|inside| inside.map(Ok)), false)?;
    Ok(iterated?)
}

/// Host slices are lent: one is read into a buffer, another gets what a buffer held before.
fn host_scope(here: &mut Place<'_>, (from, to): (Which, Which), value: u32, end: End) -> Done {
    let Some((from, to)) = here.two(from, to) else { return Ok(()) };
    let (up, mut down): (Values, Values) = ((value..).take(N).collect(), vec![0; N]);
    let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
    let (mut is_down, mut is_up) = (false, false);
    let answer = catch_unwind(AssertUnwindSafe(|| {
        here.stream.host_scope(|scope| {
            let ctx = scope.ctx();
            let (source, target) = (scope.source(&up), scope.target(&mut down));
            match from.0.source() {
                Source::Device(from) => ctx.copy(from, target)?,
                Source::Staged(from) => ctx.copy(from, target)?,
                Source::Host(_) => {}
            }
            is_down = true;
            match to.0.target() {
                Target::Device(to) => ctx.copy(source, to)?,
                Target::Staged(to) => ctx.copy(source, to)?,
            }
            is_up = true;
            finish(end)
        })
    }));
    if is_down {
        same("what came down", &down, &from.1)?;
    }
    if is_up {
        to.1.copy_from_slice(&up);
    }
    ended(answer, false)
}

/// Ends a closure as the program says.
fn finish(end: End) -> Result<()> {
    match end {
        End::Returns => Ok(()),
        // An error that nothing else here answers.
        End::Fails => Err(Error::SameStream),
        End::Panics => resume_unwind(Box::new(OnPurpose)),
    }
}

/// What became of a closure that [`finish`] ended.
fn ended(answer: std::thread::Result<Result<Result<()>>>, is_other: bool) -> Done {
    match answer {
        Err(panic) if panic.is::<OnPurpose>() => Ok(()),
        Err(panic) => resume_unwind(panic),
        Ok(Ok(Err(Error::SameStream)) | Err(Error::SameStream)) => Ok(()),
        Ok(Err(error)) => other_device(error, is_other),
        Ok(Ok(answer)) => Ok(answer?),
    }
}

/// Memory of another device is refused, always and only then.
fn other_device(error: Error, is_other: bool) -> Done {
    match error {
        Error::OtherDevice { .. } if is_other => Ok(()),
        error => Err(error.into()),
    }
}

fn filled<'s>(ctx: &Ctx<'_, Sim<'s>>, values: &[u32]) -> Result<Buffer<u32, Sim<'s>>> {
    let staged = Buffer::<u32, Pinned<SimBackend>>::from_slice(values)?.stage(ctx);
    Ok(ctx.init(ctx.with_pool().device::<u32>(N)?, staged.view())?)
}

fn copy<'s>(ctx: &Ctx<'_, Sim<'s>>, from: Source<'_, 's>, to: Target<'_, 's>) -> Result<()> {
    match (from, to) {
        (Source::Device(from), Target::Device(to)) => ctx.copy(from, to),
        (Source::Staged(from), Target::Device(to)) => ctx.copy(from, to),
        (Source::Device(from), Target::Staged(to)) => ctx.copy(from, to),
        (Source::Staged(from), Target::Staged(to)) => ctx.copy(from, to),
        (Source::Host(from), Target::Device(to)) => ctx.upload(from.as_slice(), to),
        (Source::Host(from), Target::Staged(to)) => ctx.upload(from.as_slice(), to),
    }
}

impl<'s> Place<'s> {
    fn new(stream: Stream<Sim<'s>>, device: usize, frozen: Option<View<'s, u32, Sim<'s>>>) -> Self {
        let arena = Stack::new(stream.ctx().pool());
        Place { stream, device, slots: Vec::new(), pending: Vec::new(), arena, batch: BatchCopy::new(), frozen }
    }

    /// Two different buffers.
    fn two(&self, one: Which, other: Which) -> Option<(usize, usize)> {
        let count = self.slots.len();
        let (one, other) = (one.checked_rem(count)?, other.checked_rem(count)?);
        Some((one, if one == other { (other + 1) % count } else { other })).filter(|(one, other)| one != other)
    }

    fn staged(&self, which: Which) -> Option<usize> {
        nth(&self.slots, which, |(memory, _)| matches!(memory, Memory::Staged(_)))
    }

    fn pooled(&self, which: Which) -> Option<usize> {
        nth(&self.slots, which, |(memory, _)| matches!(memory, Memory::Pool(_)))
    }

    fn on_device(&self, which: Which) -> Option<usize> {
        nth(&self.slots, which, |(memory, _)| !matches!(memory, Memory::Staged(_)))
    }
}

impl<'s> Memory<'s> {
    fn source(&self) -> Source<'_, 's> {
        match self {
            Memory::Pool(buffer) => Source::Device(buffer.view()),
            Memory::Sync(buffer) => Source::Device(buffer.view()),
            Memory::Staged(buffer) => Source::Staged(buffer.view()),
        }
    }

    fn target(&mut self) -> Target<'_, 's> {
        match self {
            Memory::Pool(buffer) => Target::Device(buffer.view_mut()),
            Memory::Sync(buffer) => Target::Device(buffer.view_mut()),
            Memory::Staged(buffer) => Target::Staged(buffer.view_mut()),
        }
    }
}

impl Source<'_, '_> {
    fn part(self, part: Part) -> Self {
        match self {
            Source::Device(view) => Source::Device(view.slice(part.range()).unwrap()),
            Source::Staged(view) => Source::Staged(view.slice(part.range()).unwrap()),
            Source::Host(view) => Source::Host(view.slice(part.range()).unwrap()),
        }
    }
}

impl Target<'_, '_> {
    fn part(self, part: Part) -> Self {
        match self {
            Target::Device(view) => Target::Device(view.slice(part.range()).unwrap()),
            Target::Staged(view) => Target::Staged(view.slice(part.range()).unwrap()),
        }
    }
}

impl Part {
    fn range(self) -> core::ops::Range<usize> {
        self.at..(self.at + self.len).min(N)
    }
}

/// The place of the buffer that `which` means among those that fit.
fn nth<T>(slots: &[T], which: Which, fits: impl Fn(&T) -> bool) -> Option<usize> {
    let fitting: Vec<usize> = (0..slots.len()).filter(|&at| fits(&slots[at])).collect();
    fitting.get(which.checked_rem(fitting.len())?).copied()
}

fn pick<T>(slots: &mut [T], which: Which) -> Option<&mut T> {
    let at = which.checked_rem(slots.len())?;
    slots.get_mut(at)
}

fn take<T>(slots: &mut Vec<T>, which: Which) -> Option<T> {
    let at = which.checked_rem(slots.len())?;
    Some(slots.swap_remove(at))
}
