//! Device memory: allocating and freeing it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

use tidelock_driver::code::Code;

use crate::{
    abi::{Handle, Out},
    context,
    driver::{Driver, driver, lock, note},
    pointer::is_device,
    pool,
};

/// The device allocations of all devices that were made and not freed, by the calls so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    rows: Mutex<Rows>,
}

#[derive(Debug)]
struct Rows {
    live: BTreeMap<usize, Allocation>,
    /// Addresses that were freed and not handed out again.
    freed: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Allocation {
    pub(crate) bytes: usize,
    pub(crate) device: usize,
    pub(crate) context: Handle,
    /// The pool it came from in stream order; `None` for memory of `cuMemAlloc`.
    pub(crate) pool: Option<Handle>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Ledger { rows: Mutex::new(Rows { live: BTreeMap::new(), freed: BTreeSet::new() }) }
    }

    fn add(&self, address: usize, allocation: Allocation) {
        let mut rows = lock(&self.rows);
        rows.freed.remove(&address);
        rows.live.insert(address, allocation);
    }

    /// Takes the allocation at `address` out, if `allowed` says that `call` can free it.
    fn take(&self, call: &str, address: usize, allowed: impl Fn(&Allocation) -> bool) -> Result<Allocation, Code> {
        let mut rows = lock(&self.rows);
        if let Some(found) = rows.live.get(&address).copied() {
            if !allowed(&found) {
                drop(rows);
                note(format!("{call} was asked to free {address:#x}, which is not its to free"));
                return Err(Code::INVALID_VALUE);
            }
            rows.live.remove(&address);
            rows.freed.insert(address);
            return Ok(found);
        }
        let words = if rows.freed.contains(&address) { "which was freed before" } else { "which is no allocation" };
        drop(rows);
        note(format!("{call} was asked to free {address:#x}, {words}"));
        Err(Code::INVALID_VALUE)
    }

    /// The allocation around `address`, and where it starts.
    pub(crate) fn covering(&self, address: usize) -> Option<(usize, Allocation)> {
        let rows = lock(&self.rows);
        let (start, found) = rows.live.range(..=address).next_back()?;
        (address < start.saturating_add(found.bytes)).then_some((*start, *found))
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.rows).live.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        lock(&self.rows).live.values().fold(0, |sum, found| sum.saturating_add(found.bytes))
    }

    /// Notes a use of device memory that was freed or never was.
    pub(crate) fn touch(&self, call: &str, address: usize) {
        if is_device(address) && self.covering(address).is_none() {
            note(format!("{call} uses {address:#x}, which is not allocated"));
        }
    }
}

/// Allocates from `pool`, or from the default pool of the stream's device.
fn allocate(driver: &Driver, out: &Out<usize>, bytes: usize, pool: Option<Handle>, stream: Handle) -> Result<(), Code> {
    out.check()?;
    pool::supported()?;
    let target = driver.target(stream)?;
    let handle = match pool {
        Some(handle) => handle,
        None => driver.device(target.device)?.default_pool,
    };
    let found = driver.pools.get(handle)?;
    if found.device != target.device {
        return Err(Code::INVALID_VALUE);
    }
    let memory = target.gpu.mem_alloc_async(bytes, found.id, target.id)?;
    let (device, context) = (target.device, target.context);
    driver.memory.add(memory.addr().get(), Allocation { bytes, device, context, pool: Some(handle) });
    out.put(memory.addr().get())
}

exports! {
    /// Allocates device memory in stream order, from the default pool.
    fn cuMemAllocAsync(out: Out<usize>, bytes: usize, stream: Handle) {
        allocate(&driver(), &out, bytes, None, stream)
    }

    /// Allocates device memory in stream order.
    fn cuMemAllocFromPoolAsync(out: Out<usize>, bytes: usize, pool: Handle, stream: Handle) {
        allocate(&driver(), &out, bytes, Some(pool), stream)
    }

    /// Frees device memory in stream order; not memory of `cuMemAlloc`.
    fn cuMemFreeAsync(memory: *mut u8, stream: Handle) {
        pool::supported()?;
        let driver = driver();
        let target = driver.target(stream)?;
        let allowed = |found: &Allocation| found.pool.is_some() && found.device == target.device;
        let found = driver.memory.take("cuMemFreeAsync", memory.addr(), allowed)?;
        // SAFETY: of the work that uses the memory the caller promises what the simulated GPU asks.
        let freed = unsafe { target.gpu.mem_free_async(memory, target.id) };
        if freed.is_err() {
            driver.memory.add(memory.addr(), found);
        }
        freed
    }

    /// Allocates device memory at once.
    fn cuMemAlloc_v2(out: Out<usize>, bytes: usize) {
        out.check()?;
        let (context, device) = context::current()?;
        let driver = driver();
        let memory = driver.device(device)?.gpu.mem_alloc(bytes)?;
        driver.memory.add(memory.addr().get(), Allocation { bytes, device, context, pool: None });
        out.put(memory.addr().get())
    }

    /// Frees device memory at once, without waiting for anybody.
    fn cuMemFree_v2(memory: *mut u8) {
        let (_, device) = context::current()?;
        let driver = driver();
        let found = driver.memory.take("cuMemFree", memory.addr(), |found| found.device == device)?;
        // SAFETY: the caller promises that the memory is not used any more.
        let freed = unsafe { driver.device(device)?.gpu.mem_free(memory) };
        if freed.is_err() {
            driver.memory.add(memory.addr(), found);
        }
        freed
    }

    /// Free and total bytes of the current context's device.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        free.check()?;
        total.check()?;
        let (_, device) = context::current()?;
        let (free_bytes, all_bytes) = driver().device(device)?.gpu.mem_get_info()?;
        free.put(free_bytes)?;
        total.put(all_bytes)
    }
}
