//! Allocators: pools, arenas, synchronous memory, and out of memory.

use tidelock::{Ctx, Device, DeviceLocation, Error, Stack, driver::Pool, stream::StreamOptions};

use super::{get, holds, noise, put, run, staged};

pub fn an_arena_is_used_again<D: Device>(device: &D) {
    run(device, |stream, _| {
        let mut stack = Stack::new(stream.ctx().pool());
        for round in 0..20 {
            let ctx = stream.ctx().with_device_alloc(&stack);
            let (a, b) = (noise(round, 1000), noise(round + 1, 333));
            let x = ctx.init_from(ctx.alloc::<u32>(1000).unwrap(), staged(&ctx, &a).view()).unwrap();
            let y = ctx.init_from(ctx.alloc::<u32>(333).unwrap(), staged(&ctx, &b).view()).unwrap();
            // Enqueued before the next round uses the memory again.
            let seen = ctx.init_from(ctx.alloc_pinned::<u32>(1000).unwrap().stage(&ctx), x.view()).unwrap();
            assert_eq!(get(&ctx, y.view()), b);
            drop((x, y));
            let z = ctx.zeros::<u32>(1000).unwrap();
            assert_eq!(ctx.fence(seen).unwrap().wait().unwrap()[..], a);
            assert_eq!(get(&ctx, z.view()), [0; 1000]);
            drop(z);
            stack.reset().unwrap();
        }
        assert_eq!(stack.usage().in_use, 0);
        assert!(stack.usage().capacity >= 5333, "{:?}", stack.usage());
    });
}

pub fn pools_of_either_kind<D: Device>(device: &D) {
    let pools = [Pool::Default, Pool::Own { release_threshold: 0 }, Pool::Own { release_threshold: u64::MAX }];
    for pool in pools {
        let answer = device.stream_with(&StreamOptions::default().pool(pool), |mut stream, _| {
            for round in 0..5 {
                let values = noise(round, 50_000);
                holds(&stream.ctx(), stream.ctx().pool(), &values);
                // Memory is returned to the driver at a synchronise, or not. It can be allocated
                // again either way.
                stream.synchronize().unwrap();
            }
        });
        answer.unwrap();
    }
}

pub fn trimming_keeps_what_lives<D: Device>(device: &D) {
    for pool in [Pool::Default, Pool::Own { release_threshold: u64::MAX }] {
        let answer = device.stream_with(&StreamOptions::default().pool(pool), |mut stream, _| {
            let values = noise(13, 1 << 20);
            let ctx = stream.ctx();
            let kept = put(&ctx, &values);
            drop((0..8).map(|i| put(&ctx, &noise(i, 1 << 20))).collect::<Vec<_>>());
            for keep in [usize::MAX, 1 << 23, 0] {
                stream.trim(keep).unwrap();
                assert_eq!(get(&stream.ctx(), kept.view()), values);
            }
            holds(&stream.ctx(), stream.ctx().pool(), &values);
        });
        answer.unwrap();
    }
}

pub fn synchronous_memory<D: Device>(device: &D) {
    let answer = device.stream_with(&StreamOptions::default().max_deferred_frees(3), |mut stream, _| {
        let ctx = stream.ctx();
        for round in 0..20 {
            // The stream has too little room for these deferred frees.
            holds(&ctx, ctx.sync_alloc(), &noise(round, 10_000));
        }
        stream.synchronize().unwrap();
        assert_eq!(stream.leaked_bytes(), 0);
    });
    answer.unwrap();
}

pub fn too_much_is_a_typed_error<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let (_, total) = ctx.memory_info().unwrap();
        let bytes = total * 2;
        // The request and the free memory, as the driver reports them.
        let is_out_of_memory = |error| match error {
            Error::OutOfMemory { location: "device", bytes: asked, shortage: Some(there) } => {
                (asked, there.total, there.device) == (bytes, total, ctx.device_ordinal()) && there.free <= total
            }
            _ => false,
        };
        assert!(is_out_of_memory(ctx.alloc::<u8>(bytes).unwrap_err()));
        assert!(is_out_of_memory(ctx.with_device_alloc(ctx.sync_alloc()).alloc::<u8>(bytes).unwrap_err()));
        // More than any machine has: the driver may return an invalid value instead.
        let absurd = isize::MAX as usize - 4096;
        let is_typed = |error| matches!(error, Error::OutOfMemory { .. } | Error::Driver(_));
        assert!(is_typed(ctx.alloc::<u8>(absurd).unwrap_err()));
        assert!(is_typed(ctx.alloc_pinned::<u8>(absurd).unwrap_err()));
        assert_eq!(ctx.alloc::<u64>(usize::MAX).unwrap_err(), Error::TooLarge { operand: "device" });
        usable(&ctx);
    });
}

pub fn memory_after_an_error<D: Device>(device: &D) {
    run(device, |mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let (x, y) = (put(&ctx, &noise(14, 1000)), ctx.zeros::<u32>(999).unwrap());
        let before = ctx.alloc::<u32>(10).unwrap();
        ctx.alloc::<u8>(ctx.memory_info().unwrap().1 * 2).unwrap_err();
        let mut y = y;
        ctx.copy(x.view(), y.view_mut()).unwrap_err();
        drop((x, before, y));
        usable(&ctx);
        stream.synchronize().unwrap();
        assert_eq!(stream.leaked_bytes(), 0);
    });
}

pub fn many_allocations_of_all_sizes<D: Device>(device: &D) {
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut live = Vec::new();
        for i in 0..200_usize {
            // From one element to a megabyte, in random order.
            let len = 1 << (i * 7 % 19);
            live.push((i as u32, put(&ctx, &noise(i as u32, len))));
            if i % 3 == 0 {
                live.swap_remove(i % live.len());
            }
        }
        for (seed, memory) in &live {
            assert_eq!(get(&ctx, memory.view()), noise(*seed, memory.len()));
        }
    });
}

pub fn the_device_reports_its_memory<D: Device>(device: &D) {
    run(device, |stream, _| {
        let (free, total) = stream.ctx().memory_info().unwrap();
        assert!(free <= total && total > 1 << 20, "{free} of {total}");
    });
}

fn usable<L: DeviceLocation, A: Copy>(ctx: &Ctx<'_, L, A>) {
    assert_eq!(get(ctx, put(ctx, &[1, 2, 3]).view()), [1, 2, 3]);
}
