// R10: `ToValue` holds for what becomes a `Value`.
// Instead: `impl From<Mine> for Value<'_, L>` in terms of the tensors that there are.
use tidelock::{any::{ToValue, Value}, sim::Sim};

pub struct Mine;
impl<'p, 's> ToValue<'p, Sim<'s>> for Mine {
    fn to_value(self) -> Value<'p, Sim<'s>> {
        todo!()
    }
}

fn main() {}
