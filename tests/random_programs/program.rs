//! The parts of a random program, and how one is drawn.

use proptest::prelude::*;

/// A program: a device or two, two streams, one inside the other, and what they do.
#[derive(Clone, Debug)]
pub struct Program {
    /// Whether the inner stream is on another device.
    pub two_devices: bool,
    /// Whether operations are delayed.
    pub delays: bool,
    /// Whether rings and deferred frees are so small that they are always full.
    pub is_tight: bool,
    /// Whether each stream begins with three buffers.
    pub is_stocked: bool,
    pub ops: Vec<(Side, Op)>,
}

/// The stream on which an operation is done. Memory goes to the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Outer,
    Inner,
}

/// Which buffer: taken modulo the number of buffers of the kind that the operation needs. Without
/// one it does nothing.
pub type Which = usize;

/// A part of a buffer: where it begins, and how long it is at most.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub at: usize,
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pool,
    Sync,
    Staged,
    Pinned,
    Host,
}

/// Whether a group copies whole buffers, or their halves, which continue each other or do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    No,
    InOrder,
    Exchanged,
}

/// How a closure of the user's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Returns,
    Fails,
    Panics,
}

#[derive(Clone, Debug)]
pub enum Op {
    Allocate {
        kind: Kind,
        value: u32,
    },
    Zeros,
    Copy {
        from: Which,
        to: Which,
        part: Part,
    },
    /// This many uploads, each over the one before, with values higher by one.
    Upload {
        to: Which,
        part: Part,
        value: u32,
        times: u32,
    },
    Clear {
        to: Which,
        part: Part,
    },
    Add {
        to: Which,
        value: u32,
    },
    Stage {
        pinned: Which,
    },
    Reclaim {
        staged: Which,
    },
    Peek {
        staged: Which,
    },
    PeekMut {
        staged: Which,
        value: u32,
    },
    Write {
        pinned: Which,
        value: u32,
    },
    Fence {
        staged: Which,
    },
    Wait {
        pending: Which,
    },
    Transfer {
        from: Which,
    },
    /// The other stream copies memory on loan to one of its own buffers. Meanwhile this one copies
    /// it too, if it has another buffer.
    Lend {
        from: Which,
        to: Which,
        also: Option<Which>,
        part: Part,
        end: End,
    },
    /// The other stream copies one of its own buffers into memory on loan.
    LendMut {
        to: Which,
        from: Which,
        part: Part,
        end: End,
    },
    Detach {
        from: Which,
    },
    Attach {
        memory: Which,
    },
    DropDetached {
        memory: Which,
    },
    ReadShared {
        to: Which,
    },
    Batch {
        copies: Vec<(Which, Which)>,
        cut: Cut,
        end: End,
    },
    Warp {
        from: Which,
        to: Which,
        rows: Vec<u32>,
        end: End,
    },
    /// An iteration of the arena: values are copied into it, within it and out of it.
    Arena {
        from: Which,
        to: Which,
        buffers: usize,
        drops: Vec<Which>,
        end: End,
    },
    HostScope {
        from: Which,
        to: Which,
        value: u32,
        end: End,
    },
    Drop {
        buffer: Which,
    },
    DropHost {
        buffer: Which,
    },
    DropPending {
        pending: Which,
    },
    Forget {
        buffer: Which,
    },
    ForgetPending {
        pending: Which,
    },
    Synchronize,
    Trim,
    /// Everything is compared with the model.
    Check,
    /// The nth driver call from here on fails, once.
    Fail {
        nth: u64,
        sticky: bool,
    },
}

pub fn program() -> impl Strategy<Value = Program> {
    let ops = prop::collection::vec((side(), op()), 1..55);
    let switches = (prop::bool::weighted(0.1), prop::bool::weighted(0.3), any::<bool>(), prop::bool::weighted(0.8));
    (switches, ops).prop_map(|((two_devices, delays, is_tight, is_stocked), ops)| Program {
        two_devices,
        delays,
        is_tight,
        is_stocked,
        ops,
    })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Outer), Just(Side::Inner)]
}

fn op() -> impl Strategy<Value = Op> {
    let w = || 0..8_usize;
    let part = || (0..60_usize, 1..64_usize).prop_map(|(at, len)| Part { at, len });
    let value = || 1..1000_u32;
    let end = || prop_oneof![8 => Just(End::Returns), 1 => Just(End::Fails), 1 => Just(End::Panics)];
    let kind = prop_oneof![
        4 => Just(Kind::Pool), 1 => Just(Kind::Sync), 2 => Just(Kind::Staged), 1 => Just(Kind::Pinned), 1 => Just(Kind::Host)
    ];
    let memory = prop_oneof![
        16 => (kind, value()).prop_map(|(kind, value)| Op::Allocate { kind, value }),
        2 => Just(Op::Zeros),
        8 => (w(), w(), part()).prop_map(|(from, to, part)| Op::Copy { from, to, part }),
        6 => (w(), part(), value(), 1..10_u32)
            .prop_map(|(to, part, value, times)| Op::Upload { to, part, value, times }),
        2 => (w(), part()).prop_map(|(to, part)| Op::Clear { to, part }),
        5 => (w(), value()).prop_map(|(to, value)| Op::Add { to, value }),
        5 => w().prop_map(|buffer| Op::Drop { buffer }),
        1 => w().prop_map(|buffer| Op::DropHost { buffer }),
        1 => w().prop_map(|buffer| Op::Forget { buffer }),
    ];
    let host = prop_oneof![
        3 => w().prop_map(|pinned| Op::Stage { pinned }),
        2 => w().prop_map(|staged| Op::Reclaim { staged }),
        2 => w().prop_map(|staged| Op::Peek { staged }),
        1 => (w(), value()).prop_map(|(staged, value)| Op::PeekMut { staged, value }),
        2 => (w(), value()).prop_map(|(pinned, value)| Op::Write { pinned, value }),
        3 => w().prop_map(|staged| Op::Fence { staged }),
        3 => w().prop_map(|pending| Op::Wait { pending }),
        1 => w().prop_map(|pending| Op::DropPending { pending }),
        1 => w().prop_map(|pending| Op::ForgetPending { pending }),
        1 => (w(), w(), value(), end()).prop_map(|(from, to, value, end)| Op::HostScope { from, to, value, end }),
        1 => Just(Op::Synchronize),
        1 => Just(Op::Trim),
        1 => Just(Op::Check),
        1 => (1..6_u64, prop::bool::weighted(0.2)).prop_map(|(nth, sticky)| Op::Fail { nth, sticky }),
    ];
    let across = prop_oneof![
        3 => w().prop_map(|from| Op::Transfer { from }),
        4 => (w(), w(), prop::option::of(w()), part(), end())
            .prop_map(|(from, to, also, part, end)| Op::Lend { from, to, also, part, end }),
        4 => (w(), w(), part(), end()).prop_map(|(to, from, part, end)| Op::LendMut { to, from, part, end }),
        2 => w().prop_map(|from| Op::Detach { from }),
        2 => w().prop_map(|memory| Op::Attach { memory }),
        1 => w().prop_map(|memory| Op::DropDetached { memory }),
        1 => w().prop_map(|to| Op::ReadShared { to }),
    ];
    let cut = prop_oneof![Just(Cut::No), Just(Cut::InOrder), Just(Cut::Exchanged)];
    let many = prop_oneof![
        3 => (prop::collection::vec((w(), w()), 1..5), cut, end())
            .prop_map(|(copies, cut, end)| Op::Batch { copies, cut, end }),
        2 => (w(), w(), prop::collection::vec(0..8_u32, 1..8), end())
            .prop_map(|(from, to, rows, end)| Op::Warp { from, to, rows, end }),
        2 => (w(), w(), 1..4_usize, prop::collection::vec(w(), 0..4), end())
            .prop_map(|(from, to, buffers, drops, end)| Op::Arena { from, to, buffers, drops, end }),
    ];
    prop_oneof![4 => memory, 3 => host, 3 => across, 3 => many]
}
