//! The header of a file, before the format's own crate reads it.
//!
//! That crate keeps the last of two tensors of one name, adds sizes that it has not compared with
//! the file, and names no tensor in most of its errors. All that it refuses in a tensor is refused
//! here first, with the name.

#![forbid(unsafe_code)]

use core::{cell::Cell, fmt};
use std::collections::BTreeMap;

use safetensors::Dtype;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, MapAccess, Visitor, value},
};

use super::FileError;

/// The bytes before the header: its length.
const LENGTH: usize = 8;
/// What is no tensor.
pub(super) const METADATA: &str = "__metadata__";

/// Refuses a header that does not fit into the file, and tensors that are there twice, whose bytes
/// are not those of their shape, that overlap, or that leave bytes of the file out.
pub(super) fn check(bytes: &[u8]) -> Result<(), FileError> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(|| text("it has no length"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok();
    let (header, data) =
        length.and_then(|length| rest.split_at_checked(length)).ok_or_else(|| text("it is longer than the file"))?;
    let begin = LENGTH.saturating_add(header.len());
    let (found, at) = (Cell::new(None), Cell::new(None));
    let mut json = serde_json::Deserializer::from_slice(header);
    let entries = Entries { data: data.len(), begin, found: &found, at: &at };
    let answer = json.deserialize_map(entries).and_then(|entries| json.end().map(|()| entries));
    match (answer, found.take(), at.take()) {
        (Ok(entries), ..) => filled(&entries, begin, data.len()),
        (Err(_), Some(refused), _) => Err(refused),
        (Err(error), None, Some(name)) => {
            let offset = LENGTH.saturating_add(position(header, &error));
            Err(FileError::Malformed { name, offset, reason: error.to_string() })
        }
        (Err(error), None, None) => Err(text(&error.to_string())),
    }
}

fn text(reason: &str) -> FileError {
    FileError::Header { reason: reason.to_owned() }
}

/// Where in the header `error` was found.
fn position(header: &[u8], error: &serde_json::Error) -> usize {
    let before = header.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    before.fold(error.column(), |sum, line| sum.saturating_add(line.len())).min(header.len())
}

/// Where the bytes of each tensor begin and end, from the begin of the data.
type Places = BTreeMap<String, [usize; 2]>;

/// Refuses tensors that overlap, and data of no tensor.
fn filled(places: &Places, begin: usize, data: usize) -> Result<(), FileError> {
    let refused = |name: &str, offset: usize, reason| {
        Err(FileError::Entry { name: name.to_owned(), offset: begin.saturating_add(offset), reason })
    };
    let mut in_order: Vec<_> = places.iter().collect();
    in_order.sort_by_key(|(_, place)| **place);
    let (mut end, mut last) = (0, None);
    for (name, [from, to]) in in_order {
        if *from < end {
            return refused(name, *from, "overlaps the tensor before it");
        }
        if *from > end {
            return refused(name, *from, "lies behind bytes of no tensor");
        }
        (end, last) = (*to, Some(name));
    }
    match last {
        _ if end == data => Ok(()),
        Some(name) => refused(name, end, "ends before bytes of no tensor"),
        None => Err(text("it has no tensor, and the file has bytes behind it")),
    }
}

/// The entries of a header, each of which is looked at.
struct Entries<'c> {
    /// The bytes of all tensors.
    data: usize,
    /// Where they begin in the file.
    begin: usize,
    /// What was refused, with its name.
    found: &'c Cell<Option<FileError>>,
    /// The name of the entry that is being read.
    at: &'c Cell<Option<String>>,
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Places;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<Places, M::Error> {
        let (mut places, mut metadata) = (Places::new(), false);
        while let Some(name) = entries.next_key::<String>()? {
            self.at.set(Some(name.clone()));
            let (place, refused) = if name == METADATA {
                entries.next_value::<Option<BTreeMap<String, String>>>()?;
                let twice = core::mem::replace(&mut metadata, true);
                ([0, 0], twice.then_some(TWICE))
            } else {
                let entry = entries.next_value::<Entry>()?;
                let twice = places.contains_key(&name).then_some(TWICE);
                (entry.data_offsets, twice.or_else(|| entry.refused(self.data)))
            };
            self.at.set(None);
            if let Some(reason) = refused {
                let [from, _] = place;
                self.found.set(Some(FileError::Entry { name, offset: self.begin.saturating_add(from), reason }));
                return Err(M::Error::custom(reason));
            }
            if name != METADATA {
                places.insert(name, place);
            }
        }
        Ok(places)
    }
}

const TWICE: &str = "is there twice";

/// A tensor, as the header describes it.
#[derive(Deserialize)]
struct Entry {
    dtype: String,
    /// In values.
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Entry {
    /// Why the format has no such tensor in a file with `data` bytes of tensors.
    fn refused(&self, data: usize) -> Option<&'static str> {
        let [from, to] = self.data_offsets;
        if from > to || to > data {
            return Some("does not lie in the file");
        }
        let Ok(dtype) = Dtype::deserialize(value::StrDeserializer::<value::Error>::new(&self.dtype)) else {
            return Some("has elements of which the format has no name");
        };
        let values = self.shape.iter().copied().try_fold(1, usize::checked_mul);
        let Some(bits) = values.and_then(|values| values.checked_mul(dtype.bitsize())) else {
            return Some("has a shape of too many bytes");
        };
        if !bits.is_multiple_of(8) {
            return Some("does not end at a whole byte");
        }
        (Some(bits / 8) != to.checked_sub(from)).then_some("has more or fewer bytes than its shape")
    }
}
