//! Elements of a stream's memory, read by the host.

#![forbid(unsafe_code)]

use super::{
    Stream,
    location::{DeviceLocation, OnStream},
};
use crate::{
    Element,
    buffer::View,
    error::{Error, Result},
};

impl<L: DeviceLocation> Stream<L> {
    /// The elements of `view` as the device has them behind everything enqueued so far. For tests
    /// and small results: an engine copies to staged memory that it keeps, and waits once for all
    /// of it ([`Ctx::fence`](super::Ctx::fence), [`Buffer::peek`](crate::Buffer::peek)).
    ///
    /// Cost: pinned memory from the process-wide pool, a `Vec`, a copy, and a wait that blocks the
    /// calling thread; two driver calls if the pool has the memory.
    ///
    /// ```
    /// use tidelock::sim;
    ///
    /// let values = sim::Device::default().stream(|mut stream, _env| {
    ///     let ctx = stream.ctx().with_pool();
    ///     let mut x = ctx.upload_new(&[1.0_f32, 2.0, 3.0])?;
    ///     ctx.clear(x.view_mut().slice(..1)?)?;
    ///     stream.read(x.view())
    /// })??;
    /// assert_eq!(values, [0.0, 2.0, 3.0]);
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::Alignment`] as for
    /// [`Ctx::alloc_pinned`](super::Ctx::alloc_pinned), or without memory for the `Vec`: nothing is
    /// enqueued then. Otherwise the driver's error, or the failure of earlier work.
    #[inline]
    pub fn read<T: Element, D: OnStream<L>>(&mut self, view: View<'_, T, D>) -> Result<Vec<T>> {
        let mut values = Vec::new();
        let no_room = |_| Error::OutOfMemory { location: "host", bytes: view.byte_len(), shortage: None };
        values.try_reserve_exact(view.len()).map_err(no_room)?;
        let ctx = self.ctx();
        let staged = ctx.init_from(ctx.alloc_pinned(view.len())?.stage(&ctx), view)?;
        values.extend_from_slice(staged.peek(&self.synchronize()?));
        Ok(values)
    }
}
