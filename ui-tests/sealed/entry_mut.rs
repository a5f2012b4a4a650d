// R17: only entries that cannot overlap are written: `EntryMut` is sealed.
// Instead: `ctx.table(buffer.view_mut().chunks_exact(size))?`.
use tidelock::{
    View,
    sim::Sim,
    stream::EntryMut,
};

pub struct Mine;

// As `Self`.
impl<'s> EntryMut<Sim<'s>> for Mine {}

// As the stream.
impl EntryMut<Mine> for View<'_, u64, Mine> {}

fn main() {}
