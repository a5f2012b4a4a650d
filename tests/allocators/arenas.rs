//! How large an arena's region becomes, what an arena does when memory is short, and what it cannot
//! give back.

mod programs;

use std::{
    alloc::Layout,
    cell::{Cell, RefCell},
    collections::HashMap,
    mem,
    ptr::NonNull,
};

use programs::{Event, Random};
use tidelock::{
    Buffer, Error, Stack,
    alloc::{AllocError, Allocator, ClosureAlloc, HostAlloc},
    location::Host,
    sim,
};

/// An upstream allocator that counts, and has at most `limit` bytes.
struct Upstream {
    limit: Cell<usize>,
    used: Cell<usize>,
    most: Cell<usize>,
    calls: Cell<usize>,
    /// The call that is refused, counted from 1.
    refuse: Cell<usize>,
    sizes: RefCell<HashMap<usize, usize>>,
}

impl Upstream {
    fn new() -> Self {
        Upstream {
            limit: Cell::new(usize::MAX),
            used: Cell::new(0),
            most: Cell::new(0),
            calls: Cell::new(0),
            refuse: Cell::new(0),
            sizes: RefCell::default(),
        }
    }

    fn alloc(&self, layout: Layout) -> Result<NonNull<u8>, AllocError> {
        self.calls.set(self.calls.get() + 1);
        let used = self.used.get() + layout.size();
        if used > self.limit.get() || self.calls.get() == self.refuse.get() {
            return Err(AllocError::OutOfMemory);
        }
        let ptr = HostAlloc.alloc(layout)?;
        self.sizes.borrow_mut().insert(ptr.addr().get(), layout.size());
        self.used.set(used);
        self.most.set(self.most.get().max(used));
        Ok(ptr)
    }

    fn dealloc(&self, ptr: NonNull<u8>, layout: Layout) {
        self.calls.set(self.calls.get() + 1);
        assert_eq!(self.sizes.borrow_mut().remove(&ptr.addr().get()), Some(layout.size()), "not given out");
        self.used.set(self.used.get() - layout.size());
        // SAFETY:
        // - It was allocated above, with a layout of this size, and is freed once.
        unsafe { HostAlloc.dealloc(ptr, layout) }
    }

    fn allocator(
        &self,
    ) -> ClosureAlloc<Host, impl Fn(Layout) -> Result<NonNull<u8>, AllocError>, impl Fn(NonNull<u8>, Layout)> {
        // SAFETY:
        // - Both closures are those of the heap, except that they refuse more requests.
        unsafe { ClosureAlloc::new(|layout| self.alloc(layout), |ptr, layout| self.dealloc(ptr, layout)) }
    }
}

const fn rounded(bytes: usize) -> usize {
    bytes.next_multiple_of(256)
}

/// The most bytes of `program` that live at one time, each allocation rounded up.
fn most_alive(program: &[Event]) -> usize {
    let (mut sizes, mut live, mut most) = (Vec::new(), 0, 0);
    for event in program {
        match *event {
            Event::Take(bytes) => {
                sizes.push(rounded(bytes));
                live += rounded(bytes);
                most = most.max(live);
            }
            Event::Drop(at) => live -= sizes[at],
        }
    }
    most
}

fn run<A: Allocator<Host>>(stack: &Stack<Host, A>, program: &[Event]) -> Result<(), Error> {
    let mut taken = Vec::new();
    for event in program {
        match *event {
            Event::Take(bytes) => taken.push(Some(Buffer::<mem::MaybeUninit<u8>, Host, _>::uninit_in(bytes, stack)?)),
            Event::Drop(at) => taken[at] = None,
        }
    }
    Ok(())
}

/// Runs equal iterations. From the third on, the arena makes no upstream call. Returns the upstream
/// memory that it holds then, divided by the most bytes alive.
fn third_iteration(program: &[Event]) -> f64 {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    for _ in 0..2 {
        run(&stack, program).unwrap();
        stack.reset().unwrap();
    }
    upstream.most.set(upstream.used.get());
    upstream.calls.set(0);
    for _ in 0..2 {
        run(&stack, program).unwrap();
        stack.reset().unwrap();
    }
    assert_eq!(upstream.calls.get(), 0, "{program:?}");
    let ratio = upstream.most.get() as f64 / (most_alive(program) + 256) as f64;
    assert!(ratio >= 1.0, "less than lives: {program:?}");
    ratio
}

fn worst(programs: impl Iterator<Item = Vec<Event>>) -> f64 {
    programs.map(|program| third_iteration(&program)).fold(0.0, f64::max)
}

fn assert_at_most(limit: f64, name: &str, programs: impl Iterator<Item = Vec<Event>>) {
    let worst = worst(programs);
    println!("{name}: at worst {worst:.3} x the most bytes alive");
    assert!(worst <= limit, "{name}: {worst}");
}

#[test]
fn a_region_of_layers_is_hardly_larger_than_what_lives() {
    assert_at_most(1.0, "80 equal layers", [programs::layers(&mut Random::new(1), 80, |_| 1 << 20)].into_iter());
    let varied = |seed| programs::layers(&mut Random::new(seed), 80, |random| random.below(1 << 16) + 1);
    assert_at_most(1.25, "layers of any size", (1..300).map(varied));
    let growing = |step: usize| programs::growing_layers(12, 100 + step);
    assert_at_most(1.25, "layers that grow", (1..80).map(growing));
    let model = |seed| programs::model(&mut Random::new(seed));
    assert_at_most(1.25, "layers with temporaries", (1..300).map(model));
    let nested = |seed| programs::nested_layers(&mut Random::new(seed), 30);
    assert_at_most(1.25, "layers of any size with temporaries of any size", (1..300).map(nested));
}

#[test]
fn a_region_of_queues_and_stacks_is_hardly_larger_than_what_lives() {
    let size = |random: &mut Random| random.below(1 << 14) + 1;
    let lifo = |seed| programs::last_in_first_out(&mut Random::new(seed), 200, size);
    assert_at_most(1.0, "last in, first out", (1..200).map(lifo));
    let all = |seed| programs::window(&mut Random::new(seed), 100, 100, size);
    assert_at_most(1.0, "first in, first out, all at once", (1..200).map(all));
    let equal = |width| programs::window(&mut Random::new(1), 200, width, |_| 1000);
    assert_at_most(1.0, "first in, first out, a window of equal sizes", (1..40).map(equal));
}

/// Programs of 100 events. Between 0.5 and 0.7 of them are allocations, and a drop takes any live
/// allocation. Sizes have one of four distributions: uniform from 1 to 2 KiB, uniform up to 20 KiB,
/// of uniform magnitude from 256 bytes to 1 MiB, or one of four sizes.
#[test]
fn ten_thousand_random_programs() {
    let random = |seed| programs::random(&mut Random::new(seed), 100);
    assert_at_most(2.0, "random programs", (1..=10_000).map(random));
}

#[test]
fn neighbouring_holes_are_one() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let upstream = Upstream::new();
        let alloc = upstream.allocator();
        let mut stack = Stack::new(&alloc);
        stack.reserve(1024).unwrap();
        let mut parts = [0; 3].map(|_| Some(take(&stack, 200).unwrap()));
        let above = take(&stack, 200).unwrap();
        order.into_iter().for_each(|at| parts[at] = None);
        drop((take(&stack, 700).unwrap(), above));
        assert_eq!(upstream.calls.get(), 1, "{order:?}");
    }
}

#[test]
fn a_change_is_settled_two_iterations_later() {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    for seed in 1..40 {
        let program = programs::random(&mut Random::new(seed), 60);
        for round in 0..4 {
            upstream.calls.set(0);
            run(&stack, &program).unwrap();
            stack.reset().unwrap();
            assert!(round < 2 || upstream.calls.get() == 0, "{program:?}");
        }
    }
}

fn take<A: Allocator<Host>>(stack: &Stack<Host, A>, bytes: usize) -> Result<Buffer<u8, Host, &Stack<Host, A>>, Error> {
    Buffer::zeros_in(bytes, stack)
}

#[test]
fn a_reserved_region_spares_the_first_iteration_its_calls() {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    stack.reserve(10_000).unwrap();
    assert_eq!((stack.usage().capacity, upstream.used.get(), upstream.calls.get()), (10_240, 10_496, 1));
    for _ in 0..3 {
        let (a, b) = (take(&stack, 5_000).unwrap(), take(&stack, 5_000).unwrap());
        drop(a);
        drop((take(&stack, 5_000).unwrap(), b));
        stack.reset().unwrap();
    }
    stack.reserve(10_240).unwrap();
    assert_eq!((stack.usage().capacity, upstream.calls.get()), (10_240, 1));
    // A request that fails leaves the region as it was.
    assert_eq!(stack.reserve(usize::MAX), Err(Error::TooLarge { operand: "stack" }));
    assert_eq!(stack.reserve(isize::MAX as usize), Err(Error::TooLarge { operand: "stack" }));
    assert_eq!(upstream.calls.get(), 1);
    upstream.limit.set(20_000);
    assert_eq!(stack.reserve(30_000), Err(Error::OutOfMemory { location: "host", bytes: 30_208, shortage: None }));
    assert_eq!((stack.usage().capacity, upstream.used.get()), (10_240, 10_496));
    drop(take(&stack, 10_240).unwrap());
    assert_eq!(upstream.most.get(), 10_496);
    stack.reserve(19_000).unwrap();
    assert_eq!(stack.usage().capacity, 19_200);
    // What was forgotten in the old region is not counted in the new one.
    mem::forget(take(&stack, 19_200).unwrap());
    upstream.limit.set(usize::MAX);
    stack.reserve(20_000).unwrap();
    assert_eq!((stack.usage().in_use, stack.usage().peak), (0, 19_200));
    let calls = upstream.calls.get();
    drop(take(&stack, 20_000).unwrap());
    assert_eq!(upstream.calls.get(), calls);
    drop(stack);
    assert_eq!(upstream.used.get(), 0);
}

#[test]
fn a_region_shrinks_to_what_the_last_iteration_needed() {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    let layers = programs::layers(&mut Random::new(1), 20, |_| 1000);
    for outlier in [0, 1 << 20, 0] {
        run(&stack, &layers).unwrap();
        if outlier > 0 {
            drop(take(&stack, outlier).unwrap());
        }
        stack.reset().unwrap();
    }
    assert_eq!(stack.usage().capacity, 1 << 20, "it does not shrink by itself");
    stack.shrink_to(5_000).unwrap();
    assert_eq!((stack.usage().capacity, upstream.used.get()), (5_120, 5_376));
    stack.shrink_to(1 << 20).unwrap();
    assert_eq!(stack.usage().capacity, 5_120, "it does not grow");
    stack.shrink_to(0).unwrap();
    assert_eq!((stack.usage().capacity, upstream.used.get()), (2_048, 2_304));
    upstream.calls.set(0);
    run(&stack, &layers).unwrap();
    stack.reset().unwrap();
    assert_eq!(upstream.calls.get(), 0, "the same program fits");
    // After an iteration without allocations the arena keeps nothing, and the next one starts from
    // zero.
    stack.reset().unwrap();
    stack.shrink_to(0).unwrap();
    assert_eq!((stack.usage().capacity, upstream.used.get()), (0, 0));
    run(&stack, &layers).unwrap();
    stack.reset().unwrap();
    assert_eq!(stack.usage().capacity, 2_048);
}

const M: usize = 1 << 20;

#[test]
fn an_idle_region_makes_way() {
    let device = sim::Device::new(sim::Options::quick().memory_limit(64 * M));
    let answer = device.stream(|mut stream, _| {
        let mut stack = Stack::new(stream.ctx().pool());
        drop(stream.ctx().with_device_alloc(&stack).alloc::<u8>(40 * M)?);
        stack.reset()?;
        for round in 0..4_u8 {
            stream.synchronize()?;
            let x = stream.ctx().with_device_alloc(&stack).zeros::<u8>(41 * M);
            // The region goes at once if the device no longer uses it, and otherwise in the next
            // iteration.
            assert!(round == 0 || x.is_ok(), "{round}: {x:?}");
            drop(x);
            stream.synchronize()?;
            stack.reset()?;
        }
        assert_eq!(stack.usage().capacity, 41 * M);
        Ok::<(), Error>(())
    });
    answer.unwrap().unwrap();
    assert!(device.gpu().report().is_clean());
}

#[test]
fn an_idle_region_makes_way_at_once_where_memory_is_free_at_once() {
    const M: usize = 1 << 12;
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    upstream.limit.set(64 * M);
    stack.reserve(40 * M).unwrap();
    drop(take(&stack, 41 * M).unwrap());
    stack.reset().unwrap();
    assert_eq!(stack.usage().capacity, 41 * M);
    // If upstream is out of memory, the arena gives up its region, and has one again two iterations
    // later.
    assert!(take(&stack, 65 * M).is_err());
    for _ in 0..2 {
        stack.reset().unwrap();
        drop(take(&stack, 41 * M).unwrap());
    }
    stack.reset().unwrap();
    assert_eq!((stack.usage().capacity, upstream.used.get()), (41 * M, 41 * M + 256));
}

#[test]
fn a_refused_request_is_met_in_the_next_iteration() {
    const M: usize = 1 << 12;
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    upstream.limit.set(64 * M);
    stack.reserve(40 * M).unwrap();
    let program = |stack: &Stack<Host, _>| {
        let (a, b) = (take(stack, 10 * M)?, take(stack, 10 * M)?);
        drop(a);
        let large = take(stack, 45 * M);
        drop(b);
        large.map(drop)
    };
    let refused = Error::OutOfMemory { location: "host", bytes: 45 * M, shortage: None };
    assert_eq!(program(&stack), Err(refused));
    stack.reset().unwrap();
    for _ in 0..3 {
        assert_eq!(program(&stack), Ok(()));
        stack.reset().unwrap();
    }
    assert!(stack.usage().capacity <= 56 * M, "{:?}", stack.usage());
    // A request that upstream cannot serve fails, and changes nothing.
    let mut before = stack.usage();
    for _ in 0..3 {
        let small = take(&stack, 100).unwrap();
        assert!(take(&stack, 64 * M).is_err());
        drop(small);
        stack.reset().unwrap();
        assert_eq!(stack.usage(), mem::replace(&mut before, stack.usage()));
        assert_eq!(program(&stack), Ok(()));
        stack.reset().unwrap();
    }
    drop(stack);
    assert_eq!(upstream.used.get(), 0);
}

#[test]
fn every_call_to_upstream_refused_once() {
    let scenario = |upstream: &Upstream| {
        let alloc = upstream.allocator();
        let mut stack = Stack::new(&alloc);
        let mut errors = 0;
        let mut count = |answer: Result<(), Error>| errors += usize::from(answer.is_err());
        for round in 1..6 {
            count(stack.reserve(3_000 * (round % 3)));
            let layers = programs::layers(&mut Random::new(round as u64), 6, |random| random.below(4_000 * round) + 1);
            count(run(&stack, &layers));
            {
                let small = take(&stack, 700);
                count(take(&stack, 9_000 * round).map(drop));
                count(small.map(drop));
            }
            assert_eq!(stack.usage().in_use, 0);
            count(stack.reset());
            count(stack.shrink_to(1_000));
        }
        // The arena works again, whatever was refused.
        let calls = upstream.calls.get();
        upstream.refuse.set(0);
        for _ in 0..3 {
            let x = take(&stack, 5_000).unwrap();
            assert!(x.iter().all(|byte| *byte == 0));
            drop(x);
            stack.reset().unwrap();
        }
        assert!(stack.usage().capacity >= 5_000);
        assert_eq!(stack.usage().leaked, 0);
        (errors, calls)
    };
    let (errors, calls) = scenario(&Upstream::new());
    assert!(errors == 0 && calls > 20);
    let mut seen = 0;
    for nth in 1..=calls {
        let upstream = Upstream::new();
        upstream.refuse.set(nth);
        seen += scenario(&upstream).0;
        assert_eq!(upstream.used.get(), 0, "call {nth} of {calls}");
    }
    assert!(seen > calls / 3, "{seen}");
}

#[test]
fn what_is_forgotten_outside_of_the_region_is_counted() {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    let mut leaked = 0;
    for round in 1..5 {
        let (inside, outside) = (take(&stack, 100).unwrap(), take(&stack, 1_000 * round).unwrap());
        if stack.usage().capacity < 256 + rounded(1_000 * round) {
            leaked += rounded(1_000 * round) + if round == 1 { 256 } else { 0 };
        }
        mem::forget((inside, outside));
        assert!(stack.usage().leaked < leaked || round > 4);
        stack.reset().unwrap();
        assert_eq!(stack.usage().leaked, leaked);
        assert_eq!(stack.usage().in_use, 0);
        assert_eq!(upstream.used.get(), leaked + stack.usage().capacity + 256);
    }
    // In the region nothing is lost.
    for _ in 0..5 {
        mem::forget(take(&stack, 4_000).unwrap());
        stack.reset().unwrap();
    }
    assert_eq!(stack.usage().leaked, leaked);
    drop(stack);
    assert_eq!(upstream.used.get(), leaked);
}

#[test]
fn nothing_at_all_and_what_is_aligned_to_more() {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    for round in 0..3 {
        let calls = upstream.calls.get();
        for align in [1, 256, 4096] {
            let layout = Layout::from_size_align(0, align).unwrap();
            let ptr = (&stack).alloc(layout).unwrap();
            assert_eq!(ptr.addr().get() % align, 0);
            // SAFETY:
            // - It was allocated by `alloc` above, with this layout.
            unsafe { (&stack).dealloc(ptr, layout) }
        }
        assert_eq!((upstream.calls.get(), stack.usage().in_use), (calls, 0));
        let layout = Layout::from_size_align(300, 4096).unwrap();
        let ptr = (&stack).alloc(layout).unwrap();
        assert_eq!((ptr.addr().get() % 4096, stack.usage().in_use, upstream.calls.get()), (0, 512, calls + 1));
        let beside = take(&stack, 600).unwrap();
        // SAFETY:
        // - It was allocated by `alloc` above, with this layout.
        unsafe { (&stack).dealloc(ptr, layout) }
        assert_eq!(stack.usage().in_use, 768);
        drop(beside);
        stack.reset().unwrap();
        assert_eq!(stack.usage().capacity, 768, "round {round}: the region is for what goes into it");
    }
}

#[test]
fn a_panic_leaves_the_arena_empty() {
    let upstream = Upstream::new();
    let alloc = upstream.allocator();
    let mut stack = Stack::new(&alloc);
    for _ in 0..3 {
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (a, b, _c) = (take(&stack, 100).unwrap(), take(&stack, 2000).unwrap(), take(&stack, 300).unwrap());
            drop(b);
            let _d = take(&stack, 50).unwrap();
            std::panic::panic_any(a.len());
        }));
        assert_eq!(answer.unwrap_err().downcast_ref(), Some(&100_usize));
        assert_eq!(stack.usage().in_use, 0);
        stack.reset().unwrap();
    }
    assert_eq!(stack.usage().capacity, 256 + 2048 + 512);
}

#[test]
fn each_thread_has_an_arena_of_its_own() {
    std::thread::scope(|scope| {
        for seed in 1..5 {
            scope.spawn(move || {
                let program = programs::random(&mut Random::new(seed), 200);
                assert!(third_iteration(&program) <= 2.0);
            });
        }
    });
}
