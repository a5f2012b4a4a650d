// R2: what belongs to a stream stays on its thread: `AnyThread` is sealed.
// Instead: `ctx.detach(buffer)?`, which is `Send`.
use tidelock::location::AnyThread;

pub struct Mapped;

impl AnyThread for Mapped {}

fn main() {}
