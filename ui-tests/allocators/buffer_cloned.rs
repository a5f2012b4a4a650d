// R17: what owns memory is not `Clone`.
// Instead: share it (`Rc<Buffer<..>>`), or copy the elements into a buffer of their own.
use tidelock::{Buffer, DeviceLocation};

pub fn twice<L: DeviceLocation>(weights: Buffer<f32, L>) -> (Buffer<f32, L>, Buffer<f32, L>) {
    (weights.clone(), weights)
}

fn main() {}
