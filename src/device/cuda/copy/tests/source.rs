//! The layouts and numbers of copy.cu are those of `layout.rs`.

use core::mem::offset_of;

use super::super::layout::{Form, Head, NEAR, PIECE_WORDS, SEGMENT_WORDS, SEGMENTS, Segment, THREADS};

const SOURCE: &str = include_str!("../../kernels/copy.cu");

/// The fields of a structure as `OFFSET(TYPE, FIELD, BYTES);` has them in the source, and what
/// `SIZE(TYPE, BYTES);` says.
fn structure(name: &str) -> (Vec<(&'static str, usize)>, usize) {
    let arguments = |call: &str| {
        let start = format!("{call}({name}, ");
        let lines = SOURCE.lines().filter_map(move |line| line.strip_prefix(&start)?.strip_suffix(");"));
        lines.collect::<Vec<_>>()
    };
    let fields = arguments("OFFSET").into_iter().map(|field| {
        let (field, bytes) = field.split_once(", ").unwrap();
        (field, bytes.parse().unwrap())
    });
    (fields.collect(), arguments("SIZE")[0].parse().unwrap())
}

/// The number that `#define NAME` gives.
fn number(name: &str) -> usize {
    let start = format!("#define {name} ");
    let value = SOURCE.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    value.split_once('u').unwrap().0.parse().unwrap()
}

macro_rules! fields {
    ($type:ident: $($field:ident)*) => {
        vec![$((stringify!($field), offset_of!($type, $field))),*]
    };
}

#[test]
fn structures_have_the_same_fields_at_the_same_places() {
    let segment = fields!(
        Segment: src dst src_pitch dst_pitch bytes form first_block chunks row_chunks magic shift words old second copies
            owners staged unit
    );
    assert_eq!(structure("Segment"), (segment, size_of::<Segment>()));
    let head = fields!(Head: segments fetchers early epoch table fetched pieces along starts);
    assert_eq!(structure("Head"), (head, size_of::<Head>()));
}

#[test]
fn structures_have_no_fields_but_those() {
    for (name, count) in [("Segment", 18), ("Head", 9)] {
        let start = format!("struct {name} {{");
        let body = SOURCE.split_once(&start).unwrap().1.split_once("};").unwrap().0;
        let fields = body.lines().filter(|line| line.trim_start().starts_with('u'));
        assert_eq!(fields.count(), count, "{name}");
        assert_eq!(structure(name).0.len(), count, "{name}");
    }
}

#[test]
fn forms_and_numbers_are_the_same() {
    for (name, form) in [
        ("FORM_ROWS", Form::Rows),
        ("FORM_ROWS_16", Form::Rows16),
        ("FORM_PAIRS", Form::Pairs),
        ("FORM_RAGGED", Form::Ragged),
        ("FORM_WIDE", Form::Wide),
        ("FORM_OWN", Form::Own),
        ("FORM_EACH", Form::Each),
    ] {
        assert_eq!(number(name), form.code() as usize, "{name}");
    }
    assert_eq!(number("THREADS"), THREADS as usize);
    let numbers = [number("SEGMENTS"), number("SEGMENT_WORDS"), number("NEAR"), number("PIECE_WORDS")];
    assert_eq!(numbers, [SEGMENTS, SEGMENT_WORDS, NEAR, PIECE_WORDS]);
}
