//! Owners of foreign memory that wait for records: dropped once the device has passed them.

#![forbid(unsafe_code)]

use core::{any::Any, mem, panic::AssertUnwindSafe};
use std::{collections::VecDeque, panic::catch_unwind, process, sync::Arc, thread};

use tidelock_driver::{Backend, RawDevice};

use super::record::SharedRecord;
use crate::sync::{Mutex, lock};

/// The owner of foreign memory, and the records behind the last uses of the memory.
pub(super) struct KeptOwner<B: Backend> {
    pub(super) owner: Box<dyn Any + Send + Sync>,
    pub(super) records: Vec<Arc<SharedRecord<B>>>,
    /// The bytes that are leaked if the owner is never dropped.
    pub(super) bytes: usize,
}

impl<B: Backend> KeptOwner<B> {
    /// Drops the owner once the device has passed the records. Does not wait: if they have not been
    /// passed, a thread of the library waits for them.
    ///
    /// If the device is broken, or the system has no thread, the owner is leaked, and counted.
    ///
    /// Cost: one driver call for each record.
    pub(super) fn drop_behind(mut self) {
        self.records.retain(|record| !record.has_passed());
        if self.records.is_empty() {
            return drop_contained(self.owner);
        }
        later(Box::new(move |is_run| self.drop_after(is_run)));
    }

    /// Waits for the records and drops the owner. If `is_run` is false, or a wait is refused, the
    /// owner is leaked (H3).
    fn drop_after(self, is_run: bool) {
        let KeptOwner { owner, records, bytes } = self;
        if is_run && records.iter().all(|record| record.wait().is_ok()) {
            drop(records);
            return drop_contained(owner);
        }
        if let Some(record) = records.first() {
            record.device().shared().count_leak(bytes);
        }
        mem::forget(owner);
    }
}

/// Drops `value`. A panic ends here, and so does one of its payload.
fn drop_contained<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value))).map_err(mem::forget);
}

/// A task for the thread of the library. It is called with `false` if there is no such thread.
type Task = Box<dyn FnOnce(bool) + Send>;

/// What the thread is still to do.
struct Tasks {
    /// The process whose thread takes them. A forked process has no thread.
    process: u32,
    /// In the order of the calls of [`later`].
    tasks: VecDeque<Task>,
    /// Whether there is a thread. It ends when there are no tasks.
    is_running: bool,
}

static TASKS: Mutex<Tasks> = Mutex::new(Tasks { process: 0, tasks: VecDeque::new(), is_running: false });

/// Calls `task` on a thread of the library, which may wait. There is one such thread for the process
/// while there are tasks.
fn later(task: Task) {
    let mut tasks = lock(&TASKS);
    if tasks.process != process::id() {
        // The tasks of the parent process are the parent's.
        mem::forget(mem::replace(
            &mut *tasks,
            Tasks { process: process::id(), tasks: VecDeque::new(), is_running: false },
        ));
    }
    let has_room = tasks.tasks.try_reserve(1).is_ok();
    if has_room && !tasks.is_running {
        tasks.is_running = thread::Builder::new().name("tidelock-owners".to_owned()).spawn(run).is_ok();
    }
    if has_room && tasks.is_running {
        tasks.tasks.push_back(task);
    } else {
        drop(tasks);
        task(false);
    }
}

/// The thread.
fn run() {
    loop {
        let mut tasks = lock(&TASKS);
        let Some(task) = tasks.tasks.pop_front() else {
            tasks.is_running = false;
            tasks.tasks = VecDeque::new();
            return;
        };
        // No lock is held while a task waits, or runs the drop of an owner.
        drop(tasks);
        task(true);
    }
}
