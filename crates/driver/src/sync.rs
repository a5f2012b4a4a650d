//! The locks of the library: they ignore poisoning, and ThreadSanitizer can see the order that they
//! make.
//!
//! In a normal build these are the locks of `std`. ThreadSanitizer does not see how a contended
//! lock of `std` orders two threads, because `std` is compiled without it, and it reports false
//! races. With `--cfg tidelock_tsan`, each lock is therefore followed by a load, and each unlock
//! preceded by a store, of an atomic beside the lock. They repeat the order of the lock in code
//! that the sanitizer instruments. Accesses without the lock get no such order.

#![forbid(unsafe_code)]

use std::sync::PoisonError;

#[cfg(not(tidelock_tsan))]
pub use std::sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(tidelock_tsan)]
pub use self::watched::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks a mutex, also if a thread panicked while it held the lock. No critical section of the
/// library leaves an invariant broken when it panics.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading, also after a panic.
#[inline]
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, also after a panic.
#[inline]
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Unlocks, waits for a notification of `condvar` or a spurious wakeup, and locks again.
#[inline]
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// The locks of `std`, with atomics that repeat the order they make.
#[cfg(tidelock_tsan)]
mod watched {
    use core::{
        ops::{Deref, DerefMut},
        sync::atomic::{AtomicU32, Ordering},
    };
    use std::sync::{self, LockResult, PoisonError};

    /// An atomic that orders the holders of a lock: each release comes before the next acquire.
    #[derive(Debug, Default)]
    struct Edge(AtomicU32);

    impl Edge {
        const fn new() -> Self {
            Edge(AtomicU32::new(0))
        }

        fn acquire(&self) {
            self.0.load(Ordering::Acquire);
        }

        /// A read-modify-write, so that an acquire synchronises with all earlier releases.
        fn release(&self) {
            self.0.fetch_add(1, Ordering::Release);
        }
    }

    /// A guard of `std` that releases the atomic just before it unlocks.
    #[derive(Debug)]
    pub struct Guard<'a, G> {
        /// Declared first, so that it is dropped first.
        release: Release<'a>,
        guard: G,
    }

    #[derive(Debug)]
    struct Release<'a>(&'a Edge);

    impl Drop for Release<'_> {
        fn drop(&mut self) {
            self.0.release();
        }
    }

    pub type MutexGuard<'a, T> = Guard<'a, sync::MutexGuard<'a, T>>;
    pub type RwLockReadGuard<'a, T> = Guard<'a, sync::RwLockReadGuard<'a, T>>;
    pub type RwLockWriteGuard<'a, T> = Guard<'a, sync::RwLockWriteGuard<'a, T>>;

    impl<'a, G> Guard<'a, G> {
        /// Acquires all of `acquired`, and releases `released` when the guard is dropped.
        fn new(guard: LockResult<G>, acquired: &[&Edge], released: &'a Edge) -> LockResult<Self> {
            acquired.iter().for_each(|edge| edge.acquire());
            match guard {
                Ok(guard) => Ok(Guard { release: Release(released), guard }),
                Err(poisoned) => {
                    Err(PoisonError::new(Guard { release: Release(released), guard: poisoned.into_inner() }))
                }
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
        released: Edge,
        mutex: sync::Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Self {
            Mutex { released: Edge::new(), mutex: sync::Mutex::new(value) }
        }

        pub(super) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            Guard::new(self.mutex.lock(), &[&self.released], &self.released)
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

        /// Ordered after writers. Readers have no order among themselves.
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
            let Guard { release, guard } = guard;
            let released = release.0;
            drop(release);
            Guard::new(self.0.wait(guard), &[released], released)
        }
    }
}
