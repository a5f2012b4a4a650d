//! An error with its place: the `?` of the program that raised it.

use tidelock::{
    Ctx, DeviceLocation, Error, Stream, View,
    error::{Located, Result},
    sim,
    stream::HasAlloc,
};

/// The line of the first call of `step` that is refused.
const FIRST: u32 = line!() + 6;

/// A refused copy, a refused slice, a refused value, and a place that passes through.
fn step<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>, which: usize) -> Result<(), Located> {
    let (x, mut y) = (ctx.zeros::<u32>(2)?, ctx.zeros::<u32>(3)?);
    match which {
        0 => ctx.copy(x.view(), y.view_mut())?,
        1 => assert!(x.view().slice(3..)?.is_empty()),
        2 => drop(ctx.init_from(ctx.alloc(1)?, x.view())?),
        _ => inner(x.view())?,
    }
    Ok(())
}

const INNER: u32 = line!() + 3;

fn inner<L: DeviceLocation>(view: View<'_, u32, L>) -> Result<(), Located> {
    let (head, _) = view.split_at(5)?;
    assert_eq!(head.len(), 5);
    Ok(())
}

fn read<L: DeviceLocation>(stream: &mut Stream<L>) -> Result<Vec<u32>, Located> {
    let x = stream.ctx().with_pool().zeros::<u32>(1)?;
    Ok(stream.read(x.view())?)
}

#[test]
fn an_error_says_which_call_raised_it() {
    sim::Device::default()
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            for (which, line) in [FIRST, FIRST + 1, FIRST + 2, INNER].into_iter().enumerate() {
                let error = step(&ctx, which).unwrap_err();
                assert_eq!((error.at.file(), error.at.line()), (file!(), line), "{error}");
                assert!(error.to_string().contains(&format!("located.rs:{line}:")), "{error}");
                // Without its place it is the plain error.
                assert_eq!(Error::from(error), error.error);
            }
            assert_eq!(read(&mut stream).unwrap(), [0]);
        })
        .unwrap();
}
