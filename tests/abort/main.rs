//! When a stream cannot be waited for, the process aborts while host memory is on loan (rule R12).
//! Without a loan, the library leaks what the device may still touch. On a broken device every call
//! returns the error, and nothing hangs.
//!
//! Each test runs itself again in a process of its own, because the process may abort, and must not
//! hang. The functions that can abort are listed at the end. The documentation of each says so, and
//! a test here shows it.

#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
mod cuda;

use std::{
    env,
    ops::ControlFlow,
    os::unix::process::ExitStatusExt,
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    BatchCopy, Buffer, Ctx, Device, Error, Stack,
    driver::{Backend, Code},
    file::{File, Progress},
    location::Pinned,
    sim::{self, Call, Fault, Sim, SimBackend},
    stream::StreamOptions,
};
use tidelock_test_support::{
    files::PagedFile,
    memory::{cleared, staged},
    public_functions,
};

const CASE: &str = "TIDELOCK_TEST_CASE";
const LIMIT: Duration = Duration::from_secs(60);
const SIGABRT: i32 = 6;

/// Runs `scenario` of the test called `name` in `module` in a process of its own, and returns how
/// that process ended. In that process it returns `None` after the scenario.
fn apart(module: &str, name: &str, scenario: impl FnOnce()) -> Option<ExitStatus> {
    if env::var(CASE).is_ok() {
        scenario();
        return None;
    }
    let name = module.split_once("::").map_or(name.to_owned(), |(_, module)| format!("{module}::{name}"));
    let name = name.as_str();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CASE, name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("`{name}` hangs");
}

macro_rules! cases {
    ($expected:ident: $($name:ident $scenario:block)*) => {$(
        #[test]
        fn $name() {
            if let Some(status) = $crate::apart(module_path!(), stringify!($name), || $scenario) {
                $crate::$expected(status);
            }
        }
    )*};
}
#[cfg(all(feature = "cuda-core", target_os = "linux", target_env = "gnu"))]
use cases;

fn aborts(status: ExitStatus) {
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
}

/// The scenario's own assertions hold.
fn survives(status: ExitStatus) {
    assert!(status.success(), "{status}");
}

fn quick() -> sim::Device {
    sim::Device::new(sim::Options::quick())
}

/// Makes every wait for a stream fail from now on; the device is not broken.
fn cannot_wait(device: &sim::Device) {
    let call = Some(Call::StreamSynchronize);
    device.gpu().fail(Fault { nth: 1, onwards: true, call, code: Code::UNKNOWN });
}

/// Breaks the device of `ctx` permanently.
fn break_device<A>(ctx: &Ctx<'_, Sim<'_>, A>) {
    ctx.launch((0_u32,), |_| panic!("a faulting kernel")).unwrap();
}

fn code(error: Error) -> Code {
    match error {
        Error::Driver(why) | Error::Poisoned(why) => why.code,
        other => panic!("{other}"),
    }
}

#[track_caller]
fn poisoned<R>(answer: Result<R, Error>) {
    let error = answer.err().expect("Ok on a broken device");
    assert!(matches!(error, Error::Poisoned(why) if why.code == Code::LAUNCH_FAILED), "{error}");
}

cases! { aborts:
    a_host_scope_with_a_target_on_loan {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|mut stream, _env| {
            cannot_wait(&device);
            let _ = stream.host_scope(|scope| { let _ = scope.target(&mut data); });
        });
    }

    a_host_scope_with_a_source_on_loan {
        let (device, data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|mut stream, _env| {
            cannot_wait(&device);
            let _ = stream.host_scope(|scope| { let _ = scope.source(&data); });
        });
    }

    a_host_scope_on_a_broken_device {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|mut stream, _env| {
            let _ = stream.host_scope(|scope| {
                let _ = scope.target(&mut data);
                break_device(&scope.ctx());
            });
        });
    }

    a_host_scope_that_panics {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|mut stream, _env| {
            cannot_wait(&device);
            let _ = catch_unwind(AssertUnwindSafe(|| stream.host_scope(|scope| {
                let _ = scope.target(&mut data);
                panic!("in the scope");
            })));
        });
    }

    a_host_scope_with_a_page_locked_source {
        let (device, data) = (quick(), vec![0_u32; 5000]);
        let _ = device.stream(|mut stream, _env| {
            let _ = stream.host_scope(|scope| {
                assert!(scope.register(&data).is_ok());
                cannot_wait(&device);
            });
        });
    }

    a_host_scope_with_a_page_locked_target {
        let (device, mut data) = (quick(), vec![0_u32; 5000]);
        let _ = device.stream(|mut stream, _env| {
            let _ = stream.host_scope(|scope| {
                assert!(scope.register_mut(&mut data).is_ok());
                cannot_wait(&device);
            });
        });
    }

    a_page_locked_file {
        let (device, bytes) = (quick(), PagedFile::default());
        let _ = device.stream(|mut stream, _env| {
            let file = File::new(bytes.bytes()).unwrap();
            let stop = |_: Progress<'_>| {
                cannot_wait(&device);
                ControlFlow::Break(())
            };
            let _ = file.load().progress(stop).registered(&mut stream);
        });
    }

    a_stream_with_a_target_on_loan {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|_stream, env| {
            let _ = env.target(&mut data);
            cannot_wait(&device);
        });
    }

    a_stream_with_a_source_on_loan {
        let (device, data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|_stream, env| {
            let _ = env.source(&data);
            cannot_wait(&device);
        });
    }

    a_stream_with_options_and_a_loan {
        let (device, data) = (quick(), [0_u32; 8]);
        let _ = device.stream_with(&StreamOptions::default().max_deferred_frees(1), |_stream, env| {
            let _ = env.source(&data);
            cannot_wait(&device);
        });
    }

    a_stream_of_any_device_with_a_loan {
        let (device, data) = (quick(), [0_u32; 8]);
        let _ = Device::stream(&device, |_stream, env| {
            let _ = env.source(&data);
            cannot_wait(&device);
        });
    }

    a_stream_of_any_device_with_options_and_a_loan {
        let (device, data) = (quick(), [0_u32; 8]);
        let _ = Device::stream_with(&device, &StreamOptions::default(), |_stream, env| {
            let _ = env.source(&data);
            cannot_wait(&device);
        });
    }

    a_stream_that_panics_with_a_loan {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = catch_unwind(AssertUnwindSafe(|| device.stream(|_stream, env| {
            let _ = env.target(&mut data);
            cannot_wait(&device);
            panic!("in the stream");
        })));
    }

    a_visit_with_a_target_on_loan {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.lane().unwrap().enter(|_stream, env| {
            let _ = env.target(&mut data);
            cannot_wait(&device);
        });
    }

    a_visit_with_a_loan_that_breaks_the_device {
        let (device, data) = (quick(), [0_u32; 8]);
        let _ = device.lane().unwrap().enter(|stream, env| {
            let _ = env.source(&data);
            stream.ctx().launch((0_u32,), |_| panic!("a kernel that faults")).unwrap();
        });
    }

    a_visit_that_panics_with_a_loan {
        let (device, data) = (quick(), [0_u32; 8]);
        let mut lane = device.lane().unwrap();
        let _ = catch_unwind(AssertUnwindSafe(|| lane.enter(|_stream, env| {
            let _ = env.source(&data);
            cannot_wait(&device);
            panic!("in a visit");
        })));
    }

    a_loan_through_env_made_inside_a_scope_that_has_ended {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|mut stream, env| {
            let _target = stream.host_scope(|_| env.target(&mut data)).unwrap();
            cannot_wait(&device);
        });
    }

    a_loan_through_env_in_a_scope_that_lends_nothing {
        let (device, mut data) = (quick(), [0_u32; 8]);
        let _ = device.stream(|mut stream, env| {
            let _ = env.target(&mut data);
            cannot_wait(&device);
            let _ = stream.host_scope(|_| ());
        });
    }
}

cases! { survives:
    a_host_scope_that_lends_nothing_is_an_error_and_the_stream_goes_on {
        let device = quick();
        device.stream(|mut stream, _env| {
            cannot_wait(&device);
            assert_eq!(code(stream.host_scope(|_| ()).unwrap_err()), Code::UNKNOWN);
            device.gpu().disarm();
            let mut data = [0_u32; 2];
            let x = staged(&stream.ctx(), &[1, 2]);
            stream.host_scope(|scope| scope.ctx().copy(x.view(), scope.target(&mut data))).unwrap().unwrap();
            assert_eq!(data, [1, 2]);
        }).unwrap();
        assert!(device.gpu().report().is_clean());
    }

    a_host_scope_that_could_not_lock_what_it_was_to_lend_is_an_error {
        let (device, mut data) = (quick(), vec![0_u32; 5000]);
        device.stream(|mut stream, _env| {
            let code_of = |answer: Result<(), Error>| code(answer.unwrap_err());
            let refused = Fault { nth: 1, onwards: false, call: Some(Call::MemHostRegister), code: Code::OUT_OF_MEMORY };
            let answer = stream.host_scope(|scope| {
                device.gpu().fail(refused);
                assert_eq!(code_of(scope.register_mut(&mut data).map(drop)), Code::OUT_OF_MEMORY);
                cannot_wait(&device);
            });
            assert_eq!(code_of(answer), Code::UNKNOWN);
            device.gpu().disarm();
        }).unwrap();
        assert!(device.gpu().report().is_clean());
    }

    a_loan_to_a_poisoned_stream_that_no_operation_can_take {
        let (device, mut data) = (quick(), [0_u32; 2]);
        poisoned(device.stream(|mut stream, _env| {
            break_device(&stream.ctx());
            poisoned(stream.synchronize());
            poisoned(stream.host_scope(|scope| { let _ = scope.target(&mut data); }));
        }));
    }

    a_scope_that_lends_nothing_beside_a_loan_for_life {
        let (device, data) = (quick(), [0_u32; 2]);
        device.stream(|mut stream, env| {
            let _ = env.source(&data);
            cannot_wait(&device);
            assert_eq!(code(stream.host_scope(|_| ()).unwrap_err()), Code::UNKNOWN);
            device.gpu().disarm();
        }).unwrap();
    }

    a_wait_that_fails_once_is_tried_again_while_memory_is_on_loan {
        let (device, mut data) = (quick(), [0_u32; 2]);
        device.stream(|mut stream, _env| {
            let x = staged(&stream.ctx(), &[1, 2]);
            device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(Call::StreamSynchronize), code: Code::UNKNOWN });
            stream.host_scope(|scope| scope.ctx().copy(x.view(), scope.target(&mut data))).unwrap().unwrap();
            assert_eq!((data, device.gpu().calls_since_arming()), ([1, 2], 2));
        }).unwrap();
    }

    a_visit_without_loans_and_a_lane_that_ends {
        let device = quick();
        let mut lane = device.lane().unwrap();
        let mut data = [0_u32; 2];
        lane.enter(|_stream, env| { let _ = env.target(&mut data); }).unwrap();
        // The loan has ended with its visit.
        cannot_wait(&device);
        lane.enter(|_stream, _env| ()).unwrap();
        drop(lane);
        device.gpu().disarm();
    }

    a_visit_of_a_poisoned_lane_that_lends {
        let (device, mut data) = (quick(), [0_u32; 2]);
        let mut lane = device.lane().unwrap();
        lane.enter(|mut stream, _env| {
            break_device(&stream.ctx());
            poisoned(stream.synchronize());
        }).unwrap();
        lane.enter(|_stream, env| { let _ = env.target(&mut data); }).unwrap();
    }

    a_loan_that_has_ended_does_not_count {
        let (device, mut data) = (quick(), [0_u32; 2]);
        let answer = device.stream(|mut stream, _env| {
            stream.host_scope(|scope| { let _ = scope.target(&mut data); }).unwrap();
            cannot_wait(&device);
        });
        assert_eq!(answer.map_err(code), Err(Code::UNKNOWN));
    }

    at_the_end_of_a_stream_what_the_device_may_touch_is_leaked {
        let device = quick();
        let mut places = Vec::new();
        let answer = device.stream(|stream, _env| {
            let ctx = stream.ctx();
            let x = staged(&ctx, &[7; 500]);
            places.push(x.as_ptr().addr());
            let sync = ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(64).unwrap();
            ctx.upload(&[1; 500], staged(&ctx, &[0; 500]).view_mut()).unwrap();
            drop((x, sync));
            cannot_wait(&device);
        });
        assert_eq!(answer.map_err(code), Err(Code::UNKNOWN));
        device.gpu().disarm();
        // The synchronous memory is not freed. Neither the staged memory nor that of the ring is
        // handed out again.
        assert_eq!(device.gpu().counts().of(Call::MemFree), 0);
        assert_eq!(device.gpu().report().allocations, 1);
        let used = SimBackend::PINNED.usage().used;
        assert!(used >= (1 << 20) + 2 * 2048, "{used}");
        for _ in 0..64 {
            let other = Box::leak(Box::new(Buffer::<u32, Pinned<SimBackend>>::zeros(500).unwrap()));
            assert!(!places.contains(&other.as_ptr().addr()));
        }
    }

    a_panic_goes_through_a_frame_that_cannot_wait {
        let device = quick();
        let caught = catch_unwind(AssertUnwindSafe(|| device.stream(|stream, _env| {
            let _x = stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).zeros::<u32>(64).unwrap();
            cannot_wait(&device);
            panic!("in the stream");
        })));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"in the stream"));
        assert_eq!((device.gpu().report().allocations, device.gpu().counts().of(Call::MemFree)), (1, 0));
    }

    a_full_list_of_deferred_frees_that_cannot_wait_leaks {
        let device = quick();
        let answer = device.stream_with(&StreamOptions::default().max_deferred_frees(1), |stream, _env| {
            let ctx = stream.ctx();
            // The stream is busy, and reports that it is.
            let (open, opened) = mpsc::channel::<()>();
            ctx.launch((0_u32,), move |_| assert!(opened.recv().is_err())).unwrap();
            cannot_wait(&device);
            let places: Vec<_> = (0..4).map(|i| staged(&ctx, &[i; 100])).map(|x| x.as_ptr().addr()).collect();
            assert!((0..4).all(|i| !places[..i].contains(&places[i])), "{places:x?}");
            // One deferred free is pending; the other allocations are leaked.
            assert_eq!(stream.leaked_bytes(), 3 * 400);
            device.gpu().disarm();
            drop(open);
            places
        });
        assert_eq!(answer.unwrap().len(), 4);
    }

    a_refused_free_leaks {
        let device = quick();
        device.stream(|mut stream, _env| {
            let x = stream.ctx().with_pool().zeros::<u32>(25).unwrap();
            device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(Call::MemFreeAsync), code: Code::UNKNOWN });
            drop(x);
            assert_eq!(stream.leaked_bytes(), 100);
            let y = stream.ctx().with_device_alloc(stream.ctx().sync_alloc()).zeros::<u32>(25).unwrap();
            drop(y);
            device.gpu().fail(Fault { nth: 1, onwards: false, call: Some(Call::MemFree), code: Code::UNKNOWN });
            stream.synchronize().unwrap();
            assert_eq!(stream.leaked_bytes(), 200);
            stream.synchronize().unwrap();
        }).unwrap();
        assert_eq!(device.gpu().report().allocations, 2);
    }

    a_broken_device_says_so_at_every_call_and_frees_nothing {
        let device = quick();
        let answer = device.stream_with(&StreamOptions::default().max_deferred_frees(2).ring_bytes(1024), |mut stream, _env| {
            let mut stack = Stack::new(stream.ctx().pool());
            drop(stream.ctx().with_device_alloc(&stack).zeros::<u32>(64).unwrap());
            stack.reset().unwrap();
            let ctx = stream.ctx().with_pool();
            let (x, mut y) = (ctx.zeros::<u32>(256).unwrap(), ctx.zeros::<u32>(256).unwrap());
            let z = ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(256).unwrap();
            let (up, down) = (staged(&ctx, &[1; 256]), staged(&ctx, &[0; 256]));
            let (empty, nothing) = (ctx.alloc::<u32>(256).unwrap(), ctx.zeros::<u32>(0).unwrap());
            let pending = ctx.fence(down).unwrap();
            let mut batch = BatchCopy::new();
            break_device(&ctx);
            poisoned(stream.synchronize().map(drop));

            let before = device.gpu().counts();
            let ctx = stream.ctx().with_pool();
            poisoned(ctx.copy(x.view(), y.view_mut()));
            poisoned(ctx.copy(nothing.view(), y.view_mut().slice(..0).unwrap()));
            poisoned(ctx.upload(&[1; 256], y.view_mut()));
            poisoned(ctx.clear(y.view_mut()));
            poisoned(ctx.launch((x.view(),), |_| ()));
            poisoned(ctx.zeros::<u32>(4));
            poisoned(ctx.with_device_alloc(ctx.sync_alloc()).zeros::<u32>(4));
            poisoned(ctx.with_device_alloc(&stack).zeros::<u32>(4));
            poisoned(ctx.memory_info());
            poisoned(batch.scope(&ctx, |b| b.copy(x.view(), y.view_mut())));
            poisoned(batch.scope(&ctx, |_| Ok(())));
            let rejected = ctx.init_zeros(empty).unwrap_err();
            poisoned::<()>(Err(rejected.error));
            let rejected = ctx.init_from(rejected.value, x.view()).unwrap_err();
            poisoned::<()>(Err(rejected.error));
            let empty = rejected.value;
            let rejected = ctx.fence(up).unwrap_err();
            poisoned::<()>(Err(rejected.error));
            let up = rejected.value;
            poisoned(pending.is_ready());
            let rejected = pending.wait().unwrap_err();
            poisoned::<()>(Err(rejected.error));
            let pending = rejected.value;
            poisoned(stream.is_idle());
            poisoned(stream.trim(0).map(drop));
            poisoned(stream.host_scope(|_| ()));
            poisoned(stream.synchronize().map(drop));
            assert_eq!((device.gpu().counts() - before).total(), 0, "a stream that knows asks no more");

            let leaked = stream.leaked_bytes();
            drop((x, y, z, up, pending, empty, nothing, stack));
            // The arena's region is 256 bytes, with 256 bytes of padding in front of it.
            assert_eq!(stream.leaked_bytes() - leaked, 6 * 1024 + 2 * 256);
            assert_eq!((device.gpu().counts() - before).total(), 0, "nothing is freed");
        });
        poisoned(answer);
        let report = device.gpu().report();
        assert_eq!((report.sticky, report.allocations), (Some(Code::LAUNCH_FAILED), 5));
        poisoned(device.stream(|_, _| ()));
    }

    a_sticky_answer_poisons_at_the_call_that_got_it {
        let sticky = |call| Fault { nth: 1, onwards: false, call: Some(call), code: Code::ILLEGAL_ADDRESS };
        for call in [Call::MemAllocFromPoolAsync, Call::MemAlloc, Call::MemcpyAsync, Call::MemsetD8Async, Call::LaunchKernel,
            Call::MemcpyBatchAsync, Call::EventRecord, Call::EventCreate, Call::MemGetInfo, Call::StreamQuery] {
            let device = quick();
            let answer = device.stream(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                let (x, mut y) = (ctx.zeros::<u32>(8).unwrap(), ctx.zeros::<u32>(8).unwrap());
                let up = staged(&ctx, &[1]);
                // Takes all events, so that a fence needs a new one.
                let in_use: Vec<_> = (0..8).map(|_| ctx.fence(cleared(&ctx)).unwrap()).collect();
                ctx.clear(y.view_mut()).unwrap();
                device.gpu().fail(sticky(call));
                let first = match call {
                    Call::MemAllocFromPoolAsync => ctx.alloc::<u32>(4).map(drop),
                    Call::MemAlloc => ctx.with_device_alloc(ctx.sync_alloc()).alloc::<u32>(4).map(drop),
                    Call::MemcpyAsync => ctx.copy(x.view(), y.view_mut()),
                    Call::MemsetD8Async => ctx.clear(y.view_mut()),
                    Call::LaunchKernel => ctx.launch((x.view(),), |_| ()),
                    Call::MemcpyBatchAsync => BatchCopy::new().scope(&ctx, |b| b.copy(x.view(), y.view_mut())),
                    Call::EventRecord | Call::EventCreate => ctx.fence(up).map(drop).map_err(Error::from),
                    Call::MemGetInfo => ctx.memory_info().map(drop),
                    _ => stream.is_idle().map(drop),
                };
                for answer in [first, ctx.clear(y.view_mut()), ctx.alloc::<u8>(1).map(drop)] {
                    let error = answer.unwrap_err();
                    assert!(matches!(error, Error::Poisoned(why) if why.code == Code::ILLEGAL_ADDRESS), "{call}: {error}");
                }
                drop(in_use);
            });
            assert_eq!(answer.map_err(code), Err(Code::ILLEGAL_ADDRESS), "{call}");
        }
    }

    nothing_hangs_on_a_device_that_breaks_while_it_is_waited_for {
        let options = StreamOptions::default().max_deferred_frees(1).ring_bytes(1024);
        for wait in 0..5 {
            let device = quick();
            let answer = device.stream_with(&options, |mut stream, _env| {
                let ctx = stream.ctx().with_pool();
                let mut y = ctx.zeros::<u32>(64).unwrap();
                let pending = ctx.fence(staged(&ctx, &[1])).unwrap();
                ctx.launch((0_u32,), |_| {
                    thread::sleep(Duration::from_millis(30));
                    panic!("late");
                }).unwrap();
                let late = ctx.fence(staged(&ctx, &[1])).unwrap();
                drop(pending);
                match wait {
                    0 => poisoned(stream.synchronize().map(drop)),
                    1 => poisoned(late.wait().map_err(Error::from)),
                    2 => for _ in 0..4 { drop(staged(&ctx, &[1])) },
                    3 => poisoned((0..9).try_for_each(|_| ctx.upload(&[1; 64], y.view_mut()))),
                    // More work than a stream holds.
                    _ => poisoned((0..20_000).try_for_each(|_| ctx.clear(y.view_mut()))),
                }
            });
            poisoned(answer);
        }
    }
}

/// The functions that can abort, each with a test in this binary that shows it.
const ABORTS: [(&str, &str); 12] = [
    ("BatchCopy::scope", "cuda::a_batch_that_was_copied_one_by_one"),
    ("Device::stream", "a_stream_of_any_device_with_a_loan"),
    ("Device::stream_with", "a_stream_of_any_device_with_options_and_a_loan"),
    ("HostScope::register", "a_host_scope_with_a_page_locked_source"),
    ("HostScope::register_mut", "a_host_scope_with_a_page_locked_target"),
    ("Lane::enter", "a_visit_with_a_target_on_loan"),
    ("Load::registered", "a_page_locked_file"),
    ("Stream::host_scope", "a_host_scope_with_a_target_on_loan"),
    ("cuda::Device::stream", "cuda::a_stream_with_a_loan"),
    ("cuda::Device::stream_with", "cuda::a_stream_with_options_and_a_loan"),
    ("sim::Device::stream", "a_stream_with_a_target_on_loan"),
    ("sim::Device::stream_with", "a_stream_with_options_and_a_loan"),
];

#[test]
fn each_function_that_can_abort_says_so_and_is_tested() {
    let aborting: Vec<String> = public_functions::all().into_iter().filter(|f| f.aborts).map(|f| f.path).collect();
    assert_eq!(aborting, ABORTS.map(|(path, _)| path));
    let sources = [include_str!("main.rs"), include_str!("cuda.rs")];
    for (path, test) in ABORTS {
        let (source, name) = test.strip_prefix("cuda::").map_or((sources[0], test), |name| (sources[1], name));
        assert!(source.contains(&format!("    {name} {{")), "{path}: there is no {test}");
    }
}

/// The places where the library aborts. Each is reached only through the functions above.
#[test]
fn nothing_else_aborts() {
    let places = public_functions::lines_with(&["process::abort", "process::exit", "intrinsics::abort", "abort()"]);
    assert_eq!(places, ["device/cuda/stream.rs", "stream/loans.rs"]);
}
