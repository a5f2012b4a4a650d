//! Which image of the copy kernels a device gets, and when it is loaded and unloaded.

use tidelock::{
    BatchCopy,
    cuda::{CopyKernels, Device, NoCopyKernels},
    driver::Code,
};
use tidelock_test_support::stand_in::{self, Control, Fault};

use crate::faults::fresh_device;

const LOAD: &str = "cuModuleLoadDataEx";
const UNLOAD: &str = "cuModuleUnload";

fn on_capability(control: &Control, (major, minor): (u64, u64)) -> Device {
    control.defaults();
    control.set("compute_major", major);
    control.set("compute_minor", minor);
    control.reset();
    fresh_device()
}

/// How many of the calls are called `name`.
fn count(calls: &[String], name: &str) -> usize {
    calls.iter().filter(|call| *call == name).count()
}

/// Two copies, which the copy kernels carry out.
fn batch(device: &Device) {
    let answer = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (source, mut a, mut b) = (ctx.zeros::<u32>(2)?, ctx.alloc::<u32>(1)?, ctx.alloc::<u32>(1)?);
        BatchCopy::new().scope(&ctx, |batch| {
            let (left, right) = source.view().split_at(1)?;
            batch.copy(left, a.view_mut())?;
            batch.copy(right, b.view_mut())
        })
    });
    answer.unwrap().unwrap();
}

/// The stand-in refuses machine code of another architecture, as a driver does. What has none gets
/// PTX.
#[test]
fn every_device_gets_an_image_that_it_runs() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    for capability in
        [(8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1), (13, 0), (20, 5)]
    {
        let device = on_capability(&control, capability);
        let (calls, answer) = control.calls_of(|| device.copy_kernels());
        assert_eq!(answer, CopyKernels::Loaded, "{capability:?}");
        assert_eq!(count(&calls, LOAD), 1, "{capability:?}");
        batch(&device);
        assert!(!control.take_kernels().is_empty(), "{capability:?}");
        drop(device);
        control.report().assert_clean();
    }
    control.defaults();
    control.reset();
}

/// The machine code of a major version may be refused by a device of it, which then takes PTX. A
/// device below 9.0 has none, and another refusal is final.
#[test]
fn refused_machine_code_gives_way_to_ptx() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    let no_binary = Code::NO_BINARY_FOR_GPU;
    for (capability, code, loads) in
        [((9, 0), no_binary, 2), ((12, 1), no_binary, 2), ((8, 7), no_binary, 1), ((9, 0), Code::INVALID_IMAGE, 1)]
    {
        let device = on_capability(&control, capability);
        control.fail(Fault { name: LOAD, nth: 1, onwards: false, releases: false, code: code.0 });
        let (calls, answer) = control.calls_of(|| device.copy_kernels());
        assert_eq!(control.disarm(), loads, "{capability:?}");
        assert_eq!(count(&calls, LOAD) as u64, loads, "{capability:?}");
        match answer {
            CopyKernels::Loaded => assert_eq!(loads, 2),
            CopyKernels::Absent(NoCopyKernels::Code(refused)) => assert_eq!((refused.error.code, loads), (code, 1)),
            other => panic!("{other:?}"),
        }
        batch(&device);
        drop(device);
        control.report().assert_clean();
    }
    control.defaults();
    control.reset();
}

/// The first batch of a context loads the kernels. Streams and handles share them, another context
/// has its own, and the last handle of a context unloads them.
#[test]
fn kernels_are_loaded_once_for_each_context_and_unloaded_with_it() {
    let control = stand_in::load();
    Device::open(0).unwrap();
    control.defaults();
    control.reset();
    let modules = |step: &mut dyn FnMut()| {
        let (calls, ()) = control.calls_of(step);
        (count(&calls, LOAD), count(&calls, UNLOAD))
    };
    let device = fresh_device();
    let plain = &mut || device.stream(|stream, _| stream.ctx().with_pool().zeros::<u8>(8).map(drop)).unwrap().unwrap();
    assert_eq!(modules(plain), (0, 0), "a stream without batches");
    assert_eq!(modules(&mut || batch(&device)), (1, 0), "the first batch");
    assert_eq!(modules(&mut || batch(&device)), (0, 0), "the second stream");
    let again = device.clone();
    assert_eq!(modules(&mut || batch(&again)), (0, 0), "another handle");
    let other = fresh_device();
    assert_eq!(modules(&mut || batch(&other)), (1, 0), "another context");
    let mut last = Some(again);
    drop(device);
    assert_eq!(modules(&mut || batch(last.as_ref().unwrap())), (0, 0), "one handle is left");
    assert_eq!(modules(&mut || drop(last.take())), (0, 1), "the last handle");
    assert_eq!(modules(&mut || batch(&other)), (0, 0), "the other context has its kernels");
    let mut other = Some(other);
    assert_eq!(modules(&mut || drop(other.take())), (0, 1), "the last handle of the other context");
    control.report().assert_clean();
}
