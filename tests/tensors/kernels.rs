//! Tensors as arguments of kernels.

use std::ptr::NonNull;

use tidelock::{
    Ctx, DeviceLocation, Result, Stream, ViewMut,
    sim::{self, Sim},
};
use tidelock_test_support::memory::staged;

fn two_streams(f: impl for<'a, 'b> FnOnce(&mut Stream<Sim<'a>>, &Stream<Sim<'b>>) -> Result<()>) -> sim::Device {
    let device = sim::Device::new(sim::Options::quick().race_detector(true));
    device.stream(|mut one, _env| device.stream(|other, _env| f(&mut one, &other)).unwrap()).unwrap().unwrap();
    device
}

#[test]
fn a_closure_indexes_a_tensor_of_any_layout() {
    let device = two_streams(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let tokens = ctx.upload_new(&[1_u32, 2, 3, 4, 5, 6])?.tensor([3, 2])?;
        let mut heads = ctx.zeros::<u32>(2 * 5)?.tensor([2, 5])?;
        let (left, _) = heads.view_mut().split_at(1, 3)?;
        ctx.launch((left, tokens.view().transpose(0, 1)?, 10), |(mut to, from, by)| {
            assert_eq!((to.shape(), from.shape()), ([2, 3], [2, 3]));
            for i in 0..2 {
                for j in 0..3 {
                    to[[i, j]] += from[[i, j]] * by;
                }
            }
            assert_eq!((from.get([2, 0]), to.get_mut([0, 3]), from.get([1, 2])), (None, None, Some(&6)));
        })?;
        assert_eq!(stream.read(heads.buffer().view())?, [10, 30, 50, 0, 0, 20, 40, 60, 0, 0]);
        Ok(())
    });
    assert_eq!(device.gpu().check(), Ok(()));
}

#[test]
fn scalars_empty_tensors_and_staged_memory() {
    let device = two_streams(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut page = staged(&ctx, &[0_u64; 4]);
        let one = ctx.upload_new(&[7_u64])?.tensor([])?;
        let none = ctx.zeros::<u64>(0)?.tensor([3, 0])?;
        ctx.launch((page.view_mut().tensor([2, 2])?, one.view(), none.view()), |(mut to, one, none)| {
            to[[1, 0]] = one[[]] + none.shape()[0] as u64;
        })?;
        assert_eq!(page.reclaim(&stream.synchronize()?)[..], [0, 0, 10, 0]);
        Ok(())
    });
    assert_eq!(device.gpu().check(), Ok(()));
}

#[test]
fn halves_of_the_columns_are_arguments_of_two_streams() {
    let device = two_streams(|one, other| {
        let ctx = one.ctx().with_pool();
        let mut matrix = ctx.zeros::<u32>(32 * 8)?.tensor([32, 8])?;
        let (left, right) = matrix.view_mut().split_at(1, 4)?;
        let right = right.rows()?;
        let (there, mut row) = (other.ctx(), right.row(5)?);
        ctx.lend_mut(row.reborrow(), &there, |row| -> Result<()> {
            there.clear(row)?;
            // The left half lies around the row, of which the other stream writes.
            ctx.launch((left,), |(mut left,)| (0..32).for_each(|i| left[[i, 3]] = i as u32))
        })??;
        let values = one.read(matrix.buffer().view())?;
        assert!(values.chunks_exact(8).enumerate().all(|(i, row)| *row == [0, 0, 0, i as u32, 0, 0, 0, 0]));
        Ok(())
    });
    assert_eq!(device.gpu().check(), Ok(()));
}

/// # Safety
/// - The element is of the stream's device, and is there as long as it is used.
unsafe fn element<'v, L: DeviceLocation, A>(_: &Ctx<'_, L, A>, ptr: NonNull<u32>) -> ViewMut<'v, u32, L> {
    // SAFETY: the caller promises it.
    unsafe { ViewMut::from_raw_parts(ptr, 1) }
}

/// The detector sees each run of a tensor: memory that another stream writes at the same time, without
/// a wait, is a race if the tensor names it, and none if it lies between its runs.
#[test]
fn races_are_of_the_elements() {
    for (column, races) in [(3, true), (4, false)] {
        let device = sim::Device::new(sim::Options::quick().race_detector(true));
        let answer = device.stream(|mut one, _env| {
            device.stream(|mut other, _env| -> Result<()> {
                let mut matrix = one.ctx().with_pool().zeros::<u32>(4 * 8)?.tensor([4, 8])?;
                one.synchronize()?;
                let (ctx, there) = (one.ctx(), other.ctx());
                let address = matrix.view_mut().as_mut_ptr().wrapping_add(2 * 8 + column);
                let left = matrix.view_mut().slice(1, ..4)?;
                // SAFETY: the element is there as long as both streams; that nothing waits is what is tested.
                let element = unsafe { element(&there, NonNull::new(address).unwrap()) };
                there.clear(element)?;
                ctx.launch((left,), |_| ())?;
                other.synchronize()?;
                Ok(())
            })
        });
        let races_there = device.gpu().check().is_err();
        assert_eq!(races_there, races, "column {column}: {answer:?}");
    }
}

#[test]
fn an_index_that_is_none_breaks_the_device() {
    let device = sim::Device::new(sim::Options::quick());
    let answer = device.stream(|mut stream, _env| -> Result<()> {
        let ctx = stream.ctx().with_pool();
        let matrix = ctx.zeros::<u32>(6)?.tensor([2, 3])?;
        ctx.launch((matrix.view(),), |(matrix,)| assert_eq!(matrix[[1, 3]], 0))?;
        stream.synchronize().map(drop)
    });
    assert!(answer.and_then(|answer| answer).is_err());
}
