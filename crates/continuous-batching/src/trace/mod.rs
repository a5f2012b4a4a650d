//! Reads request traces: when requests arrived, and how many tokens each had.
//!
//! | format | what tells it | time |
//! |---|---|---|
//! | Azure LLM inference 2023, 2024 | CSV with `TIMESTAMP`, `ContextTokens`, `GeneratedTokens` | date and time, with a zone or without |
//! | BurstGPT | CSV with `Timestamp`, `Request tokens`, `Response tokens` | seconds |
//! | Mooncake | JSON lines with `timestamp`, `input_length`, `output_length` | milliseconds |
//!
//! Columns and keys may stand in any order and among others, such as an index. Fields may be
//! quoted, but not over several lines. Lines end with LF or CRLF, the last one with either or with
//! nothing; a byte order mark is skipped. Rows may come in any order.
//!
//! The file is read as a stream of lines of bounded length, so that a file of another kind, however
//! large, costs no memory.

#![forbid(unsafe_code)]

mod format;
mod lines;
mod moment;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use time::Duration;

use self::format::Format;
use self::lines::Lines;

/// The largest token count accepted, for the prompt and for the generated tokens each.
pub const MAX_TOKENS: u32 = 1 << 20;

/// The longest line accepted, in bytes without its end: those of Mooncake have a number for each
/// block of the prompt.
pub const MAX_LINE: usize = 1 << 20;

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

/// What to do about rows that are no requests, such as those of zero tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRows {
    /// The first is the error.
    Refuse,
    /// They are counted and left out.
    Skip,
}

/// A whole trace.
#[derive(Debug)]
pub struct Trace {
    /// The requests, sorted by arrival; requests of the same instant keep the order of the file.
    pub records: Vec<Record>,
    /// The rows that were left out, if there are any.
    pub skipped: Option<Skipped>,
}

/// The rows that were left out.
#[derive(Debug)]
pub struct Skipped {
    /// How many there are.
    pub rows: u64,
    /// The line of the first, counted from 1.
    pub line: u64,
    /// What is wrong with the first.
    pub problem: Problem,
}

/// Reads a whole trace from a file.
///
/// # Errors
///
/// The first thing in the file that differs from the module's documentation, with the file's name
/// and the line. With [`InvalidRows::Skip`], rows that are no requests are no error, but it is one
/// if no row is left.
pub fn read(path: &Path, invalid: InvalidRows) -> Result<Trace, TraceError> {
    let fail = |line, problem| TraceError { file: path.to_owned(), line, problem };
    let file = File::open(path).map_err(|e| fail(None, Problem::Open(e)))?;
    parse(BufReader::new(file), invalid).map_err(|flaw| fail(Some(flaw.line), flaw.problem))
}

/// Reads a whole trace.
///
/// # Errors
///
/// As for [`read`].
pub fn parse<R: BufRead>(reader: R, invalid: InvalidRows) -> Result<Trace, Flaw> {
    let (mut rows, skipped) = rows(&mut Lines::new(reader), invalid)?;
    rows.sort_by_key(|row| row.time);
    let first = rows.first().map_or(Duration::ZERO, |row| row.time);
    let record = |row: &Row| Record {
        arrival: row.time.saturating_sub(first).as_seconds_f64(),
        prompt: row.prompt,
        generate: row.generate,
    };
    Ok(Trace { records: rows.iter().map(record).collect(), skipped })
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

/// What is wrong, and where.
#[derive(Debug)]
pub struct Flaw {
    /// The line, counted from 1.
    pub line: u64,
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
    #[error("the file is empty, expected {}", format::KNOWN)]
    Empty,
    /// The first line is that of no format.
    #[error("it begins with `{found}`, which is no known format; known are {}", format::KNOWN)]
    Format { found: String },
    /// There is a header and nothing else.
    #[error("the trace has a header but no request")]
    NoRequest,
    /// Every row was skipped.
    #[error("no request is left: each of the {skipped} rows is invalid")]
    NothingLeft { skipped: u64 },
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
    #[error("expected {expected} columns, found {found}: `{line}`")]
    Columns { expected: usize, found: usize, line: String },
    /// A quote is opened and not closed.
    #[error("a quote is not closed on the line: `{line}`")]
    Quote { line: String },
    /// The line is no JSON object, or has a key twice.
    #[error("expected a JSON object: {error}")]
    Json { error: String },
    /// A JSON object lacks a key.
    #[error("{column} is missing: `{line}`")]
    Missing { column: &'static str, line: String },
    /// The time is malformed, or names no existing date or time.
    #[error("{column} is `{value}`, expected {expected}")]
    Timestamp { column: &'static str, value: String, expected: &'static str },
    /// A token count is malformed or out of range.
    #[error("{column} is `{value}`, {fault}")]
    Tokens { column: &'static str, value: String, fault: Fault },
}

impl Problem {
    /// Whether the problem is that of one row, so that other rows may be valid.
    const fn is_of_a_row(&self) -> bool {
        match self {
            Problem::NotText
            | Problem::Blank
            | Problem::Columns { .. }
            | Problem::Quote { .. }
            | Problem::Json { .. }
            | Problem::Missing { .. }
            | Problem::Timestamp { .. }
            | Problem::Tokens { .. } => true,
            Problem::Open(_)
            | Problem::Read(_)
            | Problem::Empty
            | Problem::Format { .. }
            | Problem::NoRequest
            | Problem::NothingLeft { .. }
            | Problem::LongLine => false,
        }
    }
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

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = if self.rows == 1 { "row" } else { "rows" };
        write!(f, "{} {rows} skipped, the first in line {}: {}", self.rows, self.line, self.problem)
    }
}

/// A request as its line gives it. The time counts from the origin of its format.
struct Row {
    time: Duration,
    prompt: u32,
    generate: u32,
}

/// Reads header and requests.
fn rows<R: BufRead>(lines: &mut Lines<R>, invalid: InvalidRows) -> Result<(Vec<Row>, Option<Skipped>), Flaw> {
    let first = match lines.next() {
        Ok(Some(line)) => line,
        Ok(None) => return Err(lines.flaw(Problem::Empty)),
        Err(problem) => return Err(lines.flaw(problem)),
    };
    // Some tools begin a file with a byte order mark, which is not part of the text.
    let first = first.strip_prefix('\u{feff}').unwrap_or(first);
    let Some(mut format) = Format::of(first) else {
        let found = excerpt(first);
        return Err(lines.flaw(Problem::Format { found }));
    };

    let mut found = Found { rows: Vec::new(), skipped: None, invalid };
    let mut blank = None;
    let mut line = if format.has_header() { lines.next() } else { Ok(Some(first)) };
    loop {
        let row = match line {
            Ok(None) => break,
            Ok(Some("")) => {
                blank.get_or_insert(lines.number());
                line = lines.next();
                continue;
            }
            Ok(Some(line)) => format.row(line),
            Err(problem) => Err(problem),
        };
        // Blank lines may only be at the end.
        if let Some(line) = blank.take() {
            found.take(line, Err(Problem::Blank))?;
        }
        found.take(lines.number(), row)?;
        line = lines.next();
    }
    match found {
        Found { rows, skipped: Some(Skipped { rows: skipped, .. }), .. } if rows.is_empty() => {
            Err(lines.flaw(Problem::NothingLeft { skipped }))
        }
        Found { rows, .. } if rows.is_empty() => Err(lines.flaw(Problem::NoRequest)),
        Found { rows, skipped, .. } => Ok((rows, skipped)),
    }
}

/// The rows so far.
struct Found {
    rows: Vec<Row>,
    skipped: Option<Skipped>,
    invalid: InvalidRows,
}

impl Found {
    /// Keeps a row, or skips it if that is allowed.
    fn take(&mut self, line: u64, row: Result<Row, Problem>) -> Result<(), Flaw> {
        match (row, &mut self.skipped) {
            (Ok(row), _) => self.rows.push(row),
            (Err(problem), _) if self.invalid == InvalidRows::Refuse || !problem.is_of_a_row() => {
                return Err(Flaw { line, problem });
            }
            (Err(_), Some(skipped)) => skipped.rows += 1,
            (Err(problem), none) => *none = Some(Skipped { rows: 1, line, problem }),
        }
        Ok(())
    }
}

/// The beginning of a text of the file, made safe to print.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text.chars().take(LONGEST).collect();
    let rest = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("{}{rest}", shown.escape_debug())
}
