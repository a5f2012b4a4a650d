//! First steps, 1 of 4: memory on the device, and a copy.

use tidelock::{DeviceLocation, Result, Stream, sim};

/// `L` is the memory of one stream. No device is named, so that this runs on a GPU as it is.
fn copied<L: DeviceLocation>(stream: &mut Stream<L>) -> Result<Vec<u32>> {
    // A stream waits; a context allocates and enqueues. This one allocates from the stream pool.
    let ctx = stream.ctx().with_pool();
    let source = ctx.upload_new(&[1, 2, 3, 4])?;
    let mut target = ctx.zeros::<u32>(4)?;

    // Enqueued now, carried out later, in the order of the calls. Unequal lengths are an `Err`.
    ctx.copy(source.view(), target.view_mut())?;
    // The memory is freed in stream order too, behind the copy, so that dropping it here is safe.
    drop(source);

    // The host cannot read device memory. This copies the values to page-locked memory, which the
    // next example explains, and waits. Waiting needs `&mut Stream`.
    stream.read(target.view())
}

fn main() -> Result<()> {
    // A device without hardware. With a GPU it is `tidelock::cuda::Device::open(0)?`.
    let device = sim::Device::default();
    // The closure gets the stream. After it, the library waits for the stream and destroys it. The
    // first `?` is for that wait, the second for the closure.
    let values = device.stream(|mut stream, _env| copied(&mut stream))??;
    assert_eq!(values, [1, 2, 3, 4]);
    println!("copied on the device: {values:?}");
    Ok(())
}
