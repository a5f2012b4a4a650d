//! Devices: how streams are opened, for any backend of the driver contract.

#[cfg(any(feature = "sim", feature = "cuda-core"))]
mod checks;
#[cfg(feature = "cuda-core")]
pub mod cuda;
#[cfg(feature = "sim")]
pub mod sim;

use tidelock_driver::RawDevice;
#[cfg(feature = "cuda-core")]
pub(crate) use tidelock_driver::code;

use crate::{
    error::Result,
    stream::{Env, Lane, On, Stream, StreamOptions, deferred_bytes, outside_of_kernels, with_stream},
};

/// A device that opens streams. Every [`RawDevice`] is a `Device`, and no other type is. Sealed.
///
/// A program that is generic over the device needs this one bound:
///
/// ```
/// use tidelock::{Device, Result, Stream, sim};
///
/// fn ordinal<D: Device>(device: &D) -> Result<usize> {
///     device.stream(|stream, _env| stream.ctx().device_ordinal())
/// }
///
/// assert_eq!(ordinal(&sim::Device::default())?, 0);
/// # Ok::<(), tidelock::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a device",
    label = "expected `sim::Device`, `cuda::Device` or the device of another backend",
    note = "a device of your own implements `driver::RawDevice`, which is unsafe; `examples/backend` is a complete backend"
)]
pub trait Device: RawDevice {
    /// Opens a stream with the default options, runs `f` with it, waits for it and destroys it,
    /// also if `f` panics.
    ///
    /// Nothing branded with `'s` can leave `f`. With `env`, `f` lends data that outlives the
    /// stream.
    ///
    /// # Errors
    /// If the stream cannot be opened, as inside a kernel of a simulated device, or cannot be waited
    /// for at the end. In the latter case, what it may still be using is leaked.
    ///
    /// # Aborts
    /// If host memory is on loan through `env` and the stream cannot be waited for (rule R12).
    #[inline]
    fn stream<'env, R>(
        &'env self,
        f: impl for<'s> FnOnce(Stream<On<'s, Self::Backend>>, Env<'s, 'env, On<'s, Self::Backend>>) -> R,
    ) -> Result<R> {
        self.stream_with(&StreamOptions::default(), f)
    }

    /// As [`stream`](Device::stream), with `options`.
    ///
    /// # Errors
    /// As for [`stream`](Device::stream).
    ///
    /// # Aborts
    /// As for [`stream`](Device::stream).
    #[inline]
    fn stream_with<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<On<'s, Self::Backend>>, Env<'s, 'env, On<'s, Self::Backend>>) -> R,
    ) -> Result<R> {
        outside_of_kernels::<Self::Backend>("opening a stream")?;
        let raw = self.open(&options.open())?;
        with_stream::<Self::Backend, R>(raw, options, |state| f(Stream::new(state), Env::new(state)))
    }

    /// Opens a stream with the default options that lives in an object: see [`Lane`].
    ///
    /// # Errors
    /// If the stream cannot be opened.
    #[inline]
    fn lane(&self) -> Result<Lane<Self::Backend>> {
        self.lane_with(&StreamOptions::default())
    }

    /// As [`lane`](Device::lane), with `options`.
    ///
    /// # Errors
    /// As for [`lane`](Device::lane).
    #[inline]
    fn lane_with(&self, options: &StreamOptions) -> Result<Lane<Self::Backend>> {
        outside_of_kernels::<Self::Backend>("opening a lane")?;
        Lane::new(self.open(&options.open())?, options)
    }

    /// The bytes of memory of no stream, detached or [arriving](crate::stream::Arriving), that were
    /// leaked, because the driver refused to free them or to say whether they are in use.
    #[inline]
    #[must_use]
    fn leaked_bytes(&self) -> usize {
        self.shared().leaked_bytes()
    }

    /// The bytes of [arriving](crate::stream::Arriving) memory that was dropped, and that is freed
    /// once its stream has passed its record. Cost: no driver call.
    #[inline]
    #[must_use]
    fn deferred_bytes(&self) -> usize {
        deferred_bytes::<Self::Backend>(self)
    }
}

impl<D: RawDevice> Device for D {}
