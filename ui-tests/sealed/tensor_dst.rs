// R10: `TensorDst` is sealed for `Self` and for each parameter.
// Instead: `tensor.view_mut()`.
use tidelock::{Result, TensorMut, location::Host, tensor::{Parts, TensorDst}};

pub struct Mine;
impl<'a> TensorDst<'a, u8, Host, 1> for Mine {
    fn into_parts(self, _: [usize; 1]) -> Result<Parts<'a, u8, 1>> {
        todo!()
    }
}
impl<'a> TensorDst<'a, Mine, Host, 1> for TensorMut<'a, u8, Host, 1> {
    fn into_parts(self, _: [usize; 1]) -> Result<Parts<'a, Mine, 1>> {
        todo!()
    }
}
impl<'a> TensorDst<'a, u8, Mine, 1> for TensorMut<'a, u8, Host, 1> {
    fn into_parts(self, _: [usize; 1]) -> Result<Parts<'a, u8, 1>> {
        todo!()
    }
}

fn main() {}
