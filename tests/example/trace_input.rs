//! Which request traces the main example accepts, and how it refuses the others.

mod mutated;

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use tidelock_continuous_batching::trace::{self, Fault, InvalidRows, MAX_LINE, Problem, Record, Trace, TraceError};

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";

/// A file in the system's temporary folder, which is removed when the test ends.
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
    let Trace { records, skipped } = trace::read(&TempFile::new(content.as_ref()).0, InvalidRows::Refuse)?;
    assert!(skipped.is_none(), "{skipped:?}");
    Ok(records)
}

/// Reads a trace with these rows.
fn rows(rows: &[&str]) -> Result<Vec<Record>, TraceError> {
    read(format!("{HEADER}\n{}\n", rows.join("\n")))
}

/// The error of a trace with this content. It must name the file and `line`.
fn refused(content: impl AsRef<[u8]>, line: u64) -> Problem {
    let file = TempFile::new(content.as_ref());
    let error = trace::read(&file.0, InvalidRows::Refuse).unwrap_err();
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
        "2024-05-10t00:00:04.009930z,5,1",
    ]);
    assert_eq!(arrivals(&read.unwrap()), [0.0, 1.0, 2.0, 3.0, 4.0]);
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

    // Enough rows to show a sort that is not stable.
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
    let error = trace::read(&path, InvalidRows::Refuse).unwrap_err();
    assert!(matches!(error.problem, Problem::Open(_)) && error.line.is_none());
    assert!(error.to_string().contains("tidelock-no-such-trace.csv"), "{error}");
}

#[test]
fn a_folder_is_no_trace() {
    let error = trace::read(&std::env::temp_dir(), InvalidRows::Refuse).unwrap_err();
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
fn an_unknown_format_is_named_beside_the_known_ones() {
    for header in [
        "TIMESTAMP,ContextTokens",
        "timestamp,contexttokens,generatedtokens",
        "TIMESTAMP;ContextTokens;GeneratedTokens",
        "TIMESTAMP,ContextTokens,GeneratedTokens,TIMESTAMP",
        "Timestamp,Model,Request tokens,Total tokens,Log Type",
        "\"TIMESTAMP,ContextTokens,GeneratedTokens",
        "",
        "a,b,c",
        "2023-11-16 18:15:46,1,1",
        r#"{"time": 0, "input": 6758, "output": 500}"#,
        "{}",
        "[]",
    ] {
        let problem = refused(format!("{header}\n2023-11-16 18:15:46,1,1\n"), 1);
        let message = problem.to_string();
        let Problem::Format { found } = problem else { panic!("{header}: {message}") };
        assert_eq!(found, header.replace('"', "\\\""));
        for known in ["Azure LLM inference", HEADER, "BurstGPT", "`Request tokens`", "Mooncake", "`input_length`"] {
            assert!(message.contains(&known.replace(',', "`, `")), "{message}");
        }
    }
}

#[test]
fn missing_and_extra_columns_are_refused() {
    let cases = [("2023-11-16 18:15:46,1", 2), ("2023-11-16 18:15:46", 1), ("2023-11-16 18:15:46,1,1,1", 4)];
    for (row, count) in cases {
        let Problem::Columns { expected, found, line } = refused_row(row) else { panic!("{row}") };
        assert_eq!((expected, found, line.as_str()), (3, count, row));
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
        let Problem::Timestamp { column, value, .. } = refused_row(&format!("{time},1,1")) else { panic!("{time}") };
        assert_eq!((column, value.as_str()), ("TIMESTAMP", time));
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
    assert!(matches!(refused(format!("{HEADER}\n{}", "é".repeat(MAX_LINE)), 2), Problem::LongLine));
    assert!(matches!(refused(format!("{HEADER}\n{}\r\n", "1".repeat(MAX_LINE + 1)), 2), Problem::LongLine));
    assert!(matches!(refused(format!("{HEADER}\n{}\r\n", "1".repeat(MAX_LINE)), 2), Problem::Columns { .. }));
}

#[test]
fn a_message_says_what_is_wrong_in_one_line() {
    let file = TempFile::new(format!("{HEADER}\n2023-11-16 18:15:46,12,-3\n").as_bytes());
    let expected = format!("trace {}, line 2: GeneratedTokens is `-3`, which is negative", file.0.display());
    assert_eq!(trace::read(&file.0, InvalidRows::Refuse).unwrap_err().to_string(), expected);
}

/// Requests by their arrival, prompt and generated tokens.
fn records(rows: &[(f64, u32, u32)]) -> Vec<Record> {
    rows.iter().map(|&(arrival, prompt, generate)| Record { arrival, prompt, generate }).collect()
}

/// A few requests in each format, and their values.
const AZURE_2023: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n\
    2023-11-16 18:15:50.9951690,396,109\r\n2023-11-16 18:15:51.2224670,879,55";
const AZURE_2024: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n\
    2024-05-10 00:00:00.017335+00:00,2399,6\n2024-05-10 00:00:01.009930+00:00,76,15\n";
const BURST_GPT: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
    5,ChatGPT,472,18,490,Conversation log\n45.25,ChatGPT,1087,230,1317,Conversation log\n\
    118,GPT-4,417,276,693,API log\n";
const BURST_GPT_2: &str = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
    0.123,,2.5,ChatGPT,472,18,490,API log\n1.123,7,1,GPT-4,1087,230,1317,Conversation log\n";
const MOONCAKE: &str = r#"{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}
{"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": []}
{"hash_ids": [1], "output_length": 3, "input_length": 9013, "timestamp": 30535.5}
"#;
/// The header and the rows of a data frame with its index, all text in quotes.
const INDEXED: &str = ",\"TIMESTAMP\",\"ContextTokens\",\"GeneratedTokens\"\n\
    0,\"2023-11-16 18:15:46\",\"374\",44\n1,\"2023-11-16T20:15:47.5+02:00\",396,\"109\"\n";

const SAMPLES: [&str; 6] = [AZURE_2023, AZURE_2024, BURST_GPT, BURST_GPT_2, MOONCAKE, INDEXED];

#[test]
fn every_format_is_read() {
    let expected: [&[(f64, u32, u32)]; 6] = [
        &[(0.0, 374, 44), (4.314_579, 396, 109), (4.541_877, 879, 55)],
        &[(0.0, 2162, 5), (0.007_405, 2399, 6), (1.0, 76, 15)],
        &[(0.0, 472, 18), (40.25, 1087, 230), (113.0, 417, 276)],
        &[(0.0, 472, 18), (1.0, 1087, 230)],
        &[(0.0, 6955, 52), (3.053, 6472, 26), (3.0535, 9013, 3)],
        &[(0.0, 374, 44), (1.5, 396, 109)],
    ];
    for (sample, expected) in SAMPLES.into_iter().zip(expected) {
        for content in [
            sample.to_owned(),
            format!("\u{feff}{sample}"),
            sample.replace("\r\n", "\n").replace('\n', "\r\n"),
            sample.trim_end().to_owned(),
            format!("{}\n\n", sample.trim_end()),
        ] {
            assert_eq!(read(&content).unwrap(), records(expected), "{content}");
        }
    }
}

#[test]
fn columns_stand_anywhere_among_others() {
    for (header, row) in [
        ("GeneratedTokens,TIMESTAMP,ContextTokens", "9,2023-11-16 18:15:46,7"),
        ("Unnamed: 0,TIMESTAMP,ContextTokens,GeneratedTokens", "12,2023-11-16 18:15:46,7,9"),
        ("TIMESTAMP,Model,ContextTokens,GeneratedTokens,", r#"2023-11-16 18:15:46,"large, ""new"", fast",7,9,"#),
        (r#""a ""name"", quoted",ContextTokens,GeneratedTokens,"TIMESTAMP""#, r#""",7,"9","2023-11-16 18:15:46""#),
    ] {
        assert_eq!(read(format!("{header}\n{row}\n")).unwrap(), records(&[(0.0, 7, 9)]), "{header}");
    }
}

#[test]
fn bad_rows_of_every_format_name_their_column() {
    let header = BURST_GPT.split('\n').next().unwrap();
    let row = |time: &str, prompt: &str| refused(format!("{header}\n{time},GPT-4,{prompt},8,9,log\n"), 2);
    for time in
        ["", "-5", "+5", "inf", "nan", "1e999", "5s", "2023-11-16 18:15:46", ".5", "1_0", "99999999999999999999"]
    {
        let Problem::Timestamp { column, value, expected } = row(time, "7") else { panic!("{time}") };
        assert_eq!((column, value.as_str(), expected), ("Timestamp", time, "seconds as a decimal number"));
    }
    let Problem::Tokens { column, fault, .. } = row("5", "0") else { panic!() };
    assert_eq!((column, fault), ("Request tokens", Fault::Zero));
    assert!(matches!(row("5", "7,7"), Problem::Columns { expected: 6, found: 7, .. }));
    let Problem::Quote { line } = row("5", "\"7") else { panic!() };
    assert_eq!(line, r#"5,GPT-4,\"7,8,9,log"#);

    let first = MOONCAKE.split('\n').next().unwrap();
    let object = |text: &str| refused(format!("{first}\n{text}\n"), 2);
    let values = |time: &str, input: &str, output: &str| {
        object(&format!(r#"{{"timestamp": {time}, "input_length": {input}, "output_length": {output}}}"#))
    };
    for time in ["-1", "\"5\"", "true", "[]", "1e300"] {
        let Problem::Timestamp { column, expected, .. } = values(time, "7", "8") else { panic!("{time}") };
        assert_eq!((column, expected), ("timestamp", "milliseconds as a decimal number"));
    }
    for (count, expected) in [
        ("0", Fault::Zero),
        ("-3", Fault::Negative),
        ("1.5", Fault::NotANumber),
        ("1e3", Fault::NotANumber),
        ("\"7\"", Fault::NotANumber),
        ("1048577", Fault::TooLarge),
    ] {
        let Problem::Tokens { column, fault, .. } = values("0", count, "8") else { panic!("{count}") };
        assert_eq!((column, fault), ("input_length", expected), "{count}");
        let Problem::Tokens { column, fault, .. } = values("0", "8", count) else { panic!("{count}") };
        assert_eq!((column, fault), ("output_length", expected), "{count}");
    }
    let missing = object(r#"{"timestamp": 0, "output_length": 3, "input_length": null}"#);
    assert!(matches!(missing, Problem::Missing { column: "input_length", .. }), "{missing}");
    for text in [
        "{",
        "null",
        "[0, 7, 8]",
        "0,7,8",
        r#"{"timestamp": 0, "input_length": 7, "output_length": 8} {"timestamp": 0}"#,
        r#"{"timestamp": 0, "timestamp": 1, "input_length": 7, "output_length": 8}"#,
        r#"{"timestamp": 01, "input_length": 7, "output_length": 8}"#,
        &format!(r#"{{"timestamp": 0, "hash_ids": {}"#, "[".repeat(10_000)),
    ] {
        let problem = object(text);
        assert!(matches!(problem, Problem::Json { .. }), "{text}: {problem}");
    }
}

#[test]
fn invalid_rows_are_skipped_and_counted_if_that_is_asked_for() {
    let time = "2023-11-16 18:15";
    let content = format!(
        "{HEADER}\n{time}:46,374,0\n{time}:47,396,109\n\n{time}:48,1\n{time}:99,1,1\n{time}:49,\u{1b},1\n\
        {time}:49,\"1,1\n{time}:50,0,1\n{time}:51,7,8\n\n"
    );
    assert!(matches!(refused(&content, 2), Problem::Tokens { fault: Fault::Zero, .. }));
    let file = TempFile::new(content.as_bytes());
    let Trace { records: rows, skipped } = trace::read(&file.0, InvalidRows::Skip).unwrap();
    assert_eq!(rows, records(&[(0.0, 396, 109), (4.0, 7, 8)]));
    let expected = "7 rows skipped, the first in line 2: GeneratedTokens is `0`, but a request needs at least 1";
    assert_eq!(skipped.unwrap().to_string(), expected);

    let skipping = |content: &str| trace::parse(content.as_bytes(), InvalidRows::Skip);
    let json = format!("{{\"input_length\": 1}}\n{MOONCAKE}7\n");
    let trace = skipping(&json).unwrap();
    assert_eq!((trace.records.len(), trace.skipped.map(|skipped| skipped.rows)), (3, Some(2)));
    for sample in SAMPLES {
        assert!(skipping(sample).unwrap().skipped.is_none());
    }
    // A fault that does not belong to one row is refused nevertheless.
    let flaw = skipping(&format!("{HEADER}\n{time}:46,1,0\n{time}:46,0,1\n")).unwrap_err();
    assert_eq!(
        (flaw.line, flaw.problem.to_string().as_str()),
        (4, "no request is left: each of the 2 rows is invalid")
    );
    assert!(matches!(skipping("a,b,c\n1,2,3\n").unwrap_err().problem, Problem::Format { .. }));
    let long = format!("{HEADER}\n{time}:46,1,1\n{}\n", "1".repeat(MAX_LINE + 1));
    assert!(matches!(skipping(&long).unwrap_err().problem, Problem::LongLine));
}
