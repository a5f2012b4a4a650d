//! Tables of addresses, and views that one phase leaves for the next.

#![forbid(unsafe_code)]

use tidelock::{
    Buffer, Ctx, DeviceLocation, Result, Stack, View,
    stream::{Shared, Table},
};
use tidelock_test_support::memory::{get, put, width};

use crate::site::{At, Site};

const BLOCK: usize = 4;

/// `unified_attention_layer.cc:288-304`: `block_ptrs`, the address of each block of each sequence,
/// and `cu_block_nums`, where the blocks of a sequence begin.
///
/// C++ pays a copy for each of the two.
pub fn c17_block_pointers<S: Site>(site: &S) {
    site.stream(|stream| {
        let ctx = stream.ctx();
        let pool = put(&ctx, &(0..10 * BLOCK as i32).collect::<Vec<_>>());
        let mut sums = put(&ctx, &[0; 5]);
        let mut scratch = Stack::new(ctx.pool());
        let sequences: [&[usize]; 3] = [&[7, 2], &[], &[9, 0, 1]];
        for round in 0..3 {
            let arena = ctx.with_device_alloc(&scratch);
            let (answer, calls) = site.calls_of(|| -> Result<()> {
                let blocks = pool.view().rows(width(BLOCK))?;
                // Behind the header of the block, of one element.
                let parts = sequences.iter().copied().flatten().map(|&block| blocks.row(block)?.slice(1..));
                let table = arena.table(parts.collect::<Result<Vec<_>, _>>()?)?;
                let offsets = arena.upload_new(&[0, 2, 2, 5])?;
                site.launch_table(&ctx, table.view(), sums.view_mut(), |blocks, sums| {
                    sums.iter_mut().zip(blocks).for_each(|(sum, block)| *sum = block.iter().sum());
                })?;
                drop((table, offsets));
                Ok(())
            });
            answer?;
            if round > 0 {
                calls.expect("copy copy launch");
            }
            scratch.reset()?;
        }
        let sum = |block: i32| (1..4).map(|i| block * 4 + i).sum::<i32>();
        assert_eq!(get(&ctx, sums.view()), [sum(7), sum(2), sum(9), sum(0), sum(1)]);
        // From here on the pool may be dropped; while a table lives, this does not compile.
        drop(pool);
        Ok(())
    })
    .unwrap();
}

/// What `Generation` keeps from Setup to the steps that follow: it borrows nothing.
struct Generation<L: DeviceLocation> {
    token_ids: Table<Shared<i32, L>, L>,
}

/// `generation.cc:176` (`token_ids_ptrs`) and `GatedDeltaNetLayer.cc:347` (`conv_state_ptrs`): a table
/// of the rows of the batch that stays in the module.
///
/// C++ pays a copy when the batch changes, and the kernel in each step.
pub fn f3_token_pointers_stay_in_the_module<S: Site>(site: &S) {
    site.stream(|stream| {
        let ctx = stream.ctx();
        let rows = put(&ctx, &[1, 2, 3, 4, 5, 6, 7, 8]).share();
        let mut last = put(&ctx, &[0; 3]);
        let setup = |of_batch: &[usize]| -> Result<Generation<At<'_, S>>> {
            let parts = of_batch.iter().map(|row| rows.slice(row * 2..row * 2 + 2));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            Ok(Generation { token_ids: ctx.with_pool().table(parts)? })
        };
        let (module, calls) = site.calls_of(|| setup(&[3, 0, 2]));
        let mut module = module?;
        // The memory of the table is allocated with it; in C++ it was allocated before.
        calls.expect("alloc copy");
        for (of_batch, expected) in [(None, [8, 2, 6]), (Some([1, 1, 0]), [4, 4, 2])] {
            if let Some(of_batch) = of_batch {
                module = setup(&of_batch)?;
            }
            for _ in 0..2 {
                let (answer, calls) = site.calls_of(|| {
                    site.launch_table(&ctx, module.token_ids.view(), last.view_mut(), |rows, last| {
                        last.iter_mut().zip(rows).for_each(|(last, row)| *last = row[1]);
                    })
                });
                answer?;
                calls.expect("launch");
            }
            assert_eq!(get(&ctx, last.view()), expected);
        }
        Ok(())
    })
    .unwrap();
}

/// What Prepare leaves for Forward.
struct Prepared<'p, L> {
    finished: View<'p, i32, L>,
    q_offsets: View<'p, i32, L>,
    k_offsets: View<'p, i32, L>,
}

fn lengths([finished, q, k]: [&[i32]; 3], [out]: [&mut [i32]; 1]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = if finished[i] != 0 { 0 } else { (q[i + 1] - q[i]) * 1000 + (k[i + 1] - k[i]) };
    }
}

/// The parts that decode, and those that prefill.
fn forward<'s, S: Site>(
    site: &S,
    ctx: &Ctx<'_, At<'s, S>>,
    prepared: &Prepared<'_, At<'s, S>>,
    out: &mut Buffer<i32, At<'s, S>>,
    decoding: usize,
) -> Result<()> {
    let total = out.len();
    let (decode, prefill) = out.view_mut().split_at(decoding)?;
    for (first, count, out) in [(0, decoding, decode), (decoding, total - decoding, prefill)] {
        let finished = prepared.finished.slice(first..first + count)?;
        let q_offsets = prepared.q_offsets.slice(first..=first + count)?;
        let k_offsets = prepared.k_offsets.slice(first..=first + count)?;
        site.launch(ctx, [finished, q_offsets, k_offsets], [out], lengths)?;
    }
    Ok(())
}

/// `unified_attention_layer.cc:255-275` (kPrepare): borrowed views of six buffers are kept until
/// kForward, which slices them for decode and prefill.
///
/// C++ pays the two kernels.
pub fn c12_borrowed_views<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let (finished, q, k) = (put(&ctx, &[0, 1, 0]), put(&ctx, &[0, 1, 2, 7]), put(&ctx, &[0, 11, 30, 35]));
        let mut out = put(&ctx, &[-1; 3]);
        let prepared = Prepared { finished: finished.view(), q_offsets: q.view(), k_offsets: k.view() };
        let (answer, calls) = site.calls_of(|| forward(site, &ctx, &prepared, &mut out, 2));
        answer?;
        calls.expect("launch launch");
        assert_eq!(stream.read(out.view())?, [1011, 0, 5005]);
        Ok(())
    })
    .unwrap();
}

/// The same in a layer that lives as long as the engine: it owns parts of the producer's memory.
///
/// C++ pays the two kernels.
pub fn c12_parts_kept_by_the_layer<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let flags = put(&ctx, &[0, 1, 0, 9, 9]).share();
        let (q, k) = (put(&ctx, &[0, 1, 2, 7]).share(), put(&ctx, &[0, 11, 30, 35]).share());
        let mut out = put(&ctx, &[-1; 3]);
        let (kept, calls) = site.calls_of(|| Ok::<_, tidelock::Error>([flags.slice(..3)?, q.clone(), k.clone()]));
        calls.expect("");
        let layer: [Shared<i32, At<'_, S>>; 3] = kept?;
        drop((flags, q, k));
        let (answer, calls) = site.calls_of(|| {
            let [finished, q_offsets, k_offsets] = layer.each_ref().map(Shared::view);
            forward(site, &ctx, &Prepared { finished, q_offsets, k_offsets }, &mut out, 2)
        });
        answer?;
        calls.expect("launch launch");
        assert_eq!(stream.read(out.view())?, [1011, 0, 5005]);
        Ok(())
    })
    .unwrap();
}

/// Flags are `bool *` here and `uint8_t *` there, all over the engine.
///
/// C++ reinterprets for nothing, and pays the copy.
pub fn f1_flags_as_bytes<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let finished = put(&ctx, &[true, false, true]);
        let mut mask = put(&ctx, &[7_u8; 3]);
        let (answer, calls) = site.calls_of(|| ctx.copy(finished.view().bytes(), mask.view_mut()));
        answer?;
        calls.expect("copy");
        assert_eq!(stream.read(mask.view())?, [1, 0, 1]);
        Ok(())
    })
    .unwrap();
}
