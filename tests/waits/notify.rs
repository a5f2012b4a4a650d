//! `Ctx::notify`.

use super::*;
use tidelock::{Error, sim::Call};

#[test]
fn it_calls_once_the_stream_has_passed_and_not_before() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let (tell, told) = mpsc::channel();
            let calls = device.gpu().counts();
            ctx.notify(move |answer| tell.send((answer, thread::current().name().map(str::to_owned))).unwrap())
                .unwrap();
            assert_eq!((device.gpu().counts() - calls).of(Call::EventRecord), 1);
            // It shares the record with its neighbours.
            let (second, heard) = mpsc::channel();
            ctx.notify(move |answer| second.send(answer).unwrap()).unwrap();
            assert_eq!((device.gpu().counts() - calls).of(Call::EventRecord), 1);
            // The later work of the stream is not held up by a closure.
            let behind = fenced(&ctx, &[3]);
            thread::sleep(Duration::from_millis(20));
            assert!(told.try_recv().is_err());
            drop(gate);
            assert_eq!(behind.wait().unwrap()[..], [3]);
            let (answer, name) = told.recv_timeout(SOON).unwrap();
            assert_eq!((answer, name.as_deref()), (Ok(()), Some("tidelock-watcher")));
            assert_eq!(heard.recv_timeout(SOON), Ok(Ok(())));
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn closures_of_one_stream_are_called_in_order() {
    let device = watched();
    let (tell, told) = mpsc::channel();
    device
        .stream(|stream, _env| {
            for n in 0..500 {
                let tell = tell.clone();
                stream.ctx().launch((0_u32,), |_| ()).unwrap();
                stream.ctx().notify(move |_| tell.send(n).unwrap()).unwrap();
            }
        })
        .unwrap();
    drop(tell);
    assert!(told.into_iter().eq(0..500));
    assert_clean(&device);
}

#[test]
fn it_may_do_anything_that_is_no_work_of_the_stream() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (tell, told) = mpsc::channel();
            let x = ctx.upload_new(&[1_u32, 2, 3]).unwrap();
            let detached = ctx.detach(x).unwrap();
            let gate = Gate::close(&ctx);
            let arrival = fenced(&ctx, &[1]).detach();
            let late = fenced(&ctx, &[1]).detach();
            let inner = device.clone();
            ctx.notify(move |answer| {
                answer.unwrap();
                drop(late);
                // A stream of its own, which waits.
                let values = inner.stream(|other, _env| {
                    let ctx = other.ctx();
                    let x = ctx.attach(detached)?;
                    let out = ctx.init_from(ctx.alloc_pinned(3)?.stage(&ctx), x.view())?;
                    Ok::<_, Error>(ctx.fence(out)?.wait()?.to_vec())
                });
                tell.send((values.unwrap().unwrap(), arrival.wait().unwrap()[0])).unwrap();
            })
            .unwrap();
            drop(gate);
            assert_eq!(told.recv_timeout(SOON).unwrap(), (vec![1, 2, 3], 1));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_broken_device_calls_every_closure_with_its_error() {
    let device = watched();
    let answer = device.stream(|stream, _env| {
        let (tell, told) = mpsc::channel();
        let ctx = stream.ctx();
        let gate = Gate::close(&ctx);
        break_device(&ctx);
        for n in 0..20 {
            let tell = tell.clone();
            ctx.launch((0_u32,), |_| ()).unwrap();
            ctx.notify(move |answer| tell.send((n, answer)).unwrap()).unwrap();
        }
        drop(gate);
        let start = Instant::now();
        for n in 0..20 {
            let (place, answer) = told.recv_timeout(SOON).unwrap();
            assert!(place == n && matches!(answer, Err(Error::Poisoned(_))), "{answer:?}");
        }
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        // The stream sees the failure at its next call, and takes no closure from then on.
        assert!(ctx.launch((0_u32,), |_| ()).is_err());
        let rejected = ctx.notify(move |_| tell.send((0, Ok(()))).unwrap()).unwrap_err();
        assert!(matches!(rejected.error, Error::Poisoned(_)), "{rejected}");
        // The closure is handed back.
        (rejected.value)(Ok(()));
        assert_eq!(told.recv().unwrap(), (0, Ok(())));
    });
    assert!(answer.is_err());
}

#[test]
fn a_query_that_is_refused_once_is_repeated() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let gate = Gate::close(&ctx);
            let (tell, told) = mpsc::channel();
            ctx.notify(move |answer| tell.send(answer).unwrap()).unwrap();
            let fault = sim::Fault { nth: 1, onwards: false, call: Some(Call::EventQuery), code: Code::OUT_OF_MEMORY };
            device.gpu().fail(fault);
            until("the query is refused", || device.gpu().calls_since_arming() > 1);
            assert!(told.try_recv().is_err());
            drop(gate);
            assert_eq!(told.recv_timeout(SOON), Ok(Ok(())));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn queries_that_are_always_refused_are_an_answer() {
    let device = watched();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let (tell, told) = mpsc::channel();
            let gate = Gate::close(&ctx);
            let fault = sim::Fault { nth: 1, onwards: true, call: Some(Call::EventQuery), code: Code::OUT_OF_MEMORY };
            ctx.notify(move |answer| tell.send(answer).unwrap()).unwrap();
            device.gpu().fail(fault);
            assert!(matches!(told.recv_timeout(SOON), Ok(Err(Error::Driver(_)))));
            device.gpu().disarm();
            drop(gate);
        })
        .unwrap();
    assert_clean(&device);
}
