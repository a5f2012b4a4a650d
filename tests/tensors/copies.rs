//! Copies between random layouts, against the indices, on the simulated device with the race
//! detector on.

use tidelock::{
    BatchCopy, Buffer, Layout, Result, View, ViewMut,
    location::{Host, Pinned},
    sim::{self, SimBackend},
    tensor::{TensorMut, TensorView},
};
use tidelock_test_support::random::Random;

/// A layout without overlaps of `shape`: permuted, with gaps.
fn random_layout(random: &mut Random, shape: [usize; 3]) -> Layout<3> {
    let mut order = [0, 1, 2];
    order.swap(0, random.below(3));
    order.swap(1, 1 + random.below(2));
    let (mut stride, mut step) = ([0; 3], 1);
    for axis in order {
        stride[axis] = step;
        step *= shape[axis].max(1) + random.below(3) / 2;
    }
    Layout::strided(shape, stride).unwrap()
}

/// The copy by the definition.
fn by_index(shape: [usize; 3], src: (&[u16], Layout<3>), dst: (&mut [u16], Layout<3>)) {
    for i in 0..shape[0] {
        for j in 0..shape[1] {
            for k in 0..shape[2] {
                let at = |layout: &Layout<3>| {
                    [i, j, k].iter().zip(layout.stride()).map(|(i, stride)| i * stride).sum::<usize>()
                };
                dst.0[at(&dst.1)] = src.0[at(&src.1)];
            }
        }
    }
}

fn checked() -> sim::Device {
    sim::Device::new(sim::Options::quick().race_detector(true))
}

#[test]
fn between_any_layouts_each_element_arrives() {
    let mut random = Random::new(13);
    let device = checked();
    let mut batch = BatchCopy::new();
    device
        .stream(|mut stream, _env| -> Result<()> {
            for case in 0..300 {
                let shape = [0; 3].map(|_: usize| {
                    [0, 1, 2, 3, 5, 7][random.below(if case % 9 == 0 { 6 } else { 5 } + 1 - usize::from(case % 9 == 0))]
                        .max(usize::from(case % 11 != 0))
                });
                let mut src_layout = random_layout(&mut random, shape);
                if random.below(5) == 0 {
                    // A source may name an element twice.
                    let mut stride = src_layout.stride();
                    stride[random.below(3)] = 0;
                    src_layout = Layout::strided(shape, stride)?;
                }
                let dst_layout = random_layout(&mut random, shape);
                let source: Vec<u16> = (0..src_layout.cosize() + 2).map(|i| 1000 + i as u16).collect();
                let mut expected: Vec<u16> = (0..dst_layout.cosize() + 2).map(|i| i as u16).collect();
                let before = expected.clone();
                by_index(shape, (&source, src_layout), (&mut expected, dst_layout));

                let ctx = stream.ctx().with_pool();
                let (on_device, mut target) = (ctx.upload_new(&source)?, ctx.upload_new(&before)?);
                ctx.copy_tensor(on_device.view().strided(src_layout)?, target.view_mut().strided(dst_layout)?)?;
                let mut in_batch = ctx.upload_new(&before)?;
                let mut from_host = ctx.upload_new(&before)?;
                let mut staged = Buffer::<u16, Pinned<SimBackend>>::from_slice(&before)?.stage(&ctx);
                batch.scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_tensor(
                            on_device.view().strided(src_layout)?,
                            in_batch.view_mut().strided(dst_layout)?,
                        )?;
                        let host: TensorView<'_, u16, Host, 3> = View::from(&source[..]).strided(src_layout)?;
                        group.copy_tensor(host, from_host.view_mut().strided(dst_layout)?)?;
                        group.copy_tensor(on_device.view().strided(src_layout)?, staged.view_mut().strided(dst_layout)?)
                    })
                })?;
                // Plain host memory at both ends, for a scope.
                let (lent_source, mut lent) = (source.clone(), before.clone());
                stream.host_scope(|scope| -> Result<()> {
                    let ctx = scope.ctx();
                    let back: TensorMut<'_, u16, _, 3> = scope.target(&mut lent).strided(dst_layout)?;
                    ctx.copy_tensor(scope.source(&lent_source).strided(src_layout)?, back)
                })??;
                assert_eq!(lent, expected, "{src_layout} {dst_layout}");
                for found in [&target, &in_batch, &from_host] {
                    assert_eq!(stream.read(found.view())?, expected, "{src_layout} {dst_layout}");
                }
                assert_eq!(staged.peek(&stream.synchronize()?), &expected[..], "{src_layout} {dst_layout}");
            }
            Ok(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

#[test]
fn a_batch_counts_runs_and_its_failed_group_leaves_none() {
    checked()
        .stream(|stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let src = ctx.zeros::<u32>(64)?.tensor([8, 8])?;
            let mut dst = ctx.zeros::<u32>(64)?.tensor([8, 8])?;
            let mut other = ctx.zeros::<u32>(64)?.tensor([8, 8])?;
            let mut batch = BatchCopy::new();
            batch.scope(&ctx, |batch| {
                let refused = batch.group(|group| {
                    group.copy_tensor(src.view().transpose(0, 1)?, other.view_mut())?;
                    Err::<(), _>(tidelock::Error::SameStream)
                });
                assert!(refused.is_err());
                batch.group(|group| group.copy_tensor(src.view().slice(1, ..2)?, dst.view_mut().slice(1, 3..5)?))
            })?;
            let stats = batch.stats();
            assert_eq!((stats.asked, stats.submitted, stats.submissions, stats.bytes), (1, 8, 1, 64));
            Ok(())
        })
        .unwrap()
        .unwrap();
}

#[test]
fn host_memory_is_a_source_and_a_view_of_a_slice() {
    let mut target = [0_u8; 6];
    let source = [1, 2, 3, 4, 5, 6];
    checked()
        .stream(|mut stream, _env| -> Result<()> {
            stream.host_scope(|scope| -> Result<()> {
                let dst = scope.target(&mut target).tensor([3, 2])?;
                scope.ctx().copy_tensor(scope.source(&source).tensor([2, 3])?.transpose(0, 1)?, dst)
            })?
        })
        .unwrap()
        .unwrap();
    assert_eq!(target, [1, 4, 2, 5, 3, 6]);
    let mut tensor = [0; 4];
    ViewMut::from(&mut tensor[..]).tensor([2, 2]).unwrap().set([1, 0], 9).unwrap();
    assert_eq!(tensor, [0, 0, 9, 0]);
}
