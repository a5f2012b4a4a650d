//! Layouts against the list of their offsets: 200,000 random ones.

use std::collections::BTreeSet;

use tidelock::{
    AnyLayout, Layout, Result,
    layout::{Above, REST, Rank},
};
use tidelock_test_support::random::Random;

/// All indices of a shape, in row-major order.
fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |indices, &extent| {
        indices.iter().flat_map(|index| (0..extent).map(move |i| [index.clone(), vec![i]].concat())).collect()
    })
}

/// The offsets of all elements, in row-major order, by the definition.
fn offsets(layout: &AnyLayout) -> Vec<usize> {
    let offset = |index: &Vec<usize>| index.iter().zip(layout.stride()).map(|(i, stride)| i * stride).sum();
    indices(layout.shape()).iter().map(offset).collect()
}

/// Random extents and strides: row-major ones, permuted and with gaps, and ones with overlaps.
fn random_layout(random: &mut Random) -> AnyLayout {
    let rank = random.below(5);
    let shape: Vec<usize> = (0..rank).map(|_| [0, 1, 1, 2, 2, 3, 4, 5][random.below(8)]).collect();
    if random.below(4) == 0 {
        let stride: Vec<usize> = (0..rank).map(|_| random.below(14)).collect();
        return AnyLayout::strided(&shape, &stride).unwrap();
    }
    let mut stride = vec![0; rank];
    let mut order: Vec<usize> = (0..rank).collect();
    (1..rank).rev().for_each(|i| order.swap(i, if random.below(2) == 0 { i } else { random.below(i + 1) }));
    let mut step = 1;
    for &axis in order.iter().rev() {
        stride[axis] = step;
        step *= shape[axis].max(1) + usize::from(random.below(3) == 0);
    }
    AnyLayout::strided(&shape, &stride).unwrap()
}

#[test]
fn all_agree_with_the_list_of_their_offsets() {
    let mut random = Random::new(7);
    let (mut injective, mut unproved, mut views, mut gaps) = (0, 0, 0, 0);
    for _ in 0..200_000 {
        let layout = random_layout(&mut random);
        let all = offsets(&layout);
        let rank = layout.axes();
        assert_eq!(layout.size(), all.len());
        assert_eq!(layout.cosize(), all.iter().max().map_or(0, |last| last + 1), "{layout}");
        let is_contiguous = all.iter().copied().eq(0..all.len());
        assert_eq!(layout.is_contiguous(), is_contiguous, "{layout}");
        let is_injective = all.iter().collect::<BTreeSet<_>>().len() == all.len();
        // A proof is right. Where there is none, elements may still be distinct.
        assert!(is_injective || !layout.is_injective(), "{layout}");
        injective += usize::from(layout.is_injective());
        unproved += usize::from(is_injective && !layout.is_injective());
        assert_eq!(offsets(&layout.coalesce()), all, "{layout}");

        if let Some(axis) = rank.checked_sub(1).map(|_| random.below(rank)) {
            let extent = layout.shape()[axis];
            let start = random.below(extent + 1);
            let end = start + random.below(extent - start + 1);
            let (part, offset) = layout.slice(axis, start..end).unwrap();
            let kept =
                indices(layout.shape()).into_iter().zip(&all).filter(|(index, _)| (start..end).contains(&index[axis]));
            assert!(
                kept.map(|(_, at)| *at).eq(offsets(&part).iter().map(|at| at + offset)),
                "{layout} {axis} {start}..{end}"
            );
            if extent != 0 {
                let (part, offset) = layout.select(axis, start.min(extent - 1)).unwrap();
                let place = start.min(extent - 1);
                let kept = indices(layout.shape()).into_iter().zip(&all).filter(|(index, _)| index[axis] == place);
                assert!(
                    kept.map(|(_, at)| *at).eq(offsets(&part).iter().map(|at| at + offset)),
                    "{layout} {axis} {place}"
                );
            }
            let mut order: Vec<usize> = (0..rank).collect();
            (1..rank).rev().for_each(|i| order.swap(i, random.below(i + 1)));
            let permuted = layout.permute(&order).unwrap();
            for index in indices(layout.shape()) {
                let moved: Vec<usize> = order.iter().map(|axis| index[*axis]).collect();
                assert_eq!(permuted.offset(&moved), layout.offset(&index), "{layout} {order:?}");
            }
            let other = random.below(rank);
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(axis, other);
            assert_eq!(layout.transpose(axis, other), layout.permute(&order));
        }
        let at = random.below(rank + 1);
        let more = layout.unsqueeze(at).unwrap();
        assert_eq!((offsets(&more), more.squeeze(at)), (all.clone(), Ok(layout)), "{layout} {at}");
        assert_eq!(more.is_contiguous(), is_contiguous, "{layout} {at}");

        match rank {
            1 => as_in_any::<1, 0, 2>(&mut random, layout),
            2 => as_in_any::<2, 1, 3>(&mut random, layout),
            3 => as_in_any::<3, 2, 4>(&mut random, layout),
            4 => as_in_any::<4, 3, 5>(&mut random, layout),
            _ => assert_eq!(layout.rank::<0>().map(Layout::any), Ok(layout)),
        }

        // A view, if there is one, names the same elements in the same order.
        let shape = random_shape(&mut random, all.len());
        match layout.view(&shape) {
            Ok(view) => {
                assert_eq!(offsets(&view), all, "{layout} {shape:?}");
                assert_eq!(view.is_injective(), layout.is_injective(), "{layout} {shape:?}");
                views += 1;
            }
            Err(_) => {
                assert!(!is_contiguous, "{layout} {shape:?}");
                assert!(!has_strides(&all, &shape), "{layout} {shape:?}");
                gaps += 1;
            }
        }
    }
    assert!(
        injective > 100_000 && unproved < 20_000 && views > 100_000 && gaps > 5_000,
        "{injective} {unproved} {views} {gaps}"
    );
}

/// A shape of `size` elements, some with a wildcard.
fn random_shape(random: &mut Random, size: usize) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut left = size;
    while left > 1 {
        let divisors: Vec<usize> = (2..=left).filter(|divisor| left.is_multiple_of(*divisor)).collect();
        let divisor = divisors[random.below(divisors.len())];
        shape.push(divisor);
        left /= divisor;
    }
    if size == 0 {
        shape.push(0);
    }
    if random.below(4) == 0 && shape.len() < 8 {
        shape.insert(random.below(shape.len() + 1), 1);
    }
    if size != 0 && !shape.is_empty() && random.below(3) == 0 {
        let wild = random.below(shape.len());
        shape[wild] = REST;
    }
    shape
}

/// A rank in the type gives the answers of the rank as a value, errors included.
fn as_in_any<const R: usize, const LESS: usize, const MORE: usize>(random: &mut Random, any: AnyLayout)
where
    Rank<R>: Above<LESS>,
    Rank<MORE>: Above<R>,
{
    fn value<const Q: usize>(part: Result<(Layout<Q>, usize)>) -> Result<(AnyLayout, usize)> {
        part.map(|(layout, offset)| (layout.any(), offset))
    }
    fn alone<const Q: usize>(layout: Result<Layout<Q>>) -> Result<AnyLayout> {
        layout.map(Layout::any)
    }
    let layout: Layout<R> = any.rank().unwrap();
    // One more than there are, so that some are refused.
    let [axis, other] = [(); 2].map(|()| random.below(R + 1));
    let [start, end] = [(); 2].map(|()| random.below(7));
    assert_eq!(value(layout.slice(axis, start..end)), any.slice(axis, start..end), "{any} {axis} {start}..{end}");
    assert_eq!(value(layout.select::<LESS>(axis, start)), any.select(axis, start), "{any} {axis} {start}");
    assert_eq!(alone(layout.squeeze::<LESS>(axis)), any.squeeze(axis), "{any} {axis}");
    assert_eq!(alone(layout.unsqueeze::<MORE>(axis)), any.unsqueeze(axis), "{any} {axis}");
    assert_eq!(alone(layout.transpose(axis, other)), any.transpose(axis, other), "{any} {axis} {other}");
    let order = [(); R].map(|()| random.below(R));
    assert_eq!(alone(layout.permute(order)), any.permute(&order), "{any} {order:?}");
    let index = [(); R].map(|()| random.below(5));
    assert_eq!(layout.offset(index), any.offset(&index), "{any} {index:?}");
    let shape = [(); MORE].map(|()| [1, 2, 3, 4, REST, 0][random.below(6)]);
    assert_eq!(alone(layout.view(shape)), any.view(&shape), "{any} {shape:?}");
    let of = Layout::of(shape, any.size());
    assert_eq!(alone(of), AnyLayout::of(&shape, any.size()), "{shape:?} of {any}");
    let of = of.map(|layout| layout.shape());
    assert_eq!(of, Layout::new([any.size()]).and_then(|all| all.view(shape)).map(|layout| layout.shape()));
    assert_eq!((layout.size(), layout.cosize()), (any.size(), any.cosize()));
    assert_eq!((layout.is_contiguous(), layout.is_injective()), (any.is_contiguous(), any.is_injective()));
    assert_eq!((layout.contiguous("x"), layout.injective("x")), (any.contiguous("x"), any.injective("x")), "{any}");
    assert_eq!((layout.coalesce(), layout.to_string()), (any.coalesce(), any.to_string()));
}

/// Whether there are strides by which `shape` names `offsets` in order, with the first at 0.
fn has_strides(offsets: &[usize], shape: &[usize]) -> bool {
    let known: usize = shape.iter().filter(|extent| **extent != REST).product();
    let shape: Vec<usize> =
        shape.iter().map(|&extent| if extent == REST { offsets.len() / known } else { extent }).collect();
    let indices = indices(&shape);
    // The stride of an axis can only be the offset of its second place.
    let stride: Vec<usize> = (0..shape.len())
        .map(|axis| {
            let second =
                indices.iter().position(|index| index.iter().enumerate().all(|(k, i)| *i == usize::from(k == axis)));
            second.map_or(0, |at| offsets[at])
        })
        .collect();
    indices
        .iter()
        .zip(offsets)
        .all(|(index, at)| index.iter().zip(&stride).map(|(i, stride)| i * stride).sum::<usize>() == *at)
}
