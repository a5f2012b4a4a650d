//! What the main example accepts as a request trace, and how it refuses the rest.

#[path = "../examples/continuous_batching/trace.rs"]
mod trace;

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use trace::{Fault, HEADER, MAX_LINE, Problem, Record, TraceError};

/// A file in the system's folder for temporary ones that is gone when the test ends.
struct TempFile(PathBuf);

impl TempFile {
    fn new(content: &[u8]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tidelock-trace-{}-{}.csv", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn read(content: impl AsRef<[u8]>) -> Result<Vec<Record>, TraceError> {
    trace::read(&TempFile::new(content.as_ref()).0)
}

/// Reads a trace with these rows.
fn rows(rows: &[&str]) -> Result<Vec<Record>, TraceError> {
    read(format!("{HEADER}\n{}\n", rows.join("\n")))
}

/// The error of a trace with these rows, which must be in `line`, say so, and name the file.
fn refused(content: impl AsRef<[u8]>, line: u64) -> Problem {
    let file = TempFile::new(content.as_ref());
    let error = trace::read(&file.0).unwrap_err();
    assert_eq!(error.line, Some(line), "{error}");
    assert_eq!(error.file, file.0);
    let message = error.to_string();
    assert!(message.contains(&file.0.display().to_string()), "{message}");
    assert!(message.contains(&format!("line {line}: ")), "{message}");
    assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
    error.problem
}

fn refused_row(row: &str) -> Problem {
    refused(format!("{HEADER}\n2023-11-16 18:15:46,1,1\n{row}\n2023-11-16 18:15:47,1,1\n"), 3)
}

fn refused_count(count: &str) -> Fault {
    let mut faults = Vec::new();
    let time = "2023-11-16 18:15:46";
    for (row, expected) in
        [(format!("{time},{count},7"), "ContextTokens"), (format!("{time},7,{count}"), "GeneratedTokens")]
    {
        let Problem::Tokens { column, value, fault } = refused_row(&row) else { panic!("{row}") };
        assert_eq!((column, value.as_str()), (expected, count));
        faults.push(fault);
    }
    assert_eq!(faults[0], faults[1]);
    faults[0]
}

fn arrivals(rows: &[Record]) -> Vec<f64> {
    rows.iter().map(|row| row.arrival).collect()
}

const TWO: [Record; 2] =
    [Record { arrival: 0.0, prompt: 374, generate: 44 }, Record { arrival: 4.314_579, prompt: 396, generate: 109 }];

#[test]
fn all_line_ends_are_accepted() {
    let lines = [HEADER, "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109"];
    for content in [
        lines.join("\n"),
        lines.join("\r\n"),
        lines.join("\n") + "\n",
        lines.join("\r\n") + "\r\n",
        lines.join("\r\n") + "\r",
        lines.join("\n") + "\n\n",
        lines.join("\r\n") + "\r\n\r\n\r\n",
        format!("\u{feff}{}", lines.join("\n")),
    ] {
        assert_eq!(read(&content).unwrap(), TWO, "{content:?}");
    }
}

#[test]
fn fractions_have_up_to_nine_digits() {
    let read = rows(&[
        "2023-11-16 18:15:46,1,1",
        "2023-11-16 18:15:46.000000001,1,1",
        "2023-11-16 18:15:46.25,1,1",
        "2023-11-16 18:15:46.5,1,1",
        "2023-11-16 18:15:47.0000000,1,1",
    ]);
    assert_eq!(arrivals(&read.unwrap()), [0.0, 1e-9, 0.25, 0.5, 1.0]);
}

#[test]
fn days_months_and_years_go_on() {
    let pairs = [
        ("2023-11-16 23:59:59.5", "2023-11-17 00:00:00.5", 1.0),
        ("2023-11-30 23:59:59", "2023-12-01 00:00:00", 1.0),
        ("2023-12-31 23:59:50", "2024-01-01 00:00:10", 20.0),
        ("2024-02-28 12:00:00", "2024-03-01 12:00:00", 172_800.0),
        ("2023-02-28 12:00:00", "2023-03-01 12:00:00", 86_400.0),
        ("2000-02-28 00:00:00", "2000-03-01 00:00:00", 172_800.0),
        ("1900-02-28 00:00:00", "1900-03-01 00:00:00", 86_400.0),
        ("2023-01-01 00:00:00", "2024-01-01 00:00:00", 365.0 * 86_400.0),
        ("2024-01-01 00:00:00", "2025-01-01 00:00:00", 366.0 * 86_400.0),
        ("1970-01-01 00:00:00", "2023-11-16 18:15:46", 1_700_158_546.0),
        ("0001-01-01 00:00:00", "9999-12-31 00:00:00", 3_652_058.0 * 86_400.0),
    ];
    for (first, second, seconds) in pairs {
        let read = rows(&[&format!("{first},1,1"), &format!("{second},1,1")]).unwrap();
        assert_eq!(arrivals(&read), [0.0, seconds], "{first} to {second}");
    }
}

#[test]
fn zones_are_taken_into_account() {
    let read = rows(&[
        "2024-05-10 00:00:00.009930+00:00,1,1",
        "2024-05-10T00:00:01.009930Z,2,1",
        "2024-05-10 02:00:02.009930+02:00,3,1",
        "2024-05-09 18:30:03.009930-05:30,4,1",
    ]);
    assert_eq!(arrivals(&read.unwrap()), [0.0, 1.0, 2.0, 3.0]);
}

#[test]
fn rows_are_sorted_by_time_and_otherwise_keep_their_order() {
    let read = rows(&[
        "2023-11-16 18:15:48,1,1",
        "2023-11-16 18:15:46,2,1",
        "2023-11-16 18:15:48,3,1",
        "2023-11-16 18:15:46,4,1",
        "2023-11-16 18:15:45,5,1",
    ])
    .unwrap();
    assert_eq!(read.iter().map(|row| row.prompt).collect::<Vec<_>>(), [5, 2, 4, 1, 3]);
    assert_eq!(arrivals(&read), [0.0, 1.0, 1.0, 3.0, 3.0]);

    // Enough rows for a sort that is not stable to show.
    let many: Vec<String> = (1..=500).map(|i| format!("2023-11-16 18:15:4{},{i},1", i % 2)).collect();
    let read = rows(&many.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let expected = (2..=500).step_by(2).chain((1..=500).step_by(2));
    assert!(read.iter().map(|row| row.prompt).eq(expected));
}

#[test]
fn counts_up_to_the_limit_are_accepted() {
    let read = rows(&["2023-11-16 18:15:46,1048576,0007"]).unwrap();
    assert_eq!((read[0].prompt, read[0].generate), (1_048_576, 7));
}

#[test]
fn a_missing_file_is_named() {
    let path = std::env::temp_dir().join("tidelock-no-such-trace.csv");
    let error = trace::read(&path).unwrap_err();
    assert!(matches!(error.problem, Problem::Open(_)) && error.line.is_none());
    assert!(error.to_string().contains("tidelock-no-such-trace.csv"), "{error}");
}

#[test]
fn a_folder_is_no_trace() {
    let error = trace::read(&std::env::temp_dir()).unwrap_err();
    assert!(matches!(error.problem, Problem::Read(_) | Problem::Open(_)), "{error}");
}

#[test]
fn an_empty_file_and_a_lone_header_are_refused() {
    assert!(matches!(refused("", 1), Problem::Empty));
    assert!(matches!(refused(HEADER, 2), Problem::NoRequest));
    assert!(matches!(refused(format!("{HEADER}\r\n"), 2), Problem::NoRequest));
    assert!(matches!(refused(format!("{HEADER}\n\n\n"), 4), Problem::NoRequest));
}

#[test]
fn another_header_is_refused() {
    for header in
        ["TIMESTAMP,ContextTokens", "timestamp,contexttokens,generatedtokens", "", "a,b,c", "2023-11-16 18:15:46,1,1"]
    {
        let Problem::Header { found } = refused(format!("{header}\n2023-11-16 18:15:46,1,1\n"), 1) else {
            panic!("{header}")
        };
        assert_eq!(found, header);
    }
}

#[test]
fn missing_and_extra_columns_are_refused() {
    let cases = [("2023-11-16 18:15:46,1", 2), ("2023-11-16 18:15:46", 1), ("2023-11-16 18:15:46,1,1,1", 4)];
    for (row, count) in cases {
        let Problem::Columns { found, line } = refused_row(row) else { panic!("{row}") };
        assert_eq!((found, line.as_str()), (count, row));
    }
    assert!(matches!(refused_row("2023-11-16 18:15:46;1;1"), Problem::Columns { found: 1, .. }));
    assert!(matches!(refused_row("2023-11-16 18:15:46,1,1,"), Problem::Columns { found: 4, .. }));
}

#[test]
fn a_blank_line_may_only_be_at_the_end() {
    assert!(matches!(refused_row(""), Problem::Blank));
}

#[test]
fn bad_token_counts_are_refused() {
    for count in ["", "x", "1.5", " 1", "1 ", "+1", "-", "0x10", "1e3", "--1", "１"] {
        assert_eq!(refused_count(count), Fault::NotANumber, "{count}");
    }
    assert_eq!(refused_count("-1"), Fault::Negative);
    assert_eq!(refused_count("-99999999999999999999"), Fault::Negative);
    assert_eq!(refused_count("0"), Fault::Zero);
    for count in ["1048577", "4294967296", "99999999999999999999999999999"] {
        assert_eq!(refused_count(count), Fault::TooLarge, "{count}");
    }
}

#[test]
fn bad_timestamps_are_refused() {
    for time in [
        "",
        "18:15:46",
        "2023-11-16",
        "2023-11-16 18:15",
        "2023-11-16 18:15:46:00",
        "2023-11-16 18:15:60",
        "2023-11-16 18:60:46",
        "2023-11-16 24:15:46",
        "2023-11-31 18:15:46",
        "2023-02-29 18:15:46",
        "1900-02-29 18:15:46",
        "2023-13-01 18:15:46",
        "2023-00-01 18:15:46",
        "2023-11-00 18:15:46",
        "0000-11-16 18:15:46",
        "-2023-11-16 18:15:46",
        "23-11-16 18:15:46",
        "2023/11/16 18:15:46",
        "2023-11-16-01 18:15:46",
        "2023-11-16  18:15:46",
        "2023-11-16 18:15:46.",
        "2023-11-16 18:15:46.1234567890",
        "2023-11-16 18:15:46.12x",
        "2023-11-16 18:15:-6",
        "2023-11-16 18:15:46+25:00",
        "2023-11-16 18:15:46Zulu",
        "2023-11-16 18:15:46+é",
    ] {
        let Problem::Timestamp { value } = refused_row(&format!("{time},1,1")) else { panic!("{time}") };
        assert_eq!(value, time);
    }
}

#[test]
fn what_is_no_text_is_refused_where_it_begins() {
    assert!(matches!(refused(b"\x7fELF\x02\x01\x01\0\0\0", 1), Problem::NotText));
    assert!(matches!(refused(b"\xff\xfe\n", 1), Problem::NotText));
    assert!(matches!(refused([0; 10_000], 1), Problem::NotText));
    assert!(matches!(refused([b"TIMESTAMP,".as_slice(), &[0xc3; 5000]].concat(), 1), Problem::NotText));
    assert!(matches!(refused_row("2023-11-16 18:15:46,1,\u{1b}[31m1"), Problem::NotText));
    let cut = [HEADER.as_bytes(), b"\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47,1,\xe2\x82"].concat();
    assert!(matches!(refused(cut, 3), Problem::NotText));
}

#[test]
fn long_lines_are_refused_without_reading_them() {
    assert!(matches!(refused("x".repeat(10_000_000), 1), Problem::LongLine));
    assert!(matches!(refused(format!("{HEADER}\n{}", "é".repeat(1000)), 2), Problem::LongLine));
    assert!(matches!(refused(format!("{HEADER}\n{}\r\n", "1".repeat(MAX_LINE + 1)), 2), Problem::LongLine));
    assert!(matches!(refused(format!("{HEADER}\n{}\r\n", "1".repeat(MAX_LINE)), 2), Problem::Columns { .. }));
}

#[test]
fn a_message_says_what_is_wrong_in_one_line() {
    let file = TempFile::new(format!("{HEADER}\n2023-11-16 18:15:46,12,-3\n").as_bytes());
    let expected = format!("trace {}, line 2: GeneratedTokens is `-3`, which is negative", file.0.display());
    assert_eq!(trace::read(&file.0).unwrap_err().to_string(), expected);
}
