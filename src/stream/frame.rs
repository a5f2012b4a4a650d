//! The frame that every stream lives in: it waits for the stream at its end, also when the closure
//! panics.

#![forbid(unsafe_code)]

use tidelock_driver::{Backend, StreamOf};

use super::{StreamOptions, StreamState};
use crate::error::Result;

/// Runs `f` with the state of a fresh stream, waits for the stream, and destroys it.
///
/// # Errors
/// If the stream cannot be made ready; or cannot be waited for. What it may still be using is then
/// leaked (rule R12).
pub(crate) fn enter<B: Backend, R>(
    raw: StreamOf<B>,
    options: &StreamOptions,
    f: impl FnOnce(&StreamState<B>) -> R,
) -> Result<R> {
    let state = StreamState::<B>::new(raw, options)?;
    Frame { state: &state, is_stream: true, open: true }.around(f)
}

/// Runs `f`, then waits for the stream, also when `f` panics; loans that `f` made end with it.
///
/// # Errors
/// If the stream cannot be waited for; it may be of use again.
pub(super) fn settled<B: Backend, R>(state: &StreamState<B>, f: impl FnOnce(&StreamState<B>) -> R) -> Result<R> {
    Frame { state, is_stream: false, open: true }.around(f)
}

/// Waits for the stream when it ends, whichever way it ends.
struct Frame<'a, B: Backend> {
    state: &'a StreamState<B>,
    /// Whether it is the frame of the stream itself, and not that of a scope inside of it.
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
            // The stream is not waited for after this: what it may be using is leaked.
            self.state.poison(*error);
            self.state.shared().leak_shared();
        }
        answer
    }
}

impl<B: Backend> Drop for Frame<'_, B> {
    fn drop(&mut self) {
        if self.open {
            // Unwinding: the failure is kept in the stream, which leaks what it cannot wait for.
            let _ = self.close();
        }
    }
}
