//! The stand-in driver as a site of the callers. Its kernels are functions of this program, which
//! get the address of the caller's function as a parameter.

use std::{array, collections::BTreeMap, sync::atomic::AtomicBool};

use tidelock::{
    Ctx, Result, View, ViewMut,
    cuda::{self, CudaBackend, Function, Grid, Module},
    stream::{Entry, TableView},
};
use tidelock_test_support::stand_in::{self, Control, Launch};

use crate::site::{At, Calls, Kernel, Site, TableKernel};

const PTX: &str = ".version 7.0\n";

const ILLEGAL_ADDRESS: u32 = 700;

/// How many lengths a kernel gets.
const LENGTHS: usize = 8;

/// The CUDA device on the stand-in driver.
pub struct StandIn {
    device: cuda::Device,
    functions: BTreeMap<String, Function>,
    control: Control,
}

impl StandIn {
    pub fn open() -> StandIn {
        let control = stand_in::load();
        control.reset();
        // SAFETY: the kernels of these names are launched by `launch` and `launch_table` alone.
        let names = unsafe {
            control.register("table", &[8, 8, 4 * LENGTHS, 8], table);
            [register::<1, 1>(&control), register::<2, 1>(&control), register::<3, 1>(&control), "table".to_owned()]
        };
        let device = cuda::Device::open(0).unwrap();
        let module = Module::load(&device, PTX).unwrap();
        let functions = names.map(|name| (name.clone(), module.function(&name).unwrap()));
        StandIn { device, functions: BTreeMap::from(functions), control }
    }

    /// Panics if something went wrong on the device, or was left behind.
    pub fn close(self) {
        let StandIn { device, functions, control } = self;
        drop((functions, device));
        control.report().assert_clean();
    }
}

impl Site for StandIn {
    type Family = CudaBackend;
    type Device = cuda::Device;

    fn device(&self) -> &cuda::Device {
        &self.device
    }

    fn gate() -> &'static AtomicBool {
        static GATE: AtomicBool = AtomicBool::new(true);
        &GATE
    }

    fn calls_of<R>(&self, f: impl FnOnce() -> R) -> (R, Calls) {
        let (calls, answer) = self.control.calls_of(f);
        (answer, Calls::new(calls.iter().map(String::as_str)))
    }

    fn launch<'s, const N: usize, const M: usize>(
        &self,
        ctx: &Ctx<'_, At<'s, Self>, impl Copy>,
        inputs: [View<'_, i32, At<'s, Self>>; N],
        outputs: [ViewMut<'_, i32, At<'s, Self>>; M],
        kernel: Kernel<N, M>,
    ) -> Result<()> {
        let mut lengths = [0_u32; LENGTHS];
        let each = inputs.iter().map(|view| view.len()).chain(outputs.iter().map(|view| view.len()));
        lengths.iter_mut().zip(each).for_each(|(length, len)| *length = u32::try_from(len).unwrap());
        let function = &self.functions[&name::<N, M>()];
        // SAFETY: `entry` passes the slices to a safe function, and accesses nothing else.
        unsafe { ctx.launch_kernel((function, Grid::over(1)), (inputs, outputs, lengths, kernel as usize as u64)) }
    }

    fn launch_table<'s, E: Entry<At<'s, Self>, Element = i32, Payload = ()>>(
        &self,
        ctx: &Ctx<'_, At<'s, Self>, impl Copy>,
        table: TableView<'_, E, At<'s, Self>>,
        output: ViewMut<'_, i32, At<'s, Self>>,
        kernel: TableKernel,
    ) -> Result<()> {
        let mut lengths = [0_u32; LENGTHS];
        lengths[0] = u32::try_from(table.len()).unwrap();
        lengths[1] = u32::try_from(output.len()).unwrap();
        let function = &self.functions["table"];
        // SAFETY: the function `table` passes the slices to a safe function.
        unsafe { ctx.launch_kernel((function, Grid::over(1)), (table, output, lengths, kernel as usize as u64)) }
    }
}

fn name<const N: usize, const M: usize>() -> String {
    format!("kernel_{N}_{M}")
}

/// # Safety
/// - Kernels of this name are launched by [`StandIn::launch`] alone.
unsafe fn register<const N: usize, const M: usize>(control: &Control) -> String {
    let name = name::<N, M>();
    // SAFETY: `entry` accesses the elements that the parameters name, and catches panics.
    unsafe { control.register(&name, &[8 * N, 8 * M, 4 * LENGTHS, 8], entry::<N, M>) };
    name
}

/// Calls `f`, and answers that the kernel has failed if it panics.
fn caught(f: impl FnOnce() -> Option<()>) -> u32 {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(Some(())) => 0,
        _ => ILLEGAL_ADDRESS,
    }
}

unsafe extern "C" fn entry<const N: usize, const M: usize>(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    caught(|| {
        // SAFETY: these are the parameters that are registered.
        let (inputs, outputs) = unsafe { (launch.value::<[*mut u8; N]>(0), launch.value::<[*mut u8; M]>(1)) };
        // SAFETY: as above.
        let (lengths, kernel) = unsafe { (launch.value::<[u32; LENGTHS]>(2), launch.value::<u64>(3)) };
        // SAFETY: `StandIn::launch` passes a function of this type.
        let kernel: Kernel<N, M> = unsafe { std::mem::transmute(kernel as usize) };
        let reads = array::from_fn::<_, N, _>(|i| part(launch, inputs[i], lengths[i]).map(|part| &*part));
        let writes = array::from_fn::<_, M, _>(|i| part(launch, outputs[i], lengths[N + i]));
        if reads.iter().any(Option::is_none) || writes.iter().any(Option::is_none) {
            return None;
        }
        kernel(reads.map(Option::unwrap), writes.map(Option::unwrap));
        Some(())
    })
}

unsafe extern "C" fn table(launch: *const Launch) -> u32 {
    // SAFETY: the launch is valid until this returns.
    let launch = unsafe { &*launch };
    caught(|| {
        // SAFETY: these are the parameters that are registered.
        let (slots, output) = unsafe { (launch.value::<*mut u8>(0), launch.value::<*mut u8>(1)) };
        // SAFETY: as above.
        let (lengths, kernel) = unsafe { (launch.value::<[u32; LENGTHS]>(2), launch.value::<u64>(3)) };
        // SAFETY: `StandIn::launch_table` passes a function of this type.
        let kernel: TableKernel = unsafe { std::mem::transmute(kernel as usize) };
        let count = lengths[0] as usize;
        // SAFETY: the table has as many addresses, and as many lengths behind them.
        let words = unsafe { launch.at::<u64>(slots, 2 * count) }?;
        let (addresses, target_lengths) = words.split_at(count);
        let targets = addresses.iter().zip(target_lengths).map(|(&address, &len)| {
            let target = std::ptr::with_exposed_provenance_mut(address as usize);
            part(launch, target, u32::try_from(len).ok()?).map(|part| &*part)
        });
        let targets = targets.collect::<Option<Vec<_>>>()?;
        kernel(&targets, part(launch, output, lengths[1])?);
        Some(())
    })
}

/// The elements of a parameter. For none there need not be memory.
#[expect(clippy::mut_from_ref, reason = "the elements are not those of the launch")]
fn part(launch: &Launch, address: *mut u8, len: u32) -> Option<&mut [i32]> {
    if len == 0 {
        return Some(&mut []);
    }
    // SAFETY: views of so many elements were passed, of which those to write are exclusive.
    unsafe { launch.at::<i32>(address, len as usize) }
}
