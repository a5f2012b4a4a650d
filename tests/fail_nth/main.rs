//! Every driver call of every public operation fails: once, and from then on, with codes that are
//! temporary and codes that are sticky.
//!
//! After each failure these must hold:
//!
//! - There is no panic and no hang.
//! - The answer is success, where a release was refused or the operation recovered, or else the
//!   injected error in its class.
//! - What was moved in is handed back, and is accepted again.
//! - Contents that were not to be written are unchanged.
//! - The stream completes a round trip, or is poisoned. Then every call returns the error without a
//!   driver call.
//! - The race detector has found nothing.
//! - Nothing leaks but what a refused release keeps.
//!
//! If a stream is lost, by a sticky code or by a wait that failed, rule R12 allows it to leak what
//! it held then. The number of live allocations bounds that. Events, streams and pools never leak,
//! unless their release was refused.

mod copies;
mod coverage;
mod engine;
mod files;
mod memory;
mod streams;
mod trial;
mod waits;

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use tidelock::{
    driver::Code,
    sim::{Call, Fault},
};

// The unit tests of the example expect it here.
use self::engine::Streams;
use self::trial::{Armed, Reach, Scenario, run, run_with};
#[allow(unused_imports, reason = "the example's tests name it")]
use tidelock_continuous_batching::workload;

/// The payload of the panics in this test.
pub struct OnPurpose;

/// Temporary codes, and sticky ones.
const CODES: [Code; 4] = [Code::UNKNOWN, Code::OUT_OF_MEMORY, Code::ILLEGAL_ADDRESS, Code::LAUNCH_FAILED];
const SIGABRT: i32 = 6;

const fn plain(name: &'static str, program: fn(&trial::Trial) -> tidelock::Result<()>) -> Scenario {
    Scenario { name, program, armed: Armed::First, recovers: &[], is_remote: false }
}

const fn recovers(
    name: &'static str,
    program: fn(&trial::Trial) -> tidelock::Result<()>,
    recovers: &'static [Call],
) -> Scenario {
    Scenario { name, program, armed: Armed::First, recovers, is_remote: false }
}

const fn of(armed: Armed, name: &'static str, program: fn(&trial::Trial) -> tidelock::Result<()>) -> Scenario {
    Scenario { name, program, armed, recovers: &[], is_remote: false }
}

/// Operations whose failures affect no stream that outlives them.
const fn remote(
    name: &'static str,
    program: fn(&trial::Trial) -> tidelock::Result<()>,
    recovers: &'static [Call],
) -> Scenario {
    Scenario { name, program, armed: Armed::First, recovers, is_remote: true }
}

/// The two calls that end a loan: if one fails, the host waits instead.
const JOIN: &[Call] = &[Call::EventRecord, Call::StreamWaitEvent];

/// The calls between a request that finds no memory and its answer. Their failures are not
/// reported.
const LADDER: &[Call] =
    &[Call::StreamQuery, Call::StreamSynchronize, Call::MemPoolTrimTo, Call::MemPoolGetAttribute, Call::MemGetInfo];

const SCENARIOS: &[Scenario] = &[
    plain("the pool", memory::pool),
    plain("the pool, by location", memory::pool_by_location),
    plain("zeros", memory::zeros),
    plain("empty_like", memory::empty_like),
    plain("the synchronous allocator", memory::sync_alloc),
    plain("the free of synchronous memory", memory::sync_free),
    recovers(
        "deferred frees beyond the limit",
        memory::full_deferred_frees,
        &[Call::StreamQuery, Call::StreamSynchronize],
    ),
    plain("the free of pool memory", memory::freed),
    of(Armed::Pinned, "the pinned pool grows", memory::pinned_growth),
    of(Armed::Pinned, "pinned memory in every way", memory::pinned_pages),
    of(Armed::Pinned, "the pinned pool is trimmed", memory::pinned_trim),
    of(Armed::Pinned, "pinned memory locked ahead", memory::pinned_reserve),
    of(Armed::Pinned, "uploads need pinned memory", memory::pinned_for_uploads),
    plain("an arena", memory::stack),
    // An idle region is freed to make room for a refused request beside it.
    recovers("an arena grows", memory::stack_growth, &[Call::MemAllocFromPoolAsync]),
    recovers("an arena of synchronous memory", memory::stack_of_sync_memory, &[Call::MemAlloc]),
    plain("an arena made larger and smaller", memory::stack_by_hand),
    Scenario { recovers: LADDER, ..of(Armed::Second, "memory that is waited for", memory::waited_for) },
    recovers("memory that no device has", memory::refused, LADDER),
    plain("an allocator of closures", memory::closures),
    plain("states", memory::states),
    plain("copy", copies::copy),
    // The library queries whether the stream is idle before it locks more memory for the ring.
    recovers("upload", copies::upload, &[Call::StreamQuery]),
    plain("a large upload", copies::upload_large),
    plain("uploads round the ring", copies::upload_wrap),
    plain("clear", copies::clear),
    plain("init_zeros", copies::init_zeros),
    plain("init_from", copies::init_from),
    plain("launch", copies::launch),
    recovers("init_with", copies::init_with, &[Call::StreamQuery]),
    recovers("a table", copies::table, &[Call::StreamQuery]),
    recovers("a table of buffers", copies::table_of_buffers, &[Call::StreamQuery]),
    plain("a batch on the device", copies::batch_device),
    plain("a batch from and to staged memory", copies::batch_staged),
    plain("a batch from the host", copies::batch_host),
    plain("a batch of everything", copies::batch_mixed),
    plain("a batch from the device and the host", copies::batch_device_and_host),
    plain("a batch given up", copies::batch_given_up),
    plain("upload_new", copies::upload_new),
    plain("warp", copies::warp),
    recovers("warps by row numbers on the device", copies::warps_by, &[Call::StreamQuery]),
    plain("warp_join, warp_ragged and append", copies::warps_and_append),
    plain("scatter, scatter_within and copy_rows", copies::rows_by_index),
    plain("copies of tensors", copies::tensors),
    plain("copies of blocks", copies::blocks),
    recovers("a file through the ring", files::through_ring, &[Call::StreamQuery]),
    of(Armed::Pinned, "a file needs pinned memory", files::through_ring),
    plain("synchronize", waits::synchronize),
    plain("trim", waits::trim),
    plain("is_idle", waits::is_idle),
    plain("memory_info", waits::memory_info),
    plain("stage and reclaim", waits::stage_and_reclaim),
    plain("peek", waits::peek),
    plain("read", waits::read),
    plain("fence", waits::fence),
    plain("wait", waits::wait),
    plain("is_ready", waits::is_ready),
    plain("mark", waits::mark),
    plain("elapsed_since", waits::elapsed_since),
    plain("the time between two marks", waits::elapsed),
    plain("whether the time is known", waits::elapsed_is_ready),
    recovers("staged memory given up", waits::given_up, &[Call::StreamQuery, Call::StreamSynchronize]),
    plain("a host scope without loans", waits::empty_host_scope),
    plain("transfer", streams::transfer),
    recovers("lend", streams::lend_to_read, JOIN),
    recovers("lend_mut", streams::lend_to_write, JOIN),
    recovers("lend_tensor", streams::lend_tensor_to_read, JOIN),
    recovers("lend_tensor_mut", streams::lend_tensor_to_write, JOIN),
    recovers("lend with a panic", streams::lend_and_panic, JOIN),
    recovers("lend_mut with a panic", streams::lend_to_write_and_panic, JOIN),
    recovers("lend with pooled events", streams::lend_again, JOIN),
    plain("detach", streams::detach),
    plain("attach", streams::attach),
    recovers("attach_shared", streams::attach_shared, &[Call::EventSynchronize]),
    remote("shared", streams::shared, &[Call::EventSynchronize]),
    remote("owners", streams::owners, &[Call::EventQuery]),
    remote("detached memory dropped", streams::detached_dropped, &[Call::EventSynchronize]),
    remote("detached memory to another thread", streams::detached_to_another_thread, &[Call::EventSynchronize]),
    remote("eight nested streams", streams::nested_eight_deep, &[]),
    of(Armed::First, "two devices, the first fails", streams::two_devices),
    of(Armed::Second, "two devices, the second fails", streams::two_devices),
    remote("a stream opened and closed", streams::open_and_close, &[]),
    remote("a lane", streams::a_lane, &[Call::StreamSynchronize]),
    remote("a lane on two threads", streams::a_lane_on_two_threads, &[Call::StreamSynchronize]),
    remote("a stream on the default pool", streams::open_on_the_default_pool, &[]),
    remote("a warm stream", streams::open_warm, &[]),
    of(Armed::Pinned, "a warm stream needs pinned memory", streams::open_warm),
    remote("a panic in a stream", streams::panic_in_a_stream, &[Call::StreamSynchronize]),
];

/// Scenarios that abort the process where a stream cannot be waited for. Each run has a process of
/// its own.
const LOANS: &[Scenario] = &[
    recovers("a host scope with loans", waits::host_scope, &[Call::StreamSynchronize]),
    // Without device memory, the runs are copied one by one.
    recovers("a host scope with tensors", waits::lent_tensors, &[Call::StreamSynchronize, Call::MemAllocFromPoolAsync]),
    recovers(
        "a host scope with page-locked loans",
        waits::registered,
        &[Call::StreamSynchronize, Call::MemHostUnregister],
    ),
    recovers("a page-locked file", files::registered, &[Call::StreamSynchronize, Call::MemHostUnregister]),
    remote("loans through env", waits::env_loans, &[Call::StreamSynchronize]),
];

#[test]
fn every_call_of_every_operation_fails_once_and_from_then_on() {
    let (start, mut injected, mut failures) = (Instant::now(), 0, Vec::new());
    for scenario in SCENARIOS {
        for reach in [Reach::Operation, Reach::Whole] {
            let calls = match run(scenario, reach, None) {
                Ok(counted) => counted.calls,
                Err(words) => {
                    failures.push(words);
                    continue;
                }
            };
            assert!(calls > 0, "{}: no call to fail", scenario.name);
            // The code around the operation is the same for many of them.
            let codes = if reach == Reach::Operation { &CODES[..] } else { &[CODES[0], CODES[2]] };
            for fault in faults(calls, codes) {
                injected += 1;
                failures.extend(run(scenario, reach, Some(fault)).err());
            }
            // The recovery from a failure meets another failure.
            for fault in faults(calls, &CODES[..1]).filter(|fault| !fault.onwards) {
                for then in [Call::StreamSynchronize, Call::EventSynchronize] {
                    injected += 1;
                    failures.extend(run_with(scenario, reach, Some(fault), Some(then)).err());
                }
            }
        }
    }
    println!("{injected} injected failures in {} scenarios, {:.1?}", SCENARIOS.len(), start.elapsed());
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
    assert!(injected >= 25_000, "{injected}");
}

#[test]
fn three_hundred_requests_with_every_call_failing_once_and_from_then_on() {
    let _serial = trial::serial();
    let (start, mut injected, mut served, mut failures) = (Instant::now(), 0, 0, Vec::new());
    let requests = engine::requests();
    for streams in [Streams::One, Streams::Two] {
        let calls = engine::serve(&requests, streams, None).unwrap().calls;
        assert!(calls > 150, "{calls}");
        for nth in 1..=calls {
            // Temporary and sticky codes in turns.
            let code = CODES[usize::try_from(nth % 4).unwrap()];
            for onwards in [false, true] {
                injected += 1;
                match engine::serve(&requests, streams, Some(Fault { nth, onwards, call: None, code })) {
                    Err(words) => failures.push(words),
                    Ok(run) => served += u64::from(run.all),
                }
            }
        }
    }
    println!("{injected} injected failures in 300 requests, {served} runs served all, {:.1?}", start.elapsed());
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures[..failures.len().min(40)].join("\n"));
}

#[test]
fn loans_that_cannot_be_waited_for_abort_and_nothing_else_does() {
    let (mut injected, mut aborts) = (0, 0);
    for (index, scenario) in LOANS.iter().enumerate() {
        let calls = run(scenario, Reach::Operation, None).unwrap().calls;
        let faults: Vec<Fault> = faults(calls, &CODES).collect();
        let endings = faults.iter().map(|fault| (fault, apart(index, *fault)));
        for (fault, (signal, words)) in endings {
            injected += 1;
            let aborted = signal == Some(SIGABRT) && !words.contains("hangs");
            assert!(aborted || signal.is_none(), "{}: {fault:?}: {words}", scenario.name);
            // A wait that fails once is made again.
            let may_abort = fault.onwards || fault.code.is_sticky();
            assert!(may_abort || !aborted, "{}: {fault:?} aborts", scenario.name);
            // The scope's loans begin before its first call.
            assert!(aborted || !may_abort || index != 0, "{}: {fault:?} does not abort", scenario.name);
            aborts += usize::from(aborted);
        }
    }
    println!("{injected} injected failures with loans, {aborts} aborts");
    assert!(aborts > 20, "{aborts}");
}

/// Runs one case of the loans in a process of its own. Returns the signal that ended the process,
/// if any, and its output.
fn apart(index: usize, fault: Fault) -> (Option<i32>, String) {
    let case = format!("{index} {} {} {}", fault.nth, fault.onwards, fault.code.0);
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "one_case_of_the_loans", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&child.stderr).into_owned();
    let signal = child.status.signal();
    assert!(signal.is_some() || child.status.success(), "{fault:?}: {words}");
    (signal, words)
}

const CASE: &str = "TIDELOCK_LOAN_CASE";

/// The part that [`apart`] runs in the new process. Otherwise it does nothing.
#[test]
fn one_case_of_the_loans() {
    let Ok(case) = env::var(CASE) else { return };
    let [index, nth, onwards, code] = case.split(' ').collect::<Vec<_>>()[..] else { panic!("{case}") };
    let fault = Fault {
        nth: nth.parse().unwrap(),
        onwards: onwards.parse().unwrap(),
        call: None,
        code: Code(code.parse().unwrap()),
    };
    let index: usize = index.parse().unwrap();
    let answer = thread::spawn(move || run(&LOANS[index], Reach::Operation, Some(fault)).map(drop)).join();
    answer.unwrap().unwrap();
}

/// Faults that make every call fail once and from then on, with each of `codes`.
fn faults(calls: u64, codes: &[Code]) -> impl Iterator<Item = Fault> {
    let modes = move |nth| [false, true].map(|onwards| (nth, onwards));
    (1..=calls)
        .flat_map(modes)
        .flat_map(|(nth, onwards)| codes.iter().map(move |&code| Fault { nth, onwards, call: None, code }))
}
