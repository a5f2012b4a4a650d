//! Batched copies on a GPU: this library's and its rivals', in one process, with the same buffers
//! in the same rotation.
//!
//! `cargo bench --bench gpu [-- CASE...]` prints tables in Markdown; a case is run if its name
//! contains one of the words. `TIDELOCK_RIVALS` names the folder where `rivals.sh` has put CUB and
//! PyTorch; without it they are missing. Every method's result is compared byte for byte, once for
//! each case, after its destinations were poisoned. Without a GPU it measures only what building a
//! batch costs the host.
//!
//! The limit of a case is 2 times its bytes at the speed of one dense copy of 4 GiB, plus 2.5 µs
//! for a launch; end to end plus what an empty launch and a synchronise take. Between host and
//! device it is its bytes at the speed of one dense copy of 256 MiB that way.

mod batch_building;
mod foreign;
mod ours;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod raw;
mod report;
mod rivals;
mod workload;

use std::{cell::RefCell, time::Instant};

use tidelock::{BatchCopy, DeviceLocation, Stream, cuda, sim};

use self::{
    foreign::{Cub, Torch},
    raw::Raw,
    report::{Given, Measured, Row, amortised, end_to_end},
    rivals::{Delivery, Rivals},
    workload::{CAPACITY, HOST, Path, Rows, Shape, Workload, workloads},
};

fn main() {
    let device = match cuda::Device::open(0) {
        Ok(device) => device,
        Err(reason) => {
            println!("no GPU: {reason}");
            return without_gpu();
        }
    };
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let answer = device.stream(|stream, _env| {
        let raw = Raw::new(stream.ctx().raw_stream().unwrap());
        on_gpu(raw, stream, &wanted);
    });
    answer.unwrap();
}

fn without_gpu() {
    let answer = sim::Device::new(sim::Options::quick()).stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        let (src, mut dst) = (ctx.zeros::<u8>(16 << 20).unwrap(), ctx.zeros::<u8>(16 << 20).unwrap());
        let (src, dst) = (src.as_ptr().addr() as u64, dst.as_mut_ptr().addr() as u64);
        batch_building::print(&RefCell::new(stream), src, dst, false);
    });
    answer.unwrap();
}

/// No case starts after this many seconds.
const LONGEST: u64 = 140;

/// The workloads, and what runs and measures them.
struct Bench<L: DeviceLocation> {
    raw: Raw,
    stream: RefCell<Stream<L>>,
    rivals: Rivals,
    cub: Result<Cub, String>,
    torch: Result<Torch, String>,
    batch: BatchCopy,
    speed: Speed,
}

/// Bytes per microsecond, and the end-to-end time of a launch.
#[derive(Clone, Copy)]
struct Speed {
    on_device: f64,
    up: f64,
    down: f64,
    launch: f64,
}

fn on_gpu<L: DeviceLocation>(raw: Raw, stream: Stream<L>, wanted: &[String]) {
    let from = Instant::now();
    let (src, dst) = (raw.alloc(CAPACITY), raw.alloc(CAPACITY));
    let host = raw.alloc_host(2 * HOST);
    raw.fill(src, CAPACITY, 1);
    raw.fill(host, 2 * HOST, 2);
    raw.poison(dst, CAPACITY);
    raw.hold(300e3);
    raw.synchronize();
    let copy = |dst, src, len| len as f64 / raw.measure(1, |_| raw.copy(dst, src, len), || raw.synchronize()).device;
    let speed = Speed {
        on_device: copy(dst, src, CAPACITY) * 2.0,
        up: copy(dst, host, HOST),
        down: copy(host + HOST as u64, src, HOST),
        launch: raw.measure(1, |_| raw.hold(0.0), || raw.synchronize()).end_to_end,
    };
    let (rivals, cub, torch) = (Rivals::new(&raw), Cub::open(&raw), Torch::open(&raw));
    println!("# {}\n", raw.name());
    println!("- dense copy of 4 GiB: {:.0} GB/s read and written", speed.on_device / 1e3);
    println!("- dense copy of 256 MiB: {:.1} GB/s to the device, {:.1} GB/s back", speed.up / 1e3, speed.down / 1e3);
    println!("- empty launch and synchronise: {:.2} us", speed.launch);
    println!("- {}", cub.as_ref().map_or_else(|reason| format!("CUB is missing: {reason}"), |cub| cub.version.clone()));
    let torch_is = torch.as_ref().map_or_else(|reason| format!("PyTorch is missing: {reason}"), |t| t.version.clone());
    println!("- {torch_is}");
    let mut bench = Bench { raw, stream: RefCell::new(stream), rivals, cub, torch, batch: BatchCopy::new(), speed };
    let all = workloads(src, dst, host);
    let (mut done, mut left_out) = (Vec::new(), Vec::new());
    for w in &all {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| w.name.contains(wanted.as_str())) {
            continue;
        }
        if from.elapsed().as_secs() >= LONGEST {
            left_out.push(w.name.as_str());
            continue;
        }
        done.push(bench.run(w));
        eprintln!("{:.1} s: {}", from.elapsed().as_secs_f64(), w.name);
    }
    if !left_out.is_empty() {
        println!("- left out after {LONGEST} s: {}", left_out.join("; "));
    }
    report::print_targets(&done);
    report::print_places(&done, "amortised", amortised);
    report::print_places(&done, "end to end", end_to_end);
    batch_building::print(&bench.stream, src, dst, true);
    println!("\n## Every method");
    done.iter().for_each(Measured::print);
    let wrong = report::wrong(&done);
    println!("\nwrong results: {}; took {} s", wrong.len(), from.elapsed().as_secs());
    wrong.iter().for_each(|wrong| println!("- {wrong}"));
    assert!(wrong.is_empty(), "a method copied wrongly");
}

/// The rows of one case so far.
struct Table<'a> {
    raw: &'a Raw,
    rows: Vec<Row>,
}

impl Table<'_> {
    /// Measures a rival.
    fn rival(&mut self, method: &'static str, w: &Workload, operation: impl FnMut(usize)) {
        self.add(method, Given::Fresh, w.sets(), &w.copies(0), operation);
    }

    /// Measures a method that takes `sets` sets, and checks it by `copies`, which are of set 0.
    fn add(
        &mut self,
        method: &'static str,
        given: Given,
        sets: usize,
        copies: &[(u64, u64, usize)],
        mut operation: impl FnMut(usize),
    ) {
        let correct = self.check(copies, &mut operation);
        let times = self.raw.measure(sets, operation, || self.raw.synchronize());
        self.rows.push(Row { method, given, times, correct });
    }

    /// Measures one of ours, which waits through the library.
    fn ours<L: DeviceLocation>(
        &mut self,
        method: &'static str,
        given: Given,
        w: &Workload,
        stream: &RefCell<Stream<L>>,
        mut operation: impl FnMut(&Stream<L>, usize) -> tidelock::Result<()>,
    ) {
        let mut operation = |k| operation(&stream.borrow(), k).unwrap();
        let correct = self.check(&w.copies(0), &mut operation);
        let wait = || {
            stream.borrow_mut().synchronize().unwrap();
        };
        let times = self.raw.measure(w.sets(), operation, wait);
        self.rows.push(Row { method, given, times, correct });
    }

    fn check(&self, copies: &[(u64, u64, usize)], operation: &mut impl FnMut(usize)) -> &'static str {
        if copies.is_empty() {
            return "not checked";
        }
        let low = copies.iter().map(|copy| copy.0).min().unwrap();
        let high = copies.iter().map(|copy| copy.0 + copy.2 as u64).max().unwrap();
        self.raw.poison(low, (high - low) as usize);
        operation(0);
        self.raw.synchronize();
        if self.raw.differences(copies) == 0 { "yes" } else { "WRONG" }
    }
}

impl<L: DeviceLocation> Bench<L> {
    fn run<'w>(&mut self, w: &'w Workload) -> Measured<'w> {
        let Bench { raw, stream, rivals, cub, batch, speed, torch } = self;
        let bytes = w.bytes() as f64;
        let copying = match w.path {
            Path::OnDevice | Path::Mixed => 2.0 * bytes / speed.on_device,
            Path::Up => bytes / speed.up,
            Path::Down => bytes / speed.down,
        };
        let mut t = Table { raw, rows: Vec::new() };
        let bases: Vec<_> = (0..w.sets()).map(|k| w.bases(k)).collect();
        t.add("one dense copy", Given::Dense, w.sets(), &[], |k| raw.copy(bases[k].0, bases[k].1, w.bytes()));
        t.rival("cuMemcpyAsync each", w, |k| rivals.one_by_one(raw, w, k));
        t.rival("cuMemcpyBatchAsync", w, |k| rivals.driver_batch(raw, w, k));
        if let Ok(cub) = cub {
            t.rival("CUB, descriptors uploaded", w, |k| cub.run(raw, rivals, w, k));
        }
        t.rival("kernel, descriptors in parameters", w, |k| rivals.in_parameters(raw, w, k));
        t.rival("kernel, descriptors in pinned memory", w, |k| rivals.in_table(raw, w, k, Delivery::Pinned));
        t.rival("kernel, descriptors uploaded", w, |k| rivals.in_table(raw, w, k, Delivery::Uploaded));
        if w.count() <= 4096 {
            rivals.make_live_graphs(raw, w);
            t.rival("graph of the kernel, descriptors in pinned memory", w, |k| rivals.live_graph(raw, w, k));
        }
        if let Some(rows) = w.rows() {
            if rows.count <= 8000 {
                t.rival("kernel, row numbers in parameters", w, |k| rivals.numbers_in_parameters(raw, rows, k));
            }
            if rows.count > 1024 {
                let (pinned, uploaded) = (Delivery::Pinned, Delivery::Uploaded);
                t.rival("kernel, row numbers in pinned memory", w, |k| rivals.numbers_in_table(raw, rows, k, pinned));
                t.rival("kernel, row numbers uploaded", w, |k| rivals.numbers_in_table(raw, rows, k, uploaded));
            }
            if let Ok(torch) = torch {
                by_torch(&mut t, torch, w, rows);
            }
        }
        if w.path == Path::OnDevice && w.longest() >= 128 && w.count() <= 2040 && w.shape == Shape::Rows {
            graphs(&mut t, rivals, w);
        }
        t.ours("a copy each", Given::Ours, w, stream, |stream, k| ours::copies(stream, batch, w, k));
        if w.merged {
            t.ours("a copy each, in a group", Given::Ours, w, stream, |stream, k| ours::merged(stream, batch, w, k));
        }
        if !w.steps.is_empty() {
            t.ours("two Warps, and a copy each", Given::Ours, w, stream, |stream, k| ours::step(stream, batch, w, k));
        }
        if let Some(rows) = w.rows() {
            t.ours("Warp", Given::Ours, w, stream, |stream, k| ours::warp(stream, batch, rows, k));
            t.ours("Warp, numbers uploaded", Given::Ours, w, stream, |stream, k| {
                ours::warp_uploaded(stream, batch, rows, k)
            });
            let numbers: Vec<_> = (0..w.sets()).map(|k| ours::on_device(&stream.borrow(), rows, k).unwrap()).collect();
            t.ours("tidelock Warp, numbers on the device", Given::Before, w, stream, |stream, k| {
                ours::warp_by(stream, batch, rows, k, &numbers[k])
            });
        }
        let limit_end_to_end = copying + speed.launch;
        Measured { workload: w, rows: t.rows, limit: copying + 2.5, limit_end_to_end }
    }
}

fn by_torch(t: &mut Table<'_>, torch: &Torch, w: &Workload, rows: &Rows) {
    let sets = torch.sets(rows, false, w.sets(), false);
    t.rival("PyTorch index_select, index uploaded", w, |k| sets.index_select(k, true));
    t.add("PyTorch index_select", Given::Before, sets.len(), &w.copies(0), |k| sets.index_select(k, false));
    if w.count() <= 1024 {
        let sets = torch.sets(rows, false, 4, true);
        t.add("PyTorch _foreach_copy_", Given::Fresh, sets.len(), &w.copies(0), |k| sets.foreach_copy(k));
    }
    // The other way round: dense rows of the source become every second row of the destination.
    let numbers = &rows.numbers[0];
    let to = |(i, &number): (usize, &u32)| {
        (rows.dst + (number as usize * rows.bytes) as u64, rows.src + (i * rows.bytes) as u64, rows.bytes)
    };
    let scattered: Vec<_> = numbers.iter().enumerate().map(to).collect();
    let sets = torch.sets(rows, true, w.sets(), false);
    t.add("PyTorch index_copy_, index uploaded", Given::Fresh, sets.len(), &scattered, |k| sets.index_copy(k, true));
    t.add("PyTorch index_copy_", Given::Before, sets.len(), &scattered, |k| sets.index_copy(k, false));
}

/// Graphs of fixed addresses, for a few sets.
fn graphs(t: &mut Table<'_>, rivals: &mut Rivals, w: &Workload) {
    let (raw, sets, copies) = (t.raw, w.sets().min(4), w.copies(0));
    let each: Vec<_> = (0..sets).map(|k| raw.graph(|| rivals.one_by_one(raw, w, k))).collect();
    t.add("graph of cuMemcpyAsync each", Given::Before, sets, &copies, |k| raw.launch_graph(&each[k]));
    let kernel: Vec<_> = (0..sets).map(|k| raw.graph(|| rivals.in_parameters(raw, w, k))).collect();
    t.add("graph of the kernel", Given::Before, sets, &copies, |k| raw.launch_graph(&kernel[k]));
}
