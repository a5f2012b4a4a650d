//! Memory pools of a CUDA device: how they are made, and what they hold.

use core::{
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    ptr::{self, NonNull},
};

use tidelock_driver::DriverError;

use super::{
    context::{Context, given},
    driver::{Handle, MemLocation, PoolProps},
    handle::DriverObject,
};

/// A `CUmemoryPool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PoolHandle(pub(super) DriverObject);

impl PoolHandle {
    fn new(pool: NonNull<c_void>) -> Self {
        PoolHandle(DriverObject(pool))
    }
}

pub(super) fn default_pool(context: Context, device: c_int) -> Result<PoolHandle, DriverError> {
    let get = context.driver.table.device_get_default_mem_pool;
    let mut pool: Handle = ptr::null_mut();
    // SAFETY:
    // - `pool` is valid for a write.
    context.enter("cuDeviceGetDefaultMemPool", || unsafe { get(&mut pool, device) })?;
    given("cuDeviceGetDefaultMemPool", pool).map(PoolHandle::new)
}

pub(super) fn create_pool(
    context: Context,
    device: c_int,
    mut release_threshold: u64,
) -> Result<PoolHandle, DriverError> {
    let table = &context.driver.table;
    let mut pool: Handle = ptr::null_mut();
    let props = PoolProps {
        alloc_type: ALLOCATION_PINNED,
        handle_types: 0,
        location: MemLocation { kind: LOCATION_DEVICE, id: device },
        security_attributes: ptr::null_mut(),
        reserved: [0; 64],
    };
    // SAFETY:
    // - `pool` is valid for a write, `props` for a read.
    context.enter("cuMemPoolCreate", || unsafe { (table.mem_pool_create)(&mut pool, &props) })?;
    let pool = PoolHandle::new(given("cuMemPoolCreate", pool)?);
    let value = ptr::from_mut(&mut release_threshold).cast();
    // SAFETY:
    // - The pool is alive, and the attribute is read as a 64-bit number.
    let set = || unsafe { (table.mem_pool_set_attribute)(pool.0.raw(), RELEASE_THRESHOLD, value) };
    if let Err(error) = context.enter("cuMemPoolSetAttribute", set) {
        destroy_pool(context, pool);
        return Err(error);
    }
    Ok(pool)
}

pub(super) fn destroy_pool(context: Context, pool: PoolHandle) {
    let destroy = context.driver.table.mem_pool_destroy;
    // SAFETY:
    // - This crate created the pool and does not use it after this: "If any pointers obtained from
    //   this pool haven't been freed or the pool has free operations that haven't completed when
    //   cuMemPoolDestroy is invoked, the function will return immediately and the resources
    //   associated with the pool will be released automatically once there are no more outstanding
    //   allocations" (CUDA driver manual 13.0).
    // Errors are ignored.
    let _ = context.on_stream("cuMemPoolDestroy", || unsafe { destroy(pool.0.raw()) });
}

/// The bytes that `pool` holds and nothing is allocated from. Cost: two driver calls.
///
/// # Safety
/// - The pool is alive.
pub(super) unsafe fn cached_by(context: Context, pool: PoolHandle) -> Result<u64, DriverError> {
    let get = context.driver.table.mem_pool_get_attribute;
    let read = |attribute| {
        let bytes = Cell::new(0_u64);
        let place = bytes.as_ptr().cast();
        // SAFETY:
        // - The caller promises that the pool is alive, and the attribute is written as a 64-bit
        //   number.
        context.on_stream("cuMemPoolGetAttribute", || unsafe { get(pool.0.raw(), attribute, place) })?;
        Ok::<_, DriverError>(bytes.get())
    };
    Ok(read(RESERVED_NOW)?.saturating_sub(read(USED_NOW)?))
}

/// `CU_MEM_ALLOCATION_TYPE_PINNED`, which is what device memory of a pool is.
const ALLOCATION_PINNED: c_uint = 1;
/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const LOCATION_DEVICE: c_uint = 1;
/// `CU_MEMPOOL_ATTR_RELEASE_THRESHOLD`, a 64-bit number.
const RELEASE_THRESHOLD: c_uint = 4;
/// `CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT` and `CU_MEMPOOL_ATTR_USED_MEM_CURRENT`, 64-bit numbers.
const RESERVED_NOW: c_uint = 5;
const USED_NOW: c_uint = 7;

#[cfg(any(test, tidelock_declarations))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(ALLOCATION_PINNED, CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED);
    same_number!(LOCATION_DEVICE, CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE);
    same_number!(RELEASE_THRESHOLD, CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD);
}
