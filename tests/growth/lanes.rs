//! Lanes: many visits, on one thread and on threads in turn, and lanes that come and go.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use tidelock::{
    Buffer, Result, Stream,
    driver::Pool,
    stream::{Detached, Lane, StreamOptions},
};

use super::{
    crossings::small,
    operations::{self, Operation},
    watch::{Place, Watch},
};

/// The public functions called here.
pub const COVERED: &[&str] = &[
    "Device::lane",
    "Device::lane_with",
    "Lane::drop",
    "Lane::enter",
    "cuda::Device::lane",
    "cuda::Device::lane_with",
    "sim::Device::lane",
    "sim::Device::lane_with",
];

/// Opens a lane. The typed functions are called where the type of the device is known.
pub fn lane<P: Place>(device: &P, options: &StreamOptions) -> Result<Lane<P::Family>> {
    device.lane_with(options)
}

type Memory<P> = Buffer<u32, Detached<<P as Place>::Family>>;

/// A visit that ends with work in flight, and with frees that the device is still to reach.
fn step<P: Place>(lane: &mut Lane<P::Family>, memory: Memory<P>) -> Result<Memory<P>> {
    P::enter(lane, |stream| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.attach(memory)?;
        ctx.upload(&[1; 100], x.view_mut())?;
        drop(ctx.init_from(ctx.alloc_pinned(100)?.stage(&ctx), x.view())?);
        drop(ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(10)?);
        Ok(ctx.detach(x)?)
    })?
}

fn zeros<P: Place>(lane: &mut Lane<P::Family>) -> Result<Memory<P>> {
    P::enter(lane, |stream| Ok(stream.ctx().detach(stream.ctx().with_pool().zeros(100)?)?))?
}

fn free<P: Place>(lane: &mut Lane<P::Family>, memory: Memory<P>) -> Result<()> {
    P::enter(lane, |mut stream| {
        drop(stream.ctx().attach(memory)?);
        stream.synchronize().map(drop)
    })?
}

/// Runs all loops of lanes on `device`.
pub fn lanes<P: Place>(watch: &Watch<'_>, device: &P, all: &[Operation<P>], turns: usize) {
    let mut own = lane(device, &small()).unwrap();
    let visit = |lane: &mut Lane<P::Family>, run: &mut dyn FnMut(&mut Stream<P::At<'_>>) -> Result<()>| {
        P::enter(lane, |mut stream| run(&mut stream)).unwrap()
    };
    let mut at = 0;
    watch.steady_rounds("each operation in a visit of its own", all.len(), || {
        at += 1;
        visit(&mut own, &mut |stream| (all[at % all.len()].run)(stream, device))?;
        visit(&mut own, &mut |stream| stream.synchronize().map(drop))
    });
    watch.steady("visits that end with work in flight", turns, || {
        let mut memory = zeros::<P>(&mut own)?;
        for _ in 0..3 {
            memory = step::<P>(&mut own, memory)?;
        }
        free::<P>(&mut own, memory)
    });
    watch.steady("a lane that threads enter in turn", turns / 4, || {
        let mut memory = zeros::<P>(&mut own)?;
        for _ in 0..2 {
            let own = &mut own;
            memory = thread::scope(|threads| threads.spawn(move || step::<P>(own, memory)).join().unwrap())?;
        }
        free::<P>(&mut own, memory)
    });
    let mut other = lane(device, &small().pool(Pool::Default)).unwrap();
    watch.steady("memory that goes from lane to lane", turns, || {
        let memory = zeros::<P>(&mut own)?;
        let memory = step::<P>(&mut other, memory)?;
        free::<P>(&mut own, memory)?;
        visit(&mut other, &mut |stream| stream.synchronize().map(drop))
    });
    watch.steady("visits that panic", turns, || {
        let panics = || P::enter(&mut own, |_| resume_unwind(Box::new("on purpose")));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        Ok(())
    });
    drop((own, other));
    watch.steady("lanes that come and go", turns / 4, || {
        let mut lane = lane(device, &small())?;
        let memory = zeros::<P>(&mut lane)?;
        let memory = step::<P>(&mut lane, memory)?;
        free::<P>(&mut lane, memory)?;
        visit(&mut lane, &mut |stream| operations::some(stream, device))
    });
    watch.steady("lanes that end on another thread", turns / 4, || {
        let mut lane = lane(device, &small())?;
        let memory = zeros::<P>(&mut lane)?;
        let memory = step::<P>(&mut lane, memory)?;
        visit(&mut lane, &mut |stream| stream.synchronize().map(drop))?;
        free::<P>(&mut lane, memory)?;
        thread::scope(|threads| threads.spawn(move || drop(lane)).join().unwrap());
        Ok(())
    });
}
