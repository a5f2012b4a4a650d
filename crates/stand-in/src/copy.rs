//! Copies, batches of them, and fills.

use tidelock_driver::code::Code;

use crate::{
    abi::{Handle, In, Out},
    context,
    driver::{Driver, StreamTarget, driver},
    memory::Allocation,
    pointer::{is_device, is_pageable},
    settings::settings,
};

/// `CUmemcpyAttributes`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Attributes {
    order: u32,
    hints: [u32; 4],
    flags: u32,
}

const ORDER_DURING_CALL: u32 = 2;
const ORDER_ANY: u32 = 3;
const PREFER_OVERLAP: u32 = 1;

/// What a directed copy says of an operand.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    /// A `CUdeviceptr`: device or page-locked memory.
    Device,
    /// A pointer of the host.
    Host,
    Either,
}

impl Side {
    fn check(self, address: usize) -> Result<(), Code> {
        match self {
            Side::Device if is_pageable(address) => Err(Code::INVALID_VALUE),
            Side::Host if is_device(address) => Err(Code::INVALID_VALUE),
            _ => Ok(()),
        }
    }
}

/// Enqueues one copy.
///
/// # Safety
/// As for the driver's calls.
unsafe fn copy(
    call: &str,
    dst: (*mut u8, Side),
    src: (*const u8, Side),
    bytes: usize,
    stream: Handle,
) -> Result<StreamTarget, Code> {
    let driver = driver();
    let target = driver.target(stream)?;
    if bytes != 0 {
        dst.1.check(dst.0.addr())?;
        src.1.check(src.0.addr())?;
        if !is_reachable(&driver, dst.0.addr()) || !is_reachable(&driver, src.0.addr()) {
            return Err(Code::INVALID_VALUE);
        }
        driver.memory.touch(call, dst.0.addr());
        driver.memory.touch(call, src.0.addr());
    }
    // SAFETY: the caller keeps the driver's contract, which is the simulated GPU's.
    unsafe { target.gpu.memcpy_async(dst.0, src.0, bytes, target.id) }?;
    if bytes != 0 && (is_pageable(dst.0.addr()) || is_pageable(src.0.addr())) {
        settle_pageable(&target)?;
    }
    Ok(target)
}

/// A single copy looks at its operands from the current context, if there is one, and not from its
/// stream's: memory of a pool belongs to one device (seen on two H200 with driver 580; memory of
/// `cuMemAlloc`, batches and fills are not looked at so).
fn is_reachable(driver: &Driver, address: usize) -> bool {
    let Ok((_, device)) = context::current() else { return true };
    driver.memory.covering(address).is_none_or(|(_, found)| found.pool.is_none() || found.device == device)
}

/// Copies with pageable operands are done when the call returns, if that is asked for.
fn settle_pageable(target: &StreamTarget) -> Result<(), Code> {
    if settings().pageable_synchronous == 0 { Ok(()) } else { target.gpu.stream_synchronize(target.id) }
}

/// Makes one copy on the default stream and waits for it.
///
/// # Safety
/// As for the driver's calls.
unsafe fn copy_now(call: &str, dst: (*mut u8, Side), src: (*const u8, Side), bytes: usize) -> Result<(), Code> {
    // SAFETY: the caller keeps the same contract.
    let target = unsafe { copy(call, dst, src, bytes, 0) }?;
    target.gpu.stream_synchronize(target.id)
}

/// One attribute for each copy of a batch, as the driver is given them: the first copy that each
/// holds from.
fn attributes<'a>(
    count: usize,
    attributes: &'a In<Attributes>,
    from: &In<usize>,
    kinds: usize,
) -> Result<Vec<&'a Attributes>, Code> {
    if kinds == 0 || kinds > count {
        return Err(Code::INVALID_VALUE);
    }
    let (attributes, from) = (attributes.all(kinds)?, from.all(kinds)?);
    let ascending = from.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
    let in_range = from.first() == Some(&0) && from.last().is_some_and(|last| *last < count);
    let known = attributes.iter().all(|one| (1..=ORDER_ANY).contains(&one.order) && one.flags <= PREFER_OVERLAP);
    if !(ascending && in_range && known) {
        return Err(Code::INVALID_VALUE);
    }
    let ends = from.iter().skip(1).copied().chain([count]);
    let spans = from.iter().zip(ends).zip(attributes);
    Ok(spans.flat_map(|((from, end), one)| (*from..end).map(move |_| one)).collect())
}

/// The operands of a batch.
struct Operands<'a> {
    dst: &'a [*mut u8],
    src: &'a [*const u8],
    bytes: &'a [usize],
}

/// Enqueues a batch; on an error that one copy is to blame for, says which.
///
/// # Safety
/// As for the driver's calls.
unsafe fn batch(
    driver: &Driver,
    operands: &Operands<'_>,
    attributes: &[&Attributes],
    stream: Handle,
    failed: impl Fn(usize),
) -> Result<(), Code> {
    // Of the calls on a stream this one alone wants a current context, whichever (seen on an H200
    // with driver 580).
    if stream <= 2 || context::current().is_err() {
        return Err(Code::INVALID_VALUE);
    }
    let target = driver.target(stream)?;
    if let Some(index) = operands.bytes.iter().position(|bytes| *bytes == 0) {
        failed(index);
        return Err(Code::INVALID_VALUE);
    }
    // Copies of a batch have no order, so those that read late may stand before those that read
    // now.
    let (mut late, mut now) = (Vec::with_capacity(attributes.len()), Vec::new());
    let rows = operands.dst.iter().zip(operands.src).zip(operands.bytes).zip(attributes);
    for (((dst, src), bytes), attributes) in rows {
        driver.memory.touch("cuMemcpyBatchAsync", dst.addr());
        driver.memory.touch("cuMemcpyBatchAsync", src.addr());
        // Together with the overlap flag, drivers have broken the promise to read during the call.
        let reads_now = attributes.order == ORDER_DURING_CALL && attributes.flags & PREFER_OVERLAP == 0;
        // What is on the device is read in stream order, whatever is asked for.
        if reads_now && !is_device(src.addr()) { &mut now } else { &mut late }.push((*dst, *src, *bytes));
    }
    let during_call = late.len();
    late.append(&mut now);
    let dst: Vec<_> = late.iter().map(|row| row.0).collect();
    let src: Vec<_> = late.iter().map(|row| row.1).collect();
    let bytes: Vec<_> = late.iter().map(|row| row.2).collect();
    // SAFETY: the caller keeps the driver's contract, which is the simulated GPU's.
    let answer = unsafe { target.gpu.memcpy_batch_async(&dst, &src, &bytes, during_call, target.id) };
    if answer.is_err() {
        let is_outside = |address: usize, bytes: usize| {
            let inside = |(start, found): (usize, Allocation)| {
                address.saturating_add(bytes) <= start.saturating_add(found.bytes)
            };
            address == 0 || is_device(address) && !driver.memory.covering(address).is_some_and(inside)
        };
        let mut rows = operands.dst.iter().zip(operands.src).zip(operands.bytes);
        let at_fault =
            rows.position(|((dst, src), bytes)| is_outside(dst.addr(), *bytes) || is_outside(src.addr(), *bytes));
        at_fault.into_iter().for_each(failed);
    }
    answer?;
    let pageable = |row: &(*mut u8, *const u8, usize)| is_pageable(row.0.addr()) || is_pageable(row.1.addr());
    if late.iter().any(pageable) { settle_pageable(&target) } else { Ok(()) }
}

/// Fills `count` words of `word`, which repeats in each.
///
/// # Safety
/// As for the driver's calls.
unsafe fn fill(call: &str, dst: *mut u8, word: &[u8], count: usize, stream: Handle) -> Result<StreamTarget, Code> {
    let driver = driver();
    let target = driver.target(stream)?;
    let bytes = count.checked_mul(word.len()).ok_or(Code::INVALID_VALUE)?;
    if bytes == 0 {
        return Ok(target);
    }
    if dst.addr().checked_rem(word.len()) != Some(0) {
        return Err(Code::INVALID_VALUE);
    }
    Side::Device.check(dst.addr())?;
    driver.memory.touch(call, dst.addr());
    match word {
        // SAFETY: the caller keeps the driver's contract, which is the simulated GPU's.
        [byte] => unsafe { target.gpu.memset_d8_async(dst, *byte, bytes, target.id) }?,
        // The simulated GPU fills by bytes only: the words are copied from memory that is read
        // during the call.
        _ => {
            let words = word.repeat(count);
            // SAFETY: as above; the source is valid during the call.
            unsafe { target.gpu.memcpy_batch_async(&[dst], &[words.as_ptr()], &[bytes], 0, target.id) }?;
        }
    }
    Ok(target)
}

exports! {
    /// Enqueues a copy between any memory and any.
    fn cuMemcpyAsync(dst: *mut u8, src: *const u8, bytes: usize, stream: Handle) {
        // SAFETY: promised by the caller.
        unsafe { copy("cuMemcpyAsync", (dst, Side::Either), (src, Side::Either), bytes, stream) }.map(drop)
    }

    /// Enqueues a copy from the host to a device.
    fn cuMemcpyHtoDAsync_v2(dst: *mut u8, src: *const u8, bytes: usize, stream: Handle) {
        // SAFETY: promised by the caller.
        unsafe { copy("cuMemcpyHtoDAsync", (dst, Side::Device), (src, Side::Host), bytes, stream) }.map(drop)
    }

    /// Enqueues a copy from a device to the host.
    fn cuMemcpyDtoHAsync_v2(dst: *mut u8, src: *const u8, bytes: usize, stream: Handle) {
        // SAFETY: promised by the caller.
        unsafe { copy("cuMemcpyDtoHAsync", (dst, Side::Host), (src, Side::Device), bytes, stream) }.map(drop)
    }

    /// Enqueues a copy within a device.
    fn cuMemcpyDtoDAsync_v2(dst: *mut u8, src: *const u8, bytes: usize, stream: Handle) {
        // SAFETY: promised by the caller.
        unsafe { copy("cuMemcpyDtoDAsync", (dst, Side::Device), (src, Side::Device), bytes, stream) }.map(drop)
    }

    /// Copies between any memory and any, on the default stream.
    fn cuMemcpy(dst: *mut u8, src: *const u8, bytes: usize) {
        // SAFETY: promised by the caller.
        unsafe { copy_now("cuMemcpy", (dst, Side::Either), (src, Side::Either), bytes) }
    }

    /// Copies from the host to a device, on the default stream.
    fn cuMemcpyHtoD_v2(dst: *mut u8, src: *const u8, bytes: usize) {
        // SAFETY: promised by the caller.
        unsafe { copy_now("cuMemcpyHtoD", (dst, Side::Device), (src, Side::Host), bytes) }
    }

    /// Copies from a device to the host, on the default stream.
    fn cuMemcpyDtoH_v2(dst: *mut u8, src: *const u8, bytes: usize) {
        // SAFETY: promised by the caller.
        unsafe { copy_now("cuMemcpyDtoH", (dst, Side::Host), (src, Side::Device), bytes) }
    }

    /// Copies within a device, on the default stream.
    fn cuMemcpyDtoD_v2(dst: *mut u8, src: *const u8, bytes: usize) {
        // SAFETY: promised by the caller.
        unsafe { copy_now("cuMemcpyDtoD", (dst, Side::Device), (src, Side::Device), bytes) }
    }

    /// Enqueues many copies, as of CUDA 12.8.
    fn cuMemcpyBatchAsync(
        dst: In<*mut u8>, src: In<*const u8>, bytes: In<usize>, count: usize, kinds: In<Attributes>, from: In<usize>,
        kind_count: usize, failed: Out<usize>, stream: Handle,
    ) {
        failed.check()?;
        failed.put(usize::MAX)?;
        let attributes = attributes(count, &kinds, &from, kind_count)?;
        let operands = Operands { dst: dst.all(count)?, src: src.all(count)?, bytes: bytes.all(count)? };
        // SAFETY: promised by the caller.
        unsafe { batch(&driver(), &operands, &attributes, stream, |index| failed.put_if(index)) }
    }

    /// Enqueues many copies, as of CUDA 13.0.
    fn cuMemcpyBatchAsync_v2(
        dst: In<*mut u8>, src: In<*const u8>, bytes: In<usize>, count: usize, kinds: In<Attributes>, from: In<usize>,
        kind_count: usize, stream: Handle,
    ) {
        let attributes = attributes(count, &kinds, &from, kind_count)?;
        let operands = Operands { dst: dst.all(count)?, src: src.all(count)?, bytes: bytes.all(count)? };
        // SAFETY: promised by the caller.
        unsafe { batch(&driver(), &operands, &attributes, stream, |_| ()) }
    }

    /// Enqueues a fill by bytes.
    fn cuMemsetD8Async(dst: *mut u8, value: u8, bytes: usize, stream: Handle) {
        // SAFETY: promised by the caller.
        unsafe { fill("cuMemsetD8Async", dst, &[value], bytes, stream) }.map(drop)
    }

    /// Enqueues a fill by words of four bytes.
    fn cuMemsetD32Async(dst: *mut u8, value: u32, words: usize, stream: Handle) {
        // SAFETY: promised by the caller.
        unsafe { fill("cuMemsetD32Async", dst, &value.to_ne_bytes(), words, stream) }.map(drop)
    }

    /// Fills by bytes, on the default stream.
    fn cuMemsetD8_v2(dst: *mut u8, value: u8, bytes: usize) {
        // SAFETY: promised by the caller.
        let target = unsafe { fill("cuMemsetD8", dst, &[value], bytes, 0) }?;
        target.gpu.stream_synchronize(target.id)
    }

    /// Fills by words of four bytes, on the default stream.
    fn cuMemsetD32_v2(dst: *mut u8, value: u32, words: usize) {
        // SAFETY: promised by the caller.
        let target = unsafe { fill("cuMemsetD32", dst, &value.to_ne_bytes(), words, 0) }?;
        target.gpu.stream_synchronize(target.id)
    }
}
