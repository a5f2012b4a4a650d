//! What others write by hand: the driver's calls, and a kernel that gets the copies in several
//! ways.

use core::ffi::c_void;
use std::ptr;

use cudarc::driver::sys;

use super::{
    raw::{Graph, Raw},
    workload::{Rows, Workload},
};

/// The parameters of every kernel before its descriptors.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Shape {
    rows: u32,
    tiles: u32,
    bytes: u32,
    old: u32,
    table: u64,
    src: u64,
    second: u64,
    dst: u64,
    pitch: u64,
}

#[repr(C)]
struct Parameters {
    shape: Shape,
    words: [u64; 4084],
}

/// Kernels with one descriptor or row number for each copy, and their memory.
pub struct Rivals {
    functions: Vec<(&'static str, [sys::CUfunction; 5])>,
    parameters: Box<Parameters>,
    vectors: (Vec<u64>, Vec<u64>, Vec<usize>),
    /// Pinned and device memory in turns, deep enough for everything that is in flight.
    pinned: u64,
    device: u64,
    turn: usize,
    /// Graphs of one launch, each of which reads its own slot.
    graphs: Vec<Graph>,
}

/// Where the kernel finds descriptors or numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    Pinned,
    Uploaded,
}

pub const SLOT: usize = 65536 * 24;
pub const SLOTS: usize = 24;

impl Rivals {
    pub fn new(raw: &Raw) -> Rivals {
        let names = [
            "rows_60",
            "rows_256",
            "rows_1024",
            "rows_2040",
            "indices_256",
            "indices_1024",
            "indices_8000",
            "rows_table",
            "indices_table",
        ];
        let kinds = ["1", "2", "4", "8", "many"];
        let functions = names.map(|name| (name, kinds.map(|kind| raw.function(&format!("{name}_{kind}")))));
        Rivals {
            functions: functions.to_vec(),
            parameters: Box::new(Parameters { shape: Shape::default(), words: [0; 4084] }),
            vectors: Default::default(),
            pinned: raw.alloc_host(SLOT * SLOTS),
            device: raw.alloc(SLOT * SLOTS),
            turn: 0,
            graphs: Vec::new(),
        }
    }

    pub fn one_by_one(&mut self, raw: &Raw, w: &Workload, k: usize) {
        w.each(k, |dst, src, len| raw.copy(dst, src, len));
    }

    /// `cuMemcpyBatchAsync` with three new vectors and merged neighbours, as in lmdeploy's
    /// BatchCopy.
    pub fn driver_batch(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let (mut dst, mut src, mut len) = (Vec::new(), Vec::new(), Vec::new());
        w.each_merged(k, |d, s, l| {
            dst.push(d);
            src.push(s);
            len.push(l);
        });
        raw.batch(&dst, &src, &len);
        drop(core::mem::replace(&mut self.vectors, (dst, src, len)));
    }

    /// Descriptors of 16 bytes in the launch parameters, at most 2040 a launch.
    pub fn in_parameters(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let Rivals { parameters, functions, .. } = self;
        let longest = w.longest();
        let (mut rows, mut longest_merged) = (0, 0);
        let put = |words: &mut [u64; 4084], at: usize, dst: u64, src: u64, len: usize| {
            let len = len as u64;
            words[2 * at] = src | len << 48;
            words[2 * at + 1] = dst | len >> 16 << 48;
        };
        if w.merged {
            w.each_merged(k, |dst, src, len| {
                put(&mut parameters.words, rows, dst, src, len);
                longest_merged = longest_merged.max(len);
                rows += 1;
            });
            return run(raw, functions, parameters, in_room(rows), rows, longest_merged);
        }
        let mut left = w.count();
        w.each(k, |dst, src, len| {
            put(&mut parameters.words, rows, dst, src, len);
            rows += 1;
            left -= 1;
            if rows == 2040 || left == 0 {
                run(raw, functions, parameters, in_room(rows), rows, longest);
                rows = 0;
            }
        });
    }

    /// Descriptors in memory.
    pub fn in_table(&mut self, raw: &Raw, w: &Workload, k: usize, delivery: Delivery) {
        let (pinned, device) = self.next_slot();
        let rows = write_table(pinned, w, k);
        self.deliver(raw, pinned, device, rows * 16, delivery);
        run(raw, &self.functions, &mut self.parameters, "rows_table", rows, w.longest());
    }

    /// Row numbers of 4 bytes in the launch parameters, at most 8000.
    pub fn numbers_in_parameters(&mut self, raw: &Raw, rows: &Rows, k: usize) {
        let numbers = &rows.numbers[k];
        let words = self.parameters.words.as_mut_ptr().cast::<u32>();
        // SAFETY: at most 8000 numbers in 8168 words.
        unsafe { ptr::copy_nonoverlapping(numbers.as_ptr(), words, numbers.len()) };
        self.set_shape(rows, k);
        let name = match rows.count {
            ..=256 => "indices_256",
            257..=1024 => "indices_1024",
            _ => "indices_8000",
        };
        run(raw, &self.functions, &mut self.parameters, name, rows.count, rows.bytes);
    }

    /// Row numbers in memory.
    pub fn numbers_in_table(&mut self, raw: &Raw, rows: &Rows, k: usize, delivery: Delivery) {
        let (pinned, device) = self.next_slot();
        let numbers = &rows.numbers[k];
        // SAFETY: at most 65536 numbers in a slot that no launch reads any more.
        unsafe { ptr::copy_nonoverlapping(numbers.as_ptr(), pinned as *mut u32, numbers.len()) };
        self.deliver(raw, pinned, device, numbers.len() * 4, delivery);
        self.set_shape(rows, k);
        run(raw, &self.functions, &mut self.parameters, "indices_table", rows.count, rows.bytes);
    }

    /// Makes the graphs that [`live_graph`](Rivals::live_graph) launches.
    pub fn make_live_graphs(&mut self, raw: &Raw, w: &Workload) {
        self.graphs.clear();
        for turn in 0..SLOTS {
            self.parameters.shape.table = self.pinned + (turn * SLOT) as u64;
            let Rivals { functions, parameters, .. } = self;
            let graph = raw.graph(|| run(raw, functions, parameters, "rows_table", w.count(), w.longest()));
            self.graphs.push(graph);
        }
    }

    /// A graph of one launch that reads its descriptors from a pinned slot.
    pub fn live_graph(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let (pinned, _) = self.next_slot();
        write_table(pinned, w, k);
        raw.launch_graph(&self.graphs[self.turn]);
    }

    /// A slot of pinned memory, and one of device memory.
    pub fn next_slot(&mut self) -> (u64, u64) {
        self.turn = (self.turn + 1) % SLOTS;
        let at = (self.turn * SLOT) as u64;
        (self.pinned + at, self.device + at)
    }

    fn deliver(&mut self, raw: &Raw, pinned: u64, device: u64, bytes: usize, delivery: Delivery) {
        self.parameters.shape.table = match delivery {
            Delivery::Pinned => pinned,
            Delivery::Uploaded => {
                raw.copy(device, pinned, bytes);
                device
            }
        };
    }

    fn set_shape(&mut self, rows: &Rows, k: usize) {
        let (src, dst) = rows.bases(k);
        let shape = &mut self.parameters.shape;
        (shape.src, shape.dst, shape.pitch, shape.old) = (src, dst, rows.bytes as u64, rows.old as u32);
        shape.second = src + (rows.old * rows.bytes) as u64;
    }
}

fn write_table(slot: u64, w: &Workload, k: usize) -> usize {
    let table = slot as *mut [u64; 2];
    let mut rows = 0;
    w.each(k, |dst, src, len| {
        let len = len as u64;
        // SAFETY: at most 65536 descriptors in a slot that no launch reads any more.
        unsafe { table.add(rows).write([src | len << 48, dst | len >> 16 << 48]) };
        rows += 1;
    });
    rows
}

fn in_room(rows: usize) -> &'static str {
    match rows {
        ..=60 => "rows_60",
        61..=256 => "rows_256",
        257..=1024 => "rows_1024",
        _ => "rows_2040",
    }
}

/// Two loads of 16 bytes a lane for large batches, and otherwise as many as leave 2048 tiles;
/// several tiles a warp where there are very many. The reference measurements use the same rule.
fn run(
    raw: &Raw,
    functions: &[(&'static str, [sys::CUfunction; 5])],
    parameters: &mut Parameters,
    name: &str,
    rows: usize,
    longest: usize,
) {
    let tiles = |u: usize| longest.div_ceil(512 * u);
    let mut log = if rows * longest >= 48 << 20 { 1 } else { 3 };
    while log > 0 && (rows * tiles(1 << log) < 2048 || (512 << (log - 1)) >= longest) {
        log -= 1;
    }
    parameters.shape.rows = rows as u32;
    parameters.shape.bytes = longest as u32;
    parameters.shape.tiles = tiles(1 << log) as u32;
    let all = rows * tiles(1 << log);
    let (kind, each) = if log == 0 && all >= 132 * 256 { (4, 4) } else { (log, 1) };
    let (_, found) = functions.iter().find(|(n, _)| *n == name).unwrap();
    let blocks = all.div_ceil(8 * each) as u32;
    // SAFETY: the parameters begin with those of the kernel.
    unsafe { raw.launch(found[kind], blocks, 256, &[ptr::from_ref(parameters).cast::<c_void>()]) };
}
