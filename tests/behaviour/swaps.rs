//! Values of one type that are swapped: each keeps what it needs to be right.

use std::mem;

use tidelock::{BatchCopy, Error, Stack, State};

use super::{assert_clean, get, put, ramp, slow, staged};

#[test]
fn states_of_different_lengths() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut short = State::new(put(&ctx, &ramp(1, 8)), put(&ctx, &ramp(2, 8))).unwrap();
            let mut long = State::new(put(&ctx, &ramp(100, 64)), put(&ctx, &ramp(200, 64))).unwrap();
            mem::swap(&mut short, &mut long);
            assert_eq!((short.len(), long.len()), (64, 8));
            short.step(|front, back| ctx.copy(front, back)).unwrap();
            long.swap();
            let (mut a, mut b) = (short.front_mut(), long.front_mut());
            mem::swap(&mut a, &mut b);
            let error = ctx.copy(b.as_view(), a).unwrap_err();
            assert_eq!(error, Error::Length { operand: "dst", expected: 64, found: 8 });
            assert_eq!(get(&mut stream, short.front()), ramp(100, 64));
            assert_eq!(get(&mut stream, long.front()), ramp(2, 8));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn views_into_one_buffer() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let mut x = put(&ctx, &ramp(0, 8));
            let (mut head, mut tail) = x.view_mut().split_at(4).unwrap();
            mem::swap(&mut head, &mut tail);
            ctx.copy(head.into_view(), tail).unwrap();
            assert_eq!(get(&mut stream, x.view()), [4, 5, 6, 7, 4, 5, 6, 7]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn buffers_of_two_arenas_go_back_to_their_own() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let (mut one, mut two) = (Stack::new(stream.ctx().pool()), Stack::new(stream.ctx().pool()));
            for stack in [&mut one, &mut two] {
                drop(stream.ctx().with_device_alloc(&*stack).zeros::<u32>(256).unwrap());
                stack.reset().unwrap();
            }
            let mut x = stream.ctx().with_device_alloc(&one).zeros::<u32>(256).unwrap();
            let mut y = stream.ctx().with_device_alloc(&two).zeros::<u32>(128).unwrap();
            mem::swap(&mut x, &mut y);
            stream.ctx().upload(&ramp(1, 128), x.view_mut()).unwrap();
            stream.ctx().upload(&ramp(2, 256), y.view_mut()).unwrap();
            assert_eq!(get(&mut stream, x.view()), ramp(1, 128));
            assert_eq!(get(&mut stream, y.view()), ramp(2, 256));
            drop(x);
            assert_eq!((one.usage().in_use, two.usage().in_use), (1024, 0));
            drop(y);
            assert_eq!((one.usage().in_use, two.usage().in_use), (0, 0));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn pendings_and_staged_buffers() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let mut early = ctx.fence(staged(&ctx, &ramp(1, 16))).unwrap();
            let mut late = ctx.fence(staged(&ctx, &ramp(2, 32))).unwrap();
            mem::swap(&mut early, &mut late);
            assert_eq!(&late.wait().unwrap()[..], ramp(1, 16));
            assert_eq!(&early.wait().unwrap()[..], ramp(2, 32));
            let (mut a, mut b) = (staged(&ctx, &ramp(3, 8)), staged(&ctx, &ramp(4, 24)));
            mem::swap(&mut a, &mut b);
            let done = stream.synchronize().unwrap();
            assert_eq!((a.peek(&done), b.peek(&done)), (&ramp(4, 24)[..], &ramp(3, 8)[..]));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn batches_between_their_scopes() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(1, 8));
            let (mut y, mut z) = (ctx.zeros::<u32>(8).unwrap(), ctx.zeros::<u32>(8).unwrap());
            let (mut one, mut two) = (BatchCopy::new(), BatchCopy::new());
            one.scope(&ctx, |q| {
                q.copy(x.view(), y.view_mut())?;
                // A batch inside a batch: the inner one is submitted first, and neither holds
                // copies of the other.
                two.scope(&ctx, |q| q.copy(x.view(), z.view_mut()))
            })
            .unwrap();
            mem::swap(&mut one, &mut two);
            assert_eq!((one.stats(), two.stats().submitted), (two.stats(), 1));
            one.scope(&ctx, |_| Ok(())).unwrap();
            assert_eq!(one.stats().submissions, 1);
            assert_eq!(get(&mut stream, y.view()), ramp(1, 8));
            assert_eq!(get(&mut stream, z.view()), ramp(1, 8));
        })
        .unwrap();
    assert_clean(&device);
}
