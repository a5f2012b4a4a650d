//! An engine thread whose tensors Python takes by DLPack, and that takes Python's: `exchange.py` loads
//! this library with ctypes. Host tensors go both ways without a GPU, and tensors of the GPU where there
//! is one.
//!
//! Each function is called with the protocol's arguments; the structures are given away with the
//! pointers to them.

use std::{
    ptr::{self, NonNull},
    sync::mpsc::{Sender, channel},
    thread,
};

use tidelock::{
    Buffer, Ctx, Result,
    any::AnyTensor,
    cuda::{self, ConsumerStream, Cuda, Device},
    dlpack::{
        Imported,
        abi::{CUDA, DlDevice, DlManagedTensorVersioned},
        export, import_on_stream,
    },
    location::Host,
};

/// A row-major tensor of the host, element `i` of which is `i`, made by another thread. Null if there
/// is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn host_tensor(rows: usize, columns: usize) -> *mut DlManagedTensorVersioned {
    let make = move || -> Result<AnyTensor<Host>> {
        let values = Buffer::<f32, Host>::from_fn(rows * columns, |i| i as f32)?;
        Ok(values.tensor([rows, columns])?.into())
    };
    match thread::spawn(make).join() {
        Ok(Ok(tensor)) => export(tensor).into_raw().as_ptr(),
        _ => ptr::null_mut(),
    }
}

/// The sum of the elements of a tensor of two axes of the host, each weighted by 1 and its column; not
/// a number if it is refused.
///
/// # Safety
/// - `tensor` is a live structure of DLPack whose elements nothing writes, and is given away.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn host_sum(tensor: *mut DlManagedTensorVersioned) -> f64 {
    let Some(tensor) = NonNull::new(tensor) else { return f64::NAN };
    // SAFETY: the caller promises it.
    match unsafe { Imported::new(tensor) } {
        Ok(imported) => imported.view().downcast::<f32, 2>().map_or(f64::NAN, |view| {
            let columns = view.shape()[1].max(1);
            view.iter().enumerate().map(|(i, value)| f64::from(*value) * (1 + i % columns) as f64).sum()
        }),
        Err(refused) => {
            // SAFETY: the structure came back, and its deleter was not called.
            unsafe { delete(refused.value) };
            f64::NAN
        }
    }
}

/// # Safety
/// - The structure is alive, and is not used again.
unsafe fn delete(tensor: NonNull<DlManagedTensorVersioned>) {
    // SAFETY: the caller promises it.
    if let Some(deleter) = unsafe { tensor.as_ref() }.deleter {
        // SAFETY: as above.
        unsafe { deleter(tensor.as_ptr()) };
    }
}

/// An engine: a thread with a stream of the first GPU.
pub struct Engine(Sender<Command>);

/// What the engine does next.
enum Command {
    /// Makes a tensor behind slow work, for a consumer's stream.
    Make { rows: usize, columns: usize, consumer: Option<ConsumerStream>, answer: Sender<usize> },
    /// Adds up a tensor of another program.
    Sum { tensor: usize, answer: Sender<f64> },
    /// The engine's stream.
    Stream(Sender<usize>),
}

/// Starts an engine. Null if there is no GPU.
#[unsafe(no_mangle)]
pub extern "C" fn engine_open() -> *mut Engine {
    let Ok(device) = Device::open(0) else { return ptr::null_mut() };
    let (commands, next) = channel();
    thread::spawn(move || {
        device.stream(|stream, _env| {
            for command in next {
                let ctx = stream.ctx().with_pool();
                match command {
                    Command::Make { rows, columns, consumer, answer } => {
                        // SAFETY: the Python program keeps the protocol of DLPack.
                        let made = unsafe { make(&ctx, rows, columns, consumer) };
                        let _ = answer.send(made.map_or(0, |tensor| tensor.as_ptr().expose_provenance()));
                    }
                    Command::Sum { tensor, answer } => {
                        let tensor = NonNull::new(ptr::with_exposed_provenance_mut(tensor));
                        // SAFETY: as above.
                        let sum = tensor.map_or(Ok(f64::NAN), |tensor| unsafe { sum(&ctx, tensor) });
                        let _ = answer.send(sum.unwrap_or(f64::NAN));
                    }
                    Command::Stream(answer) => {
                        let raw = ctx.raw_stream().map_or(0, |raw| raw.expose_provenance());
                        let _ = answer.send(raw);
                    }
                }
            }
        })
    });
    Box::into_raw(Box::new(Engine(commands)))
}

/// A tensor that is written behind a hundred milliseconds of other work, detached and handed out.
///
/// # Safety
/// - The consumer's stream keeps the contract of [`cuda::export_tensor`].
unsafe fn make<A: Copy>(
    ctx: &Ctx<'_, Cuda<'_>, A>,
    rows: usize,
    columns: usize,
    consumer: Option<ConsumerStream>,
) -> Result<NonNull<DlManagedTensorVersioned>> {
    let ctx = ctx.with_pool();
    let mut memory = ctx.zeros::<f32>(rows * columns)?;
    let mut heap = ctx.zeros::<u8>(1 << 30)?;
    for _ in 0..200 {
        ctx.clear(heap.view_mut())?;
    }
    let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    ctx.upload(&values, memory.view_mut())?;
    let tensor = ctx.detach(memory.share())?.tensor([rows, columns])?.any();
    // SAFETY: the caller promises it.
    Ok(unsafe { cuda::export_tensor(tensor, consumer) }?.into_raw())
}

/// The sum of the elements of a tensor of the GPU of any layout of two axes.
///
/// # Safety
/// - The structure keeps the contract of [`import_on_stream`].
unsafe fn sum<A: Copy>(ctx: &Ctx<'_, Cuda<'_>, A>, tensor: NonNull<DlManagedTensorVersioned>) -> Result<f64> {
    let ctx = ctx.with_pool();
    let device = DlDevice { device_type: CUDA, device_id: 0 };
    // SAFETY: the caller promises it.
    match unsafe { import_on_stream(&ctx, device, tensor) } {
        Ok(shared) => {
            let theirs = shared.downcast::<f32, 2>()?;
            let [rows, columns] = theirs.shape();
            let page = ctx.alloc_pinned::<f32>(rows * columns)?.stage(&ctx);
            let (page, ()) = ctx.init_with(page, |out| ctx.copy_tensor(theirs.view(), out))?;
            drop(theirs);
            let page = ctx.fence(page)?.wait()?;
            let weighted = page.iter().enumerate().map(|(i, value)| f64::from(*value) * (1 + i % columns) as f64);
            Ok(weighted.sum())
        }
        Err(refused) => {
            // SAFETY: the structure came back, and its deleter was not called.
            unsafe { delete(refused.value) };
            Ok(f64::NAN)
        }
    }
}

/// The engine's `CUstream`, for `tensor.__dlpack__(stream=..)`.
///
/// # Safety
/// - `engine` comes from [`engine_open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_stream(engine: *const Engine) -> usize {
    // SAFETY: the caller promises it.
    unsafe { ask(engine, Command::Stream) }.unwrap_or(0)
}

/// A tensor of the engine for the consumer's stream, as `__dlpack__` gets it: 0 stands for no stream
/// there, and -1 for no order. Null if it is refused.
///
/// # Safety
/// - `engine` comes from [`engine_open`], and the stream is one that DLPack may name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_tensor(
    engine: *const Engine,
    rows: usize,
    columns: usize,
    stream: isize,
) -> *mut DlManagedTensorVersioned {
    let consumer = match stream {
        0 => Some(ConsumerStream::LEGACY),
        -1 => None,
        raw => match ConsumerStream::from_raw(ptr::with_exposed_provenance_mut(raw.unsigned_abs())) {
            Some(stream) => Some(stream),
            None => return ptr::null_mut(),
        },
    };
    // SAFETY: the caller promises it.
    let made = unsafe { ask(engine, |answer| Command::Make { rows, columns, consumer, answer }) };
    ptr::with_exposed_provenance_mut(made.unwrap_or(0))
}

/// The sum of the elements of a tensor of another program, as [`host_sum`] adds them.
///
/// # Safety
/// - `engine` comes from [`engine_open`]. The structure was made for its stream, and is given away.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_sum(engine: *const Engine, tensor: *mut DlManagedTensorVersioned) -> f64 {
    let tensor = tensor.expose_provenance();
    // SAFETY: the caller promises it.
    unsafe { ask(engine, |answer| Command::Sum { tensor, answer }) }.unwrap_or(f64::NAN)
}

/// Ends an engine.
///
/// # Safety
/// - `engine` comes from [`engine_open`], and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_close(engine: *mut Engine) {
    // SAFETY: the caller promises it.
    drop(unsafe { Box::from_raw(engine) });
}

/// # Safety
/// - `engine` comes from [`engine_open`].
unsafe fn ask<T>(engine: *const Engine, command: impl FnOnce(Sender<T>) -> Command) -> Option<T> {
    let (answer, answered) = channel();
    // SAFETY: the caller promises it.
    unsafe { &*engine }.0.send(command(answer)).ok()?;
    answered.recv().ok()
}
