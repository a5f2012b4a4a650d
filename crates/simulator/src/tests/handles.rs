//! Handles of others, of nothing, and of what is gone: each call that takes a handle refuses them,
//! and changes nothing.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;

/// One of each kind of thing.
#[derive(Clone, Copy)]
struct Handles {
    stream: StreamId,
    event: EventId,
    pool: PoolId,
}

impl Handles {
    fn new(gpu: &Gpu) -> Self {
        let (stream, event) = (gpu.stream_create(0).unwrap(), gpu.event_create().unwrap());
        Handles { stream, event, pool: gpu.pool_create(0).unwrap() }
    }
}

/// A call with one handle of a stranger; the other operands are the device's own.
type Attempt = fn(&Gpu, own: Handles, stranger: Handles, memory: *mut u8) -> Result<(), Code>;

/// Every public method that takes a handle, and for each handle that it takes an attempt.
const CALLS: &[(&str, &[Attempt])] = &[
    (
        "mem_alloc_async",
        &[
            |gpu, own, other, _| gpu.mem_alloc_async(1, own.pool, other.stream).map(drop),
            |gpu, own, other, _| gpu.mem_alloc_async(1, other.pool, own.stream).map(drop),
        ],
    ),
    ("mem_free_async", &[|gpu, _, other, memory| unsafe { gpu.mem_free_async(memory, other.stream) }]),
    ("memcpy_async", &[|gpu, _, other, memory| unsafe { gpu.memcpy_async(memory, memory, 8, other.stream) }]),
    (
        "memcpy_batch_async",
        &[|gpu, _, other, memory| unsafe {
            gpu.memcpy_batch_async(&[memory], &[memory.wrapping_add(8)], &[8], 1, other.stream)
        }],
    ),
    ("memset_d8_async", &[|gpu, _, other, memory| unsafe { gpu.memset_d8_async(memory, 9, 8, other.stream) }]),
    ("pool_destroy", &[|gpu, _, other, _| gpu.pool_destroy(other.pool)]),
    ("pool_trim_to", &[|gpu, _, other, _| gpu.pool_trim_to(other.pool, 0)]),
    ("pool_set_threshold", &[|gpu, _, other, _| gpu.pool_set_threshold(other.pool, 1)]),
    ("pool_usage", &[|gpu, _, other, _| gpu.pool_usage(other.pool).map(drop)]),
    ("stream_destroy", &[|gpu, _, other, _| gpu.stream_destroy(other.stream)]),
    ("stream_synchronize", &[|gpu, _, other, _| gpu.stream_synchronize(other.stream)]),
    ("stream_query", &[|gpu, _, other, _| gpu.stream_query(other.stream).map(drop)]),
    ("stream_priority", &[|gpu, _, other, _| gpu.stream_priority(other.stream).map(drop)]),
    (
        "stream_wait_event",
        &[
            |gpu, own, other, _| gpu.stream_wait_event(other.stream, own.event),
            |gpu, own, other, _| gpu.stream_wait_event(own.stream, other.event),
        ],
    ),
    ("event_destroy", &[|gpu, _, other, _| gpu.event_destroy(other.event)]),
    (
        "event_record",
        &[
            |gpu, own, other, _| gpu.event_record(own.event, other.stream),
            |gpu, own, other, _| gpu.event_record(other.event, own.stream),
        ],
    ),
    (
        "event_elapsed",
        &[
            |gpu, own, other, _| gpu.event_elapsed(own.event, other.event).map(drop),
            |gpu, own, other, _| gpu.event_elapsed(other.event, own.event).map(drop),
        ],
    ),
    ("event_behind", &[|gpu, _, other, _| gpu.event_behind(other.event).map(drop)]),
    ("event_query", &[|gpu, _, other, _| gpu.event_query(other.event).map(drop)]),
    ("event_synchronize", &[|gpu, _, other, _| gpu.event_synchronize(other.event)]),
    ("launch", &[|gpu, _, other, _| gpu.launch(other.stream, Task::new(|_| panic!("is refused")))]),
    (
        "launch_using",
        &[|gpu, _, other, memory| {
            gpu.launch_using(other.stream, Task::new(|_| panic!("is refused")), &[Use::write(memory, 8)])
        }],
    ),
];

/// They are no driver calls and answer with no code: a handle of a stranger is ignored.
const REPORTS: [&str; 5] = ["destroys_event", "free_behind", "loans_end", "stream_entered", "stream_left"];

/// Every attempt with the handles of `stranger` is refused; what the device and `memory` hold
/// stays.
fn all_refuse(gpu: &Gpu, own: Handles, stranger: Handles, who: &str) {
    let memory = alloc(gpu, 64, own.stream);
    unsafe { gpu.memset_d8_async(memory, 5, 64, own.stream) }.unwrap();
    gpu.stream_synchronize(own.stream).unwrap();
    let (report, usage) = (gpu.report(), gpu.pool_usage(own.pool).unwrap());
    for (name, attempts) in CALLS {
        for (index, attempt) in attempts.iter().enumerate() {
            let answer = attempt(gpu, own, stranger, memory);
            assert_eq!(answer, Err(Code::INVALID_HANDLE), "{name}, handle {index}, {who}");
        }
    }
    unsafe { gpu.loans_end(stranger.stream) };
    unsafe { gpu.stream_left(stranger.stream) };
    unsafe { gpu.stream_entered(stranger.stream) };
    assert_eq!((gpu.report(), gpu.pool_usage(own.pool).unwrap()), (report, usage), "{who}");
    assert_eq!(read(gpu, memory, 64, own.stream), [5; 64], "{who}");
    free(gpu, memory, own.stream);
    gpu.check().unwrap();
}

#[test]
fn handles_of_another_engine_of_nothing_and_of_what_is_gone_are_refused() {
    let (gpu, twin) = (Gpu::new(Options::quick().race_detector(true)), Gpu::new(Options::quick().race_detector(true)));
    let (own, other) = (Handles::new(&gpu), Handles::new(&twin));
    // The slots and generations are the same: only the device tells the two apart.
    let number = |handles: Handles| [handles.stream.0, handles.event.0, handles.pool.0].map(super::slots::Id::number);
    assert_eq!(number(own), number(other));
    let gate = block(&twin, other.stream);
    twin.event_record(other.event, other.stream).unwrap();
    all_refuse(&gpu, own, other, "of another gpu");
    assert!(!twin.event_query(other.event).unwrap(), "recorded again");
    drop(gate);
    twin.stream_synchronize(other.stream).unwrap();
    assert_eq!((twin.report().streams, twin.report().events, twin.report().pools), (1, 1, 1));

    let nothing = Handles { stream: StreamId::default(), event: EventId::default(), pool: PoolId::default() };
    all_refuse(&gpu, own, nothing, "of nothing");

    let gone = Handles::new(&gpu);
    gpu.stream_destroy(gone.stream).unwrap();
    gpu.event_destroy(gone.event).unwrap();
    gpu.pool_destroy(gone.pool).unwrap();
    all_refuse(&gpu, own, gone, "of what is gone");
    // The slots serve others now.
    let next = Handles::new(&gpu);
    assert_eq!((next.stream.0.slot(), next.stream.0.reused()), (gone.stream.0.slot(), 1));
    all_refuse(&gpu, next, gone, "of what is gone, in the slots of others");
    for gpu in [gpu, twin] {
        assert_eq!(gpu.report().findings, [""; 0]);
    }
}

#[test]
fn a_handle_is_not_named_again_when_the_generations_of_its_slot_are_used_up() {
    let gpu = Gpu::new(Options::quick());
    let event = gpu.event_create().unwrap();
    let last = EventId(lock(&gpu.shared().events).age(event.0, 0).unwrap());
    gpu.event_destroy(last).unwrap();
    for _ in 0..3 {
        let next = gpu.event_create().unwrap();
        assert!(next.0.slot() != event.0.slot());
        assert_eq!(gpu.event_query(event), Err(Code::INVALID_HANDLE));
        assert_eq!(gpu.event_query(last), Err(Code::INVALID_HANDLE));
        gpu.event_destroy(next).unwrap();
    }
}

#[test]
fn the_table_of_calls_has_every_public_method_that_takes_a_handle() {
    let folder = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let sources: Vec<String> = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    let functions = sources.iter().flat_map(|source| source.split("    pub ").skip(1));
    let takes_a_handle = functions.filter_map(|rest| {
        let (signature, _) = rest.split_once('{')?;
        let (_, signature) = signature.split_once("fn ")?;
        let (name, operands) = signature.split_once('(')?;
        let operands = operands.split("->").next()?;
        let takes = ["StreamId", "EventId", "PoolId"].iter().any(|handle| operands.contains(handle));
        takes.then_some(name)
    });
    let found: BTreeSet<&str> = takes_a_handle.collect();
    let tried: BTreeSet<&str> = CALLS.iter().map(|(name, _)| *name).chain(REPORTS).collect();
    assert_eq!(found, tried);
    assert_eq!(found.len(), CALLS.len() + REPORTS.len());
    assert!(CALLS.iter().map(|(_, attempts)| attempts.len()).sum::<usize>() > CALLS.len());
}
