//! The ranges of device addresses that devices have to themselves.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::lock;
use crate::sync::Mutex;

/// The lowest device address. Bit 55 is set and so are bits above it: x86-64 has no such addresses
/// and aarch64 keeps them from user code even where it ignores the top byte, so using one as a
/// pointer faults.
const LOWEST: usize = 0x7f80_0000_0000_0000;

/// The addresses of one device: 4 TiB.
pub(super) const WINDOW: usize = 1 << 42;

/// The windows between [`LOWEST`] and the end of the positive addresses.
const WINDOWS: usize = 1 << 13;

static TAKEN: Mutex<Windows> = Mutex::new(Windows::new(WINDOWS));

/// The [`WINDOW`] addresses from [`base`](Window::base) on, reserved until this is dropped.
#[derive(Debug)]
pub(super) struct Window {
    number: usize,
}

/// Which of the first `count` windows are taken.
#[derive(Debug)]
struct Windows {
    count: usize,
    /// Those from here on were never taken.
    next: usize,
    /// Those that were given back, the one given back last at the end.
    free: VecDeque<usize>,
}

/// Whether `address` is one of a device, of this device or another.
pub(super) const fn is_device(address: usize) -> bool {
    LOWEST <= address && address <= isize::MAX.cast_unsigned()
}

impl Window {
    /// A free window; `None` if all are taken. A window that was given back is taken again as late
    /// as possible.
    pub(super) fn take() -> Option<Window> {
        lock(&TAKEN).take().map(|number| Window { number })
    }

    /// The first address.
    pub(super) const fn base(&self) -> usize {
        LOWEST.wrapping_add(self.number.wrapping_mul(WINDOW))
    }

    /// The first address behind it.
    pub(super) const fn end(&self) -> usize {
        self.base().wrapping_add(WINDOW)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        lock(&TAKEN).free.push_back(self.number);
    }
}

impl Windows {
    const fn new(count: usize) -> Self {
        Windows { count, next: 0, free: VecDeque::new() }
    }

    fn take(&mut self) -> Option<usize> {
        if self.next == self.count {
            return self.free.pop_front();
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_taken_again_when_all_were_and_only_what_was_given_back() {
        let mut windows = Windows::new(3);
        assert_eq!([(); 4].map(|()| windows.take()), [Some(0), Some(1), Some(2), None]);
        windows.free.extend([2, 0]);
        assert_eq!([(); 3].map(|()| windows.take()), [Some(2), Some(0), None]);
        let mut windows = Windows::new(2);
        windows.take();
        windows.free.push_back(0);
        assert_eq!([(); 3].map(|()| windows.take()), [Some(1), Some(0), None]);
    }

    #[test]
    fn windows_are_device_addresses_side_by_side() {
        let [first, second, last] = [0, 1, WINDOWS - 1].map(|number| Window { number });
        assert_eq!((first.base(), first.end()), (LOWEST, second.base()));
        assert_eq!(last.end(), isize::MAX.cast_unsigned() + 1);
        assert!(is_device(first.base()) && is_device(last.end() - 1) && !is_device(first.base() - 1));
        // None of these was taken.
        [first, second, last].into_iter().for_each(core::mem::forget);
    }
}
