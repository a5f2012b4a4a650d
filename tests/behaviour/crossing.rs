//! Attacks on memory that changes streams.

use std::time::Duration;

use tidelock::{
    driver::Code,
    sim::{Call, Fault, Options},
};
use tidelock_test_support::checked::Checked;

use super::{Gate, within};

/// A loan in a loan, whose end the device refuses to record and to wait for. The outer lender must
/// not go on as if the inner borrower had been waited for.
#[test]
fn a_loan_in_a_loan_that_cannot_end_poisons_the_outer_lender() {
    within(Duration::from_secs(10), || {
        let device = Checked::with(Options::quick());
        // The streams that are poisoned say so at their ends.
        let _ = device.stream(|a, _| {
            device.stream(|b, _| {
                device.stream(|c, _| {
                    let (a, b, c) = (a.ctx().with_pool(), b.ctx().with_pool(), c.ctx().with_pool());
                    let mut x = a.upload_new(&[7_u32; 64]).unwrap();
                    let mut gate = None;
                    let outer = a.lend_mut(x.view_mut(), &b, |mut y| {
                        b.lend_mut(y.reborrow(), &c, |z| {
                            gate = Some(Gate::close(&c));
                            c.clear(z).unwrap();
                            let fails =
                                |call| Fault { nth: 1, onwards: false, call: Some(call), code: Code::OUT_OF_MEMORY };
                            device.gpu().fail_in_turn(fails(Call::EventRecord), fails(Call::StreamSynchronize));
                        })
                    });
                    let inner = outer.as_ref().ok().cloned();
                    println!("outer is ok: {}, inner: {inner:?}", outer.is_ok());
                    // A write that nothing orders behind the work of `c`.
                    let written = a.clear(x.view_mut());
                    drop(gate);
                    assert!(outer.is_err() || written.is_err(), "the lender uses what `c` may still write");
                })
            })
        });
    });
}

/// Random programs on three streams and a lane of another thread, over buffers and shared memory. Each
/// read is compared with what the host keeps.
mod random {
    use std::thread;

    use tidelock::{
        Buffer, Ctx,
        driver::Code,
        sim::{Delay, Fault, Options, Sim, SimBackend},
        stream::{Detached, Lane, Shared, StreamAlloc, StreamOptions},
    };
    use tidelock_test_support::checked::Checked;

    type Pooled<'c, 's> = Ctx<'c, Sim<'s>, StreamAlloc<Sim<'s>>>;

    struct Rng(u64);

    impl Rng {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 11).unwrap() % below.max(1)
        }
    }

    /// Which memory an owner has, and which part of it.
    #[derive(Clone, Copy, Debug)]
    struct Part {
        id: usize,
        at: usize,
        len: usize,
    }

    /// What is in the memory, by its number.
    #[derive(Default)]
    struct World {
        values: Vec<Vec<u32>>,
        loose: Vec<(Buffer<u32, Detached<SimBackend>>, Part)>,
        owners: Vec<(Shared<u32, Detached<SimBackend>>, Part)>,
        writes: usize,
        unwrapped: usize,
        trace: Vec<String>,
    }

    impl World {
        fn of(&self, part: Part) -> Vec<u32> {
            self.values[part.id][part.at..part.at + part.len].to_vec()
        }
    }

    struct Side<'c, 's> {
        ctx: Pooled<'c, 's>,
        buffers: Vec<(Buffer<u32, Sim<'s>>, Part)>,
        owners: Vec<(Shared<u32, Sim<'s>>, Part)>,
    }

    impl<'c, 's> Side<'c, 's> {
        fn new(ctx: Pooled<'c, 's>) -> Self {
            Side { ctx, buffers: Vec::new(), owners: Vec::new() }
        }
    }

    fn take<T>(list: &mut Vec<T>, rng: &mut Rng) -> Option<T> {
        (!list.is_empty()).then(|| list.swap_remove(rng.next(list.len())))
    }

    fn one(side: &mut Side<'_, '_>, world: &mut World, rng: &mut Rng) {
        let ctx = side.ctx;
        let op = rng.next(16);
        world.trace.push(format!("one {op}"));
        match op {
            0 | 1 => {
                let len = [0, 1, 7, 64, 300][rng.next(5)];
                let value = u32::try_from(rng.next(1000)).unwrap();
                let values: Vec<u32> = (value..).take(len).collect();
                let Ok(buffer) = ctx.upload_new(&values) else { return };
                world.values.push(values);
                let id = world.values.len() - 1;
                side.buffers.push((buffer, Part { id, at: 0, len }));
            }
            2 => {
                if let Some((buffer, part)) = take(&mut side.buffers, rng) {
                    side.owners.push((buffer.share(), part));
                }
            }
            3 => {
                if !side.owners.is_empty() {
                    let (owner, part) = &side.owners[rng.next(side.owners.len())];
                    let further = (owner.clone(), *part);
                    side.owners.push(further);
                }
            }
            4 => {
                if !side.owners.is_empty() {
                    let (owner, part) = &side.owners[rng.next(side.owners.len())];
                    let from = rng.next(part.len + 1);
                    let to = from + rng.next(part.len - from + 1);
                    let slice = owner.slice(from..to).unwrap();
                    let part = Part { id: part.id, at: part.at + from, len: to - from };
                    side.owners.push((slice, part));
                }
            }
            5 => {
                let (buffer, part) = match take(&mut side.buffers, rng) {
                    Some(taken) => taken,
                    None => return,
                };
                match ctx.detach(buffer) {
                    Ok(loose) => world.loose.push((loose, part)),
                    Err(back) => side.buffers.push((back.value, part)),
                }
            }
            6 => {
                let Some((owner, part)) = take(&mut side.owners, rng) else { return };
                match ctx.detach(owner) {
                    Ok(loose) => world.owners.push((loose, part)),
                    Err(back) => side.owners.push((back.value, part)),
                }
            }
            7 => {
                let Some((loose, part)) = take(&mut world.loose, rng) else { return };
                match ctx.attach(loose) {
                    Ok(buffer) => side.buffers.push((buffer, part)),
                    Err(back) => world.loose.push((back.value, part)),
                }
            }
            8 => {
                let Some((loose, part)) = take(&mut world.owners, rng) else { return };
                match ctx.attach(loose) {
                    Ok(owner) => side.owners.push((owner, part)),
                    Err(back) => world.owners.push((back.value, part)),
                }
            }
            9 => drop(take(&mut side.owners, rng)),
            10 => {
                if rng.next(2) == 0 {
                    drop(take(&mut side.buffers, rng));
                } else {
                    drop(take(&mut world.loose, rng));
                }
            }
            11 => drop(take(&mut world.owners, rng)),
            12 => {
                let Some((mut owner, part)) = take(&mut side.owners, rng) else { return };
                if let Some((other, theirs)) = take(&mut side.owners, rng)
                    && let Err(other) = owner.join(other)
                {
                    side.owners.push((other, theirs));
                }
                if let Some(all) = owner.get_mut() {
                    let add = |(x,): (&mut [u32],)| x.iter_mut().for_each(|x| *x = x.wrapping_add(1));
                    if ctx.launch((all,), add).is_ok() {
                        world.writes += 1;
                        let values = &mut world.values[part.id][part.at..part.at + part.len];
                        values.iter_mut().for_each(|x| *x = x.wrapping_add(1));
                    }
                }
                side.owners.push((owner, part));
            }
            13 => {
                let Some((owner, part)) = take(&mut side.owners, rng) else { return };
                match owner.try_unwrap() {
                    Ok(buffer) => {
                        world.unwrapped += 1;
                        side.buffers.push((buffer, part));
                    }
                    Err(owner) => side.owners.push((owner, part)),
                }
            }
            _ => {
                // Reads what it has, late.
                for (owner, part) in &side.owners {
                    let want = world.of(*part);
                    let _ = ctx.launch((owner.view(),), move |(x,)| assert_eq!(x, want));
                }
                for (buffer, part) in &mut side.buffers {
                    let want = world.of(*part);
                    let _ = ctx.launch((buffer.view(),), move |(x,)| assert_eq!(x, want));
                    if ctx.launch((buffer.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x ^= 5)).is_ok() {
                        world.values[part.id].iter_mut().for_each(|x| *x ^= 5);
                    }
                }
            }
        }
    }

    fn two<'t>(from: &mut Side<'_, '_>, to: &mut Side<'_, 't>, world: &mut World, rng: &mut Rng) {
        let op = rng.next(4);
        world.trace.push(format!("two {op}"));
        match op {
            0 => {
                let Some((buffer, part)) = take(&mut from.buffers, rng) else { return };
                match from.ctx.transfer(buffer, &to.ctx) {
                    Ok(buffer) => to.buffers.push((buffer, part)),
                    Err(back) => from.buffers.push((back.value, part)),
                }
            }
            1 => {
                let Some((owner, part)) = take(&mut from.owners, rng) else { return };
                match from.ctx.transfer(owner, &to.ctx) {
                    Ok(owner) => to.owners.push((owner, part)),
                    Err(back) => from.owners.push((back.value, part)),
                }
            }
            2 => {
                let Some((mut buffer, part)) = take(&mut from.buffers, rng) else { return };
                let again = rng.next(3);
                let ctx = to.ctx;
                let answer = from.ctx.lend_mut(buffer.view_mut(), &ctx, |mut x| {
                    let want = world.of(part);
                    let _ = to.ctx.launch((x.reborrow(),), move |(x,)| assert_eq!(x, want));
                    if to.ctx.launch((x,), |(x,)| x.iter_mut().for_each(|x| *x ^= 9)).is_ok() {
                        world.values[part.id].iter_mut().for_each(|x| *x ^= 9);
                    }
                    for _ in 0..again {
                        one(to, world, rng);
                    }
                });
                let _ = answer;
                from.buffers.push((buffer, part));
            }
            _ => {
                let Some((owner, part)) = take(&mut from.owners, rng) else { return };
                let ctx = to.ctx;
                let _ = from.ctx.lend(owner.view(), &ctx, |x| {
                    let want = world.of(part);
                    let _ = to.ctx.launch((x,), move |(x,)| assert_eq!(x, want));
                    one(to, world, rng);
                });
                from.owners.push((owner, part));
            }
        }
    }

    /// Everything detached goes to another thread, which reads it on a lane, and detaches it again.
    fn elsewhere(lane: &mut Lane<SimBackend>, world: &mut World, rng: &mut Rng) {
        world.trace.push("elsewhere".to_owned());
        let World { values, loose, owners, writes, .. } = world;
        let drops = rng.next(3) == 0;
        thread::scope(|threads| {
            let work = move || {
                let of = |values: &[Vec<u32>], part: &Part| values[part.id][part.at..part.at + part.len].to_vec();
                let _ = lane.enter(|stream, _| {
                    let ctx = stream.ctx().with_pool();
                    for (one, part) in std::mem::take(owners) {
                        let Ok(mut owner) = ctx.attach(one) else { continue };
                        let want = of(values, &part);
                        let _ = ctx.launch((owner.view(),), move |(x,)| assert_eq!(x, want));
                        if let Some(all) = owner.get_mut()
                            && ctx.launch((all,), |(x,)| x.iter_mut().for_each(|x| *x ^= 3)).is_ok()
                        {
                            *writes += 1;
                            let values = &mut values[part.id][part.at..part.at + part.len];
                            values.iter_mut().for_each(|x| *x ^= 3);
                        }
                        if !drops {
                            owners.extend(ctx.detach(owner).ok().map(|one| (one, part)));
                        }
                    }
                    for (one, part) in std::mem::take(loose) {
                        let Ok(mut buffer) = ctx.attach(one) else { continue };
                        let want = of(values, &part);
                        let _ = ctx
                            .launch((buffer.view_mut(),), move |(x,)| {
                                assert_eq!(x, want);
                                x.fill(4);
                            })
                            .map(|()| values[part.id].fill(4));
                        if !drops {
                            loose.extend(ctx.detach(buffer).ok().map(|one| (one, part)));
                        }
                    }
                });
            };
            threads.spawn(work).join().unwrap();
        });
    }

    pub fn run(seed: u64, steps: usize, fault: Option<(u64, Code)>) -> (usize, usize, Vec<String>) {
        let rng = &mut Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            rng.next(2);
        }
        let delay =
            if seed.is_multiple_of(2) { Delay::Upto(std::time::Duration::from_micros(300)) } else { Delay::None };
        let device = Checked::with(Options::quick().delay(delay).seed(seed));
        let mut world = World::default();
        let frees = if seed.is_multiple_of(3) { 2 } else { 256 };
        let options = StreamOptions::default().max_deferred_frees(frees);
        let mut lane = device.lane().unwrap();
        let _ = device.stream_with(&options, |a, _| {
            device.stream_with(&options, |b, _| {
                device.stream_with(&options, |c, _| {
                    let (ctx_a, ctx_b, ctx_c) = (a.ctx().with_pool(), b.ctx().with_pool(), c.ctx().with_pool());
                    let (a, b, c) = (&mut Side::new(ctx_a), &mut Side::new(ctx_b), &mut Side::new(ctx_c));
                    if let Some((nth, code)) = fault {
                        device.gpu().fail(Fault { nth, onwards: false, call: None, code });
                    }
                    for _ in 0..steps {
                        match rng.next(19) {
                            0..=3 => one(a, &mut world, rng),
                            4..=7 => one(b, &mut world, rng),
                            8..=11 => one(c, &mut world, rng),
                            12 => two(a, b, &mut world, rng),
                            13 => two(b, a, &mut world, rng),
                            14 => two(a, c, &mut world, rng),
                            15 => two(c, a, &mut world, rng),
                            16 => two(b, c, &mut world, rng),
                            17 => two(c, b, &mut world, rng),
                            _ => elsewhere(&mut lane, &mut world, rng),
                        }
                    }
                })
            })
        });
        let World { writes, unwrapped, trace, .. } = world;
        drop((world.loose, world.owners));
        drop(lane);
        if fault.is_none() {
            let report = device.gpu().report();
            assert!(report.is_clean(), "seed {seed}: {report:?}\n{trace:?}");
        } else if let Some(sticky) = device.gpu().report().sticky {
            panic!("seed {seed}: {sticky:?} after {fault:?}: {trace:?}");
        }
        (writes, unwrapped, trace)
    }
}

#[test]
fn random_programs_of_crossing_and_sharing() {
    let (mut writes, mut unwrapped) = (0, 0);
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let (w, u, _) = random::run(seed, 150, None);
        writes += w;
        unwrapped += u;
    }
    println!("{writes} writes by only owners, {unwrapped} buffers again");
    assert!(writes > 50 && unwrapped > 5, "{writes} {unwrapped}");
}

#[test]
fn random_programs_of_crossing_and_sharing_with_a_refused_call() {
    let seeds = std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    for seed in 0..seeds {
        let nth = (seed * 37) % 400 + 1;
        let code = if seed % 2 == 0 { Code::OUT_OF_MEMORY } else { Code::UNKNOWN };
        random::run(seed, 100, Some((nth, code)));
    }
}
