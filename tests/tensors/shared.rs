//! Tensors with several owners.

use tidelock::{
    Error, Layout, Result,
    layout::REST,
    sim::{self, Sim},
    stream::SharedTensor,
};

fn checked() -> sim::Device {
    sim::Device::new(sim::Options::quick().race_detector(true))
}

/// input_processor.cc:88 of TurboMind: `embeds.push_back(all.slice(offset, size))`, kept with the
/// sequence.
struct Sequence<'s> {
    embeds: Vec<SharedTensor<f32, Sim<'s>, 2>>,
}

#[test]
fn a_sequence_keeps_a_part() {
    let device = checked();
    device
        .stream(|mut stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let values: Vec<f32> = (0..40).map(|i| i as f32).collect();
            let mut sequence = Sequence { embeds: Vec::new() };
            let all = ctx.upload_new(&values)?.share().tensor([10, 4])?;
            sequence.embeds.push(all.slice(0, 3..5)?);
            sequence.embeds.push(all.slice(1, 1..3)?);
            drop(all);
            let mut columns = ctx.zeros::<f32>(20)?.tensor([10, 2])?;
            ctx.copy_tensor(sequence.embeds[1].view(), columns.view_mut())?;
            let rows = sequence.embeds[0].view().contiguous()?;
            assert_eq!(stream.read(rows)?, values[12..20]);
            let expected: Vec<f32> = (0..10).flat_map(|i| [4 * i + 1, 4 * i + 2]).map(|i| i as f32).collect();
            assert_eq!(stream.read(columns.buffer().view())?, expected);
            // The last owner of the memory may write it.
            drop(sequence.embeds.pop());
            let (mut memory, layout) = sequence.embeds.pop().unwrap().into_parts();
            assert_eq!(layout, Layout::new([2, 4])?);
            stream.ctx().clear(memory.get_mut().expect("the only owner"))?;
            Ok(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

#[test]
fn a_part_crosses_streams() {
    let device = checked();
    device
        .stream(|one, _env| {
            device.stream(|mut other, _env| -> Result<()> {
                let (ctx, there) = (one.ctx().with_pool(), other.ctx().with_pool());
                let all = ctx.upload_new(&[1, 2, 3, 4, 5, 6])?.share().tensor([2, 3])?;
                let (memory, layout) = all.select::<1>(1, 2)?.into_parts();
                let column = ctx.transfer(memory, &there)?.strided(layout).map_err(|refused| refused.error)?;
                let fresh = there.alloc::<i32>(2)?.tensor([2])?;
                let dense = there.init_tensor(fresh, column.view())?;
                assert_eq!(other.read(dense.buffer().view())?, [3, 6]);
                drop((all, column));
                Ok(())
            })
        })
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

#[test]
fn other_layouts_and_refusals() {
    checked()
        .stream(|stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let tensor = ctx.zeros::<u8>(24)?.share().tensor([2, REST, 4])?;
            let turned =
                tensor.clone().with_layout(|layout| layout.permute([1, 0, 2])).map_err(|refused| refused.error)?;
            assert_eq!((turned.shape(), format!("{turned:?}").contains("(3,2,4):(4,12,1)")), ([3, 2, 4], true));
            let refused = turned.with_layout(|layout| layout.view([24])).unwrap_err();
            assert_eq!(
                (refused.error, refused.value.shape()),
                (Error::NotContiguous { operand: "view", axis: 0 }, [3, 2, 4])
            );
            let beyond = refused.value.with_layout(|_| Layout::new([25])).unwrap_err();
            assert_eq!(beyond.error, Error::Length { operand: "memory", expected: 25, found: 24 });
            assert_eq!(beyond.value.shape(), [3, 2, 4]);
            assert!(tensor.slice(3, ..).is_err() && tensor.slice(0, 1..4).is_err() && tensor.select(2, 4).is_err());
            assert_eq!(tensor.slice(0, 2..)?.view().size(), 0);
            let rejected = ctx.zeros::<u8>(5)?.share().tensor([2, 3]).unwrap_err();
            assert_eq!(rejected.value.len(), 5);
            Ok(())
        })
        .unwrap()
        .unwrap();
}
