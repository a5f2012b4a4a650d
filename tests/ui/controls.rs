//! The corrected counterparts of the compile-fail cases. They compile, so each case fails for the
//! reason that it names.

use std::{
    alloc::Layout,
    cell::Cell,
    num::NonZero,
    ptr::NonNull,
    rc::Rc,
    sync::{Arc, Mutex, mpsc},
    thread,
};

use tidelock::{
    BatchCopy, Buffer, Ctx, DeviceLocation, Error, Permutation, Result, Stack, State, View, ViewMut,
    alloc::{AlignTo, AllocError, Allocator, HostAlloc},
    location::Host,
    sim::{self, Sim, SimBackend},
    state::{DevicePermutation, RowNumbers},
    stream::{AllocHandle, HasAlloc, StreamAlloc},
};

#[test]
fn brands() {
    let device = sim::Device::default();
    let back = device.stream(|mut a, _| {
        device.stream(|mut b, _| {
            let (ours, mut theirs) = (a.ctx().with_pool().zeros::<u32>(2)?, b.ctx().with_pool().zeros::<u32>(2)?);
            a.ctx().lend(ours.view(), &b.ctx(), |ours| b.ctx().copy(ours, theirs.view_mut()))??;
            let moved = b.ctx().transfer(theirs, &a.ctx())?;
            let _ = b.synchronize()?;
            a.read(moved.view())
        })?
    });
    assert_eq!(back.unwrap().unwrap(), [0, 0]);
}

#[test]
fn synchronize() {
    let sum = sim::Device::default().stream(|mut stream, _| {
        let tokens = stream.ctx().alloc_pinned::<u32>(3)?.write_with(|_| 5).stage(&stream.ctx());
        let done = stream.synchronize()?;
        let sum: u32 = tokens.peek(&done).iter().sum();
        // The proof is not used any more, and the stream is usable again.
        stream.ctx().copy(tokens.view(), stream.ctx().with_pool().zeros::<u32>(3)?.view_mut())?;
        // The elements may outlive the proof, which is a temporary here.
        let again = tokens.peek(&stream.synchronize()?);
        assert_eq!(again.iter().sum::<u32>(), sum);
        Ok::<_, Error>(sum)
    });
    assert_eq!(sum.unwrap().unwrap(), 15);
}

#[test]
fn staging() {
    let back = sim::Device::default().stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let up = Buffer::<u32, tidelock::location::Pinned<SimBackend>>::from_slice(&[1, 2])?.stage(&ctx);
        let device = ctx.init_from(ctx.alloc(2)?, up.view())?;
        let down = ctx.init_from(ctx.alloc_pinned(2)?.stage(&ctx), device.view())?;
        let (up, down) = (ctx.fence(up)?, ctx.fence(down)?);
        let (up, down) = (up.wait()?, down.wait()?);
        Ok::<_, Error>([up[0], up[1], down[0], down[1]])
    });
    assert_eq!(back.unwrap().unwrap(), [1, 2, 1, 2]);
}

#[test]
fn scopes() {
    let (weights, mut scratch, mut read_back) = ([1_u32, 2], [0_u32; 2], [0_u32; 2]);
    let answer = sim::Device::default().stream(|mut stream, env| {
        stream.ctx().copy(env.source(&weights), env.target(&mut scratch))?;
        stream.host_scope(|scope| scope.ctx().copy(scope.source(&weights), scope.target(&mut read_back)))?
    });
    answer.unwrap().unwrap();
    assert_eq!((scratch, read_back), ([1, 2], [1, 2]));
}

#[test]
fn arenas() {
    let capacity = sim::Device::default().stream(|stream, _| {
        let mut stack = Stack::<_, StreamAlloc<_>, AlignTo<64>>::with_align(stream.ctx().pool());
        for _ in 0..2 {
            let logits = stream.ctx().with_device_alloc(&stack).zeros::<f32>(9)?;
            drop(logits);
            stack.reset()?;
        }
        Ok::<_, Error>(stack.usage().capacity)
    });
    assert_eq!(capacity.unwrap().unwrap(), 64);
}

#[test]
fn allocators() {
    fn layer<L: DeviceLocation, A: HasAlloc<L>>(ctx: &Ctx<'_, L, A>) -> Result<usize> {
        Ok(ctx.alloc::<f32>(4)?.len() + ctx.empty_like(ctx.zeros::<f32>(3)?.view())?.len())
    }
    let device = sim::Device::default();
    assert_eq!(device.stream(|stream, _| layer(&stream.ctx().with_pool())).unwrap().unwrap(), 7);
    let shared = device.stream(|stream, _| {
        let weights = Rc::new(stream.ctx().with_pool().zeros::<f32>(3)?);
        Ok::<_, Error>(Rc::strong_count(&Rc::clone(&weights)))
    });
    assert_eq!(shared.unwrap().unwrap(), 2);
    assert_eq!(Buffer::from_owner(vec![1_u32, 2])[1], 2);
}

#[test]
fn batches() {
    let back = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let (row, mut x) = ([1_u32, 2], ctx.zeros::<u32>(4)?);
        let mut batch = BatchCopy::new();
        for _ in 0..2 {
            let (head, tail) = x.view_mut().split_at(2)?;
            batch.scope(&ctx, |b| {
                b.copy(View::from(&row[..]), head)?;
                b.group(|g| g.copy(View::from(&row[..]), tail))
            })?;
        }
        stream.read(x.view())
    });
    assert_eq!(back.unwrap().unwrap(), [1, 2, 1, 2]);
}

#[test]
fn state() {
    let back = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let width = NonZero::<usize>::MIN;
        let mut state = State::<u32, _>::zeros(&ctx, 3)?;
        ctx.upload(&[7, 8, 9], state.front_mut())?;
        let survivors = Permutation::new(&[2, 0], 3, 0)?;
        state.step(|front, back| {
            let (front, back) = (front.rows(width)?, back.rows(width)?.first(2)?);
            BatchCopy::new().scope(&ctx, |b| b.group(|g| g.warp(front, survivors, back)))
        })?;
        stream.read(state.front().slice(..2)?)
    });
    assert_eq!(back.unwrap().unwrap(), [9, 7]);
}

#[test]
fn numbers_on_the_device() {
    let back = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let width = NonZero::<usize>::MIN;
        let (front, mut back) = (ctx.upload_new(&[7_u32, 8, 9])?, ctx.zeros::<u32>(2)?);
        let survivors = DevicePermutation::upload(&ctx, Permutation::new(&[2, 0], 3, 0)?)?;
        // SAFETY: these are the numbers that were checked.
        let unchecked = unsafe { RowNumbers::unchecked(survivors.numbers().as_view(), 3, 0) };
        for numbers in [survivors.numbers(), unchecked] {
            ctx.clear(back.view_mut())?;
            let (front, back) = (front.view().rows(width)?, back.view_mut().rows(width)?);
            BatchCopy::new().scope(&ctx, |b| b.group(|g| g.warp_by(front, numbers, back)))?;
        }
        stream.read(back.view())
    });
    assert_eq!(back.unwrap().unwrap(), [9, 7]);
}

#[test]
fn elements() {
    #[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
    #[repr(C)]
    struct Sampling {
        temperature: f32,
        greedy: u8,
        unused: [u8; 3],
    }
    impl tidelock::Element for Sampling {}

    let counts = [Cell::new(1_u32), Cell::new(2)].map(|count| count.get());
    let back = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let table = ctx.init_zeros(ctx.alloc::<Sampling>(2)?)?;
        let mut device = ctx.zeros::<u32>(table.len())?;
        ctx.upload(&counts, device.view_mut())?;
        ctx.copy(device.view().try_cast::<f32>()?, ctx.alloc::<f32>(2)?.view_mut())?;
        stream.read(device.view())
    });
    assert_eq!(back.unwrap().unwrap(), [1, 2]);
}

#[test]
fn views() {
    fn shift<L: DeviceLocation>(ctx: Ctx<'_, L>, mut x: ViewMut<'_, u32, L>) -> Result<()> {
        ctx.clear(x.reborrow().slice(..1)?)?;
        let (head, tail) = x.split_at(2)?;
        ctx.copy(head.into_view(), tail)
    }
    let back = sim::Device::default().stream(|mut stream, _| {
        let mut x = stream.ctx().with_pool().zeros::<u32>(4)?;
        stream.ctx().upload(&[1, 2, 3, 4], x.view_mut())?;
        shift(stream.ctx(), x.view_mut())?;
        stream.read(x.view())
    });
    assert_eq!(back.unwrap().unwrap(), [0, 2, 0, 2]);
    assert_eq!(Buffer::<u32, Host>::from_slice(&[3]).unwrap().view().as_slice(), [3]);
}

#[test]
fn kernels() {
    let back = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut x = ctx.alloc_pinned(2)?.write_with(|i| if i == 0 { 3_u32 } else { 4 }).stage(&ctx);
        let factor = Arc::new(10);
        ctx.launch((x.view_mut(), 1_u32), move |(x, more)| x.iter_mut().for_each(|x| *x = *x * *factor + more))?;
        Ok::<_, Error>(x.reclaim(&stream.synchronize()?).to_vec())
    });
    assert_eq!(back.unwrap().unwrap(), [31, 41]);
}

/// An allocator and an element of the user's, to which the messages about sealed traits point.
#[test]
fn sealed() {
    #[derive(Clone, Copy, bytemuck::NoUninit, bytemuck::Zeroable)]
    #[repr(C)]
    struct Wide([u8; 64]);
    impl tidelock::Element for Wide {}

    /// The pool of a stream, as an allocator of the user's.
    #[derive(Clone, Copy)]
    struct Mine<'s>(StreamAlloc<Sim<'s>>);
    impl AllocHandle for Mine<'_> {}
    // SAFETY: it is the pool of the stream.
    unsafe impl<'s> Allocator<Sim<'s>> for Mine<'s> {
        fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
            self.0.alloc(layout)
        }
        unsafe fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
            unsafe { self.0.dealloc(ptr, layout) }
        }
    }

    let back = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_device_alloc(Mine(stream.ctx().pool()));
        let mut x = ctx.zeros::<Wide>(1)?;
        ctx.launch((x.view_mut(), Wide([7; 64])), |(x, wide)| x[0] = wide)?;
        let out = ctx.init_from(ctx.alloc_pinned(1)?.stage(&ctx), x.view())?;
        let mut batch = BatchCopy::new();
        batch.scope(&ctx, |b| b.copy(out.view(), x.view_mut()))?;
        let out = ctx.fence(out)?.wait()?;
        let _ = stream.synchronize()?;
        Ok::<_, Error>(out[0].0)
    });
    assert_eq!(back.unwrap().unwrap(), [7; 64]);
}

/// A stream's own thread serves requests from other threads by messages.
#[test]
fn threads() {
    enum Request {
        Add(u32, mpsc::Sender<u32>),
        Stop,
    }
    let (requests, served) = mpsc::channel();
    let batch = Arc::new(Mutex::new(BatchCopy::new()));
    let storage = Arc::clone(&batch);
    let engine = thread::spawn(move || {
        sim::Device::default().stream(|mut stream, _| {
            let mut sum = stream.ctx().with_pool().zeros::<u32>(1)?;
            while let Ok(Request::Add(n, answer)) = served.recv() {
                let ctx = stream.ctx();
                ctx.launch((sum.view_mut(), n), |(sum, n)| sum[0] += n)?;
                let mut out = ctx.init_zeros(ctx.alloc_pinned::<u32>(1)?.stage(&ctx))?;
                storage.lock().unwrap().scope(&ctx, |b| b.copy(sum.view(), out.view_mut()))?;
                let _ = answer.send(out.peek(&stream.synchronize()?)[0]);
            }
            Ok::<_, Error>(())
        })
    });
    let (answer, answers) = mpsc::channel();
    requests.send(Request::Add(2, answer.clone())).unwrap();
    requests.send(Request::Add(3, answer)).unwrap();
    assert_eq!([answers.recv().unwrap(), answers.recv().unwrap()], [2, 5]);
    requests.send(Request::Stop).unwrap();
    engine.join().unwrap().unwrap().unwrap();
    assert_eq!(batch.lock().unwrap().stats().submissions, 2);
    // An arena of host memory is sent to another thread as a whole.
    let arena = Stack::<Host>::new(HostAlloc);
    thread::spawn(move || drop(Buffer::from_slice_in(&[1_u32], &arena).unwrap())).join().unwrap();
}

/// A table of addresses is a table of numbers.
#[test]
fn addresses() {
    let table = sim::Device::default().stream(|mut stream, _| {
        let ctx = stream.ctx().with_pool();
        let rows = ctx.zeros::<i32>(4)?;
        let table = ctx.upload_new(&[rows.as_ptr().expose_provenance()])?;
        let out = ctx.init_from(ctx.alloc_pinned(1)?.stage(&ctx), table.view())?;
        Ok::<_, Error>((out.peek(&stream.synchronize()?)[0], rows.as_ptr().addr()))
    });
    let (read, address) = table.unwrap().unwrap();
    assert_eq!(read, address);
}

#[test]
fn errors() {
    let device = sim::Device::default();
    let again = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let (short, scratch) = (ctx.zeros::<u32>(1)?, ctx.alloc::<u32>(2)?);
        // Refused, and handed back.
        let scratch = ctx.init_from(scratch, short.view()).unwrap_err().value;
        Ok::<_, Error>(ctx.init_zeros(scratch)?.len())
    });
    assert_eq!(again.unwrap().unwrap(), 2);
}

#[test]
fn threads_and_streams() {
    let device = sim::Device::default();
    let memory = device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let mut weights = ctx.zeros::<u32>(2)?;
        ctx.upload(&[1, 2], weights.view_mut())?;
        Ok::<_, Error>((ctx.detach(weights)?.share(), ctx.alloc_pinned::<u32>(2)?.write_with(|_| 5)))
    });
    let (shared, pinned) = memory.unwrap().unwrap();
    let read_there = thread::scope(|scope| {
        let there = scope.spawn(|| {
            device.stream(|mut stream, _| {
                let weights = stream.ctx().attach(shared.clone())?;
                Ok::<_, Error>((stream.read(weights.view())?, pinned[0]))
            })
        });
        there.join().unwrap()
    });
    assert_eq!(read_there.unwrap().unwrap(), (vec![1, 2], 5));
}
