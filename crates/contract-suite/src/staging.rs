//! The uses of pinned memory: staged, fenced, read, reclaimed.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tidelock::{
    Buffer, Device,
    driver::RawDevice,
    stream::{Arriving, On, OnBackend, Pending},
};

use super::{get, noise, put, run, staged};

pub fn a_fence_gives_back_what_was_enqueued_before<D: Device>(device: &D) {
    let values = noise(5, 100_000);
    run(device, |mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let x = put(&ctx, &values);
        let (a, b) = (
            ctx.alloc_pinned::<u32>(100_000).unwrap().stage(&ctx),
            ctx.alloc_pinned::<u32>(100_000).unwrap().stage(&ctx),
        );
        let (a, b) = (ctx.init_from(a, x.view()).unwrap(), ctx.init_zeros(b).unwrap());
        let (a, b) = (ctx.fence(a).unwrap(), ctx.fence(b).unwrap());
        // The stream is usable.
        let y = ctx.init_from(ctx.alloc(100_000).unwrap(), x.view()).unwrap();
        while !b.is_ready().unwrap() {
            std::hint::spin_loop();
        }
        let (a, b) = (a.wait().unwrap(), b.wait().unwrap());
        assert_eq!((&a[..], &b[..]), (&values[..], &[0; 100_000][..]));
        assert_eq!(get(&ctx, y.view()), values);
        // It belongs to the host again, and may be staged once more and be reclaimed.
        let back = ctx.init_from(ctx.alloc(100_000).unwrap(), b.stage(&ctx).view()).unwrap();
        drop(back);
        let a = a.stage(&stream.ctx());
        assert_eq!(a.reclaim(&stream.synchronize().unwrap())[..], values);
    });
}

pub fn many_fences_at_once<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx();
        let pending: Vec<_> = (0..300_u32).map(|i| ctx.fence(staged(&ctx, &[i])).unwrap()).collect();
        // The last one first: an event that was passed reports so also when its stream has gone on.
        for (i, pending) in pending.into_iter().enumerate().rev() {
            assert_eq!(pending.wait().unwrap()[..], [i as u32]);
        }
    });
}

pub fn memory_is_looked_at_in_place<D: Device>(device: &D) {
    run(device, |mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut page =
            ctx.init_from(ctx.alloc_pinned::<u32>(3).unwrap().stage(&ctx), put(&ctx, &[1, 2, 3]).view()).unwrap();
        let synced = stream.synchronize().unwrap();
        assert_eq!(page.peek(&synced), [1, 2, 3]);
        page.peek_mut(&synced)[1] = 20;
        let ctx = stream.ctx();
        let x = ctx.init_from(ctx.with_pool().alloc(3).unwrap(), page.view()).unwrap();
        assert_eq!(get(&ctx, x.view()), [1, 20, 3]);
    });
}

pub fn a_ring_of_pending_buffers<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(64).unwrap();
        let mut pending = VecDeque::new();
        for step in 0..100 {
            // A slot that was handed out again while its upload still ran would have the wrong
            // step.
            let slot = if pending.len() < 4 {
                Buffer::<u32, <On<'_, D::Backend> as OnBackend>::Pinned>::zeros(64).unwrap()
            } else {
                let (slot, seen): (Pending<u32, _>, Pending<u32, _>) = pending.pop_front().unwrap();
                let (slot, seen) = (slot.wait().unwrap(), seen.wait().unwrap());
                assert_eq!(seen[..], [step - 4; 64]);
                slot
            };
            let mut slot = slot;
            slot.fill(step);
            let slot = slot.stage(&ctx);
            ctx.copy(slot.view(), x.view_mut()).unwrap();
            let seen = ctx.init_from(ctx.alloc_pinned::<u32>(64).unwrap().stage(&ctx), x.view()).unwrap();
            pending.push_back((ctx.fence(slot).unwrap(), ctx.fence(seen).unwrap()));
        }
        drop(pending);
        assert_eq!(get(&ctx, x.view()), [99; 64]);
    });
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs `future` on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

pub fn arriving_memory_is_waited_for_elsewhere<D: Device>(device: &D) {
    type Page<D> = (u32, Buffer<u32, Arriving<<D as RawDevice>::Backend>>);
    let (send, pages) = mpsc::channel::<Page<D>>();
    let reader = thread::spawn(move || {
        for (step, page) in pages {
            let page = match step % 4 {
                0 => page.wait().unwrap(),
                1 => block_on(page).unwrap(),
                2 => {
                    while !page.is_ready().unwrap() {
                        thread::yield_now();
                    }
                    page.wait().unwrap()
                }
                // Dropped while the device may still be writing it.
                _ => continue,
            };
            assert_eq!(page[..], noise(step, 10_000));
        }
    });
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        for step in 0..200 {
            let x = put(&ctx, &noise(step, 10_000));
            let page = ctx.init_from(ctx.alloc_pinned::<u32>(10_000).unwrap().stage(&ctx), x.view()).unwrap();
            send.send((step, ctx.fence(page).unwrap().detach())).unwrap();
        }
        drop(send);
        reader.join().unwrap();
    });
    let start = Instant::now();
    while device.deferred_bytes() != 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "{} bytes are not freed", device.deferred_bytes());
        thread::yield_now();
    }
    assert_eq!(device.leaked_bytes(), 0);
}

pub fn a_pending_buffer_is_awaited<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let values = noise(9, 50_000);
        let x = put(&ctx, &values);
        for _ in 0..20 {
            let page = |len: usize| ctx.alloc_pinned::<u32>(len).unwrap().stage(&ctx);
            let large = ctx.fence(ctx.init_from(page(50_000), x.view()).unwrap()).unwrap();
            let small = ctx.fence(ctx.init_zeros(page(1)).unwrap()).unwrap();
            let (small, large) = block_on(async { (small.await.unwrap(), large.await.unwrap()) });
            assert_eq!((&small[..], &large[..]), (&[0][..], &values[..]));
        }
    });
}

pub fn closures_are_called_behind_what_was_enqueued<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let x = put(&ctx, &noise(3, 100_000));
        let (tell, told) = mpsc::channel();
        for step in 0..50 {
            let page = ctx.init_from(ctx.alloc_pinned::<u32>(100_000).unwrap().stage(&ctx), x.view()).unwrap();
            let page = ctx.fence(page).unwrap().detach();
            let tell = tell.clone();
            ctx.notify(move |answer| tell.send((step, answer, page.is_ready())).unwrap()).unwrap();
        }
        for step in 0..50 {
            assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok((step, Ok(()), Ok(true))));
        }
    });
}
