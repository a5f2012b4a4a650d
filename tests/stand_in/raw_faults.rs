//! The log, and calls that fail on request.

use super::{INVALID_HANDLE, INVALID_VALUE, OK, OUT_OF_MEMORY, Raw, made};
use tidelock_test_support::stand_in::Fault;

#[test]
fn calls_are_logged_in_order() {
    let raw = Raw::new();
    let (log, stream) = raw.control.calls_of(|| {
        let stream = raw.stream();
        let memory = raw.alloc(8, stream);
        raw.free(memory, stream);
        stream
    });
    assert_eq!(log, ["cuStreamCreate", "cuMemAllocAsync", "cuMemFreeAsync"]);
    let (log, ()) = raw.control.calls_of(|| raw.destroy(stream));
    assert_eq!(log, ["cuStreamDestroy_v2"]);
    assert_eq!(raw.control.calls_of(|| ()).0, [""; 0]);
    raw.end();
}

#[test]
fn the_nth_call_fails_and_does_nothing() {
    let raw = Raw::new();
    let stream = raw.stream();
    raw.fail("cuMemAllocAsync", 2, OUT_OF_MEMORY);
    let first = raw.alloc(8, stream);
    raw.synchronize(stream);
    let mut out = 0;
    // SAFETY: the place is valid for a write.
    assert_eq!(unsafe { (raw.api.cuMemAllocAsync)(&mut out, 8, stream) }, OUT_OF_MEMORY);
    assert_eq!(out, 0);
    let third = raw.alloc(8, stream);
    assert_eq!(raw.control.disarm(), 3);
    raw.fail("", 2, INVALID_VALUE);
    raw.synchronize(stream);
    // SAFETY: the free fails, and is made again.
    assert_eq!(unsafe { (raw.api.cuMemFreeAsync)(first, stream) }, INVALID_VALUE);
    raw.free(first, stream);
    raw.free(third, stream);
    raw.control.fail(Fault { name: "cuStreamQuery", nth: 2, onwards: true, releases: false, code: 719 });
    // SAFETY: the stream is alive.
    let answers = [(); 4].map(|()| unsafe { (raw.api.cuStreamQuery)(stream) });
    assert_eq!(answers[1..], [719; 3]);
    raw.control.disarm();
    raw.destroy(stream);
    raw.end();
}

#[test]
fn a_release_that_fails_keeps_or_releases() {
    let raw = Raw::new();
    let stream = raw.stream();
    for releases in [false, true] {
        let (memory, event) = (raw.alloc(8, stream), raw.event());
        raw.control.fail(Fault { name: "", nth: 1, onwards: true, releases, code: 999 });
        // SAFETY: they are not used after this.
        let answers = unsafe { [(raw.api.cuMemFreeAsync)(memory, stream), (raw.api.cuEventDestroy_v2)(event)] };
        assert_eq!(answers, [999; 2]);
        raw.control.disarm();
        let report = raw.control.report();
        let left = usize::from(!releases);
        assert_eq!((report.live("allocation"), report.live("event")), (left, left));
        // SAFETY: what was destroyed is refused.
        let again = unsafe { [(raw.api.cuMemFreeAsync)(memory, stream), (raw.api.cuEventDestroy_v2)(event)] };
        assert_eq!(again, if releases { [INVALID_VALUE, INVALID_HANDLE] } else { [OK; 2] });
    }
    assert_eq!(raw.control.report().findings.len(), 2);
    raw.control.reset();
    raw.end();
}

#[test]
fn leaks_are_counted() {
    let raw = Raw::new();
    let (stream, _event) = (raw.stream(), raw.event());
    raw.alloc(100, stream);
    let _plain: usize = made!(|out| (raw.api.cuMemAlloc_v2)(out, 28));
    let graph = made!(|out| (raw.api.cuGraphCreate)(out, 0));
    let _executables: [usize; 3] = [(); 3].map(|()| made!(|out| (raw.api.cuGraphInstantiateWithFlags)(out, graph, 0)));
    let report = raw.control.report();
    let kinds = ["stream", "event", "allocation", "bytes", "pool", "graph", "executable"];
    assert_eq!(kinds.map(|kind| report.live(kind)), [1, 1, 2, 128, 0, 1, 3]);
    assert_eq!(report.left(), 8);
    raw.control.reset();
    raw.end();
}
