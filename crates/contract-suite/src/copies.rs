//! Plain copies, fills and uploads.

use tidelock::{Device, Error, stream::StreamOptions};

use super::{get, noise, put, run, staged};

pub fn copies_carry_every_byte<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        for len in [1, 3, 255, 4096, (1 << 18) + 1] {
            let values = noise(1, len);
            let x = put(&ctx, &values);
            let y = ctx.init_from(ctx.alloc(len).unwrap(), x.view()).unwrap();
            drop(x);
            assert_eq!(get(&ctx, y.view()), values, "{len} elements");
        }
    });
}

pub fn copies_at_odd_addresses<D: Device>(device: &D) {
    let bytes: Vec<u8> = (0..=255).collect();
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let x = put(&ctx, &bytes);
        for (from, to, len) in [(1, 0, 1), (3, 5, 7), (0, 255, 1), (13, 1, 200)] {
            let mut y = ctx.zeros::<u8>(256).unwrap();
            ctx.copy(x.view().slice(from..from + len).unwrap(), y.view_mut().slice(to..to + len).unwrap()).unwrap();
            let mut expected = vec![0; 256];
            expected[to..to + len].copy_from_slice(&bytes[from..from + len]);
            assert_eq!(get(&ctx, y.view()), expected, "{len} bytes from {from} to {to}");
        }
    });
}

pub fn a_fill_ends_where_it_should<D: Device>(device: &D) {
    let values = noise(2, 1000);
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = put(&ctx, &values);
        ctx.clear(x.view_mut().slice(1..999).unwrap()).unwrap();
        let mut expected = vec![0; 1000];
        (expected[0], expected[999]) = (values[0], values[999]);
        assert_eq!(get(&ctx, x.view()), expected);
        // Staged memory is filled on the stream too.
        let mut page = staged(&ctx, &values);
        ctx.clear(page.view_mut().slice(1..999).unwrap()).unwrap();
        assert_eq!(ctx.fence(page).unwrap().wait().unwrap()[..], expected);
        assert_eq!(get(&ctx, ctx.zeros::<u32>(77).unwrap().view()), [0; 77]);
    });
}

pub fn uploads_read_the_slice_at_once<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        // Through the ring, and more than it holds: a quarter of it is 256 KiB.
        for len in [1, 100, 65_536, 65_537, 300_000] {
            let mut x = ctx.zeros::<u32>(len).unwrap();
            let mut slice = noise(3, len);
            ctx.upload(&slice, x.view_mut()).unwrap();
            slice.fill(0);
            assert_eq!(get(&ctx, x.view()), noise(3, len), "{len} elements");
        }
    });
}

pub fn uploads_wrap_the_ring<D: Device>(device: &D) {
    let options = StreamOptions::default().ring_bytes(4096);
    let answer = device.stream_with(&options, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut rows = ctx.zeros::<u32>(300 * 75).unwrap();
        for row in 0..300 {
            let values = noise(row as u32 * 75, 75);
            ctx.upload(&values, rows.view_mut().slice(row * 75..(row + 1) * 75).unwrap()).unwrap();
        }
        assert_eq!(get(&ctx, rows.view()), noise(0, 300 * 75));
    });
    answer.unwrap();
}

pub fn borrowed_slices_go_both_ways<D: Device>(device: &D) {
    let source = noise(4, 5000);
    let mut target = vec![0; 5000];
    let mut lent_for_life = [0_u32; 3];
    run(device, |mut stream, env| {
        let answer = stream.host_scope(|scope| {
            let ctx = scope.ctx().with_pool();
            let x = ctx.init_from(ctx.alloc(5000).unwrap(), scope.source(&source)).unwrap();
            ctx.copy(x.view(), scope.target(&mut target)).unwrap();
        });
        answer.unwrap();
        let ctx = stream.ctx();
        ctx.copy(put(&ctx, &[1, 2, 3]).view(), env.target(&mut lent_for_life)).unwrap();
    });
    assert_eq!(target, source);
    assert_eq!(lent_for_life, [1, 2, 3]);
}

pub fn empty_operations_do_nothing<D: Device>(device: &D) {
    run(device, |mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (ctx.zeros::<u32>(0).unwrap(), ctx.zeros::<u32>(0).unwrap());
        let full = put(&ctx, &[5_u32]);
        ctx.copy(x.view(), y.view_mut()).unwrap();
        ctx.copy(full.view().slice(1..1).unwrap(), y.view_mut()).unwrap();
        ctx.upload(&[], y.view_mut()).unwrap();
        ctx.clear(y.view_mut()).unwrap();
        let none = ctx.init_from(ctx.alloc_pinned::<u32>(0).unwrap().stage(&ctx), x.view()).unwrap();
        assert!(ctx.fence(none).unwrap().wait().unwrap().is_empty());
        let mut batch = tidelock::BatchCopy::new();
        batch.scope(&ctx, |_| Ok(())).unwrap();
        batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())).unwrap();
        batch.scope(&ctx, |b| b.group(|g| g.copy(x.view(), y.view_mut()))).unwrap();
        assert_eq!(batch.stats().submissions, 0);
        assert_eq!(get(&ctx, full.view()), [5]);
        stream.synchronize().unwrap();
        stream.host_scope(|_| ()).unwrap();
    });
}

pub fn wrong_lengths_are_refused<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &[1_u32, 2, 3]), put(&ctx, &[4_u32, 5]));
        let error = Error::Length { operand: "dst", expected: 3, found: 2 };
        assert_eq!(ctx.copy(x.view(), y.view_mut()), Err(error));
        assert_eq!(ctx.upload(&[1, 2, 3], y.view_mut()), Err(error));
        let rejected = ctx.init_from(ctx.alloc::<u32>(2).unwrap(), x.view()).unwrap_err();
        assert_eq!((rejected.error, rejected.value.len()), (error, 2));
        assert_eq!(get(&ctx, y.view()), [4, 5]);
    });
}
