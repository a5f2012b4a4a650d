//! Tables of addresses in device memory as arguments. A kernel of a module gets the address of the
//! table, and a host function a slice of what the table points to.

use core::{
    ffi::c_void,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

use super::{In, KernelUse, Out, RawArg, Resolve, Room, Value, sealed};
use crate::code::Code;

/// One entry of a table, as it lies in device memory: the address of the first element of its
/// target, and the payload beside it. Without a payload it is the address alone.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot<P> {
    /// The address.
    pub address: usize,
    /// The payload: `()`, or a [`Value`].
    pub payload: P,
}

/// What lies beside an address in a table: nothing, or a [`Value`]. Sealed.
pub trait Payload: sealed::Sealed + Copy + Send + Sync + 'static {
    /// What a host function gets for an entry: the target alone, or a pair of target and payload.
    type Beside<S>;
    /// Makes it.
    fn beside<S>(self, target: S) -> Self::Beside<S>;
}

impl Payload for () {
    type Beside<S> = S;
    #[inline]
    fn beside<S>(self, target: S) -> S {
        target
    }
}

impl<P: Copy + Send + Sync + 'static> Payload for Value<P> {
    type Beside<S> = (S, P);
    #[inline]
    fn beside<S>(self, target: S) -> (S, P) {
        (target, self.0)
    }
}

/// Where the entries and the lengths of a table lie: in device memory, and as the host wrote them.
#[derive(Clone, Copy, Debug)]
struct Places<P> {
    /// Invariants, promised by the caller of `InTable::new` or `OutTable::new`:
    /// 1. Once the stream has come to the launch, `slots` are the device addresses of `len` slots,
    ///    and `lengths` those of `len` lengths. Each slot has the address of as many elements as
    ///    its length says.
    /// 2. While the arguments that `uses` and `is_aligned` get are borrowed, `host_slots` and
    ///    `host_lengths` are the same on the host.
    slots: NonNull<Slot<P>>,
    lengths: NonNull<usize>,
    host_slots: *const Slot<P>,
    host_lengths: *const usize,
    len: usize,
}

/// A table of operands that a kernel reads.
#[derive(Clone, Copy, Debug)]
pub struct InTable<T, P>(Places<P>, PhantomData<*const T>);

/// A table of operands that a kernel reads and writes. The table itself is only read.
#[derive(Clone, Copy, Debug)]
pub struct OutTable<T, P>(Places<P>, PhantomData<*mut T>);

// SAFETY:
// - As for `In`. Payloads are `Send` and `Sync`.
unsafe impl<T: Send + Sync, P: Payload> Send for InTable<T, P> {}
// SAFETY:
// - As for `Out`. Payloads are `Send` and `Sync`.
unsafe impl<T: Send + Sync, P: Payload> Send for OutTable<T, P> {}

impl<P: Payload> Places<P> {
    /// The targets, as the host wrote them: address and length of each.
    ///
    /// # Safety
    /// - As for [`RawArg::uses`].
    unsafe fn targets(&self) -> impl Iterator<Item = (usize, usize)> {
        // Not `add`: there is no object if the table is empty.
        let (slots, lengths) = (self.host_slots, self.host_lengths);
        (0..self.len).map(move |i| {
            // SAFETY:
            // - `i < len`, and invariant 2: the caller promises that the host's copy is live.
            let slot = unsafe { slots.wrapping_add(i).read_unaligned() };
            // SAFETY:
            // - As above.
            let length = unsafe { lengths.wrapping_add(i).read() };
            (slot.address, length)
        })
    }

    /// The memory of the table itself.
    fn own(&self) -> [KernelUse; 2] {
        [
            In(self.slots.as_ptr().cast_const(), self.len).named(),
            In(self.lengths.as_ptr().cast_const(), self.len).named(),
        ]
    }

    /// Finds the table and its targets, and makes what a host function gets for each.
    ///
    /// # Safety
    /// - The stream has come to the launch.
    unsafe fn find<'k, R: Resolve, S>(
        &self,
        memory: &'k R,
        room: &'k mut Room,
        mut see: impl FnMut(usize, usize, &'k R) -> Result<S, Code>,
    ) -> Result<&'k mut [P::Beside<S>], Code> {
        let [slots, lengths] = self.own().map(|own| memory.resolve(own.ptr.cast_mut(), own.bytes));
        let (slots, lengths) = (slots?.cast_const().cast::<Slot<P>>(), lengths?.cast_const().cast::<usize>());
        let all: &mut [MaybeUninit<P::Beside<S>>] = room.array(self.len)?;
        for (i, place) in all.iter_mut().enumerate() {
            // SAFETY:
            // - `i < len`, and invariant 1: `resolve` found the slots in one allocation (L5), and
            //   the stream has come to the launch. Their alignment is that of the address or less.
            let slot = unsafe { slots.wrapping_add(i).read_unaligned() };
            // SAFETY:
            // - As above, for the lengths.
            let length = unsafe { lengths.wrapping_add(i).read_unaligned() };
            place.write(slot.payload.beside(see(slot.address, length, memory)?));
        }
        // SAFETY:
        // - Each place was written.
        Ok(unsafe { all.assume_init_mut() })
    }
}

macro_rules! table {
    ($name:ident, $operand:ident, $pointer:path, $slice:ty) => {
        impl<T, P: Payload> $name<T, P> {
            /// The argument for the `len` slots at device address `slots`, with the lengths of
            /// their targets at device address `lengths`. `host_slots` and `host_lengths` are the
            /// same on the host.
            ///
            /// # Safety
            /// - Once the stream has come to a launch with this argument, there are as many slots
            ///   and lengths in device memory, each in one allocation. Each slot has the address of
            ///   as many elements of `T` as its length says, of which the layout of an array
            ///   exists. Addresses of host memory are exposed.
            /// - `host_slots` and `host_lengths` are valid for reads whenever
            ///   [`uses`](RawArg::uses) or [`is_aligned`](RawArg::is_aligned) is called.
            #[inline]
            #[must_use]
            pub const unsafe fn new(
                slots: NonNull<Slot<P>>,
                lengths: NonNull<usize>,
                host_slots: *const Slot<P>,
                host_lengths: *const usize,
                len: usize,
            ) -> Self {
                $name(Places { slots, lengths, host_slots, host_lengths, len }, PhantomData)
            }
        }

        impl<T: 'static, P: Payload> RawArg for $name<T, P> {
            const SIZE: usize = size_of::<*const Slot<P>>();
            type Seen<'k> = $slice;
            type Room = Room;

            #[inline]
            fn param(&self) -> *mut c_void {
                ptr::from_ref(&self.0.slots).cast_mut().cast()
            }

            #[inline]
            unsafe fn uses(&self, f: &mut impl FnMut(KernelUse)) {
                self.0.own().into_iter().for_each(&mut *f);
                // SAFETY:
                // - The caller keeps the contract.
                for (address, length) in unsafe { self.0.targets() } {
                    f($operand::<T>($pointer(address), length).named());
                }
            }

            #[inline]
            unsafe fn is_aligned<R: Resolve>(&self) -> bool {
                // SAFETY:
                // - The caller keeps the contract.
                unsafe { self.0.targets() }
                    .all(|(address, length)| $operand::<T>($pointer(address), length).keeps::<R>())
            }

            #[inline]
            unsafe fn see<'k, R: Resolve>(self, memory: &'k R, room: &'k mut Room) -> Result<$slice, Code> {
                let see = |address, length, memory| {
                    // SAFETY:
                    // - The caller keeps the contract for the targets of the table.
                    unsafe { $operand::<T>($pointer(address), length).slice(memory) }
                };
                // SAFETY:
                // - The stream has come to the launch: the caller promises it.
                let all = unsafe { self.0.find(memory, room, see) }?;
                Ok(all)
            }
        }
        impl<T, P> sealed::Sealed for $name<T, P> {}
    };
}
table!(InTable, In, ptr::with_exposed_provenance, &'k [P::Beside<&'k [T]>]);
table!(OutTable, Out, ptr::with_exposed_provenance_mut, &'k mut [P::Beside<&'k mut [T]>]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RawArgs, SameAddress};

    /// A table whose addresses are those of the host and of the device.
    struct Host<P> {
        slots: Vec<Slot<P>>,
        lengths: Vec<usize>,
    }

    impl<P: Payload> Host<P> {
        fn new<T>(targets: &mut [(Vec<T>, P)]) -> Self {
            let lengths = targets.iter().map(|(target, _)| target.len()).collect();
            let slot = |(target, payload): &mut (Vec<T>, P)| Slot {
                address: target.as_mut_ptr().expose_provenance(),
                payload: *payload,
            };
            Host { slots: targets.iter_mut().map(slot).collect(), lengths }
        }

        fn places(&self) -> (NonNull<Slot<P>>, NonNull<usize>, *const Slot<P>, *const usize, usize) {
            let (slots, lengths) = (NonNull::from(&self.slots[..]).cast(), NonNull::from(&self.lengths[..]).cast());
            (slots, lengths, self.slots.as_ptr(), self.lengths.as_ptr(), self.slots.len())
        }
    }

    #[test]
    fn a_table_names_itself_and_each_target() {
        let mut targets = [(vec![1_u16, 2], Value(7_u8)), (vec![3], Value(8)), (vec![], Value(9))];
        let at = [0, 1, 2].map(|i: usize| targets[i].0.as_ptr().cast::<u8>());
        let host = Host::new(&mut targets);
        let (slots, lengths, host_slots, host_lengths, len) = host.places();
        // SAFETY:
        // - These are the places of a table, which lives longer than the argument.
        let table = unsafe { OutTable::<u16, Value<u8>>::new(slots, lengths, host_slots, host_lengths, len) };
        let mut named = Vec::new();
        // SAFETY:
        // - The table lives.
        unsafe { (table,).uses(|each| named.push((each.ptr, each.bytes, each.writes))) };
        let own = [(slots.as_ptr().cast_const().cast(), 48, false), (lengths.as_ptr().cast_const().cast(), 24, false)];
        assert_eq!(named, [own[0], own[1], (at[0], 4, true), (at[1], 2, true), (at[2], 0, true)]);
        assert_eq!(<(OutTable<u16, Value<u8>>,) as RawArgs>::SIZES, [8]);
        // SAFETY:
        // - The parameter is an address.
        assert_eq!(unsafe { table.param().cast::<*mut Slot<Value<u8>>>().read() }, slots.as_ptr());
    }

    #[test]
    fn a_host_function_gets_a_slice_for_each_target_in_memory_that_is_used_again() {
        let mut places = std::collections::BTreeSet::new();
        for round in 0..3_u32 {
            let mut targets = [(vec![1_u32, 2], Value(5_u128)), (vec![3, 4, 5], Value(6))];
            let host = Host::new(&mut targets);
            let (slots, lengths, host_slots, host_lengths, len) = host.places();
            // SAFETY:
            // - These are the places of a table, which lives longer than the argument.
            let table = unsafe { OutTable::<u32, Value<u128>>::new(slots, lengths, host_slots, host_lengths, len) };
            // SAFETY:
            // - The addresses are those of the host.
            let memory = unsafe { SameAddress::new() };
            let mut rooms = <(OutTable<u32, Value<u128>>,) as RawArgs>::rooms();
            // SAFETY:
            // - The targets are used through the table alone, and are aligned for their elements.
            let (seen,) = unsafe { (table,).see(&memory, &mut rooms) }.unwrap();
            assert!(seen.as_ptr().is_aligned());
            places.insert(seen.as_ptr().addr());
            seen[1].0[2] += round;
            assert_eq!((&*seen[0].0, seen[0].1, &*seen[1].0, seen[1].1), (&[1, 2][..], 5, &[3, 4, 5 + round][..], 6));
        }
        assert_eq!(places.len(), 1);
    }
}
