// R2: what belongs to a stream stays on the stream's thread.
// Instead: `downcast` it, `detach` its buffer, and send that.
use tidelock::{any::AnyTensor, sim::Sim};

fn to_another_thread<T: Send>(_: T) {}

pub fn send(tensor: AnyTensor<Sim<'_>>) {
    to_another_thread(tensor);
}

fn main() {}
