//! A group of copies: consecutive ones are merged.

#![forbid(unsafe_code)]

use core::{
    fmt,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

use tidelock_driver::{RawStream, RowGather, RowShape, StreamOf};

use super::storage::{Gathered, Run, Storage, count};
use crate::{
    Element,
    buffer::{Counter, Dst, DstRows, Indices, Rows, RowsMut, Runs, Scatter, View, ViewMut},
    error::{Error, Result},
    location::Location,
    state::{Permutation, RowNumbers},
    stream::{BatchSource, DeviceLocation, Invariant, KernelAccessible},
};

/// The copies of one group. A copy that starts where the last one ended, at the source and at the
/// destination, is merged with it.
///
/// A merged copy lies in one allocation, because distinct allocations are never adjacent (rule
/// R10). Copies from plain host memory are not merged.
///
/// A function that adds copies names one lifetime for the batch and for all operands, because what
/// a batch copies outlives it ([how to read the messages](crate::lifetime_errors)):
///
/// ```
/// use tidelock::{DeviceLocation, Result, View, ViewMut, batch::Group};
///
/// fn both<'e, L: DeviceLocation>(
///     group: &mut Group<'_, 'e, L>,
///     keys: (View<'e, f32, L>, ViewMut<'e, f32, L>),
///     values: (View<'e, f32, L>, ViewMut<'e, f32, L>),
/// ) -> Result<()> {
///     group.copy(keys.0, keys.1)?;
///     group.copy(values.0, values.1)
/// }
/// ```
pub struct Group<'g, 'env, L: DeviceLocation> {
    pub(super) storage: &'g mut Storage,
    /// The current run: where its source starts, and where source and destination end. There is
    /// none if `src` and `src_end` are equal.
    src: *const u8,
    src_end: *const u8,
    dst_end: *mut u8,
    /// Requested copies that have no entry of their own in the storage.
    pub(super) beyond: u64,
    brand: PhantomData<(Invariant<'env>, L)>,
}

impl<'g, 'env, L: DeviceLocation> Group<'g, 'env, L> {
    pub(super) fn new(storage: &'g mut Storage) -> Self {
        Group {
            storage,
            src: ptr::null(),
            src_end: ptr::null(),
            dst_end: ptr::null_mut(),
            beyond: 0,
            brand: PhantomData,
        }
    }

    /// Adds one copy, and merges it with the copy before if it continues that. Cost of a merged
    /// copy: 15 instructions.
    ///
    /// # Errors
    /// [`Error::Length`] if the lengths differ, [`Error::OutOfMemory`] if the storage cannot grow.
    /// Nothing is added then.
    #[inline]
    pub fn copy<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: impl Dst<'env, T, D>,
    ) -> Result<()> {
        let dst = match dst.split_counter() {
            Err(dst) => dst,
            Ok((dst, counter)) => return self.copy_counted(src, dst, counter),
        };
        let (dst, len) = dst.into_parts();
        // One exit from the fast path, with all operands in registers, so that the fast path saves
        // no register.
        if S::DURING_CALL
            || len != src.len()
            || src.as_ptr().cast() != self.src_end
            || dst.as_ptr().cast() != self.dst_end
        {
            return self.start::<T, S>(dst.as_ptr(), len, src);
        }
        self.beyond = self.beyond.wrapping_add(1);
        self.src_end = src.as_ptr().wrapping_add(len).cast();
        self.dst_end = dst.as_ptr().wrapping_add(len).cast();
        Ok(())
    }

    /// Adds a copy to an output, which is counted once the batch is submitted.
    fn copy_counted<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: View<'env, T, S>,
        dst: ViewMut<'env, MaybeUninit<T>, D>,
        counter: &'env Counter,
    ) -> Result<()> {
        let len = dst.len();
        self.storage.reserve_receipt()?;
        self.copy::<T, S, D>(src, dst)?;
        self.storage.push_receipt(counter, len);
        Ok(())
    }

    /// Counts `rows` rows of `width` elements of an output, which were added as a gather, once the
    /// batch is submitted. The caller has [made room](Group::expects_output) for the receipt.
    #[inline]
    pub(crate) fn count_rows(&mut self, counter: Option<&'env Counter>, rows: usize, width: usize) {
        if let Some(counter) = counter {
            // The rows of a view: the product does not wrap.
            self.storage.push_receipt(counter, rows.wrapping_mul(width));
        }
    }

    /// Makes room for what [`count_rows`](Group::count_rows) adds.
    #[inline]
    pub(crate) fn expects_output(&mut self, counter: Option<&'env Counter>) -> Result<()> {
        if counter.is_some() { self.storage.reserve_receipt() } else { Ok(()) }
    }

    /// Adds one copy that is never merged, for adopted memory that is adjacent to other memory of
    /// the group.
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

    /// Adds the rows of a permutation as one gather, if their shape is worth it. Otherwise adds
    /// nothing and returns `false`: the caller then copies them one by one. So are rows that are
    /// read during the call.
    ///
    /// The caller has compared the shapes of the operands. Without `joining`, positions whose row
    /// joins are left as they are.
    #[inline]
    pub(crate) fn adds_rows<T, S: BatchSource<L>, N: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        joining: Option<Rows<'env, T, N>>,
        permutation: Permutation<'env>,
        dst: &mut impl DstRows<'env, T, D>,
    ) -> Result<bool> {
        if S::DURING_CALL || N::DURING_CALL || has_two_pitches(src, joining) {
            return Ok(false);
        }
        let gather = rows(src, joining, (permutation.old(), permutation.joining()), place(dst));
        let crosses = !(S::IS_DEVICE && N::IS_DEVICE && D::IS_DEVICE);
        self.adds_gather(gather, permutation.indices(), crosses)
    }

    /// Adds the rows of pairs as one gather, if their shape is worth it. Otherwise adds nothing and
    /// returns `false`: the caller then copies them one by one. So are rows that are read during the
    /// call.
    ///
    /// The caller has compared the bounds of the pairs and the widths. Source and destination may be
    /// rows of one buffer, if no row is both.
    #[inline]
    pub(super) fn adds_pairs<T: Element, S: BatchSource<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        scatter: &'env Scatter,
        dst: &mut RowsMut<'env, T, D>,
    ) -> Result<bool> {
        if S::DURING_CALL {
            return Ok(false);
        }
        let gather = rows(src, None::<Rows<'env, T, S>>, (scatter.from_rows(), 0), place(dst));
        self.adds_scatter(gather, scatter, !(S::IS_DEVICE && D::IS_DEVICE))
    }

    /// As [`adds_pairs`](Group::adds_pairs), for source and destination rows of one buffer.
    #[inline]
    pub(super) fn adds_pairs_within<T: Element, D: KernelAccessible<L>>(
        &mut self,
        within: &mut RowsMut<'env, T, D>,
        scatter: &'env Scatter,
    ) -> Result<bool> {
        let to = place(within);
        let gather = rows(within.as_rows(), None::<Rows<'_, T, D>>, (scatter.from_rows(), 0), to);
        self.adds_scatter(gather, scatter, !D::IS_DEVICE)
    }

    #[inline(never)]
    pub(super) fn adds_scatter(
        &mut self,
        mut gather: RowGather,
        scatter: &'env Scatter,
        crosses: bool,
    ) -> Result<bool> {
        let is_adjacent = gather.src_pitch == gather.bytes && gather.dst_pitch == gather.bytes;
        let runs = scatter.runs(is_adjacent);
        let shape = RowShape::new(runs.rows, gather.bytes, runs.runs, crosses);
        if gather.bytes == 0 || gather.bound == u32::MAX || !StreamOf::<L::Backend>::prefers_gather(&shape) {
            return Ok(false);
        }
        gather.rows = runs.rows;
        gather.numbers = Some(NonNull::from(scatter.sources()));
        gather.targets = Some(NonNull::from(scatter.targets()));
        self.push_gather(gather, runs)?;
        Ok(true)
    }

    /// Adds rows by row numbers in device memory.
    ///
    /// The caller has compared the shapes of the operands. Without `joining`, positions whose row
    /// joins are left as they are.
    #[inline]
    pub(crate) fn add_rows_by<T, S: KernelAccessible<L>, N: KernelAccessible<L>, D: KernelAccessible<L>>(
        &mut self,
        src: Rows<'env, T, S>,
        joining: Option<Rows<'env, T, N>>,
        numbers: RowNumbers<'env, L>,
        dst: &mut impl DstRows<'env, T, D>,
    ) -> Result<()> {
        if has_two_pitches(src, joining) {
            let (expected, found) = (src.pitch(), joining.map_or(0, Rows::pitch));
            return Err(Error::Length { operand: "joining pitch", expected, found });
        }
        let mut gather = rows(src, joining, (numbers.old(), numbers.joining()), place(dst));
        gather.device = numbers.as_view().as_ptr();
        self.add_gather_by(gather, numbers.on_host())
    }

    #[inline(never)]
    fn adds_gather(&mut self, gather: RowGather, numbers: Indices<'env>, crosses: bool) -> Result<bool> {
        let mut runs = numbers.runs(!gather.joining.is_null());
        if gather.src_pitch != gather.bytes || gather.dst_pitch != gather.bytes {
            // No row continues another.
            runs.runs = runs.rows;
        }
        let shape = RowShape::new(gather.rows, gather.bytes, runs.runs, crosses);
        if gather.bytes == 0 || gather.bound == u32::MAX || !StreamOf::<L::Backend>::prefers_gather(&shape) {
            return Ok(false);
        }
        self.add_gather(gather, Some(numbers), runs)?;
        Ok(true)
    }

    #[inline(never)]
    fn add_gather_by(&mut self, gather: RowGather, on_host: Option<Indices<'env>>) -> Result<()> {
        if gather.bound == u32::MAX {
            return Err(Error::TooLarge { operand: "numbers" });
        }
        if gather.bytes > RowShape::LONGEST {
            return Err(Error::TooLarge { operand: "row" });
        }
        // Without rows that join, positions whose row joins are not copied. The host can only leave
        // them out of the counters if it has the row numbers.
        let rows = match on_host {
            Some(numbers) => numbers.runs(!gather.joining.is_null()).rows,
            None => gather.rows,
        };
        self.add_gather(gather, on_host, Runs { rows, runs: rows })
    }

    /// Adds rows as one gather. Rows of no bytes are only counted.
    fn add_gather(&mut self, mut gather: RowGather, on_host: Option<Indices<'env>>, of: Runs) -> Result<()> {
        if gather.bytes != 0 && of.rows != 0 {
            gather.bits = on_host.map_or(u32::MAX, Indices::bits);
            gather.numbers = on_host.map(|numbers| NonNull::from(numbers.as_slice()));
            return self.push_gather(gather, of);
        }
        self.beyond = self.beyond.wrapping_add(count(of.rows));
        Ok(())
    }

    /// Adds a gather behind the current run, which ends.
    fn push_gather(&mut self, gather: RowGather, of: Runs) -> Result<()> {
        self.flush()?;
        let gathered = Gathered { copies: count(of.runs), bytes: count(of.rows.wrapping_mul(gather.bytes)) };
        self.storage.push_gather(gather, gathered)?;
        self.beyond = self.beyond.wrapping_add(count(of.rows));
        Ok(())
    }

    /// Ends the current run, and the group.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.flush()?;
        self.storage.count(self.beyond);
        Ok(())
    }

    /// Adds a copy that does not continue the current run: ends the run, and starts another.
    #[cold]
    #[inline(never)]
    fn start<T, S: BatchSource<L>>(&mut self, dst: *mut T, len: usize, src: View<'env, T, S>) -> Result<()> {
        if len != src.len() {
            return Err(Error::Length { operand: "dst", expected: src.len(), found: len });
        }
        let run = Run { dst: dst.cast(), src: src.as_ptr().cast(), bytes: src.byte_len() };
        if run.bytes == 0 {
            self.beyond = self.beyond.wrapping_add(1);
        } else if S::DURING_CALL {
            self.storage.push_during_call(run)?;
        } else {
            self.flush()?;
            self.src = run.src;
            self.src_end = run.src.wrapping_add(run.bytes);
            self.dst_end = run.dst.wrapping_add(run.bytes);
        }
        Ok(())
    }

    /// Adds the current run to the storage, and ends it.
    pub(super) fn flush(&mut self) -> Result<()> {
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

/// Whether there are joining rows at another distance than the present ones. A gather has one.
#[inline]
fn has_two_pitches<T, S: Location, N: Location>(src: Rows<'_, T, S>, joining: Option<Rows<'_, T, N>>) -> bool {
    joining.is_some_and(|joining| joining.row_count() != 0 && joining.pitch() != src.pitch())
}

/// The rows that a gather writes.
struct Place {
    ptr: *mut u8,
    /// Bytes from row to row.
    pitch: usize,
    rows: usize,
}

#[inline]
fn place<'a, T, D: Location>(dst: &mut impl DstRows<'a, T, D>) -> Place {
    let pitch = dst.pitch().wrapping_mul(size_of::<T>());
    Place { ptr: dst.as_mut_ptr().cast(), pitch, rows: dst.row_count() }
}

/// A gather of rows, without their row numbers.
#[inline]
fn rows<T, S: Location, N: Location>(
    src: Rows<'_, T, S>,
    joining: Option<Rows<'_, T, N>>,
    (old, joins): (usize, usize),
    dst: Place,
) -> RowGather {
    let joining = joining.filter(|joining| joining.row_count() != 0);
    let mut gather = RowGather::new(dst.ptr, src.as_ptr().cast(), src.width().get().wrapping_mul(size_of::<T>()));
    gather.src_pitch = src.pitch().wrapping_mul(size_of::<T>());
    gather.dst_pitch = dst.pitch;
    gather.joining = joining.map_or(ptr::null(), |joining| joining.as_ptr().cast());
    // Clamping changes no row number, except if the bound is `u32::MAX` or above, which the caller
    // refuses.
    gather.old = u32::try_from(old).unwrap_or(u32::MAX);
    gather.bound = u32::try_from(old.saturating_add(joins)).unwrap_or(u32::MAX);
    gather.rows = dst.rows;
    gather
}

impl<L: DeviceLocation> fmt::Debug for Group<'_, '_, L> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("beyond", &self.beyond).finish_non_exhaustive()
    }
}
