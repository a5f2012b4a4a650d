//! Host memory lent to a stream: for a scope, and for the stream's whole life.

use std::time::Duration;

use tidelock::{Buffer, location::Host, sim};

use super::{assert_clean, put, ramp, slow};

/// A device on which every copy sleeps, so that a missing wait of a frame shows.
fn very_slow() -> sim::Device {
    sim::Device::new(sim::Options::quick().delay(sim::Delay::Upto(Duration::from_millis(20))).seed(3))
}

#[test]
fn a_scope_ends_when_the_device_has_written() {
    let device = very_slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let x = put(&ctx, &ramp(0, 64));
            for round in 0..16 {
                let mut data = [0_u32; 64];
                let source = ramp(round, 64);
                let value = stream
                    .host_scope(|scope| {
                        let ctx = scope.ctx().with_pool();
                        let mut y = ctx.zeros::<u32>(64).unwrap();
                        ctx.copy(scope.source(&source), y.view_mut()).unwrap();
                        ctx.copy(y.view(), scope.target(&mut data)).unwrap();
                        (round, x.len())
                    })
                    .unwrap();
                assert_eq!((value, &data[..]), ((round, 64), &source[..]));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn slices_can_be_lent_both_ways_and_to_one_another() {
    let device = slow();
    let buffer = Buffer::<u32, Host>::from_slice(&ramp(5, 32)).unwrap();
    let (mut left, mut right) = ([0_u32; 32], [0_u32; 32]);
    device
        .stream(|mut stream, _env| {
            stream
                .host_scope(|scope| {
                    let ctx = scope.ctx();
                    let source = scope.source(&buffer);
                    ctx.copy(source, scope.target(&mut left)).unwrap();
                    let (head, tail) = scope.target(&mut right).split_at(16).unwrap();
                    ctx.copy(source.slice(16..).unwrap(), head).unwrap();
                    ctx.copy(source.slice(..16).unwrap(), tail).unwrap();
                })
                .unwrap();
            assert_eq!(left[..], ramp(5, 32));
            left.fill(0);
        })
        .unwrap();
    assert_eq!((&right[..16], &right[16..]), (&ramp(21, 16)[..], &ramp(5, 16)[..]));
    assert_eq!(left, [0; 32]);
    assert_clean(&device);
}

#[test]
fn env_lends_for_the_whole_stream() {
    let device = very_slow();
    let (weights, mut log) = (ramp(1, 128), vec![0_u32; 3 * 128]);
    device
        .stream(|mut stream, env| {
            let (weights, mut log) = (env.source(&weights), env.target(&mut log));
            let mut x = stream.ctx().with_pool().zeros::<u32>(128).unwrap();
            for round in 0..3 {
                let ctx = stream.ctx();
                ctx.copy(weights, x.view_mut()).unwrap();
                ctx.launch((x.view_mut(), round), |(x, n)| x.iter_mut().for_each(|x| *x += n)).unwrap();
                let at = usize::try_from(round).unwrap() * 128;
                ctx.copy(x.view(), log.reborrow().slice(at..at + 128).unwrap()).unwrap();
                if round == 1 {
                    stream.synchronize().unwrap();
                }
            }
        })
        .unwrap();
    assert_eq!((&log[..128], &log[128..256], &log[256..]), (&ramp(1, 128)[..], &ramp(2, 128)[..], &ramp(3, 128)[..]));
    assert_clean(&device);
}

#[test]
fn env_can_lend_inside_a_scope_for_longer_than_the_scope() {
    let device = very_slow();
    let (mut long, mut short) = (vec![0_u32; 64], vec![0_u32; 64]);
    device
        .stream(|mut stream, env| {
            let x = put(&stream.ctx(), &ramp(9, 64));
            let target = stream
                .host_scope(|scope| {
                    scope.ctx().copy(x.view(), scope.target(&mut short)).unwrap();
                    env.target(&mut long)
                })
                .unwrap();
            assert_eq!(short, ramp(9, 64));
            short.clear();
            stream.ctx().copy(x.view(), target).unwrap();
        })
        .unwrap();
    assert_eq!(long, ramp(9, 64));
    assert_clean(&device);
}

#[test]
fn a_scope_may_return_memory_of_the_stream() {
    let device = slow();
    let source = ramp(2, 32);
    device
        .stream(|mut stream, _env| {
            let x = stream
                .host_scope(|scope| {
                    let ctx = scope.ctx().with_pool();
                    ctx.init_from(ctx.alloc::<u32>(32).unwrap(), scope.source(&source)).unwrap()
                })
                .unwrap();
            assert_eq!(super::get(&mut stream, x.view()), source);
        })
        .unwrap();
    assert_clean(&device);
}
