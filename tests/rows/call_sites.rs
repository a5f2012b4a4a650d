//! TurboMind's call sites that take rows by index, and what its numbers mean.

use tidelock::{
    BatchCopy, Buffer, Error, Permutation, Result, View, ViewMut,
    buffer::{RowsMut, Scatter},
    location::{Host, Pinned},
    sim::{Sim, SimBackend},
};

use super::{down, run, width};

/// `models/input_processor.cc`, Prepare: `copy(autoreg_ids + perm[i], 1, &input_ids[pos])` for the
/// rows that decode, in any order of positions.
#[test]
fn tokens_go_to_their_positions() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let autoreg = ctx.upload_new(&[40_i32, 41, 42, 43])?;
        let mut input_ids = ctx.upload_new(&[1_i32, 0, 2, 3, 0, 0])?;
        let (pos, perm) = ([-1_i32, 5, -1, 4, 1], [0_u32, 3, 1, 0, 3]);
        let mut scatter = Scatter::new();
        let decoding = pos.iter().zip(perm).filter_map(|(&pos, row)| Some((row, u32::try_from(pos).ok()?)));
        scatter.set(decoding, 4, 6)?;
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |b| {
            b.group(|g| g.scatter(autoreg.view().rows(width(1))?, &scatter, input_ids.view_mut().rows(width(1))?))
        })?;
        assert_eq!((batch.stats().asked, batch.stats().submissions), (3, 1));
        assert_eq!(down(&mut stream, input_ids.view())?, [1, 43, 2, 3, 40, 43]);
        Ok(())
    })
}

/// `generation.cc`, Setup: `copy(token_ids_buf, seq_len, RowPtr(row))`, rows from a free list.
#[test]
fn prefixes_of_rows_of_a_free_list() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let mut token_ids = ctx.zeros::<i32>(4 * 6)?;
        let staged = Buffer::<i32, Pinned<SimBackend>>::from_slice(&[7, 8, 9, 70, 71])?.stage(&ctx);
        BatchCopy::new().scope(&ctx, |b| -> Result<()> {
            let [three, one] = token_ids.view_mut().rows(width(6))?.get_disjoint([3, 1])?;
            b.copy(staged.view().slice(..3)?, three.slice(..3)?)?;
            b.copy(staged.view().slice(3..)?, one.slice(..2)?)
        })?;
        let seen = down(&mut stream, token_ids.view())?;
        assert_eq!((&seen[18..21], &seen[6..8]), (&[7, 8, 9][..], &[70, 71][..]));
        assert_eq!(seen.iter().filter(|token| **token != 0).count(), 5);
        Ok(())
    })
}

/// `models/input_processor.cc`: runs of pinned rows, and rows of another module's tensor, into rows
/// of the embeddings, by (size, position).
#[test]
fn embeddings_of_two_modules() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let dim = width(4);
        let mut embeds = ctx.upload_new(&(0..32).map(|x| -x).collect::<Vec<i32>>())?;
        let text = Buffer::<i32, Pinned<SimBackend>>::from_fn(20, |i| 100 + i as i32)?.stage(&ctx);
        let image = ctx.upload_new(&(500..524).collect::<Vec<i32>>())?;
        // (size, position) of the text, whose rows come one after the other; (size, row, position)
        // of the image. Rows of the text are numbered first.
        let (coords, multimodal) = ([(2_u32, 1_u32), (3, 5)], [(1_u32, 4_u32, 0_u32)]);
        let mut row = 0..;
        let texts =
            coords.iter().flat_map(|&(n, pos)| (0..n).map(move |k| pos + k)).map(|to| (row.next().unwrap(), to));
        let images = multimodal.iter().flat_map(|&(n, row, pos)| (0..n).map(move |k| (5 + row + k, pos + k)));
        let mut scatter = Scatter::new();
        scatter.set(texts.chain(images), 5 + 6, 8)?;
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |b| {
            b.group(|g| {
                let (text, image) = (text.view().rows(dim)?, image.view().rows(dim)?);
                let targets = embeds.view_mut().rows(dim)?.targets(&scatter)?;
                for (&from, target) in scatter.sources().iter().zip(targets) {
                    match (from as usize).checked_sub(text.row_count()) {
                        None => g.copy(text.row(from as usize)?, target)?,
                        Some(row) => g.copy(image.row(row)?, target)?,
                    }
                }
                Ok::<_, Error>(())
            })
        })?;
        // As in C++, runs merge: two of the text, one of the image.
        assert_eq!((batch.stats().asked, batch.stats().submitted, batch.stats().submissions), (6, 3, 1));
        let expected: Vec<i32> = (516..520).chain(100..108).chain((12..20).map(|x| -x)).chain(108..120).collect();
        assert_eq!(down(&mut stream, embeds.view())?, expected);
        Ok(())
    })
}

/// `model_executor.cc`, RunCopies: cache blocks from place to place of one pool, for every layer.
/// What is in order in C++ is one batch for each link of a chain.
#[test]
fn cache_blocks_are_moved_in_all_layers() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let block = width(4);
        let content = |layer: u32| (0..32).map(|i| 100 * layer + i / 4).collect::<Vec<u32>>();
        let mut layers = (0..3).map(|layer| ctx.upload_new(&content(layer))).collect::<Result<Vec<_>>>()?;
        let (mut batch, mut scatter) = (BatchCopy::new(), Scatter::new());
        // The second reads what the first writes.
        scatter.set([(1, 5), (5, 2), (0, 7)], 8, 8)?;
        let refused = batch.scope(&ctx, |b| b.group(|g| g.scatter_within(layers[0].view_mut().rows(block)?, &scatter)));
        assert_eq!(refused, Err(Error::ReadAndWritten { operand: "from", position: 1, index: 5 }));
        for link in [&[(1, 5), (0, 7)][..], &[(5, 2)], &[(3, 1), (4, 6)]] {
            scatter.set(link.iter().copied(), 8, 8)?;
            batch.scope(&ctx, |b| {
                b.group(|g| layers.iter_mut().try_for_each(|l| g.scatter_within(l.view_mut().rows(block)?, &scatter)))
            })?;
        }
        assert_eq!(batch.stats().submissions, 3);
        for (layer, memory) in layers.iter().enumerate() {
            let seen = down(&mut stream, memory.view())?;
            let blocks: Vec<u32> = seen.chunks(4).map(|block| block[0] - 100 * layer as u32).collect();
            assert_eq!(blocks, [0, 3, 1, 3, 4, 1, 4, 0]);
        }
        // Swapped out to the host, in another order.
        let ctx = stream.ctx().with_pool();
        let mut swapped = Buffer::<u32, Pinned<SimBackend>>::zeros(16)?.stage(&ctx);
        scatter.set([(2, 3), (6, 0)], 8, 4)?;
        batch.scope(&ctx, |b| {
            b.group(|g| g.scatter(layers[0].view().rows(block)?, &scatter, swapped.view_mut().rows(block)?))
        })?;
        drop(layers);
        assert_eq!(swapped.peek(&stream.synchronize()?), [4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        Ok(())
    })
}

fn fourth<'a>(rows: RowsMut<'a, i32, Host>) -> Result<ViewMut<'a, i32, Host>> {
    Ok(rows.row(3)?)
}

#[test]
fn a_row_lives_as_long_as_its_rows() -> Result<()> {
    let mut memory = [0; 8];
    fourth(ViewMut::from(&mut memory[..]).rows(width(2))?)?.into_slice().fill(7);
    assert_eq!(memory, [0, 0, 0, 0, 0, 0, 7, 7]);
    Ok(())
}

/// `LlamaFfnLayer.cc`: gating and inter are the two halves of every row; one is written, one is read.
fn halves<'a, 's>(
    mix: ViewMut<'a, f32, Sim<'s>>,
    d: usize,
) -> Result<(RowsMut<'a, f32, Sim<'s>>, RowsMut<'a, f32, Sim<'s>>)> {
    Ok(mix.rows(width(2 * d))?.split_columns(d)?)
}

#[test]
fn one_half_of_each_row_is_written_while_the_other_is_read() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let mut mix = ctx.upload_new(&(0..12).map(|i| i as f32).collect::<Vec<_>>())?;
        let (gating, inter) = halves(mix.view_mut(), 2)?;
        assert_eq!((gating.row_count(), gating.width(), gating.pitch()), (3, width(2), 4));
        let error = Error::Length { operand: "pitch", expected: 2, found: 4 };
        assert_eq!(gating.as_rows().as_view().map(drop), Err(error));
        assert_eq!(gating.as_rows().first(1)?.as_view()?.len(), 2);
        BatchCopy::new().scope(&ctx, |b| b.group(|g| g.copy_rows(inter.into_rows(), gating)))?;
        assert_eq!(down(&mut stream, mix.view())?, [2., 3., 2., 3., 6., 7., 6., 7., 10., 11., 10., 11.]);
        Ok(())
    })
}

/// `output_processor.cc`: outputs are on the host. The batch writes to staged memory that the engine
/// keeps, and the host copies out of it once the stream was waited for.
#[test]
fn outputs_in_pageable_memory() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let (ids, lens) = (ctx.upload_new(&[1, 2, 3, 4])?, ctx.upload_new(&[7])?);
        let (mut out, mut out_len) = (vec![0; 4], 0);
        let mut landing = Buffer::<i32, Pinned<SimBackend>>::zeros(5)?.stage(&ctx);
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |b| -> Result<()> {
            let (first, second) = landing.view_mut().split_at(4)?;
            b.copy(ids.view(), first)?;
            b.copy(lens.view(), second)
        })?;
        drop((ids, lens));
        let done = stream.synchronize()?;
        let landed = landing.peek(&done);
        out.copy_from_slice(&landed[..4]);
        out_len += landed[4];
        assert_eq!((out, out_len, batch.stats().submissions), (vec![1, 2, 3, 4], 7, 1));
        Ok(())
    })
}

/// `core/state.h`: `Warp(a0, b1, size0, perm, c1)` takes row `perm[i]` of `a0` if that is below
/// `size0`, and row `i` of `b1` otherwise.
fn reference_warp(a0: &[u32], b1: &[u32], size0: usize, perm: &[u32]) -> Vec<u32> {
    let each = perm.iter().enumerate();
    each.map(|(i, &row)| if (row as usize) < size0 { a0[row as usize] } else { b1[i] }).collect()
}

#[test]
fn turbominds_numbers_mean_what_its_warp_does() -> Result<()> {
    run(|mut stream| {
        let mut state = 1_u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below.max(1)
        };
        for case in 0..60 {
            let ctx = stream.ctx().with_pool();
            let (size0, count) = (random(40), random(50));
            let perm: Vec<u32> = (0..count)
                .map(|_| match random(8) {
                    0 => u32::MAX - random(3) as u32,
                    1 => size0 as u32,
                    _ => random(2 * size0 + 2) as u32,
                })
                .collect();
            let (a0, b1): (Vec<u32>, Vec<u32>) =
                ((0..size0 as u32).collect(), (0..count as u32).map(|i| 1000 + i).collect());
            let expected = reference_warp(&a0, &b1, size0, &perm);
            let mut numbers = perm.clone();
            let permutation = Permutation::by_position(&mut numbers, size0)?;
            let (present, new) = (ctx.upload_new(&a0)?, ctx.upload_new(&b1)?);
            let mut next = ctx.zeros::<u32>(count)?;
            BatchCopy::new().scope(&ctx, |b| {
                let one = width(1);
                b.group(|g| {
                    let (present, new) = (present.view().rows(one)?, new.view().rows(one)?);
                    g.warp_join(present, new, permutation, next.view_mut().rows(one)?)
                })
            })?;
            assert_eq!(down(&mut stream, next.view())?, expected, "case {case}: {perm:?} of {size0}");
            let once = numbers.clone();
            Permutation::by_position(&mut numbers, size0)?;
            assert_eq!(numbers, once, "replacing them again changes nothing");
        }
        Ok(())
    })
}

#[test]
fn positions_whose_numbers_have_more_than_32_bits_are_refused() {
    let mut perm = [0, u32::MAX, 1, u32::MAX];
    let old = u32::MAX as usize - 2;
    // The last position would take row 2^32 - 3 + 3.
    assert!(matches!(Permutation::by_position(&mut perm, old), Err(Error::TooLarge { operand: "permutation" })));
    assert_eq!(perm, [0, u32::MAX, 1, u32::MAX], "nothing was replaced");
    assert_eq!(Permutation::by_position(&mut perm, old - 1).unwrap().indices().as_slice()[3], u32::MAX);
    for old in [1 << 32, usize::MAX - 4] {
        // No number of 32 bits is above the present rows.
        assert_eq!(Permutation::by_position(&mut [5, 0], old).unwrap().joining(), 2);
    }
    assert!(Permutation::by_position(&mut [5, 0], usize::MAX).is_err());
    assert_eq!(Permutation::by_position(&mut [], 3).unwrap().len(), 0);
}

/// Columns of a view to read.
#[test]
fn columns_of_shared_rows() -> Result<()> {
    let memory: Vec<u32> = (0..12).collect();
    let rows = View::from(&memory[..]).rows(width(4))?;
    let seen: Vec<_> = rows.columns(1..3)?.into_iter().map(|row| row.as_slice().to_vec()).collect();
    assert_eq!(seen, [[1, 2], [5, 6], [9, 10]]);
    assert_eq!(rows.columns(1..)?.columns(2..)?.row(2)?.as_slice(), [11]);
    Ok(())
}
