//! Measuring the copy tuning with calls that fail: nothing is freed that the device may be using,
//! nothing else is lost, and the device is usable afterwards.

use tidelock::{
    Buffer, Error,
    cuda::{CopyKernels, CudaBackend, Device},
    driver::{Backend, Code},
    location::Pinned,
};
use tidelock_test_support::{
    memory::{get, put},
    stand_in::{self, Control, Fault},
};

use crate::faults::fresh_device;

/// A temporary error.
const REFUSED: u32 = 999;
const WAIT: &str = "cuStreamSynchronize";

/// Bytes of page-locked memory that a measurement takes.
const PINNED: usize = 4 << 20;

fn fault(name: &str, nth: u64, onwards: bool) -> Fault<'_> {
    Fault { name, nth, onwards, releases: false, code: REFUSED }
}

/// A new context of the device, so that the library has measured nothing on it, with the copy
/// kernels.
fn open(control: &Control) -> Device {
    control.reset();
    let device = fresh_device();
    assert_eq!(device.copy_kernels(), CopyKernels::Loaded);
    device
}

/// Asserts that the device completes a round trip.
#[track_caller]
fn is_of_use(device: &Device) {
    let back = device.stream(|stream, _| get(&stream.ctx(), put(&stream.ctx(), &[1_u32, 2, 3]).view()));
    assert_eq!(back.unwrap(), [1, 2, 3]);
}

/// Calibrates with calls that fail. Returns whether anything failed, and the device memory and the
/// page-locked bytes that stay.
fn calibrate(control: &Control, first: Fault<'_>, second: Option<Fault<'_>>) -> (bool, usize, usize) {
    let device = open(control);
    let used = CudaBackend::PINNED.usage().used;
    match second {
        Some(second) => control.fail_in_turn(first, second),
        None => control.fail(first),
    }
    let answer = device.calibrate();
    control.disarm();
    // What is handed out again belongs to the host.
    let pinned = CudaBackend::PINNED.usage().used - used;
    let mut page = Buffer::<u8, Pinned<CudaBackend>>::zeros(PINNED).unwrap();
    page.fill(7);
    let report = control.report();
    let case = format!("{first:?}, {second:?}: {answer:?}; {report:#?}");
    assert_eq!(report.findings, [""; 0], "{case}");
    assert_eq!(report.sticky, [], "{case}");
    assert!(page.iter().all(|byte| *byte == 7), "{case}");
    match answer {
        Ok(_) => {}
        Err(Error::Driver(error)) => assert_eq!(error.code, Code(REFUSED), "{case}"),
        Err(_) => panic!("{case}"),
    }
    is_of_use(&device);
    (answer.is_err(), report.live("allocation"), pinned)
}

#[test]
fn a_refused_wait_frees_nothing_that_is_in_use() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    control.set("delay", 20_000);
    // The first zeroes the memory, the others are for batches in both directions.
    for nth in [1, 2, 7] {
        // The call is made again, and succeeds.
        assert_eq!(calibrate(&control, fault(WAIT, nth, false), None), (true, 0, 0), "wait {nth}");
        // Both are refused: the memory stays.
        let again = Some(fault(WAIT, 1, false));
        assert_eq!(calibrate(&control, fault(WAIT, nth, false), again), (true, 1, PINNED), "wait {nth} and the next");
    }
}

#[test]
fn each_kind_of_its_calls_may_fail() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    control.set("delay", 0);
    // The calls that end it early, and the calls that free at the end. The clock decides which
    // routes are measured, and how often.
    let kinds = [
        "cuCtxGetCurrent",
        "cuMemPoolCreate",
        "cuMemPoolSetAttribute",
        "cuStreamCreateWithPriority",
        "cuMemAlloc_v2",
        "cuMemsetD8Async",
        "cuLaunchKernelEx",
        "cuMemcpyAsync",
        "cuMemcpyBatchAsync_v2",
        "cuStreamQuery",
        "cuMemFree_v2",
    ];
    for name in kinds {
        let (_, memory, pinned) = calibrate(&control, fault(name, 1, false), None);
        assert!(memory <= usize::from(name.contains("Free")), "{name}");
        assert_eq!(pinned, 0, "{name}");
    }
    // All calls from there on.
    for nth in 1..20 {
        calibrate(&control, fault("", nth, true), None);
    }
}

/// On a device whose driver accepts no batches, plain host memory is copied piece by piece, and
/// waited for.
#[test]
fn plain_host_memory_that_cannot_be_waited_for_is_no_reason_to_abort() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    control.set("compute_major", 10);
    control.set("delay", 0);
    // The size from which plain host memory is a route of its own depends on earlier measurements.
    for nth in [45, 90, 150, 210, 260, 300] {
        calibrate(&control, fault(WAIT, nth, true), None);
    }
}
