//! What a device can tell about itself: traffic, and what it still holds.

#![forbid(unsafe_code)]

use core::{
    ops::Sub,
    sync::atomic::{AtomicU64, Ordering},
};

use tidelock_driver::code::Code;

/// The copies that were executed, in bytes by direction, at one moment; the difference of two is
/// what lies between them.
///
/// Pinned and pageable memory both count as host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes copied from the host to the device.
    pub host_to_device: u64,
    /// Bytes copied from the device to the host.
    pub device_to_host: u64,
    /// Bytes copied within the device.
    pub device_to_device: u64,
    /// Bytes copied within the host.
    pub host_to_host: u64,
    /// The number of copies, each one of a batch counted.
    pub copies: u64,
}

impl Traffic {
    /// All bytes together.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        let across = self.host_to_device.saturating_add(self.device_to_host);
        across.saturating_add(self.device_to_device).saturating_add(self.host_to_host)
    }

    /// Counts a copy of `bytes` from and to a device or not.
    pub(super) fn count(&mut self, from_device: bool, to_device: bool, bytes: usize) {
        let way = match (from_device, to_device) {
            (false, true) => &mut self.host_to_device,
            (true, false) => &mut self.device_to_host,
            (true, true) => &mut self.device_to_device,
            (false, false) => &mut self.host_to_host,
        };
        *way = way.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.copies = self.copies.saturating_add(1);
    }
}

impl Sub for Traffic {
    type Output = Traffic;

    /// What was copied since `earlier`; a count that was larger then gives 0.
    #[inline]
    fn sub(self, earlier: Traffic) -> Traffic {
        Traffic {
            host_to_device: self.host_to_device.saturating_sub(earlier.host_to_device),
            device_to_host: self.device_to_host.saturating_sub(earlier.device_to_host),
            device_to_device: self.device_to_device.saturating_sub(earlier.device_to_device),
            host_to_host: self.host_to_host.saturating_sub(earlier.host_to_host),
            copies: self.copies.saturating_sub(earlier.copies),
        }
    }
}

/// What a device holds at one moment, by the calls made so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Device allocations that were not freed.
    pub allocations: usize,
    /// Their bytes, as asked for.
    pub allocated_bytes: usize,
    /// Pinned allocations of this device that were not freed.
    pub pinned_allocations: usize,
    /// Their bytes.
    pub pinned_bytes: usize,
    /// Registrations of host memory of this device that were not ended.
    pub registered: usize,
    /// Streams that were not destroyed.
    pub streams: usize,
    /// Events that were not destroyed.
    pub events: usize,
    /// Pools that were not destroyed, without the default pool.
    pub pools: usize,
    /// The error that the device is broken with.
    pub sticky: Option<Code>,
    /// What work on the device did wrong, in words, in the order it was found; at most 64.
    pub findings: Vec<String>,
}

impl Report {
    /// Whether everything was given back and nothing went wrong.
    #[inline]
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Report::default()
    }
}

/// The running sums behind [`Traffic`].
#[derive(Debug, Default)]
pub(super) struct Sums {
    host_to_device: AtomicU64,
    device_to_host: AtomicU64,
    device_to_device: AtomicU64,
    host_to_host: AtomicU64,
    copies: AtomicU64,
}

impl Sums {
    pub(super) fn add(&self, traffic: Traffic) {
        self.host_to_device.fetch_add(traffic.host_to_device, Ordering::Relaxed);
        self.device_to_host.fetch_add(traffic.device_to_host, Ordering::Relaxed);
        self.device_to_device.fetch_add(traffic.device_to_device, Ordering::Relaxed);
        self.host_to_host.fetch_add(traffic.host_to_host, Ordering::Relaxed);
        self.copies.fetch_add(traffic.copies, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Traffic {
        Traffic {
            host_to_device: self.host_to_device.load(Ordering::Relaxed),
            device_to_host: self.device_to_host.load(Ordering::Relaxed),
            device_to_device: self.device_to_device.load(Ordering::Relaxed),
            host_to_host: self.host_to_host.load(Ordering::Relaxed),
            copies: self.copies.load(Ordering::Relaxed),
        }
    }
}
