//! The same on CUDA, on the stand-in driver.

use tidelock::{
    BatchCopy, Buffer, Ctx, Result, View,
    cuda::{Batching, Cuda, Device},
    driver::Code,
    location::Host,
    stream::StreamOptions,
};
use tidelock_test_support::stand_in::{self, Control, Fault};

use crate::{cases, code};

/// `STREAM_CAPTURE_UNSUPPORTED`: the call is refused, and the device is not broken.
const REFUSED: Code = Code(900);

/// The driver, and its first device.
fn open(batching: Batching) -> (Control, Device) {
    let control = stand_in::load();
    (control, Device::open(0).unwrap().with_batching(batching))
}

/// Refuses the calls called `name` from the `nth` on, or all calls if `name` is empty.
fn from(name: &str, nth: u64) -> Fault<'_> {
    Fault { name, nth, onwards: true, releases: false, code: REFUSED.0 }
}

/// Submits a batch of two copies on the device and two out of plain host memory, whose calls
/// `fault` refuses. Returns the answer, and how many calls of that name were made.
fn batch<A: Copy>(control: &Control, ctx: &Ctx<'_, Cuda<'_>, A>, fault: Fault<'_>) -> (Result<()>, u64) {
    let ctx = ctx.with_pool();
    let (own, from) = (Buffer::<u32, Host>::from_slice(&[1, 2, 3, 4]).unwrap(), ctx.zeros::<u32>(8).unwrap());
    let [mut a, mut b, mut c, mut d] = [2, 3, 2, 2].map(|len| ctx.zeros::<u32>(len).unwrap());
    control.fail(fault);
    let answer = BatchCopy::new().scope(&ctx, |batch| {
        batch.copy(from.view().slice(..2)?, a.view_mut())?;
        batch.copy(from.view().slice(4..7)?, b.view_mut())?;
        batch.copy(own.view().slice(..2)?, c.view_mut())?;
        batch.copy(own.view().slice(2..)?, d.view_mut())
    });
    (answer, control.disarm())
}

cases! { aborts:
    a_host_scope_with_a_loan {
        let ((control, device), mut data) = (open(Batching::Auto), [0_u32; 8]);
        let _ = device.stream(|mut stream, _env| {
            control.fail(from("cuStreamSynchronize", 1));
            let _ = stream.host_scope(|scope| { let _ = scope.target(&mut data); });
        });
    }

    a_host_scope_with_a_page_locked_source {
        let ((control, device), data) = (open(Batching::Auto), vec![0_u32; 5000]);
        let _ = device.stream(|mut stream, _env| {
            let _ = stream.host_scope(|scope| {
                assert!(scope.register(&data).is_ok());
                control.fail(from("cuStreamSynchronize", 1));
            });
        });
    }

    a_host_scope_with_a_page_locked_target {
        let ((control, device), mut data) = (open(Batching::Auto), vec![0_u32; 5000]);
        let _ = device.stream(|mut stream, _env| {
            let _ = stream.host_scope(|scope| {
                assert!(scope.register_mut(&mut data).is_ok());
                control.fail(from("cuStreamSynchronize", 1));
            });
        });
    }

    a_stream_with_a_loan {
        let ((control, device), data) = (open(Batching::Auto), [0_u32; 8]);
        let _ = device.stream(|_stream, env| {
            let _ = env.source(&data);
            control.fail(from("cuStreamSynchronize", 1));
        });
    }

    a_stream_with_options_and_a_loan {
        let ((control, device), mut data) = (open(Batching::Auto), [0_u32; 8]);
        let _ = device.stream_with(&StreamOptions::default().max_deferred_frees(1), |_stream, env| {
            let _ = env.target(&mut data);
            control.fail(from("cuStreamSynchronize", 1));
        });
    }

    a_batch_that_was_copied_one_by_one {
        let (control, device) = open(Batching::Loop);
        let _ = device.stream(|stream, _env| {
            batch(&control, &stream.ctx(), from("cuStreamSynchronize", 1)).0.unwrap();
        });
    }

    a_batch_whose_last_copy_is_refused_too {
        let (control, device) = open(Batching::Loop);
        let _ = device.stream(|stream, _env| {
            batch(&control, &stream.ctx(), from("", 4)).0.unwrap();
        });
    }
}

cases! { survives:
    a_batch_of_which_nothing_is_enqueued {
        for batching in [Batching::Auto, Batching::Driver, Batching::Loop] {
            let (control, device) = open(batching);
            let answer = device.stream(|stream, _env| {
                let host = [7_u8; 1024];
                let mut x = stream.ctx().with_pool().zeros::<u8>(1024).unwrap();
                control.fail(from("", 1));
                let one = BatchCopy::new().scope(&stream.ctx(), |b| b.copy(View::from(&host[..]), x.view_mut()));
                control.disarm();
                let (several, _) = batch(&control, &stream.ctx(), from("", 1));
                (one.map_err(code), several.map_err(code))
            });
            assert_eq!(answer, Ok((Err(REFUSED), Err(REFUSED))), "{batching:?}");
            control.report().assert_clean();
        }
    }

    a_batch_copied_one_by_one_up_to_the_first_plain_source {
        let (control, device) = open(Batching::Loop);
        for nth in [1, 2, 3] {
            let answer = device.stream(|stream, _env| batch(&control, &stream.ctx(), from("", nth)).0);
            assert_eq!(answer.unwrap().map_err(code), Err(REFUSED), "{nth}");
            control.report().assert_clean();
        }
    }

    a_batch_of_several_calls_of_the_driver {
        let (control, device) = open(Batching::Driver);
        for nth in [1, 2, 3] {
            let answer = device.stream(|stream, _env| {
                let ctx = stream.ctx().with_pool();
                // 10,000 sources that cannot be merged: the driver takes 4096 in one call.
                let own: Vec<u32> = (0..20_000).collect();
                let mut target = ctx.zeros::<u32>(20_000)?;
                control.fail(from("", nth));
                let answer = BatchCopy::new().scope(&ctx, |batch| {
                    let pair = std::num::NonZero::new(2).unwrap();
                    let mut places = target.view_mut().chunks_exact(pair).zip(own.chunks_exact(2));
                    places.try_for_each(|(to, from)| batch.copy(View::from(&from[..1]), to.slice(..1)?))
                });
                control.disarm();
                answer
            });
            assert_eq!(answer.unwrap().map_err(code), Err(REFUSED), "{nth}");
            control.report().assert_clean();
        }
    }

    a_wait_for_plain_sources_that_is_refused_once {
        let (control, device) = open(Batching::Loop);
        let answer = device.stream(|stream, _env| {
            let once = Fault { onwards: false, ..from("cuStreamSynchronize", 1) };
            let (answer, waits) = batch(&control, &stream.ctx(), once);
            assert_eq!(waits, 2);
            answer
        });
        assert_eq!(answer.unwrap().map_err(code), Err(REFUSED));
        control.report().assert_clean();
    }
}
