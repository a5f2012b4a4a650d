//! The blocks of a pinned pool, and the pieces that they are divided into.
//!
//! Small pieces, of up to 1 MiB, have sizes that are powers of two; they are cut off the tail of a
//! shared block. Large pieces have sixteen sizes for each power of two, so that at most a sixteenth
//! of one is unused. Each has a block of its own, which can be unlocked, unless a shared block,
//! from `PinnedPool::reserve`, has room for it.

use core::ptr::NonNull;

/// Bytes locked at a time for small pieces.
pub(crate) const BLOCK: usize = 2 << 20;
/// The smallest piece, and the alignment of every piece, in bytes: the default alignment of a
/// `Stack`.
pub(crate) const MIN_PIECE: usize = 256;
/// The largest small piece, in bytes.
const SMALL: usize = 1 << 20;
/// How many sizes small pieces have: powers of two from `MIN_PIECE` to `SMALL`.
const CLASSES: usize = 13;
/// Large pieces have `1 << STEPS` sizes for each power of two.
const STEPS: u32 = 4;

/// The blocks and their pieces. The tail of the newest shared block is not divided yet.
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Free small pieces, by size class.
    small: [Vec<Address>; CLASSES],
    /// All large pieces, free or not.
    large: Vec<Large>,
    tail: Option<Address>,
    tail_bytes: usize,
    /// Bytes of large pieces in use, and the most so far.
    large_used: usize,
    large_peak: usize,
    /// How many large pieces were freed so far: the clock of [`Large::freed_at`].
    frees: u64,
}

/// Memory that was locked in one call.
pub(crate) struct Block {
    pub(crate) base: Address,
    bytes: usize,
    /// Bytes of the pieces in use.
    used: usize,
    /// Whether the block is one large piece.
    is_own: bool,
}

/// A piece of more than [`SMALL`] bytes.
struct Large {
    start: Address,
    bytes: usize,
    is_free: bool,
    /// When it was freed last.
    freed_at: u64,
}

/// An address in page-locked memory.
#[derive(Clone, Copy)]
pub(crate) struct Address(pub(crate) NonNull<u8>);

// SAFETY:
// - The pool only stores the address; page-locked memory is not tied to a thread.
unsafe impl Send for Address {}

/// The size of a piece.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Small { class: usize, bytes: usize },
    Large { bytes: usize },
}

impl Size {
    /// The size of the piece for a request of `bytes` bytes; `None` if it exceeds the address
    /// space.
    pub(crate) fn of(bytes: usize) -> Option<Size> {
        if bytes <= SMALL {
            let bytes = bytes.max(MIN_PIECE).checked_next_power_of_two()?;
            let class = usize::try_from(bytes.ilog2().checked_sub(MIN_PIECE.ilog2())?).ok()?;
            return Some(Size::Small { class, bytes });
        }
        let step = 1_usize.checked_shl(bytes.ilog2().checked_sub(STEPS)?)?;
        Some(Size::Large { bytes: bytes.checked_next_multiple_of(step)? })
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Size::Small { bytes, .. } | Size::Large { bytes } => bytes,
        }
    }

    /// The bytes of a new block for this piece, and whether the block is this piece alone.
    ///
    /// The last bytes of a block are never part of a piece, so that no piece is adjacent to memory
    /// after the block.
    pub(crate) fn block(self) -> Option<(usize, bool)> {
        let bytes = self.bytes().checked_add(MIN_PIECE)?;
        Some(if bytes <= BLOCK { (BLOCK, false) } else { (bytes, true) })
    }
}

impl Block {
    fn holds(&self, ptr: NonNull<u8>) -> bool {
        ptr.addr().get().wrapping_sub(self.base.0.addr().get()) < self.bytes
    }
}

impl Blocks {
    pub(crate) const fn new() -> Blocks {
        Blocks {
            blocks: Vec::new(),
            small: [const { Vec::new() }; CLASSES],
            large: Vec::new(),
            tail: None,
            tail_bytes: 0,
            large_used: 0,
            large_peak: 0,
            frees: 0,
        }
    }

    /// Bytes that are locked.
    pub(crate) fn reserved(&self) -> usize {
        self.blocks.iter().fold(0, |sum, block| sum.saturating_add(block.bytes))
    }

    /// Bytes of the pieces in use.
    pub(crate) fn used(&self) -> usize {
        self.blocks.iter().fold(0, |sum, block| sum.saturating_add(block.used))
    }

    /// Bytes of the tail, which are not divided into pieces yet.
    pub(crate) fn untouched(&self) -> usize {
        self.tail_bytes
    }

    /// A free piece of a block that is locked already, if there is one.
    pub(crate) fn take(&mut self, size: Size) -> Option<NonNull<u8>> {
        match size {
            Size::Small { class, bytes } => match self.small.get_mut(class)?.pop() {
                Some(piece) => {
                    self.count(piece.0, bytes, usize::saturating_add);
                    Some(piece.0)
                }
                None => self.cut(bytes),
            },
            Size::Large { bytes } => self.take_large(bytes).or_else(|| {
                self.large.try_reserve(1).ok()?;
                let piece = self.cut(bytes)?;
                self.large.push(Large { start: Address(piece), bytes, is_free: false, freed_at: 0 });
                self.count_large(bytes);
                Some(piece)
            }),
        }
    }

    /// The smallest free large piece that fits. Pieces of more than twice the size are kept for
    /// larger requests.
    fn take_large(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let fits = bytes..=bytes.saturating_mul(2);
        let free = self.large.iter_mut().filter(|piece| piece.is_free && fits.contains(&piece.bytes));
        let piece = free.min_by_key(|piece| piece.bytes)?;
        piece.is_free = false;
        let (start, bytes) = (piece.start.0, piece.bytes);
        self.count(start, bytes, usize::saturating_add);
        self.count_large(bytes);
        Some(start)
    }

    /// Frees a piece. Without memory for its entry in a list, the piece is lost and stays locked.
    pub(crate) fn give_back(&mut self, size: Size, ptr: NonNull<u8>) {
        match size {
            Size::Small { class, bytes } => {
                self.count(ptr, bytes, usize::saturating_sub);
                self.keep(class, ptr);
            }
            Size::Large { .. } => {
                self.frees = self.frees.wrapping_add(1);
                let Some(piece) = self.large.iter_mut().find(|piece| piece.start.0 == ptr) else { return };
                (piece.is_free, piece.freed_at) = (true, self.frees);
                let bytes = piece.bytes;
                self.large_used = self.large_used.saturating_sub(bytes);
                self.count(ptr, bytes, usize::saturating_sub);
            }
        }
    }

    /// Makes room in the lists for one more block; `None` if the host has no memory for it.
    pub(crate) fn expect_block(&mut self) -> Option<()> {
        self.blocks.try_reserve(1).ok()?;
        self.large.try_reserve(2).ok()
    }

    /// Adds a block of `bytes` bytes at `base`: as one free piece if it `is_own`, otherwise as the
    /// new tail.
    pub(crate) fn add(&mut self, base: NonNull<u8>, bytes: usize, is_own: bool) {
        let base = Address(base);
        let usable = bytes.saturating_sub(MIN_PIECE);
        if !is_own {
            self.divide_tail();
        }
        self.blocks.push(Block { base, bytes, used: 0, is_own });
        if is_own {
            self.large.push(Large { start: base, bytes: usable, is_free: true, freed_at: self.frees });
        } else {
            (self.tail, self.tail_bytes) = (Some(base), usable);
        }
    }

    /// Makes an unused block with room for `bytes` the new tail; `false` if there is none. Call
    /// [`expect_block`](Blocks::expect_block) first.
    pub(crate) fn start_again(&mut self, bytes: usize) -> bool {
        let fits = |block: &Block| block.used == 0 && block.bytes.saturating_sub(MIN_PIECE) >= bytes;
        let unused = self.blocks.iter().enumerate().filter(|(_, block)| fits(block));
        let Some((at, _)) = unused.min_by_key(|(_, block)| block.bytes) else { return false };
        let Block { base, bytes, .. } = self.take_out(at);
        self.add(base.0, bytes, false);
        true
    }

    /// Removes a block of which no piece is in use.
    pub(crate) fn take_unused(&mut self) -> Option<Block> {
        let at = self.blocks.iter().position(|block| block.used == 0)?;
        Some(self.take_out(at))
    }

    /// Of the unused blocks that are one piece, removes the one that was freed first, if together
    /// they have more bytes than large pieces ever used at one time, counting a new request of
    /// `coming` bytes. So blocks of sizes that are not requested any more are unlocked.
    pub(crate) fn take_surplus(&mut self, coming: usize) -> Option<Block> {
        self.large_peak = self.large_peak.max(self.large_used.saturating_add(coming));
        let idle = self.blocks.iter().filter(|block| block.is_own && block.used == 0);
        if idle.fold(0, |sum: usize, block| sum.saturating_add(block.bytes)) <= self.large_peak {
            return None;
        }
        let freed_at = |block: &Block| {
            let piece = self.large.iter().find(|piece| piece.start.0 == block.base.0);
            piece.map_or(u64::MAX, |piece| piece.freed_at)
        };
        let idle = self.blocks.iter().enumerate().filter(|(_, block)| block.is_own && block.used == 0);
        let (at, _) = idle.min_by_key(|(_, block)| freed_at(block))?;
        Some(self.take_out(at))
    }

    /// Keeps a block that could not be unlocked. No piece of it is handed out again.
    pub(crate) fn keep_used_up(&mut self, block: Block) {
        self.blocks.push(Block { used: block.bytes, is_own: false, ..block });
    }

    /// Removes a block, with its free pieces.
    fn take_out(&mut self, at: usize) -> Block {
        let block = self.blocks.swap_remove(at);
        for list in &mut self.small {
            list.retain(|piece| !block.holds(piece.0));
        }
        self.large.retain(|piece| !block.holds(piece.start.0));
        if self.tail.is_some_and(|tail| block.holds(tail.0)) {
            (self.tail, self.tail_bytes) = (None, 0);
        }
        block
    }

    /// Adds a free small piece to its list.
    fn keep(&mut self, class: usize, ptr: NonNull<u8>) {
        if let Some(list) = self.small.get_mut(class)
            && list.try_reserve(1).is_ok()
        {
            list.push(Address(ptr));
        }
    }

    /// Cuts a piece off the tail.
    fn cut(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let tail = self.tail?;
        let left = self.tail_bytes.checked_sub(bytes)?;
        // SAFETY:
        // - `tail` has `tail_bytes` bytes of its block in front of it, and `bytes` is at most that:
        //   the result is "in bounds of the allocated object or one byte past the end" (std 1.95,
        //   `NonNull::add`).
        let rest = unsafe { tail.0.add(bytes) };
        (self.tail, self.tail_bytes) = (Some(Address(rest)), left);
        self.count(tail.0, bytes, usize::saturating_add);
        Some(tail.0)
    }

    /// Divides the rest of the tail into free pieces, largest first. The caller has made room for a
    /// large one.
    fn divide_tail(&mut self) {
        while self.tail_bytes > 0 {
            let is_large = self.tail_bytes > SMALL;
            let bytes =
                if is_large { Some(self.tail_bytes) } else { self.tail_bytes.checked_ilog2().map(|bits| 1 << bits) };
            let size = bytes.and_then(Size::of).filter(|size| is_large || size.bytes() <= self.tail_bytes);
            let (Some(bytes), Some(size)) = (bytes, size) else { break };
            let Some(piece) = self.cut(bytes) else { break };
            self.count(piece, bytes, usize::saturating_sub);
            match size {
                Size::Small { class, .. } => self.keep(class, piece),
                Size::Large { .. } => {
                    self.large.push(Large { start: Address(piece), bytes, is_free: true, freed_at: self.frees });
                }
            }
        }
        self.tail_bytes = 0;
    }

    /// Counts a large piece of `bytes` bytes as used.
    fn count_large(&mut self, bytes: usize) {
        self.large_used = self.large_used.saturating_add(bytes);
        self.large_peak = self.large_peak.max(self.large_used);
    }

    /// Changes the used bytes of the block that `ptr` lies in.
    fn count(&mut self, ptr: NonNull<u8>, bytes: usize, change: fn(usize, usize) -> usize) {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.holds(ptr)) {
            block.used = change(block.used, bytes);
        }
    }
}
