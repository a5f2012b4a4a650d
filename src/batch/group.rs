//! A group: copies that continue one another become one.

#![forbid(unsafe_code)]

use core::{fmt, marker::PhantomData, ptr};

use super::storage::{Run, Storage};
use crate::{
    Element,
    buffer::{Dst, View},
    error::{Error, Result},
    location::{BatchSource, DeviceLocation, Invariant, KernelAccessible},
};

/// Copies of one group: where a copy starts where the last one ended, at the source and at the destination, they become
/// one.
///
/// Merging stays inside one allocation, because distinct allocations are never adjacent (rule R10). Sources in plain host
/// memory are not merged.
pub struct Group<'g, 'env, L: DeviceLocation> {
    storage: &'g mut Storage,
    /// The run that grows: its source, and where source and destination end. Nothing if source and end are equal.
    src: *const u8,
    src_end: *const u8,
    dst_end: *mut u8,
    asked: u64,
    brand: PhantomData<(Invariant<'env>, L)>,
}

impl<'g, 'env, L: DeviceLocation> Group<'g, 'env, L> {
    pub(super) fn new(storage: &'g mut Storage) -> Self {
        Group {
            storage,
            src: ptr::null(),
            src_end: ptr::null(),
            dst_end: ptr::null_mut(),
            asked: 0,
            brand: PhantomData,
        }
    }

    /// Adds one copy, merged with the one before if it continues it. Cost of one that does: 15 instructions.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, [`Error::OutOfMemory`] if the storage cannot grow. Nothing is added then.
    #[inline]
    pub fn copy<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        let (dst, len) = dst.into_parts();
        if len != src.len() {
            return Err(unequal(src.len(), len));
        }
        let (bytes, src, dst) = (src.byte_len(), src.as_ptr().cast::<u8>(), dst.as_ptr().cast::<u8>());
        self.asked = self.asked.wrapping_add(1);
        if !S::DURING_CALL && src == self.src_end && dst == self.dst_end {
            self.src_end = src.wrapping_add(bytes);
            self.dst_end = dst.wrapping_add(bytes);
            return Ok(());
        }
        self.start(Run { dst, src, bytes }, S::DURING_CALL)
    }

    /// Adds one copy that is never merged, for adopted memory whose edges touch other memory of the group.
    ///
    /// # Errors
    /// As for [`copy`](Group::copy).
    #[inline]
    pub fn copy_unmerged<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        self.flush()?;
        self.copy(src, dst)?;
        self.flush()
    }

    /// Ends the run, and the group.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.storage.count(self.asked);
        Ok(())
    }

    /// Ends the run and starts another with `run`. Out of line and on all of the state, so that the fast path needs no
    /// registers saved.
    #[cold]
    #[inline(never)]
    fn start(&mut self, run: Run, during_call: bool) -> Result<()> {
        if run.bytes == 0 {
            return Ok(());
        }
        if during_call {
            return self.storage.push_during_call(run);
        }
        self.flush()?;
        self.src = run.src;
        self.src_end = run.src.wrapping_add(run.bytes);
        self.dst_end = run.dst.wrapping_add(run.bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let bytes = self.src_end.addr().wrapping_sub(self.src.addr());
        if bytes != 0 {
            self.storage.push(Run { dst: self.dst_end.wrapping_sub(bytes), src: self.src, bytes })?;
        }
        self.src = ptr::null();
        self.src_end = ptr::null();
        self.dst_end = ptr::null_mut();
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn unequal(expected: usize, found: usize) -> Error {
    Error::Length { operand: "dst", expected, found }
}

impl<L: DeviceLocation> fmt::Debug for Group<'_, '_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("asked", &self.asked).finish_non_exhaustive()
    }
}
