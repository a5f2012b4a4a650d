//! Files that are read into memory.

#![forbid(unsafe_code)]

use core::fmt;
use std::{fs, io::Read, path::Path};

use super::{File, FileError};

/// A file that was read into memory, at an address that is aligned for every element.
pub struct Contents {
    words: Vec<u64>,
    len: usize,
}

impl Contents {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`FileError::Io`] if it cannot be read.
    #[inline]
    pub fn read(path: impl AsRef<Path>) -> Result<Contents, FileError> {
        let mut file = fs::File::open(path)?;
        let expected = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let mut words = vec![0_u64; expected.div_ceil(size_of::<u64>())];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let mut len = 0_usize;
        while let Some(rest) = bytes.get_mut(len..expected).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                // The file has become shorter.
                0 => break,
                read => len = len.saturating_add(read),
            }
        }
        Ok(Contents { words, len })
    }

    /// The bytes of the file.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words).get(..self.len).unwrap_or(&[])
    }

    /// The tensors of the file. Cost: the header is parsed.
    ///
    /// # Errors
    /// As for [`File::new`].
    #[inline]
    pub fn file(&self) -> Result<File<'_>, FileError> {
        File::new(self.bytes())
    }
}

impl fmt::Debug for Contents {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").field("len", &self.len).finish_non_exhaustive()
    }
}
