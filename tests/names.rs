//! What DESIGN.md names exists: what it says there is in TurboMind's place compiles, and the tests that hold a rule are there.

use core::{mem::MaybeUninit, ptr::NonNull};
use std::{
    collections::BTreeSet,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    rc::Rc,
};

use tidelock::{
    Allocator, Backend, Batch, BatchCopy, Buffer, ClosureAlloc, Ctx, DeviceLocation, DevicePermutation, Error, Group,
    Host, HostAlloc, Offsets, OnBackend, Permutation, PinnedAlloc, PinnedPool, Pool, Result, Stack, State, Stream,
    StreamAlloc, StreamOptions, SyncAlloc, View,
    sim::{self, SimBackend},
};

fn width(n: usize) -> NonZero<usize> {
    NonZero::new(n).unwrap()
}

/// Buffers: `Buffer(ssize_t, DataType, Device)` and what follows, down to `operator bool`.
fn buffers<L: DeviceLocation>(ctx: &Ctx<'_, L, StreamAlloc<L>>) -> Result<()> {
    let (device, host, pinned) = (ctx.alloc::<u32>(4)?, ctx.alloc_host::<u32>(4)?, ctx.alloc_pinned::<u32>(4)?);
    let named = Buffer::<MaybeUninit<u32>, Host, _>::uninit_in(4, HostAlloc)?;
    let page = Buffer::<MaybeUninit<u32>, <L as OnBackend>::Pinned, _>::uninit_in(4, PinnedAlloc::new())?;
    assert_eq!([device.len(), host.len(), pinned.len(), named.len(), page.len()], [4; 5]);
    assert_eq!((device.byte_len(), device.is_empty(), ctx.device_ordinal()), (16, false, 0));

    let mut owned: Buffer<u32, Host, _> = Buffer::from_owner(vec![1, 2, 3, 4]);
    let owner = vec![0_u32; 4].into_boxed_slice();
    let place = NonNull::from(&*owner).cast();
    // SAFETY:
    // - The owner's memory, which stays where it is and which nobody else uses; host memory is never merged.
    let adopted = unsafe { Buffer::<u32, Host, _>::from_raw_owner(place, 4, owner) };
    let shared = Rc::new(adopted);
    assert_eq!((shared.as_ptr(), Rc::clone(&shared).len()), (place.as_ptr().cast_const(), 4));

    assert_eq!(owned.as_mut_ptr().cast_const(), owned.as_ptr());
    assert_eq!(owned.view_mut().as_mut_ptr().cast_const(), owned.view().as_ptr());
    // SAFETY:
    // - Elements of a buffer that is borrowed as long as the view.
    let raw: View<'_, u32, Host> = unsafe { View::from_raw_parts(NonNull::from(&owned[0]), 4) };
    assert_eq!((raw.as_slice(), View::from(&owned[..]).as_slice()), (&owned[..], &owned[..]));
    assert_eq!(owned.view().try_cast::<u16>()?.slice(2..4)?.as_slice(), [2, 0]);
    assert_eq!(owned.view().bytes().len(), 16);
    let missing: Option<Buffer<u32, Host>> = None;
    assert!(missing.is_none());

    let (mut x, empty) = (ctx.zeros::<u32>(4)?, ctx.alloc(4)?);
    assert_eq!((ctx.empty_like(x.view())?.len(), ctx.alloc_in::<u8, Host>(x.len())?.len()), (4, 4));
    let y = ctx.init_from(empty, x.view())?;
    let z = ctx.init_zeros(ctx.alloc::<u32>(4)?)?;
    ctx.copy(y.view(), x.view_mut())?;
    ctx.clear(x.view_mut())?;
    assert_eq!(z.len(), 4);
    Ok(())
}

/// Allocators and the context.
fn allocators<L: DeviceLocation>(stream: &mut Stream<L>) -> Result<()> {
    let zeros = |ctx: Ctx<'_, L, StreamAlloc<L>>| ctx.zeros::<u32>(4).map(|x| x.len());
    assert_eq!(zeros(stream.ctx().with_pool())?, 4);
    let ctx = stream.ctx();
    let sync: SyncAlloc<L> = ctx.sync_alloc();
    assert_eq!(ctx.with_device_alloc(sync).zeros::<u32>(4)?.len(), 4);
    // An allocator of the stream is an `Allocator<L>`.
    fn of_stream<L: DeviceLocation>(_: &impl Allocator<L>) {}
    of_stream::<L>(&ctx.pool());
    let mut stack = Stack::new(ctx.pool());
    {
        let in_stack: Ctx<'_, L, &Stack<L>> = ctx.with_device_alloc(&stack);
        assert_eq!(in_stack.zeros::<u32>(4)?.len(), 4);
    }
    stack.reset()?;
    stack.reserve(1 << 10)?;
    assert!(stack.usage().capacity >= 1 << 10);
    stack.shrink_to(0)?;
    // SAFETY:
    // - Both are the global allocator's.
    let closures = unsafe {
        ClosureAlloc::<Host, _, _>::new(
            |layout| Allocator::<Host>::alloc(&HostAlloc, layout),
            |ptr, layout| Allocator::<Host>::dealloc(&HostAlloc, ptr, layout),
        )
    };
    assert_eq!(&Buffer::from_fn_in(2, |i| i as u32, &closures)?[..], [0, 1]);
    drop(stack);
    stream.trim(0)?;
    Ok(())
}

/// `BatchCopy`, `State`, the Warps and Append.
fn batches<L: DeviceLocation>(ctx: &Ctx<'_, L, StreamAlloc<L>>) -> Result<()> {
    let mut state = State::<u32, _>::zeros(ctx, 4)?;
    assert_eq!((state.front().len(), state.back_mut().len(), state.both().0.len()), (4, 4, 4));
    state.swap();
    let more = ctx.upload_new(&[7_u32, 7, 8, 8])?;
    let (joins, stays) = (Permutation::new(&[2, 0], 2, 1)?, Permutation::new(&[1, 0], 2, 0)?);
    let numbers = DevicePermutation::upload(ctx, joins)?;
    let mut batch = BatchCopy::new();
    let rows = width(2);
    state.step(|front, back| {
        let (mut a, mut b, mut c) = (ctx.zeros::<u32>(4)?, ctx.zeros::<u32>(4)?, ctx.zeros::<u32>(4)?);
        let (mut d, mut e, mut offsets, mut sizes) = (ctx.zeros::<u32>(4)?, ctx.zeros::<u32>(6)?, [0; 3], [0; 2]);
        let (old, new) = (front.rows(rows)?, more.view().slice(..2)?.rows(rows)?);
        let (first, second) = (Offsets::new(&[0, 2, 4], "first")?, Offsets::new(&[0, 2], "second")?);
        batch.scope(ctx, |batch| {
            batch.group(|g| {
                g.copy(front, back)?;
                g.warp(old, stays, a.view_mut().rows(rows)?)?;
                g.warp_join(old, new, joins, b.view_mut().rows(rows)?)?;
                g.warp_by(old, DevicePermutation::numbers(&numbers), c.view_mut().rows(rows)?)?;
                g.warp_join_by(old, new, numbers.numbers(), d.view_mut().rows(rows)?)?;
                let (tokens, joining) = (more.view().slice(2..)?, more.view().ragged(second)?);
                let (e, f) = e.view_mut().split_at(6)?;
                assert!(f.is_empty());
                g.append(old, &[1, 1], tokens, joining, joins, e.rows(width(3))?, &mut sizes)
            })
        })?;
        assert_eq!(sizes, [2, 2]);
        batch.scope(ctx, |batch| {
            Batch::group(batch, |g: &mut Group<'_, '_, L>| {
                let joining = more.view().ragged(second)?;
                g.warp_ragged(front.ragged(first)?, joining, joins, a.view_mut(), &mut offsets)
            })
        })?;
        assert_eq!(offsets, [0, 2, 4]);
        Ok::<_, Error>(())
    })
}

#[test]
fn every_name_in_the_table_is_in_use() {
    let device = sim::Device::default();
    for pool in [Pool::Default, Pool::Own { release_threshold: u64::MAX }] {
        let options = StreamOptions::default().pool(pool);
        device
            .stream_with(&options, |mut stream, _env| {
                buffers(&stream.ctx().with_pool())?;
                allocators(&mut stream)?;
                batches(&stream.ctx().with_pool())
            })
            .unwrap()
            .unwrap();
    }
    let pinned: &PinnedPool<SimBackend> = SimBackend::pinned_pool();
    PinnedPool::trim(pinned, 0).unwrap();
    let report = device.engine().report();
    assert!(report.is_clean(), "{report:?}");
}

const DESIGN: &str = include_str!("../DESIGN.md");

/// The rows of the tables in a section of DESIGN.md, by cells.
fn rows(section: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, text) = DESIGN.split_once(section).unwrap();
    let text = text.split("\n## ").next().unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn every_name_in_the_table_is_in_this_file() {
    let here: BTreeSet<&str> = words(include_str!("names.rs")).collect();
    let mut names = 0;
    for row in rows("## 3. ") {
        // A single letter stands for whatever the user has.
        for name in quoted(row[1]).flat_map(words).filter(|name| name.len() > 1) {
            assert!(here.contains(name), "`{name}` in the row of {}", row[0]);
            names += 1;
        }
    }
    assert!(names > 80, "{names} names");
}

/// All files of a folder and the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The alternatives of `a/{b,c}`.
fn alternatives(pattern: &str) -> Vec<String> {
    match pattern.split_once('{') {
        None => vec![pattern.to_owned()],
        Some((before, rest)) => rest.trim_end_matches('}').split(',').map(|name| format!("{before}{name}")).collect(),
    }
}

/// Whether `name` is what `pattern` says, of which `…` or `*` leaves out the beginning or the end.
fn is(name: &str, pattern: &str) -> bool {
    let left_out = ['…', '*'];
    match (pattern.strip_prefix(left_out), pattern.strip_suffix(left_out)) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => name == pattern,
    }
}

#[test]
fn every_test_that_holds_a_rule_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = files(&root.join("tests"));
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let modules: BTreeSet<String> = tests.iter().map(|path| stem(path)).collect();
    let folders = fs::read_dir(root.join("tests")).unwrap().map(|entry| stem(&entry.unwrap().path()));
    let binaries: BTreeSet<String> = folders.collect();
    let sources: Vec<String> = tests.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let functions: BTreeSet<&str> = sources.iter().flat_map(|source| words(source)).collect();
    let programs: Vec<String> = files(&root.join("ui-tests"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| format!("{}/{}", stem(path.parent().unwrap()), stem(path)))
        .collect();

    let mut names = 0;
    for row in rows("## 5. ").filter(|row| row[0].starts_with('R')) {
        for name in quoted(row[2]).flat_map(alternatives) {
            names += 1;
            if let Some(pattern) = name.strip_prefix("ui-tests/") {
                assert!(programs.iter().any(|program| is(program, pattern)), "{}: no `{name}`", row[0]);
                continue;
            }
            let (binary, path) = name.split_once(": ").unwrap_or(("", &name));
            assert!(binary.is_empty() || binaries.contains(binary), "{}: no test `{binary}`", row[0]);
            let (module, test) = path.rsplit_once("::").unwrap_or(("", path));
            assert!(module.is_empty() || modules.contains(module), "{}: no module `{module}`", row[0]);
            let is_there = functions.iter().any(|function| is(function, test));
            assert!(is_there || binaries.contains(test) || test == "lib.rs", "{}: no `{test}`", row[0]);
        }
    }
    assert!(names > 60, "{names} names");
}
