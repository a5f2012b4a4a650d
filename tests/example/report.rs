//! The report of a run: a well-formed picture, and trace events that agree with the table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Table, refused};

/// A value of JSON.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Word(String),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Parses the whole of `text`. It panics at the first position that is no JSON.
    fn parse(text: &str) -> Self {
        let mut rest = text;
        let value = Self::value(&mut rest);
        assert_eq!(rest.trim(), "", "behind the value");
        value
    }

    fn value(rest: &mut &str) -> Self {
        *rest = rest.trim_start();
        match rest.chars().next().unwrap() {
            '{' => {
                let field = |rest: &mut &str| {
                    *rest = rest.trim_start();
                    let Self::Text(name) = Self::value(rest) else { panic!("a name is a text: {rest:.40}") };
                    skip(rest, ':');
                    (name, Self::value(rest))
                };
                let fields = Self::items(rest, '}', field);
                let (count, map) = (fields.len(), fields.into_iter().collect::<BTreeMap<_, _>>());
                assert_eq!(map.len(), count, "every name occurs once");
                Self::Object(map)
            }
            '[' => Self::List(Self::items(rest, ']', Self::value)),
            '"' => {
                let (text, behind) = rest[1..].split_once('"').unwrap();
                assert!(!text.contains(['\\', '\n']), "nothing here needs escapes: {text}");
                *rest = behind;
                Self::Text(text.to_owned())
            }
            _ => {
                let end = rest.find([',', '}', ']', '\n']).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                *rest = behind;
                assert!(!word.starts_with(['+', '.']) && !word.ends_with('.'), "{word}");
                match word {
                    "true" | "false" | "null" => Self::Word(word.to_owned()),
                    _ => Self::Number(word.parse().unwrap()),
                }
            }
        }
    }

    fn items<T>(rest: &mut &str, end: char, mut item: impl FnMut(&mut &str) -> T) -> Vec<T> {
        *rest = rest[1..].trim_start();
        let mut items = Vec::new();
        while !rest.starts_with(end) {
            if !items.is_empty() {
                skip(rest, ',');
            }
            items.push(item(rest));
            *rest = rest.trim_start();
        }
        skip(rest, end);
        items
    }

    fn field(&self, name: &str) -> &Self {
        let Self::Object(fields) = self else { panic!("no object: {self:?}") };
        fields.get(name).unwrap_or_else(|| panic!("no `{name}` in {fields:?}"))
    }

    fn text(&self) -> &str {
        let Self::Text(text) = self else { panic!("no text: {self:?}") };
        text
    }

    fn number(&self) -> f64 {
        let Self::Number(number) = self else { panic!("no number: {self:?}") };
        *number
    }
}

fn skip(rest: &mut &str, expected: char) {
    let found = rest.trim_start();
    *rest = found.strip_prefix(expected).unwrap_or_else(|| panic!("expected `{expected}`: {found:.40}"));
}

/// The names of the elements of `svg`, all of which are closed in order.
fn elements(svg: &str) -> Vec<&str> {
    let (mut open, mut names) = (Vec::new(), Vec::new());
    for tag in svg.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap();
        assert!(!text.contains('&') || text.contains(';'), "{text}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        let name = tag.split([' ', '/']).next().unwrap();
        names.push(name);
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    names
}

#[test]
fn a_report_is_a_picture_and_trace_events_and_changes_nothing_else() {
    for (streams, calls, threads) in [("1", &["6"][..], 2), ("2", &["11", "11 to 12", "12"], 3)] {
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{streams}.svg"));
        let run = ["--device", "sim", "--requests", "60", "--max-batch", "8", "--streams", streams];
        let table = Table::of(&[&run[..], &["--report", picture.to_str().unwrap()]].concat());
        assert_eq!(table.row("requests verified"), ["60", "of", "60"]);
        let made = table.row("driver-level calls, steady state").join(" ");
        assert!(calls.contains(&made.as_str()), "{made}");
        assert_eq!(table.row("heap allocations, steady state"), ["0"]);
        let bare = Table::of(&run);
        for label in ["iterations", "tokens generated", "submissions", "bytes up", "bytes down", "arena peak"] {
            assert_eq!(table.row(label), bare.row(label));
        }
        let iterations: usize = table.row("iterations")[0].replace(',', "").parse().unwrap();

        let svg = fs::read_to_string(&picture).unwrap();
        let elements = elements(&svg);
        assert_eq!(elements[0], "svg");
        assert!(elements.iter().filter(|&&name| name == "path").count() >= 8, "{elements:?}");
        for words in ["60 of 60 requests verified", "Memory by kind", "Batch size", "At work", "pinned", "iteration"] {
            assert!(svg.contains(words), "{words}");
        }

        let trace = Json::parse(&fs::read_to_string(picture.with_extension("trace.json")).unwrap());
        let Json::List(events) = trace.field("traceEvents") else { panic!("{trace:?}") };
        let named = |phase: &str, name: &str| {
            let is = |event: &&Json| event.field("ph").text() == phase && event.field("name").text() == name;
            events.iter().filter(is).collect::<Vec<_>>()
        };
        assert_eq!(named("M", "thread_name").len(), threads);
        for name in ["rows up", "re-pack", "model", "tokens down", "verify"] {
            assert_eq!(named("X", name).len(), iterations, "{name}");
        }
        let rows = named("C", "rows in the batch");
        assert_eq!(rows.len(), iterations);
        let tokens: f64 = rows.iter().map(|event| event.field("args").field("rows").number()).sum();
        assert_eq!(tokens.to_string(), table.row("tokens generated")[0].replace(',', ""), "a row generates one token");

        // The events of one thread are in order.
        for thread in 1..=threads {
            let mut end = 0.0;
            for event in events.iter().filter(|event| event.field("ph").text() == "X") {
                if event.field("tid").number().to_string() == thread.to_string() {
                    let (begin, lasts) = (event.field("ts").number(), event.field("dur").number());
                    // Times are rounded to nanoseconds.
                    assert!(begin >= end - 0.001, "thread {thread}: {event:?} begins before {end}");
                    end = begin + lasts;
                }
            }
            assert!(end > 0.0, "thread {thread} did nothing");
        }
    }
}

#[test]
fn a_report_that_cannot_be_written_is_refused_in_one_line() {
    let message = refused(&["--requests", "5", "--report", "no/such/folder/a.svg"]);
    assert!(message.contains("cannot write no/such/folder/a.svg: "), "{message}");
    let message = refused(&["--requests", "5", "--report", env!("CARGO_TARGET_TMPDIR")]);
    assert!(message.contains(&format!("cannot write {}: ", env!("CARGO_TARGET_TMPDIR"))), "{message}");
}

#[test]
fn a_run_without_a_single_full_iteration_has_a_report_too() {
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-one.svg");
    for streams in ["1", "2"] {
        let run = ["--device", "sim", "--requests", "1", "--max-batch", "1", "--streams", streams];
        Table::of(&[&run[..], &["--report", picture.to_str().unwrap()]].concat());
        elements(&fs::read_to_string(&picture).unwrap());
        Json::parse(&fs::read_to_string(picture.with_extension("trace.json")).unwrap());
    }
}
