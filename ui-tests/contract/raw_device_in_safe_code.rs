// R10: whoever implements `RawDevice` promises clauses of the driver contract (D1 to D6): it is unsafe to implement.
// Instead: `sim::Device` is a device without hardware; `examples/backend` is a backend outside of the library.
use tidelock::{
    driver::{Backend, DeviceState, DriverError, EventOf, OpenOptions, RawDevice, StreamOf},
    sim::SimBackend,
};

#[derive(Clone)]
pub struct Mine(&'static DeviceState);

impl RawDevice for Mine {
    type Backend = SimBackend;
    fn shared(&self) -> &DeviceState {
        self.0
    }
    fn ordinal(&self) -> usize {
        0
    }
    fn open(&self, _: &OpenOptions) -> Result<StreamOf<SimBackend>, DriverError> {
        loop {}
    }
    fn memory_info(&self) -> Result<(usize, usize), DriverError> {
        Ok((0, 0))
    }
    unsafe fn wait_event(&self, _: EventOf<SimBackend>) -> Result<(), DriverError> {
        Ok(())
    }
    unsafe fn destroy_event(&self, _: EventOf<SimBackend>) {}
    unsafe fn free(&self, _: std::ptr::NonNull<u8>) -> Result<(), DriverError> {
        Ok(())
    }
}

fn main() {}
