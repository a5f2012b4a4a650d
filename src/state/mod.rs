//! The per-sequence state of continuous batching: double buffers, and the copies that re-pack them
//! by a permutation.
//!
//! [`State`] has a front and a back buffer. A [`Permutation`] says which sequences stay and which
//! join. `warp` and `append` of [`Group`](crate::batch::Group) enqueue the rows of one step.
//! [`DevicePermutation`] and [`RowNumbers`] are for row numbers in device memory.

mod append;
mod on_device;
mod permutation;
mod warp;

use core::fmt;

pub use self::{
    on_device::{DevicePermutation, RowNumbers},
    permutation::Permutation,
};
use crate::{
    Element,
    alloc::Allocator,
    buffer::{Buffer, View, ViewMut, shown},
    error::{Error, Rejected, Result},
    location::Location,
    stream::DeviceLocation,
    stream::{Ctx, HasAlloc},
};

/// Two buffers of one length: `front` is read while `back` is written, then they are swapped.
///
/// The buffers themselves cannot be taken out or replaced, so that their lengths stay equal.
///
/// ```
/// use tidelock::{BatchCopy, Permutation, State, sim};
/// use std::num::NonZero;
///
/// sim::Device::default().stream(|stream, _env| {
///     let ctx = stream.ctx().with_pool();
///     let width = NonZero::new(16).unwrap();
///     let mut state = State::<u32, _>::zeros(&ctx, 4 * 16)?;
///     let mut batch = BatchCopy::new();
///     // Sequences 2 and 0 stay, 1 and 3 have finished.
///     let survivors = Permutation::new(&[2, 0], 4, 0)?;
///     state.step(|front, back| {
///         batch.scope(&ctx, |b| b.group(|g| g.warp(front.rows(width)?, survivors, back.rows(width)?.first(2)?)))
///     })
/// })??;
/// # Ok::<(), tidelock::Error>(())
/// ```
pub struct State<T, D: Location, A: Allocator<D> = <D as Location>::DefaultAlloc> {
    front: Buffer<T, D, A>,
    back: Buffer<T, D, A>,
}

impl<T, D: Location, A: Allocator<D>> State<T, D, A> {
    /// A state of two buffers, which must have one length.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, with both buffers.
    #[inline]
    pub fn new(
        front: Buffer<T, D, A>,
        back: Buffer<T, D, A>,
    ) -> Result<Self, Rejected<(Buffer<T, D, A>, Buffer<T, D, A>)>> {
        if front.len() == back.len() {
            return Ok(State { front, back });
        }
        let error = Error::Length { operand: "back", expected: front.len(), found: back.len() };
        Err(Rejected::new(error, (front, back)))
    }

    /// How many elements each of the two buffers has.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.front.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// The present state.
    #[inline]
    #[must_use]
    pub const fn front(&self) -> View<'_, T, D> {
        self.front.view()
    }

    /// The present state, to change it in place.
    #[inline]
    #[must_use]
    pub const fn front_mut(&mut self) -> ViewMut<'_, T, D> {
        self.front.view_mut()
    }

    /// The next state, to write.
    #[inline]
    #[must_use]
    pub const fn back_mut(&mut self) -> ViewMut<'_, T, D> {
        self.back.view_mut()
    }

    /// The present state to read, and the next one to write, for a batch over several states. Call
    /// [`swap`](State::swap) after the batch succeeds.
    #[inline]
    #[must_use]
    pub const fn both(&mut self) -> (View<'_, T, D>, ViewMut<'_, T, D>) {
        (self.front.view(), self.back.view_mut())
    }

    /// Makes the next state the present one. Cost: six moves, no driver call.
    #[inline]
    pub const fn swap(&mut self) {
        core::mem::swap(&mut self.front, &mut self.back);
    }

    /// Calls `f` to write the next state from the present one, and swaps them if it succeeds.
    ///
    /// # Errors
    /// The error of `f`; nothing is swapped then.
    #[inline]
    pub fn step<R, E>(&mut self, f: impl FnOnce(View<'_, T, D>, ViewMut<'_, T, D>) -> Result<R, E>) -> Result<R, E> {
        let (front, back) = self.both();
        let value = f(front, back)?;
        self.swap();
        Ok(value)
    }
}

impl<T: Element, L: DeviceLocation, A: Allocator<L>> State<T, L, A> {
    /// A state of two buffers of `len` zeroes, from the device allocator of `ctx`.
    ///
    /// # Errors
    /// As for [`Ctx::zeros`].
    #[inline]
    pub fn zeros<X>(ctx: &Ctx<'_, L, X>, len: usize) -> Result<Self>
    where
        X: HasAlloc<L, Alloc = A>,
        A: Copy,
    {
        let (front, back) = (ctx.zeros::<T>(len)?, ctx.zeros::<T>(len)?);
        Ok(State { front, back })
    }
}

impl<T, D: Location, A: Allocator<D>> fmt::Debug for State<T, D, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown::memory::<T, D>(f, "State")?;
        f.debug_struct("").field("len", &self.len()).finish()
    }
}
