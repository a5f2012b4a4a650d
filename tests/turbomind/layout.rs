//! `Layout`.

use tidelock::{AnyLayout, Error, Layout, Result, layout::REST};

fn shown<const R: usize>(layout: Result<Layout<R>>) -> String {
    layout.map_or_else(|error| error.to_string(), |layout| layout.to_string())
}

/// `Layout(shape)`: row-major. An empty shape aborts there, and is a scalar here. A negative extent
/// is accepted there.
#[test]
fn from_a_shape() {
    assert_eq!(shown(Layout::new([20, 50])), "(20,50):(50,1)");
    assert_eq!(shown(Layout::new([])), "():()");
    assert_eq!(shown(Layout::new([3, (-1_isize).cast_unsigned()])), "`layout` would be larger than the address space");
}

/// `size`, `cosize`: `1 + sum((shape - 1) * stride)`. A scalar has the cosize 0 there.
#[test]
fn size_and_cosize() {
    let broadcast = Layout::strided([3, 4], [0, 1]).unwrap();
    assert_eq!((broadcast.size(), broadcast.cosize()), (12, 4));
    let scalar = Layout::new([]).unwrap();
    assert_eq!((scalar.size(), scalar.cosize()), (1, 1));
}

/// `is_contiguous`. There, a stride of an extent of 1 counts, and `{5,0}` is not contiguous while
/// `{0,5}` is.
#[test]
fn contiguous() {
    let is_contiguous = |shape, stride| Layout::strided(shape, stride).unwrap().is_contiguous();
    assert!(is_contiguous([20, 50], [50, 1]));
    assert!(!is_contiguous([20, 30], [50, 1]));
    assert!(!is_contiguous([50, 20], [1, 50]));
    assert!(!is_contiguous([3, 4], [0, 1]));
    assert!(is_contiguous([1, 4], [0, 1]));
    assert!(Layout::new([5, 0]).unwrap().is_contiguous() && Layout::new([0, 5]).unwrap().is_contiguous());
}

/// `view(shape)`: coalesced axes are divided, extents of 1 get the stride 0, and a gap aborts
/// there.
#[test]
fn view() {
    let layout = Layout::strided([10, 30], [50, 1]).unwrap();
    assert_eq!(shown(layout.view([2, REST, 3, 10])), "(2,5,3,10):(250,50,10,1)");
    assert_eq!(
        shown(layout.view([30, 10])),
        "axis 0 of `view` does not continue the axes inside of it: copy the tensor first"
    );
    assert_eq!(shown(layout.view([10, 30])), "(10,30):(50,1)");
    assert_eq!(shown(layout.view([10, 1, 30])), "(10,1,30):(50,0,1)");
    // The same shape comes back as it is, whatever the strides of extents of 1 and of no elements
    // are.
    let as_it_is = |shape, stride| shown(Layout::<3>::strided(shape, stride).unwrap().view(shape));
    assert_eq!(as_it_is([10, 1, 30], [50, 7, 1]), "(10,1,30):(50,7,1)");
    assert_eq!(as_it_is([10, 0, 30], [50, 7, 1]), "(10,0,30):(50,7,1)");
    // A division by zero there.
    assert_eq!(
        shown(Layout::new([0, 4]).unwrap().view([0, REST])),
        "axis 1 of `shape` is `REST` beside an extent of 0"
    );
}

/// `slice(base, shape)`: the old strides, and an offset. A negative base is accepted there.
#[test]
fn slice() {
    let layout = Layout::new([20, 50]).unwrap();
    let (columns, offset) = layout.slice(1, 10..40).unwrap();
    assert_eq!((columns.to_string(), offset), ("(20,30):(50,1)".into(), 10));
    // `slice({0, k}, {-1, n})`, as the engine divides columns.
    let (rest, offset) = layout.slice(1, 10..).unwrap();
    assert_eq!((rest.to_string(), offset), ("(20,40):(50,1)".into(), 10));
    assert!(layout.slice(0, usize::MAX..).is_err());
}

/// `coalesce`: drops extents of 1, and merges where the stride continues.
#[test]
fn coalesce() {
    let shown = |shape: &[usize], stride: &[usize]| AnyLayout::strided(shape, stride).unwrap().coalesce().to_string();
    assert_eq!(shown(&[2, 5, 3, 10], &[250, 50, 10, 1]), "(10,30):(50,1)");
    assert_eq!(shown(&[4, 1, 3], &[3, 7, 1]), "(12):(1)");
    assert_eq!(shown(&[1, 1], &[9, 9]), "():()");
    assert_eq!(shown(&[3, 4], &[1, 3]), "(3,4):(1,3)");
}

/// `permute`, `transpose`, `t`. `permute({0, 0})` is accepted there.
#[test]
fn permute() {
    let layout = Layout::new([2, 3, 4]).unwrap();
    assert_eq!(shown(layout.permute([2, 0, 1])), "(4,2,3):(1,12,4)");
    assert_eq!(shown(layout.transpose(0, 2)), "(4,3,2):(1,4,12)");
    assert_eq!(shown(Layout::new([2, 3]).unwrap().transpose(0, 1)), "(3,2):(1,3)");
    assert_eq!(shown(layout.permute([0, 0, 1])), "axis 0 of `permute` is named twice");
}

/// `squeeze(d)`: there it does nothing unless the extent is 1, and nothing for a negative axis.
#[test]
fn squeeze() {
    let layout = Layout::new([2, 1, 4]).unwrap();
    assert_eq!(shown(layout.squeeze(1)), "(2,4):(4,1)");
    assert_eq!(shown(layout.squeeze(0)), "axis 0 of `squeeze` is not of extent 1");
    assert_eq!(shown(layout.squeeze(usize::MAX)), format!("axis {} of `squeeze` does not exist", usize::MAX));
}

/// `offset(idxs)` requires fewer indices than the rank there.
#[test]
fn offset() {
    assert_eq!(Layout::new([2, 3, 4]).unwrap().offset([1, 2, 3]), Ok(23));
    assert_eq!(
        AnyLayout::new(&[2, 3, 4]).unwrap().offset(&[1, 2]),
        Err(Error::Rank { operand: "index", expected: 3, found: 2 })
    );
}

/// `==`: shape and stride.
#[test]
fn equality() {
    assert_eq!(Layout::new([2, 3]), Layout::strided([2, 3], [3, 1]));
    assert_ne!(Layout::new([2, 3]), Layout::strided([2, 3], [4, 1]));
}
