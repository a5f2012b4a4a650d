//! The calls that allocate, and those on pools.

#![forbid(unsafe_code)]

use core::{num::NonZero, ptr::NonNull};

use super::{
    Gpu,
    call::Call,
    heap::Heap,
    op::Op,
    pinned,
    pool::PoolUsage,
    slots::{PoolId, StreamId},
};
use tidelock_driver::code::Code;

impl Gpu {
    /// Allocates `bytes` bytes from `pool`, for use behind what is enqueued on `stream` so far.
    ///
    /// The address is a multiple of 512. It is opaque: using it as a pointer faults. Memory that
    /// the pool has cached is reused if its size fits to a factor of two: at once if `stream` freed
    /// it, otherwise once the free has been executed.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes, `INVALID_HANDLE` if there is no such pool or stream,
    /// `OUT_OF_MEMORY` if the memory limit or the host does not allow it after everything that is
    /// cached and passed was given back.
    #[inline]
    pub fn mem_alloc_async(&self, bytes: usize, pool: PoolId, stream: StreamId) -> Result<NonNull<u8>, Code> {
        self.call(Call::MemAllocFromPoolAsync, |shared| {
            let queue = shared.stream(stream)?;
            let grant = shared.with_heap(|heap| heap.allocate(bytes, pool, Some(stream)))?;
            let op = Op::Alloc { hold: grant.hold.clone(), bytes, fresh: grant.filling(shared.options.poison) };
            match shared.submit(&queue, op) {
                Ok(_) => {
                    shared.allocated(queue.timeline, grant.start, grant.hold.block.capacity(), grant.is_free);
                    device_pointer(grant.start)
                }
                Err(code) => {
                    shared.with_heap(|heap| heap.cancel(&grant, stream));
                    Err(code)
                }
            }
        })
    }

    /// Allocates `bytes` bytes for use at once.
    ///
    /// # Errors
    /// As for [`mem_alloc_async`](Gpu::mem_alloc_async).
    #[inline]
    pub fn mem_alloc(&self, bytes: usize) -> Result<NonNull<u8>, Code> {
        self.call(Call::MemAlloc, |shared| {
            let grant = shared.with_heap(|heap| heap.allocate(bytes, heap.plain(), None))?;
            let begun = grant.hold.begin(bytes, grant.filling(shared.options.poison));
            begun.map_err(|failure| failure.code)?;
            shared.allocated(0, grant.start, grant.hold.block.capacity(), true);
            device_pointer(grant.start)
        })
    }

    /// Allocates `bytes` bytes of page-locked host memory, page-aligned, filled with the poison
    /// pattern or zeroed.
    ///
    /// It is real memory: the host may use it, and it is pinned for every device of the process.
    /// It is released with the device at the latest.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes, `OUT_OF_MEMORY` if the host has none left.
    #[inline]
    pub fn mem_host_alloc(&self, bytes: usize) -> Result<NonNull<u8>, Code> {
        self.call(Call::MemHostAlloc, |shared| {
            if bytes == 0 {
                return Err(Code::INVALID_VALUE);
            }
            pinned::allocate(shared.id, bytes, shared.options.poison)
        })
    }

    /// Free and total bytes of the device; cached memory is not free.
    ///
    /// # Errors
    /// None of its own.
    #[inline]
    pub fn mem_get_info(&self) -> Result<(usize, usize), Code> {
        self.call(Call::MemGetInfo, |shared| Ok(shared.with_heap(|heap| heap.info())))
    }

    /// The pool that every device has. Its release threshold is 0 at first.
    ///
    /// # Errors
    /// None of its own.
    #[inline]
    pub fn default_pool(&self) -> Result<PoolId, Code> {
        self.call(Call::DeviceGetDefaultMemPool, |shared| Ok(shared.with_heap(|heap| heap.default_pool())))
    }

    /// Creates a pool that caches up to `release_threshold` bytes across synchronisations.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if there are 2^32 pools.
    #[inline]
    pub fn pool_create(&self, release_threshold: u64) -> Result<PoolId, Code> {
        self.call(Call::MemPoolCreate, |shared| shared.with_heap(|heap| heap.create_pool(release_threshold)))
    }

    /// Destroys a pool. Allocations from it stay valid until they are freed, and what is freed is
    /// given back.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such pool, `INVALID_VALUE` for the default pool.
    #[inline]
    pub fn pool_destroy(&self, pool: PoolId) -> Result<(), Code> {
        self.call(Call::MemPoolDestroy, |shared| shared.with_heap(|heap| heap.destroy_pool(pool)))
    }

    /// Gives cached memory of `pool` back, oldest first, until at most `keep` bytes are reserved.
    ///
    /// Memory whose free has not been executed yet is not given back.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such pool.
    #[inline]
    pub fn pool_trim_to(&self, pool: PoolId, keep: usize) -> Result<(), Code> {
        self.call(Call::MemPoolTrimTo, |shared| shared.with_heap(|heap| heap.trim(pool, keep)))
    }

    /// Sets the bytes that `pool` may keep reserved across synchronisations.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such pool.
    #[inline]
    pub fn pool_set_threshold(&self, pool: PoolId, release_threshold: u64) -> Result<(), Code> {
        self.call(Call::MemPoolSetAttribute, |shared| {
            shared.with_heap(|heap| heap.set_threshold(pool, release_threshold))
        })
    }

    /// How much memory `pool` has.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such pool.
    #[inline]
    pub fn pool_usage(&self, pool: PoolId) -> Result<PoolUsage, Code> {
        self.call(Call::MemPoolGetAttribute, |shared| shared.with_heap(|heap: &mut Heap| heap.usage(pool)))
    }
}

fn device_pointer(start: usize) -> Result<NonNull<u8>, Code> {
    NonZero::new(start).map(NonNull::without_provenance).ok_or(Code::UNKNOWN)
}
