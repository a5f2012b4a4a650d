//! Batched copies on a GPU: this library's and its rivals', in one process, with the same buffers in the same rotation.
//!
//! `cargo bench --bench gpu [-- CASE...]`. Every method's result is compared byte for byte, once for each case, after its
//! destinations were poisoned. Without a GPU it says so and ends.
//!
//! The limit of a case is 2 times its bytes at the speed of one dense copy of 4 GiB, plus 2.5 µs for a launch; end to end
//! plus what an empty launch and a synchronise take.

mod raw;
mod rivals;

use core::num::NonZero;
use std::ptr::NonNull;

use tidelock::{Batch, BatchCopy, DeviceLocation, View, ViewMut, cuda};

use self::{
    raw::{Raw, Times},
    rivals::Rivals,
};

const MIB: usize = 1 << 20;
const CAPACITY: usize = 4 << 30;

/// What is copied.
enum Workload {
    /// Rows in a random order out of every second row of a tensor; destinations are dense.
    Rows { count: usize, bytes: usize, src: u64, dst: u64, permutations: Vec<Vec<u32>> },
    /// Any copies.
    Copies { sets: Vec<Vec<(u64, u64, usize)>> },
}

impl Workload {
    fn rows(count: usize, bytes: usize, src: u64, dst: u64, capacity: usize, random: &mut Random) -> Workload {
        let set = 2 * count * bytes;
        let sets = (768 * MIB / set + 1).clamp(2, 64).min(capacity / set);
        let permutations = (0..sets).map(|_| random.permutation(count)).collect();
        Workload::Rows { count, bytes, src, dst, permutations }
    }

    fn sets(&self) -> usize {
        match self {
            Workload::Rows { permutations, .. } => permutations.len(),
            Workload::Copies { sets } => sets.len(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Workload::Rows { count, .. } => *count,
            Workload::Copies { sets } => sets[0].len(),
        }
    }

    fn longest(&self) -> usize {
        match self {
            Workload::Rows { bytes, .. } => *bytes,
            Workload::Copies { sets } => sets.iter().flatten().map(|copy| copy.2).max().unwrap(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Workload::Rows { count, bytes, .. } => count * bytes,
            Workload::Copies { sets } => sets.iter().flatten().map(|copy| copy.2).sum::<usize>() / sets.len(),
        }
    }

    fn permutation(&self, k: usize) -> &[u32] {
        match self {
            Workload::Rows { permutations, .. } => &permutations[k],
            Workload::Copies { .. } => &[],
        }
    }

    fn bases(&self, k: usize) -> (u64, u64) {
        match self {
            Workload::Rows { count, bytes, src, dst, .. } => {
                (src + (2 * k * count * bytes) as u64, dst + (k * count * bytes) as u64)
            }
            Workload::Copies { sets } => (sets[k][0].1, sets[k][0].0),
        }
    }

    /// Calls `f` with destination, source and length of each copy of set `k`.
    #[inline]
    fn each(&self, k: usize, mut f: impl FnMut(u64, u64, usize)) {
        match self {
            Workload::Rows { bytes, permutations, .. } => {
                let (src, dst) = self.bases(k);
                for (i, &row) in permutations[k].iter().enumerate() {
                    f(dst + (i * bytes) as u64, src + (row as usize * 2 * bytes) as u64, *bytes);
                }
            }
            Workload::Copies { sets } => sets[k].iter().for_each(|&(dst, src, len)| f(dst, src, len)),
        }
    }
}

/// A small generator, so that every run measures the same permutations.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            rows.swap(i, self.below(i + 1));
        }
        rows
    }
}

/// One run: a case's name, its limits, and how to print its rows.
struct Case<'a> {
    raw: &'a Raw,
    name: String,
    w: &'a Workload,
    limit: f64,
    limit_end_to_end: f64,
}

impl Case<'_> {
    fn run(&self, method: &str, check: bool, mut operation: impl FnMut(usize)) -> Times {
        let mut verdict = "not checked";
        if check {
            let mut copies = Vec::new();
            self.w.each(0, |dst, src, len| copies.push((dst, src, len)));
            for &(dst, _, len) in &copies {
                // Poisons and synchronises only once: at the end.
                // SAFETY: the benchmark's own memory.
                raw::ok(unsafe { cudarc::driver::sys::cuMemsetD8Async(dst, 0xA5, len, self.raw.stream) });
                if copies.len() > 4096 {
                    break;
                }
            }
            if copies.len() > 4096 {
                let (low, high) = copies
                    .iter()
                    .fold((u64::MAX, 0), |(low, high), copy| (low.min(copy.0), high.max(copy.0 + copy.2 as u64)));
                self.raw.poison(low, (high - low) as usize);
            }
            self.raw.synchronize();
            operation(0);
            self.raw.synchronize();
            verdict = if self.raw.differences(&copies) == 0 { "yes" } else { "WRONG" };
        }
        let t = self.raw.measure(self.w.sets(), operation);
        println!(
            "| {} | {method} | {:.2} | {:.2} | {:.1} % | {:.2} | {:.2} | {:.1} % | {verdict} |",
            self.name,
            t.device,
            t.amortised,
            100.0 * self.limit / t.amortised,
            t.enqueue,
            t.end_to_end,
            100.0 * self.limit_end_to_end / t.end_to_end
        );
        t
    }
}

/// The copies of set `k`, through the library.
fn ours<'env, L: DeviceLocation>(b: &mut Batch<'_, 'env, L>, w: &Workload, k: usize) -> tidelock::Result<()> {
    let mut result = Ok(());
    w.each(k, |dst, src, len| {
        if result.is_ok() {
            // SAFETY: the benchmark's own memory, alive all the time; no destination overlaps anything. Pinned memory is
            // passed as if it were the device's: the stream is waited for before the host looks at it.
            let (src, dst) = unsafe {
                (View::<u8, L>::from_raw_parts(at(src), len), ViewMut::<u8, L>::from_raw_parts(at(dst), len))
            };
            result = b.copy(src, dst);
        }
    });
    result
}

fn at(address: u64) -> NonNull<u8> {
    NonNull::with_exposed_provenance(NonZero::new(address as usize).unwrap())
}

fn main() {
    let device = match cuda::Device::open(0) {
        Ok(device) => device,
        Err(reason) => return println!("no GPU: {reason}"),
    };
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let raw = Raw::new(ctx.raw_stream().unwrap());
            let mut rivals = Rivals::new(&raw);
            let mut batch = BatchCopy::new();
            let (src, dst) = (raw.alloc(CAPACITY), raw.alloc(CAPACITY));
            let host_bytes = 256 * MIB;
            let host = raw.alloc_host(2 * host_bytes);
            raw.fill(src, CAPACITY, 1);
            raw.fill(host, 2 * host_bytes, 2);
            raw.poison(dst, CAPACITY);
            let dense = raw.measure(1, |_| raw.copy(dst, src, CAPACITY));
            let speed = 2.0 * CAPACITY as f64 / dense.device / 1e3;
            let nothing = [(dst, src, 1)];
            let empty = raw.measure(1, |_| nothing.iter().for_each(|&(dst, src, len)| raw.copy(dst, src, len)));
            println!("# {}\n", raw.name());
            println!("dense copy of 4 GiB {speed:.0} GB/s read and written; copy of 1 byte {:.2} us end to end\n", empty.end_to_end);
            println!("| case | method | device us | amortised us | of limit | enqueue us | end to end us | of limit | correct |");
            println!("|---|---|---|---|---|---|---|---|---|");
            for (name, w) in workloads(src, dst, host, host_bytes) {
                if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
                    continue;
                }
                let over_pcie = name.starts_with("H2D") || name.starts_with("D2H");
                let copy_time = if over_pcie { w.bytes() as f64 / 55.4e3 } else { 2.0 * w.bytes() as f64 / speed / 1e3 };
                let case = Case { raw: &raw, name, w: &w, limit: copy_time + 2.5, limit_end_to_end: copy_time + 8.7 };
                case.run("one dense copy", false, |k| {
                    let (src, dst) = w.bases(k);
                    raw.copy(dst, src, w.bytes());
                });
                let slow = w.count() > 4096;
                if !slow {
                    case.run("cuMemcpyAsync each", true, |k| rivals.one_by_one(&raw, &w, k));
                    case.run("cuMemcpyBatchAsync", true, |k| rivals.driver_batch(&raw, &w, k));
                }
                if matches!(w, Workload::Rows { .. }) && w.count() <= 65536 {
                    case.run("rival: descriptors in parameters", true, |k| rivals.in_parameters(&raw, &w, k));
                    case.run("rival: descriptors in pinned memory", true, |k| rivals.pinned_descriptors(&raw, &w, k));
                    case.run("rival: descriptors uploaded", true, |k| rivals.uploaded_descriptors(&raw, &w, k));
                    if w.count() <= 8000 {
                        case.run("rival: row numbers in parameters", true, |k| {
                            rivals.indices(&raw, &w, k);
                        });
                    }
                }
                case.run("**tidelock**", true, |k| batch.scope(&ctx, |b| ours(b, &w, k)).unwrap());
            }
        })
        .unwrap();
}

fn workloads(src: u64, dst: u64, host: u64, host_bytes: usize) -> Vec<(String, Workload)> {
    let mut random = Random(1234);
    let mut all = Vec::new();
    for (count, bytes) in [
        (32, 128),
        (256, 1),
        (256, 4),
        (256, 128),
        (32, 256 << 10),
        (256, 64 << 10),
        (1024, 4 << 10),
        (1024, 64 << 10),
        (4096, 16 << 10),
        (16384, 4 << 10),
        (16384, 16 << 10),
        (65536, 512),
        (65536, 4 << 10),
        (256, MIB),
        (64, MIB),
        (16, 4 * MIB),
        (4, 16 * MIB),
        (1, 64 * MIB),
    ] {
        all.push((name(count, bytes), Workload::rows(count, bytes, src, dst, CAPACITY, &mut random)));
    }
    for odd in [true, false] {
        let sets = (0..4).map(|k| ragged(k, src, dst, odd, &mut random)).collect();
        let name = if odd { "ragged 4096 x 1 B to 64 KiB, odd" } else { "ragged 4096 x 16 B to 64 KiB, aligned" };
        all.push((name.to_owned(), Workload::Copies { sets }));
    }
    let sets = (0..24).map(|k| append(k, src, dst, &mut random)).collect();
    all.push(("append 256 sequences".to_owned(), Workload::Copies { sets }));
    let sets = (0..16).map(|k| tick(k, src, dst, host, &mut random)).collect();
    all.push(("decode tick 512 D2D + 14 H2D".to_owned(), Workload::Copies { sets }));
    for (count, bytes) in [(4096, 128), (1024, 4 << 10), (16384, 4 << 10), (256, 64 << 10)] {
        let capacity = host_bytes.min(8 * 2 * count * bytes);
        let down = Workload::rows(count, bytes, host, dst, capacity, &mut random);
        let mut sets = Vec::new();
        for k in 0..down.sets() {
            let mut set = Vec::new();
            down.each(k, |to, from, len| set.push((from, to - dst + src, len)));
            sets.push(set);
        }
        all.push((format!("H2D {}", name(count, bytes)), down));
        all.push((format!("D2H {}", name(count, bytes)), Workload::Copies { sets }));
    }
    all
}

fn name(count: usize, bytes: usize) -> String {
    match bytes {
        b if b >= MIB => format!("{count} x {} MiB", b / MIB),
        b if b >= 1024 => format!("{count} x {} KiB", b / 1024),
        b => format!("{count} x {b} B"),
    }
}

fn ragged(k: usize, src: u64, dst: u64, odd: bool, random: &mut Random) -> Vec<(u64, u64, usize)> {
    let region = (k * 512 * MIB) as u64;
    let length = |random: &mut Random| if odd { 1 + random.below(65536) } else { 16 * (1 + random.below(4096)) };
    let gap = |random: &mut Random| if odd { random.below(16) as u64 } else { 0 };
    let lengths: Vec<usize> = (0..4096).map(|_| length(random)).collect();
    let mut to = dst + region + u64::from(odd);
    let mut copies: Vec<(u64, u64, usize)> = Vec::new();
    for &len in &lengths {
        copies.push((to, 0, len));
        to += len as u64 + gap(random);
    }
    let mut from = src + region + 3 * u64::from(odd);
    for i in random.permutation(4096) {
        let copy = &mut copies[i as usize];
        copy.1 = from;
        from += copy.2 as u64 + gap(random);
    }
    copies
}

/// 256 rows of up to 8192 tokens of 4 bytes: 230 move and gain one token, 26 are new.
fn append(k: usize, src: u64, dst: u64, random: &mut Random) -> Vec<(u64, u64, usize)> {
    let (src, dst, pitch) = (src + (k * 64 * MIB) as u64, dst + (k * 64 * MIB) as u64, 8192 * 4);
    let (tokens, joining) = (src + (16 * MIB) as u64, src + (32 * MIB) as u64);
    let lengths: Vec<usize> = (0..256).map(|_| 4 * (1 + random.below(8191))).collect();
    let mut copies = Vec::new();
    let mut joined = 0;
    for (i, &row) in random.permutation(256).iter().enumerate() {
        let to = dst + i as u64 * pitch;
        if i < 230 {
            let len = lengths[row as usize];
            copies.push((to, src + u64::from(row) * pitch, len));
            copies.push((to + len as u64, tokens + u64::from(row) * 4, 4));
        } else {
            copies.push((to, joining + joined, lengths[i]));
            joined += lengths[i] as u64;
        }
    }
    copies
}

/// A decode step: 256 flags of 1 byte and 256 lengths of 4 bytes permuted on the device, 14 small arrays of the host.
fn tick(k: usize, src: u64, dst: u64, host: u64, random: &mut Random) -> Vec<(u64, u64, usize)> {
    let (src, dst, host) = (src + (k * MIB) as u64, dst + (k * MIB) as u64, host + (k << 16) as u64);
    let rows = random.permutation(256);
    let flags = rows.iter().enumerate().map(|(i, &row)| (dst + i as u64, src + u64::from(row), 1));
    let lengths =
        rows.iter().enumerate().map(|(i, &row)| (dst + 4096 + 4 * i as u64, src + 4096 + 4 * u64::from(row), 4));
    let arrays = (0..14_u64).map(|i| (dst + 65536 + i * 4096, host + i * 4096, 2048));
    flags.chain(lengths).chain(arrays).collect()
}
