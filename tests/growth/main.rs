//! Nothing that the library holds grows in a steady loop. Every public operation that enqueues,
//! allocates or crosses runs alone and in pairs, some hundred to some thousand times, on the
//! simulated device and on the stand-in driver. After a loop there are as many live driver objects
//! as before, and the host's heap has grown by less than a byte a turn.
#![cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]

mod coverage;
mod crossings;
mod cuda;
mod heap;
mod lanes;
mod operations;
mod sim;
mod watch;

use std::time::Instant;
use tidelock_test_support::stand_in;

use self::watch::{Place, Watch};

/// The turns of each loop.
const TURNS: usize = 1000;

/// The memory of a device with room for one request at a time.
const SCARCE: usize = 3 << 19;

fn everywhere<P: Place>(watch: &Watch<'_>, device: &P, turns: usize) {
    let all = operations::all::<P>();
    crossings::alone(watch, device, &all, turns);
    crossings::pairs(watch, device, &all, turns);
    crossings::threads(watch, device, &all, turns);
    crossings::streams(watch, device, turns / 4);
    lanes::lanes(watch, device, &all, turns / 2);
}

/// A single test, so that no other test allocates or frees heap memory meanwhile.
#[test]
fn nothing_grows_in_a_steady_loop() {
    coverage::every_public_function_is_in_a_table();
    let mut grown = Vec::new();
    for (race_detector, turns, slack) in [(false, TURNS, 4 << 10), (true, TURNS / 4, 8 << 10)] {
        let start = Instant::now();
        let device = tidelock::sim::Device::new(tidelock::sim::Options::quick().race_detector(race_detector));
        let objects = || sim::objects(&device);
        let name = if race_detector { "the simulated device with its race detector" } else { "the simulated device" };
        let watch = Watch::new(name, slack, &objects);
        everywhere(&watch, &device, turns);
        sim::typed(&watch, &device, turns);
        sim::by_hand(&watch, &device, turns / 2);
        grown.extend(watch.end());
        let tight = tidelock::sim::Device::new(
            tidelock::sim::Options::quick().race_detector(race_detector).memory_limit(SCARCE),
        );
        let objects = || sim::objects(&tight);
        let watch = Watch::new("a small device", slack, &objects);
        crossings::short_of_memory(&watch, &tight, turns / 4);
        grown.extend(watch.end());
        println!("{:.1?}", start.elapsed());
    }
    let start = Instant::now();
    let control = stand_in::load();
    control.set("delay", 0);
    control.set("race_detector", 0);
    control.reset();
    let device = tidelock::cuda::Device::open(0).unwrap();
    let objects = || cuda::objects(&control);
    let watch = Watch::new("the stand-in", 1 << 10, &objects);
    everywhere(&watch, &device, TURNS / 4);
    cuda::contexts(&watch, TURNS / 4);
    cuda::modules(&watch, &control, &device, TURNS / 4);
    cuda::batches(&watch, &device, TURNS / 4);
    control.set("memory_limit", SCARCE as u64);
    control.reset();
    crossings::short_of_memory(&watch, &tidelock::cuda::Device::open(0).unwrap(), TURNS / 4);
    grown.extend(watch.end());
    println!("{:.1?}", start.elapsed());
    assert!(grown.is_empty(), "{} loops grow:\n{}", grown.len(), grown.join("\n"));
}
