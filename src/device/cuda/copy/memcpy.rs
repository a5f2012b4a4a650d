//! Batches by the driver's copy calls. Measurements on an H200 and reports of others are behind the
//! choices; each constant has its own.

use core::num::NonZero;

use tidelock_driver::{CopyBatch, DriverError};

use crate::device::cuda::{
    Batching,
    driver::{BatchCall, CopyAttributes, MemLocation},
    stream_calls::StreamCalls,
};

/// Which call of the driver carries out the copies of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum CopyCall {
    /// `cuMemcpyBatchAsync`, once for each chunk of them.
    Batch(BatchCall),
    /// `cuMemcpyAsync`, once for each copy, and then a wait for the stream if some read plain host
    /// memory.
    Each,
}

impl CopyCall {
    /// Chooses the call for `copies`; `batch` is the driver's `cuMemcpyBatchAsync`, if it has one.
    pub(super) fn choose(
        batching: Batching,
        compute_capability: (u32, u32),
        batch: Option<BatchCall>,
        copies: &CopyBatch<'_>,
    ) -> CopyCall {
        let allowed = match batching {
            Batching::Auto => compute_capability.0 < DENIED_FROM,
            Batching::Driver => true,
            Batching::Loop => false,
        };
        // A single copy in stream order is what `cuMemcpyAsync` is for.
        let single = copies.len.len() == 1 && copies.host_from == 1;
        match batch {
            Some(call) if allowed && !single => CopyCall::Batch(call),
            _ => CopyCall::Each,
        }
    }
}

/// The compute capability from which `cuMemcpyBatchAsync` is used only on request: on Blackwell,
/// batches of tens of thousands of copies crash and repeated ones hang (vLLM #49276), and lmdeploy
/// has turned it off there.
const DENIED_FROM: u32 = 10;

/// Copies in one call. 51,828 in one call crash on Blackwell, more than 8192 fault on ROCm; up to
/// 4096 the device starts only when the call returns, so larger calls gain nothing and smaller ones
/// start earlier (H200, 2026-11-21).
const CHUNK: usize = 4096;

/// The largest copy with the flag to overlap with compute; above it, the flag costs time (cuDF
/// #23674).
const OVERLAP_MOST: usize = 128 << 10;

/// `CU_MEMCPY_SRC_ACCESS_ORDER_STREAM`.
const ORDER_STREAM: u32 = 1;
/// `CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL`.
const ORDER_DURING_CALL: u32 = 2;
/// `CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE`.
const FLAG_OVERLAP: u32 = 1;

#[cfg(any(tidelock_declarations = "12.8", tidelock_declarations = "13.0"))]
mod declared {
    use super::*;
    use crate::device::cuda::declarations::same_number;

    same_number!(ORDER_STREAM, CUmemcpySrcAccessOrder::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM);
    same_number!(ORDER_DURING_CALL, CUmemcpySrcAccessOrder::CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL);
    same_number!(FLAG_OVERLAP, CUmemcpyFlags::CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE);
}

/// Why a batch failed. Some of its copies may have been enqueued.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Failure {
    /// None of them reads a source in plain host memory any more.
    Settled(DriverError),
    /// One of them may still read a source in plain host memory: the stream cannot be waited for.
    Unsettled(DriverError),
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Failure::Settled(error)
    }
}

impl From<Failure> for DriverError {
    #[inline]
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Settled(error) | Failure::Unsettled(error) => error,
        }
    }
}

impl StreamCalls {
    /// Enqueues the copies chunk by chunk.
    ///
    /// If a chunk is refused, those before it are enqueued, and a part of it may be: the manual
    /// leaves open what happens to the copies before the one that failed. Neither needs a wait for
    /// plain host memory: its access order means that "all accesses must be complete before the API
    /// call returns" (CUDA driver manual 13.0, `CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL`),
    /// whatever the call answers.
    ///
    /// # Safety
    /// As for `RawStream::batch`.
    pub(super) unsafe fn copy_batch(&self, call: BatchCall, copies: &CopyBatch<'_>) -> Result<(), DriverError> {
        let chunks = copies.dst.chunks(CHUNK).zip(copies.src.chunks(CHUNK)).zip(copies.len.chunks(CHUNK));
        let mut in_order = copies.host_from;
        for ((dst, src), len) in chunks {
            let chunk = CopyBatch::new(dst, src, len, in_order.min(len.len()));
            in_order = in_order.saturating_sub(len.len());
            // SAFETY:
            // - The chunk is a part of `copies`, for which the caller keeps the contract.
            unsafe { self.copy_chunk(call, &chunk) }?;
        }
        Ok(())
    }

    /// # Safety
    /// As for `RawStream::batch`; there is at least one copy.
    unsafe fn copy_chunk(&self, call: BatchCall, chunk: &CopyBatch<'_>) -> Result<(), DriverError> {
        let CopyBatch { dst, src, len, host_from: during_call, .. } = *chunk;
        let count = len.len();
        // No flag beside a source that is read during the call: the driver has then read such
        // sources later (TensorRT-LLM #18694).
        let overlap = during_call == count && len.iter().all(|&bytes| bytes <= OVERLAP_MOST);
        let order = attributes(ORDER_STREAM, if overlap { FLAG_OVERLAP } else { 0 });
        let now = attributes(ORDER_DURING_CALL, 0);
        // The attributes, and the first copy that each applies to: "The first entry must always be
        // 0 … Each entry must be greater than the preceding entry" (CUDA driver manual 13.0).
        let (attributes, first, kinds) = match during_call {
            0 => ([now, now], [0, 0], 1),
            n if n == count => ([order, order], [0, 0], 1),
            n => ([order, now], [0, n], 2),
        };
        // Not the number of a copy. A driver that reports which copy failed overwrites it.
        let failed = core::cell::Cell::new(usize::MAX);
        let named = |error: DriverError| match (dst.get(failed.get()), len.get(failed.get())) {
            (Some(&dst), Some(&len)) => error.of_copy(dst, len),
            _ => error,
        };
        let (dst, src, len, stream) = (dst.as_ptr(), src.as_ptr(), len.as_ptr(), self.raw());
        let (attributes, first) = (attributes.as_ptr(), first.as_ptr());
        let call = || match call {
            // SAFETY:
            // - The three arrays have `count` entries, the two others `kinds`; all are read during
            //   the call.
            // - The caller promises of each copy what the driver asks; no length is 0; the stream
            //   is not the default one.
            BatchCall::V13(call) => unsafe { call(dst, src, len, count, attributes, first, kinds, stream) },
            // SAFETY:
            // - As above, and `failed` is valid for a write.
            BatchCall::V12(call) => unsafe {
                call(dst, src, len, count, attributes, first, kinds, failed.as_ptr(), stream)
            },
        };
        self.copying("cuMemcpyBatchAsync", call).map_err(named)
    }

    /// Enqueues the copies one by one. If there are sources in plain host memory, waits for the
    /// stream then: such memory may be page-locked after all, and the device then reads it after
    /// `cuMemcpyAsync` has returned.
    ///
    /// If it fails, the copies before the refused one are enqueued. The refused copy is not, so
    /// without a copy out of plain host memory before it there is nothing to wait for.
    ///
    /// # Safety
    /// As for `BatchLauncher::run`.
    pub(super) unsafe fn copy_each(&self, copies: &CopyBatch<'_>) -> Result<(), Failure> {
        let mut reads_plain = false;
        let mut each = copies.dst.iter().zip(copies.src).zip(copies.len).enumerate();
        let answer = each.try_for_each(|(at, ((&dst, &src), &len))| {
            if let Some(bytes) = NonZero::new(len) {
                // SAFETY:
                // - The caller keeps the contract of `copy` for each of them, but for sources in
                //   plain host memory, which are valid until the stream has passed them: that is
                //   waited for below, or the answer is `Unsettled`.
                unsafe { self.copy(dst, src, bytes) }.map_err(|error| error.of_copy(dst, len))?;
                reads_plain |= at >= copies.host_from;
            }
            Ok(())
        });
        if reads_plain { self.settle_sources(answer) } else { Ok(answer?) }
    }

    /// Waits until the enqueued copies have read their sources in plain host memory; tries twice.
    /// Returns the first error, of the copies (`answer`) or of the wait.
    ///
    /// After a sticky error the device runs nothing any more.
    fn settle_sources(&self, mut answer: Result<(), DriverError>) -> Result<(), Failure> {
        for _ in 0..2 {
            if answer.is_err_and(|error| error.code.is_sticky()) {
                return Ok(answer?);
            }
            match self.synchronize() {
                Ok(()) => return Ok(answer?),
                Err(error) if error.code.is_sticky() => return Err(Failure::Settled(error)),
                Err(error) => answer = answer.and(Err(error)),
            }
        }
        answer.map_err(Failure::Unsettled)
    }
}

fn attributes(src_access_order: u32, flags: u32) -> CopyAttributes {
    let hint = MemLocation::default();
    CopyAttributes { src_access_order, src_hint: hint, dst_hint: hint, flags }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn never(
        _: *const *mut u8,
        _: *const *const u8,
        _: *const usize,
        _: usize,
        _: *const CopyAttributes,
        _: *const usize,
        _: usize,
        _: *mut core::ffi::c_void,
    ) -> u32 {
        999
    }

    fn is_driver(batching: Batching, major: u32, has_call: bool, during_call: usize, count: usize) -> bool {
        let (dst, src, len) = (vec![core::ptr::null_mut(); count], vec![core::ptr::null(); count], vec![1; count]);
        let copies = CopyBatch::new(&dst, &src, &len, during_call);
        matches!(
            CopyCall::choose(batching, (major, 0), has_call.then_some(BatchCall::V13(never)), &copies),
            CopyCall::Batch(_)
        )
    }

    #[test]
    fn a_batch_goes_to_the_driver_where_it_may() {
        assert!(is_driver(Batching::Auto, 9, true, 2, 2));
        assert!(!is_driver(Batching::Auto, 9, false, 2, 2), "an older driver");
        assert!(!is_driver(Batching::Auto, 10, true, 2, 2), "denied");
        assert!(!is_driver(Batching::Auto, 12, true, 2, 2), "denied");
        assert!(is_driver(Batching::Driver, 10, true, 2, 2), "the override");
        assert!(!is_driver(Batching::Driver, 10, false, 2, 2), "nothing to override with");
        assert!(!is_driver(Batching::Loop, 9, true, 2, 2), "the override");
    }

    #[test]
    fn a_single_copy_is_a_batch_only_if_it_reads_plain_host_memory() {
        assert!(!is_driver(Batching::Auto, 9, true, 1, 1));
        assert!(is_driver(Batching::Auto, 9, true, 0, 1));
    }
}
