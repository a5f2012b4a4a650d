//! What an owner of shared memory gives up in each place.

use core::alloc::Layout;
use std::sync::Arc;

use tidelock_driver::{Backend, RawDevice};

use super::{
    StagedAlloc, StreamAlloc, StreamState,
    deferred_free::DeferredFree,
    detached::{Detached, DetachedAlloc},
    location::{DeviceLocation, Staged},
    shared::{ShareAlloc, SharedPlace, sealed::SealedShareAlloc},
    shared_memory::{SharedMemory, Source},
};
use crate::{alloc::PinnedAlloc, location::Pinned};

impl<L: DeviceLocation> SharedPlace for L {
    type Family = L::Backend;
    type Handle = L::Handle;

    #[inline]
    fn let_go(handle: L::Handle, memory: Arc<SharedMemory<L::Backend>>) {
        handle.let_go(memory);
    }

    #[inline]
    fn joins(_: L::Handle, memory: Arc<SharedMemory<L::Backend>>) {
        drop(memory);
    }

    #[inline]
    fn is_only_owner(handle: &L::Handle, memory: &mut Arc<SharedMemory<L::Backend>>) -> bool {
        handle.is_only_owner(memory)
    }
}

impl<L: DeviceLocation> SharedPlace for Staged<L> {
    type Family = L::Backend;
    type Handle = L::Handle;

    #[inline]
    fn let_go(handle: L::Handle, memory: Arc<SharedMemory<L::Backend>>) {
        handle.let_go(memory);
    }

    #[inline]
    fn joins(_: L::Handle, memory: Arc<SharedMemory<L::Backend>>) {
        drop(memory);
    }

    #[inline]
    fn is_only_owner(handle: &L::Handle, memory: &mut Arc<SharedMemory<L::Backend>>) -> bool {
        handle.is_only_owner(memory)
    }
}

impl<B: Backend> SharedPlace for Detached<B> {
    type Family = B;
    type Handle = DetachedAlloc<B>;

    #[inline]
    fn joins(handle: DetachedAlloc<B>, memory: Arc<SharedMemory<B>>) {
        Self::let_go(handle, memory);
    }

    #[inline]
    fn let_go(handle: DetachedAlloc<B>, memory: Arc<SharedMemory<B>>) {
        if memory.bytes() != 0 && !memory.remember(handle.shared_record()) {
            handle.record().device().shared().count_leak(memory.bytes());
            SharedMemory::leak(memory);
        }
    }

    #[inline]
    fn is_only_owner(_: &DetachedAlloc<B>, memory: &mut Arc<SharedMemory<B>>) -> bool {
        Arc::get_mut(memory).is_some_and(|memory| memory.is_settled(None))
    }
}

impl<B: Backend> SharedPlace for Pinned<B> {
    type Family = B;
    type Handle = ();

    #[inline]
    fn let_go((): (), memory: Arc<SharedMemory<B>>) {
        memory.is_given_up();
        drop(memory);
    }

    #[inline]
    fn joins((): (), memory: Arc<SharedMemory<B>>) {
        Self::let_go((), memory);
    }

    #[inline]
    fn is_only_owner((): &(), memory: &mut Arc<SharedMemory<B>>) -> bool {
        Arc::get_mut(memory).is_some()
    }
}

impl<L: DeviceLocation> ShareAlloc<L> for StreamAlloc<L> {
    #[inline]
    fn source(self, _: Layout) -> (Source<L::Backend>, L::Handle) {
        (Source::OfStream(self.0.device().clone()), self.0)
    }
}

impl<L: DeviceLocation> ShareAlloc<Staged<L>> for StagedAlloc<L> {
    #[inline]
    fn source(self, layout: Layout) -> (Source<L::Backend>, L::Handle) {
        (Source::OfPinned(layout), self.0)
    }
}

impl<B: Backend> ShareAlloc<Detached<B>> for DetachedAlloc<B> {
    #[inline]
    fn source(self, _: Layout) -> (Source<B>, DetachedAlloc<B>) {
        (Source::OfStream(self.record().device().clone()), self)
    }
}

impl<B: Backend> ShareAlloc<Pinned<B>> for PinnedAlloc<B> {
    #[inline]
    fn source(self, layout: Layout) -> (Source<B>, ()) {
        (Source::OfPinned(layout), ())
    }
}

impl<L: DeviceLocation> SealedShareAlloc<L> for StreamAlloc<L> {}
impl<L: DeviceLocation> SealedShareAlloc<Staged<L>> for StagedAlloc<L> {}
impl<B: Backend> SealedShareAlloc<Detached<B>> for DetachedAlloc<B> {}
impl<B: Backend> SealedShareAlloc<Pinned<B>> for PinnedAlloc<B> {}

impl<B: Backend> StreamState<B> {
    /// Gives up an owner on this stream. The last owner frees memory of a stream in the order of
    /// this one; any other is given up once the stream has passed what is enqueued now.
    fn let_go(&self, mut memory: Arc<SharedMemory<B>>) {
        if let Some(sole) = Arc::get_mut(&mut memory)
            && sole.is_settled(Some(&self.records))
            && sole.takes_whole(sole.start(), sole.bytes())
        {
            if sole.bytes() != 0 {
                // SAFETY:
                // - The memory comes from `alloc` of a stream of this device, and `takes_whole` has
                //   taken it from the last owner: it is freed once (M5).
                // - All work of other owners has been passed, or lies before what this stream
                //   enqueues from now on.
                unsafe { self.free(sole.start(), sole.bytes()) }
            }
            return;
        }
        // SAFETY:
        // - Owners may be given up once the stream has passed their last use.
        unsafe { self.defer_free(DeferredFree::shared(memory)) }
    }

    /// As `SharedPlace::is_only_owner`, for an owner on this stream.
    fn is_only_owner(&self, memory: &mut Arc<SharedMemory<B>>) -> bool {
        if Arc::strong_count(memory) != 1 {
            // Work of owners that were dropped on this stream lies before what is enqueued now.
            self.give_up_deferred(memory);
        }
        Arc::get_mut(memory).is_some_and(|memory| memory.is_settled(Some(&self.records)))
    }
}
