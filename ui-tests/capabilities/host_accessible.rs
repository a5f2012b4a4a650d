// R17: what the host does directly it does to memory it may touch.
// Instead: `ctx.zeros::<f32>(n)` on the device.
use tidelock::{Buffer, DeviceLocation, location::HostAccessible};

fn norm<D: HostAccessible>(values: &Buffer<f32, D>) -> f32 {
    values.iter().map(|x| x * x).sum()
}

pub fn check<L: DeviceLocation>(logits: &Buffer<f32, L>) -> f32 {
    norm(logits)
}

fn main() {}
