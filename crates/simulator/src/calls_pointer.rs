//! The calls that take addresses, which are as unsafe as the driver's.

use core::{iter, sync::atomic::Ordering};

use super::{
    Gpu, Shared,
    block::{Hold, Raw},
    call::Call,
    heap::{Heap, Retired},
    lock,
    op::Op,
    pinned::{self, Pinned},
    slots::StreamId,
    stream::Stream,
    table::{Located, Table},
    transfer::{Batch, Fill},
    uses::Use,
    window,
};
use tidelock_driver::code::Code;

impl Gpu {
    /// Frees what an allocating call returned, behind what is enqueued on `stream` so far.
    ///
    /// # Errors
    /// `INVALID_VALUE` if no device allocation that was not freed starts at `ptr`, `INVALID_HANDLE`
    /// if there is no such stream.
    ///
    /// # Safety
    /// All work that uses the memory is enqueued on `stream` already, is ordered before what is
    /// enqueued there now, or is done.
    #[inline]
    pub unsafe fn mem_free_async(&self, ptr: *mut u8, stream: StreamId) -> Result<(), Code> {
        self.call_or(Call::MemFreeAsync, Some(()), |shared| {
            let queue = shared.stream(stream)?;
            let retired = lock(&shared.heap).retire(ptr.addr())?;
            match shared.submit(&queue, Op::Free { hold: retired.hold.clone() }) {
                Ok(_) => {
                    let freed = Use::write(ptr, retired.hold.block.capacity());
                    shared.enqueued(queue.timeline, Call::MemFreeAsync, iter::once(freed));
                    shared.with_heap(|heap| heap.cache(retired, stream));
                    Ok(())
                }
                Err(code) => shared.refuse_free(&retired, code),
            }
        })
    }

    /// Frees what an allocating call returned, at once and without waiting for anything.
    ///
    /// # Errors
    /// `INVALID_VALUE` if no device allocation that was not freed starts at `ptr`, or if it has not
    /// begun in stream order.
    ///
    /// # Safety
    /// All work that uses the memory is done.
    #[inline]
    pub unsafe fn mem_free(&self, ptr: *mut u8) -> Result<(), Code> {
        self.call_or(Call::MemFree, Some(()), |shared| shared.free_now(ptr.addr()))
    }

    /// Frees page-locked host memory, at once and without waiting for anything.
    ///
    /// # Errors
    /// `INVALID_VALUE` if no pinned memory starts at `ptr`.
    ///
    /// # Safety
    /// Neither the host nor a device uses the memory any more.
    #[inline]
    pub unsafe fn mem_host_free(&self, ptr: *mut u8) -> Result<(), Code> {
        self.call_or(Call::MemFreeHost, Some(()), |shared| pinned::free(ptr.addr(), shared.options.poison))
    }

    /// Page-locks `bytes` bytes of memory of the program, in whole pages of 4 KiB. It is released
    /// with the device at the latest.
    ///
    /// # Errors
    /// `INVALID_VALUE` for no bytes and for what is no host memory;
    /// `HOST_MEMORY_ALREADY_REGISTERED` if a page of it is page-locked already.
    ///
    /// # Safety
    /// The memory stays mapped until it is unregistered.
    #[inline]
    pub unsafe fn mem_host_register(&self, ptr: *mut u8, bytes: usize) -> Result<(), Code> {
        self.call(Call::MemHostRegister, |shared| {
            if ptr.is_null() || bytes == 0 || window::is_device(ptr.addr()) {
                return Err(Code::INVALID_VALUE);
            }
            pinned::register(shared.id, ptr.addr(), bytes)
        })
    }

    /// Ends what [`mem_host_register`](Gpu::mem_host_register) began, at once and without waiting
    /// for anything.
    ///
    /// # Errors
    /// `HOST_MEMORY_NOT_REGISTERED` if no registered memory starts at `ptr`.
    ///
    /// # Safety
    /// All work that uses the memory is done.
    #[inline]
    pub unsafe fn mem_host_unregister(&self, ptr: *mut u8) -> Result<(), Code> {
        self.call(Call::MemHostUnregister, |_| pinned::unregister(ptr.addr()))
    }

    /// Enqueues a copy of `bytes` bytes between device and host memory in any direction.
    ///
    /// Host memory, pageable or not, is read or written when the stream gets to it. No bytes are no
    /// copy.
    ///
    /// # Errors
    /// `INVALID_VALUE` for a null pointer, and if a range is not inside one device or pinned
    /// allocation nor clear of all of them; `INVALID_HANDLE` if there is no such stream.
    ///
    /// # Safety
    /// - Host memory of the copy is valid until the stream has passed it, for writes at `dst` and
    ///   for reads at `src`.
    /// - No work or host access conflicts with the copy that is not ordered against it.
    #[inline]
    pub unsafe fn memcpy_async(
        &self,
        dst: *mut u8,
        src: *const u8,
        bytes: usize,
        stream: StreamId,
    ) -> Result<(), Code> {
        self.call_or(Call::MemcpyAsync, Some(()), |shared| {
            let queue = shared.stream(stream)?;
            if bytes == 0 {
                return Ok(());
            }
            let mut batch = shared.recycler.batch(1, false);
            // SAFETY: passed on to the caller.
            let filled = unsafe { shared.collect(&mut batch, &[dst], &[src], &[bytes], 1) };
            shared.submit_batch(&queue, batch, filled)?;
            let uses = [Use::write(dst, bytes), Use::read(src, bytes)];
            shared.enqueued(queue.timeline, Call::MemcpyAsync, uses.into_iter());
            Ok(())
        })
    }

    /// Enqueues many copies, in no order among themselves: each of `len` bytes from `src` to `dst`.
    ///
    /// Sources from index `during_call` on are host memory that is read before the call returns;
    /// the others are read when the stream gets to them.
    ///
    /// # Errors
    /// `INVALID_VALUE` if the slices differ in length or are empty, if `during_call` is beyond
    /// them, for a length of 0, a device source that shall be read during the call, and what
    /// [`memcpy_async`](Gpu::memcpy_async) refuses; `INVALID_HANDLE` if there is no such stream.
    /// Nothing is copied then.
    ///
    /// # Safety
    /// For each copy as for [`memcpy_async`](Gpu::memcpy_async), except that sources from
    /// `during_call` on need be valid during the call only. No destination overlaps another one or
    /// a source.
    #[inline]
    pub unsafe fn memcpy_batch_async(
        &self,
        dst: &[*mut u8],
        src: &[*const u8],
        len: &[usize],
        during_call: usize,
        stream: StreamId,
    ) -> Result<(), Code> {
        self.call_or(Call::MemcpyBatchAsync, Some(()), |shared| {
            let queue = shared.stream(stream)?;
            if dst.is_empty() || dst.len() != src.len() || dst.len() != len.len() || during_call > dst.len() {
                return Err(Code::INVALID_VALUE);
            }
            let mut batch = shared.recycler.batch(dst.len(), during_call < dst.len());
            // SAFETY: passed on to the caller.
            let filled = unsafe { shared.collect(&mut batch, dst, src, len, during_call) };
            let reads_late = shared.reads_late.load(Ordering::Acquire);
            if filled.is_ok() && !reads_late {
                batch.stage(during_call);
            }
            shared.submit_batch(&queue, batch, filled)?;
            let reads = || src.iter().zip(len).map(|(src, bytes)| Use::read(*src, *bytes));
            let writes = dst.iter().zip(len).map(|(dst, bytes)| Use::write(*dst, *bytes));
            let later = if reads_late { src.len() } else { during_call };
            shared.read_during_call(reads().skip(later));
            shared.enqueued(queue.timeline, Call::MemcpyBatchAsync, writes.chain(reads().take(later)));
            shared.borrows_end(queue.timeline, reads().skip(during_call));
            Ok(())
        })
    }

    /// Enqueues writing `value` into `bytes` bytes of device or pinned memory. No bytes are no
    /// fill.
    ///
    /// # Errors
    /// `INVALID_VALUE` if the range is not inside one allocation, `INVALID_HANDLE` if there is no
    /// such stream.
    ///
    /// # Safety
    /// No work or host access conflicts with the fill that is not ordered against it.
    #[inline]
    pub unsafe fn memset_d8_async(&self, dst: *mut u8, value: u8, bytes: usize, stream: StreamId) -> Result<(), Code> {
        self.call_or(Call::MemsetD8Async, Some(()), |shared| {
            let queue = shared.stream(stream)?;
            if bytes == 0 {
                return Ok(());
            }
            let (raw, hold) = {
                let heap = lock(&shared.heap);
                let pinned = pinned::table();
                let place = Place::find(&heap, &pinned, dst, bytes, &mut Cursors::default())?;
                (place.raw, place.hold.ok_or(Code::INVALID_VALUE)?.clone())
            };
            // SAFETY: the range lies inside the held block, and of conflicts the caller promised
            // that there are none.
            let fill = unsafe { Fill::new(raw, value, bytes, hold) };
            shared.submit(&queue, Op::Fill(fill))?;
            shared.enqueued(queue.timeline, Call::MemsetD8Async, iter::once(Use::write(dst, bytes)));
            Ok(())
        })
    }
}

impl Shared {
    /// Resolves copies into `batch`. Sources from `during_call` on are not on a device.
    ///
    /// # Safety
    /// As for [`Gpu::memcpy_batch_async`]; the slices have one length.
    unsafe fn collect(
        &self,
        batch: &mut Batch,
        dst: &[*mut u8],
        src: &[*const u8],
        len: &[usize],
        during_call: usize,
    ) -> Result<(), Code> {
        batch.reserve(dst.len());
        let (mut to, mut from) = (Cursors::default(), Cursors::default());
        let heap = lock(&self.heap);
        let pinned = pinned::table();
        for (index, ((dst, src), bytes)) in dst.iter().zip(src).zip(len).enumerate() {
            let target = Place::find(&heap, &pinned, *dst, *bytes, &mut to)?;
            let source = Place::find(&heap, &pinned, src.cast_mut(), *bytes, &mut from)?;
            if source.on_device && index >= during_call {
                return Err(Code::INVALID_VALUE);
            }
            // A source that is read during the call is not needed after it.
            let kept = source.hold.filter(|_| index < during_call);
            [target.hold, kept].into_iter().flatten().for_each(|hold| batch.hold(hold));
            batch.traffic.count(source.on_device, target.on_device, *bytes);
            // SAFETY: what lies in a block is inside it and held; the rest the caller promised.
            unsafe { batch.push(target.raw, source.raw, *bytes) };
        }
        Ok(())
    }
}

impl Shared {
    /// Enqueues a batch if it was filled, and recycles it otherwise.
    fn submit_batch(&self, stream: &Stream, batch: Box<Batch>, filled: Result<(), Code>) -> Result<(), Code> {
        match filled {
            Ok(()) => self.submit(stream, Op::Copy(batch)).map(drop),
            Err(code) => {
                self.recycler.put_batch(batch);
                Err(code)
            }
        }
    }

    pub(super) fn refuse_free(&self, retired: &Retired, code: Code) -> Result<(), Code> {
        lock(&self.heap).revive(retired);
        Err(code)
    }
}

/// Which ranges were found last.
#[derive(Debug, Default)]
struct Cursors {
    device: usize,
    pinned: usize,
}

/// What the caller's address stands for.
#[derive(Debug)]
struct Place<'t> {
    raw: Raw,
    on_device: bool,
    /// The allocation; `None` for pageable memory.
    hold: Option<&'t Hold>,
}

impl<'t> Place<'t> {
    fn find(
        heap: &'t Heap,
        pinned: &'t Table<Pinned>,
        ptr: *mut u8,
        bytes: usize,
        last: &mut Cursors,
    ) -> Result<Self, Code> {
        let address = ptr.addr();
        if ptr.is_null() || bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let on_device = window::is_device(address);
        let hold = if on_device {
            Some(heap.locate(address, bytes, &mut last.device)?)
        } else {
            match pinned.locate(address, bytes, &mut last.pinned) {
                Located::Inside(range) => Some(&range.value.hold),
                Located::Clear => None,
                Located::Across => return Err(Code::INVALID_VALUE),
            }
        };
        let raw = hold.map_or(Raw(ptr), |hold| hold.block.at(address));
        Ok(Place { raw, on_device, hold })
    }
}
