// R9: not every byte is a `bool`.
// Instead: `view.checked::<bool>()?`, which looks at the bytes.
use tidelock::{View, location::Host};

pub fn flags(bytes: View<'_, u8, Host>) -> View<'_, bool, Host> {
    bytes.cast()
}

fn main() {}
