//! A race in words: which two operations, which bytes, and what order is missing.

#![forbid(unsafe_code)]

use super::shadow::Span;
use crate::slots::StreamId;

/// Two accesses that nothing orders, and the devices they were made on.
#[derive(Debug)]
pub(super) struct Race {
    pub(super) later: Access,
    pub(super) earlier: Access,
    pub(super) span: Span,
    pub(super) kind: Kind,
    pub(super) devices: [u64; 2],
    /// Whether the clock of another host thread covers the earlier access.
    pub(super) another_waited: bool,
}

/// One side of a race, as the report names it.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) name: &'static str,
    pub(super) writes: bool,
    /// The stream and its operation; `None` for the host.
    pub(super) place: Option<(StreamId, usize, u64)>,
}

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Device,
    Pinned,
    Pageable,
}

impl Race {
    /// The finding; `extent` is where the allocation begins, and its bytes.
    pub(super) fn words(&self, extent: Option<(usize, usize)>) -> String {
        let Race { later, earlier, devices: [one, other], another_waited, .. } = self;
        let bytes = self.bytes(extent);
        let across = one != other;
        let (before, after) = (earlier.operation(across), later.operation(across));
        let missing = match (&later.place, &earlier.place) {
            (Some(later), Some(earlier)) if later == earlier => "its parts run in no order".to_owned(),
            (Some((stream, device, _)), _) => {
                format!("nothing makes {} wait for {before}", stream_name(*stream, across.then_some(*device)))
            }
            (None, _) => format!("nothing makes the host wait for {before}"),
        };
        let elsewhere = if *another_waited { ", and that another thread has waited does not count" } else { "" };
        let place = |operation: &str| if operation.is_empty() { String::new() } else { format!(" ({operation})") };
        let verb = |access: &Access| if access.writes { "writes" } else { "reads" };
        format!(
            "race: {}{} {} {bytes}, which {}{} {}: {missing}{elsewhere}",
            later.name,
            place(&after),
            verb(later),
            earlier.name,
            place(&before),
            verb(earlier),
        )
    }
}

impl Race {
    fn bytes(&self, extent: Option<(usize, usize)>) -> String {
        let memory = match self.kind {
            Kind::Device => "device",
            Kind::Pinned => "pinned",
            Kind::Pageable => "pageable host",
        };
        let Span { start: first, end } = self.span;
        match extent {
            Some((start, bytes)) => {
                let (first, end) = (first.wrapping_sub(start), end.wrapping_sub(start));
                format!("bytes {first}..{end} of the {memory} allocation of {bytes} bytes at {start:#x}")
            }
            None => format!("{} bytes of {memory} memory at {first:#x}", end.wrapping_sub(first)),
        }
    }
}

impl Access {
    fn operation(&self, across: bool) -> String {
        match self.place {
            Some((stream, device, tick)) => {
                format!("operation {tick} of {}", stream_name(stream, across.then_some(device)))
            }
            None => String::new(),
        }
    }
}

/// The slot of the handle, and how often the slot was reused before.
fn stream_name(stream: StreamId, device: Option<usize>) -> String {
    let (slot, reused) = (stream.0.slot(), stream.0.reused());
    let reused = if reused == 0 { String::new() } else { format!(" (reuse {reused})") };
    let device = device.map(|device| format!(" of device {device}")).unwrap_or_default();
    format!("stream {slot}{reused}{device}")
}
