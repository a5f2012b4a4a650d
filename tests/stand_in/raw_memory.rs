//! Memory and copies: what the driver returns.

use super::{INVALID_CONTEXT, INVALID_VALUE, OK, OUT_OF_MEMORY, Raw, made, null};

#[test]
fn memory_is_allocated_and_freed_by_its_kind() {
    let raw = Raw::new();
    let api = raw.api;
    let stream = raw.stream();
    let plain: usize = made!(|out| (api.cuMemAlloc_v2)(out, 1000));
    let pooled = raw.alloc(1000, stream);
    assert_eq!((plain % 256, pooled % 256), (0, 0));
    let mut out = 0;
    // SAFETY: what is not freed is used only before its free; the rest is refused.
    unsafe {
        assert_eq!((api.cuMemAlloc_v2)(&mut out, 0), INVALID_VALUE);
        assert_eq!((api.cuMemAllocAsync)(&mut out, 0, stream), INVALID_VALUE);
        assert_eq!((api.cuMemAlloc_v2)(null(), 8), INVALID_VALUE);
        assert_eq!((api.cuMemFreeAsync)(plain, stream), INVALID_VALUE, "not of a pool");
        assert_eq!((api.cuMemFree_v2)(plain + 8), INVALID_VALUE, "not its start");
        assert_eq!((api.cuMemFree_v2)(plain), OK);
        assert_eq!((api.cuMemFree_v2)(plain), INVALID_VALUE);
        raw.free(pooled, stream);
        assert_eq!((api.cuMemFreeAsync)(pooled, stream), INVALID_VALUE);
    }
    raw.synchronize(stream);
    let found = raw.control.report().findings;
    assert_eq!(found.len(), 4, "{found:#?}");
    for (words, expected) in found.iter().zip(["is not its to free", "no allocation", "freed before", "freed before"]) {
        assert!(words.contains(expected), "{words}");
    }
    raw.control.reset();
    raw.end();
}

#[test]
fn memory_runs_out_and_comes_back() {
    let raw = Raw::with(&[("memory_limit", 1 << 16)]);
    let api = raw.api;
    let stream = raw.stream();
    let (mut free, mut total) = (0, 0);
    // SAFETY: the places are valid for writes.
    assert_eq!(unsafe { (api.cuMemGetInfo_v2)(&mut free, &mut total) }, OK);
    assert_eq!((free, total), (1 << 16, 1 << 16));
    let all = raw.alloc(1 << 16, stream);
    let mut out = 77;
    // SAFETY: as above.
    unsafe {
        assert_eq!((api.cuMemAllocAsync)(&mut out, 1, stream), OUT_OF_MEMORY);
        assert_eq!((api.cuMemAlloc_v2)(&mut out, usize::MAX), OUT_OF_MEMORY);
        assert_eq!((api.cuMemGetInfo_v2)(&mut free, &mut total), OK);
    }
    assert_eq!((out, free), (77, 0));
    raw.free(all, stream);
    raw.synchronize(stream);
    let again = raw.alloc(1 << 16, stream);
    raw.free(again, stream);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn a_stream_gets_the_address_it_freed_at_once() {
    let raw = Raw::new();
    let stream = raw.stream();
    let first = raw.alloc(4096, stream);
    raw.free(first, stream);
    let second = raw.alloc(4096, stream);
    assert_eq!(first, second);
    assert_ne!(raw.read(second, 1, stream), [0], "fresh memory is poisoned");
    raw.free(second, stream);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn pools_keep_what_their_threshold_says() {
    let raw = Raw::new();
    let api = raw.api;
    let stream = raw.stream();
    // `CUmemPoolProps`: pinned memory of device 0.
    let mut props = [0_u32; 22];
    (props[0], props[2]) = (1, 1);
    let pool: usize = made!(|out| (api.cuMemPoolCreate)(out, &props));
    let default: usize = made!(|out| (api.cuDeviceGetDefaultMemPool)(out, 0));
    let reserved = || made!(|out: *mut u64| (api.cuMemPoolGetAttribute)(pool, 5, out));
    let mut threshold = 1_u64 << 20;
    // SAFETY: attribute 4 is a 64-bit number; pools and streams are alive.
    unsafe {
        assert_eq!((api.cuMemPoolSetAttribute)(pool, 4, &mut threshold), OK);
        assert_eq!(made!(|out: *mut u64| (api.cuMemPoolGetAttribute)(pool, 4, out)), 1 << 20);
        assert_eq!((api.cuMemPoolSetAttribute)(pool, 99, &mut threshold), INVALID_VALUE);
        let memory = made!(|out: *mut usize| (api.cuMemAllocFromPoolAsync)(out, 4096, pool, stream));
        assert_eq!(made!(|out: *mut u64| (api.cuMemPoolGetAttribute)(pool, 7, out)), 4096);
        raw.free(memory, stream);
        raw.synchronize(stream);
        assert_eq!(reserved(), 4096, "kept");
        assert_eq!((api.cuMemPoolTrimTo)(pool, 0), OK);
        assert_eq!(reserved(), 0, "given back");
        assert_eq!((api.cuMemPoolDestroy)(default), INVALID_VALUE);
        let memory = made!(|out: *mut usize| (api.cuMemAllocFromPoolAsync)(out, 4096, pool, stream));
        assert_eq!((api.cuMemPoolDestroy)(pool), OK);
        assert_eq!((api.cuMemsetD8Async)(memory, 1, 4096, stream), OK, "memory outlives its pool");
        raw.free(memory, stream);
        (props[0], props[2]) = (1, 4);
        let mut out = 0;
        assert_eq!((api.cuMemPoolCreate)(&mut out, &props), INVALID_VALUE);
    }
    raw.destroy(stream);
    raw.end();
}

#[test]
fn pinned_memory_is_real_and_recorded() {
    let raw = Raw::new();
    let api = raw.api;
    let mut page: *mut u8 = null();
    let mut own = vec![3_u8; 64];
    let mut address = 0_usize;
    let locked = || ["pinned", "registered"].map(|kind| raw.control.report().live(kind));
    let [pinned, registered] = locked();
    // SAFETY: the memory is used between its allocation and its free only.
    unsafe {
        assert_eq!((api.cuMemHostAlloc)(&mut page, 4096, 1), OK);
        page.write(9);
        assert_eq!((api.cuMemHostGetDevicePointer_v2)(&mut address, page, 0), OK);
        assert_eq!(address, page.addr());
        let mut kind = 0_u32;
        assert_eq!((api.cuPointerGetAttribute)((&raw mut kind).cast(), 2, address + 7), OK);
        assert_eq!(kind, 1, "host memory");
        assert_eq!((api.cuPointerGetAttribute)((&raw mut kind).cast(), 2, own.as_ptr().addr()), INVALID_VALUE);
        assert_eq!((api.cuMemHostRegister_v2)(own.as_mut_ptr(), 64, 0), OK);
        assert_eq!((api.cuMemHostRegister_v2)(own.as_mut_ptr().add(60), 64, 0), 712);
        assert_eq!((api.cuPointerGetAttribute)((&raw mut kind).cast(), 2, own.as_ptr().addr()), OK);
        assert_eq!(locked(), [pinned + 1, registered + 1]);
        assert_eq!((api.cuMemHostUnregister)(own.as_mut_ptr()), OK);
        assert_eq!((api.cuMemHostUnregister)(own.as_mut_ptr()), 713);
        assert_eq!((api.cuMemFreeHost)(page.add(1)), INVALID_VALUE);
        assert_eq!((api.cuMemFreeHost)(page), OK);
        assert_eq!((api.cuMemFreeHost)(page), INVALID_VALUE);
        assert_eq!((api.cuMemHostAlloc)(&mut page, 0, 0), INVALID_VALUE);
    }
    let report = raw.control.report();
    assert_eq!(locked(), [pinned, registered]);
    assert_eq!(report.findings.len(), 2, "{report:#?}");
    raw.control.reset();
    raw.end();
}

#[test]
fn copies_go_all_ways_and_stay_inside_an_allocation() {
    let raw = Raw::new();
    let api = raw.api;
    let stream = raw.stream();
    let (a, b) = (raw.alloc(512, stream), raw.alloc(512, stream));
    assert_eq!(a + 512, b, "neighbours are adjacent");
    let bytes: Vec<u8> = (0..=255).cycle().take(512).collect();
    let mut host = vec![0_u8; 1024];
    raw.upload(a, &bytes, stream);
    // SAFETY: host memory outlives the waits in `read`; the rest is refused.
    unsafe {
        assert_eq!((api.cuMemcpyDtoDAsync_v2)(b + 1, a, 511, stream), OK);
        assert_eq!(raw.read(b + 1, 511, stream), bytes[..511]);
        assert_eq!((api.cuMemcpyAsync)(b, a, 512, stream), OK);
        assert_eq!(raw.read(b, 512, stream), bytes);
        assert_eq!((api.cuMemcpyDtoHAsync_v2)(host.as_mut_ptr(), a, 1024, stream), INVALID_VALUE, "two allocations");
        assert_eq!((api.cuMemcpyDtoDAsync_v2)(b, a, 513, stream), INVALID_VALUE);
        assert_eq!((api.cuMemcpyHtoDAsync_v2)(host.as_ptr().addr(), host.as_ptr(), 8, stream), INVALID_VALUE);
        assert_eq!((api.cuMemcpyDtoHAsync_v2)(a as *mut u8, b, 8, stream), INVALID_VALUE);
        assert_eq!((api.cuMemcpyAsync)(a, b, 0, stream), OK, "nothing is no copy");
        assert_eq!((api.cuMemsetD32Async)(a, 0x0403_0201, 3, stream), OK);
        assert_eq!((api.cuMemsetD32Async)(a + 2, 0, 1, stream), INVALID_VALUE, "not aligned");
        assert_eq!(raw.read(a, 14, stream), [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 12, 13]);
        assert_eq!((api.cuMemsetD8Async)(a, 0, 513, stream), INVALID_VALUE);
        assert_eq!((api.cuMemcpyHtoD_v2)(a, bytes.as_ptr(), 512), OK);
        assert_eq!((api.cuMemcpyDtoH_v2)(host.as_mut_ptr(), a, 512), OK);
        assert_eq!(host[..512], bytes);
    }
    raw.free(a, stream);
    raw.free(b, stream);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn memory_of_another_device_is_refused() {
    let raw = Raw::new();
    let stream = raw.stream();
    let here = raw.alloc(64, stream);
    let other = made!(|out: *mut usize| (raw.api.cuDevicePrimaryCtxRetain)(out, 1));
    // SAFETY: all of it is alive until it is freed.
    unsafe {
        assert_eq!((raw.api.cuCtxSetCurrent)(other), OK);
        let there: usize = made!(|out| (raw.api.cuMemAlloc_v2)(out, 64));
        assert_eq!((raw.api.cuMemcpyAsync)(here, there, 64, stream), INVALID_VALUE);
        assert_eq!((raw.api.cuCtxSetCurrent)(raw.context), OK);
        assert_eq!((raw.api.cuMemFree_v2)(there), INVALID_VALUE);
        assert_eq!((raw.api.cuCtxSetCurrent)(other), OK);
        assert_eq!((raw.api.cuMemFree_v2)(there), OK);
        assert_eq!((raw.api.cuDevicePrimaryCtxRelease_v2)(1), OK);
        assert_eq!((raw.api.cuMemGetInfo_v2)(&mut 0, &mut 0), 709, "its context is gone");
    }
    raw.free(here, stream);
    raw.destroy(stream);
    assert_eq!(raw.control.report().findings.len(), 1);
    raw.control.reset();
    raw.end();
}

#[test]
fn the_default_stream_needs_a_context() {
    let raw = Raw::new();
    let memory: usize = made!(|out| (raw.api.cuMemAlloc_v2)(out, 64));
    // SAFETY: the memory is alive.
    unsafe {
        assert_eq!((raw.api.cuMemsetD8Async)(memory, 3, 64, 0), OK);
        assert_eq!(raw.read(memory, 64, 0), [3; 64]);
        assert_eq!((raw.api.cuCtxSetCurrent)(0), OK);
        assert_eq!((raw.api.cuMemsetD8Async)(memory, 3, 64, 0), INVALID_CONTEXT);
        assert_eq!((raw.api.cuCtxSetCurrent)(raw.context), OK);
        assert_eq!((raw.api.cuMemFree_v2)(memory), OK);
    }
    raw.end();
}

/// Attributes of a batch: the order of the source's reads, and the flags.
const STREAM_ORDER: [u32; 6] = [1, 0, 0, 0, 0, 0];
const DURING_CALL: [u32; 6] = [2, 0, 0, 0, 0, 0];
const DURING_CALL_AND_OVERLAP: [u32; 6] = [2, 0, 0, 0, 0, 1];

/// Submits a batch of copies, each of some bytes from one address to another. Returns the answer of
/// both forms of the call, which is the same, and the copy that the older form names.
fn batch(
    raw: &Raw,
    copies: &[(usize, usize, usize)],
    kinds: &[[u32; 6]],
    from: &[usize],
    stream: usize,
) -> (u32, usize) {
    let of = |f: fn(&(usize, usize, usize)) -> usize| copies.iter().map(f).collect::<Vec<_>>();
    let (dst, src, len) = (of(|copy| copy.0), of(|copy| copy.1), of(|copy| copy.2));
    let (dst, src, len, n) = (dst.as_ptr(), src.as_ptr(), len.as_ptr(), copies.len());
    let (attributes, first, kinds) = (kinds.as_ptr(), from.as_ptr(), kinds.len());
    let mut failed = 0;
    // SAFETY: the arrays have the entries that are said, and host memory outlives the waits of the
    // tests.
    let older =
        unsafe { (raw.api.cuMemcpyBatchAsync)(dst, src, len, n, attributes, first, kinds, &mut failed, stream) };
    // SAFETY: as above.
    let newer = unsafe { (raw.api.cuMemcpyBatchAsync_v2)(dst, src, len, n, attributes, first, kinds, stream) };
    assert_eq!(older, newer);
    (older, failed)
}

fn other_context(raw: &Raw) -> usize {
    made!(|out: *mut usize| (raw.api.cuDevicePrimaryCtxRetain)(out, 1))
}

#[test]
fn batches_are_checked_as_a_whole() {
    let raw = Raw::new();
    let stream = raw.stream();
    let (a, b) = (raw.alloc(512, stream), raw.alloc(512, stream));
    raw.upload(a, &[1; 512], stream);
    let good = [(b, a, 16), (b + 16, a, 16)];
    assert_eq!(batch(&raw, &good, &[STREAM_ORDER], &[0], stream), (OK, usize::MAX));
    let refused = [
        batch(&raw, &good, &[STREAM_ORDER], &[0], 0),
        batch(&raw, &good, &[], &[], stream),
        batch(&raw, &good, &[STREAM_ORDER], &[1], stream),
        batch(&raw, &good, &[STREAM_ORDER; 2], &[0, 0], stream),
        batch(&raw, &good, &[STREAM_ORDER; 2], &[0, 2], stream),
        batch(&raw, &good, &[[0; 6]], &[0], stream),
        batch(&raw, &good, &[[1, 0, 0, 0, 0, 2]], &[0], stream),
        batch(&raw, &[], &[STREAM_ORDER], &[0], stream),
    ];
    assert_eq!(refused, [(INVALID_VALUE, usize::MAX); 8]);
    // "failIdx: Pointer to a location to return the index of the copy where a failure was
    // encountered. The value will be SIZE_MAX if the error doesn't pertain to any specific copy"
    // (CUDA driver manual 12.8).
    for second in [(b, a, 0), (b, a + 505, 16), (0, a, 16)] {
        assert_eq!(batch(&raw, &[(b, a, 16), second], &[STREAM_ORDER], &[0], stream), (INVALID_VALUE, 1));
    }
    // Observed on an H200: a batch needs some context to be current, and accepts any.
    for (context, expected) in [(0, INVALID_VALUE), (other_context(&raw), OK), (raw.context, OK)] {
        // SAFETY: a context that is alive, or none.
        assert_eq!(unsafe { (raw.api.cuCtxSetCurrent)(context) }, OK);
        assert_eq!(batch(&raw, &good, &[STREAM_ORDER], &[0], stream).0, expected);
    }
    // SAFETY: it was retained.
    assert_eq!(unsafe { (raw.api.cuDevicePrimaryCtxRelease_v2)(1) }, OK);
    assert_eq!(raw.read(b, 32, stream), [1; 32]);
    raw.free(a, stream);
    raw.free(b, stream);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn a_batch_reads_its_sources_when_it_says() {
    let raw = Raw::with(&[("race_detector", 0)]);
    let stream = raw.stream();
    let memory = raw.alloc(512, stream);
    // The first write is refused in both rounds if it comes late, because the second call of a pair
    // overwrites it with the same bytes.
    for (attributes, reads_late) in [(DURING_CALL, false), (STREAM_ORDER, true), (DURING_CALL_AND_OVERLAP, true)] {
        let mut source = vec![1_u8; 64];
        // Work that the stream waits for while the host continues.
        let slow = vec![0_u8; 1 << 26];
        let big = raw.alloc(1 << 26, stream);
        // SAFETY: the source outlives the wait.
        assert_eq!(unsafe { (raw.api.cuMemcpyHtoDAsync_v2)(big, slow.as_ptr(), 1 << 26, stream) }, OK);
        let copies = [(memory, source.as_ptr().addr(), 64)];
        source[0] = 1;
        assert_eq!(batch(&raw, &copies, &[attributes], &[0], stream).0, OK);
        // SAFETY: a volatile write, because the compiler sees no other reader.
        unsafe { source.as_mut_ptr().write_volatile(2) };
        let found = raw.read(memory, 1, stream);
        assert_eq!(found, [if reads_late { 2 } else { 1 }], "{attributes:?}");
        raw.free(big, stream);
    }
    raw.free(memory, stream);
    raw.destroy(stream);
    raw.end();
}

#[test]
fn pageable_copies_are_late_or_done_as_set() {
    for synchronous in [0, 1] {
        let raw = Raw::with(&[("pageable_synchronous", synchronous), ("race_detector", 0)]);
        let stream = raw.stream();
        let memory = raw.alloc(1 << 26, stream);
        let source = vec![5_u8; 1 << 26];
        // SAFETY: the source lives until the wait below.
        unsafe {
            assert_eq!((raw.api.cuMemcpyHtoDAsync_v2)(memory, source.as_ptr(), 1 << 26, stream), OK);
            let done = (raw.api.cuStreamQuery)(stream) == OK;
            assert_eq!(done, synchronous == 1);
        }
        raw.synchronize(stream);
        raw.free(memory, stream);
        raw.destroy(stream);
        raw.end();
    }
}
