//! The frame around every stream and host scope. It waits for the stream at its end, also when the
//! closure panics.

#![forbid(unsafe_code)]

use tidelock_driver::{Backend, StreamOf};

use super::{StreamOptions, StreamState};
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
    Frame { state: &state, is_stream: true, open: true }.around(f)
}

/// Runs `f`, then waits for the stream, also when `f` panics. Loans that were made in `f` end then.
///
/// # Errors
/// If the stream cannot be waited for. It is poisoned only if the error is sticky (F4).
pub(super) fn with_scope<B: Backend, R>(state: &StreamState<B>, f: impl FnOnce(&StreamState<B>) -> R) -> Result<R> {
    Frame { state, is_stream: false, open: true }.around(f)
}

/// Waits for the stream when it is dropped or closed.
struct Frame<'a, B: Backend> {
    state: &'a StreamState<B>,
    /// Whether this is the frame of the stream itself, and not that of a scope in it.
    is_stream: bool,
    open: bool,
}

impl<'a, B: Backend> Frame<'a, B> {
    fn around<R>(mut self, f: impl FnOnce(&'a StreamState<B>) -> R) -> Result<R> {
        let value = f(self.state);
        self.close()?;
        Ok(value)
    }

    fn close(&mut self) -> Result<()> {
        self.open = false;
        let answer = self.state.settle(self.is_stream);
        if let (Err(error), true) = (&answer, self.is_stream) {
            // The stream is not waited for again: what it may be using is leaked (H3, D7).
            self.state.poison(*error);
        }
        answer
    }
}

impl<B: Backend> Drop for Frame<'_, B> {
    fn drop(&mut self) {
        if self.open {
            // Unwinding: errors are ignored in drop. If the stream could not be waited for at its
            // end, `close` has poisoned it.
            let _ = self.close();
        }
    }
}
