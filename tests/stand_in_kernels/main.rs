//! The contract's laws of kernels, of cudarc beside this crate, and of a device that breaks, on the
//! stand-in driver. Its kernels are functions of this program, under the names that the contract's
//! PTX has.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

use tidelock_contract_suite::cuda;
use tidelock_test_support::stand_in::{self, Launch};

/// Opens the stand-in before the first test, also in the processes that tests start.
#[used]
#[unsafe(link_section = ".init_array")]
static OPEN: extern "C" fn() = open;

extern "C" fn open() {
    let control = stand_in::load();
    // SAFETY: the functions keep to their parameters, which are those of the PTX.
    unsafe {
        control.register("scale", &[8, 4, 4], scale);
        control.register("add", &[8, 8, 4], add);
        control.register("fault", &[], fault);
        control.register("scale_matrix", &[40, 4], scale_matrix);
    }
}

const ILLEGAL_ADDRESS: u32 = 700;

/// Multiplies the first `n` of `x`.
unsafe extern "C" fn scale(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the parameters are registered as an address and two numbers of four bytes.
    let (factor, n) = unsafe { (launch.value::<u32>(1), launch.value::<u32>(2)) };
    // SAFETY: as above.
    let Some(x) = (unsafe { launch.slice::<u32>(0, n as usize) }) else { return ILLEGAL_ADDRESS };
    x.iter_mut().for_each(|x| *x = x.wrapping_mul(factor));
    0
}

/// A tensor of two axes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Matrix {
    ptr: *mut u8,
    shape: [usize; 2],
    stride: [usize; 2],
}

/// Multiplies the elements of a tensor of two axes.
unsafe extern "C" fn scale_matrix(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the parameters are registered as 40 bytes and a number of four bytes.
    let (matrix, factor) = unsafe { (launch.value::<Matrix>(0), launch.value::<u32>(1)) };
    for i in 0..matrix.shape[0] * matrix.shape[1] {
        let at = i / matrix.shape[1] * matrix.stride[0] + i % matrix.shape[1] * matrix.stride[1];
        // SAFETY: the elements of the tensor are those of the kernel.
        let Some(x) = (unsafe { launch.at::<u32>(matrix.ptr.wrapping_add(4 * at), 1) }) else { return ILLEGAL_ADDRESS };
        x[0] = x[0].wrapping_mul(factor);
    }
    0
}

/// Adds the first `n` of `x` to those of `y`.
unsafe extern "C" fn add(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the parameters are registered as two addresses and a number of four bytes.
    let n = unsafe { launch.value::<u32>(2) } as usize;
    // SAFETY: as above; the two do not overlap.
    let (Some(y), Some(x)) = (unsafe { (launch.slice::<u32>(0, n), launch.slice::<u32>(1, n)) }) else {
        return ILLEGAL_ADDRESS;
    };
    y.iter_mut().zip(x).for_each(|(y, x)| *y = y.wrapping_add(*x));
    0
}

/// Writes to memory that does not exist.
unsafe extern "C" fn fault(_: *const Launch) -> u32 {
    ILLEGAL_ADDRESS
}

#[test]
fn it_is_the_stand_in_that_is_tested() {
    assert!(stand_in::Library::find("libcuda.so").unwrap().symbol("tl_reset").is_some());
    assert!(cuda::devices().is_some());
}

tidelock_contract_suite::laws_of_cuda!();
