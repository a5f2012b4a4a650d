//! What `Debug` shows of memory: its element, its location and its length, and no address.

use std::num::NonZero;

use tidelock::{Buffer, State, View, buffer::Offsets, location::Host, sim};

#[test]
fn memory_shows_its_element_location_and_length() {
    let two = NonZero::new(2).unwrap();
    let shown = sim::Device::default().stream(|stream, env| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.zeros::<f32>(4)?;
        let fresh = ctx.alloc::<half::bf16>(3)?;
        let pinned = ctx.alloc_pinned::<u8>(1)?.write_with(|_| 0);
        let state = State::<u32, _>::zeros(&ctx, 2)?;
        let offsets = Offsets::new(&[0, 1, 4], "offsets")?;
        let mut lines = vec![
            format!("{x:?}"),
            format!("{fresh:?}"),
            format!("{pinned:?}"),
            format!("{:?}", Buffer::<u32, Host>::from_slice(&[1, 2])?),
            format!("{:?}", View::from(&[1_u32][..])),
            format!("{:?}", env.source(&[1_u32; 5])),
            format!("{:?}", x.view()),
            format!("{:?}", x.view_mut()),
            format!("{:?}", x.view().rows(two)?),
            format!("{:?}", x.view_mut().rows(two)?),
            format!("{:?}", x.view().ragged(offsets)?),
            format!("{:?}", x.view().chunks_exact(two)),
            format!("{:?}", x.view_mut().chunks_exact(two)),
            format!("{state:?}"),
            format!("{ctx:?}"),
            format!("{stream:?}"),
            format!("{:#?}", x.view()),
        ];
        let staged = pinned.stage(&ctx);
        lines.push(format!("{staged:?}"));
        lines.push(format!("{:?}", ctx.fence(staged)?));
        lines.push(format!("{:?}", ctx.upload_new(&[1_u64])?.share()));
        lines.push(format!("{:?}", ctx.detach(x)?));
        Ok::<_, tidelock::Error>(lines)
    });
    let expected = [
        "Buffer<f32, device> { len: 4 }",
        "Buffer<MaybeUninit<bf16>, device> { len: 3 }",
        "Buffer<u8, pinned> { len: 1 }",
        "Buffer<u32, host> { len: 2 }",
        "View<u32, host> { len: 1 }",
        "View<u32, lent> { len: 5 }",
        "View<f32, device> { len: 4 }",
        "ViewMut<f32, device> { len: 4 }",
        "Rows<f32, device> { count: 2, width: 2, pitch: 2 }",
        "RowsMut<f32, device> { count: 2, width: 2, pitch: 2 }",
        "Ragged<f32, device> { len: 4, rows: 2 }",
        "ChunksExact<f32, device> { rest: 4, size: 2 }",
        "ChunksExactMut<f32, device> { rest: 4, size: 2 }",
        "State<u32, device> { len: 2 }",
        "Ctx<device> { device: 0, .. }",
        "Stream<device> { device: 0, .. }",
        "View<f32, device> {\n    len: 4,\n}",
        "Buffer<u8, staged> { len: 1 }",
        "Pending<u8, staged> { len: 1 }",
        "Shared<u64, device> { len: 1 }",
        "Buffer<f32, detached> { len: 4 }",
    ];
    assert_eq!(shown.unwrap().unwrap(), expected);
}
