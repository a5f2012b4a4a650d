//! Which copies of a batch the kernels leave to the driver's copy engines.

use core::ffi::{c_int, c_void};
use std::sync::OnceLock;

use tidelock_driver::CopyBatch;

use super::layout::LONGEST;
use crate::device::cuda::driver::{Answer, symbol};

/// Which copies are left to the driver: those above [`LONGEST`], and long ones over PCIe.
pub(super) struct MemcpyRouting {
    /// Whether the kernels carry out all copies.
    pub(super) takes_none: bool,
    /// A copy of at least this many bytes is long.
    long: usize,
    memory_type: Option<MemoryType>,
}

impl MemcpyRouting {
    /// Samples the copies of at least `long` bytes. If one of them reads or writes host memory,
    /// [`takes`](MemcpyRouting::takes) looks at each.
    pub(super) fn look(copies: &CopyBatch<'_>, long: usize) -> MemcpyRouting {
        // At least the longest length, and less than twice as much.
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

    pub(super) fn takes(&self, len: usize, src: *const u8, dst: *mut u8) -> bool {
        let is_long = || len >= self.long;
        len > LONGEST || (is_long() && self.memory_type.is_some_and(|call| is_host(call, src) || is_host(call, dst)))
    }
}

/// Whether the address is one of host memory that the driver has.
pub(super) fn is_in_host_memory(address: *const u8) -> bool {
    let call = *MEMORY_TYPE.get_or_init(|| symbol("cuPointerGetAttribute").ok());
    call.is_some_and(|call| is_host(call, address))
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
