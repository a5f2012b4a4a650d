//! What a table may point to.

#![forbid(unsafe_code)]

use tidelock_driver::{Payload, Value};

use crate::{
    Element,
    alloc::Allocator,
    buffer::{Buffer, View, ViewMut},
    error::{Error, Rejected},
    stream::{
        location::{DeviceLocation, KernelAccessible},
        shared::{Shared, SharedPlace},
    },
};

/// An entry of a table of stream `L`: a view of memory that its kernels may use, or a [`Buffer`] or
/// [`Shared`] memory of it; or a pair of one of these and an element, the payload. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an entry of a table of stream `{L}`",
    label = "expected views or buffers of this stream's memory",
    note = "a table points to memory that its stream's kernels may use: `buffer.view()`, `buffer.view_mut()`, `rows.row(i)?`, or the buffer itself",
    note = "a payload beside the address is the second part of a pair: `(view, 3_u32)`",
    note = "memory of another stream: `transfer` the buffer, or `lend` a view of it; detached memory: `attach` it first"
)]
pub trait Entry<L: DeviceLocation>: sealed::SealedEntry<L> + Sized {
    /// The element of the target.
    type Element: Element;
    /// Where the target lies.
    type Location: KernelAccessible<L>;
    /// The error if the table is refused. For what a table owns it hands back what was taken.
    type Refused;
    /// The payload as the driver contract has it.
    #[doc(hidden)]
    type Payload: Payload;
    /// What the table owns to keep the target: the buffer or shared memory, or `()` for a view.
    type Owner;
    /// Writes the payload to its place. Returns the address and the length of the target, and its
    /// owner.
    #[doc(hidden)]
    fn into_parts(self, payload: &mut [u8]) -> (*const Self::Element, usize, Self::Owner);
    /// Makes the error.
    #[doc(hidden)]
    fn refused(error: Error, owners: Vec<Self::Owner>) -> Self::Refused;
}

/// An entry whose target no other entry overlaps, so that kernels may write it: a [`ViewMut`] or a
/// [`Buffer`], with or without a payload. Sealed.
#[diagnostic::on_unimplemented(
    message = "a table of `{Self}` is read, and cannot be written",
    label = "a table that kernels write has exclusive views or buffers as entries",
    note = "make it of exclusive views, which cannot overlap: `ctx.table(buffer.view_mut().chunks_exact(size))?`"
)]
pub trait EntryMut<L: DeviceLocation>: Entry<L> + sealed::SealedEntryMut<L> {}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> Entry<L> for View<'_, T, D> {
    type Element = T;
    type Location = D;
    type Refused = Error;
    type Payload = ();
    type Owner = ();
    #[inline]
    fn into_parts(self, _: &mut [u8]) -> (*const T, usize, ()) {
        (self.as_ptr(), self.len(), ())
    }
    #[inline]
    fn refused(error: Error, _: Vec<()>) -> Error {
        error
    }
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> Entry<L> for ViewMut<'_, T, D> {
    type Element = T;
    type Location = D;
    type Refused = Error;
    type Payload = ();
    type Owner = ();
    #[inline]
    fn into_parts(mut self, _: &mut [u8]) -> (*const T, usize, ()) {
        (self.as_mut_ptr().cast_const(), self.len(), ())
    }
    #[inline]
    fn refused(error: Error, _: Vec<()>) -> Error {
        error
    }
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, A: Allocator<D>> Entry<L> for Buffer<T, D, A> {
    type Element = T;
    type Location = D;
    type Refused = Rejected<Vec<Self>>;
    type Payload = ();
    type Owner = Self;
    #[inline]
    fn into_parts(mut self, _: &mut [u8]) -> (*const T, usize, Self) {
        (self.as_mut_ptr().cast_const(), self.len(), self)
    }
    #[inline]
    fn refused(error: Error, owners: Vec<Self>) -> Rejected<Vec<Self>> {
        Rejected::new(error, owners)
    }
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L> + SharedPlace> Entry<L> for Shared<T, D> {
    type Element = T;
    type Location = D;
    type Refused = Rejected<Vec<Self>>;
    type Payload = ();
    type Owner = Self;
    #[inline]
    fn into_parts(self, _: &mut [u8]) -> (*const T, usize, Self) {
        (self.as_ptr(), self.len(), self)
    }
    #[inline]
    fn refused(error: Error, owners: Vec<Self>) -> Rejected<Vec<Self>> {
        Rejected::new(error, owners)
    }
}

impl<L: DeviceLocation, E: Entry<L, Payload = ()>, P: Element> Entry<L> for (E, P) {
    type Element = E::Element;
    type Location = E::Location;
    type Refused = E::Refused;
    type Payload = Value<P>;
    type Owner = E::Owner;
    #[inline]
    fn into_parts(self, payload: &mut [u8]) -> (*const E::Element, usize, E::Owner) {
        let (entry, value) = self;
        payload.iter_mut().zip(bytemuck::bytes_of(&value)).for_each(|(to, from)| *to = *from);
        entry.into_parts(&mut [])
    }
    #[inline]
    fn refused(error: Error, owners: Vec<E::Owner>) -> E::Refused {
        E::refused(error, owners)
    }
}

impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> EntryMut<L> for ViewMut<'_, T, D> {}
impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, A: Allocator<D>> EntryMut<L> for Buffer<T, D, A> {}
impl<L: DeviceLocation, E: EntryMut<L, Payload = ()>, P: Element> EntryMut<L> for (E, P) {}

/// The seals of `Entry` and `EntryMut`, with their parameter.
mod sealed {
    use super::{
        Allocator, Buffer, DeviceLocation, Element, Entry, EntryMut, KernelAccessible, Shared, SharedPlace, View,
        ViewMut,
    };

    /// Implemented for views, buffers and shared memory that the stream's kernels may use, and for
    /// pairs of one of these and an element.
    #[diagnostic::on_unimplemented(
        message = "`Entry` is sealed, and `{Self}` is neither a view nor a buffer of memory of stream `{L}`",
        label = "not a view or a buffer of this stream's memory, or a pair of one and an element",
        note = "a table points to memory that its stream's kernels may use: `buffer.view()`, `buffer.view_mut()`, `rows.row(i)?`, or the buffer itself"
    )]
    pub trait SealedEntry<L> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> SealedEntry<L> for View<'_, T, D> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> SealedEntry<L> for ViewMut<'_, T, D> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, A: Allocator<D>> SealedEntry<L> for Buffer<T, D, A> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L> + SharedPlace> SealedEntry<L> for Shared<T, D> {}
    impl<L: DeviceLocation, E: Entry<L, Payload = ()>, P: Element> SealedEntry<L> for (E, P) {}

    /// Implemented for exclusive views and buffers, and for pairs of one and an element.
    #[diagnostic::on_unimplemented(
        message = "`EntryMut` is sealed, and `{Self}` is neither an exclusive view nor a buffer",
        label = "not a `ViewMut` or a `Buffer`",
        note = "a table that kernels write is made of exclusive views: `ctx.table(buffer.view_mut().chunks_exact(size))?`"
    )]
    pub trait SealedEntryMut<L> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>> SealedEntryMut<L> for ViewMut<'_, T, D> {}
    impl<L: DeviceLocation, T: Element, D: KernelAccessible<L>, A: Allocator<D>> SealedEntryMut<L> for Buffer<T, D, A> {}
    impl<L: DeviceLocation, E: EntryMut<L, Payload = ()>, P: Element> SealedEntryMut<L> for (E, P) {}
}
