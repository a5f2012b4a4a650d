//! What a map of tensors holds.

#![forbid(unsafe_code)]

use core::fmt;

use super::{AnyShared, AnyTensor, AnyView};
use crate::{
    element::{DType, Scalar},
    layout::AnyLayout,
    location::{Host, Location},
    stream::{DeviceLocation, SharedTensor},
    tensor::{Tensor, TensorView},
};

/// A tensor in a [`TensorMap`](super::TensorMap): on the host or on stream `L`; borrowed, owned, or
/// shared.
#[non_exhaustive]
pub enum Value<'p, L: DeviceLocation> {
    /// A borrowed tensor of the host.
    HostBorrowed(AnyView<'p, Host>),
    /// An owned tensor of the host.
    HostOwned(AnyTensor<Host>),
    /// A borrowed tensor of the stream.
    DeviceBorrowed(AnyView<'p, L>),
    /// An owned tensor of the stream.
    DeviceOwned(AnyTensor<L>),
    /// A tensor of the stream with several owners.
    DeviceShared(AnyShared<L>),
}

impl<L: DeviceLocation> Value<'_, L> {
    /// The name of the element.
    #[inline]
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Value::HostBorrowed(view) => view.dtype(),
            Value::HostOwned(tensor) => tensor.dtype(),
            Value::DeviceBorrowed(view) => view.dtype(),
            Value::DeviceOwned(tensor) => tensor.dtype(),
            Value::DeviceShared(shared) => shared.dtype(),
        }
    }

    /// The layout, in elements.
    #[inline]
    #[must_use]
    pub fn layout(&self) -> AnyLayout {
        match self {
            Value::HostBorrowed(view) => view.layout(),
            Value::HostOwned(tensor) => tensor.layout(),
            Value::DeviceBorrowed(view) => view.layout(),
            Value::DeviceOwned(tensor) => tensor.layout(),
            Value::DeviceShared(shared) => shared.layout(),
        }
    }

    /// The name of the location.
    pub(super) const fn place(&self) -> &'static str {
        match self {
            Value::HostBorrowed(_) | Value::HostOwned(_) => Host::NAME,
            Value::DeviceBorrowed(_) | Value::DeviceOwned(_) | Value::DeviceShared(_) => L::NAME,
        }
    }
}

/// What a map of stream `L` can hold: views, tensors and shared tensors of the host and of `L`.
/// Sealed: everything that converts into a [`Value`].
#[diagnostic::on_unimplemented(
    message = "a map of stream `{L}` cannot hold `{Self}`",
    label = "no tensor of the host or of stream `{L}`",
    note = "a buffer becomes a tensor with `buffer.tensor([rows, columns])?`",
    note = "memory of another stream: `transfer` the buffer, or `detach` it there and `attach` it here, and make it a tensor again",
    note = "an arena's tensor is held as a view: `tensor.view()`"
)]
pub trait ToValue<'p, L: DeviceLocation>: sealed::SealedToValue<'p, L> {
    /// The value.
    #[doc(hidden)]
    fn to_value(self) -> Value<'p, L>;
}

#[diagnostic::do_not_recommend]
impl<'p, L: DeviceLocation, T: Into<Value<'p, L>>> ToValue<'p, L> for T {
    #[inline]
    fn to_value(self) -> Value<'p, L> {
        self.into()
    }
}

/// A location of the tensors in a map of stream `L`: the stream, or [`Host`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "a map of stream `{L}` has no tensors in `{Self}`",
    label = "neither `Host` nor the stream's own memory",
    note = "a map holds tensors of the host and of one stream: `TensorMap<'_, {L}>`"
)]
pub trait MapPlace<L: DeviceLocation>: Location + sealed::SealedMapPlace<L> {
    /// The tensor, if it is in this location.
    #[doc(hidden)]
    fn of<'v>(value: &'v Value<'_, L>) -> Option<AnyView<'v, Self>>;

    /// The tensor, if it is an owned one in this location.
    #[doc(hidden)]
    fn owned<'p>(value: Value<'p, L>) -> Result<AnyTensor<Self>, Value<'p, L>>;
}

impl<L: DeviceLocation> MapPlace<L> for Host {
    #[inline]
    fn of<'v>(value: &'v Value<'_, L>) -> Option<AnyView<'v, Host>> {
        match value {
            Value::HostBorrowed(view) => Some(*view),
            Value::HostOwned(tensor) => Some(tensor.view()),
            _ => None,
        }
    }

    #[inline]
    fn owned<'p>(value: Value<'p, L>) -> Result<AnyTensor<Host>, Value<'p, L>> {
        match value {
            Value::HostOwned(tensor) => Ok(tensor),
            other => Err(other),
        }
    }
}

impl<L: DeviceLocation> MapPlace<L> for L {
    #[inline]
    fn of<'v>(value: &'v Value<'_, L>) -> Option<AnyView<'v, L>> {
        match value {
            Value::DeviceBorrowed(view) => Some(*view),
            Value::DeviceOwned(tensor) => Some(tensor.view()),
            Value::DeviceShared(shared) => Some(shared.view()),
            _ => None,
        }
    }

    #[inline]
    fn owned<'p>(value: Value<'p, L>) -> Result<AnyTensor<L>, Value<'p, L>> {
        match value {
            Value::DeviceOwned(tensor) => Ok(tensor),
            other => Err(other),
        }
    }
}

impl<'p, T: Scalar, L: DeviceLocation, const R: usize> From<TensorView<'p, T, Host, R>> for Value<'p, L> {
    #[inline]
    fn from(view: TensorView<'p, T, Host, R>) -> Self {
        Value::HostBorrowed(view.any())
    }
}

impl<'p, T: Scalar, L: DeviceLocation, const R: usize> From<TensorView<'p, T, L, R>> for Value<'p, L> {
    #[inline]
    fn from(view: TensorView<'p, T, L, R>) -> Self {
        Value::DeviceBorrowed(view.any())
    }
}

impl<T: Scalar, L: DeviceLocation, const R: usize> From<Tensor<T, Host, R>> for Value<'_, L> {
    #[inline]
    fn from(tensor: Tensor<T, Host, R>) -> Self {
        Value::HostOwned(tensor.into())
    }
}

impl<T: Scalar, L: DeviceLocation, const R: usize> From<Tensor<T, L, R>> for Value<'_, L> {
    #[inline]
    fn from(tensor: Tensor<T, L, R>) -> Self {
        Value::DeviceOwned(tensor.into())
    }
}

impl<T: Scalar, L: DeviceLocation, const R: usize> From<SharedTensor<T, L, R>> for Value<'_, L> {
    #[inline]
    fn from(tensor: SharedTensor<T, L, R>) -> Self {
        Value::DeviceShared(tensor.any())
    }
}

impl<L: DeviceLocation> From<AnyTensor<Host>> for Value<'_, L> {
    #[inline]
    fn from(tensor: AnyTensor<Host>) -> Self {
        Value::HostOwned(tensor)
    }
}

impl<L: DeviceLocation> From<AnyTensor<L>> for Value<'_, L> {
    #[inline]
    fn from(tensor: AnyTensor<L>) -> Self {
        Value::DeviceOwned(tensor)
    }
}

impl<L: DeviceLocation> fmt::Debug for Value<'_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::HostBorrowed(view) => view.fmt(f),
            Value::HostOwned(tensor) => tensor.fmt(f),
            Value::DeviceBorrowed(view) => view.fmt(f),
            Value::DeviceOwned(tensor) => tensor.fmt(f),
            Value::DeviceShared(shared) => shared.fmt(f),
        }
    }
}

/// They have the parameters of the traits that they seal.
mod sealed {
    use super::Value;
    use crate::{location::Host, stream::DeviceLocation};

    pub trait SealedToValue<'p, L: DeviceLocation> {}
    #[diagnostic::do_not_recommend]
    impl<'p, L: DeviceLocation, T: Into<Value<'p, L>>> SealedToValue<'p, L> for T {}

    pub trait SealedMapPlace<L: DeviceLocation> {}
    impl<L: DeviceLocation> SealedMapPlace<L> for Host {}
    impl<L: DeviceLocation> SealedMapPlace<L> for L {}
}
