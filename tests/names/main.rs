//! What the documents name exists: the counterparts of TurboMind's names, the types, proofs and
//! tests of each rule, and the targets of links.

mod lifetime_errors;
mod public_traits;

use core::{mem::MaybeUninit, ptr::NonNull};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use tidelock::{
    BatchCopy, Buffer, Ctx, DeviceLocation, Error, Permutation, Result, Stack, State, Stream, View,
    alloc::{Allocator, ClosureAlloc, HostAlloc, PinnedAlloc, PinnedPool},
    batch::{Batch, Group},
    buffer::Offsets,
    driver::{Backend, Pool},
    location::Host,
    sim::{self, SimBackend},
    state::DevicePermutation,
    stream::{OnBackend, StreamAlloc, StreamOptions, SyncAlloc},
};
use tidelock_test_support::memory::width;

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
    // - It is the owner's memory, which does not move and which nothing else uses. Host memory is
    //   never merged.
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
    {
        let (host, page) = (Stack::<Host>::new(HostAlloc), Stack::<L::Pinned>::new(PinnedAlloc::new()));
        let inner = ctx.with_host_alloc(&host).with_pinned_alloc(&page);
        assert_eq!(inner.alloc_in::<u32, Host>(2)?.len() + inner.alloc_pinned::<u32>(2)?.len(), 4);
        assert_eq!(inner.plain().alloc_host::<u32>(2)?.len(), 2);
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
    let pinned: &PinnedPool<SimBackend> = SimBackend::PINNED;
    PinnedPool::trim(pinned, 0).unwrap();
    let report = device.gpu().report();
    assert!(report.is_clean(), "{report:?}");
}

const TURBOMIND: &str = include_str!("../../doc/turbomind.md");
const SAFETY: &str = include_str!("../../doc/SAFETY.md");

/// The rows of all tables that have a column called `column`, each as its cells.
fn rows<'a>(document: &'a str, column: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| -> Vec<&'a str> { line.trim_matches('|').split(" | ").map(str::trim).collect() };
    let mut lines = document.lines().peekable();
    let mut rows = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("| ") && cells(line).contains(&column) {
            let table = core::iter::from_fn(|| lines.next_if(|line| line.starts_with('|')));
            rows.extend(table.filter(|line| line.starts_with("| ")).map(cells));
        }
    }
    rows
}

/// The parts between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn every_name_in_the_table_is_in_this_file() {
    let here: BTreeSet<&str> = words(include_str!("main.rs")).collect();
    let mut names = 0;
    for row in rows(TURBOMIND, "TurboMind") {
        // A single letter stands for a user's value.
        for name in quoted(row[1]).flat_map(words).filter(|name| name.len() > 1) {
            assert!(here.contains(name), "`{name}` in the row of {}", row[0]);
            names += 1;
        }
    }
    assert!(names > 80, "{names} names");
}

/// All files below a folder, without build outputs.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|path| !path.ends_with("target") && !path.ends_with(".git"));
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The alternatives of `a/{b,c}`.
fn alternatives(pattern: &str) -> Vec<String> {
    match pattern.split_once('{') {
        None => vec![pattern.to_owned()],
        Some((before, rest)) => rest.trim_end_matches('}').split(',').map(|name| format!("{before}{name}")).collect(),
    }
}

/// Whether `name` matches `pattern`. A `*` at the end of the pattern matches any rest.
fn is(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

/// The sources that the tables cite by the end of their path.
fn sources() -> Vec<PathBuf> {
    let folders = ["src", "crates", "tests"].map(|folder| files(&root().join(folder)));
    folders.into_iter().flatten().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// Whether a source whose path ends with `file` has the word `name`, or has any test if `name` is
/// `*`.
fn is_in(sources: &[PathBuf], file: &str, name: &str) -> bool {
    sources.iter().filter(|path| path.ends_with(file)).any(|path| {
        let source = fs::read_to_string(path).unwrap();
        words(&source).any(|word| is(word, name)) && (name != "*" || source.contains("#[test]") || is_a_suite(&source))
    })
}

/// Whether a macro of the file makes tests, or modules of it have them.
fn is_a_suite(source: &str) -> bool {
    source.contains("macro_rules!") || source.lines().any(|line| line.starts_with("mod "))
}

/// Asserts that each test that `cell` cites exists, and returns their number.
fn tests_exist(cell: &str, row: &str, sources: &[PathBuf]) -> usize {
    let names: Vec<String> = quoted(cell).flat_map(alternatives).collect();
    for name in &names {
        let is_there = match (name.strip_prefix("ui-tests/"), name.split_once(".rs: ")) {
            (Some(pattern), _) => files(&root().join("ui-tests")).iter().any(|path| {
                let program = path.strip_prefix(root().join("ui-tests")).unwrap().to_str().unwrap();
                program.strip_suffix(".rs").is_some_and(|program| is(program, pattern))
            }),
            (_, Some((file, test))) => is_in(sources, &format!("{file}.rs"), test),
            _ if name.contains('/') => root().join(name).is_file(),
            _ => sources.iter().any(|path| words(&fs::read_to_string(path).unwrap()).any(|word| word == name)),
        };
        assert!(is_there, "no `{name}`, in the row of {row}");
    }
    names.len()
}

#[test]
fn every_rule_has_a_type_a_proof_and_a_test_that_exist() {
    let sources = sources();
    let library: BTreeSet<String> = files(&root().join("src"))
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|source| words(&source).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let (mut rules, mut proofs, mut tests) = (BTreeSet::new(), 0, 0);
    for row in rows(SAFETY, "type that keeps it") {
        let [rule, kept_by, proof, test] = &row[..] else { panic!("four cells: {row:?}") };
        let number: u32 = rule.strip_prefix('R').and_then(|rule| rule.split('.').next()?.parse().ok()).expect(rule);
        rules.insert(number);
        for name in quoted(kept_by).flat_map(words) {
            assert!(library.contains(name), "no `{name}`, which is to keep {rule}");
        }
        for reference in quoted(proof) {
            let (file, name) = reference.split_once(": ").expect(reference);
            let is_proof = !file.starts_with("tests/") && is_in(&sources, file, name);
            assert!(is_proof, "no `{reference}`, which is to prove {rule}");
            proofs += 1;
        }
        let found = tests_exist(test, rule, &sources);
        assert!(found > 0, "no test: {rule}");
        tests += found;
    }
    assert_eq!(rules, (1..=23).collect(), "the numbers of the rules");
    assert!(proofs > 35 && tests > 90, "{proofs} proofs, {tests} tests");
}

#[test]
fn every_program_that_must_not_compile_names_a_rule() {
    let programs =
        files(&root().join("ui-tests")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let rules: BTreeSet<&str> = rows(SAFETY, "type that keeps it").iter().map(|row| before(row[0], '.')).collect();
    for program in programs {
        let source = fs::read_to_string(&program).unwrap();
        let rule = source.strip_prefix("// ").map(|line| before(line, ':')).unwrap_or_default();
        assert!(rules.contains(rule), "{}: no rule {rule:?}", program.display());
    }
}

fn before(text: &str, end: char) -> &str {
    text.split(end).next().unwrap_or_default()
}

#[test]
fn every_hole_has_a_check_that_exists() {
    let (sources, mut checks) = (sources(), 0);
    let holes = rows(SAFETY, "check");
    for row in &holes {
        let [hole, _kind, check] = &row[..] else { panic!("three cells: {row:?}") };
        let found = tests_exist(check, hole, &sources);
        assert!(found > 0, "no check: {hole}");
        checks += found;
    }
    assert!(holes.len() > 40 && checks > 60, "{} holes, {checks} checks", holes.len());
}

/// The anchor that a link to `heading` uses.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

/// The pages at the top, of `doc` and of `benches`, with their text.
fn pages() -> Vec<(PathBuf, String)> {
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let all = top.chain(files(&root().join("doc"))).chain(files(&root().join("benches")));
    let pages = all.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        // Code blocks have brackets and parentheses of their own.
        let prose: String = text.split("```").step_by(2).collect();
        for link in prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !section.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter_map(|line| line.strip_prefix('#'));
                let is_there = headings.any(|line| anchor(line.trim_start_matches(['#', ' '])) == section);
                assert!(is_there, "{}: {link}", page.display());
            }
        }
    }
    assert!(links > 80, "{links} links");
}

#[test]
fn every_page_of_doc_is_reached_from_the_design() {
    let design = fs::read_to_string(root().join("DESIGN.md")).unwrap();
    for page in files(&root().join("doc")) {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(design.contains(&format!("](doc/{name}")), "no link to {name}");
        // A section with rejected alternatives is a decision, and has its row.
        let text = fs::read_to_string(&page).unwrap();
        for section in text.split("\n## ").skip(1).filter(|section| section.contains("\nRejected:")) {
            let link = format!("](doc/{name}#{})", anchor(section.lines().next().unwrap()));
            assert!(design.contains(&link), "no row for {link}");
        }
    }
}
