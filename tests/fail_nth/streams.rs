//! Several streams and devices, and memory between them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use tidelock::{
    Buffer, Error, Result, Stream,
    driver::{Backend, Pool},
    sim::{self, Sim, SimBackend},
    stream::{Detached, Shared, StreamOptions},
};

use super::{
    OnPurpose,
    trial::{N, Trial, get, put, ramp, round_trip},
};

/// A stream from its opening to its end, and nothing else.
pub fn open_and_close(t: &Trial) -> Result<()> {
    let answer = t.strike(|| t.device.stream(|mut stream, _env| round_trip(&mut stream)));
    t.settle(answer.and_then(|inside| inside).err())?;
    still_opens(t)
}

pub fn open_on_the_default_pool(t: &Trial) -> Result<()> {
    let options = StreamOptions::default().pool(Pool::Default).priority(-1);
    let answer = t.strike(|| t.device.stream_with(&options, |mut stream, _env| round_trip(&mut stream)));
    t.settle(answer.and_then(|inside| inside).err())?;
    still_opens(t)
}

/// A stream that allocates everything when it opens.
pub fn open_warm(t: &Trial) -> Result<()> {
    let options = StreamOptions::default().warm(true).ring_bytes(8 << 20);
    SimBackend::PINNED.trim(0)?;
    let answer = t.strike(|| t.device.stream_with(&options, |mut stream, _env| round_trip(&mut stream)));
    t.settle(answer.and_then(|inside| inside).err())?;
    still_opens(t)
}

/// A panic goes through the frame of a stream that has work in flight.
pub fn panic_in_a_stream(t: &Trial) -> Result<()> {
    let answer = t.strike(|| {
        catch_unwind(AssertUnwindSafe(|| {
            t.device.stream(|stream, _env| {
                let ctx = stream.ctx();
                let arena = ctx.with_device_alloc(ctx.sync_alloc());
                let (x, mut y) = (put(&ctx, &ramp(1))?, arena.zeros::<u32>(N)?);
                ctx.copy(x.view(), y.view_mut())?;
                resume_unwind(Box::new(OnPurpose))
            })
        }))
    });
    match answer {
        // A failure during a panic is stored in the stream, which is gone.
        Err(panic) => assert!(panic.is::<OnPurpose>()),
        Ok(answer) => t.settle(answer.and_then(|inside: Result<()>| inside).err())?,
    }
    still_opens(t)
}

/// A lane from its opening to its end, with two visits. Memory is detached between them.
pub fn a_lane(t: &Trial) -> Result<()> {
    let answer = t.strike(|| {
        let mut lane = t.device.lane()?;
        let x = lane.enter(|stream, _env| Ok::<_, Error>(stream.ctx().detach(put(&stream.ctx(), &ramp(1))?)?))??;
        lane.enter(|mut stream, _env| {
            drop(stream.ctx().attach(x)?);
            round_trip(&mut stream)
        })?
    });
    t.settle(answer.err())?;
    still_opens(t)
}

/// The same with a pool of the device, and the lane ends on another thread.
pub fn a_lane_on_two_threads(t: &Trial) -> Result<()> {
    let options = StreamOptions::default().pool(Pool::Default);
    let answer = t.strike(|| {
        let mut lane = t.device.lane_with(&options)?;
        lane.enter(|mut stream, _env| round_trip(&mut stream))??;
        let there = move || lane.enter(|mut stream, _env| round_trip(&mut stream))?;
        thread::spawn(there).join().unwrap_or_else(|payload| resume_unwind(payload))
    });
    t.settle(answer.err())?;
    still_opens(t)
}

/// Asserts that the device opens other streams, which work.
fn still_opens(t: &Trial) -> Result<()> {
    t.device.stream(|mut stream, _env| round_trip(&mut stream))?
}

/// Runs `f` with two streams of the device.
fn two<'t>(
    t: &'t Trial,
    f: impl for<'a, 'b> FnOnce(&mut Stream<Sim<'a>>, &mut Stream<Sim<'b>>) -> Result<()>,
) -> Result<()> {
    t.open(|mut outer, _env| t.open(|mut inner, _env| f(&mut outer, &mut inner)))
}

pub fn transfer(t: &Trial) -> Result<()> {
    two(t, |outer, inner| {
        let x = put(&outer.ctx(), &ramp(1))?;
        let answer = t.strike(|| outer.ctx().transfer(x, &inner.ctx()));
        let moved = t.retry(answer, |x| outer.ctx().transfer(x, &inner.ctx()))?;
        if let Some(x) = moved {
            t.holds(inner, x.view(), &ramp(1))?;
        }
        t.probe(inner)?;
        t.probe(outer)
    })
}

/// What the borrower does with memory on loan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loan {
    Reads,
    Writes,
    Panics,
    PanicsWriting,
    ReadsTensor,
    WritesTensor,
}

fn lend(t: &Trial, loan: Loan) -> Result<()> {
    two(t, |outer, inner| {
        let mut x = put(&outer.ctx(), &ramp(1))?;
        let mut y = put(&inner.ctx(), &ramp(500))?;
        let answer = t.strike(|| {
            let (outer, inner) = (outer.ctx(), inner.ctx());
            let answer = catch_unwind(AssertUnwindSafe(|| match loan {
                Loan::Reads => outer.lend(x.view(), &inner, |x| inner.copy(x, y.view_mut())),
                Loan::Writes => outer.lend_mut(x.view_mut(), &inner, |x| inner.copy(y.view(), x)),
                Loan::Panics => outer.lend(x.view(), &inner, |x| {
                    inner.copy(x, y.view_mut())?;
                    resume_unwind(Box::new(OnPurpose))
                }),
                Loan::PanicsWriting => outer.lend_mut(x.view_mut(), &inner, |x| {
                    inner.copy(y.view(), x)?;
                    resume_unwind(Box::new(OnPurpose))
                }),
                Loan::ReadsTensor => {
                    let (x, y) = (x.view().tensor([N])?, y.view_mut().tensor([N])?);
                    outer.lend_tensor(x, &inner, |x| inner.copy_tensor(x, y))
                }
                Loan::WritesTensor => {
                    let (x, y) = (x.view_mut().tensor([N])?, y.view().tensor([N])?);
                    outer.lend_tensor_mut(x, &inner, |x| inner.copy_tensor(y, x))
                }
            }));
            match answer {
                Ok(answer) => answer.and_then(|inside| inside),
                Err(panic) if panic.is::<OnPurpose>() => Ok(()),
                Err(panic) => resume_unwind(panic),
            }
        });
        t.settle(answer.err())?;
        // If nothing failed, or the operation recovered.
        if answer.is_ok() {
            let writes = matches!(loan, Loan::Writes | Loan::PanicsWriting | Loan::WritesTensor);
            t.holds(outer, x.view(), &ramp(if writes { 500 } else { 1 }))?;
            t.holds(inner, y.view(), &ramp(if writes { 500 } else { 1 }))?;
        }
        t.probe(inner)?;
        t.probe(outer)
    })
}

pub fn lend_to_read(t: &Trial) -> Result<()> {
    lend(t, Loan::Reads)
}

pub fn lend_tensor_to_read(t: &Trial) -> Result<()> {
    lend(t, Loan::ReadsTensor)
}

pub fn lend_tensor_to_write(t: &Trial) -> Result<()> {
    lend(t, Loan::WritesTensor)
}

pub fn lend_to_write(t: &Trial) -> Result<()> {
    lend(t, Loan::Writes)
}

pub fn lend_and_panic(t: &Trial) -> Result<()> {
    lend(t, Loan::Panics)
}

pub fn lend_to_write_and_panic(t: &Trial) -> Result<()> {
    lend(t, Loan::PanicsWriting)
}

/// The inner stream is lent the memory while the outer one's event is pooled: four calls, and no
/// fifth.
pub fn lend_again(t: &Trial) -> Result<()> {
    two(t, |outer, inner| {
        let x = put(&outer.ctx(), &ramp(1))?;
        outer.ctx().lend(x.view(), &inner.ctx(), |_| ())?;
        let mut ran = false;
        let answer = t.strike(|| outer.ctx().lend(x.view(), &inner.ctx(), |_| ran = true));
        t.settle(answer.err())?;
        assert!(ran || answer.is_err());
        t.holds(outer, x.view(), &ramp(1))?;
        t.probe(inner)?;
        t.probe(outer)
    })
}

pub fn detach(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| stream.ctx().detach(x));
        if let Some(memory) = t.retry(answer, |x| stream.ctx().detach(x))?
            && !t.is_over()
        {
            let x = stream.ctx().attach(memory)?;
            t.holds(&mut stream, x.view(), &ramp(1))?;
        }
        t.probe(&mut stream)
    })
}

pub fn attach(t: &Trial) -> Result<()> {
    two(t, |outer, inner| {
        let memory = outer.ctx().detach(put(&outer.ctx(), &ramp(1))?)?;
        let answer = t.strike(|| inner.ctx().attach(memory));
        if let Some(x) = t.retry(answer, |memory| inner.ctx().attach(memory))? {
            t.holds(inner, x.view(), &ramp(1))?;
        }
        t.probe(inner)?;
        t.probe(outer)
    })
}

/// A stream attaches shared memory, which waits on the device.
pub fn attach_shared(t: &Trial) -> Result<()> {
    let mut detached = None;
    t.open(|stream, _env| {
        detached = Some(stream.ctx().detach(put(&stream.ctx(), &ramp(1))?)?);
        Ok(())
    })?;
    let Some(memory) = detached else { return Ok(()) };
    let shared: Shared<u32, Detached<SimBackend>> = memory.share();
    t.open(|mut stream, _env| {
        let answer = t.strike(|| stream.ctx().attach(shared.clone()));
        if let Some(x) = t.retry(answer, |shared| stream.ctx().attach(shared))?
            && !t.is_over()
        {
            t.holds(&mut stream, x.view(), &ramp(1))?;
        }
        t.probe(&mut stream)
    })
}

/// Two streams read shared memory, from `share` to its end.
pub fn shared(t: &Trial) -> Result<()> {
    let answer = t.strike(|| {
        let shared = t.device.stream(|stream, _env| {
            let ctx = stream.ctx();
            Ok::<_, Error>(ctx.detach(put(&ctx, &ramp(1))?)?.share())
        })??;
        for _ in 0..2 {
            t.device.stream(|mut stream, _env| {
                let x = stream.ctx().attach(shared.clone())?;
                assert_eq!(get(&mut stream, x.view())?, ramp(1));
                Ok::<_, Error>(())
            })??;
        }
        Ok(())
    });
    t.settle(answer.err())?;
    still_opens(t)
}

/// Two streams read shared memory. The owners meet again, and the last one writes.
pub fn owners(t: &Trial) -> Result<()> {
    let answer = t.strike(|| {
        t.device.stream(|outer, _env| {
            t.device.stream(|inner, _env| {
                let (a, b) = (outer.ctx().with_pool(), inner.ctx().with_pool());
                let mut x = put(&a, &ramp(1))?.share();
                let theirs = a.transfer(x.clone(), &b)?;
                let part = a.detach(x.slice(..4)?)?;
                let there = b.init_from(b.alloc(theirs.len())?, theirs.view())?;
                let here = a.init_from(a.alloc(x.len())?, x.view())?;
                drop((part, there, here));
                drop(x.join(b.transfer(theirs, &a)?));
                if let Some(all) = x.get_mut() {
                    a.clear(all)?;
                }
                drop(x.try_unwrap());
                Ok::<_, Error>(())
            })?
        })?
    });
    t.settle(answer.err())?;
    still_opens(t)
}

pub fn detached_dropped(t: &Trial) -> Result<()> {
    let mut detached = None;
    t.open(|stream, _env| {
        detached = Some(stream.ctx().detach(put(&stream.ctx(), &ramp(1))?)?);
        Ok(())
    })?;
    t.strike(|| drop(detached));
    t.settle(None)?;
    still_opens(t)
}

/// A stream of another thread attaches detached memory, and detaches it again.
pub fn detached_to_another_thread(t: &Trial) -> Result<()> {
    let device = &t.device;
    let answer = t.strike(|| {
        device.stream(|mut stream, _env| {
            let memory = stream.ctx().detach(put(&stream.ctx(), &ramp(1))?)?;
            let memory = thread::scope(|scope| {
                let there = scope.spawn(|| {
                    device.stream(|stream, _env| {
                        let mut x = stream.ctx().attach(memory)?;
                        stream.ctx().launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1))?;
                        Ok::<_, Error>(stream.ctx().detach(x)?)
                    })?
                });
                there.join().unwrap_or_else(|panic| resume_unwind(panic))
            })?;
            let x = stream.ctx().attach(memory)?;
            assert_eq!(get(&mut stream, x.view())?, ramp(2));
            Ok(())
        })?
    });
    t.settle(answer.err())?;
    still_opens(t)
}

/// Memory is transferred down through eight nested streams and up again, and each adds one.
pub fn nested_eight_deep(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        let keep = put(&stream.ctx(), &ramp(7))?;
        let answer = t.strike(|| deeper(&t.device, &stream, x, 7));
        match answer {
            Ok(x) => {
                t.settle(None)?;
                t.holds(&mut stream, x.view(), &ramp(8))?;
            }
            Err(error) => t.settle(Some(error))?,
        }
        t.holds(&mut stream, keep.view(), &ramp(7))?;
        t.probe(&mut stream)
    })
}

fn deeper<'o>(
    device: &sim::Device,
    outer: &Stream<Sim<'o>>,
    x: Buffer<u32, Sim<'o>>,
    depth: usize,
) -> Result<Buffer<u32, Sim<'o>>> {
    device.stream(|inner, _env| {
        let mut x = outer.ctx().transfer(x, &inner.ctx())?;
        inner.ctx().launch((x.view_mut(),), |(x,)| x.iter_mut().for_each(|x| *x += 1))?;
        let x = if depth > 1 { deeper(device, &inner, x, depth - 1)? } else { x };
        Ok(inner.ctx().transfer(x, &outer.ctx())?)
    })?
}

/// Streams of two devices, one inside the other. A broken device does not affect the other one.
pub fn two_devices(t: &Trial) -> Result<()> {
    t.open(|mut first, _env| {
        let x = put(&first.ctx(), &ramp(1))?;
        t.open_on(&t.other, &StreamOptions::default(), |mut second, _env| {
            let mut y = put(&second.ctx(), &ramp(500))?;
            let mut uploaded = false;
            let answer = t.strike(|| {
                first.ctx().launch((x.view(),), |_| ())?;
                let values = get(&mut first, x.view())?;
                second.ctx().upload(&values, y.view_mut())?;
                uploaded = true;
                drop(second.ctx().with_pool().alloc::<u32>(N)?);
                second.synchronize().map(drop)
            });
            t.settle(answer.err())?;
            if !t.is_over() {
                // Memory of one device cannot be transferred to the other, and is handed back.
                let y = put(&first.ctx(), &ramp(3))?;
                let Err(refused) = first.ctx().transfer(y, &second.ctx()) else { panic!("another device took memory") };
                assert_eq!(refused.error, Error::OtherDevice { operand: "to" });
                t.holds(&mut first, refused.value.view(), &ramp(3))?;
            }
            t.holds(&mut second, y.view(), &ramp(if uploaded { 1 } else { 500 }))?;
            t.probe(&mut second)
        })?;
        t.holds(&mut first, x.view(), &ramp(1))?;
        t.probe(&mut first)
    })
}
