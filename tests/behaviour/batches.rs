//! Batches: what a scope submits, and what it never does.

use tidelock::{BatchCopy, Buffer, Error, View, driver::Backend, location::Host, sim};

use super::{Gate, assert_clean, get, put, quick, ramp, slow, staged, width};

#[test]
fn a_swallowed_group_error_adds_nothing() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (put(&ctx, &ramp(1, 8)), ctx.zeros::<u32>(64).unwrap());
            let mut batch = BatchCopy::new();
            batch
                .scope(&ctx, |q| {
                    let failed = q.group(|g| {
                        for (i, row) in y.view_mut().chunks_exact(width(4)).enumerate() {
                            // Rows in descending order do not continue one another, and the third
                            // does not exist.
                            let from =
                                x.view().len().checked_sub(4 * (i + 1)).ok_or(Error::OutOfRange { operand: "x" })?;
                            g.copy(x.view().slice(from..from + 4)?, row)?;
                        }
                        Ok(())
                    });
                    assert_eq!(failed, Err(Error::OutOfRange { operand: "x" }));
                    Ok(())
                })
                .unwrap();
            assert_eq!((batch.stats().submissions, batch.stats().asked), (0, 0));
            assert_eq!(get(&mut stream, y.view()), [0; 64]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_failed_scope_submits_nothing_and_keeps_nothing() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut batch = BatchCopy::new();
            let mut y = put(&ctx, &ramp(0, 8));
            {
                let x = put(&ctx, &ramp(70, 8));
                let failed = batch.scope(&ctx, |q| {
                    q.copy(x.view(), y.view_mut())?;
                    Err::<(), _>(Error::OutOfRange { operand: "mine" })
                });
                assert_eq!(failed, Err(Error::OutOfRange { operand: "mine" }));
            }
            batch.scope(&ctx, |_| Ok(())).unwrap();
            assert_eq!(batch.stats().submissions, 0);
            assert_eq!(get(&mut stream, y.view()), ramp(0, 8));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn host_sources_are_read_during_the_call() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (x, from) = (put(&ctx, &ramp(30, 8)), staged(&ctx, &ramp(20, 8)));
            let mut y = ctx.zeros::<u32>(32).unwrap();
            let gate = Gate::close(&ctx);
            let mut vector = ramp(10, 8);
            let mut buffer = Buffer::<u32, Host>::from_slice(&ramp(40, 8)).unwrap();
            let mut batch = BatchCopy::new();
            batch
                .scope(&ctx, |q| {
                    let mut rows = y.view_mut().chunks_exact(width(8));
                    q.copy(View::from(&vector[..]), rows.next().unwrap())?;
                    q.group(|g| g.copy(from.view(), rows.next().unwrap()))?;
                    q.copy(x.view(), rows.next().unwrap())?;
                    q.group(|g| g.copy_unmerged(buffer.view(), rows.next().unwrap()))
                })
                .unwrap();
            vector.fill(0);
            buffer.fill(0);
            drop((vector, buffer, from, x));
            drop(gate);
            assert_eq!(batch.stats().submitted, 4);
            let expected = [ramp(10, 8), ramp(20, 8), ramp(30, 8), ramp(40, 8)].concat();
            assert_eq!(get(&mut stream, y.view()), expected);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn copies_of_every_kind_are_counted() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (put(&ctx, &ramp(10, 64)), ctx.zeros::<u32>(64).unwrap());
            let host = ramp(90, 4);
            let mut empty = ctx.zeros::<u32>(0).unwrap();
            let mut batch = BatchCopy::new();
            batch
                .scope(&ctx, |q| {
                    let mut to = y.view_mut().chunks_exact(width(4));
                    let (nothing, nor_here) = empty.view_mut().split_at(0)?;
                    let mut from = x.view().chunks_exact(width(4));
                    // 3 are added, and 2 remain after merging.
                    q.copy(from.next().unwrap(), to.next().unwrap())?;
                    q.copy(x.view().slice(..0)?, nothing)?;
                    q.copy(View::from(&host[..]), to.next().unwrap())?;
                    // 5 are added, the first three merge into one, and 2 remain.
                    q.group(|g| {
                        for _ in 0..3 {
                            g.copy(from.next().unwrap(), to.next().unwrap())?;
                        }
                        g.copy(x.view().slice(..0)?, nor_here)?;
                        g.copy(View::from(&host[..]), to.next().unwrap())
                    })?;
                    // None.
                    let failed = q.group(|g| {
                        g.copy(from.next().unwrap(), to.next().unwrap())?;
                        g.copy(from.next().unwrap(), to.next().unwrap())?;
                        Err::<(), _>(Error::OutOfRange { operand: "mine" })
                    });
                    assert_eq!(failed, Err(Error::OutOfRange { operand: "mine" }));
                    // 1 is added, and 1 remains.
                    q.copy(from.next().unwrap(), to.next().unwrap())
                })
                .unwrap();
            let stats = batch.stats();
            assert_eq!((stats.asked, stats.submitted, stats.submissions), (9, 5, 1));
            assert_eq!(stats.bytes, 7 * 16);
            let expected = [ramp(10, 4), host.clone(), ramp(14, 12), host, vec![0; 8], ramp(34, 4), vec![0; 28]];
            assert_eq!(get(&mut stream, y.view()), expected.concat());
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn neighbouring_allocations_are_never_merged() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            // Sizes that fill a granule of the device exactly. Without padding the driver would
            // place them side by side.
            let sources: Vec<_> = (0..8).map(|i| put(&ctx, &ramp(i * 128, 128))).collect();
            let mut targets: Vec<_> = (0..8).map(|_| ctx.zeros::<u32>(128).unwrap()).collect();
            let mut batch = BatchCopy::new();
            batch
                .scope(&ctx, |q| {
                    q.group(|g| {
                        for (source, target) in sources.iter().zip(&mut targets) {
                            g.copy(source.view(), target.view_mut())?;
                        }
                        Ok(())
                    })
                })
                .unwrap();
            assert_eq!((batch.stats().asked, batch.stats().submitted), (8, 8));
            for (i, target) in (0..).zip(&targets) {
                assert_eq!(get(&mut stream, target.view()), ramp(i * 128, 128));
            }
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn an_initialised_and_an_uninitialised_target_are_both_written() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = put(&ctx, &ramp(3, 8));
            let mut empty = ctx.alloc::<u32>(8).unwrap();
            let mut full = ctx.zeros::<u32>(8).unwrap();
            BatchCopy::new()
                .scope(&ctx, |q| {
                    q.copy::<u32, _, _>(x.view(), empty.view_mut())?;
                    q.copy(x.view(), full.view_mut())
                })
                .unwrap();
            // SAFETY:
            // - The batch above writes every element.
            let empty = unsafe { empty.assume_init() };
            assert_eq!(get(&mut stream, empty.view()), ramp(3, 8));
            assert_eq!(get(&mut stream, full.view()), ramp(3, 8));
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_batch_grows_and_keeps_the_order_of_the_stream() {
    let device = slow();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = put(&ctx, &ramp(0, 1000));
            let mut y = ctx.zeros::<u32>(1000).unwrap();
            let mut batch = BatchCopy::new();
            for round in 0..4 {
                // Reversed element by element: a thousand copies, none of which continues another.
                batch
                    .scope(&ctx, |q| {
                        let mut targets: Vec<_> = y.view_mut().chunks_exact(width(1)).collect();
                        targets.reverse();
                        for (source, target) in x.view().chunks_exact(width(1)).zip(targets) {
                            q.copy(source, target)?;
                        }
                        Ok(())
                    })
                    .unwrap();
                core::mem::swap(&mut x, &mut y);
                assert_eq!(batch.stats().submitted, (round + 1) * 1000);
            }
            assert_eq!(get(&mut stream, x.view()), ramp(0, 1000));
            assert_eq!(get(&mut stream, y.view()), ramp(0, 1000).into_iter().rev().collect::<Vec<_>>());
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_host_source_is_not_merged_with_staged_memory_in_front_of_it() {
    let device = quick();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            // Two adjacent pieces of the pinned pool: one is staged, the other stays on the host
            // and is read as a slice.
            let mut pieces: Vec<_> = (0..200).map(|_| super::pinned(&ramp(50, 64))).collect();
            pieces.sort_by_key(|piece| piece.as_ptr());
            let touch = |pair: &[Buffer<u32, _>]| pair[0].as_ptr().wrapping_add(64) == pair[1].as_ptr();
            let at = pieces.windows(2).position(touch).unwrap();
            let (mut host, front) = (pieces.swap_remove(at + 1), pieces.swap_remove(at).stage(&ctx));
            let mut y = ctx.zeros::<u32>(128).unwrap();
            let gate = Gate::close(&ctx);
            let mut batch = BatchCopy::new();
            batch
                .scope(&ctx, |q| {
                    q.group(|g| {
                        let (head, tail) = y.view_mut().split_at(64)?;
                        g.copy(front.view(), head)?;
                        g.copy(View::<u32, Host>::from(&host[..]), tail)
                    })
                })
                .unwrap();
            host.fill(0);
            drop(gate);
            assert_eq!(batch.stats().submitted, 2);
            assert_eq!(get(&mut stream, y.view()), [ramp(50, 64), ramp(50, 64)].concat());
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_source_that_was_read_during_the_call_may_go() {
    let device = slow();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x = ctx.zeros::<u32>(1 << 20).unwrap();
            // Large enough for a block of its own, so that trimming the pool gives it back to the
            // driver.
            let page = ctx.alloc_pinned::<u32>(1 << 20).unwrap().write_with(|i| i as u32);
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |batch| batch.copy(View::from(&page[..]), x.view_mut())).unwrap();
            drop(page);
            sim::SimBackend::PINNED.trim(0).unwrap();
            let read = x.view().slice(..3).unwrap();
            let out = ctx.init_from(ctx.alloc_pinned(3).unwrap().stage(&ctx), read).unwrap();
            assert_eq!(ctx.fence(out).unwrap().wait().unwrap()[..], [0, 1, 2]);
        })
        .unwrap();
}
