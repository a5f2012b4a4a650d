// R10: casts and `Align16` rely on the size that a type says it has.
// Instead: `tidelock::scalar!(Odd => DType::U8)`, which computes it.
use tidelock::Element;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Odd([u8; 7]);
impl Element for Odd {}
impl tidelock::element::Width for Odd {
    type Bytes = <tidelock::element::typenum::Const<16> as tidelock::element::typenum::ToUInt>::Output;
    type Align = <tidelock::element::typenum::Const<1> as tidelock::element::typenum::ToUInt>::Output;
}

fn main() {}
