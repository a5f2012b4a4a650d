// R9: what a backend gets is data of the contract: `RawArgs` is sealed.
// Instead: a backend takes tuples of `In`, `Out`, `Uninit` and `Value`.
use tidelock::driver::{Code, KernelUse, RawArgs, Resolve};

pub struct Mine;

impl RawArgs for Mine {
    const SIZES: &'static [usize] = &[];
    type Seen<'k> = (&'k mut [u64],);
    type Rooms = ();
    fn rooms() {}
    unsafe fn uses(&self, _: impl FnMut(KernelUse)) {}
    unsafe fn are_aligned<R: Resolve>(&self) -> bool {
        true
    }
    fn with_params<T>(&self, f: impl FnOnce(&mut [*mut std::ffi::c_void]) -> T) -> T {
        f(&mut [])
    }
    unsafe fn see<'k, R: Resolve>(self, _: &'k R, _: &'k mut ()) -> Result<(&'k mut [u64],), Code> {
        Ok((&mut [],))
    }
    fn rooms() {}
    fn finish<R: Resolve>(_: (), _: &R) -> Result<(), Code> {
        Ok(())
    }
}

fn main() {}
