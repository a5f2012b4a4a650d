//! Whole blocks between device and host, and what they cost a kernel that runs beside them.

use std::{cell::Cell, ptr, time::Instant};

use cudarc::driver::sys;
use tidelock::DeviceLocation;

use super::{
    Bench, copy_blocks,
    raw::{Raw, ok},
    workload::crossings,
};

/// Passes of the kernel beside, each over as many bytes.
const PASSES: usize = 60;
const BESIDE: usize = 4 << 30;

impl<L: DeviceLocation> Bench<L> {
    pub fn over_pcie(&mut self) {
        let (raw, bytes) = (&self.raw, 256 << 20);
        let dense =
            |dst, src| bytes as f64 / raw.measure(1, |_| raw.copy(dst, src, bytes), || raw.synchronize()).device;
        let (up, down) = (dense(self.dst, self.host), dense(self.host, self.src));
        println!("\n- dense copies of 256 MiB: {:.2} GB/s up, {:.2} GB/s down\n", up / 1e3, down / 1e3);
        println!(
            "| case | bytes | limit us | device us | of the limit | end to end us | of the limit | beside: GB/s | kernel slower by | right |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---|");
        let other = other_stream();
        let alone = beside(&other, self.src + (6 << 30), || false);
        for (case, goes_down) in crossings() {
            if !self.is_wanted(&case.name) {
                continue;
            }
            let (from, to) = case.layouts();
            let sets = case.scatters();
            let scatters: Vec<_> = sets.iter().map(|pairs| case.scatter(pairs)).collect();
            let (raw, stream, batch) = (&self.raw, &self.stream, &mut self.batch);
            let (src, dst) = if goes_down { (self.src, self.host) } else { (self.host, self.dst) };
            // SAFETY: the benchmark's own memory, which nothing else uses meanwhile; page-locked memory is
            // passed as if it were the device's.
            let mut operation = |k: usize| unsafe { copy_blocks(stream, batch, (src, from), &scatters[k], (dst, to)) };
            if goes_down {
                // SAFETY: the device does not use it now.
                unsafe { ptr::write_bytes(dst as *mut u8, 0xA5, to.cosize()) };
            } else {
                raw.poison(dst, to.cosize());
            }
            operation(0);
            raw.synchronize();
            let pairs: Vec<_> = sets[0].iter().step_by((sets[0].len() / 64).max(1)).collect();
            let copies: Vec<_> = pairs.into_iter().flat_map(|pair| case.runs(*pair, (src, dst))).collect();
            let right = raw.differences(&copies) == 0;
            let wait = || {
                stream.borrow_mut().synchronize().unwrap();
            };
            let times = raw.measure(sets.len(), &mut operation, wait);
            // Copies all the time, beside a kernel that reads memory.
            let (count, start) = (Cell::new(0_usize), Instant::now());
            let slowed = beside(&other, self.src + (6 << 30), || {
                operation(count.get() % sets.len());
                count.set(count.get() + 1);
                stream.borrow_mut().synchronize().unwrap();
                true
            });
            let rate = (count.get() * case.bytes()) as f64 / start.elapsed().as_secs_f64() / 1e9;
            let limit = case.bytes() as f64 / if goes_down { down } else { up };
            println!(
                "| {} | {} | {limit:.1} | {:.1} | {:.1} % | {:.1} | {:.1} % | {rate:.1} | {:.1} % | {} |",
                case.name,
                case.bytes(),
                times.amortised,
                limit / times.amortised * 100.0,
                times.end_to_end,
                limit / times.end_to_end * 100.0,
                (slowed / alone - 1.0) * 100.0,
                if right { "yes" } else { "WRONG" }
            );
            if !right {
                self.wrong.push(case.name.clone());
            }
        }
    }
}

fn other_stream() -> Raw {
    let mut stream = ptr::null_mut();
    // SAFETY: a context is current.
    ok(unsafe { sys::cuStreamCreate(&mut stream, 1) });
    Raw::new(stream.cast())
}

/// The time of the kernel that reads memory again and again on a stream of its own, in microseconds;
/// `meanwhile` is called until it has ended or says `false`.
fn beside(raw: &Raw, memory: u64, mut meanwhile: impl FnMut() -> bool) -> f64 {
    let (mut start, mut end) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a context is current; the events are recorded on the stream, and destroyed when it has passed them.
    unsafe {
        ok(sys::cuEventCreate(&mut start, 0));
        ok(sys::cuEventCreate(&mut end, 0));
        ok(sys::cuEventRecord(start, raw.stream));
        let read = raw.function("read");
        for _ in 0..PASSES {
            raw.launch(
                read,
                (BESIDE / 32768) as u32,
                256,
                &[ptr::from_ref(&memory).cast(), ptr::from_ref(&memory).cast()],
            );
        }
        ok(sys::cuEventRecord(end, raw.stream));
        while sys::cuEventQuery(end) == sys::CUresult::CUDA_ERROR_NOT_READY && meanwhile() {}
        raw.synchronize();
        let mut milliseconds = 0.0;
        ok(sys::cuEventElapsedTime(&mut milliseconds, start, end));
        ok(sys::cuEventDestroy_v2(start));
        ok(sys::cuEventDestroy_v2(end));
        f64::from(milliseconds) * 1e3
    }
}
