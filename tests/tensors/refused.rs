//! What a copy of a tensor refuses.

use tidelock::{BatchCopy, Error, Layout, Result, sim};

fn quick() -> sim::Device {
    sim::Device::new(sim::Options::quick().race_detector(true))
}

#[test]
fn shapes_that_differ() {
    quick()
        .stream(|stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let src = ctx.zeros::<u16>(6)?.tensor([2, 3])?;
            let mut dst = ctx.zeros::<u16>(6)?.tensor([3, 2])?;
            let differ = Err(Error::Extent { operand: "dst", axis: 0, expected: 2, found: 3 });
            assert_eq!(ctx.copy_tensor(src.view(), dst.view_mut()), differ);
            let mut batch = BatchCopy::new();
            let answer = batch.scope(&ctx, |batch| batch.group(|group| group.copy_tensor(src.view(), dst.view_mut())));
            assert_eq!((answer, batch.stats().asked), (differ, 0));
            let empty = ctx.zeros::<u16>(0)?.tensor([0, 7])?;
            let mut none = ctx.zeros::<u16>(0)?.tensor([0, 7])?;
            ctx.copy_tensor(empty.view(), none.view_mut())?;
            Ok(())
        })
        .unwrap()
        .unwrap();
}

#[test]
fn a_tensor_that_was_not_initialised_comes_back() {
    quick()
        .stream(|stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let src = ctx.zeros::<u16>(6)?.tensor([2, 3])?;
            let fresh = ctx.alloc::<u16>(6)?.tensor([3, 2])?;
            let rejected = ctx.init_tensor(fresh, src.view()).unwrap_err();
            assert_eq!(rejected.error, Error::Extent { operand: "dst", axis: 0, expected: 2, found: 3 });
            let fresh = rejected.value.reshape([2, 3])?;
            assert_eq!(ctx.init_tensor(fresh, src.view())?.layout(), Layout::new([2, 3])?);
            Ok(())
        })
        .unwrap()
        .unwrap();
}
