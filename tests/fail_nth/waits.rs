//! Waiting, and memory on its way between the host and the device.

use tidelock::{Result, stream::StreamOptions};

use super::trial::{N, Trial, put, ramp, staged};

pub fn synchronize(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| stream.synchronize().map(drop));
        t.settle(answer.err())?;
        t.holds(&mut stream, x.view(), &ramp(1))?;
        t.probe(&mut stream)
    })
}

pub fn trim(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        drop(put(&stream.ctx(), &ramp(2))?);
        let answer = t.strike(|| stream.trim(0).map(drop));
        t.settle(answer.err())?;
        t.holds(&mut stream, x.view(), &ramp(1))?;
        t.probe(&mut stream)
    })
}

pub fn is_idle(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let _x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| stream.is_idle().map(drop));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

pub fn memory_info(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let answer = t.strike(|| stream.ctx().memory_info().map(drop));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// Copies to the device from one staged buffer and back into another, and reclaims both.
pub fn stage_and_reclaim(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| {
            let ctx = stream.ctx();
            let out = ctx.init_from(ctx.alloc_pinned::<u32>(N)?.stage(&ctx), x.view())?;
            Ok(out.reclaim(&stream.synchronize()?).to_vec())
        });
        match answer {
            Ok(values) => {
                t.settle(None)?;
                assert_eq!(values, ramp(1));
            }
            Err(error) => t.settle(Some(error))?,
        }
        t.holds(&mut stream, x.view(), &ramp(1))?;
        t.probe(&mut stream)
    })
}

pub fn peek(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        let mut out = staged(&stream.ctx(), &ramp(500))?;
        let answer = t.strike(|| {
            stream.ctx().copy(x.view(), out.view_mut())?;
            let synced = stream.synchronize()?;
            assert_eq!(out.peek(&synced), ramp(1));
            out.peek_mut(&synced)[0] = 7;
            Ok(())
        });
        t.settle(answer.err())?;
        if !t.is_over() {
            let first = out.peek(&stream.synchronize()?)[0];
            assert!(if answer.is_ok() { first == 7 } else { first == 1 || first == 500 }, "{first}");
        }
        t.probe(&mut stream)
    })
}

pub fn read(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| stream.read(x.view()));
        t.settle(answer.as_ref().err().copied())?;
        if let Ok(values) = answer {
            assert_eq!(values, ramp(1));
        }
        t.holds(&mut stream, x.view(), &ramp(1))?;
        t.probe(&mut stream)
    })
}

pub fn fence(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let (one, other) = (staged(&ctx, &ramp(1))?, staged(&ctx, &[5; 7])?);
        let answer = t.strike(|| ctx.fence(one));
        if let Some(pending) = t.retry(answer, |one| ctx.fence(one))?
            && !t.is_over()
        {
            let other = ctx.fence(other)?;
            assert_eq!(&pending.wait()?[..], ramp(1));
            assert_eq!(&other.wait()?[..], [5; 7]);
        }
        t.probe(&mut stream)
    })
}

pub fn wait(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let x = put(&ctx, &ramp(1))?;
        let pending = ctx.fence(ctx.init_from(ctx.alloc_pinned::<u32>(N)?.stage(&ctx), x.view())?)?;
        let answer = t.strike(|| pending.wait());
        if let Some(values) = t.retry(answer, |pending| pending.wait())? {
            assert_eq!(&values[..], ramp(1));
        }
        t.probe(&mut stream)
    })
}

pub fn is_ready(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let pending = ctx.fence(staged(&ctx, &ramp(1))?)?;
        let answer = t.strike(|| pending.is_ready().map(drop));
        t.settle(answer.err())?;
        if !t.is_over() {
            assert_eq!(&pending.wait()?[..], ramp(1));
        }
        t.probe(&mut stream)
    })
}

/// Marks with events that are created and used again.
pub fn mark(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let answer = t.strike(|| {
            drop(ctx.mark()?);
            Ok((ctx.mark()?, ctx.mark()?))
        });
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

pub fn elapsed_since(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let start = ctx.mark()?;
        let answer = t.strike(|| ctx.elapsed_since(start));
        if let Some(span) = t.retry(answer, |start| ctx.elapsed_since(start))?
            && !t.is_over()
        {
            span.wait()?;
        }
        t.probe(&mut stream)
    })
}

#[expect(clippy::result_large_err, reason = "what was refused comes back with the error")]
pub fn elapsed(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let span = ctx.elapsed_since(ctx.mark()?)?;
        let answer = t.strike(|| span.wait());
        t.retry(answer, |span| span.wait())?;
        t.probe(&mut stream)
    })
}

pub fn elapsed_is_ready(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let ctx = stream.ctx();
        let span = ctx.elapsed_since(ctx.mark()?)?;
        let answer = t.strike(|| span.is_ready().map(drop));
        t.settle(answer.err())?;
        if !t.is_over() {
            span.wait()?;
        }
        t.probe(&mut stream)
    })
}

/// Drops more staged buffers and fences than the stream has room for deferred frees.
pub fn given_up(t: &Trial) -> Result<()> {
    t.open_on(&t.device, &StreamOptions::default().max_deferred_frees(1), |mut stream, _env| {
        let ctx = stream.ctx();
        let pending = (ctx.fence(staged(&ctx, &ramp(1))?)?, ctx.fence(staged(&ctx, &ramp(2))?)?);
        let up = staged(&ctx, &ramp(3))?;
        t.strike(|| drop((pending, up)));
        t.settle(None)?;
        t.probe(&mut stream)
    })
}

/// A host scope that lends nothing only waits.
pub fn empty_host_scope(t: &Trial) -> Result<()> {
    t.open(|mut stream, _env| {
        let mut x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| stream.host_scope(|scope| scope.ctx().clear(x.view_mut())).and_then(|inside| inside));
        t.settle(answer.err())?;
        t.probe(&mut stream)
    })
}

/// Host slices on loan for a scope, read and written. It aborts if the stream cannot be waited for.
pub fn host_scope(t: &Trial) -> Result<()> {
    let (source, mut target) = (ramp(40), ramp(900));
    t.open(|mut stream, _env| {
        let mut x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| {
            stream.host_scope(|scope| {
                let ctx = scope.ctx();
                let (source, target) = (scope.source(&source), scope.target(&mut target));
                ctx.copy(x.view(), target)?;
                ctx.copy(source, x.view_mut())
            })
        });
        t.settle(answer.and_then(|inside| inside).err())?;
        if answer == Ok(Ok(())) {
            assert_eq!(target, ramp(1));
            t.holds(&mut stream, x.view(), &ramp(40))?;
        }
        t.probe(&mut stream)
    })
}

/// Tensors in host slices on loan for a scope, read and written. It aborts as `host_scope` does.
pub fn lent_tensors(t: &Trial) -> Result<()> {
    let (source, mut target) = (ramp(40), ramp(900));
    t.open(|mut stream, _env| {
        let mut x = put(&stream.ctx(), &ramp(1))?;
        let answer = t.strike(|| {
            stream.host_scope(|scope| {
                let ctx = scope.ctx();
                let source = scope.source(&source).slice(..48)?.tensor([6, 8])?.transpose(0, 1)?;
                let target = scope.target(&mut target).slice(..48)?.tensor([6, 8])?.transpose(0, 1)?;
                ctx.copy_tensor(x.view().slice(..48)?.tensor([8, 6])?, target)?;
                ctx.copy_tensor(source, x.view_mut().slice(..48)?.tensor([8, 6])?)
            })
        });
        t.settle(answer.and_then(|inside| inside).err())?;
        if answer == Ok(Ok(())) {
            let turned = |from: u32| (0..8).flat_map(move |i| (0..6).map(move |j| from + 8 * j + i));
            let back = (0..6).flat_map(|i| (0..8).map(move |j| 1 + 6 * j + i));
            assert!(target[..48].iter().copied().eq(back));
            t.holds(&mut stream, x.view().slice(..48)?, &turned(40).collect::<Vec<_>>())?;
        }
        assert_eq!(target[48..], ramp(900)[48..]);
        t.probe(&mut stream)
    })
}

/// Host slices that are page-locked for a scope, read and written. It aborts if the stream cannot
/// be waited for.
pub fn registered(t: &Trial) -> Result<()> {
    // Whole pages, because a page cannot be locked twice.
    let (source, mut target) = (vec![40_u32; 4 * 1024], vec![0_u32; 4 * 1024]);
    let [from, to] = [&source, &target].map(|memory| memory.as_ptr().align_offset(4096));
    let (source, target) = (&source[from..from + 3000], &mut target[to..to + 3000]);
    t.open(|mut stream, _env| {
        let mut x = stream.ctx().with_pool().zeros::<u32>(3000)?;
        let answer = t.strike(|| {
            stream.host_scope(|scope| {
                let ctx = scope.ctx();
                ctx.copy(scope.register(source)?, x.view_mut())?;
                ctx.copy(x.view(), scope.register_mut(&mut *target)?)
            })
        });
        t.settle(answer.and_then(|inside| inside).err())?;
        if answer == Ok(Ok(())) {
            assert_eq!(*target, [40; 3000]);
        }
        t.probe(&mut stream)
    })
}

/// Host slices on loan for the life of the stream. It aborts if the stream cannot be waited for.
pub fn env_loans(t: &Trial) -> Result<()> {
    let (source, mut target) = (ramp(40), ramp(900));
    let mut copied = Ok(());
    let answer = t.strike(|| {
        t.device.stream(|stream, env| {
            let mut x = put(&stream.ctx(), &ramp(1))?;
            let (source, target) = (env.source(&source), env.target(&mut target));
            copied = stream.ctx().copy(x.view(), target);
            stream.ctx().copy(source, x.view_mut())?;
            copied
        })
    });
    if copied.is_ok() && answer == Ok(Ok(())) {
        assert_eq!(target, ramp(1));
    }
    t.settle(answer.and_then(|inside| inside).err())
}
