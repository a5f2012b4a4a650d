//! Locks, as the library takes them: with no word about poisoning, and with edges that
//! ThreadSanitizer can see.
//!
//! In a normal build these are the locks of `std` and nothing else. ThreadSanitizer does not see
//! what orders two threads in a lock of `std` that they contend for, because `std` comes compiled
//! without it, and reports races that are none. With `--cfg tidelock_tsan` each lock is therefore
//! followed by a load, and each unlock preceded by a store, of an atomic beside the lock: what the
//! lock orders anyway, said again in code that the sanitizer watches. Memory that is touched
//! without the lock gets no such edge.

#![forbid(unsafe_code)]

use std::sync::PoisonError;

#[cfg(not(tidelock_tsan))]
pub use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(tidelock_tsan)]
pub use self::watched::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks, whatever happened to those who held the lock before: no invariant here is broken halfway.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks to read, whatever happened before.
#[inline]
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks to write, whatever happened before.
#[inline]
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Unlocks, waits for a notification of `condvar` or nothing at all, and locks again.
#[inline]
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// The locks of `std`, with their orders said again.
#[cfg(tidelock_tsan)]
mod watched {
    use core::{
        ops::{Deref, DerefMut},
        sync::atomic::{AtomicU32, Ordering},
    };
    use std::sync::{self, LockResult, PoisonError};

    /// The order of those who held a lock: each leaves before the next enters.
    #[derive(Debug, Default)]
    struct Edge(AtomicU32);

    impl Edge {
        const fn new() -> Self {
            Edge(AtomicU32::new(0))
        }

        fn enter(&self) {
            self.0.load(Ordering::Acquire);
        }

        /// A read-modify-write, so that those who left before are in what the next one sees too.
        fn leave(&self) {
            self.0.fetch_add(1, Ordering::Release);
        }
    }

    /// A guard of `std` that leaves just before it unlocks.
    #[derive(Debug)]
    pub struct Guard<'a, G> {
        /// Dropped first.
        leave: Leave<'a>,
        guard: G,
    }

    #[derive(Debug)]
    struct Leave<'a>(&'a Edge);

    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.leave();
        }
    }

    pub type MutexGuard<'a, T> = Guard<'a, sync::MutexGuard<'a, T>>;
    pub type RwLockReadGuard<'a, T> = Guard<'a, sync::RwLockReadGuard<'a, T>>;
    pub type RwLockWriteGuard<'a, T> = Guard<'a, sync::RwLockWriteGuard<'a, T>>;

    impl<'a, G> Guard<'a, G> {
        /// Enters after all of `entered` were left.
        fn new(guard: LockResult<G>, entered: &[&Edge], left: &'a Edge) -> LockResult<Self> {
            entered.iter().for_each(|edge| edge.enter());
            match guard {
                Ok(guard) => Ok(Guard { leave: Leave(left), guard }),
                Err(poisoned) => Err(PoisonError::new(Guard { leave: Leave(left), guard: poisoned.into_inner() })),
            }
        }
    }

    impl<G: Deref> Deref for Guard<'_, G> {
        type Target = G::Target;

        fn deref(&self) -> &G::Target {
            &self.guard
        }
    }

    impl<G: DerefMut> DerefMut for Guard<'_, G> {
        fn deref_mut(&mut self) -> &mut G::Target {
            &mut self.guard
        }
    }

    #[derive(Debug, Default)]
    pub struct Mutex<T> {
        left: Edge,
        mutex: sync::Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Self {
            Mutex { left: Edge::new(), mutex: sync::Mutex::new(value) }
        }

        pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            Guard::new(self.mutex.lock(), &[&self.left], &self.left)
        }
    }

    #[derive(Debug)]
    pub struct RwLock<T> {
        written: Edge,
        read: Edge,
        lock: sync::RwLock<T>,
    }

    impl<T> RwLock<T> {
        pub const fn new(value: T) -> Self {
            RwLock { written: Edge::new(), read: Edge::new(), lock: sync::RwLock::new(value) }
        }

        /// After those who wrote; readers are in no order among themselves.
        pub(super) fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
            Guard::new(self.lock.read(), &[&self.written], &self.read)
        }

        pub(super) fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
            Guard::new(self.lock.write(), &[&self.written, &self.read], &self.written)
        }
    }

    #[derive(Debug, Default)]
    pub struct Condvar(sync::Condvar);

    impl Condvar {
        pub const fn new() -> Self {
            Condvar(sync::Condvar::new())
        }

        pub fn notify_one(&self) {
            self.0.notify_one();
        }

        pub fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(super) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            let Guard { leave, guard } = guard;
            let left = leave.0;
            drop(leave);
            Guard::new(self.0.wait(guard), &[left], left)
        }
    }
}
