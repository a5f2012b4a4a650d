//! First steps, 2 of 4: page-locked memory, which the host and the stream use in turn.

use tidelock::{Buffer, DeviceLocation, Result, Stream, alloc::PinnedAlloc, sim};

fn there_and_back<L: DeviceLocation>(stream: &mut Stream<L>) -> Result<(Vec<u32>, Vec<u32>)> {
    let ctx = stream.ctx().with_pool();

    // Pinned memory belongs to the host, which reads and writes it as a slice.
    let mut input = Buffer::<u32, L::Pinned>::from_slice_in(&[1, 2, 3, 4], PinnedAlloc::new())?;
    input[0] = 10;
    // Staged memory belongs to the stream. A copy reads it after the call has returned, so the
    // host's `input[0] = 11` no longer compiles.
    let input = input.stage(&ctx);
    let device = ctx.init_from(ctx.alloc(4)?, input.view())?;

    // Of two outputs the first is needed while the stream continues, the second at the end.
    let early = ctx.init_from(ctx.alloc_pinned(4)?.stage(&ctx), device.view())?;
    // A fence takes the memory out of the stream behind the copy that writes it. `wait` waits for
    // the fence, and for nothing that is enqueued later.
    let early = ctx.fence(early)?;
    let late = ctx.init_from(ctx.alloc_pinned(4)?.stage(&ctx), device.view())?;
    let early = early.wait()?.to_vec();

    // A wait for the whole stream proves that the host may read the memory (`peek`) or take it back
    // (`reclaim`).
    let done = stream.synchronize()?;
    let mut input = input.reclaim(&done);
    input[0] = 11;
    Ok((early, late.peek(&done).to_vec()))
}

fn main() -> Result<()> {
    let device = sim::Device::default();
    let (early, late) = device.stream(|mut stream, _env| there_and_back(&mut stream))??;
    assert_eq!(early, [10, 2, 3, 4]);
    assert_eq!(late, early);
    println!("read back twice: {early:?}");
    Ok(())
}
