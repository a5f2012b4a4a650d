//! Copies of tensors in lent memory: what goes through device memory, and what does not.

use tidelock::{
    Error, Layout, Result, Stream,
    driver::Code,
    layout::REST,
    sim::{self, Call, Counts, Fault, Sim},
};

fn on(options: sim::Options, f: impl for<'s> FnOnce(&sim::Device, &mut Stream<Sim<'s>>) -> Result<()>) {
    let device = sim::Device::new(options.race_detector(true));
    device.stream(|mut stream, _env| f(&device, &mut stream)).unwrap().unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

fn values(len: usize) -> Vec<u32> {
    (1..).take(len).collect()
}

/// The calls that `f` makes of those that copies need.
fn calls(device: &sim::Device, f: impl FnOnce() -> Result<()>) -> Result<[u64; 4]> {
    let of = |counts: Counts| {
        [Call::MemAllocFromPoolAsync, Call::MemcpyAsync, Call::MemcpyBatchAsync, Call::MemFreeAsync]
            .map(|call| counts.of(call))
    };
    let before = of(device.gpu().counts());
    f()?;
    let after = of(device.gpu().counts());
    Ok([0, 1, 2, 3].map(|i| after[i] - before[i]))
}

#[test]
fn runs_share_their_calls() {
    on(sim::Options::quick(), |device, stream| {
        let (up, mut down) = (values(64 * 32), values(64 * 32));
        let before = down.clone();
        let (turned, columns) = (Layout::strided([64, 32], [1, 64])?, Layout::strided([64, 8], [32, 1])?);
        let (mut x, mut y) =
            (stream.ctx().with_pool().zeros::<u32>(64 * 32)?, stream.ctx().with_pool().zeros::<u32>(512)?);
        stream.host_scope(|scope| -> Result<()> {
            let ctx = scope.ctx();
            let lent = scope.source(&up);
            // A turned matrix goes up: an allocation, a copy, a batch, a free.
            let counts = calls(device, || ctx.copy_tensor(lent.strided(turned)?, x.view_mut().tensor([64, REST])?))?;
            assert_eq!(counts, [1, 1, 1, 1]);
            // A quarter of the columns goes up, with what lies beside them.
            let counts = calls(device, || ctx.copy_tensor(lent.strided(columns)?, y.view_mut().tensor([64, REST])?))?;
            assert_eq!(counts, [1, 1, 1, 1]);
            // Columns, turned, come down to columns: a copy for each run of the destination.
            let target = scope.target(&mut down).strided(columns)?;
            let counts =
                calls(device, || ctx.copy_tensor(y.view().strided(Layout::strided([64, 8], [1, 64])?)?, target))?;
            assert_eq!(counts, [1, 64, 1, 1]);
            Ok(())
        })??;
        let x = stream.read(x.view())?;
        assert!(x.iter().enumerate().all(|(at, x)| *x == up[at / 32 + 64 * (at % 32)]));
        let y = stream.read(y.view())?;
        assert!(y.iter().enumerate().all(|(at, y)| *y == up[at / 8 * 32 + at % 8]));
        for (at, value) in down.iter().enumerate() {
            let (i, j) = (at / 32, at % 32);
            assert_eq!(*value, if j < 8 { y[i + 64 * j] } else { before[at] }, "{i} {j}");
        }
        Ok(())
    });
}

#[test]
fn few_runs_and_long_gaps_are_copied_one_by_one() {
    on(sim::Options::quick(), |device, stream| {
        let up = values(32 << 15);
        let mut x = stream.ctx().with_pool().zeros::<u32>(32)?;
        stream.host_scope(|scope| -> Result<()> {
            let (ctx, lent) = (scope.ctx(), scope.source(&up));
            // The gaps are 128 KiB long.
            let far = lent.strided(Layout::strided([32], [1 << 15])?)?;
            assert_eq!(calls(device, || ctx.copy_tensor(far, x.view_mut().tensor([32])?))?, [0, 32, 0, 0]);
            let few = lent.strided(Layout::strided([4, 8], [16, 1])?)?;
            assert_eq!(calls(device, || ctx.copy_tensor(few, x.view_mut().tensor([4, 8])?))?, [0, 4, 0, 0]);
            let one = lent.slice(..32)?.tensor([4, 8])?;
            assert_eq!(calls(device, || ctx.copy_tensor(one, x.view_mut().tensor([4, 8])?))?, [0, 1, 0, 0]);
            let none = lent.slice(..0)?.tensor([4, 0])?;
            assert_eq!(calls(device, || ctx.copy_tensor(none, x.view_mut().slice(..0)?.tensor([4, 0])?))?, [0; 4]);
            Ok(())
        })??;
        assert_eq!(stream.read(x.view())?, values(32));
        Ok(())
    });
}

/// Both operands are lent, and the source names its elements many times.
#[test]
fn broadcasts_and_loans_at_both_sides() {
    on(sim::Options::quick(), |device, stream| {
        let (up, mut down) = (values(16), vec![0; 16 * 16]);
        stream.host_scope(|scope| -> Result<()> {
            let source = scope.source(&up).strided(Layout::strided([16, 16], [0, 1])?)?;
            let target = scope.target(&mut down).strided(Layout::strided([16, 16], [1, 16])?)?;
            let ctx = scope.ctx();
            assert_eq!(calls(device, || ctx.copy_tensor(source, target))?, [2, 2, 1, 2]);
            Ok(())
        })??;
        assert!(down.iter().enumerate().all(|(at, value)| *value == up[at / 16]));
        Ok(())
    });
}

#[test]
fn without_memory_the_runs_are_copied() {
    on(sim::Options::quick().memory_limit(64 << 10), |_, stream| {
        let up = values(8 << 10);
        let mut x = stream.ctx().with_pool().zeros::<u32>(8 << 10)?;
        let _rest = stream.ctx().with_pool().zeros::<u32>(6 << 10)?;
        stream.host_scope(|scope| {
            let turned = scope.source(&up).tensor([64, 128])?.transpose(0, 1)?;
            scope.ctx().copy_tensor(turned, x.view_mut().tensor([128, 64])?)
        })??;
        let x = stream.read(x.view())?;
        assert!(x.iter().enumerate().all(|(at, x)| *x == up[at / 64 + at % 64 * 128]));
        Ok(())
    });
}

/// Each call fails once: the copy says so, or is carried out; the lent memory comes back, and nothing
/// is left.
#[test]
fn each_call_fails_once() {
    for call in [Call::MemAllocFromPoolAsync, Call::MemcpyAsync, Call::MemcpyBatchAsync, Call::MemFreeAsync] {
        for nth in 1..4 {
            on(sim::Options::quick(), |device, stream| {
                let (up, mut down) = (values(64), vec![0; 64]);
                let fault = Fault { nth, onwards: false, call: Some(call), code: Code::UNKNOWN };
                let answer = stream.host_scope(|scope| {
                    let source = scope.source(&up).tensor([8, 8])?.transpose(0, 1)?;
                    let target = scope.target(&mut down).tensor([8, 8])?;
                    device.gpu().fail(fault);
                    let answer = scope.ctx().copy_tensor(source, target);
                    device.gpu().disarm();
                    answer
                })?;
                let copied = |(at, value): (usize, &u32)| *value == up[at / 8 + at % 8 * 8];
                match answer {
                    Ok(()) => assert!(down.iter().enumerate().all(copied), "{call:?} {nth}"),
                    Err(Error::Driver(_)) => assert!(down.iter().all(|value| *value == 0), "{call:?} {nth}"),
                    Err(other) => panic!("{other:?}"),
                }
                Ok(())
            });
        }
    }
}
