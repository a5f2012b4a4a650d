// R1: what is loaded belongs to the stream that it is loaded by.
// Instead: use it inside of the stream's closure, or `detach` its buffer.
use tidelock::{any::TensorMap, file::{File, FileError}, sim::{self, Sim}};

pub fn weights<'s>(file: &File<'_>) -> Result<TensorMap<'static, Sim<'s>>, FileError> {
    sim::Device::default().stream(|stream, _env| file.load().through_ring(&stream.ctx()))?
}

fn main() {}
