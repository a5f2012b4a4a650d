//! What decides how the copies of a batch are described and launched, and keeps what that takes.

use core::{
    cell::RefCell,
    ffi::{c_int, c_void},
    fmt,
    num::NonZero,
};
use std::sync::{Arc, OnceLock};

use super::{
    encode::{Budget, Launch, Remaining, describe, describe_on_device, describe_with},
    extent::wide,
    graph_cache::{self, GraphCache},
    kernels::{Chosen, Kernels, too_large},
    layout::{LONGEST, Parameters, SEGMENTS},
    payload::Payload,
    split::FirstPart,
    staging::Staging,
    table::Tables,
};
use crate::device::{
    Copies, Queue,
    code::DriverError,
    cuda::{
        driver::{Answer, symbol},
        queue::CudaQueue,
    },
};

/// The copy engine of one queue. It takes nothing before it is used.
#[derive(Default)]
pub(in super::super) struct BatchLauncher {
    state: RefCell<State>,
}

#[derive(Default)]
enum State {
    /// Nobody has asked yet.
    #[default]
    Unknown,
    /// There are no kernels for this device.
    Without,
    With(Box<Working>),
}

struct Working {
    kernels: Arc<Kernels>,
    parameters: Parameters,
    tables: Option<Tables>,
    staging: Option<Staging>,
    replay: Again,
}

/// The way to launch a batch again.
enum Again {
    /// Nobody has asked yet.
    Unknown,
    /// The driver has no such thing, or has failed at it.
    Without,
    With(Box<GraphCache>),
}

impl Working {
    fn new(kernels: Arc<Kernels>) -> Self {
        Working { kernels, parameters: Parameters::new(), tables: None, staging: None, replay: Again::Unknown }
    }
}

/// What of a batch was enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Done {
    Nothing,
    /// What is read in stream order.
    InOrder,
    All,
}

impl BatchLauncher {
    /// Enqueues what of `copies` is the kernels'.
    ///
    /// # Errors
    /// What the driver answered; some of the copies may be enqueued, none of which reads plain host memory.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    pub(in super::super) unsafe fn run(&self, queue: &CudaQueue, copies: &Copies<'_>) -> Result<Done, DriverError> {
        let (in_order, all) = (copies.during_call, copies.len.len());
        // A single copy is done sooner by the driver, plain host memory or not.
        if all < 2 && copies.moves.is_empty() {
            return Ok(Done::Nothing);
        }
        // SAFETY:
        // - The caller promises the sources, to the end of this call; the answer is not used any longer.
        let payload = unsafe { Payload::of(copies, queue.device.crossovers.payload) };
        let stages = in_order < all && Staging::takes(copies, queue.device.crossovers.staged);
        if !stages && payload.is_none() && in_order < 2 && copies.moves.is_empty() {
            return Ok(Done::Nothing);
        }
        // A queue belongs to one thread and nothing in here calls back, so that the state is free.
        let Ok(mut state) = self.state.try_borrow_mut() else { return Ok(Done::Nothing) };
        let Some(working) = state.known(queue) else { return Ok(Done::Nothing) };
        let Some(mine) = front_of(copies, in_order) else { return Ok(Done::Nothing) };
        if let Some(payload) = payload {
            // SAFETY:
            // - A part of `copies`, for which the caller keeps the contract, as for the others, which are the payload.
            if unsafe { working.launch_with(queue, mine, &payload) }? {
                return Ok(Done::All);
            }
        }
        if stages && working.staging.is_none() {
            working.staging = Staging::new().ok();
        }
        if stages && let Some(mut staging) = working.staging.take() {
            // SAFETY:
            // - The caller promises the sources. What reads them is launched below, and nothing else.
            let answer = unsafe { staging.fill(queue, copies) }.and_then(|sources| match sources {
                None => Ok(Done::Nothing),
                Some(src) => {
                    let copies = Copies { src, during_call: all, ..*copies };
                    // SAFETY:
                    // - The caller keeps the contract for everything but the sources in plain host memory, and what is in
                    //   their place is not changed before the stream has passed it.
                    unsafe { working.run_in_order(queue, copies) }.map(|()| Done::All)
                }
            });
            working.staging = Some(staging);
            match answer {
                Ok(Done::Nothing) => {}
                answer => return answer,
            }
        }
        if in_order < 2 && copies.moves.is_empty() {
            return Ok(Done::Nothing);
        }
        // SAFETY:
        // - A part of `copies`, for which the caller keeps the contract.
        unsafe { working.run_in_order(queue, mine) }?;
        Ok(if in_order == all { Done::All } else { Done::InOrder })
    }

    /// Gets everything that batches would otherwise get when they need it first, if there are kernels for the device.
    ///
    /// # Errors
    /// What the driver answered; what was had stays.
    pub(in super::super) fn warm(&self, queue: &CudaQueue) -> Result<(), DriverError> {
        let Ok(mut state) = self.state.try_borrow_mut() else { return Ok(()) };
        match state.known(queue) {
            Some(working) => working.warm(queue),
            None => Ok(()),
        }
    }

    /// Gives back what the engine has, but for page-locked memory that the stream may still be reading.
    pub(in super::super) fn close(&self, queue: &CudaQueue) {
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        let State::With(working) = core::mem::replace(&mut *state, State::Without) else { return };
        if let Again::With(replay) = working.replay {
            replay.close(queue);
        }
        // One refused query must not lock memory, nor keep kernels loaded, where the stream was waited for.
        let passed = queue.seems_idle() || queue.is_idle().or_else(|_| queue.is_idle()).unwrap_or(false);
        if !passed {
            queue.device.shared.keep_kernels();
        }
        if let Some(mut tables) = working.tables {
            tables.close(queue, passed);
        }
        if let Some(mut staging) = working.staging {
            staging.close(queue, passed);
        }
    }
}

impl State {
    /// What there is for the device of `queue`: looked for the first time, known later.
    fn known(&mut self, queue: &CudaQueue) -> Option<&mut Working> {
        if let State::Unknown = *self {
            *self = match Kernels::of(&queue.device) {
                Err(_) => State::Without,
                Ok(kernels) => State::With(Box::new(Working::new(kernels))),
            };
        }
        match self {
            State::With(working) => Some(working),
            State::Unknown | State::Without => None,
        }
    }
}

impl Working {
    fn warm(&mut self, queue: &CudaQueue) -> Result<(), DriverError> {
        let mut staging = match self.staging.take() {
            Some(staging) => staging,
            None => Staging::new()?,
        };
        let answer = staging.warm(queue);
        self.staging = Some(staging);
        answer?;
        let mut tables = match self.tables.take() {
            Some(tables) => tables,
            None => Tables::new(queue)?,
        };
        let answer = tables.warm(queue);
        self.tables = Some(tables);
        answer?;
        if let Again::Unknown = self.replay {
            // Any kernel will do: each batch tells the graphs what they launch before they do.
            let any = Launch { blocks: 1, plain: true, ..Launch::default() };
            self.replay.look(queue, &self.kernels.choose(&self.parameters, &any, false)?, &self.parameters);
        }
        Ok(())
    }

    /// Enqueues `copies`, all of which are read in stream order.
    ///
    /// # Errors
    /// What the driver answered; some of the copies may be enqueued.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    unsafe fn run_in_order(&mut self, queue: &CudaQueue, copies: Copies<'_>) -> Result<(), DriverError> {
        let driver = MemcpyRouting::look(&copies, queue.device.crossovers.copy_engine);
        let mut rest = copies;
        while !(rest.len.is_empty() && rest.moves.is_empty()) {
            // Up to the next copy that is the driver's.
            let each = rest.len.iter().zip(rest.src).zip(rest.dst);
            let mine = if driver.takes_none {
                rest.len.len()
            } else {
                each.take_while(|((len, src), dst)| !driver.takes(**len, **src, **dst)).count()
            };
            let Some(part) = front_of(&rest, mine) else { break };
            // SAFETY:
            // - A part of `copies`, for which the caller keeps the contract.
            unsafe { self.run(queue, part) }?;
            let Some(behind) = rest.behind(mine) else { break };
            // SAFETY:
            // - Copies for which the caller keeps the contract.
            unsafe { copy_first(queue, &behind) }?;
            rest = behind.behind(1).unwrap_or_default();
        }
        Ok(())
    }

    /// Launches `copies` and `payload`, if one launch takes it all; `false`, and nothing is enqueued, if not.
    ///
    /// # Safety
    /// As for `Queue::batch`, for `copies`, all of which are read in stream order, and `payload` together.
    unsafe fn launch_with(
        &mut self,
        queue: &CudaQueue,
        copies: Copies<'_>,
        payload: &Payload<'_>,
    ) -> Result<bool, DriverError> {
        if !MemcpyRouting::look(&copies, queue.device.crossovers.copy_engine).takes_none {
            return Ok(false);
        }
        let Some(launch) = describe_with(&Remaining::new(copies), payload, &mut self.parameters) else {
            return Ok(false);
        };
        // SAFETY:
        // - The parameters describe these copies, and those of the payload, whose sources they have.
        unsafe { self.launch(queue, launch, true) }.map(|_| true)
    }

    /// # Safety
    /// As for `Queue::batch`; no copy is longer than `LONGEST`.
    unsafe fn run(&mut self, queue: &CudaQueue, copies: Copies<'_>) -> Result<(), DriverError> {
        let mut rest = Remaining::new(copies);
        let mut first = FirstPart::of(&rest, queue.seems_idle(), queue.device.crossovers.part);
        while !rest.is_empty() {
            let done = match rest.first_move() {
                // SAFETY:
                // - The caller keeps the contract for `rest`, here and below.
                Some(m) if !m.device.is_null() => unsafe { self.launch_numbers_on_device(queue, &rest) }?,
                // SAFETY:
                // - As above.
                _ => unsafe { self.launch_next(queue, &rest, first.take()) }?,
            };
            // A launch that takes nothing would never end, and one that is behind the end never begins.
            let behind = rest.behind(&done).filter(|_| rest.taken(&done) != 0);
            rest = behind.ok_or_else(too_large)?;
        }
        Ok(())
    }

    /// Launches `rest`, which has no numbers on the device, or as much as one launch takes, or the `first` part of it; returns it.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    unsafe fn launch_next(
        &mut self,
        queue: &CudaQueue,
        rest: &Remaining<'_>,
        first: Option<FirstPart>,
    ) -> Result<Launch, DriverError> {
        let most = first.map_or(Budget::ALL, |first| first.most);
        let described = if first.is_none() && rest.exceeds_parameters() {
            None
        } else {
            describe(rest, &mut self.parameters, None, most)
        };
        let is_all = |launch: &Launch| rest.taken(launch) == rest.row_count().saturating_add(rest.copy_count());
        let is_worth = |launch: &Launch| match first {
            Some(first) => rest.bytes(launch) >= first.least,
            // A table would have no more segments.
            None => is_all(launch) || launch.segments == SEGMENTS,
        };
        if let Some(launch) = described.filter(is_worth) {
            // SAFETY:
            // - The parameters describe the first copies of `rest`, for which the caller keeps the contract.
            return unsafe { self.launch(queue, launch, is_all(&launch)) };
        }
        // SAFETY:
        // - The caller keeps the contract for `rest`.
        unsafe { self.launch_table(queue, rest, first.map_or(Budget::ALL, |first| first.in_table)) }
    }

    /// Launches what the parameters describe, as a graph if that is sooner, and it is the `last` of its batch: nothing overlaps
    /// with a graph; returns it.
    ///
    /// # Safety
    /// As for `Queue::batch`, for the copies described.
    unsafe fn launch(&mut self, queue: &CudaQueue, launch: Launch, last: bool) -> Result<Launch, DriverError> {
        let head = &mut self.parameters.head;
        // All of it, so that what is launched again is found to be the same, whatever was launched in between.
        (head.early, head.epoch, head.table, head.fetched) = (0, 0, 0, 0);
        let Working { kernels, parameters, replay, .. } = self;
        let chosen = kernels.choose(parameters, &launch, false)?;
        if last && queue.seems_idle() && chosen.bytes <= queue.device.crossovers.graph.min(graph_cache::LARGEST) {
            // SAFETY:
            // - The parameters describe these copies only, and name no table; the caller keeps the rest.
            if unsafe { replay.launch(queue, &chosen, parameters) } {
                return Ok(launch);
            }
        }
        // SAFETY:
        // - As above, and nothing was enqueued there.
        unsafe { kernels.launch(queue, &chosen, parameters) }?;
        Ok(launch)
    }

    /// Launches as much of `rest` as a table describes and `most` says, or if there is none to be had, as the parameters do;
    /// returns it.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    unsafe fn launch_table(
        &mut self,
        queue: &CudaQueue,
        rest: &Remaining<'_>,
        most: Budget,
    ) -> Result<Launch, DriverError> {
        if self.tables.is_none() {
            self.tables = Tables::new(queue).ok();
        }
        if let Some(tables) = &mut self.tables {
            let slot = tables.next(queue)?;
            if let Some(launch) = describe(rest, &mut self.parameters, Some(slot.words), most) {
                let head = &mut self.parameters.head;
                (head.early, head.epoch) = (1, slot.epoch);
                (head.table, head.fetched) = (slot.table, slot.fetched);
                let chosen = self.kernels.choose(&self.parameters, &launch, true)?;
                // SAFETY:
                // - The parameters describe these copies only; the caller keeps the rest.
                // - The table lives as long as the queue, and is filled again only when the stream has passed the launch; the
                //   slot it is fetched into is used by no other launch that may run at the same time.
                unsafe { self.kernels.launch(queue, &chosen, &self.parameters) }?;
                return Ok(launch);
            }
        }
        if let Some(launch) = describe(rest, &mut self.parameters, None, Budget::ALL) {
            // SAFETY:
            // - The parameters describe the first copies of `rest`.
            return unsafe { self.launch(queue, launch, false) };
        }
        // SAFETY:
        // - One of the copies for which the caller keeps the contract.
        unsafe { copy_first(queue, rest.copies()) }?;
        Ok(Launch { copies: 1, ..Launch::default() })
    }

    /// Launches as much of the first move of `rest` as one launch takes, with its numbers where they are, in device memory.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    unsafe fn launch_numbers_on_device(
        &mut self,
        queue: &CudaQueue,
        rest: &Remaining<'_>,
    ) -> Result<Launch, DriverError> {
        let described = describe_on_device(rest, &mut self.parameters);
        let (Some(launch), Some(m)) = (described, rest.first_move()) else { return Err(too_large()) };
        let head = &mut self.parameters.head;
        // Earlier work on the stream may still be writing the numbers.
        (head.early, head.fetchers, head.pieces) = (0, 0, 0);
        (head.table, head.fetched) = (wide(m.device.addr()), 0);
        let chosen = self.kernels.choose(&self.parameters, &launch, true)?;
        // SAFETY:
        // - The parameters describe these rows only; the numbers may be read in stream order, as the caller promises.
        unsafe { self.kernels.launch(queue, &chosen, &self.parameters) }?;
        Ok(launch)
    }
}

impl Again {
    /// Looks for graphs, if nobody has; `chosen` is what they are made of.
    fn look(&mut self, queue: &CudaQueue, chosen: &Chosen<'_>, parameters: &Parameters) {
        if let Again::Unknown = self {
            *self = match GraphCache::new(queue, chosen, parameters) {
                Ok(replay) => Again::With(Box::new(replay)),
                Err(_) => Again::Without,
            };
        }
    }

    /// Launches as a graph; `false`, and nothing is enqueued, if that cannot be had. What fails once is not tried again: the
    /// plain launch that follows says what is wrong if it is not the graph.
    ///
    /// # Safety
    /// As for `Kernels::launch`; the queue is always the same.
    unsafe fn launch(&mut self, queue: &CudaQueue, chosen: &Chosen<'_>, parameters: &Parameters) -> bool {
        self.look(queue, chosen, parameters);
        let Again::With(replay) = self else { return false };
        // SAFETY:
        // - The caller keeps the contract.
        let launched = unsafe { replay.launch(queue, chosen, parameters) }.is_ok();
        if !launched && let Again::With(replay) = core::mem::replace(self, Again::Without) {
            replay.close(queue);
        }
        launched
    }
}

/// Enqueues the first of `copies`, if there is one.
///
/// # Safety
/// As for `Queue::batch`.
unsafe fn copy_first(queue: &CudaQueue, copies: &Copies<'_>) -> Result<(), DriverError> {
    if let (Some(&dst), Some(&src), Some(&len)) = (copies.dst.first(), copies.src.first(), copies.len.first())
        && let Some(bytes) = NonZero::new(len)
    {
        // SAFETY:
        // - The caller keeps the contract for this copy.
        unsafe { queue.copy(dst, src, bytes) }.map_err(|error| error.of_copy(dst, len))?;
    }
    Ok(())
}

/// The moves, and the first `n` copies.
fn front_of<'a>(copies: &Copies<'a>, n: usize) -> Option<Copies<'a>> {
    let (dst, src, len) = (copies.dst.get(..n)?, copies.src.get(..n)?, copies.len.get(..n)?);
    Some(Copies { dst, src, len, during_call: n, ..*copies })
}

/// Which copies are left to the driver: very long ones, and long ones over PCIe.
struct MemcpyRouting {
    takes_none: bool,
    /// From so many bytes on.
    long: usize,
    memory_type: Option<MemoryType>,
}

impl MemcpyRouting {
    /// Looks at a few of the copies of `long` bytes and more: if one of them reads or writes host memory, all of them are
    /// looked at.
    fn look(copies: &Copies<'_>, long: usize) -> MemcpyRouting {
        // As long as the longest one at least, and less than twice as long.
        let all = copies.len.iter().fold(0, |all, len| all | len);
        if all < long.min(LONGEST) {
            return MemcpyRouting { takes_none: true, long, memory_type: None };
        }
        let memory_type = *MEMORY_TYPE.get_or_init(|| symbol("cuPointerGetAttribute").ok());
        let every = copies.len.len().div_ceil(4).max(1);
        let those = copies.len.iter().zip(copies.src).zip(copies.dst).filter(|((len, _), _)| **len >= long);
        let any = memory_type
            .is_some_and(|call| those.step_by(every).any(|((_, src), dst)| is_host(call, *src) || is_host(call, *dst)));
        MemcpyRouting { takes_none: !any && all < LONGEST, long, memory_type: memory_type.filter(|_| any) }
    }

    fn takes(&self, len: usize, src: *const u8, dst: *mut u8) -> bool {
        let is_long = || len >= self.long;
        len > LONGEST || (is_long() && self.memory_type.is_some_and(|call| is_host(call, src) || is_host(call, dst)))
    }
}

/// `cuPointerGetAttribute`: where to write, attribute, address.
type MemoryType = unsafe extern "C" fn(*mut c_void, c_int, *const u8) -> Answer;
static MEMORY_TYPE: OnceLock<Option<MemoryType>> = OnceLock::new();
/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, a number.
const ATTRIBUTE_MEMORY_TYPE: c_int = 2;
/// `CU_MEMORYTYPE_HOST`.
const HOST: u32 = 1;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::{same_function, same_number};

    same_function!(MemoryType, cuPointerGetAttribute, _, _, _);
    same_number!(ATTRIBUTE_MEMORY_TYPE, CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE);
    same_number!(HOST, CUmemorytype::CU_MEMORYTYPE_HOST);
}

fn is_host(call: MemoryType, address: *const u8) -> bool {
    let mut kind = 0_u32;
    // SAFETY:
    // - `kind` is valid for a write of the attribute's type; the address is only looked up.
    let answer = unsafe { call((&raw mut kind).cast(), ATTRIBUTE_MEMORY_TYPE, address) };
    answer == 0 && kind == HOST
}

impl fmt::Debug for BatchLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchLauncher").finish_non_exhaustive()
    }
}
