// R10: `CastFrom` is sealed for `Self` and for its parameter.
// Instead: nothing: it holds by itself for two types whose sizes divide.
use tidelock::element::CastFrom;

#[derive(Clone, Copy)]
pub struct Mine(u8);
impl CastFrom<u8> for Mine {}
impl CastFrom<Mine> for u8 {}

fn main() {}
