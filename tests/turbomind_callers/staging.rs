//! Pinned buffers that the host fills again and again, and memory that comes down to it.

#![forbid(unsafe_code)]

use tidelock::{
    BatchCopy, Buffer, Ctx, DeviceLocation, Result,
    stream::{OnBackend, Pending, Staged},
};
use tidelock_test_support::memory::put;

use crate::site::{At, Site};

type Pinned<L> = Buffer<i32, <L as OnBackend>::Pinned>;

struct Sequence {
    autoregressive: bool,
    input: &'static [i32],
}

/// The device buffers of a phase.
struct Phase<L: DeviceLocation> {
    input_ids: Buffer<i32, L>,
    offsets: Buffer<i32, L>,
    selected: Buffer<i32, L>,
}

/// The pinned buffers of the module: with the host, or on their way back to it.
enum Staging<L: DeviceLocation> {
    Here([Pinned<L>; 3]),
    Away([Pending<i32, L>; 3]),
}

struct InputProcessor<L: DeviceLocation> {
    staging: Option<Staging<L>>,
    phases: [Phase<L>; 2],
    copy: BatchCopy,
}

impl<L: DeviceLocation> InputProcessor<L> {
    fn new(ctx: &Ctx<'_, L>, max_tokens: usize, max_batch: usize) -> Result<Self> {
        let pool = ctx.with_pool();
        let pin = |len| Buffer::<i32, L::Pinned>::zeros(len);
        let phase = || -> Result<_> {
            let (input_ids, offsets) = (pool.zeros(max_tokens)?, pool.zeros(max_batch + 1)?);
            Ok(Phase { input_ids, offsets, selected: pool.zeros(max_batch)? })
        };
        Ok(InputProcessor {
            staging: Some(Staging::Here([pin(max_tokens)?, pin(max_batch + 1)?, pin(max_batch)?])),
            phases: [phase()?, phase()?],
            copy: BatchCopy::new(),
        })
    }

    /// Setup and Prepare of an iteration. The host waits for the copies of the one before, if they
    /// are not done.
    fn step(&mut self, ctx: &Ctx<'_, L>, phase: usize, batch: &[Sequence]) -> Result<usize> {
        let [mut ids, mut offsets, mut selected] = match self.staging.take().unwrap() {
            Staging::Here(buffers) => buffers,
            Staging::Away([ids, offsets, selected]) => [ids.wait()?, offsets.wait()?, selected.wait()?],
        };
        offsets[0] = 0;
        for (i, sequence) in batch.iter().enumerate() {
            let at = offsets[i] as usize;
            let count = if sequence.autoregressive { 1 } else { sequence.input.len() };
            if !sequence.autoregressive {
                ids[at..at + count].copy_from_slice(sequence.input);
            }
            offsets[i + 1] = (at + count) as i32;
            selected[i] = offsets[i + 1] - 1;
        }
        let (count, tokens) = (batch.len(), offsets[batch.len()] as usize);
        let [ids, offsets, selected] = [ids.stage(ctx), offsets.stage(ctx), selected.stage(ctx)];
        let to = &mut self.phases[phase];
        self.copy.scope(ctx, |batch| -> Result<()> {
            batch.copy(ids.view().slice(..tokens)?, to.input_ids.view_mut().slice(..tokens)?)?;
            batch.copy(selected.view().slice(..count)?, to.selected.view_mut().slice(..count)?)?;
            batch.copy(offsets.view().slice(..=count)?, to.offsets.view_mut().slice(..=count)?)
        })?;
        self.staging = Some(Staging::Away([ctx.fence(ids)?, ctx.fence(offsets)?, ctx.fence(selected)?]));
        Ok(tokens)
    }
}

/// `models/input_processor.cc:104-142` (Setup) and `180-184` (Prepare): the host fills three pinned
/// buffers of the module, and the used prefix of each goes to the device in one batch.
///
/// C++ pays a batch and the record of `done`, and a wait of the host before the next Setup.
/// Sequences, and the token ids, offsets and selected rows that they make.
type Round<'r> = (&'r [Sequence], &'r [i32], &'r [i32], &'r [i32]);

pub fn c06_setup_of_two_phases<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let mut module = InputProcessor::<At<'_, S>>::new(&stream.ctx(), 32, 4)?;
        let prefill = |input| Sequence { autoregressive: false, input };
        let decode = || Sequence { autoregressive: true, input: &[] };
        let rounds: [Round; 3] = [
            (&[prefill(&[5, 6, 7]), prefill(&[9, 8])], &[5, 6, 7, 9, 8], &[0, 3, 5], &[2, 4]),
            // A row that decodes keeps what the pinned buffer held, as in C++.
            (&[decode(), prefill(&[1, 2])], &[5, 1, 2], &[0, 1, 3], &[0, 2]),
            (&[prefill(&[4])], &[4], &[0, 1], &[0]),
        ];
        for (round, (batch, ids, offsets, selected)) in rounds.into_iter().enumerate() {
            let (phase, ctx) = (round % 2, stream.ctx());
            let (tokens, calls) = site.calls_of(|| module.step(&ctx, phase, batch));
            // What the test reads below has passed the copies already.
            calls.expect("copy record");
            let to = &module.phases[phase];
            assert_eq!(stream.read(to.input_ids.view().slice(..tokens?)?)?, ids);
            assert_eq!(stream.read(to.offsets.view().slice(..offsets.len())?)?, offsets);
            assert_eq!(stream.read(to.selected.view().slice(..selected.len())?)?, selected);
        }
        // Without a read in between, the three buffers come back by one wait.
        let calls = site.calls_of(|| module.step(&stream.ctx(), 0, rounds_end())).1;
        calls.expect("copy record");
        let calls = site.calls_of(|| module.step(&stream.ctx(), 1, rounds_end())).1;
        assert!(calls.of("host-waits") <= 1 && calls.total() <= 3, "{calls}");
        Ok(())
    })
    .unwrap();
}

fn rounds_end() -> &'static [Sequence] {
    &[Sequence { autoregressive: false, input: &[1, 2, 3] }]
}

/// 22 modules of the engine have a pinned buffer each.
///
/// C++ pays one record of `done`, and one wait of the host.
pub fn f7_fence_of_all_modules<S: Site>(site: &S) {
    site.stream(|stream| {
        let ctx = stream.ctx();
        let numbers = put(&ctx, &(0..22).collect::<Vec<i32>>());
        let mut pages = (0..22).map(|_| Ok(ctx.alloc_pinned::<i32>(1)?.stage(&ctx))).collect::<Result<Vec<_>>>()?;
        let pages = pages.drain(..).enumerate();
        let pages = pages
            .map(|(i, page)| Ok(ctx.init_from(page, numbers.view().slice(i..=i)?)?))
            .collect::<Result<Vec<_>>>()?;
        let (pending, calls) =
            site.calls_of(|| pages.into_iter().map(|page| ctx.fence(page)).collect::<Result<Vec<_>, _>>());
        calls.expect("record");
        let (back, calls) = site.calls_of(|| {
            pending?.into_iter().map(Pending::wait).collect::<Result<Vec<_>, _>>().map_err(tidelock::Error::from)
        });
        calls.expect("host-waits");
        for (i, page) in back?.iter().enumerate() {
            assert_eq!(page[..], [i as i32]);
        }
        Ok(())
    })
    .unwrap();
}

/// `models/output_processor.cc`: outputs are pageable memory of the request.
///
/// C++ makes one `cudaMemcpyAsync` for each, and synchronises. The batch writes to a page that the
/// engine keeps; the host copies out of it behind the wait.
pub fn f4_outputs_in_pageable_memory<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let (ids, lengths) = (put(&ctx, &[1, 2, 3, 4]), put(&ctx, &[7]));
        let mut page: Buffer<i32, Staged<At<'_, S>>> = Buffer::<i32, _>::zeros(5)?.stage(&ctx);
        let (mut out, mut out_length) = (vec![0; 4], [0]);
        let mut batch = BatchCopy::new();
        let (answer, calls) = site.calls_of(|| {
            batch.scope(&ctx, |batch| {
                let (first, second) = page.view_mut().split_at(4)?;
                batch.copy(ids.view(), first)?;
                batch.copy(lengths.view(), second)
            })
        });
        answer?;
        calls.expect("copy");
        let (done, calls) = site.calls_of(|| stream.synchronize());
        calls.expect("host-waits");
        let landed = page.peek(&done?);
        out.copy_from_slice(&landed[..4]);
        out_length.copy_from_slice(&landed[4..]);
        assert_eq!((out, out_length), (vec![1, 2, 3, 4], [7]));
        Ok(())
    })
    .unwrap();
    // Pageable memory is a destination of plain copies, in a scope that waits at its end.
    site.stream(|mut stream| {
        let ids = put(&stream.ctx(), &[1, 2, 3, 4]);
        let mut out = vec![0; 4];
        let (answer, calls) =
            site.calls_of(|| stream.host_scope(|scope| scope.ctx().copy(ids.view(), scope.target(&mut out))));
        answer??;
        calls.expect("copy host-waits");
        assert_eq!(out, [1, 2, 3, 4]);
        Ok(())
    })
    .unwrap();
}
