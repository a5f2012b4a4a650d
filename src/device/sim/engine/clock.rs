//! Vector clocks: what a stream, an event or the host knows to have happened.

#![forbid(unsafe_code)]

/// A stream of any watched engine of the process. Numbers are never used again; 0 is no stream.
pub(super) type Timeline = u64;

/// How far each stream had come, as far as the owner of the clock can know.
///
/// Sparse and sorted; a stream that is not in it is not known at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    ticks: Vec<(Timeline, u64)>,
}

impl Clock {
    pub(super) const fn new() -> Self {
        Clock { ticks: Vec::new() }
    }

    /// Whether operation `tick` of `timeline` happened before now.
    pub(super) fn knows(&self, timeline: Timeline, tick: u64) -> bool {
        self.find(timeline).is_some_and(|known| known >= tick)
    }

    /// The last operation of `timeline` that happened before now, 0 if none did.
    pub(super) fn known(&self, timeline: Timeline) -> u64 {
        self.find(timeline).unwrap_or(0)
    }

    /// Learns that operation `tick` of `timeline` happened; answers whether that is news.
    pub(super) fn learn(&mut self, timeline: Timeline, tick: u64) -> bool {
        match self.ticks.binary_search_by_key(&timeline, |(line, _)| *line) {
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

    /// Learns all that `other` knows; answers whether any of it is news.
    pub(super) fn join(&mut self, other: &Clock) -> bool {
        self.join_of(other, |_| true)
    }

    /// Learns what `other` knows of the streams that `of` names; answers whether any of it is news.
    pub(super) fn join_of(&mut self, other: &Clock, of: impl Fn(Timeline) -> bool) -> bool {
        let named = other.ticks.iter().filter(|(timeline, _)| of(*timeline));
        named.fold(false, |news, (timeline, tick)| self.learn(*timeline, *tick) || news)
    }

    fn find(&self, timeline: Timeline) -> Option<u64> {
        let index = self.ticks.binary_search_by_key(&timeline, |(line, _)| *line).ok()?;
        self.ticks.get(index).map(|(_, known)| *known)
    }

    /// Forgets the streams that `keep` does not name.
    pub(super) fn retain(&mut self, keep: impl Fn(Timeline) -> bool) {
        self.ticks.retain(|(timeline, _)| keep(*timeline));
    }
}

#[cfg(test)]
impl Clock {
    /// How many streams it knows of.
    pub(super) const fn len(&self) -> usize {
        self.ticks.len()
    }

    /// How many of `lines` it knows of.
    pub(super) fn count(&self, lines: &std::collections::BTreeSet<Timeline>) -> usize {
        self.ticks.iter().filter(|(line, _)| lines.contains(line)).count()
    }
}
