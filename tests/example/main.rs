//! The main example as its users run it: a program with options, a table on standard output, and an
//! exit code.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

mod report;
mod trace_input;

/// The example, built now with the features and the profile of this test. A binary that lies there
/// already may be of another build.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build(&env::current_exe().unwrap()))
}

/// Builds the example beside `test`, and returns the path that cargo reports. If all tests are run,
/// cargo has just built it.
fn build(test: &Path) -> PathBuf {
    // TARGET/PROFILE/deps/TEST, or TARGET/TRIPLE/PROFILE/deps/TEST where a target was named.
    let profile = test.ancestors().nth(2).unwrap();
    let name = |folder: &Path| folder.file_name().unwrap().to_str().unwrap().to_owned();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--example", "continuous_batching", "--message-format", "json-render-diagnostics"]);
    build.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let outer = profile.parent().unwrap();
    if outer.join(".rustc_info.json").exists() {
        build.arg("--target-dir").arg(outer);
    } else {
        build.arg("--target-dir").arg(outer.parent().unwrap()).args(["--target", &name(outer)]);
    }
    let profile = name(profile);
    build.args(["--profile", if profile == "debug" { "dev" } else { &profile }]).arg("--no-default-features");
    // `default` too: cargo distinguishes builds with and without it, even if nothing else differs.
    let features = [
        ("default", cfg!(feature = "default")),
        ("cuda", cfg!(feature = "cuda")),
        ("cuda-core", cfg!(feature = "cuda-core")),
        ("sim", cfg!(feature = "sim")),
    ];
    for (feature, _) in features.into_iter().filter(|(_, is_on)| *is_on) {
        build.args(["--features", feature]);
    }
    let output = build.output().unwrap();
    let messages = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let of_example =
        |line: &&str| line.contains(r#""kind":["example"]"#) && line.contains(r#""name":"continuous_batching""#);
    let line = messages.lines().find(of_example).unwrap();
    let (_, rest) = line.split_once(r#""executable":""#).unwrap();
    let (path, _) = rest.split_once('"').unwrap();
    // The only character of a path that is likely to be escaped.
    PathBuf::from(path.replace(r"\\", r"\"))
}

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The closing table of a run that succeeded.
struct Table(String);

impl Table {
    fn of(arguments: &[&str]) -> Self {
        let output = run(arguments);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(output.status.success(), "{arguments:?}: {} {}", text(&output.stdout), text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "there is no progress bar in a pipe");
        assert!(!output.stdout.contains(&0x1b) && !output.stdout.contains(&b'\r'), "nor any other sign of a terminal");
        Self(text(&output.stdout))
    }

    /// The words after the label of a row.
    fn row(&self, label: &str) -> Vec<&str> {
        let row = self.0.lines().find_map(|line| line.trim_start().strip_prefix(label));
        row.unwrap_or_else(|| panic!("no `{label}` in\n{}", self.0)).split_whitespace().collect()
    }
}

/// The single line on standard error of a run that fails with exit code 1 and prints nothing else.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert!(output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.starts_with("error: ") && message.ends_with('\n'), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// A file among the test's temporary ones.
fn file(name: &str, content: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, content).unwrap();
    path.into_os_string().into_string().unwrap()
}

#[test]
fn why_the_simulated_device_is_taken_is_printed() {
    let device = |arguments: &[&str]| {
        let table = Table::of(&[&["--requests", "1"], arguments].concat());
        table.0.lines().find_map(|line| line.strip_prefix("device: ")).unwrap().to_owned()
    };
    assert_eq!(device(&["--device", "sim"]), "simulated");
    #[cfg(feature = "cuda-core")]
    {
        let with_memory = device(&["--device", "auto", "--memory", "1000000000"]);
        assert_eq!(with_memory, "simulated; no GPU: `--memory` is that of the simulated device");
        if let Err(reason) = tidelock::cuda::Device::open(0) {
            assert_eq!(device(&[]), format!("simulated; no GPU: {reason}"));
        }
    }
    #[cfg(not(feature = "cuda-core"))]
    assert_eq!(device(&[]), "simulated; no GPU: this program is built without CUDA");
}

#[test]
fn every_request_of_a_generated_workload_is_verified() {
    for seed in ["0", "1", "2", "77", "18446744073709551615"] {
        for streams in ["1", "2"] {
            let size = ["--requests", "60", "--max-batch", "8"];
            let table = Table::of(&[&size[..], &["--seed", seed, "--streams", streams]].concat());
            assert_eq!(table.row("requests verified"), ["60", "of", "60"]);
            assert_eq!(table.row("streams"), [streams]);
        }
    }
}

#[test]
fn every_request_of_a_trace_is_verified_whatever_its_line_ends() {
    let lines = [
        "TIMESTAMP,ContextTokens,GeneratedTokens",
        "2023-11-16 18:15:46.6805900,374,44",
        "2023-11-16 18:15:50.9951690,1,1",
        "2023-11-16 18:15:47.1000000,63,2",
        "2023-11-16 18:15:47.1000000,64,130",
        "2023-11-16 18:16:50.0000000,4000,5",
    ];
    for (name, end) in [("lf.csv", "\n"), ("crlf.csv", "\r\n")] {
        let path = file(name, lines.join(end).as_bytes());
        let table = Table::of(&["--device", "sim", "--trace", &path]);
        assert_eq!(table.row("requests verified"), ["5", "of", "5"]);
        let table = Table::of(&["--device", "auto", "--trace", &path, "--requests", "2", "--max-batch", "1"]);
        assert_eq!(table.row("requests verified"), ["2", "of", "2"]);
        assert_eq!(table.row("tokens generated")[0], "46");
    }
}

#[test]
fn calls_and_submissions_per_iteration_do_not_depend_on_the_batch() {
    let per_iteration = |max_batch| {
        let table = Table::of(&["--device", "sim", "--requests", "60", "--max-batch", max_batch]);
        let rows =
            ["submissions", "synchronises", "driver-level calls, steady state", "heap allocations, steady state"];
        rows.map(|label| table.row(label).last().copied().unwrap().to_owned())
    };
    let small = per_iteration("2");
    assert_eq!(small, ["3.0", "1.0", "6", "0"], "a range, `5 to 6`, would end in its largest number");
    assert_eq!(small, per_iteration("64"));
    for max_batch in ["2", "64"] {
        let table = Table::of(&["--device", "sim", "--requests", "60", "--max-batch", max_batch]);
        assert_eq!(table.row("driver-level calls, steady state"), ["6"]);
        assert_eq!(table.row("heap allocations, steady state"), ["0"]);
    }
}

#[test]
fn two_streams_wait_for_what_comes_down_and_for_nothing_else() {
    for max_batch in ["1", "2", "64"] {
        let table = Table::of(&["--device", "sim", "--requests", "60", "--max-batch", max_batch, "--streams", "2"]);
        assert_eq!(table.row("requests verified"), ["60", "of", "60"]);
        assert_eq!(table.row("synchronises"), ["0", "0.0"]);
        assert_eq!(table.row("submissions").last(), Some(&"3.0"));
        // The wait for the tokens is left out if a query has seen them.
        let calls = table.row("driver-level calls, steady state").join(" ");
        assert!(["11", "11 to 12", "12"].contains(&calls.as_str()), "{calls}");
        assert_eq!(table.row("heap allocations, steady state"), ["0"]);
        assert_eq!(table.row("steps enqueued ahead")[1..], ["of", table.row("iterations")[0]]);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let counts = |seed| {
        let table = Table::of(&["--requests", "40", "--max-batch", "8", "--seed", seed]);
        ["iterations", "tokens generated", "copies asked", "after merging", "bytes up", "bytes down"]
            .map(|label| table.row(label).join(" "))
    };
    assert_eq!(counts("5"), counts("5"));
    assert_ne!(counts("5"), counts("6"));
}

#[test]
fn traces_of_other_formats_are_verified_and_invalid_rows_skipped() {
    let json = r#"{"timestamp": 0, "input_length": 30, "output_length": 4, "hash_ids": [1]}"#;
    let path = file("mooncake.jsonl", json.as_bytes());
    assert_eq!(Table::of(&["--device", "sim", "--trace", &path]).row("requests verified"), ["1", "of", "1"]);

    let header = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type";
    let rows = "5,ChatGPT,47,18,65,API log\n6,ChatGPT,10,0,10,API log\n7.5,GPT-4,41,27,68,API log\n";
    let path = file("burst.csv", format!("{header}\n{rows}").as_bytes());
    let message = refused(&["--trace", &path]);
    assert!(message.contains("line 3: Response tokens is `0`"), "{message}");
    let output = run(&["--device", "sim", "--trace", &path, "--skip-invalid"]);
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected =
        "burst.csv: 1 row skipped, the first in line 3: Response tokens is `0`, but a request needs at least 1";
    assert!(stderr.starts_with("warning: trace ") && stderr.trim_end().ends_with(expected), "{stderr}");
    let table = Table(String::from_utf8(output.stdout).unwrap());
    assert_eq!(table.row("requests verified"), ["2", "of", "2"]);
}

#[test]
fn a_bad_trace_is_refused_in_one_line_with_file_and_line() {
    let message = refused(&["--trace", "no/such/file.csv"]);
    assert!(message.contains("no/such/file.csv") && message.contains("cannot open"), "{message}");

    let header = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
    let row = |row: &str| format!("{header}2023-11-16 18:15:46,1,1\n{row}\n").into_bytes();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty.csv", vec![], "line 1: the file is empty"),
        ("header.csv", b"a,b,c\n".to_vec(), "line 1: it begins with `a,b,c`, which is no known format"),
        ("nothing.csv", header.as_bytes().to_vec(), "no request"),
        ("word.csv", row("2023-11-16 18:15:46,many,1"), "line 3: ContextTokens is `many`"),
        ("negative.csv", row("2023-11-16 18:15:46,1,-1"), "line 3: GeneratedTokens is `-1`"),
        ("huge.csv", row("2023-11-16 18:15:46,99999999999999999999,1"), "line 3: ContextTokens is `9999"),
        ("column.csv", row("2023-11-16 18:15:46,1"), "line 3: expected 3 columns, found 2"),
        ("time.csv", row("2023-13-16 18:15:46,1,1"), "line 3: TIMESTAMP"),
        ("junk.csv", (0..=255).cycle().take(100_000).collect(), "line 1: "),
    ];
    for (name, content, expected) in cases {
        let path = file(name, &content);
        let message = refused(&["--trace", &path]);
        assert!(message.contains(&path) && message.contains(expected), "{name}: {message}");
    }
    refused(&["--trace", env!("CARGO_MANIFEST_DIR")]);
}

#[test]
fn a_device_without_enough_memory_is_one_line_too() {
    let message = refused(&["--requests", "20", "--memory", "65536"]);
    assert!(message.contains("no device memory left for "), "{message}");
}

#[cfg(feature = "cuda-core")]
#[test]
fn a_gpu_that_is_not_there_is_one_line_too() {
    let message = refused(&["--device", "cuda:4096"]);
    assert!(message.contains("there is no CUDA device 4096") || message.contains("CUDA driver"), "{message}");
}

#[test]
fn a_wrong_option_is_a_matter_of_usage() {
    // Without the feature there is no such device.
    let cuda = if cfg!(feature = "cuda-core") {
        ["--memory", "1", "--device", "cuda"]
    } else {
        ["--device", "cuda", "--memory", "1"]
    };
    let cases: [&[&str]; 6] =
        [&["--max-batch", "0"], &["--requests", "-1"], &["--device", "tpu"], &["--seed", "x"], &["--speed"], &cuda];
    for arguments in cases {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8(output.stderr).unwrap().contains(arguments[0]));
    }
}
