// R9: values are made from bytes.
// Instead: `words.bytes().checked::<bool>()?`.
use tidelock::{Result, View, location::Host};

pub fn flags(words: View<'_, u32, Host>) -> Result<View<'_, bool, Host>> {
    words.checked()
}

fn main() {}
