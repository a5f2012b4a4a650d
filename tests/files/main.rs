//! Files of tensors: one that Python's safetensors wrote, what is written here, and hostile ones.

mod example;
mod load;
#[path = "../../benches/load/measure.rs"]
mod measure;

use std::{fs, path::PathBuf};

use tidelock::{
    Buffer, DType, Error, Result, View,
    any::{AnyView, TensorMap},
    element::{f4e2m1x2, f6e3m2x4, f8e4m3, u4x2},
    file::{Contents, File, FileError, Mapped, save, save_map},
    half::bf16,
    location::Host,
    sim::{self, Sim},
};

/// Bytes that begin at a multiple of 8, as those of a mapped file do.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

fn small() -> (Vec<u64>, usize) {
    let bytes = include_bytes!("small.safetensors");
    (aligned(bytes), bytes.len())
}

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tidelock-{}-{name}.safetensors", std::process::id()))
}

#[test]
fn a_file_of_python() {
    let (words, len) = small();
    let file = File::new(&bytemuck::cast_slice(&words)[..len]).unwrap();
    assert_eq!(file.names(), ["empty", "ids", "mask", "norm.weight", "qkv", "scales", "step"]);
    let qkv = file.get::<f32, 2>("qkv").unwrap();
    assert_eq!((qkv.shape(), qkv.get([1, 11])), ([2, 12], Ok(&11.5)));
    let weight = file.get::<bf16, 1>("norm.weight").unwrap();
    assert!(weight.iter().map(|x| x.to_f32()).eq([1.0, -2.5, 3.140625, bf16::from_f32(1e30).to_f32()]));
    assert!(file.get::<f8e4m3, 2>("scales").unwrap().iter().map(|x| x.to_f32()).eq([0.5, -448.0, 1.25]));
    assert!(file.get::<bool, 1>("mask").unwrap().iter().eq(&[true, false, true]));
    assert!(file.get::<i64, 2>("ids").unwrap().iter().eq(&[-1, 1 << 40]));
    assert_eq!(file.get::<u32, 0>("step").unwrap().get([]), Ok(&7));
    assert_eq!(file.any("empty").unwrap().to_string(), "f16 (0,4):(4,1)");
    assert_eq!(file.bytes("mask").unwrap(), [1, 0, 1]);
    let missing = file.any("norm").unwrap_err().to_string();
    let there = "there is no tensor `norm` in the file; there are: `empty`, `ids`, `mask`, `norm.weight`, `qkv`, `scales`, `step`";
    assert_eq!(missing, there);
    let wrong = file.get::<bf16, 2>("qkv").unwrap_err();
    let element = Error::Element { operand: "tensor", expected: "bf16", found: "f32" };
    assert!(matches!(&wrong, FileError::Tensor { name, error, .. } if name == "qkv" && *error == element));
    assert!(wrong.to_string().starts_with("the tensor `qkv`, "));
}

#[test]
fn loaded_split_stepped_and_saved() {
    let (words, len) = small();
    let file = File::new(&bytemuck::cast_slice(&words)[..len]).unwrap();
    let path = place("step");
    let host = sim::Device::new(sim::Options::quick().race_detector(true))
        .stream(|mut stream, _env| -> Result<Vec<f32>> {
            let ctx = stream.ctx().with_pool();
            let qkv = file.get::<f32, 2>("qkv").expect("in the file");
            let device = ctx.upload_new(qkv.contiguous()?.as_slice())?.tensor(qkv.shape())?;
            let (_, kv) = device.view().split_at(1, 4)?;
            let (k, _v) = kv.split_at(1, 4)?;
            // A step that turns k of two tokens and two heads of two.
            let heads = k.view([2, 2, 2])?.permute([1, 0, 2])?;
            let out = ctx.init_tensor(ctx.alloc::<f32>(8)?.tensor([2, 2, 2])?, heads)?;
            stream.read(out.buffer().view())
        })
        .unwrap()
        .unwrap();
    assert_eq!(host, [2.0, 2.5, 8.0, 8.5, 3.0, 3.5, 9.0, 9.5]);
    let k = View::from(&host[..]).tensor([2, 2, 2]).unwrap();
    save(&path, [("k", k.any()), ("mask", file.any("mask").unwrap())]).unwrap();
    // SAFETY: nothing else uses the file.
    let mapped = unsafe { Mapped::open(&path) }.unwrap();
    let again = mapped.file().unwrap();
    assert!(again.get::<f32, 3>("k").unwrap().iter().eq(&host));
    assert_eq!((again.names(), mapped.bytes().len() > 8), (vec!["k", "mask"], true));
    fs::remove_file(path).unwrap();
}

#[test]
fn what_is_written_is_what_is_read() {
    let path = place("round");
    let f4 = [f4e2m1x2::from_f32([0.5, 6.0]), f4e2m1x2::from_f32([-1.0, 2.0])];
    let f6 = [f6e3m2x4::from_f32([28.0, -0.25, 0.0, 1.0])];
    let (f4, f6) = (View::from(&f4[..]).tensor([1, 2]).unwrap(), View::from(&f6[..]).tensor([1]).unwrap());
    let (scalar, none) = ([3_u8], [0.0_f64; 0]);
    let scalar = View::from(&scalar[..]).tensor([]).unwrap();
    let none = View::from(&none[..]).tensor([3, 0]).unwrap();
    save(&path, [("f4", f4.any()), ("f6", f6.any()), ("scalar", scalar.any()), ("none", none.any())]).unwrap();
    let contents = Contents::read(&path).unwrap();
    assert_eq!(contents.bytes(), fs::read(&path).unwrap());
    let file = contents.file().unwrap();
    assert!(file.get::<f4e2m1x2, 2>("f4").unwrap().iter().eq(f4.iter()));
    assert!(file.get::<f6e3m2x4, 1>("f6").unwrap().iter().eq(f6.iter()));
    assert_eq!(file.get::<u8, 0>("scalar").unwrap().get([]), Ok(&3));
    assert_eq!(file.get::<f64, 2>("none").unwrap().shape(), [3, 0]);
    fs::remove_file(path).unwrap();
}

#[test]
fn a_map_of_the_host_is_written() {
    let path = place("map");
    sim::Device::default()
        .stream(|stream, _env| {
            let (words, len) = small();
            let file = File::new(&bytemuck::cast_slice(&words)[..len]).unwrap();
            let mut map = TensorMap::<Sim<'_>>::new();
            map.produce("ids", file.get::<i64, 2>("ids").unwrap()).unwrap();
            map.produce("sums", Buffer::<f32, Host>::from_slice(&[1.5, 2.5]).unwrap().tensor([2, 1]).unwrap()).unwrap();
            save_map(&path, &map).unwrap();
            let contents = Contents::read(&path).unwrap();
            let again = contents.file().unwrap();
            assert_eq!(again.names(), ["ids", "sums"]);
            assert_eq!(again.bytes("ids").unwrap(), file.bytes("ids").unwrap());
            assert_eq!(again.bytes("sums").unwrap(), [0, 0, 0xc0, 0x3f, 0, 0, 0x20, 0x40]);
            // One of the device is refused, and the file stays.
            map.produce("logits", stream.ctx().with_pool().zeros::<f32>(4).unwrap().tensor([4]).unwrap()).unwrap();
            let error = save_map(&path, &map).unwrap_err().to_string();
            assert!(error.starts_with("the tensor `logits` cannot be written: "), "{error}");
            assert!(error.ends_with("is not on the host: read it back first"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), contents.bytes());
        })
        .unwrap();
    fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_written() {
    let path = place("refused");
    let values = Buffer::<f32, Host>::from_fn(6, |i| i as f32).unwrap();
    let tensor = values.view().tensor([2, 3]).unwrap();
    let turned = tensor.transpose(0, 1).unwrap();
    let error = save(&path, [("t", turned.any())]).unwrap_err();
    assert!(matches!(error, FileError::Unwritten { error: Error::NotContiguous { .. }, .. }), "{error}");
    let error = save(&path, [("t", tensor.any()), ("t", tensor.any())]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the tensor `t` cannot be written: a tensor that was asked for by its name is there twice"
    );
    let nibbles = [u4x2::new([1, 2]).unwrap()];
    let nibbles = View::from(&nibbles[..]).tensor([1]).unwrap();
    assert!(matches!(save(&path, [("t", nibbles.any())]), Err(FileError::Unwritten { .. })));
    let f4 = [f4e2m1x2::from_f32([1.0, 1.0])];
    let scalar = View::from(&f4[..]).tensor([]).unwrap();
    assert!(matches!(save(&path, [("t", scalar.any())]), Err(FileError::Unwritten { error: Error::Rank { .. }, .. })));
    assert!(matches!(save("/nowhere/at/all", [("t", tensor.any())]), Err(FileError::Io(_))));
    assert!(!path.exists());
    assert!(matches!(Contents::read("/nowhere/at/all"), Err(FileError::Io(_))));
    // SAFETY: there is no such file.
    assert!(matches!(unsafe { Mapped::open("/nowhere/at/all") }, Err(FileError::Io(_))));
}

/// A file with this header and so many bytes of data, at an address that is `odd` bytes behind a
/// multiple of 8.
fn hostile(header: &str, data: &[u8], odd: usize, test: impl FnOnce(Result<File<'_>, FileError>)) {
    let mut bytes = vec![0; odd];
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    let words = aligned(&bytes);
    test(File::new(&bytemuck::cast_slice(&words)[odd..bytes.len()]));
}

#[test]
fn hostile_headers() {
    let one = |dtype: &str, shape: &str, from: &str, to: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    // The tensor with its name, and the offset of its bytes.
    let named = |header: &str, data: usize, (name, offset): (&str, usize), expected: &str| {
        hostile(header, &vec![0; data], 0, |file| {
            let error = file.expect_err(header);
            let text = format!("the tensor `{name}`, {} bytes into the file, {expected}", 8 + header.len() + offset);
            assert_eq!(error.to_string(), text, "{header}");
            assert!(matches!(error, FileError::Entry { .. }));
        });
    };
    let outside = "does not lie in the file";
    named(&one("F32", "[2]", "0", "8"), 7, ("a", 0), outside); // truncated data
    named(&one("F32", "[2]", "8", "0"), 8, ("a", 8), outside); // reversed
    named(&one("F32", "[2]", "0", "18446744073709551615"), 8, ("a", 0), outside);
    named(&one("F32", "[2]", "0", "8"), 9, ("a", 8), "ends before bytes of no tensor");
    named(&one("F32", "[2]", "4", "12"), 12, ("a", 4), "lies behind bytes of no tensor");
    let size = "has more or fewer bytes than its shape";
    named(&one("F32", "[3]", "0", "8"), 8, ("a", 0), size);
    named(&one("F32", "[0,3]", "0", "8"), 8, ("a", 0), size);
    let many = "has a shape of too many bytes";
    named(&one("F32", "[18446744073709551615,2]", "0", "8"), 8, ("a", 0), many);
    named(&one("F64", "[4611686018427387904]", "0", "8"), 8, ("a", 0), many);
    named(&one("F4", "[3]", "0", "2"), 2, ("a", 0), "does not end at a whole byte");
    for dtype in ["Q8", "f32", "", "BOOLEAN"] {
        named(&one(dtype, "[2]", "0", "8"), 8, ("a", 0), "has elements of which the format has no name");
    }
    let two = |a: (u8, u8), b: (u8, u8)| {
        let of =
            |(from, to): (u8, u8)| format!(r#"{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from);
        format!(r#"{{"a":{},"b":{}}}"#, of(a), of(b))
    };
    named(&two((0, 5), (4, 8)), 8, ("b", 4), "overlaps the tensor before it");
    named(&two((0, 8), (2, 4)), 8, ("b", 2), "overlaps the tensor before it");
    named(&two((2, 8), (0, 4)), 8, ("a", 2), "overlaps the tensor before it");
    named(&two((0, 8), (0, 8)), 8, ("b", 0), "overlaps the tensor before it");
    named(&two((0, 4), (5, 8)), 8, ("b", 5), "lies behind bytes of no tensor");
    // Of two with one name, the first would leave a gap.
    named(&two((0, 4), (4, 8)).replace("\"b\"", "\"a\""), 8, ("a", 4), "is there twice");
    // The library of the format would keep the second, and its sum of these sizes overflows.
    let entry = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#""a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let twice = format!("{{{},{}}}", entry("F32", "[2]", 0, 8), entry("I64", "[1]", 0, 8));
    named(&twice, 8, ("a", 0), "is there twice");
    let twice = format!("{{{},{}}}", entry("U8", "[0]", 0, 0), entry("U8", "[8]", 0, 8));
    named(&twice, 8, ("a", 0), "is there twice");
    named(r#"{"__metadata__":{},"__metadata__":{}}"#, 8, ("__metadata__", 0), "is there twice");
    let most = (1_u64 << 61) - 1;
    let mut all = entry("U8", &format!("[{most}]"), 0, most);
    for i in 1..8_u64 {
        let more = entry("U8", &format!("[{most}]"), i * most, (i + 1) * most).replace("\"a\"", &format!("\"b{i}\""));
        all = format!("{all},{more}");
    }
    named(&format!("{{{all}}}"), 8, ("a", 0), outside);
}

#[test]
fn entries_that_cannot_be_read_are_named() {
    for (entry, stops) in [
        (r#"{"dtype":"F32","shape":[-2"#, "invalid value: integer `-2`, expected usize"),
        (r#"{"dtype":"F32","shape":[2.5"#, "invalid type: floating point `2.5`, expected usize"),
        (r#"{"dtype":"F32","shape":[18446744073709551616"#, "invalid type: floating point"),
        (r#"{"dtype":"F32","shape":2"#, "invalid type: integer `2`, expected a sequence"),
        (r#"{"dtype":7"#, "invalid type: integer `7`, expected a string"),
        (r#"{"dtype":"F32","shape":[2],"data_offsets":[0]"#, "invalid length 1, expected an array of length 2"),
        (r#"{"dtype":"F32","shape":[2],"shape""#, "duplicate field `shape`"),
        (r#"{"dtype":"F32","shape":[2]}"#, "missing field `data_offsets`"),
        ("3", "invalid type: integer `3`, expected struct"),
        ("[\n 1", "invalid type: integer `1`, expected a string"),
    ] {
        // The second entry of a header in two lines.
        let first = "{\n\"b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\n\"a\":";
        hostile(&format!("{first}{entry}"), &[0; 8], 0, |file| {
            let error = file.expect_err(entry);
            let FileError::Malformed { name, offset, reason } = error else { panic!("{entry}: {error}") };
            assert_eq!(name, "a");
            assert!(reason.starts_with(stops), "{reason}");
            assert!((offset - 8).abs_diff(first.len() + entry.len()) <= 1, "{entry}: {offset}");
        });
    }
    hostile(r#"{"__metadata__":{"format":3}}"#, &[], 0, |file| {
        let error = file.unwrap_err();
        assert!(matches!(&error, FileError::Malformed { name, .. } if name == "__metadata__"));
        assert!(
            error.to_string().starts_with("the entry `__metadata__` of the header, up to 35 bytes into the file: ")
        );
    });
    hostile(r#"{"__metadata__":null}"#, &[], 0, |file| assert!(file.unwrap().names().is_empty()));
}

#[test]
fn headers_that_are_none() {
    for (header, data) in
        [("{", 0), ("[]", 0), ("\u{0}", 0), ("", 0), ("{} {}", 0), ("{}", 1), ("{}\u{0}", 0), ("{,}", 0)]
    {
        hostile(header, &vec![0; data], 0, |file| {
            let error = file.expect_err(header);
            assert!(matches!(error, FileError::Header { .. }), "{header}: {error}");
            assert!(error.to_string().starts_with("the header of the file: "), "{error}");
        });
    }
    for bytes in [&[][..], &[1, 2, 3], &[255; 8], &[16, 0, 0, 0, 0, 0, 0, 0, b'{']] {
        assert!(matches!(File::new(bytes), Err(FileError::Header { .. })), "{bytes:?}");
    }
}

#[test]
fn tensors_that_are_not_what_they_say() {
    let tensor = |dtype: &str, shape: &str, len: usize| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{len}]}}}}"#)
    };
    let refused = |header: String, data: &[u8], odd: usize, expected: fn(&Error) -> bool| {
        hostile(&header, data, odd, |file| {
            let error = file.unwrap().any("a").unwrap_err();
            let FileError::Tensor { name, offset, error } = error else { panic!("{error}") };
            assert!(name == "a" && offset == 8 + header.len() && expected(&error), "{offset} {error}");
        });
    };
    refused(tensor("BOOL", "[2]", 2), &[1, 2], 0, |error| *error == Error::NotAValue { operand: "view", position: 1 });
    // The header has 51 bytes, or begins at an odd address: the data are not aligned.
    refused(tensor("F32", "[1]", 4), &[0; 4], 3, |error| matches!(error, Error::Reinterpret { .. }));
    refused(tensor("U8", "[1,1,1,1,1,1,1,1,1]", 1), &[0], 0, |error| matches!(error, Error::Rank { .. }));
    refused(tensor("F4", "[2,1]", 1), &[0], 0, |error| matches!(error, Error::Length { .. }));
    hostile(&tensor("C64", "[1]", 8), &[0; 8], 0, |file| {
        let file = file.unwrap();
        assert!(matches!(file.any("a"), Err(FileError::DType { found, .. }) if found == "C64"));
        assert_eq!(file.bytes("a").unwrap().len(), 8);
    });
}

#[test]
fn bytes_are_looked_at() {
    let bytes = View::from(&[1_u8, 0, 1][..]);
    assert_eq!(AnyView::from_bytes(DType::Bool, &[3], bytes).unwrap().to_string(), "bool (3):(1)");
    let length = Error::Length { operand: "bytes", expected: 2, found: 3 };
    assert_eq!(AnyView::from_bytes(DType::U8, &[2], bytes).unwrap_err(), length);
    assert!(AnyView::from_bytes(DType::F32, &[usize::MAX, 2], bytes).is_err());
    assert!(AnyView::from_bytes(DType::F32, &[1 << 62], bytes).is_err());
    assert_eq!(AnyView::from_bytes(DType::F64, &[0], View::from(&[][..])).unwrap().layout().size(), 0);
}

#[test]
fn a_tensor_that_is_called_as_what_is_none() {
    let path = place("metadata");
    let values = [1_u8];
    let tensor = View::from(&values[..]).tensor([1]).unwrap();
    // The file could be written, and not be read again.
    let error = save(&path, [("__metadata__", tensor.any())]).unwrap_err();
    assert!(matches!(&error, FileError::Unwritten { name, .. } if name == "__metadata__"), "{error}");
    assert!(!path.exists());
    save(&path, [("", tensor.any()), ("a\"\\\u{0}\n", tensor.any())]).unwrap();
    let contents = Contents::read(&path).unwrap();
    assert_eq!(contents.file().unwrap().names(), ["", "a\"\\\u{0}\n"]);
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_of_no_bytes_and_one_of_more_than_there_is_memory() {
    let path = place("sparse");
    let file = fs::File::create(&path).unwrap();
    assert!(matches!(Contents::read(&path).unwrap().file(), Err(FileError::Header { .. })));
    // SAFETY: nothing else uses the file.
    let mapped = unsafe { Mapped::open(&path) }.unwrap();
    assert!(mapped.bytes().is_empty() && matches!(mapped.file(), Err(FileError::Header { .. })));
    drop(mapped);
    // A length of which only the last byte takes place on the disk: no abort.
    if file.set_len(1 << 43).is_ok() {
        assert!(matches!(Contents::read(&path), Err(FileError::Io(_))));
    }
    let step = 1_u64 << 18;
    for len in [step - 1, step, step + 1, 2 * step + 9] {
        file.set_len(len).unwrap();
        assert_eq!(Contents::read(&path).unwrap().bytes(), fs::read(&path).unwrap());
    }
    fs::remove_file(path).unwrap();
}
