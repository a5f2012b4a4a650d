//! Attacks on memory with several owners.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    sim::{self, Call, SimBackend},
    stream::{Detached, Shared},
};
use tidelock_test_support::{checked::Checked, memory::get};

use super::{Gate, within};

/// A device with the race detector on, whose operations run as soon as they can.
fn checked() -> Checked {
    Checked::with(sim::Options::quick())
}

/// Owners of other memory, of a part, or beside others come back, and the last one writes.
#[test]
fn what_is_refused_comes_back_and_the_last_owner_writes() {
    within(Duration::from_secs(10), || {
        let device = checked();
        device
            .stream(|a, _| {
                device.stream(|b, _| {
                    let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let mut x = a.upload_new(&[1_u32, 2, 3, 4]).unwrap().share();
                    for (from, to) in [(0, 5), (3, 2), (5, 5), (usize::MAX, usize::MAX), (0, usize::MAX)] {
                        x.slice(from..to).unwrap_err();
                    }
                    assert!(x.slice(4..).unwrap().is_empty());
                    let other = a.zeros::<u32>(4).unwrap().share();
                    let other = x.join(other).unwrap_err();
                    assert_eq!(get(&a, other.view()), [0; 4]);

                    let part = x.slice(1..3).unwrap();
                    assert!(x.get_mut().is_none());
                    let mut x = x.try_unwrap().unwrap_err();
                    let theirs = b.init_from(b.alloc(2).unwrap(), a.transfer(part, &b).unwrap().view()).unwrap();
                    assert_eq!(get(&b, theirs.view()), [2, 3]);
                    let gate = Gate::close(&b);
                    drop(a.transfer(x.clone(), &b).unwrap());
                    assert!(x.get_mut().is_none(), "an owner that was dropped on a busy stream");
                    drop(gate);
                    assert_eq!(get(&b, theirs.view()), [2, 3]);
                    a.clear(x.get_mut().expect("the stream was seen to have passed")).unwrap();

                    let mut part = x.slice(2..).unwrap();
                    drop(x);
                    assert_eq!(part.get_mut().expect("the only owner").len(), 2);
                    let part = part.try_unwrap().unwrap_err();
                    assert_eq!(get(&a, part.view()), [0; 2]);
                    drop(part);
                    other.try_unwrap().expect("the only owner, of all elements");
                })
            })
            .unwrap()
            .unwrap();
        assert_eq!(device.gpu().report().allocations, 0);
    });
}

/// The host reads pinned memory beside a stream, and writes it once the stream has passed.
#[test]
fn pinned_memory_is_read_by_host_and_stream_together() {
    within(Duration::from_secs(10), || {
        let device = checked();
        device
            .stream(|a, _| {
                let a = a.ctx().with_pool();
                let mut x = a.alloc_pinned::<u32>(4).unwrap().write_with(|at| at as u32).share();
                let gate = Gate::close(&a);
                let copy = a.init_from(a.alloc(4).unwrap(), x.clone().stage(&a).view()).unwrap();
                assert_eq!(x.view().as_slice(), [0, 1, 2, 3]);
                assert!(x.get_mut().is_none(), "the stream is still to read");
                drop(gate);
                assert_eq!(get(&a, copy.view()), [0, 1, 2, 3]);
                x.get_mut().expect("the stream has read").into_slice().fill(7);
                assert_eq!(x.view().as_slice(), [7; 4]);
            })
            .unwrap();
    });
}

/// The owner that joins was used on another stream than the one that stays: both of them are
/// detached, so that their types are equal.
#[test]
fn a_detached_owner_that_joins_keeps_the_uses_of_its_own_stream() {
    within(Duration::from_secs(10), || {
        let device = checked();
        device
            .stream(|a, _| {
                device.stream(|b, _| {
                    let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let x = a.upload_new(&[7_u32; 64]).unwrap().share();
                    let theirs = a.transfer(x.clone(), &b).unwrap();
                    let gate = Gate::close(&b);
                    let copy = b.init_from(b.alloc(64).unwrap(), theirs.view()).unwrap();
                    let theirs: Shared<u32, Detached<SimBackend>> = b.detach(theirs).unwrap();
                    let mut x = a.detach(x).unwrap();
                    x.join(theirs).expect("owners of one memory");
                    let mut x = a.attach(x).unwrap();
                    if let Some(all) = x.get_mut() {
                        a.clear(all).unwrap();
                        println!("wrote beside a reader");
                    }
                    assert_eq!(get(&a, x.view()), get(&a, x.view()));
                    drop(gate);
                    assert_eq!(get(&b, copy.view()), [7; 64]);
                })
            })
            .unwrap()
            .unwrap();
    });
}

/// As above, where the last owner is dropped: the memory is freed behind all uses.
#[test]
fn memory_whose_detached_owners_joined_is_freed_behind_both() {
    within(Duration::from_secs(10), || {
        let device = checked();
        device
            .stream(|a, _| {
                device.stream(|b, _| {
                    let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let x = a.upload_new(&[7_u32; 64]).unwrap().share();
                    let theirs = a.transfer(x.clone(), &b).unwrap();
                    let gate = Gate::close(&b);
                    let copy = b.init_from(b.alloc(64).unwrap(), theirs.view()).unwrap();
                    let mut x = a.detach(x).unwrap();
                    x.join(b.detach(theirs).unwrap()).expect("owners of one memory");
                    drop(x);
                    let again = a.upload_new(&[9_u32; 64]).unwrap();
                    assert_eq!(get(&a, again.view()), [9; 64]);
                    drop(gate);
                    assert_eq!(get(&b, copy.view()), [7; 64]);
                })
            })
            .unwrap()
            .unwrap();
    });
}

/// Dropping an owner never waits, however many are dropped: the gate opens only behind the drops.
#[test]
fn dropping_many_owners_behind_a_busy_stream_does_not_wait() {
    within(Duration::from_secs(10), || {
        let device = checked();
        device
            .stream(|a, _| {
                let a = a.ctx().with_pool();
                let x = a.upload_new(&[7_u32; 64]).unwrap().share();
                let gate = Gate::close(&a);
                let before = device.gpu().counts();
                for _ in 0..1000 {
                    drop(x.clone());
                }
                let made = device.gpu().counts() - before;
                assert_eq!(made.of(Call::StreamSynchronize), 0);
                drop(gate);
            })
            .unwrap();
    });
}

/// An owner that notes its end.
struct Noted(Arc<AtomicUsize>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The last owner is detached, and dropped before the device has come to its record. What owns the
/// foreign memory is dropped once it has.
#[test]
fn the_owner_of_foreign_memory_is_dropped_behind_a_detached_use() {
    let ended = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&ended);
    within(Duration::from_secs(10), move || {
        let device = checked();
        device
            .stream(|mut stream, _| {
                let a = stream.ctx().with_pool();
                let mut x = a.upload_new(&[7_u32; 64]).unwrap();
                let ptr = NonNull::new(x.view_mut().as_mut_ptr()).unwrap();
                // SAFETY:
                // - `x` lives until the stream has been waited for below, and is not used.
                let shared = unsafe { Shared::from_raw(&a, ptr, 64, Noted(noted)) };
                let gate = Gate::close(&a);
                let copy = a.init_from(a.alloc(64).unwrap(), shared.view()).unwrap();
                drop(a.detach(shared).unwrap());
                drop(gate);
                drop(copy);
                stream.synchronize().unwrap();
                drop(x);
            })
            .unwrap();
        assert_eq!(device.gpu().report().sticky, None);
    });
    // The thread of the library that watches drops it.
    let start = Instant::now();
    while ended.load(Ordering::SeqCst) == 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "the owner is leaked");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

/// A panic in the drop of what owns foreign memory is ignored, also if there are no bytes.
#[test]
fn a_panic_in_the_drop_of_an_owner_of_no_bytes_is_ignored() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("an owner's drop");
        }
    }
    let device = checked();
    device
        .stream(|stream, _| {
            for len in [0, 4] {
                let a = stream.ctx().with_pool();
                let mut x = a.upload_new(&[7_u32; 4]).unwrap();
                let ptr = NonNull::new(x.view_mut().as_mut_ptr()).unwrap();
                let made = catch_unwind(AssertUnwindSafe(|| {
                    // SAFETY:
                    // - `x` is not used, and its memory is freed in stream order.
                    drop(unsafe { Shared::from_raw(&a, ptr, len, Panics) });
                }));
                assert!(made.is_ok(), "{len}");
            }
        })
        .unwrap();
}
