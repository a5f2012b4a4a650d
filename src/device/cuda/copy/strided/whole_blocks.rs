//! Whole blocks between host and device: a kernel gathers them into staging memory on the device, or
//! scatters them from there, and copy engines take them over PCIe.

use core::{num::NonZero, ptr::NonNull};

use tidelock_driver::{BlockNumbers, Blocks, Code, CopyBatch, DriverError, StridedCopies, StridedCopy};

use super::{
    super::{memcpy::Failure, memcpy_routing::is_in_host_memory},
    StridedLaunches,
    shape::adjacent,
};
use crate::device::cuda::{event::Event, stream_calls::StreamCalls};

/// What staging needs: a stream for the kernels beside the stream of the copies, so that a piece is
/// gathered while another one crosses, and events.
///
/// The stream has the highest priority, so that the kernels, which are short, do not wait for other
/// work on the device.
pub(in super::super) struct BlockStaging {
    kernels: StreamCalls,
    /// For each slot: what was enqueued on the stream of the copies, and on that of the kernels.
    crossed: [Event; SLOTS],
    turned: [Event; SLOTS],
    /// The copies of one piece.
    dst: [*mut u8; MOST],
    src: [*const u8; MOST],
    len: [usize; MOST],
}

/// The most pieces that are in flight at once.
const SLOTS: usize = 4;
/// The most bytes of staging memory.
const STAGING: usize = 64 << 20;
/// Smaller pieces cost the host more than PCIe.
const LEAST_PIECE: usize = 2 << 20;
/// The most blocks of a piece.
const MOST: usize = 256;
/// Smaller blocks cost the copy engine more than they have bytes.
const LEAST_BLOCK: usize = 64 << 10;
/// Up to so many bytes the kernel is sooner done, and is too short to hold up others.
const LEAST: usize = (512 << 10) + 1;
/// The numbers of the blocks in staging memory.
static IN_ORDER: [u32; MOST] = in_order();

/// A copy of blocks that are whole at the host.
pub(in super::super) struct WholeBlocks<'c> {
    copy: StridedCopy,
    blocks: Blocks,
    from: &'c [u32],
    to: &'c [u32],
    /// Bytes of a block.
    bytes: NonZero<usize>,
    /// Whether the blocks go to the host.
    down: bool,
    /// Blocks of a piece.
    per: usize,
}

impl<'c> WholeBlocks<'c> {
    /// The blocks of `copy`, if these are whole at the host and worth it.
    pub(in super::super) fn of(copy: &StridedCopy, (from, to): BlockNumbers<'c>) -> Option<Self> {
        let blocks = copy.blocks?;
        let bytes = NonZero::new(copy.loops.bytes())?;
        if !(LEAST_BLOCK..=STAGING).contains(&bytes.get()) || bytes.get().saturating_mul(from.len()) < LEAST {
            return None;
        }
        let is_whole_there = adjacent(&copy.loops, |one| one.dst) == bytes.get() && blocks.dst_pitch >= bytes.get();
        let is_whole_here = adjacent(&copy.loops, |one| one.src) == bytes.get() && blocks.src_pitch >= bytes.get();
        let down = is_whole_there && is_in_host_memory(copy.dst) && !is_in_host_memory(copy.src);
        let up = is_whole_here && is_in_host_memory(copy.src) && !is_in_host_memory(copy.dst);
        let slot = STAGING.checked_div(SLOTS.saturating_mul(bytes.get()))?;
        let few = LEAST_PIECE.div_ceil(bytes.get()).max(from.len().div_ceil(2 * SLOTS));
        let per = slot.min(few).clamp(1, MOST);
        (down || up).then_some(WholeBlocks { copy: *copy, blocks, from, to, bytes, down, per })
    }

    /// How many pieces are in flight at once.
    fn slots(&self) -> usize {
        let fit = STAGING.checked_div(self.bytes.get().saturating_mul(self.per)).unwrap_or(1);
        fit.min(self.from.len().div_ceil(self.per)).clamp(1, SLOTS)
    }

    /// Bytes of a piece.
    fn piece(&self) -> usize {
        self.bytes.get().saturating_mul(self.per)
    }

    /// The copy between the device and blocks in staging memory at `slot`.
    fn at(&self, slot: *mut u8, from: &[u32], to: &[u32]) -> Option<StridedCopy> {
        let staged = NonNull::from(IN_ORDER.get(..from.len())?);
        let bits = self.blocks.bits | 0xff;
        let (copy, blocks) = if self.down {
            let pitches = (self.blocks.src_pitch, self.bytes.get());
            (StridedCopy::new(slot, self.copy.src, self.copy.loops), Blocks::new(pitches, NonNull::from(from), staged))
        } else {
            let pitches = (self.bytes.get(), self.blocks.dst_pitch);
            (StridedCopy::new(self.copy.dst, slot, self.copy.loops), Blocks::new(pitches, staged, NonNull::from(to)))
        };
        Some(copy.with_blocks(blocks.with_bits(bits)))
    }
}

impl BlockStaging {
    /// # Errors
    /// What the driver answered; nothing is left then.
    pub(in super::super) fn new(stream: &StreamCalls) -> Result<Self, DriverError> {
        let mut kernels = StreamCalls::create(stream.context, i32::MIN, stream.pool)?;
        let mut places = [None; 2 * SLOTS];
        let created = stream.create_events(&mut places);
        let (crossed, turned) = places.split_at(SLOTS);
        let all = |events: &[Option<Event>]| -> Option<[Event; SLOTS]> {
            let mut events = events.iter().flatten();
            let mut next = || events.next().copied();
            Some([next()?, next()?, next()?, next()?])
        };
        match (created, all(crossed), all(turned)) {
            (Ok(()), Some(crossed), Some(turned)) => {
                let (dst, src) = ([core::ptr::null_mut(); MOST], [core::ptr::null(); MOST]);
                Ok(BlockStaging { kernels, crossed, turned, dst, src, len: [0; MOST] })
            }
            (created, ..) => {
                places.into_iter().flatten().for_each(|event| event.destroy(stream.context));
                kernels.destroy();
                created.and(Err(DriverError::new("cuEventCreate", Code::UNKNOWN)))
            }
        }
    }

    /// Enqueues the blocks. `false` if there is no memory to stage them: nothing is enqueued then.
    ///
    /// `cross` enqueues copies between staging memory and the host on `stream`.
    ///
    /// # Errors
    /// What the driver answered; some of the blocks may be enqueued.
    ///
    /// # Safety
    /// - As for `RawStream::batch`, for the blocks. `stream` is the same at each call, with a pool.
    /// - `cross` keeps the contract of `RawStream::batch`, as it gets it.
    pub(in super::super) unsafe fn run(
        &mut self,
        stream: &StreamCalls,
        launches: &mut StridedLaunches,
        blocks: &WholeBlocks<'_>,
        cross: impl Fn(&StreamCalls, &CopyBatch<'_>) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let bytes = blocks.piece().saturating_mul(blocks.slots());
        let Some(staging) = NonZero::new(bytes).and_then(|bytes| stream.alloc(bytes).ok()) else { return Ok(false) };
        // SAFETY:
        // - The caller keeps the contract; the staging memory was allocated on the stream just now.
        let answer = unsafe { self.run_in(stream, launches, blocks, staging.as_ptr(), &cross) };
        if answer.is_err() {
            self.settle(answer)?;
        }
        // SAFETY:
        // - It comes from `alloc` of the stream.
        // - All copies of it are on the stream, and all kernels before an event that the stream waits
        //   for, or were waited for in `settle`.
        unsafe { stream.free(staging) }?;
        answer.map(|()| true)
    }

    /// # Safety
    /// As for [`run`](BlockStaging::run); `staging` has memory for the slots, and is used from here on
    /// in the order of the stream.
    unsafe fn run_in(
        &mut self,
        stream: &StreamCalls,
        launches: &mut StridedLaunches,
        blocks: &WholeBlocks<'_>,
        staging: *mut u8,
        cross: &impl Fn(&StreamCalls, &CopyBatch<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let slots = blocks.slots();
        let pieces = blocks.from.chunks(blocks.per).zip(blocks.to.chunks(blocks.per));
        let mut last = None;
        for (piece, (from, to)) in pieces.enumerate() {
            let at = piece.checked_rem(slots).unwrap_or(0);
            let (Some(&crossed), Some(&turned)) = (self.crossed.get(at), self.turned.get(at)) else { break };
            let slot = staging.wrapping_add(blocks.piece().wrapping_mul(at));
            let copy = blocks.at(slot, from, to).ok_or(TOO_LARGE)?;
            // SAFETY:
            // - O12: the numbers are borrowed for longer than this call.
            let copy = unsafe { StridedCopies::new(core::slice::from_ref(&copy)) };
            if blocks.down {
                // The first kernel waits for what the stream was at, and one that uses a slot again for
                // the copy out of it.
                if piece == 0 {
                    stream.record(crossed)?;
                }
                if piece == 0 || piece >= slots {
                    // SAFETY:
                    // - The event is of the context, and alive.
                    unsafe { self.kernels.wait(crossed) }?;
                }
                // SAFETY:
                // - The sources are read behind what the stream was at. The slot is this copy's: what
                //   was copied out of it before comes earlier.
                unsafe { launches.run_all(&self.kernels, copy) }?;
                self.kernels.record(turned)?;
                // SAFETY:
                // - As above.
                unsafe { stream.wait(turned) }?;
                self.cross(stream, blocks, slot, to, cross)?;
                stream.record(crossed)?;
            } else {
                if piece >= slots {
                    // SAFETY:
                    // - As above.
                    unsafe { stream.wait(turned) }?;
                }
                self.cross(stream, blocks, slot, from, cross)?;
                stream.record(crossed)?;
                // SAFETY:
                // - As above.
                unsafe { self.kernels.wait(crossed) }?;
                // SAFETY:
                // - The destinations are written behind what the stream was at, and the slot is read
                //   behind the copy into it.
                unsafe { launches.run_all(&self.kernels, copy) }?;
                self.kernels.record(turned)?;
                last = Some(turned);
            }
        }
        if let Some(turned) = last {
            // SAFETY:
            // - As above.
            unsafe { stream.wait(turned) }?;
        }
        Ok(())
    }

    /// Enqueues the copies between the blocks at `slot` and the blocks of the host with these
    /// `numbers`. Neighbours are one copy.
    fn cross(
        &mut self,
        stream: &StreamCalls,
        blocks: &WholeBlocks<'_>,
        slot: *mut u8,
        numbers: &[u32],
        cross: &impl Fn(&StreamCalls, &CopyBatch<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (bytes, mut count) = (blocks.bytes.get(), 0_usize);
        let (host, pitch): (*mut u8, usize) = if blocks.down {
            (blocks.copy.dst, blocks.blocks.dst_pitch)
        } else {
            (blocks.copy.src.cast_mut(), blocks.blocks.src_pitch)
        };
        let mut next = None;
        for (at, &number) in numbers.iter().enumerate() {
            let host = host.wrapping_add(tidelock_driver::widen(number).wrapping_mul(pitch));
            let staged = slot.wrapping_add(at.wrapping_mul(bytes));
            let continues = next == Some(host);
            next = Some(host.wrapping_add(bytes));
            if continues && let Some(last) = count.checked_sub(1).and_then(|last| self.len.get_mut(last)) {
                *last = last.wrapping_add(bytes);
                continue;
            }
            let (dst, src) = if blocks.down { (host, staged) } else { (staged, host) };
            let (Some(to), Some(from), Some(len)) =
                (self.dst.get_mut(count), self.src.get_mut(count), self.len.get_mut(count))
            else {
                break;
            };
            (*to, *from, *len) = (dst, src.cast_const(), bytes);
            count = count.wrapping_add(1);
        }
        let (Some(dst), Some(src), Some(len)) = (self.dst.get(..count), self.src.get(..count), self.len.get(..count))
        else {
            return Ok(());
        };
        cross(stream, &CopyBatch::new(dst, src, len, count))
    }

    /// Waits for the kernels after a failure, as what the stream does next is in no order with them.
    ///
    /// # Errors
    /// If it cannot be waited for.
    fn settle(&self, answer: Result<(), Failure>) -> Result<(), Failure> {
        for _ in 0..2 {
            match self.kernels.synchronize() {
                Ok(()) => return Ok(()),
                Err(error) if error.code.is_sticky() => return Err(Failure::Settled(error)),
                Err(_) => {}
            }
        }
        answer.map_err(|failure| Failure::Unsettled(failure.into()))
    }

    /// Destroys the stream and the events.
    pub(in super::super) fn close(mut self, stream: &StreamCalls) {
        self.crossed.iter().chain(&self.turned).for_each(|event| event.destroy(stream.context));
        self.kernels.destroy();
    }
}

/// A piece of more blocks than [`MOST`]. There is none.
const TOO_LARGE: DriverError = DriverError::new("a copy of whole blocks", Code::INVALID_VALUE);

const fn in_order() -> [u32; MOST] {
    let mut numbers = [0; MOST];
    let (mut at, mut rest) = (0_u32, numbers.as_mut_slice());
    while let Some((number, behind)) = rest.split_first_mut() {
        *number = at;
        at = at.wrapping_add(1);
        rest = behind;
    }
    numbers
}
