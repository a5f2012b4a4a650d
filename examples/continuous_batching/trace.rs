//! Reads request traces of the Azure LLM inference family from CSV files.
//!
//! A trace has the header `TIMESTAMP,ContextTokens,GeneratedTokens` and one request per line, for example
//! `2023-11-16 18:15:46.6805900,374,44`. Lines end with LF or CRLF, the last one with either or with nothing. The fraction
//! has at most nine digits or is missing; a zone (`Z` or `+02:00`), which some traces of the family have, is taken into
//! account. Rows may come in any order.
//!
//! The file is read as a stream of lines of bounded length, so that a file of another kind, however large, costs no memory.

#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str;
use std::time::Duration;

/// The only header accepted.
pub const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

/// The largest token count accepted, for the prompt and for the generated tokens each.
pub const MAX_TOKENS: u32 = 1 << 20;

/// The longest line accepted, in bytes without its end; a well-formed one has at most 51.
pub const MAX_LINE: usize = 256;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Seconds since the earliest request of the trace.
    pub arrival: f64,
    /// Tokens in the prompt, `1..=MAX_TOKENS`.
    pub prompt: u32,
    /// Tokens to generate, `1..=MAX_TOKENS`.
    pub generate: u32,
}

/// Reads a whole trace, sorted by arrival.
///
/// Requests of the same instant keep the order of the file.
///
/// # Errors
///
/// The first thing in the file that is not as the module's documentation says, with the file's name and the line.
pub fn read(path: &Path) -> Result<Vec<Record>, TraceError> {
    let fail = |line, problem| TraceError { file: path.to_owned(), line, problem };
    let file = File::open(path).map_err(|e| fail(None, Problem::Open(e)))?;
    let mut lines = Lines { reader: BufReader::new(file), line: Vec::with_capacity(MAX_LINE + 2), number: 0 };
    let mut rows = rows(&mut lines).map_err(|problem| fail(Some(lines.number), problem))?;

    rows.sort_by_key(|row| row.time);
    let first = rows.first().map_or(Duration::ZERO, |row| row.time);
    let record = |row: &Row| Record {
        arrival: row.time.saturating_sub(first).as_secs_f64(),
        prompt: row.prompt,
        generate: row.generate,
    };
    Ok(rows.iter().map(record).collect())
}

/// Why a trace was refused, and where.
#[derive(Debug)]
pub struct TraceError {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// The line, counted from 1; `None` if the file could not be opened.
    pub line: Option<u64>,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a trace.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file is missing or may not be read.
    #[error("cannot open it: {0}")]
    Open(io::Error),
    /// Reading failed, as it does for a folder.
    #[error("cannot read it: {0}")]
    Read(io::Error),
    /// The file has no byte.
    #[error("the file is empty, expected the header `{HEADER}`")]
    Empty,
    /// The first line is something else than the header.
    #[error("the header is `{found}`, expected `{HEADER}`")]
    Header { found: String },
    /// There is a header and nothing else.
    #[error("the trace has a header but no request")]
    NoRequest,
    /// The line is longer than [`MAX_LINE`].
    #[error("the line is longer than {MAX_LINE} bytes, this is no trace")]
    LongLine,
    /// The line is not UTF-8, or has control characters.
    #[error("the line is not text, this is no trace")]
    NotText,
    /// There is a blank line and a request after it.
    #[error("the line is blank, but requests follow")]
    Blank,
    /// A column is missing, or there is one too many.
    #[error("expected 3 columns, found {found}: `{line}`")]
    Columns { found: usize, line: String },
    /// The timestamp is malformed, or names no existing date or time.
    #[error("TIMESTAMP is `{value}`, expected an existing `YYYY-MM-DD hh:mm:ss` with at most nine fractional digits")]
    Timestamp { value: String },
    /// A token count is malformed or out of range.
    #[error("{column} is `{value}`, {fault}")]
    Tokens { column: &'static str, value: String, fault: Fault },
}

/// What is wrong with a token count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It has a character other than a digit, or none at all.
    #[error("which is not a whole number")]
    NotANumber,
    /// It is below zero.
    #[error("which is negative")]
    Negative,
    /// It is zero: a request without prompt or without output cannot be replayed.
    #[error("but a request needs at least 1")]
    Zero,
    /// It is above [`MAX_TOKENS`].
    #[error("but at most {MAX_TOKENS} are supported")]
    TooLarge,
}

impl std::error::Error for TraceError {}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trace {}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// A request as its line says it, the time counted from a fixed day long ago.
struct Row {
    time: Duration,
    prompt: u32,
    generate: u32,
}

/// Reads header and requests; `lines.number` is where it stopped.
fn rows<R: BufRead>(lines: &mut Lines<R>) -> Result<Vec<Row>, Problem> {
    let header = lines.next()?.ok_or(Problem::Empty)?;
    // Some tools begin a file with a byte order mark, which is no part of the text.
    if header.strip_prefix('\u{feff}').unwrap_or(header) != HEADER {
        return Err(Problem::Header { found: excerpt(header) });
    }
    let mut rows = Vec::new();
    while let Some(line) = lines.next()? {
        if line.is_empty() {
            lines.expect_only_blanks()?;
            break;
        }
        rows.push(row(line)?);
    }
    if rows.is_empty() { Err(Problem::NoRequest) } else { Ok(rows) }
}

fn row(line: &str) -> Result<Row, Problem> {
    let mut columns = line.split(',');
    let (Some(time), Some(prompt), Some(generate), None) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err(Problem::Columns { found: line.split(',').count(), line: excerpt(line) });
    };
    Ok(Row {
        time: timestamp(time).ok_or_else(|| Problem::Timestamp { value: excerpt(time) })?,
        prompt: tokens("ContextTokens", prompt)?,
        generate: tokens("GeneratedTokens", generate)?,
    })
}

fn tokens(column: &'static str, value: &str) -> Result<u32, Problem> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let fault = if is_digits(value) {
        // Only a number beyond u32 fails here, as every character is a digit.
        match value.parse() {
            Ok(0) => Fault::Zero,
            Ok(count) if count <= MAX_TOKENS => return Ok(count),
            _ => Fault::TooLarge,
        }
    } else if value.strip_prefix('-').is_some_and(is_digits) {
        Fault::Negative
    } else {
        Fault::NotANumber
    };
    Err(Problem::Tokens { column, value: excerpt(value), fault })
}

/// Time since the first of March of the year 0, in UTC.
fn timestamp(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let (time, zone) = time.split_at(time.find(['Z', '+', '-']).unwrap_or(time.len()));
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));

    let mut date = date.split('-');
    let year = digits(date.next()?, 4, 1..=9999)?;
    let month = digits(date.next()?, 2, 1..=12)?;
    let day = digits(date.next()?, 2, 1..=days_of_month(year, month))?;

    let mut time = time.split(':');
    let hour = digits(time.next()?, 2, 0..=23)?;
    let minute = digits(time.next()?, 2, 0..=59)?;
    let second = digits(time.next()?, 2, 0..=59)?;
    if date.next().is_some() || time.next().is_some() {
        return None;
    }

    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    let local = Duration::new(seconds, nanoseconds(fraction)?);
    match zone.split_at_checked(1) {
        None | Some(("Z", "")) => Some(local),
        Some((sign, offset)) => {
            let (hours, minutes) = offset.split_once(':')?;
            let offset = Duration::from_secs(digits(hours, 2, 0..=23)? * 3600 + digits(minutes, 2, 0..=59)? * 60);
            if sign == "+" { local.checked_sub(offset) } else { local.checked_add(offset) }
        }
    }
}

fn nanoseconds(fraction: Option<&str>) -> Option<u32> {
    let Some(fraction) = fraction else { return Some(0) };
    let value: u32 = digits(fraction, fraction.len(), 0..=999_999_999)?.try_into().ok()?;
    let missing = 9_usize.checked_sub(fraction.len())?.try_into().ok()?;
    Some(value * 10_u32.pow(missing))
}

/// Days since the first of March of the year 0 in the Gregorian calendar.
///
/// The year begins in March, so that the leap day is its last: the lengths of the months then follow one linear formula.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let before_month = (153 * ((month + 9) % 12) + 2) / 5;
    365 * year + year / 4 - year / 100 + year / 400 + before_month + day - 1
}

fn days_of_month(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A number of exactly `width` digits, nothing else, within `range`.
fn digits(text: &str, width: usize, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let is_plain = text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|value| is_plain && range.contains(value))
}

/// The beginning of some text from the file, made safe to print.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text.chars().take(LONGEST).collect();
    let rest = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("{}{rest}", shown.escape_debug())
}

/// Lines of bounded length, one at a time.
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// The number of the last line asked for, counted from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end, or `None` at the end of the file.
    fn next(&mut self) -> Result<Option<&str>, Problem> {
        // Two more for the line's end; whatever still has no end after them is too long.
        const READ_LIMIT: u64 = MAX_LINE as u64 + 2;
        self.number += 1;
        self.line.clear();
        self.reader.by_ref().take(READ_LIMIT).read_until(b'\n', &mut self.line).map_err(Problem::Read)?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_long = line.len() > MAX_LINE;
        match str::from_utf8(line) {
            Ok(text) if text.contains(|c: char| c.is_control()) => Err(Problem::NotText),
            // A character cut off by the limit is no evidence against the text before it.
            Err(error) if !is_long || error.error_len().is_some() => Err(Problem::NotText),
            Ok(text) if !is_long => Ok(Some(text)),
            _ => Err(Problem::LongLine),
        }
    }

    /// Reads to the end of the file, which may hold blank lines only; the blank line is the one to blame otherwise.
    fn expect_only_blanks(&mut self) -> Result<(), Problem> {
        let blank = self.number;
        while let Some(line) = self.next()? {
            if !line.is_empty() {
                self.number = blank;
                return Err(Problem::Blank);
            }
        }
        Ok(())
    }
}
