//! The outputs of a host function: elements that it writes, each of them, and does not read.

use core::{
    ffi::c_void,
    fmt,
    mem::MaybeUninit,
    ptr::{self, NonNull},
    slice,
};

use crate::{
    args::{KernelUse, RawArg, Resolve},
    code::Code,
};

/// Elements that a kernel writes, each of them, and does not read. They may be uninitialised before.
#[derive(Clone, Copy, Debug)]
pub struct Uninit<T>(pub *mut T, pub usize);

// SAFETY:
// - An address by itself gives no access to memory. `see` does, and is unsafe.
unsafe impl<T: Send + Sync> Send for Uninit<T> {}

impl<T: 'static> RawArg for Uninit<T> {
    const SIZE: usize = size_of::<*mut T>();
    type Seen<'k> = WriteOnly<'k, T>;
    type Room = Recorded<T>;

    #[inline]
    fn param(&self) -> *mut c_void {
        ptr::from_ref(&self.0).cast_mut().cast()
    }

    #[inline]
    unsafe fn uses(&self, f: &mut impl FnMut(KernelUse)) {
        f(KernelUse { ptr: self.0.cast(), bytes: self.bytes(), writes: true });
    }

    #[inline]
    unsafe fn is_aligned<R: Resolve>(&self) -> bool {
        self.1 == 0 || R::keeps_alignment(self.0.cast(), align_of::<T>())
    }

    #[inline]
    unsafe fn see<'k, R: Resolve>(self, memory: &'k R, room: &'k mut Recorded<T>) -> Result<WriteOnly<'k, T>, Code> {
        let ptr = memory.resolve(self.0.cast(), self.bytes())?;
        // SAFETY:
        // - `resolve` found `len` elements in one live allocation (L5), which need not be
        //   initialised. They are aligned, because `is_aligned` returned `true`.
        // - Nothing else uses them while the host function runs, and zeroed memory is a `T`: the
        //   caller promises it (K1). The room is dropped when the function has run.
        *room = unsafe { Recorded::new(ptr.cast(), self.1) };
        Ok(room.as_write_only())
    }

    #[inline]
    fn finish<R: Resolve>(room: Recorded<T>, memory: &R) -> Result<(), Code> {
        room.finish(|why| memory.note(why))
    }
}

impl<T> Uninit<T> {
    /// The layout of `[T; len]` exists, so that the product does not wrap.
    const fn bytes(&self) -> usize {
        self.1.wrapping_mul(size_of::<T>())
    }
}

/// Elements that a host function writes, each of them, and does not read. It is what the closure
/// gets for an [`Uninit`](crate::Uninit) argument.
///
/// What is written is recorded. If an element is not written by the time the closure returns, or
/// one is written that does not exist, the device breaks, as it does when a kernel faults. Writing
/// the elements in order records nothing but how far they are written; out of order, it takes a bit
/// for each element. Elements of no bytes that are written out of order are not recorded: the
/// device does not break then if one of them is missing.
///
/// A kernel that also reads its output takes it as a slice:
/// [`into_filled`](WriteOnly::into_filled).
pub struct WriteOnly<'k, T> {
    output: &'k mut Recorded<T>,
}

impl<'k, T: Copy> WriteOnly<'k, T> {
    /// How many elements there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.output.len
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.output.len == 0
    }

    /// Writes element `i`. If there is none, the device breaks.
    #[inline]
    pub fn write(&mut self, i: usize, value: T) {
        self.output.write(i, value);
    }

    /// Writes the elements from `start` on, as many as `values` has. If there are fewer, nothing is
    /// written and the device breaks.
    #[inline]
    pub fn write_slice(&mut self, start: usize, values: &[T]) {
        self.output.write_slice(start, values);
    }

    /// Writes the elements from the first on, up to the end of `values` or of the elements.
    #[inline]
    pub fn write_iter(&mut self, values: impl IntoIterator<Item = T>) {
        for (i, value) in (0..self.len()).zip(values) {
            self.output.write(i, value);
        }
    }

    /// Writes a copy of `values` to all elements. If the lengths differ, nothing is written and the
    /// device breaks.
    #[inline]
    pub fn copy_from_slice(&mut self, values: &[T]) {
        if values.len() == self.len() {
            self.output.write_slice(0, values);
        } else {
            self.output.is_outside = true;
        }
    }

    /// Writes `value` to all elements.
    #[inline]
    pub fn fill(&mut self, value: T) {
        self.output.fill(value);
    }

    /// Writes `value` to all elements, and returns them to read and write.
    #[inline]
    #[must_use = "`fill` writes all elements too"]
    pub fn into_filled(self, value: T) -> &'k mut [T] {
        self.output.fill(value);
        // SAFETY:
        // - Every element has just been written, and `self` was the only access to them during 'k
        //   (the invariant of `Recorded`).
        unsafe { slice::from_raw_parts_mut(self.output.ptr, self.output.len) }
    }
}

impl<T> fmt::Debug for WriteOnly<'_, T> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteOnly").field("len", &self.output.len).finish_non_exhaustive()
    }
}

/// The elements of one output of a launch while its host function runs, and which of them are
/// written.
///
/// When it is dropped, also by a panic, the elements that are not written become zeros. So the
/// memory holds values of `T` in any case.
pub struct Recorded<T> {
    /// Invariant: `len` elements of memory, aligned, that nothing else uses while this lives.
    /// Zeroed memory is a `T`.
    ptr: *mut T,
    len: usize,
    /// All elements before this one are written.
    end: usize,
    /// The elements behind `end` that are written, a bit for each; empty if there are none.
    marks: Vec<u64>,
    /// Whether there are no marks, because the host has no memory for them, or because elements of
    /// no bytes need none. All elements have been written then.
    is_lost: bool,
    /// Whether an element was to be written that does not exist.
    is_outside: bool,
}

impl<T> Recorded<T> {
    /// # Safety
    /// - `ptr` is aligned and valid for reads and writes of `len` elements until this is dropped,
    ///   and nothing else uses them meanwhile.
    /// - Zeroed memory is a `T`.
    pub(crate) const unsafe fn new(ptr: *mut T, len: usize) -> Self {
        Recorded { ptr, len, end: 0, marks: Vec::new(), is_lost: false, is_outside: false }
    }

    /// The elements, to write.
    #[inline]
    pub(crate) const fn as_write_only(&mut self) -> WriteOnly<'_, T> {
        WriteOnly { output: self }
    }

    /// Fails if an element is not written, or one was to be written that does not exist. `report`
    /// gets the reason.
    pub(crate) fn finish(self, report: impl FnOnce(fmt::Arguments<'_>)) -> Result<(), Code> {
        let len = self.len;
        if self.is_outside {
            report(format_args!("a kernel writes behind the end of an output of {len} elements"));
            return Err(Code::ILLEGAL_ADDRESS);
        }
        let missing = self.unwritten();
        if missing != 0 {
            report(format_args!("a kernel leaves {missing} of the {len} elements of an output unwritten"));
            return Err(Code::ASSERT);
        }
        Ok(())
    }

    /// How many elements are not written, as far as that is known.
    fn unwritten(&self) -> usize {
        if self.is_lost {
            return 0;
        }
        if self.marks.is_empty() {
            return self.len.saturating_sub(self.end);
        }
        (self.end..self.len).filter(|&i| !self.is_marked(i)).count()
    }

    fn is_marked(&self, i: usize) -> bool {
        self.marks.get(i / 64).is_some_and(|word| word & bit(i) != 0)
    }

    #[inline]
    fn write(&mut self, i: usize, value: T) {
        if i >= self.len {
            self.is_outside = true;
            return;
        }
        // SAFETY:
        // - `i < len`, so that the element is one of those of the invariant.
        let place = unsafe { self.ptr.add(i) };
        // SAFETY:
        // - As above.
        unsafe { place.write(value) };
        self.written(i, 1);
    }

    fn write_slice(&mut self, start: usize, values: &[T])
    where
        T: Copy,
    {
        if self.len.checked_sub(start).is_none_or(|room| room < values.len()) {
            self.is_outside = true;
            return;
        }
        // SAFETY:
        // - `start + values.len() <= len`.
        let place = unsafe { self.ptr.add(start) };
        // SAFETY:
        // - As above. Nothing else uses the elements, so that `values` are others.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), place, values.len()) };
        self.written(start, values.len());
    }

    fn fill(&mut self, value: T)
    where
        T: Copy,
    {
        // Elements of no bytes may be too many to be written one by one.
        if size_of::<T>() != 0 {
            // SAFETY:
            // - The elements of the invariant, which need not be initialised.
            let all = unsafe { slice::from_raw_parts_mut(self.ptr.cast::<MaybeUninit<T>>(), self.len) };
            all.fill(MaybeUninit::new(value));
        }
        self.end = self.len;
    }

    /// Records that `count` elements from `start` on have been written. They exist.
    #[inline]
    fn written(&mut self, start: usize, count: usize) {
        let end = start.saturating_add(count);
        if start <= self.end {
            self.end = self.end.max(end);
        } else if !self.is_lost {
            self.mark(start, end);
        }
    }

    #[cold]
    fn mark(&mut self, start: usize, end: usize) {
        if self.marks.is_empty() {
            let words = self.len.div_ceil(64);
            // Elements of no bytes may be so many that marks for them fill the host, and a search
            // through them does not end.
            if size_of::<T>() == 0 || self.marks.try_reserve_exact(words).is_err() {
                // The elements that have just been written keep their values.
                self.zero(self.end, start);
                self.zero(end, self.len);
                self.is_lost = true;
                return;
            }
            self.marks.resize(words, 0);
        }
        for i in start..end {
            if let Some(word) = self.marks.get_mut(i / 64) {
                *word |= bit(i);
            }
        }
    }

    /// Writes zeros to the elements `start .. end`, which exist.
    fn zero(&mut self, start: usize, end: usize) {
        let count = end.saturating_sub(start);
        // SAFETY:
        // - `start <= len`.
        let place = unsafe { self.ptr.add(start) };
        // SAFETY:
        // - `start + count <= len`.
        unsafe { place.write_bytes(0, count) };
    }
}

/// No elements.
impl<T> Default for Recorded<T> {
    #[inline]
    fn default() -> Self {
        // SAFETY:
        // - No elements take no memory.
        unsafe { Recorded::new(NonNull::dangling().as_ptr(), 0) }
    }
}

impl<T> Drop for Recorded<T> {
    fn drop(&mut self) {
        if self.is_lost || self.end == self.len {
            return;
        }
        if self.marks.is_empty() {
            self.zero(self.end, self.len);
            return;
        }
        for i in self.end..self.len {
            if !self.is_marked(i) {
                self.zero(i, i.saturating_add(1));
            }
        }
    }
}

impl<T> fmt::Debug for Recorded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").field("len", &self.len).field("end", &self.end).finish_non_exhaustive()
    }
}

/// The mark of element `i` in its word.
const fn bit(i: usize) -> u64 {
    1 << (i % 64)
}

#[cfg(test)]
mod tests {
    use core::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;

    use super::*;

    /// Runs `kernel` over memory full of ones, and returns the code and what is in the memory.
    fn run(len: usize, kernel: impl FnOnce(WriteOnly<'_, u16>)) -> (Result<(), Code>, Vec<u16>) {
        let mut memory = vec![u16::MAX; len];
        // SAFETY:
        // - The elements are borrowed until `held` is gone. Zeroed memory is a `u16`.
        let mut held = unsafe { Recorded::new(memory.as_mut_ptr(), len) };
        kernel(held.as_write_only());
        let answer = held.finish(|why| assert!(why.to_string().contains("output of") || len != 0));
        (answer, memory)
    }

    #[test]
    fn what_is_not_written_becomes_zero() {
        let every_third = |mut out: WriteOnly<'_, u16>| (0..130).step_by(3).for_each(|i| out.write(i, 7));
        let thirds: Vec<u16> = (0..130).map(|i| if i % 3 == 0 { 7 } else { 0 }).collect();
        assert_eq!(run(130, every_third), (Err(Code::ASSERT), thirds));
        assert_eq!(run(4, |mut out| out.write_iter([1, 2])), (Err(Code::ASSERT), vec![1, 2, 0, 0]));
        assert_eq!(run(4, |mut out| out.write_slice(1, &[1, 2])), (Err(Code::ASSERT), vec![0, 1, 2, 0]));
        assert_eq!(run(4, |mut out| out.write_slice(2, &[1, 2, 3])), (Err(Code::ILLEGAL_ADDRESS), vec![0; 4]));
        assert_eq!(run(2, |mut out| out.write(2, 9)), (Err(Code::ILLEGAL_ADDRESS), vec![0; 2]));
        assert_eq!(run(3, |mut out| out.copy_from_slice(&[1; 2])), (Err(Code::ILLEGAL_ADDRESS), vec![0; 3]));
        assert_eq!(run(3, |_| ()), (Err(Code::ASSERT), vec![0; 3]));
        assert_eq!(run(0, |_| ()), (Ok(()), vec![]));
    }

    #[test]
    fn what_is_written_in_any_order_stays() {
        let backwards = |mut out: WriteOnly<'_, u16>| (0..130).rev().for_each(|i| out.write(usize::from(i), i));
        assert_eq!(run(130, backwards), (Ok(()), (0..130).collect()));
        let filled = |out: WriteOnly<'_, u16>| out.into_filled(1)[1] += 1;
        assert_eq!(run(3, filled), (Ok(()), vec![1, 2, 1]));
    }

    #[test]
    fn a_panic_leaves_values() {
        let mut memory = [u16::MAX; 70];
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY:
            // - The elements are borrowed until `held` is gone. Zeroed memory is a `u16`.
            let mut held = unsafe { Recorded::new(memory.as_mut_ptr(), memory.len()) };
            held.as_write_only().write(69, 5);
            held.as_write_only().write_iter((0..70).map(|i| if i < 2 { 6 } else { panic!("on purpose") }));
        }));
        assert!(panicked.is_err());
        assert_eq!((&memory[..3], &memory[67..]), (&[6, 6, 0][..], &[0, 0, 5][..]));
    }

    /// Marks for these elements would fit, and take an eighth of a byte for each of no bytes.
    #[test]
    fn elements_of_no_bytes_have_no_marks() {
        // SAFETY:
        // - Elements of no bytes take no memory.
        let mut held = unsafe { Recorded::<[u16; 0]>::new(ptr::dangling_mut(), 1 << 20) };
        held.as_write_only().write(5, []);
        assert_eq!((held.marks.capacity(), held.is_lost), (0, true));
        assert_eq!(held.finish(|_| ()), Ok(()));
    }

    /// Elements of no bytes may be more than there can be marks for.
    #[test]
    fn without_room_for_marks_the_rest_is_zeroed_at_once() {
        // SAFETY:
        // - Elements of no bytes take no memory.
        let mut held = unsafe { Recorded::<[u16; 0]>::new(ptr::dangling_mut(), usize::MAX) };
        held.as_write_only().write(1 << 40, []);
        assert!(held.is_lost);
        assert_eq!(held.finish(|_| ()), Ok(()));
        // SAFETY:
        // - As above.
        let held = unsafe { Recorded::<[u16; 0]>::new(ptr::dangling_mut(), usize::MAX) };
        assert_eq!(held.finish(|_| ()), Err(Code::ASSERT));
    }
}
