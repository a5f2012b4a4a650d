//! Handles, and the tables behind them: an id that was destroyed never names anything again.

#![forbid(unsafe_code)]

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// Only the engine makes one, so that nobody names what is not his: an event that was recorded again by somebody
        /// else would break whoever trusts it. The default names nothing, and is answered with `INVALID_HANDLE`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(in crate::device::sim) u64);
    )*};
}

handles! {
    /// A stream of an engine.
    StreamId;
    /// An event of an engine.
    EventId;
    /// A memory pool of an engine.
    PoolId;
}

/// A table whose ids carry the generation of their slot, so that slots are reused and ids are not.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Slots { slots: Vec::new(), free: Vec::new() }
    }

    /// Puts `value` in the table; `None` if the table is full.
    pub(super) fn insert(&mut self, value: T) -> Option<u64> {
        if let Some(index) = self.free.pop() {
            let slot = self.slots.get_mut(usize::try_from(index).ok()?)?;
            slot.value = Some(value);
            return Some(id(index, slot.generation));
        }
        // The last index is left out because ids hold the index plus one.
        let index = u32::try_from(self.slots.len()).ok().filter(|index| *index < u32::MAX)?;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Some(id(index, 0))
    }

    pub(super) fn get(&self, id: u64) -> Option<&T> {
        let (index, generation) = parts(id)?;
        self.slots.get(usize::try_from(index).ok()?).filter(|slot| slot.generation == generation)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut T> {
        let (index, generation) = parts(id)?;
        self.slots.get_mut(usize::try_from(index).ok()?).filter(|slot| slot.generation == generation)?.value.as_mut()
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let (index, generation) = parts(id)?;
        let slot = self.slots.get_mut(usize::try_from(index).ok()?).filter(|slot| slot.generation == generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(value)
    }

    pub(super) fn remove_if(&mut self, condition: impl Fn(&T) -> bool) {
        for (index, slot) in (0..).zip(&mut self.slots) {
            if slot.value.as_ref().is_some_and(&condition) {
                slot.value = None;
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index);
            }
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }
}

fn id(index: u32, generation: u32) -> u64 {
    (u64::from(generation) << 32) | u64::from(index.wrapping_add(1))
}

fn parts(id: u64) -> Option<(u32, u32)> {
    let index = u32::try_from(id & u64::from(u32::MAX)).ok()?.checked_sub(1)?;
    Some((index, u32::try_from(id >> 32).ok()?))
}
