//! `Pending` and arriving memory as futures, of local executors and of other threads.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidelock::{Error, sim::Call};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn new() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (Arc::clone(&count), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A future of engine code, which names no device.
async fn values<L: DeviceLocation>(pending: Pending<u32, L>) -> Result<Vec<u32>>
where
    Buffer<u32, <L as OnBackend>::Pinned>: core::ops::Deref<Target = [u32]>,
{
    Ok(pending.await?.to_vec())
}

#[test]
fn a_local_executor_awaits_pending_memory() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            for step in 0..50 {
                let gate = (step % 5 == 0).then(|| Gate::close(&ctx));
                let (first, second) = (fenced(&ctx, &[step]), fenced(&ctx, &[step + 1; 7]));
                gate.into_iter().for_each(Gate::open_later);
                let both = async { Ok::<_, Error>((second.await?, values(first).await?)) };
                let (second, first) = block_on(both).unwrap();
                assert_eq!((&first[..], &second[..]), (&[step][..], &[step + 1; 7][..]));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn another_thread_awaits_arriving_memory() {
    let device = watched();
    let (send, arrivals) = mpsc::channel::<(u32, Arrival)>();
    let server = thread::spawn(move || {
        arrivals.into_iter().for_each(|(step, arrival)| assert_eq!(block_on(arrival).unwrap()[..], [step; 3]));
    });
    device
        .stream(|stream, _env| {
            for step in 0..200 {
                let ctx = stream.ctx();
                if step % 50 == 0 {
                    Gate::close(&ctx).open_later();
                }
                send.send((step, fenced(&ctx, &[step; 3]).detach())).unwrap();
            }
            drop(send);
        })
        .unwrap();
    server.join().unwrap();
    assert_clean(&device);
}

#[test]
fn ready_memory_is_ready_at_the_first_poll_without_a_thread() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let mut pending = fenced(&stream.ctx(), &[1]);
            stream.synchronize().unwrap();
            let calls = device.gpu().counts();
            let Poll::Ready(Ok(one)) = poll(&mut pending, Waker::noop()) else { panic!("pending") };
            assert_eq!((one[..].len(), (device.gpu().counts() - calls).total()), (1, 0));
            let mut arrival = fenced(&stream.ctx(), &[2]).detach();
            stream.synchronize().unwrap();
            let calls = device.gpu().counts();
            let Poll::Ready(Ok(two)) = poll(&mut arrival, Waker::noop()) else { panic!("pending") };
            assert_eq!((two[0], (device.gpu().counts() - calls).of(Call::EventQuery)), (2, 1));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn only_the_waker_of_the_latest_poll_is_woken() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let mut arrival = fenced(&ctx, &[1]).detach();
            let (first, first_waker) = Count::new();
            let (second, second_waker) = Count::new();
            assert!(poll(&mut arrival, &first_waker).is_pending());
            for _ in 0..10 {
                assert!(poll(&mut arrival, &second_waker).is_pending());
            }
            drop(gate);
            until("it is woken", || second.get() != 0);
            assert_eq!((first.get(), second.get()), (0, 1));
            // The replaced waker is gone.
            drop(first_waker);
            until("the waker is dropped", || Arc::strong_count(&first) == 1);
            assert!(poll(&mut arrival, Waker::noop()).is_ready());
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_poll_too_many_is_an_error() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let taken = Error::Taken { operand: "future" };
            let mut pending = fenced(&ctx, &[1, 2, 3]);
            assert_eq!(block_on(&mut pending).unwrap()[..], [1, 2, 3]);
            for _ in 0..3 {
                assert_eq!(block_on(&mut pending).unwrap_err().error, taken);
            }
            assert_eq!(pending.is_ready(), Err(taken));
            let again = pending.wait().unwrap_err();
            assert_eq!(again.error, taken);
            // So is what is left of it, detached.
            let mut arrival = again.value.detach();
            assert_eq!(block_on(&mut arrival).unwrap_err().error, taken);
            assert_eq!(arrival.wait().unwrap_err().error, taken);

            let mut arrival = fenced(&ctx, &[4]).detach();
            assert_eq!(block_on(&mut arrival).unwrap()[..], [4]);
            assert_eq!(block_on(&mut arrival).unwrap_err().error, taken);
            assert_eq!((arrival.is_ready(), arrival.len()), (Err(taken), 0));
            assert_eq!(arrival.wait().unwrap_err().error, taken);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_future_that_is_dropped_or_forgotten_wakes_nothing_and_holds_nothing() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let (count, waker) = Count::new();
            let mut arrival = fenced(&ctx, &[1]).detach();
            let mut pending = fenced(&ctx, &[1]);
            let mut waited = fenced(&ctx, &[2]);
            assert!(poll(&mut arrival, &waker).is_pending());
            assert!(poll(&mut pending, &waker).is_pending());
            assert!(poll(&mut waited, &waker).is_pending());
            drop((arrival, pending));
            drop(gate);
            // A future that was polled can be waited for.
            assert_eq!(waited.wait().unwrap()[..], [2]);
            drop(waker);
            until("the wakers are dropped", || Arc::strong_count(&count) == 1);
            stream.synchronize().unwrap();
            assert!(count.get() <= 1, "{}", count.get());
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_polled_pending_keeps_its_task_when_it_is_detached() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let (count, waker) = Count::new();
            let mut pending = fenced(&ctx, &[1]);
            assert!(poll(&mut pending, &waker).is_pending());
            let arrival = pending.detach();
            drop(gate);
            until("it is woken", || count.get() == 1);
            assert_eq!(block_on(arrival).unwrap()[..], [1]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn thousands_of_futures_of_several_streams_are_all_woken() {
    let device = watched();
    let (send, arrivals) = mpsc::channel::<(u32, Arrival)>();
    let server = thread::spawn(move || {
        // All are polled before any is awaited, the latest first.
        let mut all: Vec<_> = arrivals.into_iter().collect();
        let mut early = 0;
        for (step, arrival) in all.iter_mut().rev() {
            if let Poll::Ready(values) = poll(arrival, Waker::noop()) {
                assert_eq!(values.unwrap()[..], [*step; 2]);
                early += 1;
            }
        }
        all.retain(|(_, arrival)| arrival.is_ready() != Err(Error::Taken { operand: "future" }));
        let n = all.len() + early;
        all.into_iter().for_each(|(step, arrival)| assert_eq!(block_on(arrival).unwrap()[..], [step; 2]));
        n
    });
    thread::scope(|scope| {
        for stream in 0..4 {
            let (device, send) = (&device, send.clone());
            scope.spawn(move || {
                device
                    .stream(|s, _env| {
                        let ctx = s.ctx();
                        let gate = Gate::close(&ctx);
                        for step in 0..500 {
                            let step = 1000 * stream + step;
                            send.send((step, fenced(&ctx, &[step; 2]).detach())).unwrap();
                        }
                        drop(send);
                        gate.open_later();
                    })
                    .unwrap();
            });
        }
        drop(send);
    });
    assert_eq!(server.join().unwrap(), 4 * 500);
    assert_clean(&device);
}

#[test]
fn a_broken_device_resolves_all_futures_within_a_tenth_of_a_second() {
    let device = watched();
    let answer = device.stream(|stream, _env| {
        let ctx = stream.ctx();
        let gate = Gate::close(&ctx);
        let arrivals: Vec<Arrival> = (0..100).map(|n| fenced(&ctx, &[n]).detach()).collect();
        break_device(&ctx);
        let behind = fenced(&ctx, &[1]).detach();
        let waits = thread::spawn(move || {
            let before = arrivals.into_iter().filter(|_| true).map(block_on).filter(|got| got.is_ok()).count();
            let behind = block_on(behind).unwrap_err();
            assert!(matches!(behind.error, Error::Poisoned(_)), "{behind}");
            (before, Instant::now())
        });
        thread::sleep(Duration::from_millis(20));
        drop(gate);
        let start = Instant::now();
        let (before, resolved) = waits.join().unwrap();
        assert!(resolved - start < Duration::from_millis(100), "{:?}", resolved - start);
        assert!(before <= 100);
    });
    assert!(answer.is_err());
}

#[test]
fn a_query_that_is_refused_once_resolves_the_future_that_made_it_with_its_memory() {
    let device = watched();
    let mut arrival = device.stream(|stream, _env| fenced(&stream.ctx(), &[5]).detach()).unwrap();
    let fault = sim::Fault { nth: 1, onwards: false, call: Some(Call::EventQuery), code: Code::OUT_OF_MEMORY };
    device.gpu().fail(fault);
    let rejected = block_on(&mut arrival).unwrap_err();
    assert!(matches!(rejected.error, Error::Driver(_)));
    assert_eq!(block_on(rejected.value).unwrap()[..], [5]);
    drop(arrival);
    assert_clean(&device);
}
