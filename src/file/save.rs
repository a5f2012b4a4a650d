//! Tensors written to a file.

#![forbid(unsafe_code)]

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use safetensors::{Dtype, View as Writes, serialize_to_file};

use super::{FileError, header::METADATA};
use crate::{
    any::{AnyView, MapPlace, TensorMap},
    element::DType,
    error::Error,
    location::Host,
    stream::DeviceLocation,
};

/// Writes tensors of the host to a file at `path`, which is replaced by a rename: one that is
/// mapped stays as it is.
///
/// Cost: the bytes are written one tensor at a time, and are not copied before.
///
/// # Errors
/// [`FileError::Unwritten`] with the name if the elements of a tensor are not adjacent, if there
/// are two of one name or one is called `__metadata__`, or if the format has no such element;
/// [`FileError::Io`] if the file cannot be written.
#[inline]
pub fn save<'a, N: AsRef<str>>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (N, AnyView<'a, Host>)>,
) -> Result<(), FileError> {
    let mut all: BTreeMap<String, Written<'a>> = BTreeMap::new();
    for (name, view) in tensors {
        let name = name.as_ref();
        let refused = |error| FileError::Unwritten { name: name.to_owned(), error };
        if all.contains_key(name) {
            return Err(refused(Error::Tensor { reason: "is there twice" }));
        }
        if name == METADATA {
            return Err(refused(Error::Tensor { reason: "has the name that files have for what is no tensor" }));
        }
        let dtype =
            stored(view.dtype()).ok_or_else(|| refused(Error::Tensor { reason: "has no element of the format" }))?;
        let bytes = view.bytes().map_err(refused)?.as_slice();
        let shape = values(view).ok_or_else(|| refused(Error::Rank { operand: "tensor", expected: 1, found: 0 }))?;
        all.insert(name.to_owned(), Written { dtype, shape, bytes });
    }
    serialize_to_file(all, None, path.as_ref()).map_err(FileError::header)
}

/// Writes the tensors of a map, which are all on the host, as [`save`] does.
///
/// A tensor of the device is read back first, with [`Stream::read`](crate::Stream::read), and
/// produced under its name.
///
/// # Errors
/// As for [`save`], or [`FileError::Unwritten`] with the name if a tensor is not on the host.
/// Nothing is written then.
///
/// ```
/// use tidelock::{View, any::TensorMap, file::{Contents, save_map}, sim::Sim};
///
/// let mut map = TensorMap::<Sim<'_>>::new();
/// map.produce("ids", View::from(&[3_u32, 5][..]).tensor([2])?)?;
/// # let path = std::env::temp_dir().join("tidelock-save-map-example.safetensors");
/// save_map(&path, &map)?;
/// assert_eq!(Contents::read(&path)?.file()?.get::<u32, 1>("ids")?.get([1])?, &5);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), tidelock::file::FileError>(())
/// ```
#[inline]
pub fn save_map<L: DeviceLocation>(path: impl AsRef<Path>, map: &TensorMap<'_, L>) -> Result<(), FileError> {
    let mut views = Vec::with_capacity(map.len());
    for (name, value) in map.iter() {
        let error = Error::Tensor { reason: "is not on the host: read it back first" };
        let view = Host::of(value).ok_or_else(|| FileError::Unwritten { name: name.to_owned(), error })?;
        views.push((name, view));
    }
    save(path, views)
}

/// A tensor as the format takes it.
struct Written<'a> {
    dtype: Dtype,
    /// In values.
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl Writes for Written<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A shape that counts elements, as one that counts values. `None` if values of less than a byte
/// have no axis.
fn values(view: AnyView<'_, Host>) -> Option<Vec<usize>> {
    let mut shape = view.layout().shape().to_vec();
    let group = view.dtype().group();
    if group != 1 {
        let last = shape.last_mut()?;
        *last = last.checked_mul(group)?;
    }
    Some(shape)
}

/// The element of the format.
fn stored(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::F16 => Dtype::F16,
        DType::Bf16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
        DType::F8E4M3 => Dtype::F8_E4M3,
        DType::F8E5M2 => Dtype::F8_E5M2,
        DType::F8E8M0 => Dtype::F8_E8M0,
        DType::F4E2M1 => Dtype::F4,
        DType::F6E2M3 => Dtype::F6_E2M3,
        DType::F6E3M2 => Dtype::F6_E3M2,
        DType::U2 | DType::U4 | DType::U6 => return None,
    })
}
