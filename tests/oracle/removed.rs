//! Every wait of the library, removed one at a time: the oracle misses each, and where memory is really reused, something
//! breaks.

use std::{cell::Cell, fmt, thread, time::Duration};

use tidelock::{
    BatchCopy, Buffer, Code, Ctx, DeviceLocation, Error, Sim, Stack, StreamAlloc, StreamOptions, View,
    sim::{self, Call, Sabotage},
};

use crate::common::assert_ordered;

thread_local! {
    /// Whether streams are not held up on this thread.
    static HURRY: Cell<bool> = const { Cell::new(false) };
}

/// How long a stream is held up, so that the others get ahead if nothing makes them wait.
const SLOW: Duration = Duration::from_millis(15);
const N: usize = 1000;

/// What a program shows of a removed wait besides the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// The values are as they should be, or were not looked at.
    Nothing,
    /// A value that is not the program's.
    WrongValue,
    /// The device broke: an operation met memory before or after its time.
    Broken,
}

type Answer = Result<Shows, Error>;

/// One run of a program, with the wait or without.
struct Trial {
    device: sim::Device,
    removes: bool,
    has_cut: Cell<bool>,
}

/// A program, and what its run without the wait must show.
struct Case {
    what: &'static str,
    removed: &'static str,
    program: fn(&Trial) -> Answer,
    /// The operations that the report must name, the later one first.
    names: [&'static str; 2],
    /// Whether something goes wrong besides: it does where memory is really read too early or used again.
    shows: bool,
}

#[test]
fn every_removed_wait_is_missed() {
    let mut table = vec![format!("{:<34} {:<34} {:<12} report", "removed from", "call", "shows")];
    let mut failures = Vec::new();
    for case in CASES {
        let (clean, _) = run(case, false);
        if let Err(trouble) = clean {
            failures.push(format!("{}: with the wait: {trouble}", case.what));
        }
        // The report does not depend on timing; what goes wrong besides does, on a busy machine.
        let runs = (0..5).map(|_| run(case, true));
        let mut last = None;
        for run in runs {
            let done = !case.shows || !matches!(run.0, Ok(Shows::Nothing)) || run.1.is_none();
            last = Some(run);
            if done {
                break;
            }
        }
        let Some((seen, report)) = last else { continue };
        let report = report.unwrap_or_default();
        match seen {
            Err(trouble) => failures.push(format!("{}: without {}: {trouble}", case.what, case.removed)),
            Ok(seen) => {
                let first = report.lines().next().unwrap_or("nothing").to_owned();
                let shown = if seen == Shows::Nothing { "nothing".to_owned() } else { format!("{seen:?}") };
                table.push(format!("{:<34} {:<34} {shown:<12} {first}", case.what, case.removed));
                if case.shows && seen == Shows::Nothing {
                    failures.push(format!("{}: shows nothing", case.what));
                }
            }
        }
        let names = |line: &str| {
            let [later, earlier] = case.names;
            line.starts_with(&format!("race: {later}"))
                && line.contains(&format!("which {earlier}"))
                && (line.contains("nothing makes stream") || line.contains("nothing makes the host"))
        };
        if !report.lines().any(names) {
            failures.push(format!("{}: the report does not name {:?}:\n{report}", case.what, case.names));
        }
    }
    println!("{}", table.join("\n"));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs the program, and tells what it showed and what the oracle reported.
fn run(case: &Case, removes: bool) -> (Result<Shows, Trouble>, Option<String>) {
    let options = sim::Options::quick().oracle(true);
    let trial = Trial { device: sim::Device::new(options), removes, has_cut: Cell::new(false) };
    let answer = (case.program)(&trial);
    let report = trial.device.engine().check().err();
    let broke = trial.device.engine().report().sticky.is_some();
    let seen = match answer {
        _ if broke => Ok(Shows::Broken),
        Ok(seen) => Ok(seen),
        Err(error) => Err(Trouble(error.to_string())),
    };
    if removes {
        assert!(trial.has_cut.get(), "{}: nothing was removed", case.what);
        return (seen, report);
    }
    let clean = match (seen, &report) {
        (Ok(Shows::Nothing), None) => Ok(Shows::Nothing),
        (seen, report) => Err(Trouble(format!("shows {seen:?}, reports {report:?}"))),
    };
    (clean, report)
}

#[derive(Debug)]
struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Trial {
    /// The `nth` of these calls from here on is removed, if this is the run without the wait.
    fn cut(&self, nth: u64, call: Call) {
        self.has_cut.set(true);
        if self.removes {
            // SAFETY:
            // - The program races on purpose, on memory of which every value is valid.
            unsafe { self.device.engine().pretend(nth, false, call) };
        }
    }

    fn sabotage(&self, sabotage: Sabotage) {
        self.has_cut.set(true);
        if self.removes {
            // SAFETY:
            // - As above.
            unsafe { self.device.engine().sabotage(sabotage) };
        }
    }

    /// Runs a program of two streams, which then rest.
    fn two(&self, f: impl for<'a, 'b> FnOnce(&Pool<'_, 'a>, &Pool<'_, 'b>) -> Answer) -> Answer {
        self.device.stream(|a, _| {
            self.device.stream(|b, _| {
                let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                f(&a, &b)
            })
        })??
    }
}

type Pool<'c, 's> = Ctx<'c, Sim<'s>, StreamAlloc<Sim<'s>>>;

fn shown<T: PartialEq>(values: &[T], expected: &T) -> Shows {
    if values.iter().all(|value| value == expected) { Shows::Nothing } else { Shows::WrongValue }
}

/// Zeroes whose allocation has been executed, so that nothing meets them before their time.
fn begun<'s>(ctx: &Pool<'_, 's>) -> Result<Buffer<u32, Sim<'s>>, Error> {
    let zeros = ctx.zeros(N)?;
    read(ctx, zeros.view())?;
    Ok(zeros)
}

/// Holds the stream up, while others go on.
fn hold(ctx: &Pool<'_, '_>) -> Result<(), Error> {
    let time = if HURRY.get() { Duration::ZERO } else { SLOW };
    ctx.launch((0_u32,), move |_| thread::sleep(time))
}

/// Lets everything that was held up pass, whoever waits or does not.
fn pass() {
    if !HURRY.get() {
        thread::sleep(3 * SLOW);
    }
}

/// What `view` holds as the stream sees it.
fn read<L: DeviceLocation>(ctx: &Ctx<'_, L, StreamAlloc<L>>, view: View<'_, u32, L>) -> Result<Vec<u32>, Error> {
    let staged = ctx.init(ctx.pinned(view.len())?.stage(ctx), view)?;
    Ok(ctx.fence(staged)?.wait()?.to_vec())
}

const WAIT: &str = "cuStreamWaitEvent";
const RECORD: &str = "cuEventRecord";
const OBSERVE: &str = "cuEventSynchronize";
const SYNCHRONIZE: &str = "cuStreamSynchronize";
const KERNEL: &str = "cuLaunchKernel";
const COPY: &str = "cuMemcpyAsync";
const FREE: &str = "cuMemFreeAsync";

const CASES: &[Case] = &[
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
    case("ring slot", OBSERVE, |t| ring(t, Call::EventSynchronize), ["filling a slot", COPY], true),
    case("ring slot", RECORD, |t| ring(t, Call::EventRecord), ["filling a slot", COPY], true),
    case("ring, closing", SYNCHRONIZE, ring_closes, ["closing the staging ring", COPY], false),
    case("upload beyond the ring", SYNCHRONIZE, large_upload, ["giving memory back", COPY], true),
    case("frozen memory", WAIT, freeze, [COPY, KERNEL], true),
    case("Detached, drop", OBSERVE, |t| detached_drop(t, Call::EventSynchronize), ["cuMemFree", KERNEL], true),
    case("Detached, drop", RECORD, |t| detached_drop(t, Call::EventRecord), ["cuMemFree", KERNEL], true),
    case("attach", WAIT, |t| attach(t, Call::StreamWaitEvent), [COPY, KERNEL], true),
    case("attach", RECORD, |t| attach(t, Call::EventRecord), [COPY, KERNEL], true),
    case("synchronize, then peek", SYNCHRONIZE, |t| synced(t, Way::Peek), ["peek", COPY], true),
    case("synchronize, then peek_mut", SYNCHRONIZE, |t| synced(t, Way::PeekMut), ["peek_mut", COPY], true),
    case("synchronize, then reclaim", SYNCHRONIZE, |t| synced(t, Way::Reclaim), ["reclaim", COPY], true),
    case("trim, then peek", SYNCHRONIZE, |t| synced(t, Way::Trim), ["peek", COPY], true),
    case("host_scope, end", SYNCHRONIZE, host_scope, ["the end of a loan", COPY], true),
    case("env loan, end of the stream", SYNCHRONIZE, env_loan, ["the end of a loan", COPY], false),
    case("Frozen, end of the stream", SYNCHRONIZE, frozen, ["cuMemFree", COPY], false),
    case(
        "staged memory dropped",
        SYNCHRONIZE,
        |t| staged_dropped(t, Call::StreamSynchronize),
        ["giving memory back", COPY],
        true,
    ),
    case(
        "staged memory dropped",
        "cuEventQuery",
        |t| staged_dropped(t, Call::EventQuery),
        ["giving memory back", COPY],
        true,
    ),
    case("graveyard, full", SYNCHRONIZE, graveyard, ["giving memory back", COPY], false),
    case("synchronous memory dropped", SYNCHRONIZE, sync_dropped, ["cuMemFree", KERNEL], true),
    case("pool reuse by another stream", "the engine's rule", pool_reuse, ["cuMemAllocFromPoolAsync", FREE], true),
    case("batch, read during the call", "the engine's rule", batch, ["the end of a batch", "cuMemcpyBatchAsync"], true),
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
            // Long enough for the kernel of before, and too short for the borrower.
            a.launch((x.view_mut(),), |(x,)| x.fill(9))?;
        } else {
            // What is lent is read while the lender has not come so far.
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

/// The arena hands the memory of a loan out again as soon as the loan has ended.
fn lend_from_stack(t: &Trial) -> Answer {
    t.two(|a, b| {
        let mut stack = Stack::new(a.pool());
        drop(a.with_device_alloc(&stack).device::<u32>(N)?);
        stack.iter()?;
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
        let staged = a.init(a.pinned(N)?.stage(a), x.view())?;
        let mut staged = a.fence(staged)?.wait()?.stage(a);
        hold(a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        a.copy(x.view(), staged.view_mut())?;
        t.cut(1, call);
        let host = a.fence(staged)?.wait()?;
        let seen = shown(&host, &7);
        pass();
        Ok(seen)
    })
}

/// Five slices through four slots: the fifth takes the place of the first.
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

fn large_upload(t: &Trial) -> Answer {
    let options = StreamOptions::default().ring_bytes(1024);
    t.device.stream_with(&options, |mut stream, _| {
        let mut x = stream.ctx().with_pool().zeros::<u32>(N)?;
        hold(&stream.ctx().with_pool())?;
        stream.ctx().upload(&[7; N], x.view_mut())?;
        t.cut(1, Call::StreamSynchronize);
        stream.synchronize()?;
        let ctx = stream.ctx().with_pool();
        // The piece of the pool that the slice went through.
        let piece = ctx.pinned::<u32>(N)?.write_with(|_| 9);
        pass();
        drop(piece);
        Ok(shown(&read(&ctx, x.view())?, &7))
    })?
}

fn freeze(t: &Trial) -> Answer {
    t.device.stream(|a, _| {
        let a = a.ctx().with_pool();
        let mut x = begun(&a)?;
        hold(&a)?;
        a.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        let detached = a.detach(x)?;
        t.cut(1, Call::StreamWaitEvent);
        let frozen = detached.freeze();
        let seen = t.device.stream(|b, env| {
            let b = b.ctx().with_pool();
            Ok::<_, Error>(shown(&read(&b, env.frozen(&frozen)?)?, &7))
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

fn synced(t: &Trial, way: Way) -> Answer {
    t.device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(N)?;
        let mut staged = ctx.init(ctx.pinned(N)?.stage(&ctx), x.view())?;
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
                pass();
                return Ok(seen);
            }
        };
        pass();
        Ok(seen)
    })?
}

fn host_scope(t: &Trial) -> Answer {
    t.device.stream(|mut stream, _| {
        let mut x = stream.ctx().with_pool().zeros::<u32>(N)?;
        let mut out = vec![0; N];
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

fn frozen(t: &Trial) -> Answer {
    let frozen = t.device.stream(|a, _| {
        let a = a.ctx().with_pool();
        Ok::<_, Error>(a.detach(a.zeros::<u32>(N)?)?.freeze())
    })??;
    t.device.stream(|b, env| {
        let b = b.ctx().with_pool();
        let mut y = b.zeros::<u32>(N)?;
        hold(&b)?;
        b.copy(env.frozen(&frozen)?, y.view_mut())?;
        t.cut(1, Call::StreamSynchronize);
        Ok::<_, Error>(())
    })??;
    drop(frozen);
    Ok(Shows::Nothing)
}

/// Staged memory is given up while a copy writes it, and its piece of the pool used again.
fn staged_dropped(t: &Trial, call: Call) -> Answer {
    t.device.stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(N)?;
        hold(&ctx)?;
        ctx.launch((x.view_mut(),), |(x,)| x.fill(7))?;
        drop(ctx.init(ctx.pinned(N)?.stage(&ctx), x.view())?);
        t.cut(1, call);
        if call == Call::EventQuery {
            let pending = ctx.fence(ctx.zero(ctx.pinned::<u8>(1)?.stage(&ctx))?)?;
            while !pending.is_ready()? {
                thread::yield_now();
            }
            drop(pending);
        } else {
            stream.synchronize()?;
        }
        let piece = stream.ctx().pinned::<u32>(N)?.write_with(|_| 9);
        pass();
        Ok(shown(&piece, &9))
    })?
}

/// The second grave finds the graveyard full, which waits for the stream.
fn graveyard(t: &Trial) -> Answer {
    let options = StreamOptions::default().graveyard(1);
    t.device.stream_with(&options, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.zeros::<u32>(N)?;
        hold(&ctx)?;
        t.cut(1, Call::StreamSynchronize);
        for _ in 0..2 {
            drop(ctx.init(ctx.pinned(N)?.stage(&ctx), x.view())?);
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

/// Memory of the pool of `a` is freed on `b`, and wanted again on `a`.
fn pool_reuse(t: &Trial) -> Answer {
    t.two(|a, b| {
        let x = a.transfer(a.zeros::<u32>(N)?, b)?;
        hold(b)?;
        let sum = b.init(b.device::<u32>(N)?, x.view())?;
        drop(x);
        t.sabotage(Sabotage::ReuseUnordered);
        let mut y = a.device::<u32>(N)?;
        a.clear(y.view_mut())?;
        drop(sum);
        pass();
        Ok(Shows::Nothing)
    })
}

fn batch(t: &Trial) -> Answer {
    t.two(|a, _| {
        let mut x = a.zeros::<u32>(N)?;
        let mut source = vec![7; N];
        hold(a)?;
        t.sabotage(Sabotage::ReadLate);
        BatchCopy::new().scope(a, |batch| batch.copy(View::from(&source[..]), x.view_mut()))?;
        source.fill(9);
        let seen = shown(&read(a, x.view())?, &7);
        drop(source);
        Ok(seen)
    })
}

/// Each call of each program fails once, and from then on: an error or success, and no access that nothing orders, because
/// what could not be waited for is not freed.
#[test]
fn a_failed_call_never_leads_to_a_race() {
    HURRY.set(true);
    let mut injected = 0;
    for Case { what, program, .. } in CASES {
        // Loans of host memory that cannot be waited for abort the process (rule R12).
        let lends_host_memory = ["host_scope, end", "env loan, end of the stream"].contains(what);
        for (onwards, code) in [(false, Code::INVALID_VALUE), (true, Code::INVALID_VALUE), (true, Code::LAUNCH_FAILED)]
        {
            if onwards && lends_host_memory {
                continue;
            }
            for nth in 1.. {
                let device = sim::Device::new(sim::Options::quick().oracle(true));
                let trial = Trial { device, removes: false, has_cut: Cell::new(false) };
                let engine = trial.device.engine();
                engine.fail(sim::Fault { nth, onwards, call: None, code });
                let answer = program(&trial);
                let was_reached = engine.calls_since_arming() >= nth;
                engine.disarm();
                let report = engine.report();
                assert!(report.findings.is_empty(), "{what}, call {nth}, {onwards}, {code}: {report:?}");
                assert!(
                    answer.is_err() || answer == Ok(Shows::Nothing),
                    "{what}, call {nth}, {onwards}, {code}: {answer:?}"
                );
                if !was_reached {
                    assert_eq!(answer, Ok(Shows::Nothing), "{what}");
                    break;
                }
                injected += 1;
            }
        }
    }
    println!("{injected} failures injected");
    assert!(injected > 1500, "{injected}");
}

/// A join that fails is replaced by a wait of the host, which orders as much.
#[test]
fn a_loan_whose_join_fails_is_still_ordered() {
    for call in [Call::EventRecord, Call::StreamWaitEvent] {
        let device = sim::Device::default();
        device
            .stream(|a, _| {
                device.stream(|b, _| {
                    let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let mut x = a.zeros::<u32>(N).unwrap();
                    let fault = sim::Fault { nth: 2, onwards: false, call: Some(call), code: Code::UNKNOWN };
                    device.engine().fail(fault);
                    a.lend_mut(x.view_mut(), &b, |mut y| b.launch((y.reborrow(),), |(y,)| y.fill(3)).unwrap()).unwrap();
                    assert_eq!(read(&a, x.view()).unwrap(), [3; N]);
                })
            })
            .unwrap()
            .unwrap();
        assert_ordered(device.engine());
    }
}
