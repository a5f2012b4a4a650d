//! Headers of files. What is accepted is compared with what `serde_json` reads.

use tidelock::file::{File, FileError};

/// The first byte says whether the others are a file, or a header whose length is written before
/// it and the bytes of tensors behind a zero byte.
pub fn run(input: &[u8]) -> String {
    let Some((kind, rest)) = input.split_first() else { return "nothing".into() };
    let mut bytes = Vec::new();
    if kind % 4 == 0 {
        bytes.extend(rest);
    } else {
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        let (header, data) = rest.split_at(end);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        // Mostly as many bytes as the tensors of the header have.
        let size = usize::from(*kind) / 4;
        bytes.extend(data.iter().skip(1).copied().chain(std::iter::repeat(1)).take(size));
    }
    // At a multiple of 8, as a mapped file.
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let bytes = &bytemuck::cast_slice::<u64, u8>(&words)[..bytes.len()];
    match File::new(bytes) {
        Err(error) => error.to_string().chars().filter(|c| !c.is_ascii_digit()).take(60).collect(),
        Ok(file) => accepted(&file, bytes),
    }
}

fn accepted(file: &File<'_>, bytes: &[u8]) -> String {
    let header = 8 + usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&bytes[8..header]).unwrap();
    let names: Vec<&str> = json.keys().map(String::as_str).filter(|name| *name != "__metadata__").collect();
    assert_eq!(file.names().len(), names.len(), "a name is there twice");
    let (mut places, mut reached) = (Vec::new(), String::from("ok"));
    for name in names {
        let offsets = field(&json[name], "data_offsets", 2).as_array().unwrap();
        let [from, to] = [0, 1].map(|at| usize::try_from(offsets[at].as_u64().unwrap()).unwrap());
        assert_eq!(file.bytes(name).unwrap(), &bytes[header + from..header + to], "{name}");
        places.push((from, to));
        match file.any(name) {
            Ok(view) => {
                let (dtype, layout) = (view.dtype(), view.layout());
                assert_eq!(layout.size() * dtype.group_bytes(), to - from, "{name}");
                assert_eq!(view.bytes().unwrap().as_slice(), &bytes[header + from..header + to], "{name}");
                let align = if dtype.group_bytes() == 3 { 1 } else { dtype.group_bytes() };
                assert!(view.as_ptr().addr().is_multiple_of(align), "{name}");
                let values: u64 =
                    field(&json[name], "shape", 1).as_array().unwrap().iter().map(|e| e.as_u64().unwrap()).product();
                assert_eq!(dtype.bytes(usize::try_from(values).unwrap()), Some(to - from), "{name}");
                reached += &format!(" {dtype}/{}", layout.axes());
            }
            Err(FileError::DType { .. }) => reached += " no dtype",
            Err(FileError::Tensor { offset, error, .. }) => {
                assert_eq!(offset, header + from, "{name}: {error}");
                reached +=
                    &format!(" {}", error.to_string().chars().filter(|c| !c.is_ascii_digit()).collect::<String>());
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    places.sort_unstable();
    let end = places.iter().fold(0, |end, (from, to)| {
        assert_eq!(end, *from, "a gap, or tensors that overlap");
        *to
    });
    assert_eq!(end, bytes.len() - header, "tensors do not fill the file");
    reached.chars().take(80).collect()
}

/// A field of an entry, which `serde` also reads from a list.
fn field<'j>(entry: &'j serde_json::Value, name: &str, place: usize) -> &'j serde_json::Value {
    entry.get(name).or_else(|| entry.get(place)).unwrap()
}
