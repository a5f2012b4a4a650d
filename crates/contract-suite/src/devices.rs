//! Laws of two devices of one backend.

use tidelock::{
    BatchCopy, Buffer, Ctx, Device, DeviceLocation, Error, View, ViewMut,
    stream::{On, OnBackend},
};

use super::{get, noise, put, run};

pub fn two_devices_at_once<D: Device>(one: &D, two: &D) {
    run(one, |mut a, _| {
        run(two, |mut b, _| {
            for round in 0..10 {
                let (ctx_a, ctx_b) = (a.ctx().with_pool(), b.ctx().with_pool());
                // Calls without a stream alternate between the two: each must use its own device.
                let (x, y) = (put(&ctx_a, &noise(round, 500)), put(&ctx_b, &noise(round + 1, 500)));
                let z = ctx_a.with_device_alloc(ctx_a.sync_alloc()).zeros::<u32>(100).unwrap();
                let w = ctx_b.with_device_alloc(ctx_b.sync_alloc()).zeros::<u32>(100).unwrap();
                assert_eq!(get(&ctx_b, y.view()), noise(round + 1, 500));
                assert_eq!(get(&ctx_a, x.view()), noise(round, 500));
                assert_eq!((get(&ctx_a, z.view()), get(&ctx_b, w.view())), (vec![0; 100], vec![0; 100]));
                assert!(ctx_a.memory_info().is_ok() && ctx_b.memory_info().is_ok());
                let rejected = ctx_a.transfer(x, &ctx_b).unwrap_err();
                assert_eq!(rejected.error, Error::OtherDevice { operand: "to" });
                let lent = ctx_b.lend(y.view(), &ctx_a, |_| ());
                assert_eq!(lent, Err(Error::OtherDevice { operand: "to" }));
                let rejected = ctx_b.attach(ctx_a.detach(rejected.value).unwrap()).unwrap_err();
                assert_eq!(rejected.error, Error::OtherDevice { operand: "memory" });
                drop((w, z, rejected));
                a.synchronize().unwrap();
                b.synchronize().unwrap();
            }
        });
    });
}

pub fn memory_of_another_device_is_refused<D: Device>(one: &D, two: &D) {
    let values = noise(22, 1000);
    let shared = run(one, |stream, _| stream.ctx().detach(put(&stream.ctx(), &values)).unwrap().share());
    run(one, |a, _| {
        run(two, |b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut x = put(&a, &values);
            assert_eq!(
                a.lend(x.view(), &b, |_| unreachable!("it was lent")),
                Err::<(), _>(Error::OtherDevice { operand: "to" })
            );
            let lent = a.lend_mut(x.view_mut(), &b, |_| unreachable!("it was lent"));
            assert_eq!(lent, Err::<(), _>(Error::OtherDevice { operand: "to" }));
            let rejected = a.transfer(x, &b).unwrap_err();
            assert_eq!(rejected.error, Error::OtherDevice { operand: "to" });
            let rejected = b.attach(a.detach(rejected.value).unwrap()).unwrap_err();
            assert_eq!(rejected.error, Error::OtherDevice { operand: "memory" });
            let other = b.attach(shared.clone()).unwrap_err();
            assert_eq!(other.error, Error::OtherDevice { operand: "memory" });
            // Refused memory is handed back unchanged.
            assert_eq!(get(&a, a.attach(rejected.value).unwrap().view()), values);
            assert_eq!(get(&a, a.attach(other.value).unwrap().view()), values);
        });
    });
}

pub fn pinned_memory_goes_from_device_to_device<D: Device>(one: &D, two: &D) {
    let values = noise(23, 10_000);
    run(one, |a, _| {
        run(two, |b, _| {
            let (ctx_a, ctx_b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let mut page = Buffer::<u32, <On<'_, D::Backend> as OnBackend>::Pinned>::from_slice(&values).unwrap();
            for _ in 0..5 {
                // A copy to one device, back from it, and from the same memory to the other device.
                let up = page.stage(&ctx_a);
                let x = ctx_a.init_from(ctx_a.alloc(10_000).unwrap(), up.view()).unwrap();
                let down = ctx_a.init_from(ctx_a.alloc_pinned(10_000).unwrap().stage(&ctx_a), x.view()).unwrap();
                let (up, down) = (ctx_a.fence(up).unwrap(), ctx_a.fence(down).unwrap());
                let (up, down) = (up.wait().unwrap(), down.wait().unwrap());
                assert_eq!((&up[..], &down[..]), (&values[..], &values[..]));
                let (again, mut zeros) = (down.stage(&ctx_b), up.stage(&ctx_b));
                let y = ctx_b.init_from(ctx_b.alloc(10_000).unwrap(), again.view()).unwrap();
                ctx_b.clear(zeros.view_mut()).unwrap();
                let out = ctx_b.init_from(ctx_b.alloc_pinned(10_000).unwrap().stage(&ctx_b), y.view()).unwrap();
                let [again, zeros, out] = [again, zeros, out].map(|page| ctx_b.fence(page).unwrap());
                let [again, zeros, out] = [again, zeros, out].map(|page| page.wait().unwrap());
                assert_eq!((&again[..], &zeros[..]), (&values[..], &[0; 10_000][..]));
                page = out;
                assert_eq!(page[..], values);
            }
        });
    });
}

pub fn batches_on_nested_devices<D: Device>(one: &D, two: &D) {
    let host = noise(24, 500);
    run(one, |a, _| {
        run(two, |b, _| {
            let (a, b) = (a.ctx().with_pool(), b.ctx().with_pool());
            let (mut on_a, mut on_b) = (BatchCopy::new(), BatchCopy::new());
            for round in 0..5 {
                // Neither batch depends on which device's context is current.
                let (x, y) = (put(&a, &noise(round, 1000)), put(&b, &noise(round + 100, 1000)));
                let (mut x2, mut y2) = (a.zeros::<u32>(1500).unwrap(), b.zeros::<u32>(1500).unwrap());
                exchanged(&mut on_b, &b, y.view(), &host, y2.view_mut());
                exchanged(&mut on_a, &a, x.view(), &host, x2.view_mut());
                for (seed, copied) in [(round, get(&a, x2.view())), (round + 100, get(&b, y2.view()))] {
                    let values = noise(seed, 1000);
                    assert_eq!(copied, [&values[500..], &values[..500], &host].concat());
                }
            }
        });
    });
}

/// One batch with the halves of `src` exchanged, and then `host`.
fn exchanged<L: DeviceLocation, A: Copy>(
    batch: &mut BatchCopy,
    ctx: &Ctx<'_, L, A>,
    src: View<'_, u32, L>,
    host: &[u32],
    dst: ViewMut<'_, u32, L>,
) {
    let answer = batch.scope(ctx, |batch| {
        let (dst, last) = dst.split_at(1000)?;
        let (left, right) = dst.split_at(500)?;
        batch.copy(src.slice(500..)?, left)?;
        batch.copy(src.slice(..500)?, right)?;
        batch.copy(View::from(host), last)
    });
    answer.unwrap();
}
