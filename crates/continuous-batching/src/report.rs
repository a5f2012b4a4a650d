//! The report of a run: a picture, and beside it the same data as trace events.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::events;
use super::recorder::{Kind, Phase, Recording, Sample, Work};
use super::svg::{Anchor, Colour, Drawing, Frame, ticks};
use super::table::{Summary, bytes, grouped};

/// The files of a report, which are opened before the run, so that no run is made in vain.
#[derive(Debug)]
pub struct Files {
    picture: (PathBuf, File),
    events: (PathBuf, File),
}

/// A file of the report cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {error}", path.display())]
pub struct ReportError {
    path: PathBuf,
    error: io::Error,
}

impl Files {
    /// `picture`, and beside it a file whose name ends in `.trace.json` instead.
    ///
    /// # Errors
    ///
    /// If one of the two cannot be written.
    pub fn create(picture: &Path) -> Result<Self, ReportError> {
        let open = |path: PathBuf| match File::create(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(ReportError { path, error }),
        };
        Ok(Self { picture: open(picture.to_owned())?, events: open(picture.with_extension("trace.json"))? })
    }

    /// Writes both files.
    ///
    /// # Errors
    ///
    /// If one of the two cannot be written.
    pub fn write(self, device: &str, summary: &Summary, recording: &Recording) -> Result<(), ReportError> {
        let Self { picture: (path, mut file), events: (events_path, events_file) } = self;
        let written = file.write_all(draw(device, summary, recording).as_bytes());
        written.map_err(|error| ReportError { path, error })?;
        let mut out = BufWriter::new(events_file);
        let written = events::write(recording, &mut out).and_then(|()| out.flush());
        written.map_err(|error| ReportError { path: events_path, error })
    }
}

/// A sampled quantity: its colour, its name, and where it is found.
type Series = (Colour, &'static str, fn(&Sample) -> u64);

const WIDTH: f64 = 1600.0;
/// Without the lanes of the last chart, each of which adds `LANE`.
const HEIGHT: f64 = 848.0;
const LANE: f64 = 54.0;
/// Where the charts of the two columns begin, and how wide they are.
const COLUMNS: [f64; 2] = [110.0, 920.0];
const COLUMN: f64 = 640.0;
/// Where the three rows begin.
const ROWS: [f64; 3] = [136.0, 424.0, 712.0];
/// From the head of a chart to its frame, and the height of that.
const HEAD: f64 = 48.0;
const CHART: f64 = 150.0;
/// Points of a series at most, so that a long run is as readable as a short one.
const POINTS: usize = 160;

fn draw(device: &str, summary: &Summary, recording: &Recording) -> String {
    const TITLE: &str = "Continuous batching: memory and streams";
    let mut drawing = Drawing::new(WIDTH, HEIGHT + LANE * float(lanes(recording).len() as u64));
    // The picture leaves out remarks of the table.
    let device = device.split(';').next().unwrap_or_default();
    let streams = if recording.streams == 1 { "one stream" } else { "two streams" };
    drawing.text("title", 40.0, 54.0, Anchor::Start, TITLE);
    let subtitle = format!(
        "{} of {} requests verified   ·   {} iterations   ·   {} tokens   ·   {streams}   ·   {device}",
        grouped(summary.verified),
        grouped(summary.requests),
        grouped(summary.iterations),
        grouped(summary.tokens)
    );
    drawing.text("label faint", 40.0, 86.0, Anchor::Start, &subtitle);
    if recording.samples.is_empty() {
        drawing.text("label", 40.0, 136.0, Anchor::Start, "There was nothing to do.");
        return drawing.finish(TITLE);
    }
    let bins = bins(recording.samples.len());
    memory(&mut drawing, &recording.samples, &bins);
    traffic(&mut drawing, &recording.samples, &bins);
    batch(&mut drawing, &recording.samples, &bins);
    activity(&mut drawing, recording, &bins);
    close_up(&mut drawing, recording);
    drawing.finish(TITLE)
}

/// Every kind of memory on a logarithmic scale, because the engine's own memory and the memory of
/// one iteration differ by a factor of 1000.
fn memory(drawing: &mut Drawing, samples: &[Sample], bins: &[Range<usize>]) {
    let kinds: [Series; 5] = [
        (Colour::Grey, "reserved", |s| s.reserved),
        (Colour::Blue, "in use", |s| s.used),
        (Colour::Green, "states", |s| s.states),
        (Colour::Purple, "pinned", |s| s.pinned),
        (Colour::Red, "arena", |s| s.arena),
    ];
    let largest = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    let shown: Vec<_> = kinds.into_iter().filter(|&(_, _, of)| largest(of) > 0).collect();
    // A tick at every factor of 32, and whole steps between the edges.
    let exponents = shown.iter().flat_map(|&(_, _, of)| samples.iter().map(of).filter(|&n| n > 0).map(exponent));
    let (low, high) = exponents.fold((f64::MAX, 0.0_f64), |(low, high), e| (low.min(e), high.max(e)));
    let (low, high) = ((low / 5.0).floor() * 5.0, ((high + 0.5) / 5.0).ceil() * 5.0);
    let frame = frame(drawing, (0, 0), "Memory by kind, logarithmic", samples.len(), (low, high));
    let y_ticks: Vec<_> = (0..=12)
        .map(|i| 5 * i)
        .filter(|&e| (low..=high).contains(&f64::from(e)))
        .map(|e| (f64::from(e), bytes(1 << e).replace(".0", "")))
        .collect();
    drawing.axes(&frame, &iterations(samples.len()), &y_ticks, "iteration");
    let entries: Vec<_> =
        shown.iter().map(|&(colour, name, of)| (colour, format!("{name} {}", bytes(largest(of))))).collect();
    legend(drawing, &frame, &entries);
    for (colour, _, of) in shown {
        let most = |bin: &Range<usize>| samples[bin.clone()].iter().map(of).max().unwrap_or(0);
        let points = bins.iter().filter(|bin| most(bin) > 0).map(|bin| (middle(bin), exponent(most(bin))));
        // Most of what is reserved is also in use, and shows beneath it.
        drawing.series(&frame, colour, if colour == Colour::Grey { "wide" } else { "line" }, points);
    }
}

/// The bytes of the arena that one iteration uses, and the bytes that it moves.
fn traffic(drawing: &mut Drawing, samples: &[Sample], bins: &[Range<usize>]) {
    let kinds: [Series; 3] =
        [(Colour::Red, "arena", |s| s.arena), (Colour::Orange, "up", |s| s.up), (Colour::Purple, "down", |s| s.down)];
    let shown: Vec<_> = kinds.into_iter().filter(|&(_, _, of)| samples.iter().any(|s| of(s) > 0)).collect();
    let kib = |count: u64| float(count) / 1024.0;
    let most = shown.iter().flat_map(|&(_, _, of)| samples.iter().map(of)).max().unwrap_or(0);
    let y_ticks = ticks(kib(most), 4);
    let top = y_ticks.last().copied().unwrap_or(1.0);
    let frame = frame(drawing, (1, 0), "Per iteration: arena and traffic, KiB", samples.len(), (0.0, top));
    drawing.axes(&frame, &iterations(samples.len()), &labelled(&y_ticks), "iteration");
    let largest = |of: fn(&Sample) -> u64| bytes(samples.iter().map(of).max().unwrap_or(0));
    let entries = shown.iter().map(|&(colour, name, of)| (colour, format!("{name}, at most {}", largest(of))));
    let entries: Vec<_> = entries.collect();
    legend(drawing, &frame, &entries);
    for (colour, _, of) in shown {
        spread(drawing, &frame, colour, bins, |i| kib(of(&samples[i])));
    }
}

fn batch(drawing: &mut Drawing, samples: &[Sample], bins: &[Range<usize>]) {
    let most = samples.iter().map(|s| s.rows).max().unwrap_or(0);
    let y_ticks = ticks(float(most), 4);
    let top = y_ticks.last().copied().unwrap_or(1.0);
    let frame = frame(drawing, (0, 1), "Batch size, rows", samples.len(), (0.0, top));
    drawing.axes(&frame, &iterations(samples.len()), &labelled(&y_ticks), "iteration");
    legend(drawing, &frame, &[(Colour::Blue, format!("mean, and least to most; at most {}", grouped(most)))]);
    spread(drawing, &frame, Colour::Blue, bins, |i| float(samples[i].rows));
}

/// The share of the time in which host and streams were busy.
fn activity(drawing: &mut Drawing, recording: &Recording, bins: &[Range<usize>]) {
    let starts = starts(recording);
    let host = recording.host.iter().filter(|span| span.phase != Phase::Wait);
    let mut lanes = vec![(Colour::Green, "host", host.map(|span| (span.begin, span.end)).collect::<Vec<_>>())];
    let stream = |works: &[Work]| works.iter().map(|work| (work.begin, work.end)).collect::<Vec<_>>();
    if recording.streams > 1 {
        lanes.push((Colour::Orange, "upload stream", stream(&recording.upload)));
    }
    lanes.push((
        Colour::Blue,
        if recording.streams > 1 { "compute stream" } else { "stream" },
        stream(&recording.compute),
    ));
    lanes.retain(|(_, _, spans)| !spans.is_empty());

    let frame = frame(drawing, (1, 1), "At work, % of the time", recording.samples.len(), (0.0, 100.0));
    let y_ticks = labelled(&[0.0, 25.0, 50.0, 75.0, 100.0]);
    drawing.axes(&frame, &iterations(recording.samples.len()), &y_ticks, "iteration");
    let (from, to) = (starts[0], starts[starts.len() - 1]);
    let share = |spans: &[(u64, u64)], from: u64, to: u64| {
        let first = spans.partition_point(|span| span.1 <= from);
        let meeting = spans[first..].iter().take_while(|span| span.0 < to);
        let busy: u64 = meeting.map(|span| span.1.min(to) - span.0.max(from)).sum();
        100.0 * float(busy) / float((to - from).max(1))
    };
    let entries =
        lanes.iter().map(|(colour, name, spans)| (*colour, format!("{name} {:.0} %", share(spans, from, to))));
    let entries: Vec<_> = entries.collect();
    legend(drawing, &frame, &entries);
    for (colour, _, spans) in &lanes {
        // Fewer points, because a share covers several iterations.
        let few = 1.max(bins.len() / 80);
        let points = bins.chunks(few).map(|bins| {
            let bin = bins[0].start..bins[bins.len() - 1].end;
            (middle(&bin), share(spans, starts[bin.start], starts[bin.end]))
        });
        drawing.series(&frame, *colour, "line", points);
    }
}

/// A few iterations in time, with one lane each for the host and the streams.
fn close_up(drawing: &mut Drawing, recording: &Recording) {
    const UPLOAD: u32 = 1;
    let two = recording.streams > 1;
    let window = typical(&starts(recording));
    let (from, to) = window;
    let meets = |&(begin, end): &(u64, u64)| begin < to && end > from;
    let micros = |at: u64| (float(at.clamp(from, to)) - float(from)) / 1000.0;

    let lanes = lanes(recording);
    let x_ticks = ticks(micros(to), 8);
    let left = 190.0;
    let height = LANE * float(lanes.len() as u64);
    let frame = Frame {
        left,
        top: ROWS[2] + HEAD,
        width: WIDTH - left - 40.0,
        height,
        x: (0.0, micros(to).max(1.0)),
        y: (0.0, 1.0),
    };
    drawing.text("head", 40.0, ROWS[2], Anchor::Start, "A few iterations, as they passed");
    let entries = [
        (Colour::Green, "", "plan, fill"),
        (Colour::Red, "", "submit"),
        (Colour::Purple, "", "verify"),
        (Colour::Grey, "pale", "host waits"),
        (Colour::Orange, "", "rows up"),
        (Colour::Grey, "", "re-pack, tokens down"),
        (Colour::Blue, "", "model"),
    ];
    let entries = if lanes.len() > 1 { &entries[..] } else { &entries[..4] };
    drawing.legend(left, ROWS[2] + 26.0, entries);
    let x_ticks = labelled(&x_ticks).into_iter().filter(|(x, _)| *x <= frame.x.1).collect::<Vec<_>>();
    drawing.axes(&frame, &x_ticks, &[], "µs");
    for (i, lane) in (0_u32..).zip(lanes) {
        let y = frame.top + LANE * f64::from(i);
        drawing.text("label", left - 14.0, y + 31.0, Anchor::End, lane);
        drawing.line("grid", (left, y), (left + frame.width, y));
    }

    let mut labelled_to = 0.0;
    let mut block = |lane: u32, style: &str, (begin, end): (u64, u64), label: Option<String>, hint: String| {
        let (x, _) = frame.at((micros(begin), 0.0));
        let (right, _) = frame.at((micros(end), 0.0));
        let (y, width) = (frame.top + LANE * f64::from(lane) + 8.0, (right - x).max(0.6));
        drawing.rect(style, (x, y), (width, LANE - 16.0), Some(&hint));
        let Some(label) = label else { return };
        let room = 9.0 * float(label.chars().count() as u64) + 6.0;
        if width > room {
            drawing.text("small on", x + width / 2.0, y + 24.0, Anchor::Middle, &label);
        } else if lane == UPLOAD && two && right > labelled_to && right + room < frame.left + frame.width {
            drawing.text("small", right + 5.0, y + 24.0, Anchor::Start, &label);
            labelled_to = right + room;
        }
    };
    for span in recording.host.iter().filter(|span| meets(&(span.begin, span.end))) {
        let style = match span.phase {
            Phase::Plan | Phase::Fill => "f-green",
            Phase::Submit => "f-red",
            Phase::Wait => "f-grey pale",
            Phase::Verify => "f-purple",
        };
        block(0, style, (span.begin, span.end), None, hint(events::phase(span.phase), span.begin, span.end));
    }
    let streams = [(UPLOAD, &recording.upload), (lanes.len() as u32 - 1, &recording.compute)];
    for (lane, works) in streams {
        for work in works.iter().filter(|work| meets(&(work.begin, work.end))) {
            let (style, label) = match work.kind {
                Kind::Up => ("f-orange", two.then(|| format!("rows of {}", grouped(work.iteration.into())))),
                Kind::Repack | Kind::Down => ("f-grey", None),
                Kind::Model => ("f-blue", Some(format!("step {}", grouped(work.iteration.into())))),
            };
            let hint = hint(events::kind(work.kind), work.begin, work.end);
            block(lane, style, (work.begin, work.end), label, hint);
        }
    }
}

/// The lanes: the host's, and the streams' where the device reports them.
fn lanes(recording: &Recording) -> &'static [&'static str] {
    match (recording.compute.is_empty(), recording.streams) {
        (true, _) => &["host"],
        (false, 1) => &["host", "stream"],
        (false, _) => &["host", "upload stream", "compute stream"],
    }
}

/// Five consecutive iterations of typical duration: the median of all such, in the second half of
/// the run.
fn typical(starts: &[u64]) -> (u64, u64) {
    const ITERATIONS: usize = 5;
    let last = starts.len() - 1;
    let span = ITERATIONS.min(last);
    let mut windows: Vec<_> = (last / 2..=last - span).map(|i| (starts[i], starts[i + span])).collect();
    if windows.is_empty() {
        return (starts[0], starts[last]);
    }
    windows.sort_by_key(|(from, to)| to - from);
    windows[windows.len() / 2]
}

/// When each iteration began, by the host's first phase of it, and when the last one ended.
fn starts(recording: &Recording) -> Vec<u64> {
    let mut starts = Vec::with_capacity(recording.samples.len() + 1);
    for span in &recording.host {
        if span.iteration as usize == starts.len() && starts.len() < recording.samples.len() {
            starts.push(span.begin);
        }
    }
    let end = recording.host.last().map_or(0, |span| span.end);
    starts.resize(recording.samples.len() + 1, end);
    starts
}

/// The head of the chart in a column and row, and its frame.
fn frame(drawing: &mut Drawing, (column, row): (usize, usize), head: &str, count: usize, y: (f64, f64)) -> Frame {
    drawing.text("head", COLUMNS[column] - 70.0, ROWS[row], Anchor::Start, head);
    let (left, top) = (COLUMNS[column], ROWS[row] + HEAD);
    Frame { left, top, width: COLUMN, height: CHART, x: (0.0, float(count as u64)), y }
}

fn legend(drawing: &mut Drawing, frame: &Frame, entries: &[(Colour, String)]) {
    let entries: Vec<_> = entries.iter().map(|(colour, words)| (*colour, "", words.as_str())).collect();
    drawing.legend(frame.left - 70.0, frame.top - 22.0, &entries);
}

/// The mean of each bin, and the range around it from its least to its greatest value.
fn spread(
    drawing: &mut Drawing,
    frame: &Frame,
    colour: Colour,
    bins: &[Range<usize>],
    value: impl Fn(usize) -> f64 + Copy,
) {
    let ends = |bin: &Range<usize>| bin.clone().map(value).fold((f64::MAX, 0.0), |(a, b), v| (a.min(v), v.max(b)));
    let band: Vec<_> = bins.iter().map(|bin| (middle(bin), ends(bin).0, ends(bin).1)).collect();
    drawing.band(frame, colour, &band);
    let mean = |bin: &Range<usize>| bin.clone().map(value).sum::<f64>() / float(bin.len() as u64);
    drawing.series(frame, colour, "line", bins.iter().map(|bin| (middle(bin), mean(bin))));
}

/// The iterations of each point of a chart.
fn bins(count: usize) -> Vec<Range<usize>> {
    let points = POINTS.min(count);
    (0..points).map(|i| i * count / points..(i + 1) * count / points).collect()
}

fn middle(bin: &Range<usize>) -> f64 {
    f64::midpoint(float(bin.start as u64), float(bin.end as u64))
}

fn iterations(count: usize) -> Vec<(f64, String)> {
    let most = float(count as u64);
    labelled(&ticks(most, 4)).into_iter().filter(|(value, _)| *value <= most).collect()
}

fn labelled(ticks: &[f64]) -> Vec<(f64, String)> {
    let whole = ticks.iter().all(|value| value.fract().abs() < 1e-9);
    let label = |value: f64| if whole { grouped(value.round() as u64) } else { format!("{value}") };
    ticks.iter().map(|&value| (value, label(value))).collect()
}

fn hint(what: &str, begin: u64, end: u64) -> String {
    format!("{what}, {:.1} µs", float(end - begin) / 1000.0)
}

fn exponent(count: u64) -> f64 {
    float(count).log2()
}

#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser")]
fn float(number: u64) -> f64 {
    number as f64
}
