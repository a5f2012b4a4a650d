//! Memory with several owners, and memory that outlives its stream.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, thread};

use tidelock::{
    BatchCopy, Buffer, Device, Result,
    stream::{Detached, Shared},
};
use tidelock_test_support::memory::{put, staged};

use crate::site::{At, Site, warm};

type Weights<S> = Shared<i32, Detached<<S as Site>::Family>>;

/// `models/input_processor.cc:171-184`: copies into `input_ids` are recorded, `input_ids` is produced
/// for the layers, and then the batch runs.
///
/// C++ pays the batch. Here the part is produced behind the batch, and not before it: a part is an
/// owner that others may read from then on, so that its memory cannot be written any more.
pub fn f2_produced_behind_the_batch<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let mut input_ids = put(&ctx, &[0; 8]).share();
        let mut environment: BTreeMap<&str, Shared<i32, At<'_, S>>> = BTreeMap::new();
        let mut batch = BatchCopy::new();
        for tokens in [&[1, 2, 3][..], &[4, 5]] {
            let from = staged(&ctx, tokens);
            let (answer, calls) = site.calls_of(|| -> Result<()> {
                // The layers have consumed what the iteration before has produced.
                if let Some(part) = environment.remove("input_ids") {
                    input_ids.join(part).expect("a part of it");
                }
                let to = input_ids.get_mut().expect("the only owner");
                batch.scope(&ctx, |batch| batch.copy(from.view(), to.slice(..tokens.len())?))?;
                environment.insert("input_ids", input_ids.slice(..tokens.len())?);
                Ok(())
            });
            answer?;
            calls.expect("copy");
            assert!(input_ids.get_mut().is_none(), "it is produced");
        }
        assert_eq!(stream.read(environment["input_ids"].view())?, [4, 5]);
        Ok(())
    })
    .unwrap();
}

/// Device memory that Python frees when it likes, by `DLPack`: its address and its length are
/// exported, and it outlives its stream and the handle of its device.
///
/// C++ pays the free. The drop waits for no stream.
pub fn f5_exported_memory_outlives_its_stream<S: Site>(site: &S) {
    let logits: Buffer<i32, Detached<S::Family>> = site
        .stream(|stream| {
            let ctx = stream.ctx();
            let logits = put(&ctx, &[1, 2, 3]);
            let address = logits.as_ptr();
            let (logits, calls) = site.calls_of(|| ctx.detach(logits));
            calls.expect("record");
            let logits = logits?;
            assert_eq!((logits.as_ptr(), logits.len()), (address, 3));
            Ok(logits)
        })
        .unwrap();
    let calls = site.calls_of(|| thread::scope(|python| python.spawn(|| drop(logits)).join().unwrap())).1;
    assert_eq!((calls.of("host-waits"), calls.of("query")), (0, 0), "{calls}");
    assert_eq!(site.device().leaked_bytes(), 0);
}

struct Sequence<S: Site> {
    embeds: Vec<Shared<i32, tidelock::location::Pinned<S::Family>>>,
}

/// `models/input_processor.cc:88`: `c.input_embeds.push_back(embeds.slice(offset, size))`, a part of
/// the request's tensor that is kept with the sequence.
///
/// C++ makes no call for it, and one batch for the copy.
pub fn f10_parts_are_kept_with_the_sequence<S: Site>(site: &S) {
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let mut sequence = Sequence::<S> { embeds: vec![] };
        let ((), calls) = site.calls_of(|| {
            let all =
                Buffer::<i32, tidelock::location::Pinned<S::Family>>::from_slice(&[0, 1, 2, 3, 4, 5]).unwrap().share();
            sequence.embeds.push(all.slice(3..5).unwrap());
            sequence.embeds.push(all.slice(..1).unwrap());
        });
        assert_eq!(calls.total() - calls.of("cuMemHostAlloc"), 0, "{calls}");
        let mut embeds = put(&ctx, &[-1; 4]);
        let parts: Vec<_> = sequence.embeds.iter().map(|part| part.clone().stage(&ctx)).collect();
        let (answer, calls) = site.calls_of(|| {
            BatchCopy::new().scope(&ctx, |batch| -> Result<()> {
                let (first, rest) = embeds.view_mut().split_at(2)?;
                batch.copy(parts[0].view(), first)?;
                batch.copy(parts[1].view(), rest.slice(1..)?)
            })
        });
        answer?;
        calls.expect("copy");
        // The sequence ends before its copies do: what is dropped is freed behind them.
        drop((parts, sequence));
        assert_eq!(stream.read(embeds.view())?, [3, 4, -1, 0]);
        Ok(())
    })
    .unwrap();
}

/// `turbomind.cc:109` (`Sleep`, `WakeUp`) and `param.set` from Python: weights are replaced while the
/// streams that read them live.
///
/// C++ pays the kernel in a step. The first step with new weights also waits for their upload.
pub fn f11_weights_are_replaced<S: Site>(site: &S) {
    let load = |value: i32| -> Weights<S> {
        let loaded = site.stream(|stream| {
            let ctx = stream.ctx();
            Ok(ctx.detach(put(&ctx, &[value; 4]))?.share())
        });
        loaded.unwrap()
    };
    let mut weights = load(1);
    site.stream(|mut stream| {
        let ctx = stream.ctx();
        let mut sums = put(&ctx, &[0; 4]);
        let mut step = |weights: &Weights<S>| -> Result<()> {
            let on_stream = ctx.attach(weights.clone())?;
            site.launch(&ctx, [on_stream.view()], [sums.view_mut()], |[w], [sums]| {
                sums.iter_mut().zip(w).for_each(|(sum, w)| *sum = *sum * 10 + w);
            })
        };
        for value in [2, 3] {
            let calls = site.calls_of(|| step(&weights).unwrap()).1;
            calls.expect("wait launch");
            for _ in 0..2 {
                let calls = site.calls_of(|| step(&weights).unwrap()).1;
                calls.expect("launch");
            }
            weights = load(value);
        }
        let calls = site.calls_of(|| step(&weights).unwrap()).1;
        calls.expect("wait launch");
        assert_eq!(stream.read(sums.view())?, [1_112_223; 4]);
        Ok(())
    })
    .unwrap();
    drop(weights);
    assert_eq!(site.device().leaked_bytes(), 0);
}

/// `models/llama/context.h:33` and `python/bind.cpp:798`: an object that owns a stream and memory,
/// made by a constructor.
struct Session<S: Site> {
    lane: tidelock::stream::Lane<S::Family>,
    sum: Option<Buffer<i32, Detached<S::Family>>>,
    weights: Weights<S>,
}

impl<S: Site> Session<S> {
    fn new(site: &S, weights: &Weights<S>) -> Result<Self> {
        let mut lane = site.device().lane_with(&warm())?;
        let sum = lane.enter(|stream, _env| {
            let ctx = stream.ctx();
            Ok::<_, tidelock::Error>(ctx.detach(ctx.with_pool().zeros(3)?)?)
        })??;
        Ok(Session { lane, sum: Some(sum), weights: weights.clone() })
    }

    /// Enqueues a step.
    fn step(&mut self, site: &S) -> Result<()> {
        let sum = self.sum.take().expect("the memory of the step before");
        let weights = self.weights.clone();
        let sum = self.lane.enter(|stream, _env| {
            let ctx = stream.ctx();
            let (mut sum, weights) = (ctx.attach(sum)?, ctx.attach(weights)?);
            site.launch(&ctx, [weights.view()], [sum.view_mut()], |[weights], [sum]| {
                sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
            })?;
            Ok::<_, tidelock::Error>(ctx.detach(sum)?)
        })??;
        self.sum = Some(sum);
        Ok(())
    }

    fn sum(&mut self) -> Result<Vec<i32>> {
        let sum = self.sum.take().expect("the memory of the step before");
        let (values, sum) = self.lane.enter(|mut stream, _env| {
            let sum = stream.ctx().attach(sum)?;
            let values = stream.read(sum.view())?;
            Ok::<_, tidelock::Error>((values, stream.ctx().detach(sum)?))
        })??;
        self.sum = Some(sum);
        Ok(values)
    }
}

/// Objects with a stream each, in a `Vec`, that threads enter in turn.
///
/// C++ pays the kernel in a step, and so does this, with a record behind the memory that stays
/// detached until the next step. On CUDA entering looks up the context of the thread.
pub fn f6_streams_in_objects<S: Site>(site: &S) {
    let weights = site.stream(|stream| Ok(stream.ctx().detach(put(&stream.ctx(), &[1, 2, 3]))?.share())).unwrap();
    let mut sessions: Vec<_> = (0..3).map(|_| Session::new(site, &weights).unwrap()).collect();
    for round in 0..4 {
        for session in &mut sessions {
            let (answer, calls) = site.calls_of(|| session.step(site));
            answer.unwrap();
            // The weights were loaded by another stream: waited for once.
            assert_eq!(calls.of("wait"), usize::from(round == 0), "{calls}");
            assert_eq!((calls.of("launch"), calls.of("record")), (1, 1), "{calls}");
            let context = calls.of("cuCtxGetCurrent") + calls.of("cuCtxSetCurrent");
            assert!(context <= 4, "{calls}");
            assert_eq!(calls.total() - context - calls.of("wait"), 2, "{calls}");
        }
    }
    thread::scope(|threads| {
        for session in &mut sessions {
            threads.spawn(|| session.step(site).unwrap());
        }
    });
    for mut session in sessions {
        assert_eq!(session.sum().unwrap(), [5, 10, 15]);
    }
}
