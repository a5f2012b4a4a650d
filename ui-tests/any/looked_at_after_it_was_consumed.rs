// R17: what is borrowed from a map is not taken out of it.
// Instead: end the look first, or consume first.
use tidelock::{any::TensorMap, sim::Sim};

pub fn both(map: &mut TensorMap<'_, Sim<'_>>) -> usize {
    let view = map.get::<f32, tidelock::location::Host, 1>("x").unwrap();
    let _taken = map.consume("x");
    view.size()
}

fn main() {}
