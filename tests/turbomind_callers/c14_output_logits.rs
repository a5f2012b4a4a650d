//! `models/output_processor.cc`: the logits of a forward pass are computed in chunks. Of each chunk,
//! the rows of a request go to its host tensor, without the padding of the vocabulary.
//!
//! C++ makes one `cudaMemcpy2DAsync` for each chunk of a request, and synchronises once.

#![forbid(unsafe_code)]

use half::f16;
use tidelock::{BatchCopy, Buffer, DeviceLocation, Result, Stream, stream::Staged};
use tidelock_test_support::memory::{put, width};

use crate::site::{At, Site};

const VOCAB: usize = 5;
const PADDED: usize = 8;
const CHUNK: usize = 4;

fn cell(token: usize, v: usize) -> f16 {
    f16::from_f32((token * 10 + v) as f32)
}

/// The tokens of a request in a chunk, on their way to the host.
struct Piece<L: DeviceLocation> {
    request: usize,
    row: usize,
    logits: Buffer<f16, Staged<L>>,
}

fn output_logits<S: Site>(stream: &mut Stream<At<'_, S>>, site: &S) -> Result<[Vec<f16>; 2]> {
    let logits: Vec<f16> = (0..10).flat_map(|t| (0..PADDED).map(move |v| cell(t, v))).collect();
    // The tokens of two requests, and the row of the output at which each begins.
    let mut requests = [(1..6, 0), (6..9, 2)];
    let mut batch = BatchCopy::new();
    let mut pieces = Vec::new();
    let (mut next, mut begin) = (0, 1);
    while begin < 9 {
        let ctx = stream.ctx().with_pool();
        let end = (begin + CHUNK).min(9);
        let chunk = put(&ctx, &logits[begin * PADDED..end * PADDED]);
        while let Some((tokens, row)) = requests.get_mut(next) {
            let last = tokens.end.min(end);
            let from = chunk.view().slice((tokens.start - begin) * PADDED..(last - begin) * PADDED)?;
            let count = last - tokens.start;
            let page = ctx.alloc_pinned::<f16>(count * VOCAB)?.stage(&ctx);
            let (copied, calls) = site.calls_of(|| {
                ctx.init_with(page, |out| {
                    batch.scope(&ctx, |batch| {
                        for (from, to) in from.chunks_exact(width(PADDED)).zip(out.rows(width(VOCAB))?) {
                            batch.copy(from.slice(..VOCAB)?, to)?;
                        }
                        Ok(())
                    })
                })
            });
            calls.expect("copy");
            pieces.push(Piece { request: next, row: *row, logits: copied?.0 });
            (tokens.start, *row) = (last, *row + count);
            if tokens.start < tokens.end {
                break;
            }
            next += 1;
        }
        begin = end;
    }
    assert_eq!(pieces.len(), 3);
    let (done, calls) = site.calls_of(|| stream.synchronize());
    calls.expect("host-waits");
    let done = done?;
    let mut out = [vec![f16::ZERO; 5 * VOCAB], vec![f16::ZERO; 6 * VOCAB]];
    for Piece { request, row, logits } in pieces {
        let (logits, calls) = site.calls_of(|| logits.reclaim(&done));
        calls.expect("");
        out[request][row * VOCAB..][..logits.len()].copy_from_slice(&logits);
    }
    Ok(out)
}

pub fn logits_go_to_their_requests<S: Site>(site: &S) {
    let [first, second] = site.stream(|mut stream| output_logits(&mut stream, site)).unwrap();
    let rows = |tokens: std::ops::Range<usize>| tokens.flat_map(|t| (0..VOCAB).map(move |v| cell(t, v)));
    assert_eq!(first, rows(1..6).collect::<Vec<_>>());
    let nothing = [f16::ZERO; 2 * VOCAB];
    assert_eq!(second[..2 * VOCAB], nothing);
    assert_eq!(second[2 * VOCAB..5 * VOCAB], rows(6..9).collect::<Vec<_>>());
    assert_eq!(second[5 * VOCAB..], nothing[..VOCAB]);
}
