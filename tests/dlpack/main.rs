//! Tensors of and for other programs: what is handed out, what is taken, and hostile structures.

use std::{
    ffi::c_void,
    ptr::{self, NonNull},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
};

use tidelock::{
    AnyLayout, Buffer, DType, Error, Result,
    any::AnyTensor,
    dlpack::{
        DlError, Imported,
        abi::{DlDataType, DlDevice, DlManagedTensor, DlManagedTensorVersioned, DlTensor, DlVersion, READ_ONLY},
        export, export_shared, import_on_stream,
    },
    element::{f4e2m1x2, f8e4m3},
    half::bf16,
    location::Host,
    sim,
};

const CPU: DlDevice = DlDevice { device_type: 1, device_id: 0 };
const GPU: DlDevice = DlDevice { device_type: 2, device_id: 0 };
const F32: DlDataType = DlDataType { code: 2, bits: 32, lanes: 1 };

/// A tensor of another program, which counts the calls of its deleter.
struct Theirs {
    tensor: DlTensor,
    shape: Vec<i64>,
    strides: Option<Vec<i64>>,
    version: u32,
    deleted: Arc<AtomicU32>,
}

struct Behind {
    _shape: Vec<i64>,
    _strides: Option<Vec<i64>>,
    deleted: Arc<AtomicU32>,
}

impl Theirs {
    fn new<T>(memory: *const T, dtype: DlDataType, shape: &[i64]) -> Theirs {
        let tensor = DlTensor {
            data: memory.cast_mut().cast(),
            device: CPU,
            ndim: shape.len() as i32,
            dtype,
            shape: ptr::null_mut(),
            strides: ptr::null_mut(),
            byte_offset: 0,
        };
        Theirs { tensor, shape: shape.to_vec(), strides: None, version: 1, deleted: Arc::default() }
    }

    fn strides(mut self, strides: &[i64]) -> Theirs {
        self.strides = Some(strides.to_vec());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut DlTensor)) -> Theirs {
        change(&mut self.tensor);
        self
    }

    fn parts(&mut self) -> (DlTensor, *mut c_void) {
        let mut tensor = self.tensor;
        tensor.shape = self.shape.as_mut_ptr();
        tensor.strides = self.strides.as_mut().map_or(ptr::null_mut(), Vec::as_mut_ptr);
        let behind = Behind {
            _shape: std::mem::take(&mut self.shape),
            _strides: self.strides.take(),
            deleted: self.deleted.clone(),
        };
        (tensor, Box::into_raw(Box::new(behind)).cast())
    }

    fn versioned(mut self) -> NonNull<DlManagedTensorVersioned> {
        let (dl_tensor, manager_ctx) = self.parts();
        let version = DlVersion { major: self.version, minor: 0 };
        let managed = DlManagedTensorVersioned {
            version,
            manager_ctx,
            deleter: Some(delete_versioned),
            flags: READ_ONLY,
            dl_tensor,
        };
        NonNull::new(Box::into_raw(Box::new(managed))).unwrap()
    }

    fn unversioned(mut self) -> NonNull<DlManagedTensor> {
        let (dl_tensor, manager_ctx) = self.parts();
        NonNull::new(Box::into_raw(Box::new(DlManagedTensor { dl_tensor, manager_ctx, deleter: Some(delete) })))
            .unwrap()
    }
}

unsafe extern "C" fn delete_versioned(managed: *mut DlManagedTensorVersioned) {
    // SAFETY: made by `versioned`, and called once.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: made by `parts`.
    let behind = unsafe { Box::from_raw(managed.manager_ctx.cast::<Behind>()) };
    behind.deleted.fetch_add(1, SeqCst);
}

unsafe extern "C" fn delete(managed: *mut DlManagedTensor) {
    // SAFETY: made by `unversioned`, and called once.
    let managed = unsafe { Box::from_raw(managed) };
    // SAFETY: made by `parts`.
    let behind = unsafe { Box::from_raw(managed.manager_ctx.cast::<Behind>()) };
    behind.deleted.fetch_add(1, SeqCst);
}

/// The error of an import, which has not called the deleter.
fn refused(theirs: Theirs) -> DlError {
    let deleted = theirs.deleted.clone();
    let managed = theirs.versioned();
    // SAFETY: the structure is valid as far as it is read before it is refused.
    let rejected = unsafe { Imported::new(managed) }.unwrap_err();
    assert_eq!((rejected.value, deleted.load(SeqCst)), (managed, 0));
    // SAFETY: it came back, and is not used again.
    unsafe { delete_versioned(managed.as_ptr()) };
    assert_eq!(deleted.load(SeqCst), 1);
    rejected.error
}

#[test]
fn a_tensor_of_another_program_is_read_where_it_lies() {
    let memory = [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let theirs = Theirs::new(memory.as_ptr(), F32, &[2, 3]);
    let deleted = theirs.deleted.clone();
    // SAFETY: the memory outlives the import.
    let ours = unsafe { Imported::new(theirs.versioned()) }.unwrap();
    assert_eq!(ours.view().as_ptr().cast(), memory.as_ptr());
    assert!(ours.view().downcast::<f32, 2>().unwrap().iter().eq(&memory) && ours.is_read_only());
    thread::spawn(move || drop(ours)).join().unwrap();
    assert_eq!(deleted.load(SeqCst), 1);

    // By columns, two elements in, from before DLPack 1.0.
    let theirs = Theirs::new(memory.as_ptr(), F32, &[2, 2]).strides(&[1, 2]).with(|tensor| tensor.byte_offset = 8);
    let deleted = theirs.deleted.clone();
    // SAFETY: the memory outlives the import.
    let ours = unsafe { Imported::unversioned(theirs.unversioned()) }.unwrap();
    assert!(ours.view().downcast::<f32, 2>().unwrap().iter().eq(&[3.0, 5.0, 4.0, 6.0]) && !ours.is_read_only());
    drop(ours);
    assert_eq!(deleted.load(SeqCst), 1);
}

#[test]
fn elements_of_less_than_a_byte_and_flags() {
    let packed = [f4e2m1x2::from_f32([0.5, 6.0]), f4e2m1x2::from_f32([1.0, -3.0])];
    let theirs = Theirs::new(packed.as_ptr(), DlDataType { code: 17, bits: 4, lanes: 2 }, &[2]);
    // SAFETY: the memory outlives the import.
    let ours = unsafe { Imported::new(theirs.versioned()) }.unwrap();
    assert_eq!(ours.view().downcast::<f4e2m1x2, 1>().unwrap().get([1]).unwrap().values(), [1.0, -3.0]);
    drop(ours);
    let flag = DlDataType { code: 6, bits: 8, lanes: 1 };
    // Bytes between the columns may be anything.
    let bytes = [1_u8, 77, 0, 77, 1, 77];
    let theirs = Theirs::new(bytes.as_ptr(), flag, &[3]).strides(&[2]);
    // SAFETY: the memory outlives the import.
    let ours = unsafe { Imported::new(theirs.versioned()) }.unwrap();
    assert!(ours.view().downcast::<bool, 1>().unwrap().iter().eq(&[true, false, true]));
    drop(ours);
    let wrong = refused(Theirs::new(bytes.as_ptr(), flag, &[3, 2]).strides(&[2, 1]));
    assert_eq!(wrong, DlError::Other(Error::NotAValue { operand: "tensor", position: 1 }));
}

#[test]
fn hostile_structures() {
    let memory = [0_u64; 8];
    let new = |shape: &[i64]| Theirs::new(memory.as_ptr(), F32, shape);
    assert_eq!(refused(Theirs { version: 2, ..new(&[1]) }), DlError::Version { major: 2, minor: 0 });
    assert_eq!(refused(Theirs { version: 0, ..new(&[1]) }), DlError::Version { major: 0, minor: 0 });
    let device = |error| matches!(error, DlError::Device { device_type: 2, .. });
    assert!(device(refused(new(&[1]).with(|tensor| tensor.device = GPU))));
    for (code, bits, lanes) in
        [(2, 32, 2), (2, 32, 0), (2, 31, 1), (3, 64, 1), (5, 64, 1), (17, 4, 1), (6, 1, 1), (99, 8, 1)]
    {
        let dtype = DlDataType { code, bits, lanes };
        assert_eq!(refused(new(&[1]).with(|tensor| tensor.dtype = dtype)), DlError::Element { code, bits, lanes });
    }
    assert_eq!(refused(new(&[1; 9])), DlError::Axes { ndim: 9 });
    assert_eq!(refused(new(&[1]).with(|tensor| tensor.ndim = -1)), DlError::Axes { ndim: -1 });
    assert_eq!(refused(new(&[1]).with(|tensor| tensor.ndim = i32::MAX)), DlError::Axes { ndim: i32::MAX });
    assert_eq!(refused(new(&[2, -1])), DlError::Negative { axis: 1, extent: -1, stride: 0 });
    assert_eq!(refused(new(&[2, 2]).strides(&[-2, 1])), DlError::Negative { axis: 0, extent: 2, stride: -2 });
    assert_eq!(refused(new(&[i64::MIN])), DlError::Negative { axis: 0, extent: i64::MIN, stride: 0 });
    let too_large = DlError::Other(Error::TooLarge { operand: "layout" });
    assert_eq!(refused(new(&[i64::MAX, 2])), too_large);
    assert_eq!(refused(new(&[2, 2]).strides(&[i64::MAX, i64::MAX])), too_large);
    let address = |error| matches!(error, DlError::Address { .. });
    assert!(address(refused(new(&[i64::MAX]))), "bytes that overflow");
    assert!(address(refused(new(&[1]).with(|tensor| tensor.data = ptr::null_mut()))));
    let behind_null = |tensor: &mut DlTensor| (tensor.data, tensor.byte_offset) = (ptr::null_mut(), 64);
    assert!(address(refused(new(&[1]).with(behind_null))));
    assert!(address(refused(new(&[1]).with(|tensor| tensor.byte_offset = 2))), "not aligned");
    assert!(address(refused(new(&[1]).with(|tensor| tensor.byte_offset = u64::MAX - 3))), "wraps around");
}

#[test]
fn no_elements_and_axes_of_one_place() {
    let memory = [7_i32; 2];
    let int = DlDataType { code: 0, bits: 32, lanes: 1 };
    let import = |theirs: Theirs| {
        // SAFETY: the memory outlives the import.
        unsafe { Imported::new(theirs.versioned()) }.unwrap()
    };
    // NumPy and PyTorch export no elements with any address, and axes of one place with any stride.
    let none = import(Theirs::new(ptr::null::<i32>(), int, &[0, 3]));
    assert_eq!(none.view().downcast::<i32, 2>().unwrap().shape(), [0, 3]);
    let one = import(Theirs::new(memory.as_ptr(), int, &[1, 2]).strides(&[-99, 1]));
    assert!(one.view().downcast::<i32, 2>().unwrap().iter().eq(&[7, 7]));
    let scalar = import(Theirs::new(memory.as_ptr(), int, &[]));
    assert_eq!(scalar.view().downcast::<i32, 0>().unwrap().get([]), Ok(&7));
}

#[test]
fn what_is_handed_out_comes_back() {
    let values = [1.0, -2.5, 3.0, 0.0, 7.0, 9.5].map(bf16::from_f32);
    let tensor: AnyTensor<Host> = Buffer::<bf16, Host>::from_slice(&values).unwrap().tensor([2, 3]).unwrap().into();
    let managed = export(tensor).into_raw();
    // SAFETY: the structure is alive.
    let (version, flags, dtype) =
        unsafe { (managed.as_ref().version, managed.as_ref().flags, managed.as_ref().dl_tensor.dtype) };
    assert_eq!((version.major, flags, dtype), (1, 0, DlDataType { code: 4, bits: 16, lanes: 1 }));
    // SAFETY: the structure was just exported, and is given away.
    let back = unsafe { Imported::new(managed) }.unwrap();
    assert!(back.view().downcast::<bf16, 2>().unwrap().iter().eq(&values));
    drop(back);
    for dtype in DType::ALL {
        let bytes = vec![0; 2 * dtype.group_bytes()];
        let tensor = AnyTensor::from_le_bytes(*dtype, &[2], &bytes).unwrap();
        let managed = export(tensor).into_raw();
        // SAFETY: as above.
        assert_eq!(unsafe { Imported::new(managed) }.unwrap().view().dtype(), *dtype);
    }
    // Dropped without a consumer, also on another thread.
    let exported = export(AnyTensor::from_le_bytes(DType::U8, &[], &[3]).unwrap());
    thread::spawn(move || drop(exported)).join().unwrap();
}

#[test]
fn what_is_still_read_is_marked_and_kept() {
    let values: Vec<u16> = (0..12).collect();
    let tensor: AnyTensor<Host> = Buffer::<u16, Host>::from_slice(&values).unwrap().tensor([3, 4]).unwrap().into();
    let tensor = Arc::new(tensor);
    let (columns, first) = tensor.layout().slice(1, 1..3).unwrap();
    let columns = columns.transpose(0, 1).unwrap();
    let managed = export_shared(tensor.clone(), columns, first).unwrap().into_raw();
    // SAFETY: the structure was just exported, and is given away.
    let back = unsafe { Imported::new(managed) }.unwrap();
    assert!(back.is_read_only() && Arc::strong_count(&tensor) == 2);
    assert!(back.view().downcast::<u16, 2>().unwrap().iter().eq(&[1, 5, 9, 2, 6, 10]));
    drop(back);
    assert_eq!(Arc::strong_count(&tensor), 1);
    let rejected = export_shared(tensor.clone(), AnyLayout::new(&[12]).unwrap(), 1).unwrap_err();
    assert_eq!(rejected.error, Error::Length { operand: "tensor", expected: 13, found: 12 });
    let beyond = export_shared(tensor, AnyLayout::new(&[1]).unwrap(), usize::MAX).unwrap_err();
    assert!(matches!(beyond.error, Error::Length { .. }));
}

#[test]
fn device_memory_of_another_program_is_deleted_behind_its_last_use() {
    let device = sim::Device::new(sim::Options::quick().race_detector(true));
    // Their memory, which this test keeps.
    let theirs = device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            ctx.detach(ctx.upload_new(&[1.0_f32, 2.0, 3.0, 4.0]).unwrap()).unwrap()
        })
        .unwrap();
    let deleted = Arc::new(AtomicU32::new(0));
    device
        .stream(|mut stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let structure = |dtype: DlDataType| {
                let mut structure = Theirs::new(theirs.view().as_ptr(), dtype, &[2, 2]).strides(&[1, 2]);
                structure.deleted = deleted.clone();
                structure.with(|tensor| tensor.device = GPU).versioned()
            };
            // SAFETY: the memory outlives the import, and what wrote it has ended.
            let other =
                unsafe { import_on_stream(&ctx, DlDevice { device_id: 1, ..GPU }, structure(F32)) }.unwrap_err();
            assert_eq!(other.error, DlError::Device { device_type: 2, device_id: 0 });
            // SAFETY: the structure came back.
            unsafe { delete_versioned(other.value.as_ptr()) };
            // SAFETY: as above.
            let flags = unsafe { import_on_stream(&ctx, GPU, structure(DlDataType { code: 6, bits: 8, lanes: 1 })) };
            // SAFETY: the structure came back.
            unsafe { delete_versioned(flags.unwrap_err().value.as_ptr()) };
            assert_eq!(deleted.swap(0, SeqCst), 2);

            // SAFETY: as above.
            let shared = unsafe { import_on_stream(&ctx, GPU, structure(F32)) }.unwrap();
            assert_eq!((shared.dtype(), shared.layout().to_string()), (DType::F32, "(2,2):(1,2)".into()));
            let shared = shared.downcast::<f8e4m3, 2>().unwrap_err().value.downcast::<f32, 2>().unwrap();
            // The other program may have owners of it: a sole one here does not write it.
            let (mut memory, layout) = shared.into_parts();
            assert!(memory.get_mut().is_none());
            let shared = memory.strided(layout)?;
            let dense = ctx.init_tensor(ctx.alloc::<f32>(4)?.tensor([2, 2])?, shared.view())?;
            let part = shared.slice(0, 1..)?;
            drop(shared);
            stream.synchronize()?;
            assert_eq!(deleted.load(SeqCst), 0, "a part is kept");
            drop(part);
            assert_eq!(stream.read(dense.buffer().view())?, [1.0, 3.0, 2.0, 4.0]);
            Ok(())
        })
        .unwrap()
        .unwrap();
    assert_eq!((deleted.load(SeqCst), device.gpu().check()), (1, Ok(())));
    drop(theirs);
}

/// An import looks at the bytes that there are, however many elements are said to lie in them.
#[test]
fn flags_that_are_repeated_without_end() {
    const BOOL: DlDataType = DlDataType { code: 6, bits: 8, lanes: 1 };
    let good = [1_u8, 0, 1, 1];
    let theirs = || Theirs::new(good.as_ptr(), BOOL, &[1 << 40, 2, 1 << 20, 2]).strides(&[0, 2, 0, 1]);
    // SAFETY: the memory outlives the import.
    let ours = unsafe { Imported::new(theirs().versioned()) }.unwrap();
    assert_eq!(ours.view().layout().size(), 1 << 62);
    let bad = [1_u8, 0, 1, 2];
    let theirs = Theirs::new(bad.as_ptr(), BOOL, &[5, 2, 3, 2]).strides(&[0, 2, 0, 1]);
    // The element at [0, 1, 0, 1].
    assert_eq!(refused(theirs), DlError::Other(Error::NotAValue { operand: "tensor", position: 7 }));
    let theirs = Theirs::new(good.as_ptr(), BOOL, &[2, 2, 2]).strides(&[1, 1, 1]);
    assert_eq!(refused(theirs), DlError::Other(Error::Aliases { operand: "tensor", axis: 1 }));
    let theirs = Theirs::new(good.as_ptr(), BOOL, &[0, 1 << 40, 1 << 20]).strides(&[0, 0, 0]);
    // SAFETY: as above.
    assert_eq!(unsafe { Imported::new(theirs.versioned()) }.unwrap().view().layout().size(), 0);
}
