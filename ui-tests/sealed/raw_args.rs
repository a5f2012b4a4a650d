// R9: what a backend gets is data of the contract: `RawArgs` is sealed.
// Instead: a backend takes tuples of `In`, `Out`, `Uninit` and `Value`.
use tidelock::driver::{Code, KernelUse, RawArgs, Resolve};

pub struct Mine;

impl RawArgs for Mine {
    const SIZES: &'static [usize] = &[];
    type Seen<'k> = (&'k mut [u64],);
    fn uses(&self, _: impl FnMut(KernelUse)) {}
    fn are_aligned<R: Resolve>(&self) -> bool {
        true
    }
    fn with_params<T>(&self, f: impl FnOnce(&mut [*mut std::ffi::c_void]) -> T) -> T {
        f(&mut [])
    }
    unsafe fn run<R: Resolve>(self, _: &R, kernel: impl for<'k> FnOnce((&'k mut [u64],))) -> Result<(), Code> {
        kernel((&mut [],));
        Ok(())
    }
}

fn main() {}
