//! The contract that every allocator keeps, the laws of the arena, and the pinned pool.

#![allow(clippy::type_complexity, reason = "an allocator of two closures is best read as what it is")]

mod arenas;

use std::{
    alloc::Layout,
    cell::Cell,
    mem::{self, MaybeUninit},
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

use proptest::{collection::vec, prelude::*, test_runner::Config};
use tidelock::{
    Buffer, Ctx, Error, Stack,
    alloc::{AllocError, Allocator, ClosureAlloc, HostAlloc, PinnedAlloc, PinnedPool, StackUsage},
    driver::{Backend, Code},
    location::{Host, HostAccessible, Location, Pinned},
    sim::{self, Call, Fault, Sim, SimBackend},
    stream::{KernelAccessible, Staged},
};

/// The pinned pool belongs to the process, so tests that use it take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

type Empty<D, A> = Buffer<MaybeUninit<u8>, D, A>;

/// How a location is written and read.
trait Reach<D: Location> {
    fn fill<A: Allocator<D>>(&self, empty: Empty<D, A>, value: u8) -> Buffer<u8, D, A>;
    fn read<A: Allocator<D>>(&self, buffer: &Buffer<u8, D, A>) -> Vec<u8>;
}

/// By the host.
struct Here;

impl<D: HostAccessible> Reach<D> for Here {
    fn fill<A: Allocator<D>>(&self, empty: Empty<D, A>, value: u8) -> Buffer<u8, D, A> {
        empty.write_with(|_| value)
    }
    fn read<A: Allocator<D>>(&self, buffer: &Buffer<u8, D, A>) -> Vec<u8> {
        buffer.to_vec()
    }
}

/// By copies on a stream.
struct Through<'c, 's>(Ctx<'c, Sim<'s>>);

impl<'s, D: KernelAccessible<Sim<'s>>> Reach<D> for Through<'_, 's> {
    fn fill<A: Allocator<D>>(&self, mut empty: Empty<D, A>, value: u8) -> Buffer<u8, D, A> {
        self.0.upload::<u8, D>(&vec![value; empty.len()], empty.view_mut()).unwrap();
        // SAFETY:
        // - The upload writes every element.
        unsafe { empty.assume_init() }
    }
    fn read<A: Allocator<D>>(&self, buffer: &Buffer<u8, D, A>) -> Vec<u8> {
        let out =
            self.0.init_from(self.0.alloc_pinned::<u8>(buffer.len()).unwrap().stage(&self.0), buffer.view()).unwrap();
        self.0.fence(out).unwrap().wait().unwrap().to_vec()
    }
}

const SIZES: [usize; 18] = [1, 2, 7, 63, 64, 65, 127, 255, 256, 257, 511, 512, 513, 1000, 1024, 4096, 5000, 70_000];

/// Whether each allocation is a driver allocation of its own, so that no other touches its edges.
#[derive(Clone, Copy, PartialEq)]
enum Allocations {
    Apart,
    InOne,
}

/// Asserts the contract of `Allocator`.
fn conforms<D: Location, A: Allocator<D> + Copy>(alloc: A, allocations: Allocations, reach: &impl Reach<D>) {
    aligned(alloc);
    let take = |len: usize, value: u8| reach.fill(Empty::<D, A>::uninit_in(len, alloc).unwrap(), value);
    let mut live: Vec<(Buffer<u8, D, A>, u8)> = Vec::new();
    let mut value = 0_u8;
    // Frees some in between, so that memory is handed out again beside live allocations.
    for round in 0..4 {
        for size in SIZES {
            value = value.wrapping_add(1);
            live.push((take(size, value), value));
        }
        assert_disjoint(&live, allocations);
        live.retain(|(buffer, value)| {
            assert_eq!(reach.read(buffer), vec![*value; buffer.len()]);
            (usize::from(*value) + round) % 3 != 0
        });
    }
    for (buffer, value) in live.drain(..).rev() {
        assert_eq!(reach.read(&buffer), vec![value; buffer.len()]);
    }

    let nothing = Empty::<D, A>::uninit_in(0, alloc).unwrap();
    assert_eq!((nothing.len(), nothing.byte_len(), nothing.as_ptr().is_null()), (0, 0, false));
    let huge = isize::MAX as usize;
    assert_eq!(Empty::<D, A>::uninit_in(huge + 1, alloc).unwrap_err(), Error::TooLarge { operand: D::NAME });
    assert_eq!(Empty::<D, A>::uninit_in(usize::MAX, alloc).unwrap_err(), Error::TooLarge { operand: D::NAME });
    let error = Empty::<D, A>::uninit_in(huge, alloc).unwrap_err();
    let is_huge = |location, bytes| (location, bytes) == (D::NAME, huge);
    assert!(matches!(error, Error::OutOfMemory { location, bytes, .. } if is_huge(location, bytes)), "{error}");
    assert_eq!(reach.read(&take(100, 9)), [9; 100]);
}

/// Alignments up to 256 are kept, larger ones are kept or refused.
fn aligned<D: Location, A: Allocator<D>>(alloc: A) {
    let mut live = Vec::new();
    for align in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 4096] {
        for size in [1, 24, 300, 5000] {
            let layout = Layout::from_size_align(size, align).unwrap();
            match alloc.alloc(layout) {
                Ok(ptr) => {
                    assert_eq!(ptr.addr().get() % align, 0, "{size} bytes aligned to {align}");
                    live.push((ptr, layout));
                }
                Err(error) => {
                    assert!(align > 256, "{size} bytes aligned to {align}: {error:?}");
                    assert_eq!(error, AllocError::Alignment(u32::try_from(align).unwrap()));
                }
            }
        }
    }
    for (ptr, layout) in live {
        // SAFETY:
        // - Each was allocated by `alloc` above with this layout, and is not in use.
        unsafe { alloc.dealloc(ptr, layout) }
    }
}

fn assert_disjoint<D: Location, A: Allocator<D>>(live: &[(Buffer<u8, D, A>, u8)], allocations: Allocations) {
    let mut ranges: Vec<(usize, usize)> =
        live.iter().map(|(b, _)| (b.as_ptr().addr(), b.as_ptr().addr() + b.len())).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        match allocations {
            Allocations::Apart => assert!(pair[0].1 < pair[1].0, "adjacent: {pair:x?}"),
            Allocations::InOne => assert!(pair[0].1 <= pair[1].0, "overlapping: {pair:x?}"),
        }
    }
}

/// An allocator of two closures in front of `alloc`, which counts in `live`.
fn closures<D: Location, A: Allocator<D> + Copy>(
    alloc: A,
    live: &Cell<isize>,
) -> ClosureAlloc<D, impl Fn(Layout) -> Result<NonNull<u8>, AllocError>, impl Fn(NonNull<u8>, Layout)> {
    // SAFETY:
    // - Both closures are those of `alloc`, which keeps the contract.
    unsafe {
        ClosureAlloc::new(
            move |layout| alloc.alloc(layout).inspect(|_| live.set(live.get() + 1)),
            move |ptr, layout| {
                live.set(live.get() - 1);
                alloc.dealloc(ptr, layout);
            },
        )
    }
}

/// Runs the checks on `alloc`, and on what can be put in front of it.
fn all_conform<D: Location, A: Allocator<D> + Copy>(alloc: A, allocations: Allocations, reach: &impl Reach<D>) {
    conforms(alloc, allocations, reach);
    let live = Cell::new(0);
    let in_front = closures(alloc, &live);
    conforms(&in_front, allocations, reach);
    assert_eq!(live.get(), 0);
    {
        let mut stack = Stack::new(&in_front);
        // Without a region, each allocation is one of upstream.
        conforms(&stack, allocations, reach);
        assert_eq!((live.get(), stack.usage().in_use), (0, 0));
        stack.reset().unwrap();
        assert_eq!(live.get(), 1);
        conforms(&stack, Allocations::InOne, reach);
        // Upstream served only what is aligned to more than the arena is.
        assert_eq!((live.get(), stack.usage().in_use), (1, 0));
        stack.reset().unwrap();
        conforms(&stack, Allocations::InOne, reach);
    }
    assert_eq!(live.get(), 0);
    arenas_of_arenas(&in_front, reach);
    assert_eq!(live.get(), 0);
}

/// Runs the checks on arenas whose upstream is an arena.
fn arenas_of_arenas<D: Location, A: Allocator<D> + Copy>(alloc: A, reach: &impl Reach<D>) {
    let mut outer = Stack::new(alloc);
    {
        let mut inner = Stack::new(&outer);
        conforms(&inner, Allocations::InOne, reach);
        inner.reset().unwrap();
        conforms(&inner, Allocations::InOne, reach);
    }
    outer.reset().unwrap();
    let mut inner: Stack<D, &Stack<D, A>, tidelock::alloc::AlignTo<64>> = Stack::with_align(&outer);
    conforms_small(&inner, reach);
    inner.reset().unwrap();
    conforms_small(&inner, reach);
}

/// Checks contents only, for an arena that aligns to less than 256 bytes.
fn conforms_small<D: Location, A: Allocator<D> + Copy>(alloc: A, reach: &impl Reach<D>) {
    let taken: Vec<_> =
        (1..20).map(|i| (reach.fill(Empty::<D, A>::uninit_in(usize::from(i) * 9, alloc).unwrap(), i), i)).collect();
    assert_disjoint(&taken, Allocations::InOne);
    for (buffer, value) in &taken {
        assert_eq!(buffer.as_ptr().addr() % 64, 0);
        assert_eq!(reach.read(buffer), vec![*value; buffer.len()]);
    }
}

#[test]
fn host_allocators() {
    all_conform::<Host, _>(HostAlloc, Allocations::InOne, &Here);
}

#[test]
fn pinned_allocators() {
    let _turn = turn();
    all_conform::<Pinned<SimBackend>, _>(PinnedAlloc::new(), Allocations::InOne, &Here);
}

#[test]
fn allocators_of_a_stream() {
    let _turn = turn();
    let device = sim::Device::default();
    device
        .stream(|stream, _env| {
            let ctx = stream.ctx();
            let reach = Through(ctx);
            all_conform::<Sim<'_>, _>(ctx.pool(), Allocations::Apart, &reach);
            all_conform::<Sim<'_>, _>(ctx.sync_alloc(), Allocations::Apart, &reach);
            let staged = ctx.alloc_pinned::<u8>(1).unwrap().stage(&ctx);
            all_conform::<Staged<Sim<'_>>, _>(*staged.allocator(), Allocations::InOne, &reach);
        })
        .unwrap();
    let report = device.gpu().report();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn large_pinned_memory_is_rounded_by_a_sixteenth_at_most() {
    let _turn = turn();
    let pool = SimBackend::PINNED;
    for bytes in [(1 << 20) + 1, (5 << 20) + 3, (17 << 19) - 1, 33 << 20, (64 << 20) + 4097] {
        pool.trim(0).unwrap();
        let before = pool.usage();
        let one = Buffer::<MaybeUninit<u8>, Pinned<SimBackend>>::uninit_in(bytes, PinnedAlloc::new()).unwrap();
        let used = pool.usage().used - before.used;
        assert!((bytes..=bytes + bytes / 16).contains(&used), "{used} for {bytes}");
        // A block of small pieces holds requests of up to just above half of it. Each larger
        // request has a block of its own.
        let locked = pool.usage().reserved - before.reserved;
        assert!(locked <= (bytes + bytes / 16 + 256).max(2 << 20), "{locked} locked for {bytes}");
        drop(one);
    }
    pool.trim(0).unwrap();
}

/// Whatever sizes are requested one after the other, at most as much lies idle as was in use at one
/// time.
#[test]
fn large_pinned_memory_of_ever_other_sizes_is_bounded() {
    let _turn = turn();
    let pool = SimBackend::PINNED;
    pool.trim(0).unwrap();
    let start = pool.usage().reserved;
    let mut most = 0;
    for round in 0..200_usize {
        // 2 to 32 MiB, in random order.
        let bytes = (2 << 20) + (round * 7919 % 480) * (64 << 10);
        drop(Empty::<Pinned<SimBackend>, PinnedAlloc<SimBackend>>::uninit_in(bytes, PinnedAlloc::new()).unwrap());
        most = most.max(pool.usage().reserved - start);
    }
    // Twice the largest request that other tests of this process made, rounded: the high-water mark
    // belongs to the pool.
    assert!(most <= 2 * (68 << 20) + (34 << 20), "{most}");
    // Sizes that were locked before are not locked again.
    pool.trim(0).unwrap();
    let sizes = [30 << 20, 13 << 20, 6 << 20, 2 << 20];
    let round = || {
        for bytes in sizes {
            drop(Empty::<Pinned<SimBackend>, PinnedAlloc<SimBackend>>::uninit_in(bytes, PinnedAlloc::new()).unwrap());
        }
    };
    // In the first round, idle blocks may be unlocked for the next size: the high-water mark may be
    // as low as 34 MiB.
    (0..2).for_each(|_| round());
    let before = sim::pinned_counts();
    (0..5).for_each(|_| round());
    let made = sim::pinned_counts() - before;
    assert_eq!((made.of(Call::MemHostAlloc), made.of(Call::MemFreeHost)), (0, 0));
    pool.trim(0).unwrap();
}

#[test]
fn reserved_pinned_memory_is_locked_ahead() {
    let _turn = turn();
    let pool = SimBackend::PINNED;
    pool.trim(0).unwrap();
    let start = pool.usage();
    pool.reserve(48 << 20).unwrap();
    let locked = pool.usage().reserved - start.reserved;
    assert!((48 << 20..=(50 << 20)).contains(&locked), "{locked}");
    let before = sim::pinned_counts();
    pool.reserve(48 << 20).unwrap();
    // 20 and 10 MiB are size classes, 700 bytes take 1024, and 3 MiB and one byte take 3.125 MiB:
    // less than 48 MiB together.
    let live: Vec<_> = [20 << 20, 700, 10 << 20, (3 << 20) + 1, 700, 1 << 20]
        .map(|bytes| Buffer::<u8, Pinned<SimBackend>>::zeros(bytes).unwrap())
        .into();
    let places: Vec<_> =
        live.iter().map(|piece| (piece.as_ptr().addr(), piece.as_ptr().addr() + piece.len())).collect();
    for (i, one) in places.iter().enumerate() {
        assert!(places[i + 1..].iter().all(|other| one.1 <= other.0 || other.1 <= one.0), "{places:x?}");
    }
    drop(live);
    // Memory that was freed is used again.
    drop([20 << 20, 10 << 20, 3 << 20].map(|bytes| Buffer::<u8, Pinned<SimBackend>>::zeros(bytes).unwrap()));
    assert_eq!((sim::pinned_counts() - before).total(), 0);
    assert_eq!(pool.usage().used, start.used);
    // Everything is unlocked in one piece.
    pool.trim(0).unwrap();
    assert_eq!(pool.usage().reserved, start.reserved);
    assert_eq!(
        pool.reserve(usize::MAX).map_err(|e| e.to_string()),
        Err(format!("no pinned memory left for {} bytes", usize::MAX))
    );
}

#[test]
fn reserving_again_and_again_locks_no_more() {
    let _turn = turn();
    let pool = SimBackend::PINNED;
    pool.trim(0).unwrap();
    let start = pool.usage().reserved;
    for turn in 0..60 {
        pool.reserve(19 << 20).unwrap();
        // Small pieces of one size, then large ones of a size that changes in each turn.
        let bytes = if turn % 2 == 0 { 256 << (turn / 2 % 13) } else { (1 << 20) + (turn * 7919 % 60 + 1) * 300_000 };
        let pieces = ((3 << 20) / bytes).max(1);
        let live: Vec<_> = (0..pieces).map(|_| Buffer::<u8, Pinned<SimBackend>>::zeros(bytes).unwrap()).collect();
        drop(live);
        // One block of 20 MiB, and the blocks beside it while the pieces of the last turn are in
        // another.
        assert!(pool.usage().reserved - start <= 2 * (20 << 20), "turn {turn}: {:?}", pool.usage());
    }
    pool.trim(0).unwrap();
    assert_eq!(pool.usage().reserved, start);
}

#[test]
fn a_pool_of_ones_own_gives_back_what_it_locked() {
    let _turn = turn();
    let before = sim::pinned_counts();
    for _ in 0..20 {
        let pool = PinnedPool::<SimBackend>::new();
        pool.reserve(1 << 20).unwrap();
        pool.reserve(5 << 20).unwrap();
        assert!(pool.usage().reserved >= 6 << 20);
    }
    let made = sim::pinned_counts() - before;
    assert_eq!((made.of(Call::MemHostAlloc), made.of(Call::MemFreeHost)), (40, 40));
}

#[test]
fn memory_that_lies_idle_is_given_back_before_pinning_is_refused() {
    let _turn = turn();
    let pool = SimBackend::PINNED;
    pool.trim(0).unwrap();
    drop(Buffer::<u8, Pinned<SimBackend>>::zeros(4 << 20).unwrap());
    // The system locks 20 MiB only after the 4 MiB were unlocked.
    let fault = Fault { nth: 1, onwards: false, call: Some(Call::MemHostAlloc), code: Code::OUT_OF_MEMORY };
    let before = sim::pinned_counts();
    let (large, _) =
        sim::with_pinned_faults(Some(fault), || Buffer::<u8, Pinned<SimBackend>>::zeros(20 << 20).unwrap());
    let made = sim::pinned_counts() - before;
    assert!(made.of(Call::MemFreeHost) >= 1 && made.of(Call::MemHostAlloc) == 2, "{made:?}");
    drop(large);
    pool.trim(0).unwrap();
}

#[test]
fn pinned_blocks_are_apart() {
    let _turn = turn();
    // Each is larger than a block of small pieces, so that each has a block of its own.
    let blocks: Vec<_> = (0..4).map(|i| (Buffer::<u8, Pinned<SimBackend>>::zeros(4 << 20).unwrap(), i)).collect();
    assert_disjoint(&blocks, Allocations::Apart);
}

#[test]
fn memory_that_ends_where_a_region_starts_is_not_taken_for_a_part_of_it() {
    // Ranges of one allocation may touch: this upstream hands out ranges from the end of a block to
    // its start.
    let block = HostAlloc.alloc(Layout::from_size_align(1 << 16, 256).unwrap()).unwrap();
    let (end, live) = (Cell::new(1_usize << 16), Cell::new(0_isize));
    // SAFETY:
    // - Every range is handed out once, lies in the block, which is never freed, and starts at a
    //   multiple of 256.
    let downwards = unsafe {
        ClosureAlloc::<Host, _, _>::new(
            |layout| {
                end.set((end.get() - layout.size()) & !255);
                live.set(live.get() + 1);
                Ok(block.add(end.get()))
            },
            |_, _| live.set(live.get() - 1),
        )
    };
    let mut stack = Stack::new(&downwards);
    drop(Buffer::<u8, Host, _>::zeros_in(256, &stack).unwrap());
    stack.reset().unwrap();
    let inside = Buffer::<u8, Host, _>::zeros_in(256, &stack).unwrap();
    let outside = Buffer::<u8, Host, _>::zeros_in(256, &stack).unwrap();
    assert_eq!((stack.usage().in_use, live.get()), (512, 2));
    drop(inside);
    drop(outside);
    assert_eq!((stack.usage().in_use, stack.usage().peak, live.get()), (0, 512, 1));
    stack.reset().unwrap();
    assert_eq!(stack.usage().capacity, 512);
}

/// One step of a program on an arena.
#[derive(Clone, Debug)]
enum Step {
    Take(usize),
    /// Frees the live allocation with this index, or forgets it.
    Drop(usize),
    Forget(usize),
    Iter,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![1..600_usize, Just(256_usize), Just(0_usize)].prop_map(Step::Take),
        4 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Forget),
        1 => Just(Step::Iter),
    ]
}

/// A naive model of an arena: what lives, and where it was placed. It does not model how places are
/// chosen.
#[derive(Debug, Default)]
struct Model {
    /// The region: the address of its first usable byte, and its size.
    base: usize,
    capacity: usize,
    peak: usize,
    /// Start and end of what lives or was forgotten in the region.
    inside: Vec<(usize, usize)>,
    /// Address and size of what lives or was forgotten outside of the region.
    outside: Vec<(usize, usize)>,
    /// Whether a request did not fit in this iteration.
    missed: bool,
    /// Sizes of upstream allocations that are lost.
    lost: Vec<usize>,
}

const fn rounded(len: usize) -> usize {
    len.next_multiple_of(256)
}

impl Model {
    fn in_use(&self) -> usize {
        self.inside.iter().map(|(start, end)| end - start).chain(self.outside.iter().map(|(_, bytes)| *bytes)).sum()
    }

    /// The longest free range of the region.
    fn longest_free(&mut self) -> usize {
        self.inside.sort_unstable();
        let mut free = self.base;
        let mut longest = 0;
        for (start, end) in self.inside.iter().copied().chain([(self.base + self.capacity, usize::MAX)]) {
            longest = longest.max(start - free);
            free = end;
        }
        longest
    }

    /// Records an allocation of `len` bytes at `at`. It must lie in a free range of the region if
    /// it fits into one, and otherwise outside.
    fn take(&mut self, at: usize, len: usize) {
        let bytes = rounded(len);
        if len == 0 {
            return;
        }
        assert_eq!(at % 256, 0);
        if bytes <= self.longest_free() {
            let (start, end) = (at, at + bytes);
            assert!(
                start >= self.base && end <= self.base + self.capacity,
                "outside although it fits: {at:x} {self:x?}"
            );
            assert!(self.inside.iter().all(|(from, to)| *to <= start || end <= *from), "in use: {at:x} {self:x?}");
            self.inside.push((start, end));
        } else {
            let apart = at + bytes < self.base || at > self.base + self.capacity;
            assert!(self.capacity == 0 || apart, "inside although it does not fit: {at:x} {self:x?}");
            self.outside.push((at, bytes));
            self.missed = true;
        }
        self.peak = self.peak.max(self.in_use());
    }

    fn give_back(&mut self, at: usize, len: usize) {
        let before = self.inside.len() + self.outside.len();
        self.inside.retain(|(start, _)| *start != at);
        self.outside.retain(|(start, _)| *start != at);
        assert_eq!(self.inside.len() + self.outside.len() + usize::from(len > 0), before);
    }

    /// Ends the iteration. `last` is the last allocation of upstream: the region, if that has
    /// changed.
    fn iter(&mut self, stack: StackUsage, last: usize) {
        self.lost.extend(self.outside.iter().map(|(_, bytes)| bytes));
        if !self.missed {
            assert_eq!(stack.capacity, self.capacity, "nothing was missing");
        }
        assert!(stack.capacity >= self.capacity && stack.capacity >= self.peak, "{stack:?} {self:?}");
        let base = if stack.capacity == self.capacity { self.base } else { last + 256 };
        *self = Model { base, capacity: stack.capacity, lost: mem::take(&mut self.lost), ..Model::default() };
    }

    /// What upstream has handed out: the region, the allocations outside, and what is lost.
    fn upstream(&self) -> usize {
        usize::from(self.capacity > 0) + self.outside.len() + self.lost.len()
    }

    fn usage(&self) -> [usize; 4] {
        [self.capacity, self.in_use(), self.peak, self.lost.iter().sum()]
    }
}

fn usage(stack: StackUsage) -> [usize; 4] {
    [stack.capacity, stack.in_use, stack.peak, stack.leaked]
}

/// Runs `steps` until the first `Iter`, and returns the rest.
fn round<'p, D: Location, A: Allocator<D>>(
    stack: &Stack<D, A>,
    model: &mut Model,
    live: &Cell<isize>,
    mut steps: &'p [Step],
    reach: &impl Reach<D>,
) -> &'p [Step] {
    let mut taken: Vec<(Buffer<u8, D, &Stack<D, A>>, u8)> = Vec::new();
    let mut value = 0_u8;
    while let Some((step, rest)) = steps.split_first() {
        steps = rest;
        match step {
            Step::Take(len) => {
                value = value.wrapping_add(1);
                let buffer = reach.fill(Empty::uninit_in(*len, stack).unwrap(), value);
                model.take(buffer.as_ptr().addr(), *len);
                taken.push((buffer, value));
            }
            Step::Drop(at) | Step::Forget(at) if !taken.is_empty() => {
                let (buffer, value) = taken.remove(at % taken.len());
                assert_eq!(reach.read(&buffer), vec![value; buffer.len()]);
                if let Step::Forget(_) = step {
                    mem::forget(buffer);
                } else {
                    model.give_back(buffer.as_ptr().addr(), buffer.len());
                }
            }
            Step::Drop(_) | Step::Forget(_) => {}
            Step::Iter => break,
        }
        assert_eq!(usage(stack.usage()), model.usage());
        assert_eq!(live.get(), model.upstream() as isize);
    }
    for (buffer, value) in taken {
        assert_eq!(reach.read(&buffer), vec![value; buffer.len()]);
        model.give_back(buffer.as_ptr().addr(), buffer.len());
    }
    steps
}

fn run<D: Location, A: Allocator<D> + Copy>(upstream: A, steps: &[Step], reach: &impl Reach<D>) {
    let (live, last) = (Cell::new(0), Cell::new(0));
    let counted = closures(upstream, &live);
    // SAFETY:
    // - Both closures are those of `counted`.
    let noted = unsafe {
        ClosureAlloc::<D, _, _>::new(
            |layout| (&counted).alloc(layout).inspect(|ptr| last.set(ptr.addr().get())),
            |ptr, layout| (&counted).dealloc(ptr, layout),
        )
    };
    let (mut stack, mut model) = (Stack::new(&noted), Model::default());
    let mut steps = steps;
    while !steps.is_empty() {
        steps = round(&stack, &mut model, &live, steps, reach);
        stack.reset().unwrap();
        model.iter(stack.usage(), last.get());
        assert_eq!(usage(stack.usage()), model.usage());
        assert_eq!(live.get(), model.upstream() as isize);
    }
    drop(stack);
    assert_eq!(live.get(), model.lost.len() as isize);
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn an_arena_on_the_host_does_what_the_model_does(steps in vec(step(), 0..120)) {
        run::<Host, _>(HostAlloc, &steps, &Here);
    }

    #[test]
    fn an_arena_on_a_device_does_what_the_model_does(steps in vec(step(), 0..60), seed in any::<u64>()) {
        let _turn = turn();
        let device = sim::Device::new(sim::Options::quick().seed(seed));
        device.stream(|stream, _env| run::<Sim<'_>, _>(stream.ctx().pool(), &steps, &Through(stream.ctx()))).unwrap();
        assert_eq!(device.gpu().report().findings, Vec::<String>::new());
    }
}

#[test]
fn the_pinned_pool_reports_its_usage_and_gives_back_what_is_unused() {
    let _turn = turn();
    let pool = SimBackend::PINNED;
    pool.trim(0).unwrap();
    let start = pool.usage();
    let small = Buffer::<u8, Pinned<SimBackend>>::zeros(1000).unwrap();
    assert_eq!(pool.usage().used - start.used, 1024);
    drop(small);
    assert_eq!(pool.usage().used, start.used);

    let large = Buffer::<u8, Pinned<SimBackend>>::zeros(5 << 20).unwrap();
    assert_eq!(pool.usage().used - start.used, 5 << 20);
    let reserved = pool.usage().reserved;
    let before = sim::pinned_counts();
    pool.trim(0).unwrap();
    // The block in use stays locked; all others are unlocked.
    assert!(pool.usage().reserved >= 5 << 20 && pool.usage().reserved <= reserved);
    drop(large);
    pool.trim(usize::MAX).unwrap();
    assert!(pool.usage().reserved >= 5 << 20, "as much as is to be kept is kept");
    pool.trim(0).unwrap();
    assert_eq!(pool.usage().reserved, start.reserved);
    assert!((sim::pinned_counts() - before).of(Call::MemFreeHost) >= 1);

    // Unlocked memory is not handed out again.
    let again: Vec<_> = [100, 5000, 3 << 20].map(|len| Buffer::<u8, Pinned<SimBackend>>::zeros(len).unwrap()).into();
    assert_eq!(again.iter().map(|buffer| buffer.len()).sum::<usize>(), 5100 + (3 << 20));
    drop(again);

    // A block that cannot be unlocked stays locked, and is never handed out.
    pool.trim(0).unwrap();
    let place = Buffer::<u8, Pinned<SimBackend>>::zeros(6 << 20).unwrap().as_ptr().addr();
    let fault = Fault { nth: 1, onwards: false, call: Some(Call::MemFreeHost), code: Code::UNKNOWN };
    let (refused, _) = sim::with_pinned_faults(Some(fault), || pool.trim(0));
    assert!(matches!(refused, Err(Error::Driver(why)) if why.code == Code::UNKNOWN));
    let usage = pool.usage();
    assert!(usage.reserved >= 6 << 20 && usage.used == usage.reserved, "{usage:?}");
    let other = Buffer::<u8, Pinned<SimBackend>>::zeros(6 << 20).unwrap();
    assert!(other.as_ptr().addr().abs_diff(place) >= 6 << 20);
}
