//! Processes that fork after the driver was initialised: every call that needs the driver returns
//! an error that says so, and none hangs. Each case runs in a process of its own.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

use std::{
    env,
    ffi::{c_int, c_uint},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    process::Command,
    sync::mpsc,
    task::{Context, Poll, Waker},
};

use tidelock::{
    Buffer, Device as _, Error,
    cuda::{CopyKernels, CudaBackend, Device, Module, OpenError},
    driver::Code,
    location::Pinned,
};
use tidelock_test_support::stand_in;

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn alarm(seconds: c_uint) -> c_uint;
    fn _exit(status: c_int) -> !;
}

/// Set in the process that forks.
const PARENT: &str = "TIDELOCK_FORKS";

/// What the forking process prints at its end.
const DONE: &str = "the child has ended well";

/// Runs the test called `name` alone in a process of its own.
#[track_caller]
fn play(name: &str) {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(PARENT, "1")
        .output()
        .unwrap();
    let output = [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(child.status.success() && output.contains(DONE), "{output}");
}

/// Forks, and runs `f` in the child, which is killed after a minute if it hangs. Panics unless `f`
/// returns.
#[track_caller]
fn in_child(f: impl FnOnce()) {
    // SAFETY: the child uses what this thread has, and ends without running what other threads
    // left.
    match unsafe { fork() } {
        0 => {
            // SAFETY: it changes only when the process is ended.
            unsafe { alarm(60) };
            let status = if catch_unwind(AssertUnwindSafe(f)).is_ok() { 0 } else { 1 };
            // SAFETY: it does not return.
            unsafe { _exit(status) }
        }
        child => {
            assert!(child > 0);
            let mut status = 0;
            // SAFETY: `status` is valid for a write.
            assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "the child failed, or was ended by a signal");
        }
    }
}

/// What every driver call of a forked process returns.
#[track_caller]
fn assert_forked(error: Error) {
    let Error::Driver(error) = error else { panic!("{error:?}") };
    assert_eq!(error.code, Code::NOT_INITIALIZED);
    assert!(error.to_string().contains("forked"), "{error}");
}

#[test]
fn a_forked_process_is_refused() {
    play("refused_in_the_child");
}

#[test]
fn a_process_that_is_forked_earlier_opens_the_device_itself() {
    play("opened_in_the_child");
}

#[test]
fn a_stream_that_was_open_ends_in_the_child() {
    play("stream_in_the_child");
}

#[test]
fn what_is_watched_ends_in_the_child() {
    play("watched_in_the_child");
}

#[test]
fn refused_in_the_child() {
    if env::var_os(PARENT).is_none() {
        return;
    }
    let _control = stand_in::load();
    let device = Device::open(0).unwrap();
    in_child(|| {
        let error = Device::open(0).unwrap_err();
        assert_eq!(error, OpenError::Forked);
        assert!(error.to_string().contains("forked"), "{error}");
        assert_forked(error.into());
        assert_eq!(Device::count(), Err(OpenError::Forked));
        assert_forked(device.stream(|_, _| ()).unwrap_err());
        let Err(Error::Driver(error)) = Buffer::<u32, Pinned<CudaBackend>>::zeros(4) else { panic!("it was pinned") };
        assert_eq!(error.code, Code::NOT_INITIALIZED);
        assert_forked(Module::load(&device, "//").unwrap_err().into());
        let CopyKernels::Absent(reason) = device.copy_kernels() else { panic!("they were loaded") };
        assert!(reason.to_string().contains("forked"), "{reason}");
    });
    // The parent is not affected.
    device.stream(|mut stream, _| stream.synchronize().map(drop)).unwrap().unwrap();
    println!("{DONE}");
}

#[test]
fn opened_in_the_child() {
    if env::var_os(PARENT).is_none() {
        return;
    }
    let control = stand_in::load();
    let refuse = |nth| stand_in::Fault { name: "cuInit", nth, onwards: false, releases: false, code: 802 };
    control.fail(refuse(1));
    assert!(Device::open(0).is_err());
    control.disarm();
    // Nothing was initialised yet.
    in_child(|| Device::open(0).unwrap().stream(|mut stream, _| stream.synchronize().map(drop)).unwrap().unwrap());
    Device::open(0).unwrap();
    println!("{DONE}");
}

#[test]
fn stream_in_the_child() {
    if env::var_os(PARENT).is_none() {
        return;
    }
    let _control = stand_in::load();
    let device = Device::open(0).unwrap();
    device
        .stream(|mut stream, _| {
            let ctx = stream.ctx().with_pool();
            let mut memory = ctx.zeros::<u32>(4).unwrap();
            in_child(|| {
                let ctx = stream.ctx().with_pool();
                let Err(Error::Driver(error)) = ctx.clear(memory.view_mut()) else { panic!("it was taken") };
                assert_eq!(error.code, Code::NOT_INITIALIZED);
                assert!(ctx.alloc::<u32>(4).is_err());
                assert!(stream.synchronize().is_err());
            });
            stream.synchronize().map(drop)
        })
        .unwrap()
        .unwrap();
    println!("{DONE}");
}

/// The thread that watches records is the parent's. In the child nothing waits for it.
#[test]
fn watched_in_the_child() {
    if env::var_os(PARENT).is_none() {
        return;
    }
    let _control = stand_in::load();
    let device = Device::open(0).unwrap();
    device
        .stream(|mut stream, _| {
            let ctx = stream.ctx();
            let fenced =
                || ctx.fence(ctx.init_zeros(ctx.alloc_pinned::<u32>(4).unwrap().stage(&ctx)).unwrap()).unwrap();
            let (tell, told) = mpsc::channel();
            ctx.notify(move |answer| tell.send(answer).unwrap()).unwrap();
            // The thread runs.
            told.recv().unwrap().unwrap();
            let (mut polled, mut arriving, dropped) = (fenced(), fenced().detach(), fenced().detach());
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut polled).poll(cx);
            in_child(|| {
                let leaked = device.leaked_bytes();
                let is_refused = |error| matches!(error, Error::Driver(error) if error.code == Code::NOT_INITIALIZED);
                assert!(is_refused(arriving.is_ready().unwrap_err()));
                let Poll::Ready(Err(rejected)) = Pin::new(&mut arriving).poll(&mut Context::from_waker(Waker::noop()))
                else {
                    panic!("it is still pending")
                };
                assert!(is_refused(rejected.error));
                assert!(is_refused(rejected.value.wait().unwrap_err().error));
                // Leaked, and counted: this process cannot see that the device has passed it.
                assert_eq!(device.leaked_bytes(), leaked + 16);
                drop(dropped);
                assert_eq!(device.leaked_bytes(), leaked + 32);
                drop(polled);
                assert!(stream.ctx().notify(|_| ()).is_err());
            });
            stream.synchronize().map(drop)
        })
        .unwrap()
        .unwrap();
    println!("{DONE}");
}
