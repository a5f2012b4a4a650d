//! What a stream holds and frees: warmed streams, registered memory, uploads in pieces, events,
//! deferred frees.

use tidelock::{
    Buffer, Device, Result, Stack,
    stream::{Detached, StreamOptions},
};

use super::{get, noise, put, run, staged};

pub fn a_warm_stream_serves_from_the_first_call<D: Device>(device: &D) {
    let answer = device.stream_with(&StreamOptions::default().warm(true), |mut stream, _| {
        let values = noise(31, 1000);
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<u32>(1000).unwrap();
        ctx.upload(&values, x.view_mut()).unwrap();
        assert_eq!(get(&ctx, x.view()), values);
        let mut y = ctx.zeros::<u32>(1000).unwrap();
        tidelock::BatchCopy::new()
            .scope(&ctx, |b| {
                let (from, to) = (x.view(), y.view_mut().split_at(500)?);
                b.copy(from.slice(500..)?, to.0)?;
                b.copy(from.slice(..500)?, to.1)
            })
            .unwrap();
        assert_eq!(get(&ctx, y.view()), [&values[500..], &values[..500]].concat());
        stream.synchronize().unwrap();
    });
    answer.unwrap();
}

pub fn registered_memory_goes_both_ways<D: Device>(device: &D) {
    // Pages of their own: 3 MiB behind the first page that begins in the memory.
    let page = |memory: &[u32]| memory.as_ptr().align_offset(4096);
    let (source, mut target) = (noise(32, (3 << 18) + 2048), vec![0; (3 << 18) + 2048]);
    let (from, to) = (page(&source), page(&target));
    run(device, |mut stream, _| {
        for _ in 0..3 {
            let (source, target) = (&source[from..][..3 << 18], &mut target[to..][..3 << 18]);
            target.fill(0);
            stream
                .host_scope(|scope| {
                    let ctx = scope.ctx().with_pool();
                    let locked = scope.register(source)?;
                    let x = ctx.init_from(ctx.alloc(source.len())?, locked)?;
                    ctx.copy(x.view(), scope.register_mut(target)?)
                })
                .unwrap()
                .unwrap();
            assert!(source == target);
        }
    });
}

pub fn uploads_of_many_pieces<D: Device>(device: &D) {
    let answer = device.stream_with(&StreamOptions::default().ring_bytes(1 << 16), |stream, _| {
        let ctx = stream.ctx().with_pool();
        for len in [1 << 14, (1 << 20) + 17, 3 << 20] {
            let values = noise(33, len);
            assert!(get(&ctx, ctx.upload_new(&values).unwrap().view()) == values, "{len} elements");
        }
    });
    answer.unwrap();
}

pub fn hand_overs_to_another_thread_keep_their_events<D: Device>(device: &D) {
    const TURNS: u32 = 500;
    let (to, from) = std::sync::mpsc::sync_channel::<Buffer<u32, Detached<D::Backend>>>(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            run(device, |mut stream, _| {
                for (turn, memory) in (0..).zip(from) {
                    let x = stream.ctx().attach(memory).unwrap();
                    assert_eq!(get(&stream.ctx(), x.view()), noise(turn, 64));
                    if turn % 7 == 0 {
                        stream.synchronize().unwrap();
                    }
                }
            });
        });
        run(device, move |stream, _| {
            for turn in 0..TURNS {
                let ctx = stream.ctx();
                to.send(ctx.detach(put(&ctx, &noise(turn, 64))).unwrap()).unwrap();
            }
        });
    });
}

pub fn an_arena_with_holes<D: Device>(device: &D) {
    run(device, |stream, _| {
        let mut stack = Stack::new(stream.ctx().pool());
        for round in 0..4 {
            let ctx = stream.ctx().with_device_alloc(&stack);
            let layer = |seed| -> Result<_> {
                let values = noise(seed, 5000);
                Ok((ctx.init_from(ctx.alloc(5000)?, staged(&ctx, &values).view())?, values))
            };
            let (mut before, mut expected) = layer(round).unwrap();
            for seed in 1..20 {
                let (next, values) = layer(round * 100 + seed).unwrap();
                assert_eq!(get(&ctx, before.view()), expected);
                (before, expected) = (next, values);
            }
            assert_eq!(get(&ctx, before.view()), expected);
            drop(before);
            stack.reset().unwrap();
        }
        assert_eq!(stack.usage().capacity, 2 * 20_224);
    });
}
