//! Copies between tensors of any layouts.

use tidelock::{BatchCopy, Buffer, Device, Element, Error, Layout, Result, buffer::Scatter, layout::MAX_RANK};
use tidelock_test_support::{
    memory::{get, noise, put, staged},
    random::Random,
};

use super::run;

/// Two layouts of one shape: a transpose, columns, heads first, pages, a broadcast source, and more
/// loops than two.
fn layouts() -> Vec<(Layout<4>, Layout<4>)> {
    let strided = |shape: [usize; 4], stride| Layout::strided(shape, stride).unwrap();
    vec![
        (strided([1, 1, 40, 30], [0, 0, 1, 40]), strided([1, 1, 40, 30], [0, 0, 30, 1])),
        (strided([1, 1, 50, 24], [0, 0, 100, 1]), strided([1, 1, 50, 24], [0, 0, 24, 1])),
        (strided([1, 1, 50, 24], [0, 0, 24, 1]), strided([1, 1, 50, 24], [0, 0, 96, 1])),
        (strided([3, 16, 4, 8], [512, 32, 8, 1]), strided([3, 16, 4, 8], [512, 8, 128, 1])),
        (strided([3, 16, 4, 8], [512, 32, 8, 1]), strided([3, 16, 4, 8], [32, 100, 8, 1])),
        (strided([2, 5, 4, 8], [0, 32, 0, 1]), strided([2, 5, 4, 8], [160, 32, 8, 1])),
        (strided([2, 3, 5, 7], [1, 2, 6, 30]), strided([2, 3, 5, 7], [105, 35, 7, 1])),
        (strided([2, 3, 4, 5], [60, 20, 5, 1]), strided([2, 3, 4, 5], [60, 20, 5, 1])),
    ]
}

/// The copy by the definition.
fn by_index<T: Copy>(src: (&[T], Layout<4>), dst: (&mut [T], Layout<4>)) {
    let shape = src.1.shape();
    let size: usize = shape.iter().product();
    for i in 0..size {
        let mut rest = i;
        let mut index = [0; 4];
        for axis in (0..4).rev() {
            (index[axis], rest) = (rest % shape[axis], rest / shape[axis]);
        }
        dst.0[dst.1.offset(index).unwrap()] = src.0[src.1.offset(index).unwrap()];
    }
}

fn check<D: Device, T: Element + PartialEq + std::fmt::Debug>(device: &D, value: fn(u32) -> T) {
    for (from, to) in layouts() {
        let source: Vec<T> = noise(31, from.cosize()).into_iter().map(value).collect();
        let before: Vec<T> = noise(32, to.cosize()).into_iter().map(value).collect();
        let mut expected = before.clone();
        by_index((&source, from), (&mut expected, to));
        run(device, |mut stream, _| {
            let ctx = stream.ctx().with_pool();
            let (src, page) = (put(&ctx, &source), staged(&ctx, &source));
            let (mut alone, mut in_batch, mut down) = (put(&ctx, &before), put(&ctx, &before), staged(&ctx, &before));
            let mut up = put(&ctx, &before);
            ctx.copy_tensor(src.view().strided(from).unwrap(), alone.view_mut().strided(to).unwrap()).unwrap();
            BatchCopy::new()
                .scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_tensor(src.view().strided(from)?, in_batch.view_mut().strided(to)?)?;
                        group.copy_tensor(src.view().strided(from)?, down.view_mut().strided(to)?)?;
                        group.copy_tensor(page.view().strided(from)?, up.view_mut().strided(to)?)
                    })
                })
                .unwrap();
            for found in [&alone, &in_batch, &up] {
                assert_eq!(get(&ctx, found.view()), expected, "{from} {to}");
            }
            assert_eq!(ctx.fence(down).unwrap().wait().unwrap()[..], expected[..], "{from} {to}");

            // Lent memory at one side, and at both.
            let (mut lent, mut both) = (before.clone(), before.clone());
            let mut from_lent = put(&ctx, &before);
            stream
                .host_scope(|scope| -> Result<()> {
                    let (ctx, source) = (scope.ctx(), scope.source(&source).strided(from)?);
                    ctx.copy_tensor(source, from_lent.view_mut().strided(to)?)?;
                    ctx.copy_tensor(src.view().strided(from)?, scope.target(&mut lent).strided(to)?)?;
                    ctx.copy_tensor(source, scope.target(&mut both).strided(to)?)
                })
                .unwrap()
                .unwrap();
            assert_eq!(get(&stream.ctx(), from_lent.view()), expected, "{from} {to}");
            assert_eq!((lent == expected, both == expected), (true, true), "{from} {to}");
        });
    }
}

/// E3: a tensor is lent without what lies between its elements.
pub fn parts_of_tensors_are_lent<D: Device>(device: &D) {
    run(device, |a, _| {
        run(device, |b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut x = a.zeros::<u32>(300 * 40).unwrap().tensor([300, 40]).unwrap();
            let (here, there) = (put(&a, &noise(41, 300 * 24)), put(&b, &noise(42, 300 * 16)));
            let here = here.tensor([24, 300]).unwrap();
            let there = there.tensor([300, 16]).unwrap();
            let (left, right) = x.view_mut().split_at(1, 16).unwrap();
            a.lend_tensor_mut(left, &b, |left| {
                b.copy_tensor(there.view(), left).unwrap();
                a.copy_tensor(here.view().transpose(0, 1).unwrap(), right).unwrap();
            })
            .unwrap();
            // The lender's next operation runs after the loan, as does the borrower's copy of it.
            let columns = a.lend_tensor(x.view().slice(1, 15..17).unwrap(), &b, |columns| {
                let columns = b.init_tensor(b.alloc(600).unwrap().tensor([300, 2]).unwrap(), columns).unwrap();
                get(&b, columns.buffer().view())
            });
            let (right, left) = (noise(41, 300 * 24), noise(42, 300 * 16));
            let value = |i: usize, j: usize| if j < 16 { left[i * 16 + j] } else { right[(j - 16) * 300 + i] };
            let expected: Vec<u32> = (0..600).map(|at| value(at / 2, 15 + at % 2)).collect();
            assert_eq!(columns.unwrap(), expected);
            let expected: Vec<u32> = (0..300 * 40).map(|at| value(at / 40, at % 40)).collect();
            assert_eq!(get(&a, x.buffer().view()), expected);
            assert_eq!(a.lend_tensor_mut(x.view_mut(), &a, |_| ()), Err(Error::SameStream));
        });
    });
}

pub fn tensors_of_any_layouts_are_copied<D: Device>(device: &D) {
    check::<_, u32>(device, |x| x);
    check::<_, u8>(device, |x| x.to_le_bytes()[1]);
    check::<_, [u8; 3]>(device, |x| [x.to_le_bytes()[0], 7, x.to_le_bytes()[1]]);
    check::<_, [u64; 2]>(device, |x| [x.into(), 9]);
}

pub fn tensors_of_many_axes_and_runs<D: Device>(device: &D) {
    let shape = [2; MAX_RANK];
    let values = noise(33, 1 << MAX_RANK);
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &values).tensor(shape).unwrap();
        let mut dst = ctx.zeros::<u32>(1 << MAX_RANK).unwrap().tensor(shape).unwrap();
        // The axes in reverse: the bits of the index.
        ctx.copy_tensor(src.view().permute([7, 6, 5, 4, 3, 2, 1, 0]).unwrap(), dst.view_mut()).unwrap();
        let found = get(&ctx, dst.buffer().view());
        assert!((0..=u8::MAX).all(|i| found[usize::from(i)] == values[usize::from(i.reverse_bits())]));
        // More runs than one launch describes.
        let many = Buffer::<u32, tidelock::location::Host>::from_fn(1 << 17, |i| i as u32).unwrap();
        let src = put(&ctx, &many).tensor([256, 512]).unwrap();
        let fresh = ctx.alloc::<u32>(1 << 17).unwrap().tensor([512, 256]).unwrap();
        let turned = ctx.init_tensor(fresh, src.view().transpose(0, 1).unwrap()).unwrap();
        let found = get(&ctx, turned.buffer().view());
        assert!((0..512_u32).all(|i| (0..256_u32).all(|j| found[(i * 256 + j) as usize] == j * 512 + i)));
    });
}

/// Layouts of one pool of 7 blocks of [layer, token, head, 8]: tokens first and heads first by layer,
/// by page, universal, pages with a gap, and heads of 8 elements as the fastest axis but one.
fn pools() -> Vec<Layout<5>> {
    let (layers, tokens, heads, dim, blocks) = (3, 16, 4, 8, 7);
    let page = layers * tokens * heads * dim;
    let strided = |stride| Layout::strided([blocks, layers, tokens, heads, dim], stride).unwrap();
    let layer = blocks * tokens * heads * dim;
    vec![
        strided([tokens * heads * dim, layer, heads * dim, dim, 1]),
        strided([tokens * heads * dim, layer, dim, tokens * dim, 1]),
        strided([page, tokens * heads * dim, heads * dim, dim, 1]),
        strided([page, tokens * dim, dim, layers * tokens * dim, 1]),
        strided([page + 24, tokens * heads * dim, heads * dim, dim, 1]),
        strided([page, tokens * heads * dim, heads * dim, 1, heads]),
    ]
}

/// The copy of blocks by the definition.
fn blocks_by_index<T: Copy>(src: (&[T], Layout<5>), pairs: &[(u32, u32)], dst: (&mut [T], Layout<5>)) {
    let [_, layers, tokens, heads, dim] = src.1.shape();
    for &(from, to) in pairs {
        for i in 0..layers * tokens * heads * dim {
            let (layer, token) = (i / (tokens * heads * dim), i / (heads * dim) % tokens);
            let rest = [layer, token, i / dim % heads, i % dim];
            let index = |block: u32| [block as usize, rest[0], rest[1], rest[2], rest[3]];
            dst.0[dst.1.offset(index(to)).unwrap()] = src.0[src.1.offset(index(from)).unwrap()];
        }
    }
}

fn check_blocks<D: Device, T: Element + PartialEq + std::fmt::Debug>(device: &D, value: fn(u32) -> T) {
    let pairs = [(6, 2), (0, 5), (6, 0), (3, 6)];
    let within = [(6, 2), (0, 5), (6, 1)];
    let (mut scatter, mut inside) = (Scatter::new(), Scatter::new());
    scatter.set(pairs, 7, 7).unwrap();
    inside.set(within, 7, 7).unwrap();
    for (from, to) in pools().into_iter().flat_map(|from| pools().into_iter().map(move |to| (from, to))) {
        let source: Vec<T> = noise(34, from.cosize()).into_iter().map(value).collect();
        let before: Vec<T> = noise(35, to.cosize()).into_iter().map(value).collect();
        let mut expected = before.clone();
        blocks_by_index((&source, from), &pairs, (&mut expected, to));
        let mut moved = before.clone();
        blocks_by_index((&before, to), &within, (&mut moved, to));
        run(device, |stream, _| {
            let ctx = stream.ctx().with_pool();
            let (src, page) = (put(&ctx, &source), staged(&ctx, &source));
            let (mut there, mut down) = (put(&ctx, &before), staged(&ctx, &before));
            let (mut up, mut own) = (put(&ctx, &before), put(&ctx, &before));
            let mut sent = put(&ctx, &before);
            let mut batch = BatchCopy::new();
            batch
                .scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_blocks(src.view().strided(from)?, &scatter, there.view_mut().strided(to)?)?;
                        group.copy_blocks(src.view().strided(from)?, &scatter, down.view_mut().strided(to)?)?;
                        group.copy_blocks(page.view().strided(from)?, &scatter, up.view_mut().strided(to)?)?;
                        group.copy_blocks_within(own.view_mut().strided(to)?, &inside)?;
                        let host = tidelock::View::from(&source[..]).strided(from)?;
                        group.copy_blocks(host, &scatter, sent.view_mut().strided(to)?)
                    })
                })
                .unwrap();
            assert_eq!(batch.stats().bytes as usize, (4 * 4 + 3) * 1536 * size_of::<T>());
            for found in [&there, &up, &sent] {
                assert_eq!(get(&ctx, found.view()), expected, "{from} {to}");
            }
            assert_eq!(get(&ctx, own.view()), moved, "{to}");
            assert_eq!(ctx.fence(down).unwrap().wait().unwrap()[..], expected[..], "{from} {to}");
        });
    }
}

pub fn blocks_of_any_layouts_are_copied<D: Device>(device: &D) {
    check_blocks::<_, u16>(device, |x| x.to_le_bytes()[0].into());
}

pub fn blocks_of_many_layers_and_pools<D: Device>(device: &D) {
    // More block numbers than 16 bits and than one launch takes, and more parts than one.
    let (blocks, layers) = (70_000_usize, 3);
    let mut scatter = Scatter::new();
    let pairs = (0..9_000_u32).map(|i| ((i * 7 + 3) % 70_000, i * 5));
    scatter.set(pairs.clone(), blocks, blocks).unwrap();
    let values = noise(36, blocks * 4);
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let sources: Vec<_> = (0..layers).map(|_| put(&ctx, &values)).collect();
        let mut pools: Vec<_> = (0..layers).map(|_| ctx.zeros::<u32>(blocks * 4).unwrap()).collect();
        BatchCopy::new()
            .scope(&ctx, |batch| {
                batch.group(|group| {
                    for (src, dst) in sources.iter().zip(&mut pools) {
                        let turned = dst.view_mut().tensor([blocks, 2, 2])?.transpose(1, 2)?;
                        group.copy_blocks(src.view().tensor([blocks, 2, 2])?, &scatter, turned)?;
                    }
                    Ok(())
                })
            })
            .unwrap();
        let mut expected = vec![0; blocks * 4];
        for (from, to) in pairs.clone() {
            for (i, turned) in [0, 2, 1, 3].into_iter().enumerate() {
                expected[to as usize * 4 + turned] = values[from as usize * 4 + i];
            }
        }
        for found in &pools {
            assert!(get(&ctx, found.view()) == expected);
        }
    });
}

/// Blocks of 64 KiB that are whole at the host: a backend may stage them on the device, piece by
/// piece.
pub fn whole_blocks_go_to_the_host_and_back<D: Device>(device: &D) {
    let (blocks, rows) = (180_usize, 16_384_usize);
    let shape = [blocks, 4, 128, 32];
    // By layer on the device, by page at the host.
    let by_layer = Layout::strided(shape, [rows / 4, blocks * rows / 4, 32, 1]).unwrap();
    let by_page = Layout::strided(shape, [rows, rows / 4, 32, 1]).unwrap();
    let (mut out, mut back) = (Scatter::new(), Scatter::new());
    // Some of them are neighbours at the host.
    let target = |i: u32| if i < 60 { i } else { (i - 60) * 11 % 120 + 60 };
    out.set((0..170_u32).map(|i| ((i * 7 + 5) % 180, target(i))), blocks, blocks).unwrap();
    let there: Vec<(u32, u32)> = out.sources().iter().copied().zip(out.targets().iter().copied()).collect();
    back.set(there.iter().enumerate().map(|(i, (_, to))| (*to, i as u32)), blocks, blocks).unwrap();
    let values = noise(39, blocks * rows);
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut pages = staged(&ctx, &noise(40, blocks * rows));
        let before = noise(41, blocks * rows);
        let cache = put(&ctx, &values);
        let mut again = put(&ctx, &before);
        let mut batch = BatchCopy::new();
        for _ in 0..2 {
            batch
                .scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_blocks(cache.view().strided(by_layer)?, &out, pages.view_mut().strided(by_page)?)
                    })
                })
                .unwrap();
            batch
                .scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_blocks(pages.view().strided(by_page)?, &back, again.view_mut().strided(by_layer)?)
                    })
                })
                .unwrap();
        }
        let found = get(&ctx, again.view());
        let at = |block: usize, i: usize| by_layer.offset([block, i / 4096, i / 32 % 128, i % 32]).unwrap();
        for block in 0..blocks {
            let expected = there.get(block).map(|(from, _)| *from as usize);
            for i in (0..rows).step_by(31) {
                let value = expected.map_or(before[at(block, i)], |from| values[at(from, i)]);
                assert_eq!(found[at(block, i)], value, "block {block}, {i}");
            }
        }
        drop(ctx.fence(pages).unwrap().wait().unwrap());
    });
}

pub fn blocks_that_are_refused<D: Device>(device: &D) {
    let mut scatter = Scatter::new();
    scatter.set([(2, 0), (0, 1)], 3, 2).unwrap();
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &noise(37, 24));
        let mut dst = put(&ctx, &noise(38, 24));
        let mut batch = BatchCopy::new();
        let mut refused = |from: [usize; 2], to: Layout<2>| {
            let answer = batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    group.copy_blocks(
                        src.view().slice(..from[0] * from[1])?.tensor(from)?,
                        &scatter,
                        dst.view_mut().strided(to)?,
                    )
                })
            });
            answer.unwrap_err()
        };
        let plain = |shape| Layout::new(shape).unwrap();
        let length = |operand, expected, found| Error::Length { operand, expected, found };
        assert_eq!(refused([2, 8], plain([2, 8])), length("src", 3, 2));
        assert_eq!(refused([3, 8], plain([1, 8])), length("dst", 2, 1));
        let differs = Error::Extent { operand: "dst", axis: 1, expected: 8, found: 4 };
        assert_eq!(refused([3, 8], plain([4, 4])), differs);
        let answer = batch.scope(&ctx, |batch| {
            batch.group(|group| group.copy_blocks_within(dst.view_mut().tensor([3, 8])?, &scatter))
        });
        assert_eq!(answer, Err(Error::ReadAndWritten { operand: "from", position: 1, index: 0 }));
        let answer = batch.scope(&ctx, |batch| {
            batch.group(|group| {
                group.copy_blocks(src.view().slice(..1)?.tensor([])?, &scatter, dst.view_mut().slice(..1)?.tensor([])?)
            })
        });
        assert_eq!(answer, Err(Error::Rank { operand: "src", expected: 1, found: 0 }));
        // Destination blocks that overlap have no layout to write to.
        let overlaps = Layout::strided([3, 8], [4, 1]).unwrap();
        assert!(matches!(dst.view_mut().strided(overlaps), Err(Error::Aliases { .. })));
        assert_eq!(batch.stats().submissions, 0);
    });
}

/// Strides that nest in a random order of the axes, some with gaps.
fn nested(random: &mut Random, shape: [usize; 5]) -> Layout<5> {
    let mut order = [0, 1, 2, 3, 4];
    for i in (1..5).rev() {
        order.swap(i, random.below(i + 1));
    }
    let (mut stride, mut step) = ([0; 5], 1);
    for &axis in order.iter().rev() {
        stride[axis] = step;
        step = step * shape[axis] + if random.below(4) == 0 { random.below(5) } else { 0 };
    }
    Layout::strided(shape, stride).unwrap()
}

/// Blocks of random layouts, in random pairs, from random places.
pub fn random_blocks<D: Device>(device: &D) {
    let mut random = Random::new(77);
    for case in 0..40 {
        let blocks = 2 + random.below(6);
        let mut extent = |most: usize| [1, 2, 3, 4, 8, 20, 40][random.below(7)].min(most);
        let shape = [blocks, extent(4), extent(20), extent(40), extent(40)];
        let (from, to) = (nested(&mut random, shape), nested(&mut random, shape));
        let mut targets: Vec<u32> = (0..blocks as u32).collect();
        for i in (1..blocks).rev() {
            targets.swap(i, random.below(i + 1));
        }
        let count = 1 + random.below(blocks);
        let pairs: Vec<_> = targets[..count].iter().map(|to| (random.below(blocks) as u32, *to)).collect();
        let mut scatter = Scatter::new();
        scatter.set(pairs.iter().copied(), blocks, blocks).unwrap();
        let (skip_src, skip_dst) = (random.below(3), random.below(3));
        macro_rules! of {
            ($value:expr) => {{
                let value = $value;
                let source: Vec<_> = noise(40 + case, skip_src + from.cosize()).into_iter().map(value).collect();
                let before: Vec<_> = noise(90 + case, skip_dst + to.cosize()).into_iter().map(value).collect();
                let mut expected = before.clone();
                blocks_by_index((&source[skip_src..], from), &pairs, (&mut expected[skip_dst..], to));
                run(device, |stream, _| {
                    let ctx = stream.ctx().with_pool();
                    let (src, mut dst) = (put(&ctx, &source), put(&ctx, &before));
                    BatchCopy::new()
                        .scope(&ctx, |batch| {
                            batch.group(|group| {
                                let src = src.view().slice(skip_src..)?.strided(from)?;
                                let dst = dst.view_mut().slice(skip_dst..)?.strided(to)?;
                                group.copy_blocks(src, &scatter, dst)
                            })
                        })
                        .unwrap();
                    assert_eq!(get(&ctx, dst.view()), expected, "{case}: {from} {to} {pairs:?}");
                });
            }};
        }
        match case % 4 {
            0 => of!(|x: u32| x.to_le_bytes()[0]),
            1 => of!(|x: u32| u16::from(x.to_le_bytes()[0])),
            2 => of!(|x: u32| x),
            _ => of!(|x: u32| u64::from(x)),
        }
    }
}
