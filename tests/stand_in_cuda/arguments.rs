//! Lists and tables as arguments of functions of a module: what lies in the parameter, and in the
//! memory that it points to.

use std::num::NonZero;

use tidelock::{
    Buffer, Error,
    cuda::{Device, Grid, Module},
};
use tidelock_test_support::{
    memory::{get, put},
    stand_in::{self, Control, Launch},
};

const PTX: &str = ".version 7.0\n.visible .entry add_list(.param .align 8 .b8 x[24], .param .u64 out)\n\
    .visible .entry add_table(.param .u64 table, .param .u64 out, .param .u32 n)\n\
    .visible .entry fill_table(.param .u64 table, .param .u32 n)";

/// An entry with a payload, as a kernel declares it: `struct { unsigned *x; unsigned len; }`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    target: *mut u8,
    len: u32,
}

/// `out[0]` is the sum of the first elements of the three operands.
unsafe extern "C" fn add_list(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the first parameter is a struct of three addresses of numbers.
    let addresses: [*mut u8; 3] = unsafe { launch.value(0) };
    // SAFETY: the second parameter is the address of a number.
    let Some(out) = (unsafe { launch.slice::<u32>(1, 1) }) else { return 700 };
    for address in addresses {
        // SAFETY: as above.
        let Some(x) = (unsafe { launch.at::<u32>(address, 1) }) else { return 700 };
        out[0] += x[0];
    }
    0
}

/// `out[i]` is the sum of the elements of target `i` of a table of addresses and lengths.
unsafe extern "C" fn add_table(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the third parameter is a number.
    let n = unsafe { launch.value::<u32>(2) } as usize;
    // SAFETY: the first parameter is the address of as many entries, the second of as many numbers.
    let (table, out) = unsafe { (launch.slice::<Entry>(0, n), launch.slice::<u32>(1, n)) };
    let (Some(table), Some(out)) = (table, out) else { return 700 };
    for (Entry { target, len }, out) in table.iter().zip(out) {
        // SAFETY: the target has as many elements.
        let Some(x) = (unsafe { launch.at::<u32>(*target, *len as usize) }) else { return 700 };
        *out = x.iter().sum();
    }
    0
}

/// Writes its number to the first element of each target of a table of addresses.
unsafe extern "C" fn fill_table(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    // SAFETY: the second parameter is a number.
    let n = unsafe { launch.value::<u32>(1) } as usize;
    // SAFETY: the first parameter is the address of as many addresses.
    let Some(table) = (unsafe { launch.slice::<*mut u8>(0, n) }) else { return 700 };
    for (i, target) in table.iter().enumerate() {
        // SAFETY: each target has an element.
        let Some(x) = (unsafe { launch.at::<u32>(*target, 1) }) else { return 700 };
        x[0] = i as u32 + 1;
    }
    0
}

/// The module, on a driver that has the kernels.
fn module() -> (Control, Device, Module) {
    let control = stand_in::load();
    control.reset();
    // SAFETY: the kernels access their parameters, and what these point to.
    unsafe {
        control.register("add_list", &[24, 8], add_list);
        control.register("add_table", &[8, 8, 4], add_table);
        control.register("fill_table", &[8, 4], fill_table);
    }
    let device = Device::open(0).unwrap();
    let module = Module::load(&device, PTX).unwrap();
    (control, device, module)
}

#[test]
fn a_list_is_a_struct_of_addresses() {
    let (control, device, module) = module();
    let kernel = module.function("add_list").unwrap();
    device
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let x: [Buffer<u32, _>; 3] = [5, 70, 900].map(|x| put(&ctx, &[x]));
            let mut out = put(&ctx, &[0_u32]);
            let list = x.each_ref().map(Buffer::view);
            control.take_log();
            // SAFETY: the kernel reads the first elements of the list, and writes `out`.
            unsafe { ctx.launch_kernel((&kernel, Grid::over(1)), (list, out.view_mut())) }.unwrap();
            assert_eq!(control.take_log(), ["cuLaunchKernel"]);
            let [a, b, _] = list;
            // SAFETY: it is refused.
            let error = unsafe { ctx.launch_kernel((&kernel, Grid::over(1)), ([a, b], out.view_mut())) }.unwrap_err();
            assert_eq!(error, Error::Length { operand: "args.0 (bytes)", expected: 24, found: 16 });
            assert_eq!(get(&ctx, out.view()), [975]);
        })
        .unwrap();
    drop((kernel, module, device));
    control.report().assert_clean();
}

#[test]
fn a_table_is_addresses_and_payloads() {
    let (control, device, module) = module();
    let (add, fill) = (module.function("add_table").unwrap(), module.function("fill_table").unwrap());
    device
        .stream(|stream, _| {
            let ctx = stream.ctx().with_pool();
            let mut pool = put(&stream.ctx(), &[1_u32, 10, 100, 1000, 10_000]);
            let mut out = put(&stream.ctx(), &[0_u32; 3]);
            ctx.upload(&[0; 3], out.view_mut()).unwrap();
            control.take_log();
            let parts = [3..5, 0..1, 0..4].map(|part| {
                let len = part.len() as u32;
                (pool.view().slice(part).unwrap(), len)
            });
            let table = ctx.table(parts).unwrap();
            assert_eq!(control.take_log(), ["cuMemAllocFromPoolAsync", "cuMemcpyAsync"]);
            let args = (table.view(), out.view_mut(), 3_u32);
            // SAFETY: the kernel reads the targets of the table, and writes as many sums.
            unsafe { ctx.launch_kernel((&add, Grid::over(3)), args) }.unwrap();
            // A part of the table.
            let args = (table.view().slice(1..).unwrap(), out.view_mut(), 1_u32);
            // SAFETY: as above, for one target.
            unsafe { ctx.launch_kernel((&add, Grid::over(3)), args) }.unwrap();
            assert_eq!(control.take_log(), ["cuLaunchKernel"; 2]);
            drop(table);
            assert_eq!(control.take_log(), ["cuMemFreeAsync"]);
            let mut table = ctx.table(pool.view_mut().chunks_exact(NonZero::new(2).unwrap())).unwrap();
            // SAFETY: the kernel writes the first elements of two targets.
            unsafe { ctx.launch_kernel((&fill, Grid::over(3)), (table.view_mut(), 2_u32)) }.unwrap();
            drop(table);
            assert_eq!(get(&ctx, out.view()), [1, 1, 1111]);
            assert_eq!(get(&ctx, pool.view()), [1, 10, 2, 1000, 10_000]);
        })
        .unwrap();
    drop((add, fill, module, device));
    control.report().assert_clean();
}
