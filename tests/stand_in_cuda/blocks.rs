//! The launches of copies between layouts: which kernels there are, and how many launches.

use tidelock::{
    BatchCopy, Layout, Stream,
    buffer::Scatter,
    cuda::{CopyKernels, Cuda, Device},
};
use tidelock_test_support::{
    memory::{get, noise, put, staged},
    stand_in,
};

const LAUNCH: &str = "cuLaunchKernelEx";

/// The calls of a batch of one copy for each of `layers`, of elements of type `T`.
fn calls<T: tidelock::Element + PartialEq + std::fmt::Debug, const R: usize>(
    layers: usize,
    (from, to): (Layout<R>, Layout<R>),
    scatter: Option<&Scatter>,
    value: fn(u32) -> T,
) -> String {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    assert_eq!(device.copy_kernels(), CopyKernels::Loaded);
    let calls = device.stream(|stream: Stream<Cuda<'_>>, _| {
        let ctx = stream.ctx().with_pool();
        let values: Vec<T> = noise(51, from.cosize()).into_iter().map(value).collect();
        let blank: Vec<T> = vec![value(0); to.cosize()];
        let src: Vec<_> = (0..layers).map(|_| put(&ctx, &values)).collect();
        let mut dst: Vec<_> = (0..layers).map(|_| put(&ctx, &blank)).collect();
        let mut batch = BatchCopy::new();
        let (calls, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                batch.group(|group| {
                    src.iter().zip(&mut dst).try_for_each(|(src, dst)| {
                        let (src, dst) = (src.view().strided(from)?, dst.view_mut().strided(to)?);
                        match scatter {
                            Some(scatter) => group.copy_blocks(src, scatter, dst),
                            None => group.copy_tensor(src, dst),
                        }
                    })
                })
            })
        });
        answer.unwrap();
        for dst in &dst {
            let found = get(&ctx, dst.view());
            assert!(found.iter().filter(|found| **found != value(0)).count() * 2 > from.size() / 4);
        }
        calls.join(" ")
    });
    control.report().assert_clean();
    calls.unwrap()
}

fn layout<const R: usize>(shape: [usize; R], stride: [usize; R]) -> Layout<R> {
    Layout::strided(shape, stride).unwrap()
}

#[test]
fn layers_of_blocks_are_one_launch() {
    let (heads, tokens) = (layout([8, 4, 4, 8], [128, 32, 8, 1]), layout([8, 4, 4, 8], [128, 8, 32, 1]));
    let mut scatter = Scatter::new();
    scatter.set([(7, 0), (1, 3), (4, 2), (5, 7)], 8, 8).unwrap();
    for layers in [1, 2, 16, 128] {
        assert_eq!(calls(layers, (heads, tokens), Some(&scatter), |x| x), LAUNCH, "{layers} layers");
    }
    let found = calls(129, (heads, tokens), Some(&scatter), |x| x);
    assert_eq!(found, [LAUNCH; 2].join(" "), "more layers than one launch takes");
}

/// The kernels run on a stream of their own, and copies of whole blocks on the program's.
#[test]
fn whole_blocks_are_staged_on_the_device() {
    let control = stand_in::load();
    let device = Device::open(0).unwrap();
    assert_eq!(device.copy_kernels(), CopyKernels::Loaded);
    let answer = device.stream(|stream: Stream<Cuda<'_>>, _| {
        let ctx = stream.ctx().with_pool();
        let by_layer = layout([40, 2, 8192], [8192, 40 * 8192, 1]);
        let mut cache = put(&ctx, &noise(52, by_layer.size()));
        let mut pages = staged(&ctx, &vec![0; by_layer.size()]);
        let mut scatter = Scatter::new();
        scatter.set((0..40).map(|i| (39 - i, i)), 40, 40).unwrap();
        let mut batch = BatchCopy::new();
        let (first, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                let pages = pages.view_mut().tensor([40, 2, 8192])?;
                batch.group(|group| group.copy_blocks(cache.view().strided(by_layer)?, &scatter, pages))
            })
        });
        answer.unwrap();
        let (back, answer) = control.calls_of(|| {
            batch.scope(&ctx, |batch| {
                let pages = pages.view().tensor([40, 2, 8192])?;
                batch.group(|group| group.copy_blocks(pages, &scatter, cache.view_mut().strided(by_layer)?))
            })
        });
        answer.unwrap();
        // Two pieces, 32 blocks and 8, each of which is one copy where the pages follow each other.
        let piece = "cuLaunchKernelEx cuEventRecord cuStreamWaitEvent cuMemcpyAsync cuEventRecord";
        let down = format!("cuMemAllocFromPoolAsync cuEventRecord cuStreamWaitEvent {piece} {piece} cuMemFreeAsync");
        let is_of_copies =
            |name: &&String| !["Attribute", "Create", "Current"].iter().any(|other| name.contains(other));
        let calls = |calls: Vec<String>| calls.iter().filter(is_of_copies).cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(calls(first), down);
        // The pages are not in the order of the pairs.
        let piece = "cuMemcpyBatchAsync_v2 cuEventRecord cuStreamWaitEvent cuLaunchKernelEx cuEventRecord";
        assert_eq!(calls(back), format!("cuMemAllocFromPoolAsync {piece} {piece} cuStreamWaitEvent cuMemFreeAsync"));
    });
    answer.unwrap();
    control.report().assert_clean();
}

#[test]
fn tensors_of_many_runs_are_one_launch() {
    let turned = |rows: usize, columns: usize| {
        (layout([1, rows, columns], [0, 1, rows]), layout([1, rows, columns], [0, columns, 1]))
    };
    assert_eq!(calls::<u8, 3>(1, turned(132, 70), None, |x| x.to_le_bytes()[0] | 1), LAUNCH);
    assert_eq!(calls::<u16, 3>(1, turned(64, 70), None, |x| u16::from(x.to_le_bytes()[0]) | 1), LAUNCH);
    assert_eq!(calls::<u32, 3>(1, turned(65, 33), None, |x| x | 1), LAUNCH);
    assert_eq!(calls::<u64, 3>(1, turned(20, 70), None, |x| u64::from(x) | 1), LAUNCH);
    // Rows with a pitch, of any length.
    for width in [1, 2, 3, 12, 20, 31] {
        let pitched = (layout([1, 40, width], [0, 32, 1]), layout([1, 40, width], [0, 33, 1]));
        assert_eq!(calls::<u8, 3>(1, pitched, None, |x| x.to_le_bytes()[0] | 1), LAUNCH, "{width}");
    }
}
