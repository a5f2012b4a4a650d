//! Phases that go from the thread of the scheduler to the thread of the executor and back.

#![forbid(unsafe_code)]

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use tidelock::{
    Buffer, Ctx, DeviceLocation, Error, Result,
    driver::Backend,
    stream::{Detached, OnBackend, Staged},
};

use crate::site::{At, Calls, Site};

/// The device buffers of a phase, on a stream or on none.
struct Tensors<D: tidelock::location::Location> {
    ids: Buffer<i32, D>,
    lengths: Buffer<i32, D>,
    finished: Buffer<i32, D>,
    out: Buffer<i32, D>,
    others: Vec<Buffer<i32, D>>,
}

struct BatchData<B: Backend> {
    phase: usize,
    round: Option<i32>,
    tensors: Tensors<Detached<B>>,
}

impl<B: Backend> Tensors<Detached<B>> {
    fn attach<L: DeviceLocation + OnBackend<Backend = B>>(self, ctx: &Ctx<'_, L>) -> Result<Tensors<L>> {
        Ok(Tensors {
            ids: ctx.attach(self.ids)?,
            lengths: ctx.attach(self.lengths)?,
            finished: ctx.attach(self.finished)?,
            out: ctx.attach(self.out)?,
            others: self.others.into_iter().map(|buffer| ctx.attach(buffer)).collect::<Result<_, _>>()?,
        })
    }
}

impl<L: DeviceLocation> Tensors<L> {
    fn detach(self, ctx: &Ctx<'_, L>) -> Result<Tensors<Detached<L::Backend>>> {
        Ok(Tensors {
            ids: ctx.detach(self.ids)?,
            lengths: ctx.detach(self.lengths)?,
            finished: ctx.detach(self.finished)?,
            out: ctx.detach(self.out)?,
            others: self.others.into_iter().map(|buffer| ctx.detach(buffer)).collect::<Result<_, _>>()?,
        })
    }
}

fn executor<S: Site>(site: &S, inbound: &Receiver<BatchData<S::Family>>, outbound: &Sender<BatchData<S::Family>>) {
    site.stream(|stream| {
        while let Ok(BatchData { phase, round, tensors }) = inbound.recv() {
            let ctx = stream.ctx();
            let mut on: Tensors<At<'_, S>> = tensors.attach(&ctx)?;
            let inputs = [on.ids.view(), on.lengths.view(), on.finished.view()];
            site.launch(&ctx, inputs, [on.out.view_mut()], |[ids, lengths, finished], [out]| {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = if finished[i] != 0 { -1 } else { ids[i] * 10 + lengths[i] };
                }
            })?;
            // The scheduler may have ended. The rounds that it has sent are run all the same.
            let _ = outbound.send(BatchData { phase, round, tensors: on.detach(&ctx)? });
        }
        Ok(())
    })
    .unwrap();
}

fn scheduler<S: Site>(
    site: &S,
    outbound: &Sender<BatchData<S::Family>>,
    inbound: &Receiver<BatchData<S::Family>>,
    rounds: i32,
) -> Vec<(usize, i32, Vec<i32>)> {
    site.stream(|stream| {
        let ctx = stream.ctx();
        let make = |phase| -> Result<BatchData<S::Family>> {
            let pool = ctx.with_pool();
            let on: Tensors<At<'_, S>> = Tensors {
                ids: pool.zeros(3)?,
                lengths: pool.zeros(3)?,
                finished: pool.zeros(3)?,
                out: pool.zeros(3)?,
                others: (0..6).map(|_| pool.zeros(3)).collect::<Result<_>>()?,
            };
            Ok(BatchData { phase, round: None, tensors: on.detach(&ctx)? })
        };
        let (mut free, mut seen) = (vec![make(1)?, make(0)?], vec![]);
        let mut page: Option<Buffer<i32, Staged<At<'_, S>>>> = None;
        for now in 0..rounds {
            let BatchData { phase, round, tensors } = free.pop().unwrap_or_else(|| inbound.recv().unwrap());
            let mut on: Tensors<At<'_, S>> = tensors.attach(&ctx)?;
            if let Some(round) = round {
                let to = match page.take() {
                    Some(page) => page,
                    None => Buffer::<i32, _>::zeros(3)?.stage(&ctx),
                };
                let mut to = to;
                ctx.copy(on.out.view(), to.view_mut())?;
                let back = ctx.fence(to)?.wait()?;
                seen.push((phase, round, back.to_vec()));
                page = Some(back.stage(&ctx));
            }
            ctx.upload(&[now, now + 1, now + 2], on.ids.view_mut())?;
            ctx.upload(&[1, 2, 3], on.lengths.view_mut())?;
            outbound.send(BatchData { phase, round: Some(now), tensors: on.detach(&ctx)? }).unwrap();
        }
        Ok(seen)
    })
    .unwrap()
}

/// `engine.cc:777-870` and `model_executor.cc:36-58`: the scheduler sets a phase up and records
/// `ready`; the executor waits for it, runs, and records `done`. Two phases are in flight.
///
/// C++ pays a record and a wait for each way, whatever the number of buffers in `BatchData`.
pub fn c10_ten_buffers_cross_two_threads<S: Site>(site: &S) {
    let run = |rounds| -> Calls {
        let (to_executor, inbound) = channel();
        let (to_scheduler, outbound) = channel();
        let (seen, calls) = site.calls_of(|| {
            thread::scope(|threads| {
                let executing = threads.spawn(move || executor(site, &inbound, &to_scheduler));
                let seen = threads.spawn(move || scheduler(site, &to_executor, &outbound, rounds)).join().unwrap();
                executing.join().unwrap();
                seen
            })
        });
        // The last two phases are dropped in flight.
        assert_eq!(seen.len(), rounds as usize - 2);
        for (phase, round, out) in seen {
            assert_eq!(phase, round as usize % 2);
            assert_eq!(out, [round * 10 + 1, (round + 1) * 10 + 2, (round + 2) * 10 + 3]);
        }
        calls
    };
    let (few, many) = (run(6), run(16));
    // Of ten rounds: a record and a wait for each way, and the fence of what is fetched.
    assert_eq!(many.of("record") - few.of("record"), 10 * 3, "{many}");
    assert_eq!(many.of("wait") - few.of("wait"), 10 * 2, "{many}");
    assert_eq!(many.of("alloc"), few.of("alloc"));
}

/// One phase on one thread: what each way costs.
pub fn c10_each_way_is_a_record_and_a_wait<S: Site>(site: &S) {
    site.streams(|mut one, two| {
        let (scheduler, executor) = (one.ctx(), two.ctx());
        let pool = scheduler.with_pool();
        let make = || (0..10).map(|i| pool.upload_new(&[i; 3])).collect::<Result<Vec<_>>>();
        let batch = make()?;
        let (batch, calls) =
            site.calls_of(|| batch.into_iter().map(|x| scheduler.detach(x)).collect::<Result<Vec<_>, _>>());
        calls.expect("record");
        let (batch, calls) = site.calls_of(|| {
            batch?.into_iter().map(|x| executor.attach(x)).collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        calls.expect("wait");
        let mut batch = batch?;
        let [x, y] = batch.get_disjoint_mut([0, 9]).unwrap();
        site.launch(&executor, [y.view()], [x.view_mut()], |[y], [x]| x.copy_from_slice(y))?;
        // The way back.
        let (batch, calls) = site.calls_of(|| {
            let back = batch.into_iter().map(|x| executor.transfer(x, &scheduler));
            back.collect::<Result<Vec<_>, _>>().map_err(Error::from)
        });
        calls.expect("record wait");
        assert_eq!(one.read(batch?[0].view())?, [9; 3]);
        Ok(())
    })
    .unwrap();
}
