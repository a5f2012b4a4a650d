// R4: the host does not look at lent memory while the stream may write it.
// Instead: read `tokens` behind the scope.
use tidelock::{DeviceLocation, View, stream::Lent};

pub fn sum<L: DeviceLocation>(tokens: View<'_, u32, Lent<L>>) -> u32 {
    tokens.as_slice().iter().sum()
}

fn main() {}
