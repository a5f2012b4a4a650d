//! Tensors of files on a device: through pinned pieces, and from page-locked files.

use std::{
    num::NonZero,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tidelock::{
    Error, Stream,
    any::{AnyView, TensorMap, Value},
    driver::{Backend, Code},
    element::f8e4m3,
    file::{File, FileError},
    half::bf16,
    location::Host,
    sim::{self, Call, Fault, Sim, SimBackend},
};

use super::{aligned, hostile, small};

/// A file of many elements, sizes and orders: its bytes, and the name, the element, the shape and
/// the bytes of each tensor, which the test draws.
struct Drawn {
    words: Vec<u64>,
    len: usize,
    tensors: Vec<(String, &'static str, Vec<usize>, Vec<u8>)>,
}

/// The names of the format, and the bits of a value.
const ELEMENTS: [(&str, usize); 19] = [
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
    ("F32", 32),
    ("I32", 32),
    ("U32", 32),
    ("F16", 16),
    ("BF16", 16),
    ("I16", 16),
    ("U16", 16),
    ("U8", 8),
    ("I8", 8),
    ("F8_E4M3", 8),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("BOOL", 8),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("F4", 4),
];

fn drawn(seed: u64) -> Drawn {
    let mut state = seed;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut header, mut data, mut tensors) = (String::new(), Vec::new(), Vec::new());
    // The larger elements first, so that all are aligned.
    for (i, (element, bits)) in ELEMENTS.into_iter().flat_map(|element| [element; 3]).enumerate() {
        let size = [0, 1, 5, 20, 300][next(5) as usize] as usize;
        let shape = [size, 3, 1 + next(3) as usize, 4];
        let len = shape.iter().product::<usize>() * bits / 8;
        let mut bytes: Vec<u8> = (0..len).map(|_| next(if element == "BOOL" { 2 } else { 256 }) as u8).collect();
        let from = data.len();
        data.append(&mut bytes.clone());
        let name = format!("{}.{i}", next(100));
        header +=
            &format!(r#""{name}":{{"dtype":"{element}","shape":{shape:?},"data_offsets":[{from},{}]}},"#, data.len());
        tensors.push((name, element, shape.to_vec(), std::mem::take(&mut bytes)));
    }
    let mut header = format!("{{{}}}", header.trim_end_matches(','));
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(data);
    Drawn { words: aligned(&bytes), len: bytes.len(), tensors }
}

impl Drawn {
    fn file(&self) -> File<'_> {
        File::new(&bytemuck::cast_slice(&self.words)[..self.len]).unwrap()
    }
}

fn device() -> sim::Device {
    sim::Device::new(sim::Options::default().race_detector(true))
}

fn count(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// The bytes of a tensor of the device.
fn read<'s>(stream: &mut Stream<Sim<'s>>, view: AnyView<'_, Sim<'s>>) -> Vec<u8> {
    stream.read(view.bytes().unwrap()).unwrap()
}

/// Compares what was loaded with what was drawn.
fn compare<'s>(stream: &mut Stream<Sim<'s>>, map: &TensorMap<'_, Sim<'s>>, drawn: &Drawn, only: Option<&str>) {
    let expected = drawn.tensors.iter().filter(|tensor| only.is_none_or(|part| tensor.0.contains(part)));
    assert_eq!(map.len(), expected.clone().count());
    for (name, element, shape, bytes) in expected {
        let view = map.any::<Sim<'_>>(name).unwrap();
        assert_eq!(&read(stream, view), bytes, "{name} {element} {shape:?}");
        assert_eq!(view.dtype(), element.parse().unwrap());
        // Groups fill bytes: four values of 6 bits, two of 4.
        let group = match *element {
            "F6_E2M3" | "F6_E3M2" => 4,
            "F4" => 2,
            _ => 1,
        };
        assert_eq!(view.layout().shape(), [shape[0], shape[1], shape[2], shape[3] / group]);
    }
}

#[test]
fn loaded_as_it_is_in_the_file() {
    let (device, drawn) = (device(), drawn(1));
    let file = drawn.file();
    device
        .stream(|mut stream, _env| {
            for (threads, pinned) in [(1, 0), (1, 512), (2, 4096), (3, 1000), (4, 16 << 10), (8, 2049), (8, 48 << 20)] {
                let ctx = stream.ctx();
                let map = file.load().threads(count(threads)).pinned_bytes(pinned).through_ring(&ctx).unwrap();
                compare(&mut stream, &map, &drawn, None);
            }
            let map = file.load().registered(&mut stream).unwrap();
            compare(&mut stream, &map, &drawn, None);
            let names: Vec<_> = file.names().into_iter().filter(|name| name.contains('7')).collect();
            assert!(names.len() > 3);
            let map = file
                .load()
                .only(names.iter().copied().chain(names.iter().copied()))
                .through_ring(&stream.ctx())
                .unwrap();
            compare(&mut stream, &map, &drawn, Some("7"));
            let map = file.load().only(names).registered(&mut stream).unwrap();
            compare(&mut stream, &map, &drawn, Some("7"));
            assert!(file.load().only([""; 0]).through_ring(&stream.ctx()).unwrap().is_empty());
            assert!(file.load().only([""; 0]).registered(&mut stream).unwrap().is_empty());
        })
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
    assert!(device.gpu().report().is_clean());
}

#[test]
fn a_file_of_python_on_the_device() {
    let (words, len) = small();
    let file = File::new(&bytemuck::cast_slice(&words)[..len]).unwrap();
    let device = device();
    device
        .stream(|mut stream, _env| {
            for ring in [true, false] {
                let mut map = match ring {
                    true => file.load().pinned_bytes(512).through_ring(&stream.ctx()).unwrap(),
                    false => file.load().registered(&mut stream).unwrap(),
                };
                let qkv = map.consume_tensor::<f32, Sim<'_>, 2>("qkv").unwrap();
                let expected: Vec<f32> = (0..24_u8).map(|i| f32::from(i) / 2.0).collect();
                assert_eq!((stream.read(qkv.buffer().view()).unwrap(), qkv.shape()), (expected, [2, 12]));
                let norm = map.consume_tensor::<bf16, Sim<'_>, 1>("norm.weight").unwrap();
                assert_eq!(stream.read(norm.buffer().view()).unwrap()[2].to_f32(), 3.140625);
                let scales = map.consume_tensor::<f8e4m3, Sim<'_>, 2>("scales").unwrap();
                assert_eq!(stream.read(scales.buffer().view()).unwrap()[1].to_f32(), -448.0);
                let mask = map.consume_tensor::<bool, Sim<'_>, 1>("mask").unwrap();
                assert_eq!(stream.read(mask.buffer().view()).unwrap(), [true, false, true]);
                let step = map.consume_tensor::<u32, Sim<'_>, 0>("step").unwrap();
                assert_eq!(stream.read(step.buffer().view()).unwrap(), [7]);
                assert!(matches!(map.consume("empty"), Ok(Value::DeviceOwned(_))));
                assert!(map.get::<i64, Host, 2>("ids").is_err());
            }
        })
        .unwrap();
    assert!(device.gpu().report().is_clean());
}

#[test]
fn the_progress_is_shown_and_may_end_the_load() {
    let (device, drawn) = (device(), drawn(2));
    let file = drawn.file();
    let all: usize = drawn.tensors.iter().map(|tensor| tensor.3.len()).sum();
    device
        .stream(|mut stream, _env| {
            for ring in [true, false] {
                let mut load = |progress: &mut dyn FnMut(tidelock::file::Progress<'_>) -> ControlFlow<()>| {
                    let load = file.load().pinned_bytes(1024).progress(progress);
                    if ring { load.through_ring(&stream.ctx()) } else { load.registered(&mut stream) }
                };
                let mut seen = Vec::new();
                let answer = load(&mut |now| {
                    assert_eq!(now.total, all);
                    seen.push((now.name.to_owned(), now.done));
                    ControlFlow::Continue(())
                });
                assert_eq!((answer.unwrap().len(), seen.last().unwrap().1), (drawn.tensors.len(), all));
                assert!(seen.is_sorted_by(|a, b| a.1 < b.1));
                // The last answer for a tensor counts all tensors up to it.
                let mut sum = 0;
                for (name, _, _, bytes) in drawn.tensors.iter().filter(|tensor| !tensor.3.is_empty()) {
                    sum += bytes.len();
                    assert_eq!(seen.iter().rfind(|(seen, _)| seen == name).unwrap().1, sum);
                }
                for stop in [0, 1, seen.len() / 2, seen.len() - 1] {
                    let mut calls = 0;
                    let answer = load(&mut |_| {
                        calls += 1;
                        if calls > stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    });
                    let (name, done) = seen[stop].clone();
                    let error = answer.unwrap_err();
                    let text = format!("the load was stopped in the tensor `{name}`, behind {done} of {all} bytes");
                    assert_eq!((error.to_string(), calls), (text, stop + 1));
                    let panicked = catch_unwind(AssertUnwindSafe(|| {
                        load(&mut |now| {
                            if now.done == done {
                                std::panic::resume_unwind(Box::new(()))
                            } else {
                                ControlFlow::Continue(())
                            }
                        })
                    }));
                    assert!(panicked.is_err());
                }
                stream.synchronize().unwrap();
                assert_eq!(device.gpu().report().allocations, 0);
            }
        })
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
    assert!(device.gpu().report().is_clean());
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"C64","shape":[1],"data_offsets":[4,12]},"m":{"dtype":"BOOL","shape":[2],"data_offsets":[12,14]}}"#;
    let device = device();
    let mut data = [0; 14];
    data[13] = 2;
    hostile(header, &data, 0, |file| {
        let file = file.unwrap();
        let at = 8 + header.len();
        let (loaded, _) = device.stream(|stream, _env| {
            let error = file.load().through_ring(&stream.ctx()).unwrap_err();
            assert!(matches!(error, FileError::DType { name, found } if name == "b" && found == "C64"));
            let error = file.load().only(["a", "m"]).through_ring(&stream.ctx()).unwrap_err();
            let value = Error::NotAValue { operand: "view", position: 1 };
            assert!(matches!(error, FileError::Tensor { name, offset, error } if name == "m" && offset == at + 12 && error == value));
            let error = file.load().only(["a", "c"]).through_ring(&stream.ctx()).unwrap_err();
            assert!(matches!(error, FileError::Missing { name, .. } if name == "c"));
            (file.load().only(["a"]).through_ring(&stream.ctx()).unwrap().len(), ())
        }).unwrap();
        assert_eq!(loaded, 1);
    });
    let none = device.gpu().counts().of(Call::MemHostRegister);
    assert_eq!(none, 0);
}

#[test]
fn a_device_without_memory_names_the_tensor() {
    let drawn = drawn(3);
    let file = drawn.file();
    let last = drawn.tensors.iter().rfind(|tensor| !tensor.3.is_empty()).unwrap();
    let all = drawn.tensors.iter().filter(|tensor| !tensor.3.is_empty()).count() as u64;
    for ring in [true, false] {
        let device = device();
        device
            .stream(|mut stream, _env| {
                let fault = Fault {
                    nth: all,
                    onwards: true,
                    call: Some(Call::MemAllocFromPoolAsync),
                    code: Code::OUT_OF_MEMORY,
                };
                device.gpu().fail(fault);
                let error = match ring {
                    true => file.load().pinned_bytes(4096).through_ring(&stream.ctx()).unwrap_err(),
                    false => file.load().registered(&mut stream).unwrap_err(),
                };
                device.gpu().disarm();
                let FileError::Tensor { name, offset, error } = error else { panic!("{error}") };
                assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
                assert_eq!((name.as_str(), offset), (last.0.as_str(), drawn.len - last.3.len()));
                // The stream is usable, and what was loaded is freed.
                let map = file.load().through_ring(&stream.ctx()).unwrap();
                compare(&mut stream, &map, &drawn, None);
            })
            .unwrap();
        assert!(device.gpu().report().is_clean());
    }
}

#[test]
fn streams_of_two_threads_load_one_file() {
    let drawn = drawn(4);
    let file = drawn.file();
    let device = device();
    std::thread::scope(|scope| {
        for threads in [1, 3] {
            let (device, file, drawn) = (&device, &file, &drawn);
            scope.spawn(move || {
                device.stream(|mut stream, _env| {
                    for _ in 0..5 {
                        let map =
                            file.load().threads(count(threads)).pinned_bytes(2000).through_ring(&stream.ctx()).unwrap();
                        compare(&mut stream, &map, drawn, None);
                    }
                })
            });
        }
    });
    assert_eq!(device.gpu().check(), Ok(()));
    assert!(device.gpu().report().is_clean());
}

/// The benchmark of loads, on a file of 64 MiB.
#[test]
fn the_benchmark_loads_what_it_writes() {
    let path = super::place("measured");
    let device = sim::Device::new(sim::Options::quick());
    let table = device.stream(|mut stream, _env| super::measure::table(&mut stream, &path, 64).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let rows: Vec<Vec<&str>> =
        table.lines().filter(|line| line.starts_with("| r")).map(|line| line.split(" | ").collect()).collect();
    assert_eq!(rows.len(), 4, "{table}");
    for row in rows {
        let locked: f64 = row[5].parse().unwrap();
        assert!(row[7] == "true |" && locked < 64.0, "{table}");
    }
    println!("{table}");
}

#[test]
fn pages_that_are_locked_already_are_refused() {
    let (one, other) = (device(), drawn(5));
    let file = other.file();
    one.stream(|mut a, _env| {
        one.stream(|mut b, _env| {
            let mut refused = 0;
            let map = file.load().progress(|_| {
                // The other stream loads the same file meanwhile: its pages are locked.
                let error = file.load().registered(&mut b).unwrap_err();
                assert!(matches!(error, FileError::Load { error: Error::Driver(why) } if why.code == Code::HOST_MEMORY_ALREADY_REGISTERED));
                refused += 1;
                if refused == 3 {
                    let map = file.load().pinned_bytes(512).through_ring(&b.ctx()).unwrap();
                    compare(&mut b, &map, &other, None);
                }
                ControlFlow::Continue(())
            });
            let map = map.registered(&mut a).unwrap();
            compare(&mut a, &map, &other, None);
            assert!(refused > 3);
            let map = file.load().registered(&mut b).unwrap();
            compare(&mut b, &map, &other, None);
        })
    })
    .unwrap()
    .unwrap();
    assert_eq!(one.gpu().report().registered, 0);
    assert!(one.gpu().report().is_clean());
}

#[test]
fn loads_inside_of_loads() {
    let (device, drawn) = (device(), drawn(6));
    let file = drawn.file();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx();
            let mut kept = Vec::new();
            let outer = file.load().pinned_bytes(2048).progress(|now| {
                if kept.len() < 3 && now.done > 0 {
                    kept.push(file.load().pinned_bytes(600).through_ring(&ctx).unwrap());
                    // A load that is forgotten keeps its memory, and nothing else.
                    std::mem::forget(file.load().only(["none"]));
                }
                ControlFlow::Continue(())
            });
            let last = outer.through_ring(&ctx).unwrap();
            kept.push(last);
            kept.iter().for_each(|map| compare(&mut stream, map, &drawn, None));
        })
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
    assert!(device.gpu().report().is_clean());
}

#[test]
fn shapes_that_have_no_layout_are_named() {
    let device = device();
    for (shape, len) in [("[0,9223372036854775807]", 0), ("[1,1,1,1,1,1,1,1,1]", 1), ("[0,18446744073709551615]", 0)] {
        let header = format!(r#"{{"a":{{"dtype":"U8","shape":{shape},"data_offsets":[0,{len}]}}}}"#);
        hostile(&header, &vec![0; len], 0, |file| {
            let file = file.unwrap();
            device
                .stream(|mut stream, _env| {
                    for answer in [file.load().through_ring(&stream.ctx()), file.load().registered(&mut stream)] {
                        match answer {
                            Ok(map) => assert_eq!(map.any::<Sim<'_>>("a").unwrap().layout().size(), 0),
                            Err(error) => assert!(matches!(error, FileError::Tensor { name, .. } if name == "a")),
                        }
                    }
                })
                .unwrap();
        });
    }
    assert!(device.gpu().report().is_clean());
}

/// No more pinned memory is used than was asked for, whatever that is. The pool is that of the
/// process, so that the test has one of its own.
#[test]
fn pinned_memory_is_bounded() {
    const ALONE: &str = "TIDELOCK_TEST_ALONE";
    if std::env::var(ALONE).is_err() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "load::pinned_memory_is_bounded"]).env(ALONE, "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let zeros = vec![0_u8; 9 << 20];
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, zeros.len());
    hostile(&header, &zeros, 0, |file| {
        let file = file.unwrap();
        for pinned in [4 << 20, (5 << 20) + 77, 3 << 20, 1_300_000, 8 << 20] {
            let device = sim::Device::new(sim::Options::quick());
            device
                .stream(|stream, _env| {
                    let (mut most, before) = (0, SimBackend::PINNED.usage().used);
                    let now = |_: tidelock::file::Progress<'_>| {
                        most = most.max(SimBackend::PINNED.usage().used - before);
                        ControlFlow::Continue(())
                    };
                    file.load().pinned_bytes(pinned).progress(now).through_ring(&stream.ctx()).unwrap();
                    assert!(most <= pinned && most > pinned / 3, "{most} of {pinned}");
                })
                .unwrap();
        }
    });
}

/// The progress is ahead of the device by the bytes that are documented at most: what is in flight
/// then is waited for, which is refused here.
#[test]
fn the_progress_is_bounded() {
    let zeros = vec![0_u8; 72 << 20];
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, zeros.len());
    hostile(&header, &zeros, 0, |file| {
        let file = file.unwrap();
        for (ring, most) in [(true, 8 << 20), (false, 48 << 20)] {
            let device = sim::Device::new(sim::Options::quick());
            device
                .stream(|mut stream, _env| {
                    let code = Code::UNKNOWN;
                    device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(Call::EventSynchronize), code });
                    let mut done = 0;
                    let load = file.load().pinned_bytes(8 << 20).progress(|now| {
                        done = now.done;
                        ControlFlow::Continue(())
                    });
                    let answer = if ring { load.through_ring(&stream.ctx()) } else { load.registered(&mut stream) };
                    assert!(
                        matches!(answer, Err(FileError::Tensor { error: Error::Driver(why), .. }) if why.code == code)
                    );
                    assert!(done <= most && done > most / 2, "{done} of {most}");
                })
                .unwrap();
            assert!(device.gpu().report().is_clean());
        }
    });
}
