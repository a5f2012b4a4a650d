//! Large values by value: refused, and never placed on a stack that is too small for them.

use std::thread;

use tidelock::{Element, Error, sim, stream::StreamOptions};

use crate::quick;

/// A value of `N` bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Wide<const N: usize>([u8; N]);

// SAFETY: zeroed bytes are bytes.
unsafe impl<const N: usize> bytemuck::Zeroable for Wide<N> {}
// SAFETY: a transparent array of bytes, without padding.
unsafe impl<const N: usize> bytemuck::NoUninit for Wide<N> {}
impl<const N: usize> Element for Wide<N> {}

/// Runs `f` on a thread with a stack of `bytes`.
fn on_a_stack_of(bytes: usize, f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(bytes).spawn(f).unwrap().join().unwrap();
}

/// Launches with `N` bytes as an argument and with `N` captured bytes, from a thread whose stack
/// has `stack` bytes.
fn launches<const N: usize>(stack: usize) -> [Result<u64, Error>; 2] {
    let (device, sum) = (quick(), |bytes: [u8; N]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>());
    let (sender, answers) = std::sync::mpsc::channel();
    on_a_stack_of(stack, move || {
        device
            .stream_with(&StreamOptions::default().ring_bytes(1024), |mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut out = ctx.zeros::<u64>(2).unwrap();
                let (mut one, mut other) = out.view_mut().split_at(1).unwrap();
                let by_value = ctx.launch((one.reborrow(), Wide([1; N])), move |(out, value)| out[0] = sum(value.0));
                let bytes = [2; N];
                let captured = ctx.launch((other.reborrow(),), move |(out,)| out[0] = sum(bytes));
                let host = ctx.init_from(ctx.alloc_pinned(2).unwrap().stage(&ctx), out.view()).unwrap();
                let host = host.reclaim(&stream.synchronize().unwrap());
                sender.send([by_value.map(|()| host[0]), captured.map(|()| host[1])]).unwrap();
            })
            .unwrap();
    });
    answers.recv().unwrap()
}

#[test]
fn values_beyond_the_limit_of_a_launch_are_refused_on_small_stacks() {
    // The view takes 16 bytes.
    assert_eq!(launches::<4080>(72 << 10), [Ok(4080), Ok(8160)]);
    let refused = |operand, bytes| Err(Error::ByValue { operand, bytes, most: 4096 });
    // A launch with 4 KiB more stack than it needs, and one with half of that.
    assert_eq!(launches::<8192>(64 << 10), [refused("args", 8208), refused("kernel", 8208)]);
    assert_eq!(launches::<{ 64 << 10 }>(512 << 10), [refused("args", 65552), refused("kernel", 65552)]);
    let words = refused("args", 8208).unwrap_err().to_string();
    assert_eq!(words, "`args` has 8208 bytes by value, and a launch takes at most 4096: pass a view, or a `Box`");
}

#[test]
fn elements_of_4_mib_are_used_from_a_thread_with_a_stack_of_64_kib() {
    const BYTES: usize = 4 << 20;
    on_a_stack_of(64 << 10, || {
        quick()
            .stream(|mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut x = ctx.zeros::<Wide<BYTES>>(2)?;
                let mut y = ctx.zeros::<Wide<BYTES>>(2)?;
                ctx.launch((x.view_mut(),), |(x,)| x[1].0.fill(7))?;
                ctx.copy(x.view(), y.view_mut())?;
                ctx.clear(x.view_mut())?;
                let out = ctx.init_from(ctx.alloc_pinned::<Wide<BYTES>>(2)?.stage(&ctx), y.view())?;
                let out = out.reclaim(&stream.synchronize()?);
                assert!(out[0].0.iter().all(|byte| *byte == 0) && out[1].0.iter().all(|byte| *byte == 7));
                Ok::<_, Error>(())
            })
            .unwrap()
            .unwrap();
    });
}

#[test]
fn a_task_that_captures_too_much_is_refused_by_the_launch_and_dropped() {
    let gpu = sim::Gpu::new(sim::Options::quick());
    let stream = gpu.stream_create(0).unwrap();
    let alive = std::sync::Arc::new(());
    let with = |bytes: &std::sync::Arc<()>| {
        let (bytes, large) = (bytes.clone(), [1_u8; 4096]);
        sim::gpu::Task::new(move |_| {
            drop((bytes, large));
            Ok(())
        })
    };
    assert_eq!(gpu.launch(stream, with(&alive)), Err(tidelock::driver::Code::INVALID_VALUE));
    assert_eq!(std::sync::Arc::strong_count(&alive), 1);
    gpu.stream_synchronize(stream).unwrap();
    assert!(gpu.report().findings.is_empty());
}
