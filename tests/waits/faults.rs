//! Driver calls that fail while threads wait, await and are notified: every wait ends, with the
//! memory or with an error, and nothing races.

use super::*;
use tidelock::{Device as _, Error, location::Pinned, sim::Call};

/// What a program got.
#[derive(Default)]
struct Got {
    /// Buffers that came back.
    values: usize,
    errors: usize,
}

impl Got {
    fn add(&mut self, answer: Result<Buffer<u32, Pinned<SimBackend>>>) {
        match answer {
            Ok(values) => {
                assert_eq!(values[..], [7; 100]);
                self.values += 1;
            }
            Err(_) => self.errors += 1,
        }
    }
}

/// Pending memory whose calls may fail.
fn written<'s>(ctx: &Ctx<'_, Sim<'s>>) -> Result<Pending<u32, Sim<'s>>> {
    let mut out = ctx.init_zeros(ctx.alloc_pinned::<u32>(100)?.stage(ctx))?;
    ctx.launch((out.view_mut(),), |(out,)| out.fill(7))?;
    Ok(ctx.fence(out)?)
}

/// Waits in every way, while calls fail once `arm` was called.
fn waits(device: &Device, arm: impl FnOnce()) -> Got {
    let mut got = Got::default();
    // The end of a stream on a broken device is an error.
    let _ = device.stream(|stream, _env| {
        let ctx = stream.ctx();
        let gate = Gate::close(&ctx);
        let before = written(&ctx).unwrap();
        let (waited, awaited, dropped) = (written(&ctx).unwrap(), written(&ctx).unwrap(), written(&ctx).unwrap());
        let mut polled = written(&ctx).unwrap().detach();
        let _ = poll(&mut polled, Waker::noop());
        arm();
        let (tell, told) = mpsc::channel();
        let is_accepted = ctx.notify(move |answer| tell.send(answer).unwrap()).is_ok();
        let (waited, awaited) = (waited.detach(), awaited.detach());
        drop(dropped.detach());
        let later = written(&ctx).map(Pending::detach);
        let threads = [
            thread::spawn(|| Ok(waited.wait()?)),
            thread::spawn(|| Ok(block_on(awaited)?)),
            thread::spawn(|| Ok(block_on(later?)?)),
        ];
        drop(polled);
        gate.open_later();
        got.add(block_on(before).map_err(Error::from));
        for thread in threads {
            got.add(thread.join().unwrap());
        }
        if is_accepted {
            // An answer of either kind, and only one.
            let _ = told.recv_timeout(SOON).unwrap();
            assert!(told.recv().is_err());
        }
    });
    device.gpu().disarm();
    until("nothing is left", || device.deferred_bytes() == 0);
    assert_eq!(device.gpu().report().findings, [""; 0]);
    device.gpu().check().unwrap();
    got
}

#[test]
fn without_a_failure_all_arrives() {
    let got = waits(&watched(), || ());
    assert_eq!((got.values, got.errors), (4, 0));
}

#[test]
fn each_wait_ends_whichever_call_fails() {
    let calls = [None, Some(Call::EventQuery), Some(Call::EventRecord), Some(Call::EventSynchronize)];
    let codes = [Code::OUT_OF_MEMORY, Code::NOT_SUPPORTED, Code::UNKNOWN, Code::ILLEGAL_ADDRESS];
    let mut ends = Got::default();
    for nth in 1..=6 {
        for (call, code) in calls.iter().flat_map(|call| codes.map(|code| (*call, code))) {
            for onwards in [false, true] {
                let device = watched();
                let got = waits(&device, || device.gpu().fail(sim::Fault { nth, onwards, call, code }));
                assert_eq!(got.values + got.errors, 4, "{nth} {call:?} {code:?} {onwards}");
                ends.values += got.values;
                ends.errors += got.errors;
            }
        }
    }
    // Both kinds of ends were seen.
    assert!(ends.values > 100 && ends.errors > 100, "{} {}", ends.values, ends.errors);
}

/// The functions of this sweep that `fail_nth/coverage.rs` lists.
#[test]
fn looking_fails_and_changes_nothing() {
    let device = watched();
    let arrival = device.stream(|stream, _env| fenced(&stream.ctx(), &[1]).detach()).unwrap();
    for code in [Code::OUT_OF_MEMORY, Code::UNKNOWN] {
        device.gpu().fail(sim::Fault { nth: 1, onwards: false, call: None, code });
        assert!(matches!(arrival.is_ready(), Err(Error::Driver(_))));
        assert_eq!(arrival.is_ready(), Ok(true));
    }
    assert_eq!(arrival.wait().unwrap()[..], [1]);
    assert_clean(&device);
}
