// R17: the host dereferences host memory only: `HostAccessible` is sealed.
// Instead: mapped memory is host memory, `Buffer::from_owner(mapping)`.
use tidelock::location::HostAccessible;

pub struct Mapped;

impl HostAccessible for Mapped {}

fn main() {}
