//! Programs that misuse tensors, maps and their edges as far as safe code can.

#![allow(clippy::result_large_err, reason = "what is refused comes back")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use bytemuck::{Pod, Zeroable};
use tidelock::{
    BatchCopy, Buffer, DType, Element, Error, Layout, Result, Stack, View,
    any::{AnyState, AnyTensor, TensorMap, Value},
    half::bf16,
    location::Host,
    sim::{self, Call, Fault, Sim},
};
use tidelock_driver::Code;

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(transparent)]
struct Logit(f32);
impl Element for Logit {}
tidelock::scalar!(Logit => DType::F32);

/// Runs `f` with the race detector, which must have found nothing.
fn on_stream<R>(f: impl FnOnce(&sim::Device, &mut tidelock::Stream<Sim<'_>>) -> R) -> R {
    let device = sim::Device::new(sim::Options::quick().race_detector(true));
    let answer = device.stream(|mut stream, _env| f(&device, &mut stream)).unwrap();
    assert_eq!(device.gpu().check(), Ok(()));
    answer
}

#[test]
fn elements_of_no_bytes_take_no_time() {
    let many = [[0_f32; 0]; 1 << 62];
    let view = View::from(&many[..]).tensor([1 << 31, 1 << 31]).unwrap().transpose(0, 1).unwrap();
    assert_eq!(view.get([1, (1 << 31) - 1]), Ok(&[]));
    assert!(View::from(&[[0_f32; 0]; usize::MAX][..]).tensor([1 << 32, 1 << 32]).is_err());
    on_stream(|_, stream| -> Result<()> {
        let ctx = stream.ctx().with_pool();
        let mut one = ctx.zeros::<[f32; 0]>(1 << 62)?.tensor([1 << 31, 1 << 31])?;
        let other = ctx.zeros::<[f32; 0]>(1 << 62)?.tensor([1 << 31, 1 << 31])?;
        ctx.copy_tensor(other.view().transpose(0, 1)?, one.view_mut())?;
        let (left, right) = one.view_mut().split_at(1, 5)?;
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |b| {
            b.group(|g| {
                g.copy_tensor(other.view().slice(1, ..5)?, left)?;
                g.copy_tensor(other.view().slice(1, 5..)?, right)
            })
        })
    })
    .unwrap();
}

/// A type of another crate that becomes a value in its own way.
struct Hostile;

impl<'p> From<Hostile> for Value<'p, Sim<'static>> {
    fn from(_: Hostile) -> Self {
        panic!("no value")
    }
}

#[test]
fn a_map_is_whole_behind_a_panic() {
    let mut map = TensorMap::<Sim<'static>>::new();
    let tensor = || Buffer::<u32, Host>::from_slice(&[1, 2]).unwrap().tensor([2]).unwrap();
    map.produce("a", tensor()).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| map.produce("b", Hostile))).is_err());
    assert!(!map.contains("b") && map.len() == 1);
    map.produce("b", tensor()).unwrap();
    assert_eq!(map.consume_tensor::<u32, Host, 1>("b").unwrap().size(), 2);
    // A name that is taken gives the tensor back.
    assert!(matches!(map.produce("a", tensor()).unwrap_err().value, Value::HostOwned(_)));
}

#[test]
fn a_type_of_the_same_name_is_another_type() {
    let logits = Buffer::<Logit, Host>::from_slice(&[Logit(1.0)]).unwrap().tensor([1]).unwrap();
    let any = AnyTensor::from(logits);
    let Err(rejected) = any.downcast::<f32, 1>() else { panic!("a `Logit` is no `f32`") };
    let text = "the elements of `tensor` are another type with the same `DType` where f32 is needed";
    assert_eq!(rejected.error.to_string(), text);
    let again = rejected.value.downcast::<Logit, 1>().unwrap();
    assert_eq!(again.view().get([0]), Ok(&Logit(1.0)));
}

#[test]
fn a_state_of_a_dtype_in_an_arena_behind_one_byte() {
    on_stream(|_, stream| -> Result<()> {
        let ctx = stream.ctx();
        let arena = Stack::new(ctx.pool());
        let ctx = ctx.with_device_alloc(&arena);
        let byte = ctx.zeros::<u8>(1)?;
        for dtype in [DType::Bf16, DType::F64, DType::F6E2M3] {
            let mut state = AnyState::zeros(&ctx, dtype, 3, 4)?;
            match dtype {
                DType::Bf16 => assert_eq!(state.front::<bf16>()?.shape(), [3, 4]),
                DType::F64 => assert_eq!(state.front_mut::<f64>()?.shape(), [3, 4]),
                _ => assert_eq!(state.row_bytes().get(), 12),
            }
        }
        drop(byte);
        Ok(())
    })
    .unwrap();
}

#[test]
fn memory_behind_a_closure_that_panics_is_given_back() {
    on_stream(|_, stream| -> Result<()> {
        let ctx = stream.ctx().with_pool();
        let shared = ctx.upload_new(&[1_u32; 64])?.share().tensor([8, 8])?;
        let part = shared.slice(0, 2..4)?;
        let panics = || shared.with_layout(|_| -> Result<Layout<1>> { panic!("no layout") });
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        // A layout that reaches farther than the part, although not than the memory.
        let part = part.with_layout(|_| Layout::strided([4, 4], [8, 1])).unwrap_err();
        assert!(matches!(part.error, Error::Length { operand: "memory", expected: 28, found: 16 }), "{}", part.error);
        drop(part);
        stream.synchronize()?;
        Ok(())
    })
    .unwrap();
}

/// A copy that the driver refuses at any of its calls leaves a tensor that comes back, and a stream
/// that works.
#[test]
fn a_driver_that_refuses_a_copy() {
    let mut refused = 0;
    for nth in 1..12 {
        for code in [Code::OUT_OF_MEMORY, Code::INVALID_VALUE] {
            on_stream(|device, stream| {
                let ctx = stream.ctx().with_pool();
                let source = ctx.upload_new(&[1_u32, 2, 3, 4, 5, 6]).unwrap().tensor([2, 3]).unwrap();
                let target = ctx.alloc::<u32>(6).unwrap().tensor([3, 2]).unwrap();
                device.gpu().fail(Fault { nth, onwards: false, call: None::<Call>, code });
                let answer = ctx.init_tensor(target, source.view().transpose(0, 1).unwrap());
                device.gpu().fail(Fault { nth: u64::MAX, onwards: false, call: None, code });
                let tensor = match answer {
                    Ok(tensor) => tensor,
                    Err(rejected) => {
                        refused += 1;
                        ctx.init_tensor(rejected.value, source.view().transpose(0, 1).unwrap()).unwrap()
                    }
                };
                assert_eq!(stream.read(tensor.buffer().view()).unwrap(), [1, 4, 2, 5, 3, 6]);
            });
        }
    }
    assert!(refused >= 2, "{refused}");
}

#[test]
fn tensors_that_change_threads() {
    let mut tensor = Buffer::<u32, Host>::from_fn(24, |i| i as u32).unwrap().tensor([4, 6]).unwrap();
    {
        let (_, right) = tensor.view_mut().split_at(1, 2).unwrap();
        // Two halves of the columns, of two threads.
        let (mut one, mut other) = right.split_at(1, 2).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (0..4).for_each(|i| one.set([i, 0], 100).unwrap()));
            scope.spawn(|| (0..4).for_each(|i| other.set([i, 1], 200).unwrap()));
        });
    }
    assert!(tensor.view().slice(0, 3..).unwrap().iter().eq(&[18, 19, 100, 21, 22, 200]));
    let any = AnyTensor::from(tensor);
    let sum = thread::spawn(move || any.view().downcast::<u32, 2>().unwrap().iter().sum::<u32>()).join().unwrap();
    assert_eq!(sum, (0..24).sum::<u32>() - (2 + 8 + 14 + 20) - (5 + 11 + 17 + 23) + 1200);
}

#[test]
fn extents_that_are_huge_or_none() {
    let values = [1_u8; 4];
    let view = View::from(&values[..]);
    for shape in [[usize::MAX - 1, 2], [1 << 63, 2], [2, isize::MAX as usize], [0, usize::MAX - 1]] {
        assert!(view.tensor(shape).is_err(), "{shape:?}");
        assert!(AnyTensor::<Host>::from_le_bytes(DType::F64, &shape, &[]).is_err(), "{shape:?}");
    }
    let broadcast = view.strided(Layout::strided([1 << 30, 1 << 30], [0, 0]).unwrap()).unwrap();
    assert_eq!((broadcast.get([5, 9]), broadcast.iter().len()), (Ok(&1), 1 << 60));
    let error = broadcast.contiguous().unwrap_err();
    assert!(matches!(error, Error::NotContiguous { operand: "tensor", .. }), "{error}");
    let empty = View::<u8, Host>::from(&[][..]).tensor([0, 1 << 30, 1 << 30]).unwrap();
    assert!(empty.rows().is_ok() && empty.iter().next().is_none() && empty.any().bytes().unwrap().is_empty());
    on_stream(|_, stream| {
        let ctx = stream.ctx().with_pool();
        assert!(matches!(
            ctx.zeros_any(DType::F64, &[1 << 60]),
            Err(Error::TooLarge { .. } | Error::OutOfMemory { .. })
        ));
        assert!(AnyState::zeros(&ctx, DType::F64, usize::MAX, usize::MAX).is_err());
        assert!(AnyState::zeros(&ctx, DType::F64, usize::MAX, 1).is_err());
        assert!(AnyState::zeros(&ctx, DType::F64, 1, 0).is_err());
    });
}
