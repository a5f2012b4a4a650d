// R10: `TensorDst` is sealed for `Self` and for each parameter.
// Instead: `tensor.view_mut()`.
use tidelock::{Layout, TensorMut, location::Host, tensor::TensorDst};

pub struct Mine;
impl<'a> TensorDst<'a, u8, Host, 1> for Mine {
    fn into_parts(self) -> (*mut u8, Layout<1>) {
        todo!()
    }
}
impl<'a> TensorDst<'a, Mine, Host, 1> for TensorMut<'a, u8, Host, 1> {
    fn into_parts(self) -> (*mut Mine, Layout<1>) {
        todo!()
    }
}
impl<'a> TensorDst<'a, u8, Mine, 1> for TensorMut<'a, u8, Host, 1> {
    fn into_parts(self) -> (*mut u8, Layout<1>) {
        todo!()
    }
}

fn main() {}
