// R6: what `init_with` counts is the memory of its buffers: `Fresh` is sealed for memory and stream.
// Instead: a buffer of `MaybeUninit<T>`, or a tuple of them.
use std::mem::MaybeUninit;
use tidelock::{Buffer, Error, Result, location::Host, sim::Sim, stream::Fresh};

pub struct Mine;

// As `Self`.
impl<'s> Fresh<Sim<'s>> for Mine {
    type Init = Box<bool>;
    type Outputs<'o> = ();
    type Counters = ();
    unsafe fn outputs<'o>(&mut self, (): &'o ()) {}
    fn expect_written(&self, (): &(), at: usize) -> Result<usize> {
        Ok::<_, Error>(at)
    }
    unsafe fn assume_init(self) -> Box<bool> {
        unsafe { std::mem::zeroed() }
    }
}

// As the stream.
impl Fresh<Mine> for Buffer<MaybeUninit<u32>, Host> {
    type Init = ();
    type Outputs<'o> = ();
    type Counters = ();
    unsafe fn outputs<'o>(&mut self, (): &'o ()) {}
    fn expect_written(&self, (): &(), at: usize) -> Result<usize> {
        Ok::<_, Error>(at)
    }
    unsafe fn assume_init(self) {}
}

fn main() {}
