//! Memory of the programs, and views of it that name their location at run time.

use tidelock::{
    Buffer, Ctx, Result, View, ViewMut,
    location::{Host, Pinned},
    sim::{Sim, SimBackend},
    stream::{Staged, SyncAlloc},
};

use super::program::{Part, Which};

/// The elements of every buffer: a piece of the pinned pool holds exactly that many.
pub const N: usize = 64;

pub type Values = Vec<u32>;

/// Memory of one stream.
pub enum Memory<'s> {
    Pool(Buffer<u32, Sim<'s>>),
    Sync(Buffer<u32, Sim<'s>, SyncAlloc<Sim<'s>>>),
    Staged(Buffer<u32, Staged<Sim<'s>>>),
}

/// Memory that is not on loan to a stream.
pub enum OnHost {
    Pinned(Buffer<u32, Pinned<SimBackend>>),
    Pageable(Buffer<u32, Host>),
}

/// A view, for copies.
#[derive(Clone, Copy)]
pub enum Source<'a, 's> {
    Device(View<'a, u32, Sim<'s>>),
    Staged(View<'a, u32, Staged<Sim<'s>>>),
    Host(View<'a, u32, Host>),
}

pub enum Target<'a, 's> {
    Device(ViewMut<'a, u32, Sim<'s>>),
    Staged(ViewMut<'a, u32, Staged<Sim<'s>>>),
}

pub fn filled<'s>(ctx: &Ctx<'_, Sim<'s>>, values: &[u32]) -> Result<Buffer<u32, Sim<'s>>> {
    let staged = Buffer::<u32, Pinned<SimBackend>>::from_slice(values)?.stage(ctx);
    Ok(ctx.init_from(ctx.with_pool().alloc::<u32>(N)?, staged.view())?)
}

pub fn copy<'s>(ctx: &Ctx<'_, Sim<'s>>, from: Source<'_, 's>, to: Target<'_, 's>) -> Result<()> {
    match (from, to) {
        (Source::Device(from), Target::Device(to)) => ctx.copy(from, to),
        (Source::Staged(from), Target::Device(to)) => ctx.copy(from, to),
        (Source::Device(from), Target::Staged(to)) => ctx.copy(from, to),
        (Source::Staged(from), Target::Staged(to)) => ctx.copy(from, to),
        (Source::Host(from), Target::Device(to)) => ctx.upload(from.as_slice(), to),
        (Source::Host(from), Target::Staged(to)) => ctx.upload(from.as_slice(), to),
    }
}

impl<'s> Memory<'s> {
    pub fn source(&self) -> Source<'_, 's> {
        match self {
            Memory::Pool(buffer) => Source::Device(buffer.view()),
            Memory::Sync(buffer) => Source::Device(buffer.view()),
            Memory::Staged(buffer) => Source::Staged(buffer.view()),
        }
    }

    pub fn target(&mut self) -> Target<'_, 's> {
        match self {
            Memory::Pool(buffer) => Target::Device(buffer.view_mut()),
            Memory::Sync(buffer) => Target::Device(buffer.view_mut()),
            Memory::Staged(buffer) => Target::Staged(buffer.view_mut()),
        }
    }
}

impl Source<'_, '_> {
    pub fn part(self, part: Part) -> Self {
        match self {
            Source::Device(view) => Source::Device(view.slice(part.range()).unwrap()),
            Source::Staged(view) => Source::Staged(view.slice(part.range()).unwrap()),
            Source::Host(view) => Source::Host(view.slice(part.range()).unwrap()),
        }
    }
}

impl Target<'_, '_> {
    pub fn part(self, part: Part) -> Self {
        match self {
            Target::Device(view) => Target::Device(view.slice(part.range()).unwrap()),
            Target::Staged(view) => Target::Staged(view.slice(part.range()).unwrap()),
        }
    }
}

impl Part {
    pub fn range(self) -> core::ops::Range<usize> {
        self.at..(self.at + self.len).min(N)
    }
}

/// The index of the buffer that `which` selects among those that fit.
pub fn nth<T>(slots: &[T], which: Which, fits: impl Fn(&T) -> bool) -> Option<usize> {
    let fitting: Vec<usize> = (0..slots.len()).filter(|&at| fits(&slots[at])).collect();
    fitting.get(which.checked_rem(fitting.len())?).copied()
}

pub fn pick<T>(slots: &mut [T], which: Which) -> Option<&mut T> {
    let at = which.checked_rem(slots.len())?;
    slots.get_mut(at)
}

pub fn take<T>(slots: &mut Vec<T>, which: Which) -> Option<T> {
    let at = which.checked_rem(slots.len())?;
    Some(slots.swap_remove(at))
}
