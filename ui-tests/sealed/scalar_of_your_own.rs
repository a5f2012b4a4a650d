// R10: a `Scalar` has the size that `Width` says, which is unsafe to implement.
// Instead: `tidelock::scalar!(Mine => DType::U8)`.
use tidelock::{DType, Element, Scalar};

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Mine(u8);
impl Element for Mine {}
impl Scalar for Mine {
    const DTYPE: DType = DType::U8;
}

fn main() {}
