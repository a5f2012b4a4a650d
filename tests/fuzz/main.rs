//! The targets of `fuzz/`, without a fuzzer: their corpus, and random changes of it.
//!
//! `TIDELOCK_FUZZ_SECONDS=600 cargo test --test fuzz` goes on for that long. What reaches something
//! new is then written to the corpus, and what fails is there as `failed`.

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use targets::{TARGETS, Target};
use tidelock_test_support::random::Random;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The inputs of a target, by name.
fn corpus(name: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder(name)).unwrap().map(|file| file.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

/// Another input: some bytes are changed, taken away, doubled, or of a second input.
fn changed(random: &mut Random, one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = one.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(9)).min(bytes.len());
        match random.below(7) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.insert(at, random.below(256) as u8),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                let from = random.below(other.len() + 1);
                let part = other[from..(from + random.below(24)).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            // Of a header: numbers and names.
            4 => bytes.splice(at..end, WORDS[random.below(WORDS.len())].bytes()).for_each(drop),
            _ if at < bytes.len() => bytes[at] = random.below(256) as u8,
            _ => {}
        }
    }
    bytes.truncate(600);
    bytes
}

const WORDS: [&str; 24] = [
    "0",
    "1",
    "2",
    "8",
    "64",
    "4096",
    "18446744073709551615",
    "9223372036854775807",
    "-1",
    "1e3",
    "[",
    "]",
    ",",
    "{",
    "}",
    "\"a\"",
    "\"\\u0061\"",
    "\"__metadata__\"",
    "\"F32\"",
    "\"BOOL\"",
    "\"F4\"",
    "\"F6_E2M3\"",
    "\"data_offsets\"",
    "\"shape\"",
];

/// Runs a target on changes of its corpus, until `more` is false.
fn go(number: u8, (name, run): Target, keep: bool, mut more: impl FnMut(u64) -> bool) -> u64 {
    let mut inputs: Vec<Vec<u8>> = corpus(name).into_values().collect();
    let mut reached: BTreeMap<String, usize> = inputs.iter().map(|input| (run(input), input.len())).collect();
    let mut random = Random::new(number);
    let mut runs = 0;
    while more(runs) {
        let (one, other) = (random.below(inputs.len()), random.below(inputs.len()));
        let input = changed(&mut random, &inputs[one], &inputs[other]);
        if keep {
            fs::write(folder(name).with_extension(format!("{number}.failed")), &input).unwrap();
        }
        let words = run(&input);
        if reached.insert(words, input.len()).is_none() {
            inputs.push(input);
        }
        runs += 1;
    }
    if keep {
        fs::remove_file(folder(name).with_extension(format!("{number}.failed"))).unwrap();
        let small = inputs.iter().skip(corpus(name).len()).filter(|input| input.len() < 300).take(40);
        small
            .enumerate()
            .for_each(|(at, input)| fs::write(folder(name).join(format!("found-{number}-{at:03}")), input).unwrap());
        println!("{name}: {runs} inputs, {} outcomes", reached.len());
    }
    runs
}

fn fuzz(at: usize) {
    let target = TARGETS[at];
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    for input in corpus(target.0).values() {
        target.1(input);
    }
    match number("TIDELOCK_FUZZ_SECONDS") {
        None => drop(go(7, target, false, |runs| runs < 3000)),
        Some(seconds) => {
            let (start, seed) = (Instant::now(), number("TIDELOCK_FUZZ_SEED").unwrap_or(7) as u8);
            go(seed, target, true, |_| start.elapsed() < Duration::from_secs(seconds));
        }
    }
}

#[test]
fn headers() {
    fuzz(0);
}

#[test]
fn structures_of_dlpack() {
    fuzz(1);
}

#[test]
fn layouts() {
    fuzz(2);
}
