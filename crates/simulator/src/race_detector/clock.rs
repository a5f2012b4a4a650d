//! Vector clocks: which operations of each stream happened before now, for a stream, an event
//! record or a thread.

#![forbid(unsafe_code)]

/// A stream of any watched device of the process. Numbers are never used again; 0 is no stream.
pub(crate) type Timeline = u64;

/// The last operation of each stream that happened before now.
///
/// Sparse and sorted; of a stream without an entry nothing happened before now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    ticks: Vec<(Timeline, u64)>,
}

impl Clock {
    pub(super) const fn new() -> Self {
        Clock { ticks: Vec::new() }
    }

    /// Whether operation `tick` of `timeline` happened before now.
    pub(super) fn covers(&self, timeline: Timeline, tick: u64) -> bool {
        self.find(timeline).is_some_and(|known| known >= tick)
    }

    /// The last operation of `timeline` that happened before now, 0 if none did.
    pub(super) fn latest(&self, timeline: Timeline) -> u64 {
        self.find(timeline).unwrap_or(0)
    }

    /// Advances the entry of `timeline` to `tick`; returns whether it was lower.
    pub(super) fn advance(&mut self, timeline: Timeline, tick: u64) -> bool {
        match self.ticks.binary_search_by_key(&timeline, |(history, _)| *history) {
            Ok(index) => match self.ticks.get_mut(index) {
                Some((_, known)) if *known < tick => {
                    *known = tick;
                    true
                }
                _ => false,
            },
            Err(index) => {
                self.ticks.insert(index, (timeline, tick));
                true
            }
        }
    }

    /// Joins `other`; returns whether this clock has grown.
    pub(super) fn join(&mut self, other: &Clock) -> bool {
        self.join_of(other, |_| true)
    }

    /// Joins `other` for the streams that `of` selects; returns whether this clock has grown.
    pub(super) fn join_of(&mut self, other: &Clock, of: impl Fn(Timeline) -> bool) -> bool {
        let named = other.ticks.iter().filter(|(timeline, _)| of(*timeline));
        named.fold(false, |changed, (timeline, tick)| self.advance(*timeline, *tick) || changed)
    }

    fn find(&self, timeline: Timeline) -> Option<u64> {
        let index = self.ticks.binary_search_by_key(&timeline, |(history, _)| *history).ok()?;
        self.ticks.get(index).map(|(_, known)| *known)
    }

    /// Forgets the streams that `keep` does not name.
    pub(super) fn retain(&mut self, keep: impl Fn(Timeline) -> bool) {
        self.ticks.retain(|(timeline, _)| keep(*timeline));
    }
}

#[cfg(test)]
impl Clock {
    /// How many streams have an entry.
    pub(super) const fn len(&self) -> usize {
        self.ticks.len()
    }

    /// How many of `streams` have an entry.
    pub(super) fn count(&self, streams: &std::collections::BTreeSet<Timeline>) -> usize {
        self.ticks.iter().filter(|(history, _)| streams.contains(history)).count()
    }
}
