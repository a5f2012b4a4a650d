//! The stand-in driver from a test's side: opening it, configuring it, and reading what happened.
//!
//! [`load`] opens the shared library by its path. From then on, opening `libcuda.so` in this
//! process returns the stand-in. Nothing else does that, so a test binary that does not call `load`
//! uses the real driver, or none.
//!
//! There is one stand-in in a process. [`load`] returns a guard, and the next test waits until it
//! is dropped.

use std::{
    collections::BTreeMap,
    env,
    ffi::{CString, c_char, c_int, c_void},
    mem,
    path::{Path, PathBuf},
    ptr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// `RTLD_NOW`.
const NOW: c_int = 2;

/// The file that cargo builds of the package `tidelock-stand-in`.
const FILE: &str = "libtidelock_stand_in.so";

/// The opened library. It is never closed.
#[derive(Clone, Copy, Debug)]
pub struct Library(*mut c_void);

// SAFETY: the handle of a library belongs to the process.
unsafe impl Send for Library {}
// SAFETY: as for `Send`.
unsafe impl Sync for Library {}

/// The stand-in after a reset, for one test at a time.
#[derive(Debug)]
pub struct Control {
    library: Library,
    _turn: MutexGuard<'static, ()>,
}

/// What the stand-in holds, and what went wrong on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many objects of each kind exist.
    pub live: BTreeMap<String, usize>,
    /// The codes that devices are broken with.
    pub sticky: Vec<(usize, u32)>,
    /// Messages about races, uses after a free or a destruction, and double frees.
    pub findings: Vec<String>,
}

/// Which calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The calls of this name, or all of them.
    pub name: &'a str,
    /// The first that fails, from 1.
    pub nth: u64,
    /// Whether all later ones fail too.
    pub onwards: bool,
    /// Whether failing calls that release something do so before they fail.
    pub releases: bool,
    pub code: u32,
}

/// The argument of a kernel; the layout is the stand-in's.
#[derive(Debug)]
#[repr(C)]
pub struct Launch {
    params: *const *const c_void,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
    resolve: unsafe extern "C" fn(*const c_void, *mut u8, usize) -> *mut u8,
    scope: *const c_void,
}

/// A function that runs in place of a kernel.
pub type Kernel = unsafe extern "C" fn(*const Launch) -> u32;

impl Launch {
    /// A parameter by value.
    ///
    /// # Safety
    /// - The kernel is registered with a parameter of this size at `index`, and every pattern of
    ///   bits is a `T`.
    pub unsafe fn value<T: Copy>(&self, index: usize) -> T {
        // SAFETY: the caller promises it.
        let param = unsafe { *self.params.add(index) };
        // SAFETY: as above; the stand-in aligns parameters to 16 bytes.
        unsafe { param.cast::<T>().read() }
    }

    /// The `len` elements that the pointer at `index` points to, or `None` if a kernel may not use
    /// that memory.
    ///
    /// # Safety
    /// - The parameter is a pointer to elements of this type, and the kernel may write them.
    #[allow(clippy::mut_from_ref, reason = "device memory is not the launch's")]
    pub unsafe fn slice<T: Copy>(&self, index: usize, len: usize) -> Option<&mut [T]> {
        // SAFETY: the caller promises it.
        let address: *mut u8 = unsafe { self.value(index) };
        // SAFETY: as above.
        unsafe { self.at(address, len) }
    }

    /// The `len` elements at device address `address`, or `None` if a kernel may not use that
    /// memory.
    ///
    /// # Safety
    /// - There are elements of this type, and the kernel may write them.
    #[allow(clippy::mut_from_ref, reason = "device memory is not the launch's")]
    pub unsafe fn at<T: Copy>(&self, address: *mut u8, len: usize) -> Option<&mut [T]> {
        // SAFETY: the scope is the one that came with the function.
        let found = unsafe { (self.resolve)(self.scope, address, len * size_of::<T>()) };
        // SAFETY: the stand-in returns null or the memory, which the caller may write.
        (!found.is_null()).then(|| unsafe { std::slice::from_raw_parts_mut(found.cast(), len) })
    }
}

/// The path of the shared library: beside this test, where cargo builds the dependencies of tests.
pub fn path() -> PathBuf {
    let test = env::current_exe().unwrap();
    let folder = test.parent().unwrap();
    // An example's binary is beside `deps`, not in it.
    let places = [folder.join(FILE), folder.join("../deps").join(FILE)];
    places.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("there is no {FILE} in {folder:?}"))
}

/// Opens the stand-in if it is not open, waits for the caller's turn, and resets everything.
pub fn load() -> Control {
    load_from(&path())
}

/// As [`load`], from another file. The first file that is opened stays open.
pub fn load_from(path: &Path) -> Control {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let library = *LIBRARY.get_or_init(|| Library::open(path));
    let control = Control { library, _turn: turn };
    control.defaults();
    control
}

impl Library {
    /// Opens a shared library, which is never closed.
    pub fn open(path: &Path) -> Library {
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the path is a string; the library is the stand-in, whose loading runs nothing.
        let library = unsafe { dlopen(name.as_ptr(), NOW) };
        assert!(!library.is_null(), "{path:?}: {:?}", last_error());
        Library(library)
    }

    /// The library that goes by `name`, if it can be opened.
    pub fn find(name: &str) -> Option<Library> {
        let name = CString::new(name).unwrap();
        // SAFETY: as above, or the system's driver, which is made to be opened.
        let library = unsafe { dlopen(name.as_ptr(), NOW) };
        (!library.is_null()).then_some(Library(library))
    }

    /// The address of a function, if there is one of that name.
    pub fn symbol(self, name: &str) -> Option<*mut c_void> {
        let name = CString::new(name).unwrap();
        // SAFETY: the library is open, the name is a string.
        let address = unsafe { dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }

    /// A function.
    ///
    /// # Safety
    /// - `F` is the type of a pointer to the function of that name.
    pub unsafe fn function<F: Copy>(self, name: &str) -> F {
        assert_eq!(size_of::<F>(), size_of::<*mut c_void>());
        let address = self.symbol(name).unwrap_or_else(|| panic!("there is no {name}"));
        // SAFETY: a function pointer is an address, and its type is promised by the caller.
        unsafe { mem::transmute_copy(&address) }
    }
}

fn last_error() -> String {
    // SAFETY: the answer is null or a string that is valid until the next call.
    let error = unsafe { dlerror() };
    if error.is_null() {
        return String::new();
    }
    // SAFETY: it is not null, as checked above.
    unsafe { std::ffi::CStr::from_ptr(error) }.to_string_lossy().into_owned()
}

impl Control {
    pub fn library(&self) -> Library {
        self.library
    }

    /// Restores the initial state: settings, devices, log, findings.
    pub fn defaults(&self) {
        // SAFETY: this is its type.
        let defaults = unsafe { self.library.function::<unsafe extern "C" fn()>("tl_defaults") };
        // SAFETY: it has no preconditions.
        unsafe { defaults() };
        self.reset();
    }

    /// Makes new devices by the settings. The log and the findings are empty, and no call fails.
    pub fn reset(&self) {
        // SAFETY: this is its type.
        let reset = unsafe { self.library.function::<unsafe extern "C" fn()>("tl_reset") };
        // SAFETY: it has no preconditions.
        unsafe { reset() };
    }

    /// Sets a setting by its name; see the stand-in's `settings.rs`.
    pub fn set(&self, name: &str, value: u64) {
        type Set = unsafe extern "C" fn(*const c_char, u64) -> u32;
        // SAFETY: this is its type.
        let set = unsafe { self.library.function::<Set>("tl_set") };
        let text = CString::new(name).unwrap();
        // SAFETY: the name is a string.
        assert_eq!(unsafe { set(text.as_ptr(), value) }, 0, "there is no setting {name}");
    }

    /// Makes calls fail, counted from now.
    pub fn fail(&self, fault: Fault<'_>) {
        self.arm("tl_fail", fault);
    }

    /// Makes calls fail as `first` says, and after the first that fails as `second` says, counted
    /// from there.
    pub fn fail_in_turn(&self, first: Fault<'_>, second: Fault<'_>) {
        self.arm("tl_fail", first);
        self.arm("tl_fail_then", second);
    }

    fn arm(&self, function: &str, fault: Fault<'_>) {
        type Fail = unsafe extern "C" fn(*const c_char, u64, u32, u32) -> u32;
        let Fault { name, nth, onwards, releases, code } = fault;
        // SAFETY: this is the type of both.
        let fail = unsafe { self.library.function::<Fail>(function) };
        let (text, how) = (CString::new(name).unwrap(), u32::from(onwards) + 2 * u32::from(releases));
        // SAFETY: the name is a string.
        assert_eq!(unsafe { fail(text.as_ptr(), nth, how, code) }, 0, "there is no function {name}");
    }

    /// Disarms all failures, and returns the calls that were counted since `fail`.
    pub fn disarm(&self) -> u64 {
        // SAFETY: this is its type.
        let disarm = unsafe { self.library.function::<unsafe extern "C" fn() -> u64>("tl_disarm") };
        // SAFETY: it has no preconditions.
        unsafe { disarm() }
    }

    /// The calls since the log was last taken, in order.
    pub fn take_log(&self) -> Vec<String> {
        self.take_list("tl_log")
    }

    /// The names of the copy kernels that were enqueued since they were last taken, in order.
    pub fn take_kernels(&self) -> Vec<String> {
        self.take_list("tl_kernels")
    }

    fn take_list(&self, name: &str) -> Vec<String> {
        type Log = unsafe extern "C" fn(*mut c_char, usize, u32) -> usize;
        // SAFETY: this is the type of both.
        let log = unsafe { self.library.function::<Log>(name) };
        // SAFETY: the buffer has this much room.
        let text = text(|buffer, room| unsafe { log(buffer, room, u32::from(room > 0)) });
        // SAFETY: nothing is written without room; this empties what remained of the log.
        unsafe { log(ptr::dangling_mut(), if text.is_empty() { 0 } else { usize::MAX >> 1 }, 0) };
        text.lines().map(str::to_owned).collect()
    }

    /// The calls that `f` makes.
    pub fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (Vec<String>, R) {
        self.take_log();
        let answer = f();
        (self.take_log(), answer)
    }

    /// What exists once everything that was enqueued is done.
    pub fn report(&self) -> Report {
        type Write = unsafe extern "C" fn(*mut c_char, usize) -> usize;
        // SAFETY: this is its type.
        let settle = unsafe { self.library.function::<unsafe extern "C" fn()>("tl_settle") };
        // SAFETY: it has no preconditions.
        unsafe { settle() };
        // SAFETY: this is its type.
        let report = unsafe { self.library.function::<Write>("tl_report") };
        // SAFETY: the buffer has this much room.
        Report::parse(&text(|buffer, room| unsafe { report(buffer, room) }))
    }

    /// Makes `entry` the kernel called `name`, with parameters of `sizes` bytes.
    ///
    /// # Safety
    /// - The function accesses only the memory that the launch's parameters name, and does not
    ///   unwind.
    pub unsafe fn register(&self, name: &str, sizes: &[usize], entry: Kernel) {
        type Register = unsafe extern "C" fn(*const c_char, Kernel, *const usize, usize) -> u32;
        // SAFETY: this is its type.
        let register = unsafe { self.library.function::<Register>("tl_register_kernel") };
        let text = CString::new(name).unwrap();
        // SAFETY: name and sizes are valid; for the function, the caller promises it.
        assert_eq!(unsafe { register(text.as_ptr(), entry, sizes.as_ptr(), sizes.len()) }, 0);
    }
}

/// The text that `write` writes into a buffer that is large enough.
fn text(write: impl Fn(*mut c_char, usize) -> usize) -> String {
    let mut buffer = Vec::<u8>::new();
    loop {
        let bytes = write(buffer.as_mut_ptr().cast(), buffer.len());
        if bytes <= buffer.len() {
            buffer.truncate(bytes);
            return String::from_utf8(buffer).unwrap();
        }
        buffer.resize(bytes + 4096, 0);
    }
}

impl Report {
    fn parse(text: &str) -> Report {
        let mut report = Report::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(' ').unwrap();
            let pair = || rest.split_once(' ').unwrap();
            match kind {
                "live" => drop(report.live.insert(pair().0.to_owned(), pair().1.parse().unwrap())),
                "sticky" => report.sticky.push((pair().0.parse().unwrap(), pair().1.parse().unwrap())),
                _ => report.findings.push(rest.to_owned()),
            }
        }
        report
    }

    /// How many there are of a kind.
    pub fn live(&self, kind: &str) -> usize {
        self.live[kind]
    }

    /// How many objects exist that a library must release: streams, events, pools, device memory,
    /// graphs, registrations.
    pub fn left(&self) -> usize {
        ["stream", "event", "pool", "allocation", "graph", "executable", "registered"]
            .iter()
            .map(|kind| self.live(kind))
            .sum()
    }

    /// Panics if a fault was found, or an object exists that a library must release.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert_eq!(self.findings, [""; 0], "{self:#?}");
        assert_eq!(self.sticky, [], "{self:#?}");
        assert_eq!(self.left(), 0, "{self:#?}");
    }
}
