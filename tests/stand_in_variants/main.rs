//! Drivers that lack functions, each in a process of its own, because a process has one driver.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

use std::{env, fs, path::PathBuf, process::Command, ptr::NonNull};

use tidelock::{
    BatchCopy, Error, Result, View,
    cuda::{Batching, CopyKernels, Device, Module, NoCopyKernels, OpenError},
    driver::{Code, DriverError},
};
use tidelock_test_support::stand_in::{self, Control, Fault};

/// Which part of [`subject`] a subprocess runs, and on which library.
const PART: &str = "TIDELOCK_VARIANT_PART";
const LIBRARY: &str = "TIDELOCK_VARIANT_LIBRARY";

/// A copy of the stand-in without `functions`: the copy's symbol table has other names for them.
fn without(functions: &[&str], part: &str) -> PathBuf {
    let mut library = fs::read(stand_in::path()).unwrap();
    for function in functions {
        let name = [b"\0", function.as_bytes(), b"\0"].concat();
        let at = library.windows(name.len()).position(|window| window == name).unwrap();
        library[at + 1] = b'x';
    }
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{part}-{}.so", std::process::id()));
    fs::write(&path, library).unwrap();
    path
}

/// Runs `part` on a driver without `functions`.
#[track_caller]
fn play(part: &str, functions: &[&str]) {
    let library = without(functions, part);
    let arguments = ["--exact", "subject", "--nocapture", "--test-threads=1"];
    let child =
        Command::new(env::current_exe().unwrap()).args(arguments).env(PART, part).env(LIBRARY, &library).output();
    let output = child.unwrap();
    fs::remove_file(library).unwrap();
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && printed.contains(DONE), "{printed}");
}

/// What a subprocess prints at its end. A subprocess that ran no part does not print it.
const DONE: &str = "the part was played";

#[test]
fn a_driver_without_a_function_is_refused_by_its_name() {
    for function in ["cuInit", "cuMemAllocFromPoolAsync", "cuLaunchKernel"] {
        play(function, &[function]);
    }
}

#[test]
fn a_driver_of_cuda_12_8_has_the_older_batch() {
    play("older batch", &["cuMemcpyBatchAsync_v2"]);
}

#[test]
fn a_refused_copy_of_a_batch_is_named() {
    play("refused by the older batch", &["cuMemcpyBatchAsync_v2"]);
    play("refused by the newer batch", &[]);
    play("refused in a loop", &["cuMemcpyBatchAsync_v2", "cuMemcpyBatchAsync"]);
}

#[test]
fn a_driver_of_cuda_12_0_has_no_batch() {
    play("no batch", &["cuMemcpyBatchAsync_v2", "cuMemcpyBatchAsync"]);
}

#[test]
fn a_device_that_batches_are_denied_to_has_a_loop() {
    play("denied", &[]);
}

#[test]
fn a_driver_of_cuda_12_0_does_not_know_parameters() {
    play("no parameters", &["cuFuncGetParamInfo"]);
}

#[test]
fn why_there_are_no_copy_kernels_is_reported() {
    play("no launch", &["cuLaunchKernelEx"]);
    for part in ["old device", "no code", "no kernel", "turned off"] {
        play(part, &[]);
    }
}

#[test]
fn drivers_and_devices_that_are_no_use_say_why() {
    for part in ["stub", "no device", "no devices", "too old", "no unified addressing"] {
        play(part, &[]);
    }
}

#[test]
fn a_driver_that_starts_later_is_opened_then() {
    play("starts later", &[]);
}

/// The part of the subprocess, and otherwise nothing.
#[test]
fn subject() {
    let Ok(part) = env::var(PART) else { return };
    let control = stand_in::load_from(&PathBuf::from(env::var(LIBRARY).unwrap()));
    let answers = |name, code| control.fail(Fault { name, nth: 1, onwards: true, releases: false, code });
    let set = |name, value| {
        control.set(name, value);
        control.reset();
    };
    let expected = match part.as_str() {
        "older batch" => return done(batches(&control, "cuMemcpyBatchAsync", "cuMemcpyBatchAsync")),
        "no batch" | "denied" => {
            if part == "denied" {
                set("compute_major", 10);
            }
            let each = ["cuMemcpyAsync"; 2].join(" ");
            return done(batches(&control, &each, &format!("{each} cuStreamSynchronize")));
        }
        "refused by the older batch" | "refused in a loop" => return done(refused_copy(&control, true)),
        "refused by the newer batch" => return done(refused_copy(&control, false)),
        "no parameters" => return done(parameters(&control)),
        "no launch" => {
            let reason = NoCopyKernels::Driver { lacks: "cuLaunchKernelEx" };
            return done(absent(&control, &reason, "the CUDA driver has no `cuLaunchKernelEx`"));
        }
        "old device" => {
            set("compute_major", 7);
            set("compute_minor", 5);
            let reason = NoCopyKernels::Capability { found: (7, 5) };
            return done(absent(&control, &reason, "compute capability 7.5 is below 8.0"));
        }
        "no code" => {
            answers("cuModuleLoadDataEx", Code::INVALID_PTX.0);
            let refused = Module::load(&Device::open(0).unwrap(), "//").unwrap_err();
            let text = format!("the CUDA driver refused their code: {refused}");
            return done(absent(&control, &NoCopyKernels::Code(refused), &text));
        }
        "no kernel" => {
            answers("cuModuleGetFunction", Code::NOT_FOUND.0);
            let error = Error::Driver(DriverError::new("cuModuleGetFunction", Code::NOT_FOUND));
            return done(absent(&control, &error.into(), &format!("the CUDA driver refused a kernel: {error}")));
        }
        "turned off" => {
            let device = Device::open(0).unwrap();
            for batching in [Batching::Driver, Batching::Loop] {
                let (calls, answer) = control.calls_of(|| device.clone().with_batching(batching).copy_kernels());
                assert_eq!((calls.join(" "), answer), (String::new(), CopyKernels::TurnedOff));
            }
            return done(Ok(()));
        }
        "stub" => {
            answers("cuInit", 34);
            OpenError::Stub
        }
        "no device" => {
            answers("cuInit", 100);
            OpenError::NoSuchDevice { ordinal: 0, count: 0 }
        }
        "no devices" => {
            set("devices", 0);
            OpenError::NoSuchDevice { ordinal: 0, count: 0 }
        }
        "too old" => {
            set("driver_version", 11_080);
            OpenError::TooOld { found: 11_080 }
        }
        "no unified addressing" => {
            set("unified_addressing", 0);
            OpenError::Unsupported { ordinal: 0, feature: "unified addressing" }
        }
        "starts later" => return done(starts_later(&control)),
        name => {
            match Device::open(0).unwrap_err() {
                OpenError::MissingSymbol { name: missing } => assert_eq!(missing, name),
                other => panic!("{other:?}"),
            }
            return done(Ok(()));
        }
    };
    assert_eq!(Device::open(0).unwrap_err(), expected);
    assert!(!expected.to_string().is_empty());
    assert_eq!(Device::open(0).unwrap_err(), expected);
    if let OpenError::NoSuchDevice { .. } = expected {
        assert_eq!(Device::count(), Ok(0));
    }
    done(Ok(()));
}

fn done(answer: Result<()>) {
    answer.unwrap();
    println!("{DONE}");
}

/// A failure of `cuInit` is not stored, nor is a failed search for the library.
fn starts_later(control: &Control) -> Result<()> {
    for code in [802, 999, 100] {
        control.fail(Fault { name: "cuInit", nth: 1, onwards: true, releases: false, code });
        for _ in 0..2 {
            let error = Device::open(0).unwrap_err();
            match &error {
                OpenError::NoSuchDevice { ordinal: 0, count: 0 } if code == 100 => {}
                OpenError::Driver(error) if error.code.0 == code => assert_eq!(error.call, "cuInit"),
                other => panic!("{other:?}"),
            }
            // The message says what to do.
            assert_eq!(error.to_string().contains("fabric manager"), code == 802, "{error}");
        }
        control.disarm();
    }
    // All threads come first: one of them initialises the driver.
    control.take_log();
    std::thread::scope(|threads| {
        let opening: Vec<_> = (0..4).map(|_| threads.spawn(|| Device::open(0).map(drop))).collect();
        opening.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Ok(())));
    });
    assert_eq!(control.take_log().iter().filter(|call| *call == "cuInit").count(), 1);
    Ok(())
}

/// A batch works without copy kernels. After the first batch the device says why there are none.
fn absent(control: &Control, reason: &NoCopyKernels, text: &str) -> Result<()> {
    let device = Device::open(0)?;
    let expected = CopyKernels::Absent(reason.clone());
    assert_eq!(device.copy_kernels(), expected);
    assert_eq!(reason.to_string(), text);
    // The answer is stored, also for a handle that is opened later.
    control.disarm();
    let (calls, answer) = control.calls_of(|| device.copy_kernels());
    assert_eq!((calls.join(" "), answer), (String::new(), expected.clone()));
    assert_eq!(Device::open(0)?.copy_kernels(), expected);
    device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (source, mut a, mut b) = (ctx.zeros::<u32>(2)?, ctx.alloc(1)?, ctx.alloc(1)?);
        let (calls, answer) = control.calls_of(|| {
            BatchCopy::new().scope(&ctx, |batch| {
                let (left, right) = source.view().split_at(1)?;
                batch.copy(left, a.view_mut())?;
                batch.copy(right, b.view_mut())
            })
        });
        answer?;
        assert_eq!(calls.join(" "), "cuMemcpyBatchAsync_v2");
        Ok::<(), Error>(())
    })??;
    control.report().assert_clean();
    Ok(())
}

/// The calls of two batches of two copies: from the device, and from plain host memory, without
/// copy kernels.
fn batches(control: &Control, on_device: &str, from_host: &str) -> Result<()> {
    control.set("copy_kernels", 0);
    Device::open(0)?.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (source, mut a, mut b) = (ctx.zeros::<u32>(9)?, ctx.zeros::<u32>(3)?, ctx.zeros::<u32>(3)?);
        let own = [1, 2, 3];
        let mut batch = BatchCopy::new();
        // The first batch of a context looks for the copy kernels, once, and unloads what it had
        // loaded.
        let looked = "cuCtxGetCurrent cuModuleLoadDataEx cuCtxGetCurrent cuModuleGetFunction";
        let looked = format!("{looked} cuCtxGetCurrent cuModuleUnload {on_device}");
        for (host, expected) in [(false, &*looked), (false, on_device), (true, from_host)] {
            let (calls, answer) = control.calls_of(|| {
                batch.scope(&ctx, |batch| {
                    batch.copy(source.view().slice(..3)?, a.view_mut())?;
                    if host {
                        batch.copy(View::from(&own[..]), b.view_mut())
                    } else {
                        batch.copy(source.view().slice(6..)?, b.view_mut())
                    }
                })
            });
            answer?;
            assert_eq!(calls.join(" "), expected);
        }
        Ok::<(), Error>(())
    })??;
    control.report().assert_clean();
    Ok(())
}

/// A batch whose third copy reads beyond the memory of its source, which only `unsafe` code can
/// request.
fn refused_copy(control: &Control, is_named: bool) -> Result<()> {
    Device::open(0)?.with_batching(Batching::Driver).stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (source, mut target) = (ctx.zeros::<u32>(8)?, ctx.zeros::<u32>(16)?);
        let at = target.as_ptr().addr();
        // SAFETY: the driver is to refuse it.
        let beyond = unsafe { View::from_raw_parts(NonNull::new(source.as_ptr().cast_mut()).unwrap(), 9) };
        let answer = BatchCopy::new().scope(&ctx, |batch| {
            let mut pieces = target.view_mut();
            for len in [1, 2, 9, 3] {
                let (piece, rest) = pieces.split_at(len)?;
                let from = if len == 9 { beyond } else { source.view().slice(..len)? };
                batch.copy(from, piece)?;
                pieces = rest;
            }
            Ok(())
        });
        let Err(Error::Driver(error)) = answer else { panic!("{answer:?}") };
        let words = format!(" to the copy of 36 bytes that goes to {:#x}", at + 3 * 4);
        match error.copy {
            Some(copy) => assert_eq!((is_named, copy.dst, copy.bytes.get()), (true, at + 3 * 4, 36)),
            None => assert!(!is_named, "{error}"),
        }
        assert_eq!(error.to_string().contains(&words), is_named, "{error}");
        Ok::<(), Error>(())
    })??;
    control.report().assert_clean();
    Ok(())
}

unsafe extern "C" fn nothing(_: *const stand_in::Launch) -> u32 {
    0
}

fn parameters(control: &Control) -> Result<()> {
    // Such a driver does not unpack the copy kernels, so the library does.
    control.set("driver_version", 12_030);
    for (major, minor) in [(8, 6), (9, 0)] {
        control.set("compute_major", major);
        control.set("compute_minor", minor);
        control.reset();
        assert_eq!(Device::open(0)?.copy_kernels(), CopyKernels::Loaded);
    }
    // SAFETY: it uses no memory.
    unsafe { control.register("nothing", &[8, 4], nothing) };
    let module = Module::load(&Device::open(0)?, "//").unwrap();
    match module.function("nothing") {
        Err(Error::Driver(error)) => assert_eq!(error.code, tidelock::driver::Code::NOT_SUPPORTED),
        answer => panic!("{answer:?}"),
    }
    // SAFETY: it has these parameters.
    assert_eq!(unsafe { module.function_declared("nothing", &[8, 4]) }?.params(), [8, 4]);
    Ok(())
}
