//! Lines of bounded length, one at a time.

use std::io::{BufRead, Read};
use std::str;

use super::{Flaw, MAX_LINE, Problem};

/// The lines of a file.
pub(super) struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    /// The number of the last line that was read, counted from 1.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(reader: R) -> Self {
        Lines { reader, line: Vec::new(), number: 0 }
    }

    /// The number of the last line that was read, counted from 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// `problem`, in the last line that was read.
    pub(super) const fn flaw(&self, problem: Problem) -> Flaw {
        Flaw { line: self.number, problem }
    }

    /// The next line without its end, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&str>, Problem> {
        // Two more bytes for the line's end. A line without an end after them is too long.
        const READ_LIMIT: u64 = MAX_LINE as u64 + 2;
        self.number += 1;
        self.line.clear();
        self.reader.by_ref().take(READ_LIMIT).read_until(b'\n', &mut self.line).map_err(Problem::Read)?;
        if self.line.is_empty() {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE {
            return Err(Problem::LongLine);
        }
        str::from_utf8(line)
            .ok()
            .filter(|text| !text.contains(|c: char| c.is_control()))
            .map(Some)
            .ok_or(Problem::NotText)
    }
}
