// R3: a batch reads memory of its stream later, and host memory during the call: `BatchSource` is sealed for both.
// Instead: `View::from(&slice[..])` is a source that is read during the call.
use tidelock::{
    location::Pinned,
    sim::{Sim, SimBackend},
    stream::BatchSource,
};

pub struct Mine;

// As `Self`.
impl<'s> BatchSource<Sim<'s>> for Mine {
    const DURING_CALL: bool = false;
}

// As the stream.
impl BatchSource<Mine> for Pinned<SimBackend> {
    const DURING_CALL: bool = false;
}

fn main() {}
