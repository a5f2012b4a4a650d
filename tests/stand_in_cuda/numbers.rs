//! The exact driver calls of each operation.

use std::num::NonZero;

use tidelock::{
    BatchCopy, Buffer, Error, Stack, Stream,
    cuda::{Batching, Cuda, CudaBackend, Device},
    driver::Pool,
    location::{Host, Pinned},
    stream::StreamOptions,
};
use tidelock_test_support::{
    memory::{cleared, get, put, staged},
    stand_in::{self, Control},
};

use crate::every_second;

/// Runs `test` on a stream of the first device, whose context is current or not.
fn on(settings: &[(&str, u64)], batching: Batching, test: impl for<'s> FnOnce(&Control, Stream<Cuda<'s>>)) {
    let control = stand_in::load();
    settings.iter().for_each(|(name, value)| control.set(name, *value));
    control.reset();
    let device = Device::open(0).unwrap().with_batching(batching);
    device.stream(|stream, _| test(&control, stream)).unwrap();
    control.report().assert_clean();
}

/// The calls that `f` makes.
macro_rules! calls {
    ($control:expr, $operation:expr) => {{
        let (calls, answer) = $control.calls_of(|| $operation);
        (calls.join(" "), answer)
    }};
}

#[test]
fn each_operation_is_one_call() {
    on(&[], Batching::Auto, |control, mut stream| {
        let ctx = stream.ctx().with_pool();
        let (calls, memory) = calls!(control, ctx.alloc::<u32>(100).unwrap());
        assert_eq!(calls, "cuMemAllocFromPoolAsync");
        let (calls, memory) = calls!(control, ctx.init_zeros(memory).unwrap());
        assert_eq!(calls, "cuMemsetD8Async");
        let mut other = ctx.zeros::<u32>(100).unwrap();
        let (calls, _) = calls!(control, ctx.copy(memory.view(), other.view_mut()).unwrap());
        assert_eq!(calls, "cuMemcpyAsync");
        let (calls, _) = calls!(control, ctx.clear(other.view_mut()).unwrap());
        assert_eq!(calls, "cuMemsetD8Async");
        let (calls, _) = calls!(control, drop(memory));
        assert_eq!(calls, "cuMemFreeAsync");
        // The ring takes its memory from the process's pool at its first use.
        ctx.upload(&[1, 2, 3], other.view_mut().slice(..3).unwrap()).unwrap();
        let (calls, _) = calls!(control, ctx.upload(&[1, 2, 3], other.view_mut().slice(..3).unwrap()).unwrap());
        assert_eq!(calls, "cuMemcpyAsync");
        let page = Buffer::<u32, Pinned<CudaBackend>>::from_slice(&[7; 100]).unwrap();
        let (calls, page) = calls!(control, page.stage(&ctx));
        assert_eq!(calls, "");
        let (calls, _) = calls!(control, ctx.copy(page.view(), other.view_mut()).unwrap());
        assert_eq!(calls, "cuMemcpyAsync");
        let (calls, _) = calls!(control, drop(page));
        assert_eq!(calls, "");
        let (calls, _) = calls!(control, stream.is_idle().unwrap());
        assert_eq!(calls, "cuStreamQuery");
        drop(other);
        let (calls, _) = calls!(control, stream.synchronize().map(|_| ()).unwrap());
        assert_eq!(calls, "cuStreamSynchronize");
        let (calls, _) = calls!(control, stream.trim(0).map(|_| ()).unwrap());
        assert_eq!(calls, "cuStreamSynchronize cuMemPoolTrimTo");
    });
}

#[test]
fn a_fence_is_one_call() {
    on(&[], Batching::Auto, |control, stream| {
        let ctx = stream.ctx();
        let (page, mut next) = (staged(&ctx, &[1_u32]), staged(&ctx, &[1_u32]));
        let (calls, pending) = calls!(control, ctx.fence(page).unwrap());
        assert_eq!(calls, "cuEventRecord");
        let (calls, _) = calls!(control, pending.is_ready().unwrap());
        assert_eq!(calls, "cuEventQuery");
        let (calls, _) = calls!(control, pending.wait().unwrap());
        assert!(["cuEventSynchronize", ""].contains(&calls.as_str()), "{calls}");
        ctx.clear(next.view_mut()).unwrap();
        let fence = || (ctx.fence(staged(&ctx, &[2_u8])).unwrap(), ctx.fence(next).unwrap());
        let (calls, (first, second)) = calls!(control, fence());
        assert_eq!(calls, "cuEventRecord", "the event is used again, and one is enough for two buffers");
        let (calls, _) = calls!(control, (first.wait().unwrap(), second.wait().unwrap()));
        assert_eq!(calls, "cuEventSynchronize");
    });
}

#[test]
fn events_are_created_eight_at_once_in_one_visit_to_the_context() {
    on(&[], Batching::Auto, |control, stream| {
        let ctx = stream.ctx();
        let fence = || {
            let page = cleared(&ctx);
            calls!(control, ctx.fence(page).unwrap())
        };
        let (first, mut pending): (Vec<_>, Vec<_>) = (0..8).map(|_| fence()).unzip();
        assert_eq!(first, ["cuEventRecord"; 8], "the stream opened with as many events");
        // The device's context is current on the thread of its stream.
        let create = ["cuEventCreate"; 8].join(" ");
        let (calls, ninth) = fence();
        assert_eq!(calls, format!("cuCtxGetCurrent {create} cuEventRecord"));
        pending.push(ninth);
        for _ in 0..7 {
            let (calls, another) = fence();
            assert_eq!(calls, "cuEventRecord");
            pending.push(another);
        }
        // A ring that wraps around all the time, a loan and a transfer need no more events than the
        // stream opens with.
        drop(pending);
        stream_of_everything(control);
    });
}

/// Two streams that use everything that needs events create none after they were opened.
fn stream_of_everything(control: &Control) {
    let device = Device::open(0).unwrap();
    let options = StreamOptions::default().ring_bytes(1024);
    let answer = device.stream_with(&options, |a, _| {
        device.stream_with(&options, |b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut x = a.zeros::<u8>(256).unwrap();
            let (calls, _) = calls!(control, {
                let mut flight = std::collections::VecDeque::new();
                for _ in 0..20 {
                    a.upload(&[1; 256], x.view_mut()).unwrap();
                    a.lend_mut(x.view_mut(), &b, |x| b.upload(&[2; 256], x)).unwrap().unwrap();
                    x = b.transfer(a.transfer(x, &b).unwrap(), &a).unwrap();
                    flight.push_back((a.fence(staged(&a, &[1])).unwrap(), b.fence(staged(&b, &[1])).unwrap()));
                    if flight.len() == 2 {
                        let (of_a, of_b) = flight.pop_front().unwrap();
                        of_a.wait().unwrap();
                        of_b.wait().unwrap();
                    }
                }
            });
            assert!(calls.contains("cuEventRecord") && !calls.contains("cuEventCreate"), "{calls}");
        })
    });
    answer.unwrap().unwrap();
}

#[test]
fn events_that_are_refused() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let fail =
        |nth| control.fail(stand_in::Fault { name: "cuEventCreate", nth, onwards: false, releases: false, code: 2 });
    // A stream whose events cannot be created is not opened.
    for nth in [1, 8] {
        fail(nth);
        let error = device.stream(|_, _| ()).unwrap_err();
        assert!(matches!(error, Error::Driver(why) if why.call == "cuEventCreate" && why.code.0 == 2), "{error}");
        control.disarm();
        control.report().assert_clean();
    }
    device
        .stream(|stream, _| {
            let ctx = stream.ctx();
            let fence = || ctx.fence(cleared(&ctx)).unwrap();
            let mut pending: Vec<_> = (0..8).map(|_| fence()).collect();
            drop(cleared(&ctx));
            fail(1);
            let rejected = ctx.fence(staged(&ctx, &[7_u32])).unwrap_err();
            assert!(matches!(rejected.error, Error::Driver(why) if why.call == "cuEventCreate"));
            // Two of eight events are enough for two fences.
            fail(3);
            let (calls, fenced) = calls!(control, ctx.fence(rejected.value).unwrap());
            assert_eq!(calls, "cuCtxGetCurrent cuEventCreate cuEventCreate cuEventCreate cuEventRecord");
            assert_eq!(fenced.wait().unwrap()[..], [7]);
            pending.extend((0..2).map(|_| fence()));
        })
        .unwrap();
    control.report().assert_clean();
}

/// The calls of a batch of `copies` copies that cannot be merged, and of a batch with one more
/// source in plain host memory.
fn batches(control: &Control, stream: &Stream<Cuda<'_>>, copies: usize) -> [String; 2] {
    let ctx = stream.ctx().with_pool();
    let source = put(&ctx, &vec![1_u32; 2 * copies]);
    let (mut target, mut one) = (ctx.zeros::<u32>(2 * copies).unwrap(), ctx.zeros::<u32>(1).unwrap());
    let own = Buffer::<u32, Host>::from_slice(&[5]).unwrap();
    let mut batch = BatchCopy::new();
    let mut submit = |with_own: bool| {
        let (calls, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                every_second(batch, source.view(), target.view_mut())?;
                if with_own {
                    batch.copy(own.view(), one.view_mut())?;
                }
                Ok(())
            })
        });
        answer.unwrap();
        calls.join(" ")
    };
    // The first batch of a context looks for the copy kernels. The first batch of a stream that
    // needs a table, or page-locked memory for sources in plain host memory, allocates it.
    submit(false);
    submit(true);
    [submit(false), submit(true)]
}

#[test]
fn a_batch_is_a_launch() {
    on(&[], Batching::Auto, |control, stream| {
        // A word has 2 row numbers: the second batch is too large for launch parameters, and the
        // third for a table.
        let launch = "cuLaunchKernelEx";
        for (copies, launches) in [(3, launch), (4096, launch), (10_000, launch), (70_000, &*[launch; 2].join(" "))] {
            assert_eq!(batches(control, &stream, copies), [launches; 2], "{copies} copies");
        }
        assert_eq!(batches(control, &stream, 1), ["cuMemcpyAsync", launch], "a single copy is a copy");
    });
    on(&[("compute_major", 10)], Batching::Auto, |control, stream| {
        assert_eq!(batches(control, &stream, 5), ["cuLaunchKernelEx"; 2], "no batches of the driver are asked for");
    });
}

#[test]
fn a_batch_on_an_idle_stream_is_a_graph() {
    const AGAIN: &str = "cuGraphLaunch";
    const ANOTHER: &str = "cuGraphExecKernelNodeSetParams_v2 cuGraphLaunch";
    const PLAIN: &str = "cuLaunchKernelEx";
    on(&[], Batching::Auto, |control, stream| {
        let ctx = stream.ctx().with_pool();
        let source = put(&ctx, &(0..64).collect::<Vec<u32>>());
        let (mut target, mut other) = (ctx.zeros::<u32>(64).unwrap(), ctx.zeros::<u8>(8).unwrap());
        let mut batch = BatchCopy::new();
        // The `nth` batch copies elements `4 n` and `4 n + 2` onto themselves.
        let mut submit = |nth: usize| {
            let four = 4 * nth..4 * nth + 4;
            let (from, to) = (source.view().slice(four.clone()).unwrap(), target.view_mut().slice(four).unwrap());
            let (calls, answer) = calls!(control, batch.scope(&ctx, |batch| every_second(batch, from, to)));
            answer.unwrap();
            calls
        };
        assert!(submit(0).ends_with(PLAIN), "behind the copies that filled the memory");
        let idle = || while !stream.is_idle().unwrap() {};
        idle();
        let make = "cuGraphCreate cuCtxGetCurrent cuGraphAddKernelNode_v2 cuCtxGetCurrent cuGraphInstantiateWithFlags";
        let makes = vec![format!("cuCtxGetCurrent {make}"); 4].join(" ");
        assert_eq!(submit(1), format!("{makes} {AGAIN}"), "all are made at the first");
        assert_eq!(submit(1), PLAIN, "behind another");
        // Four graphs are kept; the oldest are discarded.
        let rounds = [(1, AGAIN), (2, ANOTHER), (3, ANOTHER), (4, ANOTHER), (2, AGAIN), (3, AGAIN), (5, ANOTHER)];
        let more = [(6, ANOTHER), (2, ANOTHER), (6, AGAIN), (5, AGAIN), (4, AGAIN), (3, ANOTHER)];
        for (nth, expected) in rounds.into_iter().chain(more) {
            idle();
            assert_eq!(submit(nth), expected, "{nth} of {rounds:?} {more:?}");
        }
        // Whichever call shows that the stream is idle, and whatever is enqueued then.
        let fence = ctx.fence(staged(&ctx, &[1_u8])).unwrap();
        fence.wait().unwrap();
        assert_eq!(submit(7), ANOTHER);
        let fence = ctx.fence(staged(&ctx, &[1_u8])).unwrap();
        ctx.clear(other.view_mut()).unwrap();
        fence.wait().unwrap();
        assert_eq!(submit(7), PLAIN, "there is a fill behind the fence");
        idle();
        // A graph that fails is replaced by a launch, now and from then on.
        control.fail(stand_in::Fault { name: "cuGraphLaunch", nth: 1, onwards: false, releases: false, code: 801 });
        let gone = ["cuGraphExecDestroy cuGraphDestroy"; 4].join(" ");
        assert_eq!(submit(8), format!("{ANOTHER} {gone} {PLAIN}"));
        idle();
        assert_eq!(submit(9), PLAIN);
        let copied = |i: u32| if i < 40 && i.is_multiple_of(2) { i } else { 0 };
        assert_eq!(get(&ctx, target.view()), (0..64).map(copied).collect::<Vec<_>>());
    });
}

#[test]
fn a_batch_is_again_what_it_was_whatever_comes_between() {
    on(&[], Batching::Auto, |control, stream| {
        let ctx = stream.ctx().with_pool();
        let source = put(&ctx, &[7_u8; 4]);
        let mut target = ctx.zeros::<u8>(4).unwrap();
        let mut batch = BatchCopy::new();
        for round in 0..4 {
            assert_eq!(get(&ctx, target.view()), if round == 0 { [0; 4] } else { [7, 0, 7, 0] }, "the stream is idle");
            let (calls, answer) =
                calls!(control, batch.scope(&ctx, |batch| every_second(batch, source.view(), target.view_mut())));
            answer.unwrap();
            assert!(calls == "cuGraphLaunch" || round == 0, "{round}: {calls}");
            // A table, with a different number in each batch.
            let [_, large] = batches(control, &stream, 10_000);
            assert_eq!(large, "cuLaunchKernelEx");
        }
    });
}

#[test]
fn sources_in_host_and_device_memory_by_turns_are_one_launch() {
    on(&[], Batching::Auto, |control, stream| {
        let ctx = stream.ctx().with_pool();
        let mut batch = BatchCopy::new();
        for (copies, bytes) in [(8, 5_usize), (40, 5), (1000, 5), (1000, 16), (5000, 64)] {
            let [one, other] =
                [3, 4].map(|seed| (0..copies * bytes).map(|i| (i * 7 + i / 251 * seed) as u8).collect::<Vec<_>>());
            let (in_device, in_host) = (put(&ctx, &one), staged(&ctx, &other));
            let mut target = ctx.zeros::<u8>(copies * bytes).unwrap();
            let (calls, answer) = calls!(
                control,
                batch.scope(&ctx, |batch| {
                    let pieces = target.view_mut().chunks_exact(NonZero::new(bytes).unwrap());
                    for (i, to) in pieces.enumerate() {
                        let from = i * bytes..(i + 1) * bytes;
                        if i.is_multiple_of(2) {
                            batch.copy(in_device.view().slice(from)?, to)?;
                        } else {
                            batch.copy(in_host.view().slice(from)?, to)?;
                        }
                    }
                    Ok(())
                })
            );
            answer.unwrap();
            assert_eq!(calls.matches("cuLaunchKernelEx").count(), 1, "{copies} of {bytes} bytes: {calls}");
            let expected: Vec<u8> = (0..copies * bytes)
                .map(|at| if (at / bytes).is_multiple_of(2) { one[at] } else { other[at] })
                .collect();
            assert!(get(&ctx, target.view()) == expected, "{copies} of {bytes} bytes");
        }
    });
}

#[test]
fn graphs_that_are_refused() {
    for name in ["cuGraphCreate", "cuGraphAddKernelNode_v2", "cuGraphInstantiateWithFlags"] {
        on(&[], Batching::Auto, |control, stream| {
            // The work before the first batch of a stream keeps that batch from being a graph.
            let [first, _] = batches(control, &stream, 3);
            assert_eq!(first, "cuLaunchKernelEx");
            let ctx = stream.ctx().with_pool();
            let (from, mut to) = (put(&ctx, &[1_u8; 4]), ctx.zeros::<u8>(4).unwrap());
            assert_eq!(get(&ctx, to.view()), [0; 4], "the stream is waited for");
            control.fail(stand_in::Fault { name, nth: 3, onwards: false, releases: false, code: 2 });
            let (calls, _) = calls!(control, {
                let (a, b) = to.view_mut().split_at(1).unwrap();
                BatchCopy::new()
                    .scope(&ctx, |batch| {
                        batch.copy(from.view().slice(1..2)?, a)?;
                        batch.copy(from.view().slice(..3)?, b)
                    })
                    .unwrap();
            });
            assert_eq!(control.disarm(), 3);
            assert!(calls.ends_with("cuGraphDestroy cuLaunchKernelEx") || name == "cuGraphCreate", "{calls}");
            assert!(calls.ends_with(" cuLaunchKernelEx"), "{calls}");
            assert_eq!(get(&ctx, to.view()), [1; 4]);
        });
    }
}

#[test]
fn a_batch_is_one_call_a_chunk() {
    on(&[], Batching::Driver, |control, stream| {
        assert_eq!(batches(control, &stream, 3), ["cuMemcpyBatchAsync_v2"; 2]);
        let two = "cuMemcpyBatchAsync_v2 cuMemcpyBatchAsync_v2";
        assert_eq!(batches(control, &stream, 4096), ["cuMemcpyBatchAsync_v2", two]);
        assert_eq!(batches(control, &stream, 8192), [two, &format!("{two} cuMemcpyBatchAsync_v2")]);
        assert_eq!(batches(control, &stream, 1), ["cuMemcpyAsync", "cuMemcpyBatchAsync_v2"], "a single copy is a copy");
    });
}

#[test]
fn a_batch_is_a_loop_if_that_is_asked_for() {
    let each = |copies: usize| vec!["cuMemcpyAsync"; copies].join(" ");
    let expected = [each(5), format!("{} cuStreamSynchronize", each(6))];
    on(&[], Batching::Loop, |control, stream| assert_eq!(batches(control, &stream, 5), expected));
    on(&[("compute_major", 10)], Batching::Driver, |control, stream| {
        assert_eq!(batches(control, &stream, 5), ["cuMemcpyBatchAsync_v2"; 2], "asked for in spite of the device");
    });
}

#[test]
fn arena_memory_costs_no_call() {
    on(&[], Batching::Auto, |control, mut stream| {
        let mut stack = Stack::new(stream.ctx().pool());
        for _ in 0..3 {
            let ctx = stream.ctx().with_device_alloc(&stack);
            drop((ctx.alloc::<u32>(1000).unwrap(), ctx.alloc::<u32>(2000).unwrap()));
            stack.reset().unwrap();
        }
        let ctx = stream.ctx().with_device_alloc(&stack);
        let (calls, memory) = calls!(control, (ctx.alloc::<u32>(1000).unwrap(), ctx.alloc::<u32>(2000).unwrap()));
        assert_eq!(calls, "");
        let (calls, _) = calls!(control, drop(memory));
        assert_eq!(calls, "");
        let (calls, _) = calls!(control, stack.reset().unwrap());
        assert_eq!(calls, "");
        drop(stack);
        stream.synchronize().unwrap();
    });
}

#[test]
fn streams_join_without_the_host() {
    on(&[], Batching::Auto, |control, stream| {
        let device = Device::open(0).unwrap();
        device
            .stream(|other, _| {
                let (a, b) = (stream.ctx().with_pool(), other.ctx().with_pool());
                let mut x = put(&a, &[1_u32, 2]);
                let (calls, _) = calls!(control, a.lend(x.view(), &b, |_| ()).unwrap());
                assert_eq!(calls, "cuEventRecord cuStreamWaitEvent cuEventRecord cuStreamWaitEvent");
                let (calls, _) = calls!(control, a.lend_mut(x.view_mut(), &b, |_| ()).unwrap());
                assert_eq!(calls, "cuEventRecord cuStreamWaitEvent cuEventRecord cuStreamWaitEvent");
                let (calls, x) = calls!(control, a.transfer(x, &b).unwrap());
                assert_eq!(calls, "cuEventRecord cuStreamWaitEvent");
                drop(x);
            })
            .unwrap();
    });
}

#[test]
fn copies_on_a_device_whose_context_is_not_current() {
    on(&[], Batching::Driver, |control, stream| {
        let other = Device::open(1).unwrap().with_batching(Batching::Driver);
        other
            .stream(|nested, _| {
                // The outer stream's context is current. A single copy of pool memory fails in it,
                // and a batch does not.
                let ctx = stream.ctx().with_pool();
                let (x, mut y) = (put(&ctx, &[1_u32; 4]), ctx.zeros::<u32>(4).unwrap());
                let (calls, _) = calls!(control, ctx.copy(x.view(), y.view_mut()).unwrap());
                assert_eq!(calls, "cuMemcpyAsync");
                drop((x, y));
                let ctx = nested.ctx().with_pool();
                let (x, mut y) = (put(&ctx, &[1_u32; 4]), ctx.zeros::<u32>(4).unwrap());
                let (calls, _) = calls!(control, ctx.copy(x.view(), y.view_mut()).unwrap());
                assert_eq!(calls, "cuMemcpyAsync cuCtxGetCurrent cuCtxSetCurrent cuMemcpyAsync cuCtxSetCurrent");
                let (calls, _) = calls!(control, ctx.clear(y.view_mut()).unwrap());
                assert_eq!(calls, "cuMemsetD8Async");
                let (calls, answer) = calls!(control, {
                    BatchCopy::new().scope(&ctx, |batch| {
                        let (left, right) = y.view_mut().split_at(2)?;
                        batch.copy(x.view().slice(2..)?, left)?;
                        batch.copy(x.view().slice(..2)?, right)
                    })
                });
                answer.unwrap();
                assert_eq!(calls, "cuMemcpyBatchAsync_v2");
            })
            .unwrap();
        // A refusal for another reason is returned.
        let ctx = stream.ctx().with_pool();
        let (x, mut y) = (put(&ctx, &[1_u32; 4]), ctx.zeros::<u32>(4).unwrap());
        control.fail(stand_in::Fault { name: "cuMemcpyAsync", nth: 1, onwards: true, releases: false, code: 1 });
        let (calls, answer) = calls!(control, ctx.copy(x.view(), y.view_mut()));
        control.disarm();
        assert_eq!(calls, "cuMemcpyAsync cuCtxGetCurrent");
        assert!(matches!(answer, Err(Error::Driver(why)) if why.call == "cuMemcpyAsync" && why.code.0 == 1));
    });
}

#[test]
fn synchronous_memory_is_freed_when_the_stream_was_waited_for() {
    on(&[], Batching::Auto, |control, mut stream| {
        let plain = stream.ctx().with_device_alloc(stream.ctx().sync_alloc());
        let (calls, memory) = calls!(control, plain.alloc::<u32>(10).unwrap());
        assert_eq!(calls, "cuCtxGetCurrent cuMemAlloc_v2");
        let (calls, _) = calls!(control, drop(memory));
        assert_eq!(calls, "");
        let (calls, _) = calls!(control, stream.synchronize().map(|_| ()).unwrap());
        assert_eq!(calls, "cuStreamSynchronize cuCtxGetCurrent cuMemFree_v2");
    });
}

#[test]
fn memory_of_a_device_without_pools_is_freed_when_the_stream_was_seen_to_have_passed_it() {
    on(&[("memory_pools", 0)], Batching::Auto, |control, mut stream| {
        let ctx = stream.ctx().with_pool();
        let (calls, memory) = calls!(control, ctx.alloc::<u32>(10).unwrap());
        assert_eq!(calls, "cuCtxGetCurrent cuMemAlloc_v2");
        let (calls, memory) = calls!(control, ctx.init_zeros(memory).unwrap());
        assert_eq!(calls, "cuMemsetD8Async");
        let (calls, _) = calls!(control, drop(memory));
        assert_eq!(calls, "", "the stream may be using it");
        let (calls, _) = calls!(control, stream.synchronize().map(|_| ()).unwrap());
        assert_eq!(calls, "cuStreamSynchronize cuCtxGetCurrent cuMemFree_v2");
        let (calls, _) = calls!(control, stream.trim(0).unwrap());
        assert_eq!(calls, "cuStreamSynchronize", "nothing is kept");
        // In a loop that never waits, deferred frees are bounded by bytes.
        let ctx = stream.ctx().with_pool();
        for _ in 0..2 * StreamOptions::default().max_deferred_frees {
            drop(ctx.alloc::<u32>(10).unwrap());
        }
        assert!(control.report().live("allocation") <= StreamOptions::default().max_deferred_frees);
    });
}

#[test]
fn opening_and_closing_a_stream() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    let open = |options: &StreamOptions| calls!(control, device.stream_with(options, |_, _| ()).unwrap()).0;
    // Each call without a stream finds no current context on this thread, and leaves it so. A
    // stream makes its own context current for as long as it lives.
    let entered = |call: &str| format!("cuCtxGetCurrent cuCtxSetCurrent {call} cuCtxSetCurrent");
    let events = |call: &str| [call; 8].join(" ");
    let stream = [&entered("cuStreamCreateWithPriority"), "cuCtxGetCurrent cuCtxSetCurrent"].join(" ");
    let create = format!("{stream} cuCtxGetCurrent {}", events("cuEventCreate"));
    let close = format!("cuStreamSynchronize {} cuStreamDestroy_v2", events("cuEventDestroy_v2"));
    // The context is queried first, because another one may have been made current meanwhile.
    let leave = "cuCtxGetCurrent cuCtxSetCurrent";
    let shared = StreamOptions::default().pool(Pool::Default);
    assert_eq!(open(&shared), format!("{} {create} {close} {leave}", entered("cuDeviceGetDefaultMemPool")));
    let own = StreamOptions::default().pool(Pool::Own { release_threshold: u64::MAX });
    let pool = [entered("cuMemPoolCreate"), entered("cuMemPoolSetAttribute")].join(" ");
    assert_eq!(open(&own), format!("{pool} {create} {close} cuMemPoolDestroy {leave}"));
    let (calls, _) = calls!(control, Device::open(0).unwrap());
    let attributes = ["cuDeviceGetAttribute"; 4].join(" ");
    assert_eq!(calls, format!("cuDeviceGetCount cuDeviceGet {attributes} cuDevicePrimaryCtxRetain"));
    control.report().assert_clean();
}
