//! The three Warps and Append against a model of plain vectors: results, refused inputs with the exact error, merging.

use std::{fmt::Debug, num::NonZero};

use proptest::{collection::vec, prelude::*, test_runner::Config};
use tidelock::{
    BatchCopy, BatchSource, BatchStats, Buffer, Element, Error, Group, Host, Offsets, Permutation, Pinned, Sim, State,
    Stream, View, ViewMut, sim, sim::SimBackend,
};

/// An element that can be told apart from others by a number.
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

/// Where the two sources of a call lie; together they cover each place in each role.
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

/// One copy as the model sees it: which source, from where, to where, how many elements.
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

/// What the model says of a call: its error, or its copies.
type Predicted = Result<Vec<Run>, Error>;

/// Merges copies where one continues the one before it, those from plain host memory aside, which are never merged.
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

fn width(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// A call to test, whatever its sources are.
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
    /// What the destination holds before.
    dst: Vec<T>,
}

/// Makes `call` on a device and checks it against what was predicted.
fn check<T: Numbered, C: Call<T>>(operands: &Operands<T>, seed: u64, call: &mut C, predicted: &Predicted) {
    let device = sim::Device::new(sim::Options::quick().seed(seed));
    let Operands { places, first, second, tokens, dst } = operands;
    device
        .stream(|mut stream, _env| {
            let staged =
                |values: &[T]| Buffer::<T, Pinned<SimBackend>>::from_slice(values).unwrap().stage(&stream.ctx());
            let ctx = stream.ctx().with_pool();
            let on_device = |values: &[T]| ctx.init(ctx.device(values.len()).unwrap(), staged(values).view()).unwrap();
            let (device_first, device_second) = (on_device(first), on_device(second));
            let (staged_first, staged_second) = (staged(first), staged(second));
            let host = |values: &[T]| Buffer::<T, Host>::from_slice(values).unwrap();
            let (host_first, host_second) = (host(first), host(second));
            let (tokens, mut target) = (on_device(tokens), on_device(dst));
            let mut batch = BatchCopy::new();
            let calls = device.engine().counts();
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
            let calls = (device.engine().counts() - calls).total();
            let read = read_back(&mut stream, &target);
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
    assert!(device.engine().report().is_clean());
}

fn read_back<'s, T: Element>(stream: &mut Stream<Sim<'s>>, x: &Buffer<T, Sim<'s>>) -> Vec<T> {
    let mut values = vec![T::zeroed(); x.len()];
    stream.host_scope(|scope| scope.ctx().copy(x.view(), scope.target(&mut values))).unwrap().unwrap();
    values
}

/// What is wrong with a case, if anything: one thing at a time, so that the model knows which error comes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    /// An index is beyond the rows by this much.
    Index(u32),
    /// An operand has this many rows more or fewer than the permutation asks for.
    First(bool),
    Second(bool),
    Dst(bool),
    SecondWidth,
    DstWidth,
    /// A table has an element more or fewer.
    Table(bool),
    Tokens(bool),
}

fn flaw() -> impl Strategy<Value = Flaw> {
    prop_oneof![
        8 => Just(Flaw::None),
        1 => (0..3_u32).prop_map(Flaw::Index),
        1 => any::<bool>().prop_map(Flaw::First),
        1 => any::<bool>().prop_map(Flaw::Second),
        1 => any::<bool>().prop_map(Flaw::Dst),
        1 => Just(Flaw::SecondWidth),
        1 => Just(Flaw::DstWidth),
        1 => any::<bool>().prop_map(Flaw::Table),
        1 => any::<bool>().prop_map(Flaw::Tokens),
    ]
}

/// `count`, or one more or fewer if `flaw` says so; a count of 0 only ever grows.
fn flawed(count: usize, flaw: Option<bool>) -> usize {
    match flaw {
        None => count,
        Some(false) if count > 0 => count - 1,
        Some(_) => count + 1,
    }
}

#[derive(Clone, Debug)]
struct Case {
    places: Places,
    old: usize,
    joining: usize,
    width: usize,
    rows: Vec<u32>,
    flaw: Flaw,
    seed: u64,
}

prop_compose! {
    fn case()(old in 0..7_usize, joining in 0..4_usize)(
        rows in if old + joining == 0 { vec(0..1_u32, 0..1) } else { vec(0..(old + joining) as u32, 0..9) },
        ascending in any::<bool>(),
        places in places(),
        width in 1..6_usize,
        flaw in flaw(),
        seed in any::<u64>(),
        old in Just(old),
        joining in Just(joining),
    ) -> Case {
        let mut rows = rows;
        if old + joining == 0 {
            rows.clear();
        }
        if ascending {
            // Neighbours that stay neighbours, so that there is something to merge.
            rows.sort_unstable();
            rows.dedup();
        }
        if let (Flaw::Index(by), Some(last)) = (flaw, rows.last_mut()) {
            *last = (old + joining) as u32 + by;
        }
        Case { places, old, joining, width, rows, flaw, seed }
    }
}

impl Case {
    fn length(operand: &'static str, expected: usize, found: usize) -> Result<(), Error> {
        if expected == found { Ok(()) } else { Err(Error::Length { operand, expected, found }) }
    }

    /// The number of rows the two sources and the destination really have.
    fn counts(&self) -> (usize, usize, usize) {
        let by = |is: fn(Flaw) -> Option<bool>| is(self.flaw);
        (
            flawed(self.old, by(|flaw| if let Flaw::First(more) = flaw { Some(more) } else { None })),
            flawed(self.joining, by(|flaw| if let Flaw::Second(more) = flaw { Some(more) } else { None })),
            flawed(self.rows.len(), by(|flaw| if let Flaw::Dst(more) = flaw { Some(more) } else { None })),
        )
    }

    fn table(&self, len: usize) -> usize {
        flawed(len, if let Flaw::Table(more) = self.flaw { Some(more) } else { None })
    }

    /// The first index that names no row.
    fn check_indices(&self) -> Result<(), Error> {
        let bound = self.old + self.joining;
        match self.rows.iter().position(|row| *row as usize >= bound) {
            None => Ok(()),
            Some(position) => {
                let index = self.rows[position] as usize;
                Err(Error::Index { operand: "permutation", position, index, rows: bound })
            }
        }
    }

    fn second_width(&self) -> usize {
        self.width + usize::from(self.flaw == Flaw::SecondWidth)
    }

    fn dst_width(&self) -> usize {
        self.width + usize::from(self.flaw == Flaw::DstWidth)
    }

    /// The operands of the Warps over rows of one width.
    fn operands<T: Numbered>(&self) -> Operands<T> {
        let (first, second, dst) = self.counts();
        Operands {
            places: self.places,
            first: numbers(1, first * self.width),
            second: numbers(100, second * self.second_width()),
            tokens: numbers(150, 1),
            dst: numbers(200, dst * self.dst_width()),
        }
    }

    fn warp(&self) -> Predicted {
        let (first, _, dst) = self.counts();
        self.check_indices()?;
        Case::length("src", self.old, first)?;
        Case::length("dst", self.rows.len(), dst)?;
        Case::length("dst row", self.width, self.dst_width())?;
        let width = self.width;
        let stays = self.rows.iter().enumerate().filter(|(_, row)| (**row as usize) < self.old);
        Ok(stays
            .map(|(i, row)| Run { source: Source::First, from: *row as usize * width, to: i * width, len: width })
            .collect())
    }

    fn warp_join(&self) -> Predicted {
        let (first, second, dst) = self.counts();
        self.check_indices()?;
        Case::length("src", self.old, first)?;
        Case::length("joining", self.joining, second)?;
        Case::length("dst", self.rows.len(), dst)?;
        Case::length("joining row", self.width, self.second_width())?;
        Case::length("dst row", self.width, self.dst_width())?;
        let width = self.width;
        let run = |(i, row): (usize, &u32)| {
            let row = *row as usize;
            let (source, row) = if row < self.old { (Source::First, row) } else { (Source::Second, row - self.old) };
            Run { source, from: row * width, to: i * width, len: width }
        };
        Ok(self.rows.iter().enumerate().map(run).collect())
    }
}

struct Warp<'c>(&'c Case);

impl<T: Numbered> Call<T> for Warp<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        _: View<'e, T, N>,
        _: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let case = self.0;
        let permutation = Permutation::new(&case.rows, case.old, case.joining)?;
        group.warp(first.rows(width(case.width))?, permutation, dst.rows(width(case.dst_width()))?)
    }
}

struct WarpJoin<'c>(&'c Case);

impl<T: Numbered> Call<T> for WarpJoin<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        _: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let case = self.0;
        let permutation = Permutation::new(&case.rows, case.old, case.joining)?;
        let (first, second) = (first.rows(width(case.width))?, second.rows(width(case.second_width()))?);
        group.warp_join(first, second, permutation, dst.rows(width(case.dst_width()))?)
    }
}

fn warps<T: Numbered>(case: &Case) {
    check::<T, _>(&case.operands(), case.seed, &mut Warp(case), &case.warp());
    check::<T, _>(&case.operands(), case.seed, &mut WarpJoin(case), &case.warp_join());
}

/// Offsets of rows of `lens` elements.
fn offsets(lens: &[usize]) -> Vec<u32> {
    let mut table = vec![0];
    for len in lens {
        table.push(table.last().unwrap() + *len as u32);
    }
    table
}

fn start(lens: &[usize], row: usize) -> usize {
    lens[..row].iter().sum()
}

struct Ragged<'c> {
    case: &'c Case,
    first: Offsets<'c>,
    second: Offsets<'c>,
    /// The output, of which the warp writes all or nothing.
    offsets: Vec<u32>,
}

impl<T: Numbered> Call<T> for Ragged<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        _: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let permutation = Permutation::new(&self.case.rows, self.case.old, self.case.joining)?;
        let (first, second) = (first.ragged(self.first)?, second.ragged(self.second)?);
        let end = group.warp_ragged(first, second, permutation, dst, &mut self.offsets)?;
        assert_eq!(Some(&(end as u32)), self.offsets.last());
        Ok(())
    }
}

fn ragged<T: Numbered>(case: &Case, lens: &[usize], slack: isize) {
    let (first, second, _) = case.counts();
    let (first, second) = (&lens[..first], &lens[first..first + second]);
    let len = |row: u32| match (row as usize).checked_sub(case.old) {
        None => first[row as usize],
        Some(row) => second[row],
    };
    let valid = case.check_indices().is_ok() && first.len() == case.old && second.len() == case.joining;
    let total: usize = if valid { case.rows.iter().map(|row| len(*row)).sum() } else { 40 };
    let room = total.saturating_add_signed(slack);
    let table = case.table(case.rows.len() + 1);
    let predict = || -> Predicted {
        case.check_indices()?;
        Case::length("src", case.old, first.len())?;
        Case::length("joining", case.joining, second.len())?;
        Case::length("offsets", case.rows.len() + 1, table)?;
        let (mut runs, mut to) = (Vec::new(), 0);
        for (i, row) in case.rows.iter().enumerate() {
            let len = len(*row);
            if to + len > room {
                return Err(Error::Room { operand: "dst", row: i, found: len, room: room - to });
            }
            let (source, from) = match (*row as usize).checked_sub(case.old) {
                None => (Source::First, start(first, *row as usize)),
                Some(row) => (Source::Second, start(second, row)),
            };
            runs.push(Run { source, from, to, len });
            to += len;
        }
        Ok(runs)
    };
    let predicted = predict();
    let operands = Operands::<T> {
        places: case.places,
        first: numbers(1, first.iter().sum()),
        second: numbers(100, second.iter().sum()),
        tokens: numbers(150, 1),
        dst: numbers(200, room),
    };
    let tables = (offsets(first), offsets(second));
    let (first, second) = (Offsets::new(&tables.0, "first").unwrap(), Offsets::new(&tables.1, "second").unwrap());
    let mut call = Ragged { case, first, second, offsets: vec![77; table] };
    check(&operands, case.seed, &mut call, &predicted);
    let expected = match &predicted {
        Err(_) => vec![77; table],
        Ok(runs) => offsets(&runs.iter().map(|run| run.len).collect::<Vec<_>>()),
    };
    assert_eq!(call.offsets, expected);
}

struct Append<'c> {
    case: &'c Case,
    sizes: Vec<u32>,
    second: Offsets<'c>,
    dst_width: usize,
    dst_sizes: Vec<u32>,
}

impl<T: Numbered> Call<T> for Append<'_> {
    fn add<'e, 's, S: BatchSource<Sim<'s>>, N: BatchSource<Sim<'s>>>(
        &mut self,
        group: &mut Group<'_, 'e, Sim<'s>>,
        first: View<'e, T, S>,
        second: View<'e, T, N>,
        tokens: View<'e, T, Sim<'s>>,
        dst: ViewMut<'e, T, Sim<'s>>,
    ) -> Result<(), Error>
    where
        Self: 'e,
    {
        let permutation = Permutation::new(&self.case.rows, self.case.old, self.case.joining)?;
        let joining = second.ragged(self.second)?;
        let (history, dst) = (first.rows(width(self.case.width))?, dst.rows(width(self.dst_width))?);
        group.append(history, &self.sizes, tokens, joining, permutation, dst, &mut self.dst_sizes)
    }
}

fn append<T: Numbered>(case: &Case, lens: &[usize], sizes: &[usize], dst_width: usize) {
    let (first, second, dst) = case.counts();
    let second = &lens[..second];
    let tokens = flawed(case.old, if let Flaw::Tokens(more) = case.flaw { Some(more) } else { None });
    let sizes = &sizes[..case.table(case.old)];
    let dst_sizes = flawed(case.rows.len(), (case.flaw == Flaw::DstWidth).then_some(true));
    let width = case.width;
    let predict = || -> Predicted {
        case.check_indices()?;
        Case::length("history", case.old, first)?;
        Case::length("sizes", case.old, sizes.len())?;
        Case::length("tokens", case.old, tokens)?;
        Case::length("joining", case.joining, second.len())?;
        Case::length("dst", case.rows.len(), dst)?;
        Case::length("dst_sizes", case.rows.len(), dst_sizes)?;
        let mut runs = Vec::new();
        for (i, row) in case.rows.iter().enumerate() {
            let (row, to) = (*row as usize, i * dst_width);
            let room = |found| Error::Room { operand: "dst", row: i, found, room: dst_width };
            if row < case.old {
                let size = sizes[row];
                if size > width {
                    return Err(Error::Room { operand: "history", row: i, found: size, room: width });
                }
                if size + 1 > dst_width {
                    return Err(room(size + 1));
                }
                runs.push(Run { source: Source::First, from: row * width, to, len: size });
                runs.push(Run { source: Source::Tokens, from: row, to: to + size, len: 1 });
            } else {
                let len = second[row - case.old];
                if len > dst_width {
                    return Err(room(len));
                }
                runs.push(Run { source: Source::Second, from: start(second, row - case.old), to, len });
            }
        }
        Ok(runs)
    };
    let predicted = predict();
    let operands = Operands::<T> {
        places: case.places,
        first: numbers(1, first * width),
        second: numbers(100, second.iter().sum()),
        tokens: numbers(150, tokens),
        dst: numbers(200, dst * dst_width),
    };
    let sizes: Vec<u32> = sizes.iter().map(|size| *size as u32).collect();
    let table = offsets(second);
    let offsets = Offsets::new(&table, "joining").unwrap();
    let mut call = Append { case, sizes, second: offsets, dst_width, dst_sizes: vec![77; dst_sizes] };
    check(&operands, case.seed, &mut call, &predicted);
    let grown = |row: &u32| match (*row as usize).checked_sub(case.old) {
        None => call.sizes[*row as usize] + 1,
        Some(row) => second[row] as u32,
    };
    let expected = match &predicted {
        Err(_) => vec![77; dst_sizes],
        Ok(_) => case.rows.iter().map(grown).collect(),
    };
    assert_eq!(call.dst_sizes, expected);
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
        case in case(), lens in vec(0..5_usize, 12), slack in prop_oneof![3 => 0..4_isize, 1 => -5..0_isize],
    ) {
        each_element!(ragged(&case, &lens, slack));
    }

    #[test]
    fn append_does_what_the_model_does(
        case in case(),
        lens in vec(0..5_usize, 5),
        full in vec(0..=6_usize, 8),
        fits in prop::bool::weighted(0.8),
        dst_width in 1..8_usize,
    ) {
        // Sizes and rooms that fit most of the time.
        let sizes: Vec<usize> = full.iter().map(|size| if fits { *size.min(&case.width) } else { *size }).collect();
        let dst_width = if fits { dst_width.max(case.width + 1).max(5) } else { dst_width };
        each_element!(append(&case, &lens, &sizes, dst_width));
    }

    #[test]
    fn many_iterations_do_what_the_model_does(
        iterations in vec((vec(any::<u32>(), 0..8), vec(1..6_usize, 0..3)), 1..12),
        seed in any::<u64>(),
    ) {
        iterate(&iterations, seed);
    }
}

/// The sequences of a batch as the model keeps them: their tokens, and a parameter each.
type Model = Vec<(Vec<u32>, u64)>;

const STRIDE: usize = 24;
const ROWS: usize = 8;

/// Re-packs a batch in every iteration: any rows in any order, some twice, others gone, others joining.
fn iterate(iterations: &[(Vec<u32>, Vec<usize>)], seed: u64) {
    let device = sim::Device::new(sim::Options::default().seed(seed));
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut history = State::<u32, _>::zeros(&ctx, ROWS * STRIDE).unwrap();
            let mut params = State::<u64, _>::zeros(&ctx, ROWS).unwrap();
            let (mut model, mut batch) = (Model::new(), BatchCopy::new());
            let (mut sizes, mut next) = (Vec::<u32>::new(), 0_u32);
            for (picks, joins) in iterations {
                let ctx = stream.ctx().with_pool();
                let bound = (model.len() + joins.len()) as u32;
                let rows: Vec<u32> =
                    if bound == 0 { Vec::new() } else { picks.iter().map(|pick| pick % bound).collect() };
                let permutation = Permutation::new(&rows, model.len(), joins.len()).unwrap();
                let tokens: Vec<u32> = (0..model.len() as u32).map(|i| next + i).collect();
                let fresh: Vec<u32> = (1000 + next..).take(joins.iter().sum()).collect();
                let keys: Vec<u64> = (0..joins.len() as u64).map(|i| u64::from(next) * 7 + i).collect();
                next += 50;

                let table = offsets(joins);
                let staged = Buffer::<u32, Pinned<SimBackend>>::from_slice(&fresh).unwrap().stage(&ctx);
                let mut dst_sizes = vec![0; rows.len()];
                let (now, then) = history.both();
                let (key, next_key) = params.both();
                let one = width(1);
                batch
                    .scope(&ctx, |b| {
                        b.group(|g| {
                            let joining = staged.view().ragged(Offsets::new(&table, "joining")?)?;
                            let now = now.rows(width(STRIDE))?.first(model.len())?;
                            let then = then.rows(width(STRIDE))?.first(rows.len())?;
                            g.append(now, &sizes, View::from(&tokens[..]), joining, permutation, then, &mut dst_sizes)
                        })?;
                        b.group(|g| {
                            let (now, joining) = (key.rows(one)?.first(model.len())?, View::from(&keys[..]).rows(one)?);
                            g.warp_join(now, joining, permutation, next_key.rows(one)?.first(rows.len())?)
                        })
                    })
                    .unwrap();
                history.swap();
                params.swap();
                sizes = dst_sizes;

                let old = model.clone();
                let row = |row: &u32| match (*row as usize).checked_sub(old.len()) {
                    None => {
                        let (mut tokens_so_far, key) = old[*row as usize].clone();
                        tokens_so_far.push(tokens[*row as usize]);
                        (tokens_so_far, key)
                    }
                    Some(join) => (fresh[start(joins, join)..][..joins[join]].to_vec(), keys[join]),
                };
                model = rows.iter().map(row).collect();
                assert!(sizes.iter().map(|size| *size as usize).eq(model.iter().map(|(tokens, _)| tokens.len())));
            }
            let mut tokens = vec![0_u32; ROWS * STRIDE];
            let mut keys = vec![0_u64; ROWS];
            stream
                .host_scope(|scope| {
                    scope.ctx().copy(history.front(), scope.target(&mut tokens)).unwrap();
                    scope.ctx().copy(params.front(), scope.target(&mut keys)).unwrap();
                })
                .unwrap();
            for (i, (expected, key)) in model.iter().enumerate() {
                assert_eq!((&tokens[i * STRIDE..][..expected.len()], keys[i]), (&expected[..], *key));
            }
        })
        .unwrap();
    assert!(device.engine().report().is_clean());
}
