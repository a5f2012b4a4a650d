//! The driver calls of many states that are re-packed by one permutation.

use std::num::NonZero;

use tidelock::{BatchCopy, Permutation, cuda::Device};
use tidelock_test_support::{
    memory::{get, put},
    stand_in,
};

/// The calls of re-packing `states` states of `rows` rows of 16 bytes, in reverse, as the first
/// batch of a stream, which is idle or not.
fn repacked(states: usize, rows: usize, idle: bool) -> String {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    // The first batch of a context looks for the kernels.
    assert_eq!(device.copy_kernels(), tidelock::cuda::CopyKernels::Loaded);
    let calls = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let width = NonZero::new(4).unwrap();
        let all: Vec<u32> = (0..(states * rows * 4) as u32).collect();
        let source = put(&ctx, &all);
        let mut target = ctx.zeros::<u32>(all.len()).unwrap();
        let numbers: Vec<u32> = (0..rows as u32).rev().collect();
        let permutation = Permutation::new(&numbers, rows, 0).unwrap();
        let each = NonZero::new(rows * 4).unwrap();
        let mut batch = BatchCopy::new();
        while idle && !stream.is_idle().unwrap() {}
        let (calls, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    let states = source.view().chunks_exact(each).zip(target.view_mut().chunks_exact(each));
                    states
                        .into_iter()
                        .try_for_each(|(from, to)| group.warp(from.rows(width)?, permutation, to.rows(width)?))
                })
            })
        });
        answer.unwrap_or_else(|error: tidelock::Error| panic!("{error}"));
        let expected: Vec<u32> = all
            .chunks(rows * 4)
            .flat_map(|state| state.chunks(4).rev().flatten().copied().collect::<Vec<_>>())
            .collect();
        assert_eq!(get(&ctx, target.view()), expected);
        calls.join(" ")
    });
    control.report().assert_clean();
    calls.unwrap()
}

#[test]
fn states_share_the_words_of_their_numbers() {
    const LAUNCH: &str = "cuLaunchKernelEx";
    // The numbers take 32 words, or 256, whatever the states are. A launch has sixteen segments,
    // and no table is allocated.
    assert_eq!(repacked(16, 64, false), LAUNCH);
    assert_eq!(repacked(17, 64, false), [LAUNCH; 2].join(" "));
    assert_eq!(repacked(33, 64, false), [LAUNCH; 3].join(" "));
    assert_eq!(repacked(15, 512, false), LAUNCH);
    // On an idle stream a single launch is a graph. Several launches have none.
    assert!(repacked(16, 64, true).ends_with("cuGraphLaunch"));
    assert_eq!(repacked(17, 64, true), [LAUNCH; 2].join(" "));
    // These do not fit into parameters.
    assert_ne!(repacked(2, 8192, false), LAUNCH);
}
