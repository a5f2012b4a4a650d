//! Traces with bytes inserted, removed and replaced.

use proptest::{collection::vec, prelude::*, sample::select, test_runner::Config};

use super::SAMPLES;
use tidelock_continuous_batching::trace::{self, InvalidRows, MAX_TOKENS, Trace};

/// What mutations insert: parts of rows, parts of numbers, and other text.
const PIECES: [&str; 24] = [
    ",",
    "\"",
    "\"\"",
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "{",
    "}",
    "[",
    ":",
    "null",
    "0",
    "-",
    "+",
    ".",
    "9999999999",
    "1e999",
    "Z",
    "+05:30",
    "-00:00",
    "\u{feff}",
    "é",
    "2024-02-30",
];

/// Replaces `len` bytes of a text. `place` is where they begin, in thousandths of the text.
#[derive(Clone, Debug)]
struct Mutation {
    place: usize,
    len: usize,
    by: Vec<u8>,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let by = prop_oneof![
        3 => select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    (0..1000_usize, 0..20_usize, by).prop_map(|(place, len, by)| Mutation { place, len, by })
}

proptest! {
    #![proptest_config(Config { cases: 10_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_is_read_is_a_trace_or_an_error(sample in select(&SAMPLES[..]), mutations in vec(mutation(), 1..5)) {
        let mut content = sample.as_bytes().to_vec();
        for Mutation { place, len, by } in mutations {
            let start = content.len() * place / 1000;
            let end = content.len().min(start + len);
            content.splice(start..end, by);
        }
        let refusing = trace::parse(&content[..], InvalidRows::Refuse);
        let skipping = trace::parse(&content[..], InvalidRows::Skip);
        for trace in [&refusing, &skipping] {
            match trace {
                Ok(Trace { records, .. }) => {
                    prop_assert!(!records.is_empty() && records[0].arrival == 0.0);
                    prop_assert!(records.is_sorted_by_key(|record| record.arrival));
                    prop_assert!(records.iter().all(|r| (1..=MAX_TOKENS).contains(&r.prompt)));
                    prop_assert!(records.iter().all(|r| (1..=MAX_TOKENS).contains(&r.generate)));
                }
                Err(flaw) => {
                    let message = flaw.problem.to_string();
                    prop_assert!(!message.contains(|c: char| c.is_control()), "{:?}", message);
                }
            }
        }
        // Skipping changes nothing where no row is invalid, and skips the row that would be refused
        // first.
        match (refusing, skipping) {
            (Ok(refusing), Ok(skipping)) => {
                prop_assert_eq!(refusing.records, skipping.records);
                prop_assert!(skipping.skipped.is_none());
            }
            (Err(flaw), Ok(Trace { skipped: Some(skipped), .. })) => {
                prop_assert_eq!((flaw.line, flaw.problem.to_string()), (skipped.line, skipped.problem.to_string()));
            }
            (Err(_), Err(_)) => {}
            (refusing, skipping) => prop_assert!(false, "{:?} and {:?}", refusing, skipping),
        }
    }
}
