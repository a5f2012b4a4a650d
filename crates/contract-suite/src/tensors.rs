//! Copies between tensors of any layouts.

use tidelock::{BatchCopy, Buffer, Device, Element, Layout, layout::MAX_RANK};
use tidelock_test_support::memory::{get, noise, put, staged};

use super::run;

/// Two layouts of one shape: a transpose, columns, heads first, pages, a broadcast source, and more
/// loops than two.
fn layouts() -> Vec<(Layout<4>, Layout<4>)> {
    let strided = |shape: [usize; 4], stride| Layout::strided(shape, stride).unwrap();
    vec![
        (strided([1, 1, 40, 30], [0, 0, 1, 40]), strided([1, 1, 40, 30], [0, 0, 30, 1])),
        (strided([1, 1, 50, 24], [0, 0, 100, 1]), strided([1, 1, 50, 24], [0, 0, 24, 1])),
        (strided([1, 1, 50, 24], [0, 0, 24, 1]), strided([1, 1, 50, 24], [0, 0, 96, 1])),
        (strided([3, 16, 4, 8], [512, 32, 8, 1]), strided([3, 16, 4, 8], [512, 8, 128, 1])),
        (strided([3, 16, 4, 8], [512, 32, 8, 1]), strided([3, 16, 4, 8], [32, 100, 8, 1])),
        (strided([2, 5, 4, 8], [0, 32, 0, 1]), strided([2, 5, 4, 8], [160, 32, 8, 1])),
        (strided([2, 3, 5, 7], [1, 2, 6, 30]), strided([2, 3, 5, 7], [105, 35, 7, 1])),
        (strided([2, 3, 4, 5], [60, 20, 5, 1]), strided([2, 3, 4, 5], [60, 20, 5, 1])),
    ]
}

/// The copy by the definition.
fn by_index<T: Copy>(src: (&[T], Layout<4>), dst: (&mut [T], Layout<4>)) {
    let shape = src.1.shape();
    let size: usize = shape.iter().product();
    for i in 0..size {
        let mut rest = i;
        let mut index = [0; 4];
        for axis in (0..4).rev() {
            (index[axis], rest) = (rest % shape[axis], rest / shape[axis]);
        }
        dst.0[dst.1.offset(index).unwrap()] = src.0[src.1.offset(index).unwrap()];
    }
}

fn check<D: Device, T: Element + PartialEq + std::fmt::Debug>(device: &D, value: fn(u32) -> T) {
    for (from, to) in layouts() {
        let source: Vec<T> = noise(31, from.cosize()).into_iter().map(value).collect();
        let before: Vec<T> = noise(32, to.cosize()).into_iter().map(value).collect();
        let mut expected = before.clone();
        by_index((&source, from), (&mut expected, to));
        run(device, |stream, _| {
            let ctx = stream.ctx().with_pool();
            let (src, page) = (put(&ctx, &source), staged(&ctx, &source));
            let (mut alone, mut in_batch, mut down) = (put(&ctx, &before), put(&ctx, &before), staged(&ctx, &before));
            let mut up = put(&ctx, &before);
            ctx.copy_tensor(src.view().strided(from).unwrap(), alone.view_mut().strided(to).unwrap()).unwrap();
            BatchCopy::new()
                .scope(&ctx, |batch| {
                    batch.group(|group| {
                        group.copy_tensor(src.view().strided(from)?, in_batch.view_mut().strided(to)?)?;
                        group.copy_tensor(src.view().strided(from)?, down.view_mut().strided(to)?)?;
                        group.copy_tensor(page.view().strided(from)?, up.view_mut().strided(to)?)
                    })
                })
                .unwrap();
            for found in [&alone, &in_batch, &up] {
                assert_eq!(get(&ctx, found.view()), expected, "{from} {to}");
            }
            assert_eq!(ctx.fence(down).unwrap().wait().unwrap()[..], expected[..], "{from} {to}");
        });
    }
}

pub fn tensors_of_any_layouts_are_copied<D: Device>(device: &D) {
    check::<_, u32>(device, |x| x);
    check::<_, u8>(device, |x| x.to_le_bytes()[1]);
    check::<_, [u8; 3]>(device, |x| [x.to_le_bytes()[0], 7, x.to_le_bytes()[1]]);
    check::<_, [u64; 2]>(device, |x| [x.into(), 9]);
}

pub fn tensors_of_many_axes_and_runs<D: Device>(device: &D) {
    let shape = [2; MAX_RANK];
    let values = noise(33, 1 << MAX_RANK);
    run(device, |stream, _| {
        let ctx = stream.ctx().with_pool();
        let src = put(&ctx, &values).tensor(shape).unwrap();
        let mut dst = ctx.zeros::<u32>(1 << MAX_RANK).unwrap().tensor(shape).unwrap();
        // The axes in reverse: the bits of the index.
        ctx.copy_tensor(src.view().permute([7, 6, 5, 4, 3, 2, 1, 0]).unwrap(), dst.view_mut()).unwrap();
        let found = get(&ctx, dst.buffer().view());
        assert!((0..=u8::MAX).all(|i| found[usize::from(i)] == values[usize::from(i.reverse_bits())]));
        // More runs than one launch describes.
        let many = Buffer::<u32, tidelock::location::Host>::from_fn(1 << 17, |i| i as u32).unwrap();
        let src = put(&ctx, &many).tensor([256, 512]).unwrap();
        let fresh = ctx.alloc::<u32>(1 << 17).unwrap().tensor([512, 256]).unwrap();
        let turned = ctx.init_tensor(fresh, src.view().transpose(0, 1).unwrap()).unwrap();
        let found = get(&ctx, turned.buffer().view());
        assert!((0..512_u32).all(|i| (0..256_u32).all(|j| found[(i * 256 + j) as usize] == j * 512 + i)));
    });
}
