//! Outputs with a layout: what initialises a tensor, and what does not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidelock::{
    BatchCopy, Buffer, Error, Layout, Permutation, Result, Stream,
    driver::Code,
    error::Rejected,
    location::Host,
    sim::{self, Call, Fault, Sim},
    tensor::OutputTensor,
};
use tidelock_test_support::memory::width;

fn on_a_stream(f: impl for<'s> FnOnce(&sim::Device, &mut Stream<Sim<'s>>) -> Result<()>) {
    let device = sim::Device::new(sim::Options::quick().race_detector(true));
    device.stream(|mut stream, _env| f(&device, &mut stream)).unwrap().unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

/// The element of row `i` and column `j` of what the copies below make.
fn expected(i: usize, j: usize) -> u32 {
    match j {
        0..3 => (100 + 4 * j + i) as u32,
        3 => 0,
        _ => (200 + 2 * i + (j - 4)) as u32,
    }
}

#[test]
fn parts_of_a_tensor_are_written_in_any_mixture() {
    on_a_stream(|_, stream| {
        let ctx = stream.ctx().with_pool();
        let turned = ctx.upload_new(&(100..112).collect::<Vec<u32>>())?.tensor([3, 4])?;
        let host = Buffer::<u32, Host>::from_fn(8, |i| 200 + i as u32)?.tensor([4, 2])?;
        let zeros = ctx.zeros::<u32>(1)?;
        let mut batch = BatchCopy::new();
        let (all, ()) = ctx.init_with(ctx.alloc::<u32>(24)?.tensor([4, 6])?, |out| {
            assert_eq!((out.shape(), out.layout(), out.size()), ([4, 6], Layout::new([4, 6])?, 24));
            let (left, right) = out.split_at(1, 4)?;
            let (left, gap) = left.split_at(1, 3)?;
            ctx.copy_tensor(turned.view(), left.permute([1, 0])?)?;
            batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    // The source names one element four times.
                    let zero = zeros.view().strided(Layout::strided([4, 1], [0, 0])?)?;
                    group.copy_tensor(zero, gap)?;
                    group.copy_tensor(host.view(), right)
                })
            })
        })?;
        let found = stream.read(all.buffer().view())?;
        assert!(found.iter().enumerate().all(|(at, value)| *value == expected(at / 6, at % 6)), "{found:?}");
        Ok(())
    });
}

#[test]
fn an_output_gets_a_shape_and_a_tensor_becomes_an_output() {
    on_a_stream(|_, stream| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.upload_new(&[1_u32, 2, 3, 4, 5, 6])?.tensor([2, 3])?;
        let fresh = (ctx.alloc::<u32>(6)?, ctx.alloc::<u32>(8)?.tensor([2, 2, 2])?);
        let ((turned, halves), ()) = ctx.init_with(fresh, |(turned, halves)| {
            ctx.copy_tensor(x.view().transpose(0, 1)?, turned.tensor([3, tidelock::layout::REST])?)?;
            let (one, other) = halves.split_at(0, 1)?;
            ctx.launch((one.contiguous()?,), |(mut one,)| one.fill(7))?;
            // The columns of the other half, one as rows of a Warp.
            let (left, right) = other.view([2, 2])?.split_at(1, 1)?;
            ctx.copy_tensor(x.view().slice(1, ..1)?, left)?;
            let (old, rows) = (x.view().view([6])?.contiguous()?.rows(width(1))?, right.rows()?);
            BatchCopy::new().scope(&ctx, |b| b.group(|g| g.warp(old, Permutation::new(&[5, 0], 6, 0)?, rows)))
        })?;
        assert_eq!(stream.read(turned.view())?, [1, 4, 2, 5, 3, 6]);
        assert_eq!((halves.shape(), stream.read(halves.buffer().view())?), ([2, 2, 2], vec![7, 7, 7, 7, 1, 6, 4, 1]));
        Ok(())
    });
}

#[test]
fn no_elements_need_no_write() {
    on_a_stream(|_, stream| {
        let ctx = stream.ctx().with_pool();
        let (none, ()) = ctx.init_with(ctx.alloc::<u32>(0)?.tensor([3, 0])?, |_| Ok::<_, Error>(()))?;
        assert_eq!(none.shape(), [3, 0]);
        // Elements of no bytes are counted, also as many as there can be.
        let most = isize::MAX as usize;
        let (src, fresh) = (ctx.zeros::<[u32; 0]>(most)?.tensor([most])?, ctx.alloc::<[u32; 0]>(most)?.tensor([most])?);
        let (units, ()) = ctx.init_with(fresh, |out| ctx.copy_tensor(src.view(), out))?;
        assert_eq!(units.size(), most);
        let refused = ctx.init_with(ctx.alloc::<[u32; 0]>(usize::MAX)?, |out| out.tensor([usize::MAX]).map(drop));
        assert_eq!(refused.unwrap_err().error, Error::TooLarge { operand: "layout" });
        Ok(())
    });
}

/// What of a tensor of eight elements `f` leaves unwritten.
fn missing<'s>(
    stream: &Stream<Sim<'s>>,
    f: impl for<'o> FnOnce(OutputTensor<'o, u32, Sim<'s>, 2>) -> Result<()>,
) -> usize {
    let ctx = stream.ctx().with_pool();
    match ctx.init_with(ctx.alloc(8).unwrap().tensor([2, 4]).unwrap(), f) {
        Ok(_) => 0,
        Err(Rejected { error: Error::Unwritten { output: 0, missing, len: 8 }, value }) => {
            assert_eq!(value.shape(), [2, 4]);
            missing
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn refused<T>(answer: Result<T>) -> Result<()> {
    assert!(answer.is_err());
    Ok(())
}

#[test]
fn what_is_not_enqueued_is_not_counted() {
    on_a_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let x = ctx.upload_new(&[1_u32; 8])?.tensor([2, 4])?;
        let (x, wrong) = (x.view(), x.view().transpose(0, 1)?);
        let mut batch = BatchCopy::new();
        let stream = &*stream;
        assert_eq!(missing(stream, |out| ctx.copy_tensor(x, out)), 0);
        assert_eq!(missing(stream, |_| Ok(())), 8);
        assert_eq!(missing(stream, |out| ctx.copy_tensor(x.slice(1, ..3)?, out.split_at(1, 3)?.0)), 2);
        assert_eq!(missing(stream, |out| refused(ctx.copy_tensor(wrong, out))), 8);
        assert_eq!(missing(stream, |out| refused(out.split_at(1, 5))), 8);
        assert_eq!(missing(stream, |out| refused(out.transpose(0, 1)?.contiguous())), 8);
        // Copies that the driver refuses: of one run, of several.
        let calls = [(Call::MemcpyAsync, true), (Call::MemcpyBatchAsync, false)];
        for (call, whole) in calls {
            let refused = missing(stream, |out| {
                device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(call), code: Code::UNKNOWN });
                let out = if whole { out } else { out.split_at(1, 3)?.0 };
                let answer = ctx.copy_tensor(if whole { x } else { x.slice(1, ..3)? }, out);
                device.gpu().disarm();
                assert!(answer.is_err(), "{call:?}");
                Ok(())
            });
            assert_eq!(refused, 8);
        }
        // A batch that is refused, one that panics, and a group that is rolled back.
        let failed = missing(stream, |out| {
            let answer: Result<()> = batch.scope(&ctx, |b| {
                b.group(|g| g.copy_tensor(x, out))?;
                Err(Error::SameStream)
            });
            assert_eq!(answer, Err(Error::SameStream));
            Ok(())
        });
        assert_eq!(failed, 8);
        let panics = missing(stream, |out| {
            let scope = AssertUnwindSafe(|| {
                batch.scope(&ctx, |b| -> Result<()> {
                    b.group(|g| g.copy_tensor(x, out))?;
                    panic!("in the scope")
                })
            });
            assert!(catch_unwind(scope).is_err());
            Ok(())
        });
        assert_eq!(panics, 8);
        let rolled_back = missing(stream, |out| {
            let (low, high) = out.split_at(0, 1)?;
            batch.scope(&ctx, |b| {
                let group = b.group(|g| {
                    g.copy_tensor(x.slice(0, ..1)?, low)?;
                    g.copy_tensor(wrong.slice(0, ..1)?, high.view([4, 1])?)
                });
                assert!(matches!(group, Err(Error::Extent { .. })));
                Ok(())
            })
        });
        assert_eq!(rolled_back, 8);
        Ok(())
    });
}
