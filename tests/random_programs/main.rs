//! Random programs over the whole library, against a model that does everything at once, with the oracle on.
//!
//! A program allocates, slices, copies, stages, fences, lends, transfers, detaches and batches on two streams, one inside
//! the other, and now and then forgets, fails and panics. Whenever it looks, all memory must hold what the model says; at
//! its end the oracle must have found nothing, and nothing may leak but what was forgotten or what a failed call kept.

mod program;
mod run;

use proptest::test_runner::{Config, TestRunner};

use self::program::program;

/// Programs in each run of the suite.
const PROGRAMS: u32 = 6000;

#[test]
fn random_programs_do_what_the_model_does() {
    let config = Config { cases: PROGRAMS, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let start = std::time::Instant::now();
    let mut runner = TestRunner::new(config);
    let answer =
        runner.run(&program(), |program| run::run(&program).map_err(proptest::test_runner::TestCaseError::fail));
    println!("{PROGRAMS} programs, {:.1?}", start.elapsed());
    if let Err(failure) = answer {
        panic!("{failure}");
    }
}
