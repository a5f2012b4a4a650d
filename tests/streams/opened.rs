//! What a stream leaves behind on the simulated device when each call of its opening fails or
//! succeeds.

use std::num::NonZero;

use tidelock::{
    Ctx, Error,
    driver::{Allocation, Code, DriverError, OpenOptions, Pool, RawDevice, RawStream},
    sim::{Call, Device, Fault, Options, Sim},
    stream::StreamOptions,
};

fn once(nth: u64, code: Code) -> Fault {
    Fault { nth, onwards: false, call: None, code }
}

/// One of each: memory in stream order and synchronous memory, an event, a launch.
fn work(ctx: Ctx<'_, Sim<'_>>) -> tidelock::Result<()> {
    let pooled = ctx.with_pool().zeros::<u32>(16)?;
    let plain = ctx.with_device_alloc(ctx.sync_alloc()).alloc::<u32>(16)?;
    ctx.launch((pooled.view(),), |(words,)| assert_eq!(words, [0; 16]))?;
    drop((pooled, plain));
    Ok(())
}

#[test]
fn a_stream_leaves_nothing_behind_also_if_it_cannot_be_opened() {
    for own in [false, true] {
        let options =
            StreamOptions::default().pool(if own { Pool::Own { release_threshold: 0 } } else { Pool::Default });
        let device = Device::new(Options::quick());
        let before = device.gpu().counts();
        let refused = device
            .stream_with(&options, |mut stream, _| {
                work(stream.ctx()).unwrap();
                stream.synchronize().unwrap();
                device.gpu().fail(once(2, Code::UNKNOWN));
                stream.trim(0).map(drop)
            })
            .unwrap();
        let Err(Error::Driver(error)) = refused else { panic!("{refused:?}") };
        assert_eq!((error.call, error.code), (Call::MemPoolTrimTo.name(), Code::UNKNOWN));
        assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
        let made = device.gpu().counts() - before;
        assert_eq!([made.of(Call::StreamCreate), made.of(Call::StreamDestroy)], [1, 1]);
        assert_eq!(made.of(Call::EventCreate), made.of(Call::EventDestroy));
        for nth in 1..=2 {
            device.gpu().fail(once(nth, Code::OUT_OF_MEMORY));
            assert!(device.stream_with(&options, |_, _| ()).is_err(), "{nth}");
            assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
        }
    }
}

/// The same below the typed layer, through the driver contract.
#[test]
fn a_raw_stream_leaves_nothing_behind_also_if_it_cannot_be_opened() {
    for own in [false, true] {
        let options = OpenOptions::new(if own { Pool::Own { release_threshold: 0 } } else { Pool::Default }, 0);
        let device = Device::new(Options::quick());
        let request = Allocation::new(NonZero::new(64).unwrap());
        let stream = device.open(&options).unwrap();
        let (ptr, event) = (stream.alloc(request).unwrap(), stream.create_event().unwrap());
        // SAFETY:
        // - The event was created by the stream, and is not destroyed.
        unsafe { stream.record(event) }.unwrap();
        // SAFETY:
        // - As above.
        unsafe { stream.wait_event(event) }.unwrap();
        // SAFETY:
        // - As above.
        assert_eq!((unsafe { stream.has_passed(event) }, stream.is_idle()), (Ok(true), Ok(true)));
        assert!(core::ptr::eq(stream.device().shared(), device.clone().shared()));
        // SAFETY:
        // - The memory is the stream's, and nothing uses it.
        unsafe { stream.free(ptr) }.unwrap();
        stream.synchronize().unwrap();
        // SAFETY:
        // - The event is not used again.
        unsafe { device.destroy_event(event) };
        let plain = stream.alloc_now(request).unwrap();
        // SAFETY:
        // - Nothing uses the memory.
        unsafe { stream.free_now(plain) }.unwrap();
        device.gpu().fail(once(1, Code::UNKNOWN));
        assert_eq!(stream.trim(0), Err(DriverError::new("cuMemPoolTrimTo", Code::UNKNOWN)));
        drop(stream);
        assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
        for nth in 1..=2 {
            device.gpu().fail(once(nth, Code::OUT_OF_MEMORY));
            assert!(device.open(&options).is_err());
            assert!(device.gpu().report().is_clean(), "{:?}", device.gpu().report());
        }
    }
}
