//! Names, layouts and tensors of the host in any format of serde: to broadcast a request, say,
//! whose outputs travel as a name, a layout and a dtype. Feature `serde`.
//!
//! A tensor is its `dtype`, `shape` and `bytes`, which are little-endian. What is read is checked
//! as what a program makes.

#![forbid(unsafe_code)]

use core::fmt;
use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
    ser,
};

use super::{AnyTensor, AnyView, TensorMap, Value};
use crate::{
    buffer::Buffer,
    element::{DType, Scalar},
    error::Rejected,
    layout::{AnyLayout, Layout},
    location::Host,
    stream::DeviceLocation,
    tensor::{Tensor, TensorView},
};

/// A layout, as it is sent and received.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Layout")]
struct Shape {
    shape: Vec<usize>,
    stride: Vec<usize>,
}

/// A tensor, as it is sent.
#[derive(Serialize)]
#[serde(rename = "Tensor")]
struct Sent<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: SentBytes<'a>,
}

/// A tensor, as it is received.
#[derive(Deserialize)]
#[serde(rename = "Tensor")]
struct Received {
    dtype: DType,
    shape: Vec<usize>,
    bytes: ReceivedBytes,
}

/// Bytes as one value, in formats that have such values.
struct SentBytes<'a>(&'a [u8]);
struct ReceivedBytes(Vec<u8>);

impl Serialize for DType {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for DType {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Name)
    }
}

impl Serialize for AnyLayout {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shape { shape: self.shape().to_vec(), stride: self.stride().to_vec() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AnyLayout {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Shape { shape, stride } = Shape::deserialize(deserializer)?;
        AnyLayout::strided(&shape, &stride).map_err(de::Error::custom)
    }
}

impl<const R: usize> Serialize for Layout<R> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.any().serialize(serializer)
    }
}

impl<'de, const R: usize> Deserialize<'de> for Layout<R> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyLayout::deserialize(deserializer)?.rank().map_err(de::Error::custom)
    }
}

/// Fails if the elements are not adjacent: copy the tensor first.
impl Serialize for AnyView<'_, Host> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = SentBytes(self.bytes().map_err(ser::Error::custom)?.as_slice());
        Sent { dtype: self.dtype(), shape: self.layout().shape(), bytes }.serialize(serializer)
    }
}

/// Fails if the elements are not adjacent: copy the tensor first.
impl<T: Scalar, const R: usize> Serialize for TensorView<'_, T, Host, R> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.any().serialize(serializer)
    }
}

impl Serialize for AnyTensor<Host> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AnyTensor<Host> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Received { dtype, shape, bytes } = Received::deserialize(deserializer)?;
        AnyTensor::from_le_bytes(dtype, &shape, &bytes.0).map_err(de::Error::custom)
    }
}

impl<T: Scalar, const R: usize> Serialize for Tensor<T, Host, R> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

/// `T` is one of the library's own scalars.
impl<'de, T: Scalar, const R: usize> Deserialize<'de> for Tensor<T, Host, R> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyTensor::deserialize(deserializer)?.downcast().map_err(|Rejected { error, .. }| de::Error::custom(error))
    }
}

/// As a tensor of one axis.
impl<T: Scalar> Serialize for Buffer<T, Host> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.view().tensor([self.len()]).map_err(ser::Error::custom)?;
        view.serialize(serializer)
    }
}

/// From a tensor of one axis. `T` is one of the library's own scalars.
impl<'de, T: Scalar> Deserialize<'de> for Buffer<T, Host> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Tensor::<T, Host, 1>::deserialize(deserializer)?.into_buffer())
    }
}

/// Fails if a tensor lies on the device: copy it to the host first.
impl<L: DeviceLocation> Serialize for TensorMap<'_, L> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut views = BTreeMap::new();
        for (name, value) in self.iter() {
            let view = match value {
                Value::HostBorrowed(view) => *view,
                Value::HostOwned(tensor) => tensor.view(),
                _ => return Err(ser::Error::custom(format_args!("the tensor `{name}` is on the device"))),
            };
            views.insert(name, view);
        }
        views.serialize(serializer)
    }
}

/// All tensors are owned, and on the host.
impl<'de, L: DeviceLocation> Deserialize<'de> for TensorMap<'_, L> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<'p, L: DeviceLocation>(TensorMap<'p, L>);
        impl<'de, 'p, L: DeviceLocation> Visitor<'de> for Entries<'p, L> {
            type Value = TensorMap<'p, L>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<M: de::MapAccess<'de>>(self, mut entries: M) -> Result<Self::Value, M::Error> {
                let mut map = self.0;
                while let Some((name, tensor)) = entries.next_entry::<String, AnyTensor<Host>>()? {
                    map.produce(name, tensor).map_err(|Rejected { error, .. }| de::Error::custom(error))?;
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Entries(TensorMap::new()))
    }
}

struct Name;

impl Visitor<'_> for Name {
    type Value = DType;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a dtype")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<DType, E> {
        name.parse().map_err(|error| E::custom(format_args!("`{name}`: {error}")))
    }
}

impl Serialize for SentBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for ReceivedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(ReceivedBytes(Vec::new()))
    }
}

impl<'de> Visitor<'de> for ReceivedBytes {
    type Value = ReceivedBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<ReceivedBytes, E> {
        Ok(ReceivedBytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<ReceivedBytes, E> {
        Ok(ReceivedBytes(bytes))
    }

    /// Of a format that has no bytes. The length that it announces is not believed.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut bytes: A) -> Result<ReceivedBytes, A::Error> {
        while let Some(byte) = bytes.next_element()? {
            self.0.push(byte);
        }
        Ok(self)
    }
}
