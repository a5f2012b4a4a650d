//! A model of the library's copy kernels, as functions of the host. It is written from `copy.cu`,
//! which says what the parameters of a launch mean, and independently of the code that encodes them.
//!
//! A launch is one operation of its stream. Its copies are decoded when it is enqueued, and the race
//! detector gets what it reads and writes: the copies, the table, and the place that the table is
//! fetched into. Every assumption of the kernel is checked during decoding. A launch that breaks one
//! is refused with a note.
//!
//! A launch that may begin early reads its table at any time between the call and its end. The model
//! takes the words at the call, again as late as it can, and once more when all is copied; it notes
//! a difference. The copies are those of the late words, in a scrambled order. A fetched table has to
//! carry the number of the launch where no table carried it before, and lie in another place than
//! that of the launch before, which may still be running.
//!
//! A launch that may not begin early reads its table when its turn comes, because work before it may
//! write the table. Its copies are therefore not known when it is enqueued. The race detector then
//! gets all destinations of rows, and of their sources whatever the words can reach; of other forms
//! it gets nothing.

mod decode;
mod layout;
mod run;
mod strided;

use tidelock_driver::code::Code;
use tidelock_simulator::{Task, Use};

use self::{
    decode::{Move, Source},
    layout::{Parameters, Variant},
    run::Job,
};
use crate::{
    driver::{Driver, StreamTarget, note},
    module::Shape,
    pointer::{is_device, place},
};
/// Threads of a block.
const THREADS: u32 = 128;

/// The forms.
const ROWS: u32 = 0;
const ROWS_16: u32 = 1;
const PAIRS: u32 = 2;
const RAGGED: u32 = 3;
const WIDE: u32 = 4;
const OWN: u32 = 5;
const EACH: u32 = 6;

/// The name of the call in messages.
const CALL: &str = "a copy kernel";

/// A kernel of the library's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known {
    /// One of `copy.cu`.
    Copies(Variant),
    /// One of `strided.cu`.
    Strided(strided::Variant),
}

/// Which of the kernels `name` is.
pub(crate) fn find(name: &str) -> Option<Known> {
    strided::find(name).map(Known::Strided).or_else(|| find_copies(name).map(Known::Copies))
}

fn find_copies(name: &str) -> Option<Variant> {
    let (room, kind) = name.strip_prefix("copy_")?.split_once('_')?;
    let (in_table, mixed) = match room {
        "320" | "768" | "1280" | "2304" | "4352" | "8448" | "16384" => (false, false),
        "table" => (true, false),
        "mixed" => (true, true),
        _ => return None,
    };
    let (single, kind) = match kind.strip_prefix("single_") {
        Some(kind) if !in_table => (true, kind),
        _ => (false, kind),
    };
    let (plain, unit, groups) = match kind {
        "plain_2" => (true, false, 2),
        "unit_2" if single => (false, true, 2),
        "2" => (false, false, 2),
        "4" => (false, false, 4),
        _ => return None,
    };
    Some(Variant { in_table, mixed, single, plain, unit, groups })
}

/// Enqueues a launch; `parameter` are the bytes of its parameter.
///
/// # Errors
/// `INVALID_VALUE`, with a note, for what no launch can mean; what the simulated GPU answers.
pub(crate) fn launch(
    driver: &Driver,
    target: &StreamTarget,
    kernel: Known,
    shape: Shape,
    parameter: &[u8],
) -> Result<(), Code> {
    match kernel {
        Known::Copies(variant) => launch_copies(driver, target, variant, shape, parameter),
        Known::Strided(variant) => strided::launch(driver, target, variant, shape, parameter),
    }
}

fn launch_copies(
    driver: &Driver,
    target: &StreamTarget,
    variant: Variant,
    shape: Shape,
    parameter: &[u8],
) -> Result<(), Code> {
    let parameters = Parameters::read(parameter, variant).map_err(refuse)?;
    decode::check(&parameters, variant, &shape).map_err(refuse)?;
    let head = &parameters.head;
    let table = address(head.table);
    let late = variant.in_table && head.early == 0;
    if variant.in_table && !late && is_device(table) {
        return Err(refuse("a table in device memory is read before the work that may write it has ended".to_owned()));
    }
    let early = if variant.in_table && !late { run::host_table(table, parameters.all_words(variant)) } else { None };
    if variant.in_table && !late && early.is_none() {
        return Err(refuse(format!("the table at {table:#x} is not in page-locked memory")));
    }
    if early.as_ref().is_some_and(|table| !table.starts_with(&parameters.words)) {
        return Err(refuse("the words in the parameters are not the first ones of the table".to_owned()));
    }
    let mut uses = Vec::new();
    if variant.in_table {
        uses.push(Use::read(pointer(table), parameters.all_words(variant).saturating_mul(4)));
        uses.push(Use::write(pointer(address(head.fetched)), run::fetched_bytes(head)));
    }
    let mut known = None;
    if late {
        reach(driver, &parameters, &mut uses);
    } else {
        let words = early.as_deref().unwrap_or(&parameters.words);
        let moves = decode::copies(&parameters, variant, shape.shared_bytes, words).map_err(refuse)?;
        tell(&moves, &mut uses);
        known = Some(moves);
    }
    for used in [head.table, head.fetched] {
        driver.memory.touch(CALL, address(used));
    }
    let job = Job { parameters, variant, shared: shape.shared_bytes, early, moves: known };
    target.gpu.launch_using(target.id, Task::new(move |memory| job.run(memory)), &uses)
}

/// Notes what is wrong with a launch, and returns what the driver answers.
fn refuse(complaint: String) -> Code {
    note(format!("{CALL} was launched with what it cannot do: {complaint}"));
    Code::INVALID_VALUE
}

/// Tells what `moves` read and write, ranges that touch as one.
fn tell(moves: &[Move], uses: &mut Vec<Use>) {
    let [writes, reads] = note_overlaps(moves);
    uses.extend(writes.iter().map(|(start, end)| Use::write(pointer(address(*start)), length(*start, *end))));
    uses.extend(reads.iter().map(|(start, end)| Use::read(pointer(address(*start)), length(*start, *end))));
}

/// What `moves` write and read, in order. They must not overlap, as they have no order among
/// themselves.
fn note_overlaps(moves: &[Move]) -> [Vec<(u64, u64)>; 2] {
    let (writes, overlap) = merged(moves.iter().map(|one| (one.dst, one.bytes)));
    if let Some(at) = overlap {
        note(format!("{CALL} writes to {at:#x} twice in one launch"));
    }
    let (reads, _) = merged(moves.iter().filter_map(|one| match one.src {
        Source::Memory(src) => Some((src, one.bytes)),
        Source::Own(_) => None,
    }));
    for (start, end) in &reads {
        let before = writes.partition_point(|(_, write_end)| write_end <= start);
        if let Some((write, _)) = writes.get(before).filter(|(write, _)| write < end) {
            note(format!("{CALL} reads and writes at {:#x} in one launch", write.max(start)));
        }
    }
    [writes, reads]
}

/// What rows can reach whose numbers are not known yet.
fn reach(driver: &Driver, parameters: &Parameters, uses: &mut Vec<Use>) {
    for segment in parameters.segments.iter().filter(|segment| segment.form <= ROWS_16) {
        let rows = (0..u64::from(segment.copies))
            .map(|row| (segment.dst.wrapping_add(row.wrapping_mul(segment.dst_pitch)), segment.bytes));
        let (writes, overlap) = merged(rows);
        if let Some(at) = overlap {
            note(format!("{CALL} writes to {at:#x} twice in one launch"));
        }
        uses.extend(writes.iter().map(|(start, end)| Use::write(pointer(address(*start)), length(*start, *end))));
        let old = (segment.old != u32::MAX).then_some(segment.old);
        for (base, rows) in [(segment.src, old), (segment.second, None)] {
            let start = address(base);
            if base == 0 || rows == Some(0) {
                continue;
            }
            match rows {
                // What lies between rows that are apart belongs to others.
                Some(rows) if segment.src_pitch > segment.bytes => {
                    let each = (0..u64::from(rows)).map(|row| base.saturating_add(row.wrapping_mul(segment.src_pitch)));
                    uses.extend(each.map(|row| Use::read(pointer(address(row)), address(segment.bytes))));
                }
                Some(rows) => {
                    uses.push(Use::read(pointer(start), address(u64::from(rows).wrapping_mul(segment.bytes))))
                }
                // To the end of the allocation: nothing says where the rows end.
                None => {
                    let place = place(driver, start);
                    let to_end = place.map_or(0, |place| place.start.saturating_add(place.bytes).saturating_sub(start));
                    uses.push(Use::read(pointer(start), to_end));
                }
            }
        }
    }
}

/// Ranges in order, those that overlap or touch as one, by their starts and ends; and where two of
/// them overlap.
fn merged(ranges: impl Iterator<Item = (u64, u64)>) -> (Vec<(u64, u64)>, Option<u64>) {
    let mut all: Vec<_> =
        ranges.filter(|(_, bytes)| *bytes > 0).map(|(start, bytes)| (start, start.saturating_add(bytes))).collect();
    all.sort_unstable();
    let (mut out, mut overlap) = (Vec::<(u64, u64)>::with_capacity(all.len()), None);
    for (start, end) in all {
        match out.last_mut() {
            Some((_, last)) if start <= *last => {
                if start < *last {
                    overlap = Some(start);
                }
                *last = end.max(*last);
            }
            _ => out.push((start, end)),
        }
    }
    (out, overlap)
}

fn length(start: u64, end: u64) -> usize {
    address(end.saturating_sub(start))
}

fn address(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn pointer(address: usize) -> *mut u8 {
    core::ptr::without_provenance_mut(address)
}
