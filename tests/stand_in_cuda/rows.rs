//! The driver calls of rows by index: one launch, as few as C++ has for the same rows.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Permutation, Result, Stream,
    batch::Group,
    buffer::{RowsMut, Scatter},
    cuda::{Cuda, Device},
};
use tidelock_test_support::{
    memory::{get, put},
    stand_in,
};

/// Rows of 4 words, of a matrix of 8 columns, in each of some layers.
const ROWS: usize = 64;
const COLUMNS: usize = 8;

/// The calls of one batch that `add` adds to for each of `layers`, on a stream that has work.
fn calls(
    layers: usize,
    scatter: &Scatter,
    permutation: Permutation<'_>,
    add: impl for<'env, 's> Fn(
        &mut Group<'_, 'env, Cuda<'s>>,
        RowsMut<'env, u32, Cuda<'s>>,
        (&'env Scatter, Permutation<'env>),
    ) -> Result<()>,
    expected: impl Fn(&mut [u32]),
) -> String {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    assert_eq!(device.copy_kernels(), tidelock::cuda::CopyKernels::Loaded);
    let calls = device.stream(|stream: Stream<Cuda<'_>>, _| {
        let ctx = stream.ctx().with_pool();
        let before: Vec<u32> = (0..(ROWS * COLUMNS) as u32).collect();
        let mut memory: Vec<_> = (0..layers).map(|_| put(&ctx, &before)).collect();
        let mut batch = BatchCopy::new();
        let (calls, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    for layer in &mut memory {
                        add(group, layer.view_mut().rows(NonZero::new(COLUMNS).unwrap())?, (scatter, permutation))?;
                    }
                    Ok::<(), tidelock::Error>(())
                })
            })
        });
        answer.unwrap();
        let mut after = before.clone();
        expected(&mut after);
        for layer in &memory {
            assert_eq!(get(&ctx, layer.view()), after);
        }
        calls.join(" ")
    });
    control.report().assert_clean();
    calls.unwrap()
}

/// Copies the columns `from ..` of one row to the columns `to ..` of another.
fn copy(matrix: &mut [u32], (from, to): (usize, usize), (from_column, to_column): (usize, usize), width: usize) {
    let row = matrix[from * COLUMNS + from_column..][..width].to_vec();
    matrix[to * COLUMNS + to_column..][..width].copy_from_slice(&row);
}

const LAUNCH: &str = "cuLaunchKernelEx";

#[test]
fn layers_share_the_words_of_a_scatter_and_one_launch() {
    let mut scatter = Scatter::new();
    // Odd rows to even ones, in another order.
    let pairs = || (0..ROWS / 2).map(|i| (2 * (i * 5 % 32) + 1, 2 * (i * 11 % 32)));
    scatter.set(pairs().map(|(from, to)| (from as u32, to as u32)), ROWS, ROWS).unwrap();
    let numbers: Vec<u32> = (0..ROWS as u32).map(|i| i * 5 % ROWS as u32).collect();
    let permutation = Permutation::new(&numbers, ROWS, 0).unwrap();
    let all = |matrix: &mut [u32]| pairs().for_each(|pair| copy(matrix, pair, (0, 0), COLUMNS));
    for layers in [1, 2, 16] {
        let found = calls(layers, &scatter, permutation, |g, rows, (scatter, _)| g.scatter_within(rows, scatter), all);
        assert_eq!(found, LAUNCH, "within {layers} layers");
    }
    let halves = |matrix: &mut [u32]| pairs().for_each(|pair| copy(matrix, pair, (4, 0), 4));
    let found = calls(
        3,
        &scatter,
        permutation,
        |g, rows, (scatter, _)| {
            let (left, right) = rows.split_columns(4)?;
            g.scatter(right.into_rows(), scatter, left)
        },
        halves,
    );
    assert_eq!(found, LAUNCH, "between the halves of each row");
    let rows = |matrix: &mut [u32]| (0..ROWS).for_each(|i| copy(matrix, (i * 5 % ROWS, i), (4, 0), 4));
    let found = calls(
        3,
        &scatter,
        permutation,
        |g, rows, (_, permutation)| {
            let (left, right) = rows.split_columns(4)?;
            g.warp(right.into_rows(), permutation, left)
        },
        rows,
    );
    assert_eq!(found, LAUNCH, "a warp from half to half");
    let columns = |matrix: &mut [u32]| (0..ROWS).for_each(|i| copy(matrix, (i, i), (5, 1), 3));
    let found = calls(
        3,
        &scatter,
        permutation,
        |g, rows, _| {
            let (left, right) = rows.split_columns(4)?;
            g.copy_rows(right.into_rows().columns(1..)?, left.columns(1..)?)
        },
        columns,
    );
    assert_eq!(found, LAUNCH, "columns to columns");
}
