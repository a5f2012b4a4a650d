//! Describes a launch: how much of a batch it takes, its segments and their words.

#![forbid(unsafe_code)]

use core::ptr;

use super::{
    extent::{narrow, wide},
    layout::{CHUNKS, Form, Head, LARGEST_GRAPH, PARAMETER_WORDS, Parameters, SEGMENTS, Segment, THREADS},
    payload::Payload,
    remaining::{Budget, Launch, Remaining},
    rows::{self, NumberFormat},
    run::Run,
};
use tidelock_driver::CopyBatch;

/// Where lengths differ, a batch of at least this many bytes has blocks of larger tiles (5 % of the
/// time of 128 MiB on an H200).
const LARGE: u64 = 8 << 20;

/// The most words of a launch with a payload: with all segments, it may still be a graph.
const WORDS_WITH_PAYLOAD: usize = (LARGEST_GRAPH - size_of::<Head>() - SEGMENTS * size_of::<Segment>()) / 4;

/// Describes the first part of `rest`, as much as there is room for and as `budget` allows, in
/// `parameters`, and in `table` if there is one. No copy or row is longer than
/// [`LONGEST`](super::layout::LONGEST). It ends before the first gather whose row numbers are in
/// device memory.
///
/// `None` if the first copy exceeds the budget, or its addresses cannot be encoded.
pub(super) fn encode(
    rest: &Remaining<'_>,
    parameters: &mut Parameters,
    mut table: Option<&mut [u32]>,
    budget: Budget,
) -> Option<Launch> {
    let in_table = table.is_some();
    let mut builder = LaunchBuilder::new(rest, budget.chunks);
    let words = match &mut table {
        Some(table) => &mut **table,
        None => parameters.room(budget.words)?,
    };
    if let AfterRows::Room(room) = builder.gathers(rest, words) {
        builder.copies(&rest.copies, room, in_table);
    }
    let launch = builder.launch;
    if launch.blocks == 0 {
        return None;
    }
    let segments = builder.segments.get_mut(..builder.launch.segments)?;
    put_copies_first(segments, &launch);
    match table {
        Some(table) => {
            // Other launches than plain ones gain little by words in the parameters.
            let along = if launch.plain { budget.words } else { 0 };
            parameters.put_table(segments, table.get(..launch.words)?, along);
        }
        None => parameters.put(segments, launch.words),
    }
    Some(launch)
}

/// Describes all of `rest` and `payload` in `parameters`.
///
/// `None` if one launch of [`WORDS_WITH_PAYLOAD`] words does not take all of it, or where
/// [`encode`] gives `None`.
pub(super) fn encode_with(rest: &Remaining<'_>, payload: &Payload<'_>, parameters: &mut Parameters) -> Option<Launch> {
    let mut builder = LaunchBuilder::new(rest, CHUNKS);
    let (own, room) = parameters.room(WORDS_WITH_PAYLOAD)?.split_at_mut_checked(payload.words())?;
    builder.payload(payload, own)?;
    let AfterRows::Room(room) = builder.gathers(rest, room) else { return None };
    builder.copies(&rest.copies, room, false);
    let launch = builder.launch;
    parameters.put(builder.segments.get(..builder.launch.segments)?, launch.words);
    rest.behind(&launch).is_some_and(|behind| behind.is_empty()).then_some(launch)
}

/// Describes rows of the first gather that is left, whose numbers are in device memory.
///
/// `None` if they are not, or the rows cannot be encoded.
pub(super) fn encode_on_device(rest: &Remaining<'_>, parameters: &mut Parameters) -> Option<Launch> {
    let m = rest.copies.gathers.all().first().filter(|m| !m.device.is_null() && m.targets.is_none())?;
    let left = m.rows.checked_sub(rest.row)?;
    let n = rows::fitting(m, left, usize::MAX, CHUNKS, NumberFormat::WIDE);
    let (mut segment, plain) = rows::segment(m, rest.row, n, NumberFormat::WIDE)?;
    segment.words = narrow(rest.row)?;
    let blocks = segment.blocks(2);
    parameters.put_table(&mut [segment], &[], 0);
    let (gathers, rows) = if n == left { (1, 0) } else { (0, n) };
    (n != 0).then_some(Launch { gathers, rows, blocks, plain, groups: 2, ..Launch::default() })
}

/// What follows the rows of a launch.
enum AfterRows<'w> {
    /// The copies: all rows are described, and these words are left.
    Room(&'w mut [u32]),
    /// Nothing: the launch has no room for the next rows.
    Full,
    /// Nothing: the numbers of the next rows are in device memory, so these rows have launches of
    /// their own.
    OnDevice,
    /// Nothing: the next rows cannot be encoded.
    Unencodable,
}

/// The numbers of rows of a gather: of the source rows, and of the destination rows if there are any
/// (else none).
#[derive(Clone, Copy)]
struct Numbers<'n> {
    of: &'n [u32],
    targets: &'n [u32],
}

/// Row numbers that are among the words of the launch.
struct Written<'n> {
    numbers: Numbers<'n>,
    format: NumberFormat,
    /// The word they begin at.
    at: u32,
}

impl Written<'_> {
    /// Whether the words describe these `numbers` too, or more than these.
    fn serves(&self, numbers: Numbers<'_>, format: NumberFormat) -> bool {
        let same = |own: &[u32], other: &[u32]| ptr::eq(own.as_ptr(), other.as_ptr()) && own.len() >= other.len();
        let (own, is_pairs) = (self.numbers, format.form() == Form::Pairs);
        self.format == format && same(own.of, numbers.of) && (!is_pairs || same(own.targets, numbers.targets))
    }
}

/// A launch that is being described.
struct LaunchBuilder {
    launch: Launch,
    /// The first `launch.segments` are those of the launch.
    segments: [Segment; SEGMENTS],
    /// How many more chunks it may have.
    chunks: u64,
    /// Groups of 16 bytes that a thread copies, unless everything is plain.
    groups: u32,
}

impl LaunchBuilder {
    fn new(rest: &Remaining<'_>, chunks: u64) -> LaunchBuilder {
        LaunchBuilder {
            launch: Launch { plain: true, groups: 2, ..Launch::default() },
            segments: [Segment::default(); SEGMENTS],
            chunks,
            // Where lengths differ, the tile decides which copy a block begins with, so it is
            // chosen first.
            groups: if chunks >= LARGE / 16 && is_large(&rest.copies) { 4 } else { 2 },
        }
    }

    /// Describes `payload`, which is the first segment, and writes its words, which are all of
    /// `own`.
    fn payload(&mut self, payload: &Payload<'_>, own: &mut [u32]) -> Option<()> {
        self.launch.words = own.len();
        payload.write(own)?;
        self.add(payload.segment(THREADS.wrapping_mul(self.groups))?, false)
    }

    /// Describes the rows of `rest`.
    fn gathers<'w>(&mut self, rest: &Remaining<'_>, mut room: &'w mut [u32]) -> AfterRows<'w> {
        let mut row = rest.row;
        // Gathers with the same numbers share their words.
        let mut last: Option<Written<'_>> = None;
        for (m, numbers, targets) in rest.copies.gathers.with_targets() {
            let Some(of) = numbers.filter(|_| m.device.is_null()) else { return AfterRows::OnDevice };
            let targets = targets.map_or(Some(&[][..]), |targets| targets.get(row..));
            let (Some(of), Some(targets)) = (of.get(row..), targets) else { return AfterRows::Unencodable };
            let numbers = Numbers { of, targets };
            let format = NumberFormat::of(m);
            let shared = last.as_ref().filter(|last| last.serves(numbers, format)).map(|last| last.at);
            let words = if shared.is_some() { usize::MAX } else { room.len() };
            let n = rows::fitting(m, of.len(), words, self.chunks, format);
            let Some((mut segment, plain)) = rows::segment(m, row, n, format) else { return AfterRows::Unencodable };
            if n == 0 || !self.accepts(plain) {
                return AfterRows::Full;
            }
            segment.words = match shared {
                Some(at) => at,
                None => {
                    let Some((written, behind)) = self.write_numbers(numbers, n, format, room) else {
                        return AfterRows::Unencodable;
                    };
                    room = behind;
                    last.insert(written).at
                }
            };
            if self.add(segment, plain).is_none() {
                return AfterRows::Full;
            }
            if n < of.len() {
                self.launch.rows = if self.launch.gathers == 0 { n } else { row.wrapping_add(n) };
                return AfterRows::Full;
            }
            (self.launch.gathers, row) = (self.launch.gathers.wrapping_add(1), 0);
        }
        AfterRows::Room(room)
    }

    /// Writes the first `n` of `numbers` to the beginning of `room`; returns where they are and the
    /// room that is left.
    fn write_numbers<'n, 'w>(
        &mut self,
        numbers: Numbers<'n>,
        n: usize,
        format: NumberFormat,
        room: &'w mut [u32],
    ) -> Option<(Written<'n>, &'w mut [u32])> {
        let (at, of) = (narrow(self.launch.words)?, numbers.of.get(..n)?);
        let targets = numbers.targets.get(..n).unwrap_or_default();
        let (words, behind) = room.split_at_mut_checked(format.form().words(n))?;
        self.launch.words = self.launch.words.wrapping_add(words.len());
        format.write(of, targets, words);
        Some((Written { numbers: Numbers { of, targets }, format, at }, behind))
    }

    fn copies(&mut self, copies: &CopyBatch<'_>, mut room: &mut [u32], in_table: bool) {
        let mut rest = *copies;
        while let Some(run) = Run::first(&rest, room.len(), self.launch.segments.wrapping_add(1) == SEGMENTS) {
            // A run of which only a part fits ends the launch. One that does not fit at all begins
            // the next launch.
            let Some(fits) = run.fit(&rest, room.len(), self.chunks, in_table, self.groups) else { return };
            if !self.accepts(fits.plain) {
                return;
            }
            let Some((own, behind)) = room.split_at_mut_checked(fits.words) else { return };
            let (Some(at), Some(left)) = (narrow(self.launch.words), rest.behind(fits.copies)) else { return };
            let mut segment = fits.segment;
            segment.words = segment.words.wrapping_add(at);
            segment.owners = segment.owners.wrapping_add(at);
            fits.write(&rest, &mut segment, own);
            if self.add(segment, fits.plain).is_none() {
                return;
            }
            self.launch.words = self.launch.words.wrapping_add(fits.words);
            self.launch.copies = self.launch.copies.wrapping_add(fits.copies);
            (rest, room) = (left, behind);
        }
    }

    /// Whether there is room for one more segment, plain or not, beside those there are.
    fn accepts(&self, plain: bool) -> bool {
        // The kernel for any segments takes plain ones too, but larger launches are worth one of
        // their own.
        let mixes = self.launch.segments != 0 && self.launch.plain != plain;
        self.launch.segments < SEGMENTS && (!mixes || self.groups == 2)
    }

    fn add(&mut self, mut segment: Segment, plain: bool) -> Option<()> {
        let launch = &mut self.launch;
        launch.plain &= plain;
        launch.unit = launch.segments == 0 && segment.unit != 0;
        launch.groups = if launch.plain { 2 } else { self.groups };
        segment.first_block = launch.blocks;
        launch.blocks = launch.blocks.wrapping_add(segment.blocks(launch.groups));
        let shared = if segment.staged == 0 { 0 } else { segment.staged.wrapping_mul(20).wrapping_add(16) };
        launch.shared = launch.shared.max(shared);
        self.chunks = self.chunks.saturating_sub(u64::from(segment.chunks));
        *self.segments.get_mut(launch.segments)? = segment;
        launch.segments = launch.segments.wrapping_add(1);
        Some(())
    }
}

/// Puts the segments of copies before those of gathers. Copies may cross to the host, which takes
/// longest, and the blocks of the first segment start first (a decode step ends 0.4 µs sooner,
/// H200).
fn put_copies_first(segments: &mut [Segment], launch: &Launch) {
    // Each gather is a segment; no copies follow a gather that is only done in part.
    if launch.copies == 0 || launch.gathers == 0 || launch.gathers >= segments.len() {
        return;
    }
    segments.rotate_left(launch.gathers);
    let mut block = 0_u32;
    for segment in segments {
        segment.first_block = block;
        block = block.wrapping_add(segment.blocks(launch.groups));
    }
}

/// Whether the first copies have [`LARGE`] bytes. Cost: a look at each copy until they have.
fn is_large(copies: &CopyBatch<'_>) -> bool {
    let (mut bytes, first) = (0_u64, copies.len.len().min(PARAMETER_WORDS));
    // Block by block, without a branch inside a block.
    copies.len.get(..first).unwrap_or_default().chunks(64).any(|block| {
        bytes = block.iter().fold(bytes, |bytes, &len| bytes.wrapping_add(wide(len)));
        bytes >= LARGE
    })
}
