//! Memory in the pools of other streams: reclaimed while they are open, left alone once they have
//! ended.

use tidelock::{Error, cuda::Device, driver::Pool, stream::StreamOptions};
use tidelock_test_support::stand_in;

const M: usize = 1 << 20;

#[test]
fn the_pools_of_other_open_streams_are_trimmed_and_no_others() {
    let control = stand_in::load();
    control.set("memory_limit", 64 * M as u64);
    control.reset();
    let device = Device::open(0).unwrap();
    let own = StreamOptions::default().pool(Pool::Own { release_threshold: u64::MAX });
    let trims = |log: Vec<String>| log.iter().filter(|call| *call == "cuMemPoolTrimTo").count();
    device
        .stream_with(&own, |b, _| {
            let pool = b.ctx().with_pool();
            let refused = || {
                let (log, answer) = control.calls_of(|| pool.alloc::<u8>(65 * M).map(drop));
                assert!(matches!(answer, Err(Error::OutOfMemory { .. })), "{answer:?}");
                trims(log)
            };
            assert_eq!(refused(), 1);
            for options in [own, StreamOptions::default().pool(Pool::Default)] {
                device
                    .stream_with(&options, |a, _| {
                        // The stand-in finds this memory without a trim, as a driver may.
                        drop(a.ctx().with_pool().alloc::<u8>(50 * M).unwrap());
                        while !a.is_idle().unwrap() {}
                        drop(pool.alloc::<u8>(40 * M).unwrap());
                        while !b.is_idle().unwrap() {}
                        assert_eq!(refused(), 2, "its own, and that of the other stream");
                    })
                    .unwrap();
                assert_eq!(refused(), 1, "the other stream has ended");
            }
        })
        .unwrap();
    control.report().assert_clean();
}
