//! Everything that is gone after a reset: the devices, and what was made on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tidelock_driver::code::Code;
use tidelock_simulator::{EventId, Gpu, PoolId, StreamId};

use crate::{
    abi::Handle,
    context,
    graph::{Executable, Graph},
    memory::Ledger,
    module::{Function, Module},
    settings::settings,
};

static DRIVER: RwLock<Option<Arc<Driver>>> = RwLock::new(None);

/// The notes that are kept.
const NOTES: usize = 256;

/// The devices and all objects on them.
#[derive(Debug)]
pub(crate) struct Driver {
    devices: Vec<Device>,
    pub(crate) streams: Table<Stream>,
    pub(crate) events: Table<Event>,
    pub(crate) pools: Table<Pool>,
    pub(crate) graphs: Table<Graph>,
    pub(crate) executables: Table<Executable>,
    pub(crate) code: Arc<Loaded>,
    pub(crate) memory: Ledger,
    notes: Mutex<Vec<String>>,
    /// Streams that were destroyed and have work left, each waited for by a thread.
    ending: Mutex<Vec<JoinHandle<()>>>,
}

/// What is loaded. It outlives a reset, as contexts do: a library keeps it for the process.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) modules: Table<Arc<Module>>,
    pub(crate) functions: Table<Function>,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) gpu: Gpu,
    pub(crate) default_pool: Handle,
    /// The stream that calls without one use; made when it is first needed.
    legacy: Mutex<Option<StreamId>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) device: usize,
    pub(crate) context: Handle,
    pub(crate) id: StreamId,
    pub(crate) flags: u32,
    pub(crate) priority: i32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) device: usize,
    pub(crate) context: Handle,
    pub(crate) id: EventId,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    pub(crate) device: usize,
    pub(crate) id: PoolId,
    pub(crate) is_default: bool,
    pub(crate) threshold: u64,
}

/// Where a call on a stream goes.
#[derive(Clone, Debug)]
pub(crate) struct StreamTarget {
    pub(crate) gpu: Gpu,
    pub(crate) device: usize,
    pub(crate) context: Handle,
    pub(crate) id: StreamId,
}

/// The driver's state; made when it is first used.
pub(crate) fn driver() -> Arc<Driver> {
    if let Some(driver) = &*DRIVER.read().unwrap_or_else(PoisonError::into_inner) {
        return Arc::clone(driver);
    }
    let mut place = DRIVER.write().unwrap_or_else(PoisonError::into_inner);
    let code = || Arc::new(Loaded { modules: Table::new("module"), functions: Table::new("function") });
    Arc::clone(place.get_or_insert_with(|| Arc::new(Driver::new(code()))))
}

/// Replaces the driver's state by a fresh one, to which handles of the old one are unknown.
pub(crate) fn reset() {
    let new = Arc::new(Driver::new(Arc::clone(&driver().code)));
    let old = DRIVER.write().unwrap_or_else(PoisonError::into_inner).replace(new);
    if let Some(old) = old {
        old.wait_for_ending();
    }
}

/// Notes something that should not have happened.
pub(crate) fn note(words: String) {
    let driver = driver();
    let mut notes = lock(&driver.notes);
    if notes.len() < NOTES {
        notes.push(words);
    }
}

/// A handle or a key that never was one before.
pub(crate) fn fresh() -> Handle {
    // Numbers that look like the driver's heap pointers, and are never mapped: bit 47 and those
    // above it differ.
    static NEXT: AtomicUsize = AtomicUsize::new(0x00c0_0000_0000_0000);
    NEXT.fetch_add(0x40, Ordering::Relaxed)
}

/// Locks, whatever happened to those who held the lock before: no invariant here is broken halfway.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    fn new(code: Arc<Loaded>) -> Self {
        let settings = settings();
        let pools = Table::new("pool");
        let count = usize::try_from(settings.devices).unwrap_or(0).min(context::MOST_DEVICES);
        let devices = (0..count).filter_map(|ordinal| {
            let gpu = Gpu::new(settings.options(ordinal));
            // A new simulated GPU refuses nothing.
            let id = gpu.default_pool().ok()?;
            let default_pool = pools.insert(Pool { device: ordinal, id, is_default: true, threshold: 0 });
            Some(Device { gpu, default_pool, legacy: Mutex::new(None) })
        });
        Driver {
            devices: devices.collect(),
            pools,
            streams: Table::new("stream"),
            events: Table::new("event"),
            graphs: Table::new("graph"),
            executables: Table::new("executable graph"),
            code,
            memory: Ledger::new(),
            notes: Mutex::default(),
            ending: Mutex::default(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.devices.len()
    }

    /// # Errors
    /// `INVALID_DEVICE` if there is none of that ordinal.
    pub(crate) fn device(&self, ordinal: usize) -> Result<&Device, Code> {
        self.devices.get(ordinal).ok_or(Code::INVALID_DEVICE)
    }

    /// The device of the current context, which must work.
    ///
    /// # Errors
    /// `INVALID_CONTEXT` if no context is current; what the device is broken with.
    pub(crate) fn current(&self) -> Result<(usize, &Device), Code> {
        let (_, ordinal) = context::current()?;
        let device = self.device(ordinal)?;
        // A call that does nothing but ask whether the device works.
        device.gpu.default_pool()?;
        Ok((ordinal, device))
    }

    /// Where calls on the stream `handle` go.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream; `INVALID_CONTEXT` if it is a default stream and
    /// no context is current.
    pub(crate) fn target(&self, handle: Handle) -> Result<StreamTarget, Code> {
        if handle <= 2 {
            return self.legacy();
        }
        let Stream { device, context, id, flags, .. } = self.streams.get(handle)?;
        let place = self.device(device)?;
        if settings().stream_calls_need_context != 0 {
            let (current, _) = context::current()?;
            if current != context {
                return Err(Code::INVALID_CONTEXT);
            }
        }
        context::alive(context)?;
        let legacy = *lock(&place.legacy);
        if let Some(legacy) = legacy.filter(|_| flags & 1 == 0) {
            place.gpu.stream_synchronize(legacy)?;
        }
        Ok(StreamTarget { gpu: place.gpu.clone(), device, context, id })
    }

    /// The default stream of the current context. It and the blocking streams wait for each other
    /// on the host: more order than the driver makes, and enough for those who should not be using
    /// it.
    fn legacy(&self) -> Result<StreamTarget, Code> {
        let (context, device) = context::current()?;
        let place = self.device(device)?;
        let mut legacy = lock(&place.legacy);
        let id = match *legacy {
            Some(id) => id,
            None => *legacy.insert(place.gpu.stream_create(0)?),
        };
        drop(legacy);
        for stream in self.streams.values() {
            if stream.device == device && stream.flags & 1 == 0 {
                place.gpu.stream_synchronize(stream.id)?;
            }
        }
        Ok(StreamTarget { gpu: place.gpu.clone(), device, context, id })
    }

    /// Ends a stream some time later, as its work is done.
    pub(crate) fn end_later(&self, stream: Stream) -> Result<(), Code> {
        let gpu = self.device(stream.device)?.gpu.clone();
        let thread = std::thread::spawn(move || {
            // A broken device keeps the stream.
            let _ = gpu.stream_destroy(stream.id);
        });
        lock(&self.ending).push(thread);
        Ok(())
    }

    /// Waits until everything that was enqueued is done, on every device that works.
    pub(crate) fn settle(&self) {
        self.wait_for_ending();
        for stream in self.streams.values() {
            if let Ok(device) = self.device(stream.device) {
                // What breaks a device is among its findings.
                let _ = device.gpu.stream_synchronize(stream.id);
            }
        }
    }

    fn wait_for_ending(&self) {
        let threads = core::mem::take(&mut *lock(&self.ending));
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// What there is and what went wrong, a line each: `live KIND COUNT`, `sticky DEVICE CODE`,
    /// `finding WORDS`.
    pub(crate) fn report(&self) -> String {
        let default_pools = self.devices.len();
        let mut lines = vec![
            format!("live stream {}", self.streams.len()),
            format!("live event {}", self.events.len()),
            format!("live pool {}", self.pools.len().saturating_sub(default_pools)),
            format!("live graph {}", self.graphs.len()),
            format!("live executable {}", self.executables.len()),
            format!("live module {}", self.code.modules.len()),
            format!("live allocation {}", self.memory.len()),
            format!("live bytes {}", self.memory.bytes()),
            format!("live pinned {}", crate::pointer::pinned_count(false)),
            format!("live registered {}", crate::pointer::pinned_count(true)),
            format!("live context {}", context::count()),
        ];
        for (ordinal, device) in self.devices.iter().enumerate() {
            let report = device.gpu.report();
            lines.extend(report.sticky.map(|code| format!("sticky {ordinal} {}", code.0)));
            lines.extend(report.findings.iter().map(|words| format!("finding device {ordinal}: {}", one_line(words))));
        }
        lines.extend(lock(&self.notes).iter().map(|words| format!("finding {}", one_line(words))));
        lines.join("\n")
    }
}

fn one_line(words: &str) -> String {
    words.replace('\n', "; ")
}

/// Objects by their handles. Handles are never used twice, so that one that was destroyed is known
/// as such.
#[derive(Debug)]
pub(crate) struct Table<T> {
    kind: &'static str,
    rows: Mutex<Rows<T>>,
}

#[derive(Debug)]
struct Rows<T> {
    live: BTreeMap<Handle, T>,
    gone: BTreeSet<Handle>,
}

impl<T: Clone> Table<T> {
    fn new(kind: &'static str) -> Self {
        Table { kind, rows: Mutex::new(Rows { live: BTreeMap::new(), gone: BTreeSet::new() }) }
    }

    pub(crate) fn insert(&self, value: T) -> Handle {
        let handle = fresh();
        lock(&self.rows).live.insert(handle, value);
        handle
    }

    /// # Errors
    /// `INVALID_HANDLE` if there is none; that it was destroyed before is noted.
    pub(crate) fn get(&self, handle: Handle) -> Result<T, Code> {
        let rows = lock(&self.rows);
        let (found, gone) = (rows.live.get(&handle).cloned(), rows.gone.contains(&handle));
        drop(rows);
        self.known(found, gone)
    }

    /// # Errors
    /// As for [`get`](Table::get).
    pub(crate) fn remove(&self, handle: Handle) -> Result<T, Code> {
        let mut rows = lock(&self.rows);
        let found = rows.live.remove(&handle);
        let gone = found.is_none() && rows.gone.contains(&handle);
        if found.is_some() {
            rows.gone.insert(handle);
        }
        drop(rows);
        self.known(found, gone)
    }

    pub(crate) fn change(&self, handle: Handle, change: impl FnOnce(&mut T)) {
        if let Some(value) = lock(&self.rows).live.get_mut(&handle) {
            change(value);
        }
    }

    /// Removes what `condition` holds for.
    pub(crate) fn take_if(&self, condition: impl Fn(&T) -> bool) -> Vec<T> {
        let mut rows = lock(&self.rows);
        let taken: Vec<_> = rows.live.extract_if(.., |_, value| condition(value)).collect();
        rows.gone.extend(taken.iter().map(|(handle, _)| *handle));
        taken.into_iter().map(|(_, value)| value).collect()
    }

    pub(crate) fn values(&self) -> Vec<T> {
        lock(&self.rows).live.values().cloned().collect()
    }

    fn len(&self) -> usize {
        lock(&self.rows).live.len()
    }

    fn known(&self, found: Option<T>, gone: bool) -> Result<T, Code> {
        if gone {
            note(format!("a {} was used after it was destroyed", self.kind));
        }
        found.ok_or(Code::INVALID_HANDLE)
    }
}
