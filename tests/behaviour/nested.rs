//! Streams inside streams: brands are not mixed up, also with several devices.

use tidelock::{BatchCopy, Error, driver::Code, sim::Device};

use super::{assert_clean, get, put, ramp, slow, staged};

#[test]
fn two_streams_of_one_device_take_turns() {
    let device = slow();
    device
        .stream(|mut a, _env| {
            device
                .stream(|mut b, _env| {
                    let mut xs = Vec::new();
                    let mut ys = Vec::new();
                    for round in 0..20 {
                        xs.push(put(&a.ctx(), &ramp(round, 50)));
                        ys.push(put(&b.ctx(), &ramp(round * 2, 50)));
                        if round % 3 == 0 {
                            xs.remove(0);
                            ys.remove(0);
                        }
                    }
                    assert_eq!(get(&mut a, xs.last().unwrap().view()), ramp(19, 50));
                    assert_eq!(get(&mut b, ys.last().unwrap().view()), ramp(38, 50));
                    xs.len()
                })
                .unwrap()
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn memory_of_the_outer_stream_is_dropped_inside_the_inner_one() {
    let (first, second) = (slow(), slow());
    first
        .stream(|a, _env| {
            let x = put(&a.ctx(), &ramp(0, 64));
            let held = staged(&a.ctx(), &ramp(0, 64));
            second
                .stream(|mut b, _env| {
                    let y = put(&b.ctx(), &ramp(1, 64));
                    drop((x, held));
                    assert_eq!(get(&mut b, y.view()), ramp(1, 64));
                })
                .unwrap();
        })
        .unwrap();
    assert_clean(&first);
    assert_clean(&second);
}

#[test]
fn what_one_stream_shows_the_host_another_may_upload() {
    let (first, second) = (slow(), slow());
    first
        .stream(|mut a, _env| {
            second
                .stream(|mut b, _env| {
                    let mut y = b.ctx().with_pool().zeros::<u32>(64).unwrap();
                    let mut out = staged(&a.ctx(), &[0_u32; 64]);
                    for round in 0..6 {
                        let x = put(&a.ctx(), &ramp(round, 64));
                        a.ctx().copy(x.view(), out.view_mut()).unwrap();
                        {
                            let done = a.synchronize().unwrap();
                            let seen = out.peek(&done);
                            b.ctx().upload(seen, y.view_mut()).unwrap();
                        }
                        // The first stream overwrites the memory while the second may still read
                        // it.
                        a.ctx().clear(out.view_mut()).unwrap();
                        assert_eq!(get(&mut b, y.view()), ramp(round, 64));
                    }
                })
                .unwrap();
        })
        .unwrap();
    assert_clean(&first);
    assert_clean(&second);
}

#[test]
fn a_batch_of_one_stream_inside_a_batch_of_another() {
    let (first, second) = (slow(), slow());
    first
        .stream(|mut a, _env| {
            second
                .stream(|mut b, _env| {
                    let (ca, cb) = (a.ctx().with_pool(), b.ctx().with_pool());
                    let (x, y) = (put(&ca, &ramp(1, 32)), put(&cb, &ramp(2, 32)));
                    let (mut to_x, mut to_y) = (ca.zeros::<u32>(32).unwrap(), cb.zeros::<u32>(32).unwrap());
                    let (mut outer, mut inner) = (BatchCopy::new(), BatchCopy::new());
                    outer
                        .scope(&ca, |p| {
                            p.copy(x.view(), to_x.view_mut())?;
                            inner.scope(&cb, |q| q.copy(y.view(), to_y.view_mut()))
                        })
                        .unwrap();
                    assert_eq!(get(&mut a, to_x.view()), ramp(1, 32));
                    assert_eq!(get(&mut b, to_y.view()), ramp(2, 32));
                })
                .unwrap();
        })
        .unwrap();
    assert_clean(&first);
    assert_clean(&second);
}

#[test]
fn a_kernel_opens_no_stream_of_any_device() {
    let (device, other) = (slow(), slow());
    let devices = [device.clone(), other.clone()];
    device
        .stream(|mut stream, _env| {
            let mut x = stream.ctx().with_pool().zeros::<u32>(2).unwrap();
            let kernel = move |(x,): (&mut [u32],)| {
                let refused = |device: &Device| match device.stream(|_, _| ()) {
                    Err(Error::Driver(why)) => why.code.0,
                    other => panic!("{other:?}"),
                };
                x.copy_from_slice(&devices.each_ref().map(refused));
            };
            stream.ctx().launch((x.view_mut(),), kernel).unwrap();
            assert_eq!(get(&mut stream, x.view()), [Code::NOT_PERMITTED.0; 2]);
        })
        .unwrap();
    assert_clean(&device);
    assert_clean(&other);
}
