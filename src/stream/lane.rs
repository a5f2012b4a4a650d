//! Lanes: streams that live in objects, and that one thread after another enters.

use core::{fmt, mem::ManuallyDrop};
use std::thread;

use tidelock_driver::{Backend, Code, DeviceOf, DriverError, RawDevice, RawStream, StreamOf};

use super::{Env, On, Stream, StreamOptions, StreamState, frame::Frame, loans::Extent};
use crate::error::Result;

/// An owned stream of backend `B`. It has no lifetime, and is `Send` and `Sync`: a field of an object,
/// an element of a `Vec`, a pointer behind a C interface. [`Device::lane`](crate::Device::lane) opens
/// one. All use of it takes `&mut`, so that threads which share one put it behind a lock.
///
/// A program uses it in visits. [`enter`](Lane::enter) calls a closure with the stream, under a brand
/// of its own for each visit, on any thread. The end of a visit does not wait: the work of the next
/// visit runs behind that of this one. Between visits, memory is detached ([`Ctx::detach`]), and
/// nothing else of a visit can leave it.
///
/// The stream stays the same for all visits, with its pool, its events, its staging ring, its
/// deferred frees and the error that poisoned it. What a visit leaves behind on it, such as a free
/// that the device is still to reach, is done in a later visit, or when the lane is dropped.
///
/// Dropping a lane waits for the stream, and then frees what the stream holds. Inside a kernel of a
/// simulated device, where a wait may be one for the kernel itself, a thread of the library does that
/// after the drop has returned. If the stream cannot be waited for, what it may be using is leaked.
///
/// ```
/// use tidelock::{
///     Buffer, Result, sim,
///     stream::{Detached, Lane},
/// };
///
/// struct Session {
///     lane: Lane<sim::SimBackend>,
///     sum: Option<Buffer<u32, Detached<sim::SimBackend>>>,
/// }
///
/// impl Session {
///     fn new(device: &sim::Device) -> Result<Session> {
///         let mut lane = device.lane()?;
///         let sum = lane.enter(|stream, _env| -> Result<_> {
///             let ctx = stream.ctx().with_pool();
///             Ok(ctx.detach(ctx.zeros(1)?)?)
///         })??;
///         Ok(Session { lane, sum: Some(sum) })
///     }
///
///     /// Enqueues a step. It does not wait.
///     fn step(&mut self, n: u32) -> Result<()> {
///         let Some(sum) = self.sum.take() else { return Ok(()) };
///         self.sum = Some(self.lane.enter(|stream, _env| -> Result<_> {
///             let mut sum = stream.ctx().attach(sum)?;
///             stream.ctx().launch((sum.view_mut(), n), |(sum, n)| sum[0] += n)?;
///             Ok(stream.ctx().detach(sum)?)
///         })??);
///         Ok(())
///     }
/// }
///
/// let device = sim::Device::default();
/// let mut sessions = vec![Session::new(&device)?, Session::new(&device)?];
/// std::thread::scope(|threads| {
///     for session in &mut sessions {
///         threads.spawn(|| (1..=3).try_for_each(|n| session.step(n)));
///     }
/// });
/// # Ok::<(), tidelock::Error>(())
/// ```
///
/// [`Ctx::detach`]: crate::Ctx::detach
#[must_use = "dropping a lane waits for its stream"]
pub struct Lane<B: Backend> {
    /// Invariant: dropped in `drop`, or moved out of it, once.
    owned: ManuallyDrop<Owned<B>>,
}

/// The state of a stream, with the wait that is made before it ends.
struct Owned<B: Backend>(StreamState<B>);

impl<B: Backend> Lane<B> {
    /// A lane of a fresh stream.
    ///
    /// # Errors
    /// If the stream cannot be set up. It is destroyed then.
    pub(crate) fn new(raw: StreamOf<B>, options: &StreamOptions) -> Result<Self> {
        let state = StreamState::new(raw, options)?;
        state.leave();
        Ok(Lane { owned: ManuallyDrop::new(Owned(state)) })
    }

    /// The lane, for a stream on which others may enqueue.
    #[cfg(feature = "cuda-core")]
    pub(crate) fn exposed(self) -> Self {
        self.owned.0.expose();
        self
    }

    /// Calls `f` with the stream.
    ///
    /// Nothing branded with `'s` can leave `f`: detach the memory that a later visit uses. With
    /// `env`, `f` lends data that outlives the visit.
    ///
    /// The visit ends without a wait, unless something was lent through `env`: then it waits for the
    /// stream, also if `f` panics. Cost: no driver call on a simulated device. On CUDA one or two
    /// calls that look up or set the current context of the thread, and two more at the end if the
    /// thread had no current context.
    ///
    /// # Errors
    /// [`Code::NOT_PERMITTED`](crate::driver::Code::NOT_PERMITTED) inside a kernel of a simulated
    /// device; `f` has not run then. A poisoned stream is entered as any other; each call in `f`
    /// reports the error then, and hands back what was moved.
    ///
    /// # Aborts
    /// If host memory is on loan through `env` and the stream cannot be waited for at the end, also
    /// because the device broke during the visit (rule R12).
    #[inline]
    pub fn enter<'env, R>(
        &mut self,
        f: impl for<'s> FnOnce(Stream<On<'s, B>>, Env<'s, 'env, On<'s, B>>) -> R,
    ) -> Result<R> {
        outside_of_kernels::<B>("entering a lane")?;
        Frame::new(&self.owned.0, Extent::Visit).around(|state| f(Stream::new(state), Env::new(state)))
    }

    /// The bytes that were leaked so far, because the device may still have been using them.
    #[inline]
    #[must_use]
    pub fn leaked_bytes(&mut self) -> usize {
        self.owned.0.leaked_bytes()
    }
}

/// `NOT_PERMITTED`, which names `call`, on a thread that executes work of a device (S1, D9).
pub(crate) fn outside_of_kernels<B: Backend>(call: &'static str) -> Result<()> {
    if DeviceOf::<B>::executes_work() {
        return Err(DriverError::new(call, Code::NOT_PERMITTED).into());
    }
    Ok(())
}

impl<B: Backend> StreamState<B> {
    /// The calling thread makes the calls on the stream from now on, until it leaves or the stream
    /// ends.
    pub(super) fn enter(&self) {
        // SAFETY:
        // - S8: a state is entered when it is made, which a lane takes back, and by each visit of a
        //   lane, which takes it back. A visit borrows the lane exclusively.
        // - S1: the state is not `Sync`, so that this thread has what the last one had. That one
        //   handed it over by a move or a borrow, which orders the two threads.
        unsafe { self.raw.enter() }
    }

    /// Ends what [`enter`](StreamState::enter) began.
    pub(super) fn leave(&self) {
        // SAFETY:
        // - S8: the calling thread has entered the stream: the closure of the visit ran on it, or the
        //   state was made on it just now. Visits and streams inside of it have ended, because they
        //   are closures too.
        unsafe { self.raw.leave() }
    }
}

// SAFETY:
// - A shared reference to a lane gives access to nothing of it: every method takes `&mut self`, and
//   `Debug` reads nothing.
unsafe impl<B: Backend> Sync for Lane<B> {}

impl<B: Backend> Drop for Owned<B> {
    fn drop(&mut self) {
        drop(Frame::new(&self.0, Extent::Stream));
    }
}

impl<B: Backend> Drop for Lane<B> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY:
        // - The invariant of the type: this is the only place that takes it, and nothing uses it
        //   after this.
        let owned = unsafe { ManuallyDrop::take(&mut self.owned) };
        if DeviceOf::<B>::executes_work() {
            owned.end_elsewhere();
        }
    }
}

impl<B: Backend> Owned<B> {
    /// Ends the stream on a thread of its own, because the work that the calling thread executes may
    /// be the stream's. If the system has no thread, everything that the stream holds is leaked.
    #[cold]
    fn end_elsewhere(self) {
        let owned = ManuallyDrop::new(self);
        let end = move || drop(ManuallyDrop::into_inner(owned));
        let _ = thread::Builder::new().name("tidelock-lane".to_owned()).spawn(end);
    }
}

impl<B: Backend> fmt::Debug for Lane<B> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}
