//! Where the device copies a file from: pinned pieces, or the registered file itself.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::{
    fillers::{Fillers, Memory},
    plan::{Part, Plan},
};
use crate::{
    alloc::PinnedAlloc,
    buffer::{Buffer, View},
    error::{Error, Result},
    location::Pinned,
    stream::{Ctx, DeviceLocation, Lent, OnStream, Pending, Staged},
};

/// Where the parts of a plan are, for copies of stream `L`.
pub(super) trait Source<L: DeviceLocation> {
    /// The location that they are copied from.
    type From: OnStream<L>;

    /// The bytes of a part. The parts of a plan are asked for in order.
    ///
    /// # Errors
    /// If the part is not there, or the driver's error.
    fn part(&mut self, part: &Part) -> Result<View<'_, u8, Self::From>>;
}

/// Pinned pieces, which threads fill and the stream copies from.
pub(super) struct Ring<'c, 'p, L: DeviceLocation> {
    ctx: Ctx<'c, L>,
    plan: &'p Plan,
    fillers: Fillers<L::Backend>,
    /// The next piece that is to be filled.
    next: usize,
    /// The piece that is being copied, and its number.
    current: Option<(usize, Buffer<u64, Staged<L>>)>,
    /// Pieces that the stream may be copying from. The others are filled meanwhile.
    flying: Flying<L>,
}

impl<'c, 'p, L: DeviceLocation> Ring<'c, 'p, L> {
    /// A ring of `pieces` pieces, at most as many as the plan has. All are started.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is no pinned memory.
    pub(super) fn new(ctx: Ctx<'c, L>, plan: &'p Plan, fillers: Fillers<L::Backend>, pieces: usize) -> Result<Self> {
        let flying = Flying::new((pieces / 2).max(1));
        let mut ring = Ring { ctx, plan, fillers, next: 0, current: None, flying };
        for _ in 0..pieces {
            let fresh = ring.ctx.alloc_pinned::<u64>(plan.size().div_ceil(size_of::<u64>()))?;
            ring.start(Memory::Fresh(fresh));
        }
        Ok(ring)
    }

    /// Has the next piece of the plan filled, if there is one. `memory` is freed otherwise.
    fn start(&mut self, memory: Memory<L::Backend>) {
        if self.next < self.plan.pieces() {
            self.fillers.start(self.next, memory);
            self.next = self.next.saturating_add(1);
        }
    }

    /// Ends the current piece: it is filled again once the stream has passed its copies.
    fn end_piece(&mut self) -> Result<()> {
        let Some((_, staged)) = self.current.take() else { return Ok(()) };
        if let Some(oldest) = self.flying.push(&self.ctx, staged)? {
            self.start(Memory::Used(oldest));
        }
        Ok(())
    }
}

impl<L: DeviceLocation> Source<L> for Ring<'_, '_, L> {
    type From = Staged<L>;

    fn part(&mut self, part: &Part) -> Result<View<'_, u8, Staged<L>>> {
        if self.current.as_ref().is_none_or(|(piece, _)| *piece != part.piece) {
            self.end_piece()?;
            let filled = self.fillers.wait(part.piece).ok_or(Error::Tensor { reason: UNFILLED })?;
            self.current = Some((part.piece, filled.stage(&self.ctx)));
        }
        let (_, staged) = self.current.as_ref().ok_or(Error::Tensor { reason: UNFILLED })?;
        Ok(staged.view().bytes().slice(part.at..part.at.saturating_add(part.bytes.len()))?)
    }
}

const UNFILLED: &str = "was not read: the thread that copies it has ended";

/// The file itself, page-locked.
pub(super) struct Registered<'h, L: DeviceLocation> {
    ctx: Ctx<'h, L>,
    locked: View<'h, u8, Lent<L>>,
    /// Where the locked bytes begin in the file.
    from: usize,
    /// The piece that is being copied.
    piece: usize,
    /// Fences of no elements behind the pieces before it.
    flying: Flying<L>,
}

/// The most pieces of a registered file that are enqueued before one is waited for, so that the
/// progress is not ahead of the device.
const FLYING: usize = 2;

impl<'h, L: DeviceLocation> Registered<'h, L> {
    /// `locked` begins `from` bytes into the file.
    pub(super) fn new(ctx: Ctx<'h, L>, locked: View<'h, u8, Lent<L>>, from: usize) -> Self {
        Registered { ctx, locked, from, piece: 0, flying: Flying::new(FLYING) }
    }
}

impl<L: DeviceLocation> Source<L> for Registered<'_, L> {
    type From = Lent<L>;

    fn part(&mut self, part: &Part) -> Result<View<'_, u8, Lent<L>>> {
        if part.piece != self.piece {
            self.piece = part.piece;
            let nothing = Buffer::from_slice_in(&[], PinnedAlloc::new())?;
            drop(self.flying.push(&self.ctx, nothing.stage(&self.ctx))?);
        }
        let (from, to) = (part.bytes.start.checked_sub(self.from), part.bytes.end.checked_sub(self.from));
        let range = from.zip(to).ok_or(Error::Tensor { reason: "is not locked" })?;
        Ok(self.locked.slice(range.0..range.1)?)
    }
}

/// Fenced buffers, of which the stream has yet to pass at most so many.
struct Flying<L: DeviceLocation> {
    /// The oldest first.
    fenced: VecDeque<Pending<u64, L>>,
    most: usize,
}

impl<L: DeviceLocation> Flying<L> {
    const fn new(most: usize) -> Self {
        Flying { fenced: VecDeque::new(), most }
    }

    /// Fences `staged`. If there are too many then, waits for the oldest one and returns it.
    ///
    /// # Errors
    /// The driver's error.
    fn push(
        &mut self,
        ctx: &Ctx<'_, L>,
        staged: Buffer<u64, Staged<L>>,
    ) -> Result<Option<Buffer<u64, Pinned<L::Backend>>>> {
        self.fenced.push_back(ctx.fence(staged)?);
        if self.fenced.len() <= self.most {
            return Ok(None);
        }
        Ok(self.fenced.pop_front().map(Pending::wait).transpose()?)
    }
}
