//! Runs a steady loop, and compares what exists of each kind before and after it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use tidelock::{
    DeviceLocation, Result, Stream,
    driver::Backend,
    location::Pinned,
    stream::{Env, Lane, OnBackend, StreamOptions},
};

use crate::heap;

/// For each kind, how many objects exist or how many bytes.
pub type Objects = BTreeMap<String, usize>;

/// A device that streams can be opened on.
pub trait Place: Clone + Send + Sync {
    type Family: Backend + Send;
    type At<'s>: DeviceLocation + OnBackend<Backend = Self::Family, Pinned = Pinned<Self::Family>>;

    /// The most elements that a batch takes from plain host memory.
    const LONGEST: usize;

    fn open<'env, R>(
        &'env self,
        options: &StreamOptions,
        f: impl for<'s> FnOnce(Stream<Self::At<'s>>, Env<'s, 'env, Self::At<'s>>) -> R,
    ) -> Result<R>;

    fn lane_with(&self, options: &StreamOptions) -> Result<Lane<Self::Family>>;

    fn enter<R>(lane: &mut Lane<Self::Family>, f: impl for<'s> FnOnce(Stream<Self::At<'s>>) -> R) -> Result<R>;

    fn run<'env, R>(&'env self, f: impl for<'s> FnOnce(Stream<Self::At<'s>>, Env<'s, 'env, Self::At<'s>>) -> R) -> R {
        self.open(&StreamOptions::default(), f).unwrap()
    }
}

/// Runs loops on one device, and records what grows in them.
pub struct Watch<'a> {
    /// The live objects of the device's driver.
    driver: &'a dyn Fn() -> Objects,
    device: &'a str,
    /// By how many bytes the heap may grow. A simulated device lies in the heap, and keeps as much
    /// as its operations had in use at one time, which depends on timing.
    slack: usize,
    loops: Cell<usize>,
    turns: Cell<usize>,
    failures: RefCell<Vec<String>>,
}

/// Turns before the first count. After them the library's stocks are full.
const WARMING: usize = 200;
const LEAST: usize = 10;

/// After this many turns the race detector has dropped its old records: it keeps up to 64 streams
/// that have ended.
const TIDIED: usize = 80;

/// How long freed memory may take to be gone, if it is freed after a wait.
const PATIENCE: Duration = Duration::from_secs(2);

impl<'a> Watch<'a> {
    pub fn new(device: &'a str, slack: usize, driver: &'a dyn Fn() -> Objects) -> Self {
        Watch { driver, device, slack, loops: Cell::new(0), turns: Cell::new(0), failures: RefCell::default() }
    }

    /// Runs `turn` until it is warm, then `turns` times. Every kind must be as many as before, and
    /// the heap may grow by less than a byte a turn beyond the slack.
    pub fn steady(&self, name: &str, turns: usize, turn: impl FnMut() -> Result<()>) {
        self.steady_from(name, WARMING.min(turns).max(LEAST), turns, self.slack, turn);
    }

    /// As [`steady`](Watch::steady), but warm after a round of `turns` turns. Three more rounds
    /// follow.
    pub fn steady_rounds(&self, name: &str, turns: usize, turn: impl FnMut() -> Result<()>) {
        // Several operations at a time.
        self.steady_from(name, turns, 3 * turns, 8 * self.slack, turn);
    }

    fn steady_from(
        &self,
        name: &str,
        warming: usize,
        turns: usize,
        slack: usize,
        mut turn: impl FnMut() -> Result<()>,
    ) {
        let mut run = |times: usize| (0..times).try_for_each(|_| turn());
        run(warming).unwrap_or_else(|error| panic!("{}, {name}: {error}", self.device));
        let before = (self.driver)();
        let heap = heap::live();
        run(turns).unwrap_or_else(|error| panic!("{}, {name}: {error}", self.device));
        let most = |turns| heap + (turns + slack) as isize;
        // What grows without bound does not return to its earlier value.
        let (mut turns, latest) = (turns, turns + TIDIED);
        while heap::live() >= most(turns) && turns < latest {
            run(1).unwrap_or_else(|error| panic!("{}, {name}: {error}", self.device));
            turns += 1;
        }
        self.compare(name, turns, &before, most(turns));
        self.loops.set(self.loops.get() + 1);
        self.turns.set(self.turns.get() + turns);
    }

    /// `heap` is the largest size allowed.
    fn compare(&self, name: &str, turns: usize, before: &Objects, heap: isize) {
        let start = Instant::now();
        loop {
            // Counted before the comparison itself allocates.
            let beyond = heap::live() - heap;
            let after = (self.driver)();
            let is_steady = after == *before && beyond < 0;
            if !is_steady && start.elapsed() < PATIENCE {
                drop(after);
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            let others = after.iter().filter(|(kind, count)| before.get(*kind) != Some(count));
            let mut words: Vec<String> =
                others.map(|(kind, count)| format!("{kind} {} -> {count}", before.get(kind).unwrap_or(&0))).collect();
            if beyond >= 0 {
                words.push(format!("{beyond} bytes of the heap beyond what is no growth"));
            }
            if !words.is_empty() {
                let line = format!("{}, {name}, {turns} turns: {}", self.device, words.join(", "));
                println!("{line}");
                self.failures.borrow_mut().push(line);
            }
            return;
        }
    }

    /// What grew, one line each.
    pub fn end(self) -> Vec<String> {
        println!("{}: {} loops of {} turns together", self.device, self.loops.get(), self.turns.get());
        self.failures.into_inner()
    }
}
