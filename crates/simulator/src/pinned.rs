//! Page-locked host memory: one table for the process, which all devices use.

use core::ptr::NonNull;
use std::sync::Arc;

use super::{
    block::{Block, Fresh, Hold},
    call::{Call, Counts},
    fault_injection::{Fault, FaultInjection, Local},
    race_detector,
    table::{Range, Table},
};
use tidelock_driver::code::{Code, DriverError};

use crate::sync::{self, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TABLE: RwLock<Table<Pinned>> = RwLock::new(Table::new());

/// Counts the calls of the process-wide pool.
static FAULTS: FaultInjection = FaultInjection::new();

/// The owner of what is page-locked for the process-wide pool: no device has this number.
const PROCESS: u64 = 0;

/// What fresh memory of the process-wide pool is filled with.
const POISON: Option<u8> = Some(0xA5);

/// Pinned memory and the device it dies with.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) hold: Hold,
    owner: u64,
}

/// Memory of the program that is page-locked. Copies reach it as they reach any other host memory.
static REGISTERED: RwLock<Vec<Registered>> = RwLock::new(Vec::new());

/// The size of a page, in bytes.
const PAGE: usize = 4096;

#[derive(Debug)]
struct Registered {
    start: usize,
    bytes: usize,
    owner: u64,
}

/// How often memory was page-locked and unlocked for the process-wide pool so far, refused calls
/// included.
///
/// The calls are [`Call::MemHostAlloc`] and [`Call::MemFreeHost`], and belong to the process, not
/// to a device.
#[inline]
#[must_use]
pub fn pinned_counts() -> Counts {
    FAULTS.counts()
}

/// Runs `f`, in which the calls that page-lock and unlock memory for the process-wide pool fail as
/// `fault` says, where the calling thread makes them; answers them as well, in order.
///
/// Other threads are not affected, nor what the thread does before and afterwards, also if `f`
/// panics. Without a fault the calls are only listed. Inside another `with_pinned_faults` the
/// innermost one decides and lists.
///
/// ```
/// use tidelock_driver::code::Code;
/// use tidelock_simulator::{Call, Fault, pin, with_pinned_faults};
///
/// let fault = Fault { nth: 1, onwards: true, call: None, code: Code::OUT_OF_MEMORY };
/// let (refused, calls) = with_pinned_faults(Some(fault), || pin(4096));
/// assert!(refused.is_err());
/// assert_eq!(calls, [Call::MemHostAlloc]);
/// assert!(pin(4096).is_ok());
/// ```
#[inline]
pub fn with_pinned_faults<R>(fault: Option<Fault>, f: impl FnOnce() -> R) -> (R, Vec<Call>) {
    let local = Local::begin(fault);
    let value = f();
    (value, local.end())
}

/// Page-locks `bytes` bytes for the process-wide pool.
#[inline]
pub fn pin(bytes: usize) -> Result<NonNull<u8>, DriverError> {
    let pinned = FAULTS.pass_locally(Call::MemHostAlloc).and_then(|()| allocate(PROCESS, bytes, POISON));
    pinned.map_err(|code| DriverError::new(Call::MemHostAlloc.name(), code))
}

/// Gives back what [`pin`] returned.
///
/// # Safety
/// Neither the host nor a device uses the memory any more.
#[inline]
pub unsafe fn unpin(ptr: NonNull<u8>) -> Result<(), DriverError> {
    let unpinned = FAULTS.pass_locally(Call::MemFreeHost).and_then(|()| free(ptr.addr().get(), POISON));
    unpinned.map_err(|code| DriverError::new(Call::MemFreeHost.name(), code))
}

pub(super) fn table() -> RwLockReadGuard<'static, Table<Pinned>> {
    sync::read(&TABLE)
}

pub(super) fn allocate(owner: u64, bytes: usize, poison: Option<u8>) -> Result<NonNull<u8>, Code> {
    let block = Block::host(bytes).ok_or(Code::OUT_OF_MEMORY)?;
    let hold = Hold { block, generation: 1 };
    hold.begin(bytes, poison.map_or(Fresh::Zero, Fresh::Poison)).map_err(|failure| failure.code)?;
    let (base, start) = (hold.block.base(), hold.block.start());
    race_detector::pinned_changes(start, bytes, false);
    table_mut().insert(Range { start, bytes, capacity: bytes, value: Pinned { hold, owner } });
    Ok(base)
}

pub(super) fn free(start: usize, poison: Option<u8>) -> Result<(), Code> {
    let range = table_mut().remove(start).ok_or(Code::INVALID_VALUE)?;
    race_detector::pinned_changes(start, range.bytes, true);
    range.value.hold.end(poison).map_err(|failure| failure.code)
}

/// The pages that `bytes` bytes at `start` lie in: the first, and the one behind the last.
fn pages(start: usize, bytes: usize) -> (usize, usize) {
    (start / PAGE, start.saturating_add(bytes).div_ceil(PAGE))
}

pub(super) fn register(owner: u64, start: usize, bytes: usize) -> Result<(), Code> {
    let (from, to) = pages(start, bytes);
    let meets = |start, bytes| {
        let (first, behind) = pages(start, bytes);
        first < to && from < behind
    };
    // Allocated memory is locked by itself here, not by pages: its last one may hold other things
    // of the program.
    let is_pinned = table()
        .iter()
        .any(|range| range.start < start.saturating_add(bytes) && start < range.start.saturating_add(range.bytes));
    let mut registered = sync::write(&REGISTERED);
    if is_pinned || registered.iter().any(|range| meets(range.start, range.bytes)) {
        return Err(Code::HOST_MEMORY_ALREADY_REGISTERED);
    }
    registered.push(Registered { start, bytes, owner });
    Ok(())
}

pub(super) fn unregister(start: usize) -> Result<(), Code> {
    let mut registered = sync::write(&REGISTERED);
    let at = registered.iter().position(|range| range.start == start).ok_or(Code::HOST_MEMORY_NOT_REGISTERED)?;
    registered.swap_remove(at);
    Ok(())
}

/// How many registrations of `owner` there are.
pub(super) fn registered_by(owner: u64) -> usize {
    sync::read(&REGISTERED).iter().filter(|range| range.owner == owner).count()
}

/// Releases what `owner` allocated and registered.
pub(super) fn release(owner: u64) {
    sync::write(&REGISTERED).retain(|range| range.owner != owner);
    table_mut().retain(|range| {
        let stays = range.value.owner != owner;
        if !stays {
            race_detector::pinned_changes(range.start, range.bytes, false);
        }
        stays
    });
}

/// How many allocations of `owner` there are, and their bytes.
pub(super) fn held_by(owner: u64) -> (usize, usize) {
    let table = table();
    let held = table.iter().filter(|range| range.value.owner == owner);
    held.fold((0, 0), |(count, bytes), range| (count.saturating_add(1), bytes.saturating_add(range.bytes)))
}

pub(super) fn covering(address: usize) -> Option<Arc<Block>> {
    table().covering(address).map(|range| Arc::clone(&range.value.hold.block))
}

/// Where the allocation begins that `address` belongs to, and its bytes.
pub(super) fn extent(address: usize) -> Option<(usize, usize)> {
    table().covering(address).map(|range| (range.start, range.bytes))
}

fn table_mut() -> RwLockWriteGuard<'static, Table<Pinned>> {
    sync::write(&TABLE)
}
