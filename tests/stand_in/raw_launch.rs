//! A launch of a copy kernel with a parameter that is laid out by hand, and memory with known bytes
//! for it.

use std::{array, ffi::CStr, ptr};

use super::{INVALID_VALUE, OK, Raw, made};

const IMAGE: &[u8] = include_bytes!("../../src/device/cuda/kernels/copy_sm90.fatbin");

// The forms of a segment, as copy.cu numbers them.
pub const ROWS: u32 = 0;
pub const ROWS_16: u32 = 1;
pub const PAIRS: u32 = 2;
pub const RAGGED: u32 = 3;
pub const WIDE: u32 = 4;
pub const OWN: u32 = 5;
pub const EACH: u32 = 6;

/// Bytes of the source, and of the destination.
pub const BYTES: usize = 1 << 16;
const POISON: u8 = 0xEE;

/// The most bytes that a kernel's parameter has.
const LARGEST: usize = 16384;

/// `struct Segment` of copy.cu.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    pub src: u64,
    pub dst: u64,
    pub src_pitch: u64,
    pub dst_pitch: u64,
    pub bytes: u64,
    pub form: u32,
    pub first_block: u32,
    pub chunks: u32,
    pub row_chunks: u32,
    pub magic: u32,
    pub shift: u32,
    pub words: u32,
    pub old: u32,
    pub second: u64,
    pub copies: u32,
    pub owners: u32,
    pub staged: u32,
    pub unit: u32,
}

/// A launch: `struct Head` of copy.cu, the segments and their words, and the shape.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub fetchers: u32,
    pub early: u32,
    pub epoch: u32,
    pub table: u64,
    pub fetched: u64,
    pub pieces: u32,
    pub words: Vec<u32>,
    pub segments: Vec<Segment>,
    /// If they differ from those of the segments.
    pub starts: Option<[u32; 4]>,
    pub blocks: u32,
    pub shared: u32,
}

impl Call {
    /// The parameter. A kernel takes the part that it has room for.
    fn parameter(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |numbers: &[u32]| numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
        let halves = |number: u64| [number as u32, (number >> 32) as u32];
        put(&[self.segments.len() as u32, self.fetchers, self.early, self.epoch]);
        put(&halves(self.table));
        put(&halves(self.fetched));
        put(&[self.pieces, self.words.len() as u32]);
        let starts = self.starts.unwrap_or_else(|| {
            let start = |i: usize| self.segments.get(i + 1).map_or(u32::MAX, |segment| segment.first_block);
            array::from_fn(start)
        });
        put(&starts);
        for s in &self.segments {
            [s.src, s.dst, s.src_pitch, s.dst_pitch, s.bytes].iter().for_each(|number| put(&halves(*number)));
            put(&[s.form, s.first_block, s.chunks, s.row_chunks, s.magic, s.shift, s.words, s.old]);
            put(&halves(s.second));
            put(&[s.copies, s.owners, s.staged, s.unit]);
        }
        put(&self.words);
        assert!(out.len() <= LARGEST);
        out.resize(LARGEST, 0xa5);
        out
    }
}

/// A driver with the copy kernels loaded, a stream, and memory with known bytes.
pub struct Bench {
    pub raw: Raw,
    pub module: usize,
    pub stream: usize,
    pub src: usize,
    pub dst: usize,
}

impl Bench {
    pub fn new() -> Bench {
        let raw = Raw::new();
        let module = made!(|out| (raw.api.cuModuleLoadData)(out, IMAGE.as_ptr().cast()));
        let stream = raw.stream();
        let (src, dst) = (raw.alloc(BYTES, stream), raw.alloc(BYTES, stream));
        raw.upload(src, &source(), stream);
        raw.upload(dst, &[POISON; BYTES], stream);
        Bench { raw, module, stream, src, dst }
    }

    pub fn launch(&self, name: &CStr, call: &Call) -> u32 {
        let api = self.raw.api;
        let function = made!(|out| (api.cuModuleGetFunction)(out, self.module, name.as_ptr()));
        let (mut offset, mut bytes) = (0, 0);
        // SAFETY: the places are valid for writes.
        assert_eq!(unsafe { (api.cuFuncGetParamInfo)(function, 0, &mut offset, &mut bytes) }, OK);
        assert!(bytes <= LARGEST);
        let parameter = call.parameter();
        let params = [parameter.as_ptr().cast()];
        // SAFETY: the one parameter is at least of the kernel's size; what it names is there until
        // the stream is waited for.
        unsafe {
            let (blocks, shared) = (call.blocks, call.shared);
            (api.cuLaunchKernel)(function, blocks, 1, 1, 128, 1, 1, shared, self.stream, params.as_ptr(), ptr::null())
        }
    }

    /// Launches, and compares what the destination holds then.
    #[track_caller]
    pub fn check(&self, name: &CStr, call: &Call, expected: &[u8]) {
        assert_eq!(self.launch(name, call), OK, "{:?}", self.findings());
        assert!(self.raw.read(self.dst, BYTES, self.stream) == expected);
    }

    /// Launches an invalid parameter, and compares the finding.
    #[track_caller]
    pub fn refuses(&self, name: &CStr, call: &Call, words: &str) {
        assert_eq!(self.launch(name, call), INVALID_VALUE, "{words}");
        self.found(words);
    }

    /// Compares the last finding.
    #[track_caller]
    pub fn found(&self, words: &str) {
        let findings = self.findings();
        assert!(findings.last().is_some_and(|last| last.contains(words)), "{words}: {findings:#?}");
    }

    /// The findings so far, including those of other parts than the kernel model.
    pub fn findings(&self) -> Vec<String> {
        self.raw.control.report().findings
    }

    /// Page-locked memory with `words`, and with 0 up to `room` of them.
    pub fn table(&self, words: &[u32], room: usize) -> *mut u32 {
        let memory = made!(|out| (self.raw.api.cuMemHostAlloc)(out, room * 4, 0)).cast::<u32>();
        for i in 0..room {
            // SAFETY: the memory has room for this many words.
            unsafe { memory.add(i).write(words.get(i).copied().unwrap_or(0)) };
        }
        memory
    }

    /// Frees everything, and asserts that nothing else was found.
    pub fn end(self, tables: &[*mut u32]) {
        self.raw.free(self.src, self.stream);
        self.raw.free(self.dst, self.stream);
        self.raw.synchronize(self.stream);
        self.free(tables);
        self.raw.destroy(self.stream);
        // SAFETY: the module is not used any more.
        assert_eq!(unsafe { (self.raw.api.cuModuleUnload)(self.module) }, OK);
        self.raw.end();
    }

    /// Ends a test that has found what it looked for, without freeing what is on the device.
    pub fn give_up(self, tables: &[*mut u32]) {
        self.raw.control.reset();
        self.free(tables);
        self.raw.end();
    }

    /// Five rows of 20 bytes to odd addresses 33 bytes apart: rows 2, 0 and 1 of the first source,
    /// row 4 of the second one, which is not written yet, and row 2 again.
    pub fn rows(&self) -> Call {
        let segment = Segment {
            src: self.src as u64 + 5,
            dst: self.dst as u64 + 3,
            src_pitch: 20,
            dst_pitch: 33,
            bytes: 20,
            form: ROWS,
            chunks: 15,
            row_chunks: 3,
            // Division by 3: times (2^33 + 1) / 3, shifted right by 31 + 2.
            magic: 0xAAAA_AAAB,
            shift: 2,
            old: 3,
            copies: 5,
            ..Segment::default()
        };
        Call { early: 1, words: vec![2, 0, 1, 7, 2], segments: vec![segment], blocks: 1, ..Call::default() }
    }

    fn free(&self, tables: &[*mut u32]) {
        // SAFETY: the tables are not used any more.
        tables.iter().for_each(|table| assert_eq!(unsafe { (self.raw.api.cuMemFreeHost)(table.cast()) }, OK));
    }
}

/// What the destination holds after copies of `(to, from, bytes)`.
pub fn copied(copies: &[(usize, usize, usize)]) -> Vec<u8> {
    let (mut out, source) = (vec![POISON; BYTES], source());
    for &(to, from, bytes) in copies {
        out[to..to + bytes].copy_from_slice(&source[from..from + bytes]);
    }
    out
}

fn source() -> Vec<u8> {
    (0..BYTES).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
}
