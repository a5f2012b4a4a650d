//! Tasks: what a simulated kernel launch runs on the thread of its stream.

use core::{
    cell::RefCell,
    fmt,
    mem::{self, MaybeUninit},
};
use std::sync::Arc;

use super::{
    Shared,
    block::{Block, PLACED},
    lock, pinned,
    window::is_device,
};
use tidelock_driver::{Code, Resolve};

/// The bytes of a closure that a task holds in itself.
const INLINE: usize = 256;

/// The most bytes of a closure. It passes over the stack of the thread that makes the task and over
/// that of the stream's thread.
const MOST: usize = tidelock_driver::MAX_LAUNCH_BYTES;

/// A function to run on the thread of a stream, with what it captured.
///
/// Captures of up to 256 bytes with an alignment of at most 16 lie in the task itself, so that
/// making and launching it allocates nothing; larger ones are boxed. A launch refuses a task with
/// captures of more than 4096 bytes: what is larger is captured in a `Box` or an `Arc`.
///
/// Invariant: with `table` set, `storage` holds what that table's functions expect, not yet run nor
/// dropped.
pub struct Task {
    storage: Storage,
    table: Option<&'static Table>,
    /// Whether the function was dropped at once, because it is too large.
    is_refused: bool,
}

#[repr(C, align(16))]
struct Storage([MaybeUninit<u8>; INLINE]);

/// What can be done with a closure whose type is forgotten; both functions consume it.
struct Table {
    run: unsafe fn(*mut u8, &Memory) -> Result<(), Code>,
    discard: unsafe fn(*mut u8),
}

// SAFETY: `Task::new` asks for `Send`, and the callers of `Task::new_unchecked` promise it.
unsafe impl Send for Task {}

impl Task {
    /// A task that runs `f` once. An error or a panic in it breaks the device, as a failing kernel
    /// does.
    #[inline]
    #[must_use]
    pub fn new<F>(f: F) -> Task
    where
        F: FnOnce(&Memory) -> Result<(), Code> + Send + 'static,
    {
        // SAFETY: `F` is `Send` and `'static`.
        unsafe { Task::new_unchecked(f) }
    }

    /// As [`new`](Task::new), for captures that the compiler cannot follow to another thread.
    ///
    /// # Safety
    /// `f` may be run or dropped on another thread, and what it borrows lives until that happened:
    /// until the stream it is launched on has passed it, or the launch was refused.
    #[inline]
    #[must_use]
    pub unsafe fn new_unchecked<F>(f: F) -> Task
    where
        F: FnOnce(&Memory) -> Result<(), Code>,
    {
        // Constant, so that no code is made, and no stack is used, for moving what is too large.
        if const { mem::size_of::<F>() > MOST } {
            return Task { storage: Storage([MaybeUninit::uninit(); INLINE]), table: None, is_refused: true };
        }
        let mut storage = Storage([MaybeUninit::uninit(); INLINE]);
        let place = storage.0.as_mut_ptr().cast::<u8>();
        let table = if mem::size_of::<F>() <= INLINE && mem::align_of::<F>() <= mem::align_of::<Storage>() {
            // SAFETY: `storage` is large and aligned enough for an `F`.
            unsafe { place.cast::<F>().write(f) };
            &Inline::<F>::TABLE
        } else {
            let boxed = Box::into_raw(Box::new(f));
            // SAFETY: `storage` is large and aligned enough for a thin pointer.
            unsafe { place.cast::<*mut F>().write(boxed) };
            &Boxed::<F>::TABLE
        };
        Task { storage, table: Some(table), is_refused: false }
    }

    /// A task that is done already.
    pub(super) const fn empty() -> Task {
        Task { storage: Storage([MaybeUninit::uninit(); INLINE]), table: None, is_refused: false }
    }

    /// Whether the function is too large for a launch.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Runs the function and leaves the task empty.
    pub(super) fn run(&mut self, memory: &Memory) -> Result<(), Code> {
        // Emptied first, so that a panic in the function does not end in a second drop of it.
        let Some(table) = self.table.take() else { return Ok(()) };
        // SAFETY: by the invariant of the type; the function is consumed, and the table is gone.
        unsafe { (table.run)(self.storage.0.as_mut_ptr().cast(), memory) }
    }
}

impl Drop for Task {
    #[inline]
    fn drop(&mut self) {
        if let Some(table) = self.table.take() {
            // SAFETY: by the invariant of the type; the function is consumed, and the table is
            // gone.
            unsafe { (table.discard)(self.storage.0.as_mut_ptr().cast()) }
        }
    }
}

impl fmt::Debug for Task {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("pending", &self.table.is_some()).finish_non_exhaustive()
    }
}

struct Inline<F>(F);

impl<F: FnOnce(&Memory) -> Result<(), Code>> Inline<F> {
    const TABLE: Table = Table { run: Self::run, discard: Self::discard };

    /// # Safety
    /// `place` holds an `F`, which is never used again.
    unsafe fn run(place: *mut u8, memory: &Memory) -> Result<(), Code> {
        // SAFETY: promised by the caller.
        let f = unsafe { place.cast::<F>().read() };
        f(memory)
    }

    /// # Safety
    /// As for `run`.
    unsafe fn discard(place: *mut u8) {
        // SAFETY: promised by the caller.
        unsafe { place.cast::<F>().drop_in_place() }
    }
}

struct Boxed<F>(F);

impl<F: FnOnce(&Memory) -> Result<(), Code>> Boxed<F> {
    const TABLE: Table = Table { run: Self::run, discard: Self::discard };

    /// # Safety
    /// `place` holds a pointer from `Box::<F>::into_raw`, which is never used again.
    unsafe fn take(place: *mut u8) -> Box<F> {
        // SAFETY: promised by the caller.
        let raw = unsafe { place.cast::<*mut F>().read() };
        // SAFETY: promised by the caller.
        unsafe { Box::from_raw(raw) }
    }

    /// # Safety
    /// As for `take`.
    unsafe fn run(place: *mut u8, memory: &Memory) -> Result<(), Code> {
        // SAFETY: promised by the caller.
        let f = unsafe { Self::take(place) };
        f(memory)
    }

    /// # Safety
    /// As for `take`.
    unsafe fn discard(place: *mut u8) {
        // SAFETY: promised by the caller.
        drop(unsafe { Self::take(place) });
    }
}

/// The memory that a task can reach: device memory of its device, and pinned memory.
///
/// What was resolved stays mapped until the task returns, even if somebody frees it meanwhile.
pub struct Memory {
    shared: Arc<Shared>,
    held: RefCell<Vec<Arc<Block>>>,
    refusal: RefCell<Option<String>>,
}

impl Memory {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Memory { shared, held: RefCell::new(Vec::with_capacity(64)), refusal: RefCell::default() }
    }

    /// Where the `bytes` bytes that have the address `ptr` for the caller of the launch really are;
    /// valid until the task returns.
    ///
    /// A range of no bytes resolves to `ptr` itself, unless that is null. Costs a lock and a binary
    /// search.
    ///
    /// # Errors
    /// `ILLEGAL_ADDRESS` if the range is not inside one allocation that is live in stream order at
    /// this moment, or is pageable host memory. The task should return the error, which breaks the
    /// device.
    #[inline]
    pub fn resolve(&self, ptr: *mut u8, bytes: usize) -> Result<*mut u8, Code> {
        if bytes == 0 && !ptr.is_null() {
            return Ok(ptr);
        }
        let address = ptr.addr();
        let block = lock(&self.shared.heap).covering(address).or_else(|| pinned::covering(address));
        match block.and_then(|block| Some((block.live_at(address, bytes)?, block))) {
            Some((raw, block)) => {
                self.held.borrow_mut().push(block);
                Ok(raw.0)
            }
            None => {
                let words = format!("a task uses {bytes} bytes at {address:#x}, which no live allocation holds");
                *self.refusal.borrow_mut() = Some(words);
                Err(Code::ILLEGAL_ADDRESS)
            }
        }
    }

    /// Lets go of what the last task resolved, and tells why it failed.
    pub(super) fn finish(&self) -> Option<String> {
        self.held.borrow_mut().clear();
        self.refusal.borrow_mut().take()
    }
}

impl fmt::Debug for Memory {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

// SAFETY:
// - The GPU finds the bytes in one live allocation, which stays while `Memory` is borrowed, and the
//   same for the same address. Host memory goes by its own address.
// - Addresses of device memory are congruent modulo `PLACED` with those of what stands behind them.
unsafe impl Resolve for Memory {
    #[inline]
    fn resolve(&self, ptr: *mut u8, bytes: usize) -> Result<*mut u8, Code> {
        Memory::resolve(self, ptr, bytes)
    }

    #[inline]
    fn keeps_alignment(ptr: *const u8, align: usize) -> bool {
        align <= PLACED || !is_device(ptr.addr())
    }

    #[inline]
    fn note(&self, why: fmt::Arguments<'_>) {
        *self.refusal.borrow_mut() = Some(why.to_string());
    }
}
