//! Every wait of the library, removed one at a time. The race detector reports each, and where
//! memory is really reused, values are wrong or the device breaks.

mod programs;

use std::{cell::Cell, fmt, thread, time::Duration};

use tidelock::{
    Buffer, Ctx, DeviceLocation, Error, View,
    driver::Code,
    sim::{self, Call, Sabotage, Sim},
    stream::StreamAlloc,
};

use self::programs::CASES;
use tidelock_test_support::checked::assert_ordered;

thread_local! {
    /// Whether streams are not delayed on this thread.
    static HURRY: Cell<bool> = const { Cell::new(false) };
}

/// How long a stream is delayed, so that the others get ahead if no wait stops them.
const SLOW: Duration = Duration::from_millis(15);
const N: usize = 1000;

/// What a program shows when a wait is removed, besides the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    /// The values are right, or were not read.
    Nothing,
    /// A value that is not the program's.
    WrongValue,
    /// The device broke: an operation used memory before it was allocated or after it was freed.
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
    /// Whether values are wrong or the device breaks. This is so where memory is really read too
    /// early or reused.
    shows: bool,
}

#[test]
fn every_removed_wait_is_reported() {
    let mut table = vec![format!("{:<34} {:<34} {:<12} report", "removed from", "call", "shows")];
    let mut failures = Vec::new();
    for case in CASES {
        let (clean, _) = run(case, false);
        if let Err(trouble) = clean {
            failures.push(format!("{}: with the wait: {trouble}", case.what));
        }
        // The report does not depend on timing. Wrong values do, on a busy machine.
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

/// Runs the program, and returns what it showed and what the race detector reported.
fn run(case: &Case, removes: bool) -> (Result<Shows, Trouble>, Option<String>) {
    let options = sim::Options::quick().race_detector(true);
    let trial = Trial { device: sim::Device::new(options), removes, has_cut: Cell::new(false) };
    let answer = (case.program)(&trial);
    let report = trial.device.gpu().check().err();
    let broke = trial.device.gpu().report().sticky.is_some();
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
    /// Removes the `nth` of these calls from here on, if this is the run without the wait.
    fn cut(&self, nth: u64, call: Call) {
        self.has_cut.set(true);
        if self.removes {
            // SAFETY:
            // - The program races on purpose, on memory of which every value is valid.
            unsafe { self.device.gpu().pretend(nth, false, call) };
        }
    }

    fn sabotage(&self, sabotage: Sabotage) {
        self.has_cut.set(true);
        if self.removes {
            // SAFETY:
            // - As above.
            unsafe { self.device.gpu().sabotage(sabotage) };
        }
    }

    /// Runs a program of two streams, and then waits for both.
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

/// Zeros whose allocation the device has executed, so that no operation uses them before.
fn begun<'s>(ctx: &Pool<'_, 's>) -> Result<Buffer<u32, Sim<'s>>, Error> {
    let zeros = ctx.zeros(N)?;
    read(ctx, zeros.view())?;
    Ok(zeros)
}

/// Delays the stream while others run.
fn hold(ctx: &Pool<'_, '_>) -> Result<(), Error> {
    let time = if HURRY.get() { Duration::ZERO } else { SLOW };
    ctx.launch((0_u32,), move |_| thread::sleep(time))
}

/// Releases all streams that are delayed.
fn pass() {
    if !HURRY.get() {
        thread::sleep(3 * SLOW);
    }
}

/// Waits for the stream, with no wait removed any more. Host memory that the stream may still use
/// is freed after this.
fn rest(ctx: &Pool<'_, '_>) -> Result<(), Error> {
    ctx.fence(ctx.init_zeros(ctx.alloc_pinned::<u8>(1)?.stage(ctx))?)?.wait().map(drop).map_err(Error::from)
}

/// What `view` holds after all work enqueued on the stream.
fn read<L: DeviceLocation>(ctx: &Ctx<'_, L, StreamAlloc<L>>, view: View<'_, u32, L>) -> Result<Vec<u32>, Error> {
    let staged = ctx.init_from(ctx.alloc_pinned(view.len())?.stage(ctx), view)?;
    Ok(ctx.fence(staged)?.wait()?.to_vec())
}

/// Each call of each program fails once, and from then on. The result is an error or success, and
/// there is no unordered access: memory is not freed if its stream could not be waited for.
#[test]
fn a_failed_call_never_leads_to_a_race() {
    HURRY.set(true);
    let mut injected = 0;
    for Case { what, program, .. } in CASES {
        // Loans of host memory that cannot be waited for abort the process (rule R12).
        let lends_host_memory =
            ["host_scope, end", "env loan, end of the stream", "env loan, end of a visit"].contains(what);
        for (onwards, code) in [(false, Code::INVALID_VALUE), (true, Code::INVALID_VALUE), (true, Code::LAUNCH_FAILED)]
        {
            if onwards && lends_host_memory {
                continue;
            }
            for nth in 1.. {
                let device = sim::Device::new(sim::Options::quick().race_detector(true));
                let trial = Trial { device, removes: false, has_cut: Cell::new(false) };
                let gpu = trial.device.gpu();
                gpu.fail(sim::Fault { nth, onwards, call: None, code });
                let answer = program(&trial);
                let was_reached = gpu.calls_since_arming() >= nth;
                gpu.disarm();
                let report = gpu.report();
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
                    device.gpu().fail(fault);
                    a.lend_mut(x.view_mut(), &b, |mut y| b.launch((y.reborrow(),), |(y,)| y.fill(3)).unwrap()).unwrap();
                    assert_eq!(read(&a, x.view()).unwrap(), [3; N]);
                })
            })
            .unwrap()
            .unwrap();
        assert_ordered(device.gpu());
    }
}
