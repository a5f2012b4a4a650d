//! Every public trait has a row in `doc/sealed-traits.md`, which says who may implement it. The
//! documentation of the trait says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Who may implement a trait, in the words of the table and of the documentation.
const DECISIONS: [&str; 3] = ["Sealed", "Unsafe to implement", "Anyone may implement it"];

/// The trait that is implemented once, for every type.
const BLANKET: &str = ": InLocation";

/// A trait, from its declaration in the source.
struct Trait {
    file: String,
    name: String,
    is_unsafe: bool,
    has_supertraits: bool,
    docs: String,
}

/// A row of the table.
struct Row {
    decision: String,
    test: String,
}

#[test]
fn every_public_trait_has_a_decision() {
    let (traits, table) = (traits(), table());
    let found: BTreeSet<_> = traits.iter().map(|t| (t.file.clone(), t.name.clone())).collect();
    let listed: BTreeSet<_> = table.keys().cloned().collect();
    assert_eq!(
        found, listed,
        "the public traits of the source, and the table \"Public traits\" of doc/sealed-traits.md"
    );
}

#[test]
fn declarations_and_documentation_say_what_the_table_says() {
    let table = table();
    for Trait { file, name, is_unsafe, has_supertraits, docs } in traits() {
        let at = format!("{file}: {name}");
        let Row { decision, .. } = &table[&(file, name)];
        let said: Vec<_> = DECISIONS.into_iter().filter(|decision| says(&docs, decision)).collect();
        assert_eq!(said, [decision.as_str()], "{at}: what its documentation says, and what the table does");
        assert_eq!(decision == "Unsafe to implement", is_unsafe, "{at}: `unsafe trait`");
        assert_eq!(is_unsafe, docs.contains("# Safety"), "{at}: the contract of its implementations");
        // A trait is sealed by a supertrait, or by one implementation for every type.
        assert!(decision != "Sealed" || has_supertraits || at.ends_with(BLANKET), "{at}: nothing seals it");
    }
}

/// A program that must not compile tries to implement each trait for a local type. Traits without
/// such a program cannot be named outside of the crate.
#[test]
fn every_trait_that_can_be_named_is_tried() {
    let exported = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let public = [
        "alloc/mod",
        "any/mod",
        "batch/mod",
        "buffer/mod",
        "element/mod",
        "layout/mod",
        "location",
        "tensor/mod",
        "state/mod",
        "stream/mod",
    ];
    let modules: String =
        public.map(|name| fs::read_to_string(root().join(format!("src/{name}.rs"))).unwrap()).concat();
    let exported = exported + &modules;
    for ((file, name), Row { test, .. }) in table() {
        let words: BTreeSet<_> = exported.split(|c: char| !c.is_alphanumeric()).collect();
        if words.contains(name.as_str()) || file.starts_with("crates/driver") {
            assert!(root().join(format!("ui-tests/{test}.rs")).is_file(), "{name}: no such program: {test:?}");
        } else {
            assert_eq!(test, "no path", "{name} cannot be named outside of the crate");
        }
    }
}

/// Whether a sentence of `docs` begins with `decision`.
fn says(docs: &str, decision: &str) -> bool {
    let docs = docs.split_whitespace().collect::<Vec<_>>().join(" ");
    docs.match_indices(decision).any(|(at, _)| {
        let before = docs[..at].trim_end();
        before.is_empty() || before.ends_with('.')
    })
}

/// The `pub trait`s of the library and of the driver contract. Those in modules called `sealed` are
/// left out, because no other crate can name them.
fn traits() -> Vec<Trait> {
    let mut all = Vec::new();
    for path in ["src", "crates/driver/src"].iter().flat_map(|folder| sources(&root().join(folder))) {
        let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let (mut docs, mut sealed) = (String::new(), false);
        for line in fs::read_to_string(&path).unwrap().lines() {
            sealed = match line {
                "mod sealed {" | "pub(crate) mod sealed {" | "pub(super) mod sealed {" => true,
                "}" => false,
                _ => sealed,
            };
            let code = line.trim_start();
            let declared = code.strip_prefix("pub trait ").or_else(|| code.strip_prefix("pub unsafe trait "));
            if let Some(text) = code.strip_prefix("///") {
                docs.push_str(text);
                docs.push(' ');
            } else if let Some(rest) = declared {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                // The bounds of its parameters are not its supertraits.
                let own =
                    rest[name.len()..].strip_prefix('<').map_or(&rest[name.len()..], |p| p.split_once('>').unwrap().1);
                let (is_unsafe, has_supertraits) = (code.starts_with("pub unsafe"), own.starts_with(':'));
                if !sealed {
                    let docs = docs.clone();
                    all.push(Trait { file: file.clone(), name, is_unsafe, has_supertraits, docs });
                }
                docs.clear();
            } else if code.is_empty() || code.ends_with('}') {
                docs.clear();
            }
        }
    }
    all
}

/// The table of `doc/sealed-traits.md`: the decision for each file and trait.
fn table() -> BTreeMap<(String, String), Row> {
    let page = fs::read_to_string(root().join("doc/sealed-traits.md")).unwrap();
    let (_, section) = page.split_once("## Public traits\n").expect("the section \"Public traits\"");
    let section = section.split("\n#").next().unwrap();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect();
        let [name, file, decision, _why, test] = &cells[..] else { panic!("five cells: {line}") };
        assert!(DECISIONS.contains(&decision.as_str()), "no decision: {line}");
        let row = Row { decision: decision.clone(), test: test.clone() };
        // The table names files of the library relative to `src`.
        let path = if file.starts_with("crates/") { file.clone() } else { format!("src/{file}") };
        assert!(rows.insert((path, name.clone()), row).is_none(), "twice: {line}");
    }
    rows
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
