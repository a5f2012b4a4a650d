//! Existing host memory, page-locked for a scope.

use tidelock::{
    Error,
    driver::Code,
    sim::{self, Call, Fault},
};

use super::{assert_clean, get, pinned, put, quick, ramp, slow};

/// Memory with `len` elements in pages of its own, and the index of the first of them. Other tests
/// of the process lock their own pages.
fn paged(len: usize) -> (Vec<u32>, usize) {
    let memory = ramp(0, len + 3 * 1024);
    let first = memory.as_ptr().align_offset(4096);
    (memory, first)
}

#[test]
fn registered_slices_are_copied_and_unlocked_behind_the_wait() {
    let device = slow();
    let ((weights, first), (mut back, to)) = (paged(40_000), paged(5001));
    let back = &mut back[to..to + 5001];
    device
        .stream(|mut stream, _env| {
            for offset in [0, 1, 777] {
                device.gpu().log(true);
                let _ = device.gpu().take_log();
                stream
                    .host_scope(|scope| {
                        let ctx = scope.ctx().with_pool();
                        // Neither end is at a page boundary.
                        let locked = scope.register(&weights[first + offset..first + offset + 20_001])?;
                        let target = scope.register_mut(&mut *back)?;
                        assert_eq!(device.gpu().report().registered, 2);
                        let mut x = ctx.zeros::<u32>(5001)?;
                        ctx.copy(locked.slice(15_000..)?, x.view_mut())?;
                        ctx.copy(x.view(), target)
                    })
                    .unwrap()
                    .unwrap();
                device.gpu().log(false);
                let log = device.gpu().take_log();
                let end = [Call::StreamSynchronize, Call::MemHostUnregister, Call::MemHostUnregister];
                assert_eq!(log[log.len() - 3..], end, "unlocked behind the wait");
                assert_eq!(device.gpu().report().registered, 0);
                assert_eq!(*back, ramp((first + 15_000 + offset) as u32, 5001));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn registered_slices_are_unlocked_when_the_scope_panics() {
    let device = quick();
    let (memory, first) = paged(5000);
    let weights = &memory[first..first + 5000];
    device
        .stream(|mut stream, _env| {
            super::panics_with("in the scope", || {
                stream.host_scope(|scope| {
                    let ctx = scope.ctx().with_pool();
                    let mut x = ctx.zeros::<u32>(5000).unwrap();
                    ctx.copy(scope.register(weights).unwrap(), x.view_mut()).unwrap();
                    std::panic::panic_any("in the scope");
                })
            });
            assert_eq!(device.gpu().report().registered, 0);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn what_cannot_be_registered_is_an_error_and_changes_nothing() {
    let device = quick();
    let (memory, first) = paged(8 * 1024);
    let mine = pinned(&ramp(0, 2048));
    device
        .stream(|mut stream, _env| {
            let x = put(&stream.ctx(), &ramp(9, 100));
            let refused = |answer: Option<Error>, code: Code| {
                let error = answer.unwrap();
                assert!(matches!(error, Error::Driver(why) if why.code == code), "{error}");
            };
            stream
                .host_scope(|scope| {
                    // An empty slice is not registered.
                    let calls = device.gpu().counts();
                    assert!(scope.register::<u32>(&[]).unwrap().is_empty());
                    assert_eq!((device.gpu().counts() - calls).total(), 0);
                    // The same slice twice, and two slices that share a page without overlapping.
                    scope.register(&memory[first..first + 1000]).unwrap();
                    refused(scope.register(&memory[first..first + 1000]).err(), Code::HOST_MEMORY_ALREADY_REGISTERED);
                    refused(
                        scope.register(&memory[first + 1010..first + 3000]).err(),
                        Code::HOST_MEMORY_ALREADY_REGISTERED,
                    );
                    // The next page belongs to another slice.
                    scope.register(&memory[first + 1024..first + 1030]).unwrap();
                    // Pinned memory is page-locked already.
                    refused(scope.register(&mine[..]).err(), Code::HOST_MEMORY_ALREADY_REGISTERED);
                    let fault =
                        Fault { nth: 1, onwards: false, call: Some(Call::MemHostRegister), code: Code::OUT_OF_MEMORY };
                    device.gpu().fail(fault);
                    refused(scope.register(&memory[first + 4096..first + 8192]).err(), Code::OUT_OF_MEMORY);
                    device.gpu().disarm();
                    assert_eq!(device.gpu().report().registered, 2);
                })
                .unwrap();
            assert_eq!(device.gpu().report().registered, 0);
            assert_eq!(get(&mut stream, x.view()), ramp(9, 100));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn memory_that_cannot_be_unlocked_is_reported() {
    let device = sim::Device::new(sim::Options::quick());
    let (memory, first) = paged(5000);
    let weights = &memory[first..first + 5000];
    device
        .stream(|mut stream, _env| {
            let fail = |onwards| {
                let call = Some(Call::MemHostUnregister);
                device.gpu().fail(Fault { nth: 1, onwards, call, code: Code::UNKNOWN });
            };
            // An unlock that fails once is tried again.
            fail(false);
            stream.host_scope(|scope| assert_eq!(scope.register(weights).unwrap().len(), 5000)).unwrap();
            fail(true);
            let error = stream.host_scope(|scope| assert!(scope.register(weights).is_ok())).unwrap_err();
            assert!(matches!(error, Error::Driver(why) if why.call == Call::MemHostUnregister.name()), "{error}");
            device.gpu().disarm();
            // The stream is usable, and the memory is still locked.
            stream.host_scope(|scope| scope.register(weights).map(drop).unwrap_err()).unwrap();
            assert_eq!(device.gpu().report().registered, 1);
        })
        .unwrap();
}
