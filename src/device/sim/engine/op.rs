//! The operations of a stream, and the boxes they travel in.

#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex};

use super::{
    Shared,
    block::{Fresh, Hold},
    lock,
    progress::Progress,
    rng::Rng,
    task::{Memory, Task},
    transfer::{Batch, Fill},
};
use crate::device::code::Code;

/// One operation in the queue of a stream.
#[derive(Debug)]
pub(super) enum Op {
    Copy(Box<Batch>),
    Fill(Fill),
    Alloc { hold: Hold, bytes: usize, fresh: Fresh },
    Free { hold: Hold },
    Record,
    Wait { stream: Arc<Progress>, ticket: u64 },
    Launch(Box<Task>),
}

/// Why an operation failed; the device is broken from then on.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) words: String,
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
            Op::Wait { stream, ticket } => {
                // Cut short only if the device broke or the engine is being dropped; then nothing runs after this either.
                let _ = stream.wait(ticket, shared);
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

/// Free lists of the boxes that operations travel in; they never hold more than were under way at once.
#[derive(Debug, Default)]
pub(super) struct Recycler {
    batches: Mutex<Vec<Box<Batch>>>,
    tasks: Mutex<Vec<Box<Task>>>,
}

impl Recycler {
    pub(super) fn batch(&self) -> Box<Batch> {
        lock(&self.batches).pop().unwrap_or_default()
    }

    pub(super) fn put_batch(&self, mut batch: Box<Batch>) {
        batch.clear();
        lock(&self.batches).push(batch);
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
