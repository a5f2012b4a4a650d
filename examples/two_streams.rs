//! First steps, 3 of 4: memory that two streams use, with the device waiting and not the host.

use tidelock::{DeviceLocation, Result, Stream, sim, stream::OnBackend};

fn hand_over<A, B>(one: &Stream<A>, two: &mut Stream<B>) -> Result<Vec<u32>>
where
    A: DeviceLocation,
    // Both are streams of one kind of device. The call checks that they are of one device.
    B: DeviceLocation + OnBackend<Backend = A::Backend>,
{
    let (a, b) = (one.ctx().with_pool(), two.ctx().with_pool());
    let mut numbers = a.upload_new(&[1, 2, 3, 4])?;
    let mut copy = b.zeros::<u32>(4)?;

    // `b.copy(numbers.view(), ..)` does not compile: nothing would order it behind the upload.
    // A loan orders: `b` waits for `a` before the work of the closure, and `a` for `b` after it.
    a.lend(numbers.view(), &b, |view| b.copy(view, copy.view_mut()))??;
    // So this fill cannot overtake the copy, though it is on another stream.
    a.clear(numbers.view_mut())?;
    // A transfer moves the memory permanently: `b` waits for the fill, and the memory belongs to
    // stream two by its type.
    let numbers = a.transfer(numbers, &b)?;

    let before = b.init_from(b.alloc_pinned(4)?.stage(&b), copy.view())?;
    let after = b.init_from(b.alloc_pinned(4)?.stage(&b), numbers.view())?;
    // One wait of the host is enough: stream two has waited for stream one on the device.
    let done = two.synchronize()?;
    Ok([before.peek(&done), after.peek(&done)].concat())
}

fn main() -> Result<()> {
    let device = sim::Device::default();
    let values = device.stream(|one, _| device.stream(|mut two, _| hand_over(&one, &mut two)))???;
    assert_eq!(values, [1, 2, 3, 4, 0, 0, 0, 0]);
    // The simulated device detects unordered accesses, and finds none.
    assert_eq!(device.gpu().check(), Ok(()));
    println!("lent, then handed over: {values:?}");
    Ok(())
}
