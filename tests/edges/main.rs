//! Tensors whose element, rank or name is a value.

mod serde;

use std::{cell::Cell, num::NonZero};

use tidelock::{
    BatchCopy, Buffer, DType, Element, Error, Layout, Permutation, Result, View,
    any::{AnyState, AnyTensor, MapError, TensorMap, Value},
    half::{bf16, f16},
    location::Host,
    sim::{self, Sim},
};

fn checked() -> sim::Device {
    sim::Device::new(sim::Options::quick().race_detector(true))
}

/// A type that says that it is an `f32`, and is not.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Liar(u32);
impl Element for Liar {}
tidelock::scalar!(Liar => DType::F32);

#[test]
fn downcasts_compare_types() {
    let buffer = Buffer::<f32, Host>::from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let tensor = buffer.any_tensor(&[2, 3]).unwrap();
    assert_eq!((tensor.dtype(), tensor.layout().to_string()), (DType::F32, "(2,3):(3,1)".into()));
    assert_eq!(tensor.view().downcast::<f32, 2>().unwrap().get([1, 2]), Ok(&6.0));
    let (expected, found) = (std::any::type_name::<Liar>(), "another type with the same `DType`");
    let element = Error::Element { operand: "tensor", expected, found };
    assert_eq!(tensor.view().downcast::<Liar, 2>().unwrap_err(), element);
    let element = Error::Element { operand: "tensor", expected: "bf16", found: "f32" };
    assert_eq!(tensor.view().downcast::<bf16, 2>().unwrap_err(), element);
    assert_eq!(
        tensor.view().downcast::<f32, 3>().unwrap_err(),
        Error::Rank { operand: "layout", expected: 3, found: 2 }
    );
    let columns = tensor.view().downcast::<f32, 2>().unwrap().slice(1, 1..).unwrap().any();
    assert_eq!((columns.to_string(), columns.bytes().is_err()), ("f32 (2,2):(3,1)".into(), true));
    let turned = tensor.view().downcast::<f32, 2>().unwrap().transpose(0, 1).unwrap().any();
    assert_eq!(turned.bytes().unwrap_err(), Error::NotContiguous { operand: "tensor", axis: 1 });
    assert_eq!(tensor.view().bytes().unwrap().len(), 24);
    let tensor = tensor.downcast::<u32, 2>().unwrap_err().value;
    let mut tensor = tensor.downcast::<f32, 1>().unwrap_err().value;
    tensor.downcast_mut::<f32, 2>().unwrap().set([0, 0], 9.0).unwrap();
    assert!(tensor.downcast_mut::<f64, 2>().is_err());
    let typed = tensor.downcast::<f32, 2>().unwrap();
    assert_eq!((typed.shape(), typed.buffer()[0]), ([2, 3], 9.0));
    assert_eq!(format!("{:?}", AnyTensor::from(typed)), "AnyTensor<f32, host> { layout: (2,3):(3,1) }");
}

#[test]
fn shapes_that_do_not_fit_come_back() {
    let buffer = Buffer::<u8, Host>::zeros(6).unwrap();
    let rejected = buffer.any_tensor(&[4, 2]).unwrap_err();
    assert_eq!(rejected.error, Error::Length { operand: "shape", expected: 6, found: 8 });
    let tensor = rejected.value.any_tensor(&[tidelock::layout::REST, 2]).unwrap();
    assert_eq!(tensor.layout().shape(), [3, 2]);
    let buffer = tensor.downcast::<u8, 2>().unwrap().into_buffer();
    let rejected = buffer.any_tensor(&[1; 9]).unwrap_err();
    assert_eq!((rejected.error, rejected.value.len()), (Error::Rank { operand: "shape", expected: 8, found: 9 }, 6));
}

/// The drop frees what was allocated, with its size and alignment: the simulated device counts.
#[test]
fn an_erased_tensor_gives_its_memory_back() {
    let device = checked();
    device
        .stream(|mut stream, _env| -> Result<()> {
            for dtype in DType::ALL {
                let tensor = stream.ctx().with_pool().zeros_any(*dtype, &[3, 4])?;
                let bytes = stream.read(tensor.view().bytes()?)?;
                assert_eq!(bytes, vec![0; 12 * dtype.group_bytes()], "{dtype}");
                drop(tensor);
                drop(stream.ctx().with_pool().zeros_any(*dtype, &[0, 4])?);
            }
            assert!(stream.ctx().with_pool().zeros_any(DType::F64, &[usize::MAX, 2]).is_err());
            stream.synchronize()?;
            Ok(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

#[test]
fn a_type_is_chosen_by_a_name() {
    fn size(dtype: DType) -> Result<usize> {
        tidelock::dispatch!(dtype, T in [f16, bf16, f32] => size_of::<T>())
    }
    assert_eq!((size(DType::F16), size(DType::Bf16), size(DType::F32)), (Ok(2), Ok(2), Ok(4)));
    let element = Error::Element { operand: "dtype", expected: "one of f16, bf16, f32", found: "u4" };
    assert_eq!(size(DType::U4), Err(element));
    // The expression may leave the function, and is evaluated once.
    let count = Cell::new(0);
    let answer = (|| -> Result<usize> {
        let n = tidelock::dispatch!(DType::U8, T in [u8, i8] => {
            count.set(count.get() + 1);
            View::from(&[1_u8, 2][..]).slice(..5)?.cast::<T>().len()
        })?;
        Ok(n)
    })();
    assert_eq!((answer, count.get()), (Err(Error::OutOfRange { operand: "view" }), 1));
}

/// f8 of the engine's call sites: `Tensor{layout, weights.data_type, kDEVICE}`, and a state of it.
#[test]
fn a_state_of_a_dtype_that_is_a_value() {
    let device = checked();
    for (name, expected) in [("bf16", 2), ("f32", 4), ("F8_E4M3", 1)] {
        let dtype: DType = name.parse().unwrap();
        device
            .stream(|mut stream, _env| -> Result<()> {
                let ctx = stream.ctx().with_pool();
                let mut state = AnyState::zeros(&ctx, dtype, 4, 8)?;
                assert_eq!((state.dtype(), state.row_count(), state.row_bytes().get()), (dtype, 4, 8 * expected));
                let rows = ctx.upload_new(
                    &(0..32).map(|i| i as u8 / 8 + 1).flat_map(|i| vec![i; expected]).collect::<Vec<_>>(),
                )?;
                BatchCopy::new().scope(&ctx, |batch| {
                    let (_, back) = state.both()?;
                    batch.group(|group| group.copy_rows(rows.view().rows(NonZero::new(8 * expected).unwrap())?, back))
                })?;
                state.swap();
                let survivors = Permutation::new(&[3, 1], 4, 0)?;
                state.step(|front, back| {
                    BatchCopy::new().scope(&ctx, |b| b.group(|g| g.warp(front, survivors, back.first(2)?)))
                })?;
                // A typed look at rows of the state.
                let bytes = tidelock::dispatch!(dtype, T in [bf16, f32, tidelock::element::f8e4m3] => {
                    assert_eq!(state.front_mut::<T>()?.shape(), [4, 8]);
                    let front = state.front::<T>()?.slice(0, ..2)?.contiguous()?.bytes();
                    stream.read(front)?
                })?;
                assert_eq!(bytes, [vec![4; 8 * expected], vec![2; 8 * expected]].concat());
                let element = Error::Element { operand: "state", expected: "f64", found: dtype.name() };
                assert_eq!(state.front::<f64>().unwrap_err(), element);
                assert!(AnyState::zeros(&stream.ctx().with_pool(), dtype, 4, 0).is_err());
                assert!(AnyState::zeros(&stream.ctx().with_pool(), dtype, usize::MAX, 2).is_err());
                stream.synchronize()?;
                Ok(())
            })
            .unwrap()
            .unwrap();
    }
}

#[test]
fn states_of_other_elements_and_of_any_size() {
    checked()
        .stream(|stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let mut state = AnyState::zeros(&ctx, DType::F32, 3, 1)?;
            // A type that claims the name gets the bytes, of which every pattern is one of its values.
            assert_eq!(state.front::<Liar>()?.shape(), [3, 1]);
            assert!(matches!(state.front_mut::<u32>(), Err(Error::Element { .. })));
            // A step that fails swaps nothing.
            let before = state.front::<f32>()?.as_ptr();
            assert_eq!(state.step(|_, _| Err::<(), _>(Error::SameStream)), Err(Error::SameStream));
            assert_eq!(state.front::<f32>()?.as_ptr(), before);
            state.step(|_, _| Ok(()))?;
            assert_ne!(state.front::<f32>()?.as_ptr(), before);
            // Without rows, and of every element.
            for dtype in DType::ALL {
                let mut state = AnyState::zeros(&ctx, *dtype, 0, 5)?;
                assert_eq!((state.row_count(), state.row_bytes().get()), (0, 5 * dtype.group_bytes()));
                assert_eq!(state.both()?.1.row_count(), 0);
            }
            assert_eq!(AnyState::zeros(&ctx, DType::F64, 0, 1)?.front::<f64>()?.shape(), [0, 1]);
            for (rows, width) in [(usize::MAX, 1), (2, usize::MAX), (1, usize::MAX / 4), (usize::MAX / 8, 1)] {
                let refused = AnyState::zeros(&ctx, DType::F64, rows, width).unwrap_err();
                assert!(matches!(refused, Error::TooLarge { .. }), "{rows} {width}: {refused:?}");
            }
            Ok(())
        })
        .unwrap()
        .unwrap();
}

#[test]
fn a_map_of_everything() {
    let device = checked();
    device
        .stream(|mut stream, _env| -> Result<()> {
            let ctx = stream.ctx().with_pool();
            let ids = [7_u32, 8, 9];
            let weights = ctx.upload_new(&[1.0_f32, 2.0, 3.0, 4.0])?.share().tensor([2, 2])?;
            let borrowed = ctx.zeros::<f32>(4)?.tensor([2, 2])?;
            let mut map = TensorMap::<Sim<'_>>::new();
            map.produce("ids", View::from(&ids[..]).tensor([3])?).unwrap();
            map.produce("lengths", Buffer::<i64, Host>::from_slice(&[3, 4])?.tensor([2])?).unwrap();
            map.produce("logits", ctx.zeros::<bf16>(8)?.tensor([2, 4])?).unwrap();
            map.produce("hidden", borrowed.view()).unwrap();
            map.produce("weights", weights.slice(1, 1..)?).unwrap();
            map.produce("finished", ctx.zeros_any(DType::Bool, &[0])?).unwrap();
            assert_eq!((map.len(), map.contains("ids"), map.contains("id")), (6, true, false));

            // A second of one name, and what it holds, comes back.
            let refused = map.produce("ids", Buffer::<i64, Host>::from_slice(&[1])?.tensor([1])?).unwrap_err();
            assert_eq!(refused.error, MapError::Exists { name: "ids".into() });
            assert!(matches!(refused.value, Value::HostOwned(tensor) if tensor.dtype() == DType::I64));

            assert_eq!(map.get::<u32, Host, 1>("ids").unwrap().get([2])?, &9);
            assert_eq!(map.get::<bf16, Sim<'_>, 2>("logits").unwrap().shape(), [2, 4]);
            let column = map.get::<f32, Sim<'_>, 2>("weights").unwrap();
            let dense = ctx.init_tensor(ctx.alloc::<f32>(2)?.tensor([2, 1])?, column)?;
            assert_eq!(stream.read(dense.buffer().view())?, [2.0, 4.0]);
            let missing = map.get::<f32, Host, 1>("nope").unwrap_err();
            let text =
                "there is no tensor `nope`; there are: `finished`, `hidden`, `ids`, `lengths`, `logits`, `weights`";
            assert_eq!(missing.to_string(), text);
            let elsewhere = map.any::<Host>("logits").unwrap_err();
            assert_eq!(elsewhere, MapError::Place { name: "logits".into(), expected: "host", found: "device" });
            assert_eq!(
                map.get::<f16, Sim<'_>, 2>("logits").unwrap_err().to_string(),
                "the tensor `logits`: the elements of `tensor` are bf16 where f16 is needed"
            );

            // What is refused stays.
            assert!(matches!(map.consume_tensor::<bf16, Sim<'_>, 3>("logits"), Err(MapError::Other { .. })));
            assert!(matches!(map.consume_tensor::<bf16, Host, 2>("logits"), Err(MapError::Place { .. })));
            assert!(matches!(map.consume_tensor::<f32, Sim<'_>, 2>("weights"), Err(MapError::NotOwned { .. })));
            assert!(matches!(map.consume_tensor::<f32, Sim<'_>, 2>("hidden"), Err(MapError::NotOwned { .. })));
            assert_eq!(map.len(), 6);
            let logits = map.consume_tensor::<bf16, Sim<'_>, 2>("logits").unwrap();
            assert_eq!((logits.shape(), map.contains("logits")), ([2, 4], false));
            assert!(matches!(map.consume_tensor::<bf16, Sim<'_>, 2>("logits"), Err(MapError::Missing { .. })));
            assert!(map.try_consume("logits").is_none());

            // A shared one comes out as it went in.
            let Value::DeviceShared(shared) = map.consume("weights").unwrap() else { panic!("shared") };
            let shared = shared.downcast::<f64, 2>().unwrap_err().value.downcast::<f32, 2>().unwrap();
            assert_eq!(shared.layout(), Layout::strided([2, 1], [2, 1])?);
            assert_eq!(map.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["finished", "hidden", "ids", "lengths"]);
            assert!(format!("{map:?}").contains("\"lengths\": AnyTensor<i64, host> { layout: (2):(1) }"));
            let of_nothing = TensorMap::<Sim<'_>>::default();
            assert_eq!(of_nothing.any::<Host>("x").unwrap_err().to_string(), "there is no tensor `x`; there are: none");
            assert!(of_nothing.is_empty());
            Ok(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
}

/// The body of `dispatch!` is code of its function: it may leave a loop, and has its own names.
#[test]
fn the_body_of_a_dispatch_is_in_its_function() {
    fn sizes(dtypes: &[DType]) -> Result<Vec<usize>> {
        let (mut sizes, dtype) = (Vec::new(), 7);
        for &found in dtypes {
            let size = tidelock::dispatch!(found, T in [u8, f32, f64] => {
                if size_of::<T>() == 4 {
                    continue;
                }
                if size_of::<T>() == 8 {
                    break;
                }
                size_of::<T>() + dtype
            })?;
            sizes.push(size);
        }
        Ok(sizes)
    }
    assert_eq!(sizes(&[DType::U8, DType::F32, DType::U8, DType::F64, DType::U8]), Ok(vec![8, 8]));
    assert!(sizes(&[DType::Bool]).is_err());
}
