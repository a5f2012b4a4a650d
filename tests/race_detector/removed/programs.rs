//! The programs. Each needs one wait, which it names, and removes on request.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    thread,
};

use tidelock::{
    BatchCopy, Error, Stack, View,
    sim::{Call, Sabotage},
    stream::StreamOptions,
};

use super::{Answer, Case, N, Shows, Trial, begun, hold, pass, read, rest, shown};

const WAIT: &str = "cuStreamWaitEvent";
const RECORD: &str = "cuEventRecord";
const OBSERVE: &str = "cuEventSynchronize";
const SYNCHRONIZE: &str = "cuStreamSynchronize";
const QUERY: &str = "cuEventQuery";
const KERNEL: &str = "cuLaunchKernel";
const COPY: &str = "cuMemcpyAsync";
const FREE: &str = "cuMemFreeAsync";

pub(super) const CASES: &[Case] = &[
    case("transfer", WAIT, |t| transfer(t, Call::StreamWaitEvent), [COPY, KERNEL], true),
    case("transfer", RECORD, |t| transfer(t, Call::EventRecord), [COPY, KERNEL], true),
    case("lend, opening", WAIT, |t| lend(t, 1, Call::StreamWaitEvent), [KERNEL, KERNEL], true),
    case("lend, opening", RECORD, |t| lend(t, 1, Call::EventRecord), [KERNEL, KERNEL], true),
    case("lend, closing", WAIT, |t| lend(t, 2, Call::StreamWaitEvent), [KERNEL, KERNEL], true),
    case("lend, closing", RECORD, |t| lend(t, 2, Call::EventRecord), [KERNEL, KERNEL], true),
    case("lend_mut, opening", WAIT, |t| lend_mut(t, 1), [KERNEL, KERNEL], true),
    case("lend_mut, closing", WAIT, |t| lend_mut(t, 2), [COPY, KERNEL], true),
    case("lend from a stack, then reuse", WAIT, lend_from_stack, ["cuMemsetD8Async", KERNEL], true),
    case("lend, then free", WAIT, lend_then_free, [FREE, KERNEL], true),
    case("fence", OBSERVE, |t| fence(t, Call::EventSynchronize), ["Pending::wait", COPY], true),
    case("fence", RECORD, |t| fence(t, Call::EventRecord), ["Pending::wait", COPY], true),
    case("arriving memory", OBSERVE, |t| arriving(t, Then::Wait), ["waiting for arriving", COPY], true),
    case("arriving memory, awaited", QUERY, |t| arriving(t, Then::Await), ["awaiting arriving", COPY], true),
    case("Pending, awaited", QUERY, |t| arriving(t, Then::AwaitPending), ["awaiting a Pending", COPY], true),
    case("arriving memory dropped", QUERY, |t| arriving(t, Then::Drop), ["giving memory back", COPY], true),
    case("ring slot", OBSERVE, |t| ring(t, Call::EventSynchronize), ["filling a slot", COPY], true),
    case("ring slot", RECORD, |t| ring(t, Call::EventRecord), ["filling a slot", COPY], true),
    case("ring, closing", SYNCHRONIZE, ring_closes, ["closing the staging ring", COPY], false),
    case(
        "upload beyond the ring",
        OBSERVE,
        |t| large_upload(t, Call::EventSynchronize),
        ["filling a slot", COPY],
        true,
    ),
    case("upload beyond the ring", RECORD, |t| large_upload(t, Call::EventRecord), ["filling a slot", COPY], true),
    case("element beyond the ring", SYNCHRONIZE, large_element, ["giving memory back", COPY], true),
    case("attach of shared memory", WAIT, attach_shared, [COPY, KERNEL], true),
    case("Detached, drop", RECORD, |t| detached_drop(t, Call::EventRecord), ["cuMemFree", KERNEL], true),
    case("attach", WAIT, |t| attach(t, Call::StreamWaitEvent), [COPY, KERNEL], true),
    case("attach", RECORD, |t| attach(t, Call::EventRecord), [COPY, KERNEL], true),
    case("synchronize, then peek", SYNCHRONIZE, |t| synced(t, Way::Peek), ["peek", COPY], true),
    case("synchronize, then peek_mut", SYNCHRONIZE, |t| synced(t, Way::PeekMut), ["peek_mut", COPY], true),
    case("synchronize, then reclaim", SYNCHRONIZE, |t| synced(t, Way::Reclaim), ["reclaim", COPY], true),
    case("trim, then peek", SYNCHRONIZE, |t| synced(t, Way::Trim), ["peek", COPY], true),
    case("host_scope, end", SYNCHRONIZE, host_scope, ["the end of a loan", COPY], true),
    case("env loan, end of the stream", SYNCHRONIZE, env_loan, ["the end of a loan", COPY], false),
    case("env loan, end of a visit", SYNCHRONIZE, visit_loan, ["the end of a loan", COPY], false),
    case("Shared, end of the stream", SYNCHRONIZE, shared, ["cuMemFree", COPY], false),
    case(
        "staged memory dropped",
        SYNCHRONIZE,
        |t| staged_dropped(t, Call::StreamSynchronize),
        ["giving memory back", COPY],
        true,
    ),
    case("staged memory dropped", QUERY, |t| staged_dropped(t, Call::EventQuery), ["giving memory back", COPY], true),
    case(
        "staged memory dropped",
        "cuStreamQuery",
        |t| staged_dropped(t, Call::StreamQuery),
        ["giving memory back", COPY],
        true,
    ),
    case(
        "deferred frees, full",
        SYNCHRONIZE,
        |t| deferred_frees(t, Call::StreamSynchronize),
        ["giving memory back", COPY],
        false,
    ),
    case(
        "deferred frees, full",
        "cuStreamQuery",
        |t| deferred_frees(t, Call::StreamQuery),
        ["giving memory back", COPY],
        false,
    ),
    case("synchronous memory dropped", SYNCHRONIZE, sync_dropped, ["cuMemFree", KERNEL], true),
    case("pool reuse by another stream", "the simulator's rule", pool_reuse, ["cuMemAllocFromPoolAsync", FREE], true),
    case(
        "batch, read during the call",
        "the simulator's rule",
        batch,
        ["the end of a batch", "cuMemcpyBatchAsync"],
        true,
    ),
];

const fn case(
    what: &'static str,
    removed: &'static str,
    program: fn(&Trial) -> Answer,
    names: [&'static str; 2],
    shows: bool,
) -> Case {
    Case { what, removed, program, names, shows }
}

fn transfer(t: &Trial, call: Call) -> Answer {
    t.two(|a, b| {
        let mut x = begun(a)?;
        hold(a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        t.cut(1, call);
        let y = a.transfer(x, b)?;
        let seen = shown(&read(b, y.view())?, &7);
        pass();
        Ok(seen)
    })
}

/// The borrower reads what the lender wrote before, and the lender writes again afterwards.
fn lend(t: &Trial, nth: u64, call: Call) -> Answer {
    t.two(|a, b| {
        let (mut x, mut sum) = (begun(a)?, b.zeros::<u32>(1)?);
        if nth == 1 {
            hold(a)?;
        }
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        t.cut(nth, call);
        a.lend(x.view(), b, |y| {
            if nth == 2 {
                hold(b)?;
            }
            b.launch((y, sum.view_mut()), |(y, sum)| sum[0] = y.iter().sum())
        })??;
        if nth == 2 {
            // Long enough for the kernel before, and too short for the borrower.
            a.launch((x.view_mut(),), |(x,)| x.fill(9))?;
        } else {
            // The borrower reads before the lender has written.
            pass();
        }
        Ok(shown(&read(b, sum.view())?, &7000))
    })
}

fn lend_mut(t: &Trial, nth: u64) -> Answer {
    t.two(|a, b| {
        let mut x = begun(a)?;
        if nth == 1 {
            hold(a)?;
        }
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        t.cut(nth, Call::StreamWaitEvent);
        a.lend_mut(x.view_mut(), b, |mut y| {
            if nth == 2 {
                hold(b)?;
            }
            b.launch((y.reborrow(),), |(y,)| y.iter_mut().for_each(|y| *y += 1))
        })??;
        let seen = shown(&read(a, x.view())?, &8);
        pass();
        Ok(seen)
    })
}

/// The arena reuses the memory of a loan as soon as the loan ends.
fn lend_from_stack(t: &Trial) -> Answer {
    t.two(|a, b| {
        let mut stack = Stack::new(a.pool());
        drop(a.with_device_alloc(&stack).alloc::<u32>(N)?);
        stack.reset()?;
        let arena = a.with_device_alloc(&stack);
        let mut sum = b.zeros::<u32>(1)?;
        let mut x = arena.zeros::<u32>(N)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        t.cut(2, Call::StreamWaitEvent);
        a.lend(x.view(), b, |y| {
            hold(b)?;
            b.launch((y, sum.view_mut()), |(y, sum)| sum[0] = y.iter().sum())
        })??;
        drop(x);
        let mut next = arena.zeros::<u32>(N)?;
        a.launch((next.view_mut(),), |(next,)| next.fill(9))?;
        Ok(shown(&read(b, sum.view())?, &7000))
    })
}

fn lend_then_free(t: &Trial) -> Answer {
    t.two(|a, b| {
        let (x, mut sum) = (a.zeros::<u32>(N)?, b.zeros::<u32>(1)?);
        t.cut(2, Call::StreamWaitEvent);
        a.lend(x.view(), b, |y| {
            hold(b)?;
            b.launch((y, sum.view_mut()), |(y, sum)| sum[0] = y.iter().sum())
        })??;
        drop(x);
        Ok(shown(&read(b, sum.view())?, &0))
    })
}

fn fence(t: &Trial, call: Call) -> Answer {
    t.two(|a, _| {
        let mut x = a.zeros::<u32>(N)?;
        let staged = a.init_from(a.alloc_pinned(N)?.stage(a), x.view())?;
        let mut staged = a.fence(staged)?.wait()?.stage(a);
        hold(a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        a.copy(x.view(), staged.view_mut())?;
        t.cut(1, call);
        let host = a.fence(staged)?.wait()?;
        let seen = shown(&host, &7);
        rest(a)?;
        Ok(seen)
    })
}

/// Memory that arrives while the stream is held: the way that the host gets it back is cut.
fn arriving(t: &Trial, then: Then) -> Answer {
    t.two(|a, _| {
        let mut x = a.zeros::<u32>(N)?;
        let staged = a.init_zeros(a.alloc_pinned(N)?.stage(a))?;
        let mut staged = a.fence(staged)?.wait()?.stage(a);
        hold(a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        a.copy(x.view(), staged.view_mut())?;
        let mut pending = a.fence(staged)?;
        let call = if let Then::Wait = then { Call::EventSynchronize } else { Call::EventQuery };
        t.cut(1, call);
        let cx = &mut Context::from_waker(Waker::noop());
        let host = match then {
            Then::Wait => pending.detach().wait()?,
            Then::Await => {
                let mut arriving = pending.detach();
                loop {
                    if let Poll::Ready(answer) = Pin::new(&mut arriving).poll(cx) {
                        break answer?;
                    }
                }
            }
            Then::AwaitPending => loop {
                if let Poll::Ready(answer) = Pin::new(&mut pending).poll(cx) {
                    break answer?;
                }
            },
            Then::Drop => {
                drop(pending.detach());
                // The piece, if it is free.
                a.alloc_pinned::<u32>(N)?.write_with(|_| 9)
            }
        };
        if let Then::Drop = then {
            rest(a)?;
            return Ok(shown(&host, &9));
        }
        let seen = shown(&host, &7);
        rest(a)?;
        Ok(seen)
    })
}

/// Five slices through four slots: the fifth uses the first slot again.
fn ring(t: &Trial, call: Call) -> Answer {
    let options = StreamOptions::default().ring_bytes(1024);
    t.device.stream_with(&options, |a, _| {
        let a = a.ctx().with_pool();
        let mut rows = a.zeros::<u32>(5 * 64)?;
        hold(&a)?;
        t.cut(1, call);
        for row in 0..5 {
            a.upload(&[u32::try_from(row).unwrap(); 64], rows.view_mut().slice(row * 64..(row + 1) * 64)?)?;
        }
        pass();
        Ok(shown(&read(&a, rows.view().slice(..64)?)?, &0))
    })?
}

fn ring_closes(t: &Trial) -> Answer {
    t.device.stream(|a, _| {
        let a = a.ctx().with_pool();
        let mut x = a.zeros::<u32>(N)?;
        hold(&a)?;
        a.upload(&[7; N], x.view_mut())?;
        core::mem::forget(x);
        t.cut(1, Call::StreamSynchronize);
        Ok(Shows::Nothing)
    })?
}

/// One slice in five pieces through four slots: the fifth uses the first slot again.
fn large_upload(t: &Trial, call: Call) -> Answer {
    let options = StreamOptions::default().ring_bytes(1024);
    t.device.stream_with(&options, |a, _| {
        let a = a.ctx().with_pool();
        let mut rows = a.zeros::<u32>(5 * 64)?;
        hold(&a)?;
        t.cut(1, call);
        let values: Vec<u32> = (0..5 * 64).map(|i| i / 64).collect();
        a.upload(&values, rows.view_mut())?;
        pass();
        Ok(shown(&read(&a, rows.view().slice(..64)?)?, &0))
    })?
}

/// An element larger than a slot goes through a piece of the pool.
fn large_element(t: &Trial) -> Answer {
    let options = StreamOptions::default().ring_bytes(1024);
    t.device.stream_with(&options, |mut stream, _| {
        let mut x = stream.ctx().with_pool().zeros::<[u32; N]>(1)?;
        hold(&stream.ctx().with_pool())?;
        stream.ctx().upload(&[[7; N]], x.view_mut())?;
        t.cut(1, Call::StreamSynchronize);
        stream.synchronize()?;
        let ctx = stream.ctx().with_pool();
        // The piece of the pool that held the element.
        let piece = ctx.alloc_pinned::<u32>(N)?.write_with(|_| 9);
        rest(&ctx)?;
        drop(piece);
        Ok(shown(&read(&ctx, x.view().try_cast::<u32>()?)?, &7))
    })?
}

fn attach_shared(t: &Trial) -> Answer {
    t.device.stream(|a, _| {
        let a = a.ctx().with_pool();
        let mut x = begun(&a)?;
        hold(&a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        let detached = a.detach(x)?;
        t.cut(1, Call::StreamWaitEvent);
        let shared = detached.share();
        let seen = t.device.stream(|b, _| {
            let b = b.ctx().with_pool();
            Ok::<_, Error>(shown(&read(&b, b.attach(shared.clone())?.view())?, &7))
        });
        pass();
        seen?
    })?
}

fn detached_drop(t: &Trial, call: Call) -> Answer {
    t.device.stream(|a, _| {
        let a = a.ctx().with_pool();
        let mut x = begun(&a)?;
        hold(&a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        t.cut(1, call);
        drop(a.detach(x)?);
        Ok(Shows::Nothing)
    })?
}

fn attach(t: &Trial, call: Call) -> Answer {
    t.two(|a, b| {
        let mut x = begun(a)?;
        hold(a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        t.cut(1, call);
        let y = b.attach(a.detach(x)?)?;
        let seen = shown(&read(b, y.view())?, &7);
        pass();
        Ok(seen)
    })
}

#[derive(Clone, Copy)]
enum Way {
    Peek,
    PeekMut,
    Reclaim,
    Trim,
}

/// What becomes of arriving memory.
enum Then {
    Wait,
    Await,
    AwaitPending,
    Drop,
}

fn synced(t: &Trial, way: Way) -> Answer {
    t.device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(N)?;
        let mut staged = ctx.init_from(ctx.alloc_pinned(N)?.stage(&ctx), x.view())?;
        let synced = stream.synchronize()?;
        assert_eq!(staged.peek(&synced), [0; N]);
        let ctx = stream.ctx().with_pool();
        hold(&ctx)?;
        ctx.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        ctx.copy(x.view(), staged.view_mut())?;
        t.cut(1, Call::StreamSynchronize);
        let synced = if matches!(way, Way::Trim) { stream.trim(0)? } else { stream.synchronize()? };
        let seen = match way {
            Way::Peek | Way::Trim => shown(staged.peek(&synced), &7),
            Way::PeekMut => shown(staged.peek_mut(&synced), &7),
            Way::Reclaim => {
                let host = staged.reclaim(&synced);
                let seen = shown(&host, &7);
                stream.synchronize()?;
                return Ok(seen);
            }
        };
        pass();
        Ok(seen)
    })?
}

fn host_scope(t: &Trial) -> Answer {
    // Declared outside of the stream. The end of the stream waits for the copy that the scope does
    // not wait for.
    let mut out = vec![0; N];
    t.device.stream(|mut stream, _| {
        let mut x = stream.ctx().with_pool().zeros::<u32>(N)?;
        stream.host_scope(|scope| {
            let ctx = scope.ctx().with_pool();
            hold(&ctx)?;
            ctx.launch((x.view_mut(),), |(x,)| x.fill(7))?;
            ctx.copy(x.view(), scope.target(&mut out))?;
            t.cut(1, Call::StreamSynchronize);
            Ok::<_, Error>(())
        })??;
        let seen = shown(&out, &7);
        pass();
        Ok(seen)
    })?
}

fn env_loan(t: &Trial) -> Answer {
    let mut out = vec![0; N];
    t.device.stream(|stream, env| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.zeros::<u32>(N)?;
        hold(&ctx)?;
        ctx.copy(x.view(), env.target(&mut out))?;
        t.cut(1, Call::StreamSynchronize);
        Ok::<_, Error>(())
    })??;
    Ok(Shows::Nothing)
}

fn visit_loan(t: &Trial) -> Answer {
    let mut out = vec![0; N];
    t.device.lane()?.enter(|stream, env| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.zeros::<u32>(N)?;
        hold(&ctx)?;
        ctx.copy(x.view(), env.target(&mut out))?;
        t.cut(1, Call::StreamSynchronize);
        Ok::<_, Error>(())
    })??;
    Ok(Shows::Nothing)
}

fn shared(t: &Trial) -> Answer {
    let shared = t.device.stream(|a, _| {
        let a = a.ctx().with_pool();
        Ok::<_, Error>(a.detach(a.zeros::<u32>(N)?)?.share())
    })??;
    t.device.stream(|b, _| {
        let b = b.ctx().with_pool();
        let mut y = b.zeros::<u32>(N)?;
        hold(&b)?;
        b.copy(b.attach(shared.clone())?.view(), y.view_mut())?;
        t.cut(1, Call::StreamSynchronize);
        Ok::<_, Error>(())
    })??;
    drop(shared);
    Ok(Shows::Nothing)
}

/// Staged memory is dropped while a copy writes it, and its piece of the pool is used again.
fn staged_dropped(t: &Trial, call: Call) -> Answer {
    t.device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(N)?;
        hold(&ctx)?;
        ctx.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        drop(ctx.init_from(ctx.alloc_pinned(N)?.stage(&ctx), x.view())?);
        t.cut(1, call);
        if call == Call::EventQuery {
            let pending = ctx.fence(ctx.init_zeros(ctx.alloc_pinned::<u8>(1)?.stage(&ctx))?)?;
            while !pending.is_ready()? {
                thread::yield_now();
            }
            drop(pending);
        } else if call == Call::StreamQuery {
            stream.is_idle()?;
        } else {
            stream.synchronize()?;
        }
        let piece = stream.ctx().alloc_pinned::<u32>(N)?.write_with(|_| 9);
        stream.synchronize()?;
        Ok(shown(&piece, &9))
    })?
}

/// The second deferred free finds no room. The library asks whether the stream is idle, and waits
/// for it if not.
fn deferred_frees(t: &Trial, call: Call) -> Answer {
    let options = StreamOptions::default().max_deferred_frees(1);
    t.device.stream_with(&options, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.zeros::<u32>(N)?;
        hold(&ctx)?;
        t.cut(1, call);
        for _ in 0..2 {
            drop(ctx.init_from(ctx.alloc_pinned(N)?.stage(&ctx), x.view())?);
        }
        pass();
        Ok(Shows::Nothing)
    })?
}

fn sync_dropped(t: &Trial) -> Answer {
    t.device.stream(|mut stream, _| {
        let ctx = stream.ctx();
        let mut x = ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(N)?;
        hold(&ctx.with_pool())?;
        ctx.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        drop(x);
        t.cut(1, Call::StreamSynchronize);
        stream.synchronize()?;
        Ok(Shows::Nothing)
    })?
}

/// Memory of the pool of `a` is freed on `b`, and allocated again on `a`.
fn pool_reuse(t: &Trial) -> Answer {
    t.two(|a, b| {
        let x = a.transfer(a.zeros::<u32>(N)?, b)?;
        hold(b)?;
        let sum = b.init_from(b.alloc::<u32>(N)?, x.view())?;
        drop(x);
        t.sabotage(Sabotage::ReuseUnordered);
        let mut y = a.alloc::<u32>(N)?;
        a.clear(y.view_mut())?;
        drop(sum);
        pass();
        Ok(Shows::Nothing)
    })
}

fn batch(t: &Trial) -> Answer {
    // Declared outside of the stream, as in `host_scope`.
    let mut source = vec![7; N];
    t.two(|a, _| {
        let mut x = a.zeros::<u32>(N)?;
        hold(a)?;
        t.sabotage(Sabotage::ReadLate);
        BatchCopy::new().scope(a, |batch| batch.copy(View::from(&source[..]), x.view_mut()))?;
        source.fill(9);
        Ok(shown(&read(a, x.view())?, &7))
    })
}
