//! Batches of copies.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Buffer, Device, Error, Result, View,
    location::Host,
    stream::{On, OnBackend},
};

use super::{get, noise, put, run, staged};

pub fn a_batch_goes_all_ways_at_once<D: Device>(device: &D) {
    let (a, b, c, d) = (noise(1, 500), noise(2, 7), noise(3, 64), noise(4, 1000));
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (on_device, page, heap) = (put(&ctx, &a), staged(&ctx, &b), Buffer::<u32, Host>::from_slice(&c).unwrap());
        let (mut up, mut across) = (ctx.zeros::<u32>(7).unwrap(), ctx.zeros::<u32>(500).unwrap());
        let (mut from_heap, mut from_slice) = (ctx.zeros::<u32>(64).unwrap(), ctx.zeros::<u32>(1000).unwrap());
        let mut down = ctx.init_zeros(ctx.alloc_pinned::<u32>(500).unwrap().stage(&ctx)).unwrap();
        let mut over = ctx.init_zeros(ctx.alloc_pinned::<u32>(7).unwrap().stage(&ctx)).unwrap();
        let mut batch = BatchCopy::new();
        let answer = batch.scope(&ctx, |batch| {
            batch.copy(heap.view(), from_heap.view_mut())?;
            batch.copy(page.view(), up.view_mut())?;
            batch.copy(on_device.view(), across.view_mut())?;
            batch.copy(View::from(&d[..]), from_slice.view_mut())?;
            batch.copy(on_device.view(), down.view_mut())?;
            batch.copy(page.view(), over.view_mut())
        });
        answer.unwrap();
        assert_eq!((batch.stats().submissions, batch.stats().submitted), (1, 6));
        assert_eq!(get(&ctx, from_heap.view()), c);
        assert_eq!(get(&ctx, from_slice.view()), d);
        assert_eq!(get(&ctx, up.view()), b);
        assert_eq!(get(&ctx, across.view()), a);
        let (down, over) = (ctx.fence(down).unwrap(), ctx.fence(over).unwrap());
        let (down, over) = (down.wait().unwrap(), over.wait().unwrap());
        assert_eq!((&down[..], &over[..]), (&a[..], &b[..]));
    });
}

pub fn sources_in_host_memory_are_read_at_once<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        for len in [1, 1000, 100_000] {
            // Plain host memory, and page-locked memory as a slice, which the driver would read
            // after the call.
            let mut heap = noise(7, len);
            let mut page = Buffer::<u32, <On<'_, D::Backend> as OnBackend>::Pinned>::from_slice(&heap).unwrap();
            let (mut x, mut y) = (ctx.zeros::<u32>(len).unwrap(), ctx.zeros::<u32>(len).unwrap());
            let answer = batch.scope(&ctx, |batch| {
                batch.copy(View::from(&heap[..]), x.view_mut())?;
                batch.copy(View::from(&page[..]), y.view_mut())
            });
            answer.unwrap();
            heap.fill(0);
            page.fill(0);
            assert_eq!(get(&ctx, x.view()), noise(7, len), "{len} elements of the heap");
            assert_eq!(get(&ctx, y.view()), noise(7, len), "{len} elements in page-locked memory");
        }
    });
}

pub fn big_batches<D: Device>(device: &D) {
    const ROW: NonZero<usize> = NonZero::new(16).unwrap();
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        // Around the edges of a chunk, and far beyond one.
        for rows in [2, 4095, 4096, 4097, 10_000] {
            let values = noise(8, rows * 16);
            let x = put(&ctx, &values);
            let mut y = ctx.zeros::<u32>(rows * 16).unwrap();
            let answer = batch.scope(&ctx, |batch| -> Result<()> {
                let sources: Vec<_> = x.view().chunks_exact(ROW).collect();
                for (i, dst) in y.view_mut().chunks_exact(ROW).enumerate() {
                    batch.copy(sources[rows - 1 - i], dst)?;
                }
                Ok(())
            });
            answer.unwrap();
            let expected: Vec<u32> = values.chunks(16).rev().flatten().copied().collect();
            assert_eq!(get(&ctx, y.view()), expected, "{rows} rows");
        }
    });
}

/// A batch that the device begins at once, and a second one that reads what the first has written:
/// the same copies again, other batches in between, and never the same contents.
pub fn batches_on_an_idle_stream<D: Device>(device: &D) {
    const ROW: NonZero<usize> = NonZero::new(16).unwrap();
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        let [mut x, mut y, mut z] = [(); 3].map(|()| ctx.zeros::<u8>(16 * 1600).unwrap());
        for (round, rows) in (0..).zip([2, 2, 300, 2, 7, 300, 1600, 50, 9, 300, 2, 50, 1600, 7].repeat(3)) {
            let bytes: Vec<u8> = noise(round, 4 * 1600).into_iter().flat_map(u32::to_le_bytes).collect();
            ctx.copy(staged(&ctx, &bytes).view(), x.view_mut()).unwrap();
            ctx.clear(y.view_mut()).unwrap();
            ctx.clear(z.view_mut()).unwrap();
            while !stream.is_idle().unwrap() {}
            // In the second batch, rows lose a byte at either end, so that it takes another route
            // than the first.
            for first in [true, false] {
                let (from, to, bytes) =
                    if first { (x.view(), y.view_mut(), 0..16) } else { (y.view(), z.view_mut(), 1..15) };
                let answer = batch.scope(&ctx, |batch| -> Result<()> {
                    let from: Vec<_> = from.slice(..16 * rows)?.chunks_exact(ROW).collect();
                    for (from, to) in from.into_iter().rev().zip(to.slice(..16 * rows)?.chunks_exact(ROW)) {
                        batch.copy(from.slice(bytes.clone())?, to.slice(bytes.clone())?)?;
                    }
                    Ok(())
                });
                answer.unwrap();
            }
            let mut reversed: Vec<u8> = bytes[..16 * rows].chunks(16).rev().flatten().copied().collect();
            reversed.resize(16 * 1600, 0);
            assert_eq!(get(&ctx, y.view()), reversed, "round {round}");
            let inside = |i: usize| if i < 16 * rows && !matches!(i % 16, 0 | 15) { bytes[i] } else { 0 };
            assert_eq!(get(&ctx, z.view()), (0..16 * 1600).map(inside).collect::<Vec<_>>(), "round {round}");
        }
    });
}

pub fn big_batches_from_the_host<D: Device>(device: &D) {
    const ROW: NonZero<usize> = NonZero::new(8).unwrap();
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        // Some chunks hold both kinds of sources, some only one.
        for (from_pinned, from_heap) in [(1, 4096), (4095, 2), (4096, 1), (5000, 5000), (0, 10_000)] {
            let (pinned, mut heap) = (noise(9, from_pinned * 8), noise(10, from_heap * 8));
            let page = staged(&ctx, &pinned);
            let mut y = ctx.zeros::<u32>((from_pinned + from_heap) * 8).unwrap();
            let answer = batch.scope(&ctx, |batch| -> Result<()> {
                let mut rows = y.view_mut().chunks_exact(ROW);
                for src in page.view().chunks_exact(ROW) {
                    batch.copy(src, rows.next().unwrap())?;
                }
                for (src, dst) in heap.chunks(8).zip(rows) {
                    batch.copy(View::from(src), dst)?;
                }
                Ok(())
            });
            answer.unwrap();
            heap.fill(0);
            let expected = [pinned, noise(10, from_heap * 8)].concat();
            assert_eq!(get(&ctx, y.view()), expected, "{from_pinned} pinned rows and {from_heap} others");
        }
    });
}

pub fn neighbouring_allocations_are_not_merged<D: Device>(device: &D) {
    const BYTES: usize = 2 << 20;
    // Drivers put allocations of 2 MiB side by side, and refuse a copy that spans two of them.
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let sources: Vec<_> = (0..16_u8).map(|i| put(&ctx, &vec![i + 1; BYTES])).collect();
        let mut targets: Vec<_> = (0..16).map(|_| ctx.zeros::<u8>(BYTES).unwrap()).collect();
        let mut batch = BatchCopy::new();
        let answer = batch.scope(&ctx, |batch| {
            batch.group(|group| -> Result<()> {
                for (src, dst) in sources.iter().zip(&mut targets) {
                    group.copy(src.view(), dst.view_mut())?;
                }
                Ok(())
            })
        });
        answer.unwrap();
        assert_eq!(batch.stats().submitted, 16);
        for (i, target) in (1..).zip(&targets) {
            assert!(get(&ctx, target.view()).iter().all(|&byte| byte == i), "allocation {i}");
        }
    });
}

pub fn neighbouring_pieces_are_merged<D: Device>(device: &D) {
    const ROW: NonZero<usize> = NonZero::new(5).unwrap();
    let values = noise(11, 5000);
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &values), ctx.zeros::<u32>(5000).unwrap());
        let mut batch = BatchCopy::new();
        let answer = batch.scope(&ctx, |batch| {
            batch.group(|group| -> Result<()> {
                for (src, dst) in x.view().chunks_exact(ROW).zip(y.view_mut().chunks_exact(ROW)) {
                    group.copy(src, dst)?;
                }
                Ok(())
            })
        });
        answer.unwrap();
        assert_eq!((batch.stats().asked, batch.stats().submitted), (1000, 1));
        assert_eq!(get(&ctx, y.view()), values);
    });
}

pub fn large_copies_in_a_batch<D: Device>(device: &D) {
    // 128 KiB, one element more, and 4 MiB: on both sides of the size from which copies overlap.
    let sizes = [1 << 15, (1 << 15) + 1, 1 << 20];
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let sources: Vec<_> = sizes.iter().map(|&len| put(&ctx, &noise(12, len))).collect();
        let mut targets: Vec<_> = sizes.iter().map(|&len| ctx.zeros::<u32>(len).unwrap()).collect();
        let mut batch = BatchCopy::new();
        let answer = batch.scope(&ctx, |batch| -> Result<()> {
            for (src, dst) in sources.iter().zip(&mut targets) {
                batch.copy(src.view(), dst.view_mut())?;
            }
            Ok(())
        });
        answer.unwrap();
        for (&len, target) in sizes.iter().zip(&targets) {
            assert_eq!(get(&ctx, target.view()), noise(12, len));
        }
    });
}

pub fn a_batch_that_fails_copies_nothing<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &[1_u32; 10]), put(&ctx, &[2_u32; 10]));
        let mut batch = BatchCopy::new();
        let error = Error::Length { operand: "dst", expected: 5, found: 4 };
        let answer = batch.scope(&ctx, |batch| -> Result<()> {
            let (head, tail) = y.view_mut().split_at(5)?;
            batch.copy(x.view().slice(..5)?, head)?;
            batch.copy(x.view().slice(..5)?, tail.slice(..4)?)
        });
        assert_eq!(answer, Err(error));
        assert_eq!(batch.stats().submissions, 0);
        assert_eq!(get(&ctx, y.view()), [2; 10]);
        batch.scope(&ctx, |batch| batch.copy(x.view(), y.view_mut())).unwrap();
        assert_eq!(get(&ctx, y.view()), [1; 10]);
    });
}
