//! The public functions of the library, read from its source, to compare the tables of a sweep
//! with.
//!
//! A function is public here if a program can call it: `pub fn` of a public type, functions of
//! public traits, free functions, and `Drop::drop` of public types. Functions that are
//! `#[doc(hidden)]`, or declared for tests only, are not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// One public function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicFn {
    /// `Type::function`, with `sim::` or `cuda::` in front if it belongs to one device.
    pub path: String,
    /// The last part of the path.
    pub name: String,
    /// Whether its documentation says when it aborts the process.
    pub aborts: bool,
}

/// Functions that borrow existing memory or numbers, or parts of them: they make no driver call and
/// allocate nothing.
pub const VIEWS: &[&str] = &[
    "Buffer::as_mut_ptr",
    "Buffer::as_ptr",
    "Buffer::view",
    "Buffer::view_mut",
    "DevicePermutation::numbers",
    "DevicePermutation::permutation",
    "Indices::as_slice",
    "Indices::bound",
    "Offsets::end",
    "Offsets::of_part",
    "Offsets::part",
    "Offsets::range",
    "Offsets::row_count",
    "Offsets::start",
    "Output::is_empty",
    "Output::len",
    "Output::rows",
    "Output::split_at",
    "OutputRows::row_count",
    "OutputRows::width",
    "Permutation::is_empty",
    "Permutation::joining",
    "Permutation::len",
    "Permutation::old",
    "Permutation::indices",
    "Ragged::row_count",
    "Ragged::part",
    "Ragged::row",
    "Ragged::row_len",
    "RowNumbers::is_empty",
    "RowNumbers::joining",
    "RowNumbers::len",
    "RowNumbers::old",
    "RowNumbers::as_view",
    "Rows::as_view",
    "Rows::columns",
    "Rows::first",
    "Rows::pitch",
    "Rows::row",
    "Rows::row_count",
    "Rows::sources",
    "Rows::width",
    "RowsMut::as_rows",
    "RowsMut::columns",
    "RowsMut::first",
    "RowsMut::get_disjoint",
    "RowsMut::into_rows",
    "RowsMut::pairs",
    "RowsMut::pitch",
    "RowsMut::reborrow",
    "RowsMut::row",
    "RowsMut::row_count",
    "RowsMut::split_columns",
    "RowsMut::targets",
    "RowsMut::width",
    "Scatter::from_rows",
    "Scatter::is_empty",
    "Scatter::len",
    "Scatter::sources",
    "Scatter::targets",
    "Scatter::to_rows",
    "Shared::strided",
    "Shared::tensor",
    "SharedTensor::into_parts",
    "SharedTensor::layout",
    "SharedTensor::select",
    "SharedTensor::shape",
    "SharedTensor::slice",
    "SharedTensor::view",
    "SharedTensor::with_layout",
    "State::back_mut",
    "State::both",
    "State::front",
    "State::front_mut",
    "State::swap",
    "Table::is_empty",
    "Table::len",
    "Table::target",
    "Table::target_mut",
    "Table::view",
    "Table::view_mut",
    "TableView::is_empty",
    "TableView::len",
    "TableView::slice",
    "TableViewMut::is_empty",
    "TableViewMut::len",
    "TableViewMut::slice",
    "View::as_ptr",
    "View::as_slice",
    "View::byte_len",
    "View::bytes",
    "View::cast",
    "View::checked",
    "View::chunks_exact",
    "View::from_raw_parts",
    "View::is_empty",
    "View::len",
    "View::ragged",
    "View::rows",
    "View::slice",
    "View::split_at",
    "View::try_cast",
    "ViewMut::as_mut_ptr",
    "ViewMut::as_view",
    "ViewMut::byte_len",
    "ViewMut::cast",
    "ViewMut::chunks_exact",
    "ViewMut::from_raw_parts",
    "ViewMut::into_slice",
    "ViewMut::into_view",
    "ViewMut::is_empty",
    "ViewMut::len",
    "ViewMut::reborrow",
    "ViewMut::rows",
    "ViewMut::slice",
    "ViewMut::split_at",
    "ViewMut::try_cast",
];

/// All public functions, sorted, each once: functions of one name on one type count as one.
pub fn all() -> Vec<PublicFn> {
    let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let folder = |name: &str| files(&root.join(name)).into_iter();
    // The library's re-exports of the simulator are in `src/device/sim/mod.rs`.
    let simulator = folder("crates/simulator/src").filter(|path| !path.ends_with("src/lib.rs"));
    // The library's re-exports of the driver contract are values. The traits of the contract are
    // for backends.
    let values = ["alloc_error", "code", "error", "pinned"];
    let values = values.map(|name| root.join("crates/driver/src").join(name).with_extension("rs"));
    // Elements, layouts, borrowed tensors, tensors whose type is a value, and files: no function of
    // theirs makes a driver call, or keeps anything, but for those that load a file. `Ctx::zeros_any`
    // is an allocation and `init_zeros`. Some are written by macros, which are not seen.
    let of_values = ["any", "dlpack", "element", "file", "layout", "tensor"].map(|name| root.join("src").join(name));
    let loads = root.join("src/file/load");
    let library = folder("src")
        .filter(move |path| path.starts_with(&loads) || !of_values.iter().any(|folder| path.starts_with(folder)));
    let paths = library.chain(simulator).chain(values);
    let sources: Vec<_> = paths.map(|path| (place(root, &path), tokens(&read(&path)))).collect();
    let mut found = Found::default();
    for (place, tokens) in &sources {
        found.items(place, tokens);
    }
    let Found { functions, exported, .. } = found;
    // A free function of the simulator belongs to the library if the library re-exports it.
    let is_public = |function: &Function| match function.holder.as_str() {
        "" => function.device.is_empty() || exported.contains(&function.name),
        holder => exported.contains(holder),
    };
    let functions = functions.into_iter().filter(is_public);
    let public = functions.map(|Function { device, holder, name, aborts }| {
        let path = [device, &holder, &name].into_iter().filter(|part| !part.is_empty());
        PublicFn { path: path.collect::<Vec<_>>().join("::"), name: name.clone(), aborts }
    });
    public.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The files of the library that have one of these `words` outside of comments.
pub fn lines_with(words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src");
    let has = |path: &PathBuf| {
        let code = read(path);
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.any(|line| words.iter().any(|word| line.contains(word)))
    };
    let name = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    files(&root).into_iter().filter(has).map(name).collect()
}

/// Panics unless each public function is in exactly one of `tables`, and each entry of them is a
/// public function.
#[track_caller]
pub fn assert_in_one(tables: &[(&str, &[&str])]) {
    let functions: Vec<String> = all().into_iter().map(|function| function.path).collect();
    let mut wrong = Vec::new();
    for path in &functions {
        let of: Vec<_> =
            tables.iter().filter(|(_, table)| table.contains(&path.as_str())).map(|(name, _)| name).collect();
        match of.len() {
            0 => wrong.push(format!("`{path}` is in none of the tables")),
            1 => {}
            _ => wrong.push(format!("`{path}` is in {of:?}")),
        }
    }
    for (name, table) in tables {
        let gone = table.iter().filter(|path| !functions.iter().any(|function| function == *path));
        wrong.extend(gone.map(|path| format!("`{path}` in {name} is no public function")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let nested = paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    nested.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The place of a file in the library.
struct Place {
    /// `sim` or `cuda`, or nothing.
    device: &'static str,
    /// Whether its items are named by its module: `lib.rs`, `mod.rs`.
    is_module: bool,
}

fn place(root: &Path, path: &Path) -> Place {
    let inside = path.strip_prefix(root).unwrap();
    let devices = [("src/device/sim", "sim"), ("crates/simulator", "sim"), ("src/device/cuda", "cuda")];
    let device = devices.into_iter().find(|(folder, _)| inside.starts_with(folder)).map(|(_, device)| device);
    let is_exported = inside.starts_with("crates/driver");
    let is_module = is_exported || path.ends_with("mod.rs") || path.ends_with("lib.rs");
    Place { device: device.unwrap_or_default(), is_module }
}

/// The only line of comments that is kept.
const ABORTS: &str = "/// # Aborts";

/// The words and signs of a source file, without comments except [`ABORTS`], string contents and
/// lifetimes.
fn tokens(source: &str) -> Vec<String> {
    let source: Vec<char> = source.chars().collect();
    let at = |i: usize| source.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut i) = (Vec::new(), 0);
    while i < source.len() {
        let (c, next) = (at(i), at(i + 1));
        let is_raw = c == 'r' && (next == '"' || next == '#' && matches!(at(i + 2), '#' | '"'));
        if c == '/' && next == '/' {
            let line: String = source[i..].iter().take_while(|c| **c != '\n').collect();
            if line == ABORTS {
                tokens.push(line);
            }
            while i < source.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '/' && next == '*' {
            while i < source.len() && !(at(i) == '*' && at(i + 1) == '/') {
                i += 1;
            }
            i += 2;
        } else if is_raw {
            let hashes = source[i + 1..].iter().take_while(|c| **c == '#').count();
            i += hashes + 2;
            while i < source.len() && !(at(i) == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                i += 1;
            }
            i += hashes + 1;
        } else if c == '"' {
            i += 1;
            while i < source.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' {
            // A character literal ends in a quote, a lifetime does not.
            if next == '\\' {
                i += 3;
                while i < source.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
        } else if is_word(c) {
            let word: String = source[i..].iter().take_while(|c| is_word(**c)).collect();
            i += word.chars().count();
            tokens.push(word);
        } else if c.is_whitespace() {
            i += 1;
        } else if matches!((c, next), ('-' | '=', '>')) {
            // Their second sign closes no angle bracket.
            tokens.push(source[i..i + 2].iter().collect());
            i += 2;
        } else {
            tokens.push(c.to_string());
            i += 1;
        }
    }
    tokens
}

struct Function {
    device: &'static str,
    /// The type or trait, or nothing.
    holder: String,
    name: String,
    aborts: bool,
}

/// What was found so far.
#[derive(Default)]
struct Found {
    functions: Vec<Function>,
    /// The names that a program can use.
    exported: BTreeSet<String>,
}

impl Found {
    /// The items of a module, or of the file.
    fn items(&mut self, place: &Place, tokens: &[String]) {
        let is_type = |item: &Item<'_>| matches!(item.kind, "struct" | "enum");
        let private = items(tokens).filter(|item| is_type(item) && !item.is_public);
        let private: BTreeSet<&String> = private.filter_map(|item| item.head.get(1)).collect();
        for item in items(tokens) {
            let words: Vec<&str> = item.head.iter().map(String::as_str).collect();
            match item.kind {
                _ if item.is_hidden => {}
                "mod" => self.items(place, item.body),
                "use" if item.is_public => self.exported.extend(words.iter().map(|word| (*word).to_owned())),
                "struct" | "enum" | "trait" if item.is_public => {
                    let name = words.get(1).copied().unwrap_or_default();
                    if place.is_module {
                        self.exported.insert(name.to_owned());
                    }
                    if item.kind == "trait" {
                        self.functions(place, name, item.body, |_| true);
                    }
                }
                "impl" => {
                    let (of_trait, holder) = implemented(&words);
                    match of_trait {
                        _ if private.contains(&holder) => {}
                        None => self.functions(place, &holder, item.body, |item| item.is_public),
                        Some(name) if name == "Drop" => self.functions(place, &holder, item.body, |_| true),
                        Some(_) => {}
                    }
                }
                "fn" if item.is_public => self.add(place, "", &item),
                "macro_rules" => {
                    let has_function = item.body.windows(2).any(|pair| pair == ["pub", "fn"]);
                    assert!(!has_function, "public functions in a macro are not seen");
                }
                _ => {}
            }
        }
    }

    fn functions(&mut self, place: &Place, holder: &str, body: &[String], counts: impl Fn(&Item<'_>) -> bool) {
        for item in items(body).filter(|item| item.kind == "fn" && !item.is_hidden && counts(item)) {
            self.add(place, holder, &item);
        }
    }

    fn add(&mut self, place: &Place, holder: &str, item: &Item<'_>) {
        let (holder, name) = (holder.to_owned(), item.head[1].clone());
        self.functions.push(Function { device: place.device, holder, name, aborts: item.aborts });
    }
}

/// One item of a module, an `impl` or a trait.
struct Item<'t> {
    kind: &'static str,
    is_public: bool,
    /// `#[doc(hidden)]` or `#[cfg(test)]`.
    is_hidden: bool,
    aborts: bool,
    /// From the keyword of the kind to the body, or to the end.
    head: &'t [String],
    /// The tokens between its braces.
    body: &'t [String],
}

const KINDS: [&str; 10] = ["mod", "use", "struct", "enum", "trait", "impl", "fn", "macro_rules", "type", "static"];

fn items(mut rest: &[String]) -> impl Iterator<Item = Item<'_>> {
    std::iter::from_fn(move || {
        let (mut is_public, mut is_hidden, mut aborts) = (false, false, false);
        loop {
            let first = rest.first()?.as_str();
            match first {
                ABORTS => {
                    aborts = true;
                    rest = &rest[1..];
                }
                "#" => {
                    let open = rest.iter().position(|token| token == "[")?;
                    let end = open + group(&rest[open..]);
                    let words: Vec<&str> = rest[..end].iter().map(String::as_str).collect();
                    is_hidden |= words.windows(3).any(|of| of == ["doc", "(", "hidden"] || of == ["cfg", "(", "test"]);
                    rest = &rest[end..];
                }
                "pub" => {
                    let is_limited = rest.get(1).is_some_and(|token| token == "(");
                    is_public = !is_limited;
                    rest = &rest[if is_limited { 1 + group(&rest[1..]) } else { 1 }..];
                }
                _ => break,
            }
        }
        // Up to the body or the end: `const unsafe fn`, `unsafe impl`, `const NAME: .. = ..;`
        let end = end(rest);
        let (item, behind) = rest.split_at(end);
        rest = behind;
        let at = item.iter().position(|token| KINDS.contains(&token.as_str()));
        let kind = at.filter(|_| !is_constant(item)).and_then(|at| KINDS.into_iter().find(|kind| *kind == item[at]));
        let head = &item[at.unwrap_or(0)..];
        let open = if kind == Some("use") { None } else { body_of(head) };
        let (head, body) = match open {
            Some(open) => (&head[..open], &head[open + 1..head.len() - 1]),
            None => (head, &[][..]),
        };
        Some(Item { kind: kind.unwrap_or(""), is_public, is_hidden, aborts, head, body })
    })
}

/// Where the braces of an item begin, if it ends with them.
fn body_of(item: &[String]) -> Option<usize> {
    let mut at = 0;
    while at < item.len() {
        match item[at].as_str() {
            "{" if at + group(&item[at..]) == item.len() => return Some(at),
            "(" | "[" | "{" => at += group(&item[at..]),
            _ => at += 1,
        }
    }
    None
}

/// The number of tokens of the first item: to a semicolon, or to the closing brace.
fn end(tokens: &[String]) -> usize {
    let goes_on = match tokens.first().map(String::as_str) {
        Some("use" | "static" | "type") => true,
        _ => is_constant(tokens),
    };
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            ";" => return at + 1,
            "{" if !goes_on => return at + group(&tokens[at..]),
            "(" | "[" | "{" => at += group(&tokens[at..]),
            _ => at += 1,
        }
    }
    tokens.len()
}

fn is_constant(item: &[String]) -> bool {
    let is_function = item.get(1).is_some_and(|word| ["fn", "unsafe", "extern", "async"].contains(&word.as_str()));
    item.first().is_some_and(|token| token == "const") && !is_function
}

/// The number of tokens of the first bracket and its content.
fn group(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The trait of an `impl`, if there is one, and the type.
fn implemented(head: &[&str]) -> (Option<String>, String) {
    let (mut depth, mut names, mut of_trait) = (0_i32, Vec::new(), None);
    for word in head.iter().skip(1).take_while(|word| **word != "where") {
        match *word {
            "<" | "(" | "[" => depth += 1,
            ">" | ")" | "]" => depth -= 1,
            "for" if depth == 0 => of_trait = Some(names.drain(..).next_back().unwrap_or_default()),
            // `impl Trait for some::Type`: the last name of the path.
            word if depth == 0 && word.chars().all(|c| c.is_alphanumeric() || c == '_') => names.push(word.to_owned()),
            _ => {}
        }
    }
    (of_trait, names.pop().unwrap_or_default())
}
