//! First steps, 4 of 4: re-packing a batch of sequences, with many copies as one submission.

use std::num::NonZero;

use tidelock::{BatchCopy, DeviceLocation, Permutation, Result, State, Stream, sim};

const WIDTH: NonZero<usize> = NonZero::new(2).unwrap();

fn repacked<L: DeviceLocation>(stream: &mut Stream<L>) -> Result<Vec<u32>> {
    let ctx = stream.ctx().with_pool();
    // Three sequences of two tokens each, twice: the front is read while the back is written.
    let mut tokens = State::<u32, L>::zeros(&ctx, 3 * 2)?;
    ctx.upload(&[10, 11, 20, 21, 30, 31], tokens.front_mut())?;
    let joining = ctx.upload_new(&[40, 41])?;

    // Sequence 1 has finished, one joins: rows 0 to 2 are in the front, row 3 is the joining one.
    // The row numbers are checked here, once.
    let next = Permutation::new(&[2, 0, 3], 3, 1)?;

    // A batch keeps its storage: once it has grown, an iteration makes no heap allocation.
    let mut batch = BatchCopy::new();
    // The copies of a scope are unordered, so each destination is borrowed exclusively: an overlap
    // does not compile. On `Err` nothing is enqueued, and `step` swaps front and back on `Ok` only.
    tokens.step(|front, back| {
        let (old, new) = (front.rows(WIDTH)?, back.rows(WIDTH)?);
        batch.scope(&ctx, |b| b.group(|g| g.warp_join(old, joining.view().rows(WIDTH)?, next, new)))
    })?;
    assert_eq!(batch.stats().submissions, 1);

    stream.read(tokens.front())
}

fn main() -> Result<()> {
    let tokens = sim::Device::default().stream(|mut stream, _env| repacked(&mut stream))??;
    assert_eq!(tokens, [30, 31, 10, 11, 40, 41]);
    println!("re-packed: {tokens:?}");
    Ok(())
}
