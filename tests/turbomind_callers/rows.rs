//! Rows by index: destinations in any order, blocks inside one buffer, columns.

#![forbid(unsafe_code)]

use tidelock::{
    BatchCopy, Buffer, DeviceLocation, Error, Permutation, Result, ViewMut,
    buffer::{RowsMut, Scatter},
};
use tidelock_test_support::memory::{put, staged, width};

use crate::site::Site;

/// `models/input_processor.cc:171-178` (Prepare): `copy(autoreg_ids + perm[i], 1, &input_ids[pos])`
/// for the rows that decode.
///
/// C++ pays one batch for all of them.
pub fn c07_tokens_to_their_positions<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let autoreg = put(&ctx, &[40, 41, 42, 43]);
        let mut input_ids = put(&ctx, &[1, 0, 2, 3, 0, 0]);
        // Positions are -1 for a prefill; C++ writes [1] = 43, [4] = 40, [5] = 43.
        let (positions, perm) = ([-1_i32, 1, -1, 4, 5], [0_u32, 3, 1, 0, 3]);
        let (mut scatter, mut batch) = (Scatter::new(), BatchCopy::new());
        let (answer, calls) = site.calls_of(|| {
            let decoding = positions.iter().zip(perm).filter_map(|(&to, from)| Some((from, u32::try_from(to).ok()?)));
            scatter.set(decoding, 4, 6)?;
            let (from, to) = (autoreg.view().rows(width(1))?, input_ids.view_mut().rows(width(1))?);
            batch.scope(&ctx, |batch| batch.group(|group| group.scatter(from, &scatter, to)))
        });
        answer?;
        calls.expect("copy");
        assert_eq!(stream.read(input_ids.view())?, [1, 43, 2, 3, 40, 43]);
        Ok(())
    })
    .unwrap();
}

/// `generation.cc:163-172` (Setup): `copy(token_ids_buf, seq_len, RowPtr(row))`, with rows of a free
/// list in any order.
///
/// C++ pays one batch.
pub fn c07_prefixes_of_rows_of_a_free_list<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let mut token_ids = put(&ctx, &[0; 4 * 6]);
        let tokens = staged(&ctx, &[7, 8, 9, 70, 71]);
        let jobs = [(3_u32, 3_usize), (1, 2)]; // row, length
        let (mut scatter, mut batch) = (Scatter::new(), BatchCopy::new());
        let (answer, calls) = site.calls_of(|| {
            scatter.set(jobs.iter().map(|&(row, _)| (0, row)), 1, 4)?;
            batch.scope(&ctx, |batch| -> Result<()> {
                let mut at = 0;
                let rows = token_ids.view_mut().rows(width(6))?.targets(&scatter)?;
                for ((_, len), row) in jobs.into_iter().zip(rows) {
                    batch.copy(tokens.view().slice(at..at + len)?, row.slice(..len)?)?;
                    at += len;
                }
                Ok(())
            })
        });
        answer?;
        calls.expect("copy");
        let seen = stream.read(token_ids.view())?;
        assert_eq!((&seen[18..21], &seen[6..8]), (&[7, 8, 9][..], &[70, 71][..]));
        assert_eq!(seen.iter().filter(|token| **token != 0).count(), 5);
        Ok(())
    })
    .unwrap();
}

/// `models/input_processor.cc:186-217`: runs of pinned rows, and rows of the tensor of another module,
/// to their tokens in the embeddings.
///
/// C++ pays one batch.
pub fn c08_embeddings_of_two_modules<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let (ctx, dim) = (stream.ctx(), width(4));
        let mut embeds = put(&ctx, &(0..32).map(|x| -x).collect::<Vec<i32>>());
        let text = staged(&ctx, &(100..120).collect::<Vec<i32>>());
        let image = put(&ctx, &(500..524).collect::<Vec<i32>>());
        // Size and position of the text; size, row and position of the image.
        let (coords, multimodal) = ([(2_u32, 1_u32), (3, 5)], [(1_u32, 4_u32, 0_u32)]);
        let (mut scatter, mut batch) = (Scatter::new(), BatchCopy::new());
        let (answer, calls) = site.calls_of(|| {
            let mut row = 0..;
            let texts = coords.iter().flat_map(|&(n, to)| to..to + n).map(|to| (row.next().unwrap(), to));
            let images = multimodal.iter().flat_map(|&(n, row, to)| (0..n).map(move |k| (5 + row + k, to + k)));
            scatter.set(texts.chain(images), 5 + 6, 8)?;
            let (text, image) = (text.view().rows(dim)?, image.view().rows(dim)?);
            batch.scope(&ctx, |batch| {
                batch.group(|group| -> Result<()> {
                    let targets = embeds.view_mut().rows(dim)?.targets(&scatter)?;
                    for (&from, target) in scatter.sources().iter().zip(targets) {
                        match (from as usize).checked_sub(text.row_count()) {
                            None => group.copy(text.row(from as usize)?, target)?,
                            Some(row) => group.copy(image.row(row)?, target)?,
                        }
                    }
                    Ok(())
                })
            })
        });
        answer?;
        calls.expect("copy");
        // As in C++: two runs of the text and one of the image.
        assert_eq!((batch.stats().asked, batch.stats().submitted), (6, 3));
        let expected: Vec<i32> = (516..520).chain(100..108).chain((12..20).map(|x| -x)).chain(108..120).collect();
        assert_eq!(stream.read(embeds.view())?, expected);
        Ok(())
    })
    .unwrap();
}

/// `engine/batch.h:52` and `model_executor.cc:60-67` (`RunCopies`): cache objects from block to block
/// of one pool, in order.
///
/// C++ pays a copy for each: three. Here a chain is a batch for each link: two.
pub fn c20_cache_blocks_in_order<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let (ctx, block) = (stream.ctx(), width(4));
        let mut pool = put(&ctx, &(0..32).collect::<Vec<i32>>());
        let (mut scatter, mut batch) = (Scatter::new(), BatchCopy::new());
        // The second reads what the first writes.
        scatter.set([(1, 5), (5, 2), (0, 7)], 8, 8)?;
        let (answer, calls) = site.calls_of(|| {
            let rows = pool.view_mut().rows(block)?;
            batch.scope(&ctx, |batch| batch.group(|group| group.scatter_within(rows, &scatter)))
        });
        assert_eq!(answer, Err(Error::ReadAndWritten { operand: "from", position: 1, index: 5 }));
        calls.expect("");
        let (answer, calls) = site.calls_of(|| {
            [&[(1, 5), (0, 7)][..], &[(5, 2)]].into_iter().try_for_each(|link| {
                scatter.set(link.iter().copied(), 8, 8)?;
                let rows = pool.view_mut().rows(block)?;
                batch.scope(&ctx, |batch| batch.group(|group| group.scatter_within(rows, &scatter)))
            })
        });
        answer?;
        calls.expect("copy copy");
        let blocks: Vec<i32> = stream.read(pool.view())?.chunks(4).map(|block| block[0] / 4).collect();
        assert_eq!(blocks, [0, 1, 1, 3, 4, 1, 6, 0]);
        Ok(())
    })
    .unwrap();
}

/// The same where the list has no chain, for all layers of the cache.
///
/// C++ pays a copy for each block of each layer: six. Here it is one batch.
pub fn c20_cache_blocks_of_all_layers<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let (ctx, block) = (stream.ctx(), width(4));
        let mut layers = [0, 1, 2].map(|layer| put(&ctx, &(0..32).map(|i| 100 * layer + i / 4).collect::<Vec<i32>>()));
        let (mut scatter, mut batch) = (Scatter::new(), BatchCopy::new());
        let (answer, calls) = site.calls_of(|| {
            scatter.set([(3, 1), (4, 6)], 8, 8)?;
            batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    layers.iter_mut().try_for_each(|l| group.scatter_within(l.view_mut().rows(block)?, &scatter))
                })
            })
        });
        answer?;
        calls.expect("copy");
        for (layer, memory) in (0..).zip(&layers) {
            let seen: Vec<i32> = stream.read(memory.view())?.chunks(4).map(|block| block[0] - 100 * layer).collect();
            assert_eq!(seen, [0, 3, 2, 3, 4, 5, 4, 7]);
        }
        Ok(())
    })
    .unwrap();
}

fn fourth<'a, L: DeviceLocation>(rows: RowsMut<'a, i32, L>) -> Result<ViewMut<'a, i32, L>> {
    Ok(rows.row(3)?)
}

/// A row to write, which lives as long as the buffer's borrow and not as the rows'; and two of them,
/// as `RowPtr(row)` gives them in C++.
///
/// C++ pays a fill for each.
pub fn f9_rows_to_write<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let mut rows = put(&ctx, &[1; 5 * 2]);
        let (answer, calls) = site.calls_of(|| -> Result<()> {
            ctx.clear(fourth(rows.view_mut().rows(width(2))?)?)?;
            let [last, first] = rows.view_mut().rows(width(2))?.get_disjoint([4, 0])?;
            ctx.copy(first.into_view(), last)
        });
        answer?;
        calls.expect("fill copy");
        assert_eq!(stream.read(rows.view())?, [1, 1, 1, 1, 1, 1, 0, 0, 1, 1]);
        Ok(())
    })
    .unwrap();
}

/// `LlamaFfnLayer.cc:59-61`: `gating` and `inter` are the halves of every row of `mix`; one is
/// written while the other is read.
///
/// C++ makes the views for nothing. A copy from one to the other is one `cudaMemcpy2DAsync`.
pub fn f12_columns<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let mut mix = put(&ctx, &(0..12).collect::<Vec<i32>>());
        let mut batch = BatchCopy::new();
        let (answer, calls) = site.calls_of(|| {
            let (gating, inter) = mix.view_mut().rows(width(4))?.split_columns(2)?;
            batch.scope(&ctx, |batch| batch.group(|group| group.copy_rows(inter.into_rows(), gating)))
        });
        answer?;
        calls.expect("copy");
        assert_eq!(stream.read(mix.view())?, [2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11]);
        Ok(())
    })
    .unwrap();
}

/// `core/state.h`: `Warp(a0, b1, size0, perm, c1)` takes row `perm[i]` of `a0` if that is below
/// `size0`, and row `i` of `b1` otherwise.
///
/// C++ pays one batch.
pub fn warp_by_turbominds_numbers<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let (front, joining) = (put(&ctx, &[10, 11, 12]), put(&ctx, &[90, 91, 92, 93]));
        let mut next: Buffer<i32, _> = put(&ctx, &[0; 4]);
        let mut numbers = [2_u32, 3, 0, 7];
        let mut batch = BatchCopy::new();
        let (answer, calls) = site.calls_of(|| {
            let one = width(1);
            let permutation = Permutation::by_position(&mut numbers, 3)?;
            let (front, joining) = (front.view().rows(one)?, joining.view().rows(one)?);
            let next = next.view_mut().rows(one)?;
            batch.scope(&ctx, |batch| batch.group(|group| group.warp_join(front, joining, permutation, next)))
        });
        answer?;
        calls.expect("copy");
        assert_eq!(stream.read(next.view())?, [12, 91, 10, 93]);
        Ok(())
    })
    .unwrap();
}
