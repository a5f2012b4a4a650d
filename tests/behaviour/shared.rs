//! Attacks on memory with several owners.

use std::time::Duration;

use tidelock::{
    Buffer,
    sim::{self, SimBackend},
    stream::{Detached, Shared},
};
use tidelock_test_support::{checked::Checked, memory::get};

use super::{Gate, within};

/// A device with the race detector on, whose operations run as soon as they can.
fn checked() -> Checked {
    Checked::with(sim::Options::quick())
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

#[allow(dead_code)]
type Owned = Buffer<u32, Detached<SimBackend>>;
