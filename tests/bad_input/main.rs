//! Bad input: each refused call returns a typed error that names the operand, enqueues nothing,
//! changes nothing, hands back what was moved into it, and leaves the stream usable.

mod driver;
mod requests;
mod shapes;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidelock::{
    BatchCopy, Buffer, Ctx, Error, Permutation, State, Stream,
    buffer::{Indices, Offsets},
    error::{OutOfRange, Shortage},
    location::Host,
    sim::{self, Sim},
    stream::StreamAlloc,
};
use tidelock_test_support::memory::{read_back, width};

type Pool<'s> = StreamAlloc<Sim<'s>>;

/// The pinned pool belongs to the process, and one test makes it fail, so tests that use it take
/// turns.
fn pinned_memory() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put<'s>(ctx: &Ctx<'_, Sim<'s>, Pool<'s>>, values: &[u32]) -> Buffer<u32, Sim<'s>> {
    let mut x = ctx.zeros(values.len()).unwrap();
    ctx.upload(values, x.view_mut()).unwrap();
    x
}

/// Returns whether an error is out of memory in `place` for a request of `expected` bytes, whatever
/// its other fields are.
fn no_memory(place: &'static str, expected: usize) -> impl Fn(Error) -> bool {
    move |error| match error {
        Error::OutOfMemory { location, bytes, .. } => (location, bytes) == (place, expected),
        _ => false,
    }
}

/// Runs `refused`, which must return `error` without a driver call.
#[track_caller]
fn refused<R>(device: &sim::Device, error: Error, refused: impl FnOnce() -> Result<R, Error>) {
    let before = device.gpu().counts();
    assert_eq!(refused().err(), Some(error));
    assert_eq!((device.gpu().counts() - before).total(), 0, "a refused call reached the driver");
}

/// Opens a stream, runs `f`, and asserts that the stream still works and nothing is lost.
fn on_a_stream(f: impl for<'s> FnOnce(&sim::Device, &mut Stream<Sim<'s>>)) {
    let _turn = pinned_memory();
    let device = sim::Device::default();
    device
        .stream(|mut stream, _env| {
            f(&device, &mut stream);
            assert_eq!(stream.leaked_bytes(), 0);
            let x = put(&stream.ctx().with_pool(), &[1, 2, 3]);
            assert_eq!(read_back(&mut stream, x.view()), [1, 2, 3]);
        })
        .unwrap();
    let report = device.gpu().report();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn permutations() {
    let index = |position, index, rows| Err(Error::Index { operand: "permutation", position, index, rows });
    let check = |rows: &[u32], old, joining| Permutation::new(rows, old, joining).map(Permutation::len);
    assert_eq!(check(&[0, 3], 3, 0), index(1, 3, 3));
    assert_eq!(check(&[4, 0], 3, 1), index(0, 4, 4));
    assert_eq!(check(&[0], 0, 0), index(0, 0, 0));
    assert_eq!(check(&[u32::MAX], 5, 5), index(0, u32::MAX as usize, 10));
    assert_eq!(check(&[0, 1, 2, 9, 8], 3, 0), index(3, 9, 3));
    assert_eq!(check(&[0], usize::MAX, 1), Err(Error::TooLarge { operand: "permutation" }));
    assert_eq!(check(&[0, 0, 3], 3, 1), Ok(3));
    assert_eq!(check(&[], 0, 0), Ok(0));
    let error = Indices::new(&[1, 2], 2, "slots").unwrap_err();
    assert_eq!(error.to_string(), "`slots`[1] is 2, but there are 2 rows");
}

#[test]
fn offsets() {
    let offsets = |position, value| Error::Offsets { operand: "pages", position, value };
    let check = |table: &[u32]| Offsets::new(table, "pages").map(Offsets::row_count);
    assert_eq!(check(&[1, 2]), Err(offsets(0, 1)));
    assert_eq!(check(&[0, 5, 4]), Err(offsets(2, 4)));
    assert_eq!(check(&[0, u32::MAX, 0]), Err(offsets(2, 0)));
    assert_eq!(check(&[]), Err(Error::Length { operand: "pages", expected: 1, found: 0 }));
    assert_eq!((check(&[0]), check(&[0, 0, 0])), (Ok(0), Ok(2)));
    let check = |table: &[u32]| Offsets::of_part(table, "pages").map(Offsets::row_count);
    assert_eq!((check(&[5]), check(&[u32::MAX, u32::MAX])), (Ok(0), Ok(1)));
    assert_eq!(check(&[5, 6, 5]), Err(offsets(2, 5)));
    assert_eq!(check(&[]), Err(Error::Length { operand: "pages", expected: 1, found: 0 }));
    let all = Offsets::new(&[0, 4, 6, 9], "pages").unwrap();
    let (three, two) = (3, 2);
    for bad in [all.part(..4), all.part(4..), all.part(three..two), all.part(..=usize::MAX), all.part(usize::MAX..)] {
        assert_eq!(bad.unwrap_err(), OutOfRange);
    }
    assert_eq!(all.part(3..).map(|none| (none.row_count(), none.start(), none.end())), Ok((0, 9, 9)));
    let x = Buffer::<u32, Host>::zeros(9).unwrap();
    // A part whose rows lie in the whole view reaches beyond a view of its own elements.
    let (within, theirs) = (all.part(1..).unwrap(), x.view().slice(4..).unwrap());
    let beyond = theirs.ragged(within).unwrap_err();
    assert_eq!(beyond, Error::Length { operand: "ragged rows", expected: 9, found: 5 });
    assert_eq!(theirs.ragged(within.from_first()).unwrap().part(3..).unwrap_err(), OutOfRange);
    let beyond = x.view().ragged(Offsets::new(&[0, 10], "pages").unwrap()).unwrap_err();
    assert_eq!(beyond, Error::Length { operand: "ragged rows", expected: 10, found: 9 });
    let beyond = x.view().ragged(Offsets::new(&[0, 3, u32::MAX], "pages").unwrap()).unwrap_err();
    assert_eq!(beyond, Error::Length { operand: "ragged rows", expected: u32::MAX as usize, found: 9 });
}

#[test]
fn lengths_of_copies() {
    on_a_stream(|device, stream| {
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &[1, 2, 3, 4]), put(&ctx, &[5, 6, 7]));
        let length = |expected, found| Error::Length { operand: "dst", expected, found };
        refused(device, length(4, 3), || ctx.copy(x.view(), y.view_mut()));
        refused(device, length(2, 3), || ctx.upload(&[1, 2], y.view_mut()));
        refused(device, length(0, 3), || ctx.upload(&[], y.view_mut()));

        let empty = ctx.alloc::<u32>(7).unwrap();
        let place = empty.as_ptr();
        let rejected = ctx.init_from(empty, x.view()).unwrap_err();
        assert_eq!((rejected.error, rejected.value.as_ptr()), (length(4, 7), place));
        let zeroed = ctx.init_zeros(rejected.value).unwrap();

        let mut batch = BatchCopy::new();
        refused(device, length(4, 3), || batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())));
        refused(device, length(4, 3), || batch.scope(&ctx, |b| b.group(|g| g.copy(x.view(), y.view_mut()))));
        refused(device, length(4, 3), || batch.scope(&ctx, |b| b.group(|g| g.copy_unmerged(x.view(), y.view_mut()))));
        assert_eq!((batch.stats().submitted, batch.stats().submissions), (0, 0));

        let rejected = State::new(x, y).unwrap_err();
        assert_eq!(rejected.error, Error::Length { operand: "back", expected: 4, found: 3 });
        let (x, y) = rejected.value;
        assert_eq!(
            (read_back(stream, x.view()), read_back(stream, y.view()), read_back(stream, zeroed.view())),
            (vec![1, 2, 3, 4], vec![5, 6, 7], vec![0; 7])
        );
    });
}

#[test]
fn errors_say_what_was_wrong_without_a_driver() {
    let no_memory = |shortage| Error::OutOfMemory { location: "device", bytes: 5, shortage };
    let mut of_all = Shortage::default();
    (of_all.device, of_all.total) = (3, 64);
    let nothing = of_all;
    (of_all.free, of_all.cached, of_all.waiting) = (4, 9, 20);
    let mut pinned = Shortage::default();
    pinned.waiting = 20;
    let cases = [
        (Error::Length { operand: "dst", expected: 4, found: 3 }, "`dst` has 3 elements where 4 are needed"),
        (Error::OutOfRange { operand: "row" }, "a range does not lie inside `row`"),
        (Error::Index { operand: "p", position: 1, index: 7, rows: 4 }, "`p`[1] is 7, but there are 4 rows"),
        (
            Error::Offsets { operand: "o", position: 2, value: 1 },
            "`o`[2] is 1: offsets never decrease, and those of a whole batch start at 0",
        ),
        (
            Error::Room { operand: "dst", row: 3, found: 9, room: 8 },
            "row 3 of `dst` needs room for 9 elements, there is room for 8",
        ),
        (Error::TooLarge { operand: "host" }, "`host` would be larger than the address space"),
        (no_memory(None), "no device memory left for 5 bytes"),
        (
            no_memory(Some(of_all)),
            "no device memory left for 5 bytes (device 3: 4 of 64 bytes are free, pools hold 9 more, 20 wait for the stream to pass)",
        ),
        (no_memory(Some(nothing)), "no device memory left for 5 bytes (device 3: 0 of 64 bytes are free)"),
        (no_memory(Some(pinned)), "no device memory left for 5 bytes (device 0, 20 wait for the stream to pass)"),
    ];
    for (error, words) in cases {
        assert_eq!(error.to_string(), words);
    }
}
