// R17: where shared memory may be is decided by the library: `SharedPlace` is sealed.
// Instead: share host memory as `Arc<Buffer<T, Host>>`.
use tidelock::stream::SharedPlace;

pub struct Mine;

impl SharedPlace for Mine {}

fn main() {}
