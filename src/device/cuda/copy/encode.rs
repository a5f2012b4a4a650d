//! How much of a batch one launch takes, and its description.

#![forbid(unsafe_code)]

use core::ptr;

use super::{
    extent::{narrow, wide},
    layout::{CHUNKS, Head, LARGEST_GRAPH, PARAMETER_WORDS, Parameters, SEGMENTS, Segment, THREADS},
    payload::Payload,
    remaining::{Budget, Launch, Remaining},
    rows::{self, NumberFormat},
    run::Run,
};
use tidelock_driver::CopyBatch;

/// From so many bytes on a block takes larger tiles, where lengths differ (5 % of 128 MiB on an H200).
const LARGE: u64 = 8 << 20;

/// Words of a launch with a payload, at most: it may still be a graph, with as many segments as there can be.
const WORDS_WITH_PAYLOAD: usize = (LARGEST_GRAPH - size_of::<Head>() - SEGMENTS * size_of::<Segment>()) / 4;

/// Describes as much of `rest` as there is room for and as `most` says, in `parameters`, and in `table` if there is one; no
/// copy or row is longer than [`LONGEST`](super::layout::LONGEST), and no move that is left has its row numbers on the device
/// only.
///
/// `None` if the first copy cannot be described: it is more than `most`, or its addresses are none the kernel can be told.
pub(super) fn encode(
    rest: &Remaining<'_>,
    parameters: &mut Parameters,
    mut table: Option<&mut [u32]>,
    most: Budget,
) -> Option<Launch> {
    let in_table = table.is_some();
    let mut builder = LaunchBuilder::new(rest, most.chunks);
    let words = match &mut table {
        Some(table) => &mut **table,
        None => parameters.room(most.words)?,
    };
    if let AfterRows::Room(room) = builder.moves(rest, words) {
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
            // What is not plain is not so sensitive to where its words are.
            let along = if launch.plain { most.words } else { 0 };
            parameters.put_table(segments, table.get(..launch.words)?, along);
        }
        None => parameters.put(segments, launch.words),
    }
    Some(launch)
}

/// Describes all of `rest` and `payload`, in `parameters`.
///
/// `None` if one launch that is small enough does not take it all, or as [`encode`].
pub(super) fn encode_with(rest: &Remaining<'_>, payload: &Payload<'_>, parameters: &mut Parameters) -> Option<Launch> {
    let mut builder = LaunchBuilder::new(rest, CHUNKS);
    let (own, room) = parameters.room(WORDS_WITH_PAYLOAD)?.split_at_mut_checked(payload.words())?;
    builder.payload(payload, own)?;
    let AfterRows::Room(room) = builder.moves(rest, room) else { return None };
    builder.copies(&rest.copies, room, false);
    let launch = builder.launch;
    parameters.put(builder.segments.get(..builder.launch.segments)?, launch.words);
    rest.behind(&launch).is_some_and(|behind| behind.is_empty()).then_some(launch)
}

/// Describes rows of the first move that is left, whose numbers are in device memory.
///
/// `None` if it is not so, or the rows cannot be described.
pub(super) fn encode_on_device(rest: &Remaining<'_>, parameters: &mut Parameters) -> Option<Launch> {
    let m = rest.copies.gathers.all().first().filter(|m| !m.device.is_null())?;
    let left = m.rows.checked_sub(rest.row)?;
    let n = rows::fitting(m, left, usize::MAX, CHUNKS, NumberFormat::WIDE);
    let (mut segment, plain) = rows::segment(m, rest.row, n, NumberFormat::WIDE)?;
    segment.words = narrow(rest.row)?;
    let blocks = segment.blocks(2);
    parameters.put_table(&mut [segment], &[], 0);
    let (moves, rows) = if n == left { (1, 0) } else { (0, n) };
    (n != 0).then_some(Launch { moves, rows, blocks, plain, groups: 2, ..Launch::default() })
}

/// What follows the rows of a launch.
enum AfterRows<'w> {
    /// CopyBatch, if there are any: all rows are described, and these words are left.
    Room(&'w mut [u32]),
    /// Nothing: the launch has no room for the next rows.
    Full,
    /// Nothing: the numbers of the next rows are in device memory, and these rows have launches of their own.
    OnDevice,
    /// Nothing: the next rows cannot be encoded.
    Unencodable,
}

/// Row numbers that are among the words of the launch.
struct Written<'n> {
    numbers: &'n [u32],
    format: NumberFormat,
    /// The word they begin at.
    at: u32,
}

impl Written<'_> {
    /// Whether the words describe these `numbers` too, or more than these.
    fn serves(&self, numbers: &[u32], format: NumberFormat) -> bool {
        let same_place = ptr::eq(self.numbers.as_ptr(), numbers.as_ptr());
        self.format == format && same_place && self.numbers.len() >= numbers.len()
    }
}

/// A launch that is being described.
struct LaunchBuilder {
    launch: Launch,
    /// The first ones are those of the launch.
    segments: [Segment; SEGMENTS],
    /// How many chunks more it may have.
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
            // Where lengths differ a block's first copy depends on how much it takes, so that this is decided at the start.
            groups: if chunks >= LARGE / 16 && is_large(&rest.copies) { 4 } else { 2 },
        }
    }

    /// Describes `payload`, first of all, and writes it into `own`, which has its words.
    fn payload(&mut self, payload: &Payload<'_>, own: &mut [u32]) -> Option<()> {
        self.launch.words = own.len();
        payload.write(own)?;
        self.add(payload.segment(THREADS.wrapping_mul(self.groups))?, false)
    }

    /// Describes the rows of `rest`.
    fn moves<'w>(&mut self, rest: &Remaining<'_>, mut room: &'w mut [u32]) -> AfterRows<'w> {
        let mut row = rest.row;
        // Moves with the same numbers share the words for them.
        let mut last: Option<Written<'_>> = None;
        for (m, numbers) in rest.copies.gathers.iter() {
            let Some(numbers) = numbers.filter(|_| m.device.is_null()) else { return AfterRows::OnDevice };
            let Some(numbers) = numbers.get(row..) else { return AfterRows::Unencodable };
            let format = NumberFormat::of(m);
            let shared = last.as_ref().filter(|last| last.serves(numbers, format)).map(|last| last.at);
            let words = if shared.is_some() { usize::MAX } else { room.len() };
            let n = rows::fitting(m, numbers.len(), words, self.chunks, format);
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
            if n < numbers.len() {
                self.launch.rows = if self.launch.moves == 0 { n } else { row.wrapping_add(n) };
                return AfterRows::Full;
            }
            (self.launch.moves, row) = (self.launch.moves.wrapping_add(1), 0);
        }
        AfterRows::Room(room)
    }

    /// Writes the first `n` of `numbers` to the beginning of `room`; returns where they are, and what is left of the room.
    fn write_numbers<'n, 'w>(
        &mut self,
        numbers: &'n [u32],
        n: usize,
        format: NumberFormat,
        room: &'w mut [u32],
    ) -> Option<(Written<'n>, &'w mut [u32])> {
        let (at, numbers) = (narrow(self.launch.words)?, numbers.get(..n)?);
        let (words, behind) = room.split_at_mut_checked(format.form().words(n))?;
        self.launch.words = self.launch.words.wrapping_add(words.len());
        format.write(numbers, words);
        Some((Written { numbers, format, at }, behind))
    }

    fn copies(&mut self, copies: &CopyBatch<'_>, mut room: &mut [u32], in_table: bool) {
        let mut rest = *copies;
        while let Some(region) = Run::first(&rest, room.len(), self.launch.segments.wrapping_add(1) == SEGMENTS) {
            // A region that does not fit whole ends the launch, and one that does not fit at all starts the next one.
            let Some(fits) = region.fit(&rest, room.len(), self.chunks, in_table, self.groups) else { return };
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

    /// Whether there is room for one more segment, and this kind may be in the launch.
    fn accepts(&self, plain: bool) -> bool {
        // The kernel for everything takes plain segments too, but larger launches are worth one of their own.
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

/// Puts the segments of copies before those of moves: copies may cross to the host, which takes longest, and the blocks of the
/// first segment are at work soonest (a decode step ends 0.4 µs sooner, H200).
fn put_copies_first(segments: &mut [Segment], launch: &Launch) {
    // Each move is a segment; where one is not done, no copies follow.
    if launch.copies == 0 || launch.moves == 0 || launch.moves >= segments.len() {
        return;
    }
    segments.rotate_left(launch.moves);
    let mut block = 0_u32;
    for segment in segments {
        segment.first_block = block;
        block = block.wrapping_add(segment.blocks(launch.groups));
    }
}

/// Whether the first copies have [`LARGE`] bytes. Cost: a look at each up to where they have.
fn is_large(copies: &CopyBatch<'_>) -> bool {
    let (mut bytes, first) = (0_u64, copies.len.len().min(PARAMETER_WORDS));
    // Block by block, without a branch inside.
    copies.len.get(..first).unwrap_or_default().chunks(64).any(|block| {
        bytes = block.iter().fold(bytes, |bytes, &len| bytes.wrapping_add(wide(len)));
        bytes >= LARGE
    })
}
