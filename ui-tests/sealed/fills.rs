// R10: `Fills` is sealed.
// Instead: nothing: it holds by itself for sizes that are multiples.
use tidelock::element::Fills;

#[derive(Clone, Copy)]
pub struct Mine([u8; 7]);
impl Fills<16> for Mine {}

fn main() {}
