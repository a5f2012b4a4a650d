//! What others do: each rival takes fresh copies and enqueues them.

use core::ffi::c_void;
use std::ptr;

use cudarc::driver::sys;

use super::{Workload, raw::Raw};

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Shape {
    rows: u32,
    tiles: u32,
    bytes: u32,
    pad: u32,
    table: u64,
    src: u64,
    dst: u64,
    src_pitch: u64,
    dst_pitch: u64,
}

#[repr(C, align(16))]
struct Parameters {
    shape: Shape,
    words: [u64; 4084],
}

/// Kernels with one descriptor or index for each row, and their memory.
pub struct Rivals {
    functions: Vec<(&'static str, [sys::CUfunction; 4])>,
    parameters: Box<Parameters>,
    vectors: (Vec<u64>, Vec<u64>, Vec<usize>),
    /// Pinned and device memory in turns, deep enough for everything that is in flight.
    pinned: u64,
    device: u64,
    turn: usize,
}

const SLOT: usize = 65536 * 16;
const SLOTS: usize = 24;

impl Rivals {
    pub fn new(raw: &Raw) -> Rivals {
        let names = ["rows_256", "rows_1024", "rows_2040", "indices_1024", "indices_8000", "rows_table"];
        let functions = names.map(|name| (name, [1, 2, 4, 8].map(|u| raw.function(&format!("{name}_{u}")))));
        Rivals {
            functions: functions.to_vec(),
            parameters: Box::new(Parameters { shape: Shape::default(), words: [0; 4084] }),
            vectors: Default::default(),
            pinned: raw.alloc_host(SLOT * SLOTS),
            device: raw.alloc(SLOT * SLOTS),
            turn: 0,
        }
    }

    pub fn one_by_one(&mut self, raw: &Raw, w: &Workload, k: usize) {
        w.each(k, |dst, src, len| raw.copy(dst, src, len));
    }

    /// `cuMemcpyBatchAsync` with three fresh vectors, as lmdeploy's BatchCopy has them.
    pub fn driver_batch(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let (mut dst, mut src, mut len) = (Vec::new(), Vec::new(), Vec::new());
        w.each(k, |d, s, l| {
            dst.push(d);
            src.push(s);
            len.push(l);
        });
        raw.batch(&dst, &src, &len);
        drop(core::mem::replace(&mut self.vectors, (dst, src, len)));
    }

    /// Descriptors of 16 bytes in the launch parameters, up to 2040 a launch.
    pub fn in_parameters(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let longest = w.longest();
        let mut rows = 0;
        let all = w.count();
        let mut left = all;
        let Rivals { parameters, functions, .. } = self;
        w.each(k, |dst, src, _| {
            parameters.words[2 * rows] = src;
            parameters.words[2 * rows + 1] = dst;
            rows += 1;
            left -= 1;
            if rows == 2040 || left == 0 {
                let name = if rows <= 252 {
                    "rows_256"
                } else if rows <= 1020 {
                    "rows_1024"
                } else {
                    "rows_2040"
                };
                run(raw, functions, parameters, name, rows, longest);
                rows = 0;
            }
        });
    }

    /// Descriptors in pinned memory that the kernel reads.
    pub fn pinned_descriptors(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let (pinned, _, rows) = self.write_table(w, k);
        self.parameters.shape.table = pinned;
        run(raw, &self.functions, &mut self.parameters, "rows_table", rows, w.longest());
    }

    /// Descriptors uploaded before.
    pub fn uploaded_descriptors(&mut self, raw: &Raw, w: &Workload, k: usize) {
        let (pinned, device, rows) = self.write_table(w, k);
        raw.copy(device, pinned, rows * 16);
        self.parameters.shape.table = device;
        run(raw, &self.functions, &mut self.parameters, "rows_table", rows, w.longest());
    }

    /// Row numbers of 4 bytes in the launch parameters, for rows of one tensor.
    pub fn indices(&mut self, raw: &Raw, w: &Workload, k: usize) -> bool {
        let Workload::Rows { count, bytes, .. } = w else { return false };
        if *count > 8000 {
            return false;
        }
        let (src, dst) = w.bases(k);
        let words = self.parameters.words.as_mut_ptr().cast::<u32>();
        for (i, &row) in w.permutation(k).iter().enumerate() {
            // SAFETY: at most 8000 of 8168 words.
            unsafe { words.add(i).write(row) };
        }
        let shape = &mut self.parameters.shape;
        (shape.src, shape.dst) = (src, dst);
        (shape.src_pitch, shape.dst_pitch) = (2 * *bytes as u64, *bytes as u64);
        let name = if *count <= 1008 { "indices_1024" } else { "indices_8000" };
        run(raw, &self.functions, &mut self.parameters, name, *count, *bytes);
        true
    }

    fn write_table(&mut self, w: &Workload, k: usize) -> (u64, u64, usize) {
        self.turn = (self.turn + 1) % SLOTS;
        let at = (self.turn * SLOT) as u64;
        let table = (self.pinned + at) as *mut [u64; 2];
        let mut rows = 0;
        w.each(k, |dst, src, _| {
            // SAFETY: at most 65536 descriptors in a slot of so many.
            unsafe { table.add(rows).write([src, dst]) };
            rows += 1;
        });
        (self.pinned + at, self.device + at, rows)
    }
}

/// Two loads of 16 bytes a lane for large batches, else as many as leave 2048 tiles.
fn run(
    raw: &Raw,
    functions: &[(&'static str, [sys::CUfunction; 4])],
    parameters: &mut Parameters,
    name: &str,
    rows: usize,
    bytes: usize,
) {
    let tiles = |u: usize| bytes.div_ceil(512 * u);
    let mut log = if rows * bytes >= 48 << 20 { 1 } else { 3 };
    while log > 0 && (rows * tiles(1 << log) < 2048 || (512 << (log - 1)) >= bytes) {
        log -= 1;
    }
    parameters.shape.rows = rows as u32;
    parameters.shape.bytes = bytes as u32;
    parameters.shape.tiles = tiles(1 << log) as u32;
    let (_, found) = functions.iter().find(|(n, _)| *n == name).unwrap();
    let blocks = (rows * tiles(1 << log)).div_ceil(8) as u32;
    // SAFETY: the parameters begin with what the kernel takes.
    unsafe { raw.launch(found[log], blocks, 256, &[ptr::from_ref(parameters).cast::<c_void>()]) };
}
