//! Random programs over the whole library, against a model that executes everything at once, with
//! the race detector on.
//!
//! A program allocates, slices, copies, stages, fences, lends, transfers, detaches and batches on
//! two streams, one inside the other. Now and then it forgets values, fails and panics. At each
//! check, all memory must hold what the model says. At the end the race detector must have found
//! nothing, and only what was forgotten or what a failed call kept may leak.

mod closures;
mod memory;
mod program;
mod run;
mod world;

use std::{cell::RefCell, time::Instant};

use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::{program::program, run::Tally};

/// Programs in each run of the suite.
const PROGRAMS: u32 = 5200;

#[test]
fn random_programs_do_what_the_model_does() {
    let config = Config { cases: PROGRAMS, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let start = Instant::now();
    let tally = RefCell::new(Tally::default());
    let answer = TestRunner::new(config).run(&program(), |program| {
        *tally.borrow_mut() += run::run(&program).map_err(TestCaseError::fail)?;
        Ok(())
    });
    let tally = tally.into_inner();
    println!("{PROGRAMS} programs, {:.1?}: {tally:?}", start.elapsed());
    if let Err(failure) = answer {
        panic!("{failure}");
    }
    // The programs exercise what they are for.
    let Tally { calls, waits, batches, failures, lost, forgotten } = tally;
    assert!(calls > 200_000 && waits > 10_000 && batches > 5_000, "{tally:?}");
    assert!(failures > 700 && lost > 100 && forgotten > 500, "{tally:?}");
}
