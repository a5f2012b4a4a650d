//! The example of files, on the file that Python's safetensors wrote.

use std::{fs, path::Path};

#[path = "../../examples/safetensors.rs"]
mod safetensors;

/// NumPy 2.4.6: `h = qkv.reshape(2, 3, 2, 2)`, then `h[:, 0].transpose(1, 0, 2) @ h[:, 1].transpose(1, 2, 0) @
/// h[:, 2].transpose(1, 0, 2)`, with its first two axes exchanged.
const OUT: [f32; 8] = [47.5, 50.25, 297.0, 312.75, 1145.5, 1211.25, 1713.0, 1803.75];

#[test]
fn loaded_split_stepped_and_saved() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/small.safetensors");
    let to = super::place("example");
    assert_eq!(safetensors::run(&from, &to).unwrap(), OUT);
    // What is saved, by the definition of the format.
    let saved = fs::read(&to).unwrap();
    fs::remove_file(&to).unwrap();
    let (length, rest) = saved.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let expected = r#"{"out":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}}"#;
    assert_eq!(str::from_utf8(header).unwrap().trim_end(), expected);
    assert_eq!(data, OUT.map(f32::to_le_bytes).as_flattened());
}

#[test]
fn a_file_that_is_no_such_file_says_why() {
    let (from, to) = (super::place("without"), super::place("never"));
    let header = r#"{"qkv":{"dtype":"F16","shape":[1,6],"data_offsets":[0,12]}}"#;
    fs::write(&from, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 12]].concat()).unwrap();
    let error = safetensors::run(&from, &to).unwrap_err().to_string();
    // The header has 59 bytes, so that the data are not aligned for F16.
    assert!(error.starts_with("the tensor `qkv`, 67 bytes into the file: "), "{error}");
    let header = format!("{header} ");
    fs::write(&from, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 12]].concat()).unwrap();
    let error = safetensors::run(&from, &to).unwrap_err().to_string();
    assert_eq!(error, "the tensor `qkv`: the elements of `tensor` are f16 where f32 is needed");
    fs::remove_file(&from).unwrap();
    assert!(!to.exists());
}
