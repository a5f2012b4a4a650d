//! Tensors of a GPU that are handed out: what orders another program's stream, and what frees the memory.

use std::{
    process::Command,
    ptr, thread,
    time::{Duration, Instant},
};

use cudarc::driver::sys;
use tidelock::{
    Device as _, Error, Result, Stream,
    any::AnyShared,
    cuda::{self, ConsumerStream, Cuda, CudaBackend, Device},
    dlpack::abi::READ_ONLY,
    driver::Code,
    stream::Detached,
};
use tidelock_test_support::stand_in::{self, Control, Fault};

fn ok(answer: sys::CUresult) {
    assert_eq!(answer, sys::CUresult::CUDA_SUCCESS);
}

/// The other program: a stream, and memory that it copies the tensor to.
struct Theirs {
    stream: sys::CUstream,
    memory: u64,
}

impl Theirs {
    fn new() -> Theirs {
        let (mut stream, mut memory) = (ptr::null_mut(), 0);
        // SAFETY: a context is current.
        unsafe {
            ok(sys::cuStreamCreate(&mut stream, 1));
            ok(sys::cuMemAlloc_v2(&mut memory, 4096));
        }
        Theirs { stream, memory }
    }

    fn consumer(&self) -> ConsumerStream {
        ConsumerStream::from_raw(self.stream.cast()).unwrap()
    }

    /// Reads the tensor on the stream.
    fn read(&self, address: u64) {
        // SAFETY: the memory is there, as is tested.
        ok(unsafe { sys::cuMemcpyDtoDAsync_v2(self.memory, address, 4096, self.stream) });
    }

    fn end(self) -> Vec<u32> {
        let mut found = vec![0_u32; 1024];
        // SAFETY: the stream and the memory are this value's, and the slice has so many bytes.
        unsafe {
            ok(sys::cuStreamSynchronize(self.stream));
            ok(sys::cuMemcpyDtoH_v2(found.as_mut_ptr().cast(), self.memory, 4096));
            ok(sys::cuMemFree_v2(self.memory));
            ok(sys::cuStreamDestroy_v2(self.stream));
        }
        found
    }
}

/// A tensor that a stream still writes, detached.
fn tensor(stream: &Stream<Cuda<'_>>) -> Result<AnyShared<Detached<CudaBackend>>> {
    let ctx = stream.ctx().with_pool();
    let mut memory = ctx.zeros::<u32>(1024)?;
    ctx.upload(&[7; 1024], memory.view_mut())?;
    Ok(ctx.detach(memory.share())?.tensor([32, 32])?.any())
}

fn with_tensor(test: impl FnOnce(&Control, &Device, AnyShared<Detached<CudaBackend>>, Theirs)) {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let answer = device.stream(|stream, _| {
        let context = cudarc::driver::CudaContext::new(0).unwrap();
        context.bind_to_thread().unwrap();
        let theirs = Theirs::new();
        test(&control, &device, tensor(&stream).unwrap(), theirs);
    });
    answer.unwrap();
    drop(device);
    settled(&control);
}

/// Nothing is left, once the stream that frees memory has come to its end, and nothing was found.
fn settled(control: &Control) {
    let start = Instant::now();
    let left = || {
        let report = control.report();
        assert_eq!(report.findings, Vec::<String>::new());
        ["allocation", "event", "stream"].map(|kind| report.live(kind))
    };
    while left() != [0; 3] && start.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(left(), [0; 3]);
}

#[test]
fn the_other_stream_waits_and_the_memory_outlives_its_kernels() {
    with_tensor(|control, _, tensor, theirs| {
        let kept = tensor.clone();
        // SAFETY: the stream lives until the deleter has returned, and reads the tensor.
        let (calls, exported) =
            control.calls_of(|| unsafe { cuda::export_tensor(tensor, Some(theirs.consumer())) }.map_err(|_| ()));
        let is_of_order = |name: &&String| !name.contains("Current");
        let of_order = |calls: Vec<String>| calls.iter().filter(is_of_order).cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(of_order(calls), "cuEventCreate cuStreamWaitEvent cuEventRecord");
        let managed = exported.unwrap().into_raw();
        // SAFETY: the structure is alive.
        let (flags, place) = unsafe { (managed.as_ref().flags, managed.as_ref().dl_tensor) };
        assert_eq!((flags, place.device.device_type, place.device.device_id), (READ_ONLY, 2, 0));
        theirs.read(place.data.addr() as u64);
        drop(kept);
        // SAFETY: the structure is alive, and is not used again.
        let delete = || unsafe { managed.as_ref().deleter.unwrap()(managed.as_ptr()) };
        let (calls, ()) = control.calls_of(delete);
        let calls = of_order(calls);
        assert!(calls.starts_with("cuEventRecord ") && calls.contains("cuMemFreeAsync"), "{calls}");
        assert!(!calls.contains("Synchronize"), "{calls}");
        assert_eq!(theirs.end(), [7; 1024]);
    });
}

#[test]
fn a_sole_owner_is_handed_out_to_be_written_and_deleted_anywhere() {
    with_tensor(|_, _, tensor, theirs| {
        // SAFETY: as above.
        let exported = unsafe { cuda::export_tensor(tensor, Some(theirs.consumer())) }.unwrap();
        let managed = exported.into_raw();
        // SAFETY: the structure is alive.
        let (flags, place) = unsafe { (managed.as_ref().flags, managed.as_ref().dl_tensor) };
        assert_eq!(flags, 0);
        theirs.read(place.data.addr() as u64);
        let managed = managed.as_ptr().expose_provenance();
        thread::spawn(move || {
            let managed = ptr::with_exposed_provenance_mut::<tidelock::dlpack::abi::DlManagedTensorVersioned>(managed);
            // SAFETY: the structure is alive, and is not used again.
            unsafe { (*managed).deleter.unwrap()(managed) }
        })
        .join()
        .unwrap();
        assert_eq!(theirs.end(), [7; 1024]);
    });
}

#[test]
fn without_a_stream_the_program_waits_itself() {
    with_tensor(|_, device, tensor, theirs| {
        // SAFETY: it is not used.
        let exported = unsafe { cuda::export_tensor(tensor, None) }.unwrap();
        drop(exported);
        assert_eq!(device.leaked_bytes(), 0);
        theirs.end();
    });
    assert_eq!(ConsumerStream::from_raw(ptr::null_mut()), None);
    assert_eq!(ConsumerStream::from_raw(ptr::without_provenance_mut(2)), None);
    assert_eq!(ConsumerStream::from_raw(ptr::without_provenance_mut(1)), Some(ConsumerStream::LEGACY));
}

#[test]
fn a_refused_export_gives_the_tensor_back() {
    for name in ["cuEventCreate", "cuStreamWaitEvent", "cuEventRecord"] {
        with_tensor(|control, _, tensor, theirs| {
            let fault = Fault { name, nth: 1, onwards: false, releases: false, code: 2 };
            control.fail(fault);
            // SAFETY: it is refused.
            let rejected = unsafe { cuda::export_tensor(tensor, Some(theirs.consumer())) }.unwrap_err();
            assert!(control.disarm() > 0, "{name}");
            assert!(matches!(rejected.error, Error::Driver(error) if error.code == Code::OUT_OF_MEMORY), "{name}");
            drop(rejected.value);
            theirs.end();
        });
    }
}

#[test]
fn a_deleter_waits_where_it_cannot_record() {
    with_tensor(|control, device, tensor, theirs| {
        // SAFETY: as above.
        let exported = unsafe { cuda::export_tensor(tensor, Some(theirs.consumer())) }.unwrap();
        control.fail(Fault { name: "cuEventRecord", nth: 1, onwards: false, releases: false, code: 2 });
        let (calls, ()) = control.calls_of(|| drop(exported));
        assert!(control.disarm() > 0 && calls.iter().any(|call| call == "cuStreamSynchronize"), "{calls:?}");
        assert_eq!(device.leaked_bytes(), 0);
        theirs.end();
    });
}

/// In a process of its own: what is leaked keeps the device.
#[test]
fn a_deleter_leaks_where_it_can_neither_record_nor_wait() {
    const CHILD: &str = "TIDELOCK_TEST_LEAKS";
    if std::env::var_os(CHILD).is_none() {
        let name = "dlpack::a_deleter_leaks_where_it_can_neither_record_nor_wait";
        let child = Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(CHILD, "1").output();
        let child = child.unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let answer = device.stream(|stream, _| {
        let context = cudarc::driver::CudaContext::new(0).unwrap();
        context.bind_to_thread().unwrap();
        let (theirs, tensor) = (Theirs::new(), tensor(&stream).unwrap());
        // SAFETY: as above.
        let exported = unsafe { cuda::export_tensor(tensor, Some(theirs.consumer())) }.unwrap();
        let fault = |name| Fault { name, nth: 1, onwards: false, releases: false, code: 2 };
        control.fail_in_turn(fault("cuEventRecord"), fault("cuStreamSynchronize"));
        drop(exported);
        control.disarm();
        assert_eq!(device.leaked_bytes(), 4096);
        theirs.end();
    });
    answer.unwrap();
    let report = control.report();
    assert_eq!((report.live("allocation"), report.findings), (1, Vec::new()));
}
