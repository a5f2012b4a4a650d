// R10: `MapPlace` is sealed.
// Instead: `Host`, or the stream's own memory.
use tidelock::{any::{AnyTensor, AnyView, MapPlace, Value}, sim::Sim};

pub struct Mine;
impl<'s> MapPlace<Sim<'s>> for Mine {
    fn of<'v>(_: &'v Value<'_, Sim<'s>>) -> Option<AnyView<'v, Self>> {
        None
    }
    fn owned<'p>(value: Value<'p, Sim<'s>>) -> Result<AnyTensor<Self>, Value<'p, Sim<'s>>> {
        Err(value)
    }
}

fn main() {}
