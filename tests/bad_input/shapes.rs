//! Shapes that do not fit: Warps and Append.

use std::cell::Cell;

use tidelock::{
    BatchCopy, Buffer, Error, Permutation, View, ViewMut,
    batch::Group,
    buffer::{Offsets, Ragged},
    location::Host,
    sim::Sim,
};

use super::{on_a_stream, put, read_back, width};

/// Runs one warp on fresh memory, returns its error, and asserts that it changed nothing.
fn warp_error(
    f: impl for<'b, 'e, 's> Fn(
        &mut Group<'b, 'e, Sim<'s>>,
        View<'e, u32, Sim<'s>>,
        View<'e, u32, Sim<'s>>,
        ViewMut<'e, u32, Sim<'s>>,
    ) -> Result<(), Error>,
) -> Error {
    let seen = Cell::new(None);
    on_a_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let (x, y, mut z) = (put(&ctx, &[1; 12]), put(&ctx, &[2; 6]), put(&ctx, &[3; 12]));
        let mut batch = BatchCopy::new();
        let before = device.gpu().counts();
        let answer = batch.scope(&ctx, |b| {
            // The error of the group is ignored. What the group had added is not submitted with the
            // copy beside it.
            let answer = b.group(|g| f(g, x.view(), y.view(), z.view_mut()));
            seen.set(answer.err());
            Ok(())
        });
        assert_eq!((answer, (device.gpu().counts() - before).total()), (Ok(()), 0));
        assert_eq!(read_back(stream, z.view()), [3; 12]);
    });
    seen.into_inner().expect("not refused")
}

#[test]
fn shapes_of_a_warp() {
    let length = |operand, expected, found| Error::Length { operand, expected, found };
    let (p, three) = (Permutation::new(&[2, 0], 4, 0).unwrap(), width(3));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(width(4))?, p, z.rows(width(4))?.first(2)?));
    assert_eq!(error, length("src", 4, 3));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(three)?, p, z.rows(three)?));
    assert_eq!(error, length("dst", 2, 4));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(three)?, p, z.rows(width(4))?.first(2)?));
    assert_eq!(error, length("dst row", 3, 4));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(width(5))?, p, z.rows(three)?));
    assert_eq!(error, length("rows", 10, 12));
    let error = warp_error(|g, x, _, z| g.warp(x.rows(three)?, p, z.rows(three)?.first(5)?));
    assert_eq!(error, Error::OutOfRange { operand: "view" });

    let p = Permutation::new(&[5, 0, 4], 4, 2).unwrap();
    let error =
        warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(three)?.first(1)?, p, z.rows(three)?.first(3)?));
    assert_eq!(error, length("joining", 2, 1));
    let error =
        warp_error(|g, x, y, z| g.warp_join(x.rows(three)?.first(3)?, y.rows(three)?, p, z.rows(three)?.first(3)?));
    assert_eq!(error, length("src", 4, 3));
    let error = warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(three)?, p, z.rows(three)?));
    assert_eq!(error, length("dst", 3, 4));
    let error =
        warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(width(2))?.first(2)?, p, z.rows(three)?.first(3)?));
    assert_eq!(error, length("joining row", 3, 2));
    let error = warp_error(|g, x, y, z| g.warp_join(x.rows(three)?, y.rows(three)?, p, z.rows(width(4))?));
    assert_eq!(error, length("dst row", 3, 4));
}

#[test]
fn shapes_of_a_ragged_warp() {
    let length = |operand, expected, found| Error::Length { operand, expected, found };
    let (old, new) = (Offsets::new(&[0, 5, 5, 12], "old").unwrap(), Offsets::new(&[0, 6], "new").unwrap());
    let attempt = |rows: &'static [u32], counts: (usize, usize), room: usize, mut offsets: Vec<u32>| {
        let before = offsets.clone();
        let offsets = Cell::new(&mut offsets[..]);
        let error = warp_error(|g, x, y, z| {
            let p = Permutation::new(rows, counts.0, counts.1)?;
            let table = offsets.take();
            let answer = g.warp_ragged(x.ragged(old)?, y.ragged(new)?, p, z.slice(..room)?, table);
            offsets.set(table);
            answer.map(drop)
        });
        assert_eq!(offsets.into_inner(), before, "offsets of a refused warp");
        error
    };
    assert_eq!(attempt(&[0], (2, 1), 12, vec![9; 2]), length("src", 2, 3));
    assert_eq!(attempt(&[0], (3, 2), 12, vec![9; 2]), length("joining", 2, 1));
    assert_eq!(attempt(&[0], (3, 1), 12, vec![9; 1]), length("offsets", 2, 1));
    assert_eq!(attempt(&[0], (3, 1), 12, vec![9; 3]), length("offsets", 2, 3));
    let room = |row, found, room| Error::Room { operand: "dst", row, found, room };
    assert_eq!(attempt(&[2, 0, 3], (3, 1), 12, vec![9; 4]), room(2, 6, 0));
    assert_eq!(attempt(&[1, 2], (3, 1), 6, vec![9; 3]), room(1, 7, 6));
}

#[test]
fn shapes_of_an_append() {
    let length = |operand, expected, found| Error::Length { operand, expected, found };
    let new = Offsets::new(&[0, 2, 6], "new").unwrap();
    struct Shape {
        rows: &'static [u32],
        sizes: &'static [u32],
        tokens: usize,
        joining: usize,
        dst: (usize, usize),
        dst_sizes: usize,
    }
    let good = Shape { rows: &[2, 0, 3], sizes: &[2, 0, 1], tokens: 3, joining: 2, dst: (4, 3), dst_sizes: 3 };
    let attempt = |shape: &Shape| {
        let Shape { rows, sizes, tokens, joining, dst, dst_sizes } = *shape;
        let mut table = vec![77_u32; dst_sizes];
        let cell = Cell::new(&mut table[..]);
        let error = warp_error(|g, x, y, z| {
            let p = Permutation::new(rows, 3, joining)?;
            let table = cell.take();
            let answer = g.append(
                x.rows(width(4))?,
                sizes,
                y.slice(..tokens)?,
                y.ragged(new)?,
                p,
                z.rows(width(dst.0))?.first(dst.1)?,
                table,
            );
            cell.set(table);
            answer
        });
        assert!(cell.into_inner().iter().all(|size| *size == 77), "sizes of a refused append");
        error
    };
    assert_eq!(attempt(&Shape { sizes: &[2, 0], ..good }), length("sizes", 3, 2));
    assert_eq!(attempt(&Shape { tokens: 4, ..good }), length("tokens", 3, 4));
    assert_eq!(attempt(&Shape { joining: 3, ..good }), length("joining", 3, 2));
    assert_eq!(attempt(&Shape { dst: (4, 2), ..good }), length("dst", 3, 2));
    assert_eq!(attempt(&Shape { dst_sizes: 4, ..good }), length("dst_sizes", 3, 4));
    let room = |operand, row, found, room| Error::Room { operand, row, found, room };
    assert_eq!(attempt(&Shape { sizes: &[2, 0, 5], ..good }), room("history", 0, 5, 4));
    assert_eq!(attempt(&Shape { sizes: &[4, 0, 1], ..good }), room("dst", 1, 5, 4));
    assert_eq!(attempt(&Shape { sizes: &[u32::MAX, 0, 1], ..good }), room("history", 1, u32::MAX as usize, 4));
    assert_eq!(attempt(&Shape { rows: &[3, 4, 0], dst: (3, 3), ..good }), room("dst", 1, 4, 3));
}

#[test]
fn a_ragged_view_of_nothing_has_no_rows() {
    let x = Buffer::<u32, Host>::zeros(0).unwrap();
    let rows: Ragged<'_, u32, Host> = x.view().ragged(Offsets::new(&[0], "none").unwrap()).unwrap();
    assert_eq!((rows.row_count(), rows.row_len(0)), (0, None));
    assert_eq!(x.view().rows(width(7)).unwrap().row_count(), 0);
}
