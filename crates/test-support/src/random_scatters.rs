//! Random rows by pairs of numbers, of adjacent rows and of columns, and a reference of plain
//! vectors for their results.

use proptest::prelude::*;
use tidelock::{
    BatchCopy, Buffer, DeviceLocation, Element, Error, Permutation, Result, Stream, View, ViewMut,
    batch::Group,
    buffer::{Rows, RowsMut, Scatter},
    location::{Host, Location},
    state::DevicePermutation,
    stream::{BatchSource, KernelAccessible},
};

use crate::{
    memory::width,
    random_moves::programs::{Place, Value},
};

/// How the rows are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Scatter,
    Within,
    /// A copy for each pair of `targets` and `sources`.
    Targets,
    /// A copy for each of `pairs`.
    Pairs,
    /// The destinations are `0 ..`.
    Warp,
    WarpBy,
    CopyRows,
}

/// The columns of a matrix that are rows of the case: some before them and behind them are not.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    pub before: usize,
    pub behind: usize,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub way: Way,
    pub width: usize,
    pub from_rows: usize,
    pub to_rows: usize,
    pub pairs: Vec<(u32, u32)>,
    pub src: (Place, Columns),
    /// Never in plain host memory.
    pub dst: (Place, Columns),
    /// How many buffers one scatter serves.
    pub layers: usize,
}

fn values<T: Value>(seed: u32, len: usize) -> Vec<T> {
    (0..len as u32).map(|i| T::of((seed + i).wrapping_mul(0x9e37_79b9) >> 7)).collect()
}

impl Columns {
    fn pitch(self, width: usize) -> usize {
        self.before + width + self.behind
    }
}

impl Case {
    fn is_within(&self) -> bool {
        matches!(self.way, Way::Within | Way::Pairs)
    }

    /// The pairs by their numbers as the way has them.
    fn moves(&self) -> Vec<(usize, usize)> {
        let pairs = self.pairs.iter().map(|&(from, to)| (from as usize, to as usize));
        match self.way {
            Way::Warp | Way::WarpBy => pairs.enumerate().map(|(i, (from, _))| (from, i)).collect(),
            Way::CopyRows => (0..self.from_rows.min(self.to_rows)).map(|i| (i, i)).collect(),
            _ => pairs.collect(),
        }
    }

    fn to_rows(&self) -> usize {
        match self.way {
            Way::Warp | Way::WarpBy => self.pairs.len(),
            Way::CopyRows => self.from_rows.min(self.to_rows),
            _ => self.to_rows,
        }
    }

    fn apply<T: Value>(&self, src: &[T], dst: &mut [T]) {
        let (from_pitch, to_pitch) = (self.src.1.pitch(self.width), self.dst.1.pitch(self.width));
        for (from, to) in self.moves() {
            let row = &src[from * from_pitch + self.src.1.before..][..self.width];
            dst[to * to_pitch + self.dst.1.before..][..self.width].copy_from_slice(row);
        }
    }
}

/// Pairs with distinct destinations; with `apart`, no row is source and destination.
fn pairs(kind: u32, (from_rows, to_rows): (usize, usize), count: usize, seed: u32, apart: bool) -> Vec<(u32, u32)> {
    let noise = |i: usize| (seed as usize + i).wrapping_mul(0x9e37_79b9) >> 5;
    let from = |i: usize| match kind {
        0 | 1 => noise(i) % from_rows,
        2 => (i + seed as usize) % from_rows,
        3 => seed as usize % from_rows,
        _ => (i + i / 3 * 5) % from_rows,
    };
    // A step that shares no factor with the number of rows visits each once.
    let step = (1..).map(|n| n + noise(3) % 50).find(|step| gcd(*step, to_rows) == 1).unwrap_or(1);
    let to = |i: usize| (if kind == 1 { i * step } else { i }) % to_rows;
    let is_target = |row: usize| row % 2 == seed as usize % 2;
    let pairs = (0..count.min(to_rows)).map(|i| (from(i), to(i)));
    let kept = pairs.filter(|&(from, to)| !apart || is_target(to) && !is_target(from));
    kept.map(|(from, to)| (from as u32, to as u32)).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

pub fn cases() -> impl Strategy<Value = Case> {
    use Way::{CopyRows, Pairs, Scatter, Targets, Warp, WarpBy, Within};
    let ways = prop::sample::select(vec![Scatter, Scatter, Within, Within, Targets, Pairs, Warp, WarpBy, CopyRows]);
    let rows = prop_oneof![1 => Just(1_usize), 6 => 2..90_usize, 3 => 90..3000_usize, 1 => 0xfffd..0x1_0003_usize];
    let place = prop_oneof![6 => Just(Place::Device), 2 => Just(Place::Staged), 1 => Just(Place::Host)];
    let columns = prop_oneof![
        3 => Just(Columns { before: 0, behind: 0 }),
        2 => (0..20_usize, 0..20_usize).prop_map(|(before, behind)| Columns { before, behind })
    ];
    let shape =
        (1..70_usize, rows.clone(), rows, prop_oneof![1 => 0..10_usize, 6 => 10..400_usize, 1 => 400..4000_usize]);
    let rest = (0..5_u32, any::<u16>(), 1..4_usize);
    (ways, shape, (place.clone(), columns.clone()), (place, columns), rest).prop_map(
        |(way, (width, from_rows, to_rows, count), src, dst, (kind, seed, layers))| {
            let width = width.min(90_000 / from_rows.max(to_rows)).max(1);
            let within = matches!(way, Within | Pairs);
            let dst = (if dst.0 == Place::Host { Place::Device } else { dst.0 }, dst.1);
            let src = match way {
                Within | Pairs => dst,
                WarpBy if src.0 == Place::Host => (Place::Staged, src.1),
                _ => src,
            };
            let rows = if within { (to_rows, to_rows) } else { (from_rows, to_rows) };
            let pairs = pairs(kind, rows, count, seed.into(), within);
            Case { way, width, from_rows: rows.0, to_rows, pairs, src, dst, layers }
        },
    )
}

/// The columns of `matrix` that are the rows of a case.
fn rows<'a, T, D: Location>(matrix: View<'a, T, D>, of: Columns, n: usize) -> Result<Rows<'a, T, D>> {
    Ok(matrix.rows(width(of.pitch(n)))?.columns(of.before..of.before + n)?)
}

fn rows_mut<'a, T, D: Location>(matrix: ViewMut<'a, T, D>, of: Columns, n: usize) -> Result<RowsMut<'a, T, D>> {
    let all = matrix.rows(width(of.pitch(n)))?;
    // Two ways to the same columns.
    let rest = if of.before == 0 { all } else { all.split_columns(of.before)?.1 };
    Ok(rest.columns(..n)?)
}

fn add<'env, T: Element, L: DeviceLocation, S: BatchSource<L>, D: KernelAccessible<L>>(
    group: &mut Group<'_, 'env, L>,
    case: &'env Case,
    (scatter, numbers): (&'env Scatter, &'env [u32]),
    src: Rows<'env, T, S>,
    dst: RowsMut<'env, T, D>,
) -> Result<()> {
    match case.way {
        Way::Scatter => group.scatter(src, scatter, dst),
        Way::Targets => {
            src.sources(scatter)?.zip(dst.targets(scatter)?).try_for_each(|(src, dst)| group.copy(src, dst))
        }
        Way::CopyRows => group.copy_rows(src.first(case.to_rows())?, dst),
        _ => group.warp(src, Permutation::new(numbers, case.from_rows, 0)?, dst),
    }
}

fn add_within<'env, T: Element, L: DeviceLocation, D: BatchSource<L> + KernelAccessible<L>>(
    group: &mut Group<'_, 'env, L>,
    case: &Case,
    scatter: &'env Scatter,
    rows: RowsMut<'env, T, D>,
) -> Result<()> {
    match case.way {
        Way::Within => group.scatter_within(rows, scatter),
        _ => rows.pairs(scatter)?.try_for_each(|(src, dst)| group.copy(src, dst)),
    }
}

/// Runs `case` on a stream, and compares every byte.
pub fn check<T: Value, L: DeviceLocation>(stream: &mut Stream<L>, case: &Case) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut scatter = Scatter::new();
    scatter.set(case.pairs.iter().copied(), case.from_rows, case.to_rows)?;
    assert_eq!((scatter.len(), scatter.is_empty()), (case.pairs.len(), case.pairs.is_empty()));
    assert!(scatter.sources().iter().zip(scatter.targets()).map(|(&a, &b)| (a, b)).eq(case.pairs.iter().copied()));
    let numbers: Vec<u32> = case.pairs.iter().map(|pair| pair.0).collect();
    let on_device = DevicePermutation::upload(&ctx, Permutation::new(&numbers, case.from_rows, 0)?)?;

    let from = values::<T>(1, case.from_rows * case.src.1.pitch(case.width));
    let before = values::<T>(700_000, case.to_rows() * case.dst.1.pitch(case.width));
    let mut expected = before.clone();
    if case.is_within() {
        case.apply(&before, &mut expected)
    } else {
        case.apply(&from, &mut expected)
    }

    let (device, host) = (ctx.upload_new(&from)?, Buffer::<T, Host>::from_slice(&from)?);
    let staged = Buffer::<T, L::Pinned>::from_slice(&from)?.stage(&ctx);
    let mut layers = Vec::new();
    let mut staged_layers = Vec::new();
    for _ in 0..case.layers {
        layers.push(ctx.upload_new(&before)?);
        staged_layers.push(Buffer::<T, L::Pinned>::from_slice(&before)?.stage(&ctx));
    }
    let mut batch = BatchCopy::new();
    let (src_columns, dst_columns, n) = (case.src.1, case.dst.1, case.width);
    let numbers = (&scatter, &numbers[..]);
    // A closure cannot be generic.
    macro_rules! add_to {
        ($group:expr, $into:expr) => {
            for layer in $into {
                let dst = rows_mut(layer.view_mut(), dst_columns, n)?;
                match (case.way, case.src.0) {
                    (Way::Within | Way::Pairs, _) => add_within($group, case, &scatter, dst)?,
                    (Way::WarpBy, Place::Device) => {
                        $group.warp_by(rows(device.view(), src_columns, n)?, on_device.numbers(), dst)?;
                    }
                    (Way::WarpBy, _) => {
                        $group.warp_by(rows(staged.view(), src_columns, n)?, on_device.numbers(), dst)?;
                    }
                    (_, Place::Device) => add($group, case, numbers, rows(device.view(), src_columns, n)?, dst)?,
                    (_, Place::Staged) => add($group, case, numbers, rows(staged.view(), src_columns, n)?, dst)?,
                    (_, Place::Host) => add($group, case, numbers, rows(host.view(), src_columns, n)?, dst)?,
                }
            }
        };
    }
    batch.scope(&ctx, |batch| {
        batch.group(|group| {
            match case.dst.0 {
                Place::Device => add_to!(group, &mut layers),
                _ => add_to!(group, &mut staged_layers),
            }
            Ok::<(), Error>(())
        })
    })?;
    let (stats, moves) = (batch.stats(), (case.layers * case.moves().len()) as u64);
    let bytes = moves * (case.width * size_of::<T>()) as u64;
    assert_eq!((stats.asked, stats.bytes, stats.submissions), (moves, bytes, u64::from(bytes > 0)));
    assert!(stats.submitted <= stats.asked, "{stats:?}");
    let mut seen = Vec::new();
    for layer in &layers {
        seen.push(ctx.init_from(ctx.alloc_pinned::<T>(before.len())?.stage(&ctx), layer.view())?);
    }
    let synced = stream.synchronize()?;
    for (device, staged) in seen.iter().zip(&staged_layers) {
        let (device, staged) = (device.peek(&synced), staged.peek(&synced));
        let is_device = case.dst.0 == Place::Device;
        let (written, untouched) = if is_device { (device, staged) } else { (staged, device) };
        assert!(written == &expected[..], "{case:?}");
        assert!(untouched == &before[..], "{case:?}");
    }
    Ok(())
}
