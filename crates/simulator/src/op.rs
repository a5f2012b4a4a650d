//! The operations of a stream, and the boxes they travel in.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{
    Shared,
    block::{Fresh, Hold},
    event::Stamp,
    failure::Failure,
    lock,
    progress::Progress,
    rng::Rng,
    task::{Memory, Task},
    transfer::{Batch, Fill},
};
use crate::sync::Mutex;

/// The operations that a stream holds before it blocks the thread that enqueues.
pub(super) const DEPTH: usize = 4096;

/// One operation in the queue of a stream.
#[derive(Debug)]
pub(super) enum Op {
    Copy(Box<Batch>),
    Fill(Fill),
    Alloc {
        hold: Hold,
        bytes: usize,
        fresh: Fresh,
    },
    Free {
        hold: Hold,
    },
    Record,
    /// The record of an event that takes the time.
    Stamp(Arc<Stamp>),
    Wait {
        stream: Arc<Progress>,
        ticket: u64,
    },
    Launch(Box<Task>),
}

impl Op {
    /// Executes the operation on the thread of its stream.
    pub(super) fn run(self, shared: &Shared, rng: &mut Rng, memory: &Memory) -> Result<(), Failure> {
        match self {
            Op::Copy(mut batch) => {
                batch.run(rng)?;
                shared.traffic.add(batch.traffic);
                shared.recycler.put_batch(batch);
                Ok(())
            }
            Op::Fill(fill) => fill.run(),
            Op::Alloc { hold, bytes, fresh } => hold.begin(bytes, fresh),
            Op::Free { hold } => hold.end(shared.options.poison),
            Op::Record => Ok(()),
            Op::Stamp(stamp) => {
                stamp.take(&shared.clock);
                Ok(())
            }
            Op::Wait { stream, ticket } => {
                // Cut short only if the device broke or the device is being dropped; then nothing
                // runs after this either.
                let _ = stream.wait(ticket, &shared.health);
                Ok(())
            }
            Op::Launch(mut task) => {
                let answer = task.run(memory);
                let refusal = memory.finish();
                shared.recycler.put_task(task);
                answer.map_err(|code| {
                    let words = refusal.unwrap_or_else(|| format!("a task answered {code}"));
                    Failure { code, words }
                })
            }
        }
    }
}

/// Free lists of the boxes that operations travel in; they never hold more than were under way at
/// once.
///
/// Some small boxes are made beforehand, and large batches have a list of their own, in which all
/// have the room of the largest so far: otherwise how many boxes are ever made, and which of them
/// have grown, would depend on how far the streams run behind.
#[expect(clippy::vec_box, reason = "the boxes themselves are what is recycled")]
#[derive(Debug)]
pub(super) struct Recycler {
    small: Mutex<Vec<Box<Batch>>>,
    large: Mutex<Large>,
    tasks: Mutex<Vec<Box<Task>>>,
}

/// Boxes of large batches, all with room for `room` copies.
#[expect(clippy::vec_box, reason = "the boxes themselves are what is recycled")]
#[derive(Debug)]
struct Large {
    boxes: Vec<Box<Batch>>,
    room: usize,
}

/// The boxes of each kind that are made beforehand.
const BEFOREHAND: usize = 32;

/// The boxes for large batches that are made when the first one is.
const LARGE_BEFOREHAND: usize = 4;

impl Recycler {
    pub(super) fn new() -> Self {
        let recycler = Recycler {
            small: Mutex::new(Vec::with_capacity(DEPTH)),
            large: Mutex::new(Large { boxes: Vec::with_capacity(DEPTH), room: 0 }),
            tasks: Mutex::new(Vec::with_capacity(DEPTH)),
        };
        for _ in 0..BEFOREHAND {
            recycler.put_batch(Box::new(Batch::small()));
            recycler.put_task(Box::new(Task::empty()));
        }
        recycler
    }

    /// An empty batch for `count` copies, some of which are read during the call or none.
    pub(super) fn batch(&self, count: usize, stages: bool) -> Box<Batch> {
        if Batch::is_small(count, stages) {
            lock(&self.small).pop().unwrap_or_else(|| Box::new(Batch::small()))
        } else {
            lock(&self.large).take(count)
        }
    }

    pub(super) fn put_batch(&self, mut batch: Box<Batch>) {
        batch.clear();
        if batch.is_large {
            let mut large = lock(&self.large);
            // It was under way while the others grew. This is the stream's thread, not the one that
            // enqueues.
            batch.reserve(large.room);
            large.boxes.push(batch);
        } else {
            lock(&self.small).push(batch);
        }
    }

    pub(super) fn task(&self, task: Task) -> Box<Task> {
        let recycled = lock(&self.tasks).pop();
        let mut place = recycled.unwrap_or_else(|| Box::new(Task::empty()));
        *place = task;
        place
    }

    fn put_task(&self, task: Box<Task>) {
        lock(&self.tasks).push(task);
    }
}

impl Large {
    fn take(&mut self, count: usize) -> Box<Batch> {
        if self.room == 0 {
            self.boxes.extend((0..LARGE_BEFOREHAND).map(|_| Box::new(Batch::large())));
        }
        if self.room < count {
            self.room = count;
            self.boxes.iter_mut().for_each(|batch| batch.reserve(count));
        }
        self.boxes.pop().unwrap_or_else(|| Box::new(Batch::large()))
    }
}

#[cfg(test)]
impl Recycler {
    /// How many boxes there are.
    pub(super) fn len(&self) -> usize {
        lock(&self.small).len() + lock(&self.large).boxes.len() + lock(&self.tasks).len()
    }
}
