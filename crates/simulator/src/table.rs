//! A sorted table of disjoint address ranges.

#![forbid(unsafe_code)]

/// Disjoint ranges sorted by address. Looking up is a binary search, or one comparison next to the
/// last answer.
#[derive(Debug)]
pub(super) struct Table<T> {
    ranges: Vec<Range<T>>,
}

/// One range: `bytes` of it are in use, `capacity` of it are taken.
#[derive(Debug)]
pub(super) struct Range<T> {
    pub(super) start: usize,
    pub(super) bytes: usize,
    pub(super) capacity: usize,
    pub(super) value: T,
}

/// Where a span of addresses lies.
#[derive(Debug)]
pub(super) enum Located<'t, T> {
    /// Inside the used part of one range.
    Inside(&'t Range<T>),
    /// Clear of the used part of every range.
    Clear,
    /// Partly in the used part of a range.
    Across,
}

impl<T> Range<T> {
    fn end(&self) -> usize {
        self.start.saturating_add(self.bytes)
    }

    fn limit(&self) -> usize {
        self.start.saturating_add(self.capacity)
    }

    fn holds(&self, address: usize, end: usize) -> bool {
        self.start <= address && end <= self.end()
    }
}

impl<T> Table<T> {
    pub(super) const fn new() -> Self {
        Table { ranges: Vec::new() }
    }

    /// Where the `bytes` from `address` on lie; `cursor` remembers the range, for the next span is
    /// often in the same one.
    pub(super) fn locate(&self, address: usize, bytes: usize, cursor: &mut usize) -> Located<'_, T> {
        let Some(end) = address.checked_add(bytes) else { return Located::Across };
        if let Some(range) = self.ranges.get(*cursor)
            && range.holds(address, end)
        {
            return Located::Inside(range);
        }
        let index = self.ranges.partition_point(|range| range.end() <= address);
        match self.ranges.get(index) {
            Some(range) if range.holds(address, end) => {
                *cursor = index;
                Located::Inside(range)
            }
            Some(range) if range.start < end => Located::Across,
            _ => Located::Clear,
        }
    }

    /// The range whose capacity covers `address`.
    pub(super) fn covering(&self, address: usize) -> Option<&Range<T>> {
        let index = self.ranges.partition_point(|range| range.limit() <= address);
        self.ranges.get(index).filter(|range| range.start <= address)
    }

    pub(super) fn starting_at(&mut self, start: usize) -> Option<&mut Range<T>> {
        let index = self.ranges.binary_search_by_key(&start, |range| range.start).ok()?;
        self.ranges.get_mut(index)
    }

    pub(super) fn insert(&mut self, range: Range<T>) {
        let index = self.ranges.partition_point(|other| other.start < range.start);
        self.ranges.insert(index, range);
    }

    pub(super) fn remove(&mut self, start: usize) -> Option<Range<T>> {
        let index = self.ranges.binary_search_by_key(&start, |range| range.start).ok()?;
        Some(self.ranges.remove(index))
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Range<T>) -> bool) {
        self.ranges.retain(keep);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Range<T>> {
        self.ranges.iter()
    }

    /// The first address from `from` on that has `capacity` untaken bytes behind it, all below
    /// `end`.
    pub(super) fn gap(&self, from: usize, end: usize, capacity: usize) -> Option<usize> {
        let first = self.ranges.partition_point(|range| range.limit() <= from);
        let mut start = from;
        for range in self.ranges.get(first..).unwrap_or_default() {
            if start.checked_add(capacity)? <= range.start {
                break;
            }
            start = range.limit();
        }
        (start.checked_add(capacity)? <= end).then_some(start)
    }
}
