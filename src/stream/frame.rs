//! The frame around every stream, every visit of a lane and every host scope. At its end it waits for
//! the stream if it owes a wait, also when the closure panics.

#![forbid(unsafe_code)]

use tidelock_driver::{Backend, StreamOf};

use super::{StreamOptions, StreamState, loans::Extent};
use crate::error::Result;

/// Runs `f` with the state of a fresh stream, waits for the stream, and destroys it.
///
/// # Errors
/// If the stream cannot be set up, or cannot be waited for. What it may still be using is leaked
/// then (rule R12).
pub(crate) fn with_stream<B: Backend, R>(
    raw: StreamOf<B>,
    options: &StreamOptions,
    f: impl FnOnce(&StreamState<B>) -> R,
) -> Result<R> {
    let state = StreamState::<B>::new(raw, options)?;
    Frame::new(&state, Extent::Stream).around(f)
}

/// Runs `f`, then waits for the stream, also when `f` panics. Loans that were made in `f` end then.
///
/// # Errors
/// If the stream cannot be waited for. It is poisoned only if the error is sticky (F4).
pub(super) fn with_scope<B: Backend, R>(state: &StreamState<B>, f: impl FnOnce(&StreamState<B>) -> R) -> Result<R> {
    Frame::new(state, Extent::Scope).around(f)
}

/// Settles what it owes to the stream when it is dropped or closed.
pub(super) struct Frame<'a, B: Backend> {
    state: &'a StreamState<B>,
    extent: Extent,
    open: bool,
}

impl<'a, B: Backend> Frame<'a, B> {
    /// A frame that begins now. The calling thread enters the stream for a visit, and has entered it
    /// otherwise, unless the stream ends.
    pub(super) fn new(state: &'a StreamState<B>, extent: Extent) -> Self {
        if extent == Extent::Visit {
            state.enter();
        }
        Frame { state, extent, open: true }
    }

    /// Runs `f`, and settles what the frame owes at its end, also when `f` panics.
    ///
    /// # Errors
    /// If the frame owes a wait, and the stream cannot be waited for.
    pub(super) fn around<R>(mut self, f: impl FnOnce(&'a StreamState<B>) -> R) -> Result<R> {
        let value = f(self.state);
        self.close()?;
        Ok(value)
    }

    fn close(&mut self) -> Result<()> {
        self.open = false;
        let answer = self.state.settle(self.extent);
        if let Err(error) = &answer
            && self.extent != Extent::Scope
        {
            // The stream is not waited for again: what it may be using is leaked (H3).
            self.state.poison(*error);
        }
        if self.extent == Extent::Visit {
            self.state.leave();
        }
        answer
    }
}

impl<B: Backend> Drop for Frame<'_, B> {
    fn drop(&mut self) {
        if self.open {
            // Unwinding, or the end of a lane: errors are ignored in drop. If the stream could not be
            // waited for at its end, `close` has poisoned it.
            let _ = self.close();
        }
    }
}
