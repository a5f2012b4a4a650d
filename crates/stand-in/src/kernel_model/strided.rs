//! The kernels for copies between two layouts, as `strided.cu` describes them.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "numbers that overflow are a mistake of the library, and end the test that made it"
)]

use std::ops::Range;

use tidelock_driver::code::Code;
use tidelock_simulator::Task;

use super::{CALL, THREADS, layout::size, refuse, run::copy_each, tell};
use crate::{
    driver::{Driver, StreamTarget},
    kernel_model::decode::{Move, Source},
    module::Shape,
};

/// Which of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Bytes of a unit, or of an element.
    unit: u32,
    /// The loops of its parameter.
    loops: u32,
    /// If it turns rectangles: the elements that are accessed together.
    together: Option<u32>,
}

/// Which of the kernels `name` is.
pub(crate) fn find(name: &str) -> Option<Variant> {
    let (turns, rest) = match name.strip_prefix("strided_") {
        Some(rest) => (false, rest),
        None => (true, name.strip_prefix("turned_")?),
    };
    let mut numbers = rest.split('_').map(str::parse::<u32>);
    let (unit, second) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let (loops, together) = if turns { (7, Some(second)) } else { (second, None) };
    Some(Variant { unit, loops, together })
}

/// `struct Loop`.
#[derive(Clone, Copy, Debug)]
struct Loop {
    src: u64,
    dst: u64,
    times: u32,
    magic: u32,
    shift: u32,
}

/// The parameter of one launch.
#[derive(Debug)]
struct Parameters {
    src_pitch: u64,
    dst_pitch: u64,
    /// From `units` on.
    numbers: [u32; 12],
    loops: Vec<Loop>,
    words: Vec<u32>,
}

const WIDE_NUMBERS: u32 = 1;
const KEEP: u32 = 2;
const HEAD_BYTES: usize = 64;
const LOOP_BYTES: usize = 32;

/// Enqueues a launch; `parameter` are the bytes of its parameter.
///
/// # Errors
/// `INVALID_VALUE`, with a note, for what no launch can mean; what the simulated GPU answers.
pub(crate) fn launch(
    driver: &Driver,
    target: &StreamTarget,
    variant: Variant,
    shape: Shape,
    parameter: &[u8],
) -> Result<(), Code> {
    let moves = Parameters::read(parameter, variant).and_then(|all| all.moves(variant, shape)).map_err(refuse)?;
    let mut uses = Vec::new();
    tell(&moves, &mut uses);
    for one in &moves {
        if let Source::Memory(src) = one.src {
            driver.memory.touch(CALL, super::address(src));
        }
        driver.memory.touch(CALL, super::address(one.dst));
    }
    target.gpu.launch_using(target.id, Task::new(move |memory| copy_each(memory, moves)), &uses)
}

impl Parameters {
    fn read(bytes: &[u8], variant: Variant) -> Result<Parameters, String> {
        let too_small = || format!("a parameter of {} bytes", bytes.len());
        let word = |at: usize| {
            let word = bytes.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*word))
        };
        let long = |at: usize| Some(u64::from(word(at)?) | u64::from(word(at.checked_add(4)?)?) << 32);
        let mut numbers = [0; 12];
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = word(16 + index * 4).ok_or_else(too_small)?;
        }
        let loop_at = |index: usize| {
            let at = HEAD_BYTES + index * LOOP_BYTES;
            Some(Loop {
                src: long(at)?,
                dst: long(at + 8)?,
                times: word(at + 16)?,
                magic: word(at + 20)?,
                shift: word(at + 24)?,
            })
        };
        let loops: Option<Vec<_>> = (0..size(variant.loops)).map(loop_at).collect();
        let behind = HEAD_BYTES + size(variant.loops) * LOOP_BYTES;
        Ok(Parameters {
            src_pitch: long(0).ok_or_else(too_small)?,
            dst_pitch: long(8).ok_or_else(too_small)?,
            numbers,
            loops: loops.ok_or_else(too_small)?,
            words: (behind..bytes.len()).step_by(4).map_while(word).collect(),
        })
    }

    fn moves(&self, variant: Variant, shape: Shape) -> Result<Vec<Move>, String> {
        let [_, tiles, tiles_magic, tiles_shift, _, _, _, how, parts, part_tiles, part_magic, part_shift] =
            self.numbers;
        demand(shape.block == [THREADS, 1, 1] && shape.shared_bytes == 0, || format!("blocks of {:?}", shape.block))?;
        demand(how & !(WIDE_NUMBERS | KEEP) == 0, || format!("{how} says how"))?;
        let grid = u64::from(part_tiles) * u64::from(parts);
        let is_whole = grid < 1 << 31 && shape.grid.map(u64::from) == [grid, 1, 1];
        demand(is_whole, || format!("{:?} blocks are launched for {parts} parts of {part_tiles}", shape.grid))?;
        demand(tiles != 0 && part_tiles.is_multiple_of(tiles), || format!("{part_tiles} tiles of blocks of {tiles}"))?;
        let mut moves = Vec::new();
        for block in 0..shape.grid[0] {
            let part = divide(block, part_magic, part_shift);
            let in_part = block.wrapping_sub(part.wrapping_mul(part_tiles));
            let pair = divide(in_part, tiles_magic, tiles_shift);
            let tile = in_part.wrapping_sub(pair.wrapping_mul(tiles));
            let right = (part, pair, tile) == (block / part_tiles, in_part / tiles, in_part % tiles);
            demand(right, || format!("block {block} is taken to be tile {tile} of pair {pair} of part {part}"))?;
            let (src, dst) = self.block_of(part, pair).ok_or("a word behind the parameter is read")?;
            match variant.together {
                None => self.units(variant, tile, (src, dst), &mut moves)?,
                Some(together) => self.rectangle((variant.unit, together), tile, (src, dst), &mut moves)?,
            }
        }
        Ok(moves)
    }

    /// The addresses of the blocks of a pair.
    fn block_of(&self, part: u32, pair: u32) -> Option<(u64, u64)> {
        let [.., how, parts, _, _, _] = self.numbers;
        let word = |at: usize| self.words.get(at).copied();
        let long = |at: usize| Some(u64::from(word(at)?) | u64::from(word(at + 1)?) << 32);
        let (base, pairs) = (4 * size(part), 4 * size(parts));
        let (from, to) = if how & WIDE_NUMBERS != 0 {
            (word(pairs + 2 * size(pair))?, word(pairs + 2 * size(pair) + 1)?)
        } else {
            let both = word(pairs + size(pair))?;
            (both & 0xffff, both >> 16)
        };
        let src = long(base)?.wrapping_add(u64::from(from).wrapping_mul(self.src_pitch));
        let dst = long(base + 2)?.wrapping_add(u64::from(to).wrapping_mul(self.dst_pitch));
        Some((src, dst))
    }

    /// The units of a tile.
    fn units(&self, variant: Variant, tile: u32, (src, dst): (u64, u64), moves: &mut Vec<Move>) -> Result<(), String> {
        let [units, tiles, _, _, run, run_magic, run_shift, ..] = self.numbers;
        let per_thread = if variant.unit == 16 { 2 } else { 4 };
        let of_tile = THREADS * per_thread;
        demand(tiles == units.div_ceil(of_tile), || format!("{tiles} tiles of {units} units"))?;
        let all: u64 = self.loops.iter().fold(u64::from(run), |all, one| all.wrapping_mul(u64::from(one.times)));
        demand(all == u64::from(units), || format!("{units} units of {all}"))?;
        let own: Range<u32> = tile * of_tile..units.min((tile + 1) * of_tile);
        for unit in own {
            let mut rest = divide(unit, run_magic, run_shift);
            demand(rest == unit / run, || format!("unit {unit} is taken to be of run {rest}"))?;
            let in_run = u64::from(unit % run) * u64::from(variant.unit);
            let (mut from, mut to) = (src.wrapping_add(in_run), dst.wrapping_add(in_run));
            for (index, one) in self.loops.iter().enumerate() {
                let outer = divide(rest, one.magic, one.shift);
                let is_last = index + 1 == self.loops.len();
                demand(is_last || outer == rest / one.times, || format!("place {rest} of {one:?}"))?;
                let at = u64::from(if is_last { rest } else { rest % one.times });
                from = from.wrapping_add(at.wrapping_mul(one.src));
                to = to.wrapping_add(at.wrapping_mul(one.dst));
                rest = outer;
            }
            push(moves, (from, to), variant.unit, variant.unit)?;
        }
        Ok(())
    }

    /// The elements of a rectangle.
    fn rectangle(
        &self,
        (unit, together): (u32, u32),
        tile: u32,
        (mut src, mut dst): (u64, u64),
        moves: &mut Vec<Move>,
    ) -> Result<(), String> {
        let [down, tiles, _, _, across, ..] = self.numbers;
        let side = 32 * together;
        let [first, second, outer @ ..] = self.loops.as_slice() else { return Err("fewer loops than two".to_owned()) };
        let sides = (first.times.div_ceil(side), second.times.div_ceil(side));
        demand(sides == (across, down), || format!("{across} by {down} rectangles: {first:?}, {second:?}"))?;
        let whole = first.times.is_multiple_of(together) && second.times.is_multiple_of(together);
        demand(whole, || format!("words of {together}: {first:?}, {second:?}"))?;
        let all = outer.iter().fold(across.wrapping_mul(down), |all, one| all.wrapping_mul(one.times));
        demand(all == tiles, || format!("{tiles} tiles of {all}"))?;
        let adjacent = first.dst == u64::from(unit) && second.src == u64::from(unit);
        demand(adjacent, || format!("nothing is adjacent: {first:?}, {second:?}"))?;
        let mut rest = divide(tile, first.magic, first.shift);
        demand(rest == tile / across, || format!("tile {tile} is taken to be in row {rest}"))?;
        let mut at = divide(rest, second.magic, second.shift);
        demand(at == rest / down, || format!("row {rest} is taken to be of place {at}"))?;
        let (a, b) = (tile % across * side, rest % down * side);
        for one in outer {
            rest = divide(at, one.magic, one.shift);
            demand(rest == at / one.times, || format!("place {at} of {one:?}"))?;
            src = src.wrapping_add(u64::from(at % one.times).wrapping_mul(one.src));
            dst = dst.wrapping_add(u64::from(at % one.times).wrapping_mul(one.dst));
            at = rest;
        }
        for i in a..first.times.min(a + side) {
            for j in b..second.times.min(b + side) {
                let from = src.wrapping_add(u64::from(i) * first.src).wrapping_add(u64::from(j) * second.src);
                let to = dst.wrapping_add(u64::from(i) * first.dst).wrapping_add(u64::from(j) * second.dst);
                let word = unit * together;
                // The words that are loaded and stored begin at multiples of `together`.
                let from_word = if j % together == 0 { word } else { unit };
                let to_word = if i % together == 0 { word } else { unit };
                demand(to.is_multiple_of(u64::from(to_word)), || format!("a word is stored at {to:#x}"))?;
                demand(from.is_multiple_of(u64::from(from_word)), || format!("a word is loaded at {from:#x}"))?;
                push(moves, (from, to), unit, unit)?;
            }
        }
        Ok(())
    }
}

/// `divide` of `strided.cu`.
fn divide(n: u32, magic: u32, shift: u32) -> u32 {
    let product = u64::from(n) * 2 * u64::from(magic);
    u32::try_from(product >> 32).unwrap_or(u32::MAX).checked_shr(shift).unwrap_or(0)
}

/// Adds a move, to the last one if it continues that.
fn push(moves: &mut Vec<Move>, (from, to): (u64, u64), bytes: u32, unit: u32) -> Result<(), String> {
    let aligned = from.is_multiple_of(u64::from(unit)) && to.is_multiple_of(u64::from(unit));
    demand(aligned, || format!("{bytes} bytes from {from:#x} to {to:#x}"))?;
    match moves.last_mut() {
        Some(Move { src: Source::Memory(src), dst, bytes: last })
            if src.wrapping_add(*last) == from && dst.wrapping_add(*last) == to =>
        {
            *last = last.wrapping_add(u64::from(bytes));
        }
        _ => moves.push(Move { src: Source::Memory(from), dst: to, bytes: u64::from(bytes) }),
    }
    Ok(())
}

fn demand(holds: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(complaint()) }
}
