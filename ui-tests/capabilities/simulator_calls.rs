// R4: the driver's calls take addresses as they are, and work on them runs later: nothing says that the memory lives.
// Instead: buffers and views, whose copies are safe; or an `unsafe` block that proves it.
#![forbid(unsafe_code)]
use tidelock_simulator::{Gpu, StreamId};

pub fn late(gpu: &Gpu, stream: StreamId) {
    let (mut to, from) = ([0_u8; 4], [1_u8; 4]);
    let _ = gpu.memcpy_async(to.as_mut_ptr(), from.as_ptr(), 4, stream);
    let _ = gpu.memset_d8_async(to.as_mut_ptr(), 1, 4, stream);
    let _ = gpu.mem_free_async(to.as_mut_ptr(), stream);
    let _ = unsafe { gpu.mem_free(to.as_mut_ptr()) };
}

fn main() {}
