//! Closures and wakers that panic, drop what they should not, or do not end; threads that come and
//! go.

use super::*;
use std::{
    panic::panic_any,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};
use tidelock::{Device as _, Error};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic_any(Bomb);
        }
    }
}

/// A waker whose every call panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker, on purpose");
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("the drop of a waker, on purpose");
        }
    }
}

#[test]
fn panics_of_closures_and_wakers_lose_no_other_wake_up() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let (tell, told) = mpsc::channel();
            let gate = Gate::close(&ctx);
            let mut kept = Vec::new();
            for n in 0..30 {
                match n % 5 {
                    0 => ctx.notify(|_| panic!("a closure, on purpose")).unwrap(),
                    1 => ctx.notify(|_| panic_any(Bomb)).unwrap(),
                    2 => {
                        let bomb = Bomb;
                        ctx.notify(move |_| drop(bomb)).unwrap();
                    }
                    3 => {
                        let mut arrival = fenced(&ctx, &[n]).detach();
                        assert!(poll(&mut arrival, &Waker::from(Arc::new(Panics))).is_pending());
                        kept.push(arrival);
                    }
                    _ => {
                        let tell = tell.clone();
                        ctx.notify(move |answer| tell.send(answer).unwrap()).unwrap();
                    }
                }
            }
            drop(tell);
            drop(gate);
            assert_eq!(told.into_iter().collect::<Vec<_>>(), [Ok(()); 6]);
            for (n, arrival) in kept.into_iter().enumerate() {
                assert_eq!(block_on(arrival).unwrap()[..], [5 * n as u32 + 3]);
            }
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

/// Dropped and replaced wakers whose drop panics do not take the caller along.
#[test]
fn wakers_that_panic_when_dropped_are_replaced_and_withdrawn() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let mut arrival = fenced(&ctx, &[1]).detach();
            for _ in 0..3 {
                let waker = Waker::from(Arc::new(Panics));
                assert!(poll(&mut arrival, &waker).is_pending());
                // The other reference is the watcher's.
                drop(waker);
            }
            let waker = Waker::from(Arc::new(Panics));
            assert!(poll(&mut arrival, &waker).is_pending());
            drop(waker);
            drop(arrival);
            drop(gate);
        })
        .unwrap();
    assert_clean(&device);
}

/// A future in its own waker: dropping the waker drops the future, which withdraws the waker.
#[test]
fn a_future_that_its_own_waker_owns_ends() {
    struct Owns(Mutex<Option<Arrival>>);
    impl Wake for Owns {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            for wakes in [true, false] {
                let gate = Gate::close(&ctx);
                let owner = Arc::new(Owns(Mutex::new(None)));
                let mut arrival = fenced(&ctx, &[1]).detach();
                assert!(poll(&mut arrival, &Waker::from(Arc::clone(&owner))).is_pending());
                *owner.0.lock().unwrap() = Some(arrival);
                if !wakes {
                    drop(owner.0.lock().unwrap().take());
                }
                drop(gate);
                until("the future is dropped", || owner.0.lock().unwrap().is_none());
            }
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

/// A waker whose clone polls, drops and registers other futures.
#[test]
fn wakers_may_use_the_watcher() {
    struct Busy(Mutex<Vec<Arrival>>, Ctl);
    type Ctl = Arc<AtomicUsize>;
    impl Wake for Busy {
        fn wake(self: Arc<Self>) {
            for mut other in self.0.lock().unwrap().drain(..) {
                let _ = poll(&mut other, Waker::noop());
            }
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let mut first = fenced(&ctx, &[1]).detach();
            let second = Gate::close(&ctx);
            let others: Vec<_> = (0..10).map(|n| fenced(&ctx, &[n]).detach()).collect();
            let woken = Ctl::default();
            let waker = Waker::from(Arc::new(Busy(Mutex::new(others), Arc::clone(&woken))));
            assert!(poll(&mut first, &waker).is_pending());
            drop(gate);
            until("it is woken", || woken.load(Ordering::SeqCst) == 1);
            drop(second);
            stream.synchronize().unwrap();
            assert_eq!(block_on(first).unwrap()[..], [1]);
        })
        .unwrap();
    assert_clean(&device);
}

/// A closure that does not end holds up the closures behind it, and no stream, wait or drop.
#[test]
fn a_closure_that_hangs_holds_up_closures_only() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let (go, wait) = mpsc::channel::<()>();
            let entered = Arc::new(AtomicBool::new(false));
            let inside = Arc::clone(&entered);
            ctx.notify(move |_| {
                inside.store(true, Ordering::SeqCst);
                assert!(wait.recv().is_err());
            })
            .unwrap();
            until("it is called", || entered.load(Ordering::SeqCst));
            let arrival = fenced(&ctx, &[1]).detach();
            let mut polled = fenced(&ctx, &[2]).detach();
            let _ = poll(&mut polled, Waker::noop());
            assert_eq!(arrival.wait().unwrap()[..], [1]);
            drop(polled);
            drop(fenced(&ctx, &[2]).detach());
            let (tell, told) = mpsc::channel();
            stream.ctx().notify(move |answer| tell.send(answer).unwrap()).unwrap();
            stream.synchronize().unwrap();
            assert!(told.try_recv().is_err());
            drop(go);
            assert_eq!(told.recv_timeout(SOON), Ok(Ok(())));
        })
        .unwrap();
    assert_clean(&device);
}

/// The threads of this process with the name of the library's.
fn watchers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "tidelock-watche").count()
}

/// In a process of its own, because it counts threads.
#[test]
fn the_thread_ends_with_the_device_and_when_it_has_nothing_to_do() {
    if std::env::var_os("TIDELOCK_COUNTS_THREADS").is_none() {
        let me = std::env::current_exe().unwrap();
        let this = "hostile::the_thread_ends_with_the_device_and_when_it_has_nothing_to_do";
        let child = std::process::Command::new(me).args(["--exact", this]).env("TIDELOCK_COUNTS_THREADS", "1").output();
        let child = child.unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    if !cfg!(target_os = "linux") {
        return;
    }
    let device = watched();
    let awaited = |device: &Device| {
        device.stream(|stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let arrival = fenced(&ctx, &[1]).detach();
            gate.open_later();
            assert_eq!(block_on(arrival).unwrap()[..], [1]);
        })
    };
    assert_eq!(watchers(), 0);
    for _ in 0..3 {
        awaited(&device).unwrap();
        assert_eq!(watchers(), 1, "one for the device");
    }
    until("it ends when idle", || watchers() == 0);
    awaited(&device).unwrap();
    assert_eq!(watchers(), 1, "it starts again");
    drop(device);
    let start = Instant::now();
    until("it ends with the device", || watchers() == 0);
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    for _ in 0..50 {
        awaited(&watched()).unwrap();
    }
    until("no thread is left", || watchers() == 0);
}

/// The last handle of a device is dropped by the thread itself.
#[test]
fn the_thread_may_drop_the_last_handle_of_its_device() {
    for _ in 0..20 {
        let device = watched();
        let (tell, told) = mpsc::channel();
        let inner = device.clone();
        device
            .stream(|stream, _env| {
                stream.ctx().notify(move |_| tell.send(inner.gpu().report().findings).unwrap()).unwrap()
            })
            .unwrap();
        drop(device);
        assert_eq!(told.recv_timeout(SOON).unwrap(), Vec::<String>::new());
    }
}

/// Dropped by the destructors of a thread's variables, which starts the thread that watches.
#[test]
fn arriving_memory_of_a_thread_variable_is_freed() {
    thread_local! {
        static KEPT: std::cell::RefCell<Vec<Arrival>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let arrival = fenced(&ctx, &[1; 10]).detach();
            thread::spawn(move || KEPT.with_borrow_mut(|kept| kept.push(arrival))).join().unwrap();
            assert_eq!(device.deferred_bytes(), 40);
            drop(gate);
            until("it is freed", || device.deferred_bytes() == 0);
            assert_eq!(device.leaked_bytes(), 0);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn records_of_streams_that_ended_are_watched_to_their_end() {
    let device = watched();
    let mut all = Vec::new();
    for n in 0..200 {
        all.push((n, device.stream(|stream, _env| fenced(&stream.ctx(), &[n]).detach()).unwrap()));
    }
    let ends = async {
        for (n, arrival) in all {
            assert_eq!(arrival.await?[..], [n]);
        }
        Ok::<_, Error>(())
    };
    block_on(ends).unwrap();
    assert_clean(&device);
}

/// The view of arriving memory reaches no element.
#[test]
fn a_view_of_arriving_memory_has_an_address_and_a_length() {
    fn of<T: Element>(view: View<'_, T, Arriving<SimBackend>>) -> (usize, *const T) {
        (view.len(), view.as_ptr())
    }
    let device = watched();
    let arrival = device.stream(|stream, _env| fenced(&stream.ctx(), &[1, 2]).detach()).unwrap();
    assert_eq!(of(arrival.view()), (2, arrival.as_ptr()));
    drop(arrival);
    assert_clean(&device);
}
