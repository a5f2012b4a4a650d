//! Laws that need a GPU: kernels, cudarc beside the library, and a device that breaks. They run if
//! there is a GPU, and print a line if there is none.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
    sync::{Arc, OnceLock},
};

use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg, sys};
use tidelock::{
    Error, Stack,
    cuda::{Device, Function, Grid, KernelPtr, Module},
    driver::Code,
};

use super::{get, noise, put, staged};

/// `scale(x, factor, n)`: multiplies the first `n` of `x`. `add(y, x, n)`: adds. `fault()`: writes
/// to address 8. `scale_matrix(x, factor)`: multiplies the elements of a tensor of two axes.
const PTX: &str = "
.version 7.0
.target sm_80
.address_size 64

.visible .entry scale(.param .u64 scale_x, .param .u32 scale_factor, .param .u32 scale_n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [scale_x];
    ld.param.u32 %r1, [scale_factor];
    ld.param.u32 %r2, [scale_n];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.u32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r6, %r2;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd2, %rd1;
    mul.wide.u32 %rd3, %r6, 4;
    add.u64 %rd4, %rd2, %rd3;
    ld.global.u32 %r7, [%rd4];
    mul.lo.u32 %r8, %r7, %r1;
    st.global.u32 [%rd4], %r8;
DONE:
    ret;
}

.visible .entry add(.param .u64 add_y, .param .u64 add_x, .param .u32 add_n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<8>;
    ld.param.u64 %rd1, [add_y];
    ld.param.u64 %rd2, [add_x];
    ld.param.u32 %r1, [add_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd3, %rd1;
    cvta.to.global.u64 %rd4, %rd2;
    mul.wide.u32 %rd5, %r5, 4;
    add.u64 %rd6, %rd3, %rd5;
    add.u64 %rd7, %rd4, %rd5;
    ld.global.u32 %r6, [%rd6];
    ld.global.u32 %r7, [%rd7];
    add.u32 %r8, %r6, %r7;
    st.global.u32 [%rd6], %r8;
DONE:
    ret;
}

.visible .entry scale_matrix(.param .align 8 .b8 matrix_x[40], .param .u32 matrix_factor)
{
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<16>;
    ld.param.u64 %rd1, [matrix_x];
    ld.param.u64 %rd2, [matrix_x+8];
    ld.param.u64 %rd3, [matrix_x+16];
    ld.param.u64 %rd4, [matrix_x+24];
    ld.param.u64 %rd5, [matrix_x+32];
    ld.param.u32 %r1, [matrix_factor];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    cvt.u64.u32 %rd6, %r5;
    mul.lo.u64 %rd7, %rd2, %rd3;
    setp.ge.u64 %p1, %rd6, %rd7;
    @%p1 bra DONE;
    div.u64 %rd8, %rd6, %rd3;
    rem.u64 %rd9, %rd6, %rd3;
    mul.lo.u64 %rd10, %rd8, %rd4;
    mul.lo.u64 %rd11, %rd9, %rd5;
    add.u64 %rd12, %rd10, %rd11;
    shl.b64 %rd13, %rd12, 2;
    cvta.to.global.u64 %rd14, %rd1;
    add.u64 %rd15, %rd14, %rd13;
    ld.global.u32 %r6, [%rd15];
    mul.lo.u32 %r7, %r6, %r1;
    st.global.u32 [%rd15], %r7;
DONE:
    ret;
}

.visible .entry fault()
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    mov.u64 %rd1, 8;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
";

/// The first GPU, and another device beside it: the second GPU, or a second context on the first.
pub fn devices() -> Option<(Device, Device)> {
    static DEVICES: OnceLock<Option<(Device, Device)>> = OnceLock::new();
    let open = || match Device::open(0) {
        Err(reason) => {
            // Written past the output capture of the test harness.
            let line = format!("contract: not run on CUDA: {reason}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
        Ok(one) if Device::count().unwrap() > 1 => Some((one, Device::open(1).unwrap())),
        Ok(one) => Some((one, Device::from_cudarc(&second_context()).unwrap())),
    };
    DEVICES.get_or_init(open).clone()
}

/// A context on the first GPU that is not its primary one.
fn second_context() -> Arc<CudaContext> {
    let mut context = std::ptr::null_mut();
    // SAFETY: the driver is there, and the place is valid for a write.
    let answer = unsafe { sys::cuCtxCreate_v2(&mut context, 0, 0) };
    assert_eq!(answer, sys::CUresult::CUDA_SUCCESS);
    // SAFETY: the context was just created for device 0, and `CudaContext` owns it from here on.
    unsafe { CudaContext::from_raw_context(0, 0, context) }.unwrap()
}

pub fn kernel(device: &Device, name: &str) -> Function {
    Module::load(device, PTX).unwrap().function(name).unwrap()
}

pub fn devices_are_distinguished_by_their_context() {
    let Some((one, two)) = devices() else { return };
    assert_eq!(one, Device::open(0).unwrap());
    assert_ne!(one, two);
    let count = Device::count().unwrap();
    let error = Device::open(count + 7).unwrap_err();
    assert_eq!(error, tidelock::cuda::OpenError::NoSuchDevice { ordinal: count + 7, count });
    // A cudarc context of the primary kind stands for the same device.
    assert_eq!(Device::from_cudarc(&CudaContext::new(0).unwrap()).unwrap(), one);
}

pub fn kernels_run_in_stream_order_on_memory_of_all_kinds() {
    let Some((one, two)) = devices() else { return };
    for device in [one, two] {
        let (scale, add) = (kernel(&device, "scale"), kernel(&device, "add"));
        assert_eq!((scale.params(), add.params()), (&[8, 4, 4][..], &[8, 8, 4][..]));
        let (a, b) = (noise(1, 10_001), noise(2, 10_001));
        let expected: Vec<u32> = a.iter().zip(&b).map(|(a, b)| a.wrapping_mul(3).wrapping_add(*b)).collect();
        device
            .stream(|stream, _| {
                let mut stack = Stack::new(stream.ctx().pool());
                for _ in 0..3 {
                    let ctx = stream.ctx().with_device_alloc(&stack);
                    let mut x = ctx.alloc::<u32>(10_001).unwrap();
                    ctx.upload(&a, x.view_mut()).unwrap();
                    // SAFETY: every element has just been written.
                    let mut x = unsafe { x.assume_init() };
                    let page = staged(&ctx, &b);
                    let grid = Grid::over(10_001);
                    // SAFETY: the kernel multiplies the elements of `x`, and touches nothing else.
                    unsafe { ctx.launch_kernel((&scale, grid), (x.view_mut(), 3_u32, 10_001_u32)) }.unwrap();
                    // SAFETY: the kernel reads `page` and adds to the elements of `x`.
                    unsafe { ctx.launch_kernel((&add, grid), (x.view_mut(), page.view(), 10_001_u32)) }.unwrap();
                    assert_eq!(get(&stream.ctx(), x.view()), expected);
                    drop(x);
                    stack.reset().unwrap();
                }
            })
            .unwrap();
    }
}

pub fn kernels_take_tensors() {
    let Some((one, two)) = devices() else { return };
    for device in [one, two] {
        let scale = kernel(&device, "scale_matrix");
        assert_eq!(scale.params(), [40, 4]);
        let values = noise(5, 40 * 30);
        device
            .stream(|stream, _| {
                let ctx = stream.ctx().with_pool();
                let mut x = put(&ctx, &values).tensor([40, 30]).unwrap();
                let (left, right) = x.view_mut().split_at(1, 11).unwrap();
                let turned = right.transpose(0, 1).unwrap();
                let grid = Grid::over(40 * 30);
                // SAFETY: the kernel multiplies the elements of each half, and touches nothing else.
                unsafe { ctx.launch_kernel((&scale, grid), (left, 3_u32)) }.unwrap();
                // SAFETY: as above.
                unsafe { ctx.launch_kernel((&scale, grid), (turned, 5_u32)) }.unwrap();
                let found = get(&ctx, x.buffer().view());
                for (i, (found, value)) in found.iter().zip(&values).enumerate() {
                    assert_eq!(*found, value.wrapping_mul(if i % 30 < 11 { 3 } else { 5 }), "{i}");
                }
                // A kernel that takes an address takes no tensor.
                let add = kernel(&device, "add");
                // SAFETY: it is refused.
                let answer = unsafe { ctx.launch_kernel((&add, grid), (x.view_mut(), 3_u64, 1_u32)) };
                assert!(matches!(answer, Err(Error::Length { operand: "args.0 (bytes)", expected: 8, found: 40 })));
            })
            .unwrap();
    }
}

pub fn a_launch_needs_no_current_context() {
    let Some((one, two)) = devices() else { return };
    std::thread::spawn(move || {
        let (on_one, on_two) = (kernel(&one, "scale"), kernel(&two, "scale"));
        one.stream(|a, _| {
            two.stream(|b, _| {
                let (mut x, mut y) = (put(&a.ctx(), &[1_u32, 2]), put(&b.ctx(), &[3_u32, 4]));
                for _ in 0..5 {
                    // SAFETY: the kernel multiplies the elements of `x`.
                    unsafe { a.ctx().launch_kernel((&on_one, Grid::over(2)), (x.view_mut(), 2_u32, 2_u32)) }.unwrap();
                    // SAFETY: the kernel multiplies the elements of `y`.
                    unsafe { b.ctx().launch_kernel((&on_two, Grid::over(2)), (y.view_mut(), 2_u32, 2_u32)) }.unwrap();
                }
                assert_eq!(get(&a.ctx(), x.view()), [32, 64]);
                assert_eq!(get(&b.ctx(), y.view()), [96, 128]);
            })
        })
        .unwrap()
        .unwrap();
    })
    .join()
    .unwrap();
}

pub fn a_launch_that_does_not_fit_is_refused() {
    let Some((one, two)) = devices() else { return };
    let module = Module::load(&one, PTX).unwrap();
    let scale = module.function("scale").unwrap();
    let elsewhere = kernel(&two, "scale");
    one.stream(|stream, _| {
        let ctx = stream.ctx();
        let mut x = put(&ctx, &[1_u32, 2, 3]);
        let grid = Grid::over(3);
        // SAFETY: refused.
        let answer = unsafe { ctx.launch_kernel((&scale, grid), (x.view_mut(), 2_u32)) };
        assert_eq!(answer, Err(Error::Length { operand: "args", expected: 3, found: 2 }));
        // SAFETY: refused.
        let answer = unsafe { ctx.launch_kernel((&scale, grid), (x.view_mut(), 2_u64, 3_u32)) };
        assert_eq!(answer, Err(Error::Length { operand: "args.1 (bytes)", expected: 4, found: 8 }));
        // SAFETY: refused.
        let answer = unsafe { ctx.launch_kernel((&elsewhere, grid), (x.view_mut(), 2_u32, 3_u32)) };
        assert!(matches!(answer, Err(Error::Driver(error)) if error.code == Code::INVALID_CONTEXT), "{answer:?}");
        // SAFETY: a launch with no threads, and one with more threads in a block than a device
        // allows.
        unsafe { ctx.launch_kernel((&scale, Grid::over(0)), (x.view_mut(), 2_u32, 3_u32)) }.unwrap();
        // SAFETY: refused by the driver.
        let answer =
            unsafe { ctx.launch_kernel((&scale, Grid::new([1; 3], [2048, 1, 1])), (x.view_mut(), 2_u32, 3_u32)) };
        assert!(matches!(answer, Err(Error::Driver(_))), "{answer:?}");
        assert_eq!(get(&ctx, x.view()), [1, 2, 3]);
    })
    .unwrap();
    let absent = module.function("nothing").unwrap_err();
    assert!(matches!(absent, Error::Driver(error) if error.code == Code::NOT_FOUND), "{absent:?}");
    // SAFETY: the declaration is checked.
    let declared = unsafe { module.function_declared("scale", &[8, 8, 4]) }.unwrap_err();
    assert_eq!(declared, Error::Length { operand: "args.1 (bytes)", expected: 4, found: 8 });
    // SAFETY: the kernel has these parameters.
    assert_eq!(unsafe { module.function_declared("scale", &[8, 4, 4]) }.unwrap().params(), [8, 4, 4]);
}

pub fn ptx_that_does_not_compile_says_why() {
    let Some((one, _)) = devices() else { return };
    let error = Module::load(&one, &PTX.replace("mul.lo.u32", "mul.fast.u32")).unwrap_err();
    assert!([Code::INVALID_PTX, Code::INVALID_IMAGE].contains(&error.error.code), "{error:?}");
    assert!(!error.log.is_empty(), "{error}");
    assert_eq!(Module::load(&one, "a\0b").unwrap_err().error.code, Code::INVALID_PTX);
    Module::load(&one, "").unwrap_err();
}

pub fn cudarc_launches_on_our_stream_and_memory() {
    let Some((one, _)) = devices() else { return };
    let theirs = CudaContext::new(0).unwrap();
    let scale = theirs.load_module(PTX.into()).unwrap().load_function("scale").unwrap();
    one.stream(|stream, _| {
        let ctx = stream.ctx();
        let mut x = put(&ctx, &noise(3, 1000));
        // SAFETY: the stream outlives the wrapper, and nothing captures it.
        let same_stream = unsafe { theirs.wrap_borrowed_stream(ctx.raw_stream().unwrap().cast()) };
        let (argument, factor, n) = (KernelPtr::from(x.view_mut()), 5_u32, 1000_u32);
        let mut launch = same_stream.launch_builder(&scale);
        launch.arg(&argument).arg(&factor).arg(&n);
        // SAFETY: the kernel multiplies the 1000 elements of `x`, and touches nothing else.
        unsafe { launch.launch(LaunchConfig::for_num_elems(n)) }.unwrap();
        let expected: Vec<u32> = noise(3, 1000).iter().map(|x| x.wrapping_mul(5)).collect();
        assert_eq!(get(&ctx, x.view()), expected);
    })
    .unwrap();
}

/// A request finds memory that another allocator of an idle stream still holds.
pub fn memory_that_waits_is_found() {
    let Some((one, _)) = devices() else { return };
    let answer = one.stream(|mut stream, _| {
        let (free, _) = stream.ctx().memory_info().unwrap();
        // So large that only one fits into memory.
        let bytes = free / 10 * 6;
        for round in 0..3 {
            let ctx = stream.ctx();
            let pool = ctx.with_pool().alloc::<u8>(bytes);
            assert!(pool.is_ok(), "{round}: {pool:?}");
            drop(pool);
            stream.synchronize().unwrap();
            let ctx = stream.ctx();
            let synchronous = ctx.with_device_alloc(ctx.sync_alloc()).alloc::<u8>(bytes);
            assert!(synchronous.is_ok(), "{round}: {synchronous:?}");
            let refused = ctx.with_pool().alloc::<u8>(bytes).unwrap_err();
            assert!(matches!(refused, Error::OutOfMemory { shortage: Some(_), .. }), "{refused}");
            drop(synchronous);
        }
    });
    answer.unwrap();
}

/// Each adoption loads the copy kernels again, because the last handle of the previous one has
/// unloaded them.
pub fn a_context_is_adopted_again_and_again() {
    if devices().is_none() {
        return;
    }
    let context = CudaContext::new(0).unwrap();
    let turn = || {
        let device = Device::from_cudarc(&context).unwrap();
        device.stream(|mut stream, _| {
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (put(&ctx, &noise(4, 4096)), ctx.zeros::<u32>(4096).unwrap());
            let rows = |i: usize| 64 * i..64 * i + 64;
            let mut batch = tidelock::BatchCopy::new();
            let copied = batch.scope(&ctx, |b| {
                let mut to = y.view_mut().chunks_exact(std::num::NonZero::new(64).unwrap());
                (0..64).rev().try_for_each(|i| b.copy(x.view().slice(rows(i))?, to.next().unwrap()))
            });
            copied.unwrap();
            assert_eq!(get(&ctx, y.view().slice(..64).unwrap()), noise(4, 4096)[rows(63)]);
            stream.synchronize().unwrap();
        })
    };
    (0..10).for_each(|_| turn().unwrap());
}

/// Which part the subprocess runs.
const PART: &str = "TIDELOCK_CONTRACT_PART";

/// Runs `part` of the test `name` in a process of its own.
pub fn alone(name: &str, part: &str) -> ExitStatus {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", name, "--nocapture", "--test-threads=1"];
    Command::new(this).args(arguments).env(PART, part).status().unwrap()
}

/// The part that this process runs, if it is a subprocess.
pub fn part() -> Option<String> {
    std::env::var(PART).ok()
}

pub fn is_poisoned(error: Error) -> bool {
    matches!(error, Error::Poisoned(error) if error.code.is_sticky())
}

pub fn a_kernel_that_faults_poisons_and_nothing_hangs() {
    if devices().is_some() {
        assert!(alone("cuda_only::breaks_a_device", "fault").success());
    }
}

pub fn a_loan_that_cannot_be_settled_aborts() {
    const SIGABRT: i32 = 6;
    if devices().is_some() {
        assert_eq!(alone("cuda_only::breaks_a_device", "loan").signal(), Some(SIGABRT));
    }
}

/// Runs in a subprocess only.
pub fn breaks_a_device() {
    let Some(part) = part() else { return };
    let device = Device::open(0).unwrap();
    let fault = kernel(&device, "fault");
    let mut target = [0_u32; 4];
    let answer = device.stream(|mut stream, env| {
        let x = put(&stream.ctx(), &[1_u32, 2, 3, 4]);
        if part == "loan" {
            stream.ctx().copy(x.view(), env.target(&mut target)).unwrap();
        }
        // SAFETY: the launch is unsound on purpose: the test shows what follows from such a
        // mistake.
        unsafe { stream.ctx().launch_kernel((&fault, Grid::new([1; 3], [1; 3])), ()) }.unwrap();
        assert!(is_poisoned(stream.synchronize().unwrap_err()));
        let ctx = stream.ctx().with_pool();
        assert!(is_poisoned(ctx.alloc::<u32>(4).unwrap_err()));
        assert!(is_poisoned(ctx.fence(staged(&ctx, &[1_u32])).unwrap_err().error));
        drop(x);
        assert!(stream.leaked_bytes() >= 16);
    });
    assert!(is_poisoned(answer.unwrap_err()));
    // The device is broken for the whole process.
    assert!(device.stream(|_, _| ()).is_err());
}
