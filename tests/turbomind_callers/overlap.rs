//! Two streams that work beside each other.

#![forbid(unsafe_code)]

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use tidelock::{Buffer, Result};
use tidelock_test_support::memory::{put, staged};

use crate::site::Site;

const WORDS: usize = 2;
const VOCABULARY: usize = 40;

/// Takes the tokens whose bits are not set out of the logits of each row.
fn apply_mask([mask]: [&[i32]; 1], [logits]: [&mut [i32]; 1]) {
    for (i, x) in logits.iter_mut().enumerate() {
        let (row, token) = (i / VOCABULARY, i % VOCABULARY);
        if mask[row * WORDS + token / 32] >> (token % 32) & 1 == 0 {
            *x = i32::MIN;
        }
    }
}

/// The token with the highest logit of each row.
fn sample([logits]: [&[i32]; 1], [ids]: [&mut [i32]; 1]) {
    for (id, row) in ids.iter_mut().zip(logits.chunks_exact(VOCABULARY)) {
        *id = (0..).zip(row).max_by_key(|(_, x)| **x).map_or(-1, |(token, _)| token);
    }
}

/// `generation/guided_decoding.cc:90-150`: the mask goes up and is applied; the sampled ids of the
/// guided sequences come down on a second stream, while the main stream goes on.
///
/// C++ pays for `ScheduleUpdate` two records, one wait and a copy, and for `FinishUpdate` a wait of the
/// host. The main stream never waits.
pub fn c11_guided_decoding<S: Site>(site: &S) {
    site.streams(|main, second| {
        let (ctx, d2h) = (main.ctx(), second.ctx());
        let (most, guided) = (4, 2);
        let mut mask = put(&ctx, &[0; 4 * WORDS]);
        let mut logits = put(&ctx, &(0..guided * VOCABULARY).map(|i| (i % VOCABULARY) as i32).collect::<Vec<_>>());
        let mut ids = put(&ctx, &vec![0; most]).share();
        let mut page = Some(staged(&d2h, &[0; 2]));
        let rounds = [([0b1011, 0, -1, -1], [3, 39]), ([0b11, 0, 0b1, 0], [1, 0]), ([0, 1 << 7, 0, 1], [39, 32])];
        for (round, (bits, expected)) in rounds.into_iter().enumerate() {
            let filled = staged(&ctx, &bits);
            let (answer, calls) = site.calls_of(|| -> Result<()> {
                ctx.copy(filled.view(), mask.view_mut().slice(..guided * WORDS)?)?;
                site.launch(&ctx, [mask.view()], [logits.view_mut()], apply_mask)?;
                // The owner of the round before has passed, as the host has waited for its copy.
                let mut ids = ids.get_mut().expect("the only owner");
                site.launch(&ctx, [logits.view()], [ids.reborrow().slice(..guided)?], sample)
            });
            answer?;
            calls.expect("copy launch launch");
            let (pending, calls) = site.calls_of(|| -> Result<_> {
                let theirs = ctx.transfer(ids.slice(..guided)?, &d2h)?;
                let mut page = page.take().expect("the page of the round before");
                d2h.copy(theirs.view(), page.view_mut())?;
                drop(theirs);
                Ok(d2h.fence(page)?)
            });
            calls.expect("record wait copy record");
            // The main stream goes on: logits of the next step, with no wait.
            let next: Vec<i32> = (0..guided * VOCABULARY).map(|i| (i % VOCABULARY) as i32).collect();
            let (answer, calls) = site.calls_of(|| ctx.upload(&next, logits.view_mut()));
            answer?;
            calls.expect("copy");
            let (back, calls) = site.calls_of(|| pending?.wait().map_err(tidelock::Error::from));
            calls.expect("host-waits");
            let back = back?;
            assert_eq!(back[..], expected, "round {round}");
            page = Some(back.stage(&d2h));
        }
        Ok(())
    })
    .unwrap();
}

/// `models/llama/moe_ffn_layer.cc:340-360`: both ends of a buffer are cleared on a second stream,
/// while the main stream writes the middle; joined before the reduction.
///
/// C++ pays two records, two waits, two fills and the kernel.
pub fn c22_both_ends_beside_the_middle<S: Site>(site: &S) {
    site.streams(|mut main, second| {
        let (begin, end) = (3, 6);
        let (mut x, bias) = (put(&main.ctx(), &[7; 9]), put(&main.ctx(), &[1]));
        let (answer, calls) = site.calls_of(|| -> Result<()> {
            let (ctx, aux) = (main.ctx(), second.ctx());
            let (head, rest) = x.view_mut().split_at(begin)?;
            let (middle, tail) = rest.split_at(end - begin)?;
            ctx.lend_mut(head, &aux, |head| {
                ctx.lend_mut(tail, &aux, |tail| {
                    aux.clear(head)?;
                    aux.clear(tail)?;
                    site.launch(&ctx, [bias.view()], [middle], |[bias], [x]| x.iter_mut().for_each(|x| *x += bias[0]))
                })
            })??
        });
        answer?;
        calls.expect("record wait fill fill launch record wait");
        assert_eq!(main.read(x.view())?, [0, 0, 0, 8, 8, 8, 0, 0, 0]);
        Ok(())
    })
    .unwrap();
}

/// Runs until the host opens the gate of the site. It gives up after ten seconds.
fn long<S: Site>([ids]: [&[i32]; 1], [out]: [&mut [i32]; 1]) {
    let since = Instant::now();
    while !S::gate().load(Ordering::SeqCst) {
        assert!(since.elapsed() < Duration::from_secs(10), "the main stream has waited for this kernel");
        thread::yield_now();
    }
    out.copy_from_slice(ids);
}

/// Evidence for c11: the main stream rests beside a kernel of the second stream that reads the same
/// memory. The kernel ends only after the host has waited for the main stream.
///
/// C++ pays a record and a wait of the second stream, and the host's wait for the main stream.
pub fn c24_the_main_stream_rests_beside_a_long_kernel<S: Site>(site: &S) {
    site.streams(|mut main, mut second| {
        S::gate().store(false, Ordering::SeqCst);
        let ids = put(&main.ctx(), &[1, 2, 3]).share();
        let mut other = put(&main.ctx(), &[9; 3]);
        let mut out: Buffer<i32, _> = put(&second.ctx(), &[0; 3]);
        let (theirs, calls) = site.calls_of(|| -> Result<_> {
            let (ctx, d2h) = (main.ctx(), second.ctx());
            let theirs = ctx.transfer(ids.clone(), &d2h)?;
            site.launch(&d2h, [theirs.view()], [out.view_mut()], long::<S>)?;
            ctx.clear(other.view_mut())?;
            Ok(theirs)
        });
        let theirs = theirs?;
        calls.expect("record wait launch fill");
        let (done, calls) = site.calls_of(|| main.synchronize().map(drop));
        done?;
        calls.expect("host-waits");
        // Also dropping what the kernel reads waits for nothing.
        let calls = site.calls_of(|| drop((theirs, ids))).1;
        assert_eq!(calls.of("host-waits") + calls.of("wait"), 0, "{calls}");
        S::gate().store(true, Ordering::SeqCst);
        assert_eq!(second.read(out.view())?, [1, 2, 3]);
        assert_eq!(main.read(other.view())?, [0; 3]);
        Ok(())
    })
    .unwrap();
}
