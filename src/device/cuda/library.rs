//! Finds the driver's library: the files in the order in which they are tried, and why one of them
//! is not loaded.
//!
//! The loader finds the library by name. A library that the process has loaded already comes first,
//! so two users of the driver in one program share it. In the loader's path, a stub can hide a
//! driver behind it, and mapping a truncated file kills the process. So the folders are also
//! searched one by one, and the files checked before they are loaded.

use core::error::Error;
use std::{
    env,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use libloading::Library;

use super::error::OpenError;

/// The names of the driver's library. The first is the driver's own; the second may be the
/// toolkit's stub.
pub(super) const NAMES: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };

/// The loader's default folders, and the folder of the Windows driver in its Linux subsystem.
const FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
    "/usr/lib/wsl/lib",
];

/// The result of `take` for the first library that it accepts.
///
/// # Errors
/// What is wrong with the first file that exists; [`OpenError::NoDriver`] if there was none.
pub(super) fn search<T>(take: impl Fn(Library) -> Result<T, OpenError>) -> Result<T, OpenError> {
    let mut reason = OpenError::NoDriver;
    let mut attempt = |library: Result<Library, OpenError>| match library.and_then(&take) {
        Ok(found) => Some(found),
        Err(error) => {
            if reason == OpenError::NoDriver {
                reason = error;
            }
            None
        }
    };
    let found = NAMES.iter().find_map(|name| loaded(name).and_then(|library| attempt(Ok(library))));
    let found = found.or_else(|| NAMES.iter().find_map(|name| attempt(by_name(name))));
    let found = found.or_else(|| NAMES.iter().flat_map(|name| files(name)).find_map(|file| attempt(by_path(&file))));
    found.ok_or(reason)
}

/// The library of that name that the process has loaded, if it has.
fn loaded(name: &str) -> Option<Library> {
    #[cfg(target_os = "linux")]
    {
        use libloading::os::unix;
        /// `RTLD_NOLOAD`: "Don't load the shared object" (dlopen(3)).
        const NOLOAD: core::ffi::c_int = 4;
        // SAFETY:
        // - The library is loaded already: nothing of it runs.
        unsafe { unix::Library::open(Some(name), unix::RTLD_LAZY | NOLOAD) }.ok().map(Library::from)
    }
    #[cfg(not(target_os = "linux"))]
    {
        // The loader returns the one that is loaded, if there is one.
        let _ = name;
        None
    }
}

/// The library that the loader finds by its name.
fn by_name(name: &str) -> Result<Library, OpenError> {
    // The loader takes the first file that fits this machine, so a truncated one must be found
    // first.
    match files(name).find_map(|file| flaw(&file).filter(|flaw| flaw.is_fatal).map(|flaw| (file, flaw))) {
        Some((file, flaw)) => Err(unloadable(format!("{}: {}", file.display(), flaw.words))),
        None => open(Path::new(name)),
    }
}

/// The library in `file`.
fn by_path(file: &Path) -> Result<Library, OpenError> {
    match flaw(file) {
        Some(flaw) => Err(unloadable(format!("{}: {}", file.display(), flaw.words))),
        None => open(file),
    }
}

fn open(library: &Path) -> Result<Library, OpenError> {
    // SAFETY:
    // - What a library does when it is loaded and closed is up to it; the CUDA driver's is made for
    //   that, and others of its name stand in for it. One that is initialised is never closed.
    unsafe { Library::new(library) }.map_err(|error| {
        let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        // In glibc's message the missing file comes first; musl's names the library that needs it.
        let name = library.to_string_lossy();
        let is_missing = words.contains("No such file") && words.contains(&*name) && !words.contains("needed by");
        if is_missing { OpenError::NoDriver } else { unloadable(words) }
    })
}

fn unloadable(reason: String) -> OpenError {
    OpenError::Unloadable { reason: Arc::from(reason) }
}

/// The files of that name in the folders of the environment and in those where a driver usually is.
fn files(name: &str) -> impl Iterator<Item = PathBuf> {
    let named = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let named: Vec<_> = env::split_paths(&named).filter(|folder| !folder.as_os_str().is_empty()).collect();
    let usual = FOLDERS.iter().map(PathBuf::from).filter(|_| cfg!(target_os = "linux"));
    named.into_iter().chain(usual).map(move |folder| folder.join(name)).filter(|file| file.is_file())
}

/// What is wrong with a file, if the loader gives no reason.
struct Flaw {
    words: String,
    /// Whether the loader maps it anyway, and reads beyond its end.
    is_fatal: bool,
}

/// Checks an ELF file of this machine's word size. The loader reports what is wrong with other
/// files.
fn flaw(file: &Path) -> Option<Flaw> {
    let mut opened = File::open(file).ok()?;
    let size = opened.metadata().ok()?.len();
    let header = Header::read(&mut opened)?;
    // The loader skips such a file silently.
    if let Some(machine) = own_machine().filter(|own| *own != header.machine) {
        let words = format!("it is for another machine (ELF machine {}, this is {machine})", header.machine);
        return Some(Flaw { words, is_fatal: false });
    }
    let needed = header.mapped_bytes(&mut opened)?;
    let words = format!("file too short: it has {size} bytes, and its header says {needed}");
    (needed > size).then_some(Flaw { words, is_fatal: true })
}

fn own_machine() -> Option<u64> {
    Some(Header::read(&mut File::open("/proc/self/exe").ok()?)?.machine)
}

/// The used fields of the header of a 64-bit little-endian ELF file.
struct Header {
    machine: u64,
    segments_at: u64,
    segment_bytes: u64,
    segments: u64,
}

impl Header {
    fn read(file: &mut File) -> Option<Header> {
        let mut bytes = [0; 64];
        file.read_exact(&mut bytes).ok()?;
        bytes.starts_with(&[0x7f, b'E', b'L', b'F', 2, 1]).then_some(())?;
        let number = |at, len| number(&bytes, at, len);
        let (machine, segments_at) = (number(18, 2)?, number(32, 8)?);
        Some(Header { machine, segments_at, segment_bytes: number(54, 2)?, segments: number(56, 2)? })
    }

    /// The least bytes of a file with all its loadable segments; more than it has if their table is
    /// cut off.
    fn mapped_bytes(&self, file: &mut File) -> Option<u64> {
        let table = self.segment_bytes.checked_mul(self.segments)?;
        let mut most = self.segments_at.checked_add(table)?;
        for segment in 0..self.segments {
            let at = self.segments_at.checked_add(self.segment_bytes.checked_mul(segment)?)?;
            let mut bytes = [0; 56];
            file.seek(SeekFrom::Start(at)).ok()?;
            if file.read_exact(&mut bytes).is_err() {
                break;
            }
            // `PT_LOAD`: its offset in the file, and its length there.
            if number(&bytes, 0, 4)? == 1 {
                most = most.max(number(&bytes, 8, 8)?.saturating_add(number(&bytes, 32, 8)?));
            }
        }
        Some(most)
    }
}

/// The little-endian number of `len` bytes at `at`.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}
