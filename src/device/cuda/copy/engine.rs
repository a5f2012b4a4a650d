//! What decides how the copies of a batch are described and launched, and keeps what that takes.

use core::{
    cell::RefCell,
    ffi::{c_int, c_void},
    fmt,
    num::NonZero,
};
use std::sync::{Arc, OnceLock};

use super::{
    form::{self, LONGEST, Launch, PARAMETER_WORDS, Parameters},
    kernels::Kernels,
    table::{self, Tables},
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
pub(in super::super) struct Engine {
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
}

/// Blocks that fetch a table: 64 KiB on their way at once are about what PCIe 5 needs (H200).
const FETCHERS: u32 = 16;
/// Bytes that the device copies in about the time a launch takes the host.
const WORTH: usize = 12 << 20;
/// The most copies that are described in launch parameters.
const MOST: usize = 2 * PARAMETER_WORDS;
/// The shortest copy that is looked at for whether it is host memory, which the copy engines do better.
const HOST_LARGE: usize = 1 << 18;

impl Engine {
    /// Enqueues `copies`, all of which are read in stream order. `Ok(false)`, and nothing is enqueued, if there are no
    /// kernels for the device.
    ///
    /// # Errors
    /// What the driver answered; some of the copies may be enqueued.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    pub(in super::super) unsafe fn run(&self, queue: &CudaQueue, copies: &Copies<'_>) -> Result<bool, DriverError> {
        // A queue belongs to one thread and nothing in here calls back, so that the state is free.
        let Ok(mut state) = self.state.try_borrow_mut() else { return Ok(false) };
        if let State::Unknown = *state {
            *state = match Kernels::of(&queue.device) {
                Err(_) => State::Without,
                Ok(kernels) => {
                    State::With(Box::new(Working { kernels, parameters: Parameters::new(), tables: None }))
                }
            };
        }
        let State::With(working) = &mut *state else { return Ok(false) };
        let driver = Driver::look(copies);
        let mut rest = *copies;
        while !rest.len.is_empty() {
            // Up to the next copy that is the driver's.
            let each = rest.len.iter().zip(rest.src).zip(rest.dst);
            let mine = if driver.takes_none {
                rest.len.len()
            } else {
                each.take_while(|((len, src), dst)| !driver.takes(**len, **src, **dst)).count()
            };
            if let Some(part) = front_of(&rest, mine) {
                // SAFETY:
                // - A part of `copies`, for which the caller keeps the contract.
                unsafe { working.run(queue, &part) }?;
            }
            let Some(behind) = form::behind_of(&rest, mine) else { break };
            if let (Some(&dst), Some(&src), Some(&len)) = (behind.dst.first(), behind.src.first(), behind.len.first())
                && let Some(bytes) = NonZero::new(len)
            {
                // SAFETY:
                // - One of `copies`, for which the caller keeps the contract.
                unsafe { queue.copy(dst, src, bytes) }?;
            }
            rest = form::behind_of(&behind, 1).unwrap_or(Copies { dst: &[], src: &[], len: &[], during_call: 0 });
        }
        Ok(true)
    }

    /// Gives back what the engine has; `passed` says whether the stream has passed everything.
    pub(in super::super) fn close(&self, queue: &CudaQueue) {
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        if let State::With(working) = core::mem::replace(&mut *state, State::Without)
            && let Some(mut tables) = working.tables
        {
            tables.close(queue, queue.is_idle().unwrap_or(false));
        }
    }
}

impl Working {
    /// # Safety
    /// As for `Queue::batch`; no copy is longer than `LONGEST`.
    unsafe fn run(&mut self, queue: &CudaQueue, copies: &Copies<'_>) -> Result<(), DriverError> {
        let mut rest = *copies;
        while !rest.len.is_empty() {
            let Parameters { head, words } = &mut self.parameters;
            // More than fit into the parameters at best are not even tried.
            let whole = if rest.len.len() > MOST { None } else { form::describe(&rest, head, words, false) };
            let whole = whole.filter(|launch| in_parameters(&rest, launch));
            let done = match whole {
                Some(launch) => {
                    // SAFETY:
                    // - The parameters describe the first copies of `rest`, for which the caller keeps the contract.
                    unsafe { self.launch(queue, &launch) }?
                }
                None => {
                    // SAFETY:
                    // - The caller keeps the contract for `rest`.
                    match unsafe { self.launch_table(queue, &rest) }? {
                        0 => {
                            match form::describe(&rest, &mut self.parameters.head, &mut self.parameters.words, false) {
                                // SAFETY:
                                // - As above.
                                Some(launch) => unsafe { self.launch(queue, &launch) }?,
                                // SAFETY:
                                // - One of the copies for which the caller keeps the contract.
                                None => unsafe { copy_first(queue, &rest) }?,
                            }
                        }
                        done => done,
                    }
                }
            };
            let Some(behind) = form::behind_of(&rest, done.max(1)) else { break };
            rest = behind;
        }
        Ok(())
    }

    /// Launches what the parameters describe; returns how many copies it carries out.
    ///
    /// # Safety
    /// As for `Queue::batch`, for the copies described.
    unsafe fn launch(&mut self, queue: &CudaQueue, launch: &Launch) -> Result<usize, DriverError> {
        let head = &mut self.parameters.head;
        (head.fetchers, head.early, head.pieces) = (0, 1, 0);
        (head.table, head.fetched) = (0, 0);
        // SAFETY:
        // - The parameters describe these copies only, and name no table; the caller keeps the rest.
        unsafe { self.kernels.launch(queue, &self.parameters, launch, false) }?;
        Ok(launch.copies)
    }

    /// Launches as many of `copies` as a table describes; returns how many, 0 if there is no table to be had.
    ///
    /// # Safety
    /// As for `Queue::batch`.
    unsafe fn launch_table(&mut self, queue: &CudaQueue, copies: &Copies<'_>) -> Result<usize, DriverError> {
        if self.tables.is_none() {
            self.tables = Tables::new(queue).ok();
        }
        let Some(tables) = &mut self.tables else { return Ok(0) };
        let slot = tables.next(queue)?;
        let head = &mut self.parameters.head;
        let Some(launch) = form::describe(copies, head, slot.words, true) else { return Ok(0) };
        head.pieces = table::pieces(launch.words);
        head.fetchers = head.pieces.min(FETCHERS);
        (head.early, head.epoch) = (1, slot.epoch);
        (head.table, head.fetched) = (slot.table, slot.fetched);
        for segment in &mut head.segment {
            segment.first_block = segment.first_block.wrapping_add(head.fetchers);
        }
        // SAFETY:
        // - The parameters describe these copies only; the caller keeps the rest.
        // - The table lives as long as the queue, and is filled again only when the stream has passed the launch; the slot
        //   it is fetched into is used by no other launch that may run at the same time.
        unsafe { self.kernels.launch(queue, &self.parameters, &launch, true) }?;
        Ok(launch.copies)
    }
}

/// # Safety
/// As for `Queue::batch`.
unsafe fn copy_first(queue: &CudaQueue, copies: &Copies<'_>) -> Result<usize, DriverError> {
    if let (Some(&dst), Some(&src), Some(&len)) = (copies.dst.first(), copies.src.first(), copies.len.first())
        && let Some(bytes) = NonZero::new(len)
    {
        // SAFETY:
        // - The caller keeps the contract for this copy.
        unsafe { queue.copy(dst, src, bytes) }?;
    }
    Ok(1)
}

/// Whether `launch`, of the first of `copies`, is to be made: there are no others, or few, and it takes the device longer than
/// the host needs for the next one, so that a table is no faster and costs the host more.
fn in_parameters(copies: &Copies<'_>, launch: &Launch) -> bool {
    let all = copies.len.len();
    launch.copies == all || (launch.copies >= all / 4 && form::bytes_of(copies, launch.copies) >= WORTH)
}

/// The first `n` copies, if there are any.
fn front_of<'a>(copies: &Copies<'a>, n: usize) -> Option<Copies<'a>> {
    if n == 0 {
        return None;
    }
    let (dst, src, len) = (copies.dst.get(..n)?, copies.src.get(..n)?, copies.len.get(..n)?);
    Some(Copies { dst, src, len, during_call: n })
}

/// Which copies are left to the driver: very long ones, and long ones over PCIe.
struct Driver {
    takes_none: bool,
    memory_type: Option<MemoryType>,
}

impl Driver {
    /// Looks at a few of the long copies: if one of them reads or writes host memory, all long ones are looked at.
    fn look(copies: &Copies<'_>) -> Driver {
        let all = copies.len.iter().fold(0, |all, len| all | len);
        if all < HOST_LARGE {
            return Driver { takes_none: true, memory_type: None };
        }
        let memory_type = *MEMORY_TYPE.get_or_init(|| symbol("cuPointerGetAttribute").ok());
        let every = copies.len.len().div_ceil(4).max(1);
        let long = copies.len.iter().zip(copies.src).zip(copies.dst).filter(|((len, _), _)| **len >= HOST_LARGE);
        let any = memory_type
            .is_some_and(|call| long.step_by(every).any(|((_, src), dst)| is_host(call, *src) || is_host(call, *dst)));
        Driver { takes_none: !any && all < LONGEST, memory_type: memory_type.filter(|_| any) }
    }

    fn takes(&self, len: usize, src: *const u8, dst: *mut u8) -> bool {
        if len < HOST_LARGE {
            return false;
        }
        len > LONGEST || self.memory_type.is_some_and(|call| is_host(call, src) || is_host(call, dst))
    }
}

/// `cuPointerGetAttribute`: where to write, attribute, address.
type MemoryType = unsafe extern "C" fn(*mut c_void, c_int, *const u8) -> Answer;
static MEMORY_TYPE: OnceLock<Option<MemoryType>> = OnceLock::new();
/// `CU_POINTER_ATTRIBUTE_MEMORY_TYPE`, a number.
const ATTRIBUTE_MEMORY_TYPE: c_int = 2;
/// `CU_MEMORYTYPE_HOST`.
const HOST: u32 = 1;

fn is_host(call: MemoryType, address: *const u8) -> bool {
    let mut kind = 0_u32;
    // SAFETY:
    // - `kind` is valid for a write of the attribute's type; the address is only looked up.
    let answer = unsafe { call((&raw mut kind).cast(), ATTRIBUTE_MEMORY_TYPE, address) };
    answer == 0 && kind == HOST
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
