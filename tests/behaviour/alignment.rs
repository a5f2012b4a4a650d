//! Elements whose alignment the memory does not have: refused where the host or a kernel would see
//! them as elements.

use std::{
    mem::MaybeUninit,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytemuck::{Pod, Zeroable};
use tidelock::{
    Buffer, Element, Error, Result, Stack,
    alloc::{HostAlloc, PinnedAlloc},
    driver::Code,
    location::{Host, Pinned},
    sim::{self, Call, SimBackend},
};

use super::{assert_clean, slow};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(512))]
struct Sector([u8; 512]);
impl Element for Sector {}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);
impl Element for Page {}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(1048576))]
struct Huge([u8; 1 << 20]);
impl Element for Huge {}

/// The first byte at or behind `address` that is aligned for a `T`, counted from there.
fn up_to<T>(address: usize) -> usize {
    address.next_multiple_of(align_of::<T>()) - address
}

/// What a kernel read: the address of its slice modulo the alignment, and the first byte.
#[derive(Default)]
struct Seen(AtomicUsize, AtomicUsize);

impl Seen {
    fn note<T: Pod>(&self, slice: &[T]) {
        self.0.store(std::hint::black_box(slice.as_ptr().addr()) % align_of::<T>(), Ordering::Relaxed);
        self.1.store(bytemuck::bytes_of(&slice[0])[0].into(), Ordering::Relaxed);
    }

    fn get(&self) -> (usize, usize) {
        (self.0.load(Ordering::Relaxed), self.1.load(Ordering::Relaxed))
    }
}

/// Device and staged memory, reinterpreted as elements of `T`, as an argument of a kernel.
fn reinterpreted<T: Element + Pod>(device: &sim::Device, misaligned: bool) -> Result<()> {
    let bytes = size_of::<T>();
    device.stream(|mut stream, _| {
        let (device_saw, staged_saw) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
        {
            let ctx = stream.ctx().with_pool();
            // An allocation before it, so that its address is aligned to 512 and not to more.
            let _before = ctx.zeros::<u8>(512)?;
            let mut memory = ctx.zeros::<u8>(3 * bytes)?;
            let at = up_to::<T>(memory.as_ptr().addr());
            ctx.upload(&vec![7_u8; bytes], memory.view_mut().slice(at..at + bytes)?)?;

            let launches = device.gpu().counts().of(Call::LaunchKernel);
            let saw = device_saw.clone();
            let shared = ctx.launch((memory.view().slice(at..at + bytes)?.try_cast::<T>()?,), move |(x,)| saw.note(x));
            let exclusive = ctx.launch((memory.view_mut().slice(at..at + bytes)?.try_cast::<T>()?,), |(x,)| {
                assert_eq!(x.as_ptr().addr() % align_of::<T>(), 0);
            });
            for answer in [shared, exclusive] {
                match answer {
                    Err(Error::Driver(why)) if misaligned => assert_eq!(why.code, Code::MISALIGNED_ADDRESS),
                    answer => assert_eq!(answer, Ok(()), "{misaligned}"),
                }
            }
            let launched = device.gpu().counts().of(Call::LaunchKernel) - launches;
            assert_eq!(launched, if misaligned { 0 } else { 2 });

            // Copies do not read elements.
            let mut staged = ctx.init_zeros(ctx.alloc_pinned::<u8>(3 * bytes)?.stage(&ctx))?;
            let to = up_to::<T>(staged.as_ptr().addr());
            ctx.copy(
                memory.view().slice(at..at + bytes)?.try_cast::<T>()?,
                staged.view_mut().slice(to..to + bytes)?.try_cast::<T>()?,
            )?;
            // A kernel sees page-locked memory at its host address.
            let saw = staged_saw.clone();
            ctx.launch((staged.view().slice(to..to + bytes)?.try_cast::<T>()?,), move |(x,)| saw.note(x))?;
        }
        let _ = stream.synchronize()?;
        assert_eq!(staged_saw.get(), (0, 7));
        assert_eq!(device_saw.get(), if misaligned { (0, 0) } else { (0, 7) });
        Ok::<_, Error>(())
    })?
}

#[test]
fn a_kernel_sees_no_misaligned_elements() {
    let device = slow();
    reinterpreted::<Sector>(&device, false).unwrap();
    reinterpreted::<Page>(&device, true).unwrap();
    reinterpreted::<Huge>(&device, true).unwrap();
    assert_clean(&device);
}

/// Each way to memory of `T`, where no memory is aligned for it.
fn refused<T: Element>() -> Result<()> {
    let device = slow();
    let align = align_of::<T>();
    let is_refused = |answer: Result<()>, location| {
        let error = answer.unwrap_err();
        assert_eq!(error, Error::Alignment { location, align });
        assert!(error.to_string().contains(&align.to_string()), "{error}");
    };
    device.stream(|stream, _| {
        let ctx = stream.ctx().with_pool();
        let stack = Stack::new(ctx.pool());
        is_refused(ctx.alloc::<T>(1).map(drop), "device");
        is_refused(ctx.zeros::<T>(1).map(drop), "device");
        is_refused(ctx.with_device_alloc(&stack).alloc::<T>(1).map(drop), "device");
        is_refused(ctx.with_device_alloc(ctx.sync_alloc()).alloc::<T>(1).map(drop), "device");
        is_refused(ctx.alloc_pinned::<T>(1).map(drop), "pinned");
        let arena = Stack::<Pinned<SimBackend>>::new(PinnedAlloc::new());
        is_refused(Buffer::<MaybeUninit<T>, _, _>::uninit_in(1, &arena).map(drop), "pinned");
        let staged = ctx.init_zeros(ctx.alloc_pinned::<u8>(1)?.stage(&ctx))?;
        is_refused(Buffer::<MaybeUninit<T>, _, _>::uninit_in(1, *staged.allocator()).map(drop), "staged");

        // The host has such memory, and no elements in it.
        let host = Buffer::<MaybeUninit<T>, Host, _>::uninit_in(2, HostAlloc)?;
        assert_eq!(host.as_ptr().addr() % align, 0);
        let none = ctx.zeros::<T>(0)?;
        ctx.launch((none.view(),), move |(none,)| assert_eq!((none.len(), none.as_ptr().addr() % align), (0, 0)))?;
        Ok::<_, Error>(())
    })??;
    assert_clean(&device);
    Ok(())
}

#[test]
fn elements_aligned_beyond_what_memory_gives_are_refused() {
    refused::<Sector>().unwrap();
    refused::<Page>().unwrap();
    refused::<Huge>().unwrap();
}

#[test]
fn an_argument_by_value_is_aligned() {
    let device = slow();
    device
        .stream(|stream, _| {
            let values = (Sector([1; 512]), 3_u8, Sector([2; 512]));
            stream.ctx().launch(values, |(first, byte, second)| {
                for address in [&raw const first as usize, &raw const second as usize] {
                    assert_eq!(std::hint::black_box(address) % 512, 0);
                }
                assert_eq!((first.0[511], byte, second.0[511]), (1, 3, 2));
            })
        })
        .unwrap()
        .unwrap();
    assert_clean(&device);
}
