// R10: `Above` is sealed.
// Instead: nothing: it holds by itself for ranks that differ by one.
use tidelock::layout::Above;

pub struct Mine;
impl Above<2> for Mine {}

fn main() {}
