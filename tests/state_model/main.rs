//! The three Warps and Append against a model of plain vectors: results, the exact error of refused
//! inputs, merging.

mod append;
mod case;
mod iterate;
mod warps;

use std::fmt::Debug;

use proptest::{collection::vec, prelude::*, test_runner::Config};
use tidelock::{
    BatchCopy, Buffer, Element, Error, View, ViewMut,
    batch::{BatchStats, Group},
    buffer::Offsets,
    location::{Host, Pinned},
    sim::{self, Sim, SimBackend},
    stream::BatchSource,
};
use tidelock_test_support::memory::{read_back, width};

use self::{
    append::append,
    case::case,
    iterate::iterate,
    warps::{ragged, warps},
};

/// An element that a number identifies.
trait Numbered: Element + PartialEq + Debug {
    fn number(n: u32) -> Self;
}

macro_rules! numbered {
    ($($name:ty: $number:expr;)*) => {$(
        impl Numbered for $name {
            fn number(n: u32) -> Self {
                $number(n)
            }
        }
    )*};
}
numbered! {
    u8: |n: u32| n as u8;
    u16: |n: u32| n as u16;
    u32: |n: u32| n.wrapping_mul(0x9E37_79B9);
    u64: |n: u32| u64::from(n) << 20;
    f32: |n: u32| n as f32 + 0.5;
    [u32; 3]: |n: u32| [n, !n, n << 7];
}

fn numbers<T: Numbered>(start: u32, len: usize) -> Vec<T> {
    (start..).take(len).map(T::number).collect()
}

/// Where the two sources of a call lie. The variants together cover each place in each role.
#[derive(Clone, Copy, Debug)]
enum Places {
    DeviceAndStaged,
    StagedAndHost,
    HostAndDevice,
    DeviceAndDevice,
}

fn places() -> impl Strategy<Value = Places> {
    prop_oneof![
        Just(Places::DeviceAndStaged),
        Just(Places::StagedAndHost),
        Just(Places::HostAndDevice),
        Just(Places::DeviceAndDevice),
    ]
}

/// One copy of the model: source, start in it, start in the destination, number of elements.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    source: Source,
    from: usize,
    to: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    First,
    Second,
    Tokens,
}

/// What the model predicts for a call: its error, or its copies.
type Predicted = Result<Vec<Run>, Error>;

/// The number of copies after merging those that continue the one before. Copies from plain host
/// memory are never merged.
fn merged(runs: &[Run], on_host: impl Fn(Source) -> bool) -> usize {
    let (host, device): (Vec<Run>, Vec<Run>) =
        runs.iter().filter(|run| run.len > 0).partition(|run| on_host(run.source));
    let mut count = 0;
    let mut last: Option<Run> = None;
    for run in device {
        let continues = last.is_some_and(|last| {
            last.source == run.source && last.from + last.len == run.from && last.to + last.len == run.to
        });
        if !continues {
            count += 1;
        }
        last = Some(run);
    }
    count + host.len()
}

impl Places {
    fn on_host(self, source: Source) -> bool {
        matches!((self, source), (Places::StagedAndHost, Source::Second) | (Places::HostAndDevice, Source::First))
    }
}

/// A call to test, with any sources.
trait Call<T: Numbered> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        tokens: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e;
}

/// The memory of one case.
struct Operands<T> {
    places: Places,
    first: Vec<T>,
    second: Vec<T>,
    tokens: Vec<T>,
    /// What the destination holds before the call.
    dst: Vec<T>,
}

/// Makes `call` on a device and compares it with the prediction.
fn check<T: Numbered, C: Call<T>>(operands: &Operands<T>, seed: u64, call: &mut C, predicted: &Predicted) {
    let device = sim::Device::new(sim::Options::quick().seed(seed));
    let Operands { places, first, second, tokens, dst } = operands;
    device
        .stream(|mut stream, _env| {
            let staged =
                |values: &[T]| Buffer::<T, Pinned<SimBackend>>::from_slice(values).unwrap().stage(&stream.ctx());
            let ctx = stream.ctx().with_pool();
            let on_device =
                |values: &[T]| ctx.init_from(ctx.alloc(values.len()).unwrap(), staged(values).view()).unwrap();
            let (device_first, device_second) = (on_device(first), on_device(second));
            let (staged_first, staged_second) = (staged(first), staged(second));
            let host = |values: &[T]| Buffer::<T, Host>::from_slice(values).unwrap();
            let (host_first, host_second) = (host(first), host(second));
            let (tokens, mut target) = (on_device(tokens), on_device(dst));
            let mut batch = BatchCopy::new();
            let calls = device.gpu().counts();
            macro_rules! scope {
                ($first:expr, $second:expr) => {
                    batch.scope(&ctx, |b| {
                        b.group(|g| call.add(g, $first.view(), $second.view(), tokens.view(), target.view_mut()))
                    })
                };
            }
            let answer = match places {
                Places::DeviceAndStaged => scope!(device_first, staged_second),
                Places::StagedAndHost => scope!(staged_first, host_second),
                Places::HostAndDevice => scope!(host_first, device_second),
                Places::DeviceAndDevice => scope!(device_first, device_second),
            };
            let calls = (device.gpu().counts() - calls).total();
            let read = read_back(&mut stream, target.view());
            let mut expected = dst.clone();
            match predicted {
                Err(error) => {
                    assert_eq!(answer, Err(*error));
                    assert_eq!((calls, batch.stats()), (0, BatchStats::default()), "a refused call");
                }
                Ok(runs) => {
                    assert_eq!(answer, Ok(()));
                    for run in runs {
                        let from = match run.source {
                            Source::First => &first[..],
                            Source::Second => &second[..],
                            Source::Tokens => &operands.tokens[..],
                        };
                        expected[run.to..run.to + run.len].copy_from_slice(&from[run.from..run.from + run.len]);
                    }
                    let submitted = merged(runs, |source| places.on_host(source)) as u64;
                    let bytes = runs.iter().map(|run| run.len * size_of::<T>()).sum::<usize>() as u64;
                    let stats = batch.stats();
                    assert_eq!((stats.asked, stats.submitted, stats.bytes), (runs.len() as u64, submitted, bytes));
                    assert_eq!((calls, stats.submissions), (u64::from(submitted > 0), u64::from(submitted > 0)));
                }
            }
            assert_eq!(read, expected);
        })
        .unwrap();
    assert!(device.gpu().report().is_clean());
}

/// Offsets of rows of `lens` elements.
fn offsets(lens: &[usize]) -> Vec<u32> {
    let mut table = vec![0];
    for len in lens {
        table.push(table.last().unwrap() + *len as u32);
    }
    table
}

/// How the rows of a call are a part of more rows.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// They are all the rows.
    Whole,
    /// They lie in a view of all rows.
    Within,
    /// They lie in a view that starts with them.
    FromFirst,
    /// As `Within`, by a slice of the table that is checked alone.
    Sliced,
    /// As `FromFirst`, by a slice of the table that is checked alone.
    SlicedFromFirst,
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        3 => Just(Part::Whole),
        1 => Just(Part::Within),
        1 => Just(Part::FromFirst),
        1 => Just(Part::Sliced),
        1 => Just(Part::SlicedFromFirst),
    ]
}

impl Part {
    /// The rows before a part, and those behind it.
    const AROUND: [&[usize]; 2] = [&[2, 0, 3], &[4]];

    /// The table of all rows, for a call with rows of `lens` elements.
    fn table(self, lens: &[usize]) -> Vec<u32> {
        let [before, behind] = Part::AROUND;
        if matches!(self, Part::Whole) { offsets(lens) } else { offsets(&[before, lens, behind].concat()) }
    }

    /// Elements of the view before the rows.
    fn lead(self) -> usize {
        if matches!(self, Part::Within | Part::Sliced) { Part::AROUND[0].iter().sum() } else { 0 }
    }

    /// The offsets of `rows` rows in `table`.
    fn of(self, table: &[u32], rows: usize) -> Offsets<'_> {
        let first = Part::AROUND[0].len();
        let all = || Offsets::new(table, "all").unwrap();
        let sliced = || Offsets::of_part(&table[first..=first + rows], "sliced").unwrap();
        match self {
            Part::Whole => all(),
            Part::Within => all().part(first..first + rows).unwrap(),
            Part::FromFirst => all().part(first..first + rows).unwrap().from_first(),
            Part::Sliced => sliced(),
            Part::SlicedFromFirst => sliced().from_first(),
        }
    }
}

fn start(lens: &[usize], row: usize) -> usize {
    lens[..row].iter().sum()
}

/// Runs a check for every element type.
macro_rules! each_element {
    ($check:ident($($argument:expr),*)) => {{
        $check::<u8>($($argument),*);
        $check::<u16>($($argument),*);
        $check::<u32>($($argument),*);
        $check::<u64>($($argument),*);
        $check::<f32>($($argument),*);
        $check::<[u32; 3]>($($argument),*);
    }};
}

proptest! {
    #![proptest_config(Config { cases: 256, failure_persistence: None, ..Config::default() })]

    #[test]
    fn warps_do_what_the_model_does(case in case()) {
        each_element!(warps(&case));
    }

    #[test]
    fn ragged_warps_do_what_the_model_does(
        case in case(),
        lens in vec(0..5_usize, 12),
        parts in (part(), part()),
        slack in prop_oneof![3 => 0..4_isize, 1 => -5..0_isize],
    ) {
        each_element!(ragged(&case, &lens, parts, slack));
    }

    #[test]
    fn append_does_what_the_model_does(
        case in case(),
        lens in vec(0..5_usize, 5),
        full in vec(0..=6_usize, 8),
        fits in prop::bool::weighted(0.6),
        dst_width in 1..8_usize,
        part in part(),
    ) {
        // Sizes and capacities that fit most of the time.
        let sizes: Vec<usize> = full.iter().map(|size| if fits { *size.min(&case.width) } else { *size }).collect();
        let dst_width = if fits { dst_width.max(case.width + 1).max(5) } else { dst_width };
        each_element!(append(&case, &lens, part, &sizes, dst_width));
    }

    #[test]
    fn many_iterations_do_what_the_model_does(
        iterations in vec((vec(any::<u32>(), 0..8), vec(1..6_usize, 0..3)), 1..12),
        seed in any::<u64>(),
    ) {
        iterate(&iterations, seed);
    }
}
