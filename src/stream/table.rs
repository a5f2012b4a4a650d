//! Tables of addresses in device memory, which keep what they point to.

mod entry;
mod host_copy;

use core::{fmt, marker::PhantomData, mem::MaybeUninit, ops::RangeBounds, ptr::NonNull};

use tidelock_driver::{InTable, OutTable, Slot};

pub use self::entry::{Entry, EntryMut};
use self::host_copy::HostCopy;
use super::{
    AllocOf, Ctx, HasAlloc, StreamAlloc,
    in_location::at,
    launch::{Arg, sealed::SealedArg},
    location::DeviceLocation,
};
use crate::{
    alloc::Allocator,
    buffer::{Buffer, View, ViewMut, part_of},
    error::{OutOfRange, Result},
};

/// A table of addresses in the memory of stream `L`, which points to the targets of entries `E`.
///
/// It keeps its targets as long as it lives: it borrows those of views, and owns buffers and shared
/// memory, so that a struct may hold it for any time.
/// [`Ctx::table`] makes one. [`view`](Table::view) and [`view_mut`](Table::view_mut) are arguments
/// of kernels.
///
/// The layout in device memory, for a kernel of a module: one entry behind the other. Without a
/// payload an entry is an address. With a payload of type `P` it is the `repr(C)` struct of an
/// address and a `P`. Behind the entries lie the lengths of the targets, in elements, as one
/// `usize` each.
///
/// Size: 13 words with the stream's pool.
pub struct Table<E: Entry<L>, L: DeviceLocation, A: Allocator<L> = StreamAlloc<L>> {
    /// Invariants:
    /// 1. Once the stream has passed what is enqueued now, `memory` starts with the words of
    ///    `host`. Nothing else writes it.
    /// 2. The host's slots have the addresses of as many elements of `E::Element` in `E::Location`
    ///    as the lengths say. They are valid as long as `entries` is borrowed and `owners` live: to
    ///    read, and if `E: EntryMut`, exclusively.
    memory: Buffer<MaybeUninit<Slot<E::Payload>>, L, A>,
    host: HostCopy<L>,
    owners: Vec<E::Owner>,
    entries: PhantomData<E>,
}

/// A table, or a part of one, borrowed: an argument of a kernel that reads its targets. `Copy`.
///
/// A closure gets a slice of slices, `&[&[T]]`. With payloads it gets `&[(&[T], P)]`. A kernel of a
/// module gets the address of the first entry.
pub struct TableView<'a, E: Entry<L>, L: DeviceLocation>(Part<'a, E, L>);

/// A table, or a part of one, borrowed exclusively: an argument of a kernel that reads and writes
/// its targets.
///
/// A closure gets `&mut [&mut [T]]`. With payloads it gets `&mut [(&mut [T], P)]`. A kernel of a
/// module gets the address of the first entry. It does not write the table itself.
pub struct TableViewMut<'a, E: Entry<L>, L: DeviceLocation>(Part<'a, E, L>);

/// Some entries of a table.
struct Part<'a, E: Entry<L>, L: DeviceLocation> {
    /// Invariants, for as many entries as `host_lengths` has elements, while `'a` lasts:
    /// 1. `slots` and `lengths` are device addresses in the memory of one table, where the stream
    ///    finds the same words as in `host_slots` and `host_lengths`.
    /// 2. The targets are borrowed as invariant 2 of [`Table`] says.
    slots: NonNull<Slot<E::Payload>>,
    lengths: NonNull<usize>,
    host_slots: &'a [usize],
    host_lengths: &'a [usize],
    borrow: PhantomData<(E, L)>,
}

impl<L: DeviceLocation, A: Copy> Ctx<'_, L, A> {
    /// A table of the addresses of `entries`, in device memory. An entry is a view of memory that
    /// kernels of the stream may use, or a buffer or [`Shared`](super::Shared) memory of it; or a
    /// pair of one of these and an element, the payload, such as the length of the target or the
    /// number of its block.
    ///
    /// The table borrows the targets of views until it is dropped, and owns the others. A table of
    /// [`View`]s or shared memory is read: targets may repeat. A table of [`ViewMut`]s or buffers
    /// is also written, and its targets do not overlap.
    ///
    /// Cost: an allocation, and an upload of one address, one payload and one length for each
    /// entry; nothing for no entries. Two driver calls if the words fit into a quarter of the
    /// staging ring. The host's copy of the words comes from the tables that were dropped before,
    /// so that a steady loop allocates nothing on the heap. A table that owns its targets also
    /// makes a list of them. `entries` is iterated once and to its end, whatever its size hint
    /// says. It may use the context meanwhile.
    ///
    /// ```
    /// # use std::num::NonZero;
    /// # tidelock::sim::Device::default().stream(|mut stream, _env| {
    /// let ctx = stream.ctx().with_pool();
    /// let pool = ctx.upload_new(&[1_u32, 1, 2, 2, 3, 3, 4, 4])?; // blocks of two elements
    /// let blocks = pool.view().rows(NonZero::new(2).unwrap())?;
    /// let of_sequence = [3, 0, 3];
    /// let table = ctx.table(of_sequence.map(|block| blocks.row(block)).into_iter().flatten())?;
    /// let mut sums = ctx.zeros::<u32>(3)?;
    /// ctx.launch((table.view(), sums.view_mut()), |(blocks, sums)| {
    ///     sums.iter_mut().zip(blocks).for_each(|(sum, block)| *sum = block.iter().sum());
    /// })?;
    /// drop(table); // from here on `pool` may be written or dropped
    /// # let out = ctx.init_from(ctx.alloc_pinned(3)?.stage(&ctx), sums.view())?;
    /// # assert_eq!(out.reclaim(&stream.synchronize()?)[..], [8, 2, 8]);
    /// # Ok::<_, tidelock::Error>(())
    /// # })??;
    /// # Ok::<(), tidelock::Error>(())
    /// ```
    ///
    /// # Errors
    /// For views an [`Error`](crate::Error), for others a [`Rejected`](crate::error::Rejected) with
    /// those that were taken from `entries`. As for [`Buffer::uninit_in`] and
    /// [`Ctx::upload`], and [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the host has no
    /// memory for its copy.
    #[inline]
    pub fn table<E: Entry<L>>(
        self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Table<E, L, AllocOf<A, at!(E, L)>>, E::Refused>
    where
        A: HasAlloc<at!(E, L)>,
    {
        let mut host = HostCopy::<L>::new(Ctx::handle(&self));
        let mut owners = Vec::new();
        let memory = host.fill(entries, &mut owners).and_then(|()| self.table_memory::<E>(&host));
        match memory {
            Ok(memory) => Ok(Table { memory, host, owners, entries: PhantomData }),
            Err(error) => Err(E::refused(error, owners)),
        }
    }

    /// Device memory with the words of `host`.
    fn table_memory<E: Entry<L>>(
        self,
        host: &HostCopy<L>,
    ) -> Result<Buffer<MaybeUninit<Slot<E::Payload>>, L, AllocOf<A, at!(E, L)>>>
    where
        A: HasAlloc<at!(E, L)>,
    {
        let bytes = bytemuck::cast_slice(host.words());
        let slots = bytes.len().div_ceil(size_of::<Slot<E::Payload>>());
        let mut memory = Buffer::<MaybeUninit<Slot<E::Payload>>, L, _>::uninit_in(
            slots,
            HasAlloc::<at!(E, L)>::handle(self.allocs()),
        )?;
        // SAFETY:
        // - C1 to C4: the memory was just allocated, nothing else uses it, and it has room for the
        //   bytes.
        unsafe { Ctx::handle(&self).upload(memory.as_mut_ptr().cast(), bytes, size_of::<usize>()) }?;
        Ok(memory)
    }
}

impl<E: Entry<L>, L: DeviceLocation, A: Allocator<L>> Table<E, L, A> {
    /// How many entries there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.host.entries(words_of::<E, L>())
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table as an argument of a kernel that reads the targets.
    #[inline]
    #[must_use]
    pub fn view(&self) -> TableView<'_, E, L> {
        TableView(self.part())
    }

    /// The table as an argument of a kernel that reads and writes the targets.
    #[inline]
    #[must_use]
    pub fn view_mut(&mut self) -> TableViewMut<'_, E, L>
    where
        E: EntryMut<L>,
    {
        TableViewMut(self.part())
    }

    /// The target of entry `index`, to read.
    ///
    /// # Errors
    /// [`OutOfRange`] if there is no such entry.
    #[inline]
    pub fn target(&self, index: usize) -> Result<View<'_, E::Element, E::Location>, OutOfRange> {
        let (ptr, len) = self.part().target(index)?;
        // SAFETY:
        // - Invariant 2: the elements are valid to read as long as the table is borrowed.
        Ok(unsafe { View::from_raw_parts(ptr, len) })
    }

    /// The target of entry `index`, to write.
    ///
    /// # Errors
    /// [`OutOfRange`] if there is no such entry.
    #[inline]
    pub fn target_mut(&mut self, index: usize) -> Result<ViewMut<'_, E::Element, E::Location>, OutOfRange>
    where
        E: EntryMut<L>,
    {
        let (ptr, len) = self.part().target(index)?;
        // SAFETY:
        // - Invariant 2: the elements are the table's alone, which is borrowed exclusively.
        Ok(unsafe { ViewMut::from_raw_parts(ptr, len) })
    }

    /// Ends the table, and hands back the buffers or the shared memory that it owns. For views
    /// there is nothing to hand back: their borrow ends.
    #[inline]
    #[must_use]
    pub fn into_owners(self) -> Vec<E::Owner> {
        self.owners
    }

    fn part(&self) -> Part<'_, E, L> {
        let (host_slots, host_lengths) = self.host.parts(self.len());
        let slots =
            NonNull::new(self.memory.as_ptr().cast_mut().cast::<Slot<E::Payload>>()).unwrap_or(NonNull::dangling());
        // Wrapping, because a device address is in bounds of no object on the host.
        let lengths = slots.as_ptr().wrapping_add(self.len()).cast();
        Part {
            slots,
            // The memory does not wrap around the address space, so that this address is not null.
            lengths: NonNull::new(lengths).unwrap_or(NonNull::dangling()),
            host_slots,
            host_lengths,
            borrow: PhantomData,
        }
    }
}

/// The words of one entry.
const fn words_of<E: Entry<L>, L: DeviceLocation>() -> usize {
    // A slot starts with a word, so that its size is a multiple of that of a word.
    match size_of::<Slot<E::Payload>>().checked_div(size_of::<usize>()) {
        Some(words) => words,
        None => 0,
    }
}

impl<E: Entry<L>, L: DeviceLocation> Part<'_, E, L> {
    fn target(&self, index: usize) -> Result<(NonNull<E::Element>, usize), OutOfRange> {
        let len = *self.host_lengths.get(index).ok_or(OutOfRange)?;
        let address = *self.host_slots.get(index.wrapping_mul(words_of::<E, L>())).ok_or(OutOfRange)?;
        let ptr = core::ptr::with_exposed_provenance_mut(address);
        Ok((NonNull::new(ptr).ok_or(OutOfRange)?, len))
    }

    fn slice(self, range: impl RangeBounds<usize>) -> Result<Self, OutOfRange> {
        let (start, len) = part_of(&range, self.host_lengths.len())?;
        // No products wrap: all are sizes of parts of the table.
        let words = words_of::<E, L>();
        let host_slots =
            self.host_slots.get(start.wrapping_mul(words)..).and_then(|rest| rest.get(..len.wrapping_mul(words)));
        let host_lengths = self.host_lengths.get(start..).and_then(|rest| rest.get(..len));
        Ok(Part {
            slots: NonNull::new(self.slots.as_ptr().wrapping_add(start)).ok_or(OutOfRange)?,
            lengths: NonNull::new(self.lengths.as_ptr().wrapping_add(start)).ok_or(OutOfRange)?,
            host_slots: host_slots.ok_or(OutOfRange)?,
            host_lengths: host_lengths.ok_or(OutOfRange)?,
            borrow: PhantomData,
        })
    }
}

impl<E: Entry<L>, L: DeviceLocation> TableView<'_, E, L> {
    /// How many entries there are.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.host_lengths.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The entries in `range`, such as those of one layer.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist, or if the range ends before it starts.
    #[inline]
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<Self, OutOfRange> {
        self.0.slice(range).map(TableView)
    }
}

impl<E: Entry<L>, L: DeviceLocation> TableViewMut<'_, E, L> {
    /// How many entries there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.host_lengths.len()
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries in `range`, such as those of one layer.
    ///
    /// # Errors
    /// [`OutOfRange`] if they do not all exist, or if the range ends before it starts.
    #[inline]
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<Self, OutOfRange> {
        self.0.slice(range).map(TableViewMut)
    }
}

macro_rules! arg {
    ($view:ident, $raw:ident) => {
        impl<E: Entry<L>, L: DeviceLocation> SealedArg<L> for $view<'_, E, L> {}
        impl<E: Entry<L>, L: DeviceLocation> Arg<L> for $view<'_, E, L> {
            type Raw = $raw<E::Element, E::Payload>;
            type Receipt = ();
            #[inline]
            fn into_raw(self) -> Self::Raw {
                let Part { slots, lengths, host_slots, host_lengths, .. } = self.0;
                let (len, host_lengths) = (host_lengths.len(), host_lengths.as_ptr());
                // SAFETY:
                // - Only `Table::view_mut` makes a `TableViewMut`, of exclusive targets.
                // - Invariants of `Part`: there are as many slots and lengths, on the device and on
                //   the host, and the host's are borrowed like the table. Addresses of targets are
                //   exposed (`HostCopy::fill`).
                unsafe { $raw::new(slots, lengths, host_slots.as_ptr().cast(), host_lengths, len) }
            }

            #[inline]
            fn receipt(&self) {}

            #[inline]
            fn settle((): ()) {}
        }
        impl<E: Entry<L>, L: DeviceLocation> fmt::Debug for $view<'_, E, L> {
            #[inline]
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($view)).field("len", &self.0.host_lengths.len()).finish_non_exhaustive()
            }
        }
    };
}
arg!(TableView, InTable);
arg!(TableViewMut, OutTable);

impl<E: Entry<L>, L: DeviceLocation> Clone for Part<'_, E, L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Entry<L>, L: DeviceLocation> Copy for Part<'_, E, L> {}
impl<E: Entry<L>, L: DeviceLocation> Clone for TableView<'_, E, L> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Entry<L>, L: DeviceLocation> Copy for TableView<'_, E, L> {}

impl<E: Entry<L>, L: DeviceLocation, A: Allocator<L>> fmt::Debug for Table<E, L, A> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("location", &L::NAME).field("len", &self.len()).finish_non_exhaustive()
    }
}
