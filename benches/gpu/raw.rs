//! The driver, called directly: memory, events, the tools' kernels, and the rivals' calls.

use core::ffi::{c_int, c_uint, c_void};
use std::{ffi::CString, ptr, time::Instant};

use cudarc::driver::sys;

/// Stops the benchmark, naming the call that failed.
#[track_caller]
pub fn ok(answer: sys::CUresult) {
    assert_eq!(answer, sys::CUresult::CUDA_SUCCESS);
}

type BatchCall = unsafe extern "C" fn(
    *const u64,
    *const u64,
    *const usize,
    usize,
    *const Attributes,
    *const usize,
    usize,
    sys::CUstream,
) -> sys::CUresult;

#[repr(C)]
struct Attributes {
    order: c_uint,
    hints: [c_uint; 4],
    flags: c_uint,
}

/// A graph that can be launched.
pub struct Graph(sys::CUgraphExec);

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the graph is alive; the driver waits for it if it runs.
        ok(unsafe { sys::cuGraphExecDestroy(self.0) });
    }
}

/// The stream under test, and what measures it.
pub struct Raw {
    pub stream: sys::CUstream,
    module: sys::CUmodule,
    start: sys::CUevent,
    end: sys::CUevent,
    batch: BatchCall,
}

/// Times of one operation, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// Between two events around it, the stream held while the host enqueues.
    pub device: f64,
    /// A tenth of ten of them back to back.
    pub amortised: f64,
    /// Host time from the raw indices to the return of the last call, on an idle stream.
    pub enqueue: f64,
    /// From the same start to the end of a synchronise.
    pub end_to_end: f64,
}

impl Raw {
    pub fn new(stream: *mut c_void) -> Raw {
        let (mut module, mut start, mut end) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        let image = CString::new(include_str!("rivals.ptx")).unwrap();
        // SAFETY: the driver is loaded and a context is current: a stream of this thread is open.
        unsafe {
            ok(sys::cuModuleLoadData(&mut module, image.as_ptr().cast()));
            ok(sys::cuEventCreate(&mut start, 0));
            ok(sys::cuEventCreate(&mut end, 0));
            let batch = *sys::culib().get::<BatchCall>(b"cuMemcpyBatchAsync_v2").expect("a driver of CUDA 13");
            Raw { stream: stream.cast(), module, start, end, batch }
        }
    }

    pub fn function(&self, name: &str) -> sys::CUfunction {
        let (mut function, name) = (ptr::null_mut(), CString::new(name).unwrap());
        // SAFETY: the module is loaded and the name ends in a zero byte.
        ok(unsafe { sys::cuModuleGetFunction(&mut function, self.module, name.as_ptr()) });
        function
    }

    /// # Safety
    /// The arguments are the kernel's.
    pub unsafe fn launch(&self, function: sys::CUfunction, blocks: u32, threads: u32, arguments: &[*const c_void]) {
        let arguments = arguments.as_ptr().cast::<*mut c_void>().cast_mut();
        // SAFETY: the caller promises it.
        let answer = unsafe {
            sys::cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, self.stream, arguments, ptr::null_mut())
        };
        ok(answer);
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        let mut address = 0;
        // SAFETY: a context is current.
        ok(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) });
        address
    }

    pub fn alloc_host(&self, bytes: usize) -> u64 {
        let mut address = ptr::null_mut();
        // SAFETY: a context is current.
        ok(unsafe { sys::cuMemHostAlloc(&mut address, bytes, 1) });
        address as u64
    }

    /// New memory with these numbers.
    pub fn upload(&self, numbers: &[u32]) -> u64 {
        let address = self.alloc(size_of_val(numbers));
        // SAFETY: the memory has as many bytes.
        ok(unsafe { sys::cuMemcpyHtoD_v2(address, numbers.as_ptr().cast(), size_of_val(numbers)) });
        address
    }

    pub fn free(&self, address: u64) {
        // SAFETY: it comes from `alloc`, and the stream has been waited for.
        ok(unsafe { sys::cuMemFree_v2(address) });
    }

    pub fn copy(&self, dst: u64, src: u64, bytes: usize) {
        // SAFETY: the benchmark's own memory.
        ok(unsafe { sys::cuMemcpyAsync(dst, src, bytes, self.stream) });
    }

    pub fn batch(&self, dst: &[u64], src: &[u64], len: &[usize]) {
        let (attributes, first) = (Attributes { order: 1, hints: [0; 4], flags: 1 }, 0);
        // SAFETY: the benchmark's own memory; the arrays have one length.
        ok(unsafe {
            (self.batch)(dst.as_ptr(), src.as_ptr(), len.as_ptr(), len.len(), &attributes, &first, 1, self.stream)
        });
    }

    pub fn fill(&self, dst: u64, bytes: usize, seed: u64) {
        let n = (bytes / 16) as u64;
        let arguments = [ptr::from_ref(&dst).cast(), ptr::from_ref(&n).cast(), ptr::from_ref(&seed).cast()];
        // SAFETY: the kernel's arguments, and the benchmark's own memory.
        unsafe { self.launch(self.function("fill"), 2048, 256, &arguments) };
        self.synchronize();
    }

    pub fn poison(&self, dst: u64, bytes: usize) {
        // SAFETY: the benchmark's own memory.
        ok(unsafe { sys::cuMemsetD8Async(dst, 0xA5, bytes, self.stream) });
        self.synchronize();
    }

    /// How many bytes of `copies` differ.
    pub fn differences(&self, copies: &[(u64, u64, usize)]) -> u64 {
        const PIECE: u64 = 64 << 10;
        let mut checks: Vec<[u64; 3]> = Vec::new();
        for &(dst, src, len) in copies {
            let len = len as u64;
            checks.extend(
                (0..len.div_ceil(PIECE)).map(|i| i * PIECE).map(|at| [src + at, dst + at, PIECE.min(len - at)]),
            );
        }
        let (table, wrong) = (self.alloc_host(checks.len() * 24), self.alloc_host(8));
        // SAFETY: pinned memory of these sizes, which the device does not use now.
        unsafe {
            ptr::copy_nonoverlapping(checks.as_ptr(), table as *mut [u64; 3], checks.len());
            (wrong as *mut u64).write(0);
        }
        let count = checks.len() as u64;
        let arguments = [ptr::from_ref(&table).cast(), ptr::from_ref(&count).cast(), ptr::from_ref(&wrong).cast()];
        // SAFETY: the kernel's arguments; it reads what was copied and adds to `wrong`.
        unsafe { self.launch(self.function("compare"), count.min(1 << 16) as u32, 128, &arguments) };
        self.synchronize();
        // SAFETY: the device has written it; both blocks come from `alloc_host`.
        unsafe {
            let wrong_bytes = (wrong as *const u64).read_volatile();
            ok(sys::cuMemFreeHost(table as *mut c_void));
            ok(sys::cuMemFreeHost(wrong as *mut c_void));
            wrong_bytes
        }
    }

    pub fn synchronize(&self) {
        // SAFETY: the stream is alive.
        ok(unsafe { sys::cuStreamSynchronize(self.stream) });
    }

    /// Keeps the stream busy.
    pub fn hold(&self, microseconds: f64) {
        let cycles = (microseconds * 1980.0) as i64;
        // SAFETY: the kernel's argument.
        unsafe { self.launch(self.function("spin"), 1, 1, &[ptr::from_ref(&cycles).cast()]) };
    }

    /// Captures what `enqueue` enqueues as a graph.
    pub fn graph(&self, enqueue: impl FnOnce()) -> Graph {
        let (mut graph, mut executable) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream is alive, and nothing else is enqueued on it meanwhile.
        unsafe {
            let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            ok(sys::cuStreamBeginCapture_v2(self.stream, mode));
            enqueue();
            ok(sys::cuStreamEndCapture(self.stream, &mut graph));
            ok(sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0));
            ok(sys::cuGraphDestroy(graph));
            ok(sys::cuGraphUpload(executable, self.stream));
        }
        self.synchronize();
        Graph(executable)
    }

    pub fn launch_graph(&self, graph: &Graph) {
        // SAFETY: graph and stream are alive.
        ok(unsafe { sys::cuGraphLaunch(graph.0, self.stream) });
    }

    /// Times `operation`, which enqueues the work on set `k`, of `sets`, and `wait`, which waits
    /// for the stream.
    pub fn measure(&self, sets: usize, mut operation: impl FnMut(usize), mut wait: impl FnMut()) -> Times {
        let mut k = 0;
        let mut next = || {
            k = (k + 1) % sets;
            operation(k);
        };
        next();
        self.synchronize();
        let from = Instant::now();
        next();
        let host = from.elapsed().as_secs_f64() * 1e6;
        self.synchronize();
        let once = from.elapsed().as_secs_f64() * 1e6;
        let (repeats, back_to_back) = match once {
            t if t > 20e3 => (2, false),
            t if t > 4e3 => (3, false),
            t if t > 400.0 => (5, true),
            _ => (15, true),
        };
        if repeats > 3 {
            (0..3).for_each(|_| next());
            self.synchronize();
        }
        let between = |count: usize, next: &mut dyn FnMut()| {
            let times = (0..repeats).map(|_| {
                self.hold((host * count as f64 * 1.5 + 40.0).min(4000.0));
                // SAFETY: events and stream are alive.
                ok(unsafe { sys::cuEventRecord(self.start, self.stream) });
                (0..count).for_each(|_| next());
                // SAFETY: as above.
                ok(unsafe { sys::cuEventRecord(self.end, self.stream) });
                self.synchronize();
                let mut milliseconds = 0.0;
                // SAFETY: both events were recorded and have been passed.
                ok(unsafe { sys::cuEventElapsedTime(&mut milliseconds, self.start, self.end) });
                f64::from(milliseconds) * 1e3 / count as f64
            });
            median(times.collect())
        };
        let device = between(1, &mut next);
        let amortised = if back_to_back { between(10, &mut next) } else { device };
        let (mut enqueue, mut end_to_end) = (Vec::new(), Vec::new());
        wait();
        for _ in 0..if repeats > 3 { repeats * 3 } else { repeats } {
            let from = Instant::now();
            next();
            enqueue.push(from.elapsed().as_secs_f64() * 1e6);
            wait();
            end_to_end.push(from.elapsed().as_secs_f64() * 1e6);
        }
        Times { device, amortised, enqueue: median(enqueue), end_to_end: median(end_to_end) }
    }

    /// The name of the device.
    pub fn name(&self) -> String {
        let (mut name, mut device, mut version) = ([0_u8; 128], 0 as c_int, 0);
        // SAFETY: all places are valid for writes of their sizes.
        unsafe {
            ok(sys::cuDeviceGet(&mut device, 0));
            ok(sys::cuDeviceGetName(name.as_mut_ptr().cast(), 128, device));
            ok(sys::cuDriverGetVersion(&mut version));
        }
        let text = String::from_utf8_lossy(&name);
        format!("{}, driver API {version}", text.trim_end_matches('\0'))
    }
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
