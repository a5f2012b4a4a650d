//! Copies between layouts on a GPU: blocks of caches, and tensors.
//!
//! `cargo bench --bench blocks [-- CASE...]` prints tables in Markdown; a case is run if its name
//! contains one of the words. Every destination is poisoned and compared byte for byte before it is
//! measured. Beside each case of blocks are kernels in the shapes of engines': an element of two bytes a
//! thread, found by divisions (KVBM), and a warp a token, 8 bytes a lane (SGLang). Without a GPU it
//! says so.
//!
//! The limit of a case is twice its bytes at the speed of one dense copy of 4 GiB in the same run.

mod over_pcie;
#[path = "../gpu/raw.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod raw;
mod workload;

use std::{cell::RefCell, time::Instant};

use tidelock::{BatchCopy, DeviceLocation, Layout, Stream, buffer::Scatter, cuda};

use self::{
    raw::Raw,
    workload::{Blocks, Geometry, HOST, POOL, blocks, source, target, tensors},
};

fn main() {
    let device = match cuda::Device::open(0) {
        Ok(device) => device,
        Err(reason) => return println!("no GPU: {reason}"),
    };
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let answer = device.stream(|stream, _env| {
        let raw = Raw::new(stream.ctx().raw_stream().unwrap());
        Bench::new(raw, stream, wanted).run();
    });
    answer.unwrap();
}

struct Bench<L: DeviceLocation> {
    raw: Raw,
    stream: RefCell<Stream<L>>,
    batch: BatchCopy,
    wanted: Vec<String>,
    src: u64,
    dst: u64,
    /// Page-locked memory.
    host: u64,
    /// Bytes of a dense copy, per microsecond.
    speed: f64,
    wrong: Vec<String>,
}

impl<L: DeviceLocation> Bench<L> {
    fn new(raw: Raw, stream: Stream<L>, wanted: Vec<String>) -> Self {
        let (src, dst, host) = (raw.alloc(POOL), raw.alloc(POOL), raw.alloc_host(HOST));
        raw.fill(src, POOL, 1);
        raw.fill(host, HOST, 2);
        raw.poison(dst, POOL);
        raw.hold(300e3);
        raw.synchronize();
        let bytes = 4 << 30;
        let dense = raw.measure(1, |_| raw.copy(dst, src, bytes), || raw.synchronize()).device;
        let (stream, batch) = (RefCell::new(stream), BatchCopy::new());
        Bench { raw, stream, batch, wanted, src, dst, host, speed: bytes as f64 / dense, wrong: Vec::new() }
    }

    fn run(&mut self) {
        let from = Instant::now();
        println!("# {}\n", self.raw.name());
        println!("- dense copy of 4 GiB: {:.0} GB/s read and written\n", self.speed * 2.0 / 1e3);
        println!(
            "| case | bytes | runs of | limit us | device us | of the limit | amortised us | of the limit | enqueue us | end to end us | an element a thread | a warp a token | right |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|");
        for case in blocks() {
            if self.is_wanted(&case.name) {
                self.blocks(&case);
            }
        }
        for (name, from, to, size) in tensors() {
            if self.is_wanted(&name) {
                self.tensor(&name, from, to, size);
            }
        }
        self.over_pcie();
        self.describing();
        println!("\nwrong results: {}; took {} s", self.wrong.len(), from.elapsed().as_secs());
        assert!(self.wrong.is_empty(), "copied wrongly: {:?}", self.wrong);
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| name.contains(wanted.as_str()))
    }

    fn blocks(&mut self, case: &Blocks) {
        let Geometry { row, .. } = case.geometry;
        let (from, to) = case.layouts();
        let sets = case.scatters();
        let scatters: Vec<Scatter> = sets.iter().map(|pairs| case.scatter(pairs)).collect();
        let (raw, stream, batch) = (&self.raw, &self.stream, &mut self.batch);
        let (src, dst) = (self.src, self.dst);
        // SAFETY: the benchmark's own memory, which nothing else uses meanwhile.
        let mut operation = |k: usize| unsafe { copy_blocks(stream, batch, (src, from), &scatters[k], (dst, to)) };
        raw.poison(dst, to.cosize());
        operation(0);
        raw.synchronize();
        let pairs: Vec<_> = sets[0].iter().step_by((sets[0].len() / 256).max(1)).collect();
        let copies: Vec<_> = pairs.into_iter().flat_map(|pair| case.runs(*pair, (src, dst))).collect();
        let right = raw.differences(&copies) == 0;
        let wait = || {
            stream.borrow_mut().synchronize().unwrap();
        };
        let times = raw.measure(sets.len(), operation, wait);
        let rivals = case.rivals(raw, &sets[0], (src, dst));
        self.row(&case.name, case.bytes(), row, times, &rivals, right);
    }

    fn tensor(&mut self, name: &str, from: Layout<3>, to: Layout<3>, size: usize) {
        let (raw, stream, batch) = (&self.raw, &self.stream, &mut self.batch);
        let (src, dst) = (self.src, self.dst);
        let bytes = from.size() * size;
        let mut operation = |_: usize| {
            let stream = stream.borrow();
            let answer = batch.scope(&stream.ctx(), |batch| {
                batch.group(|group| {
                    macro_rules! copy {
                        ($t:ty) => {{
                            // SAFETY: the benchmark's own memory, which nothing else uses meanwhile.
                            let (src, dst) =
                                unsafe { (source::<$t, L>(src, from.cosize()), target::<$t, L>(dst, to.cosize())) };
                            group.copy_tensor(src.strided(from)?, dst.strided(to)?)
                        }};
                    }
                    match size {
                        1 => copy!(u8),
                        2 => copy!(u16),
                        4 => copy!(u32),
                        _ => copy!(u64),
                    }
                })
            });
            answer.unwrap();
        };
        raw.poison(dst, to.cosize() * size);
        operation(0);
        raw.synchronize();
        let [a, b, c] = from.shape();
        let (fs, ts) = (from.stride(), to.stride());
        let run = if fs[2] == 1 && ts[2] == 1 { c } else { 1 };
        // A sample of the places.
        let step = (a * b * (c / run) / 400_000).max(1);
        let places = (0..a * b * (c / run)).step_by(step).map(|i| {
            let at = [i / (b * (c / run)), i / (c / run) % b, i % (c / run) * run];
            let offset = |stride: [usize; 3]| at.iter().zip(stride).map(|(at, by)| at * by).sum::<usize>() * size;
            (dst + offset(ts) as u64, src + offset(fs) as u64, run * size)
        });
        let right = raw.differences(&places.collect::<Vec<_>>()) == 0;
        let wait = || {
            stream.borrow_mut().synchronize().unwrap();
        };
        let times = raw.measure(1, operation, wait);
        self.row(name, bytes, run * size, times, &[], right);
    }

    fn row(&mut self, name: &str, bytes: usize, run: usize, times: raw::Times, rivals: &[f64], right: bool) {
        let limit = bytes as f64 / self.speed;
        let of = |time: f64| format!("{:.1} %", limit / time * 100.0);
        println!(
            "| {name} | {bytes} | {run} | {limit:.1} | {:.1} | {} | {:.1} | {} | {:.1} | {:.1} | {} | {} | {} |",
            times.device,
            of(times.device),
            times.amortised,
            of(times.amortised),
            times.enqueue,
            times.end_to_end,
            rivals.first().map_or("–".to_owned(), |time| of(*time)),
            rivals.get(1).map_or("–".to_owned(), |time| of(*time)),
            if right { "yes" } else { "WRONG" }
        );
        if !right {
            self.wrong.push(name.to_owned());
        }
    }

    /// What the host needs to check the numbers of 4096 blocks and to describe their copy.
    fn describing(&mut self) {
        let Some(case) = blocks().into_iter().find(|case| case.count == 4096) else { return };
        let (from, to) = case.layouts();
        let pairs = &case.scatters()[0];
        let mut scatter = Scatter::new();
        let mut times = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let start = Instant::now();
            let (src_blocks, dst_blocks) = case.pools();
            scatter.set(pairs.iter().copied(), src_blocks, dst_blocks).unwrap();
            times.0.push(start.elapsed().as_secs_f64() * 1e6);
            let stream = self.stream.borrow();
            let answer = self.batch.scope(&stream.ctx(), |batch| {
                batch.group(|group| {
                    // SAFETY: the benchmark's own memory, which nothing else uses meanwhile.
                    let (src, dst) =
                        unsafe { (source::<u8, L>(self.src, from.cosize()), target::<u8, L>(self.dst, to.cosize())) };
                    group.copy_blocks(src.strided(from)?.slice(1, ..1)?, &scatter, dst.strided(to)?.slice(1, ..1)?)
                })
            });
            answer.unwrap();
            times.1.push(start.elapsed().as_secs_f64() * 1e6);
            drop(stream);
            self.raw.synchronize();
        }
        let (checked, enqueued) = (raw::median(times.0), raw::median(times.1));
        println!(
            "\n- 4096 pairs of blocks: checked in {checked:.1} us; checked, described and launched in {enqueued:.1} us"
        );
    }
}

/// Copies the blocks of `scatter` from a pool to another one, each with its address and its layout.
///
/// # Safety
/// - As for [`source`] and [`target`], for the memory that the layouts reach.
unsafe fn copy_blocks<L: DeviceLocation>(
    stream: &RefCell<Stream<L>>,
    batch: &mut BatchCopy,
    (src, from): (u64, Layout<6>),
    scatter: &Scatter,
    (dst, to): (u64, Layout<6>),
) {
    let stream = stream.borrow();
    let answer = batch.scope(&stream.ctx(), |batch| {
        batch.group(|group| {
            // SAFETY: the caller promises it.
            let (src, dst) = unsafe { (source::<u8, L>(src, from.cosize()), target::<u8, L>(dst, to.cosize())) };
            group.copy_blocks(src.strided(from)?, scatter, dst.strided(to)?)
        })
    });
    answer.unwrap();
}
