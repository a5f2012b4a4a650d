//! Contexts, and which one is current on a thread.

use core::cell::Cell;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use tidelock_driver::code::Code;

use crate::{
    abi::{Handle, Out},
    driver::{self, driver, lock},
};

/// The devices there can be.
pub(crate) const MOST_DEVICES: usize = 16;

/// Contexts that a thread can push.
const DEPTH: usize = 16;

/// The handle of the first device's primary context; the others follow at this distance.
const PRIMARY: Handle = 0x00d0_0000_0000_0000;
const APART: Handle = 0x1000;

/// What the driver answers for a context that was destroyed.
const DESTROYED: Code = Code(709);

/// The process that initialised the driver; 0 if none did.
static INITIALIZED: AtomicU32 = AtomicU32::new(0);

/// Not part of the driver's state: whoever retained a primary context keeps it, whatever was reset.
static CONTEXTS: Mutex<Contexts> = Mutex::new(Contexts { retained: [0; MOST_DEVICES], created: BTreeMap::new() });

struct Contexts {
    retained: [u32; MOST_DEVICES],
    created: BTreeMap<Handle, usize>,
}

/// The contexts of a thread, the current one last. No destructor: calls are made while a thread
/// ends, too.
#[derive(Clone, Copy)]
struct Stack {
    contexts: [Handle; DEPTH],
    len: usize,
}

thread_local! {
    static STACK: Cell<Stack> = const { Cell::new(Stack { contexts: [0; DEPTH], len: 0 }) };
}

/// # Errors
/// `NOT_INITIALIZED` before `cuInit`, and in a process that was forked after it.
pub(crate) fn initialized() -> Result<(), Code> {
    if INITIALIZED.load(Ordering::Relaxed) == std::process::id() { Ok(()) } else { Err(Code::NOT_INITIALIZED) }
}

/// The current context and its device.
///
/// # Errors
/// `INVALID_CONTEXT` if there is none; 709 if it was destroyed.
pub(crate) fn current() -> Result<(Handle, usize), Code> {
    let handle = STACK.get().top();
    if handle == 0 {
        return Err(Code::INVALID_CONTEXT);
    }
    alive(handle).map(|device| (handle, device))
}

/// The device of a context.
///
/// # Errors
/// 709 if it was destroyed.
pub(crate) fn alive(handle: Handle) -> Result<usize, Code> {
    let contexts = lock(&CONTEXTS);
    contexts.created.get(&handle).copied().or_else(|| contexts.primary(handle)).ok_or(DESTROYED)
}

/// How many contexts there are, primary ones included.
pub(crate) fn count() -> usize {
    let contexts = lock(&CONTEXTS);
    contexts.retained.iter().filter(|count| **count > 0).count().saturating_add(contexts.created.len())
}

fn primary_handle(device: usize) -> Handle {
    PRIMARY.saturating_add(device.saturating_mul(APART))
}

impl Contexts {
    /// The device whose primary context `handle` is, if it is retained.
    fn primary(&self, handle: Handle) -> Option<usize> {
        let mut retained = self.retained.iter().enumerate().filter(|(_, count)| **count > 0);
        retained.find(|(device, _)| primary_handle(*device) == handle).map(|(device, _)| device)
    }
}

impl Stack {
    fn top(&self) -> Handle {
        self.len.checked_sub(1).and_then(|last| self.contexts.get(last)).copied().unwrap_or(0)
    }

    fn push(&mut self, handle: Handle) -> Result<(), Code> {
        *self.contexts.get_mut(self.len).ok_or(Code::OUT_OF_MEMORY)? = handle;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    fn pop(&mut self) -> Handle {
        let top = self.top();
        self.len = self.len.saturating_sub(1);
        top
    }
}

/// # Errors
/// `INVALID_DEVICE` if there is no such device.
pub(crate) fn ordinal(device: i32) -> Result<usize, Code> {
    let ordinal = usize::try_from(device).map_err(|_| Code::INVALID_DEVICE)?;
    driver().device(ordinal).map(|_| ordinal)
}

fn known(handle: Handle) -> Result<(), Code> {
    alive(handle).map(drop).map_err(|_| Code::INVALID_CONTEXT)
}

fn create(out: &Out<Handle>, device: i32) -> Result<(), Code> {
    out.check()?;
    let device = ordinal(device)?;
    let handle = driver::fresh();
    let mut stack = STACK.get();
    stack.push(handle)?;
    STACK.set(stack);
    lock(&CONTEXTS).created.insert(handle, device);
    out.put(handle)
}

exports! {
    /// Initialises the driver.
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        if driver().count() == 0 {
            return Err(Code::NO_DEVICE);
        }
        let me = std::process::id();
        match INITIALIZED.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
            Err(other) if other != me => return Err(Code::NOT_INITIALIZED),
            _ => {}
        }
        Ok(())
    }

    /// Retains the primary context of a device.
    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, device: i32) {
        out.check()?;
        let device = ordinal(device)?;
        if let Some(count) = lock(&CONTEXTS).retained.get_mut(device) {
            *count = count.saturating_add(1);
        }
        out.put(primary_handle(device))
    }

    /// Releases the primary context of a device.
    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        let device = ordinal(device)?;
        let mut contexts = lock(&CONTEXTS);
        let count = contexts.retained.get_mut(device).filter(|count| **count > 0).ok_or(Code::INVALID_CONTEXT)?;
        *count = count.saturating_sub(1);
        Ok(())
    }

    /// Whether a primary context is active.
    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        flags.check()?;
        active.check()?;
        let device = ordinal(device)?;
        flags.put(0)?;
        active.put(i32::from(lock(&CONTEXTS).retained.get(device).is_some_and(|count| *count > 0)))
    }

    /// Creates a context and makes it current.
    fn cuCtxCreate_v2(out: Out<Handle>, _flags: u32, device: i32) {
        create(&out, device)
    }

    /// As `cuCtxCreate_v2`; what the parameters say is ignored.
    fn cuCtxCreate_v4(out: Out<Handle>, _params: usize, _flags: u32, device: i32) {
        create(&out, device)
    }

    /// Destroys a context that was created, and its streams and events; their work goes on.
    fn cuCtxDestroy_v2(context: Handle) {
        lock(&CONTEXTS).created.remove(&context).ok_or(Code::INVALID_CONTEXT)?;
        let mut stack = STACK.get();
        if stack.top() == context {
            stack.pop();
            STACK.set(stack);
        }
        let driver = driver();
        for stream in driver.streams.take_if(|stream| stream.context == context) {
            driver.end_later(stream)?;
        }
        for event in driver.events.take_if(|event| event.context == context) {
            driver.device(event.device)?.gpu.event_destroy(event.id)?;
        }
        Ok(())
    }

    /// The current context of the thread, or null.
    fn cuCtxGetCurrent(out: Out<Handle>) {
        out.put(STACK.get().top())
    }

    /// Makes a context current, or none.
    fn cuCtxSetCurrent(context: Handle) {
        let mut stack = STACK.get();
        if context != 0 {
            known(context)?;
        }
        stack.pop();
        if context != 0 {
            stack.push(context)?;
        }
        STACK.set(stack);
        Ok(())
    }

    /// Pushes a context.
    fn cuCtxPushCurrent_v2(context: Handle) {
        known(context)?;
        let mut stack = STACK.get();
        stack.push(context)?;
        STACK.set(stack);
        Ok(())
    }

    /// Pops the current context.
    fn cuCtxPopCurrent_v2(out: Out<Handle>) {
        let mut stack = STACK.get();
        let top = stack.pop();
        if top == 0 {
            return Err(Code::INVALID_CONTEXT);
        }
        STACK.set(stack);
        out.put_if(top);
        Ok(())
    }

    /// The device of the current context.
    fn cuCtxGetDevice(out: Out<i32>) {
        out.check()?;
        let (_, device) = current()?;
        out.put(i32::try_from(device).unwrap_or(0))
    }

    /// Waits for all streams of the current context.
    fn cuCtxSynchronize() {
        let (context, _) = current()?;
        let driver = driver();
        let (_, device) = driver.current()?;
        for stream in driver.streams.values() {
            if stream.context == context {
                device.gpu.stream_synchronize(stream.id)?;
            }
        }
        let legacy = driver.target(0)?;
        legacy.gpu.stream_synchronize(legacy.id)
    }

    /// The priorities of streams: the least and the greatest.
    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        current()?;
        least.put_if(crate::stream::LEAST_PRIORITY);
        greatest.put_if(crate::stream::GREATEST_PRIORITY);
        Ok(())
    }

    /// The id of a context.
    fn cuCtxGetId(context: Handle, out: Out<u64>) {
        let handle = if context == 0 { current()?.0 } else { context };
        known(handle)?;
        out.put(u64::try_from(handle).unwrap_or(0))
    }
}
