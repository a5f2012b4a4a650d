//! Compile-time checks of the public types, for every device: their sizes, and which of them are
//! `Send` and `Sync`.

#![forbid(unsafe_code)]

use core::ops::Deref;

use static_assertions::{assert_eq_size, assert_impl_all, assert_not_impl_any};

use crate::{
    alloc::Stack,
    batch::{Batch, Group},
    buffer::{Buffer, View, ViewMut},
    location::Pinned,
    stream::{
        Arriving, Ctx, Detached, DetachedAlloc, Env, HostScope, Lane, Pending, Shared, Staged, Stream, StreamState,
        Synced,
    },
};

macro_rules! check {
    ($name:ident, $location:ident, $backend:ident) => {
        mod $name {
            use super::*;
            use crate::$name::{$backend, Device, $location};

            assert_eq_size!(Ctx<'static, $location<'static>>, usize);
            assert_eq_size!(Stream<$location<'static>>, usize);
            assert_eq_size!(Synced<'static, $location<'static>>, ());
            assert_eq_size!(Buffer<u32, $location<'static>>, [usize; 3]);
            assert_eq_size!(Buffer<u32, Staged<$location<'static>>>, [usize; 3]);
            assert_eq_size!(Buffer<u32, Pinned<$backend>>, [usize; 2]);
            assert_eq_size!(Buffer<u32, Detached<$backend>>, [usize; 3]);
            assert_eq_size!(Buffer<u32, Arriving<$backend>>, [usize; 4]);
            assert_eq_size!(Pending<u32, $location<'static>>, [usize; 5]);
            assert_eq_size!(Shared<u32, $location<'static>>, [usize; 4]);
            assert_eq_size!(View<'static, u32, $location<'static>>, [usize; 2]);
            assert_eq_size!(ViewMut<'static, u32, $location<'static>>, [usize; 2]);

            assert_impl_all!(Device: Send, Sync, Clone);
            assert_impl_all!(Lane<$backend>: Send, Sync);
            assert_impl_all!(Ctx<'static, $location<'static>>: Copy);
            assert_impl_all!(Buffer<u32, Detached<$backend>>: Send, Sync);
            assert_impl_all!(Buffer<u32, Arriving<$backend>>: Send, Sync, Future, Unpin);
            assert_impl_all!(Pending<u32, $location<'static>>: Future, Unpin);
            assert_impl_all!(DetachedAlloc<$backend>: Send, Sync);
            assert_impl_all!(Shared<u32, Detached<$backend>>: Send, Sync, Clone);
            assert_impl_all!(Shared<u32, Pinned<$backend>>: Send, Sync, Clone);
            assert_not_impl_any!(Shared<u32, $location<'static>>: Send, Sync, Deref);
            assert_not_impl_any!(Shared<u32, Staged<$location<'static>>>: Send, Sync, Deref);

            assert_not_impl_any!(StreamState<$backend>: Sync);
            assert_not_impl_any!(Lane<$backend>: Clone);
            assert_not_impl_any!(Ctx<'static, $location<'static>>: Send, Sync);
            assert_not_impl_any!(Stream<$location<'static>>: Send, Sync, Clone);
            assert_not_impl_any!(Synced<'static, $location<'static>>: Send, Sync, Clone);
            assert_not_impl_any!(Pending<(), $location<'static>>: Send, Sync);
            assert_not_impl_any!(Env<'static, 'static, $location<'static>>: Send, Sync);
            assert_not_impl_any!(HostScope<'static, 'static, $location<'static>>: Send, Sync);
            assert_not_impl_any!(Batch<'static, 'static, $location<'static>>: Send, Sync);
            assert_not_impl_any!(Group<'static, 'static, $location<'static>>: Send, Sync);
            assert_not_impl_any!(Stack<$location<'static>>: Send, Sync);
            assert_not_impl_any!(Buffer<u32, $location<'static>>: Send, Sync, Clone, Deref);
            assert_not_impl_any!(Buffer<u32, Staged<$location<'static>>>: Send, Sync, Clone, Deref);
            assert_not_impl_any!(Buffer<u32, Detached<$backend>>: Clone, Deref);
            assert_not_impl_any!(Buffer<u32, Arriving<$backend>>: Clone, Deref);
        }
    };
}

#[cfg(feature = "sim")]
check!(sim, Sim, SimBackend);
#[cfg(feature = "cuda-core")]
check!(cuda, Cuda, CudaBackend);
