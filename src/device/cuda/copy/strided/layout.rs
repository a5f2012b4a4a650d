//! How strided copies are described to the kernels.
//!
//! The layouts and numbers are those of kernels/strided.cu, where they are explained.

#![forbid(unsafe_code)]

/// The most loops that the kernels take.
pub(super) const LOOPS: usize = 7;

/// One loop around a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(in super::super) struct Loop {
    pub(in super::super) src: u64,
    pub(in super::super) dst: u64,
    pub(in super::super) times: u32,
    pub(in super::super) magic: u32,
    pub(in super::super) shift: u32,
    pub(in super::super) pad: u32,
}

/// The beginning of a launch's parameters. strided.cu explains the fields.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(in super::super) struct Head {
    pub(in super::super) src_pitch: u64,
    pub(in super::super) dst_pitch: u64,
    pub(in super::super) units: u32,
    pub(in super::super) tiles: u32,
    pub(in super::super) tiles_magic: u32,
    pub(in super::super) tiles_shift: u32,
    pub(in super::super) run: u32,
    pub(in super::super) run_magic: u32,
    pub(in super::super) run_shift: u32,
    pub(in super::super) how: u32,
    pub(in super::super) parts: u32,
    pub(in super::super) part_tiles: u32,
    pub(in super::super) part_magic: u32,
    pub(in super::super) part_shift: u32,
}

/// [`Head::how`]: a pair has two words.
pub(in super::super) const WIDE_NUMBERS: u32 = 1;
/// [`Head::how`]: what is stored stays in the cache.
pub(in super::super) const KEEP: u32 = 2;

/// The bytes of the largest parameters: 4096 pairs of blocks in a word each, with every loop.
pub(super) const ROOM: usize = 20992;
const ALL_WORDS: usize = (ROOM - size_of::<Head>()) / 4;

/// The parameters of a launch. A kernel has a prefix of them.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Parameters {
    pub(super) head: Head,
    /// The loops that the kernel has, and the words behind them.
    words: [u32; ALL_WORDS],
}

impl Parameters {
    pub(super) const fn new() -> Self {
        Parameters {
            head: Head {
                src_pitch: 0,
                dst_pitch: 0,
                units: 0,
                tiles: 0,
                tiles_magic: 0,
                tiles_shift: 0,
                run: 0,
                run_magic: 0,
                run_shift: 0,
                how: 0,
                parts: 0,
                part_tiles: 0,
                part_magic: 0,
                part_shift: 0,
            },
            words: [0; ALL_WORDS],
        }
    }

    /// The room for words behind `loops` loops.
    pub(super) const fn room(loops: usize) -> usize {
        ALL_WORDS.saturating_sub(loops.saturating_mul(size_of::<Loop>() / 4))
    }

    /// Puts the loops behind the head, and returns the room for the words behind them.
    pub(super) fn put(&mut self, loops: &[Loop]) -> Option<&mut [u32]> {
        let loops: &[u32] = bytemuck::cast_slice(loops);
        let (front, words) = self.words.split_at_mut_checked(loops.len())?;
        front.copy_from_slice(loops);
        Some(words)
    }

    /// The bytes that are used of the parameters, with `loops` loops and `words` words.
    pub(super) const fn bytes(loops: usize, words: usize) -> usize {
        let loops = loops.saturating_mul(size_of::<Loop>());
        words.saturating_mul(4).saturating_add(loops).saturating_add(size_of::<Head>())
    }
}

static_assertions::assert_eq_size!(Loop, [u64; 4]);
static_assertions::assert_eq_size!(Head, [u64; 8]);
static_assertions::assert_eq_size!(Parameters, [u8; ROOM]);
