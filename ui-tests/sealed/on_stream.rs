// R3: what a stream uses belongs to it: `OnStream` is sealed for both.
// Instead: `pinned.stage(&ctx)`, `stream.host_scope(|h| ..)`, `a.transfer(buffer, &b)`.
use tidelock::{location::Host, sim::Sim, stream::OnStream};

pub struct Mine;

// As `Self`.
impl<'s> OnStream<Sim<'s>> for Mine {}

// As the stream.
impl OnStream<Mine> for Host {}

fn main() {}
