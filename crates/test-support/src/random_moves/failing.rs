//! A batch of row gathers of all kinds, one driver call of which fails.

use tidelock::{
    BatchCopy, Buffer, DeviceLocation, Permutation, Result, Stream, View,
    location::Host,
    state::{DevicePermutation, RowNumbers},
};

use crate::memory::width;

/// Rows of each destination, more than fit into the launch parameters of a GPU.
const ROWS: usize = 9000;
const OLD: usize = 70_000;

fn submit<L: DeviceLocation>(
    stream: &Stream<L>,
    batch: &mut BatchCopy,
    numbers: &[u32],
    src: View<'_, u16, L>,
    host: View<'_, u16, Host>,
    dst: &mut [Buffer<u16, L>; 4],
    copies_unchecked: bool,
) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let permutation = Permutation::new(numbers, OLD, 0)?;
    let on_device = DevicePermutation::upload(&ctx, permutation)?;
    // SAFETY: the numbers were checked before they were uploaded.
    let unchecked = unsafe { RowNumbers::unchecked(on_device.numbers().as_view(), OLD, 0) };
    let rows = src.rows(width(2))?;
    let [a, b, c, d] = dst;
    batch.scope(&ctx, |batch| {
        batch.group(|group| {
            group.warp(rows, permutation, a.view_mut().rows(width(2))?)?;
            group.warp_by(rows, on_device.numbers(), b.view_mut().rows(width(2))?)?;
            let numbers = if copies_unchecked { unchecked } else { on_device.numbers() };
            group.warp_by(rows, numbers, c.view_mut().rows(width(2))?)
        })?;
        batch.copy(host, d.view_mut())
    })
}

/// Makes a batch while calls fail, from `arm` to `disarm`, and once more without a failure. Returns
/// the answer of the first.
///
/// After a failure a destination may hold old rows and new ones, because a batch of many calls may
/// have begun, and nothing else.
pub fn attempt<L: DeviceLocation>(
    stream: &mut Stream<L>,
    copies_unchecked: bool,
    arm: impl FnOnce(),
    disarm: impl FnOnce(),
) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let source: Vec<u16> = (0..2 * OLD).map(|i| (i * 7 % 65_000) as u16).collect();
    let numbers: Vec<u32> = (0..ROWS as u32).map(|i| i.wrapping_mul(0x9e37_79b9) % OLD as u32).collect();
    let after: Vec<u16> = numbers.iter().flat_map(|n| source[2 * *n as usize..][..2].to_vec()).collect();
    const BEFORE: u16 = 65_535;
    let src = ctx.upload_new(&source)?;
    let host = Buffer::<u16, Host>::from_slice(&after)?;
    let before = vec![BEFORE; 2 * ROWS];
    let mut dst =
        [ctx.upload_new(&before)?, ctx.upload_new(&before)?, ctx.upload_new(&before)?, ctx.upload_new(&before)?];
    stream.synchronize()?;
    let mut batch = BatchCopy::new();

    arm();
    let answer = submit(stream, &mut batch, &numbers, src.view(), host.view(), &mut dst, copies_unchecked);
    disarm();
    assert_eq!(batch.stats().submissions, u64::from(answer.is_ok()));
    for (i, dst) in dst.iter().enumerate() {
        let found = stream.read(dst.view())?;
        let is_right = |(found, after): (&u16, &u16)| found == after || (answer.is_err() && *found == BEFORE);
        assert!(found.iter().zip(&after).all(is_right), "destination {i} after {answer:?}");
    }
    submit(stream, &mut batch, &numbers, src.view(), host.view(), &mut dst, copies_unchecked)?;
    for (i, dst) in dst.iter().enumerate() {
        assert!(stream.read(dst.view())? == after, "destination {i} again, after {answer:?}");
    }
    answer
}
