//! Handles, and the tables behind them: an id that was destroyed never names anything again, and no
//! table takes an id of another device.

#![forbid(unsafe_code)]

/// One thing of one device. The default is no thing of no device: devices are numbered from 1 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    gpu: u64,
    /// How often the slot was used before.
    generation: u32,
    /// The index of the slot, plus one.
    slot: u32,
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// Only the device makes one, so that no program can name an object that it was not given:
        /// an event that was recorded again elsewhere would end a wait too early. The handle also
        /// names its device. Any other device answers it with `INVALID_HANDLE`, and so does its own
        /// once the object was destroyed. The default names nothing.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(super) Id);
    )*};
}

handles! {
    /// A stream of a device.
    StreamId;
    /// An event of a device.
    EventId;
    /// A memory pool of a device.
    PoolId;
}

/// A table of one device. Ids carry the generation of their slot, so that slots are reused and ids
/// are not: a slot whose generations are used up is not used any more.
#[derive(Debug)]
pub(super) struct Slots<T> {
    gpu: u64,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl Id {
    /// The number of the slot, from 1 on.
    pub(super) const fn slot(self) -> u32 {
        self.slot
    }

    /// How often the slot was used before.
    pub(super) const fn reused(self) -> u32 {
        self.generation
    }

    /// A number that no other id of the device and kind has.
    pub(super) const fn number(self) -> u64 {
        let [a, b, c, d] = self.slot.to_le_bytes();
        let [e, f, g, h] = self.generation.to_le_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    fn index(self) -> Option<usize> {
        usize::try_from(self.slot.checked_sub(1)?).ok()
    }
}

impl<T> Slots<T> {
    /// An empty table of `device`.
    pub(super) const fn new(gpu: u64) -> Self {
        Slots { gpu, slots: Vec::new(), free: Vec::new() }
    }

    /// Puts `value` in the table; `None` if the table is full.
    pub(super) fn insert(&mut self, value: T) -> Option<Id> {
        let gpu = self.gpu;
        if let Some(slot) = self.free.pop() {
            let found = self.slots.get_mut(Id { gpu, generation: 0, slot }.index()?)?;
            found.value = Some(value);
            return Some(Id { gpu, generation: found.generation, slot });
        }
        let slot = u32::try_from(self.slots.len()).ok()?.checked_add(1)?;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Some(Id { gpu, generation: 0, slot })
    }

    pub(super) fn get(&self, id: Id) -> Option<&T> {
        self.slots.get(self.index(id)?).filter(|slot| slot.generation == id.generation)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        let index = self.index(id)?;
        self.slots.get_mut(index).filter(|slot| slot.generation == id.generation)?.value.as_mut()
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let index = self.index(id)?;
        let slot = self.slots.get_mut(index).filter(|slot| slot.generation == id.generation)?;
        let value = slot.value.take()?;
        if slot.retire() {
            self.free.push(id.slot);
        }
        Some(value)
    }

    pub(super) fn remove_if(&mut self, condition: impl Fn(&T) -> bool) {
        for (number, slot) in (1..=u32::MAX).zip(&mut self.slots) {
            if slot.value.as_ref().is_some_and(&condition) {
                slot.value = None;
                if slot.retire() {
                    self.free.push(number);
                }
            }
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    /// Where `id` is, if it is of this device.
    fn index(&self, id: Id) -> Option<usize> {
        if id.gpu == self.gpu { id.index() } else { None }
    }
}

impl<T> Slot<T> {
    /// Ends the slot's present generation; whether there is another one.
    fn retire(&mut self) -> bool {
        let next = self.generation.checked_add(1);
        self.generation = next.unwrap_or(self.generation);
        next.is_some()
    }
}

#[cfg(test)]
impl<T> Slots<T> {
    /// How many slots there are, in use or not.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// As if the slot of `id` had been used 2^32 times but `left`.
    pub(super) fn age(&mut self, id: Id, left: u32) -> Option<Id> {
        let index = self.index(id)?;
        let generation = u32::MAX - left;
        self.slots.get_mut(index)?.generation = generation;
        Some(Id { generation, ..id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_nothing_in_another_engines_table() {
        let (mut one, mut other) = (Slots::new(1), Slots::new(2));
        let (a, b) = (one.insert('a').unwrap(), other.insert('b').unwrap());
        assert_eq!((one.get(a), other.get(b)), (Some(&'a'), Some(&'b')));
        assert_eq!((one.get(b), other.get_mut(a)), (None, None));
        assert_eq!((one.remove(b), other.remove(a)), (None, None));
        assert_eq!((one.get(Id::default()), Slots::<u8>::new(0).get(Id::default())), (None, None));
        assert_eq!((one.get(a), other.get(b)), (Some(&'a'), Some(&'b')));
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_not_used_again() {
        let mut slots = Slots::new(1);
        let first = slots.insert(0).unwrap();
        let aged = slots.age(first, 1).unwrap();
        assert_eq!(slots.remove(aged), Some(0));
        let last = slots.insert(1).unwrap();
        assert_eq!((last.slot(), last.reused()), (first.slot(), u32::MAX));
        assert_eq!(slots.remove(last), Some(1));
        for round in 0..3 {
            let next = slots.insert(round).unwrap();
            assert_eq!(next.slot(), 2, "the slot is given up");
            assert_eq!((slots.get(first), slots.get(aged), slots.get(last)), (None, None, None));
            assert_eq!((slots.remove(first), slots.remove(last)), (None, None));
            slots.remove(next);
        }
        // The same where a condition decides.
        let only = slots.insert(7).unwrap();
        slots.age(only, 0).unwrap();
        slots.remove_if(|value| *value == 7);
        assert_eq!(slots.insert(8).unwrap().slot(), 3);
        assert_eq!(slots.values().collect::<Vec<_>>(), [&8]);
    }
}
