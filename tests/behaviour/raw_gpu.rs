//! Safe code that calls the simulated GPU of a device directly, beside the typed layer.

use std::{thread::sleep, time::Duration};

use tidelock::{driver::Code, sim};

use crate::quick;

#[test]
fn events_of_another_gpu_do_not_open_a_fence() {
    let device = quick();
    let other = sim::Gpu::new(sim::Options::quick());
    // More events than the stream has, so that one of them has the number of the fence's event.
    let events: Vec<_> = (0..16).map(|_| other.event_create().unwrap()).collect();
    device
        .stream(|stream, _env| {
            let idle = device.gpu().stream_create(0).unwrap();
            let ctx = stream.ctx().with_pool();
            let mut out = ctx.init_zeros(ctx.alloc_pinned::<u32>(8)?.stage(&ctx))?;
            let kernel = |(out,): (&mut [u32],)| {
                for x in out {
                    sleep(Duration::from_millis(5));
                    *x = 7;
                }
            };
            ctx.launch((out.view_mut(),), kernel)?;
            let pending = ctx.fence(out)?;
            for event in &events {
                assert_eq!(device.gpu().event_record(*event, idle), Err(Code::INVALID_HANDLE));
                assert_eq!(device.gpu().event_destroy(*event), Err(Code::INVALID_HANDLE));
            }
            // The fence waits for the kernel, because its event was not recorded again.
            assert_eq!(pending.wait()?[..], [7; 8]);
            device.gpu().stream_destroy(idle).unwrap();
            Ok::<_, tidelock::Error>(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(other.report().events, 16);
}
