//! Why a file of tensors was refused.

#![forbid(unsafe_code)]

use std::io;

use safetensors::SafeTensorError;

use crate::{
    any::{MapError, Names},
    error::{Error, Rejected},
};

/// Why a file of tensors was refused, with the name of the tensor where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The header is malformed outside of the entries of its tensors.
    #[error("the header of the file: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
    /// The header has a tensor that cannot be.
    #[error("the tensor `{name}`, {offset} bytes into the file, {reason}")]
    Entry {
        /// The name.
        name: String,
        /// Where its bytes begin in the file, as the header says.
        offset: usize,
        /// Why.
        reason: &'static str,
    },
    /// An entry of the header is malformed.
    #[error("the entry `{name}` of the header, up to {offset} bytes into the file: {reason}")]
    Malformed {
        /// The name of the tensor, or `__metadata__`.
        name: String,
        /// How far the header could be read, from the begin of the file.
        offset: usize,
        /// Why.
        reason: String,
    },
    /// A tensor cannot be written.
    #[error("the tensor `{name}` cannot be written: {error}")]
    Unwritten {
        /// The name.
        name: String,
        /// Why.
        error: Error,
    },
    /// There is no tensor of this name.
    #[error("there is no tensor `{name}` in the file; there are: {}", Names(.there))]
    Missing {
        /// The name.
        name: String,
        /// The names that there are.
        there: Vec<String>,
    },
    /// The library has no element of this name.
    #[error("the elements of the tensor `{name}` are {found}, which is no `DType`: read its bytes")]
    DType {
        /// The name of the tensor.
        name: String,
        /// The name of the element in the file.
        found: String,
    },
    /// The tensor is not what was asked for, or its bytes are not those of its elements.
    #[error("the tensor `{name}`, {offset} bytes into the file: {error}")]
    Tensor {
        /// The name.
        name: String,
        /// Where its bytes begin in the file.
        offset: usize,
        /// Why.
        error: Error,
    },
    /// The load was ended by its progress function.
    #[error("the load was stopped in the tensor `{name}`, behind {done} of {total} bytes")]
    Stopped {
        /// The name of the tensor that was being loaded.
        name: String,
        /// Bytes that were handed to the stream.
        done: usize,
        /// Bytes of all tensors that were to be loaded.
        total: usize,
    },
    /// The memory that tensors are loaded from could not be had.
    #[error("the memory to load from: {error}")]
    Load {
        /// Why.
        error: Error,
    },
    /// The file could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What else the function did that has this error type, with a map of tensors.
    #[error("{0}")]
    Map(#[from] MapError),
    /// What else the function did that has this error type.
    #[error("{0}")]
    Failed(#[from] Error),
}

/// Drops what was refused.
impl<V> From<Rejected<V>> for FileError {
    #[inline]
    fn from(rejected: Rejected<V>) -> Self {
        FileError::Failed(rejected.error)
    }
}

/// Drops what was refused.
impl<V> From<Rejected<V, MapError>> for FileError {
    #[inline]
    fn from(rejected: Rejected<V, MapError>) -> Self {
        FileError::Map(rejected.error)
    }
}

impl FileError {
    pub(super) fn header(error: SafeTensorError) -> Self {
        match error {
            SafeTensorError::IoError(error) => FileError::Io(error),
            error => FileError::Header { reason: error.to_string() },
        }
    }
}
