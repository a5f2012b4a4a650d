//! Programs that try to break rows by index: numbers, iterators, shapes and failures.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tidelock::{
    BatchCopy, Error, Permutation, Result, View, ViewMut,
    buffer::Scatter,
    error::OutOfRange,
    state::{DevicePermutation, RowNumbers},
};

use super::{down, run, width};

/// An iterator that says that it has another number of items.
struct Liar<I>(I, (usize, Option<usize>));

impl<I: Iterator> Iterator for Liar<I> {
    type Item = I::Item;
    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

#[test]
fn iterators_that_lie_change_nothing() {
    let mut scatter = Scatter::new();
    for hint in [(0, Some(0)), (usize::MAX, None), (usize::MAX, Some(usize::MAX)), (5, Some(1))] {
        scatter.set(Liar([(1, 0), (2, 3)].into_iter(), hint), 4, 4).unwrap();
        assert_eq!((scatter.sources(), scatter.targets()), (&[1, 2][..], &[0, 3][..]));
    }
    let mut ended = false;
    // Not fused: it is not called again after its end.
    let unfused = iter::from_fn(|| {
        assert!(!ended);
        ended = true;
        None
    });
    scatter.set(unfused, 4, 4).unwrap();
    assert!(scatter.is_empty());
}

#[test]
fn an_iterator_that_panics_leaves_no_pairs() {
    let mut scatter = Scatter::new();
    scatter.set([(0, 3), (1, 2)], 9, 9).unwrap();
    let pairs = (0..5).map(|i| if i < 3 { (i, i + 4) } else { panic!("on purpose") });
    catch_unwind(AssertUnwindSafe(|| scatter.set(pairs, 9, 9))).unwrap_err();
    assert_eq!((scatter.len(), scatter.from_rows(), scatter.to_rows()), (0, 0, 0));
    assert!(scatter.sources().is_empty() && scatter.targets().is_empty());
    // No row is still marked as a destination.
    scatter.set([(0, 3), (1, 4), (2, 5), (3, 6)], 9, 9).unwrap();
    assert_eq!(scatter.len(), 4);
}

#[test]
fn what_is_refused_leaves_no_pairs_and_no_marks() {
    let mut scatter = Scatter::new();
    let index = |operand, position, index, rows| Err(Error::Index { operand, position, index, rows });
    let repeated = |position, index| Err(Error::Repeated { operand: "to", position, index });
    let most = u32::MAX as usize;
    type Refused = (&'static [(u32, u32)], usize, usize, Result<()>);
    let cases: [Refused; 9] = [
        (&[(0, 0), (4, 1)], 4, 4, index("from", 1, 4, 4)),
        (&[(0, 4)], 4, 4, index("to", 0, 4, 4)),
        (&[(0, 0)], 0, 1, index("from", 0, 0, 0)),
        (&[(0, 0)], 1, 0, index("to", 0, 0, 0)),
        (&[(u32::MAX, 0)], most, 1, index("from", 0, most, most)),
        (&[(0, u32::MAX)], 1, most, index("to", 0, most, most)),
        (&[(0, 1), (1, 2), (2, 1), (3, 2)], 4, 4, repeated(2, 1)),
        (&[(0, 64), (0, 0), (0, 128), (0, 64)], 1, 129, repeated(3, 64)),
        (&[(9, 1), (0, 1)], 4, 4, index("from", 0, 9, 4)),
    ];
    for (pairs, from_rows, to_rows, expected) in cases {
        scatter.set([(0, 2)], 1, 3).unwrap();
        assert_eq!(scatter.set(pairs.iter().copied(), from_rows, to_rows), expected);
        assert_eq!((scatter.len(), scatter.from_rows(), scatter.to_rows()), (0, 0, 0));
    }
    scatter.set((0..200).map(|i| (0, i)), 1, 200).unwrap();
    assert_eq!(scatter.len(), 200);
}

#[test]
fn rows_of_numbers_that_exceed_memory_are_a_length() {
    let mut scatter = Scatter::new();
    scatter.set([(0, 1)], usize::MAX, usize::MAX).unwrap();
    let mut memory = [0; 8];
    let all = [1, 2, 3, 4, 5, 6, 7, 8];
    let length = |operand, found| Error::Length { operand, expected: usize::MAX, found };
    let error = View::from(&all[..]).rows(width(2)).unwrap().sources(&scatter).map(drop).unwrap_err();
    assert_eq!(error, length("src", 4));
    let mut rows = ViewMut::from(&mut memory[..]).rows(width(2)).unwrap();
    assert_eq!(rows.reborrow().targets(&scatter).map(drop).unwrap_err(), length("dst", 4));
    assert_eq!(rows.reborrow().pairs(&scatter).map(drop).unwrap_err(), length("rows", 4));
    // The bounds count, not the numbers.
    scatter.set([(0, 1)], 5, 4).unwrap();
    assert!(rows.reborrow().targets(&scatter).is_ok());
    assert!(rows.reborrow().pairs(&scatter).is_err());
}

#[test]
fn rows_that_are_read_and_written_are_found() {
    let mut memory = [0; 8];
    let mut scatter = Scatter::new();
    for (pairs, found) in [
        (&[(3, 3)][..], Some((0, 3))),
        (&[(0, 1), (1, 2)], Some((1, 1))),
        (&[(0, 1), (2, 0)], Some((0, 0))),
        (&[(0, 1), (0, 2), (3, 4)], None),
        (&[], None),
    ] {
        scatter.set(pairs.iter().copied(), 8, 8).unwrap();
        let answer = ViewMut::from(&mut memory[..]).rows(width(1)).unwrap().pairs(&scatter).map(drop);
        let expected = found.map(|(position, index)| Error::ReadAndWritten { operand: "from", position, index });
        assert_eq!(answer, expected.map_or(Ok(()), Err));
    }
}

#[test]
fn columns_and_rows_that_do_not_exist() {
    let mut memory = [0_u32; 12];
    let mut rows = ViewMut::from(&mut memory[..]).rows(width(4)).unwrap();
    for at in [0, 4, 5, usize::MAX] {
        assert!(matches!(rows.reborrow().split_columns(at), Err(OutOfRange)), "{at}");
    }
    assert!(
        rows.reborrow().columns(1..1).is_err()
            && rows.reborrow().columns(..=4).is_err()
            && rows.reborrow().columns(5..).is_err()
    );
    assert!(
        rows.reborrow().row(3).is_err()
            && rows.reborrow().row(usize::MAX).is_err()
            && rows.reborrow().first(4).is_err()
    );
    assert_eq!(
        rows.reborrow().get_disjoint([0, 3]).map(drop),
        Err(Error::Index { operand: "rows", position: 1, index: 3, rows: 3 })
    );
    assert_eq!(
        rows.reborrow().get_disjoint([2, 0, 2]).map(drop),
        Err(Error::Repeated { operand: "rows", position: 2, index: 2 })
    );
    assert!(rows.reborrow().get_disjoint([]).is_ok());
    // Without rows there are columns of nothing, and with elements of no bytes as many as you like.
    let none = ViewMut::from(&mut [0_u8; 0][..]).rows(width(usize::MAX)).unwrap();
    let (left, right) = none.split_columns(usize::MAX - 1).unwrap();
    assert_eq!((left.row_count(), right.row_count(), left.into_iter().len()), (0, 0, 0));
    let mut nothing = [(); 10];
    let rows = ViewMut::from(&mut nothing[..]).rows(width(5)).unwrap();
    let (left, right) = rows.split_columns(2).unwrap();
    assert_eq!(left.into_iter().chain(right).map(|row| row.len()).collect::<Vec<_>>(), [2, 2, 3, 3]);
}

/// Exclusive slices of interleaved columns, used at once: Miri and AddressSanitizer see overlaps.
#[test]
fn halves_of_rows_are_disjoint_slices() {
    let mut memory: Vec<u32> = (0..12).collect();
    let (left, right) = ViewMut::from(&mut memory[..]).rows(width(4)).unwrap().split_columns(3).unwrap();
    let mut slices: Vec<_> = left.into_iter().chain(right).map(|row| row.into_slice()).collect();
    for (n, slice) in slices.iter_mut().enumerate() {
        slice.fill(n as u32);
    }
    drop(slices);
    assert_eq!(memory, [0, 0, 0, 3, 1, 1, 1, 4, 2, 2, 2, 5]);
    let rows = ViewMut::from(&mut memory[..]).rows(width(4)).unwrap();
    let [last, first] = rows.columns(1..3).unwrap().get_disjoint([2, 0]).unwrap();
    (last.into_slice()[1], first.into_slice()[0]) = (70, 80);
    assert_eq!(memory, [0, 80, 0, 3, 1, 1, 1, 4, 2, 2, 70, 5]);
    let mut scatter = Scatter::new();
    scatter.set([(0, 2), (0, 1)], 3, 3).unwrap();
    let pairs = ViewMut::from(&mut memory[..]).rows(width(4)).unwrap().columns(..2).unwrap();
    let pairs: Vec<_> = pairs.pairs(&scatter).unwrap().collect();
    for (from, to) in pairs {
        to.into_slice().copy_from_slice(from.as_slice());
    }
    assert_eq!(memory, [0, 80, 0, 3, 0, 80, 1, 4, 0, 80, 70, 5]);
}

/// Shapes that do not fit, and a group that fails after a scatter.
#[test]
fn what_fails_adds_nothing() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let src = ctx.upload_new(&(0..64).collect::<Vec<u32>>())?;
        let mut dst = ctx.zeros::<u32>(64)?;
        let (mut batch, mut scatter) = (BatchCopy::new(), Scatter::new());
        scatter.set((0..16).map(|i| (15 - i, i)), 16, 16)?;
        batch.scope(&ctx, |b| {
            let wide = b.group(|g| g.scatter(src.view().rows(width(4))?, &scatter, dst.view_mut().rows(width(2))?));
            assert_eq!(wide, Err(Error::Length { operand: "dst row", expected: 4, found: 2 }));
            Ok::<_, Error>(())
        })?;
        batch.scope(&ctx, |b| {
            let few =
                b.group(|g| g.scatter(src.view().rows(width(4))?, &scatter, dst.view_mut().rows(width(4))?.first(15)?));
            assert_eq!(few, Err(Error::Length { operand: "dst", expected: 16, found: 15 }));
            Ok::<_, Error>(())
        })?;
        let thrown = batch.scope(&ctx, |b| {
            b.group(|g| {
                g.scatter(src.view().rows(width(4))?, &scatter, dst.view_mut().rows(width(4))?)?;
                Err::<(), _>(Error::SameStream)
            })
        });
        assert_eq!((thrown, batch.stats()), (Err(Error::SameStream), BatchCopy::new().stats()));
        assert_eq!(down(&mut stream, dst.view())?, [0; 64]);
        Ok(())
    })
}

/// A gather by the device has one distance from row to row.
#[test]
fn joining_rows_of_another_pitch() -> Result<()> {
    run(|mut stream| {
        let ctx = stream.ctx().with_pool();
        let (src, more) = (ctx.upload_new(&(0..32).collect::<Vec<u32>>())?, ctx.upload_new(&[100_u32, 101])?);
        let numbers: Vec<u32> = (0..10).map(|i| i * 7 % 10).collect();
        let permutation = Permutation::new(&numbers, 8, 2)?;
        let on_device = DevicePermutation::upload(&ctx, permutation)?;
        let mut dst = ctx.zeros::<u32>(10)?;
        let one = width(1);
        let mut batch = BatchCopy::new();
        let answer = batch.scope(&ctx, |b| {
            let (rows, more) = (src.view().rows(width(4))?.columns(1..2)?, more.view().rows(one)?);
            b.group(|g| g.warp_join_by(rows, more, on_device.numbers(), dst.view_mut().rows(one)?))
        });
        assert_eq!(answer, Err(Error::Length { operand: "joining pitch", expected: 4, found: 1 }));
        batch.scope(&ctx, |b| {
            let (rows, more) = (src.view().rows(width(4))?.columns(1..2)?, more.view().rows(one)?);
            b.group(|g| g.warp_join(rows, more, permutation, dst.view_mut().rows(one)?))
        })?;
        let row = |&number: &u32| if number < 8 { 4 * number + 1 } else { 100 + number - 8 };
        assert_eq!(down(&mut stream, dst.view())?, numbers.iter().map(row).collect::<Vec<_>>());
        Ok(())
    })
}

/// One half of each row is read, and then written, by a gather on one stream, while a row of the
/// other half is written on another: the gather touches its own half only. Only the device has the
/// numbers, so that the simulated device carries out the gather.
#[test]
fn halves_on_two_streams() -> Result<()> {
    let device = tidelock::sim::Device::default();
    let answer = device.stream(|mut stream, _| {
        device.stream(|mut aux, _| -> Result<()> {
            let (ctx, other) = (stream.ctx().with_pool(), aux.ctx().with_pool());
            let mut matrix = ctx.upload_new(&(0..64).collect::<Vec<u32>>())?;
            let mut packed = ctx.zeros::<u32>(32)?;
            let numbers = ctx.upload_new(&(0..16).map(|i| i * 5 % 16).collect::<Vec<u32>>())?;
            // SAFETY: the numbers are below 16.
            let numbers = unsafe { RowNumbers::unchecked(numbers.view(), 16, 0) };
            let theirs = other.upload_new(&[100_u32, 101])?;
            let (mut left, mut right) = matrix.view_mut().rows(width(4))?.split_columns(2)?;
            let mut batch = BatchCopy::new();
            ctx.lend_mut(right.reborrow().row(3)?, &other, |lent| {
                other.copy(theirs.view(), lent)?;
                let left = left.as_rows();
                batch.scope(&ctx, |b| b.group(|g| g.warp_by(left, numbers, packed.view_mut().rows(width(2))?)))
            })??;
            ctx.lend_mut(right.row(4)?, &other, |lent| {
                other.copy(theirs.view(), lent)?;
                let (packed, left) = (packed.view().rows(width(2))?, left.reborrow());
                batch.scope(&ctx, |b| b.group(|g| g.warp_by(packed, numbers, left)))
            })??;
            drop((ctx, theirs));
            aux.synchronize()?;
            let mut expected: Vec<u32> = (0..64).collect();
            (0..16).for_each(|i| {
                expected[4 * i..4 * i + 2].copy_from_slice(&[i as u32 * 36 % 64, i as u32 * 36 % 64 + 1])
            });
            expected[14..16].copy_from_slice(&[100, 101]);
            expected[18..20].copy_from_slice(&[100, 101]);
            assert_eq!(down(&mut stream, matrix.view())?, expected);
            Ok(())
        })
    });
    answer.unwrap().unwrap()?;
    assert_eq!(device.gpu().check(), Ok(()));
    Ok(())
}
