//! Parts of tensors on the host, against their indices.

use std::num::NonZero;

use tidelock::{Buffer, Error, Layout, Tensor, View, ViewMut, layout::REST, location::Host};

fn counted<const R: usize>(shape: [usize; R]) -> Tensor<u32, Host, R> {
    let size = shape.iter().product();
    Buffer::from_fn(size, |i| u32::try_from(i).unwrap()).unwrap().tensor(shape).unwrap()
}

#[test]
fn elements_are_those_of_their_indices() {
    let tensor = counted([2, 3, 4]);
    let view = tensor.view();
    assert_eq!((view.shape(), view.size(), tensor.layout().to_string()), ([2, 3, 4], 24, "(2,3,4):(12,4,1)".into()));
    assert_eq!(view.get([1, 2, 3]), Ok(&23));
    assert_eq!(view.get([1, 3, 0]), Err(Error::Axis { operand: "index", axis: 1, reason: "has no such place" }));
    assert!(view.iter().copied().eq(0..24));
    assert_eq!(view.iter().len(), 24);
    let heads = view.permute([1, 0, 2]).unwrap();
    assert!(
        heads
            .iter()
            .copied()
            .eq([0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 16, 17, 18, 19, 8, 9, 10, 11, 20, 21, 22, 23])
    );
    assert!(view.select(2, 1).unwrap().iter().copied().eq([1, 5, 9, 13, 17, 21]));
    assert!(view.slice(1, 1..).unwrap().select(0, 1).unwrap().iter().copied().eq(16..24));
    assert_eq!(view.view([6, REST]).unwrap().shape(), [6, 4]);
    assert_eq!(view.transpose(0, 2).unwrap().get([3, 2, 1]), Ok(&23));
    assert_eq!(
        view.unsqueeze(1).unwrap().squeeze::<3>(1).unwrap().layout(),
        Layout::strided([2, 3, 4], [12, 4, 1]).unwrap()
    );
    // A scalar.
    let scalar = view.select(0, 1).unwrap().select(0, 2).unwrap().select(0, 3).unwrap();
    assert_eq!((scalar.get([]), scalar.iter().count(), scalar.shape()), (Ok(&23), 1, []));
}

#[test]
fn broadcast_reads_one_element_many_times() {
    let row = [1, 2, 3];
    let view = View::from(&row[..]).strided(Layout::strided([2, 3], [0, 1]).unwrap()).unwrap();
    assert!(view.iter().eq(&[1, 2, 3, 1, 2, 3]));
    assert_eq!(view.contiguous().unwrap_err(), Error::NotContiguous { operand: "tensor", axis: 0 });
}

#[test]
fn halves_of_the_columns_are_written_at_once() {
    let mut tensor = counted([2, 4]);
    let (mut gate, mut up) = tensor.view_mut().split_at(1, 2).unwrap();
    assert_eq!((gate.shape(), up.layout().to_string()), ([2, 2], "(2,2):(4,1)".into()));
    std::mem::swap(gate.get_mut([0, 1]).unwrap(), up.get_mut([1, 0]).unwrap());
    gate.set([1, 1], 50).unwrap();
    assert_eq!(gate.as_view().get([0, 1]), Ok(&6));
    assert!(up.into_view().iter().eq(&[2, 3, 1, 7]));
    assert_eq!(tensor.buffer()[..], [0, 6, 2, 3, 4, 50, 1, 7]);
}

#[test]
fn threads_write_the_halves() {
    let mut tensor = counted([64, 4]);
    let (mut left, mut right) = tensor.view_mut().split_at(1, 1).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| (0..64).for_each(|i| left.set([i, 0], 1).unwrap()));
        threads.spawn(|| (0..64).for_each(|i| (0..3).for_each(|j| right.set([i, j], 2).unwrap())));
    });
    assert!(tensor.view().iter().enumerate().all(|(i, x)| *x == if i % 4 == 0 { 1 } else { 2 }));
}

#[test]
fn the_first_axis_is_rows() {
    let mut tensor = counted([4, 6]);
    let columns = tensor.view().slice(1, 2..5).unwrap().rows().unwrap();
    assert_eq!((columns.row_count(), columns.width(), columns.pitch()), (4, NonZero::new(3).unwrap(), 6));
    assert_eq!(columns.row(3).unwrap().as_slice(), [20, 21, 22]);
    let last = tensor.view().slice(0, 3..).unwrap().rows().unwrap();
    assert_eq!((last.row_count(), last.row(0).unwrap().len()), (1, 6));
    let (_, right) = tensor.view_mut().split_at(1, 5).unwrap();
    let rows = right.rows().unwrap();
    rows.row(1).unwrap().into_slice()[0] = 99;
    assert_eq!(tensor.view().get([1, 5]), Ok(&99));
    let pages = counted([3, 2, 5]);
    assert_eq!(pages.view().rows().unwrap().width().get(), 10);
    let heads = pages.view().permute([1, 0, 2]).unwrap();
    assert_eq!(heads.rows().unwrap_err(), Error::NotContiguous { operand: "row", axis: 1 });
    assert_eq!(heads.select(0, 1).unwrap().rows().unwrap().row(2).unwrap().as_slice(), [25, 26, 27, 28, 29]);
    let overlapping = View::from(&[1, 2, 3, 4][..]).strided(Layout::strided([3, 2], [1, 1]).unwrap()).unwrap();
    assert_eq!(overlapping.rows().unwrap_err(), Error::Aliases { operand: "rows", axis: 0 });
    let empty = counted([3, 0]);
    assert_eq!(empty.view().rows().unwrap_err(), Error::Length { operand: "row", expected: 1, found: 0 });
    assert_eq!(counted([0, 3]).view().rows().unwrap().row_count(), 0);
    assert_eq!(counted([]).view().rows().unwrap_err(), Error::Rank { operand: "rows", expected: 1, found: 0 });
}

#[test]
fn owned_tensors_are_buffers_with_a_shape() {
    let tensor = counted([2, 6]).reshape([3, REST]).unwrap();
    assert_eq!((tensor.shape(), tensor.size()), ([3, 4], 12));
    assert_eq!(
        format!("{tensor:?} {:?}", tensor.view()),
        "Tensor<u32, host> { layout: (3,4):(4,1) } TensorView<u32, host> { layout: (3,4):(4,1) }"
    );
    let rejected = tensor.reshape([5, REST]).unwrap_err();
    assert_eq!(rejected.error, Error::Length { operand: "shape", expected: 12, found: 10 });
    let buffer = rejected.value.into_buffer();
    assert_eq!(buffer.len(), 12);
    let rejected = buffer.tensor([7, 2]).unwrap_err();
    assert_eq!(
        (rejected.error, rejected.value.len()),
        (Error::Length { operand: "shape", expected: 12, found: 14 }, 12)
    );
}

#[test]
fn layouts_that_do_not_fit_the_memory() {
    let mut memory = [0_u8; 10];
    let fits = Layout::strided([2, 3], [7, 1]).unwrap();
    assert!(View::from(&memory[..]).strided(fits).is_ok());
    let length = Error::Length { operand: "view", expected: 11, found: 10 };
    let beyond = Layout::strided([2, 3], [8, 1]).unwrap();
    assert_eq!(View::from(&memory[..]).strided(beyond).unwrap_err(), length);
    assert_eq!(ViewMut::from(&mut memory[..]).strided(beyond).unwrap_err(), length);
    let twice = Layout::strided([2, 3], [2, 1]).unwrap();
    let aliases = Error::Aliases { operand: "layout", axis: 0 };
    assert_eq!(ViewMut::from(&mut memory[..]).strided(twice).unwrap_err(), aliases);
    assert!(View::from(&memory[..]).strided(twice).is_ok());
    // No elements reach no memory.
    let none = Layout::strided([0, 1000], [1 << 40, 1 << 50]);
    assert!(View::from(&memory[..0]).strided(none.unwrap_or(Layout::new([0, 1]).unwrap())).is_ok());
}
