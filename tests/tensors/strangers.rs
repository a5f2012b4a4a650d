//! The race detector sees the elements that a tensor names, and not what lies between them.

use tidelock::{
    Result, Stream,
    sim::{self, Sim},
};

fn two_streams(f: impl for<'a, 'b> FnOnce(&sim::Device, Stream<Sim<'a>>, Stream<Sim<'b>>)) -> sim::Device {
    let device = sim::Device::new(sim::Options::quick().race_detector(true));
    device.stream(|one, _env| device.stream(|other, _env| f(&device, one, other)).unwrap()).unwrap();
    device
}

#[test]
fn halves_of_the_columns_are_used_by_two_streams() {
    let device = two_streams(|_, mut one, other| {
        let answer = (|| -> Result<()> {
            let ctx = one.ctx().with_pool();
            let mut matrix = ctx.zeros::<u32>(32 * 8)?.tensor([32, 8])?;
            let left_source = ctx.upload_new(&[1_u32; 32 * 4])?.tensor([32, 4])?;
            let (left, right) = matrix.view_mut().split_at(1, 4)?;
            let right = right.rows()?;
            let (there, mut row) = (other.ctx(), right.row(5)?);
            ctx.lend_mut(row.reborrow(), &there, |row| -> Result<()> {
                // While the row of the right half belongs to the other stream, this one writes the
                // left half around it.
                there.clear(row)?;
                ctx.copy_tensor(left_source.view(), left)
            })??;
            let values = one.read(matrix.buffer().view())?;
            assert!(values.chunks_exact(8).all(|row| row == [1, 1, 1, 1, 0, 0, 0, 0]));
            Ok(())
        })();
        answer.unwrap();
    });
    assert_eq!(device.gpu().check(), Ok(()));
}
