//! The device against what it promises.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic,
    reason = "tests"
)]
#![allow(
    clippy::as_conversions,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "tests"
)]

mod errors;
mod growth;
mod handles;
mod memory;
mod order;

use core::{
    ptr, slice,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Instant,
};

use tidelock_driver::code::{Code, DriverError};

use super::{window::WINDOW, *};

const SLOW: Delay = Delay::Upto(Duration::from_micros(300));

fn slow(seed: u64) -> Gpu {
    Gpu::new(Options::default().seed(seed).delay(SLOW))
}

fn upload(gpu: &Gpu, dst: *mut u8, src: &[u8], stream: StreamId) -> Result<(), Code> {
    unsafe { gpu.memcpy_async(dst, src.as_ptr(), src.len(), stream) }
}

fn download(gpu: &Gpu, dst: &mut [u8], src: *mut u8, stream: StreamId) -> Result<(), Code> {
    unsafe { gpu.memcpy_async(dst.as_mut_ptr(), src, dst.len(), stream) }
}

fn read(gpu: &Gpu, src: *mut u8, bytes: usize, stream: StreamId) -> Vec<u8> {
    let mut out = vec![0; bytes];
    download(gpu, &mut out, src, stream).unwrap();
    gpu.stream_synchronize(stream).unwrap();
    out
}

fn alloc(gpu: &Gpu, bytes: usize, stream: StreamId) -> *mut u8 {
    gpu.mem_alloc_async(bytes, gpu.default_pool().unwrap(), stream).unwrap().as_ptr()
}

fn free(gpu: &Gpu, ptr: *mut u8, stream: StreamId) {
    unsafe { gpu.mem_free_async(ptr, stream) }.unwrap();
}

/// Holds `stream` until the sender is dropped.
fn block(gpu: &Gpu, stream: StreamId) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    let task = move |_: &Memory| {
        let _ = receiver.recv();
        Ok(())
    };
    gpu.launch(stream, Task::new(task)).unwrap();
    sender
}

/// Runs `body` on a thread of its own and fails if it hangs.
fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || {
        body();
        let _ = sender.send(());
    });
    let hung = receiver.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
    assert!(!hung, "hangs");
    worker.join().unwrap();
}

const SOON: Duration = Duration::from_secs(20);

struct Witness(Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
