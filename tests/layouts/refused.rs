//! What no layout is, and what an error says.

use tidelock::{AnyLayout, Error, Layout, layout::REST};

const MOST: usize = isize::MAX as usize;

#[test]
fn sizes_that_overflow() {
    let too_large = Err::<AnyLayout, _>(Error::TooLarge { operand: "layout" });
    assert_eq!(Layout::new([MOST, 2]).map(Layout::any), too_large);
    assert_eq!(Layout::new([usize::MAX]).map(Layout::any), too_large);
    assert_eq!(Layout::new([MOST]).unwrap().size(), MOST);
    // An extent of 0 counts as 1, so that a slice of another axis does not overflow later.
    assert_eq!(Layout::new([0, MOST, 2]).map(Layout::any), too_large);
    assert_eq!(Layout::new([MOST, 0, 2]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([2], [MOST]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([2], [MOST - 1]).unwrap().cosize(), MOST);
    assert_eq!(Layout::strided([3], [usize::MAX / 2]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([1], [usize::MAX]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([2, 2], [MOST - 1, 1]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([1 << 40, 1 << 40], [0, 0]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([0, MOST, 2], [0, 0, 0]).map(Layout::any), too_large);
    assert_eq!(Layout::strided([1 << (usize::BITS - 2), 2], [0, 0]).map(Layout::any), too_large);
    // What a negative stride is, read as an address.
    assert_eq!(Layout::strided([2, 2], [1, 4_usize.wrapping_neg()]).map(Layout::any), too_large);
    assert_eq!(AnyLayout::new(&[MOST, 3]), Err(Error::TooLarge { operand: "layout" }));
    assert_eq!(AnyLayout::strided(&[3], &[MOST]), Err(Error::TooLarge { operand: "layout" }));
}

#[test]
fn wildcards() {
    assert_eq!(Layout::of([4, REST], 12).unwrap().shape(), [4, 3]);
    assert_eq!(Layout::of([4, REST], 0).unwrap().shape(), [4, 0]);
    let axis = |axis, reason| Err::<AnyLayout, _>(Error::Axis { operand: "shape", axis, reason });
    assert_eq!(Layout::of([REST, 2, REST], 12).map(Layout::any), axis(2, "is a second `REST`"));
    assert_eq!(Layout::of([0, REST], 0).map(Layout::any), axis(1, "is `REST` beside an extent of 0"));
    let length = |expected, found| Err::<AnyLayout, _>(Error::Length { operand: "shape", expected, found });
    assert_eq!(Layout::of([5, REST], 12).map(Layout::any), length(12, 10));
    assert_eq!(Layout::of([3, 5], 12).map(Layout::any), length(12, 15));
    assert_eq!(Layout::of([1 << 40, 1 << 40, REST], 12), Err(Error::TooLarge { operand: "shape" }));
    let layout = Layout::new([3, 4]).unwrap();
    assert_eq!(layout.view([5, REST]).map(Layout::any), length(12, 10));
    assert_eq!(Layout::new([0, 4]).unwrap().view([MOST, 2, 0]), Err(Error::TooLarge { operand: "layout" }));
    assert_eq!(Layout::new([0, 4]).unwrap().view([7, 0, 2]).unwrap().shape(), [7, 0, 2]);
}

#[test]
fn axes_and_places() {
    let layout = Layout::new([3, 4]).unwrap();
    let axis = |operand, axis, reason| Error::Axis { operand, axis, reason };
    assert_eq!(layout.slice(2, ..), Err(axis("slice", 2, "does not exist")));
    let range = axis("slice", 1, "does not have all of the range");
    assert_eq!(layout.slice(1, 2..5), Err(range));
    #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
    let reversed = layout.slice(1, 3..2);
    assert_eq!(reversed, Err(range));
    assert_eq!(layout.slice(1, ..=usize::MAX), Err(range));
    assert_eq!(layout.slice(1, usize::MAX..), Err(range));
    // The base may be the extent, and not more.
    assert_eq!(layout.slice(0, 3..).unwrap().0.shape(), [0, 4]);
    assert_eq!(layout.slice(0, 4..), Err(axis("slice", 0, "does not have all of the range")));
    assert_eq!(layout.select::<1>(0, 3).unwrap_err(), axis("select", 0, "has no such place"));
    assert_eq!(layout.select::<1>(0, usize::MAX).unwrap_err(), axis("select", 0, "has no such place"));
    assert_eq!(layout.squeeze::<1>(0).unwrap_err(), axis("squeeze", 0, "is not of extent 1"));
    assert_eq!(layout.squeeze::<1>(2).unwrap_err(), axis("squeeze", 2, "does not exist"));
    assert_eq!(layout.unsqueeze::<3>(3).unwrap_err(), axis("unsqueeze", 3, "does not exist"));
    assert_eq!(layout.permute([0, 0]), Err(axis("permute", 0, "is named twice")));
    assert_eq!(layout.permute([0, 2]), Err(axis("permute", 2, "does not exist")));
    assert_eq!(layout.transpose(0, 2), Err(axis("transpose", 2, "does not exist")));
    assert_eq!(layout.offset([2, 4]), Err(axis("index", 1, "has no such place")));
    assert_eq!(layout.offset([usize::MAX, 0]), Err(axis("index", 0, "has no such place")));
    assert_eq!(range.to_string(), "axis 1 of `slice` does not have all of the range");
}

/// What has no elements begins at the offset 0: an offset behind the last element may not be one of
/// the memory.
#[test]
fn parts_without_elements() {
    let columns = Layout::strided([3, 4], [100, 1]).unwrap();
    assert_eq!(columns.slice(0, 3..).map(|(part, offset)| (part.shape(), offset)), Ok(([0, 4], 0)));
    assert_eq!(columns.slice(1, 2..2).map(|(part, offset)| (part.shape(), offset)), Ok(([3, 0], 0)));
    let (empty, _) = columns.slice(1, 4..).unwrap();
    assert_eq!(empty.slice(0, 1..).map(|(part, offset)| (part.shape(), offset)), Ok(([2, 0], 0)));
    assert_eq!(empty.select(0, 2).map(|(part, offset)| (part.shape(), offset)), Ok(([0], 0)));
    assert_eq!(empty.any().select(0, 2).map(|(part, offset)| (part.size(), offset)), Ok((0, 0)));
    assert_eq!(
        empty.select::<1>(1, 0).unwrap_err(),
        Error::Axis { operand: "select", axis: 1, reason: "has no such place" }
    );
    assert_eq!((empty.size(), empty.cosize(), empty.is_contiguous(), empty.is_injective()), (0, 0, true, true));
    assert_eq!(empty.offset([0, 0]), Err(Error::Axis { operand: "index", axis: 1, reason: "has no such place" }));
    // All of it comes back as it is, and another shape of no elements is row-major.
    assert_eq!(empty.view([3, 0]), Ok(empty));
    assert_eq!(empty.view([0, 5]), Layout::new([0, 5]));
}

/// The error of a view names the axis that would reach over the gap.
#[test]
fn views_over_gaps() {
    let gap = |axis| Err::<AnyLayout, _>(Error::NotContiguous { operand: "view", axis });
    let layout = Layout::strided([2, 6], [10, 1]).unwrap();
    assert_eq!(layout.view([3, 4]).map(Layout::any), gap(1));
    assert_eq!(layout.view([12]).map(Layout::any), gap(0));
    assert_eq!(layout.view([4, 3]).map(|view| view.stride()), gap(0).map(|_| [0; 2]));
    assert_eq!(layout.view([2, 2, 3]).map(|view| view.stride()), Ok([10, 3, 1]));
    assert_eq!(Layout::strided([2, 2], [1, 2]).unwrap().view([4]).map(Layout::any), gap(0));
}

#[test]
fn ranks_as_values() {
    let any = AnyLayout::new(&[3, 4]).unwrap();
    let rank = |operand, expected, found| Error::Rank { operand, expected, found };
    assert_eq!(AnyLayout::new(&[1; 9]), Err(rank("shape", 8, 9)));
    assert_eq!(AnyLayout::of(&[1; 9], 1), Err(rank("shape", 8, 9)));
    assert_eq!(AnyLayout::of(&[REST, 4], 12), Ok(any));
    let twice = AnyLayout::strided(&[2, 3], &[0, 1]).unwrap();
    assert_eq!(twice.injective("x"), Err(Error::Aliases { operand: "x", axis: 0 }));
    assert_eq!(AnyLayout::strided(&[1, 2], &[1]), Err(rank("stride", 2, 1)));
    assert_eq!(any.rank::<3>(), Err(rank("layout", 3, 2)));
    assert_eq!(any.permute(&[0]), Err(rank("axes", 2, 1)));
    assert_eq!(any.permute(&[1, 1]), Err(Error::Axis { operand: "permute", axis: 1, reason: "is named twice" }));
    assert_eq!(any.offset(&[0]), Err(rank("index", 2, 1)));
    assert_eq!(any.view(&[1; 9]), Err(rank("shape", 8, 9)));
    assert_eq!(AnyLayout::new(&[1; 8]).unwrap().unsqueeze(0), Err(rank("unsqueeze", 8, 9)));
    assert_eq!(any.unsqueeze(3), Err(Error::Axis { operand: "unsqueeze", axis: 3, reason: "does not exist" }));
    assert_eq!(any.transpose(2, 0), Err(Error::Axis { operand: "transpose", axis: 2, reason: "does not exist" }));
    // A scalar has one element, also as a value.
    let scalar = AnyLayout::new(&[]).unwrap();
    assert_eq!((scalar.size(), scalar.cosize(), scalar.offset(&[])), (1, 1, Ok(0)));
    assert_eq!(
        (scalar.squeeze(0), scalar.slice(0, ..).map(|_| ())),
        (
            Err(Error::Axis { operand: "squeeze", axis: 0, reason: "does not exist" }),
            Err(Error::Axis { operand: "slice", axis: 0, reason: "does not exist" }),
        )
    );
}

#[test]
fn elements_with_two_names() {
    assert_eq!(
        Layout::strided([3, 4], [0, 1]).unwrap().injective("dst"),
        Err(Error::Aliases { operand: "dst", axis: 0 })
    );
    assert_eq!(
        Layout::strided([2, 2], [1, 1]).unwrap().injective("dst"),
        Err(Error::Aliases { operand: "dst", axis: 0 })
    );
    assert_eq!(
        Layout::strided([2, 3], [2, 1]).unwrap().injective("dst"),
        Err(Error::Aliases { operand: "dst", axis: 0 })
    );
    assert_eq!(
        Layout::strided([4, 3], [1, 3]).unwrap().injective("dst"),
        Err(Error::Aliases { operand: "dst", axis: 1 })
    );
    assert!(Layout::strided([1, 3], [0, 1]).unwrap().is_injective());
    assert!(Layout::strided([0, 3], [0, 0]).unwrap().is_injective());
    let error = Layout::strided([3, 4], [5, 1]).unwrap().contiguous("probs").unwrap_err();
    assert_eq!(error.to_string(), "axis 0 of `probs` does not continue the axes inside of it: copy the tensor first");
}

#[test]
fn a_layout_whose_rank_is_a_value_is_refused_alike() {
    let rest = tidelock::layout::REST;
    assert_eq!(AnyLayout::of(&[2, rest], 6).unwrap().shape(), [2, 3]);
    assert_eq!(AnyLayout::of(&[4, rest], 6).unwrap_err(), Layout::of([4, rest], 6).unwrap_err());
    assert_eq!(AnyLayout::of(&[1; 9], 1).unwrap_err(), Error::Rank { operand: "shape", expected: 8, found: 9 });
    let twice = AnyLayout::strided(&[2, 3], &[0, 1]).unwrap();
    assert_eq!(twice.injective("x"), Err(Error::Aliases { operand: "x", axis: 0 }));
    assert_eq!(AnyLayout::new(&[2, 3]).unwrap().injective("x"), Ok(()));
}
