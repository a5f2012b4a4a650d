//! Loading files.

use tidelock::{
    Error, Result, Stream,
    any::TensorMap,
    driver::Backend,
    file::{File, FileError},
    sim::{Sim, SimBackend},
};
use tidelock_test_support::files::PagedFile;

use super::trial::Trial;

/// The error of the driver or of the memory that a load failed with.
fn inside(error: FileError) -> Error {
    match error {
        FileError::Tensor { error, .. } | FileError::Load { error } => error,
        other => panic!("{other}"),
    }
}

fn check<'s>(t: &Trial, stream: &mut Stream<Sim<'s>>, answer: Result<TensorMap<'_, Sim<'s>>, FileError>) -> Result<()> {
    match answer {
        Ok(map) => {
            t.settle(None)?;
            for (name, first) in [("a", 0), ("b", 1000)] {
                let tensor = map.get::<u32, Sim<'_>, 1>(name).unwrap().contiguous()?;
                t.holds(stream, tensor, &(first..first + 1000).collect::<Vec<_>>())?;
            }
        }
        Err(error) => t.settle(Some(inside(error)))?,
    }
    t.probe(stream)
}

pub fn through_ring(t: &Trial) -> Result<()> {
    let bytes = PagedFile::default();
    let file = File::new(bytes.bytes()).unwrap();
    SimBackend::PINNED.trim(0)?;
    t.open(|mut stream, _env| {
        let answer = t.strike(|| file.load().pinned_bytes(4096).through_ring(&stream.ctx()));
        check(t, &mut stream, answer)
    })
}

/// It aborts if the stream cannot be waited for.
pub fn registered(t: &Trial) -> Result<()> {
    let bytes = PagedFile::default();
    let file = File::new(bytes.bytes()).unwrap();
    t.open(|mut stream, _env| {
        let answer = t.strike(|| file.load().registered(&mut stream));
        check(t, &mut stream, answer)
    })
}
