//! The operations of a program, on the library and on a model that executes everything at once and
//! in order.

use std::mem;

use tidelock::{
    BatchCopy, Buffer, Error, Result, Stack, Stream,
    driver::Code,
    error::Rejected,
    location::Pinned,
    sim::{self, Fault, Sim, SimBackend},
    stream::{Detached, Pending, Shared, StreamAlloc},
};

use super::{
    closures::{arena, host_scope, warp},
    memory::{Memory, N, OnHost, Source, Target, Values, copy, filled, nth, pick, take},
    program::{Kind, Op, Which},
};

/// A staged buffer that a fence will hand back.
pub type Fenced<'s> = Pending<u32, Sim<'s>>;

/// One stream, its memory, and what that holds by the model.
pub struct Place<'s> {
    pub stream: Stream<Sim<'s>>,
    pub device: usize,
    pub slots: Vec<(Memory<'s>, Values)>,
    pub pending: Vec<(Fenced<'s>, Values)>,
    pub arena: Stack<Sim<'s>, StreamAlloc<Sim<'s>>>,
    pub batch: BatchCopy,
    pub shared: Option<Shared<u32, Sim<'s>>>,
}

/// What belongs to no stream.
pub struct World<'d> {
    pub devices: &'d [sim::Device; 2],
    pub host: Vec<(OnHost, Values)>,
    pub detached: Vec<(Buffer<u32, Detached<SimBackend>>, usize, Values)>,
    pub armed: Option<Fault>,
    /// Failures that have happened.
    pub hits: usize,
    pub forgotten: Forgotten,
}

/// What a program forgot. This must leak, and nothing else.
#[derive(Clone, Copy, Default)]
pub struct Forgotten {
    pub allocations: usize,
    pub pieces: usize,
    pub events: usize,
}

/// Why an operation was not done.
pub enum Trouble {
    Refused(Error),
    Wrong(String),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        Trouble::Refused(error.into())
    }
}

pub type Done = core::result::Result<(), Trouble>;

/// Returns `Ok` if `found` is what the model says.
pub fn same(what: &str, found: &[u32], expected: &[u32]) -> Done {
    match (0..N).find(|&i| found.get(i) != expected.get(i)) {
        None => Ok(()),
        Some(i) => Err(Trouble::Wrong(format!("{what}[{i}] is {:?} and not {:?}", found.get(i), expected.get(i)))),
    }
}

impl World<'_> {
    /// Whether an injected failure has happened and `error` reports it.
    pub fn explains(&self, error: Error) -> bool {
        let code = match error {
            Error::Driver(why) | Error::Poisoned(why) => why.code,
            Error::OutOfMemory { .. } => Code::OUT_OF_MEMORY,
            _ => return false,
        };
        self.hits > 0 && (code == Code::UNKNOWN || code == Code::LAUNCH_FAILED)
    }

    /// Counts the failure if it has happened.
    pub fn settle_if_hit(&mut self) {
        if let Some(fault) = self.armed
            && self.devices[0].gpu().calls_since_arming() >= fault.nth
        {
            self.settle();
        }
    }

    /// Disarms a failure that has not happened.
    pub fn settle(&mut self) {
        if let Some(fault) = self.armed.take() {
            let engine = self.devices[0].gpu();
            self.hits += usize::from(engine.calls_since_arming() >= fault.nth);
            engine.disarm();
        }
    }

    /// Does one operation on `here`, with `there` as the other stream. What is refused has no
    /// effect in the model.
    pub fn step<'a, 'b>(&mut self, op: &Op, here: &mut Place<'a>, there: &mut Place<'b>) -> Done {
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
            Op::Upload { to, part, value, times } => {
                let Some((memory, values)) = pick(&mut here.slots, to) else { return Ok(()) };
                for value in (value..).take(times as usize) {
                    let up: Values = (value..).take(part.range().len()).collect();
                    match memory.target().part(part) {
                        Target::Device(to) => ctx.upload(&up, to)?,
                        Target::Staged(to) => ctx.upload(&up, to)?,
                    }
                    values[part.range()].copy_from_slice(&up);
                }
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
            Op::ReadShared { to } => {
                let (Some(shared), Some((memory, values))) = (&here.shared, pick(&mut here.slots, to)) else {
                    return Ok(());
                };
                copy(&ctx, Source::Device(shared.view()), memory.target())?;
                values.copy_from_slice(&(7000..).take(N).collect::<Values>());
            }
            Op::Batch { ref copies, cut, end } => return self.batch(here, copies, cut, end),
            Op::Warp { from, to, ref rows, end } => return warp(here, (from, to), rows, end),
            Op::Arena { from, to, buffers, ref drops, end } => return arena(here, (from, to), buffers, drops, end),
            Op::HostScope { from, to, value, end } => {
                // A scope that cannot be waited for while it has loans aborts the process (rule
                // R12).
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
            Op::Synchronize => {
                here.stream.synchronize()?;
            }
            Op::Trim => {
                here.stream.trim(0)?;
            }
            Op::Check => {
                self.settle();
                self.check(here)?;
            }
            Op::Fail { nth, sticky } => {
                self.settle();
                let code = if sticky { Code::LAUNCH_FAILED } else { Code::UNKNOWN };
                let fault = Fault { nth, onwards: false, call: None, code };
                self.devices[0].gpu().fail(fault);
                self.armed = Some(fault);
            }
        }
        Ok(())
    }

    pub fn allocate<'s>(&mut self, here: &mut Place<'s>, kind: Kind, value: u32) -> Result<()> {
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

    /// Compares all memory of a stream with the model.
    pub fn check(&mut self, here: &mut Place<'_>) -> Done {
        let ctx = here.stream.ctx();
        let mut down = Vec::new();
        for (memory, _) in &here.slots {
            let empty = ctx.alloc_pinned::<u32>(N)?.stage(&ctx);
            down.push(match memory.source() {
                Source::Device(from) => ctx.init_from(empty, from)?,
                Source::Staged(from) => ctx.init_from(empty, from)?,
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

/// Memory of another device is refused, always and only then.
pub fn other_device(error: Error, is_other: bool) -> Done {
    match error {
        Error::OtherDevice { .. } if is_other => Ok(()),
        error => Err(error.into()),
    }
}

impl<'s> Place<'s> {
    pub fn new(stream: Stream<Sim<'s>>, device: usize, shared: Option<Shared<u32, Sim<'s>>>) -> Self {
        let arena = Stack::new(stream.ctx().pool());
        Place { stream, device, slots: Vec::new(), pending: Vec::new(), arena, batch: BatchCopy::new(), shared }
    }

    /// Two different buffers.
    pub fn two(&self, one: Which, other: Which) -> Option<(usize, usize)> {
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

    pub fn on_device(&self, which: Which) -> Option<usize> {
        nth(&self.slots, which, |(memory, _)| !matches!(memory, Memory::Staged(_)))
    }
}
