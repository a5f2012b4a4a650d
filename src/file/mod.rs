//! Files of tensors, in the format of [safetensors](https://docs.rs/safetensors). Feature
//! `safetensors`.
//!
//! A [`File`] is bytes: the [`Contents`] of a file, or those of a [`Mapped`] one. Its tensors are
//! borrowed from them, nothing is copied. [`File::load`] loads them to a device, at the speed of
//! copies from pinned memory. [`save()`] and [`save_map`] write tensors of the host.
//!
//! ```
//! use tidelock::{Buffer, file::{Contents, save}, location::Host};
//!
//! let path = std::env::temp_dir().join("tidelock-file-example.safetensors");
//! let weight = Buffer::<f32, Host>::from_slice(&[1.0, 2.0, 3.0, 4.0])?.tensor([2, 2])?;
//! save(&path, [("weight", weight.view().any())]).unwrap();
//! let contents = Contents::read(&path).unwrap();
//! let file = contents.file().unwrap();
//! assert_eq!(file.get::<f32, 2>("weight").unwrap().get([1, 0])?, &3.0);
//! # std::fs::remove_file(path).unwrap();
//! # Ok::<(), tidelock::Error>(())
//! ```

mod contents;
mod error;
mod header;
mod load;
mod mapped;
mod save;

use core::fmt;

use safetensors::{Dtype, SafeTensors, tensor::TensorView as Stored};

pub use self::{
    contents::Contents,
    error::FileError,
    load::{Load, Progress},
    mapped::Mapped,
    save::{save, save_map},
};
use crate::{
    any::AnyView,
    buffer::View,
    element::{DType, Scalar},
    error::Error,
    location::Host,
    tensor::TensorView,
};

/// Numbers in files are little-endian, and are not converted.
const _: () = assert!(cfg!(target_endian = "little"), "files of tensors need a little-endian host");

/// The bytes of a file, whose header was checked: every tensor lies inside, and none overlaps
/// another.
pub struct File<'d> {
    bytes: &'d [u8],
    tensors: SafeTensors<'d>,
}

impl<'d> File<'d> {
    /// The file with these bytes. Cost: the header is parsed.
    ///
    /// # Errors
    /// [`FileError::Entry`] with the name if a tensor is there twice, does not lie in the file, has
    /// elements that the format does not name or other bytes than its shape, overlaps another, or
    /// leaves bytes of the file out; [`FileError::Malformed`] with the name if its entry is
    /// malformed; [`FileError::Header`] if the rest of the header is truncated or malformed.
    #[inline]
    pub fn new(bytes: &'d [u8]) -> Result<Self, FileError> {
        header::check(bytes)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(FileError::header)?;
        Ok(File { bytes, tensors })
    }

    /// The names of the tensors, in the order of the alphabet.
    #[inline]
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = self.tensors.names();
        names.sort_unstable();
        names
    }

    /// The tensor of this name.
    ///
    /// The shape counts elements: values of less than a byte are counted in groups that fill bytes,
    /// and a group is in the last axis.
    ///
    /// # Errors
    /// [`FileError::Missing`], with the names that there are; [`FileError::DType`] if the library
    /// has no such element; [`FileError::Tensor`] if the bytes are not aligned for it, if a `bool`
    /// is neither 0 nor 1, or if there are more than 8 axes.
    #[inline]
    pub fn any(&self, name: &str) -> Result<AnyView<'d, Host>, FileError> {
        Ok(self.found(name)?.view)
    }

    /// The tensor of this name, and where it is.
    fn found(&self, name: &str) -> Result<Found<'d>, FileError> {
        let stored = self.stored(name)?;
        let dtype = dtype(stored.dtype())
            .ok_or_else(|| FileError::DType { name: name.to_owned(), found: stored.dtype().to_string() })?;
        let view = elements(dtype, stored.shape())
            .and_then(|shape| AnyView::from_bytes(dtype, &shape, View::from(stored.data())));
        let view = view.map_err(|error| self.refused(name, &stored, error))?;
        Ok(Found { name: name.to_owned(), view, at: self.offset(&stored), len: stored.data().len() })
    }

    /// The tensor of this name, with `R` axes of `T`.
    ///
    /// # Errors
    /// As for [`any`](File::any), or [`FileError::Tensor`] if its element or its rank is another.
    #[inline]
    pub fn get<T: Scalar, const R: usize>(&self, name: &str) -> Result<TensorView<'d, T, Host, R>, FileError> {
        let view = self.any(name)?;
        match view.downcast() {
            Ok(view) => Ok(view),
            Err(error) => Err(self.refused(name, &self.stored(name)?, error)),
        }
    }

    /// The bytes of the tensor of this name, whatever its element is.
    ///
    /// # Errors
    /// [`FileError::Missing`], with the names that there are.
    #[inline]
    pub fn bytes(&self, name: &str) -> Result<&'d [u8], FileError> {
        Ok(self.stored(name)?.data())
    }

    fn stored(&self, name: &str) -> Result<Stored<'d>, FileError> {
        self.tensors.tensor(name).map_err(|_| FileError::Missing {
            name: name.to_owned(),
            there: self.names().into_iter().map(str::to_owned).collect(),
        })
    }

    fn refused(&self, name: &str, stored: &Stored<'_>, error: Error) -> FileError {
        FileError::Tensor { name: name.to_owned(), offset: self.offset(stored), error }
    }

    /// Where the bytes of the tensor begin in the file.
    fn offset(&self, stored: &Stored<'_>) -> usize {
        stored.data().as_ptr().addr().wrapping_sub(self.bytes.as_ptr().addr())
    }
}

/// A tensor of a file, which was checked.
struct Found<'d> {
    name: String,
    view: AnyView<'d, Host>,
    /// Where its bytes begin in the file.
    at: usize,
    /// How many there are.
    len: usize,
}

impl Found<'_> {
    fn refused(&self, error: Error) -> FileError {
        FileError::Tensor { name: self.name.clone(), offset: self.at, error }
    }
}

impl fmt::Debug for File<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("names", &self.names()).finish_non_exhaustive()
    }
}

/// The library's name of an element of a file.
fn dtype(stored: Dtype) -> Option<DType> {
    // The names of safetensors are among those that a `DType` parses from.
    stored.to_string().parse().ok()
}

/// A shape that counts values, as one that counts elements.
fn elements(dtype: DType, values: &[usize]) -> Result<Vec<usize>, Error> {
    let mut shape = values.to_vec();
    let group = dtype.group();
    if group != 1 {
        let last = shape.last_mut().ok_or(Error::Rank { operand: "shape", expected: 1, found: 0 })?;
        if !last.is_multiple_of(group) {
            return Err(Error::Length { operand: "last axis", expected: last.next_multiple_of(group), found: *last });
        }
        *last = last.checked_div(group).unwrap_or(0);
    }
    Ok(shape)
}
