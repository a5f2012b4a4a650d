//! Why a file of tensors was refused.

#![forbid(unsafe_code)]

use core::fmt;
use std::io;

use safetensors::SafeTensorError;

use crate::error::Error;

/// Why a file of tensors was refused, with the name of the tensor where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The header is malformed, or its tensors do not fill the file.
    #[error("the header of the file: {reason}")]
    Header {
        /// Why.
        reason: String,
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
    /// The file could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FileError {
    pub(super) fn header(error: SafeTensorError) -> Self {
        match error {
            SafeTensorError::IoError(error) => FileError::Io(error),
            error => FileError::Header { reason: error.to_string() },
        }
    }
}

/// Names, in a sentence.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            write!(f, "{}`{name}`", if at == 0 { "" } else { ", " })?;
        }
        if self.0.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}
