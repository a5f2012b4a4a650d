//! Enqueueing: copies, uploads, fills, launches, and batches of all kinds.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Buffer, Ctx, Error, Permutation, Result, State,
    buffer::{Offsets, Output, Scatter},
    location::Host,
    sim::Sim,
    state::DevicePermutation,
    stream::{Staged, StreamOptions},
};

use super::trial::{N, Trial, put, ramp, staged};

pub fn copy(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let (x, mut y) = (put(&ctx, &ramp(1))?, put(&ctx, &ramp(500))?);
        let answer = t.strike(|| ctx.copy(x.view(), y.view_mut()));
        t.settle(answer.err())?;
        t.holds(&mut stream, x.view(), &ramp(1))?;
        t.holds(&mut stream, y.view(), &ramp(if answer.is_ok() { 1 } else { 500 }))?;
        t.probe(&mut stream)
    })
}

pub fn upload(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let mut x = put(&ctx, &ramp(500))?;
        let answer = t.strike(|| ctx.upload(&ramp(1), x.view_mut()));
        t.settle(answer.err())?;
        t.holds(&mut stream, x.view(), &ramp(if answer.is_ok() { 1 } else { 500 }))?;
        t.probe(&mut stream)
    })
}

/// Larger than a quarter of the ring, which takes 64 elements, so in two pieces. The first is
/// written if the second is refused.
pub fn upload_large(t: &Trial) -> Result<()> {
    t.open_on(&t.device, &StreamOptions::default().ring_bytes(1024), |mut stream, _env| {
        let ctx = stream.ctx();
        let mut x = put(&ctx, &ramp(500))?;
        let answer = t.strike(|| ctx.upload(&ramp(1), x.view_mut()));
        t.settle(answer.err())?;
        let prefix = [&ramp(1)[..64], &ramp(500)[64..]].concat();
        let all = ramp(1);
        let old = ramp(500);
        t.holds_either(&mut stream, x.view(), if answer.is_ok() { [&all, &all] } else { [&old, &prefix] })?;
        t.probe(&mut stream)
    })
}

/// A ring that wraps around more than twice: events are recorded, and waited for.
pub fn upload_wrap(t: &Trial) -> Result<()> {
    t.open_on(&t.device, &StreamOptions::default().ring_bytes(1024), |mut stream, _env| {
        let ctx = stream.ctx();
        let mut x = put(&ctx, &ramp(500))?;
        let mut done = 0;
        let answer = t.strike(|| {
            for (place, value) in (0..12).zip(2000_u32..) {
                let place = x.view_mut().slice(place * 8..place * 8 + 8)?;
                // Half a segment with its padding.
                ctx.upload(&[value; 8], place)?;
                ctx.upload(&[value; 40], ctx.with_pool().alloc::<u32>(40)?.view_mut())?;
                done += 1;
            }
            Ok::<_, Error>(())
        });
        t.settle(answer.err())?;
        if !t.is_over() {
            // What was uploaded before the failure is written, and the rest is unchanged.
            let uploaded = (2000_u32..).take(done).flat_map(|value| [value; 8]);
            let at = done * 8;
            t.holds(&mut stream, x.view().slice(..at)?, &uploaded.collect::<Vec<_>>())?;
            let behind = (at + 8).min(N);
            t.holds(&mut stream, x.view().slice(behind..)?, &ramp(500)[behind..])?;
            let ctx = stream.ctx();
            for value in 0..12 {
                ctx.upload(&[value; 60], x.view_mut().slice(..60)?)?;
            }
            t.holds(&mut stream, x.view().slice(..60)?, &[11; 60])?;
        }
        t.probe(&mut stream)
    })
}

pub fn clear(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let mut x = put(&ctx, &ramp(500))?;
        let answer = t.strike(|| ctx.clear(x.view_mut()));
        t.settle(answer.err())?;
        t.holds(&mut stream, x.view(), &if answer.is_ok() { vec![0; N] } else { ramp(500) })?;
        t.probe(&mut stream)
    })
}

pub fn init_zeros(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let empty = ctx.alloc::<u32>(N)?;
        let answer = t.strike(|| ctx.init_zeros(empty));
        if let Some(x) = t.retry(answer, |empty| ctx.init_zeros(empty))? {
            t.holds(&mut stream, x.view(), &[0; N])?;
        }
        t.probe(&mut stream)
    })
}

pub fn init_from(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let (x, empty) = (put(&ctx, &ramp(1))?, ctx.alloc::<u32>(N)?);
        let answer = t.strike(|| ctx.init_from(empty, x.view()));
        if let Some(y) = t.retry(answer, |empty| ctx.init_from(empty, x.view()))? {
            t.holds(&mut stream, y.view(), &ramp(1))?;
        }
        t.holds(&mut stream, x.view(), &ramp(1))?;
        t.probe(&mut stream)
    })
}

pub fn launch(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let (x, mut y) = (put(&ctx, &ramp(1))?, put(&ctx, &ramp(500))?);
        let answer = t.strike(|| ctx.launch((x.view(), y.view_mut()), |(x, y)| y.copy_from_slice(x)));
        t.settle(answer.err())?;
        t.holds(&mut stream, y.view(), &ramp(if answer.is_ok() { 1 } else { 500 }))?;
        t.probe(&mut stream)
    })
}

/// Two outputs, by a kernel, an upload, a fill and a batch. What a refusal hands back is initialised
/// again.
pub fn init_with(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let x = put(&ctx, &ramp(1))?;
        let fresh = (ctx.with_pool().alloc::<u32>(N)?, ctx.with_pool().alloc::<u32>(4)?);
        let mut batch = BatchCopy::new();
        let mut init = |fresh| {
            ctx.init_with(fresh, |(a, b): (Output<'_, _, _>, Output<'_, _, _>)| {
                let (left, right) = a.split_at(N / 2)?;
                ctx.launch((x.view().slice(..N / 2)?, left), |(x, mut left)| left.copy_from_slice(x))?;
                batch.scope(&ctx, |b| b.group(|g| g.copy(x.view().slice(N / 2..)?, right)))?;
                let (left, right) = b.split_at(2)?;
                ctx.upload(&[7, 8], left)?;
                ctx.clear(right)
            })
        };
        let answer = t.strike(|| init(fresh));
        t.settle(answer.as_ref().err().map(|rejected| rejected.error))?;
        // A broken device initialises nothing.
        let initialised = match answer {
            Ok((initialised, ())) => Some(initialised),
            Err(rejected) => match init(rejected.value) {
                Ok((initialised, ())) => Some(initialised),
                Err(again) => {
                    assert!(matches!(again.error, Error::Poisoned(_)), "{again}");
                    None
                }
            },
        };
        if let Some((a, b)) = initialised {
            t.holds(&mut stream, a.view(), &ramp(1))?;
            t.holds(&mut stream, b.view(), &[7, 8, 0, 0])?;
        }
        t.probe(&mut stream)
    })
}

/// The buffers of a batch: on the device, staged, and on the host.
struct Sources<'s> {
    device: Buffer<u32, Sim<'s>>,
    staged: Buffer<u32, Staged<Sim<'s>>>,
    host: Buffer<u32, Host>,
}

impl<'s> Sources<'s> {
    fn new(ctx: &Ctx<'_, Sim<'s>>) -> Result<Self> {
        Ok(Sources {
            device: put(ctx, &ramp(100))?,
            staged: staged(ctx, &ramp(200))?,
            host: Buffer::from_slice(&ramp(300))?,
        })
    }
}

/// One scope with the given of four sources: the device, staged memory, the host, and the device
/// into staged memory.
fn batch(t: &Trial, parts: [bool; 4]) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let sources = Sources::new(&ctx)?;
        let [mut a, mut b, mut c] = [put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?];
        let mut down = staged(&ctx, &ramp(900))?;
        let mut batch = BatchCopy::new();
        let mut program = || {
            batch.scope(&ctx, |scope| {
                if parts[0] {
                    scope.group(|group| {
                        let (from, to) = (sources.device.view().split_at(N / 3)?, a.view_mut().split_at(N / 3)?);
                        group.copy(from.0, to.0)?;
                        group.copy(from.1, to.1)
                    })?;
                }
                if parts[1] {
                    scope.group(|group| group.copy_unmerged(sources.staged.view(), b.view_mut()))?;
                }
                if parts[2] {
                    scope.copy(sources.host.view(), c.view_mut())?;
                }
                if parts[3] {
                    scope.copy(sources.device.view(), down.view_mut())?;
                }
                Ok(())
            })
        };
        let answer = t.strike(&mut program);
        t.settle(answer.err())?;
        let at = |part: bool, from| ramp(if part && answer.is_ok() { from } else { 900 });
        t.holds(&mut stream, a.view(), &at(parts[0], 100))?;
        t.holds(&mut stream, b.view(), &at(parts[1], 200))?;
        t.holds(&mut stream, c.view(), &at(parts[2], 300))?;
        t.holds(&mut stream, sources.device.view(), &ramp(100))?;
        if !t.is_over() {
            assert_eq!(down.peek(&stream.synchronize()?), at(parts[3], 100));
        }
        t.probe(&mut stream)
    })
}

pub fn batch_device(t: &Trial) -> Result<()> {
    batch(t, [true, false, false, false])
}

pub fn batch_staged(t: &Trial) -> Result<()> {
    batch(t, [false, true, false, true])
}

pub fn batch_host(t: &Trial) -> Result<()> {
    batch(t, [false, false, true, false])
}

pub fn batch_mixed(t: &Trial) -> Result<()> {
    batch(t, [true, true, true, true])
}

pub fn batch_device_and_host(t: &Trial) -> Result<()> {
    batch(t, [true, false, true, false])
}

/// A batch whose closure returns an error is not submitted; the next one is.
pub fn batch_given_up(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let (x, mut y) = (put(&ctx, &ramp(1))?, put(&ctx, &ramp(500))?);
        let mut batch = BatchCopy::new();
        let given_up = batch.scope(&ctx, |scope| {
            scope.copy(x.view(), y.view_mut())?;
            Err::<(), _>(Error::SameStream)
        });
        assert_eq!(given_up, Err(Error::SameStream));
        let answer = t.strike(|| batch.scope(&ctx, |scope| scope.copy(x.view().slice(..9)?, y.view_mut().slice(..9)?)));
        t.settle(answer.err())?;
        if answer.is_ok() {
            t.holds(&mut stream, y.view().slice(..9)?, &ramp(1)[..9])?;
        }
        t.holds(&mut stream, y.view().slice(9..)?, &ramp(500)[9..])?;
        t.probe(&mut stream)
    })
}

const WIDTH: NonZero<usize> = NonZero::new(8).unwrap();

/// Only the enqueued operation swaps the states.
pub fn warp(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let mut state = State::<u32, _>::new(put(&ctx, &ramp(0))?, put(&ctx, &ramp(500))?).map_err(Error::from)?;
        let mut batch = BatchCopy::new();
        let rows = Permutation::new(&[3, 0, 3], N / 8, 0)?;
        let answer = t.strike(|| {
            state.step(|front, back| {
                batch.scope(&ctx, |b| b.group(|g| g.warp(front.rows(WIDTH)?, rows, back.rows(WIDTH)?.first(3)?)))
            })
        });
        t.settle(answer.err())?;
        let rows = |rows: &[u32]| rows.iter().flat_map(|row| row * 8..row * 8 + 8).collect::<Vec<_>>();
        let expected = rows(if answer.is_ok() { &[3, 0, 3] } else { &[0, 1, 2] });
        t.holds(&mut stream, state.front().slice(..24)?, &expected)?;
        t.probe(&mut stream)
    })
}

/// Rows by numbers that are uploaded first.
pub fn warps_by(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let sources = Sources::new(&stream.ctx())?;
        let [mut a, mut b] = [put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?];
        let mut batch = BatchCopy::new();
        let answer = t.strike(|| {
            let swap = DevicePermutation::upload(&ctx, Permutation::new(&[1, 0], 12, 0)?)?;
            let join = DevicePermutation::upload(&ctx, Permutation::new(&[1, 12, 0], 12, 1)?)?;
            batch.scope(&ctx, |scope| {
                scope.group(|g| {
                    let rows = sources.device.view().rows(WIDTH)?;
                    g.warp_by(rows, swap.numbers(), a.view_mut().rows(WIDTH)?.first(2)?)?;
                    let joining = sources.staged.view().slice(..8)?.rows(WIDTH)?;
                    g.warp_join_by(rows, joining, join.numbers(), b.view_mut().rows(WIDTH)?.first(3)?)
                })
            })
        });
        t.settle(answer.err())?;
        if answer.is_ok() {
            t.holds(&mut stream, a.view().slice(..16)?, &(108..116).chain(100..108).collect::<Vec<_>>())?;
            let joined: Vec<u32> = (108..116).chain(200..208).chain(100..108).collect();
            t.holds(&mut stream, b.view().slice(..24)?, &joined)?;
        } else {
            t.holds(&mut stream, a.view(), &ramp(900))?;
            t.holds(&mut stream, b.view(), &ramp(900))?;
        }
        t.probe(&mut stream)
    })
}

/// Rows by pairs of numbers, enough of them for one gather, and columns.
pub fn rows_by_index(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let sources = Sources::new(&stream.ctx())?;
        let [mut a, mut b, mut c] = [put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?];
        let (mut between, mut within) = (Scatter::new(), Scatter::new());
        between.set((0..12).map(|i| (11 - i, i)), 12, 12)?;
        within.set([(11, 0), (11, 1)], 12, 12)?;
        let mut batch = BatchCopy::new();
        let answer = t.strike(|| {
            batch.scope(&ctx, |scope| {
                scope.group(|g| {
                    let rows = sources.device.view().slice(..96)?.rows(WIDTH)?;
                    g.scatter(rows, &between, a.view_mut().slice(..96)?.rows(WIDTH)?)?;
                    g.scatter_within(b.view_mut().slice(..96)?.rows(WIDTH)?, &within)?;
                    let (left, right) = c.view_mut().slice(..16)?.rows(WIDTH)?.split_columns(4)?;
                    g.copy_rows(right.into_rows(), left)
                })
            })
        });
        t.settle(answer.err())?;
        if answer.is_ok() {
            let reversed: Vec<u32> = (0..12).rev().flat_map(|row| 100 + 8 * row..108 + 8 * row).collect();
            t.holds(&mut stream, a.view().slice(..96)?, &reversed)?;
            let twice: Vec<u32> = (988..996).chain(988..996).chain(916..924).collect();
            t.holds(&mut stream, b.view().slice(..24)?, &twice)?;
            let halves: Vec<u32> = [904..908, 904..908, 912..916, 912..916].into_iter().flatten().collect();
            t.holds(&mut stream, c.view().slice(..16)?, &halves)?;
        } else {
            for dst in [&a, &b, &c] {
                t.holds(&mut stream, dst.view(), &ramp(900))?;
            }
        }
        t.probe(&mut stream)
    })
}

/// Blocks of other layouts, of two tensors and of one.
pub fn blocks(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let sources = Sources::new(&stream.ctx())?;
        let [mut a, mut b] = [put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?];
        let (mut batch, mut scatter, mut within) = (BatchCopy::new(), Scatter::new(), Scatter::new());
        scatter.set([(2, 0), (0, 2)], 3, 3)?;
        within.set([(2, 1)], 3, 3)?;
        let cache = sources.device.view().slice(..48)?.tensor([3, 4, 4])?;
        let answer = t.strike(|| {
            batch.scope(&ctx, |scope| {
                scope.group(|g| {
                    let pages = a.view_mut().slice(..48)?.tensor([3, 4, 4])?.transpose(1, 2)?;
                    g.copy_blocks(cache, &scatter, pages)?;
                    g.copy_blocks_within(b.view_mut().slice(..48)?.tensor([3, 4, 4])?, &within)
                })
            })
        });
        let error = answer.as_ref().err().copied();
        t.settle(error)?;
        let turned = |block: u32| (0..16).map(move |i| 100 + 16 * block + i % 4 * 4 + i / 4);
        let before = ramp(900);
        let own = &before[..48];
        let pages: Vec<u32> = turned(2).chain(own[16..32].iter().copied()).chain(turned(0)).collect();
        match answer {
            Ok(()) => {
                t.holds(&mut stream, a.view().slice(..48)?, &pages)?;
                let moved: Vec<u32> = [&own[..16], &own[32..], &own[32..]].concat();
                t.holds(&mut stream, b.view().slice(..48)?, &moved)?;
            }
            // A refused batch has changed nothing beside the blocks.
            Err(_) => t.holds(&mut stream, a.view().slice(16..32)?, &before[16..32])?,
        }
        t.probe(&mut stream)
    })
}

/// Tensors of other layouts, alone, in a batch and into new memory.
pub fn tensors(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let sources = Sources::new(&stream.ctx())?;
        let [mut a, mut b] = [put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?];
        let mut batch = BatchCopy::new();
        let turned = sources.device.view().slice(..48)?.tensor([6, 8])?.transpose(0, 1)?;
        let answer = t.strike(|| {
            ctx.copy_tensor(turned, a.view_mut().slice(..48)?.tensor([8, 6])?)?;
            batch.scope(&ctx, |scope| {
                scope.group(|g| g.copy_tensor(turned, b.view_mut().slice(..48)?.tensor([8, 6])?))
            })?;
            let fresh = ctx.alloc::<u32>(48)?.tensor([8, 6])?;
            Ok::<_, tidelock::Error>(ctx.init_tensor(fresh, turned)?)
        });
        let error = answer.as_ref().err().copied();
        t.settle(error)?;
        let by_columns: Vec<u32> = (0..8).flat_map(|i| (0..6).map(move |j| 100 + 8 * j + i)).collect();
        match answer {
            Ok(fresh) => {
                t.holds(&mut stream, fresh.buffer().view(), &by_columns)?;
                t.holds(&mut stream, a.view().slice(..48)?, &by_columns)?;
                t.holds(&mut stream, b.view().slice(..48)?, &by_columns)?;
            }
            // A refused copy has changed nothing behind it.
            Err(_) => t.holds(&mut stream, b.view().slice(48..)?, &ramp(900)[48..])?,
        }
        t.probe(&mut stream)
    })
}

pub fn upload_new(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| stream.ctx().with_pool().upload_new(&ramp(3)));
        match answer {
            Ok(x) => {
                t.settle(None)?;
                t.holds(&mut stream, x.view(), &ramp(3))?;
            }
            Err(error) => t.settle(Some(error))?,
        }
        t.probe(&mut stream)
    })
}

/// The other two Warps, and Append, with rows that join from the host and from staged memory.
pub fn warps_and_append(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx().with_pool();
        let sources = Sources::new(&stream.ctx())?;
        let [mut a, mut b, mut c] = [put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?, put(&ctx, &ramp(900))?];
        let mut batch = BatchCopy::new();
        let (mut offsets, mut sizes) = ([0; 4], [0; 3]);
        let order = [1, 12, 0];
        let answer = t.strike(|| {
            batch.scope(&ctx, |scope| {
                scope.group(|g| {
                    let joining = sources.host.view().slice(..8)?.rows(WIDTH)?;
                    let rows = Permutation::new(&order, 12, 1)?;
                    g.warp_join(sources.device.view().rows(WIDTH)?, joining, rows, a.view_mut().rows(WIDTH)?.first(3)?)
                })?;
                scope.group(|g| {
                    let old = sources.device.view().slice(..10)?.ragged(Offsets::new(&[0, 4, 10], "old")?)?;
                    let joining = sources.staged.view().slice(..5)?.ragged(Offsets::new(&[0, 5], "joining")?)?;
                    let rows = Permutation::new(&[1, 2, 0], 2, 1)?;
                    g.warp_ragged(old, joining, rows, b.view_mut(), &mut offsets)
                })?;
                scope.group(|g| {
                    let joining = sources.host.view().slice(..5)?.ragged(Offsets::new(&[0, 5], "joining")?)?;
                    let rows = Permutation::new(&[1, 2, 0], 2, 1)?;
                    let (history, tokens) = (sources.device.view().slice(..16)?, sources.staged.view().slice(..2)?);
                    let dst = c.view_mut().rows(WIDTH)?.first(3)?;
                    g.append(history.rows(WIDTH)?, &[3, 5], tokens, joining, rows, dst, &mut sizes)
                })
            })
        });
        t.settle(answer.err())?;
        if answer.is_ok() {
            let joined: Vec<u32> = (108..116).chain(300..308).chain(100..108).collect();
            t.holds(&mut stream, a.view().slice(..24)?, &joined)?;
            let packed: Vec<u32> = (104..110).chain(200..205).chain(100..104).collect();
            t.holds(&mut stream, b.view().slice(..15)?, &packed)?;
            t.holds(&mut stream, c.view().slice(..6)?, &[108, 109, 110, 111, 112, 201])?;
            assert_eq!((offsets, sizes), ([0, 6, 11, 15], [6, 5, 4]));
        } else {
            for dst in [&a, &b, &c] {
                t.holds(&mut stream, dst.view(), &ramp(900))?;
            }
        }
        t.probe(&mut stream)
    })
}

pub fn table(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let (x, mut y) = (put(&ctx, &ramp(1))?, put(&ctx, &ramp(500))?);
        let views = || x.view().chunks_exact(NonZero::<usize>::MIN).zip(0_u32..);
        let answer = t.strike(|| {
            let table = ctx.with_pool().table(views())?;
            ctx.launch((table.view(), y.view_mut()), |(x, y)| {
                x.iter().for_each(|(x, number)| y[*number as usize] = x[0]);
            })
        });
        t.settle(answer.err())?;
        t.holds(&mut stream, y.view(), &ramp(if answer.is_ok() { 1 } else { 500 }))?;
        t.probe(&mut stream)
    })
}

/// What is moved into a table that is refused comes back.
pub fn table_of_buffers(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let buffers = [put(&ctx, &ramp(1))?, put(&ctx, &ramp(500))?];
        let answer = t.strike(|| ctx.with_pool().table(buffers));
        let (error, buffers) = match answer {
            Ok(table) => (None, table.into_owners()),
            Err(rejected) => (Some(rejected.error), rejected.value),
        };
        t.settle(error)?;
        t.holds(&mut stream, buffers[0].view(), &ramp(1))?;
        t.holds(&mut stream, buffers[1].view(), &ramp(500))?;
        t.probe(&mut stream)
    })
}
