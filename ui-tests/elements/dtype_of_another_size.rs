// R9: a `DType` has the size of its type.
// Instead: `DType::F64`, or a type of four bytes.
use tidelock::{DType, Element};

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Wide(u64);
impl Element for Wide {}
tidelock::scalar!(Wide => DType::F32);

fn main() {}
