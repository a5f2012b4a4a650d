// R9: what a backend gets is data of the contract: `RawArg` is sealed.
// Instead: a backend takes `In`, `Out`, `Uninit`, `Value`, and lists and tables of the first two.
use tidelock::driver::{Code, KernelUse, RawArg, Resolve};

pub struct Mine;

impl RawArg for Mine {
    const SIZE: usize = 8;
    type Seen<'k> = &'k mut [u64];
    type Room = ();
    fn param(&self) -> *mut std::ffi::c_void {
        std::ptr::null_mut()
    }
    unsafe fn uses(&self, _: &mut impl FnMut(KernelUse)) {}
    unsafe fn is_aligned<R: Resolve>(&self) -> bool {
        true
    }
    unsafe fn see<'k, R: Resolve>(self, _: &'k R, _: &'k mut ()) -> Result<&'k mut [u64], Code> {
        Ok(&mut [])
    }
}

fn main() {}
