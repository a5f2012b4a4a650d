//! A steady loop, and what there is of each kind before and after it.

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
    stream::{Env, OnBackend, StreamOptions},
};

use crate::heap;

/// How many there are of each kind, or how many bytes.
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

    fn run<'env, R>(&'env self, f: impl for<'s> FnOnce(Stream<Self::At<'s>>, Env<'s, 'env, Self::At<'s>>) -> R) -> R {
        self.open(&StreamOptions::default(), f).unwrap()
    }
}

/// Runs loops on one device, and notes what grows in them.
pub struct Watch<'a> {
    /// What the driver of the device holds.
    driver: &'a dyn Fn() -> Objects,
    device: &'a str,
    /// How many bytes more of the heap are no growth: a simulated device lies in it, and keeps as much as its operations took
    /// at most at one time, which is a matter of time.
    slack: usize,
    loops: Cell<usize>,
    turns: Cell<usize>,
    failures: RefCell<Vec<String>>,
}

/// Turns before anything is counted: the library's stocks are full after them.
const WARMING: usize = 200;
const LEAST: usize = 10;

/// Turns after which the oracle has tidied up at the latest: it remembers up to 64 streams that have ended.
const TIDIED: usize = 80;

/// How long what is given back behind a wait may take to be gone.
const PATIENCE: Duration = Duration::from_secs(2);

impl<'a> Watch<'a> {
    pub fn new(device: &'a str, slack: usize, driver: &'a dyn Fn() -> Objects) -> Self {
        Watch { driver, device, slack, loops: Cell::new(0), turns: Cell::new(0), failures: RefCell::default() }
    }

    /// Runs `turn` until it is warm, then `turns` times: every kind must be as many as before, and the heap not a byte a turn and
    /// the slack larger.
    pub fn steady(&self, name: &str, turns: usize, turn: impl FnMut() -> Result<()>) {
        self.steady_from(name, WARMING.min(turns).max(LEAST), turns, self.slack, turn);
    }

    /// As [`steady`](Watch::steady), warm after a round of `turns` turns, of which there are three more.
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
        // What grows for ever does not come back to where it was.
        let (mut turns, latest) = (turns, turns + TIDIED);
        while heap::live() >= most(turns) && turns < latest {
            run(1).unwrap_or_else(|error| panic!("{}, {name}: {error}", self.device));
            turns += 1;
        }
        self.compare(name, turns, &before, most(turns));
        self.loops.set(self.loops.get() + 1);
        self.turns.set(self.turns.get() + turns);
    }

    /// `heap` is the most that there may be.
    fn compare(&self, name: &str, turns: usize, before: &Objects, heap: isize) {
        let start = Instant::now();
        loop {
            // Before the comparison itself takes memory.
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

    /// What grew, a line each.
    pub fn end(self) -> Vec<String> {
        println!("{}: {} loops of {} turns together", self.device, self.loops.get(), self.turns.get());
        self.failures.into_inner()
    }
}
