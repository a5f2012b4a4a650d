//! The arguments of kernels: many of them, and lists of views.

use tidelock::{
    Buffer, Ctx, View, ViewMut,
    sim::{self, Device, Sim},
};

use crate::{assert_clean, get, ramp};

/// A device with the race detector on.
fn watched() -> Device {
    Device::new(sim::Options::quick().race_detector(true))
}

fn columns<'s, A: Copy + tidelock::stream::HasAlloc<Sim<'s>>, const N: usize>(
    ctx: Ctx<'_, Sim<'s>, A>,
) -> [Buffer<u32, Sim<'s>, tidelock::stream::AllocOf<A, Sim<'s>>>; N] {
    std::array::from_fn(|i| ctx.upload_new(&ramp(10 * i as u32, i + 1)).unwrap())
}

#[test]
fn a_kernel_takes_32_arguments() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut sum = ctx.zeros::<u32>(1).unwrap();
            let x = ctx.upload_new(&[1_u32, 2]).unwrap();
            let v = x.view();
            let kernel = |args: (
                &mut [u32],
                &[u32],
                &[u32],
                &[u32],
                &[u32],
                &[u32],
                &[u32],
                &[u32],
                [&[u32]; 2],
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u64,
                u8,
                f32,
            )| {
                let (sum, list) = (args.0, args.8);
                sum[0] = args.1[0] + args.7[1] + list[1][1] + args.9 + args.28 + args.29 as u32 + args.31 as u32;
            };
            let args = (
                sum.view_mut(),
                v,
                v,
                v,
                v,
                v,
                v,
                v,
                [v, v],
                1_u32,
                2_u32,
                3_u32,
                4_u32,
                5_u32,
                6_u32,
                7_u32,
                8_u32,
                9_u32,
                10_u32,
                11_u32,
                12_u32,
                13_u32,
                14_u32,
                15_u32,
                16_u32,
                17_u32,
                18_u32,
                19_u32,
                20_u32,
                21_u64,
                22_u8,
                23.0_f32,
            );
            ctx.launch(args, kernel).unwrap();
            assert_eq!(get(&mut stream, sum.view()), [1 + 2 + 2 + 1 + 20 + 21 + 23]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn a_list_of_views_is_an_array_of_slices() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut x: [_; 5] = columns(ctx);
            let read = x.each_ref().map(Buffer::view);
            let mut lengths = ctx.zeros::<u64>(5).unwrap();
            ctx.launch((read, lengths.view_mut()), |(x, lengths)| {
                lengths.iter_mut().zip(x).for_each(|(length, x)| *length = x.len() as u64);
            })
            .unwrap();
            let written = x.each_mut().map(Buffer::view_mut);
            ctx.launch((written, 7_u32), |(x, more)| x.into_iter().flatten().for_each(|x| *x += more)).unwrap();
            assert_eq!(get(&mut stream, lengths.view()), [1, 2, 3, 4, 5]);
            assert_eq!(get(&mut stream, x[4].view()), [47, 48, 49, 50, 51]);
            assert_eq!(get(&mut stream, x[0].view()), [7]);
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn lists_of_nothing_and_of_empty_views() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let mut empty = ctx.zeros::<u64>(0).unwrap();
            let none: [View<'_, u32, Sim<'_>>; 0] = [];
            let none_mut: [ViewMut<'_, u32, Sim<'_>>; 0] = [];
            ctx.launch((none, none_mut), |(none, none_mut)| assert!(none.is_empty() && none_mut.is_empty())).unwrap();
            ctx.launch(([empty.view(); 3],), |([a, b, c],)| assert!(a.is_empty() && b.is_empty() && c.is_empty()))
                .unwrap();
            ctx.launch(([empty.view_mut()],), |([a],)| assert!(a.is_empty())).unwrap();
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}

#[test]
fn lists_beyond_the_limit_of_a_launch_are_refused() {
    let device = watched();
    device
        .stream(|mut stream, _env| {
            let ctx = stream.ctx().with_pool();
            let x = ctx.zeros::<u8>(1).unwrap();
            // A view takes 16 bytes.
            ctx.launch(([x.view(); 256],), |_| ()).unwrap();
            let error = ctx.launch(([x.view(); 257],), |_| ()).unwrap_err();
            assert_eq!(error, tidelock::Error::ByValue { operand: "args", bytes: 4112, most: 4096 });
            stream.synchronize().unwrap();
        })
        .unwrap();
    assert_clean(&device);
}
