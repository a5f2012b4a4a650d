//! Files that are mapped into memory.

use std::{fs, path::Path};

use memmap2::Mmap;

use super::{File, FileError};

/// A file that is mapped into memory: its pages are read when they are used.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
}

impl Mapped {
    /// Maps the file at `path`, to read.
    ///
    /// # Errors
    /// [`FileError::Io`] if it cannot be opened or mapped.
    ///
    /// # Safety
    /// - Nothing changes or truncates the file as long as it is mapped, also no other process. A
    ///   change is a write to borrowed memory, and behind the new end of a truncated file an access
    ///   ends the process (`SIGBUS`). A file that is replaced by a rename stays as it is.
    #[inline]
    pub unsafe fn open(path: impl AsRef<Path>) -> Result<Mapped, FileError> {
        let file = fs::File::open(path)?;
        // SAFETY:
        // - The caller promises that the file does not change.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(Mapped { map })
    }

    /// The bytes of the file.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// The tensors of the file. Cost: the header is parsed.
    ///
    /// # Errors
    /// As for [`File::new`].
    #[inline]
    pub fn file(&self) -> Result<File<'_>, FileError> {
        File::new(&self.map)
    }
}
