// R9: what is written through a destination is what its view says: `Dst` is sealed for every element and location.
// Instead: `target.view_mut()`, of a buffer whose elements are `Wide`.
use std::ptr::NonNull;
use tidelock::{Element, ViewMut, buffer::Dst, error::OutOfRange, sim::Sim, stream::Lent};

#[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
#[repr(C)]
pub struct Wide([u8; 64]);
impl Element for Wide {}

pub struct Place;

// As `Self`.
impl<'a, 's> Dst<'a, u32, Sim<'s>> for Place {
    fn into_parts(self) -> (NonNull<u32>, usize) {
        (NonNull::dangling(), 1 << 30)
    }
    fn count(&self) -> usize {
        1
    }
    fn cut(self, _: usize) -> Result<(Self, Self), OutOfRange> {
        Err(OutOfRange)
    }
}

// As the element.
impl<'a, 's> Dst<'a, Wide, Lent<Sim<'s>>> for ViewMut<'a, u8, Lent<Sim<'s>>> {
    fn into_parts(mut self) -> (NonNull<Wide>, usize) {
        (NonNull::new(self.as_mut_ptr().cast()).unwrap(), 1)
    }
    fn count(&self) -> usize {
        1
    }
    fn cut(self, _: usize) -> Result<(Self, Self), OutOfRange> {
        Err(OutOfRange)
    }
}

// As the location.
impl<'a, 's> Dst<'a, u32, Place> for ViewMut<'a, u8, Sim<'s>> {
    fn into_parts(mut self) -> (NonNull<u32>, usize) {
        (NonNull::new(self.as_mut_ptr().cast()).unwrap(), 1)
    }
    fn count(&self) -> usize {
        1
    }
    fn cut(self, _: usize) -> Result<(Self, Self), OutOfRange> {
        Err(OutOfRange)
    }
}

fn main() {}
