//! Handles of others, of nothing, and of what is gone: each call that takes a handle refuses them, and changes nothing.

use std::collections::BTreeSet;

use super::*;

/// One of each kind of thing.
#[derive(Clone, Copy)]
struct Handles {
    stream: StreamId,
    event: EventId,
    pool: PoolId,
}

impl Handles {
    fn new(engine: &Engine) -> Self {
        let (stream, event) = (engine.stream_create(0).unwrap(), engine.event_create().unwrap());
        Handles { stream, event, pool: engine.pool_create(0).unwrap() }
    }
}

/// A call with one handle of a stranger; the other operands are the engine's own.
type Attempt = fn(&Engine, own: Handles, stranger: Handles, memory: *mut u8) -> Result<(), Code>;

/// Every public method that takes a handle, and for each handle that it takes an attempt.
const CALLS: &[(&str, &[Attempt])] = &[
    (
        "mem_alloc_async",
        &[
            |engine, own, other, _| engine.mem_alloc_async(1, own.pool, other.stream).map(drop),
            |engine, own, other, _| engine.mem_alloc_async(1, other.pool, own.stream).map(drop),
        ],
    ),
    ("mem_free_async", &[|engine, _, other, memory| unsafe { engine.mem_free_async(memory, other.stream) }]),
    ("memcpy_async", &[|engine, _, other, memory| unsafe { engine.memcpy_async(memory, memory, 8, other.stream) }]),
    (
        "memcpy_batch_async",
        &[|engine, _, other, memory| unsafe {
            engine.memcpy_batch_async(&[memory], &[memory.wrapping_add(8)], &[8], 1, other.stream)
        }],
    ),
    ("memset_d8_async", &[|engine, _, other, memory| unsafe { engine.memset_d8_async(memory, 9, 8, other.stream) }]),
    ("pool_destroy", &[|engine, _, other, _| engine.pool_destroy(other.pool)]),
    ("pool_trim_to", &[|engine, _, other, _| engine.pool_trim_to(other.pool, 0)]),
    ("pool_set_threshold", &[|engine, _, other, _| engine.pool_set_threshold(other.pool, 1)]),
    ("pool_usage", &[|engine, _, other, _| engine.pool_usage(other.pool).map(drop)]),
    ("stream_destroy", &[|engine, _, other, _| engine.stream_destroy(other.stream)]),
    ("stream_synchronize", &[|engine, _, other, _| engine.stream_synchronize(other.stream)]),
    ("stream_query", &[|engine, _, other, _| engine.stream_query(other.stream).map(drop)]),
    ("stream_priority", &[|engine, _, other, _| engine.stream_priority(other.stream).map(drop)]),
    (
        "stream_wait_event",
        &[
            |engine, own, other, _| engine.stream_wait_event(other.stream, own.event),
            |engine, own, other, _| engine.stream_wait_event(own.stream, other.event),
        ],
    ),
    ("event_destroy", &[|engine, _, other, _| engine.event_destroy(other.event)]),
    (
        "event_record",
        &[
            |engine, own, other, _| engine.event_record(own.event, other.stream),
            |engine, own, other, _| engine.event_record(other.event, own.stream),
        ],
    ),
    ("event_query", &[|engine, _, other, _| engine.event_query(other.event).map(drop)]),
    ("event_synchronize", &[|engine, _, other, _| engine.event_synchronize(other.event)]),
    ("launch", &[|engine, _, other, _| engine.launch(other.stream, Task::new(|_| panic!("is refused")))]),
    (
        "launch_using",
        &[|engine, _, other, memory| {
            engine.launch_using(other.stream, Task::new(|_| panic!("is refused")), &[Use::write(memory, 8)])
        }],
    ),
];

/// Every attempt with the handles of `stranger` is refused; what the engine and `memory` hold stays.
fn all_refuse(engine: &Engine, own: Handles, stranger: Handles, who: &str) {
    let memory = alloc(engine, 64, own.stream);
    unsafe { engine.memset_d8_async(memory, 5, 64, own.stream) }.unwrap();
    engine.stream_synchronize(own.stream).unwrap();
    let (report, usage) = (engine.report(), engine.pool_usage(own.pool).unwrap());
    for (name, attempts) in CALLS {
        for (index, attempt) in attempts.iter().enumerate() {
            let answer = attempt(engine, own, stranger, memory);
            assert_eq!(answer, Err(Code::INVALID_HANDLE), "{name}, handle {index}, {who}");
        }
    }
    assert_eq!((engine.report(), engine.pool_usage(own.pool).unwrap()), (report, usage), "{who}");
    assert_eq!(read(engine, memory, 64, own.stream), [5; 64], "{who}");
    free(engine, memory, own.stream);
    engine.check().unwrap();
}

#[test]
fn handles_of_another_engine_of_nothing_and_of_what_is_gone_are_refused() {
    let (engine, twin) = (Engine::new(Options::quick().oracle(true)), Engine::new(Options::quick().oracle(true)));
    let (own, other) = (Handles::new(&engine), Handles::new(&twin));
    // The slots and generations are the same: only the engine tells the two apart.
    let number = |handles: Handles| [handles.stream.0, handles.event.0, handles.pool.0].map(super::slots::Id::number);
    assert_eq!(number(own), number(other));
    let gate = block(&twin, other.stream);
    twin.event_record(other.event, other.stream).unwrap();
    all_refuse(&engine, own, other, "of another engine");
    assert!(!twin.event_query(other.event).unwrap(), "recorded again");
    drop(gate);
    twin.stream_synchronize(other.stream).unwrap();
    assert_eq!((twin.report().streams, twin.report().events, twin.report().pools), (1, 1, 1));

    let nothing = Handles { stream: StreamId::default(), event: EventId::default(), pool: PoolId::default() };
    all_refuse(&engine, own, nothing, "of nothing");

    let gone = Handles::new(&engine);
    engine.stream_destroy(gone.stream).unwrap();
    engine.event_destroy(gone.event).unwrap();
    engine.pool_destroy(gone.pool).unwrap();
    all_refuse(&engine, own, gone, "of what is gone");
    // The slots serve others now.
    let next = Handles::new(&engine);
    assert_eq!((next.stream.0.slot(), next.stream.0.reused()), (gone.stream.0.slot(), 1));
    all_refuse(&engine, next, gone, "of what is gone, in the slots of others");
    for engine in [engine, twin] {
        assert_eq!(engine.report().findings, [""; 0]);
    }
}

#[test]
fn a_handle_is_not_named_again_when_the_generations_of_its_slot_are_used_up() {
    let engine = Engine::new(Options::quick());
    let event = engine.event_create().unwrap();
    let last = EventId(lock(&engine.shared().events).age(event.0, 0).unwrap());
    engine.event_destroy(last).unwrap();
    for _ in 0..3 {
        let next = engine.event_create().unwrap();
        assert!(next.0.slot() != event.0.slot());
        assert_eq!(engine.event_query(event), Err(Code::INVALID_HANDLE));
        assert_eq!(engine.event_query(last), Err(Code::INVALID_HANDLE));
        engine.event_destroy(next).unwrap();
    }
}

#[test]
fn the_table_of_calls_has_every_public_method_that_takes_a_handle() {
    let sources = [
        include_str!("../calls_memory.rs"),
        include_str!("../calls_pointer.rs"),
        include_str!("../calls_stream.rs"),
        include_str!("../driver.rs"),
        include_str!("../oracle.rs"),
        include_str!("../pinned.rs"),
        include_str!("../report.rs"),
        include_str!("../sabotage.rs"),
        include_str!("../task.rs"),
    ];
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
    let tried: BTreeSet<&str> = CALLS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, tried);
    assert_eq!(found.len(), CALLS.len());
    assert!(CALLS.iter().map(|(_, attempts)| attempts.len()).sum::<usize>() > CALLS.len());
}
