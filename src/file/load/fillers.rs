//! Threads of the host that fill pieces of pinned memory.

#![forbid(unsafe_code)]

use core::mem::MaybeUninit;
use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    thread::{Builder, Scope},
};

use tidelock_driver::Backend;

use crate::{buffer::Buffer, location::Pinned};

/// A piece of pinned memory.
pub(super) enum Memory<B: Backend> {
    /// It was never filled.
    Fresh(Buffer<MaybeUninit<u64>, Pinned<B>>),
    /// It was filled before.
    Used(Buffer<u64, Pinned<B>>),
}

/// A piece to fill, and its number.
struct Job<B: Backend> {
    piece: usize,
    memory: Memory<B>,
}

/// One thread, which fills the pieces that are handed to it, in order. It ends when this is dropped.
struct Filler<B: Backend> {
    jobs: Sender<Job<B>>,
    filled: Receiver<Buffer<u64, Pinned<B>>>,
}

/// Threads that take turns: the piece with number `n` is filled by thread `n` modulo their number.
pub(super) struct Fillers<B: Backend> {
    fillers: Vec<Filler<B>>,
}

impl<B: Backend> Fillers<B> {
    /// Starts `count` threads. `fill` writes the bytes of the piece with a number.
    ///
    /// # Errors
    /// If a thread cannot be started. Those that were started end.
    pub(super) fn new<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        count: usize,
        fill: impl Fn(usize, &mut [u8]) + Copy + Send + 'scope,
    ) -> io::Result<Self>
    where
        B: 'scope,
    {
        let start = |_| {
            let (jobs, taken) = channel::<Job<B>>();
            let (done, filled) = channel();
            let run = move || {
                for Job { piece, memory } in taken {
                    let mut memory = match memory {
                        Memory::Fresh(memory) => memory.write_with(|_| 0),
                        Memory::Used(memory) => memory,
                    };
                    fill(piece, bytemuck::cast_slice_mut(&mut memory));
                    if done.send(memory).is_err() {
                        return;
                    }
                }
            };
            // A panic of `fill` ends the thread, which shows where the piece is awaited.
            let run = move || drop(std::panic::catch_unwind(core::panic::AssertUnwindSafe(run)));
            Builder::new().name("tidelock-load".to_owned()).spawn_scoped(scope, run)?;
            Ok(Filler { jobs, filled })
        };
        Ok(Fillers { fillers: (0..count).map(start).collect::<io::Result<_>>()? })
    }

    fn of(&self, piece: usize) -> Option<&Filler<B>> {
        self.fillers.get(piece.checked_rem(self.fillers.len())?)
    }

    /// Has `memory` filled with the piece of this number. A thread that has ended frees it.
    pub(super) fn start(&self, piece: usize, memory: Memory<B>) {
        if let Some(filler) = self.of(piece) {
            drop(filler.jobs.send(Job { piece, memory }));
        }
    }

    /// Waits for the piece of this number, which was started behind all lower ones. `None` if its
    /// thread has ended.
    pub(super) fn wait(&self, piece: usize) -> Option<Buffer<u64, Pinned<B>>> {
        self.of(piece)?.filled.recv().ok()
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use std::{panic, thread};

    use crate::sim::SimBackend;

    use super::*;
    use crate::alloc::PinnedAlloc;

    fn fresh() -> Memory<SimBackend> {
        Memory::Fresh(Buffer::uninit_in(4, PinnedAlloc::new()).unwrap())
    }

    #[test]
    fn pieces_come_back_in_order_and_filled() {
        thread::scope(|scope| {
            let fill = |piece: usize, bytes: &mut [u8]| bytes[..2].fill(u8::try_from(piece).unwrap());
            let fillers = Fillers::<SimBackend>::new(scope, 3, fill).unwrap();
            (0..10).for_each(|piece| fillers.start(piece, fresh()));
            for piece in 0..10 {
                let memory = fillers.wait(piece).unwrap();
                assert_eq!(memory.to_vec(), [piece as u64 * 257, 0, 0, 0]);
                fillers.start(piece + 10, Memory::Used(memory));
            }
            (10..20).for_each(|piece| assert_eq!(fillers.wait(piece).unwrap()[0], piece as u64 * 257));
        });
    }

    #[test]
    fn a_panic_of_a_thread_is_an_answer() {
        thread::scope(|scope| {
            let fill = |piece: usize, _: &mut [u8]| {
                if piece == 3 {
                    panic::resume_unwind(Box::new("while it copies"));
                }
            };
            let fillers = Fillers::<SimBackend>::new(scope, 2, fill).unwrap();
            (0..8).for_each(|piece| fillers.start(piece, fresh()));
            let came: Vec<bool> = (0..8).map(|piece| fillers.wait(piece).is_some()).collect();
            assert_eq!(came, [true, true, true, false, true, false, true, false]);
            // What is handed to a thread that has ended is freed.
            fillers.start(9, fresh());
            assert!(fillers.wait(9).is_none());
        });
    }
}
