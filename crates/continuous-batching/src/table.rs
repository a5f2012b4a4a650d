//! The table that closes a run.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use super::recorder::Overlap;

/// The summary of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Requests whose whole history equals the oracle's, of `requests`.
    pub verified: u64,
    pub requests: u64,
    pub streams: u64,
    pub tokens: u64,
    pub iterations: u64,
    pub wall: Duration,
    /// How much of it the host waited for the device.
    pub waited: Duration,
    /// Iterations that were enqueued while the device was still working on the one before.
    pub ahead: u64,
    /// What ran at the same time, if that was recorded.
    pub overlap: Overlap,
    /// Copies that the engine added, those left after merging neighbours, and their submissions.
    pub copies_asked: u64,
    pub copies_merged: u64,
    pub submissions: u64,
    pub synchronises: u64,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub arena_peak_bytes: u64,
    pub driver_calls: Steady,
    pub heap_allocations: Steady,
}

/// The least and the greatest value per iteration, in steady state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steady {
    seen: Option<(u64, u64)>,
}

impl Steady {
    /// Counts one more iteration.
    pub fn include(&mut self, count: u64) {
        let (least, most) = self.seen.unwrap_or((count, count));
        self.seen = Some((least.min(count), most.max(count)));
    }
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.seen {
            None => "-".to_owned(),
            Some((least, most)) if least == most => grouped(least),
            Some((least, most)) => format!("{} to {}", grouped(least), grouped(most)),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.wall.as_secs_f64();
        let each = |total| format!("{:.1}", per(total, self.iterations));
        let none = String::new;
        let time = |label, time| (label, seconds_of(time), micros(time, self.iterations));
        let hidden = |hidden: Duration, of: Duration| {
            ("  hidden behind steps", percent(hidden, of), micros(hidden, self.iterations))
        };
        let overlap = self.overlap;
        let mut rows = vec![
            ("requests verified", format!("{} of {}", grouped(self.verified), grouped(self.requests)), none()),
            ("streams", grouped(self.streams), none()),
            ("iterations", grouped(self.iterations), none()),
            ("tokens generated", grouped(self.tokens), each(self.tokens)),
            ("copies asked", grouped(self.copies_asked), each(self.copies_asked)),
            ("  after merging", grouped(self.copies_merged), each(self.copies_merged)),
            ("  submissions", grouped(self.submissions), each(self.submissions)),
            ("synchronises", grouped(self.synchronises), each(self.synchronises)),
            ("bytes up", bytes(self.bytes_up), bytes(self.bytes_up / self.iterations.max(1))),
            ("bytes down", bytes(self.bytes_down), bytes(self.bytes_down / self.iterations.max(1))),
            ("arena peak", bytes(self.arena_peak_bytes), none()),
            ("driver-level calls, steady state", none(), self.driver_calls.to_string()),
            ("heap allocations, steady state", none(), self.heap_allocations.to_string()),
            time("host waits", self.waited),
            time("host works", self.wall.saturating_sub(self.waited)),
        ];
        if overlap.is_known {
            rows.push(hidden(overlap.host_hidden, overlap.host));
            rows.push(time("compute stream works", overlap.compute));
        }
        if overlap.is_known && self.streams > 1 {
            rows.push(time("upload stream works", overlap.upload));
            rows.push(hidden(overlap.upload_hidden, overlap.upload));
        }
        rows.extend([
            ("steps enqueued ahead", format!("{} of {}", grouped(self.ahead), grouped(self.iterations)), none()),
            time("wall time", self.wall),
            ("tokens per second", rate(self.tokens, seconds), none()),
        ]);
        let header = ("", "total".to_owned(), "per iteration".to_owned());
        let [mut label_width, mut total_width, mut each_width] = [0; 3];
        for (label, total, each) in rows.iter().chain([&header]) {
            label_width = label_width.max(label.chars().count());
            total_width = total_width.max(total.chars().count());
            each_width = each_width.max(each.chars().count());
        }
        for (i, (label, total, each)) in [&header].into_iter().chain(&rows).enumerate() {
            let line = format!("{label:label_width$}  {total:>total_width$}  {each:>each_width$}");
            writeln!(f, "{}", line.trim_end())?;
            if i == 0 {
                writeln!(f, "{}", "-".repeat(label_width + total_width + each_width + 4))?;
            }
        }
        Ok(())
    }
}

/// A number with its thousands separated.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in a suitable unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = approximate(count) / 1024.0;
    let mut unit = 0;
    // A number that would round to 1024 already counts as the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

fn seconds_of(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn micros(wall: Duration, iterations: u64) -> String {
    format!("{:.1} µs", wall.as_secs_f64() * 1e6 / approximate(iterations.max(1)))
}

/// `part` in percent of `of`, or `-` if that is zero.
fn percent(part: Duration, of: Duration) -> String {
    if of.is_zero() { "-".to_owned() } else { format!("{:.0} %", 100.0 * part.as_secs_f64() / of.as_secs_f64()) }
}

/// Tokens per second, or `-` if no time has passed.
fn rate(tokens: u64, seconds: f64) -> String {
    let rounded = format!("{:.0}", approximate(tokens) / seconds);
    rounded.parse().map_or_else(|_| "-".to_owned(), grouped)
}

fn per(total: u64, count: u64) -> f64 {
    approximate(total) / approximate(count.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn approximate(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [(0, "0"), (7, "7"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn bytes_have_a_unit() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (3 << 29, "1.5 GiB")];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn steady_shows_one_number_only_if_it_never_changed() {
        let mut steady = Steady::default();
        assert_eq!(steady.to_string(), "-");
        steady.include(23);
        steady.include(23);
        assert_eq!(steady.to_string(), "23");
        steady.include(1023);
        assert_eq!(steady.to_string(), "23 to 1,023");
    }

    #[test]
    fn an_empty_run_has_a_table_too() {
        let table = Summary::default().to_string();
        assert!(table.contains("0 of 0") && !table.contains("NaN") && !table.contains("inf"), "{table}");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let summary = Summary { verified: 499, requests: 500, tokens: 100_000, iterations: 1000, ..Summary::default() };
        let table = summary.to_string();
        let tokens = table.lines().find(|l| l.starts_with("tokens generated")).unwrap();
        assert!(tokens.ends_with("100.0"), "{tokens}");
        let verified = table.lines().find(|l| l.starts_with("requests verified")).unwrap();
        assert!(verified.ends_with("499 of 500"), "{verified}");
        let end = verified.len();
        assert_eq!(&tokens[end - 8..end], " 100,000");
        assert!(table.lines().all(|line| line == line.trim_end()));
    }
}
