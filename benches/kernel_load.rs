//! How long the first use of the copy kernels takes: loading their image, and finding each.
//!
//! `CUDA_CACHE_DISABLE=1 cargo bench --bench kernel_load` on a machine with a GPU. The first line is
//! of a fresh process, the others of the same process after the kernels were unloaded. The variable
//! keeps the driver from using what it compiled before, which matters for PTX only.

use std::time::Instant;

use tidelock::cuda::Device;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for load in 1..=5 {
        let device = Device::open(0)?;
        // The context and its pool are there before the clock starts.
        device.stream(|stream, _| stream.ctx().with_pool().zeros::<u8>(8).map(drop))??;
        let start = Instant::now();
        let answer = device.copy_kernels();
        let time = start.elapsed();
        println!("load {load}, compute capability {:?}: {time:?}, {answer:?}", device.compute_capability());
        drop(device);
    }
    Ok(())
}
