//! Rivals in libraries that may be absent: CUB's batched memcpy, and PyTorch's copies of rows.
//! `rivals.sh` builds them.

use core::ffi::{CStr, c_char, c_int, c_void};
use std::{ffi::CString, path::Path, ptr};

use super::{
    raw::Raw,
    rivals::Rivals,
    workload::{Rows, Workload},
};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// `RTLD_NOW`.
const NOW: c_int = 2;

/// An open library; it stays open.
struct Library(*mut c_void);

impl Library {
    /// Opens `name` in the folder of TIDELOCK_RIVALS, or returns why it cannot.
    fn open(name: &str) -> Result<Library, String> {
        let folder = std::env::var("TIDELOCK_RIVALS").map_err(|_| "TIDELOCK_RIVALS names no folder".to_owned())?;
        let path = CString::new(Path::new(&folder).join(name).into_os_string().into_encoded_bytes()).unwrap();
        // SAFETY: the path ends in a zero byte. What the library runs when it is opened is the
        // library's responsibility.
        let library = unsafe { dlopen(path.as_ptr(), NOW) };
        if library.is_null() {
            // SAFETY: a call has just failed, so that there is a message.
            return Err(unsafe { CStr::from_ptr(dlerror()) }.to_string_lossy().into_owned());
        }
        Ok(Library(library))
    }

    /// # Safety
    /// `F` is the type of the function `name`.
    unsafe fn function<F: Copy>(&self, name: &CStr) -> F {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the library is open and the name ends in a zero byte.
        let function = unsafe { dlsym(self.0, name.as_ptr()) };
        assert!(!function.is_null(), "no {name:?}");
        // SAFETY: the caller promises that it is such a function.
        unsafe { core::mem::transmute_copy(&function) }
    }

    fn version(&self, name: &CStr) -> String {
        // SAFETY: these functions are declared so.
        let version: unsafe extern "C" fn() -> *const c_char = unsafe { self.function(name) };
        // SAFETY: it returns a constant text.
        unsafe { CStr::from_ptr(version()) }.to_string_lossy().into_owned()
    }
}

type Batched = unsafe extern "C" fn(*mut c_void, usize, u64, u64, u64, i64, *mut c_void) -> c_int;

/// `cub::DeviceMemcpy::Batched`, with its three arrays uploaded before.
pub struct Cub {
    pub version: String,
    batched: Batched,
    room: (u64, usize),
}

impl Cub {
    pub fn open(raw: &Raw) -> Result<Cub, String> {
        let library = Library::open("librivals_cub.so")?;
        // SAFETY: these functions are declared so in rivals_cub.cu.
        let (room, batched): (unsafe extern "C" fn(i64) -> usize, Batched) =
            unsafe { (library.function(c"cub_room"), library.function(c"cub_batched")) };
        // SAFETY: the library is open.
        let bytes = unsafe { room(65536) };
        if bytes == 0 {
            return Err("CUB refuses the device".to_owned());
        }
        Ok(Cub { version: library.version(c"cub_version"), batched, room: (raw.alloc(bytes), bytes) })
    }

    pub fn run(&self, raw: &Raw, rivals: &mut Rivals, w: &Workload, k: usize) {
        let (pinned, device) = rivals.next_slot();
        let n = w.count() as u64;
        let (src, dst, len) = (pinned as *mut u64, (pinned + 8 * n) as *mut u64, (pinned + 16 * n) as *mut u32);
        let mut i = 0;
        w.each(k, |d, s, l| {
            // SAFETY: a slot has room for 65536 entries of 20 bytes, and no launch reads it any
            // more.
            unsafe {
                src.add(i).write(s);
                dst.add(i).write(d);
                len.add(i).write(l as u32);
            }
            i += 1;
        });
        raw.copy(device, pinned, 20 * n as usize);
        let (room, bytes) = self.room;
        // SAFETY: the arrays are as the function takes them, and the benchmark's own memory.
        let code = unsafe {
            (self.batched)(
                room as *mut c_void,
                bytes,
                device,
                device + 8 * n,
                device + 16 * n,
                n as i64,
                raw.stream.cast(),
            )
        };
        assert_eq!(code, 0, "CUB");
    }
}

type MakeSet = unsafe extern "C" fn(u64, i64, u64, i64, i64, *const u32, c_int) -> *mut c_void;

/// PyTorch's C++ library.
pub struct Torch {
    pub version: String,
    make: MakeSet,
    drop: unsafe extern "C" fn(*mut c_void),
    select: unsafe extern "C" fn(*mut c_void, c_int) -> c_int,
    copy: unsafe extern "C" fn(*mut c_void, c_int) -> c_int,
    foreach: unsafe extern "C" fn(*mut c_void) -> c_int,
}

/// The tensors of a workload, set by set.
pub struct Sets<'t> {
    torch: &'t Torch,
    sets: Vec<*mut c_void>,
}

impl Torch {
    pub fn open(raw: &Raw) -> Result<Torch, String> {
        let library = Library::open("librivals_torch.so")?;
        // SAFETY: these functions are declared so in rivals_torch.cpp.
        let (open, torch): (unsafe extern "C" fn(*mut c_void) -> c_int, Torch) = unsafe {
            let torch = Torch {
                version: library.version(c"torch_version"),
                make: library.function(c"torch_set"),
                drop: library.function(c"torch_drop"),
                select: library.function(c"torch_index_select"),
                copy: library.function(c"torch_index_copy"),
                foreach: library.function(c"torch_foreach_copy"),
            };
            (library.function(c"torch_open"), torch)
        };
        // SAFETY: the stream is alive.
        if unsafe { open(raw.stream.cast()) } != 0 {
            return Err("PyTorch refuses the device".to_owned());
        }
        Ok(torch)
    }

    /// `reverse`: the dense rows are the source, at `src`, and the others the destination, at
    /// `dst`.
    pub fn sets(&self, rows: &Rows, reverse: bool, most: usize, each: bool) -> Sets<'_> {
        let sets = rows.numbers.iter().take(most).enumerate().map(|(k, numbers)| {
            let (many, few) = if reverse {
                (rows.dst + (k * rows.pitch) as u64, rows.src + (k * rows.pitch) as u64)
            } else {
                rows.bases(k)
            };
            let all = (rows.old + rows.joining) as i64;
            let (count, bytes) = (rows.count as i64, rows.bytes as i64);
            // SAFETY: the benchmark's own memory; as many numbers as rows.
            let set = unsafe { (self.make)(many, all, few, count, bytes, numbers.as_ptr(), c_int::from(each)) };
            assert!(!set.is_null(), "PyTorch makes no tensors");
            set
        });
        Sets { torch: self, sets: sets.collect() }
    }
}

impl Sets<'_> {
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    pub fn index_select(&self, k: usize, upload: bool) {
        // SAFETY: the set is alive.
        assert_eq!(unsafe { (self.torch.select)(self.sets[k], c_int::from(upload)) }, 0);
    }

    pub fn index_copy(&self, k: usize, upload: bool) {
        // SAFETY: the set is alive.
        assert_eq!(unsafe { (self.torch.copy)(self.sets[k], c_int::from(upload)) }, 0);
    }

    pub fn foreach_copy(&self, k: usize) {
        // SAFETY: the set is alive.
        assert_eq!(unsafe { (self.torch.foreach)(self.sets[k]) }, 0);
    }
}

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        for set in &mut self.sets {
            // SAFETY: it was made by `torch_set`, and is not used after this.
            unsafe { (self.torch.drop)(core::mem::replace(set, ptr::null_mut())) };
        }
    }
}
