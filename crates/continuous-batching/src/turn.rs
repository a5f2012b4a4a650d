//! Pinned memory that the host and a stream use in turns.

#![forbid(unsafe_code)]

use std::mem;

use tidelock::{
    Buffer, Ctx, DeviceLocation, Element, Result,
    error::Rejected,
    location::Pinned,
    stream::{Pending, Staged},
};

/// Pinned memory that the host fills or reads, then stream `L`, then the host again.
///
/// Two of them make a ring: the host has one while the stream has the other.
#[derive(Debug)]
pub struct Turn<T, L: DeviceLocation>(Holder<T, L>);

#[derive(Debug)]
enum Holder<T, L: DeviceLocation> {
    Host(Buffer<T, Pinned<L::Backend>>),
    /// It belongs to the stream, which has more work on it.
    Stream(Buffer<T, Staged<L>>),
    /// It belongs to the stream up to a fence.
    Fenced(Pending<T, L>),
    /// It belongs to neither, while it changes hands.
    Nobody,
}

impl<T: Element, L: DeviceLocation> Turn<T, L> {
    /// `len` zeros. They belong to the host once the stream has written them.
    pub fn new(ctx: &Ctx<'_, L>, len: usize) -> Result<Self> {
        let zeros = ctx.init_zeros(ctx.alloc_pinned(len)?.stage(ctx))?;
        Ok(Self(Holder::Fenced(ctx.fence(zeros)?)))
    }

    /// Gives the memory to the stream, after a wait for its fence if it has one.
    pub fn stage(&mut self, ctx: &Ctx<'_, L>) -> Result<&mut Buffer<T, Staged<L>>> {
        self.settle()?;
        self.0 = match mem::replace(&mut self.0, Holder::Nobody) {
            Holder::Host(buffer) => Holder::Stream(buffer.stage(ctx)),
            other => other,
        };
        match &mut self.0 {
            Holder::Stream(buffer) => Ok(buffer),
            _ => unreachable!("the stream has it since the line before"),
        }
    }

    /// Ends the stream's turn after everything enqueued so far. It does nothing if it is not the
    /// stream's turn.
    pub fn fence(&mut self, ctx: &Ctx<'_, L>) -> Result<()> {
        let (holder, answer) = match mem::replace(&mut self.0, Holder::Nobody) {
            Holder::Stream(buffer) => match ctx.fence(buffer) {
                Ok(pending) => (Holder::Fenced(pending), Ok(())),
                Err(Rejected { error, value, .. }) => (Holder::Stream(value), Err(error)),
            },
            other => (other, Ok(())),
        };
        self.0 = holder;
        answer
    }

    /// The memory as the host's, once the stream has passed the fence; `None` if there is no fence
    /// yet.
    pub fn host(&mut self) -> Result<Option<&mut [T]>> {
        self.settle()?;
        match &mut self.0 {
            Holder::Host(buffer) => Ok(Some(buffer)),
            _ => Ok(None),
        }
    }

    /// Queries whether the stream has not passed the fence yet.
    pub fn is_under_way(&self) -> Result<bool> {
        match &self.0 {
            Holder::Fenced(pending) => Ok(!pending.is_ready()?),
            _ => Ok(false),
        }
    }

    /// Takes the memory back after its fence, if there is one.
    fn settle(&mut self) -> Result<()> {
        let (holder, answer) = match mem::replace(&mut self.0, Holder::Nobody) {
            Holder::Fenced(pending) => match pending.wait() {
                Ok(buffer) => (Holder::Host(buffer), Ok(())),
                Err(Rejected { error, value, .. }) => (Holder::Fenced(value), Err(error)),
            },
            other => (other, Ok(())),
        };
        self.0 = holder;
        answer
    }
}
