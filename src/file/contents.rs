//! Files that are read into memory.

#![forbid(unsafe_code)]

use core::fmt;
use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use super::{File, FileError};

/// A file that was read into memory, at an address that is aligned for every element.
pub struct Contents {
    words: Vec<u64>,
    len: usize,
}

/// The most bytes that are read at once: they are zeroed before, and are still in the cache.
const STEP: usize = 1 << 18;

impl Contents {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`FileError::Io`] if it cannot be read, or if there is no memory of its length: a sparse file
    /// may have any.
    #[inline]
    pub fn read(path: impl AsRef<Path>) -> Result<Contents, FileError> {
        let mut file = fs::File::open(path)?;
        let expected = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        let mut words = Vec::new();
        let count = expected.div_ceil(size_of::<u64>());
        words.try_reserve_exact(count).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut len = 0_usize;
        while len < expected {
            let end = expected.min(len.saturating_add(STEP));
            words.resize(end.div_ceil(size_of::<u64>()), 0_u64);
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            match file.read(bytes.get_mut(len..end).unwrap_or(&mut [])) {
                // The file has become shorter.
                Ok(0) => break,
                Ok(read) => len = len.saturating_add(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
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
