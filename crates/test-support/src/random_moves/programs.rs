//! Random warps, and a reference of plain vectors for their results.
//!
//! A program is a few scopes of one [`BatchCopy`], each of a few groups of warps. Row numbers are
//! on the host, on the device, or on the device only. Sources are memory of all kinds, and rows may
//! be adjacent. Groups and scopes may fail or panic, and must then have added nothing.

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use proptest::prelude::*;
use tidelock::{
    BatchCopy, Buffer, DeviceLocation, Element, Error, Permutation, Result, Stream, View, ViewMut,
    batch::{BatchStats, Group},
    driver::Code,
    location::Host,
    state::{DevicePermutation, RowNumbers},
    stream::{BatchSource, KernelAccessible, Staged},
};

use crate::memory::width;

/// How the row numbers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Warp,
    Join,
    By,
    JoinBy,
    Unchecked,
    JoinUnchecked,
    /// Each row that stays is a copy.
    Rows,
    /// The same, never merged.
    Unmerged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Device,
    Staged,
    Host,
}

#[derive(Clone, Debug)]
pub struct Move {
    pub way: Way,
    pub old: usize,
    pub joining: usize,
    pub width: usize,
    pub numbers: Vec<u32>,
    pub src: Place,
    pub more: Place,
    /// Whether the destination is staged memory.
    pub is_staged: bool,
    /// Where the present rows begin, and the joining ones; `None`: right behind the present ones.
    pub at: usize,
    pub more_at: Option<usize>,
    /// Elements of the destination that are left out before it.
    pub gap: usize,
    /// Whether a warp of another shape precedes it, which is refused.
    pub is_refused_first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Keep,
    Fail,
    Panic,
}

#[derive(Clone, Debug)]
pub struct Scope {
    pub groups: Vec<(Vec<Move>, End)>,
    pub end: End,
}

/// Elements whose values can be distinguished.
pub trait Value: Element + PartialEq + Debug {
    fn of(number: u32) -> Self;
}
impl Value for u8 {
    fn of(number: u32) -> u8 {
        (number ^ number >> 8 ^ number >> 16) as u8
    }
}
impl Value for u32 {
    fn of(number: u32) -> u32 {
        number
    }
}
impl Value for [u8; 3] {
    fn of(number: u32) -> [u8; 3] {
        [number as u8, (number >> 8) as u8, (number >> 16) as u8]
    }
}
/// Elements of no bytes.
impl Value for [u32; 0] {
    fn of(_: u32) -> [u32; 0] {
        []
    }
}

/// Elements of each source.
const SOURCE: usize = 90_000;

fn values<T: Value>(seed: u32, len: usize) -> Vec<T> {
    (0..len as u32).map(|i| T::of((seed + i).wrapping_mul(0x9e37_79b9) >> 7)).collect()
}

/// Row numbers below `bound`, of one of several kinds.
fn numbers(kind: u32, bound: usize, count: usize, seed: u32) -> Vec<u32> {
    let number = |i: usize| {
        let noise = ((seed as usize + i).wrapping_mul(0x9e37_79b9) >> 5) % bound;
        let row = match kind {
            0 | 1 => noise,
            2 => i,
            3 => bound - 1 - i % bound,
            4 => seed as usize,
            // Runs of a few rows.
            5 => i + i / (2 + seed as usize % 12) * 7,
            // Only the first and the last row.
            _ => bound - 1 + i % 2,
        };
        (row % bound) as u32
    };
    if bound == 0 { vec![] } else { (0..count).map(number).collect() }
}

fn moves() -> impl Strategy<Value = Move> {
    use Way::{By, Join, JoinBy, JoinUnchecked, Rows, Unchecked, Unmerged, Warp};
    let ways = prop::sample::select(vec![Warp, Join, By, JoinBy, Unchecked, JoinUnchecked, Rows, Unmerged]);
    let old = prop_oneof![
        2 => Just(0_usize), 2 => Just(1), 10 => 2..80_usize, 1 => 0xfffd..0x1_0003_usize, 3 => 80..3000_usize
    ];
    let count = prop_oneof![1 => Just(0_usize), 3 => 1..10_usize, 9 => 10..200_usize, 1 => 200..6000_usize];
    let place = prop_oneof![5 => Just(Place::Device), 2 => Just(Place::Staged), 1 => Just(Place::Host)];
    let shape = (old, prop_oneof![Just(0_usize), Just(1), 2..9_usize], 1..40_usize, count);
    let at = (0..40_usize, prop::option::of(0..40_usize), prop_oneof![Just(0_usize), 0..5_usize]);
    let rest = (any::<bool>(), prop::bool::weighted(0.1), 0..7_u32, any::<u16>());
    (ways, shape, (place.clone(), place), at, rest).prop_map(
        |(way, (old, joining, width, count), (src, more), (at, more_at, gap), (is_staged, refused, kind, seed))| {
            let host = !matches!(way, Warp | Join | Rows | Unmerged);
            // Rows in plain host memory cannot be gathered by numbers on the device.
            let place = |place| if host && place == Place::Host { Place::Device } else { place };
            let width = width.min((SOURCE - 80) / (old + joining).max(1)).min(60_000 / count.max(1)).max(1);
            Move {
                way,
                old,
                joining,
                width,
                numbers: numbers(kind, old + joining, count, seed.into()),
                src: place(src),
                more: place(more),
                is_staged,
                at,
                more_at,
                gap,
                is_refused_first: refused,
            }
        },
    )
}

pub fn programs() -> impl Strategy<Value = Vec<Scope>> {
    let end = prop_oneof![4 => Just(End::Keep), 1 => Just(End::Fail), 1 => Just(End::Panic)];
    let group = (prop::collection::vec(moves(), 0..6), end.clone());
    // Equal numbers are shared if nothing else came between.
    let group = (group, any::<prop::sample::Index>(), 0..3_usize).prop_map(|((mut moves, end), which, again)| {
        if !moves.is_empty() {
            let one = moves[which.index(moves.len())].clone();
            moves.extend((0..again).map(|n| Move { way: if n == 0 { one.way } else { Way::Warp }, ..one.clone() }));
        }
        (moves, end)
    });
    let scope = (prop::collection::vec(group, 0..4), end);
    prop::collection::vec(scope.prop_map(|(groups, end)| Scope { groups, end }), 1..4)
}

impl Move {
    fn joins(&self) -> bool {
        matches!(self.way, Way::Join | Way::JoinBy | Way::JoinUnchecked)
    }

    fn is_unchecked(&self) -> bool {
        matches!(self.way, Way::Unchecked | Way::JoinUnchecked)
    }

    fn len(&self) -> usize {
        self.numbers.len() * self.width
    }

    fn more_at(&self) -> usize {
        self.more_at.unwrap_or(self.at + self.old * self.width)
    }

    /// The rows that the program adds: all of them where the numbers are on the device only.
    fn asked(&self) -> usize {
        let all = self.joins() || self.is_unchecked();
        self.numbers.iter().filter(|number| all || (**number as usize) < self.old).count()
    }

    fn apply<T: Value>(&self, sources: &[Vec<T>; 3], dst: &mut [T]) {
        for (number, dst) in self.numbers.iter().zip(dst.chunks_exact_mut(self.width)) {
            let row = match (*number as usize).checked_sub(self.old) {
                None => &sources[self.src as usize][self.at + *number as usize * self.width..],
                Some(number) if self.joins() => &sources[self.more as usize][self.more_at() + number * self.width..],
                Some(_) => continue,
            };
            dst.copy_from_slice(&row[..self.width]);
        }
    }
}

/// What must hold after a program.
struct Expected<T> {
    device: Vec<T>,
    staged: Vec<T>,
    stats: BatchStats,
}

struct Sources<'env, T, L: DeviceLocation> {
    device: View<'env, T, L>,
    staged: View<'env, T, Staged<L>>,
    host: View<'env, T, Host>,
}

impl Scope {
    fn is_unchecked(&self) -> bool {
        let kept = self.groups.iter().filter(|(_, end)| *end == End::Keep).flat_map(|(moves, _)| moves);
        kept.into_iter().any(|m| m.is_unchecked() && !m.numbers.is_empty())
    }

    /// The elements that the groups need of each kind of destination.
    fn extents(&self) -> [usize; 2] {
        let all = self.groups.iter().flat_map(|(moves, _)| moves);
        all.fold([0; 2], |mut sum, m| {
            sum[usize::from(m.is_staged)] += m.gap + m.len();
            sum
        })
    }

    fn apply<T: Value>(&self, sources: &[Vec<T>; 3], expected: &mut Expected<T>) {
        let mut at = [0; 2];
        let stats = &mut expected.stats;
        let (asked, bytes) = (stats.asked, stats.bytes);
        for (moves, end) in &self.groups {
            for m in moves {
                let (at, dst) =
                    if m.is_staged { (&mut at[1], &mut expected.staged) } else { (&mut at[0], &mut expected.device) };
                *at += m.gap;
                if *end == End::Keep {
                    m.apply(sources, &mut dst[*at..*at + m.len()]);
                    stats.asked += m.asked() as u64;
                    stats.bytes += (m.asked() * m.width * size_of::<T>()) as u64;
                }
                *at += m.len();
            }
        }
        assert!(stats.asked >= asked);
        stats.submissions += u64::from(stats.bytes > bytes);
    }
}

fn on_purpose() -> Error {
    Error::OutOfRange { operand: "on purpose" }
}

fn add<'env, T: Value, L, S: BatchSource<L>, N: BatchSource<L>, D: KernelAccessible<L>>(
    group: &mut Group<'_, 'env, L>,
    m: &'env Move,
    src: View<'env, T, S>,
    more: View<'env, T, N>,
    dst: ViewMut<'env, T, D>,
) -> Result<()>
where
    L: DeviceLocation,
{
    let permutation = Permutation::new(&m.numbers, m.old, m.joining)?;
    let (src, more) = (src.rows(width(m.width))?, more.rows(width(m.width))?);
    match m.way {
        Way::Warp => group.warp(src, permutation, dst.rows(width(m.width))?),
        Way::Join => group.warp_join(src, more, permutation, dst.rows(width(m.width))?),
        _ => {
            for (number, dst) in m.numbers.iter().zip(dst.chunks_exact(width(m.width))) {
                match src.row(*number as usize) {
                    Ok(row) if m.way == Way::Unmerged => group.copy_unmerged(row, dst)?,
                    Ok(row) => group.copy(row, dst)?,
                    Err(_) => {}
                }
            }
            Ok(())
        }
    }
}

fn add_by<'env, T: Value, L, S: KernelAccessible<L>, N: KernelAccessible<L>, D: KernelAccessible<L>>(
    group: &mut Group<'_, 'env, L>,
    m: &'env Move,
    src: View<'env, T, S>,
    more: View<'env, T, N>,
    dst: ViewMut<'env, T, D>,
    numbers: &'env DevicePermutation<'_, L>,
) -> Result<()>
where
    L: DeviceLocation,
{
    let (src, more) = (src.rows(width(m.width))?, more.rows(width(m.width))?);
    let dst = dst.rows(width(m.width))?;
    // SAFETY: the numbers were checked before they were uploaded.
    let unchecked = unsafe { RowNumbers::unchecked(numbers.numbers().as_view(), m.old, m.joining) };
    let numbers = if m.is_unchecked() { unchecked } else { numbers.numbers() };
    if m.joins() { group.warp_join_by(src, more, numbers, dst) } else { group.warp_by(src, numbers, dst) }
}

/// Adds `m`, or a warp that is refused and then `m`.
fn add_move<'env, T: Value, L: DeviceLocation, D: KernelAccessible<L>>(
    group: &mut Group<'_, 'env, L>,
    m: &'env Move,
    sources: &Sources<'env, T, L>,
    numbers: &'env DevicePermutation<'_, L>,
    dst: ViewMut<'env, T, D>,
) -> Result<()> {
    let src = m.at..m.at + m.old * m.width;
    let more = m.more_at()..m.more_at() + m.joining * m.width;
    let (nowhere, dst) = dst.split_at(0)?;
    if m.is_refused_first {
        let present = sources.device.slice(src.clone())?.rows(width(m.width))?;
        let other = Permutation::new(&m.numbers, m.old + 1, m.joining)?;
        let refused = group.warp(present, other, nowhere.rows(width(m.width))?);
        assert_eq!(refused, Err(Error::Length { operand: "src", expected: m.old + 1, found: m.old }));
    }
    macro_rules! at {
        ($place:expr, $range:expr, [$($name:ident $field:ident),*], |$view:ident| $then:expr) => {
            match $place {
                $(Place::$name => {
                    let $view = sources.$field.slice($range)?;
                    $then
                })*
                #[allow(unreachable_patterns, reason = "not for all places")]
                _ => Ok(()),
            }
        };
    }
    match m.way {
        Way::By | Way::JoinBy | Way::Unchecked | Way::JoinUnchecked => {
            at!(m.src, src, [Device device, Staged staged], |src| {
                at!(m.more, more, [Device device, Staged staged], |more| add_by(group, m, src, more, dst, numbers))
            })
        }
        _ => at!(m.src, src, [Device device, Staged staged, Host host], |src| {
            at!(m.more, more, [Device device, Staged staged, Host host], |more| add(group, m, src, more, dst))
        }),
    }
}

fn run_scope<T: Value, L: DeviceLocation>(
    stream: &Stream<L>,
    scope: &Scope,
    batch: &mut BatchCopy,
    sources: &Sources<'_, T, L>,
    (device, staged): (ViewMut<'_, T, L>, ViewMut<'_, T, Staged<L>>),
) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let mut permutations = Vec::new();
    for m in scope.groups.iter().flat_map(|(moves, _)| moves) {
        permutations.push(DevicePermutation::upload(&ctx, Permutation::new(&m.numbers, m.old, m.joining)?)?);
    }
    let mut numbers = permutations.iter();
    let (mut device, mut staged) = (device, staged);
    batch.scope(&ctx, |batch| {
        for (moves, end) in &scope.groups {
            // Destinations of groups that fail are left out as well.
            let mut parts = Vec::new();
            for m in moves {
                let (to_device, to_staged) = if m.is_staged { (0, m.gap + m.len()) } else { (m.gap + m.len(), 0) };
                let (part, rest) = device.split_at(to_device)?;
                device = rest;
                let (other, rest) = staged.split_at(to_staged)?;
                staged = rest;
                parts.push((m, numbers.next().unwrap(), part, other));
            }
            let group = || {
                batch.group(|group| {
                    for (m, numbers, device, staged) in parts {
                        if m.is_staged {
                            add_move(group, m, sources, numbers, staged.split_at(m.gap)?.1)?;
                        } else {
                            add_move(group, m, sources, numbers, device.split_at(m.gap)?.1)?;
                        }
                    }
                    match end {
                        End::Keep => Ok(()),
                        End::Fail => Err(on_purpose()),
                        End::Panic => resume_unwind(Box::new(on_purpose())),
                    }
                })
            };
            match catch_unwind(AssertUnwindSafe(group)) {
                Ok(answer) => assert_eq!(answer, if *end == End::Fail { Err(on_purpose()) } else { Ok(()) }),
                Err(payload) => assert!(*end == End::Panic && payload.is::<Error>(), "a panic in the library"),
            }
        }
        match scope.end {
            End::Keep => Ok(()),
            End::Fail => Err(on_purpose()),
            End::Panic => resume_unwind(Box::new(on_purpose())),
        }
    })
}

/// Runs `program` on a stream. `copies_unchecked` is whether rows by numbers that are on the device
/// only are copied.
pub fn check<T: Value, L: DeviceLocation>(
    stream: &mut Stream<L>,
    program: &[Scope],
    copies_unchecked: bool,
) -> Result<()> {
    let ctx = stream.ctx().with_pool();
    let contents: [Vec<T>; 3] = [values(1, SOURCE), values(200_000, SOURCE), values(400_000, SOURCE)];
    let [to_device, to_staged] = program.iter().fold([0; 2], |most, scope| {
        let [device, staged] = scope.extents();
        [device.max(most[0]), staged.max(most[1])]
    });
    let mut expected =
        Expected { device: values(7, to_device), staged: values(99, to_staged), stats: BatchStats::default() };

    let host = Buffer::<T, Host>::from_slice(&contents[2])?;
    let device = ctx.upload_new(&contents[0])?;
    let staged = Buffer::<T, L::Pinned>::from_slice(&contents[1])?.stage(&ctx);
    let sources = Sources { device: device.view(), staged: staged.view(), host: host.view() };
    let mut into_device = ctx.upload_new(&expected.device)?;
    let mut into_staged = Buffer::<T, L::Pinned>::from_slice(&expected.staged)?.stage(&ctx);
    let mut batch = BatchCopy::new();
    for scope in program {
        let run = || {
            let into = (into_device.view_mut(), into_staged.view_mut());
            run_scope(stream, scope, &mut batch, &sources, into)
        };
        let answer = catch_unwind(AssertUnwindSafe(run));
        let is_refused = size_of::<T>() != 0 && !copies_unchecked && scope.is_unchecked();
        match (scope.end, answer) {
            (End::Keep, Ok(Err(Error::Driver(error)))) if is_refused => assert_eq!(error.code, Code::NOT_SUPPORTED),
            (End::Keep, Ok(answer)) => {
                assert_eq!((answer, is_refused), (Ok(()), false));
                scope.apply(&contents, &mut expected);
            }
            (End::Fail, Ok(answer)) => assert_eq!(answer, Err(on_purpose())),
            (End::Panic, Err(payload)) => assert!(payload.is::<Error>(), "a panic in the library"),
            (end, answer) => panic!("{end:?}: {:?}", answer.err().map(|_| "a panic")),
        }
        let stats = batch.stats();
        assert!(stats.submitted <= stats.asked, "{stats:?}");
        expected.stats.submitted = stats.submitted;
        assert_eq!(stats, expected.stats);
    }
    let out = ctx.init_from(ctx.alloc_pinned::<T>(to_device)?.stage(&ctx), into_device.view())?;
    let synced = stream.synchronize()?;
    assert!(out.peek(&synced) == &expected.device[..], "device memory");
    assert!(into_staged.peek(&synced) == &expected.staged[..], "staged memory");
    Ok(())
}
