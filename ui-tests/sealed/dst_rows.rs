// R9: the rows that a Warp writes are what their view says: `DstRows` is sealed for every element and location.
// Instead: `target.view_mut().rows(width)?`.
use std::{num::NonZero, vec};
use tidelock::{
    ViewMut,
    buffer::{DstRows, RowsMut},
    sim::Sim,
};

pub struct Mine<'a, 's>(pub Vec<ViewMut<'a, u32, Sim<'s>>>);

impl<'a, 's> IntoIterator for Mine<'a, 's> {
    type Item = ViewMut<'a, u32, Sim<'s>>;
    type IntoIter = vec::IntoIter<ViewMut<'a, u32, Sim<'s>>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

macro_rules! rows {
    ($T:ty) => {
        fn row_count(&self) -> usize {
            1 << 30
        }
        fn width(&self) -> NonZero<usize> {
            NonZero::<usize>::MIN
        }
        fn as_mut_ptr(&mut self) -> *mut $T {
            std::ptr::null_mut()
        }
    };
}

// As `Self`.
impl<'a, 's> DstRows<'a, u32, Sim<'s>> for Mine<'a, 's> {
    rows!(u32);
}

// As the element.
impl<'a, 's> DstRows<'a, Mine<'a, 's>, Sim<'s>> for RowsMut<'a, u32, Sim<'s>> {
    rows!(Mine<'a, 's>);
}

// As the location.
impl<'a, 's> DstRows<'a, u32, Mine<'a, 's>> for RowsMut<'a, u32, Sim<'s>> {
    rows!(u32);
}

fn main() {}
