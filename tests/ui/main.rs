//! Misuse that must not compile, with the compiler's message: `ui-tests/<concept>/<case>.rs` and
//! `.stderr`.
//!
//! `TRYBUILD=overwrite cargo test --test ui` writes the messages again. Read each one that changed.

mod controls;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// The least number of cases, so that a lost case is noticed.
const LEAST: usize = 363;

/// Text that no message may show: internals of other crates, and paths of one machine.
const INTERNALS: [&str; 7] = ["UInt<", "UTerm", "$RUST", "$CARGO", "/rustc/", ".cargo/", "long-type"];

// The messages are those of the default features, because the compiler lists the locations of every
// backend that it finds.
#[cfg(feature = "cuda")]
#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("ui-tests/*/*.rs");
}

#[test]
fn every_case_has_its_message() {
    let (cases, messages) = (stems("rs"), stems("stderr"));
    let without: Vec<_> = cases.difference(&messages).collect();
    let orphans: Vec<_> = messages.difference(&cases).collect();
    assert!(without.is_empty(), "cases without a message: {without:?}");
    assert!(orphans.is_empty(), "messages without a case: {orphans:?}");
    assert!(cases.len() >= LEAST, "{} cases, there were {LEAST}", cases.len());
}

#[test]
fn every_case_names_its_rule_and_the_way_out() {
    for case in stems("rs") {
        let text = fs::read_to_string(case.with_extension("rs")).unwrap();
        let mut lines = text.lines();
        let (first, second) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let rule =
            first.strip_prefix("// R").and_then(|rest| rest.split_once(": ")).map(|(rule, _)| rule.parse::<u32>());
        assert!(matches!(rule, Some(Ok(1..=23))), "{}: the first line names no rule: {first}", case.display());
        assert!(second.starts_with("// Instead: "), "{}: the second line is no way out: {second}", case.display());
    }
}

#[test]
fn messages_show_no_internals() {
    for case in stems("stderr") {
        let text = fs::read_to_string(case.with_extension("stderr")).unwrap();
        for internal in INTERNALS {
            assert!(!text.contains(internal), "{} shows `{internal}`", case.display());
        }
    }
}

/// The paths of all files in `ui-tests/*/` with this extension, without the extension.
fn stems(extension: &str) -> BTreeSet<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui-tests");
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    entries(&root)
        .iter()
        .flat_map(|concept| entries(concept))
        .filter(|file| file.extension() == Some(OsStr::new(extension)))
        .map(|file| file.with_extension(""))
        .collect()
}
