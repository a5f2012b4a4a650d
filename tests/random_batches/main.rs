//! Random batches against a naive reference: on the simulated device, and on the first GPU if there
//! is one.

use tidelock_test_support::random_batches::{check, programs, run, runner};

#[test]
fn on_the_simulated_device() {
    let device = tidelock::sim::Device::default();
    let answer = runner(24).run(&programs(), |program| {
        check(&program, |program, sources| device.stream(|mut stream, _| run(&mut stream, program, sources))?);
        Ok(())
    });
    answer.unwrap();
}

#[cfg(feature = "cuda-core")]
mod on_a_gpu {
    use tidelock::{
        BatchCopy, Result,
        cuda::{Batching, Device},
    };

    use super::*;
    use tidelock_test_support::random_batches::{SOURCE, bytes, filled};

    fn gpu() -> Option<Device> {
        Device::open(0).map_err(|reason| println!("no GPU here: {reason}")).ok()
    }

    #[test]
    fn with_every_way_of_batching() {
        let Some(device) = gpu() else { return };
        for (batching, cases) in [(Batching::Auto, 200), (Batching::Driver, 10), (Batching::Loop, 10)] {
            let device = device.clone().with_batching(batching);
            let answer = runner(cases).run(&programs(), |program| {
                check(&program, |program, sources| {
                    device.stream(|mut stream, _| run(&mut stream, program, sources))?
                });
                Ok(())
            });
            answer.unwrap();
        }
    }

    /// Ten million copies of 1 to 3 bytes in one batch, and a few of more than a gigabyte.
    #[test]
    fn ten_million_copies_and_large_ones() {
        let Some(device) = gpu() else { return };
        let answer = device.stream(|mut stream, _| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let source = bytes(5);
            let src = filled(&ctx, &source)?;
            let mut dst = ctx.zeros::<u8>(20_000_000)?;
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |batch| {
                let mut rest = dst.view_mut();
                for i in 0..10_000_000_usize {
                    let (piece, behind) = rest.split_at(1 + i % 3)?;
                    rest = behind;
                    batch.copy(src.view().slice(i * 7 % 190_000..i * 7 % 190_000 + 1 + i % 3)?, piece)?;
                }
                Ok(())
            })?;
            let out = ctx.init_from(ctx.alloc_pinned::<u8>(dst.len())?.stage(&ctx), dst.view())?;
            let mut to = 0;
            {
                let synced = stream.synchronize()?;
                let out = out.peek(&synced);
                for i in 0..10_000_000_usize {
                    let len = 1 + i % 3;
                    assert_eq!(out[to..to + len], source[i * 7 % 190_000..i * 7 % 190_000 + len], "copy {i}");
                    to += len;
                }
            }
            // Two copies of 1.5 GB each, of which the host compares a part at the ends.
            let ctx = stream.ctx().with_pool();
            let large = 1_500_000_001;
            let mut from = ctx.zeros::<u8>(2 * large)?;
            for at in [0, large - SOURCE, large, 2 * large - SOURCE] {
                ctx.upload(&source, from.view_mut().slice(at..at + SOURCE)?)?;
            }
            let mut to = ctx.zeros::<u8>(2 * large)?;
            batch.scope(&ctx, |batch| {
                let (a, b) = to.view_mut().split_at(large)?;
                batch.copy(from.view().slice(large..)?, a)?;
                batch.copy(from.view().slice(..large)?, b)
            })?;
            for at in [0, large - SOURCE, large, 2 * large - SOURCE] {
                let part = to.view().slice(at..at + SOURCE)?;
                let out = ctx.init_from(ctx.alloc_pinned::<u8>(SOURCE)?.stage(&ctx), part)?;
                assert!(ctx.fence(out)?.wait()?[..] == source[..], "at {at}");
            }
            Ok(())
        });
        // A device with less memory than that has passed everything before.
        match answer.unwrap() {
            Err(tidelock::Error::OutOfMemory { bytes: 3_000_000_002, .. }) => println!("no room for the large copies"),
            answer => answer.unwrap(),
        }
    }
}
