//! What layouts of all ranks have in common: functions of a shape and a stride of one length.

#![forbid(unsafe_code)]

use core::{cmp::Reverse, fmt, ops::RangeBounds};

use super::{MAX_RANK, REST};
use crate::{
    buffer::part_of,
    error::{Error, Result},
};

/// Extent and stride of an axis.
pub(super) type Axis = (usize, usize);

/// The strides of a row-major tensor. An extent of 0 counts as 1.
#[inline]
pub(super) fn row_major(shape: &[usize], stride: &mut [usize]) -> Result<()> {
    let mut step = 1_usize;
    for (stride, &extent) in stride.iter_mut().zip(shape).rev() {
        *stride = step;
        step = step.checked_mul(extent.max(1)).filter(|&step| fits(step)).ok_or(TOO_LARGE)?;
    }
    Ok(())
}

/// Refuses what a layout cannot be: more than `isize::MAX` elements, or an element farther away.
///
/// An extent of 0 counts as 1, so that all parts of a layout are layouts.
#[inline]
pub(super) fn check(shape: &[usize], stride: &[usize]) -> Result<()> {
    let (mut size, mut last) = (1_usize, 0_usize);
    for (&extent, &stride) in shape.iter().zip(stride) {
        size = size.checked_mul(extent.max(1)).ok_or(TOO_LARGE)?;
        let reach = extent.saturating_sub(1).checked_mul(stride).ok_or(TOO_LARGE)?;
        last = last.checked_add(reach).ok_or(TOO_LARGE)?;
        // Also where no index reaches: the stride is a distance.
        if !(fits(size) && fits(stride) && fits(last)) {
            return Err(TOO_LARGE);
        }
    }
    if last.checked_add(1).is_some_and(fits) { Ok(()) } else { Err(TOO_LARGE) }
}

const TOO_LARGE: Error = Error::TooLarge { operand: "layout" };

const fn fits(size: usize) -> bool {
    size <= isize::MAX.unsigned_abs()
}

#[inline]
pub(super) fn size(shape: &[usize]) -> usize {
    shape.iter().fold(1, |size, &extent| size.wrapping_mul(extent))
}

#[inline]
pub(super) fn cosize(shape: &[usize], stride: &[usize]) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    let reach = shape.iter().zip(stride).map(|(extent, &stride)| extent.wrapping_sub(1).wrapping_mul(stride));
    reach.fold(1, usize::wrapping_add)
}

/// The innermost axis that does not continue the axes inside of it, or `None` if the elements are
/// adjacent, in order.
#[inline]
pub(super) fn first_gap(shape: &[usize], stride: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return None;
    }
    let mut step = 1_usize;
    for (axis, (&extent, &stride)) in shape.iter().zip(stride).enumerate().rev() {
        if extent != 1 && stride != step {
            return Some(axis);
        }
        step = step.wrapping_mul(extent);
    }
    None
}

/// Refuses elements that are not adjacent, in order, with the axis of the gap.
#[inline]
pub(super) fn contiguous(shape: &[usize], stride: &[usize], operand: &'static str) -> Result<()> {
    match first_gap(shape, stride) {
        None => Ok(()),
        Some(axis) => Err(Error::NotContiguous { operand, axis }),
    }
}

/// The axis along which two indices may name one element, if there is one: its stride is not larger
/// than all that the axes of smaller strides reach.
pub(super) fn alias(shape: &[usize], stride: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return None;
    }
    let axes = || shape.iter().zip(stride).enumerate().filter(|(_, (extent, _))| **extent != 1);
    let mut reach = 0_usize;
    let mut done: Option<(usize, usize)> = None;
    // From the smallest stride on; of equal ones the last axis first.
    loop {
        let key = |axis: usize, stride: usize| (stride, Reverse(axis));
        let next =
            axes().filter(|(axis, (_, stride))| done.is_none_or(|(last, of)| key(*axis, **stride) > key(last, of)));
        let (axis, (&extent, &stride)) = next.min_by_key(|(axis, (_, stride))| key(*axis, **stride))?;
        if stride <= reach {
            return Some(axis);
        }
        reach = reach.wrapping_add(extent.wrapping_sub(1).wrapping_mul(stride));
        done = Some((axis, stride));
    }
}

/// Refuses a layout that has an [`alias`].
pub(super) fn injective(shape: &[usize], stride: &[usize], operand: &'static str) -> Result<()> {
    match alias(shape, stride) {
        None => Ok(()),
        Some(axis) => Err(Error::Aliases { operand, axis }),
    }
}

/// The offset of the element of `index`.
#[inline]
pub(super) fn offset(shape: &[usize], stride: &[usize], index: &[usize]) -> Result<usize> {
    let mut offset = 0_usize;
    for (axis, ((&at, &extent), &stride)) in index.iter().zip(shape).zip(stride).enumerate() {
        if at >= extent {
            return Err(refused("index", axis, "has no such place"));
        }
        offset = offset.wrapping_add(at.wrapping_mul(stride));
    }
    Ok(offset)
}

/// Goes from `index` and its offset to the next ones, the last axis fastest; behind the last one to
/// the first.
#[inline]
pub(crate) fn advance(shape: &[usize], stride: &[usize], index: &mut [usize], offset: &mut usize) {
    for ((at, &extent), &stride) in index.iter_mut().zip(shape).zip(stride).rev() {
        let next = at.wrapping_add(1);
        if next < extent {
            *at = next;
            *offset = offset.wrapping_add(stride);
            return;
        }
        *offset = offset.wrapping_sub(at.wrapping_mul(stride));
        *at = 0;
    }
}

/// Cuts `axis` to `range`. Returns the offset of the first element, or 0 if there is none left.
#[inline]
pub(super) fn slice(
    shape: &mut [usize],
    stride: &[usize],
    axis: usize,
    range: &impl RangeBounds<usize>,
) -> Result<usize> {
    let (Some(extent), Some(&step)) = (shape.get_mut(axis), stride.get(axis)) else {
        return Err(missing("slice", axis));
    };
    let Ok((start, len)) = part_of(range, *extent) else {
        return Err(refused("slice", axis, "does not have all of the range"));
    };
    *extent = len;
    if shape.contains(&0) { Ok(0) } else { Ok(start.wrapping_mul(step)) }
}

/// Cuts `axis` to one place. Returns the offset of its first element, or 0 if there is none.
#[inline]
pub(super) fn select(shape: &mut [usize], stride: &[usize], axis: usize, place: usize) -> Result<usize> {
    let (Some(extent), Some(&step)) = (shape.get_mut(axis), stride.get(axis)) else {
        return Err(missing("select", axis));
    };
    if place >= *extent {
        return Err(refused("select", axis, "has no such place"));
    }
    *extent = 1;
    if shape.contains(&0) { Ok(0) } else { Ok(place.wrapping_mul(step)) }
}

/// Copies all of `from` but the entry at `axis` to `to`, which has one entry less.
#[inline]
pub(super) fn remove(from: &[usize], axis: usize, to: &mut [usize]) {
    let kept = from.iter().enumerate().filter(|(at, _)| *at != axis);
    to.iter_mut().zip(kept).for_each(|(to, (_, from))| *to = *from);
}

/// Copies `from` to `to`, which has one entry more: `value` at `axis`.
#[inline]
pub(super) fn insert(from: &[usize], axis: usize, value: usize, to: &mut [usize]) {
    let mut from = from.iter();
    for (at, to) in to.iter_mut().enumerate() {
        *to = if at == axis { value } else { from.next().copied().unwrap_or(value) };
    }
}

/// Refuses an axis that does not exist, or whose extent is not 1.
#[inline]
pub(super) fn is_one(shape: &[usize], axis: usize) -> Result<()> {
    match shape.get(axis) {
        Some(1) => Ok(()),
        Some(_) => Err(refused("squeeze", axis, "is not of extent 1")),
        None => Err(missing("squeeze", axis)),
    }
}

/// The axes in the order of `axes`.
#[inline]
pub(super) fn permute(
    (shape, stride): (&[usize], &[usize]),
    axes: &[usize],
    (to_shape, to_stride): (&mut [usize], &mut [usize]),
) -> Result<()> {
    for (position, (&axis, (to_shape, to_stride))) in axes.iter().zip(to_shape.iter_mut().zip(to_stride)).enumerate() {
        let (Some(&extent), Some(&stride)) = (shape.get(axis), stride.get(axis)) else {
            return Err(missing("permute", axis));
        };
        if axes.iter().take(position).any(|other| *other == axis) {
            return Err(refused("permute", axis, "is named twice"));
        }
        (*to_shape, *to_stride) = (extent, stride);
    }
    Ok(())
}

/// `shape` with its wildcard, if it has one, as the extent that makes `size` elements.
#[inline]
pub(super) fn resolve(shape: &mut [usize], size: usize) -> Result<()> {
    let (mut rest, mut known) = (None, 1_usize);
    for (axis, extent) in shape.iter_mut().enumerate() {
        if *extent != REST {
            known = known.checked_mul(*extent).ok_or(Error::TooLarge { operand: "shape" })?;
        } else if rest.replace((axis, extent)).is_some() {
            return Err(refused("shape", axis, "is a second `REST`"));
        }
    }
    if let Some((axis, extent)) = rest {
        // Beside an extent of 0 every extent makes no elements.
        *extent = size.checked_div(known).ok_or(refused("shape", axis, "is `REST` beside an extent of 0"))?;
        known = known.wrapping_mul(*extent);
    }
    if known == size { Ok(()) } else { Err(Error::Length { operand: "shape", expected: size, found: known }) }
}

/// Extents and strides from the innermost axis on, without extents of 1, and with axes that
/// continue one another as one.
#[inline]
pub(super) fn coalesce<'m>(shape: &[usize], stride: &[usize], merged: &'m mut [Axis]) -> &'m [Axis] {
    let mut count = 0_usize;
    for (&extent, &stride) in shape.iter().zip(stride).rev().filter(|(extent, _)| **extent != 1) {
        match count.checked_sub(1).and_then(|last| merged.get_mut(last)) {
            Some((times, step)) if stride == times.wrapping_mul(*step) => *times = times.wrapping_mul(extent),
            _ => {
                if let Some(place) = merged.get_mut(count) {
                    *place = (extent, stride);
                }
                count = count.wrapping_add(1);
            }
        }
    }
    merged.get(..count).unwrap_or(&[])
}

/// The strides of the same elements in the same order, in another shape of the same size.
#[inline]
pub(super) fn view((shape, stride): (&[usize], &[usize]), to_shape: &[usize], to_stride: &mut [usize]) -> Result<()> {
    if shape == to_shape {
        to_stride.copy_from_slice(stride);
        return Ok(());
    }
    if shape.contains(&0) {
        return row_major(to_shape, to_stride);
    }
    let mut merged = [(1, 1); MAX_RANK];
    // The new axes, from the innermost on, with their numbers.
    let mut axes = to_shape.iter().zip(to_stride.iter_mut()).enumerate().rev();
    for &(extent, base) in coalesce(shape, stride, &mut merged) {
        let mut step = 1_usize;
        while step != extent {
            let Some((axis, (&next, stride))) = axes.next() else {
                return Err(Error::NotContiguous { operand: "view", axis: 0 });
            };
            *stride = if next == 1 { 0 } else { step.wrapping_mul(base) };
            step = step.wrapping_mul(next);
            // No product of the extents of a shape wraps.
            if step > extent || !extent.is_multiple_of(step) {
                return Err(Error::NotContiguous { operand: "view", axis });
            }
        }
    }
    // The axes that are left have extent 1.
    axes.for_each(|(_, (_, stride))| *stride = 0);
    Ok(())
}

/// An axis is not what `operand` needs.
#[cold]
#[inline(never)]
pub(super) fn refused(operand: &'static str, axis: usize, reason: &'static str) -> Error {
    Error::Axis { operand, axis, reason }
}

/// There is no such axis.
pub(super) fn missing(operand: &'static str, axis: usize) -> Error {
    refused(operand, axis, "does not exist")
}

/// Writes `(20,50):(50,1)`.
pub(super) fn show(shape: &[usize], stride: &[usize], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    list(shape, f)?;
    f.write_str(":")?;
    list(stride, f)
}

fn list(numbers: &[usize], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("(")?;
    for (at, number) in numbers.iter().enumerate() {
        write!(f, "{}{number}", if at == 0 { "" } else { "," })?;
    }
    f.write_str(")")
}
