//! The operations that run a closure of the user's, which may fail or panic.

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use tidelock::{Error, Permutation, Result};

use super::{
    memory::{N, OnHost, Source, Target, Values, copy, pick},
    program::{Cut, End, Part, Which},
    world::{Done, Place, World, other_device, same},
};

const ROWS: u32 = 8;
const WIDTH: NonZero<usize> = NonZero::new(N / 8).unwrap();

/// The payload of the panics in here.
struct OnPurpose;

/// Runs code with a source and a target, whatever their locations.
macro_rules! dispatch {
    ($source:expr, $target:expr, |$from:ident, $to:ident| $body:expr) => {
        match ($source, $target) {
            (Source::Device($from), Target::Device($to)) => $body,
            (Source::Staged($from), Target::Device($to)) => $body,
            (Source::Host($from), Target::Device($to)) => $body,
            (Source::Device($from), Target::Staged($to)) => $body,
            (Source::Staged($from), Target::Staged($to)) => $body,
            (Source::Host($from), Target::Staged($to)) => $body,
        }
    };
}

impl World<'_> {
    pub fn lend<'a, 'b>(
        &mut self,
        here: &mut Place<'a>,
        there: &mut Place<'b>,
        (from, to, also): (Which, Which, Option<Which>),
        part: Part,
        end: End,
    ) -> Done {
        let other = here.device != there.device;
        let (Some(from), Some((to, to_values))) = (here.on_device(from), pick(&mut there.slots, to)) else {
            return Ok(());
        };
        let also = also
            .and_then(|also| here.slots.len().checked_sub(1).map(|last| also.min(last)))
            .filter(|&also| also != from);
        let (ctx, there_ctx) = (here.stream.ctx(), there.stream.ctx());
        let (lent, second) = match also {
            Some(also) => match here.slots.get_disjoint_mut([from, also]) {
                Ok([lent, second]) => (&*lent, Some(second)),
                Err(_) => return Ok(()),
            },
            None => (&here.slots[from], None),
        };
        let Source::Device(view) = lent.0.source().part(part) else { return Ok(()) };
        let range = part.range();
        let answer = catch_unwind(AssertUnwindSafe(|| {
            ctx.lend(view, &there_ctx, |borrowed| {
                copy(&there_ctx, Source::Device(borrowed), to.target().part(part))?;
                to_values[range.clone()].copy_from_slice(&lent.1[range.clone()]);
                if let Some((memory, values)) = second {
                    copy(&ctx, Source::Device(view), memory.target().part(part))?;
                    values[range.clone()].copy_from_slice(&lent.1[range]);
                }
                finish(end)
            })
        }));
        ended(answer, other)
    }

    pub fn lend_mut<'a, 'b>(
        &mut self,
        here: &mut Place<'a>,
        there: &mut Place<'b>,
        (to, from): (Which, Which),
        part: Part,
        end: End,
    ) -> Done {
        let other = here.device != there.device;
        let (Some(to), Some((from, from_values))) = (here.on_device(to), pick(&mut there.slots, from)) else {
            return Ok(());
        };
        let (ctx, there_ctx) = (here.stream.ctx(), there.stream.ctx());
        let (memory, values) = &mut here.slots[to];
        let Target::Device(view) = memory.target().part(part) else { return Ok(()) };
        let answer = catch_unwind(AssertUnwindSafe(|| {
            ctx.lend_mut(view, &there_ctx, |borrowed| {
                copy(&there_ctx, from.source().part(part), Target::Device(borrowed))?;
                values[part.range()].copy_from_slice(&from_values[part.range()]);
                finish(end)
            })
        }));
        ended(answer, other)
    }

    /// A batch of copies to different buffers, from others and from host memory.
    pub fn batch(&mut self, here: &mut Place<'_>, copies: &[(Which, Which)], cut: Cut, end: End) -> Done {
        let count = here.slots.len();
        if count < 2 {
            return Ok(());
        }
        let mut targets: Vec<usize> = copies.iter().map(|(_, to)| to % count).collect();
        targets.sort_unstable();
        targets.dedup();
        targets.truncate(count - 1);
        let ctx = here.stream.ctx();
        let (mut sources, mut destinations) = (Vec::new(), Vec::new());
        for (index, (memory, values)) in here.slots.iter_mut().enumerate() {
            if targets.contains(&index) {
                destinations.push((memory.target(), values));
            } else {
                sources.push((memory.source(), &*values));
            }
        }
        for (host, values) in &self.host {
            if let OnHost::Pageable(buffer) = host {
                sources.push((Source::Host(buffer.view()), values));
            }
        }
        let (views, mut models): (Vec<_>, Vec<_>) = destinations.into_iter().unzip();
        let pairs = || copies.iter().map(|(from, _)| sources[from % sources.len()]);
        let answer = catch_unwind(AssertUnwindSafe(|| {
            here.batch.scope(&ctx, |scope| {
                let mut both = pairs().map(|(from, _)| from).zip(views);
                // The first copy is on its own. The others are a group, which is rolled back if it
                // fails or panics.
                if let Some((from, to)) = both.next() {
                    dispatch!(from, to, |from, to| scope.copy(from, to)?);
                }
                let grouped = scope.group(|group| {
                    for (from, to) in both {
                        dispatch!(from, to, |from, to| match cut {
                            Cut::No => group.copy_unmerged(from, to)?,
                            Cut::InOrder | Cut::Exchanged => {
                                let ((a, b), (c, d)) = (from.split_at(N / 2)?, to.split_at(N / 2)?);
                                let (c, d) = if cut == Cut::InOrder { (c, d) } else { (d, c) };
                                group.copy(a, c)?;
                                group.copy(b, d)?;
                            }
                        });
                    }
                    finish(end)
                });
                match grouped {
                    // Only the group is discarded.
                    Err(Error::SameStream) => Ok(false),
                    answer => answer.map(|()| true),
                }
            })
        }));
        let added = match &answer {
            Ok(Ok(true)) => usize::MAX,
            Ok(Ok(false)) => 1,
            _ => 0,
        };
        for (i, ((_, from), to)) in pairs().zip(models.iter_mut()).take(added).enumerate() {
            let from: &[u32] = from;
            to.copy_from_slice(from);
            if i > 0 && cut == Cut::Exchanged {
                to.rotate_left(N / 2);
            }
        }
        ended(answer.map(|inside| inside.map(|_| Ok(()))), false)
    }
}

/// Gathers rows of one buffer into another by a permutation.
pub fn warp(here: &mut Place<'_>, (from, to): (Which, Which), rows: &[u32], end: End) -> Done {
    let Some((from, to)) = here.two(from, to) else { return Ok(()) };
    let (ctx, batch) = (here.stream.ctx(), &mut here.batch);
    let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
    let permutation = Permutation::new(rows, ROWS as usize, 0)?;
    let answer = catch_unwind(AssertUnwindSafe(|| {
        batch.scope(&ctx, |scope| {
            scope.group(|group| {
                macro_rules! warp {
                    ($from:expr, $to:expr) => {
                        group.warp($from.rows(WIDTH)?, permutation, $to.rows(WIDTH)?.first(rows.len())?)?
                    };
                }
                match (from.0.source(), to.0.target()) {
                    (Source::Device(from), Target::Device(to)) => warp!(from, to),
                    (Source::Staged(from), Target::Device(to)) => warp!(from, to),
                    (Source::Device(from), Target::Staged(to)) => warp!(from, to),
                    (Source::Staged(from), Target::Staged(to)) => warp!(from, to),
                    (Source::Host(_), _) => {}
                }
                finish(end)
            })
        })
    }));
    let is_submitted = matches!(answer, Ok(Ok(())));
    ended(answer.map(|inside| inside.map(Ok)), false)?;
    if is_submitted {
        let width = WIDTH.get();
        for (to, from_row) in to.1.chunks_exact_mut(width).zip(rows) {
            to.copy_from_slice(&from.1[*from_row as usize * width..][..width]);
        }
    }
    Ok(())
}

/// One buffer is copied through buffers of an arena, which are then dropped in some order, to
/// another.
pub fn arena(here: &mut Place<'_>, (from, to): (Which, Which), buffers: usize, drops: &[Which], end: End) -> Done {
    let Some((from, to)) = here.two(from, to) else { return Ok(()) };
    let ctx = here.stream.ctx();
    let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
    let answer = catch_unwind(AssertUnwindSafe(|| {
        let arena = ctx.with_device_alloc(&here.arena);
        let mut chain = vec![arena.zeros::<u32>(N)?];
        copy(&ctx, from.0.source(), Target::Device(chain[0].view_mut()))?;
        for _ in 1..buffers {
            let mut next = arena.zeros::<u32>(N)?;
            if let Some(last) = chain.last() {
                ctx.copy(last.view(), next.view_mut())?;
            }
            chain.push(next);
        }
        for which in drops {
            if !chain.is_empty() {
                drop(chain.remove(which % chain.len()));
            }
        }
        // A new allocation must not lie where the others still live.
        let late = [arena.zeros::<u32>(N)?, arena.zeros::<u32>(N)?];
        let rest = chain.last().unwrap_or(&late[0]);
        copy(&ctx, Source::Device(rest.view()), to.0.target())?;
        if chain.is_empty() {
            to.1.fill(0);
        } else {
            to.1.copy_from_slice(&from.1);
        }
        finish(end)
    }));
    let iterated = here.arena.reset();
    ended(answer.map(|inside| inside.map(Ok)), false)?;
    Ok(iterated?)
}

/// Lends host slices: one is copied into a buffer, another gets the buffer's earlier content.
pub fn host_scope(here: &mut Place<'_>, (from, to): (Which, Which), value: u32, end: End) -> Done {
    let Some((from, to)) = here.two(from, to) else { return Ok(()) };
    let (up, mut down): (Values, Values) = ((value..).take(N).collect(), vec![0; N]);
    let Ok([from, to]) = here.slots.get_disjoint_mut([from, to]) else { return Ok(()) };
    let (mut is_down, mut is_up) = (false, false);
    let answer = catch_unwind(AssertUnwindSafe(|| {
        here.stream.host_scope(|scope| {
            let ctx = scope.ctx();
            let (source, target) = (scope.source(&up), scope.target(&mut down));
            match from.0.source() {
                Source::Device(from) => ctx.copy(from, target)?,
                Source::Staged(from) => ctx.copy(from, target)?,
                Source::Host(_) => {}
            }
            is_down = true;
            match to.0.target() {
                Target::Device(to) => ctx.copy(source, to)?,
                Target::Staged(to) => ctx.copy(source, to)?,
            }
            is_up = true;
            finish(end)
        })
    }));
    if is_down {
        same("what came down", &down, &from.1)?;
    }
    if is_up {
        to.1.copy_from_slice(&up);
    }
    ended(answer, false)
}

/// Ends a closure as the program says.
fn finish(end: End) -> Result<()> {
    match end {
        End::Returns => Ok(()),
        // An error that nothing else in this test returns.
        End::Fails => Err(Error::SameStream),
        End::Panics => resume_unwind(Box::new(OnPurpose)),
    }
}

/// Checks the answer of a closure that [`finish`] ended.
fn ended(answer: std::thread::Result<Result<Result<()>>>, is_other: bool) -> Done {
    match answer {
        Err(panic) if panic.is::<OnPurpose>() => Ok(()),
        Err(panic) => resume_unwind(panic),
        Ok(Ok(Err(Error::SameStream)) | Err(Error::SameStream)) => Ok(()),
        Ok(Err(error)) => other_device(error, is_other),
        Ok(Ok(answer)) => Ok(answer?),
    }
}
