//! Tensors by name.

#![forbid(unsafe_code)]

use core::fmt;
use std::collections::BTreeMap;

use super::{AnyTensor, AnyView, MapPlace, ToValue, Value};
use crate::{
    element::Scalar,
    error::{Error, Rejected},
    stream::DeviceLocation,
    tensor::{Tensor, TensorView},
};

/// Tensors by name: what the modules of an engine hand to each other.
///
/// Each name is produced once, and consumed at most once. Tensors lie on the host or on stream `L`,
/// and are borrowed, owned or shared. Nothing is copied.
///
/// ```
/// use tidelock::{any::{MapError, TensorMap}, sim::{self, Sim}};
///
/// sim::Device::default().stream(|stream, _env| -> Result<(), MapError> {
///     let ctx = stream.ctx().with_pool();
///     let ids = [3_u32, 5];
///     let mut map = TensorMap::<Sim<'_>>::new();
///     map.produce("ids", tidelock::View::from(&ids[..]).tensor([2])?)?;
///     map.produce("logits", ctx.zeros::<f32>(8)?.tensor([2, 4])?)?;
///     assert_eq!(map.get::<u32, tidelock::location::Host, 1>("ids")?.get([1])?, &5);
///     let error = map.get::<f32, Sim<'_>, 2>("logit").unwrap_err();
///     assert_eq!(error.to_string(), "there is no tensor `logit`; there are: `ids`, `logits`");
///     assert_eq!(map.consume_tensor::<f32, Sim<'_>, 2>("logits")?.shape(), [2, 4]);
///     Ok(())
/// })??;
/// # Ok::<(), MapError>(())
/// ```
pub struct TensorMap<'p, L: DeviceLocation> {
    values: BTreeMap<String, Value<'p, L>>,
}

impl<'p, L: DeviceLocation> TensorMap<'p, L> {
    /// An empty map.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        TensorMap { values: BTreeMap::new() }
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// [`MapError::Exists`] if there is one of this name, with the tensor.
    #[inline]
    pub fn produce(
        &mut self,
        name: impl Into<String>,
        value: impl ToValue<'p, L>,
    ) -> Result<(), Rejected<Value<'p, L>, MapError>> {
        let (name, value) = (name.into(), value.to_value());
        if self.values.contains_key(&name) {
            return Err(Rejected { error: MapError::Exists { name }, value });
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// Whether there is a tensor of this name.
    #[inline]
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The tensor of this name in location `D`, to read.
    ///
    /// # Errors
    /// [`MapError::Missing`], with the names that there are; [`MapError::Place`] if it is
    /// elsewhere.
    #[inline]
    pub fn any<D: MapPlace<L>>(&self, name: &str) -> Result<AnyView<'_, D>, MapError> {
        let value = self.values.get(name).ok_or_else(|| self.missing(name))?;
        D::of(value).ok_or_else(|| elsewhere::<L, D>(name, value))
    }

    /// The tensor of this name in location `D`, with `R` axes of `T`, to read.
    ///
    /// # Errors
    /// As for [`any`](TensorMap::any), or [`MapError::Other`] if its element or its rank is
    /// another.
    #[inline]
    pub fn get<T: Scalar, D: MapPlace<L>, const R: usize>(
        &self,
        name: &str,
    ) -> Result<TensorView<'_, T, D, R>, MapError> {
        self.any::<D>(name)?.downcast().map_err(|error| other(name, error))
    }

    /// Takes the tensor of this name out of the map, as it was produced.
    ///
    /// # Errors
    /// [`MapError::Missing`], with the names that there are.
    #[inline]
    pub fn consume(&mut self, name: &str) -> Result<Value<'p, L>, MapError> {
        self.try_consume(name).ok_or_else(|| self.missing(name))
    }

    /// Takes the tensor of this name out of the map, if there is one.
    #[inline]
    #[must_use]
    pub fn try_consume(&mut self, name: &str) -> Option<Value<'p, L>> {
        self.values.remove(name)
    }

    /// Takes the owned tensor of this name out of the map, with `R` axes of `T` in location `D`. If
    /// it is refused, it stays.
    ///
    /// # Errors
    /// [`MapError::Missing`], [`MapError::Place`] if it is elsewhere, [`MapError::NotOwned`] if it
    /// is borrowed or shared, [`MapError::Other`] if its element or its rank is another.
    #[inline]
    pub fn consume_tensor<T: Scalar, D: MapPlace<L>, const R: usize>(
        &mut self,
        name: &str,
    ) -> Result<Tensor<T, D, R>, MapError> {
        // What is refused is refused before it is taken out.
        self.get::<T, D, R>(name)?;
        let refused = MapError::NotOwned { name: name.to_owned() };
        let Some((name, value)) = self.values.remove_entry(name) else { return Err(refused) };
        let tensor: AnyTensor<D> = match D::owned(value) {
            Ok(tensor) => tensor,
            Err(value) => {
                self.values.insert(name, value);
                return Err(refused);
            }
        };
        tensor.downcast().map_err(|rejected| other(&name, rejected.error))
    }

    /// The names and the tensors, in the order of the names.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value<'p, L>)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many tensors there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn missing(&self, name: &str) -> MapError {
        MapError::Missing { name: name.to_owned(), there: self.values.keys().cloned().collect() }
    }
}

/// Why a map of tensors refused a call. A function that also does something else converts its
/// [`Error`] to this one with `?`: an `Error` has no name of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// There is no tensor of this name.
    #[error("there is no tensor `{name}`; there are: {}", Names(.there))]
    Missing {
        /// The name.
        name: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// There is a tensor of this name already.
    #[error("there is a tensor `{name}` already: consume it first")]
    Exists {
        /// The name.
        name: String,
    },
    /// The tensor is in another location.
    #[error("the tensor `{name}` is in {found} memory, and not in {expected} memory")]
    Place {
        /// The name.
        name: String,
        /// The name of the location that was asked for.
        expected: &'static str,
        /// The name of the location that it is in.
        found: &'static str,
    },
    /// The tensor is borrowed or shared.
    #[error("the tensor `{name}` is not owned by the map: `consume` returns it as it was produced")]
    NotOwned {
        /// The name.
        name: String,
    },
    /// The tensor is not what was asked for.
    #[error("the tensor `{name}`: {error}")]
    Other {
        /// The name.
        name: String,
        /// Why.
        error: Error,
    },
    /// What else the function did that has this error type.
    #[error("{0}")]
    Failed(#[from] Error),
}

fn other(name: &str, error: Error) -> MapError {
    MapError::Other { name: name.to_owned(), error }
}

fn elsewhere<L: DeviceLocation, D: MapPlace<L>>(name: &str, value: &Value<'_, L>) -> MapError {
    MapError::Place { name: name.to_owned(), expected: D::NAME, found: value.place() }
}

/// Names, in a sentence.
pub(crate) struct Names<'a>(pub(crate) &'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if at == 0 { "" } else { ", " })?;
        }
        if self.0.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl<L: DeviceLocation> Default for TensorMap<'_, L> {
    #[inline]
    fn default() -> Self {
        TensorMap::new()
    }
}

impl<L: DeviceLocation> fmt::Debug for TensorMap<'_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.values).finish()
    }
}

/// Drops what was refused.
impl<V> From<Rejected<V>> for MapError {
    #[inline]
    fn from(rejected: Rejected<V>) -> Self {
        MapError::Failed(rejected.error)
    }
}

/// Drops what was refused.
impl<V> From<Rejected<V, MapError>> for MapError {
    #[inline]
    fn from(rejected: Rejected<V, MapError>) -> Self {
        rejected.error
    }
}
