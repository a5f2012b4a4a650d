//! The header of a file, before the format's own crate reads it: that crate keeps the last of two
//! tensors of one name, and adds sizes that it has not compared with the file.

#![forbid(unsafe_code)]

use core::{cell::Cell, fmt};
use std::collections::BTreeSet;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::FileError;

/// The bytes before the header: its length.
const LENGTH: usize = 8;

/// Refuses a header that does not fit into the file, names that are there twice, and tensors that
/// do not lie in the file.
pub(super) fn check(bytes: &[u8]) -> Result<(), FileError> {
    let text = |reason: &str| FileError::Header { reason: reason.to_owned() };
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(|| text("it has no length"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok();
    let (header, data) =
        length.and_then(|length| rest.split_at_checked(length)).ok_or_else(|| text("it is longer than the file"))?;
    let found = Cell::new(None);
    let entries = Entries { data: data.len(), begin: LENGTH.saturating_add(header.len()), found: &found };
    let answer = entries.deserialize(&mut serde_json::Deserializer::from_slice(header));
    match (found.take(), answer) {
        (Some(refused), _) => Err(refused),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(text(&error.to_string())),
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
}

impl Entries<'_> {
    fn deserialize<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tensors by name")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut entries: M) -> Result<(), M::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = entries.next_key::<String>()? {
            let offsets = if name == METADATA {
                entries.next_value::<IgnoredAny>()?;
                None
            } else {
                Some(entries.next_value::<Offsets>()?)
            };
            let refused = |offset: usize, reason| {
                let offset = self.begin.saturating_add(offset);
                self.found.set(Some(FileError::Entry { name: name.clone(), offset, reason }));
                <M::Error as serde::de::Error>::custom(reason)
            };
            if let Some(Offsets([from, to])) = offsets
                && (from > to || to > self.data)
            {
                return Err(refused(from, "does not lie in the file"));
            }
            if names.contains(&name) {
                return Err(refused(offsets.map_or(0, |Offsets([from, _])| from), "is there twice"));
            }
            names.insert(name);
        }
        Ok(())
    }
}

/// What is no tensor.
const METADATA: &str = "__metadata__";

/// Where the bytes of a tensor begin and end.
struct Offsets([usize; 2]);

impl<'de> Deserialize<'de> for Offsets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Entry {
            data_offsets: [usize; 2],
        }
        Ok(Offsets(Entry::deserialize(deserializer)?.data_offsets))
    }
}
