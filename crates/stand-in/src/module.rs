//! Modules, and kernels that are functions of the host.

use core::{
    cell::Cell,
    ffi::{CStr, c_char, c_void},
    ptr,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tidelock_driver::code::Code;
use tidelock_simulator::{Memory, Task};

use crate::{
    abi::{Answer, Handle, In, Out, Text},
    context,
    driver::{Driver, driver, lock, note},
    fault_injection,
    image::Image,
    kernel_model::{self, Known},
    pointer::is_registered,
    settings::settings,
};

/// The kernels there are, by name. Not part of the driver's state: they are the program's.
static KERNELS: Mutex<BTreeMap<String, Kernel>> = Mutex::new(BTreeMap::new());

/// The threads of a block that a device runs at most, and the dynamic shared memory of one.
const MOST_THREADS: u32 = 1024;
const MOST_SHARED: u32 = 232_448;

const JIT_ERROR_LOG: u32 = 5;
const JIT_ERROR_LOG_BYTES: u32 = 6;
/// What a container of compressed images begins with, its version included; and ELF files of 64 bits
/// and the lower byte first.
const CONTAINER: [u8; 6] = [0x50, 0xed, 0x55, 0xba, 1, 0];
const MACHINE_CODE: [u8; 6] = [0x7f, b'E', b'L', b'F', 2, 1];
const MOST_IMAGE: usize = 1 << 26;

/// The driver that unpacks the containers of the library, which are compressed with zstd.
const UNPACKS_FROM: u64 = 12_040;

const COMPLAINT: &CStr = c"the stand-in finds no code that it has in the image";

/// A function that runs in place of a kernel, on the thread of the stream. Answers 0, or what the
/// device breaks with.
pub(crate) type Entry = unsafe extern "C" fn(*const Launch) -> Answer;

/// What a kernel gets.
#[derive(Debug)]
#[repr(C)]
pub struct Launch {
    /// Where each parameter lies, as it was when the kernel was launched.
    params: *const *const c_void,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    /// Where the bytes at an address really are; null if they are not memory, which the kernel then
    /// answers 700 to.
    resolve: unsafe extern "C" fn(*const c_void, *mut u8, usize) -> *mut u8,
    /// To be passed to `resolve`.
    scope: *const c_void,
}

#[derive(Clone, Debug)]
struct Kernel {
    body: Body,
    sizes: Arc<[usize]>,
}

/// What runs in place of a kernel.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// A function of the test's.
    Function(Entry),
    /// One of the library's own, of which the stand-in has a model.
    Copies(Known),
}

#[derive(Debug)]
pub(crate) struct Module {
    device: usize,
    image: Arc<Image>,
    functions: Mutex<Vec<Handle>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Function {
    device: usize,
    name: Arc<str>,
    kernel: Kernel,
}

/// The memory that a running kernel can reach, and whether it was refused any.
struct Scope<'m> {
    memory: &'m Memory,
    refused: Cell<bool>,
}

/// Makes `entry` the kernel called `name`, with parameters of `sizes` bytes.
pub(crate) fn register(name: String, entry: Entry, sizes: &[usize]) {
    lock(&KERNELS).insert(name, Kernel { body: Body::Function(entry), sizes: sizes.into() });
}

unsafe extern "C" fn resolve(scope: *const c_void, address: *mut u8, bytes: usize) -> *mut u8 {
    // SAFETY: `run` passed the scope that it keeps until the kernel returns.
    let Scope { memory, refused } = unsafe { &*scope.cast::<Scope<'_>>() };
    if is_registered(address.addr(), bytes) {
        return address;
    }
    memory.resolve(address, bytes).unwrap_or_else(|_| {
        refused.set(true);
        ptr::null_mut()
    })
}

/// Copies of the parameters of a launch, each at a multiple of 16 bytes.
#[derive(Clone, Debug)]
struct Params {
    words: Vec<u128>,
    starts: Vec<usize>,
}

impl Params {
    /// # Safety
    /// `params` are the addresses of values of `sizes` bytes.
    unsafe fn copy(params: &[*const u8], sizes: &[usize]) -> Result<Self, Code> {
        let (mut words, mut starts) = (Vec::new(), Vec::new());
        for (param, size) in params.iter().zip(sizes) {
            if param.is_null() {
                return Err(Code::INVALID_VALUE);
            }
            starts.push(words.len());
            words.resize(words.len().saturating_add(size.div_ceil(16)), 0_u128);
            let start = starts.last().copied().unwrap_or(0);
            let place = words.get_mut(start..).unwrap_or_default().as_mut_ptr().cast::<u8>();
            // SAFETY: the caller promises the source, and the words from `start` on have room for
            // `size` bytes.
            unsafe { ptr::copy_nonoverlapping(*param, place, *size) };
        }
        Ok(Params { words, starts })
    }

    /// Notes parameters that look like addresses of device memory and are none.
    fn touch(&self, driver: &Driver, sizes: &[usize]) {
        for (start, _) in self.starts.iter().zip(sizes).filter(|(_, size)| **size == size_of::<usize>()) {
            let word = self.words.get(*start).map(|word| word.to_le_bytes());
            if let Some([a, b, c, d, e, f, g, h, ..]) = word {
                driver.memory.touch("cuLaunchKernel", usize::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
        }
    }

    /// The bytes of the first, with some behind them up to a multiple of 16.
    fn first(&self) -> &[u8] {
        bytes_of(&self.words)
    }

    fn addresses(&self) -> Vec<*const c_void> {
        let at = |start: &usize| self.words.get(*start..).unwrap_or_default().as_ptr().cast();
        self.starts.iter().map(at).collect()
    }
}

/// Integers as the bytes they are in memory.
fn bytes_of(words: &[u128]) -> &[u8] {
    let bytes = size_of_val(words);
    // SAFETY: the words are so many bytes that are initialised, and any alignment is enough for
    // bytes.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), bytes) }
}

/// The threads of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
}

impl Shape {
    fn check(&self) -> Result<(), Code> {
        let [x, y, z] = self.block;
        let threads = x.checked_mul(y).and_then(|xy| xy.checked_mul(z)).unwrap_or(u32::MAX);
        let [width, height, depth] = self.grid;
        let fits = width <= i32::MAX.cast_unsigned() && height <= 65_535 && depth <= 65_535 && z <= 64;
        let some = !self.grid.contains(&0) && threads > 0;
        if some && fits && threads <= MOST_THREADS && self.shared_bytes <= MOST_SHARED {
            Ok(())
        } else {
            Err(Code::INVALID_VALUE)
        }
    }
}

fn run(entry: Entry, params: &Params, shape: Shape, memory: &Memory) -> Result<(), Code> {
    let scope = Scope { memory, refused: Cell::new(false) };
    let addresses = params.addresses();
    let launch = Launch {
        params: addresses.as_ptr(),
        grid: shape.grid,
        block: shape.block,
        shared_bytes: shape.shared_bytes,
        resolve,
        scope: ptr::from_ref(&scope).cast(),
    };
    // SAFETY: whoever registered the function promised that it is a kernel; all it gets lives until
    // it returns.
    let answer = unsafe { entry(&launch) };
    match answer {
        0 if scope.refused.get() => Err(Code::ILLEGAL_ADDRESS),
        0 => Ok(()),
        code => Err(Code(code)),
    }
}

/// A launch with copies of its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    function: Function,
    shape: Shape,
    params: Params,
}

impl Given {
    /// # Errors
    /// `INVALID_HANDLE` if there is no such function, `INVALID_VALUE` for a shape or parameters
    /// that no launch has.
    ///
    /// # Safety
    /// `params` is null or has the address of each of the kernel's parameters.
    pub(crate) unsafe fn copy(function: Handle, shape: Shape, params: &In<*const u8>) -> Result<Given, Code> {
        let function = driver().code.functions.get(function)?;
        shape.check()?;
        let sizes = &function.kernel.sizes;
        let given = if sizes.is_empty() { &[] } else { params.all(sizes.len())? };
        // SAFETY: promised by the caller.
        let params = unsafe { Params::copy(given, sizes) }?;
        Ok(Given { function, shape, params })
    }

    pub(crate) fn device(&self) -> usize {
        self.function.device
    }

    /// Enqueues the kernel.
    ///
    /// # Errors
    /// `INVALID_HANDLE` if there is no such stream or it is one of another device; what the
    /// simulated GPU answers.
    pub(crate) fn enqueue(&self, stream: Handle) -> Result<(), Code> {
        let driver = driver();
        let target = driver.target(stream)?;
        if self.device() != target.device {
            return Err(Code::INVALID_HANDLE);
        }
        let Given { function: Function { name, kernel: Kernel { body, sizes }, .. }, shape, params } = self.clone();
        match body {
            Body::Function(entry) => {
                params.touch(&driver, &sizes);
                target.gpu.launch(target.id, Task::new(move |memory: &Memory| run(entry, &params, shape, memory)))
            }
            Body::Copies(known) => {
                let parameter = params.first().get(..sizes.first().copied().unwrap_or(0)).unwrap_or_default();
                kernel_model::launch(&driver, &target, known, shape, parameter)
                    .inspect(|()| fault_injection::launched(&name))
            }
        }
    }
}

/// Enqueues a kernel.
///
/// # Safety
/// `params` is null or has the address of each of the kernel's parameters.
unsafe fn launch(function: Handle, shape: Shape, stream: Handle, params: &In<*const u8>) -> Result<(), Code> {
    // SAFETY: promised by the caller.
    unsafe { Given::copy(function, shape, params) }?.enqueue(stream)
}

/// Reads an image: machine code in a container or by itself, or text.
fn read(image: *const c_char) -> Result<Arc<Image>, Code> {
    if image.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let image = image.cast::<u8>();
    let bytes = if begins(image, &CONTAINER) {
        if settings().driver_version < UNPACKS_FROM {
            return Err(Code::INVALID_IMAGE);
        }
        // The header has 16 bytes, and then the number of those behind it.
        number::<8>(image, 8).saturating_add(16)
    } else if begins(image, &MACHINE_CODE) {
        // The file ends with the table of its segments, which has 56 bytes for each.
        number::<8>(image, 32).saturating_add(number::<2>(image, 56).saturating_mul(56))
    } else {
        // SAFETY: an image has at least one byte.
        if MACHINE_CODE.first() == Some(&unsafe { image.read() }) {
            return Err(Code::INVALID_IMAGE);
        }
        // SAFETY: what is no compiled image is text that ends in a zero byte.
        return Image::text(unsafe { CStr::from_ptr(image.cast()) }.to_bytes());
    };
    let bytes = Some(bytes).filter(|bytes| *bytes <= MOST_IMAGE).ok_or(Code::INVALID_IMAGE)?;
    // SAFETY: an image is complete: it is as long as its header says.
    Image::code(unsafe { core::slice::from_raw_parts(image, bytes) })
}

/// Whether the image begins with these bytes. It is not read beyond the first that differs.
fn begins(image: *const u8, bytes: &[u8]) -> bool {
    // SAFETY: an image has at least one byte, and no complete image ends within these.
    bytes.iter().enumerate().all(|(at, byte)| unsafe { image.wrapping_add(at).read() } == *byte)
}

/// The number of `BYTES` bytes at `at` of an image, whose header is longer.
fn number<const BYTES: usize>(image: *const u8, at: usize) -> usize {
    // SAFETY: the image begins as those do whose header has 64 bytes, or 16 and more behind them.
    let bytes: [u8; BYTES] = unsafe { image.wrapping_add(at).cast::<[u8; BYTES]>().read() };
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// A copy kernel of the library's, if the module has it and the stand-in shall know it.
fn copy_kernel(image: &Image, name: &str) -> Option<Kernel> {
    let known = kernel_model::find(name).filter(|_| settings().copy_kernels != 0)?;
    let bytes = image.parameter(name)?;
    Some(Kernel { body: Body::Copies(known), sizes: [bytes].into() })
}

fn load(out: &Out<Handle>, image: *const c_char) -> Result<(), Code> {
    out.check()?;
    let driver = driver();
    let (device, _) = driver.current()?;
    let image = read(image)?;
    let settings = settings();
    if !image.runs_on(settings.compute_major, settings.compute_minor) {
        return Err(Code::NO_BINARY_FOR_GPU);
    }
    let module = Module { device, image, functions: Mutex::default() };
    out.put(driver.code.modules.insert(Arc::new(module)))
}

/// Writes the compiler's complaint where the options say.
fn complain(count: u32, options: &In<u32>, values: &In<usize>) -> Result<(), Code> {
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return Ok(());
    }
    let (options, values) = (options.all(count)?, values.all(count)?);
    let value =
        |wanted: u32| options.iter().zip(values).find(|(option, _)| **option == wanted).map(|(_, value)| *value);
    if let (Some(buffer), Some(room)) = (value(JIT_ERROR_LOG), value(JIT_ERROR_LOG_BYTES)) {
        let words = COMPLAINT.to_bytes_with_nul();
        if words.len() <= room && buffer != 0 {
            let place = ptr::with_exposed_provenance_mut::<u8>(buffer);
            // SAFETY: the caller promises that the buffer has the room its size says.
            unsafe { ptr::copy_nonoverlapping(words.as_ptr(), place, words.len()) };
        }
    }
    Ok(())
}

/// `CUlaunchConfig`.
#[derive(Debug)]
#[repr(C)]
pub struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: Handle,
    attributes: usize,
    attribute_count: u32,
}

exports! {
    /// Loads a module into the current context.
    fn cuModuleLoadData(out: Out<Handle>, image: *const c_char) {
        load(&out, image)
    }

    /// Loads a module with options, of which the buffer for complaints is used.
    fn cuModuleLoadDataEx(out: Out<Handle>, image: *const c_char, count: u32, options: In<u32>, values: In<usize>) {
        let loaded = load(&out, image);
        if loaded.is_err() {
            complain(count, &options, &values)?;
        }
        loaded
    }

    /// Unloads a module; its functions are gone.
    fn cuModuleUnload(module: Handle) {
        let (_, device) = context::current()?;
        let driver = driver();
        let found = driver.code.modules.get(module)?;
        if found.device != device {
            return Err(Code::INVALID_CONTEXT);
        }
        for function in lock(&found.functions).drain(..) {
            driver.code.functions.remove(function)?;
        }
        driver.code.modules.remove(module).map(drop)
    }

    /// A kernel of a module: what is registered under the name, or the twin of a copy kernel.
    fn cuModuleGetFunction(out: Out<Handle>, module: Handle, name: Text) {
        out.check()?;
        let (_, current) = context::current()?;
        let driver = driver();
        let found = driver.code.modules.get(module)?;
        let name = name.read()?;
        let kernel = lock(&KERNELS).get(&name).cloned().or_else(|| copy_kernel(&found.image, &name));
        let kernel = kernel.filter(|_| found.image.declares(&name)).ok_or(Code::NOT_FOUND)?;
        if found.device != current {
            note(format!("the kernel {name} was asked for with another device's context current"));
        }
        let function = driver.code.functions.insert(Function { device: found.device, name: name.into(), kernel });
        lock(&found.functions).push(function);
        out.put(function)
    }

    /// Where a parameter of a kernel lies among them, and its size.
    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        offset.check()?;
        let found = driver().code.functions.get(function)?;
        let bytes = *found.kernel.sizes.get(index).ok_or(Code::INVALID_VALUE)?;
        let before = found.kernel.sizes.iter().take(index);
        // Each is aligned to its own size, as numbers and pointers are.
        let end = before.fold(0_usize, |end, size| end.next_multiple_of((*size).max(1)).saturating_add(*size));
        offset.put(end.next_multiple_of(bytes.max(1)))?;
        size.put_if(bytes);
        Ok(())
    }

    /// How many parameters a kernel has.
    fn cuFuncGetParamCount(function: Handle, out: Out<usize>) {
        out.check()?;
        out.put(driver().code.functions.get(function)?.kernel.sizes.len())
    }

    /// The name of a kernel is known to be registered; attributes are what a simple kernel has.
    fn cuFuncGetAttribute(out: Out<i32>, wanted: u32, function: Handle) {
        out.check()?;
        let found = driver().code.functions.get(function)?;
        match wanted {
            0 => out.put(i32::try_from(MOST_THREADS).unwrap_or(0)),
            1..=16 => out.put(0),
            _ => {
                note(format!("attribute {wanted} of the kernel {} was asked for", found.name));
                Err(Code::INVALID_VALUE)
            }
        }
    }

    /// Enqueues a kernel.
    fn cuLaunchKernel(
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared_bytes: u32, stream: Handle,
        params: In<*const u8>, extra: usize,
    ) {
        if extra != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let shape = Shape { grid: [gx, gy, gz], block: [bx, by, bz], shared_bytes };
        // SAFETY: promised by the caller.
        unsafe { launch(function, shape, stream, &params) }
    }

    /// Enqueues a kernel; launch attributes are ignored.
    fn cuLaunchKernelEx(config: In<Config>, function: Handle, params: In<*const u8>, extra: usize) {
        if extra != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let config = config.first()?;
        let shape = Shape { grid: config.grid, block: config.block, shared_bytes: config.shared_bytes };
        // SAFETY: promised by the caller.
        unsafe { launch(function, shape, config.stream, &params) }
    }

    /// Enqueues a function of the host.
    fn cuLaunchHostFunc(stream: Handle, function: Option<unsafe extern "C" fn(*mut c_void)>, data: *mut c_void) {
        let function = function.ok_or(Code::INVALID_VALUE)?;
        let target = driver().target(stream)?;
        let data = data.expose_provenance();
        let task = move |_: &Memory| {
            // SAFETY: the caller promised that the function may be called with its data, on any
            // thread.
            unsafe { function(ptr::with_exposed_provenance_mut(data)) };
            Ok(())
        };
        target.gpu.launch(target.id, Task::new(task))
    }
}
