//! Buffers that are initialised by whatever writes them: what counts, what does not, and what a
//! kernel may do with its outputs.

use std::{
    cell::RefCell,
    convert::Infallible,
    mem::{forget, swap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tidelock::{
    BatchCopy, Buffer, Ctx, Element, Error, Permutation, Result,
    buffer::{Offsets, Output},
    driver::{Code, WriteOnly},
    error::Rejected,
    sim::{self, Call, Device, Fault, Sim},
    state::{DevicePermutation, RowNumbers},
    stream::{Staged, StreamAlloc},
};

use tidelock_test_support::memory::get;

use crate::{assert_clean, panics_with, put, ramp, staged, width};

type Pool<'c, 's> = Ctx<'c, Sim<'s>, StreamAlloc<Sim<'s>>>;
type Fresh<'s, T> = Buffer<std::mem::MaybeUninit<T>, Sim<'s>>;

/// Runs `test` on a stream with the race detector on, and asserts that nothing is left.
fn on_a_stream(test: impl for<'s> FnOnce(&mut tidelock::Stream<Sim<'s>>, &Device)) {
    let device = Device::new(sim::Options::default().race_detector(true));
    device.stream(|mut stream, _env| test(&mut stream, &device)).unwrap();
    assert_clean(&device);
    device.gpu().check().unwrap();
}

/// Runs `test` on a stream of a device that it breaks, and returns the code and what was found.
fn breaks(test: impl for<'s> FnOnce(Pool<'_, 's>)) -> (&'static str, String) {
    let device = Device::new(sim::Options::quick());
    let _ = device.stream(|mut stream, _env| {
        test(stream.ctx().with_pool());
        stream.synchronize().unwrap_err();
    });
    let report = device.gpu().report();
    (report.sticky.unwrap().name(), report.findings[0].clone())
}

fn fresh<'s, T: Element>(ctx: &Pool<'_, 's>, len: usize) -> Fresh<'s, T> {
    ctx.alloc(len).unwrap()
}

/// The elements of a single buffer that `f` leaves unwritten, if it leaves some.
fn missing<'s>(ctx: &Pool<'_, 's>, f: impl for<'o> FnOnce(Output<'o, u32, Sim<'s>>) -> Result<()>) -> usize {
    match ctx.init_with(fresh(ctx, 8), f) {
        Ok((buffer, ())) => {
            assert_eq!(buffer.len(), 8);
            0
        }
        Err(Rejected { error: Error::Unwritten { output: 0, missing, len: 8 }, value }) => {
            assert_eq!(value.len(), 8);
            missing
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn kernels_copies_uploads_fills_batches_and_groups_initialise_in_any_mixture() {
    on_a_stream(|stream, device| {
        let ctx = stream.ctx().with_pool();
        // The ring takes its memory at its first upload.
        let (x, page) = (ctx.upload_new(&ramp(1, 6)).unwrap(), staged(&ctx, &ramp(100, 4)));
        let host = Buffer::<u32, tidelock::location::Host>::from_slice(&ramp(50, 2)).unwrap();
        let mut batch = BatchCopy::new();
        let allocations = device.gpu().counts().total();
        let memory = (fresh::<u32>(&ctx, 20), fresh::<bool>(&ctx, 6));
        let before = device.gpu().counts().total();
        assert_eq!(before - allocations, 2);
        let ((y, mask), sum) = ctx
            .init_with(memory, |(y, mask)| {
                let (a, rest) = y.split_at(6)?;
                let (b, rest) = rest.split_at(2)?;
                let (c, rest) = rest.split_at(4)?;
                let (d, rest) = rest.split_at(2)?;
                let (e, f) = rest.split_at(3)?;
                ctx.launch((x.view(), a, 2_u32, mask), |(x, mut a, k, mut mask)| {
                    a.write_iter(x.iter().map(|x| k * x));
                    mask.write_iter(x.iter().map(|&x| x > 3));
                })?;
                ctx.upload(&[7, 8], b)?;
                ctx.copy(page.view(), c)?;
                ctx.clear(d)?;
                let odd = batch.scope(&ctx, |batch| {
                    batch.copy(x.view().slice(..3)?, e)?;
                    batch.group(|group| {
                        let (first, second) = f.split_at(1)?;
                        group.copy_unmerged(x.view().slice(5..)?, first)?;
                        group.copy(host.view(), second)?;
                        Ok::<_, Error>(3)
                    })
                })?;
                Ok::<_, Error>(odd + 1)
            })
            .unwrap();
        // A launch, an upload, a copy, a fill, a batch.
        assert_eq!((sum, device.gpu().counts().total() - before), (4, 5));
        assert_eq!(get(&ctx, y.view()), [2, 4, 6, 8, 10, 12, 7, 8, 100, 101, 102, 103, 0, 0, 1, 2, 3, 6, 50, 51]);
        assert_eq!(get(&ctx, mask.view()), [false, false, false, true, true, true]);
    });
}

#[test]
fn rows_of_warps_initialise() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (old, more) = (put(&ctx, &ramp(0, 64 * 4)), put(&ctx, &ramp(1000, 64)));
        let rows = [(0..64).rev().map(|i| i % 4).collect::<Vec<u32>>(), (0..24).map(|i| i * 3 % 5).collect()];
        // The first are worth a gather where the backend has one. Warps by device numbers are always one.
        for rows in rows {
            let old = old.view().rows(width(64)).unwrap();
            let (stays, joins) = (rows.iter().all(|&row| row < 4), rows.contains(&4));
            let permutation = Permutation::new(&rows, 4, usize::from(joins)).unwrap();
            let numbers = DevicePermutation::upload(&ctx, permutation).unwrap();
            let len = rows.len() * 64;
            let memory = || (fresh::<u32>(&ctx, len), fresh::<u32>(&ctx, len));
            if stays {
                let none = more.view().slice(..0).unwrap().rows(width(64)).unwrap();
                let four = (memory(), memory());
                let (((a, b), (c, d)), ()) = ctx
                    .init_with(four, |((a, b), (c, d))| {
                        BatchCopy::new().scope(&ctx, |batch| {
                            batch.group(|group| {
                                group.warp(old, permutation, a.rows(width(64))?)?;
                                group.warp_by(old, numbers.numbers(), b.rows(width(64))?)?;
                                group.warp_join(old, none, permutation, c.rows(width(64))?)?;
                                group.warp_join_by(old, none, numbers.numbers(), d.rows(width(64))?)
                            })
                        })
                    })
                    .unwrap();
                let expected: Vec<u32> = rows.iter().flat_map(|&row| ramp(64 * row, 64)).collect();
                for y in [a, b, c, d] {
                    assert_eq!(get(&ctx, y.view()), expected);
                }
            } else {
                let joining = more.view().rows(width(64)).unwrap();
                let ((a, b), ()) = ctx
                    .init_with(memory(), |(a, b)| {
                        BatchCopy::new().scope(&ctx, |batch| {
                            batch.group(|group| {
                                group.warp_join(old, joining, permutation, a.rows(width(64))?)?;
                                group.warp_join_by(old, joining, numbers.numbers(), b.rows(width(64))?)
                            })
                        })
                    })
                    .unwrap();
                let row = |row| if row == 4 { ramp(1000, 64) } else { ramp(64 * row, 64) };
                let expected: Vec<u32> = rows.iter().flat_map(|&number| row(number)).collect();
                assert_eq!((get(&ctx, a.view()), get(&ctx, b.view())), (expected.clone(), expected));
                // The positions of rows that join are left as they are.
                let missing = 64 * rows.iter().filter(|&&row| row == 4).count();
                let rejected = ctx.init_with(memory(), |(a, b)| {
                    BatchCopy::new().scope(&ctx, |batch| {
                        batch.group(|group| {
                            group.warp(old, permutation, a.rows(width(64))?)?;
                            group.warp_by(old, numbers.numbers(), b.rows(width(64))?)
                        })
                    })
                });
                assert_eq!(rejected.unwrap_err().error, Error::Unwritten { output: 0, missing, len });
                let rejected = ctx.init_with(fresh::<u32>(&ctx, len), |a| {
                    BatchCopy::new().scope(&ctx, |batch| {
                        batch.group(|group| group.warp_by(old, numbers.numbers(), a.rows(width(64))?))
                    })
                });
                assert_eq!(rejected.unwrap_err().error, Error::Unwritten { output: 0, missing, len });
                // Row numbers that the host does not have: nothing is known of the rows that stay.
                let view = numbers.numbers().as_view();
                // SAFETY:
                // - The numbers are those of a permutation of 4 rows and one that joins.
                let unknown = unsafe { RowNumbers::unchecked(view, 4, 1) };
                let rejected = ctx.init_with(fresh::<u32>(&ctx, len), |a| {
                    BatchCopy::new()
                        .scope(&ctx, |batch| batch.group(|group| group.warp_by(old, unknown, a.rows(width(64))?)))
                });
                assert_eq!(rejected.unwrap_err().error, Error::Unwritten { output: 0, missing: len, len });
            }
        }
    });
}

#[test]
fn ragged_rows_initialise_what_they_fill() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (old, more) = (put(&ctx, &ramp(0, 6)), put(&ctx, &ramp(100, 3)));
        let (starts, joining) = ([0, 1, 4, 6], [0, 3]);
        let (old, more) = (
            old.view().ragged(Offsets::new(&starts, "starts").unwrap()).unwrap(),
            more.view().ragged(Offsets::new(&joining, "joining").unwrap()).unwrap(),
        );
        let permutation = Permutation::new(&[2, 3, 1], 3, 1).unwrap();
        let mut offsets = [0; 4];
        let mut batch = BatchCopy::new();
        let mut warp = |len| {
            ctx.init_with(fresh::<u32>(&ctx, len), |out| {
                batch.scope(&ctx, |batch| {
                    batch.group(|group| group.warp_ragged(old, more, permutation, out, &mut offsets))
                })
            })
        };
        let (packed, end) = warp(8).unwrap();
        assert_eq!((end, get(&ctx, packed.view())), (8, vec![4, 5, 100, 101, 102, 1, 2, 3]));
        assert_eq!(warp(11).unwrap_err().error, Error::Unwritten { output: 0, missing: 3, len: 11 });
        assert!(matches!(warp(7).unwrap_err().error, Error::Room { operand: "dst", row: 2, .. }));
        assert_eq!(offsets, [0, 2, 5, 8]);
        stream.synchronize().unwrap();
    });
}

#[test]
fn what_is_not_written_is_not_counted() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let source = put(&ctx, &ramp(0, 8));
        let src = source.view();
        let mut batch = BatchCopy::new();
        assert_eq!(missing(&ctx, |out| ctx.copy(src, out)), 0);
        assert_eq!(missing(&ctx, |_| Ok(())), 8);
        assert_eq!(
            missing(&ctx, |out| {
                forget(out);
                Ok(())
            }),
            8
        );
        assert_eq!(
            missing(&ctx, |out| {
                let (left, right) = out.split_at(3)?;
                drop(left);
                ctx.clear(right)
            }),
            3
        );
        let refused = |answer: Result<()>| assert!(matches!(answer, Err(Error::Length { .. })));
        assert_eq!(
            missing(&ctx, |out| {
                refused(ctx.copy(src.slice(..7)?, out));
                Ok(())
            }),
            8
        );
        assert_eq!(
            missing(&ctx, |out| {
                refused(ctx.upload(&[1], out));
                Ok(())
            }),
            8
        );
        assert_eq!(
            missing(&ctx, |out| {
                out.split_at(9).unwrap_err();
                Ok(())
            }),
            8
        );
        assert_eq!(
            missing(&ctx, |out| {
                out.rows(width(3)).unwrap_err();
                Ok(())
            }),
            8
        );
        // A batch: refused, failed, rolled back, and a group of it.
        assert_eq!(
            missing(&ctx, |out| {
                batch.scope(&ctx, |batch| {
                    refused(batch.copy(src.slice(..7)?, out));
                    Ok(())
                })
            }),
            8
        );
        assert_eq!(
            missing(&ctx, |out| {
                let answer: Result<()> = batch.scope(&ctx, |batch| {
                    batch.copy(src, out)?;
                    Err(Error::SameStream)
                });
                assert_eq!(answer, Err(Error::SameStream));
                Ok(())
            }),
            8
        );
        assert_eq!(
            missing(&ctx, |out| {
                let (left, right) = out.split_at(2)?;
                batch.scope(&ctx, |batch| {
                    batch.copy(src.slice(..2)?, left)?;
                    let answer: Result<()> = batch.group(|group| {
                        group.copy(src.slice(2..)?, right)?;
                        Err(Error::SameStream)
                    });
                    assert_eq!(answer, Err(Error::SameStream));
                    Ok(())
                })
            }),
            6
        );
        assert_eq!(
            missing(&ctx, |out| {
                let (left, right) = out.split_at(2)?;
                let (middle, right) = right.split_at(3)?;
                batch.scope(&ctx, |batch| {
                    batch.group(|group| group.copy(src.slice(..2)?, left))?;
                    panics_with("in a group", || {
                        batch.group(|group| -> Result<()> {
                            group.copy(src.slice(2..5)?, middle)?;
                            panic!("in a group")
                        })
                    });
                    batch.group(|group| group.copy(src.slice(5..)?, right))
                })
            }),
            3
        );
        assert_eq!(
            missing(&ctx, |out| {
                panics_with("in a scope", || {
                    batch.scope(&ctx, |batch| -> Result<()> {
                        batch.copy(src, out)?;
                        panic!("in a scope")
                    })
                });
                // What the panic has left in the storage is not counted by the next scope.
                batch.scope(&ctx, |_| Ok(()))
            }),
            8
        );
        // A group with outputs of two buffers, behind one that stays.
        let rejected = ctx.init_with((fresh::<u32>(&ctx, 8), fresh::<u32>(&ctx, 8)), |(a, b)| {
            let (a, c) = a.split_at(2)?;
            batch.scope(&ctx, |batch| {
                batch.copy(src.slice(..2)?, a)?;
                let answer: Result<()> = batch.group(|group| {
                    group.copy(src.slice(2..)?, c)?;
                    group.copy(src, b)?;
                    Err(Error::SameStream)
                });
                assert_eq!(answer, Err(Error::SameStream));
                Ok::<_, Error>(())
            })
        });
        assert_eq!(rejected.unwrap_err().error, Error::Unwritten { output: 0, missing: 6, len: 8 });
        let rejected = ctx.init_with((fresh::<u32>(&ctx, 8), fresh::<u32>(&ctx, 8)), |(a, b)| {
            batch.scope(&ctx, |batch| {
                batch.copy(src, a)?;
                let answer: Result<()> = batch.group(|group| {
                    group.copy(src, b)?;
                    Err(Error::SameStream)
                });
                assert_eq!(answer, Err(Error::SameStream));
                Ok::<_, Error>(())
            })
        });
        assert_eq!(rejected.unwrap_err().error, Error::Unwritten { output: 1, missing: 8, len: 8 });
        assert_eq!(get(&ctx, src), ramp(0, 8));
    });
}

#[test]
fn an_error_or_a_panic_of_the_closure_loses_no_memory() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        Tired,
        Library(Error),
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Mine::Library(error)
        }
    }
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let memory = (fresh::<u32>(&ctx, 4), ctx.alloc_pinned::<u8>(3).unwrap().stage(&ctx));
        let rejected = ctx.init_with(memory, |(a, _b)| {
            ctx.clear(a)?;
            Err::<Infallible, _>(Mine::Tired)
        });
        let Rejected { error, value } = rejected.unwrap_err();
        assert_eq!(error, Mine::Tired);
        // The memory is used again. Without what is missing the error says so.
        let rejected = ctx.init_with(value, |(a, b)| {
            let (left, _right) = b.split_at(1).map_err(Error::from)?;
            ctx.clear(left)?;
            ctx.clear(a).map_err(Mine::Library)
        });
        assert_eq!(
            rejected.as_ref().unwrap_err().error,
            Mine::Library(Error::Unwritten { output: 1, missing: 2, len: 3 })
        );
        let text = rejected.as_ref().unwrap_err().error_text();
        assert_eq!(text, "2 of the 3 elements of output 1 were not written");
        let memory = rejected.unwrap_err().value;
        panics_with("in init_with", || {
            ctx.init_with(memory, |(a, _b)| -> Result<()> {
                ctx.clear(a)?;
                panic!("in init_with")
            })
        });
        stream.synchronize().unwrap();
    });

    trait Text {
        fn error_text(&self) -> String;
    }
    impl<B> Text for Rejected<B, Mine> {
        fn error_text(&self) -> String {
            match self.error {
                Mine::Library(error) => error.to_string(),
                Mine::Tired => String::new(),
            }
        }
    }
}

/// An error passes through `?` as the plain one, and the buffers are dropped.
#[test]
fn a_question_mark_drops_the_buffers() {
    on_a_stream(|stream, device| {
        let ctx = stream.ctx().with_pool();
        let run = || -> Result<()> {
            let (_never, ()) = ctx.init_with(fresh::<u32>(&ctx, 4), |_| Ok(()))?;
            Ok(())
        };
        assert_eq!(run(), Err(Error::Unwritten { output: 0, missing: 4, len: 4 }));
        assert_eq!(device.gpu().report().allocations, 0);
        stream.synchronize().unwrap();
    });
}

#[test]
fn outputs_of_nested_calls_are_counted_apart() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &ramp(0, 8));
        let mut batch = BatchCopy::new();
        let (outer, ()) = ctx
            .init_with(fresh::<u32>(&ctx, 8), |out| {
                // The outer output is written in the inner call, which fails.
                let inner = ctx.init_with(fresh::<u32>(&ctx, 8), |inner| {
                    drop(inner);
                    ctx.copy(src.view(), out)
                });
                assert_eq!(inner.unwrap_err().error, Error::Unwritten { output: 0, missing: 8, len: 8 });
                Ok::<_, Error>(())
            })
            .unwrap();
        // Both in one batch, in turn, and the outputs swapped in between.
        let ((a, b), c) = ctx
            .init_with((fresh::<u32>(&ctx, 8), fresh::<u32>(&ctx, 8)), |(mut a, mut b)| {
                swap(&mut a, &mut b);
                let ((), c) = (
                    (),
                    ctx.init_with(fresh::<u32>(&ctx, 16), |c| {
                        batch.scope(&ctx, |batch| {
                            let (left, right) = c.split_at(8)?;
                            batch.copy(src.view(), left)?;
                            batch.copy(src.view(), a)?;
                            batch.copy(src.view(), right)?;
                            batch.copy(src.view(), b)
                        })
                    })?,
                );
                Ok::<_, Error>(c.0)
            })
            .unwrap();
        for y in [outer, a, b] {
            assert_eq!(get(&ctx, y.view()), ramp(0, 8));
        }
        assert_eq!(get(&ctx, c.view()), [ramp(0, 8), ramp(0, 8)].concat());
    });
}

/// A batch that is open around the call cannot take the output (`ui-tests/outputs`), and may take
/// what was initialised.
#[test]
fn a_batch_around_the_call_goes_on() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (src, mut dst) = (put(&ctx, &ramp(0, 8)), ctx.zeros::<u32>(8).unwrap());
        let made = RefCell::new(None);
        BatchCopy::new()
            .scope(&ctx, |batch| {
                batch.copy(src.view(), dst.view_mut())?;
                let (x, ()) = ctx.init_with(fresh::<u32>(&ctx, 8), |out| {
                    BatchCopy::new().scope(&ctx, |batch| batch.copy(src.view(), out))
                })?;
                *made.borrow_mut() = Some(x);
                Ok::<_, Error>(())
            })
            .unwrap();
        let made = made.into_inner().unwrap();
        assert_eq!((get(&ctx, made.view()), get(&ctx, dst.view())), (ramp(0, 8), ramp(0, 8)));
    });
}

#[test]
fn no_elements_and_elements_of_no_bytes_count_right() {
    on_a_stream(|stream, device| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        let before = device.gpu().counts().total();
        assert!(ctx.init_with(fresh::<u32>(&ctx, 0), |_| Ok::<_, Error>(())).is_ok());
        assert!(ctx.init_with((fresh::<u32>(&ctx, 0), fresh::<u8>(&ctx, 0)), |(a, _)| ctx.clear(a)).is_ok());
        type Nothing = [u32; 0];
        for len in [7, usize::MAX] {
            assert!(ctx.init_with(fresh::<Nothing>(&ctx, len), |out| ctx.clear(out)).is_ok());
            let rejected = ctx.init_with(fresh::<Nothing>(&ctx, len), |_| Ok::<_, Error>(()));
            assert_eq!(rejected.unwrap_err().error, Error::Unwritten { output: 0, missing: len, len });
            let source = ctx.init_zeros(fresh::<Nothing>(&ctx, len)).unwrap();
            let (left, right) = source.view().split_at(3).unwrap();
            let written = ctx.init_with(fresh::<Nothing>(&ctx, len), |out| {
                let (a, b) = out.split_at(3)?;
                batch.scope(&ctx, |batch| {
                    batch.copy(right, b)?;
                    batch.group(|group| group.copy(left, a))
                })
            });
            assert!(written.is_ok());
        }
        assert_eq!(device.gpu().counts().total(), before);
        let kernels: [fn(WriteOnly<'_, Nothing>); 2] =
            [|mut out| out.fill([]), |out| assert!(out.into_filled([]).len() > 7)];
        for kernel in kernels {
            let memory = fresh::<Nothing>(&ctx, usize::MAX);
            assert!(ctx.init_with(memory, |out| ctx.launch((out,), move |(out,)| kernel(out))).is_ok());
        }
        stream.synchronize().unwrap();
    });
    let (code, found) = breaks(|ctx| {
        let memory = fresh::<[u32; 0]>(&ctx, usize::MAX);
        assert!(ctx.init_with(memory, |out| ctx.launch((out,), |_| ())).is_ok());
    });
    assert_eq!(code, "ASSERT");
    assert!(found.contains("elements of an output unwritten"), "{found}");
}

#[test]
fn memory_of_an_arena_and_staged_memory_is_initialised_in_place() {
    on_a_stream(|stream, _| {
        let stack = tidelock::Stack::new(stream.ctx().pool());
        let ctx = stream.ctx().with_device_alloc(&stack);
        let page: Buffer<_, Staged<Sim<'_>>> = ctx.alloc_pinned::<u32>(3).unwrap().stage(&ctx);
        let memory = (ctx.alloc::<u32>(3).unwrap(), page);
        let places = (memory.0.as_ptr().addr(), memory.1.as_ptr().addr());
        let ((a, b), ()) = ctx
            .init_with(memory, |(a, b)| {
                ctx.upload(&[1, 2, 3], a)?;
                ctx.launch((b,), |(mut b,)| b.copy_from_slice(&[4, 5, 6]))
            })
            .unwrap();
        assert_eq!((a.as_ptr().addr(), b.as_ptr().addr()), places);
        let a = ctx.init_from(ctx.alloc_pinned(3).unwrap().stage(&ctx), a.view()).unwrap();
        let done = stream.synchronize().unwrap();
        assert_eq!((&a.reclaim(&done)[..], &b.reclaim(&done)[..]), (&[1, 2, 3][..], &[4, 5, 6][..]));
    });
}

#[test]
fn a_kernel_writes_its_outputs_in_any_order() {
    type Kernel = fn(WriteOnly<'_, u32>);
    let kernels: [Kernel; 9] = [
        |mut out| out.write_iter(0..),
        |mut out| (0..200).for_each(|i| out.write(i, i as u32)),
        |mut out| (0..200).rev().for_each(|i| out.write(i, i as u32)),
        |mut out| (0..200).for_each(|i| out.write(i * 77 % 200, (i * 77 % 200) as u32)),
        |mut out| out.copy_from_slice(&ramp(0, 200)),
        |mut out| {
            out.write_slice(100, &ramp(100, 100));
            out.write_slice(40, &ramp(40, 60));
            out.write_slice(200, &[]);
            out.write_slice(0, &ramp(0, 41));
        },
        |mut out| {
            out.fill(9);
            out.write_iter(ramp(0, 150));
            out.write_slice(150, &ramp(150, 50));
        },
        |out| out.into_filled(7).iter_mut().zip(0..).for_each(|(out, i)| *out = i),
        |mut out| {
            assert_eq!((out.len(), out.is_empty()), (200, false));
            out.write(199, 1);
            out.write(199, 199);
            out.write_iter(0..199);
        },
    ];
    on_a_stream(|stream, _| {
        for kernel in kernels {
            let ctx = stream.ctx().with_pool();
            let (x, ()) = ctx.init_with(fresh(&ctx, 200), |out| ctx.launch((out,), move |(out,)| kernel(out))).unwrap();
            assert_eq!(get(&ctx, x.view()), ramp(0, 200));
        }
    });
}

#[test]
fn a_kernel_that_leaves_elements_unwritten_breaks_the_device() {
    type Kernel = fn(WriteOnly<'_, bool>);
    let unwritten: [(Kernel, usize); 6] = [
        (|out| drop(out), 100),
        (|out| forget(out), 100),
        (|mut out| out.write_iter([true; 99]), 1),
        (|mut out| (1..100).for_each(|i| out.write(i, true)), 1),
        (|mut out| out.write_slice(64, &[true; 36]), 64),
        (|mut out| (0..100).filter(|i| i % 3 != 0).for_each(|i| out.write(i, true)), 34),
    ];
    for (kernel, missing) in unwritten {
        let (code, found) = breaks(|ctx| {
            // The kernel behind it does not run.
            let (mask, ()) =
                ctx.init_with(fresh(&ctx, 100), |out| ctx.launch((out,), move |(out,)| kernel(out))).unwrap();
            let _ = ctx.launch((mask.view(),), |_| unreachable!());
        });
        assert_eq!(code, "ASSERT");
        assert!(found.contains(&format!("leaves {missing} of the 100 elements")), "{found}");
    }
    let outside: [Kernel; 5] = [
        |mut out| out.write(100, true),
        |mut out| out.write(usize::MAX, true),
        |mut out| out.write_slice(99, &[true; 2]),
        |mut out| out.write_slice(usize::MAX, &[true; 2]),
        |mut out| out.copy_from_slice(&[true; 99]),
    ];
    for kernel in outside {
        let (code, found) = breaks(|ctx| {
            let out = ctx.init_with(fresh(&ctx, 100), |out| {
                ctx.launch((out,), move |(mut out,)| {
                    out.fill(false);
                    kernel(out);
                })
            });
            assert!(out.is_ok());
        });
        assert_eq!(code, "ILLEGAL_ADDRESS");
        assert!(found.contains("behind the end of an output of 100 elements"), "{found}");
    }
    let (code, _) = breaks(|ctx| {
        let out = ctx.init_with(fresh(&ctx, 100), |out| {
            ctx.launch((out,), |(mut out,): (WriteOnly<'_, bool>,)| {
                out.write_iter((0..100).map(|i| if i < 50 { true } else { panic!("in an iterator") }));
            })
        });
        assert!(out.is_ok());
    });
    assert_eq!(code, "LAUNCH_FAILED");
}

#[test]
fn a_refused_launch_and_a_broken_device_do_not_count() {
    on_a_stream(|stream, device| {
        let ctx = stream.ctx().with_pool();
        let src = ctx.upload_new(&ramp(0, 8)).unwrap();
        type Write = for<'o, 's> fn(&Pool<'_, 's>, &Buffer<u32, Sim<'s>>, Output<'o, u32, Sim<'s>>) -> Result<()>;
        let writes: [(Call, Write); 5] = [
            (Call::LaunchKernel, |ctx, _, out| ctx.launch((out,), |(mut out,)| out.fill(1))),
            (Call::MemcpyAsync, |ctx, src, out| ctx.copy(src.view(), out)),
            (Call::MemcpyAsync, |ctx, _, out| ctx.upload(&ramp(0, 8), out)),
            (Call::MemsetD8Async, |ctx, _, out| ctx.clear(out)),
            (Call::MemcpyBatchAsync, |ctx, src, out| BatchCopy::new().scope(ctx, |batch| batch.copy(src.view(), out))),
        ];
        for (call, write) in writes {
            let answer = missing(&ctx, |out| {
                device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(call), code: Code::UNKNOWN });
                let answer = write(&ctx, &src, out);
                assert!(matches!(answer, Err(Error::Driver(_))), "{call:?}: {answer:?}");
                Ok(())
            });
            assert_eq!(answer, 8, "{call:?}");
            device.gpu().disarm();
        }
        let large = [0_u8; 5000];
        let answer = ctx.init_with(fresh::<u32>(&ctx, 4), |out| {
            assert!(matches!(ctx.launch((out, large), |(mut out, _)| out.fill(1)), Err(Error::ByValue { .. })));
            Ok::<_, Error>(())
        });
        assert_eq!(answer.unwrap_err().error, Error::Unwritten { output: 0, missing: 4, len: 4 });
    });
    let (code, _) = breaks(|ctx| {
        let memory = (fresh::<u32>(&ctx, 4), fresh::<u32>(&ctx, 0));
        ctx.launch((0_u32,), |_| panic!("a kernel that faults")).unwrap();
        let done = Arc::new(());
        // Until the failure is seen, calls may succeed. From then on no output is counted, also one
        // of no elements that is written.
        while ctx.memory_info().is_ok() {}
        let answer = ctx.init_with(memory, |(a, b)| {
            assert!(matches!(ctx.clear(a), Err(Error::Poisoned(_))));
            assert!(matches!(ctx.clear(b), Err(Error::Poisoned(_))));
            let _ = &done;
            Ok::<_, Error>(())
        });
        assert_eq!(answer.unwrap_err().error, Error::Unwritten { output: 0, missing: 4, len: 4 });
    });
    assert_eq!(code, "LAUNCH_FAILED");
}

/// Debug and the counts of an output.
#[test]
fn an_output_says_how_long_it_is() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let answer = ctx.init_with(fresh::<u32>(&ctx, 6), |out| {
            assert_eq!((out.len(), out.is_empty()), (6, false));
            assert!(format!("{out:?}").starts_with("Output"));
            let rows = out.rows(width(3))?;
            assert_eq!((rows.row_count(), rows.width()), (2, width(3)));
            assert!(format!("{rows:?}").starts_with("OutputRows"));
            let mut rows = rows.into_iter();
            assert_eq!(rows.len(), 2);
            rows.try_for_each(|row| ctx.clear(row))
        });
        assert!(answer.is_ok());
        assert!(catch_unwind(AssertUnwindSafe(|| answer.unwrap())).is_ok());
        stream.synchronize().unwrap();
    });
}

#[test]
fn a_tensor_of_any_layout_initialises_an_output_row_by_row() {
    on_a_stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let src = ctx.upload_new(&[1_u32, 2, 3, 4, 5, 6]).unwrap().tensor([2, 3]).unwrap();
        let turned = src.view().transpose(0, 1).unwrap();
        let (alone, ()) = ctx.init_with(fresh(&ctx, 6), |out| ctx.copy_tensor(turned, out)).unwrap();
        assert_eq!(get(&ctx, alone.view()), [1, 4, 2, 5, 3, 6]);
        let (in_batch, ()) = ctx
            .init_with(fresh(&ctx, 8), |out: Output<'_, u32, _>| {
                let (matrix, rest) = out.split_at(6)?;
                let mut batch = BatchCopy::new();
                batch.scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_tensor(turned, matrix)?;
                        group.copy_tensor(src.view().slice(0, 1..)?.slice(1, ..2)?, rest)
                    })
                })
            })
            .unwrap();
        assert_eq!(get(&ctx, in_batch.view()), [1, 4, 2, 5, 3, 6, 4, 5]);
        // Neither of these writes anything.
        let length = ctx.init_with(fresh(&ctx, 5), |out| ctx.copy_tensor(turned, out));
        assert_eq!(length.unwrap_err().error, Error::Length { operand: "dst", expected: 6, found: 5 });
        let half = missing(&ctx, |out| {
            let (half, _) = out.split_at(4)?;
            ctx.copy_tensor(src.view().slice(1, 1..)?, half)
        });
        assert_eq!(half, 4);
        let failed = missing(&ctx, |out| {
            let _: Result<()> = BatchCopy::new().scope(&ctx, |batch| {
                batch.group(|group| group.copy_tensor(src.view().slice(0, ..1)?.view([3])?, out.split_at(3)?.0))?;
                Err(Error::OutOfRange { operand: "mine" })
            });
            Ok(())
        });
        assert_eq!(failed, 8);
    });
}
